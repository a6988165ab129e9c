"""A tree behind http or https: a static host, or a controller; another mesh is such a registry.

``index.json`` (:mod:`osiris_mesh.registry.listing`) lists the files with their digests. With it a registry is a state
that is read whole: a file is asked for once, and again only when its digest changed. :meth:`HttpTree.refresh` asks for
the index alone, with its ETag. A host without an index can be read by name but not listed: each file is asked for
with its ETag once after the checkpoint changed.

A publication is one request, ``PUT`` to the tree: the files, and what each file that was read on the way was like. The
controller writes all of it or nothing, and nothing if one of them is different by then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import msgspec

from osiris_mesh.errors import Conflict, OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.registry.batching import Batching, Moved, Overlay, Publication, make, message_of
from osiris_mesh.registry.http_cache import Cached, HttpCache
from osiris_mesh.registry.http_fetch import Answer, HttpFetch
from osiris_mesh.registry.layout import CHECKPOINT
from osiris_mesh.registry.listing import INDEX, MAX_INDEX, Listing, digest_of, is_path, read_index, write_index
from osiris_mesh.registry.tree import MAX_FILE, Blob, Change

__all__ = ["MAX_BATCH", "MOVED", "Batch", "HttpTree", "Taken", "listed_digest"]

MAX_BATCH: Final = 8 * 1024 * 1024
"""Bytes of the files of one publication over HTTP."""
MOVED: Final = "moved"
"""``reason`` of the Conflict that says: somebody was faster."""
_CACHE: Final = 512 << 20
_MAX_KNOWN: Final = 65_536
_ANSWER: Final = 64 << 10
_NONE: Final = "none"


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A publication: what is written, and what was there when it was made.

    Attributes:
        message: One line for people.
        files: Path to bytes (base64 in JSON).
        expected: Path to SHA-256 in hex of what is there now; empty: nothing is. Of every path in ``files``, and of
            what else was read.
        listed: Beginning of paths to :func:`listed_digest` of those that begin so, where they were listed.
    """

    message: Annotated[str, msgspec.Meta(max_length=1024)]
    files: Annotated[dict[str, bytes], msgspec.Meta(max_length=4096)]
    expected: Annotated[dict[str, str], msgspec.Meta(max_length=65_536)]
    listed: Annotated[dict[str, str], msgspec.Meta(max_length=64)] = {}


class Taken(msgspec.Struct, frozen=True):
    """A publication that was taken.

    Attributes:
        tag: The tree's tag: SHA-256 in hex of its index.
    """

    tag: str


def listed_digest(paths: Sequence[str]) -> str:
    """Return what stands for a list of paths."""
    return sha256("\n".join(paths).encode()).hexdigest()


