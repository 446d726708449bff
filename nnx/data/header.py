"""The first lines of a CSV file: the delimiter, the names of the columns, and where the rows begin."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from nnx.errors import InputError, count, listed, size

DELIMITERS = ",;\t|"
"""The delimiters that are looked for."""

SAMPLE = 20
"""How many rows decide which of them is the file's."""

LONGEST_HEADER = 2**20 - 2**10
"""The bytes that the names may have, of the first bytes that are looked at."""

BLANK = " \t"
"""The white space that is stripped from both ends of names and cells. Other white space belongs to them."""

_SEP = re.compile(r'"?sep=(.)"?[ \t]*(\r\n|\n|\r|$)', re.IGNORECASE)
"""The first line that Excel writes and reads to name the delimiter."""

_COMMENT = re.compile(r"#[^\r\n]*(?:[\r\n][ \t]*(?=[\r\n]|\Z))*[\r\n]?")
"""A line that begins with #, and the blank ones behind it."""


def checked_delimiter(given: str) -> str:
    r"""Return a delimiter as one character; "tab" and a typed backslash with t are the tab.

    Examples
    --------
    >>> checked_delimiter(";"), checked_delimiter("tab"), checked_delimiter(r"\t")
    (';', '\t', '\t')
    """
    found = "\t" if given in ("tab", r"\t") else given
    if len(found) != 1 or found in '"\r\n\0\ufeff' or "\ud800" <= found <= "\udfff":
        raise InputError(
            f"delimiter must be one character such as ; or | (tab for the tab), and no quote; given {given!r}"
        )
    return found


@dataclass(frozen=True)
class Header:
    """The contents of the first lines.

    Attributes
    ----------
    names : list of str
        The columns; one without a name is "Unnamed: 0", as pandas calls it.
    delimiter : str
    start : int
        The byte at which the rows begin.
    first_line : str
        The beginning of the line with the names, for errors.
    """

    names: list[str]
    delimiter: str
    start: int
    first_line: str


def read_header(called: str, head: bytes, delimiter: str | None = None) -> Header:
    """Return the contents of the first lines of a CSV file, from its first bytes.

    Parameters
    ----------
    called : str
        What errors call the file.
    head : bytes
        Its first bytes: all, or some more than the names have.
    delimiter : str or None
        None: the one that gives the first rows as many cells as there are names.

    Raises
    ------
    InputError
        When there are no names that can be read.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{called} is in UTF-16; save it in UTF-8 (in Excel: CSV UTF-8)")
    bom = 3 * head.startswith(b"\xef\xbb\xbf")
    text = _without_blank_lines(head[bom:].decode("utf-8", "surrogateescape"))
    if said := _SEP.match(text):
        if "\ud800" <= said[1] <= "\udfff":
            raise InputError(
                f"{called} is not in UTF-8 ({beginning(said[0])} in its first line); save it in UTF-8 "
                "(in Excel: CSV UTF-8)"
            )
        delimiter = delimiter or said[1]
        text = _without_blank_lines(text[said.end() :])
    if not text:
        raise InputError(f"{called} is empty: it holds nothing but blank lines")
    if "\0" in first_line(text):
        raise InputError(
            f"{called} is none of CSV, Parquet, .npz and IDX, which are what can be read; it begins with {head[:8]!r}"
        )
    text, delimiter = _from_the_names_on(called, text, delimiter)
    first = first_line(text)
    names, end = _first_row(called, text, delimiter)
    if all(_is_number(name) for name in names) and '"' not in text[:end]:
        raise InputError(
            f"the first line of {called} holds numbers ({beginning(first)}); expected the names of the columns: add a "
            "first line with them, or put quotes around numbers that are names"
        )
    start = len(head) - len(text[end:].encode("utf-8", "surrogateescape"))
    if start > LONGEST_HEADER:
        raise InputError(
            f"the first {size(LONGEST_HEADER)} of {called} holds comments alone; expected names of columns"
        )
    return Header(_checked(called, names), delimiter, start, first[:40])


def first_line(text: str) -> str:
    """Return the first line."""
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def _without_blank_lines(text: str) -> str:
    """Return the text from its first line on that holds more than blanks."""
    begin = len(text) - len(text.lstrip(BLANK + "\r\n"))
    if begin == len(text):
        return ""
    return text[max(text.rfind("\n", 0, begin), text.rfind("\r", 0, begin)) + 1 :]


def _from_the_names_on(called: str, text: str, delimiter: str | None) -> tuple[str, str]:
    """Return the text without the comments before the names, and the delimiter."""
    last = end = 0
    while found := _COMMENT.match(text, end):
        last, end = end, found.end()
    text = text[last if end and _has_names(text[last:], text[end:], delimiter) else end :]
    return text, delimiter or _guessed(called, text)


def _has_names(text: str, rest: str, delimiter: str | None) -> bool:
    """Whether a line that begins with # has the names of the columns; rest is the text behind it.

    It has if the next line holds numbers alone. It has not if one of the first rows has another number of cells, or if
    the next line has no number and the one behind it has.
    """
    if not rest or all(map(_is_number, re.split(f"[{DELIMITERS}]", first_line(rest)))):
        return True
    fits = _fits(text, delimiter)
    if not fits or fits[0].rows != fits[0].fit:
        return False
    first, second = [*_rows(rest, fits[0].delimiter), [], []][:2]
    return not any(map(_is_number, second)) or any(map(_is_number, first))


class _Fit(NamedTuple):
    """How well a delimiter suits the first rows."""

    fit: int
    """The rows that have as many cells as the first one."""
    cells: int
    rows: int
    delimiter: str


def _fits(text: str, delimiter: str | None) -> list[_Fit]:
    """Return how well the delimiters suit that part the first row, the best one first."""
    found = []
    for one in delimiter or DELIMITERS:
        cells = [len(row) for row in _rows(text, one)]
        if cells and cells[0] > 1:
            found.append(_Fit(cells.count(cells[0]) - 1, cells[0], len(cells) - 1, one))
    return sorted(found, reverse=True)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the first rows as far as they can be read, but for one that the end of the text may have cut."""
    lines = io.StringIO(text, newline="")
    with suppress(csv.Error):
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        for number, row in enumerate(islice(filter(None, reader), SAMPLE + 1)):
            if number > 1 and lines.tell() == len(text) and not text.endswith(("\n", "\r")):
                return
            yield row


