"""Calls over HTTP, by the short way and the ordinary one, and what becomes of each error."""

from __future__ import annotations

import base64
import socket
import threading
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack
from osiris_mesh.gateway.http.values import from_json, packed_to_json, to_json
from tests.http.client import Face
from tests.system.harness import wait_until

pytestmark = pytest.mark.system
MSGPACK = {"Content-Type": "application/msgpack"}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_a_value_survives_json(value: Any) -> None:
    import json  # noqa: PLC0415 - an independent reader

    assert json.loads(packed_to_json(pack(value))) == json.loads(json.dumps(to_json(value)))
    if not _looks_like_a_form(value):
        assert from_json(json.loads(json.dumps(to_json(value)))) == value


def _looks_like_a_form(value: Any) -> bool:
    if isinstance(value, dict):
        return "$bytes" in value or "$float" in value or any(map(_looks_like_a_form, value.values()))
    return isinstance(value, list) and any(map(_looks_like_a_form, value))


def test_the_answer_says_who_ran_it(face: Face) -> None:
    face.post("/v1/call/t/add", {"args": [2, 3]})
    answer = face.post("/v1/call/t/add", {"args": [2], "kwargs": {"b": 3}})
    assert (answer.status, answer.json) == (200, 5)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Osiris-Node"].startswith("12D3KooW")
    assert (answer.headers["Osiris-Version"], answer.headers["Osiris-Warm"]) == ("1.0.0", "true")
    assert 0 < int(answer.headers["Osiris-Elapsed-Us"]) < 20_000_000


@pytest.mark.parametrize("value", [None, b"\x00\xff", [1, [2.5, b"x"]], {"a": {"b": b""}}, "ä", 2**63, -1])
def test_msgpack_passes_through_byte_for_byte(face: Face, value: Any) -> None:
    answer = face.post("/v1/call/t/echo", msgpack.packb([[value], {}]), headers=MSGPACK)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/msgpack")
    assert answer.body == msgpack.packb(value)


@pytest.mark.parametrize("origin", [None, "same"])
def test_both_ways_answer_the_same(face: Face, origin: str | None) -> None:
    """A page's request takes the ordinary way, a program's the short one."""
    headers = {} if origin is None else {"Origin": f"http://127.0.0.1:{face.port}"}
    for body, status, found in (
        ({"args": [2, 3]}, 200, 5),
        ({"args": ["x"]}, 400, "usage"),
        ({"args": [1, 2, 3]}, 400, "usage"),
        ({"argv": []}, 400, "usage"),
        ([], 400, "usage"),
    ):
        answer = face.post("/v1/call/t/add", body, headers=headers)
        assert answer.status == status, answer
        assert (answer.json if status == 200 else answer.json["code"]) == found
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_forms_of_bytes_and_floats(face: Face) -> None:
    text = base64.b64encode(b"\x00\x01").decode()
    for value in ({"$bytes": text}, {"$float": "inf"}, {"a": [{"$bytes": text}]}):
        assert face.post("/v1/call/t/echo", {"args": [value]}).json == value
    assert face.post("/v1/call/t/echo", b'{"args":[{"\\u0024bytes":"AAE="}]}').json == {"$bytes": "AAE="}
    assert face.post("/v1/call/t/echo", {"args": [{"$bytes": "!"}]}).status == 400


def test_the_form_of_the_answer_may_be_asked_for(face: Face) -> None:
    assert face.post("/v1/call/t/add", {"args": [1]}, headers={"Accept": "application/msgpack"}).body == b"\x02"
    packed = face.post("/v1/call/t/add", msgpack.packb([[1], {}]), headers=MSGPACK | {"Accept": "application/json"})
    assert packed.body == b"2"


@pytest.mark.parametrize("origin", [False, True])
def test_errors_have_their_statuses(face: Face, origin: bool) -> None:
    headers = {"Origin": f"http://127.0.0.1:{face.port}"} if origin else {}
    failed = face.post("/v1/call/t/fail", {"args": ["no"]}, headers=headers)
    assert (failed.status, failed.headers["Content-Type"]) == (422, "application/problem+json")
    assert failed.json["code"] == "function"
    assert (failed.json["details"]["type"], failed.json["details"]["message"]) == ("ValueError", "no")
    assert face.post("/v1/call/t/none", {}, headers=headers).status == 404
    assert face.post("/v1/call/t/add@9.9.9", {"args": [1]}, headers=headers).status == 404
    assert face.post("/v1/call/-/-", {}, headers=headers).status == 400
    late = face.post("/v1/call/t/slow", {"args": [5]}, headers=headers | {"Osiris-Timeout-Ms": "50"})
    assert (late.status, late.json["code"]) == (504, "deadline")
    for header, value in (
        ("Osiris-Timeout-Ms", "soon"),
        ("Osiris-Binding", "x"),
        ("Osiris-Idempotent", "1"),
        ("Osiris-Context", "everything"),
    ):
        assert face.post("/v1/call/t/add", {"args": [1]}, headers=headers | {header: value}).status == 400
    stale = face.post("/v1/call/t/add", {"args": [1]}, headers=headers | {"Osiris-Binding": "00" * 16})
    assert (stale.status, stale.json["details"]["reason"]) == (409, "binding")
    kept = face.post("/v1/call/t/add", {"args": [1]}, headers=headers | {"Osiris-Context": "full; functions=u/*"})
    assert (kept.status, kept.json["details"]["rule"]) == (403, "functions")


