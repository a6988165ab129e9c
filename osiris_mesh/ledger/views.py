"""Blocks and entries as maps of JSON types, for ``ledger log`` and ``ledger show``; bytes as hex."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.peer_id import peer_id, public_key
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.block import Block, Header, block_hash, read_wire
from osiris_mesh.ledger.chain import Row, unpack_outcomes
from osiris_mesh.ledger.entry import Entry, entry_hash
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.records import Named
from osiris_mesh.ledger.state import State
from osiris_mesh.ledger.values import told

__all__ = ["Shown", "block_view", "entry_view", "stored_block", "subject"]

Shown = Callable[[Entry | None, Outcome], bool]
"""Says whether somebody may know what an entry says."""


def stored_block(row: Row) -> Block:
    """Return a stored row as a block; what it says is not checked against the chain.

    Raises:
        RemoteProtocolError: It can't be decoded.
    """
    header_bytes, raw = read_wire(row.wire)
    parsed: list[Entry | None] = []
    for data in raw:
        try:
            parsed.append(Entry.parse(data))
        except RemoteProtocolError:
            parsed.append(None)
    return Block(
        header=Header.from_wire(header_bytes),
        hash=block_hash(header_bytes),
        wire=row.wire,
        hashes=tuple(map(entry_hash, raw)),
        entries=tuple(parsed),
        outcomes=unpack_outcomes(row.outcomes, len(raw)),
    )


def block_view(block: Block, state: State, *, bodies: bool = False, shown: Shown | None = None) -> dict[str, Any]:
    """Return a block.

    An entry that is not shown keeps its place, its hash and its kind, so that the block's roots can still be proven;
    what it says is withheld, its nonce with it, so that nobody finds it out by trying.

    Args:
        block: The block.
        state: Gives the names of authors.
        bodies: Every field of every entry, not only its summary.
        shown: Which entries; None: all.
    """
    header = block.header
    return {
        "height": header.height,
        "hash": block.hash.hex(),
        "previous": header.previous.hex(),
        "container": header.container,
        "time_ms": header.time_ms,
        "first": header.first,
        "count": header.count,
        "entries_root": header.entries_root.hex(),
        "log_size": header.log_size,
        "log_root": header.log_root.hex(),
        "raft_term": header.raft_term,
        "raft_index": header.raft_index,
        "entries": [
            {"height": header.height, "index": header.first + at, "hash": digest.hex()}
            | (
                entry_view(entry, outcome, state, bodies=bodies)
                if shown is None or shown(entry, outcome)
                else _withheld(entry, outcome)
            )
            for at, (digest, entry, outcome) in enumerate(zip(block.hashes, block.entries, block.outcomes, strict=True))
        ],
    }


def _withheld(entry: Entry | None, outcome: Outcome) -> dict[str, Any]:
    return {
        "accepted": outcome.accepted,
        "code": "",
        "reason": "",
        "kind": entry.kind if entry is not None else "",
        "author": "",
        "author_name": "",
        "time_ms": entry.time_ms if entry is not None else 0,
        "summary": "withheld",
        "withheld": True,
    }


def entry_view(entry: Entry | None, outcome: Outcome, state: State, *, bodies: bool) -> dict[str, Any]:
    """Return one entry and what became of it."""
    view: dict[str, Any] = {"accepted": outcome.accepted, "code": outcome.code, "reason": outcome.reason}
    if entry is None:
        return view | {"kind": "", "author": "", "author_name": "", "time_ms": 0, "summary": "not a well-formed entry"}
    named = state.names.get(entry.author)
    view |= {
        "kind": entry.kind,
        "author": entry.author.hex(),
        "author_name": named.name if named else "",
        "time_ms": entry.time_ms,
        "summary": "",
    }
    try:
        body = kinds.read(entry.kind, entry.body)
    except Refused:
        return view
    view["summary"] = _summary(body)
    if bodies:
        view["nonce"] = entry.nonce.hex()
        view["signature"] = entry.signature.hex()
        view["body"] = {item.name: _plain(getattr(body, item.name)) for item in fields(body)}  # type: ignore[arg-type]
        if isinstance(body, kinds.FunctionPublish):
            view["body"]["spec"] = _spec(body.spec)
    return view


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _spec(data: bytes) -> Any:
    try:
        spec = FunctionSpec.from_wire(data)
    except OsirisError:
        return data.hex()
    return {item.name: _plain(getattr(spec, item.name)) for item in fields(spec)}


def _summary(body: kinds.Body) -> str:
    match body:
        case kinds.Genesis(name=name, founders=founders):
            return f"{name}, founded by {', '.join(str(founder[1]) for founder in founders)}"
        case kinds.MemberAdd(name=name, public_key=key):
            return f"{name} ({peer_id(key)})"
        case kinds.MemberRemove(peer=peer):
            return peer
        case kinds.MemberRole(peer=peer, role=role):
            return f"{peer} is {role}"
        case kinds.TokenCreate(key=key, role=role, grant=grant):
            return f"{key.hex()[:16]} for a {role}, grants {grant}"
        case kinds.TokenRevoke(key=key) | kinds.UserRemove(key=key) | kinds.ApiTokenRevoke(key=key):
            return key.hex()[:16]
        case kinds.FunctionPublish(spec=spec):
            try:
                read = FunctionSpec.from_wire(spec)
            except OsirisError:
                return ""
            return f"{read.name} {read.version}"
        case (
            kinds.FunctionActivate(name=name, version=version)
            | kinds.FunctionDeprecate(name=name, version=version)
            | kinds.FunctionRemove(name=name, version=version)
        ):
            return f"{name} {version}".rstrip()
        case kinds.ContainerFunctions(functions=functions):
            return ", ".join(f"{name} {version} x{count}" for name, version, count in functions[:8]) or "nothing"
        case kinds.ConfigSet(key=key, value=value):
            return f"{key} = {told(key, value)}"
        case kinds.ConfigReset(key=key):
            return key or "all"
        case kinds.UserAdd(name=name, role=role) | kinds.UserUpdate(name=name, role=role):
            return f"{name} is {role}"
        case kinds.RoleSet(name=name, grants=grants):
            return f"{name} may {', '.join(grants)}"
        case kinds.RoleRemove(name=name):
            return name
        case kinds.ApiTokenCreate(key=key, name=name, grants=grants):
            return f"{name} ({key.hex()[:16]}) may {', '.join(grants)}"
        case kinds.RegistryWrite(changes=changes):
            return ", ".join(str(change[0]) for change in changes[:8]) + (" …" if len(changes) > 8 else "")
        case kinds.RegistryRemove(path=path):
            return path
    return ""


def subject(entry: Entry, body: kinds.Body, names: Mapping[bytes, Named]) -> tuple[str, str]:
    """Return what an entry is about: its name for people, and its key in hex or peer id where it has one.

    Args:
        entry: The entry.
        body: Its body.
        names: Of keys (:attr:`osiris_mesh.ledger.state.State.names`).
    """
    match body:
        case kinds.MemberAdd(public_key=key, name=name):
            return name, peer_id(key)
        case kinds.MemberRemove(peer=peer) | kinds.MemberRole(peer=peer):
            return _name(public_key(peer), names, peer), peer
        case kinds.ContainerFunctions():
            peer = peer_id(entry.author)
            return _name(entry.author, names, peer), peer
        case kinds.TokenCreate(key=key) | kinds.TokenRevoke(key=key):
            return _name(key, names, key.hex()[:16]), key.hex()
        case kinds.UserAdd(key=key, name=name) | kinds.UserUpdate(key=key, name=name):
            return name, key.hex()
        case kinds.ApiTokenCreate(key=key, name=name):
            return name, key.hex()
        case kinds.UserRemove(key=key) | kinds.ApiTokenRevoke(key=key):
            return _name(key, names, key.hex()[:16]), key.hex()
        case kinds.FunctionPublish(spec=spec):
            try:
                return FunctionSpec.from_wire(spec).name, ""
            except OsirisError:
                return "", ""
        case kinds.FunctionActivate(name=name) | kinds.FunctionDeprecate(name=name) | kinds.FunctionRemove(name=name):
            return name, ""
        case kinds.ConfigSet(key=setting) | kinds.ConfigReset(key=setting):
            return setting or "all", ""
        case kinds.RoleSet(name=name) | kinds.RoleRemove(name=name) | kinds.Genesis(name=name):
            return name, ""
        case kinds.RegistryWrite(changes=[[path, *_], *_]) | kinds.RegistryRemove(path=path):
            return path, ""
    return "", ""


def _name(key: bytes, names: Mapping[bytes, Named], unnamed: str) -> str:
    named = names.get(key)
    return named.name if named is not None else unnamed
