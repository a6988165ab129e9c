"""Hostile values of every setting: at the face, in the ledger, and on a node that finds them in its chain."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import Denied, UsageError
from osiris_mesh.gateway import config_keys
from osiris_mesh.gateway.config_keys import KEYS
from osiris_mesh.gateway.in_force import Held, InForce
from osiris_mesh.invoke.contexts import Contexts
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.outcome import Refused
from osiris_mesh.ledger.principal import NOBODY
from osiris_mesh.ledger.values import HIGHEST_LEVEL, LEVEL_KEY, refusal, told
from osiris_mesh.link import Audience, Caller
from osiris_mesh.node.hooks import Hooks
from osiris_mesh.registry.context import Level, parse
from osiris_mesh.settings import Settings

NASTY = (
    "",
    " ",
    "\t",
    "-1",
    "+1",
    "0x1",
    "1e9",
    "1_0",
    "00",
    "0000" + "9" * 8,
    "9" * 4096,
    "0" * 4096,
    "٣",
    "²",
    "nan",
    "inf",
    "None",
    "off\x00",
    "\x00",
    "\ud800",
    "*",
    "," * 4096,
    "a," * 2048,
    "." * 4096,
    "*." * 2048,
    "node.*," * 500,
    "https://",
    "https://[",
    "https://[::1",
    "https://[fe80::1%25eth0]/",
    "https://a:99999/",
    "https://a:-1/",
    "https://a:0x50/",
    "https://" + "a" * 4000,
    "https://" + "a." * 1900,
    "https://xn--" + "é" * 100,
    "https://user:pass@a.example/",
    "https://a.example/#f",
    "https://169.254.169.254/",
    "http://127.0.0.1@evil.example/",
    "https://K.example",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "node.cpu > " + "9" * 400,
    "node.cpu > 1" + " " * 4000 + "x",
    " " * 200 + "node.cpu > 1",
    "node.cpu > 90% for 999999h",
    "node.cpu > 9." + "9" * 300,
    "node.cpu >> 1",
    "a" * 64 + " > 1",
    "{0.__class__}",
    "%s%n",
    "$(reboot)",
    "\u202eoff",
    "debug\n",
    "DEBUG",
)


def names() -> list[str]:
    return [key.key.replace("<name>", "ops-1") for key in KEYS]


@pytest.mark.parametrize("key", names())
@pytest.mark.parametrize("value", NASTY, ids=lambda value: ascii(value[:24]))
def test_a_hostile_value_is_read_or_refused_and_nothing_else(key: str, value: str) -> None:
    fits = True
    try:
        config_keys.check(key, value)
    except UsageError:
        fits = False
    in_force = InForce()
    known = config_keys.find(key)
    good, unreadable = in_force.take({key: known.example})
    assert (good, unreadable) == ({key: known.example}, [])
    good, unreadable = in_force.take({key: value})
    if fits:
        assert (good, unreadable) == ({key: value}, [])
    else:
        assert good == ({} if known.closed is None else {key: known.closed})
        assert [(one.key, one.holds) for one in unreadable] == [(key, known.otherwise(key))]
        assert in_force.take({key: value}) == (good, []), "told once"
        assert InForce().take({key: value})[0] == good, "a node that starts with it goes by the same"
    assert in_force.take({}) == ({}, [])


@pytest.mark.parametrize("key", names())
@pytest.mark.parametrize("value", NASTY, ids=lambda value: ascii(value[:24]))
def test_the_ledger_refuses_no_value_a_face_takes(key: str, value: str) -> None:
    # Only what the entry's own rule lets through comes as far as the level's.
    try:
        body = kinds.ConfigSet(key, value)
        kinds.read(body.KIND, body.body())
        config_keys.check(key, value)
    except (UsageError, Refused, UnicodeEncodeError):
        return
    assert refusal(HIGHEST_LEVEL, key, value) == ""


@pytest.mark.parametrize("key", names())
def test_the_ledger_takes_example_and_default_and_not_everything(key: str) -> None:
    known = config_keys.find(key)
    assert refusal(HIGHEST_LEVEL, key, known.example) == ""
    if known.default:
        assert refusal(HIGHEST_LEVEL, key, known.default) == ""
    assert sum(bool(refusal(HIGHEST_LEVEL, key, value)) for value in NASTY) > len(NASTY) // 2, "a key without a rule"
    assert not any(refusal(0, key, value) for value in NASTY), "what older chains hold keeps its meaning"


def test_the_protocol_tells_the_shape_of_every_key() -> None:
    protocol = (Path(__file__).parents[2] / "docs/protocol/ledger.md").read_text("utf-8")
    missing = [key.key for key in KEYS if f"`{key.key.replace('<name>', 'NAME')}`" not in protocol]
    assert missing == [], "a new key is either of a new level, or one that no level knows: say so there"


def test_keys_no_level_knows_take_any_text() -> None:
    assert refusal(HIGHEST_LEVEL, "invoke.future", "anything") == ""
    assert refusal(HIGHEST_LEVEL, LEVEL_KEY, "0")
    assert refusal(HIGHEST_LEVEL, LEVEL_KEY, str(HIGHEST_LEVEL + 1))


@settings(max_examples=150)
@given(st.sampled_from(names()), st.text(max_size=60))
def test_any_text_at_any_key(key: str, value: str) -> None:
    good, unreadable = InForce().take({key: value})
    known = config_keys.find(key)
    assert good == ({key: value} if not unreadable else {} if known.closed is None else {key: known.closed})


def test_what_a_reader_trips_over_is_no_readers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def trips(_text: str) -> Any:
        raise ZeroDivisionError("a defect")

    defect = config_keys.Key("log.level", "level", "", "Breaks.", "x", trips)
    monkeypatch.setattr(config_keys, "KEYS", (defect,))
    good, unreadable = InForce().take({"log.level": "debug"})
    assert good == {}
    assert "ZeroDivisionError" in unreadable[0].why


def test_one_setting_held() -> None:
    held = Held("http.streams_per_bearer", 16)
    assert held.of({}) == 16
    assert held.of({"http.streams_per_bearer": "3"}) == 3
    assert held.of({"http.streams_per_bearer": "many"}) == 16
    assert held.of({"http.streams_per_bearer": "4"}) == 4
    assert held.of({}) == 16


@pytest.mark.parametrize("before", [{}, {"registry.context": "full", "registry.allow_networks": "10.0.0.0/8"}])
@pytest.mark.parametrize("value", ["purr", "controlled, functions=a/*", "10.0.0.0/99", "\x00", ""])
def test_what_limits_allows_least_where_it_cannot_be_read(before: dict[str, str], value: str) -> None:
    context, networks = Held("registry.context", ""), Held("registry.allow_networks", ())
    context.of(before)
    networks.of(before)
    now = {"registry.context": value, "registry.allow_networks": value or "nowhere"}
    assert parse(context.of(now)).level is Level.PURE
    assert networks.of(now) == ()
    assert context.of({}) == ""


class Serves:
    """Nothing is served."""

    def __call__(self, _caller: Any) -> list[str]:
        return []


def test_calls_of_a_mesh_whose_context_cannot_be_read_reach_nothing_global() -> None:
    limit = Held("registry.context", "")
    contexts = Contexts(
        principal=lambda _key: NOBODY, mesh=lambda: str(limit.of({"registry.context": "purr"})), serving=Serves()
    )
    caller = Caller(b"", "", Audience.LOCAL)
    assert contexts.of(caller, {}).level is Level.PURE
    assert contexts.check(caller, {}, "math/add") == "pure"


def test_a_webhook_whose_events_cannot_be_read_gets_none() -> None:
    url = {"webhook.ops.url": "https://a.example/"}
    assert list(config_keys.webhooks(url)) == ["ops"]
    assert config_keys.webhooks(url | {"webhook.ops.events": "no such event"}) == {}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://a.example/b?c#d", "https://a.example/…"),
        ("https://a.example", "https://a.example/…"),
        ("HTTP://127.0.0.1:9000/x", "HTTP://127.0.0.1:9000/…"),
        ("https://u:p@ss@a.example/b", "https://a.example/…"),
        ("https://[::1]:8/b", "https://[::1]:8/…"),
        ("b", "…"),
        ("https://", "…"),
    ],
)
def test_of_a_webhooks_url_scheme_and_host_are_told(value: str, shown: str) -> None:
    assert told("webhook.ops.url", value) == shown
    assert told("webhook.ops.events", value) == value
    (row,) = [row for row in config_keys.listing({"webhook.ops.url": value}, whole=False) if "webhook" in row["key"]]
    assert row["value"] == shown
    assert "@" not in row["problem"]


def test_the_list_says_what_holds() -> None:
    said = {"registry.context": "purr", "max_retries": "many", "alert.error-rate": "x", "webhook.a.url": "y"}
    rows = {row["key"]: row["problem"] for row in config_keys.listing(said)}
    assert rows["registry.context"].endswith("; what holds is pure")
    assert rows["max_retries"].endswith("; what holds is 2")
    assert rows["alert.error-rate"].endswith("; what holds is function.error_rate > 10% for 1m")
    assert rows["webhook.a.url"].endswith("; what holds is none")
    assert rows["log.level"] == ""


class Node:
    """As much of a controller as its hooks ask when settings change."""

    def __init__(self) -> None:
        self.me, self.network_key = "12D3KooWme", bytes(32)
        self.options = SimpleNamespace(name="one")
        self.settings = Settings()
        self.functions = SimpleNamespace(
            invoker=SimpleNamespace(attempts=3, refused=0), on_failed_tests=lambda _told: None
        )
        self.seen: set[bytes] = set()
        self.ledger = SimpleNamespace(
            state=SimpleNamespace(
                mesh_id=bytes(16),
                name="m",
                settings={},
                set_by={},
                first_outcome=lambda entry: 1 if entry in self.seen else None,
            )
        )


def test_a_node_outlives_every_hostile_value_and_says_so() -> None:
    node: Any = Node()
    levels: list[str] = []
    hooks = Hooks(node, FakeClock(), random.Random(1), levels.append)
    hooks._configure({})
    hooks._configure({"max_retries": "7", "log.level": "debug"})
    assert (node.functions.invoker.attempts, levels) == (8, ["debug"])
    for value in NASTY:
        hooks._configure(dict.fromkeys(names(), value))
        assert 1 <= node.functions.invoker.attempts <= 11
    hooks._configure({"max_retries": "many", "log.level": "loud"})
    assert node.functions.invoker.attempts == 3
    assert levels == ["debug", ""]
    told = hooks.bus.history(("setting.unreadable",))
    assert {event.fields["key"] for event in told} == set(names())
    hooks._configure({})
    assert (node.functions.invoker.attempts, levels) == (node.settings.invoke.attempts, ["debug", ""])


def test_a_webhooks_secret_is_shown_once_to_whoever_set_it() -> None:
    node: Any = Node()
    hooks = Hooks(node, FakeClock(), random.Random(1), None)
    first, second = b"1" * 32, b"2" * 32
    for never in (b"", first):
        with pytest.raises(Denied, match="shown once"):
            hooks.webhook_secret("ops", never)
    node.ledger.state.set_by["webhook.ops.url"] = first
    with pytest.raises(Denied):
        hooks.webhook_secret("ops", first)
    node.seen |= {first, second}
    secret = hooks.webhook_secret("ops", first)
    for entry in (first, second):
        with pytest.raises(Denied):
            hooks.webhook_secret("ops", entry)
    node.ledger.state.set_by["webhook.ops.url"] = second
    assert hooks.webhook_secret("ops", second) != secret


def test_a_part_that_fails_does_not_keep_others_from_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    node: Any = Node()
    hooks = Hooks(node, FakeClock(), random.Random(1), None)

    def fails(_settings: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(hooks.webhooks, "configure", fails)
    hooks._configure({"max_retries": "7"})
    assert node.functions.invoker.attempts == 8
