"""One route, and the way from a path to it.

A path is a template: ``/v1/functions/{name}/logs``. A ``{name}`` is a function's name, of one to three segments, so
that it may be written as it is; a segment that ends a template (``logs`` here) is never taken for a part of the name. A
function that is really called so is reached with its slashes encoded: ``/v1/functions/text%2Flogs``. Any other
parameter is one segment.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import unquote

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.gateway.http.bearer import Bearer
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.gateway.http.problem import NoMethod

__all__ = [
    "BEARER",
    "BUNDLE",
    "CHANGE_ERRORS",
    "JSON",
    "MSGPACK",
    "PUBLIC",
    "Ask",
    "Output",
    "Piecewise",
    "Route",
    "Table",
]

PUBLIC: Final = "public"
"""The permission of a route that takes no bearer."""
BEARER: Final = "bearer"
"""The permission of a route for every bearer this mesh knows; the ledger decides the rest."""
JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
BUNDLE: Final = "application/vnd.osiris.bundle"
CHANGE_ERRORS: Final = (404, 409, 502, 504)
"""Statuses a change of the mesh may answer besides those of every route."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(slots=True)
class Ask:
    """One request as its handler sees it.

    Attributes:
        parts: The controller's parts.
        bearer: Who asks; None on a public route.
        names: Parameters of the path, decoded; a function's name as it was written.
        query: Of the route's query type.
        body: Of the route's body type, or bytes where the media type is not JSON.
        media: Media type of the body.
        request: The aiohttp request, for what answers piece by piece.
        headers: Headers every answer to it has.
    """

    parts: Parts
    bearer: Bearer
    names: dict[str, str]
    query: Any
    body: Any
    media: str
    request: Any
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Output:
    """An answer that is not 200 and JSON made of what a handler returns.

    Attributes:
        body: Bytes.
        media: Their media type.
        status: HTTP status.
        headers: More headers.
    """

    body: bytes
    media: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Piecewise:
    """An answer that turns out to come piece by piece, on a route whose answers mostly do not.

    Attributes:
        run: Sends it; counted and ended as a stream is.
    """

    run: Callable[[], Awaitable[Any]]


Handler = Callable[[Ask], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        method: HTTP method.
        path: Template.
        permission: What the bearer must have; :data:`PUBLIC` and :data:`BEARER` besides those of DESIGN.md of access.
        handler: Answers it.
        answer: Type of the answer in JSON; None: another media type.
        summary: One sentence.
        body: Type of the request's body in JSON; None: it has none.
        query: Type of the query; None: it has none.
        errors: Statuses beside those every route has.
        accepts: Media types of the body besides JSON.
        gives: Media types of the answer besides JSON.
        large: The body may be as large as a call's.
        stream: It answers piece by piece.
    """

    method: Method
    path: str
    permission: str
    handler: Handler
    answer: Any
    summary: str
    body: Any = None
    query: Any = None
    errors: tuple[int, ...] = ()
    accepts: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    large: bool = False
    stream: bool = False
    parameters: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.permission:
            raise UsageError(f"{self.method} {self.path} has no permission")
        object.__setattr__(self, "parameters", tuple(re.findall(r"\{(\w+)\}", self.path)))

    @property
    def statuses(self) -> tuple[int, ...]:
        """Every status of an error it may answer, ascending."""
        found = {400, 403, 429, 500, 503, *self.errors}
        if self.permission != PUBLIC:
            found.add(401)
        if self.body is not None or self.accepts:
            found |= {413, 415}
        return tuple(sorted(found))


class Table:
    """All routes of a face.

    Args:
        routes: No two of them with the same method and template.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        methods: dict[str, dict[str, Route]] = {}
        for route in routes:
            if route.method in methods.setdefault(route.path, {}):
                raise UsageError(f"{route.method} {route.path} stands twice")
            methods[route.path][route.method] = route
        # What ends in a word counts more than what ends in a parameter: {name}/logs before {name}.
        order = sorted(methods, key=lambda path: (path.endswith("}"), -path.count("/"), path))
        self._templates = [(re.compile(_pattern(path)), methods[path]) for path in order]
        self.find = lru_cache(maxsize=4096)(self._find)

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route of a path as it stands in the request line, without its query, and the path's parameters.

        The answer is shared: it is not to be changed.

        Raises:
            NotFound: No template fits.
            NoMethod: The path does not take this method.
            UsageError: What is percent-encoded in it is not UTF-8.
        """
        for pattern, routes in self._templates:
            match = pattern.fullmatch(path)
            if match is not None:
                route = routes.get("GET" if method == "HEAD" and "GET" in routes else method)
                if route is None:
                    allow = ", ".join(sorted(routes))
                    raise NoMethod(f"{path[:200]} does not take {method}", fix=f"it takes {allow}", allow=allow)
                try:
                    return route, {key: unquote(text, errors="strict") for key, text in match.groupdict().items()}
                except UnicodeDecodeError:
                    raise UsageError("what is percent-encoded in the path is not UTF-8") from None
        raise NotFound(f"there is nothing at {path[:200]}", fix="GET /v1/openapi.json lists what there is")


def _pattern(template: str) -> str:
    parts = []
    for part in re.split(r"(\{\w+\})", template):
        if part == "{name}":
            parts.append(r"(?P<name>[^/]+(?:/[^/]+){0,2})")
        elif part.startswith("{"):
            parts.append(rf"(?P<{part[1:-1]}>[^/]+)")
        else:
            parts.append(re.escape(part))
    return "".join(parts)
