"""A mesh without a controller, awaited: an ``async def`` runs on this loop, any other function in a thread."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any

from osiris_mesh.errors import DeadlineExceeded, UsageError
from osiris_sdk.async_calls import AsyncLine
from osiris_sdk.inside import serving_in
from osiris_sdk.line import Line
from osiris_sdk.local import LocalFunctions, LocalLine, answered, raised
from osiris_sdk.talk import Exchange

__all__ = ["AsyncLocalLine"]


class AsyncLocalLine(AsyncLine):
    """Answers exchanges on the loop that asks.

    Args:
        functions: What there is.
        deadline: Monotonic seconds no exchange goes beyond.
    """

    def __init__(self, functions: LocalFunctions, deadline: float | None = None) -> None:
        super().__init__(deadline)
        self._functions = functions

    def line(self, deadline: float | None) -> Line:
        """Return the way a function's own calls take."""
        return LocalLine(self._functions, deadline, inside=True)

    def async_line(self, deadline: float | None) -> AsyncLine:
        """Return the same for calls that are awaited."""
        return AsyncLocalLine(self._functions, deadline)

    async def open(self) -> None:
        """Nothing is needed."""

    async def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Answer one exchange."""
        if exchange.method != "call":
            return self._functions.answer(exchange)
        call = self._functions.prepare(exchange, deadline)
        began = time.monotonic()
        plain = call.function.call
        try:
            with serving_in(self, depth=call.depth, deadline=call.ends):
                async with asyncio.timeout(call.ends - began):
                    if inspect.iscoroutinefunction(plain):
                        result = await plain(*call.args, **call.kwargs)
                    else:
                        result = await asyncio.to_thread(plain, *call.args, **call.kwargs)
        except (Exception, SystemExit) as error:
            if isinstance(error, TimeoutError) and time.monotonic() >= call.ends:
                raise DeadlineExceeded(f"{call.function.name} was not done in its time") from None
            raise raised(call.function.name, error) from error
        return answered(call, result, time.monotonic() - began)

    async def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> AsyncIterator[dict[str, Any]]:
        """Yield nothing: what functions print is printed."""
        del name, tail, follow, since_ms
        nothing: tuple[dict[str, Any], ...] = ()
        for line in nothing:
            yield line

    async def upload(self, data: bytes, timeout: float) -> bytes:
        """Refuse."""
        del data, timeout
        raise UsageError("a bundle takes a controller, and a local mesh has none", fix="use AsyncMesh.connect()")

    async def close(self) -> None:
        """Nothing is open."""
