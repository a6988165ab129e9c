"""Which provider is asked first. A pure core; times are monotonic seconds.

=====================  ==============================================================================
policy                 first comes
=====================  ==============================================================================
lowest-cost            the least cost of a call that goes well: stated cost over the share that does
fastest                the least expected time of one that does
highest-availability   the largest share of calls that go well, then the better tier, then the faster
balanced               each in turn by its weight, smoothly, as far as it answers
custom                 what the caller's own function says
=====================  ==============================================================================

Times and shares are measured and decay exponentially; the record's own claim counts as :data:`PRIOR_CALLS` calls, and
is all there is at first. Whatever the policy: who says it is down or is left alone by its breaker comes last, before it
weight 0, and one that drains after those that do not.

Smooth balance is nginx's: everyone gains its weight each turn, the highest is taken and pays the sum. So 5, 1, 1 gives
a a b a c a a, not a a a a a b c.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from osiris_mesh.errors import UsageError
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.record import Provider
from osiris_mesh.settings.registry import POLICIES

__all__ = [
    "PRIOR_CALLS",
    "UNKNOWN_MS",
    "Chooser",
    "Key",
    "Ranking",
    "Rotation",
    "Standing",
    "Standings",
    "choose",
    "custom",
    "key_of",
    "rank",
]

PRIOR_CALLS: Final = 2.0
UNKNOWN_MS: Final = 250.0
"""Response time assumed of a provider that states none and was never measured."""
_TIERS: Final = {"premium": 0, "standard": 1, "best-effort": 2}
_UNCOUNTED: Final = 1.0
"""A provider's assumed reputation where nobody said anything."""

Key = tuple[str, str, str]
"""Id, endpoint and key of a provider: one id may mean two in two records, and one record must not speak for another."""


class Chooser(Protocol):
    """Puts providers in order by a function of this mesh; for the policy ``custom``."""

    async def order(self, name: str, providers: Sequence[Standing], *, deadline: float) -> Sequence[str]:
        """Return ids of providers, first the one to try first; unknown ids are passed over, missing ones come last.

        Args:
            name: Full name of the function to be called.
            providers: What is known of each.
            deadline: Monotonic seconds by which it is to answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one provider now: what a custom choice gets.

    Attributes:
        provider: As the record says.
        response_ms: Expected response time.
        availability: Share of calls expected to go well.
        open: Its breaker leaves it alone, or it says that it is down.
        draining: It says that it wants nothing new.
        in_flight: Our own calls it works on.
    """

    provider: Provider
    response_ms: float
    availability: float
    open: bool
    draining: bool
    in_flight: int


@dataclass(slots=True)
class _Measured:
    time: float = 0.0
    answers: float = 0.0
    calls: float = 0.0
    at: float = 0.0
    in_flight: int = 0
    state: str = "up"
    state_until: float = 0.0
    reputation: float = _UNCOUNTED
    weight: float = 0.0

    def decay(self, now: float, half_life: float) -> None:
        factor = 0.5 ** (max(now - self.at, 0.0) / half_life)
        self.time *= factor
        self.answers *= factor
        self.calls *= factor
        self.at = max(now, self.at)


