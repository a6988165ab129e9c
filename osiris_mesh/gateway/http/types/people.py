"""Who may come in and who may do what: tokens, users, roles."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from osiris_mesh.gateway.http.types.shared import Entries, Grants, KeyText, NameText, Signed

__all__ = [
    "ApiToken",
    "ApiTokenBody",
    "ApiTokens",
    "NewToken",
    "NewUser",
    "Role",
    "RoleBody",
    "Roles",
    "TokenBody",
    "TokenRow",
    "Tokens",
    "UserBody",
    "UserChange",
    "UserRow",
    "Users",
    "WhoAmI",
]


class WhoAmI(Struct):
    """Who the bearer is, and what he may."""

    peer_id: str
    key: str
    kind: str
    name: str
    owner: str
    grants: list[str]


class TokenRow(Struct):
    """What is public of a join or client token."""

    id: str
    key: str
    role: str
    grant: str
    uses: int
    used: int
    expires: int
    issuer: str
    revoked: bool
    since: int


class Tokens(Struct):
    """Join and client tokens."""

    tokens: list[TokenRow]


class TokenBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a new token is good for."""

    role: Literal["voter", "follower", "client"] = "voter"
    grant: Literal["none", "developer", "operator", "admin"] = "developer"
    uses: Annotated[int, Meta(ge=1, le=100_000)] = 1
    ttl_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] = 3600
    name: Annotated[str, Meta(max_length=128, description="Of a client.")] = ""


class NewToken(Struct):
    """A new token: a secret, shown this once."""

    token: str
    id: str
    expires: int
    role: str
    grant: str
    uses: int
    height: int


class UserRow(Struct):
    """One user."""

    name: str
    role: str
    key: str
    since: int


class Users(Struct):
    """The users."""

    users: list[UserRow]


class UserBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A new user; without a key one is made."""

    name: NameText
    role: NameText = "developer"
    key: KeyText | None = None
    entries: Entries | None = None


class NewUser(Struct, omit_defaults=True):
    """The new user; ``secret`` is the key's seed, shown this once, where the gateway made it."""

    name: str
    role: str
    key: str
    height: int
    secret: str = ""


class UserChange(Signed):
    """What to change of a user."""

    role: Annotated[str, Meta(max_length=128)] = ""
    name: Annotated[str, Meta(max_length=128)] = ""


class Role(Struct):
    """A role."""

    name: str
    grants: list[str]
    builtin: bool


class Roles(Struct):
    """All roles."""

    roles: list[Role]


class RoleBody(Signed, kw_only=True):
    """What a role holds."""

    grants: Grants


class ApiToken(Struct):
    """What is public of an API token."""

    id: str
    name: str
    owner: str
    key: str
    grants: list[str]
    expires: int
    revoked: bool
    since: int


class ApiTokens(Struct):
    """The bearer's API tokens; everybody's for who manages users."""

    tokens: list[ApiToken]


class ApiTokenBody(Struct, forbid_unknown_fields=True):
    """A token never creates tokens: the entry is signed with the owner's own key, so that its secret stays with him."""

    entries: Entries
