"""Peers of the region: what they pass on is verified as if its registry had said it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError, Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.history import join_lines
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.memory import Kept
from osiris_mesh.registry.region_peers import RegionPeers
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.registry_source import RegistrySource
from osiris_mesh.registry.statement import Statement
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from tests.registry.resolve.kit import history, key

NAME = "acme.com/image/sharpen"
REGISTRY = "0f" * 16
VENDOR, KEEPER = key(1), key(2)


def lines(*versions: str, by: KeyPair = VENDOR) -> list[Statement]:
    return history(NAME, *({"version": item} for item in versions), by=by)


async def source(folder: Path, name: str) -> RegistrySource:
    """Return a registry in a folder that has only its keys."""
    delegations = {"acme.com": Delegation((VENDOR.public.hex(),))}
    root = found_root([KEEPER], threshold=1, expires_ms=SYSTEM.time_ms() + 10**9, delegations=delegations)
    registry = Registry(FolderTree(name, folder / name), Trust(root.digest), SYSTEM, checkpoint_key=VENDOR)
    await registry.create(Config(REGISTRY, name), [VENDOR], root=root, vendor_keys=[found_keys("acme.com", [VENDOR])])
    await registry.sync()
    return RegistrySource(registry, SYSTEM)


def peers(mine: RegistrySource, answer: Callable[[str], bytes], held: Kept | None = None) -> RegionPeers:
    async def call(peer: str, body: bytes, deadline: float) -> bytes:
        assert body == pack(NAME)
        assert deadline > time.monotonic()
        return answer(peer)

    async def holding(_name: str) -> Kept | None:
        return held

    return RegionPeers(lambda: ["p1", "p2"], call, lambda: [mine], holding, asked=2, clock=SYSTEM, rng=random.Random(1))


async def test_the_newest_of_a_few_peers_is_taken_and_verified(tmp_path: Path) -> None:
    mine, theirs = await source(tmp_path, "mine"), await source(tmp_path, "theirs")
    kept = Kept(NAME, "theirs", SYSTEM.time_ms() - 5000, stale=False, data=join_lines(lines("1.0.0", "2.0.0")))
    body = await peers(theirs, lambda _: b"", kept).answer(pack(NAME))
    old = pack([REGISTRY, 9, False, join_lines(lines("1.0.0"))])
    found = await peers(mine, lambda peer: body if peer == "p2" else old).ask(
        NAME, ["mine"], deadline=time.monotonic() + 5
    )
    assert found is not None
    assert found.record is not None
    assert (found.registry, found.record.sequence) == ("mine", 2)
    assert 5000 <= found.age_ms < 60_000


@pytest.mark.parametrize(
    "said",
    [
        pack(None),
        b"nonsense",
        pack([REGISTRY, 1, False]),
        pack([REGISTRY, -1, False, join_lines(lines("1.0.0"))]),
        pack(["aa" * 16, 1, False, join_lines(lines("1.0.0"))]),
        pack([REGISTRY, 1, False, join_lines(lines("1.0.0", by=key(9)))]),
        pack([REGISTRY, 1, False, join_lines(lines("1.0.0"))[:-9] + b"\n"]),
        pack([REGISTRY, 1, False, b""]),
    ],
)
async def test_what_is_forged_or_nonsense_is_no_answer(tmp_path: Path, said: bytes) -> None:
    mine = await source(tmp_path, "mine")
    assert await peers(mine, lambda _: said).ask(NAME, ["mine"], deadline=time.monotonic() + 5) is None
    assert mine.registry.trust.evidence == (), "a peer's lie is not the registry's"


async def test_one_that_is_away_is_an_answer_less(tmp_path: Path) -> None:
    mine = await source(tmp_path, "mine")
    good = pack([REGISTRY, 9, False, join_lines(lines("1.0.0"))])

    def answer(peer: str) -> bytes:
        if peer == "p1":
            raise Unavailable("gone")
        return good

    assert await peers(mine, answer).ask(NAME, ["mine"], deadline=time.monotonic() + 5) is not None
    assert await peers(mine, answer).ask(NAME, ["other"], deadline=time.monotonic() + 5) is None


async def test_what_is_older_than_was_seen_is_refused(tmp_path: Path) -> None:
    mine = await source(tmp_path, "mine")
    newest = lines("1.0.0", "2.0.0")
    for line in newest:
        await mine.registry.register(line)
    await mine.registry.lookup(NAME)
    old = pack([REGISTRY, 9, False, join_lines(newest[:1])])
    assert await peers(mine, lambda _: old).ask(NAME, ["mine"], deadline=time.monotonic() + 5) is None


async def test_questions_that_are_none_are_refused(tmp_path: Path) -> None:
    mine = await source(tmp_path, "mine")
    with pytest.raises(RemoteProtocolError):
        await peers(mine, lambda _: b"").answer(pack(5))
    assert await peers(mine, lambda _: b"").answer(pack(NAME)) == pack(None)