class Standings:
    """Measurements of providers.

    Args:
        half_life: Seconds after which a measurement counts half.
        breakers: Circuits of providers.
        limit: Providers remembered; the one not touched for longest is forgotten first.

    Attributes:
        generation: Changes whenever an order made before may be wrong: a breaker opened or closed, a state changed.
    """

    def __init__(self, *, half_life: float, breakers: Breakers[Key], limit: int) -> None:
        self.generation = 0
        self._half_life = half_life
        self._breakers = breakers
        self._limit = limit
        self._known: dict[Key, _Measured] = {}

    def began(self, provider: Provider, now: float) -> bool:
        """Note the start of a call; False: its breaker leaves it alone, so do not call."""
        if not self._breakers.trying(key_of(provider), now):
            return False
        self._touch(key_of(provider)).in_flight += 1
        return True

    def abandoned(self, provider: Provider) -> None:
        """Note that a call ended without saying anything about the provider: the caller gave up, or was wrong."""
        known = self._known.get(key_of(provider))
        if known is not None:
            known.in_flight = max(known.in_flight - 1, 0)

    def answered(self, provider: Provider, seconds: float, now: float) -> bool:
        """Note that a call was answered, with a value or the function's own error; True: its breaker closed."""
        known = self._ended(provider, now)
        known.answers += 1
        known.time += max(seconds, 0.0) * 1000
        closed = self._breakers.succeeded(key_of(provider))
        self.generation += closed
        return closed

    def failed(self, provider: Provider, now: float) -> bool:
        """Note that a call was not answered; True: its breaker opened."""
        self._ended(provider, now)
        opened = self._breakers.failed(key_of(provider), now)
        self.generation += opened
        return opened

    def said(self, key: Key, state: str, until: float) -> bool:
        """Note what a provider says of itself, until a time; True: that is a change."""
        known = self._touch(key)
        changed = known.state != state
        known.state, known.state_until = state, until
        self.generation += changed
        return changed

    def moved(self) -> None:
        """Note that a provider answers somewhere else now: orders made before may be wrong."""
        self.generation += 1

    def believed(self, key: Key, score: float, weight: float) -> None:
        """Note a provider's reputation: the share that goes well by others' word, and the calls that counts for."""
        known = self._touch(key)
        known.reputation, known.weight = score, weight

    def response_ms(self, provider: Provider, now: float) -> float:
        """Return the time an answer is expected to take."""
        claim = float(provider.response_ms or UNKNOWN_MS)
        known = self._known.get(key_of(provider))
        if known is None:
            return claim
        known.decay(now, self._half_life)
        return (known.time + claim * PRIOR_CALLS) / (known.answers + PRIOR_CALLS)

    def availability(self, provider: Provider, now: float) -> float:
        """Return the share of calls expected to be answered."""
        known = self._known.get(key_of(provider))
        if known is None:
            return _UNCOUNTED
        known.decay(now, self._half_life)
        prior = PRIOR_CALLS + known.weight
        told = (_UNCOUNTED * PRIOR_CALLS + known.reputation * known.weight) / prior
        return (known.answers + told * prior) / (known.calls + prior)

    def standing(self, provider: Provider, now: float) -> Standing:
        """Return all that is known of a provider."""
        key = key_of(provider)
        known = self._known.get(key)
        state = known.state if known is not None and now < known.state_until else "up"
        return Standing(
            provider=provider,
            response_ms=self.response_ms(provider, now),
            availability=self.availability(provider, now),
            open=state == "down" or not self._breakers.allows(key, now),
            draining=state == "draining",
            in_flight=known.in_flight if known is not None else 0,
        )

    def _ended(self, provider: Provider, now: float) -> _Measured:
        known = self._touch(key_of(provider))
        known.decay(now, self._half_life)
        known.calls += 1
        known.in_flight = max(known.in_flight - 1, 0)
        return known

    def _touch(self, key: Key) -> _Measured:
        known = self._known.pop(key, None)
        if known is None:
            known = _Measured()
            while len(self._known) >= self._limit:
                del self._known[next(iter(self._known))]
        self._known[key] = known
        return known


@dataclass(slots=True)
class Rotation:
    """Where smooth balance stands for one list of providers.

    Attributes:
        current: Key to what it has gained so far.
    """

    current: dict[Key, float] = field(default_factory=dict)

    def turn(self, weights: Sequence[tuple[Key, float]], rng: random.Random) -> int:
        """Take a turn; return the place of who is first.

        Args:
            weights: Key and weight of each, at least one, none negative.
            rng: Says where the first round begins, so that many callers do not begin with the same one.
        """
        total = sum(weight for _, weight in weights)
        current = self.current
        best, best_value = 0, float("-inf")
        gained: dict[Key, float] = {}
        for place, (key, weight) in enumerate(weights):
            before = current.get(key)
            value = (rng.random() * weight if before is None else before) + weight
            gained[key] = value
            if value > best_value:
                best, best_value = place, value
        gained[weights[best][0]] -= total
        self.current = gained
        return best


def key_of(provider: Provider) -> Key:
    """Return what a provider's measurements are kept under."""
    return (provider.id, provider.endpoint, provider.key)


