"""The Jinja environment. Templates substitute, loop and include; decisions are made in Python."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bolt.templates import ROOT


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(ROOT),
        undefined=StrictUndefined,
        variable_start_string="${",
        variable_end_string="}",
        line_statement_prefix="//%",
        line_comment_prefix="//#",
        block_start_string="<%%%",  # Jinja's own delimiters collide with C++ braces: moved out of the way
        block_end_string="%%%>",
        comment_start_string="<###",
        comment_end_string="###>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, context: Mapping[str, Any]) -> str:
    """The text of `template` (a file name below `templates/`) with `context` filled in."""
    return _environment().get_template(template).render(context)
