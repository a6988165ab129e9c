"""Settings of a function as people write them, and webhooks and alert rules out of the settings of a mesh."""

from __future__ import annotations

from dataclasses import fields

import pytest

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway.config_keys import DEFAULT_RULES
from osiris_mesh.gateway.function_keys import FIELDS, default, find, parsed, rows
from osiris_mesh.gateway.hook_views import alert_rows, find_row, webhook_rows
from osiris_mesh.runtime.build import Overrides


def test_they_are_the_limits_a_deployment_may_be_told() -> None:
    assert set(FIELDS) == {field.name for field in fields(Overrides)}
    assert {field.field for field in FIELDS.values()} <= {field.name for field in fields(FunctionSpec)}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("timeout", "1.5s", 1500),
        ("timeout", "10", 10_000),
        ("timeout", "2.5", 2500),
        ("idle", "5m", 300_000),
        ("memory", "256MiB", 256 << 20),
        ("memory", "1048576", 1 << 20),
        ("min", "0", 0),
        ("concurrency", "16", 16),
        ("idempotent", "true", True),
        ("network", "false", False),
    ],
)
def test_a_value_is_read(key: str, text: str, value: int | bool) -> None:
    (read,) = parsed({key: text}).values()
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("timeout", ""),
        ("timeout", "soon"),
        ("timeout", "-1"),
        ("memory", "1.5"),
        ("memory", "much"),
        ("min", "1.0"),
        ("max", "9" * 10),
        ("concurrency", "\u0663"),
        ("idempotent", "yes"),
    ],
)
def test_what_is_no_value_is_told_with_an_example(key: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{key} can't be that") as caught:
        parsed({key: text})
    example = caught.value.fix.removeprefix("for example: ")
    assert parsed({key: example}) == {FIELDS[key].field: default(FIELDS[key])}


def test_without_a_value_it_is_the_default() -> None:
    assert parsed(dict.fromkeys(FIELDS)) == {field.field: default(field) for field in FIELDS.values()}
    with pytest.raises(NotFound, match="colour"):
        find("colour")


def test_rows_say_what_is_set() -> None:
    limits = {field.field: default(field) for field in FIELDS.values()}
    described = {"name": "a/b", "limits": limits | {"timeout_ms": 2500}, "idempotent": False, "network": False}
    found = {row["key"]: row for row in rows(described)}
    assert {key for key, row in found.items() if row["is_set"]} == {"timeout"}
    assert (found["timeout"]["value"], found["timeout"]["default"]) == ("2.5s", "60s")
    with pytest.raises(NotFound, match="no active version"):
        rows({"name": "a/b", "limits": None})


def test_webhooks_and_rules_come_from_the_settings() -> None:
    settings = {
        "webhook.pager.url": "https://hooks.example.org/",
        "webhook.bad.url": "ftp://hooks.example.org/",
        "webhook.bad.events": "node.*",
        "webhook.half.events": "*",
        "alert.slow": "function.mean_ms > 500ms",
        "alert.disk-full": "off",
    }
    assert webhook_rows(settings) == [
        {"name": "bad", "url": "ftp://hooks.example.org/", "events": "node.*", "active": False},
        {"name": "pager", "url": "https://hooks.example.org/", "events": "*", "active": True},
    ]
    assert webhook_rows(settings, whole=False)[-1]["url"] == "https://hooks.example.org/…"
    rules = alert_rows(settings)
    assert {row["name"] for row in rules} == {*DEFAULT_RULES, "slow"}
    assert find_row(rules, "disk-full", "alert rule", "")["active"] is False
    assert find_row(rules, "error-rate", "alert rule", "")["active"] is True
    with pytest.raises(NotFound, match="no webhook is called 'half'"):
        find_row(webhook_rows(settings), "half", "webhook", "GET /v1/webhooks")
