"""For how long what is believed, under simulated time."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from osiris_mesh.registry.cache import Ask, Cache, Tier, effective_ttl
from osiris_mesh.settings.registry import RegistrySettings

EXACT = RegistrySettings(jitter=1e-9)
INFINITE = float("inf")


def cache(**more: Any) -> Cache[str]:
    return Cache(RegistrySettings(jitter=1e-9, **more), random.Random(1))


def ttl(**more: Any) -> float:
    given = {"tier": Tier.GLOBAL, "scope": Tier.GLOBAL, "ttl": 1e6, "age": 0.0, "valid": INFINITE, **more}
    return effective_ttl(EXACT, rng=random.Random(1), **given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 300),
        ({"ttl": 60}, 60),
        ({"valid": 10}, 10),
        ({"valid": -1}, 0),
        ({"age": 200, "ttl": 250}, 50),
        ({"tier": Tier.REGIONAL, "age": 3500}, 100),
        ({"tier": Tier.REGIONAL, "age": 3601}, 0),
        ({"tier": Tier.GLOBAL, "age": 3601}, 300),
        ({"tier": Tier.GLOBAL, "age": 86_400}, 0),
        ({"tier": Tier.LOCAL, "age": 290}, 10),
        ({"scope": Tier.LOCAL, "age": 290}, 10),
        ({"scope": Tier.REGIONAL, "age": 3590}, 10),
    ],
)
def test_the_effective_time(given: dict[str, Any], seconds: float) -> None:
    assert ttl(**given) == pytest.approx(seconds, rel=1e-6)


@settings(max_examples=100)
@given(
    st.sampled_from(Tier),
    st.sampled_from(Tier),
    st.floats(1, 1e6),
    st.floats(0, 1e6),
    st.floats(-10, 1e6),
    st.integers(),
)
def test_jitter_stays_within_a_tenth_and_never_passes_validity(
    tier: Tier, scope: Tier, seconds: float, age: float, valid: float, seed: int
) -> None:
    given = {"tier": tier, "scope": scope, "ttl": seconds, "age": age, "valid": valid}
    exact = effective_ttl(EXACT, rng=random.Random(seed), **given)
    drawn = effective_ttl(RegistrySettings(), rng=random.Random(seed), **given)
    assert drawn <= max(valid, 0)
    assert drawn <= exact * 1.1 + 1e-3
    assert drawn >= min(exact * 0.9, max(valid, 0)) - 1e-3


def test_a_name_from_absent_to_stale() -> None:
    known = cache()
    assert known.look("f", 0.0).ask is Ask.BEGIN
    assert known.look("f", 0.0).ask is Ask.JOIN
    known.found("f", "v", 0.0, source="r", ttl=100)
    assert known.look("f", 79.0).ask is Ask.NOTHING
    look = known.look("f", 80.1)
    assert (look.ask, look.fresh) == (Ask.AHEAD, True)
    assert known.look("f", 80.2).ask is Ask.NOTHING, "somebody asks already"
    look = known.look("f", 100.1)
    assert (look.ask, look.fresh) == (Ask.JOIN, False)
    assert look.entry is not None
    assert look.entry.value == "v"


def test_a_failure_is_never_not_found_and_takes_nothing_away() -> None:
    known = cache(failure_s=5.0, failure_max_s=300.0)
    known.look("f", 0.0)
    assert known.failed("f", 0.0) == pytest.approx(5.0)
    look = known.look("f", 1.0)
    assert (look.entry, look.ask) == (None, Ask.FAILING)
    assert look.wait == pytest.approx(4.0)
    waits, now = [], 5.1
    for _ in range(8):
        assert known.look("f", now).ask is Ask.BEGIN
        waits.append(known.failed("f", now))
        now += waits[-1] + 0.1
    assert waits == pytest.approx([10, 20, 40, 80, 160, 300, 300, 300])
    known.look("f", now)
    known.found("f", "v", now, source="r", ttl=10)
    assert known.look("f", now + 11).ask is Ask.BEGIN
    assert known.failed("f", now + 11) == pytest.approx(5.0)
    look = known.look("f", now + 12)
    assert (look.ask, look.fresh) == (Ask.FAILING, False)
    assert look.entry is not None


def test_not_found_is_remembered_for_half_a_minute() -> None:
    known = cache()
    known.look("f", 0.0)
    known.missing("f", 0.0, source="")
    look = known.look("f", 29.0)
    assert look.fresh
    assert look.entry is not None
    assert look.entry.value is None
    assert known.look("f", 30.1).ask is Ask.BEGIN


def test_what_is_revoked_is_gone_at_once() -> None:
    known = cache()
    entry = known.found("f", "bad", 0.0, source="r", ttl=100)
    known.found("g", "good", 0.0, source="r", ttl=100)
    assert known.revoke_where(lambda value: value == "bad") == ["f"]
    assert entry.fresh_until < 0, "whoever keeps the entry sees it"
    assert known.look("f", 1.0).entry is None
    assert known.look("g", 1.0).fresh


def test_news_makes_an_answer_stale_and_not_found_forgotten() -> None:
    known = cache()
    known.found("f", "v", 0.0, source="r", ttl=100)
    known.missing("g", 0.0, source="")
    assert known.invalidate("f", 1.0)
    assert known.invalidate("g", 1.0)
    assert not known.invalidate("h", 1.0)
    look = known.look("f", 1.0)
    assert (look.fresh, look.ask) == (False, Ask.BEGIN)
    assert look.entry is not None
    assert known.look("g", 1.0).ask is Ask.BEGIN


def test_what_a_frozen_registry_says_is_stale_from_the_start() -> None:
    known = cache()
    known.found("f", "v", 0.0, source="r", ttl=100, believed=False)
    look = known.look("f", 0.0)
    assert not look.fresh
    assert look.entry is not None


def test_past_its_validity_it_is_not_served_at_all() -> None:
    known = cache()
    known.found("f", "v", 0.0, source="r", ttl=100, valid=10)
    assert known.look("f", 9.9).fresh
    assert known.look("f", 10.1).entry is None


def test_what_is_used_stays_and_what_is_not_goes() -> None:
    known = cache(cached=10)
    for number in range(10):
        known.found(f"f{number}", "v", 0.0, source="r", ttl=100)
    for number in range(5):
        known.look(f"f{number}", 1.0)
    for number in range(5):
        known.found(f"g{number}", "v", 1.0, source="r", ttl=100)
    assert len(known) == 10
    assert all(f"f{number}" in known for number in range(5))


class Life(RuleBasedStateMachine):
    """Any order of questions, answers and news keeps the promises."""

    NAMES = ("a", "b", "c", "d", "e", "f")

    @initialize(seed=st.integers())
    def start(self, seed: int) -> None:
        self.settings = RegistrySettings(cached=4)
        self.cache: Cache[tuple[str, int]] = Cache(self.settings, random.Random(seed))
        self.now = 0.0
        self.number = 0
        self.asking: set[str] = set()
        self.valid: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.gone: set[int] = set()

    @rule(seconds=st.floats(0, 500))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(NAMES))
    def look(self, name: str) -> None:
        look = self.cache.look(name, self.now)
        if look.ask in {Ask.BEGIN, Ask.AHEAD}:
            assert name not in self.asking, "one question at a time"
            self.asking.add(name)
        if look.ask is Ask.JOIN:
            assert name in self.asking
        if look.fresh:
            assert look.entry is not None
            limit = self.settings.local_ttl_s if look.entry.value else self.settings.not_found_s
            assert self.now - self.said[name] <= limit * 1.1
        if look.entry is not None and look.entry.value is not None:
            assert self.now < self.valid[name], "never past its validity"
            assert look.entry.value[1] not in self.gone, "never what is revoked"

    @rule(name=st.sampled_from(NAMES), ttl=st.floats(1, 1e5), valid=st.floats(0.1, 1e5), age=st.floats(0, 1e5))
    def found(self, name: str, ttl: float, valid: float, age: float) -> None:
        self.number += 1
        self.asking.discard(name)
        self.valid[name], self.said[name] = self.now + valid, self.now
        entry = self.cache.found(name, (name, self.number), self.now, source="r", ttl=ttl, valid=valid, age=age)
        assert entry.fresh_until <= self.now + max(ttl - age, 0) * 1.1 + 1e-6

    @rule(name=st.sampled_from(NAMES))
    def missing(self, name: str) -> None:
        self.asking.discard(name)
        self.said[name] = self.now
        self.cache.missing(name, self.now, source="")

    @rule(name=st.sampled_from(NAMES))
    def failed(self, name: str) -> None:
        before = self.cache.peek(name)
        self.asking.discard(name)
        assert 0 < self.cache.failed(name, self.now) <= self.settings.failure_max_s
        assert self.cache.peek(name) is before, "a failure changes no answer"

    @rule(name=st.sampled_from(NAMES))
    def given_up(self, name: str) -> None:
        self.asking.discard(name)
        self.cache.given_up(name)

    @rule(name=st.sampled_from(NAMES))
    def news(self, name: str) -> None:
        if self.cache.invalidate(name, self.now):
            assert not self.cache.look(name, self.now).fresh
            self.asking.add(name) if name not in self.asking and self.cache.asking > len(self.asking) else None

    @precondition(lambda self: self.number > 0)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.number))
        self.gone.add(number)
        self.cache.revoke_where(lambda value: value[1] == number)

    @invariant()
    def bounded(self) -> None:
        assert len(self.cache) <= self.settings.cached
        assert self.cache.asking == len(self.asking)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
