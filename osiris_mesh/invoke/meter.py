"""What a node remembers of its calls, in memory alone: counts, errors and mean time per function."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["Meter", "Tally"]


class Tally:
    """One function's figures.

    Attributes:
        calls: Calls that ended, errors included.
        errors: Those that ended with an error of the mesh or of the function.
        in_flight: Calls under way.
        mean_us: Exponentially weighted mean time of calls that gave a result, microseconds; 0 before the first.
    """

    __slots__ = ("calls", "errors", "in_flight", "mean_us")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.in_flight = 0
        self.mean_us = 0.0


class Meter:
    """Tallies by name, the least recently called forgotten first.

    Args:
        weight: Weight of the latest call in the mean, 0 to 1.
        limit: Functions remembered at a time.
    """

    def __init__(self, *, weight: float, limit: int) -> None:
        self._weight = weight
        self._limit = limit
        self._tallies: OrderedDict[str, Tally] = OrderedDict()

    def begin(self, name: str) -> Tally:
        """Count a call that begins; give what this returns to :meth:`end`."""
        tallies = self._tallies
        tally = tallies.get(name)
        if tally is None:
            tally = tallies[name] = Tally()
            if len(tallies) > self._limit:
                tallies.popitem(last=False)
        else:
            tallies.move_to_end(name)
        tally.in_flight += 1
        return tally

    def end(self, tally: Tally, seconds: float, *, ok: bool) -> None:
        """Count that it ended after ``seconds``, with a result or with an error."""
        tally.in_flight -= 1
        tally.calls += 1
        if not ok:
            tally.errors += 1
            return
        micros = seconds * 1e6
        tally.mean_us = micros if tally.mean_us == 0.0 else tally.mean_us + self._weight * (micros - tally.mean_us)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return every function's figures, for ``node.status`` and metrics."""
        return {
            name: {
                "calls": tally.calls,
                "errors": tally.errors,
                "in_flight": tally.in_flight,
                "mean_us": round(tally.mean_us, 1),
            }
            for name, tally in self._tallies.items()
        }
