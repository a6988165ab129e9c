"""The replay window against a plain model, and a clock that was set back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.gossip.replay import WINDOW, ReplayWindow


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3 * WINDOW) | st.integers(0, 40), max_size=60))
def test_each_number_counts_once_within_the_window(numbers: list[int]) -> None:
    window, seen = ReplayWindow(), set()
    for number in numbers:
        expected = number not in seen and (not seen or number > max(seen) - WINDOW)
        assert window.fresh(number) == expected
        assert window.accept(number) == expected
        if expected:
            seen.add(number)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4 * WINDOW), st.booleans()), max_size=60))
def test_nothing_counts_twice_in_a_row_whoever_brings_it(numbers: list[tuple[int, bool]]) -> None:
    window = ReplayWindow()
    for number, direct in numbers:
        if window.accept(number, direct=direct):
            assert not window.accept(number)
            assert not window.accept(number, direct=True)


def test_a_clock_set_back() -> None:
    window = ReplayWindow()
    former, latter = 10**12, 10**9
    for number in range(5):
        assert window.accept(former + number)
    assert not window.accept(latter), "a stranger to the origin may be replaying"
    assert window.accept(latter, direct=True)
    assert window.accept(latter + 1), "relayed"
    assert not window.accept(former + 2), "of the former run, replayed"
    assert not window.accept(former + 1000), "of the former run, never seen"
    assert window.accept(former + 1000, direct=True), "the clock was put right"
    assert window.accept(former + 1001)


def test_fresh_changes_nothing() -> None:
    window = ReplayWindow()
    assert all(window.fresh(5) for _ in range(3))
    assert window.accept(5)
