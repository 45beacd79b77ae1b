"""Text in the built-in font of Pillow, which every machine draws alike. Knows nothing of maps.

The font has ASCII and a few signs; text in other letters is brought as near to it as may be.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

from PIL import ImageDraw, ImageFont

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


def rgb(text: str) -> Color:
    """The colour of `#rrggbb`."""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


_NOT_ASCII = "²·…"  # what is drawn all the same
_INSTEAD = {"→": "->"}


@cache
def font(size: int) -> Any:
    """The built-in font of Pillow, of which FreeType in its wheels makes any size."""
    return ImageFont.load_default(size)


def drawable(text: str, fallback: str | None = None) -> str:
    """`text` with accents dropped and `?` for what the built-in font lacks; `fallback` where that is more than half."""

    def nearest(character: str) -> str:
        if character in _INSTEAD:
            return _INSTEAD[character]
        return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"

    plain = "".join(c if c in _NOT_ASCII else nearest(c) for c in unicodedata.normalize("NFC", " ".join(text.split())))
    return fallback if fallback and plain.count("?") * 2 > len(plain) else plain


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, fill: Color, room_px: int) -> None:
    """Text from its upper-left corner, cut to `room_px`; the font has no `²`, so that is a small raised 2."""
    text, face = drawable(text), font(size)
    if face.getlength(text) > room_px:
        while text and face.getlength(f"{text}…") > room_px:
            text = text[:-1]
        text = f"{text.rstrip()}…"
    x = float(at[0])
    for run in re.split("(²)", text):
        part, used = ("2", font(round(size * 0.62))) if run == "²" else (run, face)
        draw.text((x, at[1]), part, font=used, fill=fill)
        x += used.getlength(part)
