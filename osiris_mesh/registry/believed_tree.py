"""A tree as far as it is believed: its head, its files as a whole, the lines of a name.

What a tree says is believed in three steps. The *head* (its id, its roots, its checkpoint) and each vendor's keys are
accepted by :class:`osiris_mesh.registry.trust.Trust`. The *files* are compared with the checkpoint as a whole, when the
tree changed; so a missing, old or altered file is seen even by who never saw a better one. The *lines* of a name are
proven when it is asked for. Head and lines need no more than the name's own file and its vendor's keys, so that a tree
that can't be had whole (``mirror=False``) is still believed by signatures and memory, and its answers say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NoReturn

from osiris_mesh.clock import Clock
from osiris_mesh.errors import CheckFailed, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.checkpoint import Checkpoint, Config, root_of
from osiris_mesh.registry.domain import WELL_KNOWN, question
from osiris_mesh.registry.domain_proofs import RENEW_MS, Domains
from osiris_mesh.registry.history import read_lines
from osiris_mesh.registry.keys import KeysStanding
from osiris_mesh.registry.layout import (
    CHECKPOINT,
    CONFIG,
    NAMES,
    NO_VENDOR,
    ROOT,
    keys_path,
    name_at,
    path_of,
    vendor_at,
)
from osiris_mesh.registry.name_index import NameIndex
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.tree import MAX_MANY, Blob, Bulk, Reader, Tagged, Tree
from osiris_mesh.registry.trust import Trust
from osiris_mesh.registry.verified import Entry, Listed, ProvenLines, is_file, listed

__all__ = ["BelievedTree", "index_of", "is_whole"]

_CACHED: Final = 4096
_RECHECK_S: Final = 30.0
_FAILED_S: Final = 5.0
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.025
_YIELD: Final = 8
"""Files verified before others may run: some 2 ms."""
_PASSED: Final = 4096
"""The same, of files that did not change."""
_KEYS: Final = "/_keys.json"


@dataclass(frozen=True, slots=True)
class _Cached:
    digest: bytes
    standing: KeysStanding
    until: float
    record: Record
    lines: tuple[bytes, ...]


class BelievedTree:
    """A tree with trust in it.

    Args:
        tree: Where its files are.
        trust: What this node holds true of it; changed here, saved by whoever made it.
        clock: The time.
        mirror: Compare the whole tree with its checkpoint; without, only what is asked for is read.
        domains: Asks the domains of vendors that the root does not delegate to; None: such vendors need a proof that
            ``trust`` has already.
    """

    def __init__(self, tree: Tree, trust: Trust, clock: Clock, *, mirror: bool, domains: Domains | None = None) -> None:
        self.tree = tree
        self.trust = trust
        self._clock = clock
        self._mirror = mirror
        self._domains = domains
        self._proven_now: frozenset[str] = frozenset()
        self._lock = asyncio.Lock()
        self._proven = ProvenLines()
        self._entries: dict[str, Entry] = {}
        self._index = NameIndex([])
        self._refused: dict[str, str] = {}
        self._vendors: dict[str, tuple[bytes, KeysStanding, float]] = {}
        self._cache: dict[str, _Cached] = {}
        self._checkpoint: Checkpoint | None = None
        self._config: Config | None = None
        self._heard = clock.monotonic()
        self._failed: tuple[float, CheckFailed] | None = None

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.tree.name

    @property
    def stale(self) -> bool:
        """Its checkpoint has expired, or was never seen."""
        return self._checkpoint is None or self._now_ms() >= self._checkpoint.stale_ms

    async def _begin(self) -> None:
        """Believe the tree for the first time; and a root only until it expires."""
        root = self.trust.root
        if root is not None and self._now_ms() >= root.expires_ms:
            self._refuse("expired", ROOT, f"the root of {self.name} has expired")
        if self._checkpoint is not None:
            return
        async with self._lock:
            if self._checkpoint is None:
                await self._load()

    async def _load(self) -> tuple[str, ...]:
        """Read the head, and the whole tree if it is mirrored; return the names that changed. Under the lock."""
        for attempt in range(_ATTEMPTS if isinstance(self.tree, Tagged) else 2):
            if attempt:
                # A publication may have been half-way in: a folder's files move one by one.
                await asyncio.sleep(_PAUSE_S * 2**attempt)
            before = await self.tree.read(CHECKPOINT)
            await self._load_head(self.tree)
            if not self._mirror:
                self._checkpoint = await self._accept_checkpoint(self.tree, before)
                return ()
            entries = await self._walk(self.tree)
            checkpoint = await self._accept_checkpoint(self.tree, before)
            if await is_whole(entries, checkpoint):
                changed = await self._adopt(entries)
                self._checkpoint = checkpoint
                self._failed = None
                return changed
        error = self._kept("checkpoint", CHECKPOINT, f"{self.name} is not what its checkpoint says")
        self._failed = (self._clock.monotonic(), error)
        raise error

    async def _load_head(self, reader: Reader) -> None:
        config = await reader.read(CONFIG)
        if config is None:
            raise Unavailable(
                f"{self.name} is no registry: it has no {CONFIG}", fix="check its address, or begin one there"
            )
        with self._reading(CONFIG):
            self._config = Config.from_bytes(config.data)
        self.trust.accept_config(self._config)
        root = await reader.read(ROOT)
        before = self.trust.root
        with self._reading(ROOT):
            self.trust.accept_roots(read_lines(root.data if root else b"", self._proven.read), self._now_ms())
        if self.trust.root != before:
            self._vendors.clear()

    async def _accept_checkpoint(self, reader: Reader, blob: Blob | None) -> Checkpoint:
        if blob is None:
            self._refuse("checkpoint", CHECKPOINT, f"{self.name} has no checkpoint")
        with self._reading(CHECKPOINT):
            statement = self._proven.read(blob.data.removesuffix(b"\n"))
            now_ms = self._now_ms()
            if not any(self.trust.may_sign_checkpoint(key, now_ms) for key in statement.keys):
                # Perhaps a vendor whose keys were not asked for yet.
                signers = [key.hex().encode() for key in statement.keys]
                for path in await reader.paths(NAMES):
                    if (vendor := vendor_at(path)) is not None:
                        await self._try_vendor(reader, vendor, signers)
            return self.trust.accept_checkpoint(statement, now_ms)

    async def _walk(self, reader: Reader) -> dict[str, Entry]:
        """Return all files of the tree with their digests; those whose tag is known are not read again."""
        known = self._entries
        tagged = isinstance(reader, Tagged)
        files = list((await reader.tags()).items()) if isinstance(reader, Tagged) else []
        if not tagged:
            files = [(path, "") for path in await reader.paths()]
        found: dict[str, Entry] = {}
        # Roots and keys first: where they changed, names are to be judged anew though their files did not.
        authority = [(path, tag) for path, tag in files if path == ROOT or path.endswith(_KEYS)]
        for path, tag in authority:
            if (entry := await self._entry(reader, path, tag, known.get(path), anew=False)) is not None:
                found[path] = entry
            if (vendor := vendor_at(path)) is not None:
                await self._try_vendor(reader, vendor)
        again: set[str] = set()
        anew = {path for path, _ in authority if _digest(known, path) != _digest(found, path)}
        anew.update(map(keys_path, self._proven_now))
        wanted: dict[str, str] = {}
        for number, (path, tag) in enumerate(files):
            if number % _PASSED == 0:
                await asyncio.sleep(0)
            if path in found or not _is_ours(path, known):
                continue
            old = known.get(path)
            judge = bool(anew) and (ROOT in anew or f"{path[: path.find('/', 3)]}{_KEYS}" in anew)
            if old is not None and tag and old.tag == tag and not judge:
                found[path] = old
                continue
            wanted[path] = tag
            if judge:
                again.add(path)
        async for path, blob in _blobs(reader, list(wanted)):
            entry = await self._made(reader, path, blob, wanted[path], known.get(path), anew=path in again)
            if entry is not None:
                found[path] = entry
        return found

    async def _entry(self, reader: Reader, path: str, tag: str, old: Entry | None, *, anew: bool) -> Entry | None:
        return await self._made(reader, path, await reader.read(path), tag, old, anew=anew)

    async def _made(
        self, reader: Reader, path: str, blob: Blob | None, tag: str, old: Entry | None, *, anew: bool
    ) -> Entry | None:
        if blob is None:
            return None
        digest = sha256(blob.data).digest()
        if old is not None and old.digest == digest and not anew:
            return Entry(digest, tag, old.listed)
        return Entry(digest, tag, await self._shown(reader, path, blob))

    async def _shown(self, reader: Reader, path: str, blob: Blob) -> Listed | None:
        """Verify a name's file for the list; a name that is not believed is not listed, and the rest goes on."""
        name = name_at(path)
        if name is None:
            return None
        try:
            if (name.vendor or NO_VENDOR) not in self._vendors:
                self._standing(name.vendor, await reader.read(keys_path(name.vendor)))
            record = self._judge(name, blob)
        except (CheckFailed, UsageError) as error:
            self._refused[str(name)] = error.what
            return None
        self._refused.pop(str(name), None)
        return listed(record)

    async def _adopt(self, entries: dict[str, Entry]) -> tuple[str, ...]:
        # Some tenths of a second for a hundred thousand names: not on the loop's thread.
        changed = await asyncio.to_thread(_changed, self._entries, entries)
        index = await asyncio.to_thread(index_of, entries)
        self._entries, self._index = entries, index
        return changed

    async def _file(self, path: str) -> tuple[Blob | None, bool]:
        """Return a file, and whether the checkpoint covers it; refuse what it should cover and does not."""
        blob = await self.tree.read(path)
        if not self._mirror:
            return blob, False
        for attempt in range(2):
            entry = self._entries.get(path)
            if (entry.digest if entry else None) == (sha256(blob.data).digest() if blob else None):
                return blob, blob is not None
            if self._lock.locked():
                # Something new is being compared just now: signatures and memory decide, and nobody waits for it.
                return blob, False
            if attempt == 0:
                await self._look_again()
                blob = await self.tree.read(path)
        raise self._kept("checkpoint", path, f"{path} of {self.name} is not what the checkpoint says")

    async def _look_again(self) -> None:
        if self._failed is not None and self._clock.monotonic() < self._failed[0] + _FAILED_S:
            raise self._failed[1]
        async with self._lock:
            await self._load()

    async def _believed(self, name: FunctionName, blob: Blob) -> Record:
        keys, _ = await self._file(keys_path(name.vendor))
        await self._prove(name.vendor, keys, wait=True)
        standing = self._standing(name.vendor, keys)
        cached = self._cache.get(path_of(name))
        if (
            cached is not None
            and cached.standing is standing
            and self._clock.monotonic() < cached.until
            and cached.digest == sha256(blob.data).digest()
        ):
            return cached.record
        return self._judge(name, blob)

    def _judge(self, name: FunctionName, blob: Blob) -> Record:
        path = path_of(name)
        cached = self._cache.get(path)
        with self._reading(str(name)):
            statements = read_lines(blob.data, self._proven.read)
            known = cached.lines if cached else ()
            record = self.trust.accept_history(name, statements, self._now_ms(), known)
        standing = self.trust.keys_of(name.vendor)
        if standing is not None:
            if path not in self._cache and len(self._cache) >= _CACHED:
                del self._cache[next(iter(self._cache))]
            until = self._clock.monotonic() + _RECHECK_S
            lines = tuple(statement.line for statement in statements[-2:])
            self._cache[path] = _Cached(sha256(blob.data).digest(), standing, until, record, lines)
        return record

    def _standing(self, vendor: str, blob: Blob | None) -> KeysStanding:
        """Return what a vendor's keys come to, of the file the tree has now."""
        vendor = vendor or NO_VENDOR
        data = blob.data if blob else b""
        digest = sha256(data).digest()
        known = self._vendors.get(vendor)
        if known is not None and known[0] == digest and self._clock.monotonic() < known[2]:
            return known[1]
        self._vendors.pop(vendor, None)
        if data and self._is_by_domain(vendor) and self._now_ms() >= self.trust.proven_until_ms(vendor):
            # Not evidence against anybody: a domain that does not answer is no lie of the registry's.
            raise CheckFailed(
                f"the root of {self.name} does not delegate to {vendor}, and its domain has not proven its keys",
                fix=f"the vendor publishes his key at {question(vendor)} or at https://{vendor}{WELL_KNOWN}",
                reason="domain",
                name=vendor,
            )
        with self._reading(f"keys of {vendor}"):
            standing = self.trust.accept_keys(vendor, read_lines(data, self._proven.read), self._now_ms())
        if known is not None and known[0] == digest and known[1] == standing:
            standing = known[1]
        self._vendors[vendor] = (digest, standing, self._clock.monotonic() + _RECHECK_S)
        return standing

    def _is_by_domain(self, vendor: str) -> bool:
        return self._domains is not None and "." in vendor and not self.trust.founded(vendor)

    async def _prove(self, vendor: str, blob: Blob | None, *, wait: bool) -> None:
        """Take what a vendor's domain proves, where the root does not delegate to him; wait for it if told to."""
        if self._domains is None or blob is None or not self._is_by_domain(vendor):
            return
        now_ms, until_ms = self._now_ms(), self.trust.proven_until_ms(vendor)
        if now_ms < until_ms - RENEW_MS:
            return
        try:
            statements = read_lines(blob.data, self._proven.read)
        except (RemoteProtocolError, UsageError):
            return
        keys = frozenset(key for statement in statements for key in statement.keys)
        if wait and now_ms >= until_ms:
            proven = await self._domains.prove(vendor, keys)
        else:
            proven = self._domains.want(vendor, keys)
        if proven is not None:
            self.trust.accept_domain(vendor, proven.keys, proven.until_ms)

    async def _try_vendor(self, reader: Reader, vendor: str, signers: Sequence[bytes] = ()) -> None:
        """Take a vendor's keys, or note why not.

        Args:
            reader: Where they are.
            vendor: Whose.
            signers: Keys in hexadecimal; for a vendor who has one of them, his domain is waited for.
        """
        try:
            blob = await reader.read(keys_path(vendor))
            await self._prove(vendor, blob, wait=blob is not None and any(key in blob.data for key in signers))
            self._standing(vendor, blob)
        except (CheckFailed, UsageError) as error:
            self._refused[f"keys of {vendor}"] = error.what
        else:
            self._refused.pop(f"keys of {vendor}", None)

    # --- refusing --------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, subject: str) -> Iterator[None]:
        """Take bytes that are no statements for what they are: something not to be believed."""
        try:
            yield
        except (RemoteProtocolError, UsageError) as error:
            raise self._kept("form", subject, f"{subject} in {self.name}: {error.what}") from None

    def _kept(self, reason: str, subject: str, what: str, known: bytes = b"") -> CheckFailed:
        self.trust.keep(reason, subject, what, self._now_ms(), known)
        return CheckFailed(
            what,
            fix="ask the registry's owner; other registries are asked meanwhile",
            reason=reason,
            name=subject,
        )

    def _refuse(self, reason: str, subject: str, what: str, known: bytes = b"") -> NoReturn:
        raise self._kept(reason, subject, what, known)

    def _now_ms(self) -> int:
        return self._clock.time_ms()


