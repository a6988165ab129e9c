"""Tokens that let nodes and clients in, users, and the settings of the mesh."""

from __future__ import annotations

from typing import Any

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.gateway import config_keys
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import record
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.gateway.http.seen import sets_settings
from osiris_mesh.gateway.views import token_view, user_view
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.token import Token
from osiris_mesh.ledger.kinds import (
    ConfigReset,
    ConfigSet,
    TokenCreate,
    TokenRevoke,
    UserAdd,
    UserRemove,
    UserUpdate,
)
from osiris_mesh.ledger.records import User

__all__ = [
    "add_user",
    "create_token",
    "list_settings",
    "list_tokens",
    "list_users",
    "remove_user",
    "reset_setting",
    "reset_settings",
    "revoke_token",
    "set_setting",
    "setting",
    "update_user",
]


# Join and client tokens.


async def list_tokens(ask: Ask) -> Any:
    """Return what is public of every join and client token."""
    state = ask.parts.book.state
    views = [token_view(token, state.users.get(token.issuer)) for token in state.tokens.values()]
    return {"tokens": [view | {"key": view["key"].hex()} for view in views]}


async def create_token(ask: Ask) -> types.NewToken:
    """Make a token, record its public half, and show it this once."""
    body, parts = ask.body, ask.parts
    client = body.role == "client"
    if client and body.uses != 1:
        raise UsageError("a client's token is the client itself, so it is good for one")
    if body.name and not client:
        raise UsageError("a name is a client's; a node names itself")
    contact = parts.node.contact()
    token = Token(
        mesh_id=contact["mesh_id"],
        network_key=contact["network_key"],
        role=body.role,
        grant=body.grant,
        seed=KeyPair.generate().seed,
        uses=body.uses,
        expires_ms=parts.clock.time_ms() + body.ttl_s * 1000,
        members=tuple(Multiaddr.parse(address) for address in contact["members"]),
    ).signed(ask.bearer.key)
    name = "" if not client else body.name or f"client-{token.id[:6]}"
    change = TokenCreate(token.key.public, body.role, body.grant, body.uses, token.expires_ms, name)
    receipt = await record(ask, [change])
    return types.NewToken(token.text(), token.id, token.expires_ms, body.role, body.grant, body.uses, receipt.height)


async def revoke_token(ask: Ask) -> types.Changed:
    """Make a token worthless."""
    wanted = ask.names["id"]
    for token in ask.parts.book.state.tokens.values():
        if token.id == wanted:
            return types.Changed((await record(ask, [TokenRevoke(token.key)], ask.body.entries)).height)
    raise NotFound(f"no token has the id {wanted[:40]}", fix="GET /v1/tokens lists them")


# Users.


def _user(ask: Ask) -> User:
    name = ask.names["user"]
    for user in ask.parts.book.state.users.values():
        if user.name == name:
            return user
    raise NotFound(f"no user is called {name[:80]}", fix="GET /v1/users lists them")


async def list_users(ask: Ask) -> Any:
    """Return every user."""
    return {"users": [user_view(user) | {"key": user.key.hex()} for user in ask.parts.book.state.users.values()]}


async def add_user(ask: Ask) -> types.NewUser:
    """Add a user; without a key, make one and show its secret half this once."""
    body = ask.body
    if body.key is None and body.entries is not None:
        raise UsageError("entries are for a key; give it in the field key")
    pair = KeyPair.generate() if body.key is None else None
    key = pair.public if pair is not None else bytes.fromhex(body.key)
    receipt = await record(ask, [UserAdd(key, body.name, body.role)], body.entries)
    return types.NewUser(body.name, body.role, key.hex(), receipt.height, pair.seed.hex() if pair is not None else "")


async def update_user(ask: Ask) -> types.Changed:
    """Give a user another role or name."""
    body, user = ask.body, _user(ask)
    if not body.role and not body.name:
        raise UsageError("nothing to change was given", fix="give role, name or both")
    change = UserUpdate(user.key, body.name or user.name, body.role or user.role)
    return types.Changed((await record(ask, [change], body.entries)).height)


async def remove_user(ask: Ask) -> types.Changed:
    """Remove a user."""
    return types.Changed((await record(ask, [UserRemove(_user(ask).key)], ask.body.entries)).height)


# Settings.


async def list_settings(ask: Ask) -> Any:
    """Return every setting: those set, and the known ones that are not."""
    return {"settings": config_keys.listing(ask.parts.book.state.settings, whole=sets_settings(ask))}


async def setting(ask: Ask) -> Any:
    """Return one setting."""
    key = ask.names["key"]
    for row in config_keys.listing(ask.parts.book.state.settings, whole=sets_settings(ask)):
        if row["key"] == key:
            return row
    raise _no_setting(key)


def _no_setting(key: str) -> NotFound:
    return NotFound(f"there is no setting {key[:80]}", fix="GET /v1/config lists them")


async def set_setting(ask: Ask) -> types.Changed:
    """Give a setting a value, on every node."""
    key, value = ask.names["key"], ask.body.value
    config_keys.check(key, value)
    return types.Changed((await record(ask, [ConfigSet(key, value)], ask.body.entries)).height)


async def reset_setting(ask: Ask) -> types.Changed:
    """Give a setting its default again."""
    key = ask.names["key"]
    if key not in ask.parts.book.state.settings and config_keys.known(key) is None:
        raise _no_setting(key)
    return types.Changed((await record(ask, [ConfigReset(key)], ask.body.entries)).height)


async def reset_settings(ask: Ask) -> types.Changed:
    """Give every setting its default again."""
    return types.Changed((await record(ask, [ConfigReset("")], ask.body.entries)).height)
