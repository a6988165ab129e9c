"""The SDK inside a function: the worker's own link to its controller, with deadline and depth of the call it serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from osiris_mesh.errors import UsageError
from osiris_sdk.line import Line
from osiris_sdk.mesh import Mesh
from osiris_sdk.options import Options
from osiris_sdk.talk import Talks

if TYPE_CHECKING:
    from osiris_mesh.link.blocking import BlockingLink

__all__ = ["current", "serving"]

_current: ContextVar[_Serving | None] = ContextVar("osiris_current", default=None)


class _Serving:
    """One call this worker serves; its Mesh is made when first asked for."""

    __slots__ = ("deadline", "depth", "link", "mesh", "traceparent")

    def __init__(self, link: BlockingLink, depth: int, deadline: float | None, traceparent: str) -> None:
        self.link = link
        self.depth = depth
        self.deadline = deadline
        self.traceparent = traceparent
        self.mesh: Mesh | None = None


@contextmanager
def serving(link: BlockingLink, *, depth: int, deadline: float | None, traceparent: str = "") -> Iterator[None]:
    """For the worker: let :func:`current` answer while one call is served.

    Args:
        link: The worker's link to its controller.
        depth: ``depth`` header of the call that is served.
        deadline: When that call must be over, monotonic seconds, or None.
        traceparent: Trace context of that call (W3C), which the function's own calls go on with; empty for none.
    """
    token = _current.set(_Serving(link, depth, deadline, traceparent))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Mesh:
    """Return the mesh this function runs in. Calls made through it inherit what is left of this call's time.

    Raises:
        UsageError: Not inside a function of a mesh (or in a thread of its own that did not copy the context).
    """
    serves = _current.get()
    if serves is None:
        raise UsageError(
            "this is not running inside a function of a mesh",
            fix="outside use Mesh.connect(); a function's own threads run in contextvars.copy_context()",
        )
    if serves.mesh is None:
        inherited: dict[str, Any] = {"depth": serves.depth + 1}
        if serves.traceparent:
            inherited["traceparent"] = serves.traceparent
        talks = Talks(time.monotonic, inherited)
        serves.mesh = Mesh(Line(None, serves.link, serves.deadline), talks, Options())
    return serves.mesh
