"""The description against a real controller: nothing asked of it brings an answer it does not name, or a 500."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from osiris_mesh.gateway.http.describe import description
from osiris_mesh.gateway.http.route import BUNDLE, MSGPACK
from osiris_mesh.gateway.http.routes import ROUTES
from tests.http.client import Face
from tests.http.tokens import role_token
from tests.system.harness import Mesh

pytestmark = pytest.mark.system

EXAMPLES = 12
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@schemathesis.serializer(BUNDLE, MSGPACK)
def packed(_context: Any, value: Any) -> bytes:
    """Anything at all, as bytes."""
    return value if isinstance(value, bytes) else msgpack.packb(value, default=str)


# They end the controller, or do not end, or speak a protocol of their own.
SKIPPED = {"/v1/node/stop", "/v1/node/leave", "/v1/node/drain", "/v1/events", "/mcp"}
SCHEMA: Any = schemathesis.openapi.from_dict(description([route for route in ROUTES if route.path not in SKIPPED]))
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


@pytest.fixture(scope="module")
def own() -> Iterator[Face]:
    """A controller of its own: what is tried here changes it."""
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            node = mesh.init("--http", "127.0.0.1:0")
            face = Face(node.report["http"], node.home, {"admin": role_token(node.home, "admin")})
            source = {"source": "def add(a: int, b: int = 1) -> int:\n    return a + b\n", "name": "t/add"}
            assert face.post("/v1/functions", source).status == 200
            yield face
        finally:
            mesh.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method.upper()} {each.path}")
def test_it_answers_as_described(own: Face, operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def tried(case: Any) -> None:
        if isinstance(case.query, dict) and str(case.query.get("follow")).lower() == "true":
            case.query["follow"] = "false"
        if "name" in (case.path_parameters or {}) and len(str(case.body)) % 2:
            case.path_parameters["name"] = "t/add"
        case.call_and_validate(
            base_url=own.url,
            headers={"Authorization": f"Bearer {own.admin}"},
            checks=[not_a_server_error, *CHECKS],
            timeout=20,
        )

    tried()
    assert own.get("/v1/health", token=None).status == 200
