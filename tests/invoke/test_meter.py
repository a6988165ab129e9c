"""What a node remembers of its calls."""

from __future__ import annotations

import pytest

from osiris_mesh.invoke.meter import Meter


def test_counts_errors_and_means() -> None:
    meter = Meter(weight=0.5, limit=10)
    first, second = meter.begin("a"), meter.begin("a")
    assert meter.snapshot()["a"] == {"calls": 0, "errors": 0, "in_flight": 2, "mean_us": 0.0}
    meter.end(first, 0.001, ok=True)
    meter.end(second, 5.0, ok=False)
    assert meter.snapshot()["a"] == {"calls": 2, "errors": 1, "in_flight": 0, "mean_us": 1000.0}
    meter.end(meter.begin("a"), 0.003, ok=True)
    assert meter.snapshot()["a"]["mean_us"] == pytest.approx(2000.0)


def test_forgets_the_one_not_called_for_longest() -> None:
    meter = Meter(weight=0.1, limit=2)
    for name in ("a", "b", "a", "c"):
        meter.end(meter.begin(name), 0.001, ok=True)
    assert sorted(meter.snapshot()) == ["a", "c"]
