"""Which peer to pull from, and when."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.ledger.pull import PullPlan
from osiris_mesh.settings.ledger import LedgerSettings

SETTINGS = LedgerSettings(retry_first_s=1.0, retry_most_s=8.0, bad_peer_s=300.0)


def plan(**heights: int) -> PullPlan:
    made = PullPlan(SETTINGS)
    for peer, height in heights.items():
        made.heard(peer, height)
    return made


def test_only_peers_that_are_ahead_are_asked() -> None:
    made = plan(a=5, b=9, c=10)
    assert {made.source(9, 0.0, random.Random(seed)) for seed in range(20)} == {"c"}
    assert made.source(10, 0.0, random.Random(1)) is None
    assert made.wake(10, 0.0) is None


def test_load_is_spread_over_those_ahead() -> None:
    made, rng = plan(a=9, b=9, c=9, d=1), random.Random(1)
    counts = Counter(made.source(5, 0.0, rng) for _ in range(300))
    assert set(counts) == {"a", "b", "c"}
    assert min(counts.values()) > 60


def test_a_peer_that_fails_rests_longer_each_time_up_to_a_bound() -> None:
    made = plan(a=9)
    now, pauses = 0.0, []
    for _ in range(6):
        made.failed("a", now)
        pause = made.wake(1, now)
        assert pause is not None
        assert made.source(1, now + pause - 0.01, random.Random(1)) is None
        pauses.append(pause)
        now += pause
        assert made.source(1, now, random.Random(1)) == "a"
    assert pauses == [1, 2, 4, 8, 8, 8]
    made.served("a")
    made.failed("a", now)
    assert made.wake(1, now) == 1


def test_a_peer_that_sent_a_bad_block_rests_long() -> None:
    made = plan(a=9, b=9)
    made.bad("a", 0.0)
    assert {made.source(1, 299.0, random.Random(seed)) for seed in range(20)} == {"b"}
    assert made.ready(["a", "b", "new"], 299.0) == ["b", "new"]
    assert made.ready(["a", "b", "new"], 300.0) == ["a", "b", "new"]


def test_peers_that_are_gone_are_forgotten() -> None:
    made = plan(a=9, b=9)
    made.keep(["b"])
    assert {made.source(1, 0.0, random.Random(seed)) for seed in range(20)} == {"b"}


@pytest.mark.parametrize(
    "change", [{"followers": 0}, {"retry_most_s": 0.1}, {"pull_bytes": 1 << 20}, {"apply_slice_s": 0}]
)
def test_settings_that_contradict_themselves_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="ledger"):
        LedgerSettings(**change)  # type: ignore[arg-type]
