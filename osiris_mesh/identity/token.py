"""Join and client tokens: ``osm1`` and base64url of a signed msgpack array.

A token carries what a stranger needs to authenticate the mesh before he reveals himself: the mesh id, the network key
and the addresses and keys of members. It is a bearer secret. Its seed makes the *token key*: the public half is in the
ledger since the token was created, the secret half signs the joiner's admission, so that no member can invent one and
nothing secret enters the ledger. A client token's key is the client's identity itself.

Layout: ``[payload bytes, issuer public key, signature]``, the signature in :attr:`Domain.TOKEN` over the exact payload;
payload ``[1, mesh id, network key, role, grant, seed, uses, expires_ms, [multiaddr…]]``.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field, replace
from typing import Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import Domain, KeyPair, verify
from osiris_mesh.identity.multiaddr import Multiaddr

__all__ = ["GRANTS", "ROLES", "Token"]

ROLES: Final = ("voter", "follower", "client")
GRANTS: Final = ("none", "developer", "operator", "admin")
_PREFIX: Final = "osm1"
_LIMITS: Final = Limits(size=8192, depth=4, count=64)
_MAX_LETTERS: Final = 12_000
_FIX: Final = "create a new one on a member with: osiris-mesh token create"


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        mesh_id: 16 random bytes.
        network_key: The mesh's 32-byte secret.
        role: What its bearer may become: one of :data:`ROLES`.
        grant: Role of the user key that comes with a join, one of :data:`GRANTS`; the node's own key never deploys.
        seed: 32 random bytes, the seed of the token key.
        uses: How many joins it is good for.
        expires_ms: Wall clock, milliseconds.
        members: Where members answer, each with its peer id.
        issuer: Public key that signed.
        payload: The exact signed bytes.
        signature: 64 bytes.
    """

    mesh_id: bytes
    network_key: bytes = field(repr=False)
    role: str
    grant: str
    seed: bytes = field(repr=False)
    uses: int
    expires_ms: int
    members: tuple[Multiaddr, ...]
    issuer: bytes = b""
    payload: bytes = field(default=b"", repr=False)
    signature: bytes = field(default=b"", repr=False)

    @property
    def key(self) -> KeyPair:
        """The token key."""
        return KeyPair(self.seed)

    @property
    def id(self) -> str:
        """Name of the token for people: the first 16 hex digits of its public key."""
        return self.key.public.hex()[:16]

    def signed(self, issuer: KeyPair) -> Token:
        """Return this token with its payload signed by ``issuer``."""
        payload = pack(
            [
                1,
                self.mesh_id,
                self.network_key,
                self.role,
                self.grant,
                self.seed,
                self.uses,
                self.expires_ms,
                [str(member) for member in self.members],
            ]
        )
        signature = issuer.sign(Domain.TOKEN, payload)
        return replace(self, issuer=issuer.public, payload=payload, signature=signature)

    def text(self) -> str:
        """Return the form that is handed from person to person."""
        raw = pack([self.payload, self.issuer, self.signature])
        return _PREFIX + base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token and check its signature by the issuer named in it; whether that issuer counts, the ledger says.

        Raises:
            UsageError: Not a token, damaged, or its signature does not hold.
        """
        text = text.strip()
        if len(text) > _MAX_LETTERS or not text.startswith(_PREFIX):
            raise UsageError("this is not a token: a token starts with osm1", fix=_FIX)
        body = text[len(_PREFIX) :]
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            payload, issuer, signature = unpack_canonical(raw, _LIMITS)
            version, *fields = unpack_canonical(payload, _LIMITS)
            mesh_id, network_key, role, grant, seed, uses, expires_ms, members = fields
            shapes = (
                type(version) is int
                and version == 1
                and all(type(item) is bytes for item in (issuer, signature, mesh_id, network_key, seed))
                and (len(mesh_id), len(network_key), len(seed)) == (16, 32, 32)
                and role in ROLES
                and grant in GRANTS
                and type(uses) is type(expires_ms) is int
                and uses >= 1
                and expires_ms >= 0
                and type(members) is list
            )
            if not shapes:
                raise UsageError("the token is of a form this version does not know", fix=_FIX)
            addresses = tuple(Multiaddr.parse(member) for member in members)
        except (binascii.Error, ValueError, TypeError, AttributeError, RemoteProtocolError):
            raise UsageError("the token is damaged or not all of it was copied", fix=_FIX) from None
        if not verify(issuer, Domain.TOKEN, payload, signature):
            raise UsageError("the token is damaged: its signature does not hold", fix=_FIX)
        return cls(
            mesh_id=mesh_id,
            network_key=network_key,
            role=role,
            grant=grant,
            seed=seed,
            uses=uses,
            expires_ms=expires_ms,
            members=addresses,
            issuer=issuer,
            payload=payload,
            signature=signature,
        )
