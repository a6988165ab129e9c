"""Reading what a worker writes to its standard streams: lines with the call they belong to, never faster than allowed.

A worker that writes faster than ``log_rate`` waits at its next write: the pipe is simply not read for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.runtime.logs import LogLine

__all__ = ["Capture"]

_CHUNK: Final = 65_536
_MARK: Final = 0x1E
_MARK_END: Final = b"\x1f"
_MAX_CALL: Final = 80


class Capture:
    """One pipe, read on the loop.

    Args:
        descriptor: The reading end; owned from now on.
        stream: ``out`` or ``err``.
        version: The function's version.
        sink: Takes the lines.
        clock: When they were read.
        line: Bytes of the longest line.
        rate: Bytes a second that are read.
        tail: Bytes kept for :meth:`last_words`.
    """

    def __init__(
        self,
        descriptor: int,
        stream: str,
        version: str,
        sink: Callable[[Sequence[LogLine]], None],
        clock: Clock,
        *,
        line: int,
        rate: int,
        tail: int,
    ) -> None:
        self._descriptor = descriptor
        self._stream = stream
        self._version = version
        self._sink = sink
        self._clock = clock
        self._max_line = line
        self._rate = rate
        self._max_tail = tail
        self._rest = b""
        self._cut = False
        self._tail = b""
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def last_words(self) -> str:
        """Return the end of what was written, what lies unread in the pipe included."""
        for _ in range(4):
            if self._descriptor < 0 or not self._read():
                break
        text = (self._tail + self._plain(self._rest)[1])[-self._max_tail :]
        return text.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Read what is left and close."""
        if self._descriptor < 0:
            return
        for _ in range(16):
            if not self._read():
                break
        self._end()

    def _readable(self) -> None:
        got = self._read()
        if got and self._descriptor >= 0:
            seconds = got / self._rate
            if seconds > 0.002:
                self._loop.remove_reader(self._descriptor)
                self._pause = self._loop.call_later(seconds, self._unpause)

    def _unpause(self) -> None:
        self._pause = None
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._readable)

    def _read(self) -> int:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self._end()
            return 0
        self._split(data)
        return len(data)

    def _end(self) -> None:
        if self._descriptor < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        with contextlib.suppress(OSError, ValueError):
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if self._rest:
            self._split(b"\n")

    def _split(self, data: bytes) -> None:
        *whole, rest = (self._rest + data).split(b"\n")
        if self._cut and whole:
            del whole[0]  # the end of a line whose beginning was taken as too long
            self._cut = False
        if len(rest) > self._max_line and not self._cut:
            whole.append(rest)
            self._cut = True
        self._rest = b"" if self._cut else rest
        if not whole:
            return
        now = self._clock.time_ms()
        lines: list[LogLine] = []
        for raw in whole:
            call, text = self._plain(raw[: self._max_line + _MAX_CALL])
            text = text[: self._max_line]
            lines.append(LogLine(now, self._version, call, self._stream, text.decode("utf-8", "replace")))
            self._tail += text + b"\n"
        self._tail = self._tail[-self._max_tail :]
        self._sink(lines)

    @staticmethod
    def _plain(raw: bytes) -> tuple[str, bytes]:
        """Return the call a line is marked with, and the line."""
        if raw[:1] and raw[0] == _MARK:
            end = raw.find(_MARK_END, 1, _MAX_CALL)
            if end > 0:
                return raw[1:end].decode("utf-8", "replace"), raw[end + 1 :]
        return "", raw
