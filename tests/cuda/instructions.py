"""The emitters of all instructions, by the first part of the opcode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cuda import arithmetic, control, conversion, hopper, logic, matrices, movement
from cuda.ptx import Instruction, PtxError

if TYPE_CHECKING:
    from cuda.translate import Body

EMITTERS = {
    **arithmetic.EMITTERS,
    **logic.EMITTERS,
    **conversion.EMITTERS,
    **movement.EMITTERS,
    **control.EMITTERS,
    **matrices.EMITTERS,
    **hopper.EMITTERS,
}


def emit(body: Body, i: Instruction) -> str:
    """The C++ statement of an instruction, without its guard.

    Raises:
        PtxError: there is no emitter for it.
    """
    emitter = EMITTERS.get(i.parts[0])
    if emitter is None:
        raise PtxError(f"no emitter for {i.opcode!r}")
    return emitter(body, i)
