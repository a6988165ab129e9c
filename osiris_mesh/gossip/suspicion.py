"""How long a suspicion lasts: the more members confirm it independently, the shorter.

Source: Lifeguard (Dadgar, Phillips, Currey, 2018), section IV-B "Dynamic Suspicion Timeouts". A member that suspects
alone may itself be the slow one, so it waits long; each independent confirmation brings the timeout down on a
logarithmic scale, until ``needed`` of them bring it to the least.
"""

from __future__ import annotations

import math

__all__ = ["Suspicion", "least_timeout", "timeout"]


def least_timeout(multiplier: float, interval: float, members: int) -> float:
    """Return the least time a suspicion lasts, seconds: it grows with the time an update takes to reach all.

    Args:
        multiplier: ``suspicion_multiplier`` of the settings.
        interval: The protocol period, seconds.
        members: How many members there are, ourselves included.
    """
    return multiplier * max(1.0, math.log10(max(1, members))) * interval


def timeout(confirmations: int, needed: int, least: float, most: float) -> float:
    """Return how long a suspicion lasts with so many independent confirmations, seconds.

    Args:
        confirmations: Members beside the first accuser that suspect the same.
        needed: Confirmations that bring it down to ``least``; 0 if so many can't exist.
        least: Seconds with enough of them.
        most: Seconds with none.
    """
    if needed < 1:
        return least
    share = math.log(confirmations + 1) / math.log(needed + 1)
    return max(least, most - share * (most - least))


class Suspicion:
    """One running suspicion.

    Args:
        accuser: Who suspected first.
        now: When it started here, seconds.
        needed: Confirmations that bring the timeout down to ``least``.
        least: Seconds.
        most: Seconds.

    Attributes:
        deadline: When it becomes a confirmed failure, seconds.
        asked: The suspect was asked once more.
    """

    __slots__ = ("_accusers", "_least", "_most", "_needed", "_started", "asked", "deadline")

    def __init__(self, accuser: str, *, now: float, needed: int, least: float, most: float) -> None:
        self._accusers = {accuser}
        self._started = now
        self._needed = needed
        self._least = least
        self._most = most
        self.asked = False
        self.deadline = now + timeout(0, needed, least, most)

    def confirm(self, accuser: str) -> bool:
        """Count an accuser; True if it was new and still needed, and is worth passing on."""
        if accuser in self._accusers or len(self._accusers) > self._needed:
            return False
        self._accusers.add(accuser)
        self.deadline = self._started + timeout(len(self._accusers) - 1, self._needed, self._least, self._most)
        return True

    def ask(self, now: float, patience: float) -> None:
        """Note that the suspect is asked once more; it gets ``patience`` seconds to answer even if its time is over."""
        self.asked = True
        self.deadline = max(self.deadline, now + patience)

    def delay(self, seconds: float) -> None:
        """Shift by time in which this process did not run and so could not have heard a refutation."""
        self._started += seconds
        self.deadline += seconds
