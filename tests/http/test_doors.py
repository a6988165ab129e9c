"""Every route refuses by default, and opens to each role exactly as docs/http.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from osiris_mesh.gateway.http.route import PUBLIC, Route
from osiris_mesh.gateway.http.routes import ROUTES
from osiris_mesh.identity.api_token import ApiToken
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from tests.http.client import Face
from tests.http.tokens import make_token
from tests.system.harness import wait_until

pytestmark = pytest.mark.system

DOCUMENT = Path(__file__).parents[2] / "docs" / "http.md"
EXAMPLES = {
    "name": "t/add",
    "peer": "x",
    "height": "1",
    "id": "x",
    "user": "nobody",
    "key": "max_retries",
    "role": "x",
    "webhook": "x",
    "alert": "x",
    "registry": "x",
    "file": "x",
    "vendor": "x",
    "namespace": "x",
}


def documented() -> dict[tuple[str, str], tuple[str, str]]:
    """Return permission and summary by method and path, from the document."""
    rows = re.findall(r"^\| `([A-Z]+) (\S+)` \| `(\S+)` \| (.*) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    return {(method, path): (permission, summary) for method, path, permission, summary in rows}


def test_the_document_has_every_route() -> None:
    assert documented() == {(route.method, route.path): (route.permission, route.summary) for route in ROUTES}


def probe(face: Face, route: Route, token: str | None) -> int:
    """Ask a route in a way that its bearer and permission decide, and that changes nothing if they do."""
    path = re.sub(r"\{(\w+)\}", lambda match: EXAMPLES[match[1]], route.path)
    if route.stream:
        path += "?nonsense=1"
    if route.method == "GET":
        return face.ask("GET", path, token=token).status
    # Nothing takes a body of this kind, and that is looked at after the permission.
    return face.ask(route.method, path, b"x", token=token, headers={"Content-Type": "text/nonsense"}).status


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_opens_to_whom_the_document_says(face: Face, route: Route) -> None:
    permission = documented()[route.method, route.path][0]
    open_to_all = permission == PUBLIC
    refused = (200,) if open_to_all else (401,)
    assert probe(face, route, None) in refused
    assert probe(face, route, "osa1nonsense") in refused
    assert probe(face, route, ApiToken.generate().text()) in refused
    for role, grants in BUILT_IN_ROLES.items():
        status = probe(face, route, face.tokens[role])
        if open_to_all or permission == "bearer" or grants.some(permission):
            assert status in {200, 400, 404, 415}, (role, status)
        else:
            assert status == 403, (role, status)


def test_only_health_and_the_description_take_no_bearer() -> None:
    assert {route.path for route in ROUTES if route.permission == PUBLIC} == {"/v1/health", "/v1/openapi.json"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "MKCOL"])
@pytest.mark.parametrize("path", ["/", "/v1/nothing", "/v1/status", "/v1/call/t/add", "/v1", "/v1/../v1/status", "//"])
def test_whatever_is_asked_without_a_bearer_is_401(face: Face, method: str, path: str) -> None:
    assert face.ask(method, path, token=None).status == 401


def test_with_a_bearer_an_unknown_path_is_404_and_another_method_405(face: Face) -> None:
    assert face.get("/v1/nothing").status == 404
    answer = face.ask("DELETE", "/v1/status")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Bearer ", "Token x", "Bearer " + "x" * 5000])
def test_what_is_no_bearer_is_401(face: Face, header: str) -> None:
    answer = face.get("/v1/status", token=None, headers={"Authorization": header})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_grant_for_some_names_opens_those_alone(face: Face) -> None:
    token = make_token(face.home, "some", ["function.call:t/ad*", "function.read:t/echo"])
    assert face.post("/v1/call/t/add", {"args": [1]}, token=token).json == 2
    assert face.post("/v1/call/t/add@1.0.0", {"args": [1]}, token=token).json == 2
    assert face.post("/v1/call/t%2Fadd", {"args": [1]}, token=token).json == 2
    assert face.post("/v1/call/t/echo", {"args": [1]}, token=token).status == 403
    assert face.post("/v1/map/t/echo", {"items": [1]}, token=token).status == 403
    assert [row["name"] for row in face.get("/v1/functions", token=token).json["functions"]] == ["t/echo"]
    assert face.get("/v1/functions/t/add", token=token).status == 403
    assert face.get("/v1/functions/t/echo", token=token).status == 200
    assert face.get("/v1/logs", token=token).status == 403


def test_a_refusal_says_whether_another_token_or_another_role_helps(face: Face) -> None:
    token = make_token(face.home, "narrow", ["function.call:t/add", "function.read"])
    whole = face.get("/v1/status", token=token).json
    assert "osiris-mesh apitoken create --grant mesh.read" in whole["fix"]
    named = face.post("/v1/call/t/echo", {"args": [1]}, token=token).json
    assert "osiris-mesh apitoken create --grant function.call:t/echo" in named["fix"]
    # Whoever has a role, and no token between, needs another role.
    lacking = face.get("/v1/users", token=face.tokens["viewer"]).json
    assert "administrator" in lacking["fix"]


def test_a_revoked_token_opens_nothing_at_once(face: Face) -> None:
    token = make_token(face.home, "brief", ["mesh.read"])
    assert face.get("/v1/status", token=token).status == 200
    mine = next(row for row in face.get("/v1/apitokens").json["tokens"] if row["name"] == "brief")
    assert face.ask("DELETE", f"/v1/apitokens/{mine['id']}").status == 200
    assert face.get("/v1/status", token=token).status == 401


def test_an_expired_token_opens_nothing(face: Face) -> None:
    token = make_token(face.home, "short", ["mesh.read"], ttl_ms=1500)
    assert face.get("/v1/status", token=token).status == 200
    wait_until(lambda: face.get("/v1/status", token=token).status == 401, seconds=10, what="the token has expired")
