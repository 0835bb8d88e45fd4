"""The table of CUDA kernels: compiled, run under the emulator, run on a GPU, or not supported and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MEANINGLESS = "has no products"
"""Reason of a cell that makes no sense: an arithmetic of products in a family without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One family for one target and one arithmetic.

    Attributes:
        family: name of the family.
        target: name of the target row.
        arithmetic: "f16", "bf16", "tf32", "f32", "s8" or "f8".
        compiled: by nvcc, without spills.
        emulated: results compared with the float64 reference under the emulator of the tests.
        ran_on: device and date of a run on a GPU whose results were right; "" for none.
        registers: of the kernel.
        reason: why the family does not compute this.
    """

    family: str
    target: str
    arithmetic: str
    compiled: bool = False
    emulated: bool = False
    ran_on: str = ""
    registers: int = 0
    reason: str = ""


def write(path: Path, cells: Iterable[Cell]) -> None:
    """Adds the cells to a JSON file, one a line in a fixed order; newer ones take the place of older ones."""
    known = {_place(c): c for c in (*(read(path) if path.exists() else ()), *cells)}
    ordered = [known[place] for place in sorted(known)]
    path.write_text("[\n" + ",\n".join(json.dumps(asdict(c)) for c in ordered) + "\n]\n")


def _place(cell: Cell) -> tuple[str, str, str]:
    return cell.family, cell.target, cell.arithmetic


def read(path: Path) -> list[Cell]:
    """The cells of a file that `write` made."""
    return [Cell(**row) for row in json.loads(path.read_text())]


def table(cells: Sequence[Cell], targets: Sequence[str]) -> str:
    """A Markdown table, families down, targets across; reasons follow below it."""
    by_place: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        by_place.setdefault((cell.family, cell.target), []).append(cell)
    families = list(dict.fromkeys(c.family for c in cells))
    lines = ["| family | " + " | ".join(targets) + " |", "|---|" + "---|" * len(targets)]
    for family in families:
        row = [_entry(by_place.get((family, target), [])) for target in targets]
        lines.append(f"| `{family}` | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", *_legend(cells), "", *_reasons(cells)])


def _entry(cells: Sequence[Cell]) -> str:
    """What the cells of one family and target say."""
    marks: dict[str, list[str]] = {}
    for cell in cells:
        if cell.compiled:
            marks.setdefault(_mark(cell), []).append(cell.arithmetic)
    return "; ".join(f"{' '.join(names)}{mark}" for mark, names in marks.items()) or "-"


def _mark(cell: Cell) -> str:
    if cell.ran_on:
        return " (GPU)"
    return " (e)" if cell.emulated else " (c)"


def _legend(cells: Sequence[Cell]) -> list[str]:
    ran = sorted({c.ran_on for c in cells if c.ran_on})
    where = f"(GPU): run on {', '.join(ran)}. " if ran else "No kernel has run on a GPU yet. "
    return [
        f"{where}(e): compiled, not run on a GPU; its results were compared with a float64 reference under "
        "the emulator of the tests, which executes the compiled PTX on the CPU. (c): compiled, not run. "
        "Every kernel of the table compiles without register spills."
    ]


def _reasons(cells: Sequence[Cell]) -> list[str]:
    """One line per family: what it does not compute, and why."""
    lines: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if not cell.compiled and cell.reason and cell.reason != MEANINGLESS:
            where = lines.setdefault(cell.family, {}).setdefault(cell.reason, [])
            where.append(f"{cell.arithmetic} on {cell.target}")
    return [
        f"- `{family}`: " + "; ".join(f"{_short(places)}: {reason}" for reason, places in reasons.items())
        for family, reasons in lines.items()
    ]


def _short(places: Sequence[str]) -> str:
    """ "f16, bf16 on sm75" from single places."""
    by_target: dict[str, list[str]] = {}
    for place in places:
        arithmetic, _, target = place.partition(" on ")
        by_target.setdefault(target, []).append(arithmetic)
    groups: dict[tuple[str, ...], list[str]] = {}
    for target, names in by_target.items():
        groups.setdefault(tuple(names), []).append(target)
    return ", ".join(f"{' '.join(names)} on {' '.join(targets)}" for names, targets in groups.items())
