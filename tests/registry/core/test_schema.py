"""The published schema is the types', and says of statements what the code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from osiris_mesh.registry.checkpoint import Checkpoint
from osiris_mesh.registry.keyring import found_keys, next_keys, next_root
from osiris_mesh.registry.keys import Publisher
from osiris_mesh.registry.record import Placement, sign
from osiris_mesh.registry.schema import schema, text
from osiris_mesh.registry.statement import Statement
from tests.registry.core.kit import NOW, REGISTRY, ROOT_KEYS, STRANGER, VENDOR_KEY, history, provider, root

PUBLISHED = Path(__file__).parents[3] / "docs" / "registry.schema.json"
CHECK = jsonschema.Draft202012Validator(schema())
KEYS = found_keys("acme.com", [VENDOR_KEY], publishers=[Publisher(STRANGER.public.hex(), ("a", "b*"), NOW)])
STATEMENTS = [
    *history(
        {
            "version": "1.0.0",
            "digest": "ab" * 32,
            "providers": (provider(cost_micros=5, currency="EUR"),),
            "signature": ([], "int"),
        },
        {"version": "1.0.0", "deprecated": "", "providers": (), "aliases": {"stable": "1.0.0"}},
    ),
    sign(Placement("acme", "https://acme.example", 1, NOW, NOW + 1), [VENDOR_KEY]),
    KEYS,
    next_keys(KEYS, [VENDOR_KEY], revoke_keys=[STRANGER.public], revoke_records=[b"\1" * 32]),
    root(),
    next_root(root(), ROOT_KEYS[:2], delegate={"acme.com": None}),
    sign(Checkpoint(REGISTRY, 1, "ab" * 32, 3, NOW, NOW + 1), [VENDOR_KEY]),
]


def test_the_published_file_is_the_types() -> None:
    assert PUBLISHED.read_text("utf-8") == text(), (
        "run: python -m osiris_mesh.registry.schema > docs/registry.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda item: item.kind)
def test_statements_are_valid(statement: Statement) -> None:
    CHECK.validate(json.loads(statement.line))


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda item: item.kind)
def test_others_are_not(statement: Statement) -> None:
    good = json.loads(statement.line)
    payload = good["payload"]
    for bad in (
        payload,
        {**good, "extra": 1},
        {**good, "signatures": []},
        {**good, "signatures": [{**good["signatures"][0], "key": "AB" * 32}]},
        {**good, "payload": {**payload, "extra": 1}},
        {**good, "payload": {**payload, "type": "other"}},
        {**good, "payload": _without(payload, "type")},
        *({**good, "payload": {**payload, name: 1.5}} for name in payload),
    ):
        with pytest.raises(jsonschema.ValidationError):
            CHECK.validate(bad)
