"""From an OpenAPI 3 description to what can be called of it, and what can't, one by one. A pure core.

Taken: parameters in path, query and header in their plain styles, one JSON body, references inside the document. What
else an operation needs makes it a gap; the others are found all the same.
"""

from __future__ import annotations

import hashlib
import keyword
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.function.signature import Parameter, Signature
from osiris_mesh.registry.providers.endpoint import Capability, Discovery, Gap
from osiris_mesh.registry.providers.operation import METHODS, Argument, Operation

__all__ = ["MAX_OPERATIONS", "annotation", "capabilities", "identifier"]

MAX_OPERATIONS: Final = 1000
_MAX_DEPTH: Final = 12
_MAX_REFERENCE: Final = 384
_MAX_SCHEMA: Final = 16_384
_WORD: Final = re.compile(r"[^A-Za-z0-9]+")
_STYLES: Final = {"path": "simple", "query": "form", "header": "simple"}
_KINDS: Final = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "object": "dict",
    "array": "list",
    "null": "None",
}


class _NotTaken(Exception):
    """Why an operation can't be called."""


def capabilities(document: Any) -> Discovery:
    """Return the operations of a description.

    Args:
        document: Decoded JSON.

    Raises:
        UsageError: Not a description of OpenAPI 3.
    """
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise UsageError("the document is not a description of OpenAPI 3", fix="name the URL of its openapi.json")
    paths = document.get("paths")
    if not isinstance(paths, dict):
        raise UsageError("the description has no paths")
    found: list[Capability] = []
    gaps: list[Gap] = []
    for path, item in sorted((str(path), item) for path, item in paths.items()):
        if not isinstance(item, dict) or "$ref" in item:
            gaps.append(Gap(path[:200], "its item is elsewhere, or no object"))
            continue
        for method in sorted(key for key in item if key in _VERBS):
            where = f"{method.upper()} {path[:200]}"
            if len(found) + len(gaps) >= MAX_OPERATIONS:
                gaps.append(Gap("description", f"it has more than {MAX_OPERATIONS} operations; the rest is left out"))
                return Discovery(found, gaps)
            try:
                found.append(_capability(document, path, method.upper(), item, item[method]))
            except _NotTaken as reason:
                gaps.append(Gap(where, str(reason)))
            except OsirisError as error:
                gaps.append(Gap(where, error.what))
    return Discovery(found, gaps)


_VERBS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


def _capability(document: dict[str, Any], path: str, method: str, item: dict[str, Any], given: Any) -> Capability:
    if method not in METHODS:
        raise _NotTaken(f"the method {method} is not called")
    if not isinstance(given, dict):
        raise _NotTaken("the operation is no object")
    if given.get("servers") or item.get("servers"):
        raise _NotTaken("it has servers of its own")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or any(c in path for c in " ?#&"):
        raise _NotTaken("its path has letters that a path has not")
    parameters: dict[tuple[str, str], dict[str, Any]] = {}
    for source in (item.get("parameters"), given.get("parameters")):
        if source is not None and not isinstance(source, list):
            raise _NotTaken("its parameters are no list")
        for each in source or []:
            known = _resolved(document, each)
            parameters[str(known.get("in")), str(known.get("name"))] = known
    taken: set[str] = set()
    rows: list[tuple[Argument, bool, str]] = []
    for (place, name), each in parameters.items():
        rows.append(_parameter(document, place, name, each, taken))
    if body := given.get("requestBody"):
        rows.append(_body(document, _resolved(document, body), taken))
    for name in re.findall(r"\{([^{}]*)\}", path[:512]):
        if not any(row[0].place == "path" and row[0].wire == name for row in rows):
            raise _NotTaken(f"the path's {{{name[:60]}}} is not among its parameters")
    rows.sort(key=lambda row: not row[1])
    operation = Operation(method, path, tuple(row[0] for row in rows))
    reference = operation.text()
    if len(reference) > _MAX_REFERENCE:
        raise _NotTaken(f"it has more parameters than {_MAX_REFERENCE} letters hold")
    Operation.parse(reference)
    name = identifier(str(given.get("operationId") or f"{method.lower()}_{path}"))
    returns = _returns(document, given.get("responses"))
    signature = Signature(tuple(Parameter(row[0].name, 1, not row[1], row[2]) for row in rows), returns, name)
    description = str(given.get("summary") or given.get("description") or "")[:4096]
    pinned = {"method": method, "path": path, "parameters": list(parameters.values()), "operation": given}
    digest = hashlib.sha256(msgspec.json.encode(pinned, order="sorted")).hexdigest()
    return Capability(reference, name, description, digest, signature.to_wire())


