"""Listings and indexes: tables and properties."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, ROOT, keys_path, path_of
from osiris_mesh.registry.listing import MAX_CHANGE, Listing, check_files, digest_of, is_path, read_index, write_index
from osiris_mesh.registry.tree import MAX_FILE, MAX_PATH

PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,12}", fullmatch=True)
PATH = st.one_of(
    st.sampled_from([CONFIG, ROOT, CHECKPOINT]),
    st.builds(lambda parts: "ns/" + "/".join(parts), st.lists(PART, min_size=2, max_size=3)),
)
FILES = st.dictionaries(PATH, st.binary(max_size=8), max_size=30)


@pytest.mark.parametrize("name", ["math/add", "acme.com/image/sharpen", "a-b.example/A_1/x.y", "default/Add"])
def test_every_place_of_the_layout_is_a_path(name: str) -> None:
    parsed = FunctionName.parse(name)
    assert is_path(path_of(parsed))
    assert is_path(keys_path(parsed.vendor))


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "config.json/", "config.json\n", "./config.json", "CONFIG.json", "config_json", "ns", "ns/", "ns/a",
        "ns/a/", "ns//a", "ns/a/b/c/d", "ns/../a", "ns/a/..", "ns/a/.b", "ns/.git/config", "ns/a/b\\c", "ns/a/b c",
        "ns/a/\u00e4", "ns/a/b\0", "ns/a/" + "b" * MAX_PATH, "/ns/a/b", "NS/a/b", "x/ns/a/b", "checkpoint.1", "ns/a/-b",
    ],
)  # fmt: skip
def test_what_is_no_path(path: str) -> None:
    assert not is_path(path)
    with pytest.raises(UsageError):
        check_files({path: b""})


def test_bounds_of_a_change() -> None:
    check_files({CONFIG: b"x" * MAX_FILE})
    with pytest.raises(UsageError):
        check_files({CONFIG: b"x" * (MAX_FILE + 1)})
    with pytest.raises(UsageError, match="in parts"):
        check_files({f"ns/_/a/f{n}": b"" for n in range(MAX_CHANGE + 1)})


@settings(max_examples=60)
@given(FILES, FILES, PART)
def test_a_listing_is_a_map_in_order(before: dict[str, bytes], more: dict[str, bytes], prefix: str) -> None:
    files = {path: digest_of(data) for path, data in before.items()}
    changes = {path: digest_of(data) if data else None for path, data in more.items()}
    listing = Listing(files.items()).changed(changes)
    wanted = {path: tag for path, tag in (files | changes).items() if tag is not None}
    assert dict(listing.items()) == wanted
    assert len(listing) == len(wanted)
    assert listing.under("") == sorted(wanted)
    for start in ("ns/", "c", "ns/" + prefix, *list(wanted)[:3]):
        assert listing.under(start) == sorted(path for path in wanted if path.startswith(start))
    for path in before.keys() | more.keys():
        assert listing.get(path) == wanted.get(path)


@settings(max_examples=60)
@given(FILES)
def test_an_index_comes_back(files: dict[str, bytes]) -> None:
    digests = {path: digest_of(data) for path, data in files.items()}
    data = write_index(digests.items())
    assert dict(read_index(data).items()) == digests
    assert write_index(sorted(digests.items(), reverse=True)) == data


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_no_bytes_make_an_index_fail_otherwise(data: bytes) -> None:
    try:
        read_index(data)
    except RemoteProtocolError:
        pass


def test_the_index_as_docs_have_it() -> None:
    assert write_index([("config.json", digest_of(b"{}\n"))]) == (
        b'{"files":{"config.json":"ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"},'
        b'"format":"osiris-registry-index/1"}'
    )
