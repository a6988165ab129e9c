"""Frames: a 4-byte big-endian length, then one strict msgpack array whose first item says which frame it is.

========  ============================================  ==================================================
frame     array                                         meaning
========  ============================================  ==================================================
OPEN      ``[0, id, flags, method, headers, bytes]``    begin a stream; the first piece of its first message
DATA      ``[1, id, flags, bytes]``                     a piece of a message
END       ``[2, id]``                                   the sender sends nothing more on this stream
RESET     ``[3, id, error map or nil]``                 the stream is over at once; nil: no longer wanted
CREDIT    ``[4, id, count]``                            the receiver may take ``count`` bytes more
PING      ``[5, token]``                                answer with the same token
PONG      ``[6, token]``                                the answer
========  ============================================  ==================================================

A stream's id is positive in frames of the end that opened it and negative in frames of the other, so that both ends
may open streams without agreeing who counts how. Flags: 1 END (as an END frame behind this one), 2 MORE (the message
goes on in the next DATA), 4 URGENT (OPEN only: all frames of the stream overtake bulk).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import OsirisError, RemoteProtocolError, UsageError

__all__ = [
    "CREDIT",
    "DATA",
    "END",
    "FLAG_END",
    "FLAG_MORE",
    "FLAG_URGENT",
    "MAX_FRAME",
    "MAX_HEADERS",
    "MAX_PIECE",
    "OPEN",
    "PING",
    "PONG",
    "RESET",
    "credit_frame",
    "data_frame",
    "data_lead",
    "data_piece",
    "end_frame",
    "open_frame",
    "parse",
    "ping_frame",
    "pong_frame",
    "reset_frame",
]

OPEN: Final = 0
DATA: Final = 1
END: Final = 2
RESET: Final = 3
CREDIT: Final = 4
PING: Final = 5
PONG: Final = 6

FLAG_END: Final = 1
FLAG_MORE: Final = 2
FLAG_URGENT: Final = 4

MAX_PIECE: Final = 65_536
"""Payload bytes of one frame: what an urgent frame may have to wait for."""
MAX_HEADERS: Final = 32_768
"""Bytes of the packed headers of an OPEN."""
MAX_METHOD: Final = 128
MAX_ID: Final = (1 << 53) - 1
MAX_FRAME: Final = MAX_PIECE + MAX_HEADERS + 1024
"""Bytes behind the length prefix."""

_LIMITS: Final = Limits(size=MAX_FRAME, depth=10, count=4096)
_FIELDS: Final = (6, 4, 2, 3, 3, 2, 2)
_MAX_ERROR: Final = 49_152
_ERROR_TEXT: Final = 4096


def _bin_head(size: int) -> bytes:
    """Return what msgpack writes in front of ``size`` bytes, in its shortest form."""
    if size < 0x100:
        return bytes((0xC4, size))
    return b"\xc5" + size.to_bytes(2, "big") if size < 0x10000 else b"\xc6" + size.to_bytes(4, "big")


def _prefixed(packed: bytes) -> bytes:
    return len(packed).to_bytes(4, "big") + packed


def open_frame(stream_id: int, flags: int, method: str, headers: Mapping[str, Any], piece: bytes | memoryview) -> bytes:
    """Return an OPEN frame.

    Raises:
        UsageError: The method or the headers are larger than a frame takes, or hold what can't be sent.
    """
    head = pack([OPEN, stream_id, flags, method, headers])
    if len(head) > MAX_HEADERS:
        raise UsageError(f"the headers of a call of {method[:MAX_METHOD]} take more than {MAX_HEADERS} bytes")
    # An array of 5 becomes one of 6: the piece is appended without passing through the encoder once more.
    lead = b"\x96" + head[1:] + _bin_head(len(piece))
    return b"".join(((len(lead) + len(piece)).to_bytes(4, "big"), lead, piece))


def data_frame(stream_id: int, flags: int, piece: bytes | memoryview) -> bytes:
    """Return a DATA frame."""
    return _prefixed(msgpack.packb([DATA, stream_id, flags, piece], use_bin_type=True))


def data_lead(stream_id: int, flags: int, size: int) -> bytes:
    """Return a DATA frame up to its payload of ``size`` bytes, which is written behind it without a copy."""
    head: bytes = msgpack.packb([DATA, stream_id, flags])
    lead = b"\x94" + head[1:] + _bin_head(size)
    return (len(lead) + size).to_bytes(4, "big") + lead


_INTEGERS: Final = {
    0xCC: (1, False),
    0xCD: (2, False),
    0xCE: (4, False),
    0xCF: (8, False),
    0xD0: (1, True),
    0xD1: (2, True),
    0xD2: (4, True),
    0xD3: (8, True),
}
_BINARIES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}


def data_piece(data: memoryview) -> tuple[int, int, memoryview] | None:
    """Return id, flags and payload of a DATA frame, the payload in place; None: leave it to :func:`parse`.

    The same frames as :func:`parse` takes, without the copy that a decoder makes.

    Args:
        data: The frame's bytes behind the length prefix, at least 32 of them.
    """
    if data[0] != 0x94 or data[1] != DATA:
        return None
    mark, at = data[2], 3
    if mark < 0x80:
        number = mark
    elif mark >= 0xE0:
        number = mark - 0x100
    else:
        width, signed = _INTEGERS.get(mark, (0, False))
        at += width
        number = int.from_bytes(data[3:at], "big", signed=signed)
    flags = data[at]
    width = _BINARIES.get(data[at + 1], 0)
    start = at + 2 + width
    size = int.from_bytes(data[at + 2 : start], "big")
    if not 0 < abs(number) <= MAX_ID or flags > FLAG_MORE or not width or start + size != len(data) or size > MAX_PIECE:
        return None
    return number, flags, data[start:]


def end_frame(stream_id: int) -> bytes:
    """Return an END frame."""
    return _prefixed(msgpack.packb([END, stream_id]))


def reset_frame(stream_id: int, error: OsirisError | None) -> bytes:
    """Return a RESET frame; an error too large for a frame, or with details that can't be sent, is cut."""
    if error is None:
        return _prefixed(msgpack.packb([RESET, stream_id, None]))
    wire = error.to_wire()
    try:
        packed = pack([RESET, stream_id, wire])
        if len(packed) <= _MAX_ERROR:
            return _prefixed(unpackable(packed))
    except (UsageError, RemoteProtocolError):
        pass
    simple = {
        str(key)[:64]: value[-_ERROR_TEXT:] if isinstance(value, str | bytes) else value
        for key, value in list(error.details.items())[:8]
        if isinstance(value, str | bytes | bool | float) or (isinstance(value, int) and abs(value) < 1 << 63)
    }
    wire = {"code": error.code, "what": error.what[:_ERROR_TEXT], "fix": error.fix[:_ERROR_TEXT], "details": simple}
    return _prefixed(pack([RESET, stream_id, wire]))


