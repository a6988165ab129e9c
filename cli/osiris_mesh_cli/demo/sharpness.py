"""Is a picture sharper than another? Decided without the library that sharpened it: PNG by its specification.

Sharpness is the mean square of the Laplacian of the brightness: what differs between a pixel and its four neighbours.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import CheckFailed

__all__ = ["Picture", "decode", "laplacian_energy"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 4: 2, 6: 4}
_MAX_PIXELS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        width: Pixels across.
        height: Pixels down.
        channels: Bytes a pixel.
        rows: One byte string a line, ``width * channels`` long.
    """

    width: int
    height: int
    channels: int
    rows: tuple[bytes, ...]


def decode(data: bytes) -> Picture:
    """Decode a PNG of 8 bits a channel, not interlaced, without a palette.

    Raises:
        CheckFailed: Not such a PNG, or a damaged one.
    """
    if not data.startswith(_SIGNATURE):
        raise CheckFailed("the answer is not a PNG")
    place, packed, header = len(_SIGNATURE), b"", b""
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        if len(checksum) != 4 or zlib.crc32(kind + body) != int.from_bytes(checksum, "big"):
            raise CheckFailed("a chunk of the PNG is damaged")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed += body
        place += 12 + length
    if len(header) != 13:
        raise CheckFailed("the PNG has no header")
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    channels = _CHANNELS.get(colour, 0)
    if bits != 8 or not channels or interlaced or not 0 < width * height <= _MAX_PIXELS:
        raise CheckFailed("the PNG is of a kind that is not checked here")
    size = (width * channels + 1) * height
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(packed, size + 1)
    except zlib.error:
        raise CheckFailed("the PNG's data do not inflate") from None
    if len(raw) != size:
        raise CheckFailed("the PNG has too few or too many lines")
    return Picture(width, height, channels, tuple(_unfilter(raw, width * channels, height, channels)))


def _unfilter(raw: bytes, stride: int, height: int, step: int) -> list[bytes]:
    """Undo the filters of PNG, section 9 of the specification."""
    rows: list[bytes] = []
    above = bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        if kind > 4:
            raise CheckFailed("a line of the PNG has a filter that does not exist")
        for index in range(stride):
            left = line[index - step] if index >= step else 0
            up = above[index]
            corner = above[index - step] if index >= step else 0
            guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
            line[index] = (line[index] + guess) & 255
        rows.append(bytes(line))
        above = line
    return rows


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    across, down, diagonal = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    if across <= down and across <= diagonal:
        return left
    return up if down <= diagonal else corner


def laplacian_energy(picture: Picture) -> float:
    """Return the sharpness of a picture: 0 for a flat one, without an upper bound."""
    step = picture.channels
    colours = min(3, step)
    grey = [
        [sum(row[start : start + colours]) for start in range(0, picture.width * step, step)] for row in picture.rows
    ]
    total = count = 0
    for above, line, below in zip(grey, grey[1:], grey[2:], strict=False):
        for x in range(1, picture.width - 1):
            value = 4 * line[x] - line[x - 1] - line[x + 1] - above[x] - below[x]
            total += value * value
        count += picture.width - 2
    return total / count / (colours * colours) if count > 0 else 0.0
