"""Instructions of compute capability 9.0: mbarrier, bulk and tensor copies, wgmma. See `instructions.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cuda.ptx import Instruction, PtxError

if TYPE_CHECKING:
    from cuda.translate import Body


def bulk(body: Body, i: Instruction) -> str:
    raise PtxError(f"no emitter for {i.opcode!r}")


def copies_arrive(body: Body, i: Instruction) -> str:
    raise PtxError(f"no emitter for {i.opcode!r}")


EMITTERS: dict[str, Callable[[Body, Instruction], str]] = {}
