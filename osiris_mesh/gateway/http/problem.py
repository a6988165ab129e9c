"""Errors as ``application/problem+json`` (RFC 9457), and the status of each."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from osiris_mesh.errors import OsirisError
from osiris_mesh.gateway.http.values import to_json
from osiris_mesh.gateway.statuses import Anonymous, NoMethod, TooLarge, Unsupported
from osiris_mesh.gateway.statuses import http_status as status_of

__all__ = [
    "STATUSES",
    "Anonymous",
    "NoMethod",
    "Problem",
    "TooLarge",
    "Unsupported",
    "encode",
    "problem",
    "retry_after",
    "status_of",
]


STATUSES: Final[dict[int, str]] = {
    400: "The request itself is wrong",
    401: "No bearer, or one this mesh does not know",
    403: "The bearer may not do this, or the Host or Origin is not accepted",
    404: "Nothing has that name",
    405: "The path does not take this method",
    409: "It contradicts what is there",
    413: "The body is too large",
    415: "The body's media type is not taken here",
    422: "The function raised, or a check did not hold",
    429: "Nobody can serve it now; Retry-After says when to ask again",
    500: "A defect of the controller",
    502: "A peer broke a protocol",
    503: "No quorum, a peer can't be reached, or the controller stops",
    504: "The time ran out",
}


class Problem(msgspec.Struct, omit_defaults=True):
    """What every error answers.

    Attributes:
        type: ``urn:osiris:`` and the code.
        title: What its status means.
        status: The HTTP status.
        detail: What happened, to what, and why.
        code: Stable word for this kind of error.
        fix: What to do next.
        details: Attributes for programs; an exception's ``type``, ``message`` and ``traceback`` among them.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    fix: str = ""
    details: dict[str, Any] = {}


def problem(error: OsirisError) -> Problem:
    """Return the body of an error."""
    wire = error.to_wire()
    status = status_of(error)
    return Problem(
        type=f"urn:osiris:{error.code}",
        title=STATUSES.get(status, "Error"),
        status=status,
        detail=wire["what"],
        code=error.code,
        fix=wire.get("fix", ""),
        details=to_json(wire.get("details", {})),
    )


def encode(error: OsirisError) -> bytes:
    """Return the body of an error as JSON."""
    return msgspec.json.encode(problem(error))


def retry_after(error: OsirisError, least: int) -> int:
    """Return the whole seconds a client should wait before it asks again, at least ``least``."""
    given = error.details.get("retry_after_ms")
    return max(-(-given // 1000), least) if isinstance(given, int) else least
