"""Does a leader's message fit this log? Rows 1, 2 and 16 (paper, 5.3 and figure 2, AppendEntries 2 to 5).

PySyncObj cuts its log after the message's beginning, whatever follows, and commits up to its own end. Here entries
are compared: the log is cut at the first whose term conflicts and nowhere else, and only what the message vouched for
may be committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from osiris_mesh.errors import CheckFailed
from osiris_mesh.raft.journal import Entry, Journal

__all__ = ["Agreed", "Parted", "merge"]


@dataclass(frozen=True, slots=True)
class Agreed:
    """The log is the leader's up to ``index``; beyond it, nothing is known."""

    index: int


@dataclass(frozen=True, slots=True)
class Parted:
    """The message begins where the log does not agree: send from ``following`` on."""

    following: int


def merge(
    journal: Journal, committed: int, previous: int, previous_term: int, entries: Sequence[Entry]
) -> Agreed | Parted:
    """Make the log agree with ``entries``, which follow (``previous``, ``previous_term``) in the leader's.

    Args:
        journal: Changed only if the message fits.
        committed: Commit index of this node.
        previous: Index of the entry before the first of ``entries``.
        previous_term: Its term.
        entries: Contiguous, may be none.

    Raises:
        CheckFailed: The leader contradicts what is committed here.
    """
    base, last = journal[0][1], journal[-1][1]
    if previous > last:
        return Parted(last + 1)
    if previous < base:
        # What the snapshot covers is committed, hence the same in every leader's log (paper, 5.4.3).
        entries = entries[base - previous :]
        if not entries:
            return Agreed(committed)
        previous = base
    elif (found := journal[previous - base][2]) != previous_term:
        if previous <= committed:
            raise _diverged(previous)
        # Row 16: the first index of the conflicting term, so that a term, not an entry, is settled in a round trip.
        first = previous
        while first > committed + 1 and journal[first - 1 - base][2] == found:
            first -= 1
        return Parted(first)
    for place, (_, index, term) in enumerate(entries):
        if index <= last:
            if journal[index - base][2] == term:
                continue
            if index <= committed:
                raise _diverged(index)
            journal.deleteEntriesFrom(index - base)
        for entry in entries[place:]:
            journal.add(*entry)
        break
    return Agreed(previous + len(entries))


def _diverged(index: int) -> CheckFailed:
    return CheckFailed(
        f"the leader's log contradicts entry {index}, which is committed here: the voters' histories have parted",
        fix="compare the chains with `ledger verify` on all nodes before anything else; this node has stopped",
    )