@dataclass(slots=True)
class Ranking:
    """An order worked out once and used for many calls.

    Attributes:
        orders: All orders, by who comes first; one alone where nobody takes turns.
        weights: Key and weight of those who take turns; empty: nobody does.
        rotation: Where the turns stand.
    """

    orders: Sequence[tuple[Provider, ...]]
    weights: Sequence[tuple[Key, float]] = ()
    rotation: Rotation = field(default_factory=Rotation)

    def next(self, rng: random.Random) -> tuple[Provider, ...]:
        """Return the order for one call."""
        return self.orders[self.rotation.turn(self.weights, rng) if self.weights else 0]


def choose(
    providers: Sequence[Provider],
    policy: str,
    standings: Standings,
    rng: random.Random,
    *,
    now: float,
    rotation: Rotation | None = None,
) -> list[Provider]:
    """Return all providers, first the one to try first; arguments as of :func:`rank`."""
    return list(rank(providers, policy, standings, rng, now=now, rotation=rotation).next(rng))


def rank(
    providers: Sequence[Provider],
    policy: str,
    standings: Standings,
    rng: random.Random,
    *,
    now: float,
    rotation: Rotation | None = None,
) -> Ranking:
    """Work out who comes first.

    Args:
        providers: Those a record has and the caller's context allows.
        policy: One of :data:`osiris_mesh.settings.registry.POLICIES`; for ``custom`` use :func:`custom`.
        standings: What is known of them.
        rng: Breaks ties, and says where balance begins.
        now: Monotonic seconds.
        rotation: Where balance stands; None: anywhere.

    Raises:
        UsageError: There is no such policy.
    """
    if policy not in POLICIES:
        raise UsageError(f"no policy is called {policy!r}", fix=f"choose one of {', '.join(POLICIES)}")
    known = [standings.standing(provider, now) for provider in providers]
    if policy in {"balanced", "custom"}:
        return _balanced(known, Rotation() if rotation is None else rotation)
    measure = _MEASURES[policy]
    ranked = sorted((_group(item), measure(item), rng.random(), place) for place, item in enumerate(known))
    return Ranking((tuple(providers[place] for *_, place in ranked),))


def custom(
    providers: Sequence[Provider],
    order: Callable[[Sequence[Standing]], Sequence[str]],
    standings: Standings,
    *,
    now: float,
) -> list[Provider]:
    """Return all providers in the order a callable gives by their ids; those it does not name come last."""
    left = {provider.id: provider for provider in providers}
    first = [left.pop(name) for name in order([standings.standing(item, now) for item in providers]) if name in left]
    return [*first, *left.values()]


def _group(item: Standing) -> int:
    return (4 if item.open else 0) + (2 if item.provider.weight == 0 else 0) + (1 if item.draining else 0)


def _cost(item: Standing) -> tuple[float, ...]:
    # A call that fails is paid with time, and perhaps with money: the more often it does, the dearer a good one.
    good = max(item.availability, 0.01)
    return (item.provider.cost_micros / good, item.response_ms / good)


def _time(item: Standing) -> tuple[float, ...]:
    return (item.response_ms / max(item.availability, 0.01), float(item.in_flight))


def _availability(item: Standing) -> tuple[float, ...]:
    # Differences below a hundredth are noise; then the tier it promises says more.
    return (-round(item.availability, 2), float(_TIERS[item.provider.sla]), item.response_ms)


_MEASURES: Final[dict[str, Callable[[Standing], tuple[float, ...]]]] = {
    "lowest-cost": _cost,
    "fastest": _time,
    "highest-availability": _availability,
}


def _balanced(known: Sequence[Standing], rotation: Rotation) -> Ranking:
    groups: dict[int, list[tuple[float, Standing]]] = {}
    for item in known:
        share = max(item.provider.weight, 1) * max(item.availability, 0.01)
        groups.setdefault(_group(item), []).append((share, item))
    ordered = [
        sorted(group, key=lambda pair: -pair[0]) for _, group in sorted(groups.items(), key=lambda pair: pair[0])
    ]
    if not ordered:
        return Ranking(((),))
    # Only those who would be asked take turns; the rest are for when that fails, the heavier first.
    turning, rest = ordered[0], [item.provider for group in ordered[1:] for _, item in group]
    mine = [item.provider for _, item in turning]
    orders = [(first, *(other for other in mine if other is not first), *rest) for first in mine]
    weights = [(key_of(item.provider), share) for share, item in turning] if len(turning) > 1 else []
    return Ranking(orders, weights, rotation)
