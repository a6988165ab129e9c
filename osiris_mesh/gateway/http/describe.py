"""The OpenAPI 3.1 description, made of the table of routes and the types of its bodies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from osiris_mesh.gateway.http.calls import CALL_HEADERS
from osiris_mesh.gateway.http.problem import STATUSES, Problem
from osiris_mesh.gateway.http.route import JSON, PUBLIC, Ask, Output, Route
from osiris_mesh.registry.context import HTTP_HEADER, MAX_TEXT

__all__ = ["PROBLEM", "description", "openapi"]

PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{name}"
_CALL: Final = "/v1/call/{name}"
_HEADERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "Osiris-Timeout-Ms": (
        {"type": "integer", "minimum": 1, "maximum": 604_800_000},
        "Milliseconds after which no answer is wanted; the function's own limit if not given.",
    ),
    "Osiris-Binding": (
        {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "What a resolve answered; 409 with the new signature if it is another by now.",
    ),
    "Osiris-Idempotent": (
        {"type": "string", "enum": ["true", "false"]},
        "The call may be repeated, so that it survives the death of a node.",
    ),
    "Osiris-Providers": (
        {"type": "string", "maxLength": 8192},
        "Ids of providers, with commas, the first to be asked first; of a function of a registry.",
    ),
    HTTP_HEADER: (
        {"type": "string", "maxLength": MAX_TEXT},
        "Security context the call is kept to, like 'controlled; functions=team-a/*'; it only ever narrows.",
    ),
}


async def openapi(_ask: Ask) -> Output:
    """Return the description of this very program."""
    from osiris_mesh.gateway.http.routes import ROUTES  # noqa: PLC0415 - the table has this handler in it

    return Output(_encoded(ROUTES))


@lru_cache(maxsize=1)
def _encoded(routes: tuple[Route, ...]) -> bytes:
    return msgspec.json.encode(description(routes))


def description(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI description of ``routes``."""
    kinds: list[Any] = [Problem]
    for route in routes:
        kinds += [kind for kind in (route.body, route.query, route.answer) if kind not in {None, dict, object}]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind, components)
    used = {route.query.__name__ for route in routes if route.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Osiris Mesh",
            "version": "1",
            "summary": "A serverless function platform without a centre.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in used},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, osa1…"},
            },
        },
    }


def _operation(route: Route, schemas: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__.strip("_"),
        "tags": [_tag(route.path)],
        "summary": route.summary,
        "description": f"Permission: `{route.permission}`.",
        "responses": {"200": _success(route, schemas)} | {str(status): _failure(status) for status in route.statuses},
    }
    operation["operationId"] = f"{route.handler.__module__.rpartition('.')[2]}_{operation['operationId']}"
    if route.permission == PUBLIC:
        operation["security"] = []
    parameters = [_path_parameter(name) for name in route.parameters]
    if route.query is not None:
        fields = components[route.query.__name__]["properties"]
        parameters += [
            {"name": name, "in": "query", "schema": schema, "description": schema.get("description", "")}
            for name, schema in fields.items()
        ]
    if route.permission == "function.call":
        names = _HEADERS if route.path == _CALL else ("Osiris-Timeout-Ms", HTTP_HEADER)
        for name in names:
            schema, text = _HEADERS[name]
            parameters.append({"name": name, "in": "header", "schema": schema, "description": text})
    if parameters:
        operation["parameters"] = parameters
    content = {} if route.body is None else {JSON: {"schema": schemas[route.body]}}
    content |= {media: {} for media in route.accepts}
    if content:
        operation["requestBody"] = {
            "content": content,
            "required": route.method != "DELETE" and not _optional(route),
        }
    return operation


def _optional(route: Route) -> bool:
    """Say whether an empty body is as good as an empty object."""
    if route.accepts and route.path != _CALL:
        return False
    return route.body is not None and not any(item.required for item in msgspec.structs.fields(route.body))


def _tag(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[1] if len(parts) > 1 else parts[0]


def _path_parameter(name: str) -> dict[str, Any]:
    texts = {
        "name": "A function's name, `namespace/name` or `name` for `default/name`; a slash may be encoded as %2F.",
        "peer": "A peer id.",
        "height": "A block's height.",
        "id": "From the list.",
        "user": "A user's name.",
        "key": "A setting's key.",
        "role": "A role's name.",
        "registry": "What the node calls a registry.",
        "file": "A file of the registry's tree.",
        "vendor": "A vendor's domain; `_` for the names of the mesh itself.",
        "namespace": "A namespace.",
        "webhook": "A webhook's name: small letters, digits, `_` and `-`.",
        "alert": "An alert rule's name: small letters, digits, `_` and `-`.",
    }
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": texts[name],
    }


def _success(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {media: {} for media in route.gives}
    if route.answer is object:
        content[JSON] = {"schema": {"description": 'The result; bytes are {"$bytes": base64}.'}}
    elif route.answer is dict:
        content[JSON] = {"schema": {"type": "object"}}
    elif route.answer is not None:
        content[JSON] = {"schema": schemas[route.answer]}
    answer: dict[str, Any] = {"description": route.summary, "content": content}
    if route.path == _CALL:
        answer["headers"] = {name: {"schema": {"type": "string"}} for name in CALL_HEADERS}
    return answer


def _failure(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": STATUSES[status],
        "content": {PROBLEM: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    if status in {429, 503}:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Whole seconds."}}
    return answer
