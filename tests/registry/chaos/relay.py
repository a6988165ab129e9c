"""A TCP relay that does to bytes what bad networks and bad hosts do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Passes connections on to a host; what its answers go through is ``mode``.

    ``ok``; ``dead``: connections are cut; ``hang``: nothing comes back; ``slow``: each piece waits up to ``delay``;
    ``corrupt``: a byte of each piece is another one; ``cut``: the connection ends in the middle of an answer.
    """

    def __init__(self, port: int, rng: random.Random) -> None:
        self.mode = "ok"
        self.delay = 0.3
        self.bytes = 0
        self._port = port
        self._rng = rng
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def set(self, mode: str) -> None:
        """Change the mode; connections that are open are cut, so that it holds at once."""
        self.mode = mode
        for task in list(self._tasks):
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        other: asyncio.StreamWriter | None = None
        try:
            if self.mode == "dead":
                return
            answers, other = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(self._pass(reader, other, plain=True), self._pass(answers, writer, plain=False))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, other):
                if end is not None:
                    end.close()
                    with contextlib.suppress(OSError):
                        end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, plain: bool) -> None:
        while data := await reader.read(16_384):
            if not plain:
                self.bytes += len(data)
                if self.mode == "hang":
                    await asyncio.Event().wait()
                if self.mode == "slow":
                    await asyncio.sleep(self._rng.random() * self.delay)
                if self.mode == "corrupt":
                    at = self._rng.randrange(len(data))
                    data = data[:at] + bytes([data[at] ^ (1 << self._rng.randrange(8))]) + data[at + 1 :]
                if self.mode == "cut" and self._rng.random() < 0.5:
                    writer.write(data[: len(data) // 2])
                    raise OSError("cut")
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
