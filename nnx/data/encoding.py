"""The inputs that a column becomes: numbers with missing ones filled in, categories one-hot, dates as their parts.

What it takes is a few numbers and lists a column, which travel in the model file as JSON.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnx.data.columns import Columns
from nnx.data.dates import Dates
from nnx.errors import InputError, listed


@dataclass
class Notes:
    """The values that were filled in or unknown while a table became X, for one note.

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
        """Return the notes."""
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


@dataclass(frozen=True)
class Column:
    """The inputs of one column.

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
            Collects the values that were filled in or unknown.
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
        codes = look_up(text, places, unknown, of_missing)
        unseen = codes == unknown
        if unseen.any():
            first = text[int(unseen.argmax())]
            notes.unseen[name] += int(unseen.sum())
            notes.example.setdefault(name, "missing" if first is None else first)
            codes[unseen] = rest
        return codes


def look_up(text: Any, places: Mapping[Any, int], unknown: int, of_missing: int) -> Any:
    """Return each text's place as an array (m,)."""
    import polars

    keys, numbers = list(places) or [""], list(places.values()) or [unknown]
    found = text.replace_strict(keys, numbers, default=unknown, return_dtype=polars.Int64)
    return np.where(text.is_null().to_numpy(), of_missing, found.to_numpy())


def account(names: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Return the treatment of the columns, a line for each kind.

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
