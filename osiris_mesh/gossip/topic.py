"""Signed topic messages: their bytes, and which of them count.

A message is ``[payload, public key, signature]``; the signature covers exactly the payload's bytes under the domain
``osiris/gossip/v1``. The payload is ``[version, topic, origin, sequence, time, body]``. Its id is the SHA-256 of origin
and sequence. docs/protocol/gossip.md has the layout with a vector.

A message counts if its origin is a member now, its signature holds, and its sequence was not seen from that origin
before (replay.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.gossip.replay import MAX_NUMBER, ReplayWindow
from osiris_mesh.identity.keys import Domain, KeyPair, verify
from osiris_mesh.identity.peer_id import peer_id, public_key

__all__ = ["MAX_TOPIC", "POLICIES", "Policy", "TopicMessage", "Topics", "policy_of", "seal"]

VERSION: Final = 1
MAX_TOPIC: Final = 64
"""Letters of a topic's name."""
_ENVELOPE: Final = 256
"""Bytes a message is longer than its body, at most: topic, key, origin, signature, numbers and their frames."""
_MAX_TIME: Final = 2**63


@dataclass(frozen=True, slots=True)
class Policy:
    """How messages of a topic wait for a peer.

    Attributes:
        latest: Only the newest of each origin matters: it takes the place of an older one that still waits, and is
            told to peers whose link comes up.
        urgent: They overtake the others.
    """

    latest: bool = False
    urgent: bool = False


POLICIES: Final[dict[str, Policy]] = {
    "load": Policy(latest=True),
    "tip": Policy(latest=True, urgent=True),
    "health": Policy(urgent=True),
    "announce": Policy(),
}
_ORDINARY: Final = Policy()


def policy_of(topic: str) -> Policy:
    """Return the policy of a topic; one that is not listed has neither trait."""
    return POLICIES.get(topic, _ORDINARY)


@dataclass(frozen=True, slots=True)
class TopicMessage:
    """One message that counts.

    Attributes:
        topic: Its topic.
        origin: Peer id of who signed it.
        sequence: The origin's number for it.
        time_ms: The origin's wall clock; for people, nothing is decided by it.
        body: What it says.
        raw: The exact bytes, to be passed on as they are.
    """

    topic: str
    origin: str
    sequence: int
    time_ms: int
    body: bytes
    raw: bytes

    @property
    def id(self) -> bytes:
        """Name of the message, 32 bytes: SHA-256 of the origin's key and the sequence (8 bytes, big-endian)."""
        return hashlib.sha256(public_key(self.origin) + self.sequence.to_bytes(8, "big")).digest()


def _check_topic(topic: str) -> None:
    if not 0 < len(topic) <= MAX_TOPIC or not topic.isascii() or not topic.isprintable():
        raise UsageError(f"{topic!r} can't name a topic", fix=f"use 1 to {MAX_TOPIC} printable ASCII letters")


def seal(key: KeyPair, topic: str, sequence: int, time_ms: int, body: bytes) -> bytes:
    """Return the signed bytes of a message."""
    payload = pack([VERSION, topic, key.public, sequence, time_ms, body])
    return pack([payload, key.public, key.sign(Domain.GOSSIP, payload)])


class Topics:
    """The core: signs our messages, and says which of the others' count.

    Args:
        key: This node's key.
        sequence: Wall clock at start, microseconds: sequences go on above those of the former run as long as a node
            sends less than a million messages a second.
        max_body: Bytes of a body.

    Attributes:
        refused: Messages that did not count, by reason: ``form``, ``stranger``, ``replay``, ``signature``.
    """

    def __init__(self, key: KeyPair, *, sequence: int, max_body: int) -> None:
        self._key = key
        self._me = peer_id(key.public)
        self._sequence = sequence
        self._max_body = max_body
        self._outer = Limits(size=max_body + _ENVELOPE + MAX_TOPIC, depth=1, count=3)
        self._inner = Limits(size=max_body + _ENVELOPE + MAX_TOPIC, depth=1, count=6)
        self._windows: dict[bytes, ReplayWindow] = {}
        self.refused = {"form": 0, "stranger": 0, "replay": 0, "signature": 0}

    def set_members(self, peers: Iterable[str]) -> None:
        """Take over who is a member by the ledger."""
        wanted = {public_key(peer) for peer in peers} - {self._key.public}
        for public in self._windows.keys() - wanted:
            del self._windows[public]
        for public in wanted - self._windows.keys():
            self._windows[public] = ReplayWindow()

    def publish(self, topic: str, body: bytes, time_ms: int) -> TopicMessage:
        """Return a new signed message of ours.

        Raises:
            UsageError: The topic's name or the body's size is out of bounds.
        """
        _check_topic(topic)
        if len(body) > self._max_body:
            raise UsageError(f"a gossip body of {len(body)} bytes is more than the {self._max_body} allowed")
        self._sequence += 1
        raw = seal(self._key, topic, self._sequence, time_ms, body)
        return TopicMessage(topic, self._me, self._sequence, time_ms, body, raw)

    def receive(self, raw: bytes, sender: str) -> TopicMessage | None:
        """Return the message in ``raw`` if it counts.

        Cheap tests come first: whoever replays or relays too much costs no signature check.

        Args:
            raw: As it came.
            sender: Peer id of who handed it to us, authenticated by its link.
        """
        try:
            message, public, payload, signature = self._read(raw)
        except RemoteProtocolError:
            self.refused["form"] += 1
            return None
        window = self._windows.get(public)
        if window is None:
            # Our own messages come back to us through relays; they are no stranger's, and no news either.
            self.refused["replay" if public == self._key.public else "stranger"] += 1
            return None
        direct = sender == message.origin
        if not window.fresh(message.sequence, direct=direct):
            self.refused["replay"] += 1
            return None
        if not verify(public, Domain.GOSSIP, payload, signature):
            self.refused["signature"] += 1
            return None
        window.accept(message.sequence, direct=direct)
        return message

    def _read(self, raw: bytes) -> tuple[TopicMessage, bytes, bytes, bytes]:
        outer = unpack_canonical(raw, self._outer)
        if type(outer) is not list or len(outer) != 3 or not all(type(item) is bytes for item in outer):
            raise RemoteProtocolError("a gossip message is not three byte strings")
        payload, public, signature = outer
        inner = unpack_canonical(payload, self._inner)
        if type(inner) is not list or len(inner) != 6 or type(inner[0]) is not int or inner[0] != VERSION:
            raise RemoteProtocolError("a gossip payload is of a form this version does not know")
        _, topic, origin, sequence, time_ms, body = inner
        if type(topic) is not str or type(origin) is not bytes or type(body) is not bytes:
            raise RemoteProtocolError("a gossip payload has fields of wrong types")
        if type(sequence) is not int or not 0 < sequence < MAX_NUMBER:
            raise RemoteProtocolError("a gossip payload's sequence is out of range")
        if type(time_ms) is not int or not 0 <= time_ms < _MAX_TIME:
            raise RemoteProtocolError("a gossip payload's time is out of range")
        if len(origin) != 32 or origin != public or len(signature) != 64:
            raise RemoteProtocolError("a gossip message is not signed by its origin")
        if len(body) > self._max_body or not 0 < len(topic) <= MAX_TOPIC or not topic.isascii():
            raise RemoteProtocolError("a gossip message is past a bound")
        return TopicMessage(topic, peer_id(origin), sequence, time_ms, body, raw), public, payload, signature
