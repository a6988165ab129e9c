"""What a node remembers of its calls, in memory alone: counts, errors and times by bucket, per function."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["BOUNDS", "Meter", "Tally"]

BOUNDS: Final = (
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the buckets, seconds, each included; what took longer is in one more bucket."""


class Tally:
    """One function's figures.

    Attributes:
        calls: Calls that ended, errors included.
        errors: Those that ended with an error of the mesh or of the function.
        in_flight: Calls under way.
        seconds: Time of all calls that ended, together.
        buckets: Calls that ended, by time: one count for each of :data:`BOUNDS`, and one for longer ones.
    """

    __slots__ = ("buckets", "calls", "errors", "in_flight", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.in_flight = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def add(self, other: Tally) -> None:
        """Count the ended calls that ``other`` counted."""
        self.calls += other.calls
        self.errors += other.errors
        self.seconds += other.seconds
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]

    @property
    def mean(self) -> float:
        """Mean time of the calls that ended, seconds; 0 before the first."""
        return self.seconds / self.calls if self.calls else 0.0

    def quantile(self, share: float) -> float:
        """Return the seconds in which this share of the calls ended, as near as the buckets tell; 0 before the first.

        Within a bucket calls count as spread evenly; what took longer than all bounds counts as the last of them.
        """
        wanted, low = share * self.calls, 0.0
        for count, high in zip(self.buckets, BOUNDS, strict=False):
            if count and wanted <= count:
                return low + (high - low) * wanted / count
            wanted, low = wanted - count, high
        return low if self.calls else 0.0


class Meter:
    """Tallies by name, the least recently called forgotten first.

    Args:
        limit: Functions remembered at a time.

    Attributes:
        forgotten: What was counted for functions that are remembered no longer.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self.forgotten = Tally()

    def begin(self, name: str) -> Tally:
        """Count a call that begins; give what this returns to :meth:`end`."""
        tallies = self._tallies
        tally = tallies.get(name)
        if tally is None:
            tally = tallies[name] = Tally()
            if len(tallies) > self._limit:
                self.forgotten.add(tallies.popitem(last=False)[1])
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
        tally.seconds += seconds
        tally.buckets[bisect_left(BOUNDS, seconds)] += 1

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """Every function's figures as they stand; to be read, not changed."""
        return self._tallies

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return every function's figures, for ``node.status`` and metrics."""
        return {
            name: {
                "calls": tally.calls,
                "errors": tally.errors,
                "in_flight": tally.in_flight,
                "mean_us": round(tally.mean * 1e6, 1),
                "p50_us": round(tally.quantile(0.5) * 1e6, 1),
                "p99_us": round(tally.quantile(0.99) * 1e6, 1),
            }
            for name, tally in self._tallies.items()
        }
