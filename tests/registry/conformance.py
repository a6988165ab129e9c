"""What every tree must do, whatever it is kept in: the tests of each back-end run all of :data:`CHECKS`.

A test brings a :data:`Make`: each call opens the same registry anew, as another machine would, able to publish. It
begins empty, and each check gets its own. :data:`CONTENT` is the same for all, so that they agree to the byte::

    @pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
    async def test_it_is_a_tree(check: conformance.Check, make: conformance.Make) -> None:
        await check(make)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final

import pytest

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.registry.tree import MAX_FILE, Change, Reader, Tagged, Tree

Make = Callable[[], Awaitable[Tree]]
Check = Callable[[Make], Awaitable[None]]

ADD, SHARPEN, KEYS, HEAD = (
    "ns/_/math/add.jsonl",
    "ns/acme.com/image/sharpen.jsonl",
    "ns/acme.com/_keys.json",
    "checkpoint",
)
PUBLISHERS: Final = 8

_LINE: Final = b'{"payload":{"name":"math/add","text":"gr\xc3\xb6\xc3\x9fer\\u0000"},"signatures":[]}\n'
CONTENT: Final[Mapping[str, bytes]] = {
    "config.json": b'{"format":"osiris-registry/1","id":"conformance","name":"conformance"}',
    "root.json": _LINE,
    HEAD: b'{"payload":{"sequence":1},"signatures":[]}\n',
    KEYS: _LINE * 3,
    ADD: _LINE,
    SHARPEN: _LINE * 5000,  # several blocks of IPFS, several entries of the ledger
    "ns/acme.com/image/sharpen.v2.jsonl": _LINE,
    "ns/acme.com/image-processing/Sharpen.jsonl": _LINE * 2,
}
DIGEST: Final = sha256(b"".join(path.encode() + b"\0" + CONTENT[path] for path in sorted(CONTENT))).hexdigest()


def name_of(check: Check) -> str:
    """Return a check's name, for pytest."""
    return getattr(check, "__name__", "check")


def writing(files: Mapping[str, bytes]) -> Change:
    """Return a change that writes files whatever is there."""

    async def change(_reader: Reader) -> Mapping[str, bytes]:
        return files

    return change


def appending(path: str, line: bytes, **more: bytes) -> Change:
    """Return a change that adds a line to what is there, as a publication does, and moves the head."""

    async def change(reader: Reader) -> Mapping[str, bytes]:
        there, head = await reader.read(path), await reader.read(HEAD)
        count = int(head.data) if head is not None else 0
        return {path: (there.data if there is not None else b"") + line, HEAD: b"%d" % (count + 1), **more}

    return change


async def read(tree: Tree, path: str) -> bytes | None:
    """Return a file's bytes."""
    blob = await tree.read(path)
    return blob.data if blob is not None else None


async def everything(tree: Tree) -> dict[str, bytes]:
    """Return all of a tree."""
    found = {}
    for path in await tree.paths():
        data = await read(tree, path)
        assert data is not None, path
        found[path] = data
    return found


async def nothing_at_first(make: Make) -> None:
    tree = await make()
    await tree.refresh()
    assert await tree.paths() == []
    assert await tree.read(ADD) is None
    assert await tree.read(HEAD) is None


async def what_is_written_is_read_elsewhere_to_the_byte(make: Make) -> None:
    here, there = await make(), await make()
    tag = await here.publish(writing(CONTENT), "all")
    assert await everything(here) == CONTENT
    assert await there.refresh() == tag == await here.refresh()
    found = await everything(there)
    assert found == CONTENT
    joined = b"".join(path.encode() + b"\0" + found[path] for path in await there.paths())
    assert sha256(joined).hexdigest() == DIGEST


async def paths_by_their_beginning(make: Make) -> None:
    tree = await make()
    await tree.publish(writing(CONTENT), "all")
    for prefix in (
        "",
        "ns/",
        "ns/acme.com/image",
        "ns/acme.com/image/",
        "ns/_/math/add",
        "c",
        "ns/acme.com/image/s",
        "x",
    ):
        assert await tree.paths(prefix) == sorted(path for path in CONTENT if path.startswith(prefix)), prefix


async def what_is_not_there_is_none(make: Make) -> None:
    tree = await make()
    await tree.publish(writing(CONTENT), "all")
    for path in (
        "ns/_/math/sub.jsonl", "ns/_/math", "ns/_/math/", "ns", "ns/_/none/add.jsonl", "ns/_/math/add.jsonl/x",
        "ns//math", "/config.json", "config.json/", "../config.json", "ns/../config.json", "./config.json",
        "x" * 5000, "CONFIG.JSON",
    ):  # fmt: skip
        assert await tree.read(path) is None, path


async def histories_grow_and_the_tag_moves(make: Make) -> None:
    tree, other = await make(), await make()
    tags = [await tree.publish(appending(ADD, b"%d\n" % number), "one more") for number in range(3)]
    assert len(set(tags)) == 3
    await other.refresh()
    assert await everything(other) == {ADD: b"0\n1\n2\n", HEAD: b"3"}
    await tree.publish(writing({HEAD: b"4"}), "the head alone")
    assert await everything(tree) == {ADD: b"0\n1\n2\n", HEAD: b"4"}


