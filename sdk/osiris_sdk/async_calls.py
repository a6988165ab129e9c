"""Calls that are awaited, and what every way to a controller offers them; brings asyncio, but no transport."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, TypeVar

from osiris_mesh.errors import OsirisError, UsageError
from osiris_sdk.line import no_events
from osiris_sdk.options import Choose, Options
from osiris_sdk.remote import RemoteFunction
from osiris_sdk.resolved import Resolved
from osiris_sdk.talk import Exchange, Talk, Talks

__all__ = ["AsyncCalls", "AsyncLine"]

T = TypeVar("T")


class AsyncLine(ABC):
    """Carries exchanges to a controller, for the tasks of one loop.

    Args:
        deadline: Monotonic seconds no exchange goes beyond: inside a function, that of the call it answers.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline

    async def run(self, talk: Talk[T], timeout: float | None = None) -> T:
        """Carry a talk on to its end, in at most ``timeout`` seconds."""
        deadline = self._deadline
        if timeout is not None:
            until = time.monotonic() + timeout
            deadline = until if deadline is None else min(until, deadline)
        try:
            exchange = next(talk)
            while True:
                try:
                    answer = await self.exchange(exchange, deadline)
                except OsirisError as error:
                    exchange = talk.throw(error)
                else:
                    exchange = talk.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    @abstractmethod
    async def open(self) -> None:
        """Make sure that somebody answers."""

    @abstractmethod
    async def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange, until ``deadline`` (monotonic seconds)."""

    @abstractmethod
    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Yield log lines."""

    def events(self, names: str, after: int | None) -> AsyncIterator[dict[str, Any]]:
        """Yield events of the mesh; only gateways have them."""
        del names, after
        raise no_events()

    @abstractmethod
    async def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle; its digest."""

    async def one(self) -> AsyncLine:
        """Return the way to one and the same controller, for exchanges that build on each other."""
        return self

    @abstractmethod
    async def close(self) -> None:
        """Close what is open."""


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
        self,
        *,
        timeout: float | None = None,
        idempotent: bool | None = None,
        version: str | None = None,
        context: str | None = None,
        choose: Choose | None = None,
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
                now.context if context is None else context,
                now.choose if choose is None else choose,
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
