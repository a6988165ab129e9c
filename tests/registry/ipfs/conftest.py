"""One Kubo for all tests of this folder, and registries in it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.registry.ipfs_cid import IpnsName
from osiris_mesh.registry.ipfs_rpc import Kubo
from osiris_mesh.registry.tree_ipfs import IpfsPublisher, TreeIpfs
from tests.registry.ipfs.kubo import Daemon, daemon, find_ipfs


@pytest.fixture(scope="package")
def kubo() -> Iterator[Daemon]:
    find_ipfs()
    with daemon() as running:
        yield running


@pytest.fixture
async def rpc(kubo: Daemon) -> AsyncIterator[Kubo]:
    async with aiohttp.ClientSession() as session:
        yield Kubo(session, kubo.api)


@pytest.fixture
async def name(rpc: Kubo) -> IpnsName:
    """A new name whose key the Kubo has."""
    return await rpc.make_key(f"key-{secrets.token_hex(8)}")


class Trees:
    """Opens trees, each with a file of its own, and closes them all."""

    def __init__(self, kubo: Daemon, name: IpnsName, folder: Path) -> None:
        self._kubo = kubo
        self._name = name
        self._folder = folder
        self.opened: list[TreeIpfs] = []

    def open(self, *, publishes: bool = True, **changes: Any) -> TreeIpfs:
        values: dict[str, Any] = {
            "name": "test",
            "pointer": f"/ipns/{self._name}",
            "gateways": [self._kubo.gateway],
            "path": self._folder / f"{len(self.opened)}.db",
            "clock": SYSTEM,
            "publisher": IpfsPublisher(self._kubo.api) if publishes else None,
        }
        tree = TreeIpfs(**{**values, **changes})
        self.opened.append(tree)
        return tree


@pytest.fixture
async def trees(kubo: Daemon, name: IpnsName, tmp_path: Path) -> AsyncIterator[Trees]:
    made = Trees(kubo, name, tmp_path)
    yield made
    for tree in made.opened:
        await tree.close()
