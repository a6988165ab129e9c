"""Which methods are served, and to whom; everything else is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from osiris_mesh.errors import LocalProtocolError, OsirisError
from osiris_mesh.link.request import Audience, Request

if TYPE_CHECKING:
    from osiris_mesh.link.stream import Stream

__all__ = ["MAX_METHOD", "DirectHandler", "Reply", "Route", "Router", "StreamHandler", "UnaryHandler"]

MAX_METHOD = 128
"""Bytes of a method's name."""


class Reply(Protocol):
    """How a direct handler answers; exactly one of :meth:`send` and :meth:`fail`, once, on the loop's thread."""

    def send(self, body: bytes) -> None:
        """Answer with ``body``; does nothing when the caller gave up."""
        ...

    def fail(self, error: OsirisError) -> None:
        """Answer with an error; does nothing when the caller gave up."""
        ...

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once if the caller gives up or the deadline passes before the answer."""
        ...


UnaryHandler = Callable[[Request], Awaitable[bytes]]
StreamHandler = Callable[[Request, "Stream"], Awaitable[None]]
DirectHandler = Callable[[Request, Reply], None]


@dataclass(frozen=True, slots=True)
class Route:
    """One served method; exactly one of the handlers is set.

    Attributes:
        allow: Who may call it.
        allow_bits: The same as an integer (flags are slow to combine).
    """

    allow: Audience
    allow_bits: int
    unary: UnaryHandler | None = None
    streaming: StreamHandler | None = None
    direct: DirectHandler | None = None


class Router:
    """The methods one end of a link serves. A method that was not registered, or not for this audience, is Denied."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def unary(self, method: str, handler: UnaryHandler, *, allow: Audience) -> None:
        """Serve ``method``: one message in, one out.

        Args:
            method: Name, ASCII, at most 128 bytes.
            handler: ``async (Request) -> bytes``; it is cancelled when the deadline passes or the caller gives up. An
                :class:`OsirisError` it raises reaches the caller as the same class.
            allow: Audiences it is served to; refused to all others.

        Raises:
            LocalProtocolError: The name is taken, or is none.
        """
        self._add(method, Route(allow, allow.value, unary=handler))

    def streaming(self, method: str, handler: StreamHandler, *, allow: Audience) -> None:
        """Serve ``method`` with messages in both directions.

        Args:
            method: As for :meth:`unary`.
            handler: ``async (Request, Stream) -> None``; our side of the stream ends when it returns.
            allow: As for :meth:`unary`.

        Raises:
            LocalProtocolError: As for :meth:`unary`.
        """
        self._add(method, Route(allow, allow.value, streaming=handler))

    def direct(self, method: str, handler: DirectHandler, *, allow: Audience) -> None:
        """Serve ``method`` as :meth:`unary` does, without a task: for the hot path.

        Args:
            method: As for :meth:`unary`.
            handler: ``(Request, Reply) -> None``; must not block. It may raise :class:`OsirisError` before it answers.
            allow: As for :meth:`unary`.

        Raises:
            LocalProtocolError: As for :meth:`unary`.
        """
        self._add(method, Route(allow, allow.value, direct=handler))

    def methods(self) -> dict[str, Audience]:
        """Return every method with the audiences it is served to."""
        return {method: route.allow for method, route in self._routes.items()}

    def get(self, method: str) -> Route | None:
        """Return the route of ``method``, for links."""
        return self._routes.get(method)

    def _add(self, method: str, route: Route) -> None:
        if not 0 < len(method) <= MAX_METHOD or not method.isascii():
            raise LocalProtocolError(f"{method!r} can't name a method")
        if method in self._routes:
            raise LocalProtocolError(f"the method {method} is registered twice")
        self._routes[method] = route
