"""Which of several addresses to ask next: decisions alone.

The *power of two choices*: of two addresses drawn by lot the one with the lower cost is asked, cost being its mean time
times one more than what is under way there. So load spreads, the fastest get most, and no two clients run in step. An
address that could not be reached rests, longer after each failure. One that was not measured of late is tried, so that
a slow moment is forgotten. Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".
"""

from __future__ import annotations

import random
from typing import Final

__all__ = ["MAX_ADDRESSES", "Spread"]

MAX_ADDRESSES: Final = 16
"""Addresses one client uses; of more, so many are drawn by lot."""

_WEIGHT: Final = 0.2
_STALE_S: Final = 30.0
_REST_S: Final = 0.5
_MAX_REST_S: Final = 30.0


class Spread:
    """Times, load and failures of a number of addresses. Not thread-safe; nothing here blocks.

    Args:
        count: How many there are, 1 to :data:`MAX_ADDRESSES`.
        rng: Draws.
        width: Among how many of them load spreads; the others step in when one of these is gone.
    """

    def __init__(self, count: int, rng: random.Random, width: int = 3) -> None:
        self._rng = rng
        self._width = width
        self._mean = [0.0] * count
        self._measured = [float("-inf")] * count
        self._under_way = [0] * count
        self._failures = [0] * count
        self._rests_until = [float("-inf")] * count

    def order(self, now: float) -> list[int]:
        """Return all addresses in the order in which to try them; those that rest last, the soonest back first.

        Args:
            now: Monotonic seconds.
        """
        count = len(self._mean)
        if count == 1:
            return [0]
        up = [place for place in range(count) if self._rests_until[place] <= now]
        down = sorted(
            (place for place in range(count) if self._rests_until[place] > now), key=self._rests_until.__getitem__
        )
        if not up:
            return down
        up, spare = up[: self._width], up[self._width :]
        new = [place for place in up if now - self._measured[place] > _STALE_S and not self._under_way[place]]
        first = self._rng.choice(new) if new else min(self._rng.sample(up, min(2, len(up))), key=self._cost)
        return [first, *sorted((place for place in up if place != first), key=self._cost), *spare, *down]

    def began(self, place: int) -> None:
        """Something was sent there."""
        self._under_way[place] += 1

    def ended(self, place: int, seconds: float, now: float) -> None:
        """It was answered, after so long; an error is an answer too."""
        self._under_way[place] -= 1
        self._failures[place] = 0
        self._rests_until[place] = float("-inf")
        known = now - self._measured[place] <= _STALE_S
        self._mean[place] += (_WEIGHT if known else 1.0) * (seconds - self._mean[place])
        self._measured[place] = now

    def failed(self, place: int, now: float, *, began: bool = True) -> None:
        """It can't be reached, or was lost; ``began``: under something that :meth:`began` counts."""
        if began:
            self._under_way[place] -= 1
        rest = min(_REST_S * 2.0 ** min(self._failures[place], 10), _MAX_REST_S)
        self._failures[place] += 1
        self._rests_until[place] = now + rest

    def gave_up(self, place: int) -> None:
        """The caller wants no answer any more, which says nothing about the address."""
        self._under_way[place] -= 1

    def _cost(self, place: int) -> float:
        return self._mean[place] * (self._under_way[place] + 1)
