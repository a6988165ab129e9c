"""The function library: bundles by content hash on this node's disk, fetched from any peer.

A bundle lies at ``<folder>/aa/<digest>``, ``aa`` being the first two letters of its digest. It is written beside and
renamed, so that a name never stands for half a bundle, and it is hashed on every read: one whose bytes changed is set
aside under ``damaged/`` and counts as absent, so that the next use fetches it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import NotFound, OsirisError, Overloaded, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.link.request import Audience, Request
from osiris_mesh.link.router import Router
from osiris_mesh.runtime.bundle import BUNDLE_LIMITS, Bundle
from osiris_mesh.runtime.disk import sync_folder, write_whole

__all__ = ["BundleSource", "Library", "LinkSource", "Pieces"]

PIECE: Final = 256 << 10
"""Bytes of one message when a bundle travels."""

_ASK: Final = Limits(size=256, depth=2, count=4)
_UPLOADS: Final = 4
_TAKES: Final = 8
_DAMAGED: Final = "damaged"


class Pieces(Protocol):
    """The part of a link's stream that the library uses."""

    async def send(self, data: bytes) -> None:
        """Send one message, waiting while the peer takes none."""
        ...

    async def receive(self) -> bytes | None:
        """Return the next message; None when the peer ended."""
        ...


class PeerLink(Protocol):
    """The part of a link that the library uses."""

    def open(self, method: str, body: bytes = ..., *, timeout: float | None = ...) -> Any:
        """Open a stream."""
        ...


class PeerLinks(Protocol):
    """The part of a node's links that the library uses."""

    def peers(self) -> Sequence[str]:
        """Return the peers with a live link."""
        ...

    async def to(self, peer: str) -> PeerLink:
        """Return the link to a peer."""
        ...


class BundleSource(Protocol):
    """Where a bundle that is not here comes from."""

    async def fetch(self, digest: bytes, first: str = "") -> bytes:
        """Return the bundle's bytes, at most 64 MiB, not yet verified.

        Args:
            digest: Its hash.
            first: The peer to ask before all others, or empty.

        Raises:
            Unavailable: Nobody could be asked, or nobody who could has it.
        """
        ...


@dataclass(frozen=True, slots=True)
class LinkSource:
    """Bundles from the peers of this node, one after another.

    Args:
        links: This node's links.
        timeout_s: Seconds without a byte after which a peer is given up.
    """

    links: PeerLinks
    timeout_s: float = 15.0

    async def fetch(self, digest: bytes, first: str = "") -> bytes:
        """Return the bundle's bytes from the first peer that has it and whose bytes are right."""
        peers = sorted(self.links.peers(), key=lambda peer: peer != first)
        reasons: list[str] = []
        for peer in peers:
            try:
                data = await self._from(peer, digest)
            except (OsirisError, TimeoutError) as error:
                reasons.append(f"{peer}: {str(error) or 'no answer in time'}")
                continue
            if sha256(data).digest() == digest:
                return data
            reasons.append(f"{peer}: its bytes have another hash")
        if not peers:
            raise Unavailable(
                f"bundle {digest.hex()} is not here and no peer is connected", fix="try again", maybe=False
            )
        # Not NotFound: what is asked for is published, and may come back with a node that has it.
        raise Unavailable(
            f"bundle {digest.hex()} is not here, and no peer could give it ({'; '.join(reasons)[:1000]})",
            fix="start a node that has it, or deploy the function again",
            maybe=False,
        )

    async def _from(self, peer: str, digest: bytes) -> bytes:
        async with asyncio.timeout(self.timeout_s):
            link = await self.links.to(peer)
        stream = link.open("library.get", pack({"digest": digest}))
        data = bytearray()
        done = False
        try:
            while True:
                async with asyncio.timeout(self.timeout_s):
                    piece = await stream.receive()
                if piece is None:
                    done = True
                    return bytes(data)
                if len(data) + len(piece) > BUNDLE_LIMITS.size:
                    raise RemoteProtocolError(f"{peer} sends more than the {BUNDLE_LIMITS.size} bytes of a bundle")
                data += piece
        finally:
            if not done:
                stream.reset(Unavailable("the bundle is no longer wanted"))


