"""The one list of kernel families."""

from __future__ import annotations

from bolt.kernels.cpu_conv import CpuConv
from bolt.kernels.cpu_conv_transpose import CpuConvTranspose
from bolt.kernels.cpu_copy import CpuCopy
from bolt.kernels.cpu_depthwise import CpuDepthwise
from bolt.kernels.cpu_fill import CpuFill
from bolt.kernels.cpu_gather import CpuGather
from bolt.kernels.cpu_gemm import CpuGemm
from bolt.kernels.cpu_norm import CpuNorm
from bolt.kernels.cpu_pointwise import CpuPointwise
from bolt.kernels.cpu_pool import CpuPool
from bolt.kernels.cpu_reduce import CpuReduce
from bolt.kernels.cpu_resize import CpuResize
from bolt.kernels.cpu_softmax import CpuSoftmax
from bolt.kernels.cpu_winograd import CpuWinograd
from bolt.kernels.family import Family

FAMILIES: tuple[Family, ...] = (
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
    CpuConvTranspose(),
    CpuGemm(),
)
"""Every family, in the order they are asked. `bolt.search` looks at all that support a spec."""
