"""A folder as a registry's tree: what ``file://`` means; on a disk of this machine, or one that several share.

A publication is one step for whoever finds the folder afterwards: new files are written aside and synced, then named in
a *plan*, which is what commits them, then moved into place, the checkpoint last. Who finds a plan under the lock ends
it first: its writer died. A change is made without the lock, and made anew, in the end under it, if others were faster.
A reader may meet a half-moved state for a moment; the checkpoint tells, and it looks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from osiris_mesh.errors import CheckFailed, Conflict, OsirisError, RemoteProtocolError, Unavailable
from osiris_mesh.registry.layout import CHECKPOINT
from osiris_mesh.registry.listing import MAX_CHANGE, Listing, check_files, is_path
from osiris_mesh.registry.tree import MAX_FILE, MAX_PATH, MAX_PATHS, Blob, Change

__all__ = ["FolderTree"]

_LOCK: Final = ".lock"
_ASIDE: Final = ".publish"
_PLAN: Final = "plan.json"
_COUNT: Final = ".count"
_OPTIMISTIC: Final = 2
_WAIT: Final = 0.02
_MAX_DEPTH: Final = 3
_MAX_PLAN: Final = MAX_CHANGE * (MAX_PATH + 4) + 2
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class FolderTree:
    """One folder.

    Args:
        name: What the user calls this registry.
        path: The folder; made by the first publication.
        patience: Seconds to wait for another publisher's lock, and that one publication may take.
    """

    kind = "folder"

    def __init__(self, name: str, path: Path, *, patience: float = 30.0) -> None:
        self.name = name
        self._path = path
        self._patience = patience

    async def read(self, path: str) -> Blob | None:
        """Return a file; see :class:`osiris_mesh.registry.tree.Reader`.

        Raises:
            Unavailable: The folder is not there, or can't be read.
            RemoteProtocolError: The file is larger than a tree's may be.
        """
        return await asyncio.to_thread(self._read, path) if is_path(path) else None

    async def read_many(self, paths: Sequence[str]) -> list[Blob | None]:
        """Return the first files of these; raises as :meth:`read`."""
        return await asyncio.to_thread(self._read_many, paths)

    async def paths(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with ``prefix``, ascending; raises as :meth:`read`."""
        return (await self.tags()).under(prefix)

    async def tags(self) -> Listing:
        """Return all files with their change time, size and number; raises as :meth:`read`."""
        return await asyncio.to_thread(self._list)

    async def refresh(self) -> str:
        """Return the tree's tag, the checkpoint's; raises as :meth:`read`."""
        blob = await self.read(CHECKPOINT)
        return blob.tag if blob else "none"

    async def publish(self, change: Change, message: str) -> str:  # noqa: ARG002 - a folder keeps no messages
        """Write files in one step; see :class:`osiris_mesh.registry.tree.Tree`.

        Raises:
            Conflict: Another publisher held the lock too long.
            Unavailable: The folder can't be written.
            UsageError: What the change wants to write is no part of a tree.
        """
        await asyncio.to_thread(self._begin)
        for _ in range(_OPTIMISTIC):
            # Without the lock first: making a change may take long, and others need not wait for it.
            before = await asyncio.to_thread(self._generation)
            try:
                files = await self._made(change)
            except OsirisError:
                if await asyncio.to_thread(self._generation) == before:
                    raise
                continue
            async with self._locked():
                if await asyncio.to_thread(self._generation) == before:
                    return await self._written(files)
        async with self._locked():
            return await self._written(await self._made(change))

    async def _made(self, change: Change) -> dict[str, bytes]:
        try:
            async with asyncio.timeout(self._patience):
                files = dict(await change(self))
        except TimeoutError:
            raise Unavailable(f"preparing the publication took over {self._patience:g} s", maybe=False) from None
        check_files(files)
        return files

    async def _written(self, files: dict[str, bytes]) -> str:
        await asyncio.to_thread(self._write, files)
        return await self.refresh()

    async def close(self) -> None:
        """Nothing is held."""

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        try:
            descriptor = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise self._failed(error) from None
        try:
            try:
                async with asyncio.timeout(self._patience):
                    while not _try_lock(descriptor):  # noqa: ASYNC110 - another process lets the lock go
                        await asyncio.sleep(_WAIT)
            except TimeoutError:
                raise Conflict(
                    f"somebody else has been publishing to {self._path} for over {self._patience:g} s",
                    fix="look which process holds the lock, and try again",
                ) from None
            except OSError as error:
                raise self._failed(error) from None
            await asyncio.to_thread(self._end_plan)
            yield
        finally:
            os.close(descriptor)

    def _begin(self) -> None:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(error) from None

    def _read(self, path: str) -> Blob | None:
        try:
            descriptor = _open(self._path, path)
        except (FileNotFoundError, NotADirectoryError):
            if self._path.is_dir():
                return None
            raise Unavailable(f"the folder {self._path} is not there", fix="mount it, or mend the URL") from None
        except OSError as error:
            raise self._failed(error) from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            try:
                data = file.read(MAX_FILE + 1)
            except OSError as error:
                raise self._failed(error) from None
        if len(data) > MAX_FILE:
            raise RemoteProtocolError(f"{path} in {self._path} has more than {MAX_FILE} bytes")
        return Blob(data, _tag(found))

    def _read_many(self, paths: Sequence[str]) -> list[Blob | None]:
        found: list[Blob | None] = []
        size = 0
        for path in paths:
            blob = self._read(path) if is_path(path) else None
            found.append(blob)
            size += len(blob.data) if blob else 0
            if size >= MAX_FILE:
                break
        return found

    def _list(self) -> Listing:
        files: list[tuple[str, str]] = []
        folders = [("", 0)]
        try:
            while folders:
                prefix, depth = folders.pop()
                with os.scandir(self._path / prefix) as entries:
                    for entry in entries:
                        path = prefix + entry.name
                        if entry.is_dir(follow_symlinks=False):
                            if depth < _MAX_DEPTH and not entry.name.startswith("."):
                                folders.append((path + "/", depth + 1))
                        elif is_path(path) and entry.is_file(follow_symlinks=False):
                            # A file that went since is left out, as if it had gone before.
                            with contextlib.suppress(FileNotFoundError):
                                files.append((path, _tag(entry.stat(follow_symlinks=False))))
                            if len(files) > MAX_PATHS:
                                raise RemoteProtocolError(f"{self._path} has more than {MAX_PATHS} files")
        except OSError as error:
            raise self._failed(error) from None
        return Listing(files)

    def _generation(self) -> str:
        """Return what moves with every publication, and while one is being moved into place."""
        found = []
        for path in (_COUNT, f"{_ASIDE}/{_PLAN}"):
            try:
                found.append(_small(self._path, path).decode("ascii"))
            except (FileNotFoundError, NotADirectoryError):
                found.append("")
            except (OSError, ValueError) as error:
                raise Unavailable(f"the folder {self._path} can't be used: {error}", maybe=False) from None
        return "|".join(found)

    def _write(self, files: dict[str, bytes]) -> None:
        aside = self._path / _ASIDE
        files = {path: data for path, data in files.items() if not self._holds(path, data)}
        if not files:
            return
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            # The checkpoint is moved last: until then readers find the old one, and know that what they see is half.
            order = sorted(files, key=lambda path: (path == CHECKPOINT, path))
            for number, path in enumerate(order):
                _put(aside / str(number), files[path])
            _put(aside / "count", secrets.token_hex(16).encode())
            _put(aside / "plan.new", json.dumps(order).encode())
            _sync(aside)
            (aside / "plan.new").rename(aside / _PLAN)
            _sync(aside)
        except OSError as error:
            raise self._failed(error) from None
        self._end_plan()

    def _holds(self, path: str, data: bytes) -> bool:
        found = self._read(path)
        return found is not None and found.data == data

    def _end_plan(self) -> None:
        """Move what a committed plan names into place; nothing if there is none."""
        order = self._plan()
        if order is None:
            return
        aside = self._path / _ASIDE
        touched: set[Path] = {self._path}
        try:
            for number, path in enumerate(order):
                target = self._path / path
                folder = _folder_of(self._path, path, make=True)
                try:
                    # Moved already if its writer died in between.
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(aside / str(number), target.name, dst_dir_fd=folder)
                finally:
                    os.close(folder)
                touched.update(item for item in target.parents if item.is_relative_to(self._path))
            with contextlib.suppress(FileNotFoundError):
                (aside / "count").rename(self._path / _COUNT)
            for item in touched:
                _sync(item)
            shutil.rmtree(aside)
        except OSError as error:
            raise Unavailable(f"a publication in {self._path} is not ended: {error.strerror}", maybe=True) from None

    def _plan(self) -> list[str] | None:
        """Return the paths that a committed plan names; None if there is none.

        Raises:
            CheckFailed: No writer of ours left it.
            Unavailable: It can't be read.
        """
        try:
            data = _small(self._path, f"{_ASIDE}/{_PLAN}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"a publication in {self._path} can't be ended: {error.strerror}", maybe=True) from None
        try:
            order = json.loads(data) if len(data) <= _MAX_PLAN else None
        except (ValueError, RecursionError):
            order = None
        if (
            not isinstance(order, list)
            or len(order) > MAX_CHANGE
            or not all(type(path) is str and is_path(path) for path in order)
        ):
            aside = self._path / _ASIDE
            raise CheckFailed(f"the plan in {aside} is none of a publication", fix=f"look into {aside}, and remove it")
        return order

    def _failed(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"the folder {self._path} can't be used: {error.strerror or error}",
            fix="check its path and permissions",
            maybe=False,
        )


def _open(root: Path, path: str) -> int:
    """Open a file below a folder to be read; no symbolic link below it is followed.

    Raises:
        OSError: It can't be; NotADirectoryError where a link stands for a folder.
    """
    folder = _folder_of(root, path)
    try:
        return os.open(path.rpartition("/")[2], _READ | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _small(root: Path, path: str) -> bytes:
    """Return the bytes of a file of ours, of one too large just enough to tell; raises as :func:`_open`."""
    descriptor = _open(root, path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MAX_PLAN + 1)
    finally:
        os.close(descriptor)


def _folder_of(root: Path, path: str, *, make: bool = False) -> int:
    """Open the folder that a path below another is in, and make it if that is wanted; raises as :func:`_open`."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.split("/")[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
            below = os.open(name, _READ | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
    except BaseException:
        os.close(at)
        raise
    return at


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


def _put(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
