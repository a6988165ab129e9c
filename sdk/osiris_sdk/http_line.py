"""The way over HTTP, for threads: keep-alive connections of the standard library, one for each thread that waits."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ssl import SSLContext, SSLError, create_default_context
from typing import Any, Final

from osiris_mesh.codec import VALUE
from osiris_mesh.errors import DeadlineExceeded, LimitExceeded, Unavailable
from osiris_sdk.gateway import (
    EVENT_STREAM,
    EventFeed,
    Feed,
    HttpRequest,
    LogFeed,
    bundle_request,
    digest_of,
    from_http,
    lines_of,
    read_problem,
    to_http,
)
from osiris_sdk.line import remember
from osiris_sdk.patience import SILENCE_S, Patience
from osiris_sdk.spread_line import Lost, SpreadLine
from osiris_sdk.sse import EventReader
from osiris_sdk.talk import REQUEST_S, Exchange, may_resend
from osiris_sdk.target import HttpTarget

__all__ = ["HttpLine"]

_IDLE: Final = 64
_THREADS: Final = 32
_PIECE: Final = 1 << 18
_START: Final = "start the node, or look where its gateway listens: osiris-mesh status"


class HttpLine(SpreadLine):
    """Gateways of one mesh.

    Args:
        target: Where they are, and the bearer's token.
        timeout: Seconds to connect.
    """

    def __init__(self, target: HttpTarget, timeout: float) -> None:
        origins = target.shuffled()
        super().__init__([origin.url for origin in origins])
        self._origins = origins
        self._target = target
        self._timeout = timeout
        self._idle: list[list[HTTPConnection]] = [[] for _ in origins]
        self._context: SSLContext | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        remember(self)

    # exchanges

    def _greet(self, place: int) -> None:
        status, _, body = self._ask(place, HttpRequest("GET", "/v1/whoami", {}), self._timeout, safe=True)
        if status != 200:
            error = read_problem(status, body)
            if isinstance(error, Unavailable):
                raise Lost(error)
            raise error

    def _carry(self, place: int, exchange: Exchange, deadline: float | None) -> bytes:
        left = exchange.left(deadline, time.monotonic())
        request = to_http(exchange, left)
        again = may_resend(exchange, Unavailable("", maybe=True))
        status, headers, body = self._ask(place, request, left, safe=again)
        try:
            return from_http(exchange, status, headers, body)
        except Unavailable as error:
            # A gateway that stops, or has no quorum: another one may serve.
            if len(self.names) > 1 and may_resend(exchange, error):
                raise Lost(error) from None
            raise

    def begin(self, exchange: Exchange) -> _Answer:
        """Send an exchange from a thread of its own."""
        with self._turn:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="osiris-http")
            pool = self._pool
        return _Answer(pool.submit(self.exchange, exchange, self._deadline))

    def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle."""

        def send(place: int) -> bytes:
            status, _, body = self._ask(place, bundle_request(data), timeout, safe=True)
            return digest_of(status, body)

        return self.attempt(send, bool)

    # streams

    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> Iterator[dict[str, Any]]:
        """Yield log lines of one node."""
        feed = LogFeed(name, tail, since_ms)
        if follow:
            return self._follow(feed)

        def read(place: int) -> list[dict[str, Any]]:
            request = HttpRequest("GET", feed.path(follow=False), {})
            status, _, body = self._ask(place, request, REQUEST_S, safe=True)
            return lines_of(status, body)

        return iter(self.attempt(read, bool))

    def events(self, names: str, after: int | None) -> Iterator[dict[str, Any]]:
        """Yield events."""
        feed = EventFeed(names, after)
        return self._follow(feed)

    def _follow(self, feed: Feed) -> Iterator[dict[str, Any]]:
        """Read a stream for ever; when it breaks, go on elsewhere or again where it was."""
        patience = Patience()
        while True:
            try:
                yield from self._stream(feed, patience)
                error = Unavailable(f"the stream of {feed.what} was ended by the other end", maybe=False)
            except Unavailable as lost:
                error = lost
            wait = patience.lost(time.monotonic())
            if wait is None or self._closed:
                raise error
            time.sleep(wait)

    def _stream(self, feed: Feed, patience: Patience) -> Iterator[dict[str, Any]]:
        connection, response = self.attempt(lambda place: self._open_stream(place, feed.path()), bool)
        reader = EventReader()
        try:
            while data := response.read1(_PIECE):
                patience.heard()
                for event in reader.feed(data):
                    item = feed.take(event)
                    if item is not None:
                        yield item
        except (OSError, HTTPException) as broken:
            raise Unavailable(f"the stream of {feed.what} broke: {_reason(broken)}", maybe=False) from None
        finally:
            connection.close()

    def _open_stream(self, place: int, path: str) -> tuple[HTTPConnection, HTTPResponse]:
        connection = self._connect(place, self._timeout)
        try:
            connection.request("GET", path, headers=self._headers({"Accept": EVENT_STREAM}))
            response = connection.getresponse()
            if response.status != 200:
                raise read_problem(response.status, response.read(1 << 20))  # noqa: TRY301 - closes below, as the rest
            if connection.sock is not None:
                connection.sock.settimeout(SILENCE_S)
        except (OSError, HTTPException) as error:
            connection.close()
            raise Lost(Unavailable(f"{self.names[place]}: {_reason(error)}", maybe=False)) from None
        except Unavailable as error:
            connection.close()
            raise Lost(error) from None
        except BaseException:
            connection.close()
            raise
        return connection, response

    # connections

    def close(self) -> None:
        """Close every connection; streams end at their next piece."""
        self._closed = True
        for idle in self._idle:
            while idle:
                idle.pop().close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def forked(self) -> None:
        """Leave the connections to the parent process."""
        super().forked()
        self._pool = None
        for idle in self._idle:
            for connection in idle:
                if connection.sock is not None:
                    # Closing the descriptor alone says nothing to the other end, which the parent still talks to.
                    socket.close(connection.sock.detach())
            idle.clear()

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._target.token}", "User-Agent": "osiris-sdk", **more}

    def _ask(
        self, place: int, request: HttpRequest, seconds: float, *, safe: bool
    ) -> tuple[int, dict[str, str], bytes]:
        """Make one request; ``safe``: it may be made again although it may have arrived."""
        if self._closed:
            raise Unavailable("the connection was closed here", fix="connect again", maybe=False)
        deadline = time.monotonic() + seconds
        connection = self._waiting(place)
        fresh = connection is None
        repeated = False
        while True:
            if connection is None:
                connection = self._connect(place, min(self._timeout, seconds))
            try:
                answer = self._once(connection, request, deadline)
            except TimeoutError:
                connection.close()
                raise DeadlineExceeded(f"{self.names[place]} did not answer in time") from None
            except (OSError, HTTPException) as error:
                connection.close()
                if safe and not repeated and (not fresh or len(self.names) == 1):
                    # One that waited may have been closed by the other end a moment ago.
                    connection, repeated = None, True
                    continue
                raise Lost(Unavailable(f"{self.names[place]}: {_reason(error)}", maybe=True)) from None
            except BaseException:
                connection.close()
                raise
            if connection.sock is not None:
                idle = self._idle[place]
                if len(idle) < _IDLE and not self._closed:
                    idle.append(connection)
                else:
                    connection.close()
            return answer

    def _once(
        self, connection: HTTPConnection, request: HttpRequest, deadline: float
    ) -> tuple[int, dict[str, str], bytes]:
        _until(connection, deadline)
        connection.request(request.verb, request.path, request.body or None, self._headers(request.headers))
        response = connection.getresponse()
        length = response.length
        if length is not None and length > VALUE.size:
            raise LimitExceeded(
                f"an answer of {length} bytes is more than the {VALUE.size} a call carries", limit="result"
            )
        pieces: list[bytes] = []
        size = 0
        while True:
            _until(connection, deadline)
            piece = response.read(min(_PIECE, length) if length else _PIECE) if length != 0 else b""
            if not piece:
                break
            size += len(piece)
            if size > VALUE.size:
                raise _too_large()
            pieces.append(piece)
        response.read()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, b"".join(pieces)

    def _waiting(self, place: int) -> HTTPConnection | None:
        """Return a connection that waits for work, and was not closed meanwhile."""
        idle = self._idle[place]
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return None
            if connection.sock is not None:
                poller = select.poll()
                poller.register(connection.sock, select.POLLIN)
                if not poller.poll(0):
                    return connection
            connection.close()

    def _connect(self, place: int, seconds: float) -> HTTPConnection:
        origin = self._origins[place]
        if origin.tls:
            connection: HTTPConnection = HTTPSConnection(origin.host, origin.port, timeout=seconds, context=self._tls())
        else:
            connection = HTTPConnection(origin.host, origin.port, timeout=seconds)
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            fix = 'give the certificate of its authority: ca="ca.pem"' if isinstance(error, SSLError) else _START
            raise Lost(Unavailable(f"nobody answers at {origin.url}: {_reason(error)}", fix=fix, maybe=False)) from None
        return connection

    def _tls(self) -> SSLContext:
        if self._context is None:
            self._context = create_default_context(cafile=self._target.ca or None)
        return self._context


class _Answer:
    """An exchange under way in a thread of its own."""

    def __init__(self, future: Future[bytes]) -> None:
        self._future = future

    def receive(self) -> bytes | None:
        """Wait for the answer."""
        return self._future.result()

    def reset(self) -> None:
        """Give it up, if it has not begun."""
        self._future.cancel()


def _too_large() -> LimitExceeded:
    return LimitExceeded(f"an answer of more than the {VALUE.size} bytes a call carries", limit="result")


def _until(connection: HTTPConnection, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if connection.sock is not None:
        connection.sock.settimeout(left)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
