"""What is shown while something takes longer than a second.

On a terminal one line is refreshed in place and gone when it is done; elsewhere the text is said once. Nothing is
written before a second has passed, so quick commands stay silent.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Final, Self, TextIO

__all__ = ["Busy", "hide"]

_DELAY_SECONDS: Final = 1.0
_FRAME_SECONDS: Final = 0.2
_FRAMES: Final = "|/-\\"
_CLEAR: Final = "\r\x1b[K"
_lock = threading.RLock()
_shown: list[Busy] = []


def hide() -> None:
    """Take the line away, so that something else may be written; the next frame brings it back."""
    with _lock:
        for busy in _shown:
            busy.clear()


class Busy:
    """Shows ``text`` and the seconds that passed, from the first second on; a context.

    Args:
        text: What is being done, without a full stop.
        stream: Where to; stderr if None.
        delay: Seconds of silence.
        plain: Say it once where there is no terminal.
    """

    def __init__(
        self, text: str, *, stream: TextIO | None = None, delay: float = _DELAY_SECONDS, plain: bool = True
    ) -> None:
        self._text = text
        self._stream = sys.stderr if stream is None else stream
        self._delay = delay
        self._plain = plain
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._visible = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        with _lock:
            self.clear()
            if self in _shown:
                _shown.remove(self)

    def clear(self) -> None:
        """Take the line away."""
        if self._visible:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._visible = False

    def _run(self) -> None:
        begin = time.monotonic()
        if self._done.wait(self._delay):
            return
        if not self._stream.isatty():
            if self._plain:
                self._stream.write(f"{self._text} …\n")
                self._stream.flush()
            return
        with _lock:
            _shown.append(self)
        frame = 0
        while not self._done.is_set():
            with _lock:
                if _shown[-1] is self:
                    turn = _FRAMES[frame % len(_FRAMES)]
                    self._stream.write(f"{_CLEAR}{turn} {self._text} … {time.monotonic() - begin:.0f} s")
                    self._stream.flush()
                    self._visible = True
            frame += 1
            self._done.wait(_FRAME_SECONDS)
