"""Names and paths are one to one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, ROOT, keys_path, name_at, path_of, vendor_at
from osiris_mesh.registry.tree import MAX_PATH

parts = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9])){0,62}", fullmatch=True).filter(
    lambda text: len(text) <= 63
)
labels = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
vendors = st.just("") | st.lists(labels, min_size=2, max_size=4).map(".".join)
names = st.builds(FunctionName, vendors, parts, parts)


@settings(max_examples=300)
@given(names, names)
def test_paths_are_injective_and_read_back(one: FunctionName, other: FunctionName) -> None:
    assert name_at(path_of(one)) == one
    assert (path_of(one) == path_of(other)) == (one == other)
    assert len(path_of(one).encode()) <= MAX_PATH
    assert vendor_at(path_of(one)) is None
    assert vendor_at(keys_path(one.vendor)) == (one.vendor or "_")
    assert name_at(keys_path(one.vendor)) is None


@settings(max_examples=300)
@given(st.text(max_size=60) | st.from_regex(r"ns/[_a-z.]{1,9}/[a-z_./]{1,9}/[a-z_.]{1,9}\.jsonl", fullmatch=True))
def test_any_other_path_is_no_name(path: str) -> None:
    found = name_at(path)
    assert found is None or path_of(found) == path
    vendor = vendor_at(path)
    assert vendor is None or keys_path(vendor) == path


@pytest.mark.parametrize(
    "path",
    [
        CONFIG,
        ROOT,
        CHECKPOINT,
        "ns/_/a/../b.jsonl",
        "ns/_/../a/b.jsonl",
        "ns//a/b.jsonl",
        "ns/_/a/b.jsonl/",
        "ns/_/_keys.jsonl",
        "ns/a/b/c.jsonl",
        "ns/_/acme.com/a/b.jsonl",
        "ns/_/a/b.json",
        "ns/_/a/.jsonl",
        "/ns/_/a/b.jsonl",
        "ns/_/a/b\n.jsonl",
    ],
)
def test_paths_that_are_no_names(path: str) -> None:
    assert name_at(path) is None
    assert vendor_at(path) is None


def test_a_name_from_outside_cannot_leave_the_tree() -> None:
    for text in ("../x", "a/..", "..", "a/b/../c", "_/a", "a/_keys"):
        with pytest.raises(UsageError):
            FunctionName.parse(text)
