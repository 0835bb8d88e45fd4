"""Spelled numbers, and rows of pixels that lie next to each other in memory and so are one long row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bolt.kernels.family import argument_names
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec

SHORT_ROW = 16
"""Rows of fewer pixels than this are worth merging across images even when the result has run-time length."""


def number(text: str) -> int | None:
    """The value of a spelled dim, or None when it is only known at run time."""
    return int(text) if text.lstrip("-").isdigit() else None


def product(*texts: str) -> str:
    """The product as a C++ expression, folded as far as it is known."""
    known, unknown = 1, []
    for text in texts:
        value = number(text)
        if value is None:
            unknown.append(text)
        else:
            known *= value
    if known == 0 or not unknown:
        return str(known)
    return " * ".join(([str(known)] if known != 1 else []) + unknown)


def total(*texts: str) -> str:
    """The sum as a C++ expression in parentheses, without terms known to be zero."""
    terms = [t for t in texts if t != "0"]
    if not terms:
        return "0"
    return terms[0] if len(terms) == 1 and number(terms[0]) is not None else f"({' + '.join(terms)})"


def window_context(spec: ConvSpec) -> dict[str, Any]:
    """What templates of convolutions substitute: the output's extents, and steps through the input.

    `a_steps` lie between images, rows and columns of the output, `tap_step` between rows of taps, `pixel`
    between columns of the input; `a_base` is where the first tap of the first output is.
    """
    names = argument_names(spec)
    x, (n, p, q, _) = names[1]["strides"], names[0]["dims"]
    return {
        "kernel": spec.kernel,
        "stride": spec.stride[1],
        "dilation": spec.dilation[1],
        "pixel": x[2],
        "extents": (n, p, q),
        "a_steps": (x[0], product(str(spec.stride[0]), x[1]), product(str(spec.stride[1]), x[2])),
        "a_base": total(product(str(-spec.pad[0]), x[1]), product(str(-spec.pad[1]), x[2])),
        "tap_step": product(str(spec.dilation[0]), x[1]),
    }


def all_equal(pairs: Iterable[tuple[str, str]]) -> str:
    """The C++ condition that every pair is equal: "true", "false" or an expression."""
    unknown = []
    for left, right in pairs:
        if left == right:
            continue
        if number(left) is not None and number(right) is not None:
            return "false"
        unknown.append(f"{left} == {right}")
    return " && ".join(unknown) or "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of pixels a kernel walks.

    Attributes:
        extents: images, rows, columns as C++ expressions, before the merges decided at run time.
        merge_rows: C++ condition under which all rows of an image are one ("" for never).
        merge_images: C++ condition under which all images are, too ("" for never).
        columns: columns of a row after merging, None when only known at run time.
        count: images times rows after merging, None when only known at run time.
    """

    extents: tuple[str, str, str]
    merge_rows: str = ""
    merge_images: str = ""
    columns: int | None = None
    count: int | None = None


def merged_rows(spec: Spec, extents: tuple[str, str, str], a_steps: tuple[str, str, str]) -> Rows:
    """The longest rows that the output, the input and all epilogue inputs allow.

    Args:
        spec: a spec with a 4-D output whose first three dims are images, rows and columns.
        extents: those dims.
        a_steps: distance in the input between neighbouring images, rows, columns of the output.
    """
    names = argument_names(spec)
    views: list[Sequence[str]] = [a_steps, *(names[i]["strides"] for i in _pixel_operands(spec))]
    n, p, q = extents
    rows = "true" if p == "1" else all_equal((v[1], product(q, v[2])) for v in views)
    images = "true" if n == "1" else all_equal((v[0], product(p, q, v[2])) for v in views)
    if rows == "false":
        return _fixed(extents)
    if rows != "true":
        return Rows(extents=extents, merge_rows=rows, merge_images="" if images == "false" else images)
    merged = product(p, q)
    columns = number(merged)
    if images == "true" and (number(n) is not None or columns is None or columns < SHORT_ROW):
        return _fixed(("1", "1", product(n, merged)))
    if images in ("true", "false") or columns is not None:
        return _fixed((n, "1", merged))
    return Rows(extents=extents, merge_rows="true", merge_images=images)


def _pixel_operands(spec: Spec) -> list[int]:
    return [0, *range(spec.extra_base, len(spec.operands))]


def _fixed(extents: tuple[str, str, str]) -> Rows:
    return Rows(extents=extents, columns=number(extents[2]), count=number(product(*extents[:2])))
