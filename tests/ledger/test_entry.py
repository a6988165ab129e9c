"""The bytes of an entry: one form each, and everything else refused."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.clock import FakeClock
from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import Domain
from osiris_mesh.ledger.entry import MAX_ENTRY, Entry, entry_hash
from tests.ledger.kit import ADMIN, MESH, STRANGER

CLOCK = FakeClock()
GOOD = [1, MESH, "config.set", ADMIN.public, 1_700_000_000_000, bytes(16), ["a", "b"]]


def signed(payload: bytes) -> bytes:
    return pack([payload, ADMIN.sign(Domain.ENTRY, payload)])


def with_field(at: int, value: Any) -> bytes:
    return signed(pack([*GOOD[:at], value, *GOOD[at + 1 :]]))


bodies = st.recursive(
    st.one_of(st.integers(0, 1 << 53), st.binary(max_size=40), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(bodies, max_size=6).filter(lambda body: _depth(body) <= 5), st.binary(min_size=16, max_size=16))
def test_what_was_made_is_read_back_and_has_one_form(body: list[Any], nonce: bytes) -> None:
    made = Entry.make("config.set", body, ADMIN, MESH, CLOCK, nonce=nonce)
    read = Entry.parse(made.bytes)
    assert read == made
    assert (read.body, read.nonce, read.author, read.time_ms) == (body, nonce, ADMIN.public, CLOCK.time_ms())
    assert read.holds()
    assert pack([read.payload, read.signature]) == made.bytes


def _depth(value: Any) -> int:
    return 1 + max((_depth(item) for item in value), default=0) if isinstance(value, list) else 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_changed_byte_leaves_an_entry_that_holds(data: st.DataObject) -> None:
    made = Entry.make("config.set", ["a", "b"], ADMIN, MESH, CLOCK, nonce=bytes(16))
    at = data.draw(st.integers(0, len(made.bytes) - 1))
    changed = bytearray(made.bytes)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        read = Entry.parse(bytes(changed))
    except RemoteProtocolError:
        return
    assert not read.holds()
    assert read.hash != made.hash


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_entry_or_refused(data: bytes) -> None:
    try:
        Entry.parse(data)
    except RemoteProtocolError:
        pass
    assert len(entry_hash(data)) == 32


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pack([b"", b""]),
        pack([b"x"]),
        pack("x"),
        pack([pack(GOOD), "x" * 64]),
        pack([pack(GOOD), bytes(63)]),
        pack([pack(GOOD), bytes(65)]),
        signed(pack(GOOD[:-1])),
        signed(pack([*GOOD, 1])),
        with_field(0, 2),
        with_field(0, bool(1)),
        with_field(1, bytes(15)),
        with_field(2, b"config.set"),
        with_field(2, "k" * 65),
        with_field(3, bytes(31)),
        with_field(4, -1),
        with_field(4, 1 << 60),
        with_field(4, 1.5),
        with_field(5, bytes(8)),
        with_field(6, {}),
        with_field(6, "body"),
        with_field(6, [[[[[[["too deep"]]]]]]]),
        signed(pack(GOOD)) + b"\0",
        msgpack.packb([pack(GOOD), bytes(64)], use_single_float=False, use_bin_type=False),
    ],
)  # fmt: skip
def test_other_forms_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Entry.parse(data)


def test_a_longer_form_of_the_same_value_is_refused() -> None:
    payload = pack(GOOD)
    assert payload[0] == 0x97
    longer = b"\xdc\x00\x07" + payload[1:]
    assert msgpack.unpackb(longer) == msgpack.unpackb(payload)
    with pytest.raises(RemoteProtocolError, match="shortest"):
        Entry.parse(signed(longer))


def test_another_key_signs_nothing_for_the_author() -> None:
    payload = pack(GOOD)
    assert not Entry.parse(pack([payload, STRANGER.sign(Domain.ENTRY, payload)])).holds()
    assert not Entry.parse(pack([payload, ADMIN.sign(Domain.BUNDLE, payload)])).holds()


def test_an_entry_past_the_bound_can_neither_be_made_nor_read() -> None:
    with pytest.raises(UsageError, match="more than"):
        Entry.make("config.set", ["k", "x" * MAX_ENTRY], ADMIN, MESH, CLOCK)
    with pytest.raises(RemoteProtocolError, match="more than"):
        Entry.parse(signed(pack([*GOOD[:-1], ["k", "x" * MAX_ENTRY]])))


@pytest.mark.parametrize("value", [object(), 1 << 70])
def test_what_has_no_form_can_not_be_made(value: Any) -> None:
    with pytest.raises(UsageError):
        Entry.make("config.set", [value], ADMIN, MESH, CLOCK)


def test_two_entries_are_never_the_same_by_accident() -> None:
    assert (
        Entry.make("config.reset", [""], ADMIN, MESH, CLOCK).hash
        != Entry.make("config.reset", [""], ADMIN, MESH, CLOCK).hash
    )
