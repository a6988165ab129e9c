"""How much a provider is believed, from what members observed of it. A pure core; times are monotonic seconds.

An observation is "so many calls went well, so many failed", signed by who saw it: over gossip by the message's own
signature, so that an observer is a member, and one that is removed says nothing more. What is made of it:

- An observer's calls count at most :data:`OBSERVER_CAP` together, however many it claims, and half as much each
  ``half_life``. Observers of one *group* (let in by the same member, run by the same owner) have one such cap together.
- Others' word is the *median* of the groups' rates, each weighed by its capped calls: half of the weight can lie
  without moving it past what an honest group says.
- All others together count as at most :data:`OTHERS_CAP` calls of our own. So a few calls of ours outweigh everybody.
- What a provider says of itself does not count.

Without any observation a provider is believed :data:`PRIOR`, as if of :data:`PRIOR_CALLS` calls. Source for the shape:
Jøsang and Ismail, "The Beta Reputation System", 2002, with discounting of others and forgetting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["OBSERVER_CAP", "OTHERS_CAP", "PRIOR", "PRIOR_CALLS", "Belief", "Reputation"]

OBSERVER_CAP: Final = 32.0
"""Calls of one group of observers that count at most."""
OTHERS_CAP: Final = 8.0
"""Calls that all others together count for at most."""
PRIOR: Final = 0.9
PRIOR_CALLS: Final = 2.0
_MAX_CLAIM: Final = 1_000_000.0
_MAX_OBSERVERS: Final = 1024
_FAINT: Final = 0.05
"""Calls below which an old observation is forgotten."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of one provider.

    Attributes:
        score: Share of calls expected to go well, 0 to 1.
        own: Calls of our own behind it, decayed.
        others: Calls it counts for others.
        groups: Groups that said something.
    """

    score: float
    own: float
    others: float
    groups: int


@dataclass(slots=True)
class _Seen:
    ok: float
    failed: float
    at: float
    group: str

    def decayed(self, now: float, half_life: float) -> tuple[float, float]:
        factor = 0.5 ** (max(now - self.at, 0.0) / half_life)
        return self.ok * factor, self.failed * factor


class Reputation:
    """What everybody says of every provider.

    Args:
        half_life: Seconds after which an observation counts half.
        limit: Providers remembered; the one not heard of for longest is forgotten first.
    """

    def __init__(self, *, half_life: float, limit: int) -> None:
        self._half_life = half_life
        self._limit = limit
        self._own: dict[str, _Seen] = {}
        self._others: dict[str, dict[str, _Seen]] = {}

    def saw(self, provider: str, ok: int, failed: int, now: float) -> None:
        """Note calls of our own to a provider."""
        known = self._own.pop(provider, None)
        before = known.decayed(now, self._half_life) if known else (0.0, 0.0)
        while len(self._own) >= self._limit:
            del self._own[next(iter(self._own))]
        self._own[provider] = _Seen(before[0] + ok, before[1] + failed, now, "")

    def heard(self, provider: str, observer: str, ok: float, failed: float, now: float, *, group: str = "") -> bool:
        """Take in what an observer says it saw of a provider; its word before is replaced. False: it does not count.

        Args:
            provider: The provider's id.
            observer: The member who signed it.
            ok: Calls that went well, as the observer counts them now.
            failed: Calls that failed.
            now: When it arrived.
            group: Whom the observer belongs to; empty: to itself.
        """
        if observer == provider or not (0 <= ok <= _MAX_CLAIM and 0 <= failed <= _MAX_CLAIM):
            return False
        of = self._others.pop(provider, None)
        if of is None:
            of = {}
            while len(self._others) >= self._limit:
                del self._others[next(iter(self._others))]
        self._others[provider] = of
        of.pop(observer, None)
        while len(of) >= _MAX_OBSERVERS:
            del of[next(iter(of))]
        of[observer] = _Seen(float(ok), float(failed), now, group or observer)
        return True

    def gone(self, observer: str) -> None:
        """Forget what somebody said who is no member any more."""
        for of in self._others.values():
            of.pop(observer, None)

    def belief(self, provider: str, now: float) -> Belief:
        """Return what is believed of a provider."""
        own = self._own.get(provider)
        ok, failed = own.decayed(now, self._half_life) if own else (0.0, 0.0)
        told, weight, groups = self.others(provider, now)
        calls = PRIOR_CALLS + ok + failed + weight
        score = (PRIOR * PRIOR_CALLS + ok + told * weight) / calls
        return Belief(score, ok + failed, weight, groups)

    def others(self, provider: str, now: float) -> tuple[float, float, int]:
        """Return what others say alone: the share that goes well, the calls it counts for, and how many groups."""
        groups = self._groups(self._others.get(provider, {}), now)
        return _median(groups), min(sum(calls for _, calls in groups), OTHERS_CAP), len(groups)

    def report(self, now: float) -> dict[str, tuple[float, float]]:
        """Return what we have to say to others: provider to calls that went well and that failed, decayed."""
        said: dict[str, tuple[float, float]] = {}
        for provider, seen in list(self._own.items()):
            ok, failed = seen.decayed(now, self._half_life)
            if ok + failed < _FAINT:
                del self._own[provider]
            else:
                said[provider] = (ok, failed)
        return said

    def _groups(self, of: Mapping[str, _Seen], now: float) -> list[tuple[float, float]]:
        """Return (rate, capped calls) of every group."""
        sums: dict[str, tuple[float, float]] = {}
        for seen in of.values():
            ok, failed = seen.decayed(now, self._half_life)
            before = sums.get(seen.group, (0.0, 0.0))
            sums[seen.group] = (before[0] + ok, before[1] + failed)
        return [
            (ok / (ok + failed), min(ok + failed, OBSERVER_CAP))
            for ok, failed in sums.values()
            if ok + failed >= _FAINT
        ]


def _median(groups: list[tuple[float, float]]) -> float:
    """Return the rate in the middle by weight; of two in the middle, the lower: praise needs more than half."""
    half = sum(calls for _, calls in groups) / 2
    passed = 0.0
    for rate, calls in sorted(groups):
        passed += calls
        if passed >= half:
            return rate
    return PRIOR
