# /// script
# requires-python = ">=3.11"
# dependencies = ["pillow==13.0.0"]
#
# [tool.osiris.function]
# memory = "512MiB"
# timeout = "20s"
# max = 2
# idempotent = true
#
# [[tool.osiris.function.test]]
# name = "a flat picture stays as it is"
# args = [{ "$bytes" = "UDUgMyAyIDI1NQpkZGRkZGQ=" }]
# expect = { "$bytes" = "UDUKMyAyCjI1NQpkZGRkZGQ=" }
#
# [[tool.osiris.function.test]]
# name = "strength 0 changes nothing"
# args = [{ "$bytes" = "UDUgNCAxIDI1NQoAQID/" }]
# kwargs = { strength = 0.0 }
# expect = { "$bytes" = "UDUKNCAxCjI1NQoAQID/" }
#
# [[tool.osiris.function.test]]
# name = "an edge gets steeper"
# args = [{ "$bytes" = "UDUgNiAxIDI1NQpQUFCgoKA=" }]
# kwargs = { strength = 1.0 }
# expect = { "$bytes" = "UDUKNiAxCjI1NQpGPTDAs6o=" }
#
# [[tool.osiris.function.test]]
# name = "what is no picture is refused"
# args = [{ "$bytes" = "bm8gcGljdHVyZQ==" }]
# raises = "ValueError"
#
# [[tool.osiris.function.test]]
# name = "a strength out of range is refused"
# args = [{ "$bytes" = "UDUgMSAxIDI1NQpk" }, 99.0]
# raises = "ValueError"
# ///
"""Sharpening of pictures."""

from __future__ import annotations

import io

from PIL import Image, ImageFilter, UnidentifiedImageError

_MAX_PIXELS = 40_000_000


def sharpen(image: bytes, strength: float = 1.0) -> bytes:
    """Sharpen a picture and return it in the format it came in.

    An unsharp mask: what a slight blur takes away is added, ``strength`` times (0 to 5).
    """
    if not 0 <= strength <= 5:
        raise ValueError(f"strength is from 0 to 5, not {strength}")
    try:
        with Image.open(io.BytesIO(image)) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(f"the picture has more than {_MAX_PIXELS} pixels")
            picture.load()
            sharper = picture.filter(ImageFilter.UnsharpMask(radius=2, percent=round(strength * 100), threshold=0))
            out = io.BytesIO()
            sharper.save(out, format=picture.format)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"not a picture Pillow can read: {type(error).__name__}") from None
    return out.getvalue()
