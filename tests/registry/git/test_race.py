"""Fifty publishers at once, in processes and clones of their own, all of them writing one file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from osiris_mesh.registry.tree_git import GitTree
from tests.registry.git.publisher import SHARED
from tests.registry.git.repository import Repository, appending

PROCESSES, EACH = 5, 10


async def test_fifty_publishers_lose_nothing(tmp_path: Path) -> None:
    remote = Repository(tmp_path / "remote.git")
    names = [[f"p{process}n{n}" for n in range(EACH)] for process in range(PROCESSES)]
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.registry.git.publisher", remote.url, str(tmp_path), *each
        )
        for each in names
    ]
    async with asyncio.timeout(100):
        codes = await asyncio.gather(*(child.wait() for child in children))
    assert codes == [0] * PROCESSES
    assert sorted(remote.files()[SHARED].decode().split()) == sorted(name for each in names for name in each)
    assert remote.git("rev-list", "--merges", "main") == "", "no history was rewritten or merged"
    assert remote.git("rev-list", "--count", "main") == str(PROCESSES * EACH)


async def test_fifty_publishers_through_one_clone_take_few_commits(tmp_path: Path) -> None:
    remote = Repository(tmp_path / "remote.git")
    tree = GitTree("ours", remote.url, tmp_path / "clone")
    await asyncio.gather(*(tree.publish(appending(SHARED, b"%d" % n), "x") for n in range(50)))
    await tree.close()
    assert sorted(map(int, remote.files()[SHARED].split())) == list(range(50))
    assert int(remote.git("rev-list", "--count", "main")) <= 2
