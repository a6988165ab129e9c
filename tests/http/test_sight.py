"""Who is narrowed by patterns learns of no other function, wherever he asks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from osiris_mesh.gateway.http.routes import ROUTES
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import ConfigSet, RoleSet, UserAdd
from tests.http.client import Face
from tests.http.test_streams import feed
from tests.http.tokens import submit, user_token
from tests.system.harness import wait_until

pytestmark = pytest.mark.system

SECRET = "hidden"
GRANTS = ("audit.read", "function.read:open/*", "mesh.read")
ALERT = "function.calls_per_s > 0"


@pytest.fixture(scope="module")
def narrowed(face: Face) -> Iterator[str]:
    """A bearer with patterns, in a mesh where another namespace has been deployed, called and alerted about."""
    for name in ("open/one", f"{SECRET}/two"):
        made = face.post("/v1/functions", {"source": "def f(x=1):\n    return x\n", "name": name})
        assert made.status == 200, made
        assert face.post(f"/v1/call/{name}", {"args": [1]}).status == 200
    submit(face.home, RoleSet("narrow", sorted(GRANTS)), RoleSet("other", [f"function.call:{SECRET}/*"]))
    user = KeyPair.generate()
    submit(face.home, UserAdd(user.public, "narrow", "narrow"), ConfigSet("alert.busy", ALERT))
    yield user_token(face.home, user, "narrow", GRANTS)
    assert face.ask("DELETE", "/v1/config/alert.busy").status == 200


def paths(face: Face) -> list[str]:
    """Every path that is read without naming a function, and every block."""
    found = [route.path for route in ROUTES if route.method == "GET" and "{" not in route.path]
    found = [path for path in found if path not in {"/v1/events", "/v1/logs", "/v1/health", "/v1/openapi.json"}]
    height = face.get("/v1/status").json["height"]
    return [*found, "/v1/ledger/blocks?start=1&limit=1000", *(f"/v1/ledger/blocks/{at}" for at in range(1, height + 1))]


def test_nothing_he_reads_names_another_function(face: Face, narrowed: str) -> None:
    told = 0
    for path in paths(face):
        mine, everything = face.get(path, token=narrowed), face.get(path)
        assert SECRET.encode() not in mine.body, path
        told += SECRET.encode() in everything.body
        if path in {"/v1/functions", "/v1/status", "/v1/events/history", "/v1/ledger/blocks?start=1&limit=1000"}:
            assert SECRET.encode() in everything.body, path
            assert b"open/one" in mine.body, path
    # The same reading by an administrator finds it in many places, so it is there to be found.
    assert told >= 8


def test_what_fires_is_told_of_what_he_sees(face: Face, narrowed: str) -> None:
    def firing(token: str) -> set[str]:
        rows = face.get("/v1/alerts", token=token).json["alerts"]
        return {subject for row in rows for subject in row["firing"] if "/" in subject}

    def both() -> bool:
        for name in ("open/one", f"{SECRET}/two"):
            face.post(f"/v1/call/{name}", {"args": [1]})
        return {"open/one", f"{SECRET}/two"} <= firing("")

    wait_until(both, seconds=30, what="the alert fires for both")
    assert firing(narrowed) == {"open/one"}


def test_one_function_is_as_unknown_as_one_that_is_not(face: Face, narrowed: str) -> None:
    for path in ("/v1/functions/{}", "/v1/resolve/{}", "/v1/functions/{}/logs", "/v1/metrics?name={}"):
        hidden, none = (face.get(path.format(name), token=narrowed) for name in (f"{SECRET}/two", f"{SECRET}/not"))
        assert hidden.status == none.status in {403, 404}, path
        assert hidden.json["detail"].replace("two", "") == none.json["detail"].replace("not", "")
    assert face.get("/v1/metrics?name=open/one", token=narrowed).status == 200


def test_metrics_put_the_others_together(face: Face, narrowed: str) -> None:
    mine = face.get("/metrics", token=narrowed).body.decode()
    assert 'osiris_function_calls_total{function="open/one"}' in mine
    assert 'osiris_function_calls_total{function="other"}' in mine
    only = face.get("/metrics", token=user_of(face, "meter", ["mesh.read"])).body.decode()
    assert "open/one" not in only
    assert 'osiris_function_calls_total{function="other"}' in only


def user_of(face: Face, name: str, grants: list[str]) -> str:
    user = KeyPair.generate()
    submit(face.home, UserAdd(user.public, name, "viewer"))
    return user_token(face.home, user, name, grants)


def test_blocks_can_be_verified_whatever_is_withheld(face: Face, narrowed: str) -> None:
    mine, everything = (
        face.get("/v1/ledger/blocks?start=1&limit=1000", token=token).json["blocks"] for token in (narrowed, "")
    )
    assert len(mine) >= 5
    # The mesh goes on meanwhile: what nodes say of themselves is a block, too.
    for narrow, whole in zip(mine, everything, strict=False):
        assert {key: narrow[key] for key in narrow if key != "entries"} == {
            key: whole[key] for key in whole if key != "entries"
        }
        assert [entry["hash"] for entry in narrow["entries"]] == [entry["hash"] for entry in whole["entries"]]
    withheld = [entry for block in mine for entry in block["entries"] if entry.get("withheld")]
    assert {"function.publish", "function.activate", "role.set"} <= {entry["kind"] for entry in withheld}
    assert not any({"body", "nonce", "signature"} & set(entry) for entry in withheld)


def test_a_stream_of_events_tells_of_what_he_sees(face: Face, narrowed: str) -> None:
    with feed(face, "/v1/events?names=deploy.*", narrowed) as events:
        for name in (f"{SECRET}/three", "open/three"):
            made = face.post("/v1/functions", {"source": "def f():\n    return 3\n", "name": name})
            assert made.status == 200, made
        assert json.loads(events.event()["data"])["fields"]["function"] == "open/three"
