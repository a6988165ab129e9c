"""SWIM's messages and updates: their shapes and their bytes.

A message is a strict msgpack array ``[version, kind, sequence, target, known, updates]``; it travels in one datagram or
in one ``gossip.swim`` call. An update is ``[state, subject, incarnation, proof, accuser]``: ``proof`` is the subject's
own signature of the incarnation, so that no member can move another's incarnation on, and every claim about an
incarnation shows that it exists. docs/protocol/gossip.md has the layout with a vector.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.identity.keys import Domain, KeyPair, verify
from osiris_mesh.identity.peer_id import peer_id, public_key

__all__ = [
    "MAX_DATAGRAM_UPDATES",
    "MAX_INCARNATION",
    "MAX_PLAIN",
    "Kind",
    "Message",
    "PeerState",
    "Update",
    "prove",
    "proven",
]

VERSION: Final = 1
MAX_PLAIN: Final = 1184
"""Bytes of a message in a datagram: with the box's 40, UDP's 8 and IPv6's 40 below the least MTU of IPv6, 1280."""
MAX_DATAGRAM_UPDATES: Final = 7
"""Updates that always fit into :data:`MAX_PLAIN`."""
MAX_SYNC_UPDATES: Final = 4096
MAX_INCARNATION: Final = 2**62
_MAX_SEQUENCE: Final = 2**32
_DATAGRAM: Final = Limits(size=MAX_PLAIN, depth=3, count=MAX_DATAGRAM_UPDATES + 8)
_SYNC: Final = Limits(size=1 << 20, depth=3, count=MAX_SYNC_UPDATES)


class PeerState(enum.IntEnum):
    """What is known about a member; of two claims about one incarnation the higher state counts."""

    UNKNOWN = 0
    """A member by the ledger of which nothing was heard yet."""
    ALIVE = 1
    SUSPECT = 2
    """It did not answer; it still counts as alive, and has until the suspicion's timeout to refute."""
    DEAD = 3
    """The paper's "confirmed" failure."""
    LEFT = 4
    """It said that it stops; no failure."""


class Kind(enum.IntEnum):
    """Kinds of message; the paper's words."""

    PING = 0
    ACK = 1
    PING_REQ = 2
    """Please probe ``target`` for me."""
    NACK = 3
    """Lifeguard: I am well and have asked, but ``target`` has not answered me yet."""
    GOSSIP = 4
    """Updates alone; nothing is answered."""
    SYNC = 5
    """Push/pull: all I know; answer with all you know. Over links only."""
    SYNC_ACK = 6


@dataclass(frozen=True, slots=True)
class Update:
    """One claim about one member.

    Attributes:
        state: ALIVE, SUSPECT, DEAD or LEFT.
        peer: Peer id of the member it is about.
        incarnation: Which of the member's incarnations.
        proof: The member's signature of that incarnation (for LEFT: of having left it), 64 bytes.
        accuser: Peer id of who claims SUSPECT or DEAD; empty for ALIVE and LEFT, which the member says itself.
    """

    state: PeerState
    peer: str
    incarnation: int
    proof: bytes
    accuser: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        kind: What it asks or answers.
        sequence: Joins an ACK or NACK to its PING or PING_REQ; 0 for the others.
        target: Peer id of whom to probe (PING_REQ alone), else empty.
        known: The receiver's incarnation as far as the sender knows it, 0 if it knows none; who sees an older one
            than its own tells the sender.
        updates: At most :data:`MAX_DATAGRAM_UPDATES` in a datagram.
    """

    kind: Kind
    sequence: int = 0
    target: str = ""
    known: int = 0
    updates: tuple[Update, ...] = ()

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return pack(
            [
                VERSION,
                int(self.kind),
                self.sequence,
                public_key(self.target) if self.target else b"",
                self.known,
                [
                    [
                        int(update.state),
                        public_key(update.peer),
                        update.incarnation,
                        update.proof,
                        public_key(update.accuser) if update.accuser else b"",
                    ]
                    for update in self.updates
                ],
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Read a message that came in a datagram or as a call's body.

        Raises:
            RemoteProtocolError: Not a message, past a bound, or not in the shortest form.
        """
        value = unpack_canonical(data, _DATAGRAM if len(data) <= MAX_PLAIN else _SYNC)
        if type(value) is not list or len(value) != 6:
            raise RemoteProtocolError("a membership message is not an array of six")
        version, kind, sequence, target, known, updates = value
        if version != VERSION or type(version) is not int:
            raise RemoteProtocolError("a membership message of a version this one does not know")
        if type(kind) is not int or not 0 <= kind <= Kind.SYNC_ACK:
            raise RemoteProtocolError("a membership message of a kind this version does not know")
        if type(sequence) is not int or not 0 <= sequence < _MAX_SEQUENCE:
            raise RemoteProtocolError("a membership message's sequence is out of range")
        if type(known) is not int or not 0 <= known < MAX_INCARNATION:
            raise RemoteProtocolError("a membership message's incarnation is out of range")
        if type(updates) is not list:
            raise RemoteProtocolError("a membership message's updates are not an array")
        if kind < Kind.SYNC and len(updates) > MAX_DATAGRAM_UPDATES:
            raise RemoteProtocolError("a membership message has too many updates")
        name = _peer(target) if target else _empty(target)
        if (kind == Kind.PING_REQ) != bool(name):
            raise RemoteProtocolError("a ping-req, and nothing else, names a target")
        return cls(Kind(kind), sequence, name, known, tuple(_update(item) for item in updates))


def _empty(value: object) -> str:
    if value != b"":
        raise RemoteProtocolError("a membership message names a member that is no key")
    return ""


def _peer(value: object) -> str:
    if type(value) is not bytes or len(value) != 32:
        raise RemoteProtocolError("a membership message names a member that is no key")
    return peer_id(value)


def _update(value: object) -> Update:
    if type(value) is not list or len(value) != 5:
        raise RemoteProtocolError("a membership update is not an array of five")
    state, subject, incarnation, proof, accuser = value
    if type(state) is not int or not PeerState.ALIVE <= state <= PeerState.LEFT:
        raise RemoteProtocolError("a membership update's state is out of range")
    if type(incarnation) is not int or not 0 < incarnation < MAX_INCARNATION:
        raise RemoteProtocolError("a membership update's incarnation is out of range")
    if type(proof) is not bytes or len(proof) != 64:
        raise RemoteProtocolError("a membership update's proof is not a signature")
    blamed = state in {PeerState.SUSPECT, PeerState.DEAD}
    return Update(PeerState(state), _peer(subject), incarnation, proof, _peer(accuser) if blamed else _empty(accuser))


def _statement(incarnation: int, *, left: bool) -> bytes:
    return pack([VERSION, incarnation, left])


def prove(key: KeyPair, incarnation: int, *, left: bool = False) -> bytes:
    """Return the owner's signature of its incarnation, or of having left it."""
    return key.sign(Domain.SWIM, _statement(incarnation, left=left))


def proven(update: Update) -> bool:
    """Say whether the update's proof is its subject's signature; about 45 microseconds."""
    statement = _statement(update.incarnation, left=update.state is PeerState.LEFT)
    return verify(public_key(update.peer), Domain.SWIM, statement, update.proof)
