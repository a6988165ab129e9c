"""A registry's tree over HTTP, for other meshes and whoever asks: what ``tree_http`` reads and publishes to.

::

    GET  /v1/registry/tree/index.json                    the files with their digests
    GET  /v1/registry/tree/{file}                        config.json, root.json, checkpoint
    GET  /v1/registry/tree/ns/{vendor}/{file}            _keys.json
    GET  /v1/registry/tree/ns/{vendor}/{namespace}/{file}
    PUT  /v1/registry/tree                               a publication: all of it or nothing

An ETag is the SHA-256 of the file: strong, and the same on every controller that has the same tree. The index is made
when it is asked for, from the files whose tags changed since. What is read here is public among those who may ask: the
lines are signed for anybody to check. What is published is checked for its places and sizes alone; readers believe
signatures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict, NotFound, UsageError
from osiris_mesh.gateway.http.route import JSON, Ask, Output
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, ROOT, name_at, vendor_at
from osiris_mesh.registry.listing import INDEX, check_files, digest_of, is_path, write_index
from osiris_mesh.registry.tree import Blob, Reader, Tagged, Tree
from osiris_mesh.registry.tree_http import MAX_BATCH, MOVED, Batch, Taken, listed_digest

__all__ = ["LINES", "TREE", "RegistryFiles", "TreeRoutes", "path_asked"]

TREE: Final = "/v1/registry/tree"
LINES: Final = "application/x-ndjson"
"""Media type of files that are statements, one a line."""
_FRESH: Final = 1.0
_YIELD: Final = 64
_MAX_ETAGS: Final = 4096


class RegistryFiles:
    """Serves a tree.

    Args:
        tree: Which.
        clock: Time.
        fresh_s: How long the index counts as new; what is published here shows at once.
    """

    def __init__(self, tree: Tree, clock: Clock = SYSTEM, *, fresh_s: float = _FRESH) -> None:
        self._tree = tree
        self._clock = clock
        self._fresh = fresh_s
        self._digests: dict[str, tuple[str, str]] = {}
        self._index = b""
        self._etag = ""
        self._made = 0.0
        self._stamp = ""
        self._making = asyncio.Lock()

    async def file(self, path: str, if_none_match: str = "") -> Output:
        """Answer a GET or HEAD.

        Args:
            path: Below :data:`TREE`, decoded.
            if_none_match: The header, or empty.

        Raises:
            NotFound: There is no such file, or there can't be.
            Unavailable: The tree can't be read.
        """
        if path == INDEX:
            data, etag = await self.index()
            return _output(data, etag, JSON, if_none_match)
        blob = await self._tree.read(path) if _is_place(path) else None
        if blob is None:
            raise NotFound(f"the registry has no {path[:200]}", fix=f"GET {TREE}/{INDEX} lists what there is")
        return _output(blob.data, digest_of(blob.data), JSON if path == CONFIG else LINES, if_none_match)

    async def index(self) -> tuple[bytes, str]:
        """Return the index and its SHA-256 in hex.

        Raises:
            Unavailable: The tree can't be read.
        """
        if self._index and self._clock.monotonic() < self._made + self._fresh:
            return self._index, self._etag
        async with self._making:
            if not self._index or self._clock.monotonic() >= self._made + self._fresh:
                await self._make()
        return self._index, self._etag

    async def _make(self) -> None:
        made = self._clock.monotonic()
        tagged = isinstance(self._tree, Tagged)
        if isinstance(self._tree, Tagged):
            files = list((await self._tree.tags()).items())
        else:
            # A back-end without tags: the checkpoint stands for all files, since every publication moves it.
            stamp = await _stamp(self._tree)
            if self._index and stamp == self._stamp:
                self._made = made
                return
            files = [(path, "") for path in await self._tree.paths()]
            self._stamp = stamp
        known, found = self._digests, {}
        for number, (path, tag) in enumerate(files):
            old = known.get(path)
            if old is not None and tagged and old[0] == tag:
                found[path] = old
                continue
            if number % _YIELD == 0:
                await asyncio.sleep(0)
            blob = await self._tree.read(path) if _is_place(path) else None
            if blob is not None:
                found[path] = (tag, digest_of(blob.data))
        if found != known or not self._index:
            data = await asyncio.to_thread(write_index, [(path, digest) for path, (_, digest) in found.items()])
            self._index, self._etag = data, digest_of(data)
        self._digests, self._made = found, made

    async def publish(self, batch: Batch, through: Tree | None = None) -> Taken:
        """Publish, if everything that was read for it is as it was.

        Args:
            batch: What is published.
            through: The same tree with somebody's right to write; None: the tree's own.

        Raises:
            UsageError: A path is no place of a registry's tree, something is too large, or ``expected`` lacks a path.
            Conflict: Something changed (``reason`` is ``moved``), or the tree refuses.
            Denied, Unavailable: As the tree says.
        """
        check_files(batch.files)
        if sum(map(len, batch.files.values())) > MAX_BATCH:
            raise UsageError(f"one publication has at most {MAX_BATCH} bytes", fix="publish in parts")
        for path in batch.files:
            if not _is_place(path):
                raise UsageError(f"{path!r} is no place in a registry's tree")
            if path not in batch.expected:
                raise UsageError(
                    f"expected lacks {path}", fix="say what was there, or that nothing was, by an empty text"
                )

        async def change(reader: Reader) -> Mapping[str, bytes]:
            for path, digest in batch.expected.items():
                blob = await reader.read(path) if is_path(path) else None
                if _digest(blob) != digest:
                    raise _moved(path)
            for prefix, digest in batch.listed.items():
                if listed_digest(await reader.paths(prefix)) != digest:
                    raise _moved(f"the list of {prefix}")
            return batch.files

        await (through or self._tree).publish(change, batch.message)
        async with self._making:
            await self._make()
            return Taken(self._etag)


class TreeRoutes:
    """The handlers of the routes above.

    Args:
        files: Returns what serves the registry of a controller, from a request; None: it serves none.
        writer: Returns the tree with the right to write of whoever asks; None: the tree's own right is used.
    """

    def __init__(
        self, files: Callable[[Ask], RegistryFiles | None], writer: Callable[[Ask], Tree] | None = None
    ) -> None:
        self._files = files
        self._writer = writer

    async def get(self, ask: Ask) -> Output:
        """Return a file of the tree, or 304 if it is what the asker has."""
        return await self._of(ask).file(path_asked(ask), ask.request.headers.get("If-None-Match", ""))

    async def put(self, ask: Ask) -> Taken:
        """Publish to the tree, all of it or nothing."""
        through = self._writer(ask) if self._writer is not None else None
        return await self._of(ask).publish(ask.body, through)

    def _of(self, ask: Ask) -> RegistryFiles:
        files = self._files(ask)
        if files is None:
            raise NotFound("this controller serves no registry", fix="ask one that does")
        return files


def path_asked(ask: Ask) -> str:
    """Return the path in the tree that a request of one of these routes is about."""
    names = ask.names
    folders = [part for part in (names.get("vendor"), names.get("namespace")) if part is not None]
    return "/".join(["ns", *folders, names["file"]] if folders else [names["file"]])


def _is_place(path: str) -> bool:
    if path in {CONFIG, ROOT, CHECKPOINT}:
        return True
    return is_path(path) and (name_at(path) is not None or vendor_at(path) is not None)


async def _stamp(reader: Reader) -> str:
    blob = await reader.read(CHECKPOINT)
    return f"{_digest(blob)} {listed_digest(await reader.paths())}"


def _digest(blob: Blob | None) -> str:
    return digest_of(blob.data) if blob is not None else ""


def _moved(what: str) -> Conflict:
    return Conflict(f"{what} changed since it was read", fix="read it again, and publish again", reason=MOVED)


def _output(data: bytes, digest: str, media: str, if_none_match: str) -> Output:
    etag = f'"{digest}"'
    # Whoever keeps a copy asks whether it still holds; proxies too.
    headers = (("ETag", etag), ("Cache-Control", "no-cache"))
    if _matches(if_none_match, etag):
        return Output(b"", media, 304, headers)
    return Output(data, media, 200, headers)


def _matches(header: str, etag: str) -> bool:
    """Compare weakly, as RFC 9110 has it for If-None-Match."""
    if not header or len(header) > _MAX_ETAGS:
        return False
    given: Sequence[str] = [part.strip().removeprefix("W/") for part in header.split(",")]
    return etag in given or given == ["*"]
