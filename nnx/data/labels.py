"""Class labels: a label comes out as it came in, and the labels of other files are found among those of a model.

A label is text, an int, a float or a bool. CSV has text alone. There a column is one of plain numbers (``1``, ``-2``,
``3.0``), of booleans (``True``, ``false``), or of text. Numbers that are written with leading zeros or an exponent are
text, since they may be codes: ``007`` is not ``7``.

Within a column of plain numbers, ``1`` and ``1.0`` are one label. Within a column of booleans, ``true`` and ``TRUE``
are. Such a label is written as it is at its first place. In text every difference counts.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from nnx.errors import InputError

PLAIN = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?")
"""A number that is no code."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
LEADING_ZERO = re.compile(r"[+-]?0[0-9]")


def text(label: Any) -> str:
    """Return a label as `nnx predict` writes it to CSV.

    Examples
    --------
    >>> text("007"), text(7), text(True)
    ('007', '7', 'true')
    """
    return str(label).lower() if isinstance(label, bool) else str(label)


def value(label: Any) -> Any:
    """Return the number or boolean that a label means, None of other text. Numbers are exact.

    Examples
    --------
    >>> value("007") == value(7) == value("7.0"), value("TRUE"), value("seven")
    (True, True, None)
    """
    if not isinstance(label, str):
        return label
    if label.lower() in ("true", "false"):
        return label.lower() == "true"
    return Decimal(label) if NUMBER.fullmatch(label) else None


def kind(labels: Iterable[Any]) -> str:
    """Return the kind of a column of these labels: "numbers", "booleans" or "text".

    Examples
    --------
    >>> kind(["1", "2.0"]), kind(["True", "FALSE"]), kind(["1", "02"]), kind([1, 2])
    ('numbers', 'booleans', 'text', 'numbers')
    """
    labels = list(labels)
    if all(isinstance(value(label), bool) for label in labels):
        return "booleans"
    plain = all(PLAIN.fullmatch(label) if isinstance(label, str) else True for label in labels)
    return "numbers" if plain and not any(isinstance(label, bool) for label in labels) else "text"


def has_leading_zeros(labels: Iterable[Any]) -> bool:
    """Whether some numbers are written with leading zeros, as codes are."""
    return any(isinstance(label, str) and LEADING_ZERO.match(label) for label in labels)


def alike(labels: Iterable[Any]) -> list[str]:
    """Return the labels that are equal to another one but for upper and lower case, each beside its like.

    Examples
    --------
    >>> alike(["No", "Yes", "no", "x"])
    ['No', 'no']
    """
    found: dict[str, list[str]] = {}
    for one in map(str, labels):
        found.setdefault(one.casefold(), []).append(one)
    return [one for its in found.values() if len(its) > 1 for one in its]


def of_text(cells: Sequence[str]) -> list[Any]:
    """Return the label of each of a CSV column's different cells, which come in the order of the file.

    Labels are numbers or booleans where these are written back in the same way, else text.

    Examples
    --------
    >>> of_text(["2", "1"]), of_text(["1.0", "1", "2"]), of_text(["007", "7"]), of_text(["true", "false"])
    ([2, 1], ['1.0', '1.0', '2'], ['007', '7'], [True, False])
    """
    what = kind(cells)
    if what == "text":
        return list(cells)
    first: dict[Any, str] = {}
    labels = [first.setdefault(value(cell), cell) for cell in cells]
    reads: tuple[Callable[[str], Any], ...] = (value,) if what == "booleans" else (int, float)
    for read in reads:
        try:
            found = [read(label) for label in labels]
        except ValueError:
            continue
        if [text(one) for one in found] == labels and (read is not int or dtype_of(found) is not None):
            return found
    return labels


