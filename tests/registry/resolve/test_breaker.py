"""A circuit opens, tries again, and closes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.registry.breaker import Breaker, Breakers, State


def test_its_life() -> None:
    circuit = Breaker(3, 5.0, 300.0)
    for now in (0.0, 1.0):
        assert circuit.trying(now)
        assert not circuit.failed(now)
    assert circuit.failed(2.0)
    assert circuit.state(2.0) is State.OPEN
    assert not circuit.trying(6.9)
    assert circuit.until(6.0) == 1.0
    assert circuit.state(7.0) is State.HALF_OPEN
    assert circuit.trying(7.0)
    assert not circuit.trying(7.0), "half-open lets one through"
    assert circuit.failed(7.5)
    assert not circuit.trying(17.4), "the pause doubled"
    assert circuit.trying(17.5)
    assert circuit.succeeded()
    assert circuit.state(17.5) is State.CLOSED
    assert not circuit.failed(18.0)


def test_a_success_in_between_starts_the_count_anew() -> None:
    circuit = Breaker(2, 5.0, 300.0)
    circuit.failed(0.0)
    assert not circuit.succeeded()
    assert not circuit.failed(1.0)
    assert circuit.failed(2.0)


def test_many_tries_that_fail_at_once_open_it_once() -> None:
    circuit = Breaker(1, 5.0, 300.0)
    assert circuit.failed(0.0)
    assert not any(circuit.failed(0.1) for _ in range(20))
    assert circuit.trying(5.0)


def test_a_try_nobody_hears_of_again_is_followed_by_another() -> None:
    circuit = Breaker(1, 5.0, 300.0)
    circuit.failed(0.0)
    assert circuit.trying(5.0)
    assert not circuit.trying(9.0)
    assert circuit.trying(10.0)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60))
def test_the_pause_is_never_longer_than_the_longest_and_never_shrinks(gaps: list[float]) -> None:
    circuit = Breaker(1, 5.0, 300.0)
    now, last = 0.0, 0.0
    for gap in gaps:
        now += gap
        if circuit.trying(now) and circuit.failed(now):
            pause = circuit.until(now)
            assert last <= pause + 1e-6
            assert pause <= 300.0 + 1e-6
            last = pause


def test_many_are_bounded_and_the_oldest_is_forgotten() -> None:
    many: Breakers[int] = Breakers(failures=1, pause=5.0, longest=300.0, limit=10)
    for key in range(50):
        many.failed(key, 0.0)
    assert len(many) == 10
    assert many.trying(0, 1.0)
    assert not many.trying(49, 1.0)
    assert many.succeeded(49)
    assert many.trying(49, 1.0)
