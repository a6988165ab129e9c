"""The SDK for asyncio: :class:`AsyncMesh`, the same as :class:`osiris_sdk.Mesh`, awaited."""

from __future__ import annotations

import asyncio
import builtins
import os
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import DeadlineExceeded, OsirisError, RemoteProtocolError, Unavailable
from osiris_mesh.link import Link, Stream, connect_unix
from osiris_sdk.async_calls import AsyncCalls, AsyncLine
from osiris_sdk.line import CONNECT_S, stored
from osiris_sdk.options import Options
from osiris_sdk.registry import AsyncRegistry
from osiris_sdk.spread import Spread
from osiris_sdk.spread_line import Lost, nobody
from osiris_sdk.talk import REQUEST_S, Exchange, Talk, Talks, may_resend
from osiris_sdk.target import LocalTarget, Target, TokenTarget, read_target

if TYPE_CHECKING:
    from osiris_sdk.deploying import Deployed, Deploying
    from osiris_sdk.sources import DeployOptions, Source

__all__ = ["AsyncCalls", "AsyncMesh", "AsyncSpreadLine"]

_PIECE: Final = 256 * 1024
_UPLOAD_S: Final = 120.0
T = TypeVar("T")


class AsyncLinkLine(AsyncLine):
    """One link, made again when it is gone.

    Args:
        connect: Makes a link.
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]]) -> None:
        super().__init__()
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

    async def open(self) -> None:
        """Connect."""
        await self.link()

    async def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange; over a new link once if the old one was lost and it may be sent again."""
        link = await self.link()
        try:
            return await _over(link, exchange, deadline)
        except Unavailable as error:
            if not link.closed or not may_resend(exchange, error):
                raise
        return await _over(await self.link(), exchange, deadline)

    async def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Yield log lines of the node."""
        body = pack({"name": name, "tail": tail, "follow": follow, "since_ms": since_ms})
        stream = await self._stream("function.logs", body, None if follow else REQUEST_S)
        try:
            await stream.end()
            async for message in stream:
                line = unpack(message)
                if not isinstance(line, dict):
                    raise RemoteProtocolError("a log line is not a map")
                yield line
        finally:
            stream.reset()

    async def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle."""
        view = memoryview(data)
        stream = await self._stream("library.put", b"", timeout)
        try:
            for start in range(0, len(view), _PIECE):
                await stream.send(bytes(view[start : start + _PIECE]))
            await stream.end()
            answer = unpack(await stream.receive() or b"\xc0")
        except BaseException:
            stream.reset()
            raise
        return stored(answer)

    async def _stream(self, method: str, body: bytes, timeout: float | None) -> Stream:
        return (await self.link()).open(method, body, timeout=timeout)

    async def close(self) -> None:
        """Close the link."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class AsyncSpreadLine(AsyncLine):
    """Tries addresses in the order a :class:`Spread` gives; as :class:`osiris_sdk.spread_line.SpreadLine`.

    Args:
        names: What the addresses are called, for texts; those who make it have shuffled them.
    """

    def __init__(self, names: builtins.list[str]) -> None:
        super().__init__()
        self.names = names
        self._spread = Spread(len(names), random.Random())  # noqa: S311 - spreads load, guards nothing

    async def open(self) -> None:
        """Make sure that one of them answers."""
        await self.attempt(self._greet, bool)

    @abstractmethod
    async def _greet(self, place: int) -> None:
        """Reach one address; raises Lost."""

    @abstractmethod
    async def _carry(self, place: int, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry an exchange to one address; raises Lost."""

    async def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange."""

        async def carry(place: int) -> bytes:
            exchange.left(deadline, time.monotonic())
            return await self._carry(place, exchange, deadline)

        return await self.attempt(carry, lambda error: may_resend(exchange, error))

    async def attempt(self, action: Callable[[int], Awaitable[T]], again: Callable[[Unavailable], object]) -> T:
        """Do something at the first address where it can be done; as :meth:`SpreadLine.attempt`."""
        spread = self._spread
        order = spread.order(time.monotonic())
        last: Unavailable | None = None
        for place in order:
            spread.began(place)
            began = time.monotonic()
            try:
                answer = await action(place)
            except Lost as lost:
                spread.failed(place, time.monotonic())
                if not again(lost.error):
                    raise lost.error from None
                last = lost.error
                continue
            except OsirisError:
                now = time.monotonic()
                spread.ended(place, now - began, now)
                raise
            except BaseException:
                spread.gave_up(place)
                raise
            now = time.monotonic()
            spread.ended(place, now - began, now)
            return answer
        if len(order) == 1 and last is not None:
            raise last
        raise nobody(len(order), last)


class AsyncMembersLine(AsyncSpreadLine):
    """The members a client token names, a link to each that is used.

    Args:
        names: Their addresses.
        connectors: Each makes a link to one of them.
    """

    def __init__(self, names: builtins.list[str], connectors: builtins.list[Callable[[], Awaitable[Link]]]) -> None:
        super().__init__(names)
        self._lanes = [AsyncLinkLine(connect) for connect in connectors]

    async def _link(self, place: int) -> Link:
        try:
            return await self._lanes[place].link()
        except Unavailable as error:
            raise Lost(error) from None
        except DeadlineExceeded as error:
            raise Lost(Unavailable(error.what, maybe=False)) from None

    async def _greet(self, place: int) -> None:
        await self._link(place)

    async def _carry(self, place: int, exchange: Exchange, deadline: float | None) -> bytes:
        link = await self._link(place)
        try:
            return await _over(link, exchange, deadline)
        except Unavailable as error:
            # An error of a live link is the controller's own answer.
            if link.closed:
                raise Lost(error) from None
            raise

    async def one(self) -> AsyncLinkLine:
        """Return the way to one member that answers."""

        async def reach(place: int) -> AsyncLinkLine:
            await self._link(place)
            return self._lanes[place]

        return await self.attempt(reach, bool)

    async def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Yield log lines of one member."""
        line = await self.one()
        async for item in line.logs(name, tail=tail, follow=follow, since_ms=since_ms):
            yield item

    async def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle at one member."""
        return await (await self.one()).upload(data, timeout)

    async def close(self) -> None:
        """Close every link."""
        for lane in self._lanes:
            await lane.close()


async def _over(link: Link, exchange: Exchange, deadline: float | None) -> bytes:
    return await link.call(
        exchange.method, exchange.body, timeout=exchange.left(deadline, time.monotonic()), headers=exchange.headers
    )


class AsyncMesh(AsyncCalls):
    """A connection to a mesh, through one controller, for the tasks of one loop."""

    _target: Target | None = None

    @classmethod
    async def connect(
        cls,
        target: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> AsyncMesh:
        """Connect to a controller; arguments and errors as :meth:`osiris_sdk.Mesh.connect`."""
        where = read_target(target, home, token, ca)
        line = _line(where, CONNECT_S if timeout is None else timeout)
        try:
            await line.open()
        except BaseException:
            await line.close()
            raise
        mesh = cls(line, Talks(time.monotonic), Options())
        mesh._target = where
        return mesh

    @classmethod
    def local(cls, *sources: Mapping[str, Callable[..., Any]] | str | os.PathLike[str]) -> AsyncMesh:
        """Return a mesh without a controller, for unit tests; as :meth:`osiris_sdk.Mesh.local`.

        An ``async def`` runs on this loop, any other function in a thread.
        """
        from osiris_sdk.async_local import AsyncLocalLine  # noqa: PLC0415 - for tests alone
        from osiris_sdk.local import LocalFunctions  # noqa: PLC0415 - the same

        return cls(AsyncLocalLine(LocalFunctions.of(*sources)), Talks(time.monotonic), Options())

    async def list(self) -> builtins.list[dict[str, Any]]:
        """Return all functions: name, versions, active, instances."""
        functions: builtins.list[dict[str, Any]] = (await self.request("function.list"))["functions"]
        return functions

    async def describe(self, name: str) -> dict[str, Any]:
        """Return all that is known of one function."""
        return await self.request("function.describe", {"name": name})

    async def deploy(self, source: Source, **options: Unpack[DeployOptions]) -> builtins.list[Deployed]:
        """Deploy the functions of a file or folder, or one plain function; as :meth:`osiris_sdk.Mesh.deploy`."""
        job = await asyncio.to_thread(_read, source, options)
        return await self._carry_out(lambda deploying: deploying.deploy(job))

    async def update(self, name: str, source: Source, /, **options: Unpack[DeployOptions]) -> Deployed:
        """Give a function that is there new code; as :meth:`osiris_sdk.Mesh.update`."""
        job = await asyncio.to_thread(_read, source, {**options, "name": name})
        return await self._carry_out(lambda deploying: deploying.update(job))

    async def remove(self, name: str, *, version: str = "") -> None:
        """Remove a function with all its versions, or one version that is not active."""
        await self._carry_out(lambda deploying: deploying.remove(name, version))

    async def rollback(self, name: str, *, to: str = "") -> str:
        """Make an earlier version the active one; as :meth:`osiris_sdk.Mesh.rollback`."""
        return await self._carry_out(lambda deploying: deploying.rollback(name, to))

    async def _carry_out(self, talk: Callable[[Deploying], Talk[T]]) -> T:
        from osiris_sdk.target import deploying_for  # noqa: PLC0415 - few programs deploy

        deploying = deploying_for(self._target)
        return await (await self._line.one()).run(talk(deploying))

    @property
    def registry(self) -> AsyncRegistry:
        """What the controller knows through its registries."""
        return AsyncRegistry(self)

    async def request(
        self, method: str, body: Mapping[str, Any] | None = None, *, timeout: float = REQUEST_S
    ) -> dict[str, Any]:
        """Ask a control method of the controller."""
        return await self._line.run(self._talks.request(method, body or {}, timeout=timeout, safe=False))

    async def upload(self, data: bytes, *, timeout: float = _UPLOAD_S) -> bytes:
        """Put a bundle into the controller's library and return its digest, 32 bytes."""
        return await self._line.upload(data, timeout)

    def logs(
        self, name: str = "", *, tail: int = 100, follow: bool = False, since_ms: int = 0
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield lines that functions printed on the node; arguments as :meth:`osiris_sdk.Mesh.logs`."""
        return self._line.logs(name, tail=tail, follow=follow, since_ms=since_ms)

    def events(self, *names: str, after: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield events of the mesh as they happen; arguments and errors as :meth:`osiris_sdk.Mesh.events`."""
        return self._line.events(",".join(names) or "*", after)

    async def close(self) -> None:
        """Close the connection."""
        await self._line.close()

    async def __aenter__(self) -> AsyncMesh:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _read(source: Source, options: Mapping[str, Any]) -> dict[str, Any]:
    from osiris_sdk.sources import read_source  # noqa: PLC0415 - few programs deploy

    return read_source(source, options)


def _line(target: Target, timeout: float) -> AsyncLine:
    match target:
        case LocalTarget(path):
            return AsyncLinkLine(lambda: connect_unix(path, timeout=timeout))
        case TokenTarget(text):
            return _with_token(text, timeout)
        case _:
            from osiris_sdk.async_http import AsyncHttpLine  # noqa: PLC0415 - brings aiohttp

            return AsyncHttpLine(target, timeout)


def _with_token(text: str, timeout: float) -> AsyncMembersLine:
    """Return the way to the members a client token names; nothing is sent yet."""
    from osiris_mesh.link import connect_tcp  # noqa: PLC0415 - brings NaCl, which local callers do without
    from osiris_sdk.credentials import Credentials  # noqa: PLC0415 - the same

    known = Credentials.from_token(text)
    members = known.shuffled()

    def connector(at: int) -> Callable[[], Awaitable[Link]]:
        return lambda: connect_tcp(members[at], known.key, known.network_key, known.hello(), timeout=timeout)

    return AsyncMembersLine([str(member) for member in members], [connector(at) for at in range(len(members))])
