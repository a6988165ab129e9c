"""A registry in IPFS: a directory under a name that its key's owner moves, read through gateways nobody has to trust.

Reading: the *pointer* (a name of IPNS, a domain's DNSLink, or one fixed content id) gives the directory; paths are
followed block by block, each checked against its id and kept on disk. What was read once is read again without any
gateway, also after a restart. Publishing goes through a Kubo node that has the name's key, see
:mod:`osiris_mesh.registry.ipfs_rpc`.

A pointer never goes back: the highest sequence seen is kept, and an older record, however well signed, leaves the tree
where it is. An expired record is worth nothing: :meth:`TreeIpfs.refresh` says so while reading goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import aiohttp

from osiris_mesh.clock import Clock
from osiris_mesh.errors import Conflict, Denied, OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.registry.domain import vendor_domain
from osiris_mesh.registry.domain_fetch import Texts
from osiris_mesh.registry.ipfs_build import EMPTY, EMPTY_BLOCK, SPREAD_FROM, build
from osiris_mesh.registry.ipfs_cid import RAW, Cid, IpnsName
from osiris_mesh.registry.ipfs_gateway import Gateway, Sources, checked_url
from osiris_mesh.registry.ipfs_rpc import Kubo
from osiris_mesh.registry.ipfs_store import BlockStore, Seen
from osiris_mesh.registry.ipfs_walk import Walk, find, list_files, read_file
from osiris_mesh.registry.listing import Listing
from osiris_mesh.registry.tree import MAX_FILE, MAX_PATH, MAX_PATHS, Blob, Change

__all__ = ["IpfsPublisher", "TreeIpfs"]

T = TypeVar("T")

_DEPTH: Final = 4
_TURNS: Final = 100
_TURNS_S: Final = 120.0
_PARALLEL: Final = 16
_CACHE: Final = 256 * 1024 * 1024
_MAX_TEXTS: Final = 64
_MAX_CHANGES: Final = 100_000
_KEPT_MS: Final = 3_600_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IpfsPublisher:
    """Through whom a registry is published.

    Attributes:
        api: A Kubo's RPC, for example ``http://127.0.0.1:5001``.
        authorization: Value of the Authorization header for it, or empty.
        lifetime_s: How long a record of the name holds; the Kubo renews it while it runs.
        ttl_s: How long readers may go without asking for a newer one.
    """

    api: str
    authorization: str = ""
    lifetime_s: int = 48 * 3600
    ttl_s: int = 60

    def __repr__(self) -> str:
        return f"IpfsPublisher(api={self.api})"


class TreeIpfs:
    """A registry in IPFS.

    Args:
        name: What the user calls it.
        pointer: ``/ipns/k51…``, ``/ipns/acme.com`` (a DNSLink) or ``/ipfs/bafy…``; the first part may be left out.
        gateways: URLs of trustless gateways; the publisher's own should be among them.
        path: File for what is kept; its folder exists.
        clock: Time.
        texts: Looks TXT records up; None: no DNSLink.
        publisher: Through whom to publish; None: this registry is only read here.
        rng: Spreads repetitions; a new one if not given.
        cache_bytes: Blocks to keep.
        spread_from: As :data:`osiris_mesh.registry.ipfs_build.SPREAD_FROM`.

    Attributes:
        pointer: In its one form.
        path: The file.

    Raises:
        UsageError: ``pointer`` or an address is of another form, or there is no gateway.
    """

    kind = "ipfs"

    def __init__(
        self,
        name: str,
        pointer: str,
        *,
        gateways: Sequence[str],
        path: Path,
        clock: Clock,
        texts: Texts | None = None,
        publisher: IpfsPublisher | None = None,
        rng: random.Random | None = None,
        cache_bytes: int = _CACHE,
        spread_from: int = SPREAD_FROM,
    ) -> None:
        self.name = name
        self.path = path
        self.pointer = _pointer(pointer)
        self._gateways = [checked_url(url) for url in gateways]
        if not self._gateways:
            raise UsageError(f"the registry {name} has no gateway to read from", fix="give at least one --gateway")
        if publisher is not None:
            checked_url(publisher.api)
        self._clock = clock
        self._texts = texts
        self._publisher = publisher
        self._rng = rng or random.Random()  # noqa: S311 - spreads repetitions, no secret
        self._store = BlockStore(path, cache_bytes)
        self._session: aiohttp.ClientSession | None = None
        self._sources: Sources | None = None
        self._root: Cid | None = None
        self._spread_from = spread_from
        self._publishing = asyncio.Lock()
        self._fetching = asyncio.Semaphore(_PARALLEL)

    # -- reading

    async def read(self, path: str) -> Blob | None:
        """As :meth:`osiris_mesh.registry.tree.Reader.read`; the tag is the file's content id."""
        return await self.read_at(await self._tree(), path)

    async def paths(self, prefix: str = "") -> list[str]:
        """As :meth:`osiris_mesh.registry.tree.Reader.paths`."""
        return await self.paths_at(await self._tree(), prefix)

    async def tags(self) -> Listing:
        """As :meth:`osiris_mesh.registry.tree.Tagged.tags`: content ids."""
        return await self.tags_at(await self._tree())

    async def paths_at(self, root: Cid, prefix: str) -> list[str]:
        """Return the paths of a directory; errors as :meth:`paths`."""
        return [path for path, _ in await self._walk(list_files(root, prefix, MAX_PATHS))]

    async def tags_at(self, root: Cid) -> Listing:
        """Return the files of a directory with their content ids; errors as :meth:`tags`."""
        files = await self._walk(list_files(root, "", MAX_PATHS))
        return Listing((path, str(Cid.of(RAW, cid.digest) if cid.inline else cid)) for path, cid in files)

    async def read_at(self, root: Cid, path: str) -> Blob | None:
        """Return a file of a directory; errors as :meth:`read`."""
        if not 0 < len(path.encode()) <= MAX_PATH:
            return None
        cid = await self._walk(find(root, path))
        if cid is None:
            return None
        data = await self._walk(read_file(cid, MAX_FILE))
        return Blob(data, str(cid)) if data is not None else None

    async def _tree(self) -> Cid:
        if self._root is None:
            seen = await self._store.seen(self.pointer)
            if seen is None:
                raise Unavailable(f"the registry {self.name} was not fetched yet", fix="registry sync", maybe=False)
            self._root = seen.root
        return self._root

    async def _walk(self, walk: Walk[T]) -> T:
        try:
            wanted = next(walk)
            while True:
                wanted = walk.send(await self._blocks(wanted))
        except StopIteration as end:
            value: T = end.value
            return value
        except RemoteProtocolError as error:
            raise Unavailable(
                f"the tree of the registry {self.name} can't be read: {error.what}", maybe=False
            ) from None

    async def _blocks(self, cids: Sequence[Cid]) -> list[bytes]:
        # What an id itself holds is never kept: it could be taken for the hash of something else.
        known = {cid: cid.digest for cid in cids if cid.inline} | {EMPTY: EMPTY_BLOCK}
        known |= await self._store.get([cid for cid in cids if cid not in known])
        missing = [cid for cid in dict.fromkeys(cids) if cid not in known]
        if missing:
            fetched = list(zip(missing, await self._fetch_all(missing), strict=True))
            await self._store.put(fetched)
            known.update(fetched)
        return [known[cid] for cid in cids]

    async def _fetch_all(self, cids: Sequence[Cid]) -> list[bytes]:
        tasks = [asyncio.ensure_future(self._fetch(cid)) for cid in cids]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, cid: Cid) -> bytes:
        async with self._fetching:
            return await self._asked().block(cid)

    def _asked(self) -> Sources:
        if self._sources is None:
            session = self._open()
            self._sources = Sources([Gateway(session, url) for url in self._gateways], self._clock)
        return self._sources

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=4 * _PARALLEL, limit_per_host=_PARALLEL)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            # Cookies of gateways are of no use; the user's proxies are.
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=jar, trust_env=True, auto_decompress=False
            )
        return self._session

    # -- the pointer

    async def refresh(self) -> str:
        """As :meth:`osiris_mesh.registry.tree.Tree.refresh`; the tag is the directory's content id."""
        seen = await self._newest()
        await self._walk(find(seen.root, "config.json"))
        await self._move(seen)
        return str(seen.root)

    async def _newest(self) -> Seen:
        """Return the newest state of the tree that can be known, never one before what was seen."""
        pointer = await self._target()
        if not isinstance(pointer, IpnsName):
            return Seen("", 0, 0, await self._directory(pointer))
        known = await self._store.seen(str(pointer))
        try:
            record = await self._asked().record(pointer)
        except Unavailable as error:
            if known is None and error.details.get("absent") and await self._ours(pointer):
                return Seen(str(pointer), 0, 0, EMPTY)
            raise
        if known is None or record.rank >= (known.sequence, known.until_ns):
            root = await self._directory(record.value)
            return Seen(str(pointer), record.sequence, record.until_ns, root)
        extra = {"registry": self.name, "sequence": record.sequence, "seen": known.sequence}
        _log.warning("registry.ipfs.older_pointer", extra=extra)
        if known.until_ns <= self._clock.time_ms() * 1_000_000:
            raise Unavailable(
                f"the registry {self.name} is only given at sequence {record.sequence}, older than the"
                f" {known.sequence} seen before, which has expired",
                fix="ask other gateways, or its owner",
                maybe=False,
            )
        return known

    async def _target(self) -> IpnsName | str:
        """Return the name that moves, or the path of content that does not, after the domains on the way."""
        pointer = self.pointer
        for _ in range(_DEPTH):
            if pointer.startswith("/ipfs/"):
                return pointer
            target = pointer.removeprefix("/ipns/").strip("/")
            name = _name(target)
            if name is not None:
                return name
            pointer = await self._dnslink(_domain(target))
        raise Unavailable(f"the pointer of the registry {self.name} leads on and on", maybe=False)

    async def _directory(self, path: str) -> Cid:
        """Return the directory at a path like ``/ipfs/bafy…``."""
        text, _, below = path.removeprefix("/ipfs/").strip("/").partition("/")
        try:
            root = Cid.parse(text)
        except UsageError as error:
            raise Unavailable(f"the registry {self.name} points at no content: {error.what}", maybe=False) from None
        found = await self._walk(find(root, below)) if below else root
        if found is None:
            raise Unavailable(f"the registry {self.name} points at {path[:256]}, which is not there", maybe=False)
        return found

    async def _dnslink(self, domain: str) -> str:
        """Return what a domain's DNSLink says: the first in order of its letters, as the specification has it."""
        if self._texts is None:
            raise Unavailable(f"the DNSLink of {domain} can't be asked for here", maybe=False)
        links: list[str] = []
        for text in list(await self._texts(f"_dnslink.{domain}"))[:_MAX_TEXTS]:
            if text.startswith(b"dnslink=/") and len(text) <= MAX_PATH:
                try:
                    links.append(text[8:].decode("ascii"))
                except UnicodeDecodeError:
                    continue
        for link in sorted(links):
            if link.startswith(("/ipfs/", "/ipns/")):
                return link
        raise Unavailable(
            f"{domain} has no DNSLink",
            fix=f"publish a TXT record at _dnslink.{domain}: dnslink=/ipns/k51…",
            maybe=False,
        )

    async def _move(self, seen: Seen) -> None:
        self._root = seen.root
        if seen.root == EMPTY and not seen.sequence:
            return
        if seen.name:
            # What refuses a rollback belongs to the name: a domain may come to point at another one.
            await self._store.remember(seen.name, seen)
        await self._store.remember(self.pointer, seen)

    # -- writing

    async def publish(self, change: Change, message: str) -> str:
        """As :meth:`osiris_mesh.registry.tree.Tree.publish`; publishers through one Kubo lose nothing to each other.

        Through several Kubo nodes that share a key, a publication can replace another one made in the same moment.
        """
        publisher = self._publisher
        if publisher is None:
            raise Denied(f"the registry {self.name} has no Kubo to publish through", fix="give it one with --api")
        async with self._publishing:
            kubo = self._kubo(publisher)
            key, name = await self._key(kubo)
            until = self._clock.monotonic() + _TURNS_S
            for turn in range(_TURNS):
                seen = await self._before()
                files = await change(_At(self, seen.root))
                _check(files)
                root, blocks = await self._walk(build(seen.root, files, self._spread_from))
                if root == seen.root:
                    return str(root)
                await kubo.store(root, blocks)
                now_ms = self._clock.time_ms()
                await kubo.pin(root, f"{_label(name)}{now_ms}")
                sequence = seen.sequence + 1
                try:
                    await kubo.point(
                        key, root, sequence=sequence, lifetime_s=publisher.lifetime_s, ttl_s=publisher.ttl_s
                    )
                except Conflict:
                    if self._clock.monotonic() > until:
                        break
                    await asyncio.sleep(self._rng.uniform(0, min(0.02 * (turn + 1), 0.5)))
                    continue
                _log.info("registry.ipfs.published", extra={"registry": self.name, "root": str(root), "what": message})
                # Half of it, so that the record itself, which holds longer, counts as the newer one.
                until_ms = now_ms + publisher.lifetime_s * 500
                await self._move(Seen(str(name), sequence, until_ms * 1_000_000, root))
                await self._unpin_old(kubo, name, {root, seen.root}, now_ms)
                return str(root)
        raise Conflict(
            f"the registry {self.name} was changed by somebody else again and again, or its gateways do not give"
            " the newest record of its name",
            fix="publish again; the gateway of the Kubo itself should be the first of the registry's",
        )

    async def _before(self) -> Seen:
        """Return what to publish on top of; what was seen last when nobody gives more, for the sequence decides."""
        try:
            return await self._newest()
        except Unavailable:
            known = await self._store.seen(self.pointer)
            if known is None or not known.name:
                raise
            return known

    def _kubo(self, publisher: IpfsPublisher) -> Kubo:
        return Kubo(self._open(), publisher.api, publisher.authorization)

    async def _key(self, kubo: Kubo) -> tuple[str, IpnsName]:
        """Return the name of the Kubo's key for our pointer, and the name of IPNS that it signs for."""
        name = await self._target()
        if not isinstance(name, IpnsName):
            raise Denied(f"the registry {self.name} is one fixed content id and can't be changed")
        for key, text in (await kubo.keys()).items():
            if _name(text) == name:
                return key, name
        raise Denied(f"the Kubo at {kubo.url} has no key for /ipns/{name}", fix="publish through the one that has it")

    async def _ours(self, name: IpnsName) -> bool:
        """Say whether the publisher's Kubo has the key of a name."""
        if self._publisher is None:
            return False
        try:
            return any(_name(text) == name for text in (await self._kubo(self._publisher).keys()).values())
        except (Denied, Unavailable):
            return False

    async def _unpin_old(self, kubo: Kubo, name: IpnsName, kept: set[Cid], now_ms: int) -> None:
        """Let go of what was published long enough ago that no publisher can be at it, and no reader needs it."""
        label = _label(name)
        try:
            for cid, found in (await kubo.pinned(label)).items():
                made_ms = found.removeprefix(label)
                if cid not in kept and made_ms.isdecimal() and int(made_ms) < now_ms - _KEPT_MS:
                    await kubo.unpin(cid)
        except OsirisError as error:
            # What stays pinned costs its disk; the publication is done.
            _log.info("registry.ipfs.pins", extra={"registry": self.name, "reason": str(error)})

    async def close(self) -> None:
        """Close connections and the file."""
        session, self._session, self._sources = self._session, None, None
        if session is not None:
            await session.close()
        await self._store.close()


