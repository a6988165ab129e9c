"""Finds damage in SQLite's write-ahead log, which SQLite itself takes for the log's end.

Source: the SQLite file format, section 4 "The Write-Ahead Log". Each frame carries the salts of the log's header and a
checksum over everything before it. Where the first one does not hold, SQLite stops reading: right after a crash, when
the tail was not written to its end, but a changed byte in the middle would make blocks vanish without a word. It is
damage if a commit of the same log stands at or behind the frame that does not hold: then all of it was written once.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Final

from osiris_mesh.ledger.pages import PAGE

__all__ = ["check_log"]

_HEADER: Final = 32
_FRAME: Final = 24
_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}
_PAUSE_S: Final = 0.05


def _sum(data: bytes, order: str, first: int, second: int) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return first, second


def check_log(database: Path) -> list[str]:
    """Return what is wrong with the log beside ``database``, as sentences; empty if nothing, or if there is none.

    A node that runs may be writing it: damage counts only if it is still the same after a pause.
    """
    path = database.with_name(database.name + "-wal")
    first = _look(path)
    if first:
        time.sleep(_PAUSE_S)
        if _look(path) != first:
            return []
    return first


def _look(path: Path) -> list[str]:
    try:
        with path.open("rb") as log:
            header = log.read(_HEADER)
            if len(header) < _HEADER:
                return []
            magic, _, size, *_ = struct.unpack(">IIII", header[:16])
            order = _ORDERS.get(magic)
            sums = _sum(header[:24], order, 0, 0) if order else (0, 0)
            if order is None or size != PAGE or sums != struct.unpack(">II", header[24:]):
                return [f"the header of {path.name} is damaged"]
            salts = header[16:24]
            bad, frame = 0, 0
            while len(head := log.read(_FRAME)) == _FRAME and len(page := log.read(PAGE)) == PAGE:
                frame += 1
                ours = head[8:16] == salts
                if not bad:
                    sums = _sum(head[:8] + page, order, *sums)
                    if not ours or sums != struct.unpack(">II", head[16:24]):
                        bad = frame
                if bad and ours and head[4:8] != bytes(4):
                    return [f"{path.name} has changed in frame {bad}; blocks after it can't be read"]
    except FileNotFoundError:
        pass
    return []
