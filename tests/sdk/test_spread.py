"""Which address is asked next."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_sdk.patience import TROUBLE_S, Patience
from osiris_sdk.spread import Spread


def asked(spread: Spread, now: float, seconds: dict[int, float], count: int) -> list[int]:
    """Ask so many times, each answered before the next; return how often each address was asked first."""
    times = [0] * len(seconds)
    for number in range(count):
        place = spread.order(now + number * 0.001)[0]
        times[place] += 1
        spread.began(place)
        spread.ended(place, seconds[place], now + number * 0.001)
    return times


def test_every_address_is_measured_and_the_fastest_gets_most() -> None:
    times = asked(Spread(3, random.Random(1)), 0.0, {0: 0.1, 1: 0.001, 2: 0.1}, 300)
    assert all(times)
    assert times[1] > 150


def test_load_moves_to_the_address_with_less_under_way() -> None:
    spread = Spread(2, random.Random(1))
    asked(spread, 0.0, {0: 0.01, 1: 0.01}, 10)
    for _ in range(6):
        spread.began(0)
    assert [spread.order(0.02)[0] for _ in range(20)] == [1] * 20


def test_what_failed_rests_longer_each_time_and_comes_back() -> None:
    spread = Spread(2, random.Random(1))
    now = 0.0

    def other_answers() -> None:
        spread.began(1)
        spread.ended(1, 0.001, now)

    for rest in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        spread.began(0)
        spread.failed(0, now)
        assert spread.order(now + rest - 0.01) == [1, 0]
        now += rest
        other_answers()
        assert spread.order(now) == [0, 1]  # never measured, so it is tried
    spread.began(0)
    spread.ended(0, 0.1, now)
    spread.began(0)
    spread.failed(0, now)
    assert spread.order(now + 0.49) == [1, 0]
    now += 40.0
    other_answers()
    assert spread.order(now) == [0, 1]  # one answer, and it counts from the beginning again


def test_when_all_rest_the_soonest_back_is_tried() -> None:
    spread = Spread(3, random.Random(1))
    for place, now in ((2, 0.0), (0, 0.1), (1, 0.2)):
        spread.began(place)
        spread.failed(place, now)
    assert spread.order(0.3) == [2, 0, 1]


def test_spare_addresses_step_in() -> None:
    spread = Spread(5, random.Random(1), width=2)
    assert {spread.order(0.0)[0] for _ in range(50)} == {0, 1}
    spread.began(0)
    spread.failed(0, 0.0)
    assert {spread.order(0.1)[0] for _ in range(50)} == {1, 2}


def test_a_slow_moment_is_forgotten() -> None:
    spread = Spread(2, random.Random(1))
    asked(spread, 0.0, {0: 5.0, 1: 0.001}, 20)
    assert spread.order(1.0)[0] == 1
    spread.began(1)
    spread.ended(1, 0.001, 40.0)
    assert spread.order(40.1)[0] == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["ended", "failed", "gave_up"])), max_size=60))
@settings(max_examples=60)
def test_every_address_is_always_in_the_order_once(steps: list[tuple[int, str]]) -> None:
    spread = Spread(5, random.Random(1))
    for number, (place, what) in enumerate(steps):
        now = number * 0.3
        spread.began(place)
        if what == "ended":
            spread.ended(place, 0.1, now)
        elif what == "failed":
            spread.failed(place, now)
        else:
            spread.gave_up(place)
        assert sorted(spread.order(now)) == [0, 1, 2, 3, 4]


def test_patience_ends_and_begins_anew() -> None:
    patience = Patience()
    assert patience.lost(0.0) is None  # it never was
    patience.heard()
    waits = [patience.lost(1.0) for _ in range(8)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert patience.lost(1.0 + TROUBLE_S + 0.1) is None
    patience.heard()
    assert patience.lost(100.0) == 0.1
