"""One line an event: JSON for programs, plain text for people."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final

from osiris_mesh.telemetry.redact import fields_of, redact_text

__all__ = ["JsonLines", "TextLines"]

_OWN: Final = frozenset({"time", "level", "event", "logger", "node", "peer_id", "error"})
_COLOURS: Final = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m", "debug": "\x1b[2m"}


def _stamp(created: float) -> str:
    """Return UTC with milliseconds, RFC 3339."""
    whole = int(created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((created - whole) * 1000):03d}Z"


class _Lines(logging.Formatter):
    """What both forms share: who says it is bound once.

    Args:
        node: Name of the node.
        peer: Its peer id.
    """

    def __init__(self, node: str, peer: str) -> None:
        super().__init__()
        self._node = node
        self._peer = peer

    def trace(self, record: logging.LogRecord) -> str:
        """Return the traceback of a logged exception, tokens masked."""
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return redact_text(record.exc_text or "")


class JsonLines(_Lines):
    """``{"time", "level", "event", "logger", "node", "peer_id", …fields, "error"}``.

    A field by one of those names is written as ``field_<name>``: nothing an event carries can pass for who says it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            "node": self._node,
            "peer_id": self._peer,
        }
        for name, value in fields_of(record).items():
            line[f"field_{name}" if name in _OWN else name] = value
        trace = self.trace(record)
        if trace:
            line["error"] = trace
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str)


class TextLines(_Lines):
    """``12:00:00.000 warning  node  event  name=value …``; a line break inside a value is escaped.

    Args:
        node: Name of the node.
        peer: Its peer id; left out of the lines, as a person sees one node's lines at a time.
        colour: Mark levels with colours, for a terminal.
    """

    def __init__(self, node: str, peer: str, *, colour: bool = False) -> None:
        super().__init__(node, peer)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end; a traceback follows on lines of its own."""
        level = record.levelname.lower()
        clock = _stamp(record.created)[11:-1]
        words = [f"{name}={_word(value)}" for name, value in fields_of(record).items()]
        text = record.getMessage().replace("\n", "\\n")
        line = "  ".join(filter(None, [f"{clock} {level:<8} {self._node}", text, " ".join(words)]))
        if self._colour and level in _COLOURS:
            line = f"{_COLOURS[level]}{line}\x1b[0m"
        trace = self.trace(record)
        return f"{line}\n{trace}" if trace else line


def _word(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(' "='):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
