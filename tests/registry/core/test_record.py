"""Records: what they hold, one form, errors with the path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.registry.record import (
    Amendment,
    Binding,
    Payload,
    Placement,
    Provider,
    Requirements,
    read_payload,
    sign,
)
from osiris_mesh.registry.statement import canonical, read
from tests.registry.core.kit import NOW, VENDOR_KEY, provider

BINDING = Binding(
    name="acme.com/image/sharpen",
    version="1.2.0",
    sequence=2,
    previous="cd" * 32,
    digest="ab" * 32,
    signature=([["image", 1, False, "bytes"]], "bytes"),
    description="Sharpens an image.",
    providers=(provider("acme", cost_micros=15, currency="EUR", sla="premium"), provider("other")),
    requirements=Requirements("full", ("function.call", "net"), ("acme*",)),
    scope="regional",
    ttl_s=60,
    valid_from_ms=NOW,
    valid_until_ms=NOW + 1,
)
AMENDMENT = Amendment(
    name="default/add",
    sequence=3,
    previous="cd" * 32,
    version="1.0.0",
    deprecated="use 2",
    providers=(),
    aliases={"stable": "1.0.0"},
)
PLACEMENT = Placement("acme", "mesh://node.example:7411/p", 7, NOW, NOW + 300_000, "draining", "eu-1")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
endpoints = st.builds(
    "{}://{}.example/{}".format,
    st.sampled_from(["mesh", "https", "mcp"]),
    st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    st.from_regex(r"[a-z0-9/]{0,9}", fullmatch=True),
)
providers = st.builds(
    Provider,
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,20}", fullmatch=True),
    endpoint=endpoints,
    cost_micros=st.integers(0, 2**53 - 1),
    currency=st.sampled_from(["EUR", "OSIRIS"]),
    weight=st.integers(0, 1000),
    key=st.sampled_from(["", "ab" * 32]),
)
bindings = st.builds(
    Binding,
    name=st.sampled_from(["default/add", "acme.com/a/b"]),
    version=st.sampled_from(["1.0.0", "0.1.2-rc.1"]),
    sequence=st.integers(2, 2**32 - 1),
    previous=st.just("0a" * 32),
    digest=st.just("ab" * 32),
    description=texts,
    schema=texts,
    providers=st.lists(providers, max_size=3, unique_by=lambda item: item.id).map(tuple),
    requirements=st.builds(Requirements, st.sampled_from(["pure", "controlled", "full"])),
    scope=st.sampled_from(["local", "regional", "global"]),
    ttl_s=st.integers(1, 604_800),
)


@settings(max_examples=80)
@given(bindings)
def test_every_form_gives_the_same_binding(binding: Binding) -> None:
    statement = sign(binding, [VENDOR_KEY])
    assert read_payload(read(statement.line).payload) == binding == Binding.from_wire(binding.to_wire())
    assert canonical(binding.payload()) == canonical(Binding.from_wire(binding.to_wire()).payload())


@pytest.mark.parametrize("said", [BINDING, AMENDMENT, PLACEMENT])
def test_every_field_survives(said: Binding | Amendment | Placement) -> None:
    assert read_payload(said.payload()) == said == type(said).from_wire(said.to_wire())


def test_defaults_are_left_out() -> None:
    assert Provider("a", "https://a.example").payload() == {"id": "a", "endpoint": "https://a.example"}
    assert Amendment("a/b", 1, "", "1.0.0", "").payload() == {
        "type": "amendment",
        "name": "a/b",
        "sequence": 1,
        "version": "1.0.0",
        "deprecated": "",
    }


def _with(said: Payload, path: str, value: Any) -> Any:
    """Return the payload with one value replaced, or with ``...`` removed."""
    payload: Any = said.payload()
    at = payload
    *way, last = [int(part) if part.isdigit() else part for part in path.replace("[", ".").replace("]", "").split(".")]
    for part in way:
        at = at[part]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return payload


@pytest.mark.parametrize(
    ("said", "path", "value", "named"),
    [
        (BINDING, "type", "amendmen", "type"),
        (BINDING, "type", [], "type"),
        (BINDING, "name", "sharpen", "name"),
        (BINDING, "name", "Acme.com/a/b", "name"),
        (BINDING, "name", ..., "payload"),
        (BINDING, "extra", 1, "payload"),
        (BINDING, "version", "1.2", "version"),
        (BINDING, "version", 1, "version"),
        (BINDING, "sequence", 0, "sequence"),
        (BINDING, "sequence", 1, "previous"),
        (BINDING, "sequence", True, "sequence"),
        (BINDING, "previous", ..., "previous"),
        (BINDING, "previous", "cd" * 32 + "\n", "previous"),
        (BINDING, "digest", "AB" * 32, "digest"),
        (BINDING, "digest", "\n", "digest"),
        (BINDING, "signature", [[["image", 9, False, "bytes"]], "bytes"], "signature"),
        (BINDING, "signature", [[]], "signature"),
        (BINDING, "signature", [], "signature"),
        (BINDING, "description", "x" * 5000, "description"),
        (BINDING, "providers[1].endpoint", "ftp://a.example", "providers[1].endpoint"),
        (BINDING, "providers[1].endpoint", "http://a.example", "providers[1].endpoint"),
        (BINDING, "providers[1].endpoint", "https://user@a.example", "providers[1].endpoint"),
        (BINDING, "providers[1].endpoint", "https://a.example:x/", "providers[1].endpoint"),
        (BINDING, "providers[1].endpoint", "https://a example", "providers[1].endpoint"),
        (BINDING, "providers[1].id", "acme", "providers[1].id"),
        (BINDING, "providers[0].currency", ..., "providers[0].currency"),
        (BINDING, "providers[0].currency", "eur", "providers[0].currency"),
        (BINDING, "providers[0].cost_micros", -1, "providers[0].cost_micros"),
        (BINDING, "providers[0].sla", "platinum", "providers[0].sla"),
        (BINDING, "providers[0].weight", 100, "providers[0].weight"),
        (BINDING, "providers[0].capability", "ab", "providers[0].capability"),
        (BINDING, "requirements.level", "none", "requirements.level"),
        (BINDING, "requirements.permissions", ["b", "a"], "requirements.permissions"),
        (BINDING, "requirements.trusted_providers", ["a", "a"], "requirements.trusted_providers"),
        (BINDING, "requirements.permissions[0]", "a b", "requirements.permissions[0]"),
        (BINDING, "scope", "global", "scope"),
        (BINDING, "scope", "everywhere", "scope"),
        (BINDING, "ttl_s", 3600, "ttl_s"),
        (BINDING, "ttl_s", 0, "ttl_s"),
        (BINDING, "valid_until_ms", NOW, "valid_until_ms"),
        (AMENDMENT, "version", ..., "version"),
        (AMENDMENT, "aliases", {"latest": "1.0.0"}, "aliases.latest"),
        (AMENDMENT, "aliases", {"stable": "one"}, "aliases.stable"),
        (AMENDMENT, "deprecated", None, "deprecated"),
        (PLACEMENT, "valid_until_ms", NOW + 300_001, "valid_until_ms"),
        (PLACEMENT, "valid_until_ms", NOW, "valid_until_ms"),
        (PLACEMENT, "state", "gone", "state"),
        (PLACEMENT, "endpoint", "mesh://", "endpoint"),
    ],
)
def test_what_is_wrong_is_named(said: Binding, path: str, value: Any, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_payload(_with(said, path, value))
    assert caught.value.details["path"] == named
    assert caught.value.what.startswith(named + ": ")


def test_an_amendment_changes_something() -> None:
    with pytest.raises(UsageError, match="changes nothing"):
        sign(Amendment("a/b", 1), [VENDOR_KEY])
    with pytest.raises(UsageError, match="alone"):
        sign(Amendment("a/b", 1, version="1.0.0", aliases={}), [VENDOR_KEY])


def test_somebody_must_be_able_to_run_it() -> None:
    with pytest.raises(UsageError, match="nobody could run"):
        sign(Binding("a/b", "1.0.0", 1), [VENDOR_KEY])


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*BINDING.payload(), "x"]), inner),
        max_leaves=8,
    ),
    st.sampled_from(["binding", "amendment", "placement", None]),
)
def test_nothing_else_than_our_error_comes_of_any_payload(value: Any, kind: str | None) -> None:
    if isinstance(value, dict) and kind:
        value["type"] = kind
    with pytest.raises(OsirisError):
        read_payload(value)
