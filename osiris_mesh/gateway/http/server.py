"""The server: from a request to its handler and back.

aiohttp's low-level server parses and writes; what lies between is one function without middleware, because a call on a
warm instance takes less time than a chain of them. In order, each for the sake of the next: Host and Origin (a page
must learn nothing), bearer, permission, size, body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.web_request import BaseRequest

from osiris_mesh.errors import Denied, InternalError, OsirisError, Unavailable, UsageError
from osiris_mesh.gateway.http.admission import Admission
from osiris_mesh.gateway.http.bearer import Bearer, Bearers
from osiris_mesh.gateway.http.calls import CALL_HEADERS
from osiris_mesh.gateway.http.connection import Connection
from osiris_mesh.gateway.http.describe import PROBLEM
from osiris_mesh.gateway.http.exposure import is_loopback
from osiris_mesh.gateway.http.guard import is_local_host, same_origin
from osiris_mesh.gateway.http.handshakes import Handshakes
from osiris_mesh.gateway.http.listener import Listener
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.gateway.http.problem import Anonymous, NoMethod, TooLarge, Unsupported, encode, retry_after, status_of
from osiris_mesh.gateway.http.route import BEARER, JSON, MSGPACK, PUBLIC, Ask, Output, Piecewise, Route, Table
from osiris_mesh.gateway.http.routes import ROUTES
from osiris_mesh.gateway.http.shares import Shares
from osiris_mesh.gateway.in_force import Held

__all__ = ["HttpServer"]

_log = logging.getLogger(__name__)
_HEADERS: Final = {
    "Server": "osiris-mesh",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_EXPOSED: Final = ", ".join((*CALL_HEADERS, "Retry-After"))
_ALLOWED: Final = (
    "Authorization, Content-Type, Accept, Last-Event-ID, "
    "Osiris-Timeout-Ms, Osiris-Binding, Osiris-Idempotent, Osiris-Context, Osiris-Providers"
)
_PREFLIGHT_SECONDS: Final = "600"
HEAVY: Final = frozenset({"/v1/ledger/verify", "/v1/node/doctor"})
"""Routes that read a whole ledger or ask every part: a few at a time, so that they keep nobody from calling."""
_encode = msgspec.json.Encoder().encode


class _Server(web.Server):
    """aiohttp's server with connections of ours."""

    def __init__(self, face: HttpServer, handler: Callable[[BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        settings = face.parts.settings
        self._face = face
        self._options: dict[str, Any] = {
            "keepalive_timeout": settings.idle_s,
            "max_line_size": settings.header_line,
            "max_field_size": settings.header_line,
            "max_headers": settings.headers,
            "auto_decompress": False,
            "access_log": None,
            "lingering_time": 1.0,
        }
        super().__init__(handler, handler_cancellation=True)

    def __call__(self) -> Any:
        return Connection(self, self._face, loop=self._loop, **self._options)


class HttpServer:
    """The HTTP face of one controller.

    Args:
        parts: What it asks.
        listener: Where it listens; it is bound already.

    Attributes:
        address: ``http://HOST:PORT`` or ``https://HOST:PORT``.
        parts: What it asks.
        draining: It takes no new requests.
        admission: Which connections are let in.
        handshakes: TLS connections that are not as far; None: TLS is not spoken, or not yet.
        largest_call: Bytes of a call's body.
        head_ok: Status line and headers of a call's answer, by media type.
        head_of: The same of an error's, by status.
    """

    def __init__(self, parts: Parts, listener: Listener) -> None:
        self.parts = parts
        self.draining = False
        self.largest_call = parts.settings.call_body
        self.admission = Admission(parts.settings.connections)
        self._settings = parts.settings
        self._shares = Shares(parts.settings)
        self._origins = Held("http.allowed_origins", ())
        self._rate = Held("http.requests_per_s", parts.settings.requests_per_s)
        self._streams_each = Held("http.streams_per_bearer", parts.settings.streams_per_bearer)
        self._connections_each = Held("http.connections_per_address", parts.settings.connections_per_address)
        self._clock = parts.clock
        self._listener = listener
        self.address = listener.url
        self._table = Table(ROUTES)
        self._bearers = Bearers(parts)
        self._checks_host = is_loopback(listener.host) and not listener.proxied
        self._tls = listener.tls is not None
        self._headers = dict(_HEADERS)
        if self._tls:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"
        self.head_ok = {media: self._head(200, media) for media in (JSON, MSGPACK)}
        self.head_of = lru_cache(maxsize=32)(lambda status: self._head(status, PROBLEM))
        self._streams: set[asyncio.Task[Any]] = set()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._servers: list[asyncio.Server] = []
        self.handshakes: Handshakes | None = None
        self._server: _Server | None = None

    # Running.

    async def start(self) -> None:
        """Begin to answer."""
        self._server = _Server(self, self._handle)
        loop = asyncio.get_running_loop()
        if self._listener.tls is None:
            for each in self._listener.sockets:
                self._servers.append(await loop.create_server(self._server, sock=each))
            return
        self.handshakes = Handshakes(
            self._listener.tls,
            self._server,
            most=self._settings.handshakes,
            per_address=self._per_address,
            seconds=self._settings.head_s,
        )
        for each in self._listener.sockets:
            self.handshakes.accept(each)

    async def drain(self, seconds: float) -> bool:
        """Answer new requests 503, end streams, and wait for what is under way; say whether all was done in time."""
        self._stop_accepting()
        for task in self._streams:
            task.cancel()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _stop_accepting(self) -> None:
        self.draining = True
        for server in self._servers:
            server.close()
        if self.handshakes is not None:
            self.handshakes.close()

    async def close(self) -> None:
        """Close every connection."""
        self._stop_accepting()
        if self.handshakes is not None:
            await self.handshakes.wait_closed()
        if self._server is not None:
            await self._server.shutdown(0.2)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self._listener.close()

    def began(self) -> None:
        """Count a request in."""
        self._under_way += 1
        self._idle.clear()

    def ended(self) -> None:
        """Count a request out."""
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def let_in(self, connection: Connection, host: str) -> bool:
        """Say whether a new connection from ``host`` is let in."""
        return self.admission.enter(connection, host, self._per_address())

    def _per_address(self) -> int | None:
        # Behind a proxy all come from one address.
        return None if self._listener.proxied else self._connections_each.of(self.parts.in_force())

    # The short way of calls.

    def admit(self, path: str, given: Mapping[str, str]) -> tuple[str, Bearer] | None:
        """Return the function's name and the bearer of a plain call; None: the ordinary way decides.

        Args:
            path: As it stands in the request line.
            given: The request's headers.
        """
        if self._checks_host and not is_local_host(given.get("Host", ""), self._listener.host):
            return None
        try:
            _, names = self._table.find("POST", path)
            name = names["name"]
            bearer = self._bearers.of(given.get("Authorization"), self._clock.monotonic())
            bearer.require("function.call", name)
        except (OsirisError, KeyError):
            return None
        return name, bearer

    def broken(self, status: int, exc: BaseException | None, message: str | None) -> web.Response:
        """Return the answer to a request that could not be read, or failed where nobody caught it."""
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            if exc is not None:
                self.log_defect(exc)
            error: OsirisError = InternalError("the request failed inside the controller", fix="see its log")
        else:
            error = UsageError(f"the request is not HTTP this server reads: {(message or '')[:200]}")
        response = self._problem(error, self._headers)
        response.force_close()
        return response

    @staticmethod
    def log_defect(error: BaseException) -> None:
        """Log a defect of ours."""
        _log.error("a request failed", exc_info=error)

    def _head(self, status: int, media: str) -> str:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {media}"]
        return "".join(f"{line}\r\n" for line in [*lines, *(f"{name}: {text}" for name, text in self._headers.items())])

    # Requests.

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        headers = self._headers
        self.began()
        try:
            headers = self._check_origin(request)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return self._preflight(request, headers)
            return await self._answer(request, headers)
        except OsirisError as error:
            return self._problem(error, headers)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of a request
            _log.exception("a request failed", extra={"method": request.method, "path": request.path[:200]})
            return self._problem(InternalError("the request failed inside the controller", fix="see its log"), headers)
        finally:
            self.ended()

    async def _answer(self, request: BaseRequest, headers: dict[str, str]) -> web.StreamResponse:
        if self.draining:
            raise Unavailable("the controller stops", fix="ask another node", maybe=False)
        path, _, query = request.raw_path.partition("?")
        try:
            route, names = self._table.find(request.method, path)
        except OsirisError:
            # Who has no bearer does not learn what there is.
            self._bearer(request)
            raise
        bearer: Any = None
        if route.permission != PUBLIC:
            bearer = self._bearer(request)
            if route.permission != BEARER:
                bearer.require(route.permission, names.get("name", ""))
            if route.permission != "function.call":
                rate = self._rate.of(self.parts.in_force())
                self._shares.ask(bearer.token, rate, self._clock.monotonic())
        media, body = await self._body(request, route)
        ask = Ask(
            self.parts,
            bearer,
            names,
            _query(route, query) if route.query is not None else None,
            body,
            media,
            request,
            headers,
        )
        if route.stream:
            answer = await self._stream(ask, lambda: route.handler(ask))
        else:
            with self._shares.check(route.path) if route.path in HEAVY else nullcontext():
                answer = await route.handler(ask)
            if isinstance(answer, Piecewise):
                answer = await self._stream(ask, answer.run)
        if isinstance(answer, Output):
            return self._send(answer.status, answer.body, answer.media, headers, answer.headers)
        if isinstance(answer, web.StreamResponse):
            return answer
        return self._send(200, _encode(answer), JSON, headers, ())

    def _bearer(self, request: BaseRequest) -> Any:
        bearer = self._bearers.of(request.headers.get("Authorization"), self._clock.monotonic())
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.shown_bearer()
        return bearer

    async def _stream(self, ask: Ask, run: Callable[[], Awaitable[Any]]) -> Any:
        if ask.query is not None and getattr(ask.query, "follow", True) is False:
            # Read to its end, it is an answer like any other.
            return await run()
        bearer, most = ask.bearer, self._streams_each.of(self.parts.in_force())
        with self._shares.stream(bearer.token, bearer.principal.owner or bearer.caller.public_key, most):
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a handler runs in one
            self._streams.add(task)
            try:
                return await run()
            finally:
                self._streams.discard(task)

    async def _body(self, request: BaseRequest, route: Route) -> tuple[str, Any]:
        """Return the media type and the body: decoded where it is JSON with a type of its own, else bytes."""
        given = request.headers
        takes = route.body is not None or route.accepts
        if not takes:
            if request.body_exists and (request.content_length or 0) > 0:
                raise UsageError(f"{route.method} {route.path} takes no body")
            return "", None
        most = self._settings.call_body if route.large else self._settings.body
        length = request.content_length
        if length is not None and length > most:
            raise _too_large(most)
        if "Content-Encoding" in given:
            raise Unsupported("a body is sent as it is, without Content-Encoding")
        data = await self._read(request, most) if request.body_exists else b""
        media = request.content_type if "Content-Type" in given else JSON
        if media in route.accepts:
            return media, data
        if media != JSON or route.body is None:
            accepted = [*([JSON] if route.body is not None else []), *route.accepts]
            raise Unsupported(f"a body of {media[:100]} is not taken here", fix=f"send {' or '.join(accepted)}")
        if route.accepts and route.permission == "function.call":
            return media, data
        try:
            return media, msgspec.json.decode(data or b"{}", type=route.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(f"the body is not what is taken here: {error}", fix="see GET /v1/openapi.json") from None

    async def _read(self, request: BaseRequest, most: int) -> bytes:
        content = request.content
        if content.is_eof() and content.total_bytes <= most:
            # It came with the head, as small ones do: no timer, no copy.
            return content.read_nowait()
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            # Many clients hold a large body back until they are told that it is wanted.
            transport = request.transport
            if transport is not None:
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces: list[bytes] = []
        size = 0
        settings = self._settings
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(settings.read_s) as limit:
                while piece := await content.readany():
                    size += len(piece)
                    # What is still to come has to keep up: who drips bytes must not hold the rest in memory for long.
                    limit.reschedule(began + settings.read_s + size / settings.body_rate)
                    if size > most:
                        raise _too_large(most)
                    pieces.append(piece)
        except TimeoutError:
            raise UsageError(
                f"the body comes too slowly: {size} bytes in {asyncio.get_running_loop().time() - began:.0f} s",
                fix="send it faster, or in several requests",
            ) from None
        except (web.RequestPayloadError, web.PayloadAccessError) as error:
            raise UsageError(f"the body can't be read: {error}") from None
        return b"".join(pieces)

    # Answers.

    @staticmethod
    def _send(
        status: int,
        body: bytes,
        media: str,
        headers: dict[str, str],
        more: tuple[tuple[str, str], ...],
    ) -> web.Response:
        found = {**headers, "Content-Type": media}
        if more:
            found.update(more)
        return web.Response(body=body, status=status, headers=found)

    def _problem(self, error: OsirisError, headers: dict[str, str]) -> web.Response:
        status = status_of(error)
        found = {**headers, "Content-Type": PROBLEM}
        if isinstance(error, Anonymous):
            found["WWW-Authenticate"] = 'Bearer realm="osiris-mesh"'
        elif isinstance(error, NoMethod):
            found["Allow"] = str(error.details["allow"])
        elif status in {429, 503}:
            found["Retry-After"] = str(retry_after(error, self._settings.retry_after_s))
        response = web.Response(body=encode(error), status=status, headers=found)
        if self.draining or isinstance(error, TooLarge):
            response.force_close()
        return response

    # Browsers.

    def _check_origin(self, request: BaseRequest) -> dict[str, str]:
        """Return the headers of the answer.

        Raises:
            Denied: The Host is not this machine, or the Origin is not accepted.
        """
        given = request.headers
        host = given.get("Host", "")
        if self._checks_host and not is_local_host(host, self._listener.host):
            raise Denied(
                f"the Host header names {host[:100]!r}, which is not this machine",
                fix="ask for localhost, or put a proxy in front and say so with --http-proxy",
            )
        origin = given.get("Origin")
        if origin is None:
            return self._headers
        if same_origin(origin, host, tls=self._tls):
            return self._headers
        allowed = self._origins.of(self.parts.in_force())
        if origin.lower() not in allowed:
            raise Denied(
                f"pages of {origin[:100]!r} may not use this mesh",
                fix="an operator allows an origin with: osiris-mesh config set http.allowed_origins ORIGIN",
            )
        return self._headers | {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def _preflight(self, request: BaseRequest, headers: dict[str, str]) -> web.Response:
        if "Access-Control-Allow-Origin" not in headers:
            raise Denied("a preflight request comes from a page of another origin; this one does not")
        methods = sorted({route.method for route in ROUTES})
        found = headers | {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": _ALLOWED,
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        }
        del request
        return web.Response(status=204, headers=found)


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"the body has more than the {most} bytes taken here", fix="send less, or in several requests", limit=most
    )


def _query(route: Route, text: str) -> Any:
    from urllib.parse import parse_qsl  # noqa: PLC0415 - beside its only use

    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=32)
    except ValueError as error:
        raise UsageError(f"the query can't be read: {error}") from None
    values: dict[str, str] = {}
    for key, value in pairs:
        if key in values:
            raise UsageError(f"the query has {key[:64]!r} twice")
        values[key] = value
    try:
        return msgspec.convert(values, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"the query is not what is taken here: {error}", fix="see GET /v1/openapi.json") from None