def dtype_of(labels: Sequence[Any]) -> str | None:
    """Return the NumPy dtype that holds the labels exactly, None if there is none (integers beyond 64 bits).

    Examples
    --------
    >>> dtype_of([0, 1]), dtype_of([2**63]), dtype_of([-1, 2**63]), dtype_of(["a", "bc"]), dtype_of([True])
    ('int64', 'uint64', None, 'U2', 'bool')
    """
    if all(isinstance(label, bool) for label in labels):
        return "bool"
    if all(isinstance(label, str) for label in labels):
        return f"U{max(map(len, labels), default=1) or 1}"
    if all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        low, high = min(labels), max(labels)
        if -(2**63) <= low and high < 2**63:
            return "int64"
        return "uint64" if low >= 0 and high < 2**64 else None
    if all(isinstance(label, float) for label in labels):
        return "float64"
    return None


def ordered(labels: Iterable[Any]) -> list[Any]:
    """Return the labels in the order of their classes: numbers by size, text by its characters.

    It is the same whatever file the labels come from.

    Examples
    --------
    >>> ordered(["10", "9"]), ordered(["b", "10", "9"]), ordered(["7", "007"])
    (['9', '10'], ['10', '9', 'b'], ['007', '7'])
    """
    found = list(labels)
    values = [value(label) for label in found]
    if any(one is None for one in values) or len({isinstance(one, bool) for one in values}) > 1:
        return sorted(found, key=text)
    return sorted(found, key=lambda label: (value(label), text(label)))


def classes(y: Any) -> tuple[list[Any], Any]:
    """Return the labels in the order of their classes, and the class of each sample (m,).

    Examples
    --------
    >>> classes(np.array(["b", "a", "b"]))
    (['a', 'b'], array([1, 0, 1]))
    """
    different, codes = np.unique(y, return_inverse=True)
    found = different.tolist()
    if y.dtype.kind != "U":
        return found, codes
    labels = ordered(found)
    place = {label: k for k, label in enumerate(labels)}
    return labels, np.array([place[label] for label in found])[codes]


class Known:
    """The labels of a model, among which those of other data are found.

    Parameters
    ----------
    labels : sequence of str, int, float or bool
    from_text : bool
        Whether they were read as text, from CSV, where ``007`` is not ``7``.
    """

    def __init__(self, labels: Sequence[Any], from_text: bool) -> None:
        self.labels = labels
        self._kind = kind(labels)
        self._typed = not from_text and not any(isinstance(label, str) for label in labels)
        self._by_text = {(isinstance(label, str), text(label)): k for k, label in enumerate(labels)}
        self._by_value: dict[Any, list[int]] = {}
        for k, label in enumerate(labels):
            if (meant := value(label)) is not None:
                self._by_value.setdefault(meant, []).append(k)

    def places(self, given: Sequence[Any]) -> list[int]:
        """Return the class of each of the different labels of some data, -1 of those that are not known.

        Raises
        ------
        InputError
            When two labels of the data, such as 7 and 007, would be one of the model's.
        """
        places = [self._place(label) for label in given]
        of_class: dict[int, Any] = {}
        for label, k in zip(given, places, strict=True):
            other = of_class.setdefault(k, label)
            if k >= 0 and kind([other, label]) == "text" and other != label:
                raise InputError(
                    f"the labels {other!r} and {label!r} of the data would both be the model's {self.labels[k]!r}; "
                    "write them alike, or train on data that tell them apart"
                )
        return places

    def _place(self, given: Any) -> int:
        is_text, meant = isinstance(given, str), value(given)
        for key in ((is_text, text(given)), (not is_text, text(given))):
            if key in self._by_text:
                return self._by_text[key]
        alike = [] if meant is None else self._by_value.get(meant, [])
        return alike[0] if len(alike) == 1 and self._means(given, meant) else -1

    def _means(self, given: Any, meant: Any) -> bool:
        """Whether a label of the data stands for the model's of the same value."""
        if not isinstance(given, str):
            return True  # what has a type has no leading zeros to lose
        if isinstance(meant, bool):
            return self._kind == "booleans"
        return self._typed or (self._kind == "numbers" and bool(PLAIN.fullmatch(given)))
