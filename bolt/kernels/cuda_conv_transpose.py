"""Transposed convolution on CUDA by direct sums: an output pixel gathers the input pixels that add to it."""

from __future__ import annotations

from bolt.kernels import cuda_pixels
from bolt.kernels.cuda_conv_direct import DirectFamily
from bolt.ops.conv import ConvTransposeSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


class CudaConvTranspose(DirectFamily):
    """Family of `ConvTransposeSpec`."""

    name = "cuda_conv_transpose"
    op = "conv_transpose"
    title = "Transposed convolution by direct sums"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ConvTransposeSpec)
        return self.reject(cuda_pixels.obstacle(spec))
