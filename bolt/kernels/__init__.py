"""The lists of kernel families."""

from __future__ import annotations

from bolt.kernels.cpu_attention import CpuAttention
from bolt.kernels.cpu_conv import CpuConv
from bolt.kernels.cpu_conv_transpose import CpuConvTranspose
from bolt.kernels.cpu_copy import CpuCopy
from bolt.kernels.cpu_depthwise import CpuDepthwise
from bolt.kernels.cpu_depthwise_words import CpuDepthwiseWords
from bolt.kernels.cpu_fill import CpuFill
from bolt.kernels.cpu_gather import CpuGather
from bolt.kernels.cpu_gemm import CpuGemm
from bolt.kernels.cpu_grouped import CpuGrouped
from bolt.kernels.cpu_narrow_conv import CpuNarrowConv
from bolt.kernels.cpu_narrow_gemm import CpuNarrowGemm
from bolt.kernels.cpu_norm import CpuNorm
from bolt.kernels.cpu_pointwise import CpuPointwise
from bolt.kernels.cpu_pool import CpuPool
from bolt.kernels.cpu_reduce import CpuReduce
from bolt.kernels.cpu_resize import CpuResize
from bolt.kernels.cpu_softmax import CpuSoftmax
from bolt.kernels.cpu_winograd import CpuWinograd
from bolt.kernels.cuda_conv_direct import CudaConvDirect
from bolt.kernels.cuda_conv_transpose import CudaConvTranspose
from bolt.kernels.cuda_copy import CudaCopy
from bolt.kernels.cuda_depthwise import CudaDepthwise
from bolt.kernels.cuda_fill import CudaFill
from bolt.kernels.cuda_gather import CudaGather
from bolt.kernels.cuda_norm import CudaNorm
from bolt.kernels.cuda_pointwise import CudaPointwise
from bolt.kernels.cuda_pool import CudaPool
from bolt.kernels.cuda_reduce import CudaReduce
from bolt.kernels.cuda_resize import CudaResize
from bolt.kernels.cuda_softmax import CudaSoftmax
from bolt.kernels.cutlass_attention_sm80 import CutlassAttentionSm80
from bolt.kernels.cutlass_attention_sm90 import CutlassAttentionSm90
from bolt.kernels.cutlass_conv_sm80 import CutlassConvSm80
from bolt.kernels.cutlass_conv_sm90 import CutlassConvSm90
from bolt.kernels.cutlass_conv_transpose_sm80 import CutlassConvTransposeSm80
from bolt.kernels.cutlass_depthwise_sm80 import CutlassDepthwise
from bolt.kernels.cutlass_dual_gemm_sm80 import CutlassDualGemm
from bolt.kernels.cutlass_gemm_sm80 import CutlassGemmSm80
from bolt.kernels.cutlass_gemm_sm90 import CutlassGemmSm90
from bolt.kernels.cutlass_gemm_sm100 import CutlassGemmSm100
from bolt.kernels.family import DeviceFamily, Family
from bolt.target import Target

CPU_FAMILIES: tuple[Family, ...] = (
    CpuPointwise(),
    CpuCopy(),
    CpuFill(),
    CpuSoftmax(),
    CpuReduce(),
    CpuResize(),
    CpuPool(),
    CpuNorm(),
    CpuGather(),
    CpuConv(),
    CpuWinograd(),
    CpuDepthwise(),
    CpuDepthwiseWords(),
    CpuGrouped(),
    CpuNarrowConv(),
    CpuConvTranspose(),
    CpuGemm(),
    CpuNarrowGemm(),
    CpuAttention(),
)
"""In the order they are asked. `bolt.search` looks at all that support a spec."""

CUDA_FAMILIES: tuple[DeviceFamily, ...] = (
    CutlassGemmSm80(),
    CutlassGemmSm90(),
    CutlassGemmSm100(),
    CutlassConvSm80(),
    CutlassConvSm90(),
    CutlassConvTransposeSm80(),
    CutlassDepthwise(),
    CutlassAttentionSm80(),
    CutlassAttentionSm90(),
    CutlassDualGemm(),
    CudaDepthwise(),
    CudaConvDirect(),
    CudaConvTranspose(),
    CudaPointwise(),
    CudaCopy(),
    CudaFill(),
    CudaGather(),
    CudaSoftmax(),
    CudaNorm(),
    CudaReduce(),
    CudaPool(),
    CudaResize(),
)


def families(target: Target) -> tuple[Family, ...]:
    """The families of a target."""
    return CUDA_FAMILIES if target.is_cuda else CPU_FAMILIES
