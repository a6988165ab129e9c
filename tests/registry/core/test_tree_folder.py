"""A folder as a tree: whole publications, many publishers, nothing else in it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from osiris_mesh.errors import CheckFailed, Conflict, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.registry.tree import MAX_FILE, Reader, Tree
from osiris_mesh.registry.tree_folder import FolderTree
from tests.registry import conformance

PATH = "ns/_/a/b.jsonl"


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
async def test_it_is_a_tree(tmp_path: Path, check: conformance.Check) -> None:
    async def make() -> Tree:
        return tree(tmp_path)

    await check(make)


def tree(path: Path, patience: float = 10.0) -> FolderTree:
    return FolderTree("mine", path, patience=patience)


async def write(to: FolderTree, files: dict[str, bytes]) -> str:
    async def change(_reader: Reader) -> Mapping[str, bytes]:
        return files

    return await to.publish(change, "test")


async def test_files_are_written_read_and_listed(tmp_path: Path) -> None:
    mine = tree(tmp_path / "new" / "registry")
    with pytest.raises(Unavailable, match="is not there"):
        await mine.read("config.json")
    tag = await write(mine, {"config.json": b"{}", PATH: b"one\n", "checkpoint": b"1"})
    assert await mine.paths() == ["checkpoint", "config.json", PATH]
    assert await mine.paths("ns/") == [PATH]
    blob = await mine.read(PATH)
    assert blob is not None
    assert blob.data == b"one\n"
    assert await mine.read("ns/_/a/c.jsonl") is None
    assert await mine.read("root.json") is None
    assert await mine.refresh() == tag
    before = dict((await mine.tags()).items())
    assert await write(mine, {PATH: b"two\n", "checkpoint": b"2"}) != tag
    after = dict((await mine.tags()).items())
    assert {path for path in after if after[path] != before[path]} == {PATH, "checkpoint"}
    assert await write(mine, {}) == await mine.refresh()
    await mine.close()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "ns/../../x", ".lock", "README.md", "ns/_/a/../b.jsonl", ""])
async def test_nothing_outside_the_tree(tmp_path: Path, path: str) -> None:
    mine = tree(tmp_path / "r")
    await write(mine, {"config.json": b"{}"})
    assert await mine.read(path) is None
    with pytest.raises(UsageError):
        await write(mine, {path: b"x"})
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["r"]


async def test_what_lies_about_is_no_part_of_it(tmp_path: Path) -> None:
    mine = tree(tmp_path)
    await write(mine, {PATH: b"x"})
    secret = tmp_path / "secret"
    secret.write_text("s")
    (tmp_path / "ns" / "_" / "a" / "link.jsonl").symlink_to(secret)
    (tmp_path / "ns" / "_" / "a" / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "ns" / "_" / "a" / "pipe.jsonl")
    (tmp_path / ".git").mkdir()
    assert await mine.paths() == [PATH]
    for name in ("folder", "pipe"):
        assert await mine.read(f"ns/_/a/{name}.jsonl") is None
    with pytest.raises(Unavailable):
        await mine.read("ns/_/a/link.jsonl")


async def test_a_link_for_a_folder_leads_nowhere(tmp_path: Path) -> None:
    mine, elsewhere = tree(tmp_path / "r"), tmp_path / "elsewhere"
    (elsewhere / "a").mkdir(parents=True)
    (elsewhere / "a" / "b.jsonl").write_text("secret")
    await write(mine, {"config.json": b"{}"})
    (tmp_path / "r" / "ns").mkdir()
    (tmp_path / "r" / "ns" / "_").symlink_to(elsewhere)
    assert await mine.read(PATH) is None
    assert await mine.read_many([PATH]) == [None]
    with pytest.raises(Unavailable):
        await write(mine, {PATH: b"mine"})
    assert (elsewhere / "a" / "b.jsonl").read_text() == "secret"
    # The folder itself may be reached by one.
    (tmp_path / "link").symlink_to(tmp_path / "r")
    assert await tree(tmp_path / "link").read("config.json") is not None


@pytest.mark.parametrize(
    "plan",
    [
        b"7",
        b"null",
        b"{}",
        b'"abc"',
        b"[7]",
        b"[null]",
        b"[[]]",
        b'["../x"]',
        b'["config.json", "/etc/passwd"]',
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        b"[" + b",".join([b'"config.json"'] * 5000) + b"]",
        b'["config.json"]' + b" " * (4 << 20),
    ],
    ids=range(14),
)
async def test_a_plan_nobody_made_moves_nothing(tmp_path: Path, plan: bytes) -> None:
    mine = tree(tmp_path)
    await write(mine, {"config.json": b"{}"})
    (tmp_path / ".publish").mkdir()
    (tmp_path / ".publish" / "0").write_bytes(b"evil")
    (tmp_path / ".publish" / "plan.json").write_bytes(plan)
    with pytest.raises((CheckFailed, Unavailable), match=r"\.publish|can't be used"):
        await write(mine, {PATH: b"x"})
    assert (tmp_path / "config.json").read_bytes() == b"{}"
    assert (tmp_path / ".publish" / "0").exists()


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "aside"])
async def test_a_plan_that_is_no_file_is_not_followed(tmp_path: Path, what: str) -> None:
    mine, elsewhere = tree(tmp_path / "r"), tmp_path / "elsewhere"
    await write(mine, {"config.json": b"{}"})
    elsewhere.mkdir()
    (elsewhere / "plan.json").write_text('["config.json"]')
    (elsewhere / "0").write_text("secret")
    aside = tmp_path / "r" / ".publish"
    if what == "aside":
        aside.symlink_to(elsewhere)
    else:
        aside.mkdir()
        match what:
            case "link":
                (aside / "plan.json").symlink_to(elsewhere / "plan.json")
            case "folder":
                (aside / "plan.json").mkdir()
            case _:
                os.mkfifo(aside / "plan.json")
    with pytest.raises(Unavailable):
        await write(mine, {PATH: b"x"})
    assert (elsewhere / "0").read_text() == "secret"
    assert (tmp_path / "r" / "config.json").read_bytes() == b"{}"


async def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    mine = tree(tmp_path)
    await write(mine, {PATH: b"x"})
    with (tmp_path / PATH).open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(RemoteProtocolError, match="more than"):
        await mine.read(PATH)
    with pytest.raises(UsageError):
        await write(mine, {PATH: bytes(MAX_FILE + 1)})


async def test_fifty_publishers_lose_nothing(tmp_path: Path) -> None:
    trees = [tree(tmp_path) for _ in range(50)]

    async def add(number: int) -> None:
        async def change(reader: Reader) -> Mapping[str, bytes]:
            blob = await reader.read(PATH)
            await asyncio.sleep(0)
            return {PATH: (blob.data if blob else b"") + b"%d\n" % number}

        await trees[number].publish(change, "test")

    await asyncio.gather(*map(add, range(50)))
    assert sorted(map(int, (tmp_path / PATH).read_text().split())) == list(range(50))


async def test_a_lock_held_too_long_is_said(tmp_path: Path) -> None:
    mine = tree(tmp_path, patience=0.1)
    await write(mine, {PATH: b"x"})
    with (tmp_path / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="publishing"):
            await write(mine, {PATH: b"y"})
    await write(mine, {PATH: b"y"})


async def test_a_change_that_fails_writes_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    mine = tree(tmp_path, patience=0.2)

    async def fails(_reader: Reader) -> Mapping[str, bytes]:
        raise Conflict("no")

    async def hangs(_reader: Reader) -> Mapping[str, bytes]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(Conflict, match="no"):
        await mine.publish(fails, "x")
    with pytest.raises(Unavailable, match="took over"):
        await mine.publish(hangs, "x")
    assert await mine.paths() == []
    await write(mine, {PATH: b"x"})


DYING = """
import asyncio, os, sys
from pathlib import Path
from osiris_mesh.registry.tree_folder import FolderTree
died_at, steps = int(sys.argv[2]), 0
def counted(real):
    def step(*args, **kwargs):
        global steps
        steps += 1
        if steps == died_at:
            os._exit(9)
        return real(*args, **kwargs)
    return step
os.fsync = counted(os.fsync)
Path.rename = counted(Path.rename)
files = {"checkpoint": b"new", "root.json": b"new", "ns/_/a/b.jsonl": b"new", "ns/_/a/c.jsonl": b"new"}
async def change(reader):
    return files
asyncio.run(FolderTree("x", Path(sys.argv[1])).publish(change, "x"))
"""


async def test_who_dies_at_any_step_has_written_all_or_nothing(tmp_path: Path) -> None:
    for step in range(1, 40):
        folder = tmp_path / str(step)
        mine = tree(folder)
        await write(mine, {"checkpoint": b"old", "root.json": b"old", PATH: b"old"})
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", DYING, str(folder), str(step)],
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert ended.returncode in {0, 9}, ended.stderr
        await write(mine, {})  # whoever locks next ends what was committed
        found = set()
        for path in await mine.paths():
            blob = await mine.read(path)
            assert blob is not None
            found.add(blob.data)
        assert len(found) == 1, step
        assert (b"new" in found) == (len(await mine.paths()) == 4)
        if ended.returncode == 0:
            assert found == {b"new"}
            assert step > 10
            return
    pytest.fail("the publication has more steps than expected")
