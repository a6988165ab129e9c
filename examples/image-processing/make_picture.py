"""Renders ``picture.png``: an evening at a lake between mountains, a little out of focus, so that there is something to
sharpen. Every pixel is computed here; nothing was fetched. Run it to make the file anew: ``python make_picture.py``.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
import zlib
from pathlib import Path

WIDTH, HEIGHT = 360, 240
HORIZON = 150
SUN = (252, 96)
Pixel = tuple[float, float, float]


def mix(one: Pixel, other: Pixel, part: float) -> Pixel:
    part = min(1.0, max(0.0, part))
    return tuple(a + (b - a) * part for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def ridge(seed: int, base: float, height: float, roughness: float) -> list[float]:
    """Return the skyline of a mountain range by midpoint displacement, one height a column."""
    draw = random.Random(seed)  # noqa: S311 - a picture, the same each time
    points = [draw.random(), draw.random()]
    spread = 1.0
    while len(points) < WIDTH + 1:
        between = [
            (left + right) / 2 + draw.uniform(-spread, spread) * 0.5 for left, right in itertools.pairwise(points)
        ]
        points = [value for pair in zip(points, between, strict=False) for value in pair] + [points[-1]]
        spread *= roughness
    low, high = min(points), max(points)
    return [base - height * (value - low) / (high - low) for value in points[:WIDTH]]


def land(x: int, y: int, far: list[float], middle: list[float], near: list[float]) -> Pixel:
    """Return the colour of what stands above the water line."""
    sky = mix((38, 48, 92), (250, 176, 118), (y / HORIZON) ** 1.4)
    distance = math.hypot(x - SUN[0], y - SUN[1])
    colour = mix((255, 244, 214), mix((255, 206, 140), sky, distance / 150), (distance - 13) / 4)
    if y > far[x]:
        snow = y < far[x] + 7 + 3 * math.sin(x * 0.31)
        colour = mix((196, 178, 190), (128, 112, 140), 0.0 if snow else 1.0)
    if y > middle[x]:
        colour = mix((88, 82, 112), (120, 104, 118), (y - middle[x]) / 40)
    if y > near[x]:
        # Firs: narrow triangles along the near ridge.
        colour = (30, 38, 46)
    return colour


def scene() -> list[list[Pixel]]:
    far = ridge(11, 128, 74, 0.56)
    middle = ridge(5, 142, 46, 0.60)
    slope = ridge(29, 150, 18, 0.62)
    near = [
        level - max(0.0, 9 - 2.4 * abs((x % 9) - 4)) * (0.6 + 0.4 * math.sin(x * 0.7)) for x, level in enumerate(slope)
    ]
    rows = [[land(x, y, far, middle, near) for x in range(WIDTH)] for y in range(HORIZON)]
    for y in range(HORIZON, HEIGHT):
        depth = (y - HORIZON) / (HEIGHT - HORIZON)
        row = []
        for x in range(WIDTH):
            sway = math.sin(y * 0.9 + math.sin(x * 0.05) * 2) * (1 + 5 * depth)
            above = rows[max(0, min(HORIZON - 1, round(2 * HORIZON - y * 1.0 - 1 + sway * 0.6)))]
            mirrored = above[max(0, min(WIDTH - 1, round(x + sway)))]
            row.append(mix(mirrored, (24, 36, 66), 0.22 + 0.5 * depth))
        rows.append(row)
    return rows


def blurred(rows: list[list[Pixel]]) -> list[list[Pixel]]:
    """Return the picture a little out of focus: a binomial filter of five, across and down."""
    weights = (1, 4, 6, 4, 1)

    def along(line: list[Pixel]) -> list[Pixel]:
        last = len(line) - 1
        return [
            tuple(
                sum(weight * line[min(last, max(0, place + step - 2))][part] for step, weight in enumerate(weights))
                / 16
                for part in range(3)
            )  # type: ignore[misc]
            for place in range(len(line))
        ]

    across = [along(row) for row in rows]
    down = [along(list(column)) for column in zip(*across, strict=True)]
    return [list(row) for row in zip(*down, strict=True)]


def encode(rows: list[list[Pixel]]) -> bytes:
    """Return the picture as a PNG; each line by the filter that leaves the smallest differences."""
    packed = bytearray()
    before = bytes(WIDTH * 3)
    for row in rows:
        line = bytes(round(part) for pixel in row for part in pixel)
        left = bytes(3) + line[:-3]
        corner = bytes(3) + before[:-3]
        lines = [
            bytes((a - b) & 255 for a, b in zip(line, left, strict=True)),
            bytes((a - b) & 255 for a, b in zip(line, before, strict=True)),
            bytes((a - (b + c) // 2) & 255 for a, b, c in zip(line, left, before, strict=True)),
            bytes((a - paeth(b, c, d)) & 255 for a, b, c, d in zip(line, left, before, corner, strict=True)),
        ]
        best = min(range(4), key=lambda kind: sum(min(byte, 256 - byte) for byte in lines[kind]))
        packed += bytes([best + 1]) + lines[best]
        before = line
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(packed), 9)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


def main() -> None:
    path = Path(__file__).with_name("picture.png")
    path.write_bytes(encode(blurred(scene())))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
