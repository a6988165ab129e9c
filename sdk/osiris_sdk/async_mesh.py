"""The SDK for asyncio: :class:`AsyncMesh`, the same as :class:`osiris_sdk.Mesh`, awaited."""

from __future__ import annotations

import asyncio
import builtins
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import DeadlineExceeded, OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.link import Link, Stream, connect_unix
from osiris_sdk.function import RemoteFunction
from osiris_sdk.line import CONNECT_S
from osiris_sdk.options import Options
from osiris_sdk.resolved import Resolved
from osiris_sdk.talk import REQUEST_S, Exchange, Talk, Talks, may_resend
from osiris_sdk.target import LocalTarget, Target, TokenTarget, read_target

__all__ = ["AsyncCalls", "AsyncMesh"]

_PIECE: Final = 256 * 1024
_UPLOAD_S: Final = 120.0
T = TypeVar("T")


class AsyncLine:
    """Carries exchanges to a controller, for the tasks of one loop.

    Args:
        connect: Makes a link.
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]]) -> None:
        self._connect = connect
        self._link: Link | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._closed = False

    async def link(self) -> Link:
        """Return the live link, connecting if need be.

        Raises:
            Unavailable: It can't be had.
        """
        link = self._link
        if link is not None and not link.closed:
            return link
        async with self._connecting:
            if self._closed:
                raise Unavailable("the connection was closed here", fix="connect again", maybe=False)
            link = self._link
            if link is None or link.closed:
                link = self._link = await self._connect()
            return link

    async def run(self, talk: Talk[T], timeout: float | None = None) -> T:
        """Carry a talk on to its end, in at most ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            exchange = next(talk)
            while True:
                try:
                    answer = await self._exchange(exchange, deadline)
                except OsirisError as error:
                    exchange = talk.throw(error)
                else:
                    exchange = talk.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        link = await self.link()
        try:
            return await link.call(
                exchange.method,
                exchange.body,
                timeout=exchange.left(deadline, time.monotonic()),
                headers=exchange.headers,
            )
        except Unavailable as error:
            if not link.closed or not may_resend(exchange, error):
                raise
        link = await self.link()
        return await link.call(
            exchange.method, exchange.body, timeout=exchange.left(deadline, time.monotonic()), headers=exchange.headers
        )

    async def open(self, method: str, body: bytes, *, timeout: float | None) -> Stream:
        """Open a stream."""
        return (await self.link()).open(method, body, timeout=timeout)

    async def close(self) -> None:
        """Close the link."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class AsyncCalls:
    """Calls with fixed options; :meth:`AsyncMesh.options` makes one. Each method as in :class:`osiris_sdk.Calls`.

    Args:
        line: The way to the controller.
        talks: What is said there.
        options: How calls are made.
    """

    def __init__(self, line: AsyncLine, talks: Talks, options: Options) -> None:
        self._line = line
        self._talks = talks
        self._options = options

    def options(
        self, *, timeout: float | None = None, idempotent: bool | None = None, version: str | None = None
    ) -> AsyncCalls:
        """Return the same with other options; what is not given stays as it is."""
        now = self._options
        return AsyncCalls(
            self._line,
            self._talks,
            Options(
                now.timeout if timeout is None else timeout,
                now.idempotent if idempotent is None else idempotent,
                now.version if version is None else version,
            ),
        )

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function and return its result; arguments and errors as :meth:`osiris_sdk.Calls.call`."""
        return await self._line.run(self._talks.call(name, args, kwargs, self._options), self._options.timeout)

    async def call_function(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Do the same as :meth:`call`."""
        return await self.call(name, *args, **kwargs)

    async def detailed(
        self, name: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Call a function and return its result with the call's details: node, version, warm, elapsed_us."""
        talk = self._talks.detailed(name, tuple(args), dict(kwargs or {}), self._options)
        return await self._line.run(talk, self._options.timeout)

    async def function(self, name: str) -> RemoteFunction:
        """Return a function of the mesh as a callable with its signature; calling it gives something to await."""
        full = self._options.full(name)
        return RemoteFunction(self, name, await self._line.run(self._talks.resolve(full), self._options.timeout))

    async def resolve(self, name: str) -> Resolved:
        """Look a name up afresh."""
        talk = self._talks.resolve(self._options.full(name), fresh=True)
        return await self._line.run(talk, self._options.timeout)

    async def map(self, name: str, items: Iterable[Any], *, concurrency: int = 64) -> AsyncIterator[Any]:
        """Call a function once for each item and yield the results in the items' order; see :meth:`Calls.map`."""
        if concurrency < 1:
            raise UsageError(f"a concurrency of {concurrency} makes no calls")
        window: deque[asyncio.Task[Any]] = deque()
        source = iter(items)
        try:
            for item in source:
                window.append(asyncio.ensure_future(self.call(name, item)))
                if len(window) >= concurrency:
                    yield await window[0]
                    window.popleft()
            while window:
                yield await window[0]
                window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)


