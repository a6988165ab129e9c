"""What survives a restart: histories of names, and what was seen of each registry. A shell around one SQLite file.

Only an index of names is held in memory (some 100 bytes a name); a history is read, checked and decoded when it is
asked for. Every row carries the SHA-256 of what it holds, and every statement's digest is worked out anew when it is
read, so that a bit that flipped on the disk is a missing answer, never a wrong one. What is here was verified before it
was written; a revocation that came since is for the reader to apply.

One thread of its own does all reading and writing, in turn. Writes wait in a bounded table, the newest of a name alone,
and go out in one transaction; a power failure may lose the last seconds of histories and nothing of the trust in
registries (:mod:`osiris_mesh.registry.memory_file`).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from osiris_mesh.errors import Unavailable
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.history import Signers, chain_of, follow, read_lines
from osiris_mesh.registry.memory_file import Kept, MemoryFile
from osiris_mesh.registry.name_index import NameIndex
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.statement import parse

__all__ = ["Kept", "Memory", "record_of"]

T = TypeVar("T")
_log = logging.getLogger("osiris.registry")
_PENDING: Final = 4096
"""Histories that may wait to be written; past it the oldest is not kept."""
_PENDING_BYTES: Final = 64 << 20


def record_of(name: str, data: bytes) -> tuple[Record, tuple[bytes, ...], Signers]:
    """Decode a history that was verified before; return its record, the digests of its statements and their signers.

    Raises:
        OsirisError: It is damaged.
    """
    statements = read_lines(data, parse)
    record = follow(FunctionName.parse(name), statements)
    return record, *chain_of(statements)


class Memory:
    """The file.

    Args:
        path: Where it is; its folder exists.
        limit: Names kept; past it those said longest ago go first.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._path = path
        self._file = MemoryFile(path, limit)
        self._thread: ThreadPoolExecutor | None = None
        self._names = NameIndex([])
        self._pending: dict[str, Kept] = {}
        self._pending_bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    async def open(self) -> None:
        """Open the file, or make it, and read the names.

        Raises:
            Unavailable: It can't be opened, read or made.
        """
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry-memory")
        self._names = NameIndex(await self._run(self._file.open))

    async def close(self) -> None:
        """Write what waits, and close the file."""
        if self._closed or self._thread is None:
            return
        try:
            await self.flush()
        finally:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
            self._thread.shutdown(wait=False)

    def names(self, pattern: str, limit: int) -> list[str]:
        """Return names a pattern fits, ascending; does not block.

        Args:
            pattern: As :func:`osiris_mesh.registry.name_index.compiled` reads it.
            limit: Names returned at most.

        Raises:
            UsageError: It is no pattern.
        """
        return self._names.find(pattern, limit)

    async def get(self, name: str) -> Kept | None:
        """Return what is kept of a name; None: nothing, or it is damaged.

        Raises:
            Unavailable: The file can't be read.
        """
        waiting = self._pending.get(name)
        if waiting is not None:
            return waiting if waiting.data else None
        return await self._run(lambda: self._file.get(name)) if name in self else None

    def put(self, kept: Kept) -> None:
        """Keep a history; it is written in the background."""
        before = self._pending.pop(kept.name, None)
        self._pending_bytes += len(kept.data) - (len(before.data) if before else 0)
        self._pending[kept.name] = kept
        while len(self._pending) > 1 and (len(self._pending) > _PENDING or self._pending_bytes > _PENDING_BYTES):
            oldest = self._pending.pop(next(iter(self._pending)))
            self._pending_bytes -= len(oldest.data)
        self._names.add(kept.name)
        self._write()

    def forget(self, name: str) -> None:
        """Keep a name no longer: it is revoked, or its history was refused."""
        if name in self:
            self.put(Kept(name, "", 0, stale=True, data=b""))

    async def flush(self) -> None:
        """Wait until what was put so far is written.

        Raises:
            Unavailable: It could not be.
        """
        while self._pending or self._writing is not None:
            self._write()
            if self._writing is not None:
                await asyncio.shield(self._writing)

    async def trust(self, registry: str) -> bytes | None:
        """Return what was seen of a registry; None: nothing is kept.

        Raises:
            CheckFailed: It is damaged; the registry must be trusted anew.
            Unavailable: The file can't be read.
        """
        return await self._run(lambda: self._file.trust(registry))

    async def keep_trust(self, registry: str, data: bytes) -> None:
        """Keep what was seen of a registry; returns when it is on the disk.

        Raises:
            Unavailable: It could not be written.
        """
        await self._run(lambda: self._file.keep_trust(registry, data))

    async def forget_registry(self, registry: str) -> None:
        """Keep nothing of a registry any more: it was removed, and another may come under its name.

        Raises:
            Unavailable: It could not be written.
        """
        await self.flush()
        gone = await self._run(lambda: self._file.forget(registry))
        self._names.drop(name for name in gone if name not in self._pending)

    # --- on the loop -----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._writing is not None or not self._pending or self._closed or self._thread is None:
            return
        batch, self._pending, self._pending_bytes = self._pending, {}, 0
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._file.put, list(batch.values()))
        done: asyncio.Future[None] = loop.create_future()
        self._writing = done

        def written(result: asyncio.Future[list[str]]) -> None:
            self._writing = None
            done.set_result(None)
            if result.cancelled():
                return
            error = result.exception()
            if error is None:
                self._names.drop(name for name in result.result() if name not in self._pending)
            else:
                # What can't be kept is asked for again after a restart; nothing is wrong until then.
                _log.warning("histories_not_kept", extra={"names": len(batch), "error": str(error)})
            self._write()

        running.add_done_callback(written)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._thread is None or self._closed:
            raise Unavailable("the registry's memory is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                f"the registry's memory {self._path.name} can't be used: {error}",
                fix="see whether the disk is full or read-only",
            ) from error
