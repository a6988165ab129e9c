"""The SDK inside a function: the worker's own link to its controller, with deadline and depth of the call it serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from osiris_mesh.errors import UsageError
from osiris_sdk.line import Line, LinkLine
from osiris_sdk.mesh import Mesh
from osiris_sdk.options import Options
from osiris_sdk.talk import Talks

if TYPE_CHECKING:
    from osiris_mesh.link.blocking import BlockingLink
    from osiris_sdk.async_calls import AsyncCalls, AsyncLine

__all__ = ["Surroundings", "current", "current_async", "serving", "serving_in"]

_current: ContextVar[_Serving | None] = ContextVar("osiris_current", default=None)


class Surroundings(Protocol):
    """What a function is called in, when that is no worker."""

    def line(self, deadline: float | None) -> Line:
        """Return the way its own calls take, until ``deadline`` (monotonic seconds)."""
        ...

    def async_line(self, deadline: float | None) -> AsyncLine:
        """Return the same for calls that are awaited."""
        ...


class _Serving:
    """One call that is served; its Mesh is made when first asked for."""

    __slots__ = ("calls", "deadline", "depth", "link", "mesh", "surroundings", "traceparent")

    def __init__(
        self,
        link: BlockingLink | None,
        surroundings: Surroundings | None,
        depth: int,
        deadline: float | None,
        traceparent: str = "",
    ) -> None:
        self.link = link
        self.surroundings = surroundings
        self.depth = depth
        self.deadline = deadline
        self.traceparent = traceparent
        self.mesh: Mesh | None = None
        self.calls: AsyncCalls | None = None

    def talks(self) -> Talks:
        inherited: dict[str, Any] = {"depth": self.depth + 1}
        if self.traceparent:
            inherited["traceparent"] = self.traceparent
        return Talks(time.monotonic, inherited)

    def line(self) -> Line:
        if self.surroundings is not None:
            return self.surroundings.line(self.deadline)
        return LinkLine(None, self.link, self.deadline)

    def async_line(self) -> AsyncLine:
        if self.surroundings is not None:
            return self.surroundings.async_line(self.deadline)
        from osiris_sdk.async_inside import AsyncInsideLine  # noqa: PLC0415 - brings asyncio

        assert self.link is not None  # noqa: S101 - the one or the other
        return AsyncInsideLine(self.link, self.deadline)


@contextmanager
def serving(link: BlockingLink, *, depth: int, deadline: float | None, traceparent: str = "") -> Iterator[None]:
    """For the worker: let :func:`current` answer while one call is served.

    Args:
        link: The worker's link to its controller.
        depth: ``depth`` header of the call that is served.
        deadline: When that call must be over, monotonic seconds, or None.
        traceparent: Trace context of that call (W3C), which the function's own calls go on with; empty for none.
    """
    token = _current.set(_Serving(link, None, depth, deadline, traceparent))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def serving_in(surroundings: Surroundings, *, depth: int, deadline: float | None) -> Iterator[None]:
    """Let :func:`current` answer while one call is served outside of any worker; arguments as :func:`serving`."""
    token = _current.set(_Serving(None, surroundings, depth, deadline))
    try:
        yield
    finally:
        _current.reset(token)


def _served() -> _Serving:
    serves = _current.get()
    if serves is None:
        raise UsageError(
            "this is not running inside a function of a mesh",
            fix="outside use Mesh.connect(); a function's own threads run in contextvars.copy_context()",
        )
    return serves


def current() -> Mesh:
    """Return the mesh this function runs in. Calls made through it inherit what is left of this call's time.

    Raises:
        UsageError: Not inside a function of a mesh (or in a thread of its own that did not copy the context).
    """
    serves = _served()
    if serves.mesh is None:
        serves.mesh = Mesh(serves.line(), serves.talks(), Options())
    return serves.mesh


def current_async() -> AsyncCalls:
    """Return the same for an ``async def`` function: ``await osiris_sdk.current_async().call(name, …)``.

    Raises:
        UsageError: As :func:`current`.
    """
    serves = _served()
    if serves.calls is None:
        from osiris_sdk.async_calls import AsyncCalls  # noqa: PLC0415 - brings asyncio

        serves.calls = AsyncCalls(serves.async_line(), serves.talks(), Options())
    return serves.calls
