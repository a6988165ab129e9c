"""Records of IPNS: a real Kubo's hold; nothing that anybody changed does."""

from __future__ import annotations

import secrets
from typing import Any

import aiohttp
import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.ipfs_build import EMPTY, build
from osiris_mesh.registry.ipfs_cid import IpnsName
from osiris_mesh.registry.ipfs_ipns import MAX_RECORD, read_record
from osiris_mesh.registry.ipfs_protobuf import field
from osiris_mesh.registry.ipfs_rpc import Kubo
from tests.registry.ipfs.kit import moment, record, run
from tests.registry.ipfs.kubo import Daemon

KEY = KeyPair(b"k" * 32)
NAME = IpnsName(KEY.public)
VALUE = f"/ipfs/{EMPTY}"
UNTIL_MS = 1_900_000_000_123


async def test_a_kubos_records_hold(kubo: Daemon, rpc: Kubo) -> None:
    key = f"key-{secrets.token_hex(8)}"
    name = await rpc.make_key(key)
    root, blocks = run(build(None, {"x": b"1"}), {})
    await rpc.store(root, blocks)
    before = SYSTEM.time_ms()
    await rpc.point(key, root, sequence=7, lifetime_s=3600, ttl_s=90)
    url = f"{kubo.gateway}/ipns/{name}?format=ipns-record"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        data = await answer.read()
    found = read_record(name, data)
    assert (found.value, found.sequence, found.ttl_ms) == (f"/ipfs/{root}", 7, 90_000)
    assert abs(found.until_ns - (before + 3_600_000) * 1_000_000) < 60_000_000_000
    assert not found.expired(before)
    assert found.expired(before + 3_700_000)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            # What old readers look at is covered by the comparison, their signature by nothing: it is not looked at.
            assert read_record(name, changed).until_ns == found.until_ns
        except RemoteProtocolError:
            continue
    with pytest.raises(RemoteProtocolError):
        read_record(NAME, data)


@pytest.mark.parametrize("beside", [False, True])
def test_records_of_ours(beside: bool) -> None:
    found = read_record(NAME, record(KEY, VALUE, sequence=3, until_ms=UNTIL_MS, beside=beside))
    assert (found.value, found.rank, found.ttl_ms) == (VALUE, (3, UNTIL_MS * 1_000_000), 60_000)
    assert found.expired(UNTIL_MS)
    assert not found.expired(UNTIL_MS - 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"Value": VALUE}, {"Value": "ä".encode()}, {"Validity": b"2030-01-01"}, {"Validity": b"2030-13-01T00:00:00Z"},
        {"Validity": b"2030-01-01T00:00:00+01:00"}, {"Validity": b"2030-01-01T00:00:00.1234567890Z"}, {"Validity": 5},
        {"ValidityType": 1}, {"ValidityType": False}, {"Sequence": -1}, {"Sequence": b"1"}, {"Sequence": 1 << 63},
        {"Sequence": True}, {"TTL": -1}, {"TTL": 1.5}, {"drop": "TTL"}, {"drop": "Sequence"}, {"drop": "Value"},
        {"Sequence": 1 << 70}, {"Deep": [[[[1]]]]}, {"Tag": cbor2.CBORTag(35, "(a+)+$")},
    ],
)  # fmt: skip
def test_documents_that_are_none_though_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        read_record(NAME, record(KEY, VALUE, sequence=3, until_ms=UNTIL_MS, **changes))


def signed(document: bytes) -> bytes:
    return field(8, KEY.sign_bare(b"ipns-signature:" + document)) + field(9, document)


GOOD: dict[str, Any] = {
    "Value": VALUE.encode(), "Validity": moment(UNTIL_MS), "ValidityType": 0, "Sequence": 3, "TTL": 0
}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        b"", b"\xff", b"\xa0", cbor2.dumps([1]), cbor2.dumps(GOOD, canonical=True) + b"\0",
        cbor2.dumps(dict(sorted(GOOD.items(), reverse=True))),
        b"\xbf" + cbor2.dumps(GOOD, canonical=True)[1:] + b"\xff",
        b"\xa6" + cbor2.dumps(GOOD, canonical=True)[1:] + cbor2.dumps("TTL") + b"\0",
    ],
)  # fmt: skip
def test_documents_in_another_form(document: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_record(NAME, signed(document))


def test_envelopes_that_are_none() -> None:
    good = record(KEY, VALUE, sequence=3, until_ms=UNTIL_MS)
    assert read_record(NAME, good + field(7, b"\x08\x01\x12\x20" + KEY.public)).sequence == 3
    for data in (
        b"",
        good + good,
        good + field(10, b"x"),
        good + field(7, b"\x08\x01\x12\x20" + bytes(32)),
        good + field(1, b"/ipfs/other"),
        good + field(4, b"2030-01-01T00:00:00Z"),
        good + field(3, 1),
        good + field(5, 4),
        good + field(6, 1),
        good + field(1, 1),
        good + field(5, b"x"),
        record(KeyPair(b"o" * 32), VALUE, sequence=3, until_ms=UNTIL_MS),
        field(9, cbor2.dumps(GOOD, canonical=True)),
        good + field(2, bytes(MAX_RECORD)),
    ):
        with pytest.raises(RemoteProtocolError):
            read_record(NAME, data)


@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_record(NAME, data)
