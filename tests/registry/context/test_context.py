"""Security contexts: what a table allows, and that narrowing allows exactly what both allow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import LimitExceeded, UsageError
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, EVERYTHING, Grants
from osiris_mesh.registry.context import FULL, MAX_CLAUSES, Context, Level, from_grants, make, may_call, narrow, parse
from osiris_mesh.registry.record import Provider, Requirements

ACME = Provider(id="acme.com/eu", endpoint="https://api.acme.com/call")
PEER = Provider(id="12D3KooWpeer", endpoint="mesh://12D3KooWpeer")


@pytest.mark.parametrize(
    ("text", "name", "requirements", "provider", "rule"),
    [
        ("full", "a/b", None, None, None),
        ("full", "a/b", Requirements(level="full"), ACME, None),
        ("pure", "a/b", None, None, None),
        ("pure", "a/b", Requirements(level="pure"), None, None),
        ("pure", "a/b", Requirements(level="pure"), ACME, "level"),
        ("pure", "a/b", Requirements(), None, "level"),
        ("controlled", "a/b", Requirements(), ACME, None),
        ("controlled", "a/b", Requirements(level="full"), ACME, "level"),
        ("controlled; functions=a/*", "a/b", None, ACME, None),
        ("controlled; functions=a/*", "b/a", None, None, "functions"),
        ("controlled; functions=a/*", "acme.com/a/b", None, None, "functions"),
        ("controlled; functions=acme.com/*/*", "acme.com/a/b", None, ACME, None),
        ("controlled; functions=", "a/b", None, None, "functions"),
        ("controlled; functions=a/*; functions=*/b", "a/b", None, None, None),
        ("controlled; functions=a/*; functions=*/b", "a/c", None, None, "functions"),
        ("controlled; providers=https://*.acme.com", "a/b", None, ACME, None),
        ("controlled; providers=https://*.acme.com", "a/b", None, PEER, "providers"),
        ("controlled; providers=https://*.acme.com", "a/b", None, None, None),
        ("controlled; trusted=acme.com/*", "a/b", None, ACME, None),
        ("controlled; trusted=acme.com/*", "a/b", None, PEER, "trusted"),
        ("full; permissions=function.call", "a/b", Requirements(permissions=("function.call",)), None, None),
        ("full; permissions=function.call", "a/b", Requirements(permissions=("mesh.read",)), None, "permissions"),
        ("full", "a/b", Requirements(trusted_providers=("acme.com/*",)), ACME, None),
        ("full", "a/b", Requirements(trusted_providers=("acme.com/*",)), PEER, "trusted_providers"),
    ],
)
def test_rules(text, name, requirements, provider, rule):
    refusal = may_call(parse(text), name, requirements, provider)
    assert (refusal and refusal.rule) == rule
    if refusal is not None:
        error = refusal.error()
        assert error.details["rule"] == rule
        assert error.what
        assert error.fix


@pytest.mark.parametrize(
    "text",
    ["", "half", "full; colour=red", "full; functions", "full; functions=a b", "full; functions=a/é", "x" * 9000],
)
def test_what_is_no_context(text):
    with pytest.raises(UsageError):
        parse(text)


def test_grants_become_a_context_that_allows_the_same():
    context = from_grants(Grants(("function.call:team-a/*", "mesh.read")))
    assert may_call(context, "team-a/x") is None
    assert may_call(context, "team-b/x").rule == "functions"
    assert may_call(context, "team-a/x", Requirements(permissions=("mesh.read",))) is None
    assert may_call(context, "team-a/x", Requirements(permissions=("config.write",))).rule == "permissions"
    assert may_call(from_grants(BUILT_IN_ROLES["viewer"]), "a/b").rule == "functions"
    assert from_grants(EVERYTHING) == FULL


def test_too_many_contexts_in_a_row_are_refused():
    context = FULL
    for number in range(MAX_CLAUSES):
        context = narrow(context, make(Level.FULL, functions=[f"a/{number}", "a/shared"]))
    one_more = make(Level.FULL, functions=["a/more", "a/shared"])
    with pytest.raises(LimitExceeded):
        narrow(context, one_more)


PATTERNS = st.sampled_from(["a/*", "*/b", "a/b", "b/b", "acme.com/*/*", "**", "*/*"])
NAMES = st.sampled_from(["a/b", "a/c", "b/b", "b/c", "acme.com/a/b"])
WORDS = st.sampled_from(["function.call", "mesh.read", "*.read"])
HOSTS = st.sampled_from(["https://*", "https://api.acme.com", "mesh://*", "**"])
IDS = st.sampled_from(["acme.com/*", "12D3*", "**"])


def clauses(patterns):
    return st.none() | st.lists(patterns, max_size=3)


CONTEXTS = st.builds(
    make,
    st.sampled_from(Level),
    functions=clauses(PATTERNS),
    providers=clauses(HOSTS),
    permissions=clauses(WORDS),
    trusted=clauses(IDS),
)
REQUIREMENTS = st.none() | st.builds(
    Requirements,
    level=st.sampled_from(["pure", "controlled", "full"]),
    permissions=st.sampled_from([(), ("function.call",), ("mesh.read",)]),
    trusted_providers=st.sampled_from([(), ("acme.com/*",)]),
)
PROVIDERS = st.sampled_from([None, ACME, PEER])


@settings(max_examples=300, deadline=None)
@given(CONTEXTS, CONTEXTS, NAMES, REQUIREMENTS, PROVIDERS)
def test_narrowed_allows_exactly_what_both_allow(one, other, name, requirements, provider):
    both = all(may_call(each, name, requirements, provider) is None for each in (one, other))
    assert (may_call(narrow(one, other), name, requirements, provider) is None) == both


@settings(max_examples=200, deadline=None)
@given(CONTEXTS, CONTEXTS, CONTEXTS)
def test_narrowing_is_a_meet(one, other, third):
    assert narrow(one, one) == one
    assert narrow(one, other) == narrow(other, one)
    assert narrow(narrow(one, other), third) == narrow(one, narrow(other, third))
    assert narrow(narrow(one, other), other) == narrow(one, other)
    assert narrow(FULL, one) == one


@settings(max_examples=200, deadline=None)
@given(CONTEXTS, CONTEXTS)
def test_text_and_back(one, other):
    context = narrow(one, other)
    assert parse(context.text()) == context
    assert isinstance(context, Context)
