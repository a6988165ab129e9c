"""Calls, and what functions print."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

__all__ = ["CallBody", "LogLine", "LogLines", "LogsQuery", "MapBody", "MapItem", "MapResults"]


class CallBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of a call; bytes are ``{"$bytes": "<base64>"}``."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class MapBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One call for each item."""

    items: list[Any]
    concurrency: Annotated[int, Meta(ge=1, le=1024, description="Calls under way at a time.")] = 16


class MapItem(Struct, omit_defaults=True):
    """The result of one item, or why there is none."""

    ok: bool
    result: Any = None
    error: dict[str, Any] | None = None


class MapResults(Struct):
    """The results, in the order of the items."""

    results: list[MapItem]


class LogsQuery(Struct, forbid_unknown_fields=True):
    """Which lines."""

    tail: Annotated[int, Meta(ge=0, le=10_000)] = 100
    since_ms: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    follow: Annotated[bool, Meta(description="Answer text/event-stream and go on.")] = False


class LogLine(Struct):
    """One line a function wrote on this node."""

    function: str
    time_ms: int
    version: str
    call: str
    stream: str
    text: str


class LogLines(Struct):
    """Lines, oldest first."""

    lines: list[LogLine]
