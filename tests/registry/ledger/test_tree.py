"""A registry in the ledger: a tree like all others, written by users, read from the state of any node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import Conflict, DeadlineExceeded, Denied, NotFound, Overloaded, Unavailable, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.entry import MAX_ENTRY, Entry
from osiris_mesh.ledger.kinds import RegistryWrite, RoleSet, UserAdd, read
from osiris_mesh.ledger.outcome import Receipt
from osiris_mesh.ledger.records import TreeFile
from osiris_mesh.ledger.shapes import MAX_CHANGES, MAX_PIECE
from osiris_mesh.ledger.tree import head_after
from osiris_mesh.registry.tree import Reader
from osiris_mesh.registry.tree_ledger import Place, TreeLedger, key_signer, writes
from tests.ledger.kit import (
    ADMIN,
    DEVELOPER,
    FOUNDER,
    JOINER,
    MESH,
    VIEWER,
    Agreement,
    Node,
    Paper,
    genesis,
    key,
    until,
)
from tests.registry import conformance
from tests.registry.conformance import ADD, HEAD, SHARPEN, appending, everything, writing

TEAM = key("team")
Open = Callable[[KeyPair | None], TreeLedger]


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    agreement = Agreement()
    nodes = [await Node(tmp_path / key.public.hex(), agreement, key).start() for key in (FOUNDER, JOINER)]
    await nodes[0].put(genesis([FOUNDER, JOINER]), FOUNDER)
    for user, role in ((DEVELOPER, "developer"), (VIEWER, "viewer")):
        await nodes[0].put(UserAdd(user.public, role, role), ADMIN)
    await until(lambda: nodes[1].ledger.tip == nodes[0].ledger.tip)
    yield nodes
    for node in nodes:
        await node.close()


@pytest.fixture
def make(nodes: list[Node]) -> conformance.Make:
    made = 0

    async def make() -> TreeLedger:
        nonlocal made
        made += 1
        node = nodes[made % 2]
        # A follower's copy arrives a moment later; the checks are about trees, not about that.
        await until(lambda: nodes[0].ledger.tip == nodes[1].ledger.tip)
        return TreeLedger("mesh", node.ledger, signer=key_signer(ADMIN, MESH, node.clock))

    return make


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
async def test_it_is_a_tree(check: conformance.Check, make: conformance.Make) -> None:
    await check(make)


def tree(node: Node, author: KeyPair | None) -> TreeLedger:
    signer = key_signer(author, MESH, node.clock) if author is not None else None
    return TreeLedger("mesh", node.ledger, signer=signer)


async def test_who_may_publish(nodes: list[Node]) -> None:
    node = nodes[0]
    await node.put(RoleSet("team", ["registry.publish:team/*"]), ADMIN)
    await node.put(UserAdd(TEAM.public, "tea", "team"), ADMIN)
    own = "ns/_/team/x.jsonl"
    await tree(node, TEAM).publish(appending(own, b"1\n"), "own")
    await tree(node, DEVELOPER).publish(appending(ADD, b"1\n"), "another's")
    for author, path in ((TEAM, ADD), (VIEWER, own), (FOUNDER, own), (key("nobody"), own), (DEVELOPER, "root.json")):
        with pytest.raises(Denied):
            await tree(node, author).publish(appending(path, b"2\n"), "not his")
    with pytest.raises(Denied, match="nobody signs"):
        await tree(node, None).publish(appending(own, b"2\n"), "nobody")
    assert await everything(tree(node, None)) == {own: b"1\n", ADD: b"1\n", HEAD: b"2"}


async def test_a_history_is_rewritten_by_who_may_manage_and_seen_to_be(nodes: list[Node]) -> None:
    mine = tree(nodes[0], ADMIN)
    await mine.publish(writing({ADD: b"1\n2\n", SHARPEN: b"s\n"}), "first")
    for data in (b"1\n", b"1\nx\n"):
        with pytest.raises(Denied):
            await tree(nodes[0], DEVELOPER).publish(writing({ADD: data, HEAD: b"2"}), "rewritten")
    with pytest.raises(UsageError, match="empty"):
        await mine.publish(writing({ADD: b""}), "emptied")
    assert await everything(mine) == {ADD: b"1\n2\n", SHARPEN: b"s\n"}
    # Lines signed anew with the next key.
    await mine.publish(writing({ADD: b"1'\n2'\n", SHARPEN: b"s'\n", HEAD: b"2"}), "renewed")
    assert await everything(mine) == {ADD: b"1'\n2'\n", SHARPEN: b"s'\n", HEAD: b"2"}
    block = nodes[0].ledger.block(nodes[0].ledger.tip.height)
    kinds = [entry.kind for entry in block.entries if entry is not None]
    assert kinds == ["registry.remove", "registry.remove", "registry.write"]


async def test_a_spoiled_file_is_taken_away(nodes: list[Node]) -> None:
    mine = tree(nodes[0], ADMIN)
    await mine.publish(writing({ADD: b"noise"}), "spoiled")
    with pytest.raises(Denied):
        await tree(nodes[0], DEVELOPER).remove(ADD)
    before = await mine.refresh()
    assert await mine.remove(ADD) != before
    with pytest.raises(NotFound):
        await mine.remove(ADD)
    await mine.publish(writing({ADD: b"1\n"}), "good")
    assert await everything(mine) == {ADD: b"1\n"}


async def test_which_entry_brought_what(nodes: list[Node]) -> None:
    node = nodes[0]
    mine = tree(node, ADMIN)
    await mine.publish(writing({SHARPEN: b"x" * 1000 + b"\n", HEAD: b"1"}), "other")
    await mine.publish(writing({ADD: b"1\n"}), "first")
    await mine.publish(writing({ADD: b"1\n2\n"}), "second")
    places = mine.places(ADD)
    assert [(place.start, place.end) for place in places] == [(0, 2), (2, 4)]
    for place, added in zip(places, (b"1\n", b"2\n"), strict=True):
        block = node.ledger.block(place.height)
        entry = block.entries[place.index - block.header.first]
        assert entry is not None
        assert entry.hash == place.hash
        assert [ADD, added] in [[path, data] for path, _, data in read(entry.kind, entry.body).body()[0]]
    assert isinstance(places[0], Place)
    with pytest.raises(NotFound):
        mine.places("ns/_/math/sub.jsonl")


async def test_a_node_that_starts_again_has_the_same_tree(nodes: list[Node]) -> None:
    mine = tree(nodes[0], ADMIN)
    await mine.publish(writing(conformance.CONTENT), "all")
    places = {path: mine.places(path) for path in conformance.CONTENT}
    await nodes[0].close()
    await nodes[0].start()
    assert await everything(mine) == conformance.CONTENT
    assert {path: mine.places(path) for path in conformance.CONTENT} == places


class Broken:
    """A ledger whose proposals fail."""

    def __init__(self, node: Node, error: Exception) -> None:
        self._node = node
        self._error = error

    def __getattr__(self, name: str) -> object:
        return getattr(self._node.ledger, name)

    async def propose(self, _entries: Sequence[bytes], *, timeout: float) -> Receipt:
        raise self._error


@pytest.mark.parametrize(
    ("error", "maybe"),
    [
        (DeadlineExceeded("late", maybe=True), True),
        (DeadlineExceeded("late", maybe=False), False),
        (Overloaded("busy"), False),
        (Unavailable("no quorum", maybe=False), False),
    ],
)
async def test_a_ledger_that_can_not_be_written(nodes: list[Node], error: Exception, maybe: bool) -> None:
    signer = key_signer(ADMIN, MESH, nodes[0].clock)
    broken = TreeLedger("mesh", Broken(nodes[0], error), signer=signer)  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as raised:
        await broken.publish(writing({ADD: b"1\n"}), "lost")
    assert raised.value.details["maybe"] is maybe


async def test_a_long_publication_that_is_cut_in_two_is_not_repeated(nodes: list[Node]) -> None:
    mine, other = tree(nodes[0], ADMIN), tree(nodes[0], DEVELOPER)
    lines = (b"x" * 1023 + b"\n") * 1000
    meddled = False
    sign = key_signer(ADMIN, MESH, nodes[0].clock)

    async def signer(kind: str, body: list[object]) -> bytes:
        # Between two blocks of the same publication somebody else writes to the same history.
        nonlocal meddled
        if not meddled and nodes[0].ledger.state.tree.get(ADD) is not None:
            meddled = True
            await other.publish(appending(ADD, b"other\n"), "in between")
        return await sign(kind, body)

    asked = 0

    async def change(_reader: Reader) -> Mapping[str, bytes]:
        nonlocal asked
        asked += 1
        return {ADD: lines}

    with pytest.raises(Conflict, match="part of it is there"):
        await TreeLedger("mesh", nodes[0].ledger, signer=signer).publish(change, "long")
    assert (meddled, asked) == (True, 1)
    data = await conformance.read(mine, ADD)
    assert data is not None
    assert data.endswith(b"other\n")
    assert lines.startswith(data.removesuffix(b"other\n"))


# The pure part

PATHS = st.sampled_from(("checkpoint", "config.json", "root.json", ADD, SHARPEN, "ns/acme.com/_keys.json"))
LINE = st.integers(1, 70_000).map(lambda size: b"x" * (size - 1) + b"\n")
FILES = st.dictionaries(PATHS, st.lists(LINE, min_size=1, max_size=5).map(b"".join), max_size=6)


@settings(max_examples=40, deadline=None)
@given(FILES, FILES)
def test_entries_bring_what_is_asked_for_each_within_its_bounds(old: dict[str, bytes], more: dict[str, bytes]) -> None:
    paper = Paper().begin()

    def bring(files: Mapping[str, bytes]) -> None:
        for body in writes(files, paper.state.tree.get):
            assert isinstance(body, RegistryWrite)
            assert len(body.changes) <= MAX_CHANGES
            assert len(Entry.make(body.KIND, body.body(), ADMIN, MESH, paper.clock).bytes) <= MAX_ENTRY
            paper.must(body, ADMIN)

    first = {path: data[:MAX_PIECE] if path in {"checkpoint", "config.json"} else data for path, data in old.items()}
    bring(first)
    second = {
        path: data[:MAX_PIECE] if path in {"checkpoint", "config.json"} else first.get(path, b"") + data
        for path, data in more.items()
    }
    bring(second)
    assert {path: file.data for path, file in paper.state.tree.items()} == first | second
    assert writes(first | second, paper.state.tree.get) == []


def test_small_publications_are_one_entry_and_the_head_comes_last() -> None:
    files = {HEAD: b"1", ADD: b"1\n", "root.json": b"r\n"}
    assert len(writes(files, lambda _: None)) == 1
    large = {ADD: b"x" * 60_000 + b"\n", SHARPEN: b"x" * 80_000 + b"\n", HEAD: b"1", "root.json": b"r" * 90_000 + b"\n"}
    order = [[change[0] for change in body.body()[0]] for body in writes(large, lambda _: None)]
    assert order == [["root.json"], [ADD], [HEAD, SHARPEN]]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"x": b"1"}, "no file"),
        ({HEAD: bytes(MAX_PIECE + 1)}, "one entry"),
        ({ADD: bytes(MAX_PIECE + 1)}, "line"),
        ({ADD: b"x\n" * (2 << 20) + b"x"}, "more than"),
    ],
)
def test_what_no_entry_can_bring(files: dict[str, bytes], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        writes(files, lambda _: None)


def test_heads_follow_each_other() -> None:
    there = TreeFile(b"1\n", head_after(b"", b"1\n"), b"")
    lines = b"1\n" + (b"x" * 60_000 + b"\n") * 2
    first, second = writes({ADD: lines}, lambda _: there)
    assert isinstance(first, RegistryWrite)
    assert first.changes[0][:2] == [ADD, there.head]
    assert second.body()[0][0][1] == head_after(there.head, first.changes[0][2])
