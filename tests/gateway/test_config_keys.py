"""The settings of a mesh: what is known, checked, listed and read."""

from __future__ import annotations

import re

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.config_keys import KEYS, MAX_WEBHOOKS, alert_rules, check, find, listing, read, webhooks
from osiris_mesh.ledger.shapes import SETTING_KEY
from osiris_mesh.settings.invoke import InvokeSettings


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.key)
def test_every_key_can_be_set_to_its_example_and_its_default(key: object) -> None:
    assert isinstance(key, type(KEYS[0]))
    name = key.key.replace("<name>", "ops-1")
    assert SETTING_KEY.holds(name)
    assert find(name) is key
    check(name, key.example)
    if key.default:
        check(name, key.default)
    assert key.means.endswith((".", ")."))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_retries", "-1"),
        ("max_retries", "11"),
        ("max_retries", "٣"),
        ("max_retries", ""),
        ("log.level", "loud"),
        ("http.allowed_origins", "https://a.example/path"),
        ("http.allowed_origins", "*"),
        ("http.allowed_origins", "null"),
        ("http.allowed_origins", "https://u@a.example"),
        ("http.allowed_origins", "https://A.example"),
        ("webhook.ops.url", "http://example.org/"),
        ("webhook.ops.events", "nothing.*"),
        ("webhook.ops.events", ""),
        ("alert.slow", "slow"),
        ("webhook.ops", "x"),
        ("webhook.a.b.url", "https://example.org"),
        ("alert.", "off"),
        ("max_retry", "3"),
    ],
)
def test_what_means_nothing_is_refused_with_advice(key: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(key, value)
    assert caught.value.fix


def test_a_near_miss_is_guessed() -> None:
    with pytest.raises(UsageError, match="did you mean max_retries"):
        find("max_retry")


def test_reading_falls_back_to_the_default() -> None:
    assert read({}, "max_retries") == InvokeSettings().attempts - 1
    assert read({"max_retries": "5"}, "max_retries") == 5
    assert read({"max_retries": "many"}, "max_retries") == 2
    assert read({}, "http.allowed_origins") == ()
    assert read({"http.allowed_origins": "https://a.example, http://localhost:3000"}, "http.allowed_origins") == (
        "https://a.example",
        "http://localhost:3000",
    )
    assert read({}, "webhook.ops.url") is None


def test_listing_shows_set_unset_and_senseless_ones() -> None:
    rows = {row["key"]: row for row in listing({"max_retries": "many", "log.level": "debug", "old.thing": "1"})}
    assert rows["log.level"] | {"means": ""} == {
        "key": "log.level",
        "value": "debug",
        "default": "info",
        "is_set": True,
        "kind": "level",
        "means": "",
        "problem": "",
    }
    assert rows["http.allowed_origins"]["is_set"] is False
    assert "many" in rows["max_retries"]["problem"]
    assert "old.thing" in rows["old.thing"]["problem"]
    assert rows["alert.error-rate"]["value"].startswith("function.error_rate > ")
    assert not any("<" in key for key in rows)
    assert list(rows) == sorted(rows)


def test_webhooks_are_those_with_a_url() -> None:
    found = webhooks(
        {
            "webhook.a.url": "https://a.example/",
            "webhook.a.events": "node.*, quorum.lost",
            "webhook.b.events": "*",
            "webhook.c.url": "http://c.example/",
            "webhook.d.url": "https://d.example/",
        }
    )
    assert {name: hook.patterns for name, hook in found.items()} == {"a": ("node.*", "quorum.lost"), "d": ("*",)}
    assert len(webhooks({f"webhook.w{n}.url": "https://a.example/" for n in range(99)})) == MAX_WEBHOOKS


def test_alert_rules_begin_with_the_built_in_ones() -> None:
    built_in = set(alert_rules({}))
    assert "error-rate" in built_in
    rules = alert_rules({"alert.error-rate": "off", "alert.hot": "node.cpu > 90%", "alert.bad": "hot"})
    assert set(rules) == built_in - {"error-rate"} | {"hot"}
    assert re.fullmatch(r"node\.cpu > 90%", rules["hot"].text)
