"""Roles, API tokens, the audit trail, webhooks, alert rules and events: what is asked, signed and shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.identity.api_token import ApiToken
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import (
    ApiTokenCreate,
    ApiTokenRevoke,
    ConfigReset,
    ConfigSet,
    RoleRemove,
    RoleSet,
)
from osiris_mesh_cli.moment import moment
from tests.cli.conftest import Line
from tests.cli.fake import FakeController
from tests.cli.test_controlled import ROLES, accept, signed_by

CUSTOM = {"name": "caller", "grants": ["function.call:math/*"], "builtin": False}


def roles(_body: dict[str, Any]) -> dict[str, Any]:
    return {"roles": [*ROLES, CUSTOM]}


def test_roles(line: Line) -> None:
    with FakeController(Home(line.home), {"role.list": roles, "ledger.submit": accept}) as fake:
        shown = line("role", "list").out
        assert "function.call:math/*" in shown
        assert "audit.read" in shown
        assert line("role", "list", "--json").json["roles"][-1] == CUSTOM
        set_ = line("role", "set", "caller", "-g", "function.read,function.call:math/*", "--json")
        assert set_.json["grants"] == ["function.call:math/*", "function.read"]
        assert line("role", "remove", "caller").code == 0
        assert line("role", "remove", "nobody").code == 3
        for wrong in ((), ("-g", "function.dance"), ("-g", "mesh.read:a/b"), ("-g", "function.call:a")):
            assert line("role", "set", "caller", *wrong).code == 2
        bodies = signed_by(line.home, fake)
    assert bodies == [RoleSet("caller", ["function.call:math/*", "function.read"]), RoleRemove("caller")]


class Tokens:
    """A ledger with two users and API tokens."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tokens: list[dict[str, Any]] = []

    def users(self, _body: dict[str, Any]) -> dict[str, Any]:
        mine = KeyPair.load(Home(self.home).user_key).public
        return {
            "users": [
                {"name": "ada", "role": "developer", "key": mine, "since": 0},
                {"name": "bob", "role": "operator", "key": b"\x02" * 32, "since": 0},
            ]
        }

    def methods(self) -> dict[str, Any]:
        return {
            "user.list": self.users,
            "role.list": roles,
            "apitoken.list": lambda _: {"tokens": self.tokens},
            "ledger.submit": accept,
        }


def token_row(key: bytes, name: str) -> dict[str, Any]:
    row = {"id": key.hex()[:16], "key": key, "name": name, "owner": "ada", "grants": ["mesh.read"]}
    return row | {"expires": 1 << 42, "revoked": False, "since": 3}


def test_an_api_token_is_printed_once_and_only_its_public_half_is_sent(line: Line) -> None:
    ledger = Tokens(line.home)
    with FakeController(Home(line.home), ledger.methods()) as fake:
        made = line("apitoken", "create", "--name", "shop", "--ttl", "1h")
        assert made.code == 0, made.err
        token = ApiToken.parse(made.out.strip())
        (body,) = signed_by(line.home, fake)
        owner = KeyPair.load(Home(line.home).user_key).public
        # Without a word it may what its owner may and changes nothing: of the role's grants, call and read.
        assert body == ApiTokenCreate(
            token.key.public, owner, "shop", ["function.call", "function.read", "mesh.read"], body.expires_ms
        )
        for _, asked in fake.asked:
            assert token.seed not in b"".join(asked.get("entries", []))
        value = line("apitoken", "create", "-g", "function.deploy:math/*", "--user", "ada", "--json").json
        assert value["grants"] == ["function.deploy:math/*"]
        assert value["name"].startswith("token-")
        assert value["id"] == ApiToken.parse(value["token"]).id
        # What the operator of this table holds can't be called or read with.
        assert line("apitoken", "create", "--user", "bob").code == 2
        assert line("apitoken", "create", "--user", "nobody").code == 3
        assert line("apitoken", "create", "--ttl", "0s").code == 2
        assert line("apitoken", "create", "-g", "everything").code == 2


def test_api_tokens_are_listed_revoked_and_inspected(line: Line) -> None:
    ledger = Tokens(line.home)
    token = ApiToken.generate()
    ledger.tokens = [token_row(token.key.public, "shop"), token_row(b"\x00" * 32, "old")]
    with FakeController(Home(line.home), ledger.methods()) as fake:
        assert "shop" in line("apitoken", "list").out
        assert line("apitoken", "list", "--json").json["tokens"][0]["key"] == token.key.public.hex()
        known = line("apitoken", "inspect", token.text(), "--json").json
        assert (known["known"], known["name"], known["grants"]) == (True, "shop", ["mesh.read"])
        assert line("apitoken", "inspect", ApiToken.generate().text(), "--json").json["known"] is False
        assert line("apitoken", "inspect", "osa1no").code == 2
        assert line("apitoken", "revoke", "ffffffffffffffff0").code == 3
        assert line("apitoken", "revoke", token.id).code == 0
        assert signed_by(line.home, fake) == [ApiTokenRevoke(token.key.public)]
        assert all(token.text() not in str(asked) for asked in fake.asked)
    # Without a controller it still says which token it is.
    alone = line("apitoken", "inspect", token.text(), "--json")
    assert (alone.code, alone.json["id"], alone.json["known"]) == (0, token.id, None)


def event(index: int, **more: Any) -> dict[str, Any]:
    value = {
        "time_ms": index,
        "index": index,
        "kind": "config.set",
        "subject": "max_retries",
        "summary": "max_retries = 3",
    }
    return value | {"accepted": True, "reason": "", "who": "ada", "owner": "", "node": "one"} | more


