from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import Denied, NotFound, Overloaded, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.link import Audience, Caller, Link, Router, link_over
from osiris_mesh.runtime.bundle import BUNDLE_LIMITS, Bundle
from osiris_mesh.runtime.library import Library, LinkSource


def bundle(size: int = 10) -> Bundle:
    spec = FunctionSpec("maths/add", "1.0.0", b"", "add.py::add", "python3.11", [[], ""])
    return Bundle.make(spec, [("add.py", b"x" * size)])


async def pair(router: Router, audience: Audience = Audience.MEMBER) -> tuple[Link, Link]:
    here, there = socket.socketpair()
    ours = await link_over(here, Router(), Caller(b"", "them", Audience.MEMBER))
    theirs = await link_over(there, router, Caller(b"", "us", audience))
    return ours, theirs


class Peers:
    """Links to nodes that each have a library."""

    def __init__(self, links: dict[str, Link]) -> None:
        self.links = links

    def peers(self) -> list[str]:
        return list(self.links)

    async def to(self, peer: str) -> Link:
        return self.links[peer]


@pytest.fixture
async def closing() -> AsyncIterator[list[Link]]:
    links: list[Link] = []
    yield links
    await asyncio.gather(*(link.close() for link in links))


async def node(library: Library, closing: list[Link], audience: Audience = Audience.MEMBER) -> Link:
    router = Router()
    library.register(router)
    ours, theirs = await pair(router, audience)
    closing += [ours, theirs]
    return ours


def test_what_is_put_is_got(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    one = bundle()
    assert library.put(one.data) == library.put(one.data) == one.digest
    assert library.get(one.digest) == one.data
    assert library.digests() == [one.digest]
    assert library.has(one.digest)
    library.remove(one.digest)
    assert not library.has(one.digest)
    with pytest.raises(NotFound):
        library.get(one.digest)


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    library = Library(tmp_path)
    one = bundle()
    library.put(one.data)
    (path,) = tmp_path.glob("??/*")
    path.write_bytes(one.data[:-1] + b"!")
    with pytest.raises(NotFound, match="damaged"):
        library.get(one.digest)
    assert not library.has(one.digest)
    assert (tmp_path / "damaged" / one.digest.hex()).exists()
    library.put(one.data)
    assert library.get(one.digest) == one.data


@pytest.mark.parametrize("data", [b"", b"\x80", b"not a bundle"])
def test_only_bundles_are_stored(tmp_path: Path, data: bytes) -> None:
    library = Library(tmp_path)
    with pytest.raises(RemoteProtocolError):
        library.put(data)
    assert library.digests() == []


async def test_a_bundle_comes_from_whoever_has_it(tmp_path: Path, closing: list[Link]) -> None:
    one = bundle(1_000_000)
    empty, full = Library(tmp_path / "1"), Library(tmp_path / "2")
    full.put(one.data)
    peers = Peers({"a": await node(empty, closing), "b": await node(full, closing)})
    library = Library(tmp_path / "3", LinkSource(peers))
    fetched = await asyncio.gather(*(library.fetch(one.digest) for _ in range(5)))
    assert set(fetched) == {one.data}
    assert library.get(one.digest) == one.data


async def test_a_lying_peer_is_passed_over(tmp_path: Path, closing: list[Link]) -> None:
    one = bundle()
    router = Router()

    async def lie(_request: object, stream: Any) -> None:
        await stream.send(b"something else")

    router.streaming("library.get", lie, allow=Audience.MEMBER)
    liar, other = await pair(router)
    closing += [liar, other]
    full = Library(tmp_path / "1")
    full.put(one.data)
    alone = Library(tmp_path / "2", LinkSource(Peers({"liar": liar})))
    with pytest.raises(Unavailable, match="another hash"):
        await alone.fetch(one.digest)
    helped = Library(tmp_path / "3", LinkSource(Peers({"liar": liar, "b": await node(full, closing)})))
    assert await helped.fetch(one.digest) == one.data


async def test_a_peer_can_not_send_without_end(tmp_path: Path, closing: list[Link]) -> None:
    router = Router()

    async def flood(_request: object, stream: Any) -> None:
        while True:
            await stream.send(bytes(4 << 20))

    router.streaming("library.get", flood, allow=Audience.MEMBER)
    link, other = await pair(router)
    closing += [link, other]
    library = Library(tmp_path, LinkSource(Peers({"a": link})))
    with pytest.raises(Unavailable, match="more than"):
        await library.fetch(bytes(32))


async def test_a_silent_peer_is_given_up(tmp_path: Path, closing: list[Link]) -> None:
    router = Router()

    async def silent(_request: object, _stream: object) -> None:
        await asyncio.Event().wait()

    router.streaming("library.get", silent, allow=Audience.MEMBER)
    link, other = await pair(router)
    closing += [link, other]
    library = Library(tmp_path, LinkSource(Peers({"a": link}), timeout_s=0.05))
    with pytest.raises(Unavailable, match="no answer in time"):
        await library.fetch(bytes(32))


async def test_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await Library(tmp_path).fetch(bytes(32))
    with pytest.raises(Unavailable):
        await Library(tmp_path, LinkSource(Peers({}))).fetch(bytes(32))


async def test_uploading_in_pieces(tmp_path: Path, closing: list[Link]) -> None:
    library = Library(tmp_path)
    link = await node(library, closing, Audience.LOCAL)
    one = bundle(700_000)
    stream = link.open("library.put")
    for start in range(0, len(one.data), 65_536):
        await stream.send(one.data[start : start + 65_536])
    await stream.end()
    answer = await stream.receive()
    assert answer is not None
    assert unpack(answer) == {"digest": one.digest}
    assert library.get(one.digest) == one.data


async def test_an_upload_has_a_bound(tmp_path: Path, closing: list[Link]) -> None:
    link = await node(Library(tmp_path), closing, Audience.LOCAL)
    stream = link.open("library.put")
    with pytest.raises(UsageError, match="at most"):  # noqa: PT012 - it may come at any piece
        for _ in range(BUNDLE_LIMITS.size // (4 << 20) + 8):
            await stream.send(bytes(4 << 20))
        await stream.receive()


async def test_few_uploads_at_a_time(tmp_path: Path, closing: list[Link]) -> None:
    link = await node(Library(tmp_path), closing, Audience.LOCAL)
    streams = [link.open("library.put") for _ in range(5)]
    with pytest.raises(Overloaded):
        await streams[-1].receive()


@pytest.mark.parametrize("audience", [Audience.FUNCTION, Audience.JOINER, Audience.CLIENT])
async def test_strangers_read_no_code(tmp_path: Path, closing: list[Link], audience: Audience) -> None:
    library = Library(tmp_path)
    one = bundle()
    library.put(one.data)
    link = await node(library, closing, audience)
    with pytest.raises(Denied):
        await link.open("library.get", pack({"digest": one.digest})).receive()


@pytest.mark.parametrize("body", [b"", pack({}), pack({"digest": b"short"}), pack({"digest": "../../etc"}), pack([1])])
async def test_a_request_without_a_digest(tmp_path: Path, closing: list[Link], body: bytes) -> None:
    link = await node(Library(tmp_path), closing)
    with pytest.raises((UsageError, RemoteProtocolError)):
        await link.open("library.get", body).receive()