class Library:
    """Bundles on this node.

    The plain methods block on the disk and are safe from any thread; the asynchronous ones belong to one loop.

    Args:
        folder: Where they lie; made if absent.
        source: Where those come from that are not here; None for nowhere.
    """

    def __init__(self, folder: Path, source: BundleSource | None = None) -> None:
        self._folder = folder
        self._source = source
        self._fetching: dict[bytes, asyncio.Task[Bundle]] = {}
        self._uploads = 0
        self._takes = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, data: bytes) -> bytes:
        """Store a bundle and return its digest; storing it again changes nothing.

        Raises:
            RemoteProtocolError: Not a bundle.
            UsageError: Its specification has a value out of its range.
        """
        bundle = Bundle.parse(data)
        path = self._path(bundle.digest)
        with contextlib.suppress(NotFound):
            self.get(bundle.digest)
            return bundle.digest
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder)
        write_whole(path, data)
        return bundle.digest

    def get(self, digest: bytes) -> bytes:
        """Return a bundle's bytes, verified.

        Raises:
            NotFound: It is not here, or its bytes were damaged (they are set aside).
        """
        path = self._path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(BUNDLE_LIMITS.size + 1)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise NotFound(f"bundle {digest.hex()} is not here") from None
            self._set_aside(path)
            raise NotFound(f"bundle {digest.hex()} can't be read: {error.strerror}") from None
        if sha256(data).digest() != digest:
            self._set_aside(path)
            raise NotFound(f"bundle {digest.hex()} was damaged and set aside")
        return data

    def has(self, digest: bytes) -> bool:
        """Return whether a bundle lies here, without reading it."""
        return self._path(digest).is_file()

    def digests(self) -> list[bytes]:
        """Return the digests of all bundles here, sorted."""
        names = [path.name for path in self._folder.glob("[0-9a-f][0-9a-f]/*") if not path.name.startswith(".")]
        return sorted(bytes.fromhex(name) for name in names if len(name) == 64)

    def remove(self, digest: bytes) -> None:
        """Forget a bundle; does nothing if it is not here."""
        self._path(digest).unlink(missing_ok=True)

    async def bundle(self, digest: bytes, *, first: str = "") -> Bundle:
        """Return a bundle, from here or else from the source; many callers share one fetch.

        Args:
            digest: Its hash.
            first: The peer to ask before all others, or empty.

        Raises:
            NotFound: It is not here, and there is no source.
            Unavailable: It is not here, and nobody could give it.
        """
        task = self._fetching.get(digest)
        if task is None:
            task = asyncio.create_task(self._bundle(digest, first), name=f"bundle {digest.hex()[:12]}")
            self._fetching[digest] = task
            task.add_done_callback(lambda done: self._fetched(digest, done))
        return await asyncio.shield(task)

    async def fetch(self, digest: bytes) -> bytes:
        """Return a bundle's bytes as :meth:`bundle` does."""
        return (await self.bundle(digest)).data

    def register(self, router: Router) -> None:
        """Serve ``library.put`` (LOCAL), ``library.get`` (LOCAL, MEMBER) and ``library.take`` (MEMBER).

        put and get are streams. put: pieces, then the end; the answer is ``{digest}``. get: the first message is
        ``{digest}``, the answer is pieces, then the end. take: fetch the bundle ``{digest}`` from whoever asks; the
        answer, ``{digest}``, means that it is verified and on disk here.
        """
        router.streaming("library.put", self._serve_put, allow=Audience.LOCAL)
        router.streaming("library.get", self._serve_get, allow=Audience.LOCAL | Audience.MEMBER)
        router.unary("library.take", self._serve_take, allow=Audience.MEMBER)

    async def _serve_put(self, request: Request, stream: Pieces) -> None:
        if self._uploads >= _UPLOADS:
            raise Overloaded(f"{_UPLOADS} bundles are being uploaded already", fix="try again", retry_after_ms=1000)
        self._uploads += 1
        try:
            data = bytearray(request.body)
            while (piece := await stream.receive()) is not None:
                if len(data) + len(piece) > BUNDLE_LIMITS.size:
                    raise UsageError(f"a bundle has at most {BUNDLE_LIMITS.size} bytes")
                data += piece
            digest = await asyncio.to_thread(self.put, bytes(data))
        finally:
            self._uploads -= 1
        await stream.send(pack({"digest": digest}))

    async def _serve_get(self, request: Request, stream: Pieces) -> None:
        digest = _asked(request)
        data = memoryview(await asyncio.to_thread(self.get, digest))
        for start in range(0, len(data), PIECE):
            await stream.send(bytes(data[start : start + PIECE]))

    async def _serve_take(self, request: Request) -> bytes:
        digest = _asked(request)
        if self._takes >= _TAKES:
            raise Overloaded(f"{_TAKES} bundles are being taken already", fix="try again", retry_after_ms=500)
        self._takes += 1
        try:
            await self.bundle(digest, first=request.caller.peer)
        finally:
            self._takes -= 1
        return pack({"digest": digest})

    async def _bundle(self, digest: bytes, first: str) -> Bundle:
        try:
            return await asyncio.to_thread(lambda: Bundle.parse(self.get(digest)))
        except NotFound:
            if self._source is None:
                raise
        data = await self._source.fetch(digest, first)
        if len(data) > BUNDLE_LIMITS.size or sha256(data).digest() != digest:
            raise RemoteProtocolError(f"what came for bundle {digest.hex()} has another hash")
        await asyncio.to_thread(self.put, data)
        return await asyncio.to_thread(Bundle.parse, data)

    def _fetched(self, digest: bytes, done: asyncio.Task[Bundle]) -> None:
        del self._fetching[digest]
        if not done.cancelled():
            done.exception()  # every waiter gets it; without one it must not be reported as forgotten

    def _path(self, digest: bytes) -> Path:
        if len(digest) != 32:
            raise UsageError("a digest has 32 bytes")
        name = digest.hex()
        return self._folder / name[:2] / name

    def _set_aside(self, path: Path) -> None:
        damaged = self._folder / _DAMAGED
        damaged.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(damaged / path.name)


def _asked(request: Request) -> bytes:
    asked = unpack(request.body, _ASK)
    digest = asked.get("digest") if isinstance(asked, dict) else None
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise UsageError(f"{request.method} needs a digest of 32 bytes")
    return digest
