"""The list of registries of a node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import Conflict, NotFound, UsageError
from osiris_mesh.registry.roster import MAX_REGISTRIES, Entry, Roster, kind_of


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("git+https://git.example.com/team/registry", "git"),
        ("git+ssh://git@git.example.com/team/registry", "git"),
        ("git+file:///srv/registry", "git"),
        ("https://git.example.com/team/registry.git", "git"),
        ("ssh://git@git.example.com/registry", "git"),
        ("git@git.example.com:team/registry.git", "git"),
        ("file:///srv/registry.git", "git"),
        ("https://mesh.example.com:7480", "http"),
        ("http://127.0.0.1:7480", "http"),
        ("ipfs://bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", "ipfs"),
        ("ipns://registry.example.com", "ipfs"),
        ("file:///srv/registry", "folder"),
        ("/srv/registry", "folder"),
        ("ledger:", "ledger"),
    ],
)
def test_a_url_means_one_back_end(url: str, kind: str) -> None:
    assert kind_of(url) == kind


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-u",
        "--upload-pack=x",
        "ext::sh -c x",
        "git+ext://x",
        "registry",
        "../registry",
        "ftp://a/b",
        "https://",
        "https://user:secret@example.com/x",
        "git+https://:secret@example.com/x.git",
        "ledger:x",
        "https://[::1",
        "x" * 2000,
        "/srv/a\nb",
        " /srv/a",
    ],
)
def test_what_is_no_url_of_a_registry_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        kind_of(url)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("/srv/registry", True),
        ("file:///srv/registry", True),
        ("FILE:///srv/registry", True),
        ("file:///srv/registry.git", True),
        ("File:///srv/registry.git", True),
        ("git+file:///srv/registry", True),
        ("git+FILE:///srv/registry", True),
        ("GIT+File:///srv/registry", True),
        ("git+https://git.example.com/registry.git", False),
        ("git@git.example.com:team/registry.git", False),
        ("https://mesh.example.com:7480", False),
        ("ipns://registry.example.com", False),
        ("ledger:", False),
    ],
)
def test_a_place_of_this_machine_is_told_however_its_scheme_is_written(url: str, here: bool) -> None:
    assert Entry("team", url).check().is_here is here


def entry(name: str, **more: object) -> Entry:
    return Entry(name, f"/srv/{name}", **more)  # type: ignore[arg-type]


def test_precedence_is_the_order() -> None:
    roster = Roster().add(entry("a")).add(entry("b")).add(entry("c"), first=True)
    assert [each.name for each in roster.entries] == ["c", "a", "b"]
    assert [each.name for each in roster.reorder(["b"]).entries] == ["b", "c", "a"]
    assert [each.name for each in roster.remove("a").entries] == ["c", "b"]
    assert roster.add(entry("a")) is roster
    assert roster.pin("a", "ab" * 32)["a"].pin == "ab" * 32


def test_mistakes_are_told() -> None:
    roster = Roster().add(entry("a"))
    with pytest.raises(Conflict, match="is /srv/a already"):
        roster.add(Entry("a", "/elsewhere"))
    for act in (lambda: roster["b"], lambda: roster.remove("b"), lambda: roster.reorder(["b"])):
        with pytest.raises(NotFound, match="no registry is called 'b'"):
            act()
    for wrong in (
        entry("A"),
        entry(""),
        entry("a/b"),
        entry("b", pin="xy"),
        entry("b", routes=("a b",)),
        entry("b", options=(("password", "x"),)),
        entry("b", options=(("branch", ""),)),
    ):
        with pytest.raises(UsageError):
            roster.add(wrong)
    full = Roster(tuple(entry(f"r{i}") for i in range(MAX_REGISTRIES)))
    with pytest.raises(UsageError, match="at most"):
        full.add(entry("more"))


def test_the_file_holds_it_all() -> None:
    roster = Roster().add(entry("a", pin="ab" * 32, routes=("acme.com/*/*",), options=(("branch", "main"),)))
    assert Roster.from_text(roster.add(Entry("l", "ledger:")).to_text()) == roster.add(Entry("l", "ledger:"))
    for text in (
        "",
        "[]",
        "{}",
        '{"registries": [1]}',
        '{"registries": [{"name": "a"}]}',
        '{"registries": 3}',
        '{"registries": [{"name": "a", "url": "/x", "pin": 3}]}',
    ):
        with pytest.raises(UsageError):
            Roster.from_text(text)


@given(st.text(max_size=80))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        assert kind_of(text) in {"git", "http", "ipfs", "folder", "ledger"}
    except UsageError:
        pass
