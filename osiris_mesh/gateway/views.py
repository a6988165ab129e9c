"""Ledger state as maps of JSON types, for answers of the control methods; bytes as hex."""

from __future__ import annotations

from typing import Any

from osiris_mesh.function.signature import Signature
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from osiris_mesh.ledger.records import ApiTokenRecord, FunctionRecord, Member, TokenRecord, User, VersionRecord
from osiris_mesh.ledger.state import State

__all__ = [
    "api_token_view",
    "function_row",
    "function_view",
    "member_view",
    "role_views",
    "token_view",
    "user_view",
]


def member_view(member: Member, *, state: str, voter: bool, leader: bool) -> dict[str, Any]:
    """Return one member.

    Args:
        member: Its record.
        state: ``alive``, ``suspect``, ``dead``, or ``unknown`` for a client.
        voter: It votes now.
        leader: It leads now.
    """
    return {
        "peer_id": member.peer,
        "name": member.name,
        "state": state,
        "role": member.role,
        "voter": voter,
        "leader": leader,
        "addresses": list(member.addresses),
        "since": member.since,
    }


def token_view(token: TokenRecord, issuer: User | None) -> dict[str, Any]:
    """Return what is public of a token; ``expires`` in milliseconds since 1970."""
    return {
        "id": token.id,
        "key": token.key,
        "role": token.role,
        "grant": token.grant,
        "uses": token.uses,
        "used": token.used,
        "expires": token.expires_ms,
        "issuer": issuer.name if issuer else token.issuer.hex()[:16],
        "revoked": token.revoked,
        "since": token.since,
    }


def user_view(user: User) -> dict[str, Any]:
    """Return one user."""
    return {"name": user.name, "role": user.role, "key": user.key, "since": user.since}


def role_views(state: State) -> list[dict[str, Any]]:
    """Return the built-in and the custom roles, with the number of users who have each."""
    held = [user.role for user in state.users.values()]
    rows = [(name, grants, True) for name, grants in BUILT_IN_ROLES.items()]
    rows += [(role.name, role.grants, False) for role in state.roles.values()]
    return [
        {"name": name, "grants": list(grants.texts), "builtin": builtin, "users": held.count(name)}
        for name, grants, builtin in rows
    ]


def api_token_view(token: ApiTokenRecord, owner: User | None) -> dict[str, Any]:
    """Return what is public of an API token; ``expires`` in milliseconds since 1970."""
    return {
        "id": token.id,
        "key": token.key,
        "name": token.name,
        "owner": owner.name if owner else token.owner.hex()[:16],
        "grants": list(token.grants.texts),
        "expires": token.expires_ms,
        "revoked": token.revoked,
        "since": token.since,
    }


def _version_view(record: VersionRecord) -> dict[str, Any]:
    spec = record.spec
    return {
        "version": spec.version,
        "digest": spec.digest.hex(),
        "deprecated": record.deprecated,
        "publisher": record.publisher.hex(),
        "since": record.since,
        "published_ms": record.time_ms,
    }


def function_row(record: FunctionRecord, instances: int) -> dict[str, Any]:
    """Return one line of a list."""
    active = record.versions[record.active].spec if record.active else None
    return {
        "name": record.name,
        "versions": list(record.versions),
        "active": record.active,
        "instances": instances,
        "description": active.description if active else "",
    }


def function_view(record: FunctionRecord, where: dict[str, int], local: dict[str, Any]) -> dict[str, Any]:
    """Return everything about one function.

    Args:
        record: Its record.
        where: Instances by peer id.
        local: What this node's runtime knows of it.
    """
    view = function_row(record, sum(where.values()))
    view["containers"] = where
    view["history"] = [_version_view(version) for version in record.versions.values()]
    if record.active:
        spec = record.versions[record.active].spec
        view |= {
            "digest": spec.digest.hex(),
            "signature": spec.signature,
            "call": Signature.from_wire(spec.signature, spec.name.rpartition("/")[2]).text(),
            "runtime": spec.runtime,
            "limits": {
                "memory": spec.memory,
                "timeout_ms": spec.timeout_ms,
                "concurrency": spec.concurrency,
                "min_instances": spec.min_instances,
                "max_instances": spec.max_instances,
                "idle_ms": spec.idle_ms,
            },
            "idempotent": spec.idempotent,
            "network": spec.network,
        }
    view["local"] = local
    return view