def _parameter(
    document: dict[str, Any], place: str, name: str, each: dict[str, Any], taken: set[str]
) -> tuple[Argument, bool, str]:
    style = _STYLES.get(place)
    if style is None:
        raise _NotTaken(f"the parameter {name[:60]!r} goes into {place[:20]}")
    if each.get("style", style) != style or "content" in each or each.get("allowReserved"):
        raise _NotTaken(f"the parameter {name[:60]!r} is written in a style of its own")
    schema = _resolved(document, each.get("schema") or {})
    kind = schema.get("type")
    if kind == "object" or (kind == "array" and (place != "query" or each.get("explode") is False)):
        raise _NotTaken(f"the parameter {name[:60]!r} is an {kind} in {place}")
    required = place == "path" or each.get("required") is True
    word = identifier(name, taken)
    return Argument(word, place, name), required, annotation(document, schema, optional=not required)


def _body(document: dict[str, Any], body: dict[str, Any], taken: set[str]) -> tuple[Argument, bool, str]:
    content = body.get("content")
    if not isinstance(content, dict):
        raise _NotTaken("its body has no content")
    media = next((key for key in content if str(key).partition(";")[0] == "application/json"), None)
    if media is None:
        raise _NotTaken(f"its body is {', '.join(sorted(map(str, content)))[:100]} and not application/json")
    schema = _resolved(document, _resolved(document, content[media]).get("schema") or {})
    required = body.get("required") is True
    word = identifier("body", taken)
    return Argument(word, "body", word), required, annotation(document, schema, optional=not required)


def _returns(document: dict[str, Any], responses: Any) -> str:
    if not isinstance(responses, dict):
        return ""
    code = next((key for key in ("200", "201", "2XX", "default") if key in responses), None)
    if code is None:
        return ""
    try:
        content = _resolved(document, responses[code]).get("content") or {}
        return annotation(document, _resolved(document, (content.get("application/json") or {}).get("schema") or {}))
    except (_NotTaken, AttributeError):
        return ""


def _resolved(document: dict[str, Any], node: Any) -> dict[str, Any]:
    for _ in range(_MAX_DEPTH):
        if not isinstance(node, dict):
            raise _NotTaken("a part of it is no object")
        reference = node.get("$ref")
        if reference is None:
            return node
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise _NotTaken(f"it refers to another document: {str(reference)[:100]}")
        node = document
        for part in reference[2:].split("/")[:_MAX_DEPTH]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or key not in node:
                raise _NotTaken(f"it refers to what is not there: {reference[:100]}")
            node = node[key]
    raise _NotTaken("its references go round in a circle")


def annotation(document: dict[str, Any], schema: Mapping[str, Any], *, optional: bool = False, depth: int = 0) -> str:
    """Return the type hint for a JSON Schema; empty if none says it."""
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else [str(kind) for kind in kinds] if isinstance(kinds, list) else []
    if schema.get("nullable") is True:
        names.append("null")
    if not names or any(name not in _KINDS for name in names):
        return ""
    words: list[str] = []
    for name in dict.fromkeys(names):
        word = _KINDS[name]
        if name == "array" and depth < 3 and isinstance(schema.get("items"), dict):
            try:
                inner = annotation(document, _resolved(document, schema["items"]), depth=depth + 1)
            except _NotTaken:
                inner = ""
            word = f"list[{inner}]" if inner else "list"
        words.append(word)
    if optional and "None" not in words:
        words.append("None")
    return " | ".join(words)


def identifier(text: str, taken: set[str] | None = None) -> str:
    """Return a Python name made of a text, unlike those ``taken``, which it joins."""
    word = _WORD.sub("_", text[:256]).strip("_")[:60] or "unnamed"
    if word[0].isdigit() or keyword.iskeyword(word):
        word = f"p_{word}"
    if taken is None:
        return word
    found, number = word, 2
    while found in taken:
        found, number = f"{word}_{number}", number + 1
    taken.add(found)
    return found
