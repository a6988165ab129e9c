"""The mesh and one node."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from osiris_mesh.gateway.http.types.shared import Signed

__all__ = [
    "Check",
    "Checks",
    "FunctionCount",
    "Health",
    "Member",
    "Members",
    "MetricsQuery",
    "NodeState",
    "Overview",
    "Samples",
    "SetRoleBody",
    "Status",
    "Synced",
]


class Health(Struct):
    """Whether this controller serves."""

    state: str


class Member(Struct):
    """A member of the mesh."""

    peer_id: str
    name: str
    state: str
    role: str
    voter: bool
    leader: bool
    addresses: list[str]
    since: int


class Members(Struct):
    """The members of the mesh."""

    members: list[Member]


class FunctionCount(Struct):
    """A function in the status."""

    name: str
    version: str | None
    instances: int


class Status(Struct):
    """How the mesh stands, as this node sees it."""

    mesh_id: str
    name: str
    peer_id: str
    node: str
    role: str
    state: str
    leader: str | None
    term: int
    height: int
    tip: str
    quorum: bool
    stale: bool
    voter: bool
    members: list[Member]
    functions: list[FunctionCount]


class SetRoleBody(Signed, kw_only=True):
    """What a member may become."""

    role: Literal["voter", "follower"]


class Overview(Struct):
    """Nodes and functions with their figures, as this node hears of them."""

    mesh_id: str
    name: str
    peer_id: str
    leader: str | None
    term: int
    height: int
    quorum: bool
    nodes: list[dict[str, Any]]
    functions: list[dict[str, Any]]


class Check(Struct):
    """One finding of the doctor."""

    name: str
    ok: bool
    detail: str
    fix: str


class Checks(Struct):
    """What the doctor found."""

    checks: list[Check]


class NodeState(Struct):
    """What became of the node."""

    peer_id: str
    state: str


class Synced(Struct):
    """Where the ledger of this node stands now."""

    height: int
    tip: str
    peer_id: str


class MetricsQuery(Struct, forbid_unknown_fields=True):
    """Whose samples."""

    name: Annotated[str, Meta(max_length=384, description="A function; all if empty.")] = ""


class Samples(Struct):
    """Figures of calls that arrived at this node, by function."""

    samples: list[dict[str, Any]]
