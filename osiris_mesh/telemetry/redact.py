"""Secrets never reach a log: fields are masked by name, tokens wherever they stand in a text."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

__all__ = ["MASK", "Redact", "fields_of", "redact_text", "safe"]

MASK: Final = "[masked]"
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}
# Bytes under such a name are a secret; so is text, except under names with "key": a setting's name is a key too.
_SECRET_BYTES: Final = re.compile(r"key|seed|token|secret|password|passphrase|credential", re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(
    r"seed|token|secret|password|passphrase|credential|authorization|cookie|(private|network|node|user|api)_key",
    re.IGNORECASE,
)
_PUBLIC: Final = re.compile(r"public|_(id|ids|count|uses|hash|digest)\Z", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(os[ma]1)[A-Za-z0-9_-]{16,}")
_SHOWN_BYTES: Final = 32
_SHOWN_ITEMS: Final = 32
_SHOWN_TEXT: Final = 4096
_DEPTH: Final = 3


def redact_text(text: str) -> str:
    """Return ``text`` with join tokens masked."""
    return _TOKEN.sub(rf"\g<1>{MASK}", text) if "osm1" in text or "osa1" in text else text


def safe(name: str, value: Any, depth: int = _DEPTH) -> Any:
    """Return ``value`` as JSON types, bounded in size, its secrets masked.

    Args:
        name: Name of the field it stands under.
        value: Anything.
        depth: Containers inside containers that are shown.
    """
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None:
        return value
    public = _PUBLIC.search(name) is not None
    if isinstance(value, (bytes, bytearray, memoryview)):
        if not public and _SECRET_BYTES.search(name):
            return MASK
        raw = bytes(value[:_SHOWN_BYTES])
        return raw.hex() + ("…" if len(value) > _SHOWN_BYTES else "")
    if not public and _SECRET_TEXT.search(name):
        return MASK
    if isinstance(value, dict) and depth:
        shown = list(value.items())[:_SHOWN_ITEMS]
        return {str(key): safe(f"{name}.{key}", item, depth - 1) for key, item in shown}
    if isinstance(value, (list, tuple, set, frozenset)) and depth:
        return [safe(name, item, depth - 1) for item in list(value)[:_SHOWN_ITEMS]]
    text = value if isinstance(value, str) else str(value)
    return redact_text(text[:_SHOWN_TEXT])


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields an event was logged with (``extra``), in the order given."""
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD and name[0] != "_"}


class Redact(logging.Filter):
    """Masks the secrets of every record that passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's text and fields by what may be shown; it always passes."""
        if record.args:
            # Bytes handed to a format string have no name to judge them by.
            arguments = record.args if isinstance(record.args, tuple) else tuple(record.args.values())
            if any(isinstance(argument, (bytes, bytearray, memoryview)) for argument in arguments):
                record.args = tuple(
                    MASK if isinstance(argument, (bytes, bytearray, memoryview)) else argument for argument in arguments
                )
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            # A wrong format string is a defect of ours, and no reason to lose the line.
            text = str(record.msg)
        record.msg, record.args = redact_text(text), None
        for name, value in fields_of(record).items():
            record.__dict__[name] = safe(name, value)
        return True
