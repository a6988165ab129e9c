"""What functions print: a ring in memory and a bounded file for each, and whoever follows along.

A file is one JSON object a line, ``{"time_ms", "version", "call", "stream", "text"}``, at
``<folder>/functions/<namespace>/<name>.log``; past its bound it is renamed to ``….log.1``, in place of the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from osiris_mesh.function.name import FunctionName
from osiris_mesh.settings.runtime import RuntimeSettings

__all__ = ["LogLine", "LogStore"]

_FLUSH_S: Final = 0.5
_FOLLOW: Final = 10_000
_OPEN: Final = 64


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line a function wrote.

    Attributes:
        time_ms: When it was read, milliseconds since 1970.
        version: Which version wrote it.
        call: Id of the call, or empty if unknown.
        stream: ``out`` or ``err``; ``node`` for what the runtime itself has to say about the function.
        text: The line.
    """

    time_ms: int
    version: str
    call: str
    stream: str
    text: str


class _Log:
    """One function's log."""

    def __init__(self, path: Path, settings: RuntimeSettings) -> None:
        self.path = path
        self.ring: deque[LogLine] = deque(maxlen=settings.log_ring)
        self._ring_size = 0
        self._ring_bound = settings.log_ring_size
        self.followers: set[asyncio.Queue[LogLine]] = set()
        self.file: IO[bytes] | None = None
        self.size = 0
        self._bound = settings.log_file
        self.keep(_read(path)[-settings.log_ring :])

    def keep(self, lines: Sequence[LogLine]) -> None:
        ring = self.ring
        for line in lines:
            if len(ring) == ring.maxlen:
                self._ring_size -= len(ring.popleft().text)
            ring.append(line)
            self._ring_size += len(line.text)
            while self._ring_size > self._ring_bound and len(ring) > 1:
                self._ring_size -= len(ring.popleft().text)

    def write(self, lines: Sequence[LogLine]) -> None:
        if self.file is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.file = self.path.open("ab")
            self.path.chmod(0o600)
            self.size = self.file.tell()
        data = b"".join(
            json.dumps(asdict(line), ensure_ascii=False).encode("utf-8", "replace") + b"\n" for line in lines
        )
        self.file.write(data)
        self.size += len(data)
        if self.size > self._bound:
            self.close()
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class LogStore:
    """The logs of all functions on this node; belongs to the loop's thread.

    Args:
        folder: Where the files lie.
        settings: Bounds.
    """

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        self._folder = folder / "functions"
        self._settings = settings
        self._logs: dict[str, _Log] = {}
        self._flushing: asyncio.TimerHandle | None = None

    def append(self, name: str, lines: Sequence[LogLine]) -> None:
        """Take lines of a function; they reach the disk within half a second.

        Args:
            name: The function's full name.
            lines: In order.
        """
        log = self._log(name)
        log.keep(lines)
        with contextlib.suppress(OSError):  # a full disk must not stop the function
            log.write(lines)
        for queue in log.followers:
            for line in lines:
                if queue.full():
                    queue.get_nowait()  # who reads too slowly misses the oldest
                queue.put_nowait(line)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def tail(self, name: str, count: int = 100, since_ms: int = 0) -> list[LogLine]:
        """Return the last lines of a function, oldest first.

        Args:
            name: The function's full name.
            count: At most so many, and at most what the ring holds.
            since_ms: None from before.
        """
        lines = [line for line in self._log(name).ring if line.time_ms >= since_ms]
        return lines[-count:] if count > 0 else []

    async def follow(self, name: str) -> AsyncIterator[LogLine]:
        """Yield a function's lines from now on."""
        queue: asyncio.Queue[LogLine] = asyncio.Queue(_FOLLOW)
        log = self._log(name)
        log.followers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            log.followers.discard(queue)

    def close(self) -> None:
        """Write what is buffered and close the files."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        for log in self._logs.values():
            log.close()

    def _flush(self) -> None:
        self._flushing = None
        opened = [log for log in self._logs.values() if log.file is not None]
        for log in opened:
            with contextlib.suppress(OSError):
                if log.file is not None:
                    log.file.flush()
        for log in opened[_OPEN:]:
            log.close()

    def _log(self, name: str) -> _Log:
        log = self._logs.get(name)
        if log is None:
            full = FunctionName.parse(name)
            parts = [part for part in (full.vendor, full.namespace) if part]
            path = self._folder.joinpath(*parts, f"{full.name}.log")
            log = self._logs[name] = _Log(path, self._settings)
        return log


def _read(path: Path) -> list[LogLine]:
    """Return the lines of the files of before."""
    return [line for part in (path.with_name(f"{path.name}.1"), path) for line in _parse(part)]


def _parse(path: Path) -> Iterator[LogLine]:
    try:
        with path.open("rb") as file:
            for raw in file:
                with contextlib.suppress(ValueError, TypeError):
                    yield LogLine(**json.loads(raw))
    except FileNotFoundError:
        return
