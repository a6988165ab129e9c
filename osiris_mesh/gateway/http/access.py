"""Roles, API tokens, and who the bearer is."""

from __future__ import annotations

from osiris_mesh.access.audit import Filter
from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import own_entries, propose, record
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.gateway.http.seen import sight_of
from osiris_mesh.ledger.kinds import ApiTokenCreate, ApiTokenRevoke, RoleRemove, RoleSet
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from osiris_mesh.ledger.records import ApiTokenRecord

__all__ = ["add_token", "audit", "list_roles", "list_tokens", "remove_role", "revoke_token", "set_role", "whoami"]

_MANAGE = "user.manage"


async def whoami(ask: Ask) -> types.WhoAmI:
    """Return who the bearer is and what he may."""
    bearer = ask.bearer
    who = bearer.principal
    owner = ask.parts.book.state.users.get(who.owner)
    return types.WhoAmI(
        peer_id=bearer.caller.peer,
        key=bearer.key.public.hex(),
        kind=who.kind,
        name=who.name,
        owner=owner.name if owner is not None else "",
        grants=list(who.grants.texts),
    )


async def audit(ask: Ask) -> types.Audit:
    """Return changes of the mesh, newest first."""
    query = ask.query
    wanted = Filter(**{name: getattr(query, name) for name in query.__struct_fields__})
    page = await ask.parts.trail.page(wanted, sight_of(ask).entry)
    return types.Audit(list(page.events), page.next)


async def list_roles(ask: Ask) -> types.Roles:
    """Return the built-in roles, and the custom ones that name no function the bearer may not know of."""
    sight, every = sight_of(ask), ask.bearer.principal.may(_MANAGE)
    custom = [role for role in ask.parts.book.state.roles.values() if every or sight.grants(role.grants.texts)]
    roles = [types.Role(name, list(grants.texts), builtin=True) for name, grants in BUILT_IN_ROLES.items()]
    return types.Roles([*roles, *(types.Role(role.name, list(role.grants.texts), builtin=False) for role in custom)])


async def set_role(ask: Ask) -> types.Changed:
    """Give a custom role these grants."""
    change = RoleSet(ask.names["role"], sorted(set(ask.body.grants)))
    return types.Changed((await record(ask, [change], ask.body.entries)).height)


async def remove_role(ask: Ask) -> types.Changed:
    """Remove a custom role nobody has."""
    name = ask.names["role"]
    if name not in ask.parts.book.state.roles:
        raise NotFound(f"no custom role is called {name[:80]}", fix="GET /v1/roles lists them")
    return types.Changed((await record(ask, [RoleRemove(name)], ask.body.entries)).height)


def _row(ask: Ask, token: ApiTokenRecord) -> types.ApiToken:
    owner = ask.parts.book.state.users.get(token.owner)
    return types.ApiToken(
        id=token.id,
        name=token.name,
        owner=owner.name if owner is not None else "",
        key=token.key.hex(),
        grants=list(token.grants.texts),
        expires=token.expires_ms,
        revoked=token.revoked,
        since=token.since,
    )


async def list_tokens(ask: Ask) -> types.ApiTokens:
    """Return the bearer's API tokens, or everybody's for who manages users."""
    who, sight, mine = ask.bearer.principal, sight_of(ask), ask.bearer.key.public
    every = who.may(_MANAGE)

    def listed(token: ApiTokenRecord) -> bool:
        # A narrowed token does not learn from its owner's others what he may.
        return token.owner == who.owner and (token.key == mine or sight.grants(token.grants.texts))

    return types.ApiTokens(
        [_row(ask, token) for token in ask.parts.book.state.api_tokens.values() if every or listed(token)]
    )


async def add_token(ask: Ask) -> types.Changed:
    """Record an API token its owner has signed himself; its secret never leaves him."""
    entries = own_entries(ask.body.entries)
    if [entry.kind for entry in entries] != [ApiTokenCreate.KIND]:
        raise UsageError(f"the entries are not one {ApiTokenCreate.KIND}")
    return types.Changed((await propose(ask, [entry.bytes for entry in entries])).height)


async def revoke_token(ask: Ask) -> types.Changed:
    """Make an API token worthless."""
    wanted, who = ask.names["id"], ask.bearer.principal
    for token in ask.parts.book.state.api_tokens.values():
        if token.id == wanted and (token.owner == who.owner or who.may(_MANAGE)):
            return types.Changed((await record(ask, [ApiTokenRevoke(token.key)], ask.body.entries)).height)
    raise NotFound(f"you have no API token with the id {wanted[:40]}", fix="GET /v1/apitokens lists them")
