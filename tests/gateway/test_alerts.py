"""Alert rules: their grammar, and when they fire and resolve, in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.alerts import FIGURES, Alerts, Fired, Resolved, Rule


@pytest.mark.parametrize(
    ("text", "figure", "op", "limit", "seconds"),
    [
        ("function.error_rate > 0.05 for 1m", "function.error_rate", ">", 0.05, 60),
        ("function.error_rate>5%", "function.error_rate", ">", 0.05, 0),
        ("  node.disk_free  <  1.5GiB  for 30s ", "node.disk_free", "<", 1.5 * 2**30, 30),
        ("function.mean_ms >= 2s for 2h", "function.mean_ms", ">=", 2000, 7200),
        ("members.dead >= 1", "members.dead", ">=", 1, 0),
        ("node.cpu <= 90% for 500ms", "node.cpu", "<=", 0.9, 0.5),
    ],
)
def test_rules(text: str, figure: str, op: str, limit: float, seconds: float) -> None:
    rule = Rule.parse(text)
    assert (rule.figure, rule.op) == (figure, op)
    assert rule.limit == pytest.approx(limit)
    assert rule.seconds == pytest.approx(seconds)
    assert Rule.parse(rule.text).limit == rule.limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node.cpu",
        "node.cpu > ",
        "node.cpu > high",
        "node.cpu == 1",
        "node.cpu > -1",
        "node.cpu > 1 for",
        "node.cpu > 1 for 1",
        "node.cpu > 1 for 25h",
        "node.cpu > 5GiB",
        "node.disk_free < 5%",
        "node.heat > 1",
        "node.cpu > 1 for 1m for 1m",
        "node.cpu > 1e9",
        "node.cpu > " + "1" * 400,
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Rule.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        assert Rule.parse(text).figure in FIGURES
    except UsageError:
        pass


def played(rule: str, values: list[float | None], every: float = 5.0) -> list[tuple[float, str]]:
    """Show one subject's values one after another; return what happened when."""
    alerts, happened = Alerts(), []
    parsed = Rule.parse(rule)
    alerts.set_rules({"a": parsed}, 0.0)
    for number, value in enumerate(values):
        seen = {parsed.figure: {} if value is None else {"f": value}}
        happened += [
            (number * every, "fired" if isinstance(one, Fired) else "resolved")
            for one in alerts.look(seen, number * every)
        ]
    return happened


def test_fires_once_it_has_held_for_its_time() -> None:
    assert played("node.cpu > 0.5 for 10s", [0.6, 0.6, 0.6, 0.6]) == [(10, "fired")]


def test_an_interruption_begins_the_time_anew() -> None:
    assert played("node.cpu > 0.5 for 10s", [0.6, 0.6, 0.4, 0.6, 0.6, 0.6]) == [(25, "fired")]


def test_without_a_time_it_fires_at_once() -> None:
    assert played("node.cpu > 0.5", [0.5, 0.51]) == [(5, "fired")]


def test_a_value_that_trembles_about_the_limit_fires_once() -> None:
    assert played("node.cpu > 0.5", [0.51, 0.49, 0.51, 0.46, 0.52, 0.49]) == [(0, "fired")]


def test_resolves_once_clear_for_its_time() -> None:
    values = [0.6, 0.6, 0.6, 0.44, 0.48, 0.44, 0.44, 0.44]
    assert played("node.cpu > 0.5 for 10s", values) == [(10, "fired"), (35, "resolved")]


def test_resolves_after_a_minute_at_most() -> None:
    happened = played("node.cpu > 0.5 for 10m", [0.6] * 121 + [0.1] * 20)
    assert happened == [(600, "fired"), (665, "resolved")]


def test_below_is_mirrored() -> None:
    assert played("node.disk_free < 1000", [900, 1050, 990, 1100]) == [(0, "fired"), (15, "resolved")]


def test_zero_as_a_limit_resolves() -> None:
    assert played("members.dead > 0", [0, 1, 1, 0]) == [(5, "fired"), (15, "resolved")]


def test_no_value_is_quiet_and_clear() -> None:
    assert played("function.error_rate > 5% for 10s", [0.5, None, 0.5, 0.5, 0.5, None, None, None]) == [
        (20, "fired"),
        (35, "resolved"),
    ]


def test_subjects_stand_apart() -> None:
    alerts = Alerts()
    alerts.set_rules({"a": Rule.parse("queue.depth > 10")}, 0)
    fired = alerts.look({"queue.depth": {"x/a": 20, "x/b": 1}}, 1)
    assert [(one.alert, one.subject) for one in fired] == [("a", "x/a")]
    assert isinstance(fired[0], Fired)
    assert fired[0].value == 20
    assert [one.subject for one in alerts.look({"queue.depth": {"x/a": 20, "x/b": 11}}, 6)] == ["x/b"]
    assert alerts.firing() == [("a", "x/a"), ("a", "x/b")]


def test_a_rule_that_goes_or_changes_resolves_what_it_fired() -> None:
    alerts = Alerts()
    first = {"a": Rule.parse("node.cpu > 0.5"), "b": Rule.parse("node.memory > 0.5")}
    alerts.set_rules(first, 0)
    assert len(alerts.look({"node.cpu": {"": 1.0}, "node.memory": {"": 1.0}}, 1)) == 2
    assert alerts.set_rules(first, 2) == []
    resolved = alerts.set_rules({"b": Rule.parse("node.memory > 0.6")}, 4)
    assert [(one.alert, one.seconds) for one in resolved if isinstance(one, Resolved)] == [("a", 3), ("b", 3)]
    assert alerts.firing() == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=60), st.sampled_from([0, 5, 20]))
def test_firing_and_resolving_alternate(values: list[float | None], seconds: int) -> None:
    happened = [what for _, what in played(f"node.cpu > 0.5 for {seconds}s", values)]
    assert happened == (["fired", "resolved"] * len(happened))[: len(happened)]
