"""How one operation of an HTTP API is asked, as a short text in a record. A pure core.

The text stands in a provider's ``reference``, so that a signed record says all of it and nothing is fetched at a call::

    operation:GET:/users/{user-id}/posts?user_id=path:user-id&limit=query&X-Trace=header&payload=body

A field names the function's parameter and where it goes; after a colon the API's own name, where that is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from osiris_mesh.errors import UsageError
from osiris_mesh.function.json_form import to_json

__all__ = ["METHODS", "PREFIX", "Argument", "Operation", "Sent"]

PREFIX: Final = "operation:"
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PLACES: Final = frozenset({"path", "query", "header", "body"})
_MAX_ARGUMENTS: Final = 32
_RESERVED: Final = frozenset(
    {"host", "content-length", "content-type", "authorization", "connection", "transfer-encoding", "cookie", "te"}
)


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter.

    Attributes:
        name: The function's.
        place: ``path``, ``query``, ``header`` or ``body``.
        wire: The API's name of it.
    """

    name: str
    place: str
    wire: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method: HTTP method.
        path: Template, below the server's URL.
        arguments: In the order of the function's parameters.
    """

    method: str
    path: str
    arguments: tuple[Argument, ...] = ()

    def text(self) -> str:
        """Return its text; :meth:`parse` reads it."""
        fields = [
            f"{each.name}={each.place}" + (f":{quote(each.wire, safe='')}" if each.wire != each.name else "")
            for each in self.arguments
        ]
        return f"{PREFIX}{self.method}:{self.path}" + (f"?{'&'.join(fields)}" if fields else "")

    @classmethod
    def parse(cls, text: str) -> Operation:
        """Read an operation's text.

        Raises:
            UsageError: Not one.
        """
        head, _, fields = text.removeprefix(PREFIX).partition("?")
        method, colon, path = head.partition(":")
        if not text.startswith(PREFIX) or not colon or method not in METHODS or not path.startswith("/"):
            raise UsageError(f"{text[:200]!r} is not an operation", fix="it looks like operation:GET:/path?name=query")
        arguments: list[Argument] = []
        for field in fields.split("&") if fields else []:
            name, equals, rest = field.partition("=")
            place, _, wire = rest.partition(":")
            if not equals or not name.isidentifier() or place not in _PLACES:
                raise UsageError(f"{field[:60]!r} is not a parameter of an operation")
            arguments.append(Argument(name, place, unquote(wire) or name))
        if len(arguments) > _MAX_ARGUMENTS or len({each.name for each in arguments}) != len(arguments):
            raise UsageError(f"an operation has at most {_MAX_ARGUMENTS} parameters, each once")
        for each in arguments:
            if each.place == "header" and (each.wire.lower() in _RESERVED or not _is_token(each.wire)):
                raise UsageError(f"{each.wire[:60]!r} is not a header a caller may set")
            if each.place == "path" and f"{{{each.wire}}}" not in path:
                raise UsageError(f"the path {path[:200]} has no {{{each.wire}}}")
        return cls(method, path, tuple(arguments))

    def request(self, server: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sent:
        """Return the request for these arguments.

        Args:
            server: URL that the path is below.
            args: Positional arguments.
            kwargs: Keyword arguments; what is not given, or None, is left out.

        Raises:
            UsageError: They do not fit.
        """
        values = self._bound(args, kwargs)
        path, query, headers, body = self.path, [], {}, None
        for each in self.arguments:
            value = values.get(each.name)
            if each.place == "body":
                body = msgspec.json.encode(to_json(value)) if each.name in values else None
                continue
            if value is None:
                if each.place == "path":
                    raise UsageError(f"the argument {each.name!r} is missing")
                continue
            if each.place == "query":
                items = value if isinstance(value, (list, tuple)) else [value]
                query += [f"{quote(each.wire, safe='')}={quote(_scalar(item, each.name), safe='')}" for item in items]
            elif each.place == "path":
                segment = quote(_scalar(value, each.name), safe="")
                if segment in {"", ".", ".."}:
                    raise UsageError(f"the argument {each.name!r} can't be {segment!r}: it is a part of the path")
                path = path.replace(f"{{{each.wire}}}", segment)
            else:
                text = _scalar(value, each.name)
                if not text.isascii() or not text.isprintable():
                    raise UsageError(f"the argument {each.name!r} can't be sent in a header")
                headers[each.wire] = text
        url = server.rstrip("/") + path + (f"?{'&'.join(query)}" if query else "")
        return Sent(self.method, url, headers, body)

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = [each.name for each in self.arguments]
        if len(args) > len(names):
            raise UsageError(f"the operation takes {len(names)} arguments, and {len(args)} were given")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise UsageError(f"the operation has no parameter {name[:60]!r}, or it was given twice")
            values[name] = value
        return values


def _scalar(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise UsageError(f"the argument {name!r} is not a text or a number, and it goes into the request's line")


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
