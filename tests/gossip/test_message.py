"""SWIM's messages: round trips, every bound, and a frozen vector."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.gossip.message import (
    MAX_DATAGRAM_UPDATES,
    MAX_INCARNATION,
    MAX_PLAIN,
    Kind,
    Message,
    PeerState,
    Update,
    prove,
    proven,
)
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from tests.gossip.fake_mesh import name

KEY = KeyPair(bytes(range(32)))
ME = peer_id(KEY.public)
PEERS = st.integers(0, 9).map(name)
INCARNATIONS = st.integers(1, MAX_INCARNATION - 1)
UPDATES = st.builds(
    lambda state, peer, incarnation, proof, accuser: Update(
        state, peer, incarnation, proof, accuser if state in {PeerState.SUSPECT, PeerState.DEAD} else ""
    ),
    st.sampled_from([PeerState.ALIVE, PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT]),
    PEERS,
    INCARNATIONS,
    st.binary(min_size=64, max_size=64),
    PEERS,
)
MESSAGES = st.builds(
    lambda kind, sequence, target, known, updates: Message(
        kind, sequence, target if kind is Kind.PING_REQ else "", known, tuple(updates)
    ),
    st.sampled_from(list(Kind)),
    st.integers(0, 2**32 - 1),
    PEERS,
    st.integers(0, MAX_INCARNATION - 1),
    st.lists(UPDATES, max_size=MAX_DATAGRAM_UPDATES),
)


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_a_message_survives_and_fits_into_a_datagram(message: Message) -> None:
    data = message.encode()
    assert len(data) <= MAX_PLAIN
    assert Message.decode(data) == message


@settings(max_examples=100, deadline=None)
@given(MESSAGES, st.data())
def test_a_truncated_or_lengthened_message_is_refused(message: Message, data: st.DataObject) -> None:
    raw = message.encode()
    with pytest.raises(RemoteProtocolError):
        Message.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(RemoteProtocolError):
        Message.decode(raw + data.draw(st.binary(min_size=1, max_size=20)))


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.data())
def test_a_flipped_bit_is_refused_or_another_message(message: Message, data: st.DataObject) -> None:
    raw = bytearray(message.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = Message.decode(bytes(raw))
    except RemoteProtocolError:
        return
    assert other != message
    assert other.encode() == bytes(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=MAX_PLAIN + 200))
def test_noise_is_refused_or_read_exactly(raw: bytes) -> None:
    try:
        message = Message.decode(raw)
    except RemoteProtocolError:
        return
    assert message.encode() == raw


VALID = [1, 0, 7, b"", 5, []]
UPDATE = [1, bytes(32), 5, bytes(64), b""]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        [*VALID, 0],
        [2, *VALID[1:]],
        [True, *VALID[1:]],
        [1, -1, *VALID[2:]],
        [1, 7, *VALID[2:]],
        [1, True, *VALID[2:]],
        [1, 0, 2**32, *VALID[3:]],
        [1, 0, -1, *VALID[3:]],
        [1, 0, 7, bytes(32), 5, []],
        [1, 2, 7, b"", 5, []],
        [1, 2, 7, bytes(31), 5, []],
        [1, 0, 7, "", 5, []],
        [1, 0, 7, b"", MAX_INCARNATION, []],
        [1, 0, 7, b"", -1, []],
        [1, 0, 7, b"", 5, {}],
        [1, 0, 7, b"", 5, [UPDATE] * 8],
        [1, 0, 7, b"", 5, [UPDATE[:4]]],
        [1, 0, 7, b"", 5, [[0, *UPDATE[1:]]]],
        [1, 0, 7, b"", 5, [[5, *UPDATE[1:]]]],
        [1, 0, 7, b"", 5, [[1, b"x", *UPDATE[2:]]]],
        [1, 0, 7, b"", 5, [[1, bytes(32), 0, bytes(64), b""]]],
        [1, 0, 7, b"", 5, [[1, bytes(32), MAX_INCARNATION, bytes(64), b""]]],
        [1, 0, 7, b"", 5, [[1, bytes(32), 5, bytes(63), b""]]],
        [1, 0, 7, b"", 5, [[1, bytes(32), 5, bytes(64), bytes(32)]]],
        [1, 0, 7, b"", 5, [[2, bytes(32), 5, bytes(64), b""]]],
        [1, 0, 7, b"", 5, [[[[[]]]]]],
    ],
)
def test_a_wrong_form_is_refused(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        Message.decode(pack(value))


def test_a_longer_encoding_of_the_same_is_refused() -> None:
    data = pack(VALID)
    assert unpack(data[:1] + b"\xcc\x01" + data[2:]) == VALID
    with pytest.raises(RemoteProtocolError):
        Message.decode(data[:1] + b"\xcc\x01" + data[2:])


def test_a_sync_carries_more_than_a_datagram_but_not_without_bound() -> None:
    many = tuple(Update(PeerState.ALIVE, name(0), number, bytes(64)) for number in range(1, 4097))
    assert Message.decode(Message(Kind.SYNC, updates=many).encode()).updates == many
    with pytest.raises(RemoteProtocolError):
        Message.decode(Message(Kind.SYNC, updates=(*many, many[0])).encode())
    with pytest.raises(RemoteProtocolError):
        Message.decode(Message(Kind.PING, updates=many).encode())


def test_proofs() -> None:
    proof, left = prove(KEY, 5), prove(KEY, 5, left=True)
    assert proven(Update(PeerState.ALIVE, ME, 5, proof))
    assert proven(Update(PeerState.SUSPECT, ME, 5, proof, name(1)))
    assert proven(Update(PeerState.DEAD, ME, 5, proof, name(1)))
    assert proven(Update(PeerState.LEFT, ME, 5, left))
    assert not proven(Update(PeerState.LEFT, ME, 5, proof))
    assert not proven(Update(PeerState.ALIVE, ME, 5, left))
    assert not proven(Update(PeerState.ALIVE, ME, 6, proof))
    assert not proven(Update(PeerState.ALIVE, name(1), 5, proof))


def test_the_vector_of_the_documentation() -> None:
    """docs/protocol/gossip.md, "Membership message"."""
    update = Update(PeerState.ALIVE, ME, 1_700_000_000_000, prove(KEY, 1_700_000_000_000))
    assert Message(Kind.PING, 7, known=5, updates=(update,)).encode().hex() == VECTOR


VECTOR = (
    "96010007c40005919501c42003a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8cf0000018bcf"
    "e56800c44054e005a1725726f342f994c949267b8ff005f69ef35a202f68ffafefd243372151b8087e04eeca0c4d2a38d5e6"
    "4761ce5b2fe39895ce25205a07cd0bbcda4605c400"
)
