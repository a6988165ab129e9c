"""Rates of the last minute, and the figures rules look at."""

from __future__ import annotations

import pytest

from osiris_mesh.gateway.alerts import FIGURES
from osiris_mesh.gateway.readings import Demand, Rates, Readings, figures
from osiris_mesh.gossip.load import Load
from osiris_mesh.invoke.meter import Tally


def tally(calls: int, errors: int = 0, seconds: float = 0.0) -> Tally:
    made = Tally()
    made.calls, made.errors, made.seconds = calls, errors, seconds
    return made


def test_rates_over_the_last_minute() -> None:
    rates = Rates()
    assert rates.look({"f": tally(100, 100)}, 0) == {
        "function.error_rate": {},
        "function.calls_per_s": {},
        "function.mean_ms": {},
    }
    for now in range(5, 65, 5):
        seen = rates.look({"f": tally(100 + now, 100 + now // 5, 0.1 * now)}, now)
    assert seen["function.calls_per_s"]["f"] == pytest.approx(1.0)
    assert seen["function.error_rate"]["f"] == pytest.approx(0.2)
    assert seen["function.mean_ms"]["f"] == pytest.approx(100.0)
    # A minute later without a call nothing is left to say.
    last = tally(160, 112, 6.0)
    for now in range(65, 130, 5):
        seen = rates.look({"f": last}, now)
    assert seen == {"function.error_rate": {}, "function.calls_per_s": {}, "function.mean_ms": {}}


def test_few_calls_have_no_error_rate() -> None:
    rates = Rates()
    rates.look({}, 0)
    seen = rates.look({"few": tally(4, 4, 0.4), "more": tally(5, 5, 1.0)}, 5)
    assert seen["function.error_rate"] == {"more": 1.0}
    assert seen["function.mean_ms"] == pytest.approx({"few": 100.0, "more": 200.0})


def test_a_function_the_meter_counts_anew() -> None:
    rates = Rates()
    rates.look({"f": tally(1000, 900)}, 0)
    assert rates.look({"f": tally(10, 1)}, 5)["function.error_rate"]["f"] == pytest.approx(0.1)


def test_every_figure_has_a_value_somewhere() -> None:
    rates = Rates()
    rates.look({}, 0)
    seen = rates.look({"a/b": tally(10, 1, 0.9)}, 10)
    readings = Readings(
        "p",
        "n",
        "v",
        demand={"a/b": Demand(queued=7)},
        members={"dead": 2},
        lag=3,
        load=Load(0.5, 25, 100, 12345),
    )
    values = figures(readings, seen)
    assert values.keys() == FIGURES.keys()
    assert all(values.values())
    assert values["queue.depth"] == {"a/b": 7}
    assert (values["node.memory"][""], values["node.disk_free"][""]) == (0.25, 12345)
    assert (values["members.dead"][""], values["ledger.lag"][""]) == (2, 3)
    for name, figure in FIGURES.items():
        assert (set(values[name]) == {""}) is (figure.subject == "node")
