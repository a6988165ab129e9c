"""A function's standard streams: whole lines, marked with the call they belong to.

A marked line is ``RS call US text LF``. What goes to the descriptors past these objects arrives unmarked.
"""

from __future__ import annotations

import io
import os
import threading
from contextvars import ContextVar
from typing import Any, Final

__all__ = ["CURRENT_CALL", "MARK", "MARK_END", "LineStream"]

MARK: Final = b"\x1e"
MARK_END: Final = b"\x1f"
CURRENT_CALL: ContextVar[str] = ContextVar("osiris_call", default="")
"""Id of the call that runs in this context."""

_MAX_HELD: Final = 65_536


class LineStream(io.TextIOBase):
    """A text stream that writes each line at once, whole.

    Args:
        descriptor: Where to.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._held: dict[str, str] = {}
        self.buffer = _Bytes(self)

    encoding = "utf-8"
    errors = "replace"

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; lines go out, the rest waits."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        call = CURRENT_CALL.get()
        with self._lock:
            whole = self._held.pop(call, "") + text
            lines, newline, rest = whole.rpartition("\n")
            if len(rest) > _MAX_HELD:
                lines, newline, rest = whole, "\n", ""
            if rest:
                self._held[call] = rest
            if newline:
                self._emit(call, lines)
        return len(text)

    def flush(self) -> None:
        """Send out what waits of the current call's last line."""
        call = CURRENT_CALL.get()
        if call in self._held:
            with self._lock:
                rest = self._held.pop(call, "")
                if rest:
                    self._emit(call, rest)

    def _emit(self, call: str, lines: str) -> None:
        mark = MARK + call.encode() + MARK_END if call else b""
        data = b"".join(mark + line.encode("utf-8", "replace") + b"\n" for line in lines.split("\n"))
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


class _Bytes(io.RawIOBase):
    """``sys.stdout.buffer``: bytes straight to the descriptor, behind the text before them."""

    def __init__(self, text: LineStream) -> None:
        super().__init__()
        self._text = text

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def write(self, data: Any, /) -> int:
        self._text.flush()
        return os.write(self._text.fileno(), data)