async def is_whole(entries: Mapping[str, Entry], checkpoint: Checkpoint) -> bool:
    """Say whether these files are exactly the checkpoint's."""
    if len(entries) != checkpoint.files:
        return False
    digests = {path: entry.digest for path, entry in entries.items()}
    # Some tenth of a second for a hundred thousand files: not on the loop's thread.
    return (await asyncio.to_thread(root_of, digests)).hex() == checkpoint.root


async def _blobs(reader: Reader, paths: Sequence[str]) -> AsyncIterator[tuple[str, Blob | None]]:
    """Read files, several at a time where the reader can, and let others run in between."""
    first = 0
    while first < len(paths):
        some = paths[first : first + MAX_MANY]
        found = await reader.read_many(some) if isinstance(reader, Bulk) else [await reader.read(some[0])]
        for number, pair in enumerate(zip(some, found, strict=False)):
            if number % _YIELD == 0:
                await asyncio.sleep(0)
            yield pair
        first += len(found)


def _changed(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> tuple[str, ...]:
    names = [
        str(name)
        for path in after.keys() | before.keys()
        if before.get(path) is not after.get(path)
        if _digest(before, path) != _digest(after, path)
        if (name := name_at(path)) is not None
    ]
    return tuple(sorted(names))


def index_of(entries: Mapping[str, Entry]) -> NameIndex:
    """Return the index of the names that are believed."""
    return NameIndex(sorted(entry.listed.name for entry in entries.values() if entry.listed))


def _is_ours(path: str, known: Mapping[str, Entry]) -> bool:
    return path in known or is_file(path)


def _digest(entries: Mapping[str, Entry], path: str) -> bytes:
    entry = entries.get(path)
    return entry.digest if entry else b""
