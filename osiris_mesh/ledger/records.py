"""What the state holds of each thing; every record is immutable and replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.ledger.permissions import Grants

__all__ = [
    "ApiTokenRecord",
    "FunctionRecord",
    "Member",
    "Named",
    "Role",
    "TokenRecord",
    "TreeFile",
    "User",
    "VersionRecord",
]


@dataclass(frozen=True, slots=True)
class Member:
    """A node or a client of the mesh.

    Attributes:
        peer: Peer id.
        public_key: The key inside it.
        name: Name for people.
        role: ``voter`` (may become one), ``follower`` or ``client``.
        addresses: Where it said its links are accepted, as multiaddrs; empty for a client.
        since: Height at which it joined.
    """

    peer: str
    public_key: bytes
    name: str
    role: str
    addresses: tuple[str, ...]
    since: int


@dataclass(frozen=True, slots=True)
class User:
    """Someone who may sign entries.

    Attributes:
        key: Public key.
        name: Name, unique among users.
        role: Name of a built-in or custom role.
        since: Height at which he was added.
    """

    key: bytes
    name: str
    role: str
    since: int


@dataclass(frozen=True, slots=True)
class Named:
    """What a key was called, for the audit trail: nobody's name is forgotten when he is gone.

    Attributes:
        kind: ``user``, ``api_token``, ``client`` or ``node``.
        name: His latest name.
        owner: Public key of the user an API token acts for; else empty.
    """

    kind: str
    name: str
    owner: bytes = b""


@dataclass(frozen=True, slots=True)
class Role:
    """A custom role.

    Attributes:
        name: Its name.
        grants: What whoever has it may.
        since: Height at which it was set last.
    """

    name: str
    grants: Grants
    since: int


@dataclass(frozen=True, slots=True)
class ApiTokenRecord:
    """What is public of an API token.

    Attributes:
        key: Public half of its key.
        owner: Public key of the user it acts for.
        name: Name for people.
        grants: What it may, as far as its owner may.
        expires_ms: Wall clock, milliseconds.
        revoked: It is worth nothing.
        since: Height at which it was created.
    """

    key: bytes
    owner: bytes
    name: str
    grants: Grants
    expires_ms: int
    revoked: bool
    since: int

    @property
    def id(self) -> str:
        """Name for people, as :attr:`osiris_mesh.identity.api_token.ApiToken.id`."""
        return self.key.hex()[:16]

    def lives(self, time_ms: int) -> bool:
        """Say whether it is good for anything at this time."""
        return not self.revoked and self.expires_ms > time_ms


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is public of a token.

    Attributes:
        key: Public half of the token key.
        role: voter, follower or client.
        grant: Role of the user that comes with it, or ``none``.
        uses: Joins it is good for.
        used: Joins it was used for.
        expires_ms: Wall clock, milliseconds.
        issuer: Public key of the user who created it.
        revoked: It is worth nothing.
        since: Height at which it was created.
    """

    key: bytes
    role: str
    grant: str
    uses: int
    used: int
    expires_ms: int
    issuer: bytes
    revoked: bool
    since: int

    @property
    def id(self) -> str:
        """Name for people, as :attr:`osiris_mesh.identity.token.Token.id`."""
        return self.key.hex()[:16]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version of a function.

    Attributes:
        spec: What was published.
        deprecated: It should not be used any longer.
        publisher: Public key of the user who signed it.
        since: Height at which it was published.
        time_ms: Block time of that.
    """

    spec: FunctionSpec
    deprecated: bool
    publisher: bytes
    since: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """One function.

    Attributes:
        name: Full name.
        versions: By version, in the order of publication.
        active: The version that calls without one go to, or None.
    """

    name: str
    versions: dict[str, VersionRecord] = field(default_factory=dict)
    active: str | None = None


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file of the registry's tree.

    Attributes:
        data: Its bytes.
        head: What a change of it must name (:func:`osiris_mesh.ledger.tree.head_after`).
        places: :data:`osiris_mesh.ledger.tree.PLACE` of each entry that its bytes come from, one after the other.
    """

    data: bytes
    head: bytes
    places: bytes
