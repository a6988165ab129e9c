"""Another mesh is a registry: its controller serves a Git repository, and ours reads it and publishes to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from osiris_mesh.errors import CheckFailed, NotFound
from osiris_mesh.function.name import FunctionName
from osiris_mesh.gateway.registry_files import TREE, RegistryFiles
from osiris_mesh.registry.listing import digest_of, write_index
from osiris_mesh.registry.tree_git import GitTree
from tests.registry.core.kit import NAME, VENDOR_KEY, binding, reader_of, registry
from tests.registry.git.repository import Repository
from tests.registry.http.conftest import Make
from tests.registry.http.hosts import TOKEN, Controller, StaticHost, serving


async def test_a_record_goes_round(tmp_path: Path, trees: Make) -> None:
    repository = Repository(tmp_path / "remote.git")
    git = GitTree("git", repository.url, tmp_path / "theirs")
    theirs = await registry(git)
    controller = Controller(RegistryFiles(git, fresh_s=0.0))
    async with serving(controller) as address:
        ours = reader_of(trees(address + TREE, tmp_path / "cache", token=TOKEN))
        await ours.sync()
        with pytest.raises(NotFound):
            await ours.lookup(NAME)

        await theirs.publish([binding()], [VENDOR_KEY])
        await ours.sync()
        found = await ours.lookup(NAME)
        assert found.attested
        other = FunctionName("", "text", "shout")
        await ours.publish([binding(name=other)], [VENDOR_KEY])
        await theirs.sync()
        there = await theirs.lookup(other)
        assert there.record == (await ours.lookup(other)).record
        assert [entry.name for entry in await ours.list()] == [entry.name for entry in await theirs.list()]

        plain = reader_of(trees(address + TREE))
        await plain.sync()
        controller.asked.clear()
        await ours.publish([binding("1.1.0")], [VENDOR_KEY])
        await plain.sync()
        got = [path for method, path, status in controller.asked[-10:] if method == "GET" and status == 200]
        assert "ns/_/text/shout.jsonl" not in got[-4:], "what did not change is not fetched again"
    await git.close()


async def test_a_static_host_that_swaps_a_file_is_not_believed(trees: Make, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "remote.git")
    git = GitTree("git", repository.url, tmp_path / "clone")
    theirs = await registry(git)
    await theirs.publish([binding()], [VENDOR_KEY])
    files = {path: blob.data for path in await git.paths() if (blob := await git.read(path)) is not None}
    await theirs.publish([binding("2.0.0")], [VENDOR_KEY])
    await git.close()

    host = StaticHost(files)
    async with serving(host) as address:
        forged = files | {"config.json": files["config.json"].replace(b"Acme", b"Evil")}
        host.files = forged | {"index.json": write_index((path, digest_of(forged[path])) for path in forged)}
        with pytest.raises(CheckFailed):
            await reader_of(trees(address + "/some/place")).sync()
        host.files = files | {"index.json": write_index((path, digest_of(files[path])) for path in files)}
        good = reader_of(trees(address + "/some/place"))
        await good.sync()
        assert (await good.lookup(NAME)).attested
        named = reader_of(trees(address + "/some/place"), mirror=False)
        host.asked.clear()
        assert (await named.lookup(NAME)).record == (await good.lookup(NAME)).record
        assert "ns/acme.com/image/sharpen.jsonl" in {path for path, _ in host.asked}
