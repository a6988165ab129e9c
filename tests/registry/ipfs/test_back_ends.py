"""The same publications in a folder, in IPFS and in the ledger, by different machines: the same bytes, all believed."""

from __future__ import annotations

from pathlib import Path

from osiris_mesh.clock import FakeClock
from osiris_mesh.registry.tree import Tree
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.tree_ledger import TreeLedger, key_signer
from tests.ledger.kit import ADMIN, FOUNDER, MESH, Agreement, Node, genesis
from tests.registry.conformance import everything
from tests.registry.core.kit import NAME, NOW, VENDOR_KEY, binding, reader_of, registry
from tests.registry.ipfs.conftest import Trees


async def published_and_read(publisher: Tree, reader: Tree) -> dict[str, bytes]:
    clock = FakeClock(epoch_ms=NOW)
    await publisher.refresh()
    mine = await registry(publisher, clock=clock)
    await mine.publish([binding(), binding("1.1.0")], [VENDOR_KEY])
    other = reader_of(reader, clock=clock)
    assert (await other.sync()).names == 1
    await other.publish([binding("2.0.0")], [VENDOR_KEY])
    await mine.sync()
    found = await mine.lookup(NAME)
    assert found.attested
    assert len(found.record.versions) == 3
    return await everything(reader)


async def test_a_folder_ipfs_and_the_ledger_agree_to_the_byte(trees: Trees, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    node = await Node(tmp_path / "node", Agreement(), FOUNDER).start()
    try:
        await node.put(genesis(), FOUNDER)
        signer = key_signer(ADMIN, MESH, node.clock)
        pairs: list[tuple[Tree, Tree]] = [
            (FolderTree("folder", tmp_path / "folder"), FolderTree("folder", tmp_path / "folder")),
            (trees.open(), trees.open()),
            (TreeLedger("mesh", node.ledger, signer=signer), TreeLedger("mesh", node.ledger, signer=signer)),
        ]
        found = [await published_and_read(publisher, reader) for publisher, reader in pairs]
    finally:
        await node.close()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) >= 4
