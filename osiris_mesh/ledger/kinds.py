# ruff: noqa: RUF009 - every default is a field(), made by one function that adds the field's rule
"""The kinds of entries and the fields of each kind's body.

A class is one kind: :meth:`Body.body` gives the array for :meth:`osiris_mesh.ledger.entry.Entry.make`, :func:`read`
goes the other way and checks every field. The array's order is the order of the fields here; a new field means a new
kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final

from osiris_mesh.codec import pack
from osiris_mesh.function.spec import SPEC_LIMITS
from osiris_mesh.identity.keys import Domain, KeyPair, verify
from osiris_mesh.identity.token import GRANTS, ROLES
from osiris_mesh.ledger import shapes
from osiris_mesh.ledger.outcome import Refused
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from osiris_mesh.ledger.shapes import Shape

__all__ = [
    "KINDS",
    "NODE_ROLES",
    "USER_ROLES",
    "ApiTokenCreate",
    "ApiTokenRevoke",
    "Body",
    "ConfigReset",
    "ConfigSet",
    "ContainerFunctions",
    "FunctionActivate",
    "FunctionDeprecate",
    "FunctionPublish",
    "FunctionRemove",
    "Genesis",
    "MemberAdd",
    "MemberRemove",
    "MemberRole",
    "RegistryRemove",
    "RegistryWrite",
    "RoleRemove",
    "RoleSet",
    "TokenCreate",
    "TokenRevoke",
    "UserAdd",
    "UserRemove",
    "UserUpdate",
    "admission",
    "read",
]

NODE_ROLES: Final = ("voter", "follower")
USER_ROLES: Final = tuple(BUILT_IN_ROLES)
"""The built-in ones; a user may have a custom role as well."""
_SHAPE: Final = "shape"
_MAX_TIME: Final = 1 << 53

_KEY = shapes.octets(32)
_OPTIONAL_KEY = shapes.octets(0, 32)
_SIGNATURE = shapes.octets(64)
_PEER = shapes.pattern("a peer id", shapes.PEER_ID)
_VERSION_OR_ALL = shapes.one_of(shapes.VERSION, shapes.EMPTY)


def _is(shape: Shape) -> Any:
    return field(metadata={_SHAPE: shape})


class Body:
    """What all kinds have."""

    KIND: ClassVar[str]

    def body(self) -> list[Any]:
        """Return the fields in order, as they stand in an entry."""
        return [getattr(self, item.name) for item in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Genesis(Body):
    """The first entry of a mesh.

    Attributes:
        name: The mesh's name.
        founders: ``[public key, name, addresses]`` of each node it begins with, all voters; the author is one of them.
        admin: Public key of the first administrator.
        admin_name: His name.
    """

    KIND: ClassVar[str] = "genesis"
    name: str = _is(shapes.NAME)
    founders: list[list[Any]] = _is(shapes.FOUNDERS)
    admin: bytes = _is(_KEY)
    admin_name: str = _is(shapes.NAME)


@dataclass(frozen=True, slots=True)
class MemberAdd(Body):
    """A node joins with a token; :func:`admission` makes it with both signatures.

    Attributes:
        token: Public half of the token key.
        public_key: The joiner's.
        user: Public key of the user that comes along, or empty.
        name: The joiner's name.
        addresses: Where its links are accepted, as multiaddrs.
        token_signature: The token key's, over the admission.
        signature: The joiner's, over the same.
    """

    KIND: ClassVar[str] = "member.add"
    token: bytes = _is(_KEY)
    public_key: bytes = _is(_KEY)
    user: bytes = _is(_OPTIONAL_KEY)
    name: str = _is(shapes.NAME)
    addresses: list[str] = _is(shapes.ADDRESSES)
    token_signature: bytes = _is(_SIGNATURE)
    signature: bytes = _is(_SIGNATURE)

    def holds(self, mesh_id: bytes) -> bool:
        """Say whether both signatures are over this admission to this mesh."""
        message = _admission_bytes(mesh_id, self.public_key, self.user, self.name, self.addresses)
        return verify(self.token, Domain.ADMISSION, message, self.token_signature) and verify(
            self.public_key, Domain.ADMISSION, message, self.signature
        )


def _admission_bytes(mesh_id: bytes, public_key: bytes, user: bytes, name: str, addresses: Sequence[str]) -> bytes:
    return pack([1, mesh_id, public_key, user, name, list(addresses)])


def admission(
    mesh_id: bytes, *, token: KeyPair, joiner: KeyPair, user: bytes, name: str, addresses: Sequence[str]
) -> MemberAdd:
    """Return a joiner's admission, signed by the token key and by the joiner; a member puts it into an entry.

    Args:
        mesh_id: The mesh to join.
        token: Key pair of the token (:attr:`osiris_mesh.identity.token.Token.key`).
        joiner: The node's key pair.
        user: Public key of the user that comes along, or empty.
        name: The joiner's name.
        addresses: Where its links are accepted, as multiaddrs.
    """
    message = _admission_bytes(mesh_id, joiner.public, user, name, addresses)
    return MemberAdd(
        token=token.public,
        public_key=joiner.public,
        user=user,
        name=name,
        addresses=list(addresses),
        token_signature=token.sign(Domain.ADMISSION, message),
        signature=joiner.sign(Domain.ADMISSION, message),
    )


@dataclass(frozen=True, slots=True)
class MemberRemove(Body):
    """A node or client leaves, or is removed.

    Attributes:
        peer: Its peer id.
    """

    KIND: ClassVar[str] = "member.remove"
    peer: str = _is(_PEER)


@dataclass(frozen=True, slots=True)
class MemberRole(Body):
    """A node may become a voter, or no longer.

    Attributes:
        peer: Its peer id.
        role: ``voter`` or ``follower``.
    """

    KIND: ClassVar[str] = "member.role"
    peer: str = _is(_PEER)
    role: str = _is(shapes.choice(*NODE_ROLES))


@dataclass(frozen=True, slots=True)
class TokenCreate(Body):
    """A token exists; one of role ``client`` is a member at once, its key being the client's identity.

    Attributes:
        key: Public half of the token key.
        role: What the bearer becomes.
        grant: Role of the user that comes with it, or ``none``.
        uses: Joins it is good for; always 1 for a client.
        expires_ms: Wall clock, milliseconds; a client's token expires as well.
        name: The client's name; empty for the other roles.
    """

    KIND: ClassVar[str] = "token.create"
    key: bytes = _is(_KEY)
    role: str = _is(shapes.choice(*ROLES))
    grant: str = _is(shapes.choice(*GRANTS))
    uses: int = _is(shapes.number(1, 100_000))
    expires_ms: int = _is(shapes.number(0, _MAX_TIME))
    name: str = _is(shapes.text(0, 128))


@dataclass(frozen=True, slots=True)
class TokenRevoke(Body):
    """A token is worth nothing from now on; a client's membership, and the user that came with it, end with it.

    Attributes:
        key: Public half of the token key.
    """

    KIND: ClassVar[str] = "token.revoke"
    key: bytes = _is(_KEY)


@dataclass(frozen=True, slots=True)
class FunctionPublish(Body):
    """A version of a function exists; it is immutable.

    Attributes:
        spec: :meth:`osiris_mesh.function.spec.FunctionSpec.to_wire`, digest included.
    """

    KIND: ClassVar[str] = "function.publish"
    spec: bytes = _is(shapes.blob(1, SPEC_LIMITS.size))


@dataclass(frozen=True, slots=True)
class FunctionActivate(Body):
    """Calls without a version go to this one; a rollback is this too.

    Attributes:
        name: Full name.
        version: A published version.
        digest: The bundle that must be published under it, so that a deployment whose publication is refused does not
            switch to other code; empty for whichever is, as in a rollback.
    """

    KIND: ClassVar[str] = "function.activate"
    name: str = _is(shapes.FUNCTION_NAME)
    version: str = _is(shapes.VERSION)
    digest: bytes = field(default=b"", metadata={_SHAPE: _OPTIONAL_KEY})


@dataclass(frozen=True, slots=True)
class FunctionDeprecate(Body):
    """A version should not be used any longer.

    Attributes:
        name: Full name.
        version: A published version.
    """

    KIND: ClassVar[str] = "function.deprecate"
    name: str = _is(shapes.FUNCTION_NAME)
    version: str = _is(shapes.VERSION)


@dataclass(frozen=True, slots=True)
class FunctionRemove(Body):
    """A version, or the whole function, is gone; its version numbers never mean other code.

    Attributes:
        name: Full name.
        version: A version that is not active, or empty for all.
    """

    KIND: ClassVar[str] = "function.remove"
    name: str = _is(shapes.FUNCTION_NAME)
    version: str = _is(_VERSION_OR_ALL)


@dataclass(frozen=True, slots=True)
class ContainerFunctions(Body):
    """What runs on the author's container now, the whole list.

    Attributes:
        functions: ``[name, version, instances]``, ascending.
    """

    KIND: ClassVar[str] = "container.functions"
    functions: list[list[Any]] = _is(shapes.CONTAINER_LIST)


@dataclass(frozen=True, slots=True)
class ConfigSet(Body):
    """A setting of the mesh has this value.

    Attributes:
        key: For example ``invoke.max_retries``.
        value: Text; what it means is the setting's affair.
    """

    KIND: ClassVar[str] = "config.set"
    key: str = _is(shapes.SETTING_KEY)
    value: str = _is(shapes.text(0, 4096))


@dataclass(frozen=True, slots=True)
class ConfigReset(Body):
    """A setting of the mesh has its default again.

    Attributes:
        key: Its key, or empty for all.
    """

    KIND: ClassVar[str] = "config.reset"
    key: str = _is(shapes.one_of(shapes.SETTING_KEY, shapes.EMPTY))


@dataclass(frozen=True, slots=True)
class UserAdd(Body):
    """Someone may sign entries.

    Attributes:
        key: His public key.
        name: His name, no other user's.
        role: A built-in role or a custom one that is there.
    """

    KIND: ClassVar[str] = "user.add"
    key: bytes = _is(_KEY)
    name: str = _is(shapes.NAME)
    role: str = _is(shapes.ROLE_NAME)


@dataclass(frozen=True, slots=True)
class UserUpdate(Body):
    """A user has this name and role from now on.

    Attributes:
        key: His public key.
        name: His name.
        role: A built-in role or a custom one that is there.
    """

    KIND: ClassVar[str] = "user.update"
    key: bytes = _is(_KEY)
    name: str = _is(shapes.NAME)
    role: str = _is(shapes.ROLE_NAME)


@dataclass(frozen=True, slots=True)
class UserRemove(Body):
    """Someone may no longer sign entries.

    Attributes:
        key: His public key.
    """

    KIND: ClassVar[str] = "user.remove"
    key: bytes = _is(_KEY)


@dataclass(frozen=True, slots=True)
class RoleSet(Body):
    """A custom role has these grants from now on, for everybody who has it.

    Attributes:
        name: Its name, not a built-in role's.
        grants: As :func:`osiris_mesh.ledger.permissions.check_grant` has them, ascending.
    """

    KIND: ClassVar[str] = "role.set"
    name: str = _is(shapes.ROLE_NAME)
    grants: list[str] = _is(shapes.GRANT_LIST)


@dataclass(frozen=True, slots=True)
class RoleRemove(Body):
    """A custom role that nobody has is gone.

    Attributes:
        name: Its name.
    """

    KIND: ClassVar[str] = "role.remove"
    name: str = _is(shapes.ROLE_NAME)


@dataclass(frozen=True, slots=True)
class ApiTokenCreate(Body):
    """A key may act for a user, within both his grants and these.

    Attributes:
        key: Public half of the key made of the token's seed.
        owner: Public key of the user.
        name: Name for people, no other living token's of this owner.
        grants: As :func:`osiris_mesh.ledger.permissions.check_grant` has them, ascending.
        expires_ms: Wall clock, milliseconds.
    """

    KIND: ClassVar[str] = "apitoken.create"
    key: bytes = _is(_KEY)
    owner: bytes = _is(_KEY)
    name: str = _is(shapes.NAME)
    grants: list[str] = _is(shapes.GRANT_LIST)
    expires_ms: int = _is(shapes.number(0, _MAX_TIME))


@dataclass(frozen=True, slots=True)
class ApiTokenRevoke(Body):
    """An API token is worth nothing from now on.

    Attributes:
        key: Public half of its key.
    """

    KIND: ClassVar[str] = "apitoken.revoke"
    key: bytes = _is(_KEY)


@dataclass(frozen=True, slots=True)
class RegistryWrite(Body):
    """Files of the registry's tree are written, all of them or none.

    Attributes:
        changes: ``[path, head it was made for or empty, bytes]``, ascending by path: what a history grows by, or what
            ``config.json`` or ``checkpoint`` is from now on.
    """

    KIND: ClassVar[str] = "registry.write"
    changes: list[list[Any]] = _is(shapes.TREE_CHANGES)


@dataclass(frozen=True, slots=True)
class RegistryRemove(Body):
    """A file of the registry's tree is gone, to be written anew: how an operator repairs a spoiled history.

    Attributes:
        path: Its path.
        previous: The head it has.
    """

    KIND: ClassVar[str] = "registry.remove"
    path: str = _is(shapes.TREE_PATH)
    previous: bytes = _is(_KEY)


KINDS: Final[dict[str, type[Body]]] = {
    kind.KIND: kind
    for kind in (
        Genesis,
        MemberAdd,
        MemberRemove,
        MemberRole,
        TokenCreate,
        TokenRevoke,
        FunctionPublish,
        FunctionActivate,
        FunctionDeprecate,
        FunctionRemove,
        ContainerFunctions,
        ConfigSet,
        ConfigReset,
        UserAdd,
        UserUpdate,
        UserRemove,
        RoleSet,
        RoleRemove,
        ApiTokenCreate,
        ApiTokenRevoke,
        RegistryWrite,
        RegistryRemove,
    )
}

_FIELDS: Final[dict[str, tuple[tuple[str, Shape], ...]]] = {
    name: tuple((item.name, item.metadata[_SHAPE]) for item in fields(kind))  # type: ignore[arg-type]
    for name, kind in KINDS.items()
}


def read(kind: str, body: list[Any]) -> Body:
    """Return the body of an entry as its class.

    Raises:
        Refused: The kind is not known, or a field breaks its rule.
    """
    rules = _FIELDS.get(kind)
    if rules is None:
        raise Refused("kind", "this version knows no entries of this kind")
    if len(body) != len(rules):
        raise Refused("body", f"a {kind} entry has {len(rules)} fields, this one {len(body)}")
    for value, (name, shape) in zip(body, rules, strict=True):
        if not shape.holds(value):
            raise Refused("body", f"{name} of a {kind} entry is not {shape.says}")
    return KINDS[kind](*body)
