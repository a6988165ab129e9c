"""The effects of entries about users, their roles and their API tokens.

Nobody gives, changes or takes away what reaches further than what he holds himself; and of those who hold every
permission one always stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.authority import permit, within
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import ACCEPTED, UNCHANGED, Outcome, Refused
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, EVERYTHING, NOTHING, Grants
from osiris_mesh.ledger.records import ApiTokenRecord, Named, Role, User

if TYPE_CHECKING:
    from osiris_mesh.ledger.state import Context, State

__all__ = ["MAX_API_TOKENS", "MAX_ROLES", "PEOPLE", "bring_user", "drop_user"]

MAX_ROLES: Final = 256
MAX_API_TOKENS: Final = 256
"""Living ones of one owner."""
_FOREVER: Final = 1 << 62


def bring_user(state: State, key: bytes, name: str, grant: str, context: Context) -> None:
    """Add the user that comes with a token; one who is a user already stays what he is."""
    if grant != "none" and key and key not in state.users:
        _put_user(state, User(key, _free_name(state, name), grant, context.height))


def _put_user(state: State, user: User) -> None:
    state.users[user.key] = user
    state.names[user.key] = Named("user", user.name)


def drop_user(state: State, key: bytes) -> None:
    """Forget a user and his API tokens: should he come back, they must not."""
    if state.users.pop(key, None) is not None:
        for token in [token.key for token in state.api_tokens.values() if token.owner == key]:
            del state.api_tokens[token]


def _free_name(state: State, name: str) -> str:
    taken = {user.name for user in state.users.values()}
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}-{count}"
    return free


def _user_add(state: State, body: kinds.UserAdd, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author)
    within(author, _role(state, body.role), f"the role {body.role}")
    if body.key in state.users:
        raise Refused("exists", "this key is a user already")
    _name_is_free(state, body.name, body.key)
    _put_user(state, User(body.key, body.name, body.role, context.height))
    return ACCEPTED


def _user_update(state: State, body: kinds.UserUpdate, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author)
    user = _user(state, body.key)
    grants = _role(state, body.role)
    within(author, _role(state, user.role), f"the role {user.role}")
    within(author, grants, f"the role {body.role}")
    _name_is_free(state, body.name, body.key)
    if grants.missing(EVERYTHING):
        _somebody_stays(state, lambda each: each.key == body.key)
    changed = replace(user, name=body.name, role=body.role)
    if changed == user:
        return UNCHANGED
    _put_user(state, changed)
    return ACCEPTED


def _user_remove(state: State, body: kinds.UserRemove, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author)
    user = _user(state, body.key)
    within(author, _role(state, user.role), f"the role {user.role}")
    _somebody_stays(state, lambda each: each.key == body.key)
    drop_user(state, body.key)
    return ACCEPTED


def _user(state: State, key: bytes) -> User:
    user = state.users.get(key)
    if user is None:
        raise Refused("unknown", "there is no such user")
    return user


def _role(state: State, name: str) -> Grants:
    grants = state.role(name)
    if grants is None:
        raise Refused("unknown", f"there is no role {name}")
    return grants


def _name_is_free(state: State, name: str, key: bytes) -> None:
    if any(user.name == name and user.key != key for user in state.users.values()):
        raise Refused("exists", "there is a user of this name already")


def _somebody_stays(state: State, goes: Callable[[User], bool]) -> None:
    """Refuse to lose the last user who holds every permission: nobody could ever give what nobody holds.

    A client's user does not count: it ends when its token expires.
    """
    full = [
        user
        for user in state.users.values()
        if not state.expired(user.key, _FOREVER) and not (state.role(user.role) or NOTHING).missing(EVERYTHING)
    ]
    if full and all(map(goes, full)):
        raise Refused("last", "this is the last admin, who holds every permission; make another one first")


def _role_set(state: State, body: kinds.RoleSet, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author)
    _custom(body.name)
    wanted, there = Grants(body.grants), state.roles.get(body.name)
    within(author, wanted, f"the role {body.name}")
    if there is not None:
        within(author, there.grants, f"the role {body.name}")
        if there.grants == wanted:
            return UNCHANGED
        if wanted.missing(EVERYTHING):
            _somebody_stays(state, lambda user: user.role == body.name)
    elif len(state.roles) >= MAX_ROLES:
        raise Refused("full", f"there are {MAX_ROLES} custom roles already")
    state.roles[body.name] = Role(body.name, wanted, context.height)
    return ACCEPTED


def _role_remove(state: State, body: kinds.RoleRemove, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author)
    _custom(body.name)
    within(author, _role(state, body.name), f"the role {body.name}")
    user = next((user for user in state.users.values() if user.role == body.name), None)
    if user is not None:
        raise Refused("used", f"{user.name} has the role {body.name}; give him another one first")
    del state.roles[body.name]
    return ACCEPTED


def _custom(name: str) -> None:
    if name in BUILT_IN_ROLES or name == "none":
        raise Refused("reserved", f"{name} is a built-in role and stays what it is")


def _api_token_create(state: State, body: kinds.ApiTokenCreate, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    if author.principal.kind == "api_token":
        raise Refused("role", "an API token creates no tokens; sign with its owner's own key")
    permit(entry.kind, author, body.owner)
    owner = _user(state, body.owner)
    wanted = Grants(body.grants)
    within(author, wanted, f"the API token {body.name}")
    if (
        body.key in state.api_tokens
        or body.key in state.tokens
        or body.key in state.users
        or peer_id(body.key) in state.members
    ):
        raise Refused("exists", "this key is somebody's already")
    if body.expires_ms <= context.time_ms:
        raise Refused("token", "the token has expired")
    his = [token for token in state.api_tokens.values() if token.owner == owner.key]
    living = [token for token in his if token.lives(context.time_ms)]
    if any(token.name == body.name for token in living):
        raise Refused("exists", f"{owner.name} has an API token called {body.name} already")
    if len(living) >= MAX_API_TOKENS:
        raise Refused("full", f"{owner.name} has {MAX_API_TOKENS} API tokens already; revoke one first")
    dead = [token for token in his if not token.lives(context.time_ms)]
    for token in dead[: max(0, len(his) + 1 - MAX_API_TOKENS)]:
        del state.api_tokens[token.key]
    state.api_tokens[body.key] = ApiTokenRecord(
        body.key, owner.key, body.name, wanted, body.expires_ms, revoked=False, since=context.height
    )
    state.names[body.key] = Named("api_token", body.name, owner.key)
    return ACCEPTED


def _api_token_revoke(state: State, body: kinds.ApiTokenRevoke, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    token = state.api_tokens.get(body.key)
    # A token may give itself up, and nothing else of its owner's.
    if entry.author != body.key or author.principal.kind != "api_token":
        permit(entry.kind, author, token.owner if token is not None else b"")
    if token is None:
        raise Refused("unknown", "there is no such API token")
    if token.revoked:
        return UNCHANGED
    state.api_tokens[body.key] = replace(token, revoked=True)
    return ACCEPTED


PEOPLE: Final[dict[str, Callable[[State, Any, Entry, Context], Outcome]]] = {
    "user.add": _user_add,
    "user.update": _user_update,
    "user.remove": _user_remove,
    "role.set": _role_set,
    "role.remove": _role_remove,
    "apitoken.create": _api_token_create,
    "apitoken.revoke": _api_token_revoke,
}
