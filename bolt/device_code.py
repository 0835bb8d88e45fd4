"""What the report says about kernels of a CUDA target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bolt import report
from bolt.program import Step
from bolt.search.choose import Choice
from bolt.target import Target
from bolt.toolchain.nvcc import uses_cutlass

Sizes = Mapping[str, int]


def device_code(choice: Choice, step: Step, sizes: Sizes) -> report.DeviceCode | None:
    """The report's line about a chosen kernel; None on a CPU."""
    candidate = choice.candidate
    if not candidate.target.is_cuda:
        return None
    return report.DeviceCode(
        estimate_us=round(
            candidate.family.estimate(step.bound(sizes), candidate.config, candidate.target), 2
        ),
        registers=choice.resources.registers,
        spill_bytes=choice.resources.spill_bytes,
        shared_bytes=choice.resources.shared_bytes,
        is_cutlass=_is_cutlass(choice),
    )


def notes(
    steps: Sequence[Step], chosen: Mapping[str, Choice], target: Target, sizes: Sizes
) -> dict[str, str]:
    """Facts about all kernels of a model: whose estimates these are, how much of the work is CUTLASS's."""
    if target.gpu is None:
        return {}
    cutlass = {key for key, choice in chosen.items() if _is_cutlass(choice)}
    products = [(step, step.bound(sizes).flops()) for step in steps if step.spec.is_product]
    total = sum(flops for _, flops in products)
    found = {"estimates": f"for the {target.gpu.device}"}
    if not total:
        return found
    taken = sum(flops for step, flops in products if step.spec.key in cutlass)
    fused = sum(flops for step, flops in products if step.spec.key in cutlass and _is_fused(step))
    shares = f"{taken / total:.1%} of the products' FLOPs, {fused / total:.1%} with a fused epilogue"
    return {**found, "cutlass": shares}


def _is_cutlass(choice: Choice) -> bool:
    sources = (choice.candidate.source(), *choice.candidate.units())
    return any(uses_cutlass(source.text) for source in sources)


def _is_fused(step: Step) -> bool:
    """Whether the kernel does more than the product: an expression, or several products in one."""
    return not step.spec.epilogue.is_identity or len(step.nodes) > 1
