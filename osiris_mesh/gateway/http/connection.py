"""One connection: aiohttp's, with a short way for calls.

aiohttp wakes a task for every request, which makes another one, and both cost more than the call of a small function.
So a call whose request is all there, on a connection that is otherwise idle, is begun as soon as it is parsed; its
answer is written by the callback that brings it. What is out of the ordinary (errors before it begins, other routes,
pages of other origins, an answer still being written) takes the ordinary way, which decides it alone.

    idle      -- parsed, a plain call      --> call      begun; what is parsed meanwhile waits
    idle      -- parsed, anything else     --> ordinary  aiohttp's task is woken
    call      -- answered, nothing waits   --> idle
    call      -- answered, more waits      --> as if it had just been parsed
    ordinary  -- answered                  --> idle

The head of a request has its time from the connection, or from its first byte on a connection that was idle; between
requests a connection may be idle for longer. What is sent has its time, too: a client that does not take it is cut,
even where the connection is being closed already.

The short way reads aiohttp's queue of parsed messages; where a version of aiohttp has none, there is only the ordinary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from osiris_mesh.errors import InternalError, OsirisError
from osiris_mesh.gateway.http.calls import answer_media, deadline, fact_headers, prepare
from osiris_mesh.gateway.http.problem import encode, retry_after, status_of
from osiris_mesh.gateway.http.route import JSON, MSGPACK
from osiris_mesh.gateway.http.values import packed_to_json
from osiris_mesh.link.router import Reply

if TYPE_CHECKING:
    from osiris_mesh.gateway.http.server import HttpServer

__all__ = ["Connection"]

_PREFIX: Final = "/v1/call/"
_ORDINARY: Final = ("Origin", "Expect", "Content-Encoding", "Upgrade")
_USED: Final = frozenset({"_messages", "_waiter", "_keepalive_handle", "_next_keepalive_close_time"})
_HAS_QUEUE: Final = _USED.issubset(RequestHandler.__slots__)


class _Call:
    """A call under way, as the invoker's reply."""

    __slots__ = ("cancel", "connection", "ended", "media")

    def __init__(self, connection: Connection, media: str) -> None:
        self.connection = connection
        self.media = media
        self.cancel: Callable[[], None] | None = None
        self.ended = False

    def send(self, body: bytes) -> None:
        self.answer(body, {})

    def answer(self, result: bytes, facts: dict[str, Any]) -> None:
        if self.ended:
            return
        self.ended = True
        try:
            body = result if self.media == MSGPACK else packed_to_json(result)
        except OsirisError as error:
            self.connection.finish(self, error)
        else:
            self.connection.finish(self, None, body, facts)

    def fail(self, error: OsirisError) -> None:
        if not self.ended:
            self.ended = True
            self.connection.finish(self, error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self.cancel = callback


def _answered(reply: Reply, result: bytes, facts: dict[str, Any] | None, seconds: float) -> None:
    assert type(reply) is _Call  # noqa: S101 - what begin was given
    known = facts or {}
    known["elapsed_us"] = int(seconds * 1e6)
    reply.answer(result, known)


class Connection(RequestHandler):
    """One connection; what can't be parsed is answered like every other error.

    Args:
        manager: aiohttp's server.
        face: Ours.
        options: aiohttp's.
    """

    __slots__ = ("_call", "_face", "_heading", "_looping", "_stalled", "_wire")

    def __init__(self, manager: web.Server, face: HttpServer, **options: Any) -> None:
        super().__init__(manager, **options)
        self._face = face
        self._call: _Call | None = None
        self._looping = False
        self._heading = True
        # aiohttp forgets a transport it closes, which may still hold what nobody takes.
        self._wire: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None

    # Who is let in, and how long he may take.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse a connection too many."""
        peer = transport.get_extra_info("peername")
        if not self._face.let_in(self, str(peer[0]) if isinstance(peer, tuple) and peer else ""):
            # aiohttp hears nothing of it, not even its end.
            self._manager = None
            self._force_close = True
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)
        # Paused as soon as the system takes no more, resumed when it has taken all (uvloop's TLS compares with >=).
        self._wire.set_write_buffer_limits(high=1, low=0)
        self._close_in(self._face.parts.settings.head_s)

    def pause_writing(self) -> None:
        """Give the client his time to take what waits for him; closing alone would wait for him for ever."""
        super().pause_writing()
        if self._wire is not None:
            self._stalled = self._loop.call_later(self._face.parts.settings.write_s, self._wire.abort)

    def resume_writing(self) -> None:
        """Go on: he has taken all."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, or only a part of its head has come."""
        return self._call is None and self._waiter is not None and not self._messages

    def cut(self) -> None:
        """Close it now."""
        self.force_close()

    def shown_bearer(self) -> None:
        """Note that it has shown a bearer this mesh knows, now."""
        self._face.admission.known(self)

    def _close_in(self, seconds: float) -> None:
        """Have aiohttp's timer close it if it is idle then."""
        handle = self._keepalive_handle
        if handle is not None:
            handle.cancel()
        self._next_keepalive_close_time = self._loop.time() + seconds
        self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed, or failed."""
        del request
        return self._face.broken(status, exc, message)

    # What arrives.

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        waiter = self._waiter
        if not _HAS_QUEUE or (waiter is None and self._call is None):
            super().data_received(data)
            self._heading = self._heading and not self._messages
            return
        # Hidden, so that what is parsed now does not wake the ordinary way before it is looked at.
        self._waiter = None
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        if self._messages:
            self._heading = False
            self._next()
        elif self._call is None and not self._heading and not self._force_close:
            self._heading = True
            self._close_in(self._face.parts.settings.head_s)

    def _next(self) -> None:
        """Begin what waits, as far as it goes the short way; wake the ordinary way for the rest."""
        if self._looping:
            return
        self._looping = True
        try:
            while self._messages and self._call is None and not (self._close or self._force_close):
                message, payload = self._messages[0]
                if not self._begin(message, payload):
                    waiter = self._waiter
                    if waiter is not None and not waiter.done():
                        waiter.set_result(None)
                    return
        finally:
            self._looping = False

    def _begin(self, message: Any, payload: Any) -> bool:
        """Begin a call; False if it is to go the ordinary way, with nothing done."""
        face, transport = self._face, self.transport
        if (
            transport is None
            or face.draining
            or getattr(message, "method", "") != "POST"
            or message.should_close
            or not message.path.startswith(_PREFIX)
            or not payload.is_eof()
            or payload.exception() is not None
            or payload.total_bytes > face.largest_call
            or transport.get_write_buffer_size() > 0
        ):
            return False
        given = message.headers
        media = given.get("Content-Type", JSON)
        if media not in {JSON, MSGPACK} or any(name in given for name in _ORDINARY):
            return False
        admitted = face.admit(message.path, given)
        if admitted is None:
            return False
        name, bearer = admitted
        face.admission.known(self)
        self._messages.popleft()
        consumed = getattr(self._parser, "message_consumed", None)
        if consumed is not None:
            consumed()
        call = self._call = _Call(self, answer_media(media, given.get("Accept")))
        face.began()
        try:
            data = payload.read_nowait() if payload.total_bytes else b""
            body, headers = prepare(face.parts, name, media, data, given)
            face.parts.calls.begin(
                name,
                body,
                call,
                deadline=deadline(face.parts, given),
                headers=headers,
                caller=bearer.caller,
                answered=_answered,
            )
        except OsirisError as error:
            call.fail(error)
        except Exception as error:  # noqa: BLE001 - the outermost edge of a request
            face.log_defect(error)
            call.fail(InternalError("the request failed inside the controller", fix="see its log"))
        return True

    # What is answered.

    def finish(
        self, call: _Call, error: OsirisError | None, body: bytes = b"", facts: dict[str, Any] | None = None
    ) -> None:
        """Write the answer of a call, and go on with what waits."""
        if self._call is not call:
            return
        self._call = None
        face, transport = self._face, self.transport
        face.ended()
        if transport is None or transport.is_closing():
            return
        if error is None:
            head, more = face.head_ok[call.media], fact_headers(facts or {})
        else:
            body, head = encode(error), face.head_of(status_of(error))
            more = ()
            if status_of(error) in {429, 503}:
                more = (("Retry-After", str(retry_after(error, face.parts.settings.retry_after_s))),)
        lines = "".join([f"{name}: {value}\r\n" for name, value in more])
        close = "Connection: close\r\n" if face.draining else ""
        text = f"{head}{lines}{close}Date: {rfc822_formatted_time()}\r\nContent-Length: {len(body)}\r\n\r\n"
        transport.write(text.encode("ascii") + body)
        if face.draining:
            self.close()
            transport.close()
            return
        loop = self._loop
        self._next_keepalive_close_time = loop.time() + self._keepalive_timeout
        buffer_paused = getattr(self, "_buffer_paused", False)
        if buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        self._next()

    # aiohttp's timers and ends.

    def _process_keepalive(self) -> None:
        if self._call is None:
            super()._process_keepalive()
            return
        # A call under way is no idleness, though aiohttp's own task waits.
        loop = self._loop
        self._keepalive_handle = loop.call_at(loop.time() + self._keepalive_timeout, self._process_keepalive)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give up what is under way."""
        self._face.admission.leave(self)
        self._wire = None
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        call, self._call = self._call, None
        if call is not None:
            call.ended = True
            self._face.ended()
            if call.cancel is not None:
                call.cancel()
        super().connection_lost(exc)
