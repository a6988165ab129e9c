"""Traces of calls: the W3C trace context in the header ``traceparent``, and what the invoker needs of a tracer. A core.

A call passes on the context it came with, so that a function's own calls belong to its caller's trace even where
nobody on this node records spans. Source: W3C Trace Context, level 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

__all__ = ["HEADER", "Span", "Tracer", "checked"]

HEADER: Final = "traceparent"
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z", re.ASCII
)


def checked(value: object) -> str:
    """Return ``value`` if it is a trace context, else an empty text: a bad one is no reason to refuse a call."""
    return value if type(value) is str and len(value) == 55 and _TRACEPARENT.match(value) else ""


class Span(Protocol):
    """Something under way that is recorded."""

    @property
    def traceparent(self) -> str:
        """The context of what belongs under it."""
        ...

    def end(self, error: str = "") -> None:
        """Say that it ended, and with which kind of error (:attr:`osiris_mesh.errors.OsirisError.code`) if with one."""
        ...


class Tracer(Protocol):
    """What records spans; must neither wait nor raise."""

    def start(self, name: str, parent: str, *, server: bool, attributes: Mapping[str, Any]) -> Span:
        """Begin a span.

        Args:
            name: What is under way.
            parent: Context it belongs under, or empty for a new trace.
            server: It serves somebody else's request.
            attributes: Texts, numbers and truth values by name.
        """
        ...
