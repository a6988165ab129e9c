"""A circuit breaker: what keeps failing is left alone for a while. A pure core; times are monotonic seconds.

===========  ==============================  =========================================
state        event                           then
===========  ==============================  =========================================
closed       ``failures`` failures in a row  open, for ``pause``
open         its pause is over               half-open: one try is let through
half-open    the try succeeds                closed, the pause is as at first
half-open    the try fails                   open, for twice as long, up to ``longest``
half-open    the try is not heard of again   after another pause, one more try
===========  ==============================  =========================================

Source: Nygard, "Release It!", chapter "Stability Patterns". The same breaker serves registries, with one failure, and
providers, with three.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Breaker", "Breakers", "State"]

K = TypeVar("K", bound=Hashable)


class State(enum.Enum):
    """Whether tries are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """One circuit.

    Attributes:
        failures: Failures in a row that open it.
        pause: First pause, seconds.
        longest: Longest pause, seconds.
    """

    failures: int
    pause: float
    longest: float
    _failed: int = field(default=0, init=False)
    _opened: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)
    _trying: bool = field(default=False, init=False)

    def state(self, now: float) -> State:
        """Return the state."""
        if not self._opened:
            return State.CLOSED
        return State.OPEN if now < self._until else State.HALF_OPEN

    def allows(self, now: float) -> bool:
        """Say whether a try would be let through; changes nothing."""
        return not self._opened or now >= self._until

    def until(self, now: float) -> float:
        """Return the seconds until a try is let through; 0: now."""
        return max(self._until - now, 0.0) if self._opened else 0.0

    def trying(self, now: float) -> bool:
        """Ask to try: True lets it through. Half-open, that is one try a pause, so say how it ended."""
        if not self._opened:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause()
        self._trying = True
        return True

    def succeeded(self) -> bool:
        """Note a success; say whether that closed it."""
        was_open = self._opened > 0
        self._failed = self._opened = 0
        self._until = 0.0
        self._trying = False
        return was_open

    def failed(self, now: float) -> bool:
        """Note a failure; say whether that opened it, or opened it again."""
        self._failed += 1
        if self._opened:
            # Of tries begun before it opened, many may fail at once: they say nothing new.
            if not self._trying:
                return False
            self._trying = False
            self._opened += 1
        elif self._failed >= self.failures:
            self._opened = 1
        else:
            return False
        self._until = now + self._pause()
        return True

    def _pause(self) -> float:
        return min(self.pause * 2.0 ** min(self._opened - 1, 64), self.longest)


class Breakers(Generic[K]):
    """Circuits by key, bounded: the one not touched for longest is forgotten first.

    Args:
        failures: As of :class:`Breaker`.
        pause: As of :class:`Breaker`.
        longest: As of :class:`Breaker`.
        limit: Circuits remembered.
    """

    def __init__(self, *, failures: int, pause: float, longest: float, limit: int) -> None:
        self._shape = (failures, pause, longest)
        self._limit = limit
        self._known: dict[K, Breaker] = {}

    def __len__(self) -> int:
        return len(self._known)

    def allows(self, key: K, now: float) -> bool:
        """See :meth:`Breaker.allows`."""
        known = self._known.get(key)
        return known is None or known.allows(now)

    def state(self, key: K, now: float) -> State:
        """See :meth:`Breaker.state`."""
        known = self._known.get(key)
        return State.CLOSED if known is None else known.state(now)

    def until(self, key: K, now: float) -> float:
        """See :meth:`Breaker.until`."""
        known = self._known.get(key)
        return 0.0 if known is None else known.until(now)

    def trying(self, key: K, now: float) -> bool:
        """See :meth:`Breaker.trying`."""
        known = self._known.get(key)
        return known is None or known.trying(now)

    def succeeded(self, key: K) -> bool:
        """Note a success; say whether that closed the circuit."""
        # A closed circuit without failures is the same as none.
        known = self._known.pop(key, None)
        return known is not None and known.succeeded()

    def failed(self, key: K, now: float) -> bool:
        """Note a failure; say whether that opened the circuit."""
        known = self._known.pop(key, None)
        if known is None:
            known = Breaker(*self._shape)
            while len(self._known) >= self._limit:
                del self._known[next(iter(self._known))]
        self._known[key] = known
        return known.failed(now)
