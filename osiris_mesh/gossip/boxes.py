"""Datagrams between members: pairwise boxes.

A datagram is ``tag 8 | number 8 | session 8 | box``. The first 24 bytes are the box's nonce as well:

tag
    First 8 bytes of a hash of the sender's public key: says whose box this is, and keeps the two directions of a pair,
    which share one key, apart.
number
    Big-endian; begins at the sender's wall clock in microseconds when it starts and grows by one: the replay window's
    number.
session
    Random, drawn when the sender starts: no nonce repeats even if the clock was set back.

The box is NaCl's ``crypto_box`` between the X25519 forms of the two members' keys, so only members can make one, and a
removed member can forge nothing. What is no member's tag costs one look into a dict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from osiris_mesh.errors import UsageError
from osiris_mesh.gossip.message import MAX_PLAIN
from osiris_mesh.gossip.replay import ReplayWindow
from osiris_mesh.identity.keys import KeyPair, curve_public
from osiris_mesh.identity.peer_id import public_key

__all__ = ["MAX_DATAGRAM", "OVERHEAD", "Boxes", "tag_of"]

OVERHEAD: Final = 40
"""Bytes a datagram is longer than its message."""
MAX_DATAGRAM: Final = MAX_PLAIN + OVERHEAD
_NONCE: Final = 24
_PERSON: Final = b"osiris/datagram1"


def tag_of(public: bytes) -> bytes:
    """Return the 8 bytes by which datagrams of that public key are known."""
    return hashlib.blake2b(public, digest_size=8, person=_PERSON).digest()


class _Member:
    __slots__ = ("peer", "shared", "window")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.shared: bytes | None = None
        self.window = ReplayWindow()


class Boxes:
    """Makes and opens datagrams. Not thread-safe.

    Args:
        key: This node's key.
        session: 8 random bytes, new at every start.
        number: Wall clock at start, microseconds.

    Attributes:
        strangers: Datagrams dropped because no member has that tag.
        replays: Dropped because their number had been seen or was too old.
        broken: Dropped because the box did not open, or for their size.
    """

    def __init__(self, key: KeyPair, *, session: bytes, number: int) -> None:
        if len(session) != 8:
            raise UsageError("a datagram session has 8 bytes")
        self._key = key
        self._tag = tag_of(key.public)
        self._session = session
        self._number = number
        self._by_peer: dict[str, _Member] = {}
        self._by_tag: dict[bytes, _Member] = {}
        self.strangers = 0
        self.replays = 0
        self.broken = 0

    def set_members(self, peers: Iterable[str]) -> None:
        """Take over who is a member by the ledger; our own peer id is left out."""
        wanted = set(peers)
        for peer in self._by_peer.keys() - wanted:
            del self._by_peer[peer]
            del self._by_tag[tag_of(public_key(peer))]
        for peer in wanted - self._by_peer.keys():
            public = public_key(peer)
            if public != self._key.public:
                member = _Member(peer)
                self._by_peer[peer] = member
                self._by_tag[tag_of(public)] = member

    def next_number(self) -> int:
        """Return the number of the next datagram, or of a message that goes over a link instead, and use it up."""
        self._number += 1
        return self._number

    def seal(self, peer: str, message: bytes) -> bytes | None:
        """Return a datagram with ``message`` for ``peer``; None if it is no member.

        Raises:
            UsageError: ``message`` is longer than :data:`MAX_PLAIN`.
        """
        if len(message) > MAX_PLAIN:
            raise UsageError(f"a message of {len(message)} bytes does not fit into a datagram")
        member = self._by_peer.get(peer)
        shared = None if member is None else self._shared(member)
        if shared is None:
            return None
        nonce = self._tag + self.next_number().to_bytes(8, "big") + self._session
        return nonce + bindings.crypto_box_easy_afternm(message, nonce, shared)

    def open(self, datagram: bytes) -> tuple[str, bytes] | None:
        """Return who sent a datagram and its message; None if it counts for nothing."""
        if not OVERHEAD < len(datagram) <= MAX_DATAGRAM:
            self.broken += 1
            return None
        member = self._by_tag.get(datagram[:8])
        if member is None:
            self.strangers += 1
            return None
        number = int.from_bytes(datagram[8:16], "big")
        if not member.window.fresh(number):
            self.replays += 1
            return None
        shared = self._shared(member)
        if shared is None:
            return None
        try:
            message = bindings.crypto_box_open_easy_afternm(datagram[_NONCE:], datagram[:_NONCE], shared)
        except CryptoError:
            self.broken += 1
            return None
        member.window.accept(number)
        return member.peer, message

    def came_over_link(self, peer: str, number: int) -> bool:
        """Count the number of a message that came from ``peer`` over its link; False if seen, or from a stranger."""
        member = self._by_peer.get(peer)
        return member is not None and member.window.accept(number, direct=True)

    def _shared(self, member: _Member) -> bytes | None:
        if member.shared is None:
            try:
                theirs = curve_public(public_key(member.peer))
            except UsageError:
                # The ledger let in a key that is no point of the curve; its owner can't have signed anything either.
                self.broken += 1
                return None
            member.shared = bindings.crypto_box_beforenm(theirs, self._key.curve_secret)
        return member.shared
