"""The combinations of a sweep: all of a grid, or some drawn at random (by scikit-learn; an edge)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnx.cli.config import checked
from nnx.cli.inputs import typed
from nnx.cli.options import COMPARED_BY, KINDS, SWEPT, Options, long, named
from nnx.errors import InputError, positive_int, unknown


@dataclass(frozen=True)
class Range:
    """Numbers drawn between two: evenly ("uniform"), or evenly in their logarithm ("log")."""

    kind: str
    low: float
    high: float
    whole: bool

    def rvs(self, random_state: Any) -> int | float:
        """Draw one, of four digits where it is a fraction: as scikit-learn's ParameterSampler asks."""
        if self.whole and self.kind == "uniform":
            return int(random_state.randint(math.ceil(self.low), math.floor(self.high) + 1))
        share = random_state.uniform()
        if self.kind == "log":
            drawn = self.low * (self.high / self.low) ** share
        else:
            drawn = self.low + (self.high - self.low) * share
        return round(drawn) if self.whole else float(f"{drawn:.4g}")


def combinations(table: Mapping[str, Any], draws: int | None, seed: int) -> list[dict[str, Any]]:
    """Return the options of each run of a sweep.

    Parameters
    ----------
    table : dict
        For an option's long name a list of values, or a text: values with spaces between, or a range, log(1e-4, 1e-1)
        or uniform(0, 0.5).
    draws : int or None
        How many are drawn at random, none of them twice unless there are ranges; None: all combinations.
    seed : int
        Of the draws.

    Raises
    ------
    UsageError
        For an unknown option, a value that is none of its, a range without `draws`.

    Examples
    --------
    >>> combinations({"layers": "64 128,64", "seed": [0, 1]}, None, 0)[:2]
    [{'layers': '64', 'seed': 0}, {'layers': '64', 'seed': 1}]
    >>> [1e-4 <= one["l2"] < 1e-1 for one in combinations({"l2": "log(1e-4, 1e-1)"}, 2, seed=0)]
    [True, True]
    """
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    with typed():
        grid: dict[str, Any] = {}
        for key, given in table.items():
            name = named(key)
            if name in COMPARED_BY:
                raise InputError(
                    f"{long(name)} cannot be swept: runs of different {long(name)} cannot be compared; sweep once "
                    "for each"
                )
            if name not in SWEPT:
                raise InputError(f"{long(name)} cannot be swept; train once with each")
            if name in grid:
                other = next(one for one in table if named(one) == name and one != long(name))
                raise InputError(f"{long(name)} is swept twice, once as {other}; give all its values to one")
            grid[name] = _values(name, given)
        ranges = [long(name) for name, values in grid.items() if isinstance(values, Range)]
        if draws is None:
            if ranges:
                raise InputError(f"how many numbers are to be drawn from {', '.join(ranges)}? Say --draws N")
            return list(ParameterGrid(grid))
        draws = positive_int("draws", draws)
    if not ranges:  # without replacement: there are no more
        draws = min(draws, len(ParameterGrid(grid)))
    return [dict(one) for one in ParameterSampler(grid, draws, random_state=seed)]


def _values(name: str, given: Any) -> list[Any] | Range:
    key = long(name)
    if isinstance(given, str):
        match = re.fullmatch(r"(log|uniform)\(([^(),]+),([^(),]+)\)", given.strip())
        if match is not None:
            return _range(name, match[1], match[2], match[3])
        parts = re.findall(
            r"(?:[^\s()]|\([^()]*\))+", given
        )  # a space within parentheses is none between values
        values = [_read(name, part) for part in parts]
    elif isinstance(given, list):
        try:
            values = [checked(name, _one(value)) for value in given]
        except InputError as error:
            raise InputError(f"the sweep's {error}") from None
    else:
        raise InputError(
            f"the sweep's {key} must be a list of values, or a range such as "
            f'"uniform(0, 0.5)"; given {given!r}'
        )
    if not values:
        raise InputError(f"the sweep's {key} has no values")
    return list(dict.fromkeys(values))


def _one(value: Any) -> Any:
    if isinstance(value, list):
        raise InputError(f"values must be single ones: a sweep has no members; given {value!r}")
    return value


def _range(name: str, kind: str, low: str, high: str) -> Range:
    key = long(name)
    if KINDS[name] is str:
        raise InputError(f"{key} is text, and {kind}(...) draws numbers; list the values to try")
    try:
        found = Range(kind, float(low), float(high), KINDS[name] is int)
    except ValueError:
        raise InputError(
            f"{kind}(from, to) needs two numbers; given {kind}({low},{high}) for {key}"
        ) from None
    if not (math.isfinite(found.low) and found.low < found.high < math.inf):
        raise InputError(f"{kind}(from, to) for {key} must rise; given {kind}({low},{high})")
    if kind == "log" and found.low <= 0:
        raise InputError(f"log(from, to) for {key} must be greater than 0; given {kind}({low},{high})")
    return found


def _read(name: str, text: str) -> Any:
    """Return the value of an option that a text reads as."""
    if text == "none" and getattr(Options, name) is None:
        return None
    kind = KINDS[name]
    try:
        value = kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError  # nor has JSON such a number
        return value
    except ValueError:
        if re.match(r"\w+\(", text):
            raise unknown("range", text.partition("(")[0], ("log", "uniform")) from None
        expected = "a whole number" if kind is int else "a number"
        hint = "; put spaces between values, and no commas" if "," in text else ""
        raise InputError(f"the sweep's {long(name)} must be {expected}; given {text!r}{hint}") from None
