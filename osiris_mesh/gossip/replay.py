"""A window over numbers that only grow: each counts once.

Used for datagrams (their numbers) and for topic messages (an origin's sequences). Both begin at the sender's wall clock
in microseconds when it starts and grow by one, so a restarted sender goes on above what it used before.

A clock that was set back between two runs breaks that. What arrives straight from its author over a link can be no
replay, whatever its number (the link's own nonces see to it): such a *direct* number far below the window starts the
window anew, and numbers of the former run are then refused to everybody else.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_NUMBER", "WINDOW", "ReplayWindow"]

WINDOW: Final = 8192
"""How far behind the highest number a late one may be: more than a queue to a peer holds."""
MAX_NUMBER: Final = 2**63
_MASK: Final = (1 << WINDOW) - 1


class ReplayWindow:
    """The numbers seen from one sender."""

    __slots__ = ("_bits", "_ceiling", "_first", "_highest")

    def __init__(self) -> None:
        self._highest = -1
        self._bits = 0
        self._first = MAX_NUMBER
        self._ceiling = MAX_NUMBER

    def fresh(self, number: int, *, direct: bool = False) -> bool:
        """Say whether ``number`` would count; changes nothing, so it may be asked before a message is authenticated."""
        behind = self._highest - number
        if behind >= WINDOW:
            return direct
        if behind >= 0:
            return not self._bits >> behind & 1
        return number < (MAX_NUMBER if direct else self._ceiling)

    def accept(self, number: int, *, direct: bool = False) -> bool:
        """Count ``number`` if it is fresh; False if it is a replay.

        Args:
            number: From an authenticated message.
            direct: It came from its author over a link.
        """
        if not self.fresh(number, direct=direct):
            return False
        behind = self._highest - number
        if behind >= WINDOW:
            self._ceiling = min(self._ceiling, self._first)
            self._highest, self._bits, self._first = number, 1, number
        elif behind >= 0:
            self._bits |= 1 << behind
            self._first = min(self._first, number)
        else:
            self._bits = (self._bits << -behind | 1) & _MASK if -behind < WINDOW else 1
            self._highest = number
            self._first = min(self._first, number)
            if number >= self._ceiling:
                # The author itself counts this high again: nothing is left to be refused on the former run's account.
                self._ceiling = MAX_NUMBER
        return True
