"""One process that publishes: ``publisher.py URL FOLDER NAME…``, each name with a clone of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from osiris_mesh.registry.tree_git import GitTree
from tests.registry.git.repository import appending

SHARED = "ns/_/shared/all.jsonl"


async def publish(url: str, folder: Path, name: str) -> None:
    tree = GitTree("ours", url, folder / name)
    try:
        await tree.publish(appending(SHARED, name.encode()), f"from {name}")
    finally:
        await tree.close()


async def main(url: str, folder: str, *names: str) -> None:
    await asyncio.gather(*(publish(url, Path(folder), name) for name in names))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
