"""A registry in IPFS, through a real Kubo: published, read through gateways, never believed, never taken back."""

from __future__ import annotations

import pytest

from osiris_mesh.registry.tree import Tree
from tests.registry import conformance
from tests.registry.ipfs.conftest import Trees


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
async def test_it_is_a_tree(check: conformance.Check, trees: Trees) -> None:
    async def make() -> Tree:
        return trees.open()

    await check(make)
