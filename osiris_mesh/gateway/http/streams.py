"""Server-sent events: events of the bus, and what functions print, for as long as somebody listens.

A stream lasts as long as its bearer may, and shows what he may at the moment. A client that does not read is cut: by
the bus when its queue is full, by the logs when lines outrun it, and here when one piece is not taken in time. A
comment is sent when nothing else is, so that proxies and clients know it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from osiris_mesh.access.sight import Sight
from osiris_mesh.access.watch import Hold
from osiris_mesh.codec import unpack
from osiris_mesh.errors import OsirisError
from osiris_mesh.gateway.events import check_patterns
from osiris_mesh.gateway.http.bearer import Bearer, hold
from osiris_mesh.gateway.http.functions import record_of
from osiris_mesh.gateway.http.problem import encode
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.gateway.http.seen import sight_of
from osiris_mesh.gateway.http.values import to_json
from osiris_mesh.link import Stream

__all__ = ["EVENT_STREAM", "all_logs", "events", "history", "logs"]

EVENT_STREAM: Final = "text/event-stream"
_encode = msgspec.json.Encoder().encode


class Sse:
    """One stream of server-sent events.

    Args:
        ask: The request it answers.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._settings = ask.parts.settings
        self._response = web.StreamResponse(headers=ask.headers | {"Content-Type": EVENT_STREAM})
        self._last = 0.0

    async def run(self, held: Hold, feed: Callable[[Sse], Awaitable[None]]) -> web.StreamResponse:
        """Send what ``feed`` sends until it ends; an error that ends it is the last event, ``error``.

        Args:
            held: Ends it once the bearer may not any longer.
            feed: Sends.
        """
        await self._response.prepare(self._ask.request)
        self._last = self._now()
        beat = asyncio.ensure_future(self._beat())
        try:
            await self.comment()
            try:
                async with held:
                    await feed(self)
            except OsirisError as error:
                await self.event(encode(error), "error")
        except (ConnectionError, TimeoutError, ExceptionGroup):
            # The client left, or takes nothing: there is nobody to tell. A group is that too, from the tasks that send.
            self._response.force_close()
            transport = self._ask.request.transport
            if transport is not None:
                transport.abort()
            return self._response
        finally:
            beat.cancel()
        await self._response.write_eof()
        return self._response

    async def event(self, data: bytes, name: str = "", number: int | None = None) -> None:
        """Send one event; ``data`` is JSON, so it has no line breaks."""
        head = (b"" if number is None else b"id: %d\n" % number) + (f"event: {name}\n".encode() if name else b"")
        await self._write(head + b"data: " + data + b"\n\n")

    async def comment(self) -> None:
        """Say that it lives."""
        await self._write(b": osiris\n\n")

    async def _write(self, data: bytes) -> None:
        self._last = self._now()
        async with asyncio.timeout(self._settings.write_s):
            await self._response.write(data)

    async def _beat(self) -> None:
        """Say so whenever nothing was said for a while."""
        while True:
            left = self._last + self._settings.heartbeat_s - self._now()
            if left <= 0:
                try:
                    await self.comment()
                except (ConnectionError, TimeoutError):
                    transport = self._ask.request.transport
                    if transport is not None:
                        transport.abort()
                    return
            else:
                await asyncio.sleep(left)

    def _now(self) -> float:
        return self._ask.parts.clock.monotonic()


async def events(ask: Ask) -> web.StreamResponse:
    """Send events as they happen."""
    patterns = _names(ask.query.names)
    after = ask.query.after
    last = ask.request.headers.get("Last-Event-ID", "")
    if after is None and last.isascii() and last.isdigit() and len(last) <= 15:
        after = int(last)
    reader = ask.parts.events.subscribe(patterns, after)
    held = hold(ask.parts, ask.bearer, "mesh.read")

    async def feed(sse: Sse) -> None:
        async for event in reader:
            if not event.function or Sight(held.principal).sees(event.function):
                await sse.event(_encode(event.to_json()), event.name, event.sequence)

    with reader:
        return await Sse(ask).run(held, feed)


async def history(ask: Ask) -> Any:
    """Return events this node remembers."""
    patterns = _names(ask.query.names)
    sight, found = sight_of(ask), ask.parts.events.history(patterns, ask.query.after)
    return {"events": [event.to_json() for event in found if not event.function or sight.sees(event.function)]}


def _names(text: str) -> tuple[str, ...]:
    return check_patterns([name.strip() for name in text.split(",") if name.strip()] or ["*"])


async def logs(ask: Ask) -> Any:
    """Return what a function printed on this node."""
    return await _logs(ask, record_of(ask, ask.names["name"]).name)


async def all_logs(ask: Ask) -> Any:
    """Return what all functions printed on this node."""
    return await _logs(ask, "")


async def _logs(ask: Ask, name: str) -> Any:
    query, functions = ask.query, ask.parts.functions
    if not query.follow:
        lines = _Lines(_readable(ask.bearer))
        await functions.logs(name, _stream(lines), tail=query.tail, follow=False, since_ms=query.since_ms)
        return {"lines": lines.lines}

    held = hold(ask.parts, ask.bearer, "function.logs", name)

    async def feed(sse: Sse) -> None:
        sink = _stream(_LineEvents(sse, _readable(held)))
        await functions.logs(name, sink, tail=query.tail, follow=True, since_ms=query.since_ms)

    return await Sse(ask).run(held, feed)


def _readable(who: Bearer | Hold) -> Callable[[dict[str, Any]], bool]:
    """Return what says whether a line is shown: by what he may now, which a hold keeps up with."""
    return lambda line: who.principal.may("function.logs", str(line["function"]))


def _stream(sink: Any) -> Stream:
    """Pass ``sink`` off as the link's stream that logs are sent to: it has the two methods that takes."""
    stream: Stream = sink
    return stream


class _Lines:
    """Collects lines."""

    def __init__(self, shown: Callable[[dict[str, Any]], bool]) -> None:
        self._shown = shown
        self.lines: list[Any] = []

    async def send(self, data: bytes) -> None:
        line = unpack(data)
        if self._shown(line):
            self.lines.append(to_json(line))

    async def end(self) -> None:
        """Nothing to do."""


class _LineEvents:
    """Sends lines as events."""

    def __init__(self, sse: Sse, shown: Callable[[dict[str, Any]], bool]) -> None:
        self._sse = sse
        self._shown = shown

    async def send(self, data: bytes) -> None:
        line = unpack(data)
        if self._shown(line):
            await self._sse.event(_encode(to_json(line)), "line")

    async def end(self) -> None:
        """Nothing to do."""
