"""MCP over streamable HTTP, mounted in the controller's own gateway at ``/mcp``.

The ``mcp`` package's server is an ASGI application with a task group, sessions and Starlette around it. Here it would
stand beside a server that already checks Host, Origin, bearer and size, with another idea of each. What is left of the
protocol without sessions is six methods, so they are answered by our own server under our own bounds; that the
package's own client is content is tested over both transports and both eras. So the controller needs no extra for it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from osiris_mesh.access.watch import Hold
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.function.signature import Signature
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway.http import calls
from osiris_mesh.gateway.http.bearer import Bearer, hold
from osiris_mesh.gateway.http.problem import Unsupported
from osiris_mesh.gateway.http.route import BEARER, JSON, Ask, Output, Piecewise, Route
from osiris_mesh.gateway.http.streams import EVENT_STREAM, Sse
from osiris_mesh.gateway.mcp import protocol
from osiris_mesh.gateway.mcp.server import LISTEN, Server
from osiris_mesh.gateway.mcp.tools import Described
from osiris_mesh.invoke.trace import HEADER as TRACEPARENT
from osiris_mesh.registry import context

__all__ = ["MCP_ROUTES", "listen", "message"]

_LOOK_SECONDS: Final = 1.0
_MAX_SIGNATURES: Final = 4096
_encode = msgspec.json.Encoder().encode
_described: dict[bytes, Described] = {}


class BearerReach:
    """What a bearer reaches: the functions he may call, on the terms of ``/v1``.

    Args:
        ask: His request.
        who: Keeps up with what he may while a stream is open; None: the request's bearer.
    """

    def __init__(self, ask: Ask, who: Hold | None = None) -> None:
        self._ask = ask
        self._who: Bearer | Hold = ask.bearer if who is None else who

    async def functions(self) -> Sequence[Described]:
        """Return the active version of every function he may call."""
        may = self._who.principal.may
        return [
            described_of(record.versions[record.active].spec)
            for record in self._ask.parts.book.state.functions.values()
            if record.active and may("function.call", record.name)
        ]

    async def find(self, name: str) -> Described:
        """Return the active version of one function.

        Raises:
            Denied: He may not call it, whether it is there or not.
            NotFound: It is not there.
        """
        self._ask.bearer.require("function.call", name)
        record = self._ask.parts.book.state.functions.get(qualified(name))
        if record is None or not record.active:
            raise NotFound(f"there is no function {name}", fix="list the tools")
        return described_of(record.versions[record.active].spec)

    async def call(
        self, described: Described, args: Sequence[Any], kwargs: Mapping[str, Any], narrower: str
    ) -> tuple[Any, Mapping[str, Any]]:
        """Call that version."""
        ask = self._ask
        given = ask.request.headers
        headers: dict[str, Any] = {"details": True}
        texts = [text for text in (given.get(context.HTTP_HEADER, ""), narrower) if text]
        limits = context.FULL
        for text in texts:
            limits = context.narrow(limits, context.parse(text))
        if texts:
            refusal = context.may_call(limits, described.name)
            if refusal is not None:
                raise refusal.error()
            headers[context.HEADER] = limits.text()
        trace = given.get(TRACEPARENT)
        if trace is not None:
            headers[TRACEPARENT] = trace
        packed, facts = await calls.run(
            ask, f"{described.name}@{described.version}", pack([list(args), dict(kwargs)]),
            calls.deadline(ask.parts, given), headers,
        )  # fmt: skip
        kept: dict[str, Any] = {
            name: facts[name] for name in ("node", "version", "warm", "elapsed_us") if name in facts
        }
        return unpack(packed, VALUE), kept

    async def changes(self) -> AsyncIterator[None]:
        """Yield when functions, or what he may call of them, have changed; looked at once a second."""
        before = self._mark()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self._mark()
            if now != before:
                before = now
                yield

    def _mark(self) -> frozenset[tuple[str, str]]:
        may = self._who.principal.may
        functions = self._ask.parts.book.state.functions.values()
        return frozenset(
            (each.name, each.active) for each in functions if each.active and may("function.call", each.name)
        )


def described_of(spec: FunctionSpec) -> Described:
    """Return what a tool is made of."""
    known = _described.get(spec.digest)
    if known is None:
        if len(_described) >= _MAX_SIGNATURES:
            _described.clear()
        signature = Signature.from_wire(spec.signature, spec.name)
        known = _described[spec.digest] = Described(
            spec.name, spec.version, spec.digest, spec.description, signature, spec.idempotent
        )
    return known


async def message(ask: Ask) -> Output | Piecewise:
    """Answer one message of the Model Context Protocol."""
    given = ask.request.headers
    try:
        asked = protocol.read(ask.body, given)
    except protocol.RpcError as failure:
        return Output(_encode(protocol.error(failure)), JSON, protocol.status_of(failure))
    if asked is None or asked.id is None:
        return Output(b"", JSON, 202)
    server = Server(BearerReach(ask))
    if asked.method == LISTEN and asked.modern:
        if EVENT_STREAM not in given.get("Accept", ""):
            raise Unsupported("a subscription is a stream of events", fix=f"send Accept: {EVENT_STREAM}")
        return Piecewise(lambda: _stream(ask, lambda reached: reached.listen(asked)))
    answer = await server.answer(asked)
    failed = (answer or {}).get("error")
    # Before 2026-07-28 an error of the protocol is an answer like any other.
    status = protocol.status_of(protocol.RpcError(failed["code"], "")) if failed and asked.modern else 200
    more: tuple[tuple[str, str], ...] = ()
    if asked.method == "initialize" and status == 200 and not failed:
        # Nothing is kept under it, but a client that has none does not listen.
        more = (("Mcp-Session-Id", secrets.token_hex(16)),)
    return Output(_encode(answer), JSON, status, more)


async def listen(ask: Ask) -> web.StreamResponse:
    """Send a client that has begun with ``initialize`` what the server says of its own accord."""
    if EVENT_STREAM not in ask.request.headers.get("Accept", ""):
        raise UsageError("there is nothing here but a stream of events", fix=f"send Accept: {EVENT_STREAM}")
    return await _stream(ask, lambda server: server.notices())


async def _stream(ask: Ask, messages: Callable[[Server], AsyncIterator[dict[str, Any]]]) -> web.StreamResponse:
    held = hold(ask.parts, ask.bearer, "function.call")
    server = Server(BearerReach(ask, held))

    async def feed(sse: Sse) -> None:
        async for each in messages(server):
            await sse.event(_encode(each), "message")

    return await Sse(ask).run(held, feed)


MCP_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST",
        "/mcp",
        BEARER,
        message,
        None,
        "One message of the Model Context Protocol: every function the bearer may call is a tool.",
        errors=(404, 502, 504),
        accepts=(JSON,),
        gives=(JSON, EVENT_STREAM),
        large=True,
    ),
    Route(
        "GET",
        "/mcp",
        BEARER,
        listen,
        None,
        "Notifications of the Model Context Protocol: the tools have changed.",
        gives=(EVENT_STREAM,),
        stream=True,
    ),
)
"""Both methods of ``/mcp``; the table of routes has them in it."""
