"""Reading files of a clone by one long-living ``git cat-file --batch``, which may not reach the remote."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.registry.git_command import end, start
from osiris_mesh.registry.tree import MAX_FILE

__all__ = ["BlobReader"]

_READ: Final = 10.0
_LINE: Final = 600


class BlobReader:
    """Reads files by their object ids.

    Args:
        folder: The clone.
        shown: Its remote, for people.
    """

    def __init__(self, folder: Path, shown: str) -> None:
        self._folder = folder
        self._shown = shown
        self._process: Process | None = None
        self._reading = asyncio.Lock()

    async def blob(self, oid: str, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            Unavailable: It is not here, or larger than a file may be.
        """
        return (await self.blobs([(oid, path)]))[0]

    async def blobs(self, wanted: Sequence[tuple[str, str]]) -> list[bytes]:
        """Return files by object id and path: the first, and those after it up to :data:`MAX_FILE` bytes in all.

        Args:
            wanted: At most :data:`MAX_MANY`: what is asked has to fit into a pipe, since no answer is taken meanwhile.

        Raises:
            Unavailable: One is not here, or larger than a file may be.
        """
        path = wanted[0][1]
        async with self._reading:
            for again in (True, False):
                try:
                    async with asyncio.timeout(_READ):
                        return await self._ask(wanted)
                except OsirisError:
                    await self._end_reader()
                    raise
                except (asyncio.IncompleteReadError, ConnectionError, ValueError):
                    await self._end_reader()
                    if not again:
                        break
                except BaseException as error:
                    # Half an answer is in the pipe.
                    await self._end_reader()
                    if isinstance(error, TimeoutError):
                        break
                    raise
        raise Unavailable(f"{path} can't be read from the clone of {self._shown}", maybe=False)

    async def _ask(self, wanted: Sequence[tuple[str, str]]) -> list[bytes]:
        if self._process is None:
            self._process = await start(["cat-file", "--batch"], self._folder, offline=True)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("git was started without pipes")
        stdin.write("".join(f"{oid}\n" for oid, _ in wanted).encode())
        await stdin.drain()
        found: list[bytes] = []
        total = 0
        for _, path in wanted:
            head = (await stdout.readuntil(b"\n"))[:_LINE].split()
            if len(head) != 3 or head[1] != b"blob":
                raise Unavailable(f"{path} is not in the clone of {self._shown}", maybe=False)
            size = int(head[2])
            if size > MAX_FILE:
                raise Unavailable(f"{path} of {self._shown} has {size} bytes, more than {MAX_FILE}", maybe=False)
            data = (await stdout.readexactly(size + 1))[:-1]
            total += size
            # What is too much is taken out of the pipe all the same, and asked for again.
            if not found or total <= MAX_FILE:
                found.append(data)
        return found

    async def _end_reader(self) -> None:
        reader, self._process = self._process, None
        if reader is not None:
            await end(reader)

    async def close(self) -> None:
        """End the process."""
        async with self._reading:
            await self._end_reader()
