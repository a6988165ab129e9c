"""One call under way: what was found out when it arrived, what its headers say, and how its end is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from osiris_mesh.codec import pack
from osiris_mesh.errors import DeadlineExceeded, LimitExceeded, OsirisError, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.meter import Tally
from osiris_mesh.invoke.trace import Span
from osiris_mesh.link import Caller, Reply
from osiris_mesh.registry.context import HEADER as CONTEXT
from osiris_mesh.registry.context import parse

__all__ = ["MORE_TIME", "Answered", "Call", "answer", "context_of", "depth_of", "recorded", "send", "text_of", "told"]

MORE_TIME: Final = "give the call more time: osiris-mesh call --timeout, or the SDK's option timeout"
_HIGHER_LIMIT: Final = "raise the function's own limit: osiris-mesh deploy --timeout"

Answered = Callable[[Reply, bytes, dict[str, Any] | None, float], None]
"""Takes a call's packed result, its details or None, and its seconds, for a reply."""


class Call:
    """One call under way: what was found out when it arrived, and what must be undone when it ends."""

    __slots__ = (
        "answered",
        "began",
        "call_id",
        "caller",
        "details",
        "ends",
        "failure",
        "idempotent",
        "onward",
        "resume",
        "span",
        "spec",
        "tally",
    )

    def __init__(self, spec: FunctionSpec, caller: Caller, began: float, ends: float) -> None:
        self.spec = spec
        self.call_id = ""
        self.caller = caller
        self.began = began
        self.ends = ends
        self.onward: dict[str, Any] = {}
        self.answered: Answered = send
        self.details = False
        self.idempotent = False
        self.resume: Callable[[], None] | None = None
        self.tally: Tally | None = None
        self.span: Span | None = None
        self.failure = "cancelled"


def text_of(headers: Mapping[str, Any], name: str) -> str:
    """Return a text a call's headers must hold.

    Raises:
        UsageError: They don't.
    """
    value = headers.get(name)
    if type(value) is not str:
        raise UsageError(f"a call without the text {name!r}")
    return value


def depth_of(headers: Mapping[str, Any], most: int) -> int:
    """Return how deep inside other calls a call is; 0: it is in none.

    Raises:
        UsageError: Not a number from 0.
        LimitExceeded: Deeper than ``most``.
    """
    depth = headers.get("depth", 0)
    if type(depth) is not int or depth < 0:
        raise UsageError("the depth of a call is not a number from 0")
    if depth > most:
        raise LimitExceeded(
            f"functions call functions more than {most} deep",
            fix="end the recursion, or call in a loop",
            limit="depth",
        )
    return depth


def context_of(headers: Mapping[str, Any]) -> str:
    """Return the text of the security context that came with a call; empty: none.

    Raises:
        UsageError: It is none.
    """
    text = headers.get(CONTEXT, "")
    if type(text) is not str:
        raise UsageError(f"the header {CONTEXT} of a call is no text")
    if text:
        parse(text)
    return text


def told(call: Call, error: OsirisError) -> OsirisError:
    """Return what the caller is told: whose time it was that ran out, and where more is to be had."""
    if not isinstance(error, DeadlineExceeded) or error.details.get("reason") == "busy":
        return error
    spec = call.spec
    own = call.ends - call.began >= spec.timeout_ms / 1000 - 1e-6
    # A node that did not answer at all is a link's finding, which knows of no function.
    what = error.what if spec.name in error.what else f"{spec.name}@{spec.version} was not done in time"
    details = {**error.details, "reason": "function" if own else "caller"}
    return DeadlineExceeded(what, fix=_HIGHER_LIMIT if own else MORE_TIME, **details)


async def recorded(work: Awaitable[bytes], span: Span | None) -> bytes:
    """Await ``work`` and end ``span`` as it ended."""
    if span is None:
        return await work
    failure = "cancelled"
    try:
        result = await work
        failure = ""
    except OsirisError as error:
        failure = error.code
        raise
    finally:
        span.end(failure)
    return result


def send(reply: Reply, result: bytes, facts: dict[str, Any] | None, seconds: float) -> None:
    """Send a result; an :data:`Answered`."""
    reply.send(answer(result, facts, seconds))


def answer(result: bytes, facts: dict[str, Any] | None, seconds: float) -> bytes:
    """Return what a caller is sent: the packed result, or with its details ``pack([details, packed result])``."""
    if facts is None:
        return result
    facts["elapsed_us"] = int(seconds * 1e6)
    return pack([facts, result])
