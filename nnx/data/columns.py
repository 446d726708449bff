"""What becomes of a table's columns: missing numbers filled in, categories one-hot, all of it kept as JSON.

scikit-learn's transformers learn it (`SimpleImputer`, `StandardScaler`, `OneHotEncoder`), from the training rows alone.
What they have learned is a few numbers and lists a column. These travel in the model file, as JSON, and are applied
here: a transformer of scikit-learn's could travel only as a pickle, which runs code when it is loaded and binds a model
to one version of scikit-learn. So a model predicts without scikit-learn, and to the last bit as its transformers would,
which a test shows.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.data import dates
from nnx.data.dates import Dates
from nnx.data.dialect import are_numbers, example, if_missing, options, strays
from nnx.data.labels import LEADING_ZERO
from nnx.data.tables import as_numbers
from nnx.errors import InputError, count, listed
from nnx.port.base import require

MOST_CATEGORIES = 100
"""The inputs that a column of categories may become; the rarest ones then share one."""
RARE = 2
"""A category that occurs less often in the training rows shares an input with the others of its kind."""
TOO_MANY = 10_000
"""Different values that no column of categories has."""
_KEY = re.compile(r"(^|[_\W])(?i:id|index|idx|key|no|nr|row)$|[a-z]I[dD]$|^Unnamed: ")
"""The name of a column that may be the number of the row."""
AT_ONCE = 2**22
"""The numbers that scikit-learn is given at once, as whole columns."""


@dataclass
class Notes:
    """What was done to values while they became X, so that it is said once.

    Attributes
    ----------
    filled : Counter
        How many missing values of each column were filled in.
    unseen : Counter
        How many values of each column are none of the training's categories.
    example : dict
        The first such value of each column.
    """

    filled: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    example: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what is to be said."""
        said = []
        if self.filled:
            said.append(f"missing values, filled in as the training taught: {_counts(self.filled)}")
        if self.unseen:
            first = next(iter(self.unseen))
            said.append(
                f"values that the training did not have: {_counts(self.unseen)}, such as {self.example[first]!r}"
            )
        return said


