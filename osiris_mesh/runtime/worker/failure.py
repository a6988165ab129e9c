"""From an exception inside a function to the error its caller gets."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import Any

from osiris_mesh.errors import FunctionError, LimitExceeded, OsirisError

__all__ = ["Frames", "describe"]

_MAX_MESSAGE = 4096
_MAX_TRACEBACK = 12_288
_MAX_FRAMES = 40


class Frames:
    """Which frames of a traceback are the function's own.

    Args:
        code: Folder of the bundle's files; paths in tracebacks are relative to it.
        site: Folder of installed dependencies, or empty.
        kit: Folder of ours, whose frames are left out.
    """

    def __init__(self, code: str, site: str, kit: str) -> None:
        self._code = f"{code}/"
        self._site = f"{site}/" if site else ""
        self._kit = f"{kit}/"

    def text(self, error: BaseException) -> str:
        """Return the traceback of ``error`` and of what caused it, as Python formats it, without our frames."""
        try:
            whole = traceback.TracebackException(
                type(error), error, error.__traceback__, limit=-_MAX_FRAMES, compact=True
            )
            seen: set[int] = set()
            self._clean(whole, seen)
            text = "".join(whole.format())
        except Exception as broken:  # noqa: BLE001 - an exception's own methods may raise anything
            return f"(the traceback can't be shown: {type(broken).__name__})"
        return text if len(text) <= _MAX_TRACEBACK else f"…{text[-_MAX_TRACEBACK:]}"

    def _clean(self, part: traceback.TracebackException | None, seen: set[int]) -> None:
        if part is None or id(part) in seen:
            return
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list(list(self._own(part.stack)))
        self._clean(part.__cause__, seen)
        self._clean(part.__context__, seen)
        for other in getattr(part, "exceptions", None) or ():
            self._clean(other, seen)

    def _own(self, stack: Iterable[traceback.FrameSummary]) -> Iterable[traceback.FrameSummary]:
        for frame in stack:
            name = frame.filename
            if name.startswith((self._kit, "<frozen importlib")):
                continue
            _ = frame.line  # read while the path still leads to the source
            for folder in (self._code, self._site):
                if folder and name.startswith(folder):
                    frame.filename = name[len(folder) :]
            yield frame


def describe(error: BaseException, frames: Frames, what: str, memory: int, *, function: str = "") -> OsirisError:
    """Return what the caller is told.

    Args:
        error: What the function raised; ``SystemExit`` and ``KeyboardInterrupt`` are no different.
        frames: Which frames are its own.
        what: What failed, for the text: the function's name, or its import.
        memory: Bytes it may use, for the text.
        function: The function's name, if it was the function that raised.
    """
    if isinstance(error, MemoryError):
        return LimitExceeded(
            f"{what} needed more than its {memory >> 20} MiB of memory",
            fix="raise it with --memory, or use less",
            limit="memory",
            traceback=frames.text(error),
        )
    if isinstance(error, FunctionError) and error.type and function:
        return error.let_through(function, frames.text(error))
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)[:_MAX_MESSAGE]
    except Exception as broken:  # noqa: BLE001 - an exception's own __str__ may raise anything
        message = f"(its text can't be shown: {type(broken).__name__})"
    path: dict[str, Any] = {"path": [function]} if function else {}
    return FunctionError(
        f"{what} raised {name}: {message}"[:_MAX_MESSAGE] if message else f"{what} raised {name}",
        type=name[:200],
        message=message,
        traceback=frames.text(error),
        **path,
    )
