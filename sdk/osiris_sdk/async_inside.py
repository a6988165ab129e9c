"""Calls that an ``async def`` function makes: over the worker's own link, without blocking its loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from osiris_mesh.errors import DeadlineExceeded, OsirisError, UsageError
from osiris_mesh.link.blocking import BlockingLink
from osiris_sdk.async_calls import AsyncLine
from osiris_sdk.talk import Exchange

__all__ = ["AsyncInsideLine"]


class AsyncInsideLine(AsyncLine):
    """The worker's link, whose answers another thread reads.

    Args:
        link: The link.
        deadline: When the call that is served must be over, monotonic seconds, or None.
    """

    def __init__(self, link: BlockingLink, deadline: float | None) -> None:
        super().__init__(deadline)
        self._link = link

    async def open(self) -> None:
        """The link is there."""

    async def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | OsirisError] = loop.create_future()

        def settle(result: bytes | OsirisError) -> None:
            if not answer.done():
                answer.set_result(result)

        def done(result: bytes | OsirisError) -> None:
            # A loop that is closed has nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result)

        left = exchange.left(deadline, time.monotonic())
        give_up = self._link.begin(exchange.method, exchange.body, done, timeout=left, headers=exchange.headers)
        try:
            async with asyncio.timeout(left):
                result = await answer
        except TimeoutError:
            give_up()
            raise DeadlineExceeded(f"{exchange.method} was not answered in time") from None
        except BaseException:
            give_up()
            raise
        if isinstance(result, OsirisError):
            raise result
        return result

    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Refuse."""
        del name, tail, follow, since_ms
        raise _not_here("logs")

    async def upload(self, data: bytes, timeout: float) -> bytes:
        """Refuse."""
        del data, timeout
        raise _not_here("bundles")

    async def close(self) -> None:
        """The link is the worker's."""


def _not_here(what: str) -> UsageError:
    return UsageError(f"a function has nothing to do with {what}", fix="connect from outside: Mesh.connect()")
