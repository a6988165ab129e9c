"""The effect of each kind of entry on the state; people and the registry's tree have files of their own.

Each effect checks everything before it changes anything, so that a refusal leaves no trace. What is checked here beside
the fields' rules is in ``DESIGN.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.errors import OsirisError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.authority import permit, permit_some, within
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import ACCEPTED, UNCHANGED, Outcome, Refused
from osiris_mesh.ledger.people import PEOPLE, bring_user, drop_user
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, CLIENT_GRANTS, NOTHING
from osiris_mesh.ledger.records import FunctionRecord, Member, Named, TokenRecord, User, VersionRecord
from osiris_mesh.ledger.tree import TREE
from osiris_mesh.ledger.values import LEVEL_KEY, refusal, rules_level

if TYPE_CHECKING:
    from osiris_mesh.ledger.state import Context, State

__all__ = ["EFFECTS", "MAX_SETTINGS"]

MAX_SETTINGS: Final = 4096


def _genesis(state: State, body: kinds.Genesis, entry: Entry, context: Context) -> Outcome:
    founders = [
        Member(peer_id(key), key, name, "voter", tuple(addresses), context.height)
        for key, name, addresses in body.founders
    ]
    if entry.author not in {founder.public_key for founder in founders}:
        raise Refused("author", "a genesis is signed by one of its founders")
    state.name = body.name
    state.members = {founder.peer: founder for founder in founders}
    state.users = {body.admin: User(body.admin, body.admin_name, "admin", context.height)}
    state.names = {founder.public_key: Named("node", founder.name) for founder in founders}
    state.names[body.admin] = Named("user", body.admin_name)
    return ACCEPTED


def _member_add(state: State, body: kinds.MemberAdd, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms))
    peer = peer_id(body.public_key)
    if peer in state.members:
        raise Refused("exists", "this node is a member already")
    token = state.tokens.get(body.token)
    if token is None:
        raise Refused("token", "the token is not known here")
    if token.role == "client":
        raise Refused("token", "a client's token does not make a node")
    if token.revoked:
        raise Refused("token", "the token was revoked")
    if token.expires_ms <= context.time_ms:
        raise Refused("token", "the token has expired")
    if token.used >= token.uses:
        raise Refused("token", "the token was used as often as it may be")
    if (body.token, body.public_key) in state.admitted:
        raise Refused("token", "this node has joined with this token before; create a new one")
    if not body.holds(state.mesh_id):
        raise Refused("signature", "the admission is not signed by the token and by the joiner")
    state.tokens[token.key] = replace(token, used=token.used + 1)
    state.admitted.add((body.token, body.public_key))
    state.members[peer] = Member(peer, body.public_key, body.name, token.role, tuple(body.addresses), context.height)
    state.names[body.public_key] = Named("node", body.name)
    bring_user(state, body.user, body.name, token.grant, context)
    return ACCEPTED


def _member_remove(state: State, body: kinds.MemberRemove, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms), body.peer)
    member = _member(state, body.peer)
    _not_last_voter(state, member)
    del state.members[body.peer]
    state.containers.pop(body.peer, None)
    return ACCEPTED


def _member_role(state: State, body: kinds.MemberRole, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms))
    member = _member(state, body.peer)
    if member.role == "client":
        raise Refused("client", "a client can't become a node")
    if member.role == body.role:
        return UNCHANGED
    _not_last_voter(state, member)
    state.members[body.peer] = replace(member, role=body.role)
    return ACCEPTED


def _member(state: State, peer: str) -> Member:
    member = state.members.get(peer)
    if member is None:
        raise Refused("unknown", "there is no such member")
    return member


def _not_last_voter(state: State, member: Member) -> None:
    if member.role == "voter" and sum(other.role == "voter" for other in state.members.values()) == 1:
        raise Refused("last", "this is the last member that may vote; without it nothing can be agreed")


def _token_create(state: State, body: kinds.TokenCreate, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author)
    if body.grant != "none":
        within(author, BUILT_IN_ROLES.get(body.grant, NOTHING), f"the role {body.grant}")
    if body.role == "client":
        within(author, CLIENT_GRANTS, "a client")
    if body.key in state.tokens or body.key in state.api_tokens:
        raise Refused("exists", "there is a token with this key already")
    if body.expires_ms <= context.time_ms:
        raise Refused("token", "the token has expired")
    client = body.role == "client"
    peer = peer_id(body.key)
    if client and (body.uses != 1 or not body.name):
        raise Refused("body", "a client's token has a name and one use")
    if client and (peer in state.members or body.key in state.users):
        # Its expiry would be that member's or user's.
        raise Refused("exists", "this key is a member or user already")
    state.tokens[body.key] = TokenRecord(
        body.key, body.role, body.grant, body.uses, int(client), body.expires_ms, entry.author,
        revoked=False, since=context.height,
    )  # fmt: skip
    if client:
        state.members[peer] = Member(peer, body.key, body.name, "client", (), context.height)
        state.names[body.key] = Named("client", body.name)
        bring_user(state, body.key, body.name, body.grant, context)
    return ACCEPTED


def _token_revoke(state: State, body: kinds.TokenRevoke, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms))
    token = state.tokens.get(body.key)
    if token is None:
        raise Refused("unknown", "there is no such token")
    if token.revoked:
        return UNCHANGED
    state.tokens[body.key] = replace(token, revoked=True)
    if token.role == "client":
        state.members.pop(peer_id(body.key), None)
        drop_user(state, body.key)
    return ACCEPTED


def _function_publish(state: State, body: kinds.FunctionPublish, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit_some(entry.kind, author)
    try:
        spec = FunctionSpec.from_wire(body.spec)
    except OsirisError as error:
        raise Refused("body", f"the specification is refused: {error.what}") from None
    permit(entry.kind, author, spec.name)
    if not spec.digest:
        raise Refused("body", "the specification names no bundle")
    record = state.functions.get(spec.name) or FunctionRecord(spec.name)
    there = record.versions.get(spec.version)
    digest = there.spec.digest if there else state.tombs.get((spec.name, spec.version), spec.digest)
    if digest != spec.digest:
        raise Refused("exists", f"{spec.name} {spec.version} is there with other code; give it a new version")
    if there is not None:
        return UNCHANGED
    version = VersionRecord(
        spec, deprecated=False, publisher=entry.author, since=context.height, time_ms=context.time_ms
    )
    state.functions[spec.name] = replace(record, versions={**record.versions, spec.version: version})
    state.tombs.pop((spec.name, spec.version), None)
    return ACCEPTED


def _function_activate(state: State, body: kinds.FunctionActivate, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms), body.name)
    record, there = _version(state, body.name, body.version)
    if body.digest not in {b"", there.spec.digest}:
        raise Refused("digest", f"{body.name} {body.version} is published with other code than is to be activated")
    if record.active == body.version:
        return UNCHANGED
    state.functions[body.name] = replace(record, active=body.version)
    return ACCEPTED


def _function_deprecate(state: State, body: kinds.FunctionDeprecate, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms), body.name)
    record, version = _version(state, body.name, body.version)
    if version.deprecated:
        return UNCHANGED
    versions = {**record.versions, body.version: replace(version, deprecated=True)}
    state.functions[body.name] = replace(record, versions=versions)
    return ACCEPTED


def _function_remove(state: State, body: kinds.FunctionRemove, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms), body.name)
    record = state.functions.get(body.name)
    if record is None:
        raise Refused("unknown", f"there is no function {body.name}")
    if body.version:
        _version(state, body.name, body.version)
        if record.active == body.version and len(record.versions) > 1:
            raise Refused("active", f"{body.name} {body.version} is active; activate another version first")
    gone = [body.version] if body.version else list(record.versions)
    for version in gone:
        state.tombs[body.name, version] = record.versions[version].spec.digest
    left = {version: there for version, there in record.versions.items() if version not in gone}
    if left:
        state.functions[body.name] = replace(record, versions=left)
    else:
        del state.functions[body.name]
    return ACCEPTED


def _version(state: State, name: str, version: str) -> tuple[FunctionRecord, VersionRecord]:
    record = state.functions.get(name)
    there = record.versions.get(version) if record else None
    if record is None or there is None:
        raise Refused("unknown", f"there is no {name} {version}")
    return record, there


def _container_functions(state: State, body: kinds.ContainerFunctions, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit(entry.kind, author, author.peer)
    if author.member_role == "client":
        raise Refused("client", "a client is no node and runs nothing")
    running = tuple((name, version, count) for name, version, count in body.functions)
    if state.containers.get(author.peer, ()) == running:
        return UNCHANGED
    state.containers[author.peer] = running
    return ACCEPTED


def _config_set(state: State, body: kinds.ConfigSet, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms))
    why = refusal(state.rules, body.key, body.value)
    if why:
        raise Refused("value", why)
    if state.settings.get(body.key) == body.value:
        state.set_by[body.key] = entry.hash
        return UNCHANGED
    if body.key not in state.settings and len(state.settings) >= MAX_SETTINGS:
        raise Refused("full", f"there are {MAX_SETTINGS} settings already")
    state.settings[body.key] = body.value
    state.set_by[body.key] = entry.hash
    if body.key == LEVEL_KEY:
        state.rules = max(state.rules, rules_level(body.value))
    return ACCEPTED


def _config_reset(state: State, body: kinds.ConfigReset, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms))
    if state.rules and body.key == LEVEL_KEY:
        raise Refused("value", f"{LEVEL_KEY} never goes down")
    gone = [body.key] if body.key else [key for key in state.settings if not (state.rules and key == LEVEL_KEY)]
    if not any(key in state.settings for key in gone):
        return UNCHANGED
    for key in gone:
        del state.settings[key]
        state.set_by.pop(key, None)
    return ACCEPTED


EFFECTS: Final[dict[str, Callable[[State, Any, Entry, Context], Outcome]]] = {
    "genesis": _genesis,
    "member.add": _member_add,
    "member.remove": _member_remove,
    "member.role": _member_role,
    "token.create": _token_create,
    "token.revoke": _token_revoke,
    "function.publish": _function_publish,
    "function.activate": _function_activate,
    "function.deprecate": _function_deprecate,
    "function.remove": _function_remove,
    "container.functions": _container_functions,
    "config.set": _config_set,
    "config.reset": _config_reset,
    **PEOPLE,
    **TREE,
}
