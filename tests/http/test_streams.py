"""Server-sent events: of the bus and of what functions print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import RoleSet, UserAdd, UserRemove
from tests.http.client import Face
from tests.http.tokens import make_token, submit, user_token

pytestmark = pytest.mark.system


class Feed:
    """One stream, read event by event."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._got = b""
        self.head = self._until(b"\r\n\r\n")

    def _until(self, end: bytes) -> bytes:
        while end not in self._got:
            piece = self._connection.recv(65_536)
            assert piece, self._got
            self._got += piece
        found, _, self._got = self._got.partition(end)
        return found

    def over(self) -> bool:
        """Say whether nothing more comes but the end of the chunked body."""
        self._until(b"0\r\n\r\n")
        return not self._got

    def event(self) -> dict[str, str]:
        """Return the next event's fields; comments and the framing of chunks are passed over."""
        while True:
            text = self._until(b"\n\n").decode()
            fields = dict(
                line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(":")
            )
            if "data" in fields:
                return fields


@contextmanager
def feed(face: Face, path: str, token: str = "", **headers: str) -> Iterator[Feed]:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with face.connect() as connection:
        connection.sendall(face.head("GET", path, **headers))
        yield Feed(connection)


def test_events_come_as_they_happen_and_again_after_a_number(face: Face) -> None:
    source = {"source": "def fresh():\n    return 1\n", "name": "t/fresh"}
    with feed(face, "/v1/events?names=deploy.*") as events:
        assert b"200 OK" in events.head
        assert b"text/event-stream" in events.head
        assert face.post("/v1/functions", source).status == 200
        event = events.event()
        assert event["event"] == "deploy.done"
        told = json.loads(event["data"])
        assert (told["fields"]["function"], str(told["sequence"])) == ("t/fresh", event["id"])
    before = told["sequence"] - 1
    with feed(face, "/v1/events?names=deploy.*", Last_Event_ID=str(before)) as events:
        assert json.loads(events.event()["data"]) == told
    remembered = face.get(f"/v1/events/history?names=deploy.*&after={before}").json["events"]
    assert remembered[0] == told
    assert face.get("/v1/events?names=nothing.at.all").status == 400


def test_logs_are_followed(face: Face) -> None:
    with feed(face, "/v1/functions/t/shout/logs?follow=true&tail=0") as lines:
        assert b"text/event-stream" in lines.head
        assert face.post("/v1/call/t/shout", {"args": ["hello"]}).status == 200
        event = lines.event()
        assert event["event"] == "line"
        assert json.loads(event["data"])["text"] == "hello"
    texts = [line["text"] for line in face.get("/v1/functions/t/shout/logs").json["lines"]]
    assert texts[-1] == "hello"
    assert face.get("/v1/functions/t/none/logs").status == 404
    assert face.get("/v1/logs?tail=x").status == 400


def test_the_logs_of_all_show_only_what_the_bearer_may_see(face: Face) -> None:
    face.post("/v1/call/t/shout", {"args": ["secret"]})
    some = make_token(face.home, "log-reader", ["function.logs:t/add"])
    assert face.get("/v1/logs", token=some).json == {"lines": []}
    assert any(line["text"] == "secret" for line in face.get("/v1/logs").json["lines"])


STREAMS = (
    "/v1/events?names=deploy.done",
    "/v1/logs?follow=true&tail=0",
    "/v1/functions/t/shout/logs?follow=true&tail=0",
)
MAY = ("function.logs", "mesh.read")


def problem_of(event: dict[str, str]) -> Any:
    assert event["event"] == "error", event
    return json.loads(event["data"])


@pytest.mark.parametrize("path", STREAMS)
def test_a_revoked_token_ends_its_streams_and_no_others(face: Face, path: str) -> None:
    brief, other = make_token(face.home, f"brief{len(path)}", MAY), make_token(face.home, f"other{len(path)}", MAY)
    with feed(face, path, brief) as ends, feed(face, path, other) as stays:
        mine = next(row for row in face.get("/v1/apitokens").json["tokens"] if row["name"] == f"brief{len(path)}")
        assert face.ask("DELETE", f"/v1/apitokens/{mine['id']}").status == 200
        told = problem_of(ends.event())
        assert (told["status"], told["code"], told["type"]) == (401, "unauthenticated", "urn:osiris:unauthenticated")
        assert told["fix"]
        assert ends.over()
        # The other one lives: what happens still reaches it.
        assert face.post("/v1/call/t/shout", {"args": ["on"]}).status == 200
        source = {"source": f"def on():\n    return {len(path)}\n", "name": "t/on", "version": f"1.0.{len(path)}"}
        assert face.post("/v1/functions", source).status == 200
        assert stays.event()["event"] != "error"


@pytest.mark.parametrize("path", STREAMS[:2])
def test_a_token_that_expires_ends_its_stream(face: Face, path: str) -> None:
    with feed(face, path, make_token(face.home, f"short{len(path)}", MAY, ttl_ms=1500)) as stream:
        assert b"200 OK" in stream.head
        assert problem_of(stream.event())["status"] == 401
        assert stream.over()


def test_a_role_that_loses_the_permission_ends_its_users_streams(face: Face) -> None:
    submit(face.home, RoleSet("watcher", ["function.logs", "mesh.read"]))
    user = KeyPair.generate()
    submit(face.home, UserAdd(user.public, "watcher", "watcher"))
    token = user_token(face.home, user, "watcher", MAY)
    with feed(face, STREAMS[0], token) as events, feed(face, STREAMS[1], token) as lines:
        submit(face.home, RoleSet("watcher", ["function.logs"]))
        told = problem_of(events.event())
        assert (told["status"], told["details"]["permission"]) == (403, "mesh.read")
        submit(face.home, UserRemove(user.public))
        assert problem_of(lines.event())["status"] == 401


def test_a_stream_shows_what_its_bearer_may_see_now(face: Face) -> None:
    tell = {"source": "def tell(text: str):\n    print(text, flush=True)\n", "name": "t/tell"}
    assert face.post("/v1/functions", tell).status == 200
    submit(face.home, RoleSet("reader", ["function.logs:t/shout", "function.logs:t/tell"]))
    user = KeyPair.generate()
    submit(face.home, UserAdd(user.public, "reader", "reader"))
    token = user_token(face.home, user, "reader", ["function.logs:t/shout", "function.logs:t/tell"])
    with feed(face, STREAMS[1], token) as lines:

        def next_after(*calls: tuple[str, str]) -> str:
            for name, text in calls:
                assert face.post(f"/v1/call/t/{name}", {"args": [text]}).status == 200
            text: str = json.loads(lines.event()["data"])["text"]
            return text

        assert next_after(("shout", "one")) == "one"
        submit(face.home, RoleSet("reader", ["function.logs:t/tell"]))
        assert next_after(("shout", "hidden"), ("tell", "two")) == "two"
        submit(face.home, RoleSet("reader", ["function.logs"]))
        assert next_after(("tell", "three")) == "three"
