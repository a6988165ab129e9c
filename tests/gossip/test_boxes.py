"""Datagrams in pairwise boxes: who can open what, replays, bounds, and a frozen vector."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.gossip.boxes import MAX_DATAGRAM, OVERHEAD, Boxes, tag_of
from osiris_mesh.gossip.message import MAX_PLAIN
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id

KEYS = [KeyPair(bytes([number] * 32)) for number in range(1, 4)]
A, B, C = (peer_id(key.public) for key in KEYS)


def pair(number: int = 1_000_000) -> tuple[Boxes, Boxes]:
    boxes = [Boxes(key, session=bytes([index] * 8), number=number) for index, key in enumerate(KEYS[:2])]
    for each in boxes:
        each.set_members([A, B])
    return boxes[0], boxes[1]


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=MAX_PLAIN))
def test_what_one_seals_the_other_opens(message: bytes) -> None:
    alice, bob = pair()
    datagram = alice.seal(B, message)
    assert datagram is not None
    assert len(datagram) == len(message) + OVERHEAD <= MAX_DATAGRAM
    assert bob.open(datagram) == (A, message)


def test_a_datagram_counts_once() -> None:
    alice, bob = pair()
    datagram = alice.seal(B, b"x")
    assert bob.open(datagram) == (A, b"x")
    assert bob.open(datagram) is None
    assert bob.replays == 1


def test_late_ones_count_within_the_window_and_not_behind_it() -> None:
    alice, bob = pair()
    sealed = [alice.seal(B, b"%d" % number) for number in range(8200)]
    assert bob.open(sealed[-1])
    assert bob.open(sealed[100]) == (A, b"100")
    assert bob.open(sealed[100]) is None
    assert bob.open(sealed[0]) is None


def test_nobody_else_can_open_or_make_one() -> None:
    alice, bob = pair()
    carol = Boxes(KEYS[2], session=bytes(8), number=1)
    carol.set_members([A, B, C])
    datagram = alice.seal(B, b"secret")
    assert b"secret" not in datagram
    assert carol.open(datagram) is None
    forged = carol.seal(B, b"x")
    assert bob.open(forged) is None, "no member by bob's ledger"
    assert bob.strangers == 1
    assert bob.open(tag_of(KEYS[0].public) + forged[8:]) is None
    assert bob.broken == 1


def test_a_datagram_sent_back_to_its_sender_is_a_strangers() -> None:
    alice, _ = pair()
    assert alice.open(alice.seal(B, b"x")) is None
    assert alice.strangers == 1


def test_a_removed_member_is_a_stranger_at_once() -> None:
    alice, bob = pair()
    late = alice.seal(B, b"x")
    bob.set_members([B])
    assert bob.open(late) is None
    assert bob.seal(A, b"x") is None
    assert alice.seal(C, b"x") is None


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.data())
def test_any_change_to_a_datagram_is_noticed(message: bytes, data: st.DataObject) -> None:
    alice, bob = pair()
    datagram = bytearray(alice.seal(B, message))
    if data.draw(st.booleans()):
        del datagram[data.draw(st.integers(0, len(datagram) - 1)) :]
    else:
        datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert bob.open(bytes(datagram)) is None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=MAX_DATAGRAM + 50))
def test_noise_counts_for_nothing(noise: bytes) -> None:
    _, bob = pair()
    assert bob.open(noise) is None
    assert bob.open(tag_of(KEYS[0].public) + noise) is None


def test_a_forged_number_does_not_move_the_window() -> None:
    alice, bob = pair()
    datagram = alice.seal(B, b"x")
    forged = datagram[:8] + (2**62).to_bytes(8, "big") + datagram[16:]
    assert bob.open(forged) is None
    assert bob.open(datagram) == (A, b"x")


def test_size_is_looked_at_before_anything_else() -> None:
    _, bob = pair()
    for size in (0, 8, OVERHEAD, MAX_DATAGRAM + 1, 65_507):
        assert bob.open(tag_of(KEYS[0].public).ljust(size, b"\0")[:size]) is None
    assert bob.broken == 5


def test_no_two_nonces_are_equal() -> None:
    alice, bob = pair()
    again = Boxes(KEYS[0], session=b"another!", number=1_000_000)  # restarted with the clock set back
    again.set_members([A, B])
    sealed = [box.seal(peer, b"x") for _ in range(100) for box, peer in ((alice, B), (bob, A), (again, B))]
    assert len({datagram[:24] for datagram in sealed}) == 300


def test_a_restarted_sender_with_a_clock_set_back_is_heard_again_after_a_link_call() -> None:
    _, bob = pair()
    before, after = Boxes(KEYS[0], session=bytes(8), number=10**12), Boxes(KEYS[0], session=bytes(8), number=10**9)
    for each in (before, after):
        each.set_members([B])
    old = [before.seal(B, b"old") for _ in range(3)]
    assert bob.open(old[0])
    assert bob.open(after.seal(B, b"new")) is None
    assert bob.came_over_link(A, after.next_number())
    assert bob.open(after.seal(B, b"new")) == (A, b"new")
    assert bob.open(old[1]) is None, "the former run's datagrams stay refused"
    assert not bob.came_over_link(C, 5)


def test_an_oversized_message_is_our_mistake() -> None:
    alice, _ = pair()
    with pytest.raises(UsageError):
        alice.seal(B, bytes(MAX_PLAIN + 1))


def test_the_vector_of_the_documentation() -> None:
    """docs/protocol/gossip.md, "Datagram"."""
    alice, bob = pair()
    datagram = alice.seal(B, bytes.fromhex("96010007c40005") + b"\x90")
    assert datagram is not None
    assert datagram.hex() == VECTOR
    assert bob.open(datagram)


VECTOR = "e1acaf6b69854a9800000000000f42410000000000000000afa4845aca63baa5fdc22ed77b220714d269b61f6d59313d"
