"""Server-sent events: of the bus and of what functions print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.http.client import Face
from tests.http.tokens import make_token

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
def feed(face: Face, path: str, **headers: str) -> Iterator[Feed]:
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
