"""Reading from a controller and from a static host, publishing to a controller."""

from __future__ import annotations

import asyncio
import itertools
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict, Denied, Unavailable, UsageError
from osiris_mesh.registry.listing import digest_of, write_index
from osiris_mesh.registry.tree import Reader, Tree
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.tree_http import MAX_BATCH, HttpTree
from tests.registry import conformance
from tests.registry.conformance import ADD, CONTENT, HEAD, SHARPEN, appending, everything, read, writing
from tests.registry.http.conftest import Make
from tests.registry.http.hosts import TOKEN, Controller, StaticHost, serving


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
async def test_it_is_a_tree(check: conformance.Check, make: Make, tmp_path: Path) -> None:
    folders = itertools.count()

    async def made() -> Tree:
        return make(tmp_path / f"cache{next(folders)}")

    await check(made)


# Reading a controller.


async def test_a_file_is_fetched_once_while_it_stays_the_same(
    make: Make, controller: Controller, folder: FolderTree
) -> None:
    await folder.publish(writing(CONTENT), "x")
    tree = make()
    await tree.refresh()
    for _ in range(3):
        assert await everything(tree) == CONTENT
        await tree.refresh()
    got = [path for method, path, status in controller.asked if status == 200]
    assert sorted(got) == sorted([*CONTENT, "index.json"])
    assert ("GET", "index.json", 304) in controller.asked
    controller.asked.clear()
    await folder.publish(writing({ADD: b"new\n"}), "x")
    await tree.refresh()
    assert await everything(tree) == {**CONTENT, ADD: b"new\n"}
    assert [path for _, path, status in controller.asked if status == 200] == ["index.json", ADD]


async def test_reading_is_of_the_state_fetched_last(make: Make, folder: FolderTree) -> None:
    await folder.publish(writing({ADD: b"1\n", HEAD: b"1"}), "x")
    tree = make()
    await tree.refresh()
    assert await everything(tree) == {ADD: b"1\n", HEAD: b"1"}
    await folder.publish(writing({ADD: b"2\n", HEAD: b"2", SHARPEN: b"2\n"}), "x")
    assert await everything(tree) == {ADD: b"1\n", HEAD: b"1"}
    assert await tree.read(SHARPEN) is None


async def test_a_file_that_changed_since_the_index_was_read_brings_the_new_state(
    make: Make, folder: FolderTree
) -> None:
    await folder.publish(writing({ADD: b"1\n", SHARPEN: b"1\n"}), "x")
    tree = make()
    await tree.refresh()
    await folder.publish(writing({ADD: b"2\n", SHARPEN: b"2\n"}), "x")
    assert await read(tree, ADD) == b"2\n"
    assert await read(tree, SHARPEN) == b"2\n"


async def test_a_restart_reads_what_was_kept_though_the_host_is_gone(trees: Make, tmp_path: Path) -> None:
    host = StaticHost({**CONTENT, "index.json": write_index((path, digest_of(CONTENT[path])) for path in CONTENT)})
    cache = tmp_path / "deep" / "cache"
    async with serving(host) as address:
        tree = trees(address + "/some/place/", cache)
        assert await everything(tree) == CONTENT
        await tree.close()
    again = trees(address + "/some/place", cache)
    assert await everything(again) == CONTENT
    with pytest.raises(Unavailable, match="can't be reached"):
        await again.refresh()
    assert await everything(again) == CONTENT
    assert stat.S_IMODE((cache / "files.sqlite3").stat().st_mode) == 0o600


async def test_a_damaged_cache_is_begun_anew(make: Make, folder: FolderTree, tmp_path: Path) -> None:
    await folder.publish(writing(CONTENT), "x")
    tree = make(tmp_path / "cache")
    assert await everything(tree) == CONTENT
    await tree.close()
    (tmp_path / "cache" / "files.sqlite3").write_bytes(b"not a database at all" * 100)
    again = make(tmp_path / "cache")
    assert await everything(again) == CONTENT


async def test_the_cache_keeps_what_fits(make: Make, folder: FolderTree, controller: Controller) -> None:
    files = {f"ns/_/text/f{n}.jsonl": b"%d" % n * 10_000 for n in range(20)}
    await folder.publish(writing(files), "x")
    tree = make(cache=50_000)
    assert await everything(tree) == files
    assert tree._cache._size <= 50_000
    assert await everything(tree) == files
    assert await make(cache=10).read("ns/_/text/f1.jsonl") is not None


# Static hosts.


async def test_a_static_host_with_an_index(trees: Make) -> None:
    index = write_index([*((path, digest_of(CONTENT[path])) for path in CONTENT), ("../x", "0" * 64)])
    host = StaticHost({**CONTENT, "index.json": index})
    async with serving(host) as address:
        tree = trees(address + "/some/place")
        tag = await tree.refresh()
        assert tag == digest_of(index)
        assert await everything(tree) == CONTENT
        with pytest.raises(Denied, match="does not take publications"):
            await tree.publish(writing({ADD: b"1\n"}), "x")


