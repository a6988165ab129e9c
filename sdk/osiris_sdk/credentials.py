"""What a client token gives a client: an identity, the network key and where members answer. Loads NaCl."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.token import Token
from osiris_mesh.link.hello import Hello
from osiris_sdk.signing import Signer
from osiris_sdk.spread import MAX_ADDRESSES

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Read from a token.

    Attributes:
        key: The client's identity.
        network_key: The mesh's secret, without which nobody answers.
        mesh_id: 16 bytes.
        members: Where to connect, each with the peer id that must answer.
    """

    key: KeyPair
    network_key: bytes = field(repr=False)
    mesh_id: bytes
    members: tuple[Multiaddr, ...]

    @classmethod
    def from_token(cls, text: str) -> Credentials:
        """Read a client token.

        Raises:
            UsageError: Not a token, not a client's, expired, or without a member's address.
        """
        token = Token.parse(text)
        fix = "create one on a member with: osiris-mesh token create --role client"
        if token.role != "client":
            raise UsageError(f"this is a token to join as a {token.role}, not a client's", fix=fix)
        if token.expires_ms <= time.time_ns() // 1_000_000:
            raise UsageError("the client token has expired", fix=fix)
        members = tuple(member for member in token.members if member.peer)
        if not members:
            raise UsageError("the client token names no member's address", fix=fix)
        return cls(token.key, token.network_key, token.mesh_id, members)

    def hello(self) -> Hello:
        """Return what the client says of itself on a new link."""
        return Hello(self.mesh_id, role="client", serial=time.time_ns() // 1000)

    def signer(self) -> Signer:
        """Return who signs for the client."""
        return Signer(self.mesh_id, self.key)

    def shuffled(self) -> list[Multiaddr]:
        """Return the members in random order, so that clients spread over them; at most as many as are used."""
        return random.sample(self.members, min(len(self.members), MAX_ADDRESSES))
