"""JSON Schemas of a function's arguments and result, and the way from a tool's arguments to a call's. A pure core.

Hints are read as :mod:`osiris_mesh.function.hints` reads them: parsed, never evaluated. What they do not say, the
schema does not either. Bytes are ``{"$bytes": "<base64>"}``, as everywhere in JSON.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from osiris_mesh.errors import UsageError
from osiris_mesh.function.hints import MAX_ANNOTATION
from osiris_mesh.function.signature import Parameter, Signature

__all__ = ["arguments_of", "input_schema", "output_schema", "schema_of"]

_MAX_DEPTH: Final = 16
_POSITIONAL_ONLY, _EITHER, _REST, _KEYWORD_ONLY, _KEYWORD_REST = range(5)
_MODULES: Final = frozenset({"typing", "typing_extensions", "t", "builtins"})
_BYTES: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"$bytes": {"type": "string", "contentEncoding": "base64"}},
    "required": ["$bytes"],
    "additionalProperties": False,
}
_PLAIN: Final[dict[str, dict[str, Any]]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bytes": _BYTES,
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "list": {"type": "array"},
    "List": {"type": "array"},
    "tuple": {"type": "array"},
    "Tuple": {"type": "array"},
    "dict": {"type": "object"},
    "Dict": {"type": "object"},
}


@lru_cache(maxsize=4096)
def _parsed(annotation: str) -> dict[str, Any] | None:
    if not annotation or len(annotation) > MAX_ANNOTATION:
        return None
    try:
        return _schema(ast.parse(annotation.strip(), mode="eval").body, _MAX_DEPTH)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def schema_of(annotation: str) -> dict[str, Any] | None:
    """Return the JSON Schema of a hint's text; None when it says nothing that JSON Schema can."""
    return _parsed(annotation)


def input_schema(signature: Signature) -> dict[str, Any]:
    """Return the schema of a tool's arguments: an object with a property a parameter.

    ``*args`` is an array under its own name; with ``**kwargs`` other properties are taken too.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    more: Any = False
    for item in signature.parameters:
        schema = schema_of(item.annotation)
        if item.kind == _KEYWORD_REST:
            more = schema if schema is not None else True
            continue
        if item.kind == _REST:
            properties[item.name] = {"type": "array", "items": schema} if schema is not None else {"type": "array"}
            continue
        properties[item.name] = schema if schema is not None else _untold(item)
        if not item.has_default:
            required.append(item.name)
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": more}
    if required:
        found["required"] = required
    return found


def output_schema(signature: Signature) -> dict[str, Any] | None:
    """Return the schema of a tool's structured result, ``{"result": …}``; None when the return hint says nothing."""
    schema = schema_of(signature.returns)
    if schema is None:
        return None
    return {"type": "object", "properties": {"result": schema}, "required": ["result"], "additionalProperties": False}


def arguments_of(signature: Signature, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of the call a tool's arguments mean.

    Raises:
        UsageError: They can't be one: a positional parameter is left out and one after it is given.
    """
    left = dict(given)
    rest = next((item for item in signature.parameters if item.kind == _REST), None)
    more = left.pop(rest.name, None) if rest is not None else None
    if more is not None and not isinstance(more, list):
        raise UsageError(f"{signature.name}() argument {rest.name!r}: expected list" if rest else "")
    args: list[Any] = []
    gap = ""
    for item in signature.parameters:
        # By position only where nothing else will do: a keyword never lands on the wrong parameter.
        by_place = item.kind == _POSITIONAL_ONLY or (item.kind == _EITHER and bool(more))
        if not by_place:
            continue
        if item.name not in left:
            gap = gap or item.name
        elif gap:
            raise UsageError(f"{signature.name}() takes {item.name!r} by position, so {gap!r} must be given too")
        else:
            args.append(left.pop(item.name))
    if gap and more:
        raise UsageError(f"{signature.name}() takes what is in {rest.name!r} after {gap!r}" if rest else "")
    return [*args, *(more or [])], left


def _untold(item: Parameter) -> dict[str, Any]:
    return {"description": item.annotation} if item.annotation else {}


def _schema(node: ast.expr, depth: int) -> dict[str, Any] | None:
    if depth == 0:
        return None
    match node:
        case ast.Constant(value=None):
            return _PLAIN["None"]
        case ast.Constant(value=str(text)):
            return schema_of(text) if len(text) < MAX_ANNOTATION else None
        case ast.BinOp(op=ast.BitOr(), left=one, right=other):
            return _union([one, other], depth)
        case ast.Subscript(value=base, slice=index):
            return _generic(_name(base), index.elts if isinstance(index, ast.Tuple) else [index], depth - 1)
        case _:
            return _PLAIN.get(_name(node))


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _MODULES:
        return node.attr
    return ""


def _union(nodes: Sequence[ast.expr], depth: int) -> dict[str, Any] | None:
    members: list[dict[str, Any]] = []
    for node in nodes:
        member = _schema(node, depth - 1)
        if member is None:
            return None
        members += member.get("anyOf", [member])
    unlike = [member for place, member in enumerate(members) if member not in members[:place]]
    return unlike[0] if len(unlike) == 1 else {"anyOf": unlike}


def _generic(name: str, items: Sequence[ast.expr], depth: int) -> dict[str, Any] | None:
    match name:
        case "Optional" if len(items) == 1:
            return _union([items[0], ast.Constant(None)], depth)
        case "Union" if items:
            return _union(items, depth)
        case "Annotated" if items:
            return _schema(items[0], depth)
        case "Literal":
            values = [item.value for item in items if isinstance(item, ast.Constant)]
            told = len(values) == len(items) and all(isinstance(each, (str, int, type(None))) for each in values)
            return {"enum": values} if told else None
        case "list" | "List" if len(items) == 1:
            return _array(_schema(items[0], depth))
        case "dict" | "Dict" if len(items) == 2:
            value = _schema(items[1], depth)
            return {"type": "object"} if value is None else {"type": "object", "additionalProperties": value}
        case "tuple" | "Tuple" if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is ...:
            return _array(_schema(items[0], depth))
        case "tuple" | "Tuple":
            schemas = [_schema(item, depth) or {} for item in items]
            return {"type": "array", "prefixItems": schemas, "minItems": len(schemas), "maxItems": len(schemas)}
        case _:
            return None


def _array(items: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": "array"} if items is None else {"type": "array", "items": items}