async def test_a_static_host_without_an_index_is_read_by_name(trees: Make, tmp_path: Path) -> None:
    host = StaticHost(CONTENT)
    cache = tmp_path / "cache"
    async with serving(host) as address:
        tree = trees(address + "/some/place", cache)
        tag = await tree.refresh()
        for _ in range(2):
            assert {path: await read(tree, path) for path in CONTENT} == CONTENT
            assert await tree.read("ns/_/none/none.jsonl") is None
        asked = [path for path, _ in host.asked if path != "index.json"]
        assert sorted(asked) == sorted([*CONTENT, "ns/_/none/none.jsonl"]), "each once"
        with pytest.raises(Unavailable, match=r"no index\.json"):
            await tree.paths()

        assert await tree.refresh() == tag
        host.files |= {ADD: b"new\n"}
        assert await read(tree, ADD) == CONTENT[ADD], "the checkpoint is as it was"
        host.files |= {HEAD: b"2\n"}
        host.files.pop(SHARPEN)
        assert await tree.refresh() != tag
        host.asked.clear()
        assert await read(tree, ADD) == b"new\n"
        assert await tree.read(SHARPEN) is None
        assert await read(tree, "config.json") == CONTENT["config.json"]
        assert host.asked == [(ADD, 200), (SHARPEN, 404), ("config.json", 304)]
    host.files[HEAD] = b"3\n"
    tree._known = {}
    assert await read(tree, ADD) == b"new\n", "what is kept serves while the host is away"
    with pytest.raises(Unavailable):
        await tree.read("ns/_/none/other.jsonl")


async def test_an_index_that_came_later_and_one_that_went(trees: Make) -> None:
    host = StaticHost(CONTENT)
    async with serving(host) as address:
        tree = trees(address + "/some/place")
        await tree.refresh()
        host.files["index.json"] = write_index((path, digest_of(CONTENT[path])) for path in CONTENT)
        await tree.refresh()
        assert await everything(tree) == CONTENT
        del host.files["index.json"]
        await tree.refresh()
        with pytest.raises(Unavailable):
            await tree.paths()
        assert await read(tree, ADD) == CONTENT[ADD]


# Publishing.


async def test_two_names_published_at_once_do_not_hinder_each_other(make: Make, folder: FolderTree) -> None:
    first, second = make(), make()
    inside, go = asyncio.Event(), asyncio.Event()
    calls = 0

    async def slow(reader: Reader) -> Mapping[str, bytes]:
        nonlocal calls
        calls += 1
        there = await reader.read(ADD)
        inside.set()
        await go.wait()
        return {ADD: (there.data if there else b"") + b"slow\n"}

    task = asyncio.create_task(first.publish(slow, "slow"))
    await inside.wait()
    await second.publish(writing({SHARPEN: b"1\n"}), "x")
    go.set()
    await task
    assert calls == 1
    assert await everything(folder) == {ADD: b"slow\n", SHARPEN: b"1\n"}


async def test_who_listed_the_tree_is_asked_again_when_the_list_changed(make: Make, folder: FolderTree) -> None:
    first, second = make(), make()
    calls = 0

    async def counting(reader: Reader) -> Mapping[str, bytes]:
        nonlocal calls
        calls += 1
        count = len(await reader.paths("ns/"))
        if calls == 1:
            await second.publish(writing({SHARPEN: b"1\n"}), "x")
        return {HEAD: b"%d" % count}

    await first.publish(counting, "x")
    assert calls == 2
    assert await everything(folder) == {HEAD: b"1", SHARPEN: b"1\n"}


async def test_a_publication_needs_no_second_index(make: Make, controller: Controller) -> None:
    tree = make()
    tag = await tree.publish(writing(CONTENT), "x")
    before = len(controller.asked)
    assert await everything(tree) == CONTENT
    assert len(controller.asked) == before
    assert await tree.refresh() == tag
    assert controller.asked[-1] == ("GET", "index.json", 304)


async def test_without_the_token_it_is_denied(make: Make, folder: FolderTree) -> None:
    with pytest.raises(Denied, match="may not publish here"):
        await make(token="another").publish(writing({ADD: b"1\n"}), "x")
    assert await folder.paths() == []


async def test_too_much_for_one_request(make: Make) -> None:
    files = {f"ns/_/text/f{n}.jsonl": b"x" * (4 << 20) for n in range(MAX_BATCH // (4 << 20) + 1)}
    with pytest.raises(UsageError, match="at most"):
        await make().publish(writing(files), "x")


async def test_races_without_end_are_a_conflict(make: Make) -> None:
    first, second = make(publish_s=0.3), make()
    count = itertools.count()

    async def overtaken(reader: Reader) -> Mapping[str, bytes]:
        await reader.read(ADD)
        await second.publish(writing({ADD: b"%d\n" % next(count)}), "x")
        return {ADD: b"never\n"}

    with pytest.raises(Conflict, match="others were faster"):
        await first.publish(overtaken, "x")
    assert await read(second, ADD) != b"never\n"


async def test_an_answer_that_was_lost_is_found_out(folder: FolderTree, make: Make, controller: Controller) -> None:
    tree = make()
    await tree.publish(writing({ADD: b"1\n"}), "x")
    put = tree._fetch.put

    async def lost(*arguments: object, **options: object) -> bytes:
        await put(*arguments, **options)  # type: ignore[arg-type]
        raise Unavailable("the line broke", maybe=True)

    tree._fetch.put = lost  # type: ignore[method-assign, assignment]
    tag = await tree.publish(appending(ADD, b"2\n"), "x")
    assert await read(folder, ADD) == b"1\n2\n"
    assert tag == await make().refresh()


# URLs.


@pytest.mark.parametrize(
    "url",
    [
        "", "host/x", "ftp://host/x", "https://", "https://host:port/x", "https://user:secret@host/x",
        "https://host/x?y", "https://host/x#y", "https://host/ x", "https://host/\n", "https://" + "h" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        HttpTree("x", url)
    assert "secret" not in str(caught.value)


def test_a_token_is_not_sent_in_the_clear() -> None:
    with pytest.raises(UsageError, match="use https"):
        HttpTree("x", "http://registry.example/tree", token=TOKEN)
    HttpTree("x", "http://127.0.0.1:1/tree", token=TOKEN)
    assert TOKEN not in repr(HttpTree("x", "https://registry.example/tree", token=TOKEN))
