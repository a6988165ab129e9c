"""Who comes first, by which policy; and the way through the others inside a deadline."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.failover import Failover
from osiris_mesh.registry.record import Provider
from osiris_mesh.registry.selection import Rotation, Standings, choose, custom, key_of

CHEAP = Provider("cheap", "https://cheap.test/", cost_micros=10, currency="EUR", response_ms=900)
FAST = Provider("fast", "https://fast.test/", cost_micros=900, currency="EUR", response_ms=5)
SURE = Provider("sure", "https://sure.test/", sla="premium", cost_micros=500, currency="EUR", response_ms=100)
SPARE = Provider("spare", "https://spare.test/", weight=0, response_ms=1)
ALL = [CHEAP, FAST, SURE, SPARE]


def standings() -> Standings:
    return Standings(half_life=60.0, breakers=Breakers(failures=3, pause=5.0, longest=300.0, limit=100), limit=100)


def ids(order: list[Provider]) -> list[str]:
    return [item.id for item in order]


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("lowest-cost", ["cheap", "sure", "fast", "spare"]),
        ("fastest", ["fast", "sure", "cheap", "spare"]),
        ("highest-availability", ["sure", "fast", "cheap", "spare"]),
    ],
)
def test_by_the_record_alone(policy: str, order: list[str]) -> None:
    assert ids(choose(ALL, policy, standings(), random.Random(1), now=0.0)) == order


def test_measurements_outweigh_the_claim_and_are_forgotten() -> None:
    book = standings()
    for _ in range(20):
        assert book.began(FAST, 0.0)
        book.answered(FAST, 2.0, 0.0)
    assert ids(choose(ALL, "fastest", book, random.Random(1), now=0.0))[:3] == ["sure", "cheap", "fast"]
    assert ids(choose(ALL, "fastest", book, random.Random(1), now=3600.0))[0] == "fast"


def test_what_fails_half_the_time_costs_more() -> None:
    book = standings()
    for number in range(20):
        book.began(SURE, number)
        (book.answered(SURE, 0.1, number) if number % 2 else book.failed(SURE, number))
    assert 0.4 < book.availability(SURE, 20.0) < 0.7
    assert ids(choose(ALL, "highest-availability", book, random.Random(1), now=20.0))[0] == "fast"
    assert ids(choose(ALL, "lowest-cost", book, random.Random(1), now=20.0))[1] == "fast"


@pytest.mark.parametrize("policy", ["lowest-cost", "fastest", "highest-availability", "balanced"])
def test_what_its_breaker_leaves_alone_comes_last(policy: str) -> None:
    book = standings()
    for _ in range(3):
        book.began(FAST, 0.0)
        book.failed(FAST, 0.0)
    assert not book.began(FAST, 1.0)
    order = ids(choose(ALL, policy, book, random.Random(1), now=1.0))
    assert order[-1] == "fast"
    assert order[-2] == "spare"


def test_what_a_provider_says_of_itself_holds_as_long_as_it_said() -> None:
    book = standings()
    generation = book.generation
    assert book.said(key_of(FAST), "draining", 10.0)
    assert not book.said(key_of(FAST), "draining", 10.0)
    assert book.generation > generation
    assert ids(choose(ALL, "fastest", book, random.Random(1), now=1.0)) == ["sure", "cheap", "fast", "spare"]
    book.said(key_of(FAST), "down", 10.0)
    assert ids(choose(ALL, "fastest", book, random.Random(1), now=1.0))[-1] == "fast"
    assert ids(choose(ALL, "fastest", book, random.Random(1), now=11.0))[0] == "fast"


def test_others_word_counts_only_until_we_know() -> None:
    book = standings()
    book.believed(key_of(FAST), 0.0, 8.0)
    assert book.availability(FAST, 0.0) == pytest.approx(0.2)
    for _ in range(90):
        book.began(FAST, 0.0)
        book.answered(FAST, 0.001, 0.0)
    assert book.availability(FAST, 0.0) > 0.9


def weighted(weights: list[int]) -> list[Provider]:
    return [Provider(f"p{place}", f"https://p{place}.test/", weight=weight) for place, weight in enumerate(weights)]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_balance_gives_each_its_weight_in_every_round(weights: list[int]) -> None:
    providers, book, rotation, rng = weighted(weights), standings(), Rotation(), random.Random(7)
    rounds = 20
    counts = Counter(
        choose(providers, "balanced", book, rng, now=0.0, rotation=rotation)[0].id for _ in range(sum(weights) * rounds)
    )
    for place, weight in enumerate(weights):
        assert abs(counts[f"p{place}"] - weight * rounds) <= 2


def test_balance_is_smooth() -> None:
    providers, book, rotation = weighted([5, 1, 1]), standings(), Rotation({})
    rotation.current = {key_of(item): 0.0 for item in providers}
    turns = [choose(providers, "balanced", book, random.Random(1), now=0.0, rotation=rotation)[0].id for _ in range(7)]
    assert turns == ["p0", "p0", "p1", "p0", "p2", "p0", "p0"]


def test_callers_do_not_all_begin_with_the_same_one() -> None:
    providers = weighted([1] * 8)
    first = {choose(providers, "balanced", standings(), random.Random(seed), now=0.0)[0].id for seed in range(40)}
    assert len(first) > 4


def test_a_custom_order_gets_all_that_is_known() -> None:
    order = custom(
        ALL, lambda known: [max(known, key=lambda item: item.response_ms).provider.id, "nobody"], standings(), now=0.0
    )
    assert ids(order) == ["cheap", "fast", "sure", "spare"]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="lowest-cost"):
        choose(ALL, "best", standings(), random.Random(1), now=0.0)


@settings(max_examples=40)
@given(
    st.permutations(ALL),
    st.sampled_from(["lowest-cost", "fastest", "highest-availability", "balanced"]),
    st.lists(st.tuples(st.sampled_from(ALL), st.booleans()), max_size=30),
)
def test_nobody_is_lost(order: list[Provider], policy: str, calls: list[tuple[Provider, bool]]) -> None:
    book = standings()
    for at, (provider, good) in enumerate(calls):
        if book.began(provider, at):
            (book.answered(provider, 0.01, at) if good else book.failed(provider, at))
    assert sorted(ids(choose(order, policy, book, random.Random(1), now=30.0))) == sorted(ids(ALL))


# --- failover -------------------------------------------------------------------------------------------------------


def through(count: int, deadline: float, expected_ms: float, *, may_repeat: bool = True) -> Failover:
    return Failover(
        weighted([1] * count), deadline=deadline, expected_ms=lambda _: expected_ms, may_repeat=may_repeat, attempts=5
    )


def test_everyone_gets_a_share_and_the_last_gets_the_rest() -> None:
    plan, now, waits = through(3, 9.0, 1.0), 0.0, []
    while (attempt := plan.next(now)) is not None:
        waits.append(attempt.wait)
        now += attempt.wait
        plan.failed(maybe=True)
    assert waits == [3.0, 3.0, 3.0]


def test_a_slow_one_gets_more_but_never_more_than_half() -> None:
    attempt = through(4, 8.0, 900.0).next(0.0)
    assert attempt is not None
    assert attempt.wait == pytest.approx(3.6)
    attempt = through(4, 8.0, 9000.0).next(0.0)
    assert attempt is not None
    assert attempt.wait == pytest.approx(4.0)


def test_what_may_have_happened_is_repeated_only_if_allowed() -> None:
    plan = through(3, 9.0, 1.0, may_repeat=False)
    assert plan.next(0.0) is not None
    assert plan.failed(maybe=False)
    assert plan.next(0.1) is not None
    assert not plan.failed(maybe=True)
    assert plan.next(0.2) is None


@settings(max_examples=80)
@given(st.integers(0, 8), st.floats(0.001, 60), st.floats(0.1, 1e5), st.lists(st.floats(0, 1), max_size=10))
def test_the_deadline_is_never_passed(count: int, seconds: float, expected: float, used: list[float]) -> None:
    plan, now, tried = through(count, seconds, expected), 0.0, 0
    for share in [*used, *[1.0] * 10]:
        attempt = plan.next(now)
        if attempt is None:
            break
        tried += 1
        assert attempt.number == tried
        assert now + attempt.wait <= seconds + 1e-9
        now += attempt.wait * share
        plan.failed(maybe=False)
    assert tried <= min(count, 5)
