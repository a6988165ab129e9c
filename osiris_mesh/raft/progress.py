"""What a leader knows is under way to one peer (as etcd's ``tracker.Progress``); PySyncObj keeps next and match index.

    probing       where the logs part is not known: one message at a time, again with every heartbeat
    replicating   messages follow each other without waiting, up to a bound (row 23)

An answer ``reset`` leads to probing, an answer ``success`` to replicating.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Progress"]


class Progress:
    """Flow control and what was said, for one peer in one term.

    Args:
        most: Messages of entries under way at once.

    Attributes:
        probing: See above.
        due: A probe should go out now, not with the next heartbeat.
        told: The highest commit index said to the peer together with entries it then held.
    """

    __slots__ = ("_flight", "_most", "due", "probing", "told")

    def __init__(self, most: int) -> None:
        self._most = most
        self._flight: deque[int] = deque()
        self.probing = False
        self.due = False
        self.told = 0

    @property
    def full(self) -> bool:
        """Whether answers must come before more entries go out."""
        return len(self._flight) >= self._most

    def sent(self, last: int, commit: int) -> None:
        """Note a message whose last entry is ``last``, which said ``commit``."""
        self._flight.append(last)
        self.told = max(self.told, min(commit, last))

    def acknowledged(self, match: int) -> None:
        """Note that the peer holds everything up to ``match``."""
        self.probing = False
        while self._flight and self._flight[0] <= match:
            self._flight.popleft()

    def restart(self) -> None:
        """Begin again: what is under way counts no more."""
        self._flight.clear()
        self.probing = True
        self.due = True