def test_a_packed_body_that_is_none_is_the_callers_fault(face: Face) -> None:
    for body in (b"\xc1", b"", msgpack.packb(1), msgpack.packb([1, 2, 3])):
        answer = face.post("/v1/call/t/add", body, headers=MSGPACK)
        assert 400 <= answer.status < 500, answer


def test_a_deep_body_is_refused(face: Face) -> None:
    for depth in (200, 100_000):
        assert face.post("/v1/call/t/echo", b'{"args":[' + b"[" * depth + b"]" * depth + b"]}").status == 400


def test_requests_in_one_write_are_answered_in_order(face: Face) -> None:
    """Calls go the short way, the status between them the ordinary one."""
    requests = []
    for number in range(20):
        body = b'{"args":[%d]}' % number
        head = face.head("POST", "/v1/call/t/echo", Content_Type="application/json", Content_Length=str(len(body)))
        requests.append(head + body)
        if number % 3 == 0:
            requests.append(face.head("GET", "/v1/whoami"))
    with face.connect() as connection:
        connection.sendall(b"".join(requests) + face.head("GET", "/v1/health", Connection="close"))
        got = b""
        while piece := connection.recv(65_536):
            got += piece
    bodies = [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert len(bodies) == 28
    kept = [body for body in bodies[:-1] if not body.startswith(b"{")]
    assert kept == [b"%d" % number for number in range(20)]
    assert bodies[0] == b"0"
    assert bodies[1].startswith(b'{"peer_id"')


def test_a_body_in_pieces_and_a_client_that_leaves(face: Face) -> None:
    body = b'{"args":[1]}'
    head = face.head("POST", "/v1/call/t/add", Content_Type="application/json", Content_Length=str(len(body)))
    with face.connect() as connection:
        connection.sendall(head + body[:3])
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(body[3:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
    slow = b'{"args":[0.3]}'
    with face.connect() as connection:
        head = face.head("POST", "/v1/call/t/slow", Content_Type="application/json", Content_Length=str(len(slow)))
        connection.sendall(head + slow)
    assert face.post("/v1/call/t/add", {"args": [1]}).json == 2


def test_many_at_once(face: Face) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for _ in range(5):
            answer = face.post("/v1/call/t/add", {"args": [number, number]})
            if answer.status != 200 or answer.json != 2 * number:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_a_map_has_a_result_for_each_item(face: Face) -> None:
    answer = face.post("/v1/map/t/add", {"items": list(range(50)), "concurrency": 8})
    assert [row["result"] for row in answer.json["results"]] == list(range(1, 51))
    mixed = face.post("/v1/map/t/fail", {"items": ["a", "b"]}).json["results"]
    assert [row["error"]["details"]["message"] for row in mixed] == ["a", "b"]
    assert face.post("/v1/map/t/add", {"items": [1, "x"]}).status == 400
    assert face.post("/v1/map/t/add", {"items": [0] * 10_001}).status == 400
    assert face.post("/v1/map/t/add", {"items": []}).json == {"results": []}
    refused = face.post("/v1/map/t/add", {"items": [1]}, headers={"Osiris-Context": "full; functions=u/*"})
    assert refused.json["results"][0]["error"]["code"] == "denied"
    assert face.post("/v1/map/t/add", {"items": [1]}, headers={"Osiris-Context": "everything"}).status == 400


def test_resolve_names_the_binding_a_call_may_carry(face: Face) -> None:
    facts = face.get("/v1/resolve/t/add@1").json
    assert facts["signature"]["text"] == "def add(a: int, b: int = …) -> int"
    answer = face.post("/v1/call/t/add", {"args": [1]}, headers={"Osiris-Binding": facts["binding"]})
    assert answer.json == 2


def test_the_calls_id_is_that_of_its_log_lines(face: Face) -> None:
    ids = []
    for text in ("one of two", "two of two"):
        answer = face.post("/v1/call/t/shout", {"args": [text]})
        assert answer.status == 200
        ids.append((text, answer.headers["Osiris-Call"]))
    assert ids[0][1] != ids[1][1]

    def printed() -> set[tuple[str, str]]:
        return {(line["text"], line["call"]) for line in face.get("/v1/functions/t/shout/logs").json["lines"]}

    wait_until(lambda: set(ids) <= printed(), seconds=10, what="the lines are there, with their calls' ids")