def _counts(counts: Counter[str]) -> str:
    return listed([f"{n:,} in {name!r}" for name, n in counts.items()], 8) + " columns" * (len(counts) > 8)


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows of a table, whose columns have types of their own.

    Attributes
    ----------
    where : str
        What the table is called.
    frame : polars.DataFrame
    rows : array of int, or None
        Which of its rows; None: all.
    first : int
        The number in the file of the frame's first row.
    orders : dict of str
        How dates were read that were text, by column.
    """

    where: str
    frame: Any
    rows: Any = None
    first: int = 1
    orders: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, columns)."""
        return self.frame.height if self.rows is None else len(self.rows), self.frame.width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> "Columns":
        """Return these rows; nothing is copied but their numbers."""
        rows = np.arange(self.frame.height)[rows] if self.rows is None else self.rows[rows]
        return replace(self, rows=rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Return all columns as numbers (m, columns), NaN where they are missing."""
        table = np.column_stack([self.numbers(name) for name in self.frame.columns])
        return table if dtype is None else table.astype(dtype)

    def series(self, name: str) -> Any:
        """Return a column's values, without its name: polars takes some names for patterns."""
        values = self.frame[name].alias("")
        return values if self.rows is None else values.gather(self.rows)

    def row(self, at: int) -> int:
        """Return the number in the file of one of these rows."""
        return self.first + int(at if self.rows is None else self.rows[at])

    def numbers(self, name: str, boolean: bool = False) -> Any:
        """Return a column as floats (m,), NaN where it is missing; text must be of numbers, none is infinite.

        Raises
        ------
        InputError
            Which row holds what instead.
        """
        values = self.series(name)
        kind = str(values.dtype)
        found = values
        if kind == "String" and boolean:
            found = values.str.to_lowercase().replace(["true", "false"], ["1", "0"])
        if kind == "String":
            found = found.cast(float, strict=False)
        elif kind == "Null" or kind == "Boolean" or values.dtype.is_numeric():
            found = values.cast(float)
        elif kind.startswith("Duration"):
            return dates.moments(values) / dates.DAY
        else:
            raise InputError(f"the column {name!r} of {self.where} holds {kind}; expected numbers")
        if found.null_count() > values.null_count():
            at = (found.is_null() & values.is_not_null()).arg_max()
            hint = f"; give {needed}" if (needed := options(values)) else ""
            expected = "true or false" if boolean else "numbers"
            raise self._holds(name, at, f"{expected}, as the model was trained on{hint}")
        numbers = found.to_numpy()
        if np.isinf(numbers).any():
            infinite = np.flatnonzero(np.isinf(numbers))
            raise InputError(
                f"infinite numbers in the features of {self.where}: {len(infinite)} in the column {name!r}, the first "
                f"in row {self.row(infinite[0])} (counted from 1, without the header). Correct them, or leave the "
                "cells empty"
            )
        return numbers

    def moments(self, name: str, order: str) -> Any:
        """Return a column of dates or times of day as moments (m,), NaN where they are missing.

        Raises
        ------
        InputError
            Which row holds what instead.
        """
        values = self.series(name)
        kind = str(values.dtype)
        bad, found = np.zeros(len(values), bool), np.full(len(values), np.nan)
        if kind == "String":
            read = dates.read(values, order)
            bad = (read.is_null() & values.is_not_null()).to_numpy()
            found = read.cast(float).to_numpy()
        elif (kind == "Time") == (order == "time") and kind.startswith(("Date", "Time")):
            found = dates.moments(values)
            bad = ~(np.isnan(found) | ((found >= dates.EARLIEST) & (found < dates.LATEST)))
        elif kind != "Null":
            bad[:] = True
        if bad.any():
            raise self._holds(name, int(bad.argmax()), dates.ORDERS[order])
        return found

    def _holds(self, name: str, at: int, expected: str) -> InputError:
        """Return the error for a value that is not as expected."""
        shown = str(self.series(name).slice(at, 1).cast(str)[0])[:40]
        return InputError(
            f"the column {name!r} of {self.where} holds {shown!r} in row {self.row(at)} (counted from 1, without the "
            f"header); expected {expected}"
        )

    def text(self, name: str) -> Any:
        """Return a column as a polars Series of text."""
        from polars.exceptions import PolarsError

        values = self.series(name)
        try:
            return values if str(values.dtype) == "String" else values.cast(str)
        except PolarsError as error:
            raise InputError(
                f"the column {name!r} of {self.where} holds {values.dtype}, of which some is no text"
            ) from error


@dataclass(frozen=True)
class Column:
    """What becomes of one column.

    Attributes
    ----------
    kind : {"numbers", "boolean", "categories", "date"}
    fill : float
        Of numbers: what stands for a missing one, the median. Of dates: the same, in days since the first.
    missing : int
        In how many training rows the column was missing. If in any, numbers and dates have one more input, 1 where
        they are.
    categories : list of str and None
        Those with an input of their own; None: missing.
    rare : list of str and None
        Those that share the last input, with all that the training did not have. Without any, these have no input.
    remark : {"", "constant", "counts the rows"}
        What makes it of little use.
    dates : Dates or None
        What dates become.
    """

    kind: str
    fill: float = 0.0
    missing: int = 0
    categories: list[str | None] = field(default_factory=list)
    rare: list[str | None] = field(default_factory=list)
    remark: str = ""
    dates: Dates | None = None

    def inputs(self, name: str) -> list[str]:
        """Return the names of the network's inputs that the column becomes."""
        if self.kind != "categories":
            own = [name] if self.dates is None else self.dates.inputs(name)
            return own + [f"{name} is missing"] * (self.missing > 0)
        own = [f"{name} is missing" if one is None else f"{name}={one}" for one in self.categories]
        return [*own, f"{name} is rare"] if self.rare else own

    def expand(self, values: Any, name: str, mean: Any, scale: Any, out: Any, notes: Notes) -> None:
        """Write the column's inputs to out (m, inputs).

        Parameters
        ----------
        values : Columns, or array (m,) of numbers
        name : str
        mean, scale : array (inputs,)
            Of numbers and dates: an input is (number - mean) / scale.
        out : array (m, inputs)
        notes : Notes
            Is told what was filled in or not known.
        """
        if self.kind == "categories":
            codes = self._codes(values, name, notes)
            np.equal(codes[:, None], np.arange(out.shape[1]), out=out)
            return
        numbers = self._numbers(values, name)
        missing = np.isnan(numbers)
        if self.dates is None:
            own = np.where(missing, self.fill, numbers)[:, None]
        else:
            moments = np.where(missing, self.dates.moment(self.fill), numbers)
            own = self.dates.values(moments)
        width = own.shape[1]
        out[:, :width] = (own - mean[:width]) / scale[:width]
        if self.dates is not None:
            unseen = self.dates.expand(moments, out[:, width:]) & ~missing
            if unseen.any():
                notes.unseen[name] += int(unseen.sum())
                notes.example.setdefault(name, self.dates.lacking(moments[unseen][0]))
        if self.missing:
            out[:, -1] = missing
        if missing.any():
            notes.filled[name] += int(missing.sum())

    def _numbers(self, values: Any, name: str) -> Any:
        """Return numbers, or the moments of dates, (m,), NaN where they are missing."""
        if self.dates is None:
            return values.numbers(name, self.kind == "boolean") if isinstance(values, Columns) else values
        if not isinstance(values, Columns):
            raise InputError(
                f"the model was trained on dates in the column {name!r}; give a table, not an array"
            )
        return values.moments(name, self.dates.order)

    def _codes(self, values: Any, name: str, notes: Notes) -> Any:
        """Return the place of each value among the inputs; -1 where there is none."""
        if not isinstance(values, Columns):
            raise InputError(
                f"the model was trained on text in the column {name!r}; arrays of numbers have none. Give a table"
            )
        rest = len(self.categories) if self.rare else -1
        unknown = -2
        places: dict[str | None, int] = dict.fromkeys(self.rare, rest)
        places |= {one: k for k, one in enumerate(self.categories)}
        of_missing = places.pop(None, unknown)
        text = values.text(name)
        codes = _looked_up(text, places, unknown, of_missing)
        unseen = codes == unknown
        if unseen.any():
            first = text[int(unseen.argmax())]
            notes.unseen[name] += int(unseen.sum())
            notes.example.setdefault(name, "missing" if first is None else first)
            codes[unseen] = rest
        return codes


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
    """Return how a column of text is read as dates, their moments, or what keeps it from that.

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
    if values.dtype.is_integer() and _KEY.search(name) and len(values) > 2:
        rows = np.arange(len(values)) if columns.rows is None else columns.rows
        return "counts the rows" if _remark(columns.numbers(name), rows) else ""
    return ""


def not_numbers(columns: Columns, name: str) -> str:
    """Return what keeps a column of text that seems to be meant as numbers from being it; nothing if none is meant."""
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


def learn(columns: Columns) -> tuple[list[Column], list[float], list[float]]:
    """Return what becomes of each column, and the mean and the scale of each input; columns are the training rows.

    As scikit-learn has it:

    - numbers and booleans: ``SimpleImputer(strategy="median", keep_empty_features=True)``, then ``StandardScaler()``;
      beside it, where any is missing, ``MissingIndicator()``, not scaled;
    - text: ``OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE, max_categories=MOST_CATEGORIES)``,
      for which a missing value is a category, too; not scaled.

    Dates become their parts, as `Dates` has it; a missing one is the median.
    """
    require("sklearn", "cli")
    from sklearn.preprocessing import OneHotEncoder

    found: dict[str, Column] = {}
    scales: dict[str, tuple[list[float], list[float]]] = {}
    names = columns.frame.columns
    numeric = [
        name
        for name, kind in columns.frame.schema.items()
        if kind.is_numeric() or str(kind).startswith(("Boolean", "Null", "Duration"))
    ]
    many = max(1, AT_ONCE // len(columns))
    for start in range(0, len(numeric), many):
        _learn_numbers(columns, numeric[start : start + many], found, scales)
    for name in names:
        if name in found:
            continue
        if columns.frame.schema[name].is_temporal():
            found[name], scales[name] = _learn_dates(columns, name)
            continue
        text = columns.text(name)
        encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=RARE, max_categories=MOST_CATEGORIES
        )
        encoder.fit(_objects(text))
        rare = encoder.infrequent_categories_[0]
        rare = [] if rare is None else rare.tolist()
        shared = set(rare)
        kept = [one for one in encoder.categories_[0].tolist() if one not in shared]
        remark = "constant" if len(kept) + len(rare) == 1 else ""
        found[name] = Column(
            "categories", missing=text.null_count(), categories=kept, rare=rare, remark=remark
        )
    mean, scale = [], []
    for name in names:
        own_mean, own_scale = scales.get(name, ([], []))
        rest = len(found[name].inputs(name)) - len(own_mean)
        mean += own_mean + [0.0] * rest
        scale += own_scale + [1.0] * rest
    return [found[name] for name in names], mean, scale


def _learn_numbers(
    columns: Columns,
    names: Sequence[str],
    found: dict[str, Column],
    scales: dict[str, tuple[list[float], list[float]]],
) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    table = np.empty((len(columns), len(names)), order="F")
    for j, name in enumerate(names):
        table[:, j] = columns.numbers(name)
    missing = np.isnan(table).sum(axis=0)
    rows = np.arange(columns.frame.height) if columns.rows is None else columns.rows
    remarks = [_remark(table[:, j], rows) for j in range(len(names))]
    imputer, scaler = SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    schema = columns.frame.schema
    with quiet():
        scaler.fit(imputer.fit_transform(table))
    for j, name in enumerate(names):
        kind = "boolean" if str(schema[name]) == "Boolean" else "numbers"
        found[name] = Column(kind, float(imputer.statistics_[j]), int(missing[j]), remark=remarks[j])
        scales[name] = [float(scaler.mean_[j])], [float(scaler.scale_[j])]


def _learn_dates(columns: Columns, name: str) -> tuple[Column, tuple[list[float], list[float]]]:
    """Return what becomes of a column of dates, and the means and scales of its inputs but that of missing ones."""
    is_time = str(columns.frame.schema[name]) == "Time"
    order = columns.orders.get(name, "time" if is_time else "year first")
    moments = columns.moments(name, order)
    missing = np.isnan(moments)
    present = moments[~missing] if not missing.all() else np.zeros(1)
    made = Dates.learn(present, order)
    fill = made.days(float(np.median(present)))
    moments[missing] = made.moment(fill)
    inputs = made.values(moments)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    unscaled = ~np.array(made.scaled()) | (scale == 0)
    mean[~np.array(made.scaled())], scale[unscaled] = 0, 1
    remark = "constant" if (moments == moments[0]).all() else ""
    column = Column("date", fill, int(missing.sum()), remark=remark, dates=made)
    return column, (mean.tolist(), scale.tolist())


def _remark(numbers: Any, rows: Any) -> str:
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


def _looked_up(text: Any, places: Mapping[Any, int], unknown: int, of_missing: int) -> Any:
    """Return each text's place as an array (m,)."""
    import polars

    keys, numbers = list(places) or [""], list(places.values()) or [unknown]
    found = text.replace_strict(keys, numbers, default=unknown, return_dtype=polars.Int64)
    return np.where(text.is_null().to_numpy(), of_missing, found.to_numpy())


