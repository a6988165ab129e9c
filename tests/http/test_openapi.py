"""The description is a valid one, and holds what the routes do."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema_rs import meta

from osiris_mesh.gateway.http.describe import description
from osiris_mesh.gateway.http.routes import ROUTES
from tests.http.client import Face


def walk(value: Any) -> Any:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def test_schemas_are_schemas_and_references_lead_somewhere() -> None:
    made = description(ROUTES)
    for schema in made["components"]["schemas"].values():
        meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})
    for item in walk(made):
        if isinstance(item, dict) and isinstance(item.get("$ref"), str):
            assert item["$ref"].removeprefix("#/components/schemas/") in made["components"]["schemas"]


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for path in description(ROUTES)["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) == len(ROUTES)


def test_every_route_says_how_it_refuses() -> None:
    made = description(ROUTES)["paths"]
    for route in ROUTES:
        answers = made[route.path][route.method.lower()]["responses"]
        assert {"200", "400", "403", "500", "503"} <= set(answers)
        assert ("401" in answers) == (route.permission != "public")


@pytest.mark.system
def test_it_is_served_to_everybody(face: Face) -> None:
    answer = face.get("/v1/openapi.json", token=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["openapi"] == "3.1.0"
    assert set(answer.json["paths"]) == {route.path for route in ROUTES}
