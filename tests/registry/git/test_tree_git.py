"""Reading and publishing; what the remote may do to us."""

from __future__ import annotations

import asyncio
import itertools
import random
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from osiris_mesh.errors import Conflict, Denied, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.registry.git_config import CONFIG
from osiris_mesh.registry.tree import MAX_FILE, Reader, Tree
from osiris_mesh.registry.tree_git import GitTree
from tests.registry import conformance
from tests.registry.git.repository import Repository, appending, writing

NAME = "ns/_/text/shout.jsonl"
OTHER = "ns/acme.com/images/sharpen.jsonl"
Make = Callable[..., GitTree]


@pytest.fixture
def remote(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "remote.git")


@pytest.fixture
async def make(tmp_path: Path, remote: Repository) -> AsyncIterator[Make]:
    trees: list[GitTree] = []

    def made(folder: str = "clone", url: str | None = None, **options: Any) -> GitTree:
        tree = GitTree("ours", url or remote.url, tmp_path / folder, **options)
        trees.append(tree)
        return tree

    yield made
    for tree in trees:
        await tree.close()


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
async def test_it_is_a_tree(check: conformance.Check, make: Make) -> None:
    folders = itertools.count()

    async def made() -> Tree:
        return make(f"clone{next(folders)}")

    await check(made)


async def test_the_first_publication_founds_an_empty_repository(make: Make, remote: Repository) -> None:
    tree: Tree = make()
    assert await tree.refresh() == "0" * 40
    assert await tree.paths() == []
    assert await tree.read(NAME) is None
    tag = await tree.publish(writing({"config.json": b"{}\n", NAME: b"{}\n"}), "the first\nline")
    assert remote.head() == tag
    assert remote.git("log", "-1", "--format=%s|%an", "main") == "the first line|Osiris Mesh"
    assert await tree.paths() == ["config.json", NAME]
    assert await tree.paths("ns/_/") == [NAME]
    found = await tree.read(NAME)
    assert found is not None
    assert (found.data, found.tag) == (b"{}\n", tag)


async def test_what_one_publishes_another_reads_after_fetching_and_not_before(make: Make) -> None:
    first, second = make("a"), make("b")
    await first.publish(writing({NAME: b"1\n"}), "one")
    with pytest.raises(Unavailable, match="never fetched"):
        await second.read(NAME)
    await second.refresh()
    await first.publish(writing({NAME: b"1\n2\n", OTHER: b"3\n"}), "two")
    found = await second.read(NAME)
    assert found is not None
    assert found.data == b"1\n"
    assert await second.read(OTHER) is None
    await second.refresh()
    found = await second.read(NAME)
    assert found is not None
    assert found.data == b"1\n2\n"


async def test_bytes_come_back_as_they_went_in(make: Make) -> None:
    tree, other = make("a"), make("b")
    data = bytes(range(256)) * 64 + b"\r\n\0\n"
    await tree.publish(writing({NAME: data, "checkpoint": b""}), "x")
    await other.refresh()
    for each in (tree, other):
        for path, wanted in ((NAME, data), ("checkpoint", b"")):
            found = await each.read(path)
            assert found is not None
            assert found.data == wanted


async def test_a_restart_reads_what_was_there_though_the_remote_is_gone(make: Make, remote: Repository) -> None:
    tree = make()
    tag = await tree.publish(writing({NAME: b"1\n"}), "x")
    await tree.close()
    remote.folder.rename(remote.folder.with_name("away"))
    again = make()
    found = await again.read(NAME)
    assert found is not None
    assert (found.data, found.tag) == (b"1\n", tag)
    with pytest.raises(Unavailable, match=r"remote\.git"):
        await again.refresh()
    assert await again.paths() == [NAME]