def test_the_audit_trail_is_read_page_by_page_and_shown_newest_last(line: Line) -> None:
    pages = {None: ([event(9), event(8)], 5), 5: ([event(4, accepted=False, reason="no role", owner="bob")], None)}

    def trail(body: dict[str, Any]) -> dict[str, Any]:
        events, following = pages[body.get("before")]
        return {"events": events[: body["limit"]], "next": following}

    with FakeController(Home(line.home), {"audit.list": trail}) as fake:
        value = line(
            "audit", "--user", "ada", "--kind", "config.", "--refused", "--since", "1970-01-02T00:00+00:00", "--json"
        )
        assert value.code == 0, value.err
        assert [item["index"] for item in value.json["events"]] == [4, 8, 9]
        assert value.json["next"] is None
        asked = [body for _, body in fake.asked]
        assert asked[0] == {"user": "ada", "kind": "config.", "refused": True, "since_ms": 86_400_000, "limit": 100}
        assert (asked[1]["before"], asked[1]["limit"]) == (5, 98)
        shown = line("audit").out
        assert "REFUSED: no role" in shown
        assert "ada of bob" in shown
        limited = line("audit", "--limit", "2", "--subject", "max_*")
        assert "--before 5" in limited.err
        assert fake.asked[-1][1] == {"subject": "max_*", "limit": 2}
        assert line("audit", "--since", "yesterday").code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", 1_000_000 - 600_000),
        ("5s", 995_000),
        ("2d", 0),
        ("1970-01-01T00:01:00+00:00", 60_000),
        ("1970-01-01T01:01:00+01:00", 60_000),
    ],
)
def test_moments(text: str, expected: int) -> None:
    assert moment(text, 1_000_000) == expected


def test_a_date_is_of_this_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert moment("1970-01-02", 0) == 22 * 3600 * 1000
    finally:
        monkeypatch.undo()
        time.tzset()


def settings(**values: str) -> Any:
    return lambda _: {"settings": {key.replace("__", "."): value for key, value in values.items()}}


def test_webhooks(line: Line) -> None:
    methods = {
        "ledger.submit": accept,
        "config.list": settings(webhook__pager__url="https://hooks.example.org/a", webhook__bad__url="ftp://x/"),
        "webhook.secret": lambda body: {"secret": f"osw1-{body['name']}", "size": len(body["entry"])},
        "webhook.test": lambda _: {"ok": False, "status": 500, "detail": "answered 500"},
    }
    with FakeController(Home(line.home), methods) as fake:
        added = line("webhook", "add", "pager", "https://hooks.example.org/a", "--events", "node.*")
        assert (added.code, added.out) == (0, "osw1-pager\n")
        assert line("webhook", "add", "pager", "http://hooks.example.org/").code == 2
        assert line("webhook", "add", "pager", "https://hooks.example.org/", "--events", "nothing.*").code == 2
        assert line("webhook", "add", "Pager!", "https://hooks.example.org/").code == 2
        listed = line("webhook", "list", "--json").json["webhooks"]
        assert [(hook["name"], hook["active"]) for hook in listed] == [("bad", False), ("pager", True)]
        assert "NO EFFECT" in line("webhook", "list").out
        assert line("webhook", "test", "pager").code == 1
        assert line("webhook", "test", "none").code == 3
        assert line("webhook", "remove", "none").code == 3
        assert line("webhook", "remove", "pager").code == 0
        assert signed_by(line.home, fake) == [
            ConfigSet("webhook.pager.url", "https://hooks.example.org/a"),
            ConfigSet("webhook.pager.events", "node.*"),
            ConfigReset("webhook.pager.url"),
            ConfigReset("webhook.pager.events"),
        ]


def test_alert_rules(line: Line) -> None:
    methods = {"ledger.submit": accept, "config.list": settings(alert__slow="function.mean_ms > 1s", alert__bad="x")}
    with FakeController(Home(line.home), methods) as fake:
        assert line("alert", "add", "slow", "function.mean_ms > 1s for 5m").code == 0
        wrong = line("alert", "add", "slow", "function.speed > 1s")
        assert wrong.code == 2
        assert "function.mean_ms" in wrong.err
        listed = {item["name"]: item for item in line("alert", "list", "--json").json["alerts"]}
        assert (listed["slow"]["active"], listed["bad"]["active"]) == (True, False)
        assert listed["disk-full"]["builtin"] is True
        assert line("alert", "remove", "slow").code == 0
        assert line("alert", "remove", "disk-full").code == 0
        assert line("alert", "remove", "none").code == 3
        assert signed_by(line.home, fake) == [
            ConfigSet("alert.slow", "function.mean_ms > 1s for 5m"),
            ConfigReset("alert.slow"),
            ConfigSet("alert.disk-full", "off"),
        ]


def test_events(line: Line) -> None:
    items = [
        {"name": "node.lost", "sequence": 1, "time_ms": 0, "fields": {"node": "a b", "peer": "p\x1b[2J"}},
        {"name": "node.back", "sequence": 2, "time_ms": 1, "fields": {"node": "ada", "count": 3}},
    ]
    with FakeController(Home(line.home), {"events.list": lambda _: {"events": items}}) as fake:
        assert line("events", "--json").json == {"events": items}
        assert line("events", "--limit", "1", "--match", "node.*", "--json").json == {"events": items[1:]}
        assert fake.asked[-1][1] == {"names": ["node.*"]}
        shown = line("events").out
    assert 'node.lost node="a b"' in shown
    assert "node.back node=ada count=3" in shown
    assert "\x1b" not in shown
