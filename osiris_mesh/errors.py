"""Every error a user, a peer or a caller can meet.

The tree, with the exit code of the command line beside each leaf::

    OsirisError
     ├── UsageError            2  the request itself is wrong: arguments, names, sizes, settings
     ├── Conflict              2  it contradicts what is there: version exists, port taken, home in use
     ├── NotFound              3  no such function, member, version, setting
     ├── Overloaded            3  it exists, but nobody can serve it now; ``retry_after_ms`` says when to ask again
     ├── DeadlineExceeded      4  the caller's time ran out
     ├── Denied                5  the caller may not do this
     ├── Unavailable           6  no quorum, or the controller or peer can't be reached
     ├── FunctionError         1  the function raised; carries its type, message and own traceback
     ├── WorkerDied            1  the process that ran the function ended under the call
     ├── LimitExceeded         1  the function went past a limit it was given
     ├── CheckFailed           1  a check did not hold: deploy-time tests, ledger verification
     ├── ProtocolError         6  bytes that do not follow a protocol
     │    ├── LocalProtocolError     we were about to break it
     │    └── RemoteProtocolError    the peer broke it
     └── InternalError         1  a defect of ours; the log has the traceback

An error says what happened, to what, why, and what to do next. It crosses a link as a small map
(:meth:`OsirisError.to_wire`) and arrives as the same class with the same attributes.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "CheckFailed",
    "Conflict",
    "DeadlineExceeded",
    "Denied",
    "FunctionError",
    "InternalError",
    "LimitExceeded",
    "LocalProtocolError",
    "NotFound",
    "OsirisError",
    "Overloaded",
    "ProtocolError",
    "RemoteProtocolError",
    "Unavailable",
    "UsageError",
    "WorkerDied",
]

_MAX_TEXT = 16_384
_MAX_PATH = 32
_MAX_CAUSE = 8192


class OsirisError(Exception):
    """The root of all errors of the mesh.

    Args:
        what: What happened, to what, and why, as one sentence without a full stop.
        fix: What to do next; empty if there is nothing the reader could do.
        details: Attributes for programs (JSON types and bytes); nobody has to parse ``what``.

    Attributes:
        code: Stable word for this kind of error, used on the wire and in ``--json``.
        exit_code: Exit code of a command that ends with this error.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, fix: str = "", **details: Any) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.details: dict[str, Any] = details

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what

    def to_wire(self) -> dict[str, Any]:
        """Return the error as a map of JSON types and bytes, bounded in size."""
        wire: dict[str, Any] = {"code": self.code, "what": self.what[:_MAX_TEXT]}
        if self.fix:
            wire["fix"] = self.fix[:_MAX_TEXT]
        if self.details:
            wire["details"] = self.details
        return wire

    @staticmethod
    def from_wire(wire: Any) -> OsirisError:
        """Return the error a peer sent; a malformed one becomes a :class:`RemoteProtocolError`."""
        if not isinstance(wire, dict):
            return RemoteProtocolError("the peer sent an error that is not a map")
        code, what, fix = wire.get("code"), wire.get("what"), wire.get("fix", "")
        details = wire.get("details", {})
        if not (isinstance(what, str) and isinstance(fix, str) and isinstance(details, dict)):
            return RemoteProtocolError("the peer sent an error without a text")
        kind = _BY_CODE.get(code) if isinstance(code, str) else None
        if kind is None:
            return InternalError(what[:_MAX_TEXT], fix=fix[:_MAX_TEXT])
        named = {str(key): value for key, value in details.items() if key not in {"what", "fix", "self"}}
        return kind(what[:_MAX_TEXT], fix=fix[:_MAX_TEXT], **named)


class UsageError(OsirisError):
    """The request itself is wrong; sending it again can't help."""

    code = "usage"
    exit_code = 2


class Conflict(OsirisError):
    """The request contradicts what is already there."""

    code = "conflict"
    exit_code = 2


class NotFound(OsirisError):
    """Nothing has that name."""

    code = "not_found"
    exit_code = 3


class Overloaded(OsirisError):
    """Nobody can serve the request now; ``details["retry_after_ms"]`` says when to ask again."""

    code = "overloaded"
    exit_code = 3


class DeadlineExceeded(OsirisError):
    """The caller's time ran out before an answer came."""

    code = "deadline"
    exit_code = 4


class Denied(OsirisError):
    """The caller may not do this."""

    code = "denied"
    exit_code = 5


class Unavailable(OsirisError):
    """No quorum, or a controller or peer can't be reached.

    ``details["maybe"]`` is True when the request may have taken effect all the same, False when it surely did not.
    """

    code = "unavailable"
    exit_code = 6


class FunctionError(OsirisError):
    """The function raised an exception.

    Attributes:
        type: Qualified name of the exception's class, as the function's interpreter gave it.
        message: ``str()`` of the exception.
        traceback: The function's own frames only, formatted as Python does.
        path: Names of functions: the one called, and from call to call the one that raised; empty if not known.
        cause: If an inner call failed and its error was let through: ``function``, ``type``, ``message`` and
            ``traceback`` of the innermost, which type and message are those of; else empty.
    """

    code = "function"

    def __init__(self, what: str, *, fix: str = "", **details: Any) -> None:
        super().__init__(what, fix=fix, **details)
        self.type = str(details.get("type", ""))
        self.message = str(details.get("message", ""))
        self.traceback = str(details.get("traceback", ""))
        path, cause = details.get("path"), details.get("cause")
        self.path = [str(name) for name in path[:_MAX_PATH]] if isinstance(path, list) else []
        self.cause = {str(key): str(value) for key, value in cause.items()} if isinstance(cause, dict) else {}

    def let_through(self, function: str, traceback: str) -> FunctionError:
        """Return the error of ``function``, which called another one and let this error of it through.

        Args:
            function: Its name.
            traceback: Its own frames.
        """
        at = self.path[-1] if self.path else "a function it called"
        text = f"{function} failed: {at} raised {self.type}"
        return FunctionError(
            f"{text}: {self.message}" if self.message else text,
            fix=self.fix,
            type=self.type,
            message=self.message,
            traceback=traceback,
            path=[function, *self.path][:_MAX_PATH],
            cause=self.cause
            or {
                "function": at,
                "type": self.type,
                "message": self.message,
                "traceback": self.traceback[-_MAX_CAUSE:],
            },
        )


class WorkerDied(OsirisError):
    """The worker process ended under the call; ``exit_code``/``signal`` and ``stderr`` (its tail) are in details."""

    code = "worker_died"


class LimitExceeded(OsirisError):
    """The function went past one of its limits; ``details["limit"]`` names it."""

    code = "limit"


class CheckFailed(OsirisError):
    """A check did not hold; details say which."""

    code = "check_failed"


class ProtocolError(OsirisError):
    """Bytes that do not follow a protocol."""

    code = "protocol"
    exit_code = 6


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol: a defect on this side."""

    code = "protocol_local"


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; the link to it is closed."""

    code = "protocol_remote"


class InternalError(OsirisError):
    """A defect of ours, or an error of a kind this version does not know."""

    code = "internal"


_BY_CODE: dict[str, type[OsirisError]] = {
    kind.code: kind
    for kind in (
        UsageError,
        Conflict,
        NotFound,
        Overloaded,
        DeadlineExceeded,
        Denied,
        Unavailable,
        FunctionError,
        WorkerDied,
        LimitExceeded,
        CheckFailed,
        ProtocolError,
        LocalProtocolError,
        RemoteProtocolError,
        InternalError,
    )
}
