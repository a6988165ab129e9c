"""An optional mark on a plain function: what it is called in the mesh, and how it may be called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import qualified

__all__ = ["Marks", "function", "marks_of"]

_ATTRIBUTE = "__osiris_marks__"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Marks:
    """What was said of a function.

    Attributes:
        name: Its name in the mesh; empty: its own, in its folder's namespace.
        idempotent: A repeated call does no harm.
        timeout: Seconds one call may take; None: the default.
    """

    name: str = ""
    idempotent: bool = False
    timeout: float | None = None


@overload
def function(marked: F, /) -> F: ...


@overload
def function(*, name: str = "", idempotent: bool = False, timeout: float | None = None) -> Callable[[F], F]: ...


def function(
    marked: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    idempotent: bool = False,
    timeout: float | None = None,
) -> Any:
    """Mark a plain function, and change nothing of it: it is called, tested and imported as before.

    No function needs it. ``Mesh.local`` reads it; so does ``deploy``, from the syntax tree, where values are written as
    they are.

    Args:
        marked: The function, when the decorator stands without parentheses.
        name: Its name in the mesh, ``namespace/name``.
        idempotent: A repeated call does no harm.
        timeout: Seconds one call may take.

    Raises:
        UsageError: Not a name, or a time that is not positive.
    """
    if name:
        qualified(name)
    if timeout is not None and not timeout > 0:
        raise UsageError(f"a timeout of {timeout} s leaves no time", fix="give a positive number of seconds")
    marks = Marks(name, idempotent, timeout)

    def mark(plain: F) -> F:
        setattr(plain, _ATTRIBUTE, marks)
        return plain

    return mark if marked is None else mark(marked)


def marks_of(marked: Callable[..., Any]) -> Marks:
    """Return what was said of a function; nothing of one that is not marked."""
    marks = getattr(marked, _ATTRIBUTE, None)
    return marks if isinstance(marks, Marks) else Marks()
