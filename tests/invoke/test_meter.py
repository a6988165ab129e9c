"""What a node remembers of its calls."""

from __future__ import annotations

import pytest

from osiris_mesh.invoke.meter import BOUNDS, Meter, Tally


def test_counts_errors_and_times() -> None:
    meter = Meter(limit=10)
    first, second = meter.begin("a"), meter.begin("a")
    nothing = {"mean_us": 0.0, "p50_us": 0.0, "p99_us": 0.0}
    assert meter.snapshot()["a"] == {"calls": 0, "errors": 0, "in_flight": 2, **nothing}
    meter.end(first, 0.123, ok=True)
    meter.end(second, 0.002, ok=False)
    seen = meter.snapshot()["a"]
    assert (seen["calls"], seen["errors"], seen["in_flight"]) == (2, 1, 0)
    assert seen["mean_us"] == pytest.approx(62_500)


def test_a_function_with_errors_alone_has_times() -> None:
    meter = Meter(limit=10)
    meter.end(meter.begin("a"), 0.004, ok=False)
    seen = meter.snapshot()["a"]
    assert seen["mean_us"] == pytest.approx(4000)
    assert 2500 < seen["p50_us"] < seen["p99_us"] <= 5000


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_lie_in_the_bucket_of_the_call_they_name(share: float) -> None:
    meter = Meter(limit=1)
    times = sorted(0.0003 * 1.13**step for step in range(100))
    for time in times:
        meter.end(meter.begin("a"), time, ok=True)
    seen = meter.tallies["a"].quantile(share)
    named = min(times[max(round(share * 100) - 1, 0)], BOUNDS[-1])
    high = min(bound for bound in BOUNDS if bound >= named)
    assert max((bound for bound in BOUNDS if bound < named), default=0.0) <= seen <= high


def test_quantiles_at_the_ends() -> None:
    tally = Tally()
    assert tally.quantile(0.5) == 0.0
    tally.calls, tally.buckets[-1] = 1, 1
    assert tally.quantile(0.5) == BOUNDS[-1]


def test_forgets_the_one_not_called_for_longest() -> None:
    meter = Meter(limit=2)
    for name in ("a", "b", "a", "c"):
        meter.end(meter.begin(name), 0.001, ok=True)
    assert sorted(meter.snapshot()) == ["a", "c"]
    assert meter.forgotten.calls == 1
