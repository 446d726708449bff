"""Texts in pictures: short names that stay different."""

import unicodedata
from collections.abc import Sequence
from typing import Any

from nnx import errors
from nnx.errors import InputError

EMPTY = "(empty)"
"""Stands for a name without characters."""


def short(name: object, most: int = 24) -> str:
    r"""Return a text for a picture, in one line of so many characters, its end and its beginning kept.

    Examples
    --------
    >>> short("petal length (cm)"), short("a name that is too long to be read in a legend", 20)
    ('petal length (cm)', 'a name tha... legend')
    >>> short("US$")  # a dollar sign is no formula
    'US\\$'
    >>> short("red\x1b[0m")  # control characters are written as Python does
    'red\\x1b[0m'
    """
    return _escaped(_cut(_line(name), most))


def names(given: Sequence[object], most: int = 24) -> list[str]:
    """Return the names in a picture; different names that would look alike get a number.

    Examples
    --------
    >>> names(["cat", "", "cat"])
    ['cat', '(empty)', 'cat']
    >>> names(["a bird of which nobody knows", "a bird of whom nobody knows"], 16)
    ['a bir...ows (0)', 'a bir...ows (1)']
    """
    lines = [_line(one) or EMPTY for one in given]
    shown = [_cut(line, most) for line in lines]
    alike: dict[str, set[str]] = {}
    for text, one in zip(shown, given, strict=True):
        alike.setdefault(text, set()).add(_text(one))
    for k, text in enumerate(shown):
        if len(alike[text]) > 1:
            number = f" ({k})"
            shown[k] = _cut(lines[k], most - len(number)) + number
    return [_escaped(text) for text in shown]


def _line(name: object) -> str:
    """Return a text in one line, whose characters can all be seen."""
    return "".join(map(_visible, " ".join(_text(name).split())))


def _text(name: object) -> str:
    try:
        return str(name)
    except Exception:  # a class of the user's may raise any error
        return errors.shown(name)


def _visible(character: str) -> str:
    """Return a character; its escape if it would be no glyph, or would turn the order of its neighbours."""
    odd = unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in TURNING
    return character.encode("unicode_escape").decode() if odd else character


TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Classes of characters that say in which direction others are read."""


def _cut(text: str, most: int) -> str:
    """Return so many characters of a text, its end and its beginning kept."""
    if len(text) <= most:
        return text
    end = most - most // 2 - 3
    return f"{text[: most // 2]}...{text[len(text) - end :]}"


def _escaped(text: str) -> str:
    """Return a text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def sampled(m: int, total: object) -> str:
    """Return the note of a picture of m samples if there are more, else nothing.

    Examples
    --------
    >>> sampled(2000, 48000), sampled(10, None)
    ('2,000 of 48,000 samples', '')
    """
    if total is None or errors.integer("total", total) <= m:
        return ""
    return f"{m:,} of {errors.integer('total', total):,} samples"


def class_names(labels: Sequence[object] | None, K: int) -> list[str]:
    """Return the names of the K classes: their labels, or their numbers.

    Raises
    ------
    InputError
        When there are not K labels.
    """
    if labels is None:
        return [str(k) for k in range(K)]
    given = label_list(labels)
    if len(given) != K:
        raise InputError(f"labels must name the {K} classes; given {len(given)} of them")
    return names(given, 18)


def label_list(labels: Any) -> list[Any]:
    """Return labels as a list, or raise an InputError."""
    return errors.items("labels", labels, "a list of the classes' names")
