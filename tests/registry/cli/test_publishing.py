"""What is published of a built function, and which version it gets."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.function.name import Version
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.registry.publishing import Terms, aliased, binding_of, chosen_version, provider_of, settled
from osiris_mesh.registry.record import Binding, Record, VersionRecord

NOW = 1_700_000_000_000
SPEC = FunctionSpec("math/add", "1.0.0", b"", "add.py::add", "python3.11", [[["a", 1, False, "int"]], "int"])


def bound(version: str = "1.0.0", digest: bytes = b"\x01" * 32, **terms: Any) -> Binding:
    spec = FunctionSpec("math/add", version, b"", "add.py::add", "python3.11", [[["a", 1, False, "int"]], "int"])
    return binding_of(spec, digest, Terms(**terms), NOW)


def record(*bindings: Binding, **more: Any) -> Record:
    versions = {Version.parse(one.version): VersionRecord(one, None, one.providers, bytes(32), b"") for one in bindings}
    return Record("math/add", MappingProxyType(dict(sorted(versions.items()))), len(bindings), bytes(32), **more)


def test_a_record_says_what_the_function_and_the_terms_say() -> None:
    said = binding_of(
        SPEC,
        b"\x02" * 32,
        Terms(
            providers=(provider_of("eu=https://eu.example.com", cost_micros=7, currency="EUR", region="eu"),),
            level="pure",
            permissions=("b", "a", "b"),
            trusted=("eu*",),
            scope="regional",
            ttl_s=60,
            valid_for_ms=1000,
        ),
        NOW,
    )
    assert said.payload() == {
        "type": "binding",
        "name": "math/add",
        "version": "1.0.0",
        "sequence": 1,
        "digest": "02" * 32,
        "signature": [[["a", 1, False, "int"]], "int"],
        "providers": [
            {"id": "eu", "endpoint": "https://eu.example.com", "cost_micros": 7, "currency": "EUR", "region": "eu"}
        ],
        "requirements": {"level": "pure", "permissions": ["a", "b"], "trusted_providers": ["eu*"]},
        "scope": "regional",
        "ttl_s": 60,
        "valid_from_ms": NOW,
        "valid_until_ms": NOW + 1000,
    }


@pytest.mark.parametrize(
    ("terms", "path"),
    [
        ({"level": "godlike"}, "requirements.level"),
        ({"scope": "galactic"}, "scope"),
        ({"ttl_s": 1 << 30}, "ttl_s"),
        ({"permissions": ("a b",)}, "requirements.permissions"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(terms: dict[str, Any], path: str) -> None:
    with pytest.raises(UsageError) as caught:
        bound(**terms)
    assert caught.value.what.startswith(path)


@pytest.mark.parametrize(
    ("text", "name", "endpoint"),
    [
        ("https://functions.acme.com", "functions.acme.com", "https://functions.acme.com"),
        ("https://h:8443/v1/call/{name}?a=b", "h:8443", "https://h:8443/v1/call/{name}?a=b"),
        ("eu=mcp://tools.acme.com/mcp", "eu", "mcp://tools.acme.com/mcp"),
        ("mesh://12D3KooW", "12D3KooW", "mesh://12D3KooW"),
    ],
)
def test_a_provider_is_called_like_its_host_or_as_told(text: str, name: str, endpoint: str) -> None:
    provider = provider_of(text)
    assert (provider.id, provider.endpoint) == (name, endpoint)


@pytest.mark.parametrize(
    "text", ["", "acme.com", "=https://a.b", "eu=", "ftp://a.b", "https://", "a=b=c", "http://[::"]
)
def test_what_is_no_provider_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        provider_of(text)


def test_a_cost_needs_its_currency() -> None:
    with pytest.raises(UsageError, match="currency"):
        provider_of("https://a.example", cost_micros=1)


def test_the_same_once_more_is_what_is_bound_whenever_it_is_said() -> None:
    first = bound(valid_for_ms=1000)
    there = record(replace(first, sequence=4, previous="ab" * 32))
    later = binding_of(SPEC, b"\x01" * 32, Terms(valid_for_ms=1000), NOW + 5)
    assert settled(later, there) == there.versions[Version.parse("1.0.0")].binding
    assert settled(bound("1.0.1"), there) == bound("1.0.1")
    assert settled(first, None) == first


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"digest": b"\x03" * 32}, "digest"),
        ({"ttl_s": 5}, "ttl_s"),
        ({"valid_for_ms": 2000}, "valid_until_ms"),
        ({"providers": (provider_of("https://a.example"),)}, "providers"),
    ],
)
def test_a_version_that_is_bound_to_something_else_is_a_conflict(other: dict[str, Any], what: str) -> None:
    with pytest.raises(Conflict) as caught:
        settled(bound(**other), record(bound()))
    assert what in caught.value.what
    assert ("registry providers" in caught.value.fix) == (what == "providers")


def test_the_version_that_names_none() -> None:
    assert chosen_version(None, lambda _: b"") == "1.0.0"
    assert chosen_version(record(), lambda _: b"") == "1.0.0"
    there = record(bound("1.0.0"), bound("1.2.9", b"\x09" * 32))
    assert chosen_version(there, lambda version: b"\x09" * 32 if version == "1.2.9" else b"") == "1.2.9"
    assert chosen_version(there, lambda _: b"\x08" * 32) == "1.2.10"
    assert chosen_version(record(bound("2.0.0-rc.1")), lambda _: b"\x08" * 32) == "2.0.0"


def test_labels_that_are_not_named_stay() -> None:
    there = record(
        bound("1.0.0"), bound("1.1.0"), aliases={"stable": Version.parse("1.0.0"), "old": Version.parse("1.0.0")}
    )
    said = aliased(there, {"stable": "1.1.0", "old": "", "new": "1.1.0"})
    assert said.aliases == {"new": "1.1.0", "stable": "1.1.0"}
    with pytest.raises(UsageError, match="latest"):
        aliased(there, {"latest": "1.0.0"})


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, unique=True))
def test_a_chosen_version_is_above_all_there_are(numbers: list[tuple[int, int, int]]) -> None:
    there = record(*(bound(".".join(map(str, one))) for one in numbers))
    assert Version.parse(chosen_version(there, lambda _: b"\xff" * 32)) > max(there.versions)