def unpackable(packed: bytes) -> bytes:
    """Return ``packed`` if the other end will accept it.

    Raises:
        RemoteProtocolError: It would not.
    """
    unpack(packed, _LIMITS)
    return packed


def credit_frame(stream_id: int, count: int) -> bytes:
    """Return a CREDIT frame."""
    return _prefixed(msgpack.packb([CREDIT, stream_id, count]))


def ping_frame(token: int) -> bytes:
    """Return a PING frame."""
    return _prefixed(msgpack.packb([PING, token]))


def pong_frame(token: int) -> bytes:
    """Return a PONG frame."""
    return _prefixed(msgpack.packb([PONG, token]))


def parse(data: bytes | memoryview) -> list[Any]:
    """Return the items of the frame whose bytes behind the length prefix are ``data``, all of checked type and range.

    Raises:
        RemoteProtocolError: Not a frame.
    """
    frame = unpack(data, _LIMITS)
    if type(frame) is not list or not frame:
        raise RemoteProtocolError("a frame is not an array")
    kind = frame[0]
    if type(kind) is not int or not 0 <= kind <= PONG or len(frame) != _FIELDS[kind]:
        raise RemoteProtocolError("a frame of no known kind, or with too few or too many items")
    number = frame[1]
    if type(number) is not int or not -MAX_ID <= number <= MAX_ID:
        raise RemoteProtocolError("a frame's number is out of range")
    if kind == DATA:
        flags, piece = frame[2], frame[3]
        if type(flags) is not int or not 0 <= flags <= FLAG_MORE:
            raise RemoteProtocolError("a DATA frame has unknown flags")
        if type(piece) is not bytes or len(piece) > MAX_PIECE:
            raise RemoteProtocolError("a DATA frame's payload is not bytes, or too long")
    elif kind == OPEN:
        _, _, flags, method, headers, piece = frame
        if type(flags) is not int or not 0 <= flags < 8 or flags & 3 == 3:
            raise RemoteProtocolError("an OPEN frame has unknown flags")
        if type(method) is not str or not 0 < len(method) <= MAX_METHOD or not method.isascii():
            raise RemoteProtocolError("an OPEN frame names no method")
        if type(headers) is not dict:
            raise RemoteProtocolError("an OPEN frame's headers are not a map")
        if type(piece) is not bytes or len(piece) > MAX_PIECE:
            raise RemoteProtocolError("an OPEN frame's payload is not bytes, or too long")
    elif kind == RESET:
        if frame[2] is not None and type(frame[2]) is not dict:
            raise RemoteProtocolError("a RESET frame's error is neither a map nor nil")
    elif kind == CREDIT:
        if type(frame[2]) is not int or not 0 < frame[2] <= MAX_ID:
            raise RemoteProtocolError("a CREDIT frame's count is out of range")
    elif kind >= PING and number < 0:
        raise RemoteProtocolError("a token is negative")
    if kind < PING and number == 0:
        raise RemoteProtocolError("a stream's id is zero")
    return frame
