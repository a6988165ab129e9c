"""What each error is over HTTP and over gRPC: one table, for both faces."""

from __future__ import annotations

from typing import Final

from osiris_mesh.errors import (
    CheckFailed,
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    LimitExceeded,
    NotFound,
    OsirisError,
    Overloaded,
    ProtocolError,
    Unavailable,
    UsageError,
    WorkerDied,
)

__all__ = ["HTTP_ALONE", "TABLE", "Anonymous", "NoMethod", "TooLarge", "Unsupported", "grpc_code", "http_status"]


class Anonymous(Denied):
    """No bearer, or one this mesh does not know."""

    code = "unauthenticated"


class NoMethod(UsageError):
    """The path is there, but not for this method; ``details["allow"]`` names those it is there for."""

    code = "method"


class TooLarge(UsageError):
    """The body is larger than this route takes."""

    code = "too_large"


class Unsupported(UsageError):
    """The body is of a media type this route does not take."""

    code = "media_type"


TABLE: Final[tuple[tuple[type[OsirisError], int, str], ...]] = (
    (Anonymous, 401, "UNAUTHENTICATED"),
    (NoMethod, 405, "INVALID_ARGUMENT"),
    (TooLarge, 413, "INVALID_ARGUMENT"),
    (Unsupported, 415, "INVALID_ARGUMENT"),
    (UsageError, 400, "INVALID_ARGUMENT"),
    (Denied, 403, "PERMISSION_DENIED"),
    (NotFound, 404, "NOT_FOUND"),
    (Conflict, 409, "FAILED_PRECONDITION"),
    (FunctionError, 422, "UNKNOWN"),
    (WorkerDied, 422, "ABORTED"),
    (LimitExceeded, 422, "FAILED_PRECONDITION"),
    (CheckFailed, 422, "FAILED_PRECONDITION"),
    (Overloaded, 429, "RESOURCE_EXHAUSTED"),
    (InternalError, 500, "INTERNAL"),
    (ProtocolError, 502, "INTERNAL"),
    (Unavailable, 503, "UNAVAILABLE"),
    (DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
)
"""Class, HTTP status, name of gRPC's code; the first that fits counts."""

HTTP_ALONE: Final[frozenset[type[OsirisError]]] = frozenset({NoMethod, TooLarge, Unsupported})
"""What only HTTP has."""
_OTHER: Final = (OsirisError, 500, "INTERNAL")


def _row(error: OsirisError) -> tuple[type[OsirisError], int, str]:
    return next((row for row in TABLE if isinstance(error, row[0])), _OTHER)


def http_status(error: OsirisError) -> int:
    """Return the HTTP status of an error."""
    return _row(error)[1]


def grpc_code(error: OsirisError) -> str:
    """Return the name of gRPC's status code of an error."""
    return _row(error)[2]
