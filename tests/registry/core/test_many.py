"""Several files for one wait: what trees that offer it give is what one by one would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from osiris_mesh.registry.tree import MAX_FILE, MAX_MANY, Bulk, Tree
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.tree_git import GitTree
from tests.registry.git.repository import Repository, writing


def place(number: int) -> str:
    return f"ns/_/team/f{number}.jsonl"


@pytest.mark.parametrize("kind", ["folder", "git"])
async def test_many_are_read_in_their_order_and_no_more_than_fit(kind: str, tmp_path: Path) -> None:
    files = {place(number): b"{%d}\n" % number for number in range(20)}
    files |= {place(20): b"{" + b" " * (MAX_FILE - 2) + b"\n", place(21): b"{" + b" " * (MAX_FILE // 2) + b"\n"}
    tree: Tree = FolderTree("t", tmp_path / "t")
    if kind == "git":
        tree = GitTree("t", Repository(tmp_path / "r.git").url, tmp_path / "clone")
    await tree.publish(writing(files), "files")
    await tree.refresh()
    assert isinstance(tree, Bulk)
    wanted = [place(5), "ns/_/team/none.jsonl", *(place(number) for number in range(22)), place(3)]
    assert len(wanted) <= MAX_MANY
    first = 0
    found = []
    while first < len(wanted):
        some = await tree.read_many(wanted[first:])
        assert some
        assert sum(len(blob.data) for blob in some[:-1] if blob) <= MAX_FILE
        found += some
        first += len(some)
    assert [blob and blob.data for blob in found] == [files.get(path) for path in wanted]
    assert await tree.read_many(["ns/_/team/none.jsonl"]) == [None]
    await tree.close()