async def test_reading_goes_on_while_a_fetch_hangs(
    make: Make, remote: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make()
    await tree.publish(writing({NAME: b"1\n"}), "x")
    await tree.close()
    # A remote that takes the connection and says nothing.
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho up > " + str(tmp_path / "up") + "\nexec sleep 60\n")
    ssh.chmod(0o700)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    slow = make(url="ssh://git@localhost/repository", seconds=1.0)
    fetching = asyncio.create_task(slow.refresh())
    async with asyncio.timeout(10):
        while not (tmp_path / "up").exists():
            await asyncio.sleep(0.01)
        found = await slow.read(NAME)
    assert found is not None
    assert not fetching.done()
    with pytest.raises(Unavailable, match="within 1 s"):
        await fetching


async def test_publishing_the_same_twice_makes_one_commit(make: Make, remote: Repository) -> None:
    tree = make()
    first = await tree.publish(writing({NAME: b"1\n"}), "x")
    assert await tree.publish(writing({NAME: b"1\n"}), "y") == first
    assert remote.git("rev-list", "--count", "main") == "1"


async def test_another_branch(make: Make, remote: Repository) -> None:
    tree = make(branch="registry/v1")
    tag = await tree.publish(writing({NAME: b"1\n"}), "x")
    assert remote.head("registry/v1") == tag
    assert remote.git("rev-parse", "--verify", "-q", "refs/heads/main", check=False) == ""


async def test_a_lost_race_has_the_change_made_anew_and_loses_nothing(make: Make, remote: Repository) -> None:
    ours, theirs = make("a"), make("b")
    await ours.publish(appending(NAME, b"0"), "x")
    calls = 0

    async def change(reader: Reader) -> Mapping[str, bytes]:
        nonlocal calls
        calls += 1
        if calls <= 2:
            # Somebody is faster, twice.
            await theirs.publish(appending(NAME, b"theirs%d" % calls), "theirs")
        return await appending(NAME, b"ours")(reader)

    await ours.publish(change, "ours")
    assert calls == 3
    assert remote.files()[NAME].split() == [b"0", b"theirs1", b"theirs2", b"ours"]


async def test_publishers_of_one_process_share_commits(make: Make, remote: Repository) -> None:
    tree = make()
    tags = await asyncio.gather(*(tree.publish(appending(NAME, b"%d" % n), f"number {n}") for n in range(40)))
    assert sorted(map(int, remote.files()[NAME].split())) == list(range(40))
    assert int(remote.git("rev-list", "--count", "main")) <= 3
    assert tags[-1] == remote.head()
    assert "number 39" in remote.git("log", "--format=%B", "main")


async def test_one_bad_change_fails_alone(make: Make, remote: Repository) -> None:
    tree = make()

    async def bad(_: Reader) -> Mapping[str, bytes]:
        raise Denied("not yours")

    results = await asyncio.gather(
        tree.publish(bad, "x"),
        tree.publish(writing({"../config": b""}), "x"),
        tree.publish(writing({NAME: b"x" * (MAX_FILE + 1)}), "x"),
        tree.publish(writing({OTHER: b"1\n"}), "x"),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [Denied, UsageError, UsageError, str]
    assert set(remote.files()) == {OTHER}


async def test_a_hook_that_declines_is_said_with_its_words(make: Make, remote: Repository) -> None:
    hook = remote.folder / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho only on mondays >&2\nexit 1\n")
    hook.chmod(0o700)
    tree = make()
    with pytest.raises(Denied, match="only on mondays"):
        await tree.publish(writing({NAME: b"1\n"}), "x")
    assert await tree.read(NAME) is None


async def test_a_remote_that_is_not_there(make: Make, tmp_path: Path) -> None:
    tree = make(url=f"file://{tmp_path}/nowhere.git")
    with pytest.raises(Unavailable, match=r"nowhere\.git") as caught:
        await tree.publish(writing({NAME: b"1\n"}), "x")
    assert caught.value.details["maybe"] is False


async def test_closing_fails_what_waits(make: Make) -> None:
    tree = make()
    held = asyncio.Event()

    async def slow(_: Reader) -> Mapping[str, bytes]:
        held.set()
        await asyncio.Event().wait()
        return {}

    first = asyncio.create_task(tree.publish(slow, "x"))
    await held.wait()
    second = asyncio.create_task(tree.publish(writing({NAME: b""}), "y"))
    await asyncio.sleep(0)
    await tree.close()
    for each in (first, second):
        with pytest.raises(Unavailable, match="closed"):
            await each


# History.


async def rewritten(tree: GitTree) -> Conflict:
    with pytest.raises(Conflict) as caught:
        await tree.refresh()
    return caught.value


async def test_a_rollback_is_refused_and_said(make: Make, remote: Repository) -> None:
    old = remote.put({NAME: b"1\n"})
    new = remote.put({NAME: b"1\n2\n"}, old)
    tree = make()
    await tree.refresh()
    remote.git("update-ref", "refs/heads/main", old)
    error = await rewritten(tree)
    assert (error.details["reason"], error.details["seen"], error.details["now"]) in {
        ("rollback", new, old),
        # From a clone that never saw more than one commit.
        ("rewritten", new, old),
    }
    found = await tree.read(NAME)
    assert found is not None
    assert found.data == b"1\n2\n"
    assert await tree.read_at(old, NAME) == b"1\n"


async def test_a_rollback_to_a_commit_we_had_is_called_one(make: Make, remote: Repository) -> None:
    old = remote.put({NAME: b"1\n"})
    tree = make()
    await tree.refresh()
    remote.put({NAME: b"1\n2\n"}, old)
    await tree.refresh()
    remote.git("update-ref", "refs/heads/main", old)
    assert (await rewritten(tree)).details["reason"] == "rollback"


async def test_a_branch_that_is_gone_is_a_rollback(make: Make, remote: Repository) -> None:
    remote.put({NAME: b"1\n"})
    tree = make()
    await tree.refresh()
    remote.git("update-ref", "-d", "refs/heads/main")
    assert (await rewritten(tree)).details["reason"] == "rollback"
    assert await tree.paths() == [NAME]
    with pytest.raises(Conflict):
        await tree.publish(writing({OTHER: b""}), "x")


async def test_a_rewritten_history_is_kept_as_evidence_until_it_is_accepted(make: Make, remote: Repository) -> None:
    root = remote.put({NAME: b"0\n"})
    seen = remote.put({NAME: b"1\n"}, root)
    tree = make()
    await tree.refresh()
    now = remote.put({NAME: b"forged\n"}, root, message="other")
    error = await rewritten(tree)
    assert (error.details["reason"], error.details["seen"], error.details["now"]) == ("rewritten", seen, now)
    assert (await rewritten(tree)).details["now"] == now, "it is said each time"
    with pytest.raises(Conflict):
        await tree.publish(writing({OTHER: b""}), "x")
    found = await tree.read(NAME)
    assert found is not None
    assert found.data == b"1\n"
    assert await tree.evidence() == [now]
    assert await tree.read_at(now, NAME) == b"forged\n"
    await tree.close()

    again = make()
    assert (await rewritten(again)).details["reason"] == "rewritten"
    with pytest.raises(Unavailable):
        await again.accept(root)
    await again.accept(now)
    assert await again.refresh() == now
    found = await again.read(NAME)
    assert found is not None
    assert found.data == b"forged\n"
    assert await again.read_at(seen, NAME) == b"1\n"
    assert set(await again.evidence()) == {now, seen}


async def test_a_history_longer_than_what_was_fetched_at_first_is_followed(make: Make, remote: Repository) -> None:
    commit = remote.put({NAME: b"0\n"})
    for n in range(3):
        commit = remote.put({NAME: b"%d\n" % n}, commit)
    tree = make()
    await tree.refresh()
    for n in range(20):
        commit = remote.put({NAME: b"more %d\n" % n}, commit)
    side = remote.put({NAME: b"side\n", OTHER: b"side\n"}, commit, branch="side")
    merged = remote.put({NAME: b"both\n", OTHER: b"side\n"}, commit, side)
    assert await tree.refresh() == merged
    assert await tree.paths() == [NAME, OTHER]


async def test_an_unfinished_merge_is_a_conflict_and_still_readable(make: Make, remote: Repository) -> None:
    marks = b'{"a":1}\n<<<<<<< HEAD\n{"b":1}\n=======\n{"b":2}\n>>>>>>> side\n'
    commit = remote.put({NAME: marks, OTHER: b"{}\n"})
    tree = make()
    await tree.refresh()
    with pytest.raises(Conflict, match="unfinished merge") as caught:
        await tree.read(NAME)
    assert (caught.value.details["reason"], caught.value.details["path"]) == ("merge", NAME)
    assert await tree.read_at(commit, NAME) == marks
    assert await tree.read(OTHER) is not None
    with pytest.raises(Conflict, match="unfinished merge"):
        await tree.publish(appending(NAME, b"{}"), "x")
    await tree.publish(appending(OTHER, b"{}"), "x")


# Hostile remotes.


async def test_links_submodules_and_strange_names_are_no_files(make: Make, remote: Repository) -> None:
    good, link = remote.blob(b"{}\n"), remote.blob(b"/etc/passwd")
    commit = remote.commit(remote.tree([]))
    names = remote.tree([
        ("120000", link, "link.jsonl"),
        ("160000", commit, "module.jsonl"),
        ("100644", good, "shout.jsonl"),
        ("100755", good, "tool.jsonl"),
    ])  # fmt: skip
    vendor = remote.tree([("40000", names, "text")])
    root = remote.tree([
        ("100644", good, "CONFIG.JSON"),
        ("40000", remote.tree([("40000", vendor, "_")]), "NS"),
        ("100644", good, "README.md"),
        ("100644", good, "config.json"),
        ("120000", link, "checkpoint"),
        ("40000", remote.tree([("40000", vendor, "_"), ("40000", vendor, "a b"), ("40000", vendor, "\u00e4")]), "ns"),
        ("100644", good, "root.json"),
    ])  # fmt: skip
    root = remote.tree(sorted(_rows(remote, root), key=lambda row: row[2] + ("/" if row[0] == "40000" else "")))
    remote.git("update-ref", "refs/heads/main", remote.commit(root))
    tree = make()
    await tree.refresh()
    assert await tree.paths() == ["config.json", "ns/_/text/shout.jsonl", "ns/_/text/tool.jsonl", "root.json"]
    for path in (
        "ns/_/text/link.jsonl",
        "ns/_/text/module.jsonl",
        "checkpoint",
        "NS/_/text/shout.jsonl",
        "/etc/passwd",
    ):
        assert await tree.read(path) is None


def _rows(remote: Repository, tree: str) -> list[tuple[str, str, str]]:
    rows = []
    for line in remote.git("ls-tree", "-z", "--full-tree", tree).split("\0"):
        if line:
            head, _, name = line.partition("\t")
            mode, _, oid = head.split()
            rows.append((mode.lstrip("0"), oid, name))
    return rows


@pytest.mark.parametrize("name", ["..", ".", ".git", ".GIT", "a/b"])
async def test_a_tree_with_a_name_that_leads_elsewhere_is_refused(make: Make, remote: Repository, name: str) -> None:
    inner = remote.tree([("40000", remote.tree([("100644", remote.blob(b"{}\n"), "x.jsonl")]), name)])
    remote.git("update-ref", "refs/heads/main", remote.commit(remote.tree([("40000", inner, "ns")])))
    tree = make()
    with pytest.raises(Unavailable, match="git can't fetch"):
        await tree.refresh()


async def test_a_file_that_is_there_twice_is_refused(make: Make, remote: Repository) -> None:
    rows = [("100644", remote.blob(b"1\n"), "config.json"), ("100644", remote.blob(b"2\n"), "config.json")]
    remote.git("update-ref", "refs/heads/main", remote.commit(remote.tree(rows)))
    with pytest.raises(Unavailable, match="duplicate"):
        await make().refresh()


async def test_a_file_larger_than_one_may_be_is_not_read_and_the_others_are(make: Make, remote: Repository) -> None:
    remote.put({NAME: b"\0" * (MAX_FILE + 1), OTHER: b"{}\n", "checkpoint": b"\0" * (9 << 20)})
    tree = make()
    await tree.refresh()
    for path in (NAME, "checkpoint"):
        with pytest.raises(Unavailable, match="more than"):
            await tree.read(path)
        assert await tree.read(OTHER) is not None


async def test_a_small_repository_that_means_endless_files_is_refused(
    make: Make, remote: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osiris_mesh.registry.git_clone._LISTED", 1 << 20)
    inner = remote.tree([("100644", remote.blob(b"{}\n"), "x.jsonl")])
    for _ in range(12):
        inner = remote.tree([("40000", inner, f"d{n}") for n in range(10)])
    remote.git("update-ref", "refs/heads/main", remote.commit(remote.tree([("40000", inner, "ns")])))
    with pytest.raises(RemoteProtocolError, match="more than"):
        await make().refresh()


async def test_more_bytes_than_a_fetch_may_bring(make: Make, remote: Repository, tmp_path: Path) -> None:
    remote.put({NAME: random.Random(1).randbytes(3 << 20)})
    tree = make()
    tree._clone._largest_pack = 1 << 20
    with pytest.raises(Unavailable, match="more than 1 MiB"):
        await tree.refresh()
    assert not list((tmp_path / "clone" / "objects" / "pack").glob("*.pack"))
    remote.put({NAME: b"{}\n"})
    await tree.refresh()
    assert await tree.paths() == [NAME]


async def test_a_remote_that_never_stops_talking_is_ended(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec cat /dev/zero >&2\n")
    ssh.chmod(0o700)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    tree = make(url="git@localhost:repository", seconds=1.0)
    with pytest.raises(Unavailable):
        await tree.refresh()
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(5):
        while runs(pid):
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_damaged_clone_says_so_and_a_fetch_repairs_nothing_silently(make: Make, tmp_path: Path) -> None:
    tree = make()
    await tree.publish(writing({NAME: b"1\n"}), "x")
    oid = (await tree.tags()).get(NAME)
    assert oid is not None
    (tmp_path / "clone" / "objects" / oid[:2] / oid[2:]).unlink()
    await tree.close()
    with pytest.raises(Unavailable, match="not in the clone"):
        await make().read(NAME)


async def test_nobody_else_reads_the_clone(make: Make, tmp_path: Path) -> None:
    await make().refresh()
    assert stat.S_IMODE((tmp_path / "clone").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "clone" / "config").stat().st_mode) == 0o600


async def test_two_programs_do_not_share_a_clone(make: Make, tmp_path: Path) -> None:
    first, second = make(), make()
    await first.publish(writing({NAME: b"1\n"}), "x")
    with pytest.raises(Unavailable, match="in use"):
        await second.read(NAME)
    await first.close()
    # A program that died in the middle.
    (tmp_path / "clone" / "shallow.lock").touch()
    (tmp_path / "clone" / "objects" / "pack" / "tmp_pack_x").write_bytes(b"half")
    assert await second.read(NAME) is not None
    await second.publish(writing({OTHER: b"1\n"}), "x")
    assert not list((tmp_path / "clone" / "objects" / "pack").glob("tmp_*"))


# Parts of a tree.


@pytest.mark.parametrize("serves_parts", [True, False])
async def test_only_the_files_wanted_are_fetched_ahead(make: Make, remote: Repository, serves_parts: bool) -> None:
    remote.git("config", "uploadpack.allowFilter", str(serves_parts).lower())
    remote.git("config", "uploadpack.allowAnySHA1InWant", "true")
    first = remote.put({"config.json": b"{}\n", NAME: b"name\n", OTHER: b"other\n"})
    tree = make(prefixes=("ns/acme.com/",))
    await tree.refresh()
    assert await tree.paths() == ["config.json", NAME, OTHER]
    assert bool(tree._clone._absent) is serves_parts
    away = remote.folder.with_name("away")
    remote.folder.rename(away)
    for path in ("config.json", OTHER):
        assert await tree.read(path) is not None, "it is here, whatever the remote does"
    if serves_parts:
        with pytest.raises(Unavailable):
            await tree.read(NAME)
    away.rename(remote.folder)
    found = await tree.read(NAME)
    assert found is not None
    assert found.data == b"name\n"
    remote.put({"config.json": b"{}\n", NAME: b"name 2\n", OTHER: b"other 2\n"}, first)
    await tree.refresh()
    await tree.publish(appending(NAME, b"name 3"), "x")
    assert remote.files()[NAME] == b"name 2\nname 3"
    assert remote.files()[OTHER] == b"other 2"
    await tree.close()
    again = make(prefixes=("ns/acme.com/",))
    found = await again.read(NAME)
    assert found is not None
    assert found.data == b"name 2\nname 3\n"


async def test_tidying_keeps_what_is_read_and_the_evidence(
    make: Make, remote: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osiris_mesh.registry.tree_git._TIDY", 2)
    monkeypatch.setattr(
        "osiris_mesh.registry.git_clone.CONFIG", CONFIG.replace("autoPackLimit = 40", "autoPackLimit = 1")
    )
    seen = remote.put({NAME: b"1\n"})
    tree = make()
    await tree.refresh()
    now = remote.put({NAME: b"2\n"}, message="other")
    await rewritten(tree)
    packs = tmp_path / "clone" / "objects" / "pack"
    assert len(list(packs.glob("*.pack"))) == 2
    later = remote.put({NAME: b"3\n"}, seen)
    await tree.refresh()
    assert len(list(packs.glob("*.pack"))) == 1
    assert await tree.read_at(now, NAME) == b"2\n"
    assert await tree.read_at(later, NAME) == b"3\n"
    assert await tree.refresh() == later
