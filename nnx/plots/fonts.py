"""Which of the machine's fonts have the characters that DejaVu Sans, which comes with matplotlib, lacks."""

import re
from functools import cache
from typing import Any

OWN = "DejaVu Sans"

NO_TEXT = re.compile(r"cm[a-z]+10|STIX(Non|Size)|DejaVu|\.?Last ?Resort|.*(Blank|Color Emoji)", re.IGNORECASE)
"""Fonts that have a box for every character, pictures in colour, or other characters under these numbers."""


def families(text: str) -> list[str]:
    """Return the font families, besides DejaVu Sans, that a text needs: none if it needs none, or no font has it.

    Examples
    --------
    >>> families("plain text")
    []
    """
    found = (_family(character) for character in text if not character.isascii())
    return [name for name in dict.fromkeys(found) if name]


@cache
def _family(character: str) -> str | None:
    """Return the first installed family that has a character which DejaVu Sans lacks."""
    code = ord(character)
    if _own().get_char_index(code):
        return None
    return next((name for name, font in _others() if _has(font, code)), None)


@cache
def _own() -> Any:
    from matplotlib import font_manager

    return font_manager.get_font(font_manager.findfont(OWN))


@cache
def _others() -> tuple[tuple[str, str], ...]:
    """Return the upright fonts of normal weight by family, those of the Noto project first."""
    from matplotlib import font_manager

    upright = {
        font.name: font.fname
        for font in font_manager.fontManager.ttflist
        if font.style == "normal"
        and font.weight in (400, "normal", "regular")
        and not NO_TEXT.match(font.name)
    }
    return tuple(sorted(upright.items(), key=lambda item: (not item[0].startswith("Noto Sans"), item[0])))


@cache
def _opened(path: str) -> Any:
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError):  # damaged, removed since matplotlib looked, or made of bitmaps
        return None


def _has(path: str, code: int) -> bool:
    font = _opened(path)
    return font is not None and bool(font.get_char_index(code))
