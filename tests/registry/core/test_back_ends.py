"""The same publications in a folder and in Git, by different machines: the same bytes, believed by the same rules."""

from __future__ import annotations

import asyncio
from pathlib import Path

from osiris_mesh.clock import FakeClock
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.tree import Tree
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.tree_git import GitTree
from tests.registry.conformance import everything
from tests.registry.core.kit import NAME, NOW, VENDOR_KEY, binding, reader_of, registry
from tests.registry.git.repository import Repository


async def test_git_and_a_folder_agree_to_the_byte(tmp_path: Path) -> None:
    repository = await asyncio.to_thread(Repository, tmp_path / "bare.git")
    (tmp_path / "folder").mkdir()
    found = []
    for publisher, reader in (
        (FolderTree("folder", tmp_path / "folder"), FolderTree("folder", tmp_path / "folder")),
        (GitTree("git", repository.url, tmp_path / "a"), GitTree("git", repository.url, tmp_path / "b")),
    ):
        found.append(await _published_and_read(publisher, reader))
    assert found[0] == found[1]


async def _published_and_read(publisher: Tree, reader: Tree) -> dict[str, bytes]:
    clock = FakeClock(epoch_ms=NOW)
    await publisher.refresh()
    mine = await registry(publisher, clock=clock)
    await mine.publish([binding(), binding("1.1.0")], [VENDOR_KEY])
    other = reader_of(reader, clock=clock)
    assert (await other.sync()).names == 1
    assert (await other.lookup(NAME)).attested
    await asyncio.gather(
        mine.publish([binding("2.0.0")], [VENDOR_KEY]),
        other.publish([binding(name=FunctionName("", "default", "add"))], [VENDOR_KEY]),
    )
    await other.sync()
    await mine.sync()
    assert (await mine.lookup("add")).attested
    assert len((await other.lookup(NAME)).record.versions) == 3
    try:
        return await everything(reader)
    finally:
        await mine.close()
        await other.close()
