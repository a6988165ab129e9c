"""What controllers tell each other of providers and names: the body of a message on the topic ``health``. A pure core.

A map of four lists, each bounded, and a word, in msgpack's shortest form::

    names    [full name, sequence]              a name has a statement of this sequence
    seen     [id, endpoint, ok, failed]         calls the sender made lately, in thousandths, decayed
    down     [id, endpoint, is_down]            the sender's breaker opened or closed
    placed   line                               a provider's own placement, as it signed it
    region                                      label of where the sender runs; empty: none

The message's signature is the observer's: what is ``seen`` counts by who said it (reputation.py). ``down`` and
``names`` are hints: they make the receiver look for itself, nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError

__all__ = ["MAX_DOWN", "MAX_NAMES", "MAX_PLACED", "MAX_SEEN", "TOPIC", "HealthNews"]

TOPIC: Final = "health"
MAX_NAMES: Final = 256
MAX_SEEN: Final = 64
MAX_DOWN: Final = 64
MAX_PLACED: Final = 8
_LIMITS: Final = Limits(size=60_000, depth=4, count=256)
_MAX_COUNT: Final = 1_000_000_000
_MAX_WORD: Final = 1024
_MAX_LINE: Final = 8192
_MAX_REGION: Final = 64


@dataclass(frozen=True, slots=True)
class HealthNews:
    """One message.

    Attributes:
        names: Full name and sequence.
        seen: Id, endpoint, calls that went well, calls that failed.
        down: Id, endpoint, and whether it is left alone now.
        placed: Placements as signed.
        region: Label of where the sender runs.
    """

    names: tuple[tuple[str, int], ...] = ()
    seen: tuple[tuple[str, str, float, float], ...] = ()
    down: tuple[tuple[str, str, bool], ...] = ()
    placed: tuple[bytes, ...] = ()
    region: str = ""

    def to_wire(self) -> bytes:
        """Return the body; the first of each list, as far as the bounds let."""
        return pack(
            {
                "down": [list(item) for item in self.down[:MAX_DOWN]],
                "names": [list(item) for item in self.names[:MAX_NAMES]],
                "placed": [line for line in self.placed[:MAX_PLACED] if len(line) <= _MAX_LINE],
                "region": self.region[:_MAX_REGION],
                "seen": [
                    [name, endpoint, _thousandths(ok), _thousandths(failed)]
                    for name, endpoint, ok, failed in self.seen[:MAX_SEEN]
                ],
            }
        )

    @classmethod
    def from_wire(cls, data: bytes) -> HealthNews:
        """Read a body.

        Raises:
            RemoteProtocolError: Not one.
        """
        value = unpack_canonical(data, _LIMITS)
        if not isinstance(value, dict) or list(value) != ["down", "names", "placed", "region", "seen"]:
            raise RemoteProtocolError("news of health is not a map of its four lists and the region")
        region = value["region"]
        if type(region) is not str or len(region) > _MAX_REGION:
            raise RemoteProtocolError("news of health has a region that is none")
        rows = [
            _rows(value["names"], (str, int), MAX_NAMES),
            _rows(value["seen"], (str, str, int, int), MAX_SEEN),
            _rows(value["down"], (str, str, bool), MAX_DOWN),
        ]
        placed = value["placed"]
        if not isinstance(placed, list) or len(placed) > MAX_PLACED or not all(map(_is_line, placed)):
            raise RemoteProtocolError("news of health has placements that are none")
        seen = tuple((name, endpoint, ok / 1000, failed / 1000) for name, endpoint, ok, failed in rows[1])
        return cls(tuple(rows[0]), seen, tuple(rows[2]), tuple(placed), region)


def _thousandths(count: float) -> int:
    return min(max(int(count * 1000), 0), _MAX_COUNT)


def _is_line(item: Any) -> bool:
    return type(item) is bytes and len(item) <= _MAX_LINE


def _rows(rows: Any, kinds: tuple[type, ...], most: int) -> list[Any]:
    if not isinstance(rows, list) or len(rows) > most:
        raise RemoteProtocolError("news of health has a list that is none, or too long")
    found = []
    for row in rows:
        if not isinstance(row, list) or tuple(map(type, row)) != kinds:
            raise RemoteProtocolError("news of health has an item of another form")
        for item in row:
            if isinstance(item, str) and not 0 < len(item) <= _MAX_WORD:
                raise RemoteProtocolError("news of health has a word that is too long")
            if type(item) is int and not 0 <= item <= _MAX_COUNT:
                raise RemoteProtocolError("news of health has a number out of bounds")
        found.append(tuple(row))
    return found
