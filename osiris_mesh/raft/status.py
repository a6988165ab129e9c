"""What Raft tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Committed", "Installed", "RaftStatus"]


@dataclass(frozen=True, slots=True)
class Committed:
    """One command that a majority keeps for good.

    Attributes:
        index: Its place in the log, 1-based; places held by Raft's own entries (elections, voters) are left out.
        term: The leader's term that put it there; (term, index) names an entry for ever.
        command: The bytes given to ``propose``.
    """

    index: int
    term: int
    command: bytes


@dataclass(frozen=True, slots=True)
class Installed:
    """A leader's snapshot that took the place of the log's beginning.

    Attributes:
        index: The last entry it covers.
        term: That entry's term.
        snapshot: What the leader's owner returned from ``take_snapshot`` there.
    """

    index: int
    term: int
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """Where this node stands; replaced, never changed.

    Attributes:
        role: ``leader``, ``candidate``, ``follower``, ``passive`` (not a voter), ``stopped`` or ``failed``.
        leader: Peer id of the leader this node hears from, None while there is none.
        term: Current term.
        commit_index: Last entry known to be committed.
        applied_index: Last entry handed over.
        last_index: Last entry in this node's log.
        voters: The configuration in force, sorted peer ids; empty while a passive node has not been told one.
        quorum: Writes can succeed now, as far as this node knows: it follows a live leader or is one.
        error: Why the node failed, else empty.
    """

    role: str = "stopped"
    leader: str | None = None
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    voters: tuple[str, ...] = ()
    quorum: bool = False
    error: str = ""
