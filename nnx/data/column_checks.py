"""The columns of a table that can be learned from; the others are left out or refused."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.data import dates
from nnx.data.columns import Columns
from nnx.data.dialect import are_numbers, example, if_missing, options, strays
from nnx.data.labels import LEADING_ZERO
from nnx.data.tables import as_numbers
from nnx.errors import InputError, count

TOO_MANY = 10_000
"""Different values that no column of categories has."""
KEY = re.compile(r"(^|[_\W])(?i:id|index|idx|key|no|nr|row)$|[a-z]I[dD]$|^Unnamed: ")
"""The name of a column that may be the number of the row."""


def checked(columns: Columns, day_first: bool | None = None) -> tuple[Columns, dict[str, str]]:
    """Return the columns to learn from, with text that means dates as dates, and why the others are left out.

    Left out are empty columns, and text whose values hardly repeat (names, keys, free text): nothing could be learned
    of them. If these are all numbers, they are taken as numbers.

    Parameters
    ----------
    columns : Columns
        All rows.
    day_first : bool or None
        What 1/3/2024 means in a column that does not tell.

    Raises
    ------
    InputError
        If columns cannot become inputs: which, why, and what to do. Such as numbers or dates with a few values that are
        none. Also if all are left out.
    """
    unfit: dict[str, str] = {}
    useless: dict[str, str] = {}
    frame, orders = columns.frame, {}
    for name, kind in frame.schema.items():
        order, read, why = dated(columns, name, day_first) if str(kind) == "String" else ("", None, "")
        if read is not None:
            orders[name] = order
            if columns.rows is not None:  # the others may hold anything
                read = dates.read(frame[name].alias(""), order)
            frame = frame.with_columns(dates.typed(read, order).alias(name))
        elif why := why or _unfit(columns, name):
            unfit[name] = why
            continue
        why = _useless(columns, name) if read is None else ""
        if why and (kind := _kind_of_numbers(columns, name)) is not None:
            frame = frame.with_columns(frame[name].alias("").cast(kind, strict=False).alias(name))
            why = ""
        if why := why or (_same(columns, name) if frame.width > 1 else ""):
            useless[name] = why
    if len(useless) == columns.frame.width and len(columns) > 1:  # of one row all columns are constant
        unfit = useless
    if unfit:
        shown = "; ".join(f"{name} ({why})" for name, why in list(unfit.items())[:5])
        more = f"; and {len(unfit) - 5} more" if len(unfit) > 5 else ""
        raise InputError(
            f"{count(len(unfit), 'feature column')} of {columns.where} cannot be used as "
            f"{'it is' if len(unfit) == 1 else 'they are'}: {shown}{more}. Correct "
            f"{'it' if len(unfit) == 1 else 'them'}, or leave out: {' '.join(f'--drop {name!r}' for name in unfit)}"
        )
    frame = frame[[name for name in frame.columns if name not in useless]]
    return replace(columns, frame=frame, orders=orders), useless


def dated(columns: Columns, name: str, day_first: bool | None = None) -> tuple[str, Any, str]:
    """Return how a column of text is read as dates, their moments, or the reason why it cannot be.

    Nothing, None and nothing if it holds none.
    """
    order, read, wrong = dates.find(columns.series(name), day_first)
    if isinstance(wrong, str):
        return order, None, wrong
    if wrong < 0:
        return order, read, ""
    word = columns.series(name).slice(wrong, 1)
    why = (
        f"dates or times but for {word[0][:40]!r} in row {columns.row(wrong)}, where {dates.ORDERS[order]} is "
        f"expected; {if_missing(word)}"
    )
    return order, None, why


def _unfit(columns: Columns, name: str) -> str:
    """Return why a column cannot become inputs, nothing if it can."""
    values = columns.series(name)
    kind = str(values.dtype)
    if values.dtype.is_numeric() or kind == "Boolean":
        columns.numbers(name)  # which refuses infinite ones
        return ""
    if kind.startswith(("Date", "Time")):
        columns.moments(
            name, "time" if kind == "Time" else "year first"
        )  # which refuses years beyond 1 to 9999
        return ""
    if kind.startswith("Duration"):
        return ""
    if values.dtype.is_nested() or kind in ("Binary", "Object"):
        return f"{kind}; expected numbers, text, booleans or dates"
    return not_numbers(columns, name)


def _useless(columns: Columns, name: str) -> str:
    """Return why nothing can be learned of a column, nothing if something can."""
    values = columns.series(name)
    m = len(values) - values.null_count()
    if m == 0:
        return "no value at all"
    if values.dtype.is_numeric() or values.dtype.is_temporal() or str(values.dtype) == "Boolean":
        return ""
    different = columns.text(name).drop_nulls().n_unique()
    if different > min(max(2, m // 2), TOO_MANY):
        return f"{different:,} different values in {count(m, 'row')}"
    return ""


def _kind_of_numbers(columns: Columns, name: str) -> Any | None:
    """Return the type of the numbers that text holds; None for other text, and for codes such as 007."""
    values = columns.series(name)
    if str(values.dtype) != "String" or values.str.contains(f"^{LEADING_ZERO.pattern}").any():
        return None
    numbers = as_numbers(values)
    return None if numbers is None or numbers.null_count() == len(numbers) else numbers.dtype


def _same(columns: Columns, name: str) -> str:
    """Return why a column tells nothing of new rows: it is constant, or a key that counts the rows."""
    values = columns.series(name)
    if values.n_unique() == 1:
        return "constant"
    if values.dtype.is_integer() and KEY.search(name) and len(values) > 2:
        rows = np.arange(len(values)) if columns.rows is None else columns.rows
        return "counts the rows" if remark_on(columns.numbers(name), rows) else ""
    return ""


def not_numbers(columns: Columns, name: str) -> str:
    """Return why a column of text that looks like numbers cannot be read as numbers; nothing if it does not look so."""
    text = columns.text(name)
    values = text.drop_nulls()
    if needed := options(values):
        return f"numbers such as {example(values)!r}: give {needed}"
    good = are_numbers(text)
    rest, numbers = strays(text, good), values.filter(are_numbers(values))
    if (
        len(rest)
        and numbers.n_unique() > 20
        and ((needed := options(numbers)) or as_numbers(numbers) is not None)
    ):
        more = f"; they are written as {example(numbers)!r}: also give {needed}" if needed else ""
        return (
            f"numbers but for {count(len(rest), 'value')}, the first {rest[0][:40]!r} in row "
            f"{columns.row((~good).fill_null(False).arg_max())}; {if_missing(rest)}{more}"
        )
    return ""


def remark_on(numbers: Any, rows: Any) -> str:
    """Return why a column of numbers is of little use: "constant", "counts the rows", or nothing."""
    if (numbers == numbers[0]).all():
        return "constant"
    if len(rows) > 2 and (numbers - rows == numbers[0] - rows[0]).all():
        return "counts the rows"
    m = len(numbers)  # in another order: a part of 1 to the number of all rows, each once
    with quiet():
        spread = np.ptp(numbers) + 1
    if m < 100 or not m <= spread <= 1.5 * m or (numbers != np.floor(numbers)).any():
        return ""
    return "counts the rows" if len(np.unique(numbers)) == m else ""
