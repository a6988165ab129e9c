"""Updates waiting to be passed on, each a bounded number of times.

Source: SWIM, section 4.1 "Infection-Style Dissemination Component": an update rides on messages sent anyway, at most
``lambda log n`` times, those that rode least first.
"""

from __future__ import annotations

import math

from osiris_mesh.gossip.message import Update

__all__ = ["Broadcasts", "retransmissions"]


def retransmissions(multiplier: int, members: int) -> int:
    """Return how many times an update is passed on by each member of a mesh of that size."""
    return multiplier * math.ceil(math.log10(members + 1))


class Broadcasts:
    """The queue: one update a member (and accuser), the newest."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[int, int, Update]] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, update: Update) -> None:
        """Queue an update; what it supersedes is dropped.

        Two suspicions by different accusers are two updates: the receiver counts accusers.
        """
        for key in [key for key, (_, _, old) in self._waiting.items() if old.peer == update.peer]:
            old = self._waiting[key][2]
            if (old.incarnation, old.state) < (update.incarnation, update.state) or old.accuser == update.accuser:
                del self._waiting[key]
        self._order += 1
        self._waiting[update.peer, update.accuser] = (0, -self._order, update)

    def take(self, count: int, limit: int) -> list[Update]:
        """Return up to ``count`` updates, least sent first and newest among equals.

        Args:
            count: How many fit.
            limit: After how many times an update has been passed on often enough.
        """
        if not self._waiting or count <= 0:
            return []
        chosen = sorted(self._waiting.items(), key=lambda item: item[1][:2])[:count]
        for key, (sent, order, update) in chosen:
            if sent + 1 >= limit:
                del self._waiting[key]
            else:
                self._waiting[key] = (sent + 1, order, update)
        return [update for _, (_, _, update) in chosen]

    def forget(self, peer: str) -> None:
        """Drop what is about a member that is none any more."""
        for key in [key for key in self._waiting if peer in key]:
            del self._waiting[key]
