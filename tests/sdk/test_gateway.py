"""Requests, answers and events over HTTP, without I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_sdk.gateway import EventFeed, LogFeed, from_http, plain, read_problem, to_http
from osiris_sdk.sse import EventReader, SentEvent
from osiris_sdk.talk import Exchange

MSGPACK = {"content-type": "application/msgpack"}


def exchange(method: str, body: dict[str, Any] | None = None, **headers: Any) -> Exchange:
    return Exchange(method, pack(body or {}), headers, 30.0, safe=True)


def test_a_call_passes_its_bytes_through() -> None:
    asked = Exchange(
        "call", b"body", {"name": "a.b/c/d@^1.2", "binding": b"\xab" * 16, "idempotent": True}, 5.0, safe=True
    )
    request = to_http(asked, 1.2345)
    assert (request.verb, request.path, request.body) == ("POST", "/v1/call/a.b/c/d@%5E1.2", b"body")
    assert request.headers["Osiris-Timeout-Ms"] == "1234"
    assert request.headers["Osiris-Binding"] == "ab" * 16
    assert request.headers["Osiris-Idempotent"] == "true"
    assert "Osiris-Context" not in request.headers
    asked.headers["context"] = "pure"
    assert to_http(asked, 1.0).headers["Osiris-Context"] == "pure"
    assert "Osiris-Providers" not in request.headers
    asked.headers["providers"] = ["eu", "us"]
    assert to_http(asked, 1.0).headers["Osiris-Providers"] == "eu,us"
    assert from_http(asked, 200, MSGPACK, b"answer") == b"answer"
    asked.headers["details"] = True
    facts = MSGPACK | {"osiris-node": "n", "osiris-version": "1.0.0", "osiris-elapsed-us": "12", "osiris-warm": "true"}
    assert unpack(from_http(asked, 200, facts, b"answer")) == [
        {"node": "n", "version": "1.0.0", "warm": True, "elapsed_us": 12},
        b"answer",
    ]
    with pytest.raises(RemoteProtocolError):
        from_http(asked, 200, {"content-type": "text/html"}, b"<html>")


def test_the_methods_that_are_served() -> None:
    for method, body, expected in (
        ("function.list", {}, ("GET", "/v1/functions")),
        ("function.describe", {"name": "text/logs"}, ("GET", "/v1/functions/text%2Flogs")),
        ("resolve", {"name": "text/tokens@1.0.0"}, ("GET", "/v1/resolve/text/tokens@1.0.0")),
        ("node.status", {}, ("GET", "/v1/status")),
        ("node.drain", {}, ("POST", "/v1/node/drain")),
        ("ledger.log", {"from": 3, "limit": 2}, ("GET", "/v1/ledger/blocks?start=3&limit=2")),
        ("ledger.show", {"height": 3}, ("GET", "/v1/ledger/blocks/3")),
        ("node.metrics", {"name": "a b/c"}, ("GET", "/v1/metrics?name=a+b%2Fc")),
    ):
        request = to_http(exchange(method, body), 1.0)
        assert (request.verb, request.path) == expected
    with pytest.raises(UsageError):
        to_http(exchange("ledger.submit"), 1.0)


def test_a_name_resolves_to_what_a_link_would_have_said() -> None:
    told = {
        "name": "a/b",
        "digest": "00" * 32,
        "binding": "01" * 16,
        "signature": {"text": "def b()"},
        "wire": [[], ""],
    }
    answer = unpack(from_http(exchange("resolve"), 200, {}, json.dumps(told).encode()))
    assert (answer["digest"], answer["binding"], answer["signature"]) == (bytes(32), b"\x01" * 16, [[], ""])
    for broken in (b"[]", b"{}", b"no", json.dumps(told | {"digest": 3}).encode()):
        with pytest.raises(RemoteProtocolError):
            from_http(exchange("resolve"), 200, {}, broken)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("usage", UsageError),
        ("method", UsageError),
        ("too_large", UsageError),
        ("unauthenticated", Denied),
        ("denied", Denied),
        ("not_found", NotFound),
        ("conflict", Conflict),
        ("overloaded", Overloaded),
        ("unavailable", Unavailable),
        ("deadline", DeadlineExceeded),
        ("never heard of", InternalError),
    ],
)
def test_problems_become_errors(code: str, kind: type[OsirisError]) -> None:
    problem = {"code": code, "detail": "what", "fix": "do", "details": {"blob": {"$bytes": "AAE="}}}
    error = read_problem(400, json.dumps(problem))
    assert type(error) is kind
    assert (error.what, error.fix) == ("what", "do")
    assert error.details == ({} if kind is InternalError else {"blob": b"\0\1"})


def test_an_exception_keeps_its_type_message_and_traceback() -> None:
    details = {"type": "ValueError", "message": "no", "traceback": "its own"}
    error = read_problem(422, json.dumps({"code": "function", "detail": "it raised", "details": details}))
    assert isinstance(error, FunctionError)
    assert (error.type, error.message, error.traceback) == ("ValueError", "no", "its own")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Denied), (404, NotFound), (429, Overloaded), (502, Unavailable), (503, Unavailable)]
)
def test_what_a_proxy_answers_is_an_error_too(status: int, kind: type[OsirisError]) -> None:
    assert type(read_problem(status, b"<html>oops</html>")) is kind
    assert type(read_problem(500, b"{}")) is RemoteProtocolError


def test_json_carries_bytes_and_every_float() -> None:
    assert plain({"a": [{"$bytes": "AAE="}, {"$float": "-inf"}], "$bytes": 3}) == {
        "a": [b"\0\1", float("-inf")],
        "$bytes": 3,
    }
    with pytest.raises(ValueError, match=r"base64|padding"):
        plain({"$bytes": "A"})
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        plain(deep)


# --- events ----------------------------------------------------------------------------------------------------------


STREAM = (
    "\ufeff: osiris\n\n"
    "id: 1\nevent: node.lost\ndata: {}\n\n"
    "data: a\r\ndata:b\r\n\r\n"
    "id: 7\rdata: ä\r\r"
    "event: nothing\n\n"
    "data: last\n\n"
    "data: cut"
).encode()
EVENTS = [
    SentEvent("node.lost", "{}", "1"),
    SentEvent("message", "a\nb", "1"),
    SentEvent("message", "ä", "7"),
    SentEvent("message", "last", "7"),
]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80))
@settings(max_examples=80)
def test_events_are_the_same_however_they_are_cut(sizes: list[int]) -> None:
    reader, events, start = EventReader(), [], 0
    for size in [*sizes, len(STREAM)]:
        events += reader.feed(STREAM[start : start + size])
        start += size
    assert events == EVENTS


def test_an_event_has_a_bound() -> None:
    reader = EventReader()
    for _ in range(40):
        reader.feed(b"data: " + b"x" * 100_000 + b"\n")
    with pytest.raises(RemoteProtocolError):
        reader.feed(b"data: " + b"x" * 1_000_000 + b"\n")
    with pytest.raises(RemoteProtocolError):
        EventReader().feed(b"x" * (5 << 20))
    with pytest.raises(RemoteProtocolError):
        EventReader().feed(b"data: \xff\n\n")


def test_a_stream_of_events_goes_on_where_it_was() -> None:
    feed = EventFeed("node.*", None)
    assert feed.path() == "/v1/events?names=node.%2A"
    assert feed.take(SentEvent("node.lost", '{"name": "node.lost", "sequence": 8}', "8")) is not None
    assert feed.path() == "/v1/events?names=node.%2A&after=8"
    with pytest.raises(NotFound):
        feed.take(SentEvent("error", '{"code": "not_found", "detail": "gone"}', ""))
    with pytest.raises(RemoteProtocolError):
        feed.take(SentEvent("node.lost", "[]", ""))


def test_lines_that_come_again_are_passed_over() -> None:
    def line(time_ms: int, text: str) -> SentEvent:
        return SentEvent("message", json.dumps({"time_ms": time_ms, "text": text}), "")

    feed = LogFeed("a/b", 5, 0)
    assert feed.path() == "/v1/functions/a%2Fb/logs?tail=5&since_ms=0&follow=true"
    first = [line(1, "x"), line(2, "y"), line(2, "y"), line(2, "z")]
    assert all(feed.take(event) for event in first)
    assert "since_ms=2&" in feed.path()
    assert [feed.take(event) for event in first[1:]] == [None, None, None]
    assert feed.take(line(2, "y"))  # a third one of the same millisecond is new
    assert feed.take(line(3, "w"))
    assert LogFeed("", 5, 0).path(follow=False) == "/v1/logs?tail=5&since_ms=0&follow=false"
