"""What is known of names, and for how long it is believed. A pure core; times are monotonic seconds.

An answer's *tier* is where it came from, and says how old it may be at most, counted from when a registry said it::

    local      this process                      5 min
    regional   peers with our region's label     1 h
    global     registries and their copies       24 h

``effective TTL = min(record's TTL, tier's cap, scope's cap) - age``, at most the local cap, ±10 %, and never past the
record's validity. A name then goes through these states:

=========  ===============================  =================================================================
state      until                            asked for it, the cache says
=========  ===============================  =================================================================
absent                                      ask (one question at a time) and wait
fresh      80 % of its TTL                  the answer
fresh      its TTL                          the answer; and ask in the background
stale      validity, age limit, revocation  ask, wait 1.8 s, then the old answer, marked stale
not found  30 s                             that no registry knows it
failing    5 s, doubling to 5 min           no question; the old answer at once if there is one, else the failure
=========  ===============================  =================================================================

A failure never becomes "not found", and never takes away an answer that is still good. What is revoked is gone at once.
Bounded: second chance (Corbató's clock) in place of exact LRU, so that reading an answer writes nothing but a flag.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from osiris_mesh.settings.registry import RegistrySettings

__all__ = ["Ask", "Cache", "Entry", "Look", "Tier", "effective_ttl"]

V = TypeVar("V")
_NEVER: Final = float("-inf")
_RETRIES: Final = 16


class Tier(enum.IntEnum):
    """Where an answer came from."""

    LOCAL = 0
    REGIONAL = 1
    GLOBAL = 2


class Ask(enum.Enum):
    """What a caller does about a name."""

    NOTHING = "nothing"
    """The entry is the answer."""
    AHEAD = "ahead"
    """The entry is the answer; ask in the background. The question counts as begun."""
    BEGIN = "begin"
    """Ask. The question counts as begun."""
    JOIN = "join"
    """Somebody asks already: wait for that."""
    FAILING = "failing"
    """Do not ask now: nobody gave a usable answer lately."""


@dataclass(slots=True, eq=False)
class Entry(Generic[V]):
    """An answer. Whoever keeps it sees by ``fresh_until`` alone whether it still holds: it is emptied when replaced.

    Attributes:
        name: Full name.
        value: The answer; None: no registry knows the name.
        source: Who gave it.
        at: When a registry said it.
        fresh_until: Until when it is believed.
        ahead_at: From when using it asks for a new one.
        dead_at: From when it is not served at all.
        used: It was read since the clock's hand last passed.
    """

    name: str
    value: V | None
    source: str
    at: float
    fresh_until: float
    ahead_at: float
    dead_at: float
    used: bool = False


@dataclass(frozen=True, slots=True)
class Look(Generic[V]):
    """What the cache says of a name.

    Attributes:
        entry: What is known, fresh or stale; None: nothing that may be served.
        fresh: It is believed.
        ask: What to do.
        wait: Seconds until asking makes sense again, when ``ask`` is ``FAILING``.
    """

    entry: Entry[V] | None
    fresh: bool
    ask: Ask
    wait: float = 0.0


@dataclass(slots=True)
class _Failing:
    times: int
    until: float


def effective_ttl(
    settings: RegistrySettings,
    *,
    tier: Tier,
    scope: Tier,
    ttl: float,
    age: float,
    valid: float,
    rng: random.Random,
) -> float:
    """Return for how many seconds an answer is believed from now on; 0: it is stale already.

    Args:
        settings: The caps and the jitter.
        tier: Where it came from.
        scope: How far its author lets it be kept.
        ttl: Seconds its author lets it be kept.
        age: Seconds since a registry said it.
        valid: Seconds until it is no longer valid; infinity: always.
        rng: Draws the jitter.
    """
    caps = (settings.local_ttl_s, settings.regional_ttl_s, settings.global_ttl_s)
    left = min(ttl, caps[tier], caps[scope]) - max(age, 0.0)
    jittered = min(left, caps[Tier.LOCAL]) * rng.uniform(1 - settings.jitter, 1 + settings.jitter)
    return max(min(jittered, valid), 0.0)


class Cache(Generic[V]):
    """Answers by full name.

    Args:
        settings: Times and bounds.
        rng: Draws the jitter.
    """

    def __init__(self, settings: RegistrySettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._known: dict[str, Entry[V]] = {}
        self._asking: set[str] = set()
        self._failing: dict[str, _Failing] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    @property
    def asking(self) -> int:
        """Questions under way."""
        return len(self._asking)

    def names(self) -> list[str]:
        """Return the names something is known of."""
        return list(self._known)

    def peek(self, name: str) -> Entry[V] | None:
        """Return what is known, however old; asks and touches nothing."""
        return self._known.get(name)

    def look(self, name: str, now: float) -> Look[V]:
        """Say what is known of a name and what to do about it; ``BEGIN`` and ``AHEAD`` count as begun by the caller.

        A question that was begun ends with :meth:`found`, :meth:`missing`, :meth:`failed` or :meth:`given_up`.
        """
        entry = self._known.get(name)
        if entry is not None:
            if now < entry.fresh_until:
                entry.used = True
                ahead = now >= entry.ahead_at and name not in self._asking and self._pause(name, now) == 0
                if ahead:
                    self._asking.add(name)
                return Look(entry, fresh=True, ask=Ask.AHEAD if ahead else Ask.NOTHING)
            if now >= entry.dead_at or entry.value is None:
                self._forget(entry)
                entry = None
            else:
                entry.used = True
        if name in self._asking:
            return Look(entry, fresh=False, ask=Ask.JOIN)
        wait = self._pause(name, now)
        if wait > 0:
            return Look(entry, fresh=False, ask=Ask.FAILING, wait=wait)
        self._asking.add(name)
        return Look(entry, fresh=False, ask=Ask.BEGIN)

    def begin(self, name: str) -> None:
        """Count a question as begun, whatever is known."""
        self._asking.add(name)

    def found(
        self,
        name: str,
        value: V,
        now: float,
        *,
        source: str,
        tier: Tier = Tier.GLOBAL,
        scope: Tier = Tier.GLOBAL,
        ttl: float,
        age: float = 0.0,
        valid: float = float("inf"),
        believed: bool = True,
        ends: bool = True,
    ) -> Entry[V]:
        """Take in an answer.

        Args:
            name: Full name.
            value: The answer.
            now: When it came.
            source: Who gave it.
            tier: Where that is.
            scope: How far its author lets it be kept.
            ttl: Seconds its author lets it be kept.
            age: Seconds since a registry said it.
            valid: Seconds until it is no longer valid.
            believed: False: it counts as stale from the start (from a frozen registry).
            ends: It ends the question; False: it was kept from before, and the question goes on.
        """
        asking = name in self._asking
        if ends:
            self._failing.pop(name, None)
        lasts = effective_ttl(self._settings, tier=tier, scope=scope, ttl=ttl, age=age, valid=valid, rng=self._rng)
        if not believed:
            lasts = 0.0
        oldest = now + max(self._settings.stale_max_s - max(age, 0.0), 0.0)
        entry = self._put(
            Entry(
                name,
                value,
                source,
                now - max(age, 0.0),
                now + lasts,
                now + lasts * self._settings.refresh_ahead,
                min(now + valid, max(oldest, now + lasts)),
            )
        )
        if asking and not ends:
            self._asking.add(name)
        return entry

    def missing(self, name: str, now: float, *, source: str) -> Entry[V]:
        """Take in that surely nobody knows the name; it ends the question."""
        self._failing.pop(name, None)
        spread = self._rng.uniform(1 - self._settings.jitter, 1 + self._settings.jitter)
        until = now + self._settings.not_found_s * spread
        return self._put(Entry(name, None, source, now, until, until, until))

    def failed(self, name: str, now: float) -> float:
        """Take in that nobody gave a usable answer; it ends the question. Return the seconds until the next one."""
        self._asking.discard(name)
        before = self._failing.pop(name, None)
        times = before.times + 1 if before else 1
        pause = min(self._settings.failure_s * 2.0 ** min(times - 1, _RETRIES), self._settings.failure_max_s)
        pause *= self._rng.uniform(1 - self._settings.jitter, 1.0)
        while len(self._failing) >= self._settings.cached:
            del self._failing[next(iter(self._failing))]
        self._failing[name] = _Failing(times, now + pause)
        return pause

    def given_up(self, name: str) -> None:
        """End a question that came to nothing and says nothing: it was cancelled."""
        self._asking.discard(name)

    def invalidate(self, name: str, now: float) -> bool:
        """Believe an answer no longer, because a newer one may be there; it may still be served as stale.

        Returns:
            Whether anything was known. "Not found" is forgotten at once.
        """
        entry = self._known.get(name)
        if entry is None:
            return False
        if entry.value is None:
            self._forget(entry)
        else:
            entry.fresh_until = min(entry.fresh_until, now)
        return True

    def retry(self, name: str) -> None:
        """Forget that a name failed: whoever did answers again."""
        self._failing.pop(name, None)

    def retry_all(self) -> None:
        """Forget all failures: a registry came back."""
        self._failing.clear()

    def revoke(self, name: str) -> bool:
        """Forget an answer for good; it is not served any more, stale neither. Say whether there was one."""
        entry = self._known.get(name)
        if entry is None:
            return False
        self._forget(entry)
        return True

    def revoke_where(self, revoked: Callable[[V], bool], names: Iterable[str] | None = None) -> list[str]:
        """Forget every answer that is revoked; return their names."""
        gone: list[str] = []
        for name in list(self._known if names is None else names):
            entry = self._known.get(name)
            if entry is not None and entry.value is not None and revoked(entry.value):
                self._forget(entry)
                gone.append(name)
        return gone

    def _pause(self, name: str, now: float) -> float:
        known = self._failing.get(name)
        return max(known.until - now, 0.0) if known is not None else 0.0

    def _put(self, entry: Entry[V]) -> Entry[V]:
        self._asking.discard(entry.name)
        before = self._known.pop(entry.name, None)
        if before is not None:
            _empty(before)
        while len(self._known) >= self._settings.cached:
            self._evict()
        self._known[entry.name] = entry
        return entry

    def _evict(self) -> None:
        """Drop the first that was not read since the hand last passed; every one that was gets its second chance."""
        while True:
            oldest = self._known[next(iter(self._known))]
            del self._known[oldest.name]
            if not oldest.used:
                _empty(oldest)
                return
            oldest.used = False
            self._known[oldest.name] = oldest

    def _forget(self, entry: Entry[V]) -> None:
        del self._known[entry.name]
        _empty(entry)


def _empty(entry: Entry[V]) -> None:
    entry.fresh_until = entry.dead_at = entry.ahead_at = _NEVER
