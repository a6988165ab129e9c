"""Whom a link is for: the audience of a public key, by the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from osiris_mesh.clock import Clock
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.records import Member, TokenRecord
from osiris_mesh.link import Audience

__all__ = ["Gate"]


class Gate:
    """Asked by the links at every handshake, and again whenever the members change.

    A stranger who knows the network key is a joiner, and may present an admission, nothing else. A node that has just
    been admitted trusts those the admitting member named until its own ledger holds the block that admitted it.

    Args:
        members: The ledger's members by peer id, asked anew each time.
        tokens: The ledger's tokens by public key: a client's is its identity, and expires.
        provisional: Peer ids trusted as members for the time being; empty once the ledger is far enough.
        clock: Tells whether a client's token has expired.
    """

    def __init__(
        self,
        members: Callable[[], Mapping[str, Member]],
        tokens: Callable[[], Mapping[bytes, TokenRecord]],
        provisional: Callable[[], frozenset[str]],
        clock: Clock,
    ) -> None:
        self._members = members
        self._tokens = tokens
        self._provisional = provisional
        self._clock = clock

    def audience(self, public_key: bytes) -> Audience | None:
        """Return what the owner of ``public_key`` may be here."""
        peer = peer_id(public_key)
        member = self._members().get(peer)
        if member is not None:
            return self._client(public_key) if member.role == "client" else Audience.MEMBER
        if peer in self._provisional():
            return Audience.MEMBER
        return Audience.JOINER

    def _client(self, public_key: bytes) -> Audience | None:
        token = self._tokens().get(public_key)
        if token is None or token.revoked or token.expires_ms <= self._clock.time_ms():
            return None
        return Audience.CLIENT