class _At:
    """What a change reads: one state of the tree."""

    def __init__(self, tree: TreeIpfs, root: Cid) -> None:
        self._tree = tree
        self._root = root

    async def read(self, path: str) -> Blob | None:
        return await self._tree.read_at(self._root, path)

    async def paths(self, prefix: str = "") -> list[str]:
        return await self._tree.paths_at(self._root, prefix)

    async def tags(self) -> Listing:
        return await self._tree.tags_at(self._root)


def _label(name: IpnsName) -> str:
    return f"osiris-registry:{name}:"


def _name(text: str) -> IpnsName | None:
    try:
        return IpnsName.parse(text)
    except UsageError:
        return None


def _domain(text: str) -> str:
    try:
        return vendor_domain(text)
    except UsageError:
        raise Unavailable(f"/ipns/{text[:80]} is neither a key's name nor a domain", maybe=False) from None


def _pointer(text: str) -> str:
    """Return a pointer in its one form."""
    kind, _, rest = text.strip("/").partition("/")
    if kind not in {"ipfs", "ipns"}:
        rest = text
        kind = "ipfs" if _name(text) is None and text.startswith(("baf", "Qm")) else "ipns"
    target, _, below = rest.strip("/").partition("/")
    if kind == "ipfs":
        return f"/ipfs/{Cid.parse(target)}" + (f"/{below}" if below else "")
    if below:
        raise UsageError(f"{text[:80]!r} is no pointer to a registry", fix="it looks like /ipns/k51… or /ipfs/bafy…")
    return f"/ipns/{_name(target) or vendor_domain(target)}"


def _check(files: Mapping[str, bytes]) -> None:
    if len(files) > _MAX_CHANGES:
        raise UsageError(f"{len(files)} files are more than the {_MAX_CHANGES} of one publication")
    for path, data in files.items():
        if len(path.encode()) > MAX_PATH or not all(part not in {"", ".", ".."} for part in path.split("/")):
            raise UsageError(f"{path[:80]!r} is no path of a registry")
        if len(data) > MAX_FILE:
            raise UsageError(f"{path} has {len(data)} bytes, more than the {MAX_FILE} allowed")
