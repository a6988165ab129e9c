"""A controller that serves a folder, and trees that read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.gateway.registry_files import TREE, RegistryFiles
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.tree_http import HttpTree
from tests.registry.http.hosts import TOKEN, Controller, serving

Make = Callable[..., HttpTree]


@pytest.fixture
def folder(tmp_path: Path) -> FolderTree:
    (tmp_path / "served").mkdir()
    return FolderTree("served", tmp_path / "served")


@pytest.fixture
async def controller(folder: FolderTree) -> AsyncIterator[Controller]:
    found = Controller(RegistryFiles(folder, fresh_s=0.0))
    async with serving(found) as address:
        found.url = address + TREE
        yield found


@pytest.fixture
async def trees() -> AsyncIterator[Make]:
    made: list[HttpTree] = []

    def make(url: str, folder: Path | None = None, **options: Any) -> HttpTree:
        made.append(HttpTree("theirs", url, folder, **{"seconds": 5.0, "index_s": 5.0, **options}))
        return made[-1]

    yield make
    for tree in made:
        await tree.close()


@pytest.fixture
def make(controller: Controller, trees: Make) -> Make:
    def made(folder: Path | None = None, **options: Any) -> HttpTree:
        return trees(controller.url, folder, **{"token": TOKEN, **options})

    return made
