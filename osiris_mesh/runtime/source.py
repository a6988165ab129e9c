"""What a Python file says about its functions, read from its syntax tree.

Nothing here runs any of it: a decorator, a default value or a module-level line of a stranger's file is only text.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field
from typing import Final

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.signature import Signature
from osiris_mesh.runtime.marking import Marks, marks_of, names_of_the_mark

__all__ = ["MAX_SOURCE", "FoundFunction", "choose", "public_functions"]

MAX_SOURCE: Final = 4 << 20
"""Bytes of one source file that is parsed; the parser's own memory is a large multiple of it."""

_MAX_DESCRIPTION = 1000


@dataclass(frozen=True, slots=True)
class FoundFunction:
    """A public function of a file.

    Attributes:
        file: Path of the file inside the bundle.
        name: The function's name.
        line: Line of its ``def``.
        is_async: Whether it is an ``async def``.
        signature: Its parameters and result, as written.
        description: First paragraph of its docstring, on one line.
        marks: What the SDK's optional mark says.
    """

    file: str
    name: str
    line: int
    is_async: bool
    signature: Signature
    description: str
    marks: Marks = field(default_factory=Marks)


def public_functions(source: bytes, file: str) -> list[FoundFunction]:
    """Return the functions defined at the top level of a file whose names don't start with an underscore.

    Args:
        source: The file's bytes.
        file: Its path inside the bundle, for messages and :attr:`FoundFunction.file`.

    Returns:
        In the order of the file; of two with one name the later, as Python does.

    Raises:
        UsageError: The file does not parse (the text gives the line), or is too large.
    """
    if len(source) > MAX_SOURCE:
        raise UsageError(f"{file} has {len(source)} bytes, more than the {MAX_SOURCE} of a source file")
    try:
        tree = ast.parse(source, filename=file)
    except SyntaxError as error:
        shown = f": {error.text.strip()}" if error.text else ""
        raise UsageError(
            f"{file}, line {error.lineno or 0}: {error.msg}{shown}", fix="correct the syntax", line=error.lineno or 0
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{file} can't be parsed: {type(error).__name__} {error}") from None
    text = source.decode("utf-8-sig", "replace")
    found: dict[str, FoundFunction] = {}
    mark = names_of_the_mark(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found[node.name] = FoundFunction(
                file=file,
                name=node.name,
                line=node.lineno,
                is_async=isinstance(node, ast.AsyncFunctionDef),
                signature=Signature.from_ast(node, text),
                description=_first_paragraph(node),
                marks=marks_of(node, mark, file),
            )
    return list(found.values())


def choose(found: list[FoundFunction], wanted: str | None, where: str) -> list[FoundFunction]:
    """Return the function a user named, or all of them.

    Args:
        found: Every public function of what is deployed.
        wanted: ``function`` or ``file.py::function``; None for all.
        where: What is deployed, for messages.

    Raises:
        NotFound: There is no such function, or none at all.
        UsageError: The same name stands in several files.
    """
    if not found:
        raise NotFound(
            f"{where} defines no public function",
            fix="define one at the top level of the file, with a name that doesn't start with an underscore; "
            "or name the folder it is in",
        )
    if wanted is None:
        return found
    file, separator, name = wanted.rpartition("::")
    chosen = [one for one in found if one.name == name and (not separator or one.file == file)]
    if len(chosen) > 1:
        files = ", ".join(one.file for one in chosen)
        raise UsageError(f"{name!r} is defined in several files: {files}", fix=f"name one: {chosen[0].file}::{name}")
    if not chosen:
        names = ", ".join(sorted({one.name for one in found}))
        raise NotFound(f"{where} has no public function {wanted!r}", fix=f"it has: {names}")
    return chosen


def _first_paragraph(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    return " ".join(text.split("\n\n")[0].split())[:_MAX_DESCRIPTION]
