"""The ledger as admission sees it."""

from __future__ import annotations

from collections.abc import Sequence

from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.ledger.outcome import Receipt
from osiris_mesh.ledger.records import TokenRecord

__all__ = ["Book"]


class Book:
    """:class:`osiris_mesh.access.admission.Book` over a ledger.

    Args:
        ledger: The node's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def mesh_name(self) -> str:
        """Return the name of the mesh."""
        return self._ledger.state.name

    def height(self) -> int:
        """Return the height of the newest block applied here."""
        return self._ledger.tip.height

    def is_member(self, public_key: bytes) -> bool:
        """Say whether the ledger names this key as a member."""
        return peer_id(public_key) in self._ledger.state.members

    def token(self, public_key: bytes) -> TokenRecord | None:
        """Return what is public of the token with this key."""
        return self._ledger.state.tokens.get(public_key)

    def member_addresses(self) -> Sequence[str]:
        """Return addresses of members, each ending in a peer id."""
        return [
            address
            for member in self._ledger.state.members.values()
            for address in member.addresses
            if address.endswith(f"/p2p/{member.peer}")
        ]

    async def propose(self, entries: Sequence[bytes], *, timeout: float) -> Receipt:
        """Put entries into the ledger."""
        return await self._ledger.propose(entries, timeout=timeout)
