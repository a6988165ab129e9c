"""Starts structured logging for one process.

Everybody logs through the standard library: ``logging.getLogger(__name__).info("link cut", extra={"peer": peer})``, an
event's name and its fields. Nothing is formatted or queued while a level is off.

Lines are written by a thread of their own behind a bounded queue: a full disk or a terminal that nobody reads never
holds up the loop. What does not fit is dropped and counted, and the count is logged.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import queue
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from osiris_mesh.errors import UsageError
from osiris_mesh.telemetry.lines import JsonLines, TextLines
from osiris_mesh.telemetry.redact import Redact

__all__ = ["LEVELS", "STYLES", "Logging", "start_logging"]

LEVELS: Final = ("debug", "info", "warning", "error")
STYLES: Final = ("text", "json")
OURS: Final = ("osiris", "osiris_mesh", "osiris_sdk", "osiris_mesh_cli")
_QUEUE: Final = 10_000
_CLOSE_SECONDS: Final = 2.0
_log = logging.getLogger("osiris.telemetry")


class _Bounded(logging.handlers.QueueHandler):
    """Queues records without ever waiting; counts what did not fit."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as the filter made it; only a traceback must be read before its frames are gone."""
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue it, or count it as dropped."""
        try:
            if self.dropped:
                lost = _log.makeRecord(_log.name, logging.WARNING, "", 0, "log lines dropped", (), None)
                lost.__dict__["count"] = self.dropped
                self.queue.put_nowait(lost)
                self.dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Writer(logging.handlers.QueueListener):
    """The writing thread; stopping it takes a bounded time even if what it writes to hangs."""

    _thread: threading.Thread | None

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None], output: logging.Handler) -> None:
        super().__init__(waiting, output)
        self._waiting = waiting

    def enqueue_sentinel(self) -> None:
        """Ask the thread to end after what waits; where the queue is full the oldest line makes room."""
        while True:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                with suppress(queue.Empty):
                    self._waiting.get_nowait()
            else:
                return

    def end(self) -> bool:
        """Stop; False if the thread still hangs in a write. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return False
        self.enqueue_sentinel()
        thread.join(_CLOSE_SECONDS)
        return not thread.is_alive()


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotated file that only its owner can read."""

    def _open(self) -> io.TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return io.TextIOWrapper(io.FileIO(descriptor, "a"), self.encoding, self.errors, write_through=True)


class Logging:
    """Logging that was started; :meth:`close` ends it and gives the process back as it was."""

    def __init__(self, handler: _Bounded, writer: _Writer, output: logging.Handler, level: str) -> None:
        self._handler = handler
        self._writer = writer
        self._output = output
        self._before = {name: logging.getLogger(name).level for name in ("", *OURS)}
        self.set_level(level)
        logging.getLogger().addHandler(handler)
        writer.start()

    def set_level(self, level: str) -> None:
        """Log events of ``level`` and above; of other people's libraries warnings and above at most.

        Raises:
            UsageError: It is none of :data:`LEVELS`.
        """
        if level not in LEVELS:
            raise UsageError(f"{level!r} is no log level", fix=f"use one of {', '.join(LEVELS)}")
        number = int(logging.getLevelName(level.upper()))
        logging.getLogger().setLevel(max(number, logging.WARNING))
        for name in OURS:
            logging.getLogger(name).setLevel(number)

    def close(self) -> None:
        """Write what waits, for 2 s at most, and stop; may be called twice."""
        logging.getLogger().removeHandler(self._handler)
        if self._writer.end():
            # A thread that hangs in a write holds the output's lock: then it is left to the end of the process.
            self._output.close()
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)

    def __enter__(self) -> Logging:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_logging(
    *,
    node: str,
    peer: str = "",
    level: str = "info",
    style: str = "text",
    file: Path | None = None,
    stream: TextIO | None = None,
    max_bytes: int = 10 << 20,
    keep: int = 4,
) -> Logging:
    """Send every event of this process to a file or a stream.

    Args:
        node: Name of the node, on every line.
        peer: Its peer id, on every JSON line.
        level: One of :data:`LEVELS`.
        style: ``json``, one document a line, or ``text``.
        file: Where to; rotated at ``max_bytes``, readable by its owner alone. None: ``stream``.
        stream: Where to if not to a file; None: stderr.
        max_bytes: Size at which the file is rotated.
        keep: Rotated files that are kept besides; so ``(keep + 1) * max_bytes`` is all the disk it takes.

    Raises:
        UsageError: Level or style is none of the known ones.
    """
    if style not in STYLES:
        raise UsageError(f"{style!r} is no log style", fix=f"use one of {', '.join(STYLES)}")
    output: logging.Handler
    if file is not None:
        output = _PrivateFile(file, maxBytes=max_bytes, backupCount=keep, encoding="utf-8", errors="replace")
    else:
        output = logging.StreamHandler(stream or sys.stderr)
    target = sys.stderr if stream is None else stream
    colour = file is None and target.isatty() and "NO_COLOR" not in os.environ
    output.setFormatter(JsonLines(node, peer) if style == "json" else TextLines(node, peer, colour=colour))
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUE)
    handler = _Bounded(waiting)
    handler.addFilter(Redact())
    try:
        return Logging(handler, _Writer(waiting, output), output, level)
    except UsageError:
        output.close()
        raise
