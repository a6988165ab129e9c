"""A bundle is on a majority of the nodes that live before it is published, and on all of them soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import Denied, Unavailable
from osiris_mesh.link import Audience, Link, Router
from osiris_mesh.runtime.library import Library, LinkSource
from osiris_mesh.runtime.prefetch import Prefetch
from osiris_mesh.runtime.spreading import Copies, Spreading
from tests.runtime.test_library import Peers, bundle, closing, node, pair

__all__ = ["closing"]

DIGEST = bytes(range(32))


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Remote:
    """Nodes that take a bundle, refuse it, or never answer."""

    def __init__(self, **kinds: str) -> None:
        self.kinds = kinds
        self.alive = set(kinds)
        self.asked: list[str] = []

    async def to(self, peer: str) -> _Link:
        return _Link(self, peer)


class _Link:
    def __init__(self, remote: Remote, peer: str) -> None:
        self._remote, self._peer = remote, peer

    async def call(self, method: str, body: bytes = b"", *, timeout: float | None) -> bytes:
        del timeout
        assert (method, unpack(body)) == ("library.take", {"digest": DIGEST})
        self._remote.asked.append(self._peer)
        kind = self._remote.kinds[self._peer]
        if kind == "silent":
            await asyncio.Event().wait()
        if kind == "dead":
            raise Unavailable("gone", maybe=True)
        return body


def spreading(remote: Remote, seconds: float = 0.4) -> Spreading:
    return Spreading(remote, lambda: sorted(remote.alive), seconds=seconds, rest_s=0.05)


@pytest.mark.parametrize(
    ("kinds", "copies"),
    [
        ({}, Copies(1, 1)),
        ({"b": "good"}, Copies(2, 2)),
        ({"b": "good", "c": "good"}, Copies(3, 3)),
        ({"b": "good", "c": "silent"}, Copies(2, 3)),
        ({"b": "good", "c": "dead"}, Copies(2, 3)),
        ({"b": "good", "c": "good", "d": "dead", "e": "silent"}, Copies(3, 5)),
    ],
)
async def test_a_majority_is_enough(kinds: dict[str, str], copies: Copies) -> None:
    assert await spreading(Remote(**kinds), 20).spread(DIGEST) == copies


@pytest.mark.parametrize(
    "kinds",
    [{"b": "dead"}, {"b": "silent"}, {"b": "good", "c": "dead", "d": "silent"}, {"b": "silent", "c": "silent"}],
)
async def test_less_is_unavailable_and_surely_nothing_was_published(kinds: dict[str, str]) -> None:
    with pytest.raises(Unavailable) as caught:
        await spreading(Remote(**kinds)).spread(DIGEST)
    assert caught.value.details["maybe"] is False


async def test_a_node_found_dead_meanwhile_is_not_waited_for() -> None:
    remote = Remote(b="silent", c="dead")
    task = asyncio.ensure_future(spreading(remote, 20).spread(DIGEST))
    await until(lambda: {"b", "c"} <= set(remote.asked))
    remote.alive.clear()
    assert await asyncio.wait_for(task, 5) == Copies(1, 1)


async def test_a_node_that_comes_back_is_asked_again() -> None:
    remote = Remote(b="dead")
    task = asyncio.ensure_future(spreading(remote, 20).spread(DIGEST))
    await until(lambda: remote.asked)
    remote.kinds["b"] = "good"
    assert await asyncio.wait_for(task, 5) == Copies(2, 2)


async def test_a_bundle_is_taken_from_whoever_asks(tmp_path: Path, closing: list[Link]) -> None:
    one = bundle(600_000)
    ours = Library(tmp_path / "ours")
    ours.put(one.data)
    source = Peers({"us": await node(ours, closing)})
    theirs = Library(tmp_path / "theirs", LinkSource(source))
    to_them = Peers({"b": await node(theirs, closing)})
    assert await Spreading(to_them, lambda: ["b"]).spread(one.digest) == Copies(2, 2)
    assert theirs.get(one.digest) == one.data
    # Again: it is there, nobody is asked.
    source.links.clear()
    assert await Spreading(to_them, lambda: ["b"]).spread(one.digest) == Copies(2, 2)


async def test_only_members_may_have_a_bundle_taken(tmp_path: Path, closing: list[Link]) -> None:
    link = await node(Library(tmp_path), closing, Audience.CLIENT)
    with pytest.raises(Denied):
        await link.call("library.take", pack({"digest": DIGEST}), timeout=5)


async def test_what_is_published_comes_here(tmp_path: Path, closing: list[Link]) -> None:
    bundles = [bundle(size) for size in (10, 20, 30, 40)]
    full = Library(tmp_path / "full")
    for one in bundles[:3]:
        full.put(one.data)
    source = Peers({"a": await node(full, closing)})
    library = Library(tmp_path / "here", LinkSource(source))
    published = [one.digest for one in bundles[:2]]
    prefetch = Prefetch(library, lambda: published, SYSTEM, again_s=0.3)
    task = asyncio.ensure_future(prefetch.run())
    try:
        await until(lambda: len(library.digests()) == 2)
        published += [bundles[2].digest, bundles[3].digest]
        prefetch.look()
        await until(lambda: len(library.digests()) == 3)
        # One that nobody has holds up no other, and comes when somebody has it.
        full.put(bundles[3].data)
        await until(lambda: len(library.digests()) == 4)
        # And what is lost comes back.
        library.remove(bundles[0].digest)
        await until(lambda: library.has(bundles[0].digest))
    finally:
        task.cancel()


async def test_the_peer_named_first_is_asked_first(tmp_path: Path, closing: list[Link]) -> None:
    one = bundle()
    full = Library(tmp_path / "full")
    full.put(one.data)
    asked: list[str] = []
    router = Router()

    async def note(_request: object, _stream: object) -> None:
        asked.append("a")
        raise Unavailable("no", maybe=False)

    router.streaming("library.get", note, allow=Audience.MEMBER)
    link, other = await pair(router)
    closing += [link, other]
    source = LinkSource(Peers({"a": link, "b": await node(full, closing)}))
    assert await source.fetch(one.digest, "b") == one.data
    assert asked == []
    assert await source.fetch(one.digest) == one.data
    assert asked == ["a"]