class AsyncMesh(AsyncCalls):
    """A connection to a mesh, through one controller, for the tasks of one loop."""

    @classmethod
    async def connect(
        cls,
        target: str | os.PathLike[str] | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> AsyncMesh:
        """Connect to a controller; arguments and errors as :meth:`osiris_sdk.Mesh.connect`."""
        line = AsyncLine(_connector(read_target(target, home), CONNECT_S if timeout is None else timeout))
        await line.link()
        return cls(line, Talks(time.monotonic), Options())

    async def list(self) -> builtins.list[dict[str, Any]]:
        """Return all functions: name, versions, active, instances."""
        functions: builtins.list[dict[str, Any]] = (await self.request("function.list"))["functions"]
        return functions

    async def describe(self, name: str) -> dict[str, Any]:
        """Return all that is known of one function."""
        return await self.request("function.describe", {"name": name})

    async def request(
        self, method: str, body: Mapping[str, Any] | None = None, *, timeout: float = REQUEST_S
    ) -> dict[str, Any]:
        """Ask a control method of the controller."""
        return await self._line.run(self._talks.request(method, body or {}, timeout=timeout, safe=False))

    async def upload(self, data: bytes, *, timeout: float = _UPLOAD_S) -> bytes:
        """Put a bundle into the controller's library and return its digest, 32 bytes."""
        view = memoryview(data)
        stream = await self._line.open("library.put", b"", timeout=timeout)
        try:
            for start in range(0, len(view), _PIECE):
                await stream.send(bytes(view[start : start + _PIECE]))
            await stream.end()
            answer = unpack(await stream.receive() or b"\xc0")
        except BaseException:
            stream.reset()
            raise
        digest = answer.get("digest") if isinstance(answer, dict) else None
        if type(digest) is not bytes:
            raise RemoteProtocolError("the controller took a bundle without answering its digest")
        return digest

    async def logs(
        self, name: str = "", *, tail: int = 100, follow: bool = False, since_ms: int = 0
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield lines that functions printed on the node; arguments as :meth:`osiris_sdk.Mesh.logs`."""
        body = pack({"name": name, "tail": tail, "follow": follow, "since_ms": since_ms})
        stream = await self._line.open("function.logs", body, timeout=None if follow else REQUEST_S)
        try:
            await stream.end()
            async for message in stream:
                line = unpack(message)
                if not isinstance(line, dict):
                    raise RemoteProtocolError("a log line is not a map")
                yield line
        finally:
            stream.reset()

    async def close(self) -> None:
        """Close the connection."""
        await self._line.close()

    async def __aenter__(self) -> AsyncMesh:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _connector(target: Target, timeout: float) -> Callable[[], Awaitable[Link]]:
    match target:
        case LocalTarget(path):
            return lambda: connect_unix(path, timeout=timeout)
        case TokenTarget(text):
            return lambda: _with_token(text, timeout)


async def _with_token(text: str, timeout: float) -> Link:
    """Connect to any member a token names."""
    from osiris_mesh.link import connect_tcp  # noqa: PLC0415 - brings NaCl, which local callers do without
    from osiris_sdk.credentials import Credentials, nobody  # noqa: PLC0415 - the same

    credentials = Credentials.from_token(text)
    until = time.monotonic() + timeout
    last: OsirisError | None = None
    members = credentials.shuffled()
    for member in members:
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            link: Link = await connect_tcp(
                member, credentials.key, credentials.network_key, credentials.hello(), timeout=left
            )
        except (Unavailable, DeadlineExceeded) as error:
            last = error
        else:
            return link
    raise nobody(len(members), last)
