"""What happened: events, the ledger and the audit trail."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

__all__ = [
    "Audit",
    "AuditQuery",
    "Block",
    "Blocks",
    "BlocksQuery",
    "Event",
    "EventHistory",
    "EventsQuery",
    "HistoryQuery",
    "Verified",
]


class EventsQuery(Struct, forbid_unknown_fields=True):
    """Which events."""

    names: Annotated[str, Meta(max_length=1024, description="Names or patterns, separated by commas.")] = "*"
    after: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None


class HistoryQuery(Struct, forbid_unknown_fields=True):
    """Which events of the past."""

    names: Annotated[str, Meta(max_length=1024, description="Names or patterns, separated by commas.")] = "*"
    after: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class Event(Struct):
    """Something that happened."""

    name: str
    sequence: int
    time_ms: int
    fields: dict[str, Any]


class EventHistory(Struct):
    """Events this node remembers, oldest first."""

    events: list[Event]


class BlocksQuery(Struct, forbid_unknown_fields=True):
    """Which blocks."""

    start: Annotated[int, Meta(ge=0, le=1 << 53, description="Height of the first; the last ones if 0.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 20


class Block(Struct):
    """One block of the ledger."""

    height: int
    hash: str
    previous: str
    container: str
    time_ms: int
    entries: list[dict[str, Any]]


class Blocks(Struct):
    """Blocks, ascending."""

    blocks: list[Block]


class Verified(Struct):
    """Whether the whole stored chain holds."""

    valid: bool
    height: int
    tip: str
    entries: int
    problems: list[dict[str, Any]]


class AuditQuery(Struct, forbid_unknown_fields=True):
    """Which changes; what is left out asks nothing."""

    user: Annotated[str, Meta(max_length=128, description="Name or key of who made it.")] = ""
    kind: Annotated[str, Meta(max_length=64, description="Kind of entry, or its beginning and `*`.")] = ""
    subject: Annotated[str, Meta(max_length=384, description="What was changed, or its beginning and `*`.")] = ""
    since_ms: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    until_ms: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    accepted: bool | None = None
    before: Annotated[int, Meta(ge=0, le=1 << 53, description="`next` of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Audit(Struct):
    """Changes, newest first."""

    events: list[dict[str, Any]]
    next: int | None
