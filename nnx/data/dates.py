"""Dates and times of day in a table: found in text, read, and made inputs of a network.

A moment is a float here: microseconds since 1970-01-01 in UTC, or since midnight for a time of day; NaN if missing.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from nnx.data.dialect import strays
from nnx.errors import InputError
from nnx.support.schema import Whole, check

HOUR, DAY = 3.6e9, 8.64e10
"""In microseconds."""
NUMBERS = ("year", "hour", "days")
"""Parts of a date that become numbers; the hour's are its sine and cosine, so that 23:59 is beside 0:00."""
ONE_HOT = {"month": range(1, 13), "weekday": range(1, 8), "hour": range(24)}
"""Parts whose values have an input each; weekday 1 is Monday."""
EARLIEST, LATEST = -62_135_596_800e6, 253_402_300_800e6
"""The years 1 to 9999, as moments."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = {name: month for month, name in enumerate(_MONTHS, 1)}
_YEAR, _MONTH, _DAY = r"(?P<year>[0-9]{4})", r"(?P<month>[0-9]{1,2})", r"(?P<day>[0-9]{1,2})"
_NAME = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_CLOCK = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r" ?(?P<half>[ap]m)? ?(?:(?P<utc>z|utc)|(?P<sign>[+-])(?P<east>[0-9]{2}):?(?P<minutes_east>[0-9]{2})?)?"
)
_AFTER = f"(?:(?:t|,? +){_CLOCK})?"
_PLAIN = (
    f"{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}{_AFTER}",
    rf"(?:{_DAY}[-. ] ?)?{_NAME}[-., ] ?{_YEAR}{_AFTER}",  # 1 Mar 2024, 01-Mar-2024, March 2024
    rf"{_NAME}\.? {_DAY},? {_YEAR}{_AFTER}",  # Mar 1, 2024
)
"""Dates that can be read in one way only."""
_PATTERNS = {
    "year first": _PLAIN,
    "day first": (*_PLAIN, f"{_DAY}[-/.]{_MONTH}[-/.]{_YEAR}{_AFTER}"),
    "month first": (*_PLAIN, f"{_MONTH}[-/.]{_DAY}[-/.]{_YEAR}{_AFTER}"),
    "time": (_CLOCK,),
}
ORDERS = {
    "year first": "a date such as 2024-12-31, 2024-12-31 17:30 or 31 Dec 2024",
    "day first": "a date with the day first, such as 31.12.2024, 31/12/2024 17:30 or 2024-12-31",
    "month first": "a date with the month first, such as 12/31/2024, 12/31/2024 17:30 or 2024-12-31",
    "time": "a time of day such as 17:30 or 5:30 pm",
}
"""How the text of a column is read, and the expected form."""
_SHORT = f"(?i)^{_MONTH}/{_DAY}/[0-9]{{2}}{_AFTER}$"
_SHAPE = "(?i)^(?:{})$".format(
    "|".join(re.sub(r"\?P<\w+>", "?:", one) for one in (*_PATTERNS["day first"], _CLOCK))
)


def find(text: Any, day_first: bool | None) -> tuple[str, Any, int | str]:
    """Return how a polars Series of text is to be read as dates.

    Parameters
    ----------
    text : polars.Series of text
    day_first : bool or None
        What 1/3/2024 means where the column itself does not tell.

    Returns
    -------
    order : str
        One of `ORDERS`; nothing where the column holds none or cannot be read.
    moments : polars.Series or None
        As `read` gives them for this order.
    wrong : int or str
        -1; or the place of the first value that is no date; or what else is wrong.
    """
    present = text.drop_nulls()
    shaped = present.str.contains(_SHAPE)
    if not shaped.any() or not (shaped.all() or len(strays(present, shaped))):
        if len(present) and present.str.contains(_SHORT).all():
            return "", None, f"dates such as {present[0]!r}: write their years with four digits"
        return "", None, -1
    found: dict[str, Any] = {}
    whole: list[str] = []
    for order in ORDERS:
        found[order] = read(text, order)
        if found[order].null_count() == text.null_count():
            whole.append(order)
            if order == "year first":
                break
    if not whole:
        order = min(found, key=lambda order: int(found[order].null_count()))
        return order, None, int((found[order].is_null() & text.is_not_null()).arg_max())
    if whole != ["day first", "month first"]:
        return whole[0], found[whole[0]], -1
    if day_first is None and present.str.contains(r"^[0-9]+[/-]").any():
        why = f"dates such as {present[0]!r}, whose day and month cannot be told apart"
        return "", None, f"{why}: give --day-first or --month-first"
    order = whole[day_first is False]
    return order, found[order], -1


def read(text: Any, order: str) -> Any:
    """Return a polars Series of text as moments, whole numbers; null where it is missing or no date of this order."""
    found = _read(text, _PATTERNS[order][0])
    for pattern in _PATTERNS[order][1:]:
        if found.null_count() == text.null_count():
            break
        found = found.zip_with(found.is_not_null(), _read(text, pattern))
    return found


def _read(text: Any, pattern: str) -> Any:
    import polars as pl

    def whole(name: str, default: int = 0) -> Any:
        return pl.col(name).cast(pl.Int64).fill_null(default) if name in groups.columns else pl.lit(default)

    def there(name: str) -> Any:
        return pl.col(name).is_not_null() if name in groups.columns else pl.lit(False)

    cell = pl.col("cell").str
    found = {"groups": cell.extract_groups(f"(?i)^{pattern}$"), "matched": cell.contains(f"(?i)^{pattern}$")}
    groups = pl.DataFrame({"cell": text}).select(**found).unnest("groups")
    hour, afternoon = whole("hour"), pl.col("half").str.to_lowercase() == "pm"
    clock = pl.when(there("half")).then(hour % 12 + 12 * afternoon.cast(pl.Int64)).otherwise(hour)
    right = (
        (clock < 24)
        & (whole("minute") < 60)
        & (whole("second") < 60)
        & (~there("half") | hour.is_between(1, 12))
    )
    seconds = 3600 * clock + 60 * whole("minute") + whole("second")
    east = 3600 * whole("east") + 60 * whole("minutes_east")
    seconds -= pl.when(pl.col("sign") == "-").then(-east).otherwise(east)
    fraction = pl.col("fraction").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
    moment = 1_000_000 * seconds + fraction
    if "year" in groups.columns:
        names = pl.col("name").str.to_lowercase().str.slice(0, 3) if "name" in groups.columns else None
        month = whole("month") if names is None else names.replace_strict(_NAMES, default=None)
        parts = [pl.col("year"), month.cast(str).str.zfill(2), whole("day", 1).cast(str).str.zfill(2)]
        days = pl.concat_str(parts, separator="-").str.to_date("%Y-%m-%d", strict=False)
        right &= pl.col("year") != "0000"
        moment += days.cast(pl.Int64) * int(DAY)
    else:
        moment %= int(DAY)
    return groups.select(pl.when(right & pl.col("matched")).then(moment)).to_series()


def moments(values: Any) -> Any:
    """Return a polars Series of dates or times of day as moments (m,), floats."""
    kind = str(values.dtype)
    of_unit = {"ns": 1e-3, "us": 1.0, "ms": 1e3, None: DAY if kind == "Date" else 1e-3}
    return values.to_physical().cast(float).to_numpy() * of_unit[getattr(values.dtype, "time_unit", None)]


def typed(moments: Any, order: str) -> Any:
    """Return a polars Series of moments, whole numbers, as one of dates or times of day."""
    import polars as pl

    return (1000 * moments).cast(pl.Time) if order == "time" else moments.cast(pl.Datetime("us"))


def _order(where: str, value: Any) -> None:
    if value not in ORDERS:
        raise InputError(f"{where} is {value!r}; expected one of {', '.join(ORDERS)}")


def _day(where: str, value: Any) -> None:
    check(where, value, str)
    try:
        date.fromisoformat(value)
    except ValueError:
        raise InputError(f"{where} is {value!r}; expected a day such as '2024-12-31'") from None


def _numbers(where: str, value: Any) -> None:
    check(where, value, [str])
    if not value or value != [part for part in NUMBERS if part in value]:
        raise InputError(f"{where} is {value!r}; expected some of {', '.join(NUMBERS)}, in this order")


def _one_hot(where: str, value: Any) -> None:
    check(where, value, {f"{part}?": [Whole(known[0], known[-1])] for part, known in ONE_HOT.items()})
    for part, values in value.items():
        if values != sorted(set(values)) or len(values) < 2:
            raise InputError(
                f"{where}.{part} is {values!r}; expected two numbers or more, in ascending order"
            )


EXPECTED = {"order": _order, "first": _day, "numbers": _numbers, "one_hot": _one_hot}
"""The part of a model file for a column of dates."""


@dataclass(frozen=True)
class Dates:
    """The inputs of a column of dates.

    Attributes
    ----------
    order : str
        How its text is read, one of `ORDERS`.
    first : str
        The first day of the training rows, in ISO's form.
    numbers : list of str
        Of `NUMBERS`: those that differ in the training rows.
    one_hot : dict of list of int
        Of `ONE_HOT`: the values that the training rows have, by part, if these differ.
    """

    order: str
    first: str
    numbers: list[str]
    one_hot: dict[str, list[int]]

    @classmethod
    def learn(cls, moments: Any, order: str) -> "Dates":
        """Return the inputs of dates, learned from the training's, without missing ones."""
        first = str(np.datetime64(int(moments.min()), "us").astype("M8[D]"))
        numbers = [part for part in NUMBERS[:-1] if len(np.unique(_part(part, moments))) > 1]
        one_hot = {part: np.unique(_part(part, moments) // 1).astype(int).tolist() for part in ONE_HOT}
        one_hot = {part: values for part, values in one_hot.items() if len(values) > 1}
        return cls(order, first, ["hour"] if order == "time" else [*numbers, "days"], one_hot)

    def inputs(self, name: str) -> list[str]:
        """Return the names of the inputs: numbers first."""
        waves = {"hour": ["hour sine", "hour cosine"]}
        own = [one for part in self.numbers for one in waves.get(part, [part])]
        own += [f"{part}={value}" for part, values in self.one_hot.items() for value in values]
        return [f"{name} {one}" for one in own]

    def scaled(self) -> list[bool]:
        """Return which numbers are scaled to mean 0 and deviation 1: those that are no sine or cosine."""
        return [scaled for part in self.numbers for scaled in ([False, False] if part == "hour" else [True])]

    def values(self, moments: Any) -> Any:
        """Return the numbers (m, n), not scaled, of moments (m,), none missing."""
        columns = []
        for part in self.numbers:
            if part == "hour":
                angle = 2 * np.pi / 24 * _part(part, moments)
                columns += [np.sin(angle), np.cos(angle)]
            else:
                columns.append(self.days(moments) if part == "days" else _part(part, moments))
        return np.stack(columns, axis=1)

    def expand(self, moments: Any, out: Any) -> Any:
        """Write the one-hot inputs to out (m, n or more), and return which moments (m,) lack one."""
        lacks, at = np.zeros(len(moments), bool), 0
        for part, values in self.one_hot.items():
            own = out[:, at : at + len(values)]
            np.equal(_part(part, moments)[:, None] // 1, values, out=own)
            lacks |= ~own.any(axis=1)
            at += len(values)
        return lacks

    def lacking(self, moment: Any) -> str:
        """Return the parts of a moment that have no input, such as "month=3"."""
        found = {part: int(_part(part, moment)) for part in self.one_hot}
        return ", ".join(f"{part}={n}" for part, n in found.items() if n not in self.one_hot[part])

    def days(self, moment: Any) -> Any:
        """Return how many days after the first a moment is, or each of an array."""
        return (moment - self.moment(0)) / DAY

    def moment(self, days: float) -> float:
        """Return the moment that is so many days after the first."""
        return float(np.datetime64(self.first, "us").astype(int)) + round(days * DAY)

    def text(self, days: float) -> str:
        """Return the moment that is so many days after the first, to the minute."""
        day, time = str(np.datetime64(round(self.moment(days)), "us").astype("M8[m]")).split("T")
        if self.order == "time":
            return time
        return f"{day} {time}" if "hour" in self.numbers else day

    def account(self) -> str:
        """Return the parts, in words."""
        found = {part: f"days since {self.first}" if part == "days" else part for part in self.numbers}
        found |= {part: f"{len(values)} {part}s" for part, values in self.one_hot.items()}
        return ", ".join(
            found[part] for part in ("year", "month", "weekday", "hour", "days") if part in found
        )


def _part(part: str, moments: Any) -> Any:
    """Return a part of moments (m,): the year, month, weekday, or the hour with its minutes as a fraction."""
    at = moments.astype("int64").astype("M8[us]")
    day = at.astype("M8[D]")
    if part == "year":
        return at.astype("M8[Y]").astype(float) + 1970
    if part == "month":
        return at.astype("M8[M]").astype(int) % 12 + 1.0
    if part == "weekday":
        return (day.astype(int) + 3) % 7 + 1.0  # 1970-01-01 was a Thursday
    return (at - day).astype(float) / HOUR
