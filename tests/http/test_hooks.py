"""Webhooks, alert rules and settings of functions over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http.client import Face
from tests.http.tokens import make_token

pytestmark = pytest.mark.system


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes deliveries."""

    heard: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        self.heard.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def heard() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    kind = type("OneHook", (Hook,), {"heard": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", kind.heard  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhooks_whole_url_is_for_who_may_set_it(face: Face) -> None:
    url = "https://hooks.example.org/services/T0/secret-path?key=secret"
    height = face.ask("PUT", "/v1/webhooks/chat", {"url": url}).json["height"]
    places = ("/v1/webhooks", "/v1/config", "/v1/config/webhook.chat.url", f"/v1/ledger/blocks/{height}")
    operator, viewer = face.tokens["operator"], face.tokens["viewer"]
    try:
        for place in places:
            assert "secret-path" in face.get(place, token=operator).body.decode(), place
            seen = face.get(place, token=viewer)
            assert seen.status == 200, place
            assert "secret" not in seen.body.decode(), place
        assert "https://hooks.example.org/…" in face.get("/v1/webhooks", token=viewer).body.decode()
        for place in (f"/v1/ledger/blocks?start={height}&limit=1", "/v1/audit"):
            assert "secret-path" not in face.get(place, token=operator).body.decode(), place
            assert "hooks.example.org" in face.get(place, token=operator).body.decode(), place
    finally:
        assert face.ask("DELETE", "/v1/webhooks/chat").status == 200


def test_a_webhook_is_made_tested_and_removed(face: Face, heard: tuple[str, Any]) -> None:
    url, deliveries = heard
    made = face.ask("PUT", "/v1/webhooks/pager", {"url": url, "events": "node.lost"})
    assert made.status == 200, made
    assert made.json.items() >= {"name": "pager", "url": url, "events": "node.lost"}.items()
    (row,) = face.get("/v1/webhooks").json["webhooks"]
    assert row == {"name": "pager", "url": url, "events": "node.lost", "active": True}
    assert made.json["secret"] not in face.get("/v1/webhooks").body.decode()
    tested = face.post("/v1/webhooks/pager/test")
    assert (tested.status, tested.json["ok"], tested.json["status"]) == (200, True, 204)
    ((headers, body),) = deliveries
    signed = f"{headers['Osiris-Timestamp']}.".encode() + body
    mark = hmac.new(made.json["secret"].encode(), signed, hashlib.sha256).hexdigest()
    assert headers["Osiris-Signature"] == f"v1={mark}"
    again = face.ask("PUT", "/v1/webhooks/pager", {"url": url, "events": "node.lost"})
    assert again.status == 200
    assert again.json["secret"] != made.json["secret"], "set anew, it has a new secret"
    assert face.post("/v1/webhooks/pager/test").json["ok"]
    headers, body = deliveries[1]
    signed = f"{headers['Osiris-Timestamp']}.".encode() + body
    mark = hmac.new(again.json["secret"].encode(), signed, hashlib.sha256).hexdigest()
    assert headers["Osiris-Signature"] == f"v1={mark}"
    assert face.ask("DELETE", "/v1/webhooks/pager").status == 200
    assert face.get("/v1/webhooks").json == {"webhooks": []}
    assert face.post("/v1/webhooks/pager/test").status == 404
    assert face.ask("DELETE", "/v1/webhooks/pager").status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/webhooks/pager", {"url": "http://elsewhere.example/"}),
        ("/v1/webhooks/pager", {"url": "https://a.example/", "events": "nonsense.*.x"}),
        ("/v1/webhooks/No%20Name", {"url": "https://a.example/"}),
        ("/v1/alerts/slow", {"rule": "function.nothing > 1"}),
        ("/v1/alerts/No%20Name", {"rule": "node.cpu > 1"}),
    ],
)
def test_what_is_no_setting_changes_nothing(face: Face, path: str, body: dict[str, str]) -> None:
    before = face.get("/v1/config").body
    assert face.ask("PUT", path, body).status == 400
    assert face.get("/v1/config").body == before


def test_alert_rules_are_added_changed_and_switched_off(face: Face) -> None:
    def rules() -> dict[str, Any]:
        return {row["name"]: row for row in face.get("/v1/alerts").json["alerts"]}

    before = rules()
    assert before["disk-full"].items() >= {"builtin": True, "active": True}.items()
    assert face.ask("PUT", "/v1/alerts/slow", {"rule": "function.mean_ms > 500ms for 5m"}).status == 200
    assert rules()["slow"] == {
        "name": "slow",
        "rule": "function.mean_ms > 500ms for 5m",
        "builtin": False,
        "active": True,
        "firing": [],
    }
    assert face.ask("DELETE", "/v1/alerts/slow").status == 200
    assert face.ask("DELETE", "/v1/alerts/slow").status == 404
    assert face.ask("DELETE", "/v1/alerts/disk-full").status == 200
    assert rules()["disk-full"]["active"] is False
    assert face.ask("DELETE", "/v1/config/alert.disk-full").status == 200
    assert rules() == before


def test_settings_of_a_function_are_a_version_with_the_same_code(face: Face) -> None:
    made = face.post("/v1/functions", {"source": "def set_up():\n    return 1\n", "name": "h/set_up"})
    assert made.status == 200, made

    def settings() -> dict[str, str]:
        answer = face.get("/v1/functions/h/set_up/config").json
        assert answer["name"] == "h/set_up"
        return {row["key"]: row["value"] for row in answer["settings"]}

    before = settings()
    changed = face.ask("PATCH", "/v1/functions/h/set_up/config", {"timeout": "2s", "idempotent": "true"})
    assert (changed.status, changed.json["version"], changed.json["changed"]) == (200, "1.0.1", True)
    assert settings() == before | {"timeout": "2s", "idempotent": "true"}
    assert face.post("/v1/call/h/set_up", {}).json == 1
    one = face.ask("PATCH", "/v1/functions/h/set_up/config", {"timeout": None})
    assert (one.status, settings()) == (200, before | {"idempotent": "true"})
    assert face.ask("DELETE", "/v1/functions/h/set_up/config").status == 200
    assert settings() == before
    for wrong in ({}, {"timeout": "soon"}, {"colour": "red"}, {"memory": "1"}):
        assert face.ask("PATCH", "/v1/functions/h/set_up/config", wrong).status == 400, wrong
    assert face.ask("PATCH", "/v1/functions/h/nothing/config", {"timeout": "2s"}).status == 404
    some = make_token(face.home, "settings", ["function.deploy:e/*", "function.read"])
    assert face.ask("PATCH", "/v1/functions/h/set_up/config", {"timeout": "2s"}, token=some).status == 403


def test_the_overview_has_this_node_and_the_functions(face: Face) -> None:
    seen = face.get("/v1/overview").json
    assert [row["peer_id"] for row in seen["nodes"]] == [seen["peer_id"]]
    assert "t/add" in {row["name"] for row in seen["functions"]}
