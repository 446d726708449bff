"""How values are written in CSV: decimal commas, thousands with commas, units such as $ and %, words for missing ones.

nnx guesses none of it: 1,234 may be 1234 or 1.234. Such a column is an error, and the model file stores the options.
"""

import re
from dataclasses import dataclass
from typing import Any

from nnx.data.header import checked_delimiter

_SPACES = " '\u2019\u00a0\u202f"
"""The separators of thousands beside the comma (or, with a decimal comma, the point)."""
_EXPONENT = r"([eE][+-]?\d+)?"
_WHOLE = r"[+-]?\d+"
_NUMBER = rf"[+-]?(\d+\.?\d*|\.\d+){_EXPONENT}"
_DECIMAL_COMMA = rf"[+-]?(\d+|\d{{1,3}}(\.\d{{3}})+)?,\d+{_EXPONENT}"
_THOUSANDS = rf"[+-]?\d{{1,3}}([,{_SPACES}]\d{{3}})+(\.\d*)?{_EXPONENT}"
_THOUSANDS_BESIDE_A_COMMA = rf"[+-]?\d{{1,3}}([.{_SPACES}]\d{{3}})+(,\d*)?{_EXPONENT}"
_UNIT = r"\p{Sc}|%"
"""The units that are looked for: the signs of currencies, and the percent sign."""
_WORD = r"[\p{L}°][\p{L}°/²³]{0,7}"
"""A unit behind a number, such as kg and km/h: if all values of a column have the same one."""
_AMOUNT = rf"[+-]?\s*({_UNIT})?\s*[+-]?\.?\d[\d.,{_SPACES}]*\s*"
_WITH_UNIT = rf"^{_AMOUNT}({_UNIT}|{_WORD})?$"
WORDS = 2
"""Different words for missing values that a column of numbers or dates may have."""
MANY = 20
"""Different values from which on numbers with a unit are asked about; fewer may well be categories."""


Written = tuple[bool | None, bool | None, list[str] | None, list[str] | None, str | None]
"""The options for a file beside its model's dialect: the arguments of `Dialect.over`; None: none."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    decimal_comma : bool
        Whether 3,14 is a number (and 1.234,5 is one above a thousand).
    thousands : bool
        Whether 1,234 is 1234; with a decimal comma, whether 1.234 is.
    units : tuple of str
        What may stand beside numbers and is left out, such as $ and %.
    missing : tuple of str
        What else means that there is no value, such as ?.
    delimiter : str or None
        None: the one that the first rows tell.
    usual : str or None
        The delimiter that parts the first line, if it does; else the first rows tell.
    """

    decimal_comma: bool = False
    thousands: bool = False
    units: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    delimiter: str | None = None
    usual: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(self.units))
        object.__setattr__(self, "missing", tuple(self.missing))
        for name in ("delimiter", "usual"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, checked_delimiter(given))

    def describe(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "decimal_comma": self.decimal_comma,
            "thousands": self.thousands,
            "units": list(self.units),
            "missing": list(self.missing),
            "delimiter": self.delimiter,
        }

    def over(
        self,
        decimal_comma: bool | None = None,
        thousands: bool | None = None,
        units: list[str] | None = None,
        missing: list[str] | None = None,
        delimiter: str | None = None,
    ) -> "Dialect":
        """Return how another file is written: as said, and for the rest as this one."""
        return Dialect(
            self.decimal_comma if decimal_comma is None else decimal_comma,
            self.thousands if thousands is None else thousands,
            self.units if units is None else tuple(units),
            self.missing if missing is None else tuple(missing),
            delimiter,
            self.delimiter,
        )

    def numbers(self, cell: Any) -> Any:
        """Return a polars expression of text without missing values, and with numbers as 1234.5; the rest stays."""
        import polars as pl

        if self.missing:
            cell = cell.replace(list(self.missing), [None] * len(self.missing))
        written = []
        if self.decimal_comma:
            written.append(_DECIMAL_COMMA)
        if self.thousands:
            written.append(_THOUSANDS_BESIDE_A_COMMA if self.decimal_comma else _THOUSANDS)
        found = cell
        if self.units:
            units = "|".join(map(re.escape, self.units))
            bare = cell.str.replace(rf"^([+-]?)\s*(?:{units})\s*", "$1").str.replace(rf"\s*(?:{units})$", "")
            found = pl.when(bare.str.contains(_any(_NUMBER, *written))).then(bare).otherwise(cell)
        if written:
            plain = found.str.replace_all(rf"[{'.' if self.decimal_comma else ','}{_SPACES}]", "")
            plain = plain.str.replace(",", ".", literal=True)
            found = pl.when(found.str.contains(_any(*written))).then(plain).otherwise(found)
        return found


