"""The SDK's optional mark on a function, read from the syntax tree: ``@function(name=…, idempotent=…, timeout=…)``.

Only values that stand there as they are count: what would have to be run to be known is refused, never guessed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import qualified

__all__ = ["Marks", "marks_of", "names_of_the_mark"]

_MODULE: Final = "osiris_sdk"
_NAME: Final = "function"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a mark says; the fields are those of :class:`~osiris_mesh.function.spec.FunctionSpec`.

    Attributes:
        name: Name in the mesh, or empty.
        idempotent: A repeated call does no harm; None: not said.
        timeout_ms: Longest time of one call; None: not said.
    """

    name: str = ""
    idempotent: bool | None = None
    timeout_ms: int | None = None

    def limits(self) -> dict[str, int | bool]:
        """Return the fields that were given."""
        given = {"idempotent": self.idempotent, "timeout_ms": self.timeout_ms}
        return {key: value for key, value in given.items() if value is not None}


def names_of_the_mark(tree: ast.Module) -> frozenset[str]:
    """Return what the mark is called in a file: ``function``, ``osiris_sdk.function`` or what it was imported as."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == _MODULE and not node.level:
            names |= {alias.asname or alias.name for alias in node.names if alias.name == _NAME}
        elif isinstance(node, ast.Import):
            names |= {f"{alias.asname or alias.name}.{_NAME}" for alias in node.names if alias.name == _MODULE}
    return frozenset(names)


def marks_of(node: ast.FunctionDef | ast.AsyncFunctionDef, names: frozenset[str], file: str) -> Marks:
    """Return what a function's mark says; nothing if it has none.

    Args:
        node: The function's definition.
        names: What the mark is called in the file.
        file: For messages.

    Raises:
        UsageError: A value that is not written out, or does not fit.
    """
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in names:
            return _read(decorator, f"the mark of {node.name} in {file}")
    return Marks()


def _read(call: ast.Call, where: str) -> Marks:
    if call.args:
        raise UsageError(f"{where} has arguments without names", fix='write @function(name="…")')
    given: dict[str, object] = {}
    for keyword in call.keywords:
        if keyword.arg is None or not isinstance(keyword.value, ast.Constant):
            raise UsageError(
                f"{where} is only known once it runs",
                fix="write its values out, or use [tool.osiris.function]",
            )
        given[keyword.arg] = keyword.value.value
    name, idempotent, timeout = given.pop("name", ""), given.pop("idempotent", None), given.pop("timeout", None)
    if given:
        raise UsageError(f"{where} says {', '.join(given)}", fix="it takes name, idempotent and timeout")
    if not isinstance(name, str) or not (idempotent is None or isinstance(idempotent, bool)):
        raise UsageError(f"{where} has a name that is no text, or an idempotent that is neither True nor False")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
        raise UsageError(f"{where} has a timeout that is no number of seconds above 0")
    timeout_ms = None if timeout is None else max(int(timeout * 1000), 1)
    return Marks(qualified(name) if name else "", idempotent, timeout_ms)