class HttpTree:
    """A registry's tree on a host.

    Args:
        name: What the user calls the registry.
        url: See :class:`~osiris_mesh.registry.http_fetch.HttpFetch`.
        folder: Where what was fetched is kept; None: in memory.
        token: Bearer token of a controller.
        ca_file: Certificates that vouch for the host; None: the system's.
        seconds: Longest time of one file.
        index_s: Longest time of the index, and of a publication's one request.
        publish_s: Longest time of a publication with all its races.
        cache: Bytes kept.
        rng: For the pauses after a lost race.

    Raises:
        UsageError: The URL is not one.
    """

    kind: Final = "http"

    def __init__(
        self,
        name: str,
        url: str,
        folder: Path | None = None,
        *,
        token: str = "",
        ca_file: Path | None = None,
        seconds: float = 10.0,
        index_s: float = 60.0,
        publish_s: float = 120.0,
        cache: int = _CACHE,
        rng: random.Random | None = None,
    ) -> None:
        self._name = name
        self._fetch = HttpFetch(url, token=token, ca_file=ca_file)
        self._cache = HttpCache(folder / "files.sqlite3" if folder is not None else None, cache)
        self._seconds = seconds
        self._index_s = index_s
        self._batching = Batching(self._fetch.shown, self._attempt, publish_s, rng)
        self._listing: Listing | None = None
        self._tag = ""
        self._index_etag = ""
        self._known: dict[str, Cached | None] = {}
        self._refreshing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"HttpTree({self._name!r}, {self._fetch.shown!r})"

    @property
    def name(self) -> str:
        """See :class:`~osiris_mesh.registry.tree.Tree`."""
        return self._name

    # Reading.

    async def read(self, path: str) -> Blob | None:
        """Return a file of the state fetched last; asks for it if it is not kept here.

        Raises:
            Unavailable: It is not kept, and the host does not give it.
        """
        if not is_path(path):
            return None
        await self._begin()
        return await self._read(self._listing, path)

    async def paths(self, prefix: str = "") -> list[str]:
        """Return the paths of the state fetched last.

        Raises:
            Unavailable: The host has no index, or was never reached.
        """
        return (await self.tags()).under(prefix)

    async def tags(self) -> Listing:
        """Return the files of the state fetched last with their digests.

        Raises:
            Unavailable: The host has no index, or was never reached.
        """
        await self._begin()
        if self._listing is None:
            raise Unavailable(
                f"{self._fetch.shown} has no {INDEX}, so it can't be listed", fix="name the function", maybe=False
            )
        return self._listing

    async def _begin(self) -> None:
        if self._tag:
            return
        kept = await self._cache.get(INDEX)
        if kept is not None and not self._tag:
            try:
                self._adopt(await asyncio.to_thread(read_index, kept.data), kept)
            except RemoteProtocolError:
                await self._cache.drop(INDEX)
        if not self._tag:
            await self.refresh()

    async def _read(self, listing: Listing | None, path: str) -> Blob | None:
        for _ in range(3):
            if listing is None:
                file = await self._ask(path)
                return None if file is None else Blob(file.data, file.digest)
            digest = listing.get(path)
            if digest is None:
                return None
            kept = await self._cache.get(path)
            if kept is not None and kept.digest == digest:
                return Blob(kept.data, digest)
            answer = await self._fetch.get(path, "", most=MAX_FILE, seconds=self._seconds)
            if answer.status == 200:
                file = await self._keep(path, answer)
                if file.digest == digest:
                    return Blob(file.data, digest)
            # It changed since the index was fetched.
            await self._renewed(listing)
            listing = self._listing
        raise Unavailable(f"{path} of {self._fetch.shown} is not what its index says", fix="try again", maybe=False)

    async def _renewed(self, old: Listing) -> None:
        async with self._refreshing:
            if self._listing is old:
                await self._refresh()

    async def _ask(self, path: str) -> Cached | None:
        """Return a file of a host without an index."""
        if path in self._known:
            file = self._known[path]
            if file is None:
                return None
            kept = await self._cache.get(path)
            if kept is not None and kept.digest == file.digest:
                return kept
        kept = await self._cache.get(path)
        known = self._known
        try:
            answer = await self._fetch.get(path, kept.etag if kept else "", most=MAX_FILE, seconds=self._seconds)
        except Unavailable:
            if kept is None:
                raise
            return kept
        if answer.status == 304 and kept is not None:
            found: Cached | None = kept
        elif answer.status == 200:
            found = await self._keep(path, answer)
        else:
            await self._cache.drop(path)
            found = None
        if len(known) >= _MAX_KNOWN:
            known.clear()
        # Its bytes are the cache's to hold.
        known[path] = Cached(b"", found.digest, "") if found is not None else None
        return found

    async def _keep(self, path: str, answer: Answer) -> Cached:
        file = Cached.of(answer.data, answer.etag)
        await self._cache.put(path, file)
        return file

    # Fetching.

    async def refresh(self) -> str:
        """Ask for the index, or the checkpoint where there is none; return the tree's tag.

        Raises:
            Unavailable: The host does not answer, or not with an index.
        """
        async with self._refreshing:
            return await self._refresh()

    async def _refresh(self) -> str:
        answer = await self._fetch.get(INDEX, self._index_etag, most=MAX_INDEX, seconds=self._index_s)
        if answer.status == 200:
            try:
                listing = await asyncio.to_thread(read_index, answer.data)
            except RemoteProtocolError as error:
                raise Unavailable(
                    f"{self._fetch.shown}: {error.what}", fix="is this a registry?", maybe=False
                ) from None
            file = Cached.of(answer.data, answer.etag)
            if file.digest != self._tag:
                await self._cache.put(INDEX, file)
            self._adopt(listing, file)
        elif answer.status == 404:
            await self._refresh_head()
        return self._tag

    def _adopt(self, listing: Listing, file: Cached) -> None:
        self._listing, self._tag, self._index_etag = listing, file.digest, file.etag

    async def _refresh_head(self) -> None:
        kept = await self._cache.get(CHECKPOINT)
        etag = kept.etag if kept is not None else ""
        answer = await self._fetch.get(CHECKPOINT, etag, most=MAX_FILE, seconds=self._seconds)
        head = kept if answer.status == 304 else None
        if answer.status == 200:
            head = await self._keep(CHECKPOINT, answer)
        tag = head.digest if head is not None else _NONE
        if tag != self._tag or head is None:
            self._known = {}
        if self._listing is not None:
            await self._cache.drop(INDEX)
        self._listing, self._tag, self._index_etag = None, tag, ""
        self._known[CHECKPOINT] = Cached(b"", head.digest, "") if head is not None else None

    # Publishing.

    async def publish(self, change: Change, message: str) -> str:
        """Publish by one request; see :class:`~osiris_mesh.registry.tree.Tree`.

        Raises:
            Conflict: Lost races for too long.
            Denied: The host does not let us, or takes no publications.
            Unavailable: It can't be reached; ``maybe`` says whether it may have happened.
            UsageError: What the change wants to write is no part of a tree, or is too much for one request.
        """
        return await self._batching.publish(change, message)

    async def _attempt(self, batch: Sequence[Publication]) -> None:
        await self.refresh()
        state = _Recorded(self, self._listing)
        overlay = Overlay(state, self._tag, digest_of)
        made = await make(batch, overlay)
        tag = self._tag
        files: dict[str, bytes] = {}
        for path, data in overlay.files.items():
            there = await state.read(path)
            if there is None or there.data != data:
                files[path] = data
        if sum(map(len, files.values())) > MAX_BATCH:
            raise UsageError(f"one publication over HTTP has at most {MAX_BATCH} bytes", fix="publish in parts")
        if files:
            tag = await self._put(Batch(message_of(made), files, state.expected, state.listed))
        for each in made:
            if not each.done.done():
                each.done.set_result(tag)

    async def _put(self, batch: Batch) -> str:
        body = await asyncio.to_thread(msgspec.json.encode, batch)
        try:
            answer = await self._fetch.put(body, most=_ANSWER, seconds=self._index_s)
            taken = msgspec.json.decode(answer, type=Taken)
        except Conflict as error:
            if error.details.get("reason") == MOVED:
                raise Moved(error.what) from None
            raise
        except msgspec.DecodeError:
            raise Unavailable(f"{self._fetch.shown} does not answer as a controller", maybe=True) from None
        except Unavailable as error:
            if not error.details.get("maybe") or not await self._is_there(batch.files):
                raise
            return self._tag
        await self._took(batch.files, taken.tag)
        return self._tag

    async def _took(self, files: Mapping[str, bytes], tag: str) -> None:
        """Move to the state a publication made; without asking for its index, if that can be told."""
        for path, data in files.items():
            await self._cache.put(path, Cached.of(data, ""))
        async with self._refreshing:
            if self._listing is not None:
                marks = {path: digest_of(data) for path, data in files.items()}
                listing = await asyncio.to_thread(self._listing.changed, marks)
                file = Cached.of(await asyncio.to_thread(write_index, listing.items()), f'"{tag}"')
                if file.digest == tag:
                    await self._cache.put(INDEX, file)
                    self._adopt(listing, file)
                    return
            await self._refresh()

    async def _is_there(self, files: Mapping[str, bytes]) -> bool:
        """Say whether a publication happened whose answer was lost."""
        try:
            await self.refresh()
            listing = await self.tags()
        except OsirisError:
            return False
        return all(listing.get(path) == digest_of(data) for path, data in files.items())

    async def close(self) -> None:
        """Close connections and cache; publications that wait fail."""
        await self._batching.close()
        await self._fetch.close()
        await self._cache.close()


class _Recorded:
    """A state that notes what was read of it."""

    def __init__(self, tree: HttpTree, listing: Listing | None) -> None:
        self._tree, self._listing = tree, listing
        self.expected: dict[str, str] = {}
        self.listed: dict[str, str] = {}

    async def read(self, path: str) -> Blob | None:
        if not is_path(path):
            return None
        blob = await self._tree._read(self._listing, path)  # noqa: SLF001 - the tree's own half
        found = digest_of(blob.data) if blob is not None else ""
        if self.expected.setdefault(path, found) != found:
            raise Moved(f"{path} of {self._tree.name} changed while it was being read")
        return blob

    async def paths(self, prefix: str = "") -> list[str]:
        if self._listing is None:
            return await self._tree.paths(prefix)
        found = self._listing.under(prefix)
        self.listed[prefix] = listed_digest(found)
        return found

    async def tags(self) -> Listing:
        # Every publication moves the checkpoint, which so stands for all files together.
        await self.read(CHECKPOINT)
        await self.paths()
        return await self._tree.tags() if self._listing is None else self._listing