PLAIN = Dialect()


def _any(*patterns: str) -> str:
    return f"^({'|'.join(patterns)})$"


def options(values: Any) -> str:
    """Return the options that make numbers of the values of a polars Series of text; nothing if none are needed or do.

    Examples
    --------
    >>> import polars
    >>> options(polars.Series(["1,234", "999"]))
    '--thousands if it is 1234, or --decimal-comma if it is 1.234'
    >>> options(polars.Series(["$1,234.50", "$999"])), options(polars.Series(["1", "x"]))
    ("--thousands --units '$'", '')
    """
    values = values.drop_nulls()
    if not _all(values.head(100), _WITH_UNIT) or not _all(values, _WITH_UNIT):
        return ""
    pairs = (values.str.extract(_WITH_UNIT, group) for group in (1, 2))
    units = sorted({unit for found in pairs for unit in found.drop_nulls().unique().to_list()})
    if any(re.match("[^\\W\\d_]|°", unit) for unit in units) and not _all(values, rf"{re.escape(units[0])}$"):
        return ""
    bare = values.str.replace(rf"^([+-]?)\s*({_UNIT})\s*", "$1").str.replace(rf"\s*({_UNIT}|{_WORD})$", "")
    of_units = "".join(f" --units {unit!r}" for unit in units)
    if _all(bare, _any(_NUMBER)):
        few = values.n_unique() <= min(MANY, max(2, len(values) // 2))
        return "" if few else of_units.strip()
    thousands = _all(bare, _any(_NUMBER, _THOUSANDS))
    decimal = _all(bare, _any(_WHOLE, _DECIMAL_COMMA))
    if thousands and decimal:
        number = example(bare)
        return (
            f"--thousands{of_units} if it is {number.replace(',', '')}, or --decimal-comma{of_units} if it is "
            f"{number.replace(',', '.')}"
        )
    if thousands or decimal:
        return f"--{'thousands' if thousands else 'decimal-comma'}{of_units}"
    both = _all(bare, _any(_WHOLE, _DECIMAL_COMMA, _THOUSANDS_BESIDE_A_COMMA))
    return f"--decimal-comma --thousands{of_units}" if both else ""


def example(values: Any) -> str:
    """Return the first value that is no plain number."""
    values = values.drop_nulls()
    return str(values[int((~values.str.contains(_any(_NUMBER))).arg_max())])


def strays(values: Any, good: Any) -> Any:
    """Return the values of a column that is mostly good that are not; none of a column that is not.

    They are at most a tenth, or at most half if they are one or two words for missing values.

    Parameters
    ----------
    values : polars.Series of text
    good : polars.Series of bool
    """
    values, good = values.filter(values.is_not_null()), good.filter(values.is_not_null())
    rest = values.filter(~good)
    few = 10 * len(rest) <= len(values) or (2 * len(rest) <= len(values) and rest.n_unique() <= WORDS)
    return rest if few else rest.clear()


def if_missing(rest: Any) -> str:
    """Return the remedy if these values of a column mean missing."""
    words = rest.unique(maintain_order=True)
    options = " ".join(f"--missing {word[:40]!r}" for word in words)
    also = f", or give {options}" if len(words) <= WORDS else ""
    what = "it is missing, leave the cell" if len(rest) == 1 else "they are missing, leave the cells"
    return f"if {what} empty{also}"


def are_numbers(values: Any) -> Any:
    """Return which values of a polars Series of text are numbers, in whatever way they are written."""
    return values.str.contains(rf"^{_AMOUNT}({_UNIT})?$") | values.cast(float, strict=False).is_not_null()


def _all(values: Any, pattern: str) -> bool:
    return len(values) > 0 and bool(values.str.contains(pattern).all())


def contradiction(values: Any) -> str | None:
    """Return a value such as 1.234 of a column that has decimal commas, too: the point stands between thousands."""
    grouped = values.str.contains(r"^[+-]?\d{1,3}(\.\d{3})+$")
    if not grouped.any() or not values.str.contains(_any(_DECIMAL_COMMA)).any():
        return None
    return str(values.filter(grouped.fill_null(False))[0])
