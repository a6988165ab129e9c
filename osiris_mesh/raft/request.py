"""What callers ask of Raft, from their threads to its own and back.

A request belongs to one side at a time. Raft *claims* it when it is about to act on it; a caller whose time ran out
tries to claim it as well, and only if it wins was the request surely not carried out. One ``list.pop`` decides, which
is atomic, so that no lock is held across threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from osiris_mesh.errors import OsirisError

__all__ = ["Change", "Proposal", "Read", "Request", "Transfer"]


@dataclass(slots=True, eq=False)
class Request:
    """One thing asked of Raft.

    Attributes:
        deadline: Monotonic seconds after which nobody waits.
        owner: What the shell needs to answer; Raft does not look at it.
        outcome: Set once by :meth:`settle`.
    """

    deadline: float
    owner: Any = None
    outcome: Any = None
    _unclaimed: list[None] = field(default_factory=lambda: [None])

    def claim(self) -> bool:
        """Take it; False if the other side did."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Undo :meth:`claim`: it surely had no effect and may be tried again."""
        self._unclaimed.append(None)

    def settle(self, outcome: Any | OsirisError) -> None:
        """Set the outcome: a value, or the error to raise."""
        self.outcome = outcome


@dataclass(slots=True, eq=False)
class Proposal(Request):
    """A command to commit; the outcome is (term, index).

    Attributes:
        command: Its bytes.
        waiting_since: Monotonic seconds since which no leader was there to take it, or None.
    """

    command: bytes = b""
    waiting_since: float | None = None


@dataclass(slots=True, eq=False)
class Change(Request):
    """One voter to add or remove; the outcome is None.

    Attributes:
        add: Peer id to add, or None.
        remove: Peer id to remove, or None.
        goal: Index a newcomer must hold before it gets its vote.
        appended: Index of the configuration entry once it is in the log, else 0.
    """

    add: str | None = None
    remove: str | None = None
    goal: int = 0
    appended: int = 0


@dataclass(slots=True, eq=False)
class Transfer(Request):
    """Leadership to hand over; the outcome is the new leader's peer id.

    Attributes:
        to: Peer id, or None for the voter that holds most of the log.
        term: Term in which it was asked.
        asked_at: When the target was last told, monotonic seconds.
    """

    to: str | None = None
    term: int = 0
    asked_at: float = float("-inf")


@dataclass(slots=True, eq=False)
class Read(Request):
    """A linearizable read's index wanted; the outcome is the index to have applied before reading.

    Attributes:
        origin: Peer id of the follower that asked, or None if it was asked here.
        number: That follower's number for it.
        index: Commit index noted when its round began.
        round: The round a majority must echo.
        term: Term of the round.
    """

    origin: str | None = None
    number: int = 0
    index: int = 0
    round: int = 0
    term: int = 0
