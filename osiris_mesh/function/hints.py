"""Simple type hints, checked from their text alone.

An annotation is parsed with ``ast`` and turned into a check once; nothing is ever imported or evaluated. Known are
``int float str bytes bool None list dict tuple`` (the last three with or without items), ``Optional``, ``Union``,
``|``, ``Any``, ``Literal`` and ``Annotated``, also behind ``typing.``. Any other name, and a text that is no
expression, passes everything: the worker, which has the real class, decides there.

Decisions, where Python's own answer would not do:

* an ``int`` is good for ``float`` (PEP 484), a ``bool`` is good for neither ``int`` nor ``float``: a JSON ``true``
  where a number belongs is a mistake far more often than a wish;
* ``list`` and ``tuple`` stand for each other, because both travel as msgpack's array;
* ``bytearray`` and ``memoryview`` are good for ``bytes``, as they travel as the same.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

__all__ = ["MAX_ANNOTATION", "Check", "Fault", "check_of"]

MAX_ANNOTATION: Final = 1024
_MAX_DEPTH: Final = 16
_MAX_SHOWN: Final = 40

Fault = tuple[str, str, str]
"""Where inside the value (``[2]['name']``, empty for the value itself), what was expected there, what was found."""


class Check(Protocol):
    """One compiled annotation."""

    text: str

    def accepts(self, value: Any) -> bool:
        """Say whether ``value`` fits."""
        ...

    def fault(self, value: Any) -> Fault:
        """Return where a ``value`` that does not fit goes wrong."""
        ...


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


class _Plain:
    """A class without items: its exact types first, then subclasses."""

    __slots__ = ("_bases", "_exact", "text")

    def __init__(self, text: str, *kinds: type) -> None:
        self.text = text
        self._exact = frozenset(kinds)
        self._bases = kinds

    def accepts(self, value: Any) -> bool:
        kind = type(value)
        return kind in self._exact or (kind is not bool and isinstance(value, self._bases))

    def accepts_all(self, values: Sequence[Any]) -> bool:
        return self._exact.issuperset(map(type, values)) or all(map(self.accepts, values))

    def fault(self, value: Any) -> Fault:
        return "", self.text, _kind(value)


class _Literal:
    __slots__ = ("_values", "text")

    def __init__(self, text: str, values: Sequence[Any]) -> None:
        self.text = text
        # With the class, because 1 == True.
        self._values = frozenset((type(value), value) for value in values)

    def accepts(self, value: Any) -> bool:
        kind = type(value)
        return kind in {str, int, bytes, bool, type(None)} and (kind, value) in self._values

    def fault(self, value: Any) -> Fault:
        shown = repr(value) if isinstance(value, (str, int, bytes, bool, float)) else _kind(value)
        return "", self.text, shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 1]}…"


class _List:
    __slots__ = ("_item", "text")

    def __init__(self, text: str, item: Check | None) -> None:
        self.text = text
        self._item = item

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, (list, tuple)):
            return False
        item = self._item
        if item is None:
            return True
        if isinstance(item, _Plain):
            return item.accepts_all(value)
        return all(map(item.accepts, value))

    def fault(self, value: Any) -> Fault:
        if isinstance(value, (list, tuple)) and self._item is not None:
            for place, one in enumerate(value):
                if not self._item.accepts(one):
                    path, expected, found = self._item.fault(one)
                    return f"[{place}]{path}", expected, found
        return "", self.text, _kind(value)


class _Tuple:
    """A tuple of a fixed length; ``tuple[X, ...]`` is a :class:`_List`."""

    __slots__ = ("_items", "text")

    def __init__(self, text: str, items: Sequence[Check | None]) -> None:
        self.text = text
        self._items = tuple(items)

    def accepts(self, value: Any) -> bool:
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(self._items)
            and all(item is None or item.accepts(one) for item, one in zip(self._items, value, strict=True))
        )

    def fault(self, value: Any) -> Fault:
        if not isinstance(value, (list, tuple)):
            return "", self.text, _kind(value)
        if len(value) != len(self._items):
            return "", self.text, f"{len(value)} items"
        for place, (item, one) in enumerate(zip(self._items, value, strict=True)):
            if item is not None and not item.accepts(one):
                path, expected, found = item.fault(one)
                return f"[{place}]{path}", expected, found
        return "", self.text, _kind(value)


class _Dict:
    """A map; whatever its annotation says of keys, only strings travel."""

    __slots__ = ("_value", "text")

    def __init__(self, text: str, value: Check | None) -> None:
        self.text = text
        self._value = value

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            return False
        check = self._value
        return check is None or all(map(check.accepts, value.values()))

    def fault(self, value: Any) -> Fault:
        if not isinstance(value, dict):
            return "", self.text, _kind(value)
        for key, one in value.items():
            if not isinstance(key, str):
                return "", f"{self.text} with keys of str", f"a key of {_kind(key)}"
            if self._value is not None and not self._value.accepts(one):
                path, expected, found = self._value.fault(one)
                return f"[{key[:_MAX_SHOWN]!r}]{path}", expected, found
        return "", self.text, _kind(value)


class _Union:
    __slots__ = ("_members", "text")

    def __init__(self, text: str, members: Sequence[Check]) -> None:
        self.text = text
        self._members = tuple(members)

    def accepts(self, value: Any) -> bool:
        return any(member.accepts(value) for member in self._members)

    def fault(self, value: Any) -> Fault:
        # When one member got further than the surface, its finding says more than the whole union.
        deeper = [fault for fault in (member.fault(value) for member in self._members) if fault[0]]
        return deeper[0] if len(deeper) == 1 else ("", self.text, _kind(value))


_INT: Final = _Plain("int", int)
_PLAIN: Final[dict[str, Check]] = {
    "int": _INT,
    "float": _Plain("float", float, int),
    "str": _Plain("str", str),
    "bytes": _Plain("bytes", bytes, bytearray, memoryview),
    "bool": _Plain("bool", bool),
    "None": _Plain("None", type(None)),
    "list": _List("list", None),
    "List": _List("list", None),
    "tuple": _List("tuple", None),
    "Tuple": _List("tuple", None),
    "dict": _Dict("dict", None),
    "Dict": _Dict("dict", None),
}
_MODULES: Final = frozenset({"typing", "typing_extensions", "t", "builtins"})


@lru_cache(maxsize=4096)
def check_of(annotation: str) -> Check | None:
    """Return the check for an annotation's text; None when it passes everything."""
    if not annotation or len(annotation) > MAX_ANNOTATION:
        return None
    try:
        tree = ast.parse(annotation.strip(), mode="eval")
        return _compile(tree.body, _MAX_DEPTH)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _name(node: ast.expr) -> str:
    """Return the plain name a node stands for, ``typing.`` left out; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _MODULES:
        return node.attr
    return ""


def _compile(node: ast.expr, depth: int) -> Check | None:
    if depth == 0:
        return None
    match node:
        case ast.Constant(value=None):
            return _PLAIN["None"]
        case ast.Constant(value=str(text)):
            return check_of(text) if len(text) < MAX_ANNOTATION else None
        case ast.BinOp(op=ast.BitOr()):
            return _union(_alternatives(node), depth)
        case ast.Subscript(value=base, slice=index):
            items = index.elts if isinstance(index, ast.Tuple) else [index]
            return _generic(_name(base), items, depth - 1)
        case _:
            return _PLAIN.get(_name(node))


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """Return the members of ``a | b | c`` in their order, without recursing along the chain."""
    found: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        found.append(node.right)
        node = node.left
    found.append(node)
    return found[::-1]


def _union(nodes: Sequence[ast.expr], depth: int) -> Check | None:
    members: list[Check] = []
    for node in nodes:
        member = _compile(node, depth - 1)
        if member is None:
            return None
        members.append(member)
    return _Union(" | ".join(member.text for member in members), members)


def _text(check: Check | None) -> str:
    return "Any" if check is None else check.text


def _generic(name: str, items: Sequence[ast.expr], depth: int) -> Check | None:
    match name:
        case "Optional" if len(items) == 1:
            return _union([*_alternatives(items[0]), ast.Constant(None)], depth)
        case "Union" if items:
            return _union(items, depth)
        case "Annotated" if items:
            return _compile(items[0], depth)
        case "Literal":
            values = [_literal(item) for item in items]
            if any(value is _literal for value in values):
                return None
            return _Literal(f"Literal[{', '.join(map(repr, values))}]", values)
        case "list" | "List" if len(items) == 1:
            item = _compile(items[0], depth)
            return _List(f"list[{_text(item)}]", item)
        case "dict" | "Dict" if len(items) == 2:
            value = _compile(items[1], depth)
            return _Dict(f"dict[str, {_text(value)}]", value)
        case "tuple" | "Tuple" if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is ...:
            item = _compile(items[0], depth)
            return _List(f"tuple[{_text(item)}, ...]", item)
        case "tuple" | "Tuple":
            checks = [_compile(item, depth) for item in items]
            return _Tuple(f"tuple[{', '.join(map(_text, checks))}]", checks)
        case _:
            return None


def _literal(node: ast.expr) -> Any:
    """Return a literal's value, or this function itself where there is none (None is a value)."""
    match node:
        case ast.Constant(value=None | bool() | int() | str() | bytes()):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))) if not isinstance(number, bool):
            return -number
        case _:
            return _literal
