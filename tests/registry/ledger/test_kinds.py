"""Entries about the registry's files: who may write what, and that nobody's write is lost."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.ledger.draft import draft
from osiris_mesh.ledger.kinds import Body, RegistryRemove, RegistryWrite, RoleSet, UserAdd, read
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.shapes import MAX_CHANGES, MAX_PIECE
from osiris_mesh.ledger.state import Context
from osiris_mesh.ledger.tree import MAX_TREE_FILE, PLACE, head_after, subject_of
from osiris_mesh.ledger.views import entry_view, subject
from tests.ledger.kit import ADMIN, DEVELOPER, FOUNDER, OPERATOR, STRANGER, VIEWER, Paper, key

ADD, SUB = "ns/_/math/add.jsonl", "ns/_/math/sub.jsonl"
TEAM = key("team")


def write(*changes: tuple[str, bytes, bytes]) -> RegistryWrite:
    return RegistryWrite([list(change) for change in sorted(changes)])


def refused(outcome: Outcome, code: str) -> None:
    assert (outcome.accepted, outcome.code) == (False, code), outcome


def files(paper: Paper) -> dict[str, bytes]:
    return {path: file.data for path, file in paper.state.tree.items()}


def totals(paper: Paper) -> tuple[int, int]:
    return paper.state.tree_files, paper.state.tree_bytes


def counted(paper: Paper) -> tuple[int, int]:
    return len(paper.state.tree), sum(len(file.data) for file in paper.state.tree.values())


def test_histories_grow_and_the_head_is_replaced() -> None:
    paper = Paper().begin()
    paper.must(write((ADD, b"", b"one\n"), ("checkpoint", b"", b"1")), DEVELOPER)
    heads = {path: file.head for path, file in paper.state.tree.items()}
    assert heads[ADD] == sha256(b"osiris/registry-file/v1\0one\n").digest()
    paper.must(write((ADD, heads[ADD], b"two\n"), ("checkpoint", heads["checkpoint"], b"2")), DEVELOPER)
    assert files(paper) == {ADD: b"one\ntwo\n", "checkpoint": b"2"}
    assert paper.state.tree[ADD].head == head_after(heads[ADD], b"two\n")
    assert totals(paper) == counted(paper) == (2, 9)
    assert paper.state.tree_height == paper.replica.tip.height


def test_of_two_that_read_the_same_one_is_refused_and_nothing_of_it_is_written() -> None:
    paper = Paper().begin()
    paper.must(write((ADD, b"", b"one\n")), DEVELOPER)
    head = paper.state.tree[ADD].head
    first = paper.entry(write((ADD, head, b"two\n")), DEVELOPER)
    second = paper.entry(write((ADD, head, b"too\n"), (SUB, b"", b"new\n")), ADMIN)
    block = paper.command([first.bytes, second.bytes])
    assert block is not None
    assert [outcome.code for outcome in block.outcomes] == ["", "conflict"]
    assert files(paper) == {ADD: b"one\ntwo\n"}
    assert totals(paper) == counted(paper)
    refused(paper.put(write((ADD, b"", b"three\n")), DEVELOPER), "conflict")
    refused(paper.put(write((SUB, bytes(32), b"three\n")), DEVELOPER), "conflict")


def test_the_same_head_again_changes_nothing() -> None:
    paper = Paper().begin()
    paper.must(write(("checkpoint", b"", b"1")), DEVELOPER)
    there = paper.state.tree["checkpoint"]
    outcome = paper.put(write(("checkpoint", there.head, b"1")), DEVELOPER)
    assert (outcome.accepted, outcome.code, paper.state.tree["checkpoint"]) == (True, "unchanged", there)


def test_where_each_byte_comes_from() -> None:
    paper = Paper().begin()
    entries = []
    head = b""
    for line in (b"one\n", b"three\n"):
        entry = paper.entry(write((ADD, head, line)), DEVELOPER)
        paper.command([paper.entry(write(("checkpoint", b"", line)), DEVELOPER).bytes, entry.bytes])
        entries.append((paper.replica.tip.height, entry.hash[:8]))
        head = paper.state.tree[ADD].head
    places = list(PLACE.iter_unpack(paper.state.tree[ADD].places))
    assert places == [(4, *entries[0]), (10, *entries[1])]


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("config.json", ""),
        ("root.json", ""),
        ("checkpoint", ""),
        ("ns/_/_keys.json", ""),
        ("ns/acme.com/_keys.json", "acme.com/*/*"),
        ("ns/_/math/add.jsonl", "math/add"),
        ("ns/acme.com/image/sharpen.jsonl", "acme.com/image/sharpen"),
    ],
)
def test_paths_and_the_names_they_are_about(path: str, subject: str) -> None:
    assert subject_of(path) == subject


@pytest.mark.parametrize(
    "path",
    [
        "x", "ns", "ns/_", "ns/_/math", "ns/_/math/add", "ns/_/math/add.json", "ns/_/../add.jsonl", "ns/_/math/.jsonl",
        "ns/acme/_keys.json", "ns/Acme.com/_keys.json", "ns/acme.com/math/a/b.jsonl", "ns//math/add.jsonl",
        "ns/_/math/add.jsonl/", "/config.json",
        "nt/_/math/add.jsonl", "ns/_/_keys.json/x.jsonl", "ns/acme/math/add.jsonl",
    ],
)  # fmt: skip
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(UsageError):
        subject_of(path)
    paper = Paper().begin()
    refused(paper.put(write((path, b"", b"x")), ADMIN), "body")


def test_who_may_write_what() -> None:
    paper = Paper().begin()
    paper.must(RoleSet("team", ["registry.publish:team/*"]), ADMIN)
    paper.must(UserAdd(TEAM.public, "tea", "team"), ADMIN)
    for author in (VIEWER, STRANGER, FOUNDER):
        outcome = paper.put(write((ADD, b"", b"1")), author)
        assert (outcome.accepted, outcome.code in {"role", "author"}) == (False, True)
    for path in (
        "config.json",
        "root.json",
        "ns/_/_keys.json",
        "ns/acme.com/_keys.json",
        ADD,
        "ns/team.com/team/x.jsonl",
    ):
        refused(paper.put(write((path, b"", b"1")), TEAM), "role")
        paper.must(write((path, b"", b"1")), OPERATOR)
    for path in ("config.json", "root.json", "ns/_/_keys.json"):
        refused(paper.put(write((path, paper.state.tree[path].head, b"2")), DEVELOPER), "role")
    paper.must(write(("checkpoint", b"", b"1"), ("ns/_/team/x.jsonl", b"", b"1")), TEAM)
    refused(paper.put(write((SUB, b"", b"1"), ("ns/_/team/y.jsonl", b"", b"1")), TEAM), "role")
    assert SUB not in paper.state.tree


def test_a_spoiled_history_is_taken_away_by_who_may_write_all() -> None:
    paper = Paper().begin()
    paper.must(RoleSet("team", ["registry.publish:math/*"]), ADMIN)
    paper.must(UserAdd(TEAM.public, "tea", "team"), ADMIN)
    paper.must(write((ADD, b"", b"noise")), TEAM)
    head = paper.state.tree[ADD].head
    refused(paper.put(RegistryRemove(ADD, head), TEAM), "role")
    refused(paper.put(RegistryRemove(ADD, head), DEVELOPER), "role")
    refused(paper.put(RegistryRemove(ADD, bytes(32)), OPERATOR), "conflict")
    refused(paper.put(RegistryRemove(SUB, head), OPERATOR), "unknown")
    paper.must(RegistryRemove(ADD, head), OPERATOR)
    assert (files(paper), totals(paper)) == ({}, (0, 0))
    paper.must(write((ADD, b"", b"good\n")), TEAM)


def test_a_file_has_a_bound() -> None:
    paper = Paper().begin()
    head = b""
    for _ in range(MAX_TREE_FILE // MAX_PIECE):
        paper.must(write((ADD, head, bytes(MAX_PIECE))), DEVELOPER)
        head = paper.state.tree[ADD].head
    refused(paper.put(write((ADD, head, bytes(MAX_PIECE))), DEVELOPER), "full")
    assert totals(paper) == counted(paper)


def test_the_tree_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper().begin()
    monkeypatch.setattr("osiris_mesh.ledger.tree.MAX_TREE_FILES", 1)
    paper.must(write((ADD, b"", b"1")), DEVELOPER)
    refused(paper.put(write((SUB, b"", b"1")), DEVELOPER), "full")
    monkeypatch.setattr("osiris_mesh.ledger.tree.MAX_TREE_FILES", 2)
    monkeypatch.setattr("osiris_mesh.ledger.tree.MAX_TREE_BYTES", 5)
    refused(paper.put(write((SUB, b"", b"12345")), DEVELOPER), "full")
    paper.must(write((SUB, b"", b"1234")), DEVELOPER)
    assert totals(paper) == counted(paper) == (2, 5)


GOOD: list[Any] = [[ADD, b"", b"x"]]


@pytest.mark.parametrize(
    "changes",
    [
        [], [[]], [[ADD, b""]], [[ADD, b"", b""]], [[ADD, b"x", b"x"]], [[ADD, "", b"x"]], [[ADD, b"", "x"]],
        [[b"a", b"", b"x"]], [["", b"", b"x"]], [["a\n", b"", b"x"]], [["ä", b"", b"x"]], [["a" * 513, b"", b"x"]],
        [[ADD, b"", bytes(MAX_PIECE + 1)]], [*GOOD, *GOOD], [[SUB, b"", b"x"], *GOOD], "x", None,
        [[f"{at:06}", b"", b"x"] for at in range(MAX_CHANGES + 1)],
    ],
)  # fmt: skip
def test_bodies_that_are_none(changes: Any) -> None:
    with pytest.raises(Refused):
        read("registry.write", [changes])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((ADD, SUB, "checkpoint")), st.booleans(), st.binary(min_size=1, max_size=3)),
        max_size=12,
    )
)
def test_a_draft_and_a_second_node_agree_and_leave_no_trace(steps: list[tuple[str, bool, bytes]]) -> None:
    paper, other = Paper().begin(), Paper()
    for _, index, wire in paper.commands:
        other.replica.apply(1, index, wire)
    for path, right, data in steps:
        there = paper.state.tree.get(path)
        head = there.head if there is not None and right else b""
        entry = paper.entry(write((path, head, data)), DEVELOPER)
        before = (files(paper), totals(paper))
        tried = draft(paper.state).apply(entry, Context(paper.replica.tip.height + 1, paper.clock.time_ms()))
        assert (files(paper), totals(paper)) == before
        block = paper.command([entry.bytes])
        assert block is not None
        assert block.outcomes[0] == tried
        other.replica.apply(*paper.commands[-1])
    assert other.replica.state.tree == paper.state.tree
    assert totals(other) == totals(paper) == counted(paper)


def test_who_asks_sees_what_was_written() -> None:
    paper = Paper().begin()
    bodies: list[tuple[Body, str]] = [
        (write((ADD, b"", b"1"), (SUB, b"", b"2")), f"{ADD}, {SUB}"),
        (RegistryRemove(ADD, head_after(b"", b"1")), ADD),
    ]
    for body, said in bodies:
        entry = paper.entry(body, ADMIN)
        block = paper.command([entry.bytes])
        assert block is not None
        view = entry_view(entry, block.outcomes[0], paper.state, bodies=True)
        assert (view["summary"], view["accepted"]) == (said, True)
        assert subject(entry, read(entry.kind, entry.body), paper.state.names) == (ADD, "")
