"""Time as an argument.

Cores take the time as a number; shells read it from a :class:`Clock`, so that tests and the simulator decide it.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """Where a shell reads the time."""

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...

    def time_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC; may jump."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return time.time_ns() // 1_000_000


class FakeClock:
    """A clock that moves only when told.

    Args:
        start: First value of :meth:`monotonic`, seconds.
        epoch_ms: Wall clock at ``start``, milliseconds.
    """

    def __init__(self, start: float = 0.0, epoch_ms: int = 1_700_000_000_000) -> None:
        self._now = start
        self._offset_ms = epoch_ms - int(start * 1000)

    def monotonic(self) -> float:
        """Return the fake seconds."""
        return self._now

    def time_ms(self) -> int:
        """Return the fake wall clock in milliseconds."""
        return self._offset_ms + int(self._now * 1000)

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds`` (not negative)."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += seconds


SYSTEM: Clock = SystemClock()