def _objects(text: Any) -> Any:
    """Return text as an array (m, 1) of objects, a value that repeats being one object."""
    values = text.unique(maintain_order=True)
    table = np.array(values.to_list(), dtype=object)
    places = dict(zip(values.to_list(), range(len(values)), strict=True))
    of_missing = places.pop(None, -1)
    codes = _looked_up(text, places, of_missing, of_missing)
    return table[codes][:, None]


def account(names: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Return what was done with which columns, a line each kind of treatment.

    Examples
    --------
    >>> age, sex = Column("numbers", 28.0, missing=3), Column("categories", categories=["f", "m"], rare=["x"])
    >>> account(["age", "sex"], [age, sex])
    ['numbers: age', 'one-hot: sex (2 and the rare)', 'missing, filled with the median: age (3, with 28)']
    """
    lines: dict[str, list[str]] = {"numbers": [], "true or false": [], "dates": [], "one-hot": []}
    filled: list[str] = []
    remarks: dict[str, list[str]] = {}
    for name, column in zip(names, columns, strict=True):
        if column.remark:
            remarks.setdefault(column.remark, []).append(name)
        if column.dates is not None:
            lines["dates"].append(f"{name} ({column.dates.account()})")
            if column.missing:
                filled.append(f"{name} ({column.missing:,}, with {column.dates.text(column.fill)})")
            continue
        if column.kind != "categories":
            lines["numbers" if column.kind == "numbers" else "true or false"].append(name)
            if column.missing:
                filled.append(f"{name} ({column.missing:,}, with {column.fill:g})")
            continue
        own = [one for one in column.categories if one is not None]
        more = ["missing"] * (len(own) < len(column.categories)) + ["the rare"] * bool(column.rare)
        lines["one-hot"].append(f"{name} ({' and '.join([str(len(own)), *more])})")
    lines["missing, filled with the median"] = filled
    said = [f"{what}: {listed(which, 12)}" for what, which in lines.items() if which]
    for remark, which in remarks.items():
        drop = " ".join(f"--drop {name!r}" for name in which[:12])
        said.append(f"{remark}, which tells nothing: {listed(which, 12)} (leave out by {drop})")
    return said