def _guessed(called: str, text: str) -> str:
    """Return the delimiter that gives most of the first rows as many cells as there are names."""
    fits = _fits(text, None)
    if not fits:
        return ","  # a single column
    best = [one.delimiter for one in fits if one.fit == fits[0].fit]
    if len(best) > 1 and fits[0].fit:
        raise InputError(
            f"the delimiter of {called} may be {' or '.join(map(_named, best))}: with each of them rows have as many "
            f"cells as the first line ({beginning(first_line(text))}). Say which with --delimiter"
        )
    return best[0]


def _named(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else delimiter


def _first_row(called: str, text: str, delimiter: str) -> tuple[list[str], int]:
    """Return the names, stripped, and where their row ends."""
    lines = io.StringIO(text, newline="")
    wrong, row = None, []
    try:
        row = next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        wrong = error
    if lines.tell() > LONGEST_HEADER:
        raise InputError(f"the first line of {called} has more than {size(LONGEST_HEADER)}; is it CSV?")
    if wrong is not None and "field larger" in str(wrong):
        raise InputError(
            f'the first line of {called} has a name of more than {csv.field_size_limit():,} characters; is a quote (") '
            f"not closed? It begins with {beginning(first_line(text))}"
        ) from wrong
    if wrong is not None:
        raise InputError(
            f"the first line of {called} cannot be read as CSV ({wrong}): {beginning(first_line(text))}. Quotes stand "
            'around whole names, and twice within: "5"" pipe"'
        ) from wrong
    return [name.strip(BLANK) for name in row], lines.tell()


def _checked(called: str, names: list[str]) -> list[str]:
    """Return the names; each is text, and there once."""
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise InputError(
                f"{called} is not in UTF-8 ({beginning(name)} in its first line); save it in UTF-8 "
                "(in Excel: CSV UTF-8)"
            )
        if "\0" in name:
            raise InputError(
                f"the name {beginning(name)} in {called} holds the character NUL; rename the column"
            )
    names = [name or f"Unnamed: {j}" for j, name in enumerate(names)]
    places: dict[str, list[int]] = {}
    for j, name in enumerate(names, 1):
        places.setdefault(name, []).append(j)
    name, where = max(places.items(), key=lambda one: len(one[1]))
    if len(where) > 1:
        raise InputError(
            f"{called} has {count(len(where), 'column')} named {name!r}; rename all but one (the columns "
            f"{listed(where, 6)})"
        )
    return names


def beginning(line: str) -> str:
    """Return the beginning of a line, or of a row, for an error."""
    said = line[:40].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return repr(said) + " ..." * (len(line) > 40)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
