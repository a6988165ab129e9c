"""Whoever may publish anything may write the head: what he spoils of it is signed anew by the next who publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from osiris_mesh.errors import CheckFailed
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.layout import CHECKPOINT
from osiris_mesh.registry.record import Binding
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.tree_ledger import TreeLedger, key_signer
from osiris_mesh.registry.trust import Trust
from tests.ledger.kit import ADMIN, FOUNDER, MESH, Agreement, Node, genesis
from tests.registry.conformance import writing
from tests.registry.core.kit import NAME, REGISTRY, VENDOR_KEY, key


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = await Node(tmp_path / "home", Agreement(), FOUNDER).start()
    await node.put(genesis([FOUNDER]), FOUNDER)
    yield node
    await node.close()


@pytest.mark.parametrize("spoil", ["noise", "an older one"])
async def test_a_spoiled_head_is_signed_anew(node: Node, spoil: str) -> None:
    tree = TreeLedger("mesh", node.ledger, signer=key_signer(ADMIN, MESH, node.clock))
    root = found_root(
        [key(1)],
        threshold=1,
        expires_ms=node.clock.time_ms() + 10**9,
        delegations={"acme.com": Delegation((VENDOR_KEY.public.hex(),))},
    )
    mine = Registry(tree, Trust(root.digest), node.clock)
    vendor_keys = [found_keys("acme.com", [VENDOR_KEY])]
    await mine.create(Config(REGISTRY, "mine"), [VENDOR_KEY], root=root, vendor_keys=vendor_keys)
    old = await tree.read(CHECKPOINT)
    assert old is not None
    reader = Registry(tree, Trust(root.digest), node.clock)
    await mine.publish([Binding(str(NAME), "1.0.0", 1, digest="ab" * 32)], [VENDOR_KEY])
    await reader.sync()
    await tree.publish(writing({CHECKPOINT: b"noise\n" if spoil == "noise" else old.data}), "spoiled")
    with pytest.raises(CheckFailed):
        await reader.sync()
    # Somebody who never saw this registry.
    other = Registry(tree, Trust(root.digest), node.clock)
    await other.publish([Binding(str(NAME), "1.1.0", 2, digest="cd" * 32)], [VENDOR_KEY])
    await reader.sync()
    assert len((await reader.lookup(str(NAME))).record.versions) == 2
    assert not reader.stale
    await mine.publish([Binding(str(NAME), "1.2.0", 3, digest="ef" * 32)], [VENDOR_KEY])
