"""What changes with a node's registries: one removed is believed no longer, a new order counts, a failure shows."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import CheckFailed, NotFound
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_root
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.roster import Entry
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from tests.registry.core.kit import NAME, key
from tests.registry.node.test_region import node, published


async def stranger(folder: Path) -> str:
    """Make a registry of somebody else, who knows no vendor and no name; return its pin."""
    root = found_root([key(9)], threshold=1, expires_ms=SYSTEM.time_ms() + 10**9)
    registry = Registry(FolderTree("mine", folder), Trust(root.digest), SYSTEM)
    await registry.create(Config("ab" * 16, "other"), [key(9)], root=root)
    await registry.close()
    return root.digest.hex()


async def test_what_a_removed_registry_said_is_served_no_more(tmp_path: Path) -> None:
    pin, new, _ = await published(tmp_path)
    here = node(tmp_path / "here")
    await here.open()
    try:
        await here.add(Entry("corp", f"file://{new}", pin=pin))
        deadline = time.monotonic() + 10
        assert (await here.resolve(str(NAME), deadline=deadline)).source == "corp"
        await here.remove("corp")
        assert here.resolver.questions.peek(str(NAME)) is None, "not as a stale answer either"
        await here.add(Entry("corp", f"file://{tmp_path / 'other'}", pin=await stranger(tmp_path / "other")))
        with pytest.raises(NotFound):
            await here.resolve(str(NAME), deadline=deadline)
    finally:
        await here.close()


async def test_what_it_left_on_the_disk_goes_too(tmp_path: Path) -> None:
    pin, new, _ = await published(tmp_path)
    first = node(tmp_path / "here")
    await first.open()
    await first.add(Entry("corp", f"file://{new}", pin=pin))
    await first.resolve(str(NAME), deadline=time.monotonic() + 10)
    await first.close()
    # Nothing of it is in the process that begins with what the other kept.
    again = node(tmp_path / "again")
    shutil.copytree(tmp_path / "here", tmp_path / "again", dirs_exist_ok=True)
    await again.open()
    try:
        assert again.resolver.names("**", 10) == [str(NAME)]
        await again.remove("corp")
        assert again.resolver.names("**", 10) == []
        await again.add(Entry("corp", f"file://{tmp_path / 'other'}", pin=await stranger(tmp_path / "other")))
        with pytest.raises(NotFound):
            await again.resolve(str(NAME), deadline=time.monotonic() + 10)
        assert await again.find("**", 10) == []
    finally:
        await again.close()


async def test_a_new_order_counts_for_names_that_are_known(tmp_path: Path) -> None:
    pin, new, _ = await published(tmp_path)
    here = node(tmp_path / "here")
    await here.open()
    try:
        await here.add(Entry("one", f"file://{new}", pin=pin))
        deadline = time.monotonic() + 10
        assert (await here.resolve(str(NAME), deadline=deadline)).source == "one"
        await here.add(Entry("two", f"file://{new}", pin=pin), first=True)
        assert (await here.resolve(str(NAME), deadline=deadline)).source == "two"
        await here.order(["one"])
        assert (await here.resolve(str(NAME), deadline=deadline)).source == "one"
    finally:
        await here.close()


async def test_one_that_was_asked_by_name_and_failed_shows_as_failing(tmp_path: Path) -> None:
    pin, new, old = await published(tmp_path)
    here = node(tmp_path / "here")
    await here.open()
    try:
        await here.add(Entry("corp", f"file://{new}", pin=pin))
        shutil.move(new, tmp_path / "aside")
        shutil.move(old, new)
        with pytest.raises(CheckFailed, match="went back"):
            await here.sync("corp")
        (row,) = here.listing()
        assert (row["ok"], "went back" in row["error"]) == (False, True)
        shutil.move(new, old)
        shutil.move(tmp_path / "aside", new)
        (row,) = await here.sync("corp")
        assert (row["ok"], row["error"]) == (True, "")
    finally:
        await here.close()
