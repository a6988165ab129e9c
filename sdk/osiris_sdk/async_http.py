"""The way over HTTP, for asyncio: one aiohttp session; requests and answers as :mod:`osiris_sdk.gateway` has them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from yarl import URL

from osiris_mesh.codec import VALUE
from osiris_mesh.errors import DeadlineExceeded, LimitExceeded, Unavailable
from osiris_sdk.async_mesh import AsyncSpreadLine
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
from osiris_sdk.patience import SILENCE_S, Patience
from osiris_sdk.spread_line import Lost
from osiris_sdk.sse import EventReader
from osiris_sdk.talk import REQUEST_S, Exchange, may_resend
from osiris_sdk.target import HttpTarget

__all__ = ["AsyncHttpLine"]

_PIECE: Final = 1 << 18
_CONNECTIONS: Final = 256


class AsyncHttpLine(AsyncSpreadLine):
    """Gateways of one mesh.

    Args:
        target: Where they are, and the bearer's token.
        timeout: Seconds to connect.
    """

    def __init__(self, target: HttpTarget, timeout: float) -> None:
        origins = target.shuffled()
        super().__init__([origin.url for origin in origins])
        self._tls = any(origin.tls for origin in origins)
        self._target = target
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def _greet(self, place: int) -> None:
        request = HttpRequest("GET", "/v1/whoami", {})
        status, _, body = await self._ask(place, request, self._timeout, safe=True)
        if status != 200:
            error = read_problem(status, body)
            if isinstance(error, Unavailable):
                raise Lost(error)
            raise error

    async def _carry(self, place: int, exchange: Exchange, deadline: float | None) -> bytes:
        left = exchange.left(deadline, time.monotonic())
        again = may_resend(exchange, Unavailable("", maybe=True))
        status, headers, body = await self._ask(place, to_http(exchange, left), left, safe=again)
        try:
            return from_http(exchange, status, headers, body)
        except Unavailable as error:
            # A gateway that stops, or has no quorum: another one may serve.
            if len(self.names) > 1 and may_resend(exchange, error):
                raise Lost(error) from None
            raise

    async def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle."""

        async def send(place: int) -> bytes:
            status, _, body = await self._ask(place, bundle_request(data), timeout, safe=True)
            return digest_of(status, body)

        return await self.attempt(send, bool)

    async def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Yield log lines of one node."""
        feed = LogFeed(name, tail, since_ms)
        if follow:
            async for item in self._follow(feed):
                yield item
            return

        async def read(place: int) -> list[dict[str, Any]]:
            request = HttpRequest("GET", feed.path(follow=False), {})
            status, _, body = await self._ask(place, request, REQUEST_S, safe=True)
            return lines_of(status, body)

        for line in await self.attempt(read, bool):
            yield line

    def events(self, names: str, after: int | None) -> AsyncIterator[dict[str, Any]]:
        """Yield events."""
        return self._follow(EventFeed(names, after))

    async def _follow(self, feed: Feed) -> AsyncIterator[dict[str, Any]]:
        """Read a stream for ever; when it breaks, go on elsewhere or again where it was."""
        patience = Patience()
        while True:
            error = Unavailable(f"the stream of {feed.what} was ended by the other end", maybe=False)
            try:
                response = await self.attempt(lambda place: self._open_stream(place, feed.path()), bool)
                reader = EventReader()
                try:
                    while data := await response.content.readany():
                        patience.heard()
                        for event in reader.feed(data):
                            item = feed.take(event)
                            if item is not None:
                                yield item
                except (OSError, TimeoutError, aiohttp.ClientError) as broken:
                    error = Unavailable(f"the stream of {feed.what} broke: {_reason(broken)}", maybe=False)
                finally:
                    response.close()
            except Unavailable as lost:
                error = lost
            wait = patience.lost(time.monotonic())
            if wait is None or self._closed:
                raise error
            await asyncio.sleep(wait)

    async def _open_stream(self, place: int, path: str) -> aiohttp.ClientResponse:
        times = aiohttp.ClientTimeout(total=None, connect=self._timeout, sock_read=SILENCE_S)
        try:
            response = await self._live().get(
                URL(self.names[place] + path, encoded=True),
                headers={"Accept": EVENT_STREAM},
                timeout=times,
                allow_redirects=False,
            )
            if response.status != 200:
                body = await response.content.read(1 << 20)
                response.close()
                raise read_problem(response.status, body)
        except Unavailable as error:
            raise Lost(error) from None
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            raise Lost(Unavailable(f"{self.names[place]}: {_reason(error)}", maybe=False)) from None
        return response

    async def _ask(
        self, place: int, request: HttpRequest, seconds: float, *, safe: bool
    ) -> tuple[int, dict[str, str], bytes]:
        """Make one request; ``safe``: it may be made again although it may have arrived."""
        try:
            return await self._once(place, request, seconds)
        except Lost as lost:
            # One that waited may have been closed by the other end a moment ago.
            if not safe or lost.error.details.get("maybe") is False:
                raise
        return await self._once(place, request, seconds)

    async def _once(self, place: int, request: HttpRequest, seconds: float) -> tuple[int, dict[str, str], bytes]:
        url = URL(self.names[place] + request.path, encoded=True)
        session = self._live()
        try:
            async with (
                _within(seconds, self.names[place]),
                session.request(
                    request.verb,
                    url,
                    data=request.body or None,
                    headers=request.headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=min(self._timeout, seconds)),
                ) as response,
            ):
                pieces: list[bytes] = []
                size = 0
                while piece := await response.content.readany():
                    size += len(piece)
                    if size > VALUE.size:
                        raise LimitExceeded(
                            f"an answer of more than the {VALUE.size} bytes a call carries", limit="result"
                        )
                    pieces.append(piece)
                headers = {key.lower(): value for key, value in response.headers.items()}
                return response.status, headers, b"".join(pieces)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            tls = isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError)
            raise Lost(
                Unavailable(
                    f"nobody answers at {self.names[place]}: {_reason(error)}",
                    fix='give the certificate of its authority: ca="ca.pem"' if tls else "start the node",
                    maybe=False,
                )
            ) from None
        except (OSError, aiohttp.ClientError) as error:
            raise Lost(Unavailable(f"{self.names[place]}: {_reason(error)}", maybe=True)) from None

    def _live(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Unavailable("the connection was closed here", fix="connect again", maybe=False)
        if self._session is None:
            context = ssl.create_default_context(cafile=self._target.ca or None) if self._tls else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=context or True),
                headers={"Authorization": f"Bearer {self._target.token}", "User-Agent": "osiris-sdk"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=_PIECE,
            )
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()


@asynccontextmanager
async def _within(seconds: float, name: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except aiohttp.ConnectionTimeoutError:
        raise
    except TimeoutError:
        raise DeadlineExceeded(f"{name} did not answer in time") from None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
