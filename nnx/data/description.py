"""The form in which a model file holds a preparation."""

from collections.abc import Mapping, Sequence
from typing import Any

from nnx.data import dates
from nnx.data.dates import Dates
from nnx.data.dialect import Dialect
from nnx.data.encoding import Column
from nnx.errors import InputError
from nnx.support.schema import Whole, check


def _kind(where: str, value: Any) -> None:
    kinds = ("numbers", "boolean", "categories", "date")
    if value not in kinds:
        raise InputError(f"{where} is {value!r}; expected one of {', '.join(map(repr, kinds))}")


def _column(where: str, value: Any) -> None:
    check(where, value, _COLUMN)
    if (value["kind"] == "date") != (value.get("dates") is not None):
        raise InputError(f"{where} is of the kind {value['kind']!r}; expected 'dates' in it for those alone")


def _made(column: Mapping[str, Any]) -> Column:
    dates = column.get("dates")
    return Column(**{**column, "dates": dates and Dates(**dates)})


_COLUMN = {
    "kind": _kind, "fill?": float, "missing?": Whole(), "categories?": [(str, None)], "rare?": [(str, None)],
    "remark?": str, "dates?": (dates.EXPECTED, None),
}  # fmt: skip
_EXPECTED = {
    "features": [str], "named": bool, "mean": [float], "scale": [float], "target": str,
    "labels": ([(str, bool, float)], None), "y_mean?": float, "y_scale?": float,
    "image_shape?": ([Whole(1)], None), "columns?": ([_column], None), "from_text?": bool, "counts?": bool,
    "class_counts?": ([Whole()], None),
    "unused?": [str],
    "dialect?": {"decimal_comma": bool, "thousands": bool, "units": [str], "missing": [str], "delimiter": (str, None)},
}  # fmt: skip
"""The entries of a preparation in a model file."""


def arguments(description: Any) -> dict[str, Any]:
    """Return the arguments of a `Preparation`, from its description in a model file.

    Raises
    ------
    InputError
        For a wrong type, a missing or an unknown entry: where, what is there, and what was expected.
    """
    check("preparation", description, _EXPECTED)
    columns, shape = description.get("columns"), description.get("image_shape")
    return {
        **description,
        "columns": columns and [_made(column) for column in columns],
        "image_shape": shape and tuple(shape),
        "dialect": Dialect(**description.get("dialect", {})),
    }


def check_length(name: str, entries: Sequence[Any], n: int) -> None:
    """Raise an InputError unless a list of a preparation has n entries."""
    if len(entries) != n:
        raise InputError(f"preparation.{name} has {len(entries)} entries; expected {n}")
