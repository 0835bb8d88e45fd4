"""Why each region and candidate was, or was not, taken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An expected "no", as a value.

    Attributes:
        stage: the pipeline stage that said no (`partition`, `supports`, `candidates`, `measure`, `choose`).
        subject: what it was about (a node's name, a kernel's name).
        reason: one sentence for a person.
    """

    stage: str
    subject: str
    reason: str

    def __bool__(self) -> bool:
        return False
