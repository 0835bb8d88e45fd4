"""What memory-bound families share: one way to do it, nothing to pack, no scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.kernels.family import Config
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWay:
    """The only config: the spec decides everything."""


class PlainFamily:
    """Base of families with one config, unpacked operands and no scratch."""

    name: str

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        return (OneWay(),)

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        return float(max(1, len(spec.epilogue.nodes)))

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0

    def reject(self, spec: Spec, reason: str) -> Rejection:
        """A "no" of `supports`."""
        return Rejection(stage="supports", subject=f"{self.name} {spec.op}", reason=reason)
