"""One call of the invoker as something to await: for the faces that have a task for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from osiris_mesh.errors import OsirisError
from osiris_mesh.gateway.http.parts import Calls
from osiris_mesh.link import Caller
from osiris_mesh.link.router import Reply

__all__ = ["awaited"]


class _Waiting:
    """A call under way, as the invoker's reply; the future has the packed result and its details."""

    __slots__ = ("_cancel", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[tuple[bytes, dict[str, Any]]] = loop.create_future()
        self._cancel: Callable[[], None] | None = None

    def send(self, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result((body, {}))

    def fail(self, error: OsirisError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._cancel = callback

    def cancel(self) -> None:
        if self._cancel is not None:
            self._cancel()


def _answered(reply: Reply, result: bytes, facts: dict[str, Any] | None, seconds: float) -> None:
    assert type(reply) is _Waiting  # noqa: S101 - what begin was given
    if not reply.future.done():
        known = facts or {}
        # Another node has measured its own part; what the client waited for is this node's figure.
        known["elapsed_us"] = int(seconds * 1e6)
        reply.future.set_result((result, known))


async def awaited(
    calls: Calls, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
) -> tuple[bytes, dict[str, Any]]:
    """Have one call run; return its packed result, and its details if they were asked for. Cancelled, it is given up.

    Args:
        calls: The invoker.
        name: The function's name as it was written.
        body: Packed arguments.
        deadline: Monotonic seconds, or None.
        headers: Of the call.
        caller: Who calls.

    Raises:
        OsirisError: What the call ended with.
    """
    waiting = _Waiting(asyncio.get_running_loop())
    calls.begin(name, body, waiting, deadline=deadline, headers=headers, caller=caller, answered=_answered)
    try:
        return await waiting.future
    except asyncio.CancelledError:
        waiting.cancel()
        raise
