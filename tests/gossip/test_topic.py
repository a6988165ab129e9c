"""Signed topic messages: what counts and what does not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import UsageError
from osiris_mesh.gossip.replay import WINDOW
from osiris_mesh.gossip.topic import Topics, policy_of, seal
from osiris_mesh.identity.keys import Domain, KeyPair
from osiris_mesh.identity.peer_id import peer_id

KEYS = [KeyPair(bytes([number] * 32)) for number in range(1, 4)]
A, B, C = (peer_id(key.public) for key in KEYS)
MAX_BODY = 1000


def topics(index: int, *members: str, sequence: int = 1000) -> Topics:
    core = Topics(KEYS[index], sequence=sequence, max_body=MAX_BODY)
    core.set_members(members or (A, B, C))
    return core


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abc-/_.", min_size=1, max_size=64), st.binary(max_size=MAX_BODY), st.integers(0, 2**62))
def test_what_a_member_signs_counts_once(topic: str, body: bytes, time_ms: int) -> None:
    alice, bob = topics(0), topics(1)
    message = alice.publish(topic, body, time_ms)
    assert bob.receive(message.raw, A) == message
    assert bob.receive(message.raw, A) is None
    assert bob.receive(message.raw, C) is None
    assert bob.refused["replay"] == 2


def test_the_id_is_of_origin_and_sequence() -> None:
    message = topics(0).publish("tip", b"", 0)
    assert message.id == hashlib.sha256(KEYS[0].public + (1001).to_bytes(8, "big")).digest()


def test_sequences_only_grow_and_go_on_after_a_restart() -> None:
    bob = topics(1)
    first, second = topics(0, sequence=1000), topics(0, sequence=2_000_000)
    old = [first.publish("tip", b"%d" % number, 0) for number in range(3)]
    assert [message.sequence for message in old] == [1001, 1002, 1003]
    assert bob.receive(old[0].raw, C)
    assert bob.receive(second.publish("tip", b"new", 0).raw, C)
    assert bob.receive(old[1].raw, C) is None, "far below the floor"


def test_late_messages_count_within_the_window() -> None:
    alice, bob = topics(0), topics(1)
    messages = [alice.publish("a", b"", 0) for _ in range(10)]
    assert bob.receive(messages[9].raw, A)
    assert all(bob.receive(message.raw, C) for message in messages[:9])
    for _ in range(WINDOW):
        last = alice.publish("a", b"", 0)
    late = alice.publish("a", b"", 0)
    assert bob.receive(last.raw, A)
    assert bob.receive(late.raw, A)


def test_a_strangers_message_does_not_count() -> None:
    carol, bob = topics(2), topics(1, A, B)
    assert bob.receive(carol.publish("tip", b"", 0).raw, A) is None
    assert bob.refused == {"form": 0, "stranger": 1, "replay": 0, "signature": 0}
    bob.set_members([A, B, C])
    message = carol.publish("tip", b"", 0)
    assert bob.receive(message.raw, A)
    bob.set_members([A, B])
    assert bob.receive(carol.publish("tip", b"", 0).raw, C) is None


def test_our_own_message_is_no_news() -> None:
    alice = topics(0)
    assert alice.receive(alice.publish("tip", b"", 0).raw, B) is None
    assert alice.refused["stranger"] == 0


def forge(change, *, key: KeyPair = KEYS[0], domain: Domain = Domain.GOSSIP, public: bytes | None = None) -> bytes:
    payload = [1, "tip", KEYS[0].public, 5000, 0, b"body"]
    change(payload)
    data = pack(payload)
    return pack([data, public or key.public, key.sign(domain, data)])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (forge(lambda _: None, key=KEYS[1]), "form"),  # signed by somebody else, in its own name
        (forge(lambda _: None, key=KEYS[1], public=KEYS[0].public), "signature"),
        (forge(lambda _: None, domain=Domain.ENTRY), "signature"),
        (forge(lambda payload: payload.__setitem__(0, 2)), "form"),
        (forge(lambda payload: payload.__setitem__(0, True)), "form"),  # noqa: FBT003
        (forge(lambda payload: payload.__setitem__(1, "")), "form"),
        (forge(lambda payload: payload.__setitem__(1, "x" * 65)), "form"),
        (forge(lambda payload: payload.__setitem__(1, b"tip")), "form"),
        (forge(lambda payload: payload.__setitem__(1, "tïp")), "form"),
        (forge(lambda payload: payload.__setitem__(2, bytes(31))), "form"),
        (forge(lambda payload: payload.__setitem__(2, KEYS[1].public)), "form"),
        (forge(lambda payload: payload.__setitem__(3, 0)), "form"),
        (forge(lambda payload: payload.__setitem__(3, -1)), "form"),
        (forge(lambda payload: payload.__setitem__(3, 2**63)), "form"),
        (forge(lambda payload: payload.__setitem__(3, "1")), "form"),
        (forge(lambda payload: payload.__setitem__(4, -1)), "form"),
        (forge(lambda payload: payload.__setitem__(5, "body")), "form"),
        (forge(lambda payload: payload.__setitem__(5, bytes(MAX_BODY + 1))), "form"),
        (forge(lambda payload: payload.append(0)), "form"),
        (forge(lambda payload: payload.pop()), "form"),
        (pack([]), "form"),
        (pack({}), "form"),
        (pack([b"", b"", b""]), "form"),
        (pack(["", b"", b""]), "form"),
        (b"", "form"),
        (bytes(MAX_BODY + 10_000), "form"),
    ],
)
def test_what_is_wrong_is_refused(raw: bytes, reason: str) -> None:
    bob = topics(1)
    assert bob.receive(raw, A) is None
    assert bob.refused == {"form": 0, "stranger": 0, "replay": 0, "signature": 0} | {reason: 1}


def test_a_refused_message_does_not_move_the_floor() -> None:
    bob = topics(1)
    good = forge(lambda _: None)
    high = forge(lambda payload: payload.__setitem__(3, 2**62), key=KEYS[1], public=KEYS[0].public)
    assert bob.receive(high, C) is None
    assert bob.receive(good, C)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.data())
def test_a_changed_message_never_counts(body: bytes, data: st.DataObject) -> None:
    bob = topics(1)
    raw = bytearray(topics(0).publish("tip", body, 0).raw)
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert bob.receive(bytes(raw), A) is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_never_counts(noise: bytes) -> None:
    assert topics(1).receive(noise, A) is None


def test_an_origin_whose_clock_was_set_back_is_heard_again_from_itself() -> None:
    bob = topics(1)
    former, latter = topics(0, sequence=10**15), topics(0, sequence=10**12)
    kept = [former.publish("tip", b"old", 0) for _ in range(2)]
    assert bob.receive(kept[0].raw, A)
    new = latter.publish("tip", b"new", 0)
    assert bob.receive(new.raw, C) is None, "through somebody else it may be a replay"
    assert bob.receive(new.raw, A)
    assert bob.receive(kept[1].raw, C) is None


@pytest.mark.parametrize(("topic", "body"), [("", b""), ("x" * 65, b""), ("a\n", b""), ("é", b""), ("a", bytes(1001))])
def test_publishing_out_of_bounds_is_our_mistake(topic: str, body: bytes) -> None:
    with pytest.raises(UsageError):
        topics(0).publish(topic, body, 0)


def test_policies() -> None:
    assert policy_of("tip").urgent
    assert policy_of("tip").latest
    assert policy_of("load").latest
    assert not policy_of("load").urgent
    assert not policy_of("anything").latest


def test_the_vector_of_the_documentation() -> None:
    """docs/protocol/gossip.md, "Topic message"."""
    raw = seal(KEYS[0], "tip", 1_700_000_000_000_001, 1_700_000_000_000, b"\x01")
    assert raw.hex() == VECTOR
    assert unpack(raw)[1] == KEYS[0].public


VECTOR = (
    "93c43d9601a3746970c4208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5ccf00060a24181e"
    "4001cf0000018bcfe56800c40101c4208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5cc440"
    "c194bb223ed470c22edd2a717bd5d8db3e07c5f0544df4f46f034077e6ffebb97f4b5b45d06ec5f7385565b78cc5aff4d665"
    "0823fe8a92f1ad8dc23f0a07ee01"
)
