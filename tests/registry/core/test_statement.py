"""Statements: one form, proven signatures, nothing else read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack
from osiris_mesh.errors import OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import Domain, KeyPair
from osiris_mesh.registry.statement import MAX_LINE, MAX_SIGNATURES, Statement, canonical, make, merge, parse, read

KEYS = [KeyPair(bytes([number]) * 32) for number in range(1, MAX_SIGNATURES + 2)]
PAYLOAD = {"type": "test", "n": 7, "text": "é\u2028\n", "list": [1, True, None, {"a": "b"}]}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=8,
)
payloads = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=5).map(
    lambda value: {**value, "type": "test"}
)


@settings(max_examples=100)
@given(payloads)
def test_a_line_and_the_msgpack_form_round_trip(payload: dict[str, Any]) -> None:
    made = make(payload, KEYS[:2])
    assert read(made.line) == made == Statement.from_wire(made.to_wire())
    assert made.payload == payload
    assert json.loads(made.line)["payload"] == payload
    assert rfc8785.dumps(json.loads(made.line)) == made.line
    assert made.keys == {KEYS[0].public, KEYS[1].public}


def test_any_flipped_bit_is_refused() -> None:
    line = make(PAYLOAD, KEYS[:2]).line
    for place in range(len(line)):
        for bit in range(8):
            bad = bytearray(line)
            bad[place] ^= 1 << bit
            with pytest.raises(RemoteProtocolError):
                read(bytes(bad))


def test_any_flipped_bit_of_the_msgpack_form_is_refused() -> None:
    wire = make(PAYLOAD, KEYS[:2]).to_wire()
    for place in range(len(wire)):
        for bit in range(8):
            bad = bytearray(wire)
            bad[place] ^= 1 << bit
            with pytest.raises(RemoteProtocolError):
                Statement.from_wire(bytes(bad))


@settings(max_examples=100)
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_statement_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)
    with pytest.raises(RemoteProtocolError):
        Statement.from_wire(data)


def _line(payload: Any = PAYLOAD, **changes: Any) -> bytes:
    made = make(PAYLOAD, KEYS[:2])
    whole = json.loads(made.line) | {"payload": payload} | changes
    return rfc8785.dumps(whole)


SIGNATURES = json.loads(make(PAYLOAD, KEYS[:2]).line)["signatures"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        _line(extra=1),
        _line(signatures=[]),
        _line(signatures={}),
        _line(signatures=SIGNATURES[::-1]),
        _line(signatures=[SIGNATURES[0], SIGNATURES[0]]),
        _line(signatures=[SIGNATURES[0] | {"x": 1}]),
        _line(signatures=[{"key": SIGNATURES[0]["key"]}]),
        _line(signatures=[{"key": SIGNATURES[0]["key"].upper(), "signature": SIGNATURES[0]["signature"]}]),
        _line(signatures=[{"key": 1, "signature": 2}]),
        _line(signatures=[{"key": SIGNATURES[0]["key"], "signature": SIGNATURES[1]["signature"]}]),
        _line({"type": 1}),
        _line({"n": 1}),
        _line([]),
        _line({"type": "test", "n": 1.5}),
        make(PAYLOAD, KEYS[:2]).line + b"\n",
        b" " + make(PAYLOAD, KEYS[:2]).line,
        make(PAYLOAD, KEYS[:2]).line.replace(b'"n":7', b'"n":7,"n":7'),
        make(PAYLOAD, KEYS[:2]).line.replace(b'"n":7', b'"n":7.0'),
        make(PAYLOAD, KEYS[:2]).line.replace(b'"n":7', b'"n":9007199254740992'),
        make(PAYLOAD, KEYS[:2]).line.replace(b'"n":7', b'"n":' + b"9" * 400),
        make(PAYLOAD, KEYS[:2]).line.replace("é".encode(), b"\\u00e9"),
        make(PAYLOAD, KEYS[:2]).line.replace("é".encode(), b"\xff"),
        make(PAYLOAD, KEYS[:2]).line.replace("é".encode(), b"\\ud800"),
        b"[" * 60_000,
        b'{"payload":{"type":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b'},"signatures":[]}',
    ],
)
def test_other_forms_are_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(line)


def test_bounds() -> None:
    with pytest.raises(UsageError, match="longer than"):
        make({"type": "test", "text": "x" * MAX_LINE}, KEYS[:1])
    with pytest.raises(RemoteProtocolError, match="longer than"):
        parse(b" " * (MAX_LINE + 1))
    assert len(make(PAYLOAD, KEYS[:MAX_SIGNATURES]).signatures) == MAX_SIGNATURES
    for keys in ([], KEYS[: MAX_SIGNATURES + 1], [KEYS[0], KEYS[0]]):
        with pytest.raises(UsageError):
            make(PAYLOAD, keys)
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    for bad in (1.5, float("nan"), 2**53, b"bytes", {1: 2}, deep, "\ud800"):
        with pytest.raises(UsageError):
            canonical({"type": "test", "x": bad})


def test_a_signature_for_something_else_does_not_count() -> None:
    made = make(PAYLOAD, KEYS[:1])
    other = KEYS[0].sign(Domain.ENTRY, canonical(PAYLOAD)).hex()
    with pytest.raises(RemoteProtocolError, match="wrong"):
        read(made.line.replace(made.signatures[0][1].hex().encode(), other.encode()))


def test_signatures_made_apart_are_merged() -> None:
    apart = [make(PAYLOAD, [key]) for key in KEYS[:3]]
    assert merge(apart) == make(PAYLOAD, KEYS[:3]) == merge([*apart, apart[0]])
    with pytest.raises(UsageError, match="do not say the same"):
        merge([apart[0], make({"type": "test"}, KEYS[:1])])
    with pytest.raises(UsageError):
        merge([])
    with pytest.raises(UsageError, match="signatures"):
        merge([make(PAYLOAD, [key]) for key in KEYS])


def test_msgpack_in_another_order_is_refused() -> None:
    made = make(PAYLOAD, KEYS[:1])
    unordered = dict(sorted(made.payload.items(), reverse=True))
    with pytest.raises(OsirisError):
        Statement.from_wire(pack([unordered, [list(item) for item in made.signatures]]))


def test_a_payload_that_looks_like_an_envelope() -> None:
    made = make({"type": "test", "x": ',"signatures":[]}', "signatures": [{"key": ',"signatures":['}]}, KEYS[:2])
    assert read(made.line) == made
