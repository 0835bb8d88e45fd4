"""Results as one page: Markdown or HTML, with everything the tables of the terminal have."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from benchmarks.floors import verdicts
from bolt.bench.result import Result
from bolt.bench.table import Section, sections

_HEAD = "<!doctype html>\n<meta charset=utf-8><title>bolt: benchmarks</title>"
_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}"
    ".l{text-align:left}tr:hover{background:#f4f4f4}"
)


def parts(result: Result, *, layers: bool = True) -> list[Section]:
    """The sections of a result, with the floors."""
    lines = tuple(map(str, verdicts(result)))
    return [
        *sections(result, layers=False),
        *([Section(title="Floors", lines=lines)] if lines else []),
        *(sections(result, layers=True)[len(sections(result)) :] if layers else []),
    ]


def markdown(result: Result) -> str:
    """The page as Markdown."""
    return "\n\n".join(_markdown(section) for section in parts(result)) + "\n"


def _markdown(section: Section) -> str:
    title = [f"### {section.title}", ""] if section.title else []
    lines = [f"{line}  " for line in section.lines]
    if not section.cells:
        return "\n".join([*title, *lines])
    head, *rows = section.cells
    marks = ["---" if i < section.left else "---:" for i in range(len(head))]
    table = [_piped(cells) for cells in (head, marks, *rows)]
    return "\n".join([*title, *lines, *([""] if lines else []), *table])


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page(result: Result, picture: Path | None) -> str:
    """The page as HTML that needs no other file; an SVG becomes part of it."""
    drawn = picture.read_text() if picture and picture.suffix == ".svg" and picture.exists() else ""
    drawn = drawn[drawn.find("<svg") :] if drawn else ""
    body = "\n".join([drawn, *(_html(section) for section in parts(result))])
    return f"{_HEAD}<style>{_STYLE}</style>\n{body}\n"


def _html(section: Section) -> str:
    title = f"<h3>{html.escape(section.title)}</h3>" if section.title else ""
    lines = "".join(f"{html.escape(line)}<br>" for line in section.lines)
    rows = "".join(_row("td" if i else "th", cells, section.left) for i, cells in enumerate(section.cells))
    table = f"<table>{rows}</table>" if rows else ""
    return f"{title}<p>{lines}</p>{table}"


def _row(tag: str, cells: Sequence[str], left: int) -> str:
    made = (
        f"<{tag}{' class=l' if i < left else ''}>{html.escape(cell)}</{tag}>" for i, cell in enumerate(cells)
    )
    return f"<tr>{''.join(made)}</tr>"
