"""What became of an entry: accepted, or refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ACCEPTED", "UNCHANGED", "Outcome", "Receipt", "Refused"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry, the same on every node.

    Attributes:
        accepted: Its effect is in the state (or was before it).
        reason: Why not, or what is special about it, as a sentence; empty for a plain acceptance.
        code: Stable word for ``reason``: ``duplicate`` and ``unchanged`` come with an acceptance, ``duplicate`` also
            with the repetition of a refused entry; all others name a refusal. Empty for a plain acceptance.
    """

    accepted: bool
    reason: str = ""
    code: str = ""


ACCEPTED: Final = Outcome(accepted=True)
UNCHANGED: Final = Outcome(accepted=True, reason="it was so already", code="unchanged")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a proposal.

    Attributes:
        height: The block that holds the entries (the highest, if they were there before).
        outcomes: One for each proposed entry, in order.
    """

    height: int
    outcomes: tuple[Outcome, ...]


class Refused(Exception):
    """Raised inside the core to refuse the entry at hand before anything has changed.

    Args:
        code: Stable word.
        reason: Sentence without a full stop.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = Outcome(accepted=False, reason=reason, code=code)
