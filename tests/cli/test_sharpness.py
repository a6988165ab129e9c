"""The demo's own eye: it reads PNGs without the library that wrote them, and tells sharp from blurred."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from osiris_mesh.errors import CheckFailed
from osiris_mesh_cli.demo.sharpness import Picture, decode, laplacian_energy

PICTURE = Path(__file__).parents[2] / "cli" / "osiris_mesh_cli" / "demo" / "image-processing" / "picture.png"


def png(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG", **options)
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["L", "LA", "RGB", "RGBA"]), st.integers(1, 12), st.integers(1, 12), st.randoms())
def test_it_reads_what_pillow_writes(mode: str, width: int, height: int, rng: object) -> None:
    channels = len(mode)
    pixels = rng.randbytes(width * height * channels)  # type: ignore[attr-defined]
    picture = decode(png(Image.frombytes(mode, (width, height), pixels)))
    assert (picture.width, picture.height, picture.channels) == (width, height, channels)
    assert b"".join(picture.rows) == pixels


def test_it_reads_the_demos_picture_as_pillow_does() -> None:
    data = PICTURE.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        assert b"".join(decode(data).rows) == image.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_picture_is_refused_or_still_a_picture(data: st.DataObject) -> None:
    whole = png(Image.effect_noise((9, 7), 40))
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    broken = whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
    try:
        assert isinstance(decode(broken), Picture)
    except CheckFailed:
        pass


@pytest.mark.parametrize("cut", [0, 4, 8, 20, 40, 60])
def test_a_picture_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(CheckFailed):
        decode(png(Image.effect_noise((9, 7), 40))[:cut])


def test_a_huge_picture_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(CheckFailed, match="not checked here"):
        decode(png(Image.new("L", (4000, 2000))))


def test_blurred_is_less_and_sharpened_more() -> None:
    with Image.open(PICTURE) as image:
        plain = laplacian_energy(decode(png(image)))
        blurred = laplacian_energy(decode(png(image.filter(ImageFilter.GaussianBlur(2)))))
        sharper = laplacian_energy(decode(png(image.filter(ImageFilter.UnsharpMask(2, 100, 0)))))
    assert blurred < plain / 1.2
    assert sharper > plain * 1.2


def test_a_flat_picture_has_no_energy_and_a_checkerboard_the_most() -> None:
    assert laplacian_energy(Picture(4, 4, 1, (b"\x40" * 4,) * 4)) == 0
    board = Picture(4, 4, 1, (b"\0\xff\0\xff", b"\xff\0\xff\0") * 2)
    assert laplacian_energy(board) == pytest.approx((8 * 255 / 2) ** 2)


def test_a_picture_without_an_inside_has_no_energy() -> None:
    assert laplacian_energy(Picture(2, 2, 1, (b"\0\xff", b"\xff\0"))) == 0
