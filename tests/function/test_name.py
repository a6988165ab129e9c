"""Names and versions: one grammar, one order."""

from __future__ import annotations

import itertools
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import FunctionName, Version, qualified

PART = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_-]|\.[A-Za-z0-9]){0,20}", fullmatch=True)
VENDOR = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){1,2}", fullmatch=True)


@settings(max_examples=150)
@given(st.one_of(st.just(""), VENDOR), PART, PART)
def test_what_is_written_reads_back_and_is_a_safe_path(vendor: str, namespace: str, name: str) -> None:
    full = FunctionName(vendor, namespace, name)
    assert FunctionName.parse(str(full)) == full
    assert qualified(str(full)) == str(full)
    path = PurePosixPath(str(full))
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert len(path.parts) == (3 if vendor else 2)


def test_a_name_without_a_slash_lives_in_default() -> None:
    assert qualified("addNumbers") == "default/addNumbers"
    assert FunctionName.parse("acme.com/mail/send") == FunctionName("acme.com", "mail", "send")


@settings(max_examples=300)
@given(st.text(alphabet="ab1./-_ \n\0é~%\\", max_size=20))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        full = qualified(text)
    except UsageError:
        return
    assert full.isascii()
    assert not set(full) - set("ab1./-_default")
    for part in full.split("/"):
        assert part[0].isalnum()
        assert ".." not in part


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "../b",
        "a/..",
        "a/.b",
        "a/b.",
        "a/b..c",
        "-a/b",
        "_a/b",
        "a b/c",
        "a/b\n",
        "a/b\0",
        "á/b",
        "a/" + "b" * 64,
        "x" * 400,
        "nodot/a/b",
        "ACME.com/a/b",
        "acme..com/a/b",
        "-acme.com/a/b",
        "acme.com/a/b/c",
        ("a" * 64) + ".com/a/b",
    ],
)
def test_refused_names(text: str) -> None:
    with pytest.raises(UsageError):
        FunctionName.parse(text)


# versions


IN_ORDER = [
    "0.0.1",
    "0.1.0",
    # Semantic Versioning 2.0.0, section 11
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
]
NUMBER = st.integers(0, 999_999_999)
WORD = st.one_of(NUMBER.map(str), st.from_regex(r"[0-9]{0,3}[A-Za-z-][0-9A-Za-z-]{0,5}", fullmatch=True))
VERSIONS = st.builds(
    lambda major, minor, patch, pre: Version(major, minor, patch, ".".join(pre)),
    NUMBER,
    NUMBER,
    NUMBER,
    st.lists(WORD, max_size=3),
)


def test_precedence_is_that_of_semantic_versioning() -> None:
    versions = [Version.parse(text) for text in IN_ORDER]
    assert sorted(versions) == versions
    assert all(one < other for one, other in itertools.pairwise(versions))


@settings(max_examples=200)
@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_are_totally_ordered(one: Version, two: Version, three: Version) -> None:
    assert Version.parse(str(one)) == one
    assert (one < two) + (two < one) + (one == two) == 1
    if one < two < three:
        assert one < three
    assert one < one.next_patch() or one.next_patch() > one


def test_next_patch_of_a_pre_release_is_its_release() -> None:
    assert str(Version.parse("1.2.3").next_patch()) == "1.2.4"
    assert str(Version.parse("1.2.3-rc.1").next_patch()) == "1.2.3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.02.3",
        "v1.2.3",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3+build",
        "1.2.3 ",
        "1.2.3\n",
        "-1.2.3",
        "1.2.x",
        "٣.0.0",
        "1.2.3-é",
        "9999999999.0.0",
        "1.2.3-" + "a" * 200,
    ],
)
def test_refused_versions(text: str) -> None:
    with pytest.raises(UsageError):
        Version.parse(text)
