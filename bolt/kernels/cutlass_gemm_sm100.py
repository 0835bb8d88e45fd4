"""`cutlass_gemm_sm100`: matrix products by datacenter Blackwell's tensor cores (CUTLASS 3.x, tcgen05).

The family is `cutlass_gemm_sm90` with other tiles and schedules; epilogues are the same visitor trees.
"""

from __future__ import annotations

from bolt.kernels import cutlass_tiles_sm100
from bolt.kernels.cutlass_gemm_sm90 import CutlassGemmSm90
from bolt.kernels.cutlass_tiles_sm90 import Tiles


class CutlassGemmSm100(CutlassGemmSm90):
    """The family; see the module's docstring."""

    name = "cutlass_gemm_sm100"
    op = "gemm"
    target_name = "sm100a"

    def tiles(self, element: str) -> Tiles:
        return cutlass_tiles_sm100.tiles(element)