async def what_is_there_can_be_written_anew(make: Make) -> None:
    """As when a vendor's lines are signed with his next key."""
    tree, other = await make(), await make()
    await tree.publish(writing({ADD: b"1\n2\n", SHARPEN: b"1\n", HEAD: b"1"}), "first")
    await tree.publish(writing({ADD: b"one\ntwo\n", HEAD: b"2"}), "renewed")
    await other.refresh()
    assert await everything(other) == {ADD: b"one\ntwo\n", SHARPEN: b"1\n", HEAD: b"2"}


async def writing_what_is_there_changes_nothing(make: Make) -> None:
    tree = await make()
    tag = await tree.publish(writing(CONTENT), "all")
    assert await tree.publish(writing(CONTENT), "again") == tag
    assert await tree.publish(writing({}), "nothing") == tag
    assert await everything(tree) == CONTENT


async def who_was_overtaken_is_asked_again(make: Make) -> None:
    slow, fast = await make(), await make()
    await slow.publish(appending(ADD, b"first\n"), "first")
    asked = 0

    async def change(reader: Reader) -> Mapping[str, bytes]:
        nonlocal asked
        asked += 1
        files = await appending(ADD, b"slow\n")(reader)
        if asked == 1:
            await fast.publish(appending(ADD, b"fast\n"), "in between")
        return files

    await slow.publish(change, "slow")
    await fast.refresh()
    assert asked >= 2
    assert await everything(fast) == {ADD: b"first\nfast\nslow\n", HEAD: b"3"}


async def nobody_is_lost_when_many_publish_at_once(make: Make) -> None:
    trees = [await make() for _ in range(PUBLISHERS)]
    changes = [
        appending(ADD, b"%d\n" % number, **{f"ns/_/of-{number}/own.jsonl": b"%d\n" % number})
        for number in range(PUBLISHERS)
    ]
    await asyncio.gather(*(tree.publish(change, "mine") for tree, change in zip(trees, changes, strict=True)))
    last = await make()
    await last.refresh()
    found = await everything(last)
    assert sorted(found.pop(ADD).splitlines()) == [b"%d" % number for number in range(PUBLISHERS)]
    assert found.pop(HEAD) == b"%d" % PUBLISHERS
    assert found == {f"ns/_/of-{number}/own.jsonl": b"%d\n" % number for number in range(PUBLISHERS)}


async def tags_move_with_their_files_alone(make: Make) -> None:
    tree, other = await make(), await make()
    if not isinstance(tree, Tagged):
        pytest.skip("this tree gives no tags")
    await tree.publish(writing(CONTENT), "all")
    before = dict((await tree.tags()).items())
    assert sorted(before) == sorted(CONTENT)
    seen: list[dict[str, str]] = []

    async def change(reader: Reader) -> Mapping[str, bytes]:
        if isinstance(reader, Tagged):
            seen.append(dict((await reader.tags()).items()))
        return {ADD: CONTENT[ADD] + _LINE}

    await tree.publish(change, "one more")
    await other.refresh()
    assert isinstance(other, Tagged)
    after = dict((await other.tags()).items())
    assert {path for path in after if before.get(path) != after[path]} == {ADD}
    assert all(0 < len(tag) <= 128 for tag in after.values())
    assert all(tags == before for tags in seen)


async def an_error_of_the_change_is_let_through_and_nothing_is_written(make: Make) -> None:
    tree = await make()
    await tree.publish(writing({ADD: b"1\n"}), "first")

    async def change(_reader: Reader) -> Mapping[str, bytes]:
        raise Conflict("version 1.0.0 is there")

    with pytest.raises(Conflict, match="is there"):
        await tree.publish(change, "fails")
    assert await everything(tree) == {ADD: b"1\n"}


async def what_is_too_large_is_refused_and_nothing_is_written(make: Make) -> None:
    tree = await make()
    await tree.publish(writing({ADD: b"1\n"}), "first")
    large = b"1\n" * (MAX_FILE // 2 + 1)
    with pytest.raises(UsageError):
        await tree.publish(writing({ADD: large, SHARPEN: b"1\n"}), "too large")
    for path in ("../x", "ns/../x", "/etc/x", "ns//x", "", "ns/_/a/" + "x" * 600 + ".jsonl"):
        with pytest.raises(UsageError):
            await tree.publish(writing({path: b"1\n"}), "no path")
    assert await everything(tree) == {ADD: b"1\n"}


async def the_largest_file_comes_back_whole(make: Make) -> None:
    tree, other = await make(), await make()
    line = b"x" * 8191 + b"\n"
    data = line * (MAX_FILE // len(line))
    assert len(data) == MAX_FILE
    await tree.publish(writing({SHARPEN: data}), "large")
    await other.refresh()
    assert await read(other, SHARPEN) == data


CHECKS: Final[tuple[Check, ...]] = (
    nothing_at_first,
    what_is_written_is_read_elsewhere_to_the_byte,
    paths_by_their_beginning,
    what_is_not_there_is_none,
    histories_grow_and_the_tag_moves,
    what_is_there_can_be_written_anew,
    writing_what_is_there_changes_nothing,
    who_was_overtaken_is_asked_again,
    nobody_is_lost_when_many_publish_at_once,
    tags_move_with_their_files_alone,
    an_error_of_the_change_is_let_through_and_nothing_is_written,
    what_is_too_large_is_refused_and_nothing_is_written,
    the_largest_file_comes_back_whole,
)
