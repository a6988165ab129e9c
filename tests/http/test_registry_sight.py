"""What is told of registries to whom: rows about functions a bearer may not know of are left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from osiris_mesh.gateway.http import registries
from osiris_mesh.gateway.http.registries import evidence, find, list_, usage
from osiris_mesh.ledger.permissions import Grants
from osiris_mesh.ledger.principal import Principal

ANSWERS: dict[str, dict[str, Any]] = {
    "evidence": {
        "evidence": [
            {"subject": subject, "lines": ["secret/one"]}
            for subject in ("open/one", "secret/one", "ns/_/open/two.jsonl", "ns/_/secret/two.jsonl", "checkpoint", "")
        ]
    },
    "usage": {
        "usage": [
            {"function": function, "caller": caller}
            for function, caller in (
                ("open/one", "somebody"),
                ("open/one", "open/two"),
                ("open/one", "secret/two"),
                ("secret/one", "somebody"),
            )
        ]
    },
    "find": {"names": [{"name": "open/one"}, {"name": "secret/one"}]},
    "list": {
        "registries": [
            {
                "name": "git",
                "url": "git@host:x.git",
                "kind": "git",
                "pin": "",
                "routes": ["open/*", "secret/*"],
                "options": {"branch": "main", "token_file": "/home/x/token", "key": "owner"},
                "ok": False,
                "error": "secret/one is wrong",
            }
        ]
    },
}


class Known:
    async def ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        return ANSWERS[method]


def ask(*grants: str) -> Any:
    principal = Principal("user", grants=Grants(grants))
    query = SimpleNamespace(registry="", provider="", caller="", since_ms=0, until_ms=None, pattern="**", limit=10)
    return SimpleNamespace(
        parts=SimpleNamespace(registries=Known()), bearer=SimpleNamespace(principal=principal), query=query
    )


WHOLE = ask("mesh.read", "function.read")
NARROW = ask("mesh.read", "function.read:open/*")


async def test_evidence_is_of_names_he_sees() -> None:
    assert len((await evidence(WHOLE))["evidence"]) == 6
    assert [row["subject"] for row in (await evidence(NARROW))["evidence"]] == ["open/one", "ns/_/open/two.jsonl"]


async def test_usage_names_neither_functions_nor_callers_he_does_not_see() -> None:
    assert len((await usage(WHOLE))["usage"]) == 4
    rows = (await usage(NARROW))["usage"]
    assert [(row["function"], row["caller"]) for row in rows] == [("open/one", "somebody"), ("open/one", "open/two")]


async def test_names_are_those_he_may_read_about() -> None:
    assert [row["name"] for row in (await find(WHOLE))["names"]] == ["open/one", "secret/one"]
    assert [row["name"] for row in (await find(NARROW))["names"]] == ["open/one"]
    assert (await find(ask("mesh.read", "function.call")))["names"] == []


@pytest.mark.parametrize("asked", [WHOLE, NARROW])
async def test_no_file_of_the_machine_is_named(asked: Any) -> None:
    (row,) = (await list_(asked))["registries"]
    assert row["options"] == {"branch": "main"}
    seen = "secret" in str(row)
    assert seen == (asked is WHOLE)
    assert set(row) <= set(registries.types.RegistryBody.__struct_fields__)
