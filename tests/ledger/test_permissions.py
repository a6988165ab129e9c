"""Grants: their grammar, what they cover, and when one reaches further than another."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.ledger.permissions import (
    BUILT_IN_ROLES,
    CLIENT_GRANTS,
    EVERYTHING,
    NOTHING,
    PERMISSIONS,
    Grants,
    check_grant,
)
from osiris_mesh.ledger.principal import NOBODY, Principal

SEGMENT = st.text("ab*", min_size=1, max_size=5)
PATTERN = st.lists(SEGMENT, min_size=2, max_size=3).map("/".join)
NAME = st.lists(st.text("ab", min_size=1, max_size=5), min_size=2, max_size=3).map("/".join)


@pytest.mark.parametrize(
    "text",
    [
        *PERMISSIONS,
        "function.call:team-a/*",
        "function.deploy:image-*/sharpen",
        "function.logs:acme.com/*/*",
        "function.read:*/*",
        "function.call:" + "a" * 190 + "/" + "b" * 193,
    ],
)
def test_what_is_a_grant(text: str) -> None:
    assert check_grant(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "call", "function", "function.", "function.*", "Function.call", "function.call ", "function.call:",
        "function.call:add", "function.call:a/b/c/d", "function.call:/b", "function.call:a/", "function.call:a//b",
        "function.call:a b/c", "function.call:a/b@1.0.0", "function.call:a/ü", "function.call:a/b:c/d", "mesh.read:a/b",
        "config.write:a/b", "function.call:a/[b]", "function.call:a/?", "function.call:" + "a" * 190 + "/" + "b" * 194,
    ],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        check_grant(text)
    with pytest.raises(UsageError):
        Grants([text])


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("team-a/*", "team-a/add", True),
        ("team-a/*", "team-ab/add", False),
        ("team-a/*", "acme.com/team-a/add", False),
        ("*/*", "x/y", True),
        ("*/*", "acme.com/x/y", False),
        ("acme.com/*/*", "acme.com/x/y", True),
        ("acme.com/*/*", "acme.org/x/y", False),
        ("image-*/sharpen", "image-processing/sharpen", True),
        ("image-*/sharpen", "image-/sharpen", True),
        ("image-*/sharpen", "image/sharpen", False),
        ("a/*b*c", "a/xbyc", True),
        ("a/*b*c", "a/bc", True),
        ("a/*b*c", "a/cb", False),
        ("a/ab*ba", "a/aba", False),
        ("a/ab*ba", "a/abba", True),
        ("default/add", "default/add", True),
        ("default/add", "default/add2", False),
        ("default/add", "default/Add", False),
    ],
)
def test_a_pattern_means_names(pattern: str, name: str, covered: bool) -> None:
    assert Grants([f"function.call:{pattern}"]).covers("function.call", name) is covered


def test_a_grant_is_of_one_permission_and_without_a_pattern_of_every_name() -> None:
    held = Grants(["function.call", "function.read:team-a/*"])
    assert held.covers("function.call")
    assert held.covers("function.call", "acme.com/a/b")
    assert not held.covers("function.deploy", "team-a/b")
    assert held.covers("function.read", "team-a/b")
    assert not held.covers("function.read")
    assert (held.some("function.read"), held.some("function.logs")) == (True, False)
    assert not NOTHING.covers("mesh.read")


@given(PATTERN, NAME)
@settings(max_examples=300, deadline=None)
def test_matching_is_that_of_the_regular_expression(pattern: str, name: str) -> None:
    plain = re.compile(re.escape(pattern).replace(r"\*", "[^/]*"))
    assert Grants([f"function.call:{pattern}"]).covers("function.call", name) is bool(plain.fullmatch(name))


@given(PATTERN, PATTERN, st.lists(st.text("ab", max_size=3), min_size=15, max_size=15))
@settings(max_examples=300, deadline=None)
def test_what_a_narrower_grant_covers_the_wider_one_covers(wide: str, narrow: str, fillings: list[str]) -> None:
    holder, wanted = Grants([f"function.call:{wide}"]), Grants([f"function.call:{narrow}"])
    filling = iter(fillings)
    name = "".join(next(filling) if letter == "*" else letter for letter in narrow)
    if not holder.missing(wanted) and all(name.split("/")):
        assert wanted.covers("function.call", name)
        assert holder.covers("function.call", name)


@pytest.mark.parametrize(
    ("held", "wanted", "missing"),
    [
        (["function.call"], ["function.call:a/*"], ""),
        (["function.call:a/*"], ["function.call:a/b"], ""),
        (["function.call:a/*"], ["function.call:a/b*"], ""),
        (["function.call:a/b*"], ["function.call:a/*"], "function.call:a/*"),
        (["function.call:a/*"], ["function.call"], "function.call"),
        (["function.call:*/*", "function.call:*/*/*"], ["function.call"], "function.call"),
        (["function.call:*/*"], ["function.call:acme.com/*/*"], "function.call:acme.com/*/*"),
        (["mesh.read"], ["mesh.read", "user.manage"], "user.manage"),
        (["mesh.read"], [], ""),
    ],
)
def test_what_reaches_further_is_named(held: list[str], wanted: list[str], missing: str) -> None:
    assert Grants(held).missing(Grants(wanted)) == missing


def test_a_hostile_pattern_costs_no_time() -> None:
    hostile = Grants(["function.call:" + "*a" * 90 + "*b/x"])
    began = time.process_time()
    assert not hostile.covers("function.call", "a" * 380 + "/x")
    assert time.process_time() - began < 0.05


def test_each_built_in_role_has_all_of_the_one_before() -> None:
    roles = list(BUILT_IN_ROLES.values())
    assert list(BUILT_IN_ROLES) == ["viewer", "developer", "operator", "admin"]
    for lower, higher in pairwise(roles):
        assert not higher.missing(lower)
        assert lower.missing(higher)
    assert roles[-1] == EVERYTHING
    assert not BUILT_IN_ROLES["viewer"].some("function.call")
    assert not BUILT_IN_ROLES["developer"].missing(CLIENT_GRANTS)


def test_a_principal_with_limits_may_only_what_both_hold() -> None:
    token = Principal(
        "api_token", "ci", b"o", Grants(["function.call:a/*", "user.manage"]), Grants(["function.call", "mesh.read"])
    )
    assert token.may("function.call", "a/b")
    assert not token.may("function.call", "b/b")
    assert not token.may("user.manage")
    assert not token.may("mesh.read")
    assert (token.may_some("function.call"), token.may_some("user.manage")) == (True, False)
    assert token.missing(Grants(["function.call:a/x"])) == ""
    assert token.missing(Grants(["user.manage"])) == "user.manage"
    assert not any(NOBODY.may_some(permission) for permission in PERMISSIONS)


def test_grants_are_a_set() -> None:
    assert Grants(["mesh.read", "audit.read", "mesh.read"]).texts == ("audit.read", "mesh.read")
    assert Grants(["mesh.read", "mesh.read"]) == Grants(("mesh.read",)) != NOTHING
    assert hash(Grants(["mesh.read"])) == hash(Grants(("mesh.read",)))
