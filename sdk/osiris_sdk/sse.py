"""Server-sent events, read piece by piece; no I/O.

Source: WHATWG HTML, section "Server-sent events", event stream interpretation.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from osiris_mesh.errors import RemoteProtocolError

__all__ = ["EventReader", "SentEvent"]

_MAX_EVENT: Final = 4 << 20


class SentEvent(NamedTuple):
    """One event: its name (``message`` if it has none), its data, and the last id that was sent."""

    name: str
    data: str
    id: str


class EventReader:
    """Puts events together from the bytes of a stream."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._scanned = 0
        self._name = ""
        self._id = ""
        self._data: list[str] = []
        self._size = 0
        self._first = True

    def feed(self, data: bytes) -> list[SentEvent]:
        """Take bytes and return the events that are complete.

        Raises:
            RemoteProtocolError: Not UTF-8, or an event of more than 4 MiB.
        """
        held = self._held
        held += data
        events: list[SentEvent] = []
        start = 0
        while True:
            end, after = _line_end(held, max(start, self._scanned))
            if end < 0:
                break
            self._scanned = 0
            self._line(bytes(held[start:end]), events)
            start = after
        del held[:start]
        self._scanned = max(len(held) - 1, 0)
        if len(held) + self._size > _MAX_EVENT:
            raise RemoteProtocolError(f"an event of more than {_MAX_EVENT} bytes")
        return events

    def _line(self, line: bytes, events: list[SentEvent]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(SentEvent(self._name or "message", "\n".join(self._data), self._id))
            self._name, self._data, self._size = "", [], 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("an event is not UTF-8") from None
        if field == b"data":
            self._size += len(value) + 1
            if self._size > _MAX_EVENT:
                raise RemoteProtocolError(f"an event of more than {_MAX_EVENT} bytes")
            self._data.append(text)
        elif field == b"event":
            self._name = text
        elif field == b"id" and "\0" not in text:
            self._id = text


def _line_end(held: bytearray, start: int) -> tuple[int, int]:
    """Return where the next line ends and where the one behind it begins; (-1, -1) if that is not yet known."""
    feed = held.find(b"\n", start)
    carriage = held.find(b"\r", start, feed if feed >= 0 else len(held))
    if carriage < 0:
        return (feed, feed + 1) if feed >= 0 else (-1, -1)
    if carriage + 1 == len(held):
        # Whether a line feed belongs to it comes with the next bytes.
        return -1, -1
    return carriage, carriage + (2 if held[carriage + 1] == 0x0A else 1)
