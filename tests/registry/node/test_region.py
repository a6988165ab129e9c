"""Two nodes of one region: what one of them knows of a name, the other takes before it asks a registry."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import NotFound, OsirisError, UsageError
from osiris_mesh.node.options import NodeOptions
from osiris_mesh.node.registries import Registries
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.record import Binding
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.roster import Entry
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from osiris_mesh.settings.registry import RegistrySettings
from tests.registry.core.kit import NAME, REGISTRY, VENDOR_KEY, key, provider


class Empty:
    """A mesh without functions."""

    def active(self, _name: str) -> None:
        return None

    def versions(self, _name: str) -> Sequence[Any]:
        return ()


def node(home: Path, **more: Any) -> Registries:
    home.mkdir()
    settings = RegistrySettings.preset("test")
    ledger: Any = None
    return Registries(home, ledger, Empty(), settings=settings, clock=SYSTEM, rng=random.Random(1), **more)


async def published(folder: Path) -> tuple[str, Path, Path]:
    """Make one registry twice: as it is, and as it was before its name was published; return the pin and both."""
    delegations = {"acme.com": Delegation((VENDOR_KEY.public.hex(),))}
    root = found_root([key(1)], threshold=1, expires_ms=SYSTEM.time_ms() + 10**9, delegations=delegations)
    new, old = folder / "new", folder / "old"
    mine = Registry(FolderTree("mine", new), Trust(root.digest), SYSTEM)
    await mine.create(
        Config(REGISTRY, "mine"), [VENDOR_KEY], root=root, vendor_keys=[found_keys("acme.com", [VENDOR_KEY])]
    )
    shutil.copytree(new, old)
    said = Binding(name=str(NAME), version="1.0.0", sequence=1, digest="ab" * 32, providers=(provider(),))
    await mine.publish([said], [VENDOR_KEY])
    await mine.close()
    return root.digest.hex(), new, old


async def test_a_name_comes_from_a_peer_of_the_region_and_is_verified(tmp_path: Path) -> None:
    pin, new, old = await published(tmp_path)
    near = node(tmp_path / "near")

    async def call(peer: str, body: bytes, _deadline: float) -> bytes:
        assert peer == "near"
        return await near.peers.answer(body)

    asking = node(tmp_path / "asking", near=lambda: ["near"], call=call)
    alone = node(tmp_path / "alone")
    nodes = [(near, new), (asking, old), (alone, old)]
    try:
        for each, folder in nodes:
            await each.open()
            await each.add(Entry("corp", f"file://{folder}", pin=pin))
        deadline = time.monotonic() + 10
        assert str((await near.resolve(str(NAME), deadline=deadline)).version) == "1.0.0"
        found = await asking.resolve(str(NAME), deadline=deadline)
        assert (str(found.version), found.source) == ("1.0.0", "peer corp")
        with pytest.raises(NotFound):
            await alone.resolve(str(NAME), deadline=deadline)
    finally:
        for each, _ in nodes:
            await each.close()


async def test_a_question_that_is_none_is_refused(tmp_path: Path) -> None:
    near = node(tmp_path / "near")
    await near.open()
    try:
        for body in (b"", b"\xc1", b"\x93\x01\x02\x03"):
            with pytest.raises(OsirisError):
                await near.peers.answer(body)
    finally:
        await near.close()


def test_a_region_is_a_word_and_is_saved() -> None:
    assert NodeOptions(region="eu-west_1").check().region == "eu-west_1"
    with pytest.raises(UsageError, match="region"):
        NodeOptions(region="eu west").check()
