"""What lies between a file and a network: what becomes of columns, scaling, label names. Kept in the model file."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from nnx.array import host
from nnx.array.host import is_finite, quiet
from nnx.batches import frames
from nnx.batches.split import by_class, share_out
from nnx.data import dates, memory
from nnx.data import labels as label
from nnx.data.columns import Column, Columns, Notes, account, learn
from nnx.data.dates import Dates
from nnx.data.dialect import PLAIN, Dialect
from nnx.data.source import Samples, finite
from nnx.errors import InputError, count, listed, unknown
from nnx.metrics import decide
from nnx.model.activations import Activation
from nnx.model.activations import activation as as_activation
from nnx.support.schema import Whole, check

TASKS = ("auto", "classification", "regression", "counts")
ROWS = 2**14
"""The samples that are scaled at once."""
FEW = 20
"""No more different whole numbers than these are taken as classes."""
SMALL = 10
"""Nor those of which one is larger than this and does not fit their number, as in 0 to 19: years, prices, sizes."""
EACH_CLASS = 5
"""Nor those of which one occurs less often: the largest counts are rare, classes seldom are."""
NAME_OF_CLASSES = re.compile(r"(class|label|category|kind|type|status|[a-z]*code)(id)?$")
"""The end of a target's name that says that its whole numbers are classes, however many and large they are."""

UNITS = {"mean_absolute_error": 1, "root_mean_squared_error": 1, "mean_squared_error": 2}
"""The power of the target's unit that a metric has."""


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
"""What a model file holds of it."""


@dataclass(frozen=True)
class Preparation:
    """How samples become X and Y, and outputs become predictions.

    Attributes
    ----------
    features : list of str
        The columns, in X's order.
    named : bool
        Whether a file's columns are found by these names.
    mean, scale : list of float
        X = (input - mean) / scale, one of each an input.
    target : str
    labels : list or None
        The classes' names in the order of their indices, text, integers, floats or booleans; None for numbers.
    y_mean, y_scale : float
        Y = (target - y_mean) / y_scale for numbers.
    image_shape : tuple of int, or None
        (h, w) or (h, w, channels), where each sample is an image.
    columns : list of Column, or None
        What becomes of each feature of a table; None: each is an input, and none may be missing.
    from_text : bool
        Whether the labels were read as text, from CSV, where 007 is not 7.
    counts : bool
        Whether the target is counts: numbers >= 0, whose logarithm the network gives.
    class_counts : list of int, or None
        How many samples of the training part each class has; None: not known, or numbers.
    unused : list of str
        The columns that were left out, since nothing could be learned of them, each with the reason.
    dialect : Dialect
        How the CSV file was written; others are read alike unless it is said otherwise.
    """

    features: list[str]
    named: bool
    mean: list[float]
    scale: list[float]
    target: str
    labels: list[Any] | None
    y_mean: float = 0.0
    y_scale: float = 1.0
    image_shape: tuple[int, ...] | None = None
    columns: list[Column] | None = None
    from_text: bool = False
    counts: bool = False
    class_counts: list[int] | None = None
    unused: list[str] = field(default_factory=list)
    dialect: Dialect = PLAIN

    @classmethod
    def learn(cls, samples: Samples, task: str, train: Any) -> "Preparation":
        """Learn it from the samples of the training set alone; train holds their row numbers.

        The labels are those of all samples, so that one that is held out alone has a name.
        """
        columns, mean, scale = _inputs(samples, train)
        for name, at in zip(samples.features, _firsts(samples.features, columns), strict=True):
            if not np.isfinite(mean[at] + scale[at]):
                raise InputError(f"the feature {name!r} has numbers too large to compute their deviation")
        labels, y_mean, y_scale, class_counts = None, 0.0, 1.0, None
        if task == "classification":
            labels = samples.classes[0]
            class_counts = np.bincount(samples.classes[1][train], minlength=len(labels)).tolist()
        else:
            y = _numbers(samples)[train].astype(float)
            with quiet():
                y_mean, y_scale = float(y.mean()), float(_scale(y.mean(), y.std()))
            if not np.isfinite(y_mean + y_scale):
                raise InputError(
                    f"the target {samples.target!r} has numbers too large to compute their deviation"
                )
            if task == "counts":  # the best network is the same in any unit; that of the mean is learned fast
                y_mean, y_scale = 0.0, y_mean or 1.0
        own = (samples.features, samples.named, mean, scale, samples.target)
        from_text = labels is not None and samples.numbers is not None
        counts, shape = task == "counts", samples.image_shape
        unused = [f"{name} ({why})" for name, why in samples.unused.items()]
        found = cls(*own, labels, y_mean, y_scale, shape, columns, from_text, counts, class_counts, unused)
        return replace(found, dialect=samples.dialect)

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "Preparation":
        """Return the preparation that a model file holds."""
        if "preparation" not in metadata:
            raise InputError(
                "the model holds no description of its data, since nnx.Trainer saved it, not `nnx train`; "
                "load it with nnx.Trainer.load and call its predict"
            )
        found = metadata["preparation"]
        try:
            check("preparation", found, _EXPECTED)
            columns = found.get("columns")
            shape = found.get("image_shape")
            found = {**found, "columns": columns and [_made(column) for column in columns]}
            dialect = Dialect(**found.get("dialect", {}))
            made = cls(**{**found, "image_shape": shape and tuple(shape), "dialect": dialect})
            _same("columns", made.features if columns is None else columns, len(made.features))
            _same("mean", made.mean, len(made.inputs))
            _same("scale", made.scale, len(made.inputs))
            if made.class_counts is not None:
                _same("class_counts", made.class_counts, len(made.labels or ()))
            if 0 in (made.y_scale, *made.scale):
                raise InputError("preparation has a scale of 0, by which nothing can be divided")
        except InputError as error:
            raise InputError(f"the model's description of its data cannot be read: {error}") from error
        return made

    def describe(self) -> dict[str, Any]:
        """Return it as JSON's types, for `trainer.metadata`."""
        return {**asdict(self), "dialect": self.dialect.describe()}

    @property
    def task(self) -> str:
        """What is learned: "classification", "regression" or "counts"."""
        if self.labels is not None:
            return "classification"
        return "counts" if self.counts else "regression"

    @property
    def output(self) -> str:
        """The output of a network for these targets."""
        if self.labels is None:
            return "exp" if self.counts else "identity"
        return "softmax" if self.n_outputs > 1 else "sigmoid"

    @property
    def n_outputs(self) -> int:
        """n[L]: one for numbers and for two classes, else one a class."""
        return len(self.labels) if self.labels and len(self.labels) > 2 else 1

    def init(self, activation: Activation | str) -> str | None:
        """Return how the weights of hidden layers begin; None: as suits the activation.

        For tables Glorot's smaller weights stand for He's, which learn the noise of few samples sooner.
        """
        own = as_activation(activation).init
        return "glorot" if self.columns is not None and own == "he" else None

    @property
    def inputs(self) -> list[str]:
        """The names of the network's inputs, n[0] of them: of a table's column there may be several."""
        if self.columns is None:
            return self.features
        pairs = zip(self.features, self.columns, strict=True)
        return [one for name, column in pairs for one in column.inputs(name)]

    def account(self) -> list[str]:
        """Return what was done with which columns of a table, a line each."""
        said = [] if self.columns is None else account(self.features, self.columns)
        return [*said, f"left out: {listed(self.unused, 12)}"] if self.unused else said

    def X(self, values: Any, dtype: str = "float64", notes: Notes | None = None) -> Any:
        """Return X (n[0], m) from the features' values (m, features).

        Parameters
        ----------
        values : Columns, table, or array (m, features) of numbers
            A table is a pandas or polars data frame, an Arrow table or record batch, or a dict of columns. Its columns
            are found by their names, in any order, and others do not matter.
        dtype : {"float64", "float32"}
            Of X, which is computed in float64.
        notes : Notes or None
            Is told what was filled in or not known.

        Raises
        ------
        InputError
            When a column is missing, has the name of another or holds something else than in training, or X would take
            more memory than there is.
        """
        if not isinstance(values, Columns):
            values = self._table(values)
        names, notes = self.inputs, notes if notes is not None else Notes()
        m, n = values.shape[0], len(names)
        if values.shape[1] != len(self.features):
            raise InputError(
                f"the samples have {values.shape[1]} features; expected {len(self.features)}, samples as rows"
            )
        memory.check(
            m * n * np.dtype(dtype).itemsize,
            f"X ({count(n, 'input')}, {count(m, 'sample')})",
            "Leave out columns (--drop), or take a part of the rows",
        )
        X = np.empty((m, n), dtype)
        with quiet():  # of numbers beyond the dtype
            self._fill(X, values, notes)
        if not is_finite(X):
            raise self._beyond(X, values)
        return X.T

    def _fill(self, X: Any, values: Any, notes: Notes) -> None:
        """Write the scaled inputs (m, n[0]) into X."""
        m, mean, scale = len(X), np.asarray(self.mean), np.asarray(self.scale)
        if self.columns is None:
            if isinstance(values, Columns):
                values = finite(values.where, np.asarray(values), self.features)
            values = np.asarray(values)
            for start in range(0, m, ROWS):
                part = slice(start, start + ROWS)
                X[part] = (values[part] - mean) / scale
            return
        firsts = _firsts(self.features, self.columns)
        own = values.frame.columns if isinstance(values, Columns) else self.features
        for j, (column, at) in enumerate(zip(self.columns, firsts, strict=True)):
            given = values if isinstance(values, Columns) else np.asarray(values[:, j], float)
            part = slice(at, at + len(column.inputs(own[j])))
            column.expand(given, own[j], mean[part], scale[part], X[:, part], notes)

    def _beyond(self, X: Any, values: Any) -> InputError:
        """Return the error for inputs (m, n[0]) that are not all finite."""
        i, k = np.argwhere(~np.isfinite(X))[0]
        j = bisect_right(_firsts(self.features, self.columns), int(k)) - 1
        row = values.row(i) if isinstance(values, Columns) else i + 1
        where = values.where if isinstance(values, Columns) else "the samples"
        return InputError(
            f"the feature {self.features[j]!r} of {where} has a number that is not finite, or too large to be scaled "
            f"in {X.dtype}, in row {row} (counted from 1, without the header); correct it, or leave the row out"
        )

    def _table(self, values: Any) -> Any:
        """Return the columns of a table that was handed in; what is no table is returned as an array."""
        found = frames.frame(values)
        if found is None:
            array = host.as_host(host.as_numbers("X", values, "; or a table with named columns"))
            if array.ndim != 2:
                n = len(self.features)
                raise InputError(
                    f"the samples have shape {array.shape}; expected (m, {n}), samples as rows, or a table"
                )
            return array
        from nnx.data.frames import table  # which needs polars

        wanted = self.features if self.named else found.names
        return table(found, wanted.__contains__, self.dialect).values(self.features, self.named)

    @cached_property
    def _known(self) -> label.Known:
        return label.Known(self.labels or [], self.from_text)

    def Y(self, y: Any, first: Any = 1, dtype: str = "float64") -> Any:
        """Return class indices (m,), or scaled numbers (1, m).

        Parameters
        ----------
        y : array (m,)
        first : int, array (m,) of int, or None
            The row number of the first of them, or of each, for errors. None: these do not name rows.
        dtype : {"float64", "float32"}
            In which the network computes.

        Raises
        ------
        InputError
            For a label that the training did not have, and for a number that is too large for the dtype.
        """
        if self.labels is None:
            with quiet():
                Y = (y.astype(float)[None, :] - self.y_mean) / self.y_scale
            large = ~(np.abs(Y[0]) <= np.finfo(dtype).max)
            if large.any():
                row = (
                    "" if first is None else f" in row {_number(first, int(large.argmax()))} (counted from 1)"
                )
                raise InputError(
                    f"the target {self.target!r} is {y[large.argmax()]}{row}, which is not finite, or too large to be "
                    f"scaled in {dtype}; correct it, or leave the row out"
                )
            if self.counts and (y < 0).any():
                at = int((y < 0).argmax())
                row = "" if first is None else f" in row {_number(first, at)} (counted from 1)"
                raise InputError(
                    f"the target {self.target!r} is {y[at]}{row}; the model is of counts, which are >= 0"
                )
            return Y
        different, codes = np.unique(y, return_inverse=True)
        given = different.tolist()
        places = np.array(self._known.places(given))
        k = places[codes]
        wrong = k < 0
        if wrong.any():
            at = _number(first, int(wrong.argmax()))
            unseen = sorted(repr(label.text(given[one])) for one in np.flatnonzero(places < 0))
            raise InputError(
                f"the target {self.target!r} has labels that the model was not trained on: {listed(unseen, 6)}, in "
                f"{count(int(wrong.sum()), 'row')}, the first in row {at} (counted from 1); "
                f"it knows {listed(map(repr, self.labels), 6)}. Correct them, or leave these rows out"
            )
        return k

    def part(self, samples: Samples, rows: Any, dtype: str) -> tuple[Any, Any, Any]:
        """Return X (n[0], m), Y and y (m,) of these rows of the samples."""
        y = samples.y[rows]
        return self.X(samples.X[rows], dtype), self.Y(y, None, dtype), y

    def class_weight(self, given: Mapping[Any, float]) -> dict[int, float]:
        """Return the weights of labels as those of their classes, as `Trainer.fit` takes them.

        Raises
        ------
        InputError
            For a label that is not known: the nearest.
        """
        places = self._known.places([*given])
        for name, place in zip(given, places, strict=True):
            if place < 0:
                raise unknown(
                    f"class of {self.target!r} in class_weight", name, map(label.text, self.labels or [])
                )
        return dict(zip(places, given.values(), strict=True))

    def y(self, A: Any) -> list[Any]:
        """Return what the outputs A (n[L], m) predict: a label, or a number in the target's unit, a sample."""
        return self.predicted(A).tolist()  # type: ignore[no-any-return]

    def predicted(self, A: Any) -> Any:
        """Return what the outputs A (n[L], m) predict as an array (m,), see `y`."""
        if self.labels is None:  # float32 would lose the last digits of y_mean
            return np.asarray(A[0], dtype=float) * self.y_scale + self.y_mean
        return np.array(self.labels, label.dtype_of(self.labels) or object)[decide(np.asarray(A))]

    def probabilities(self, A: Any) -> Any:
        """Return the probability of each class, (m, classes), from the outputs A (n[L], m)."""
        return np.stack([1 - A[0], A[0]], axis=1) if len(A) == 1 else np.asarray(A).T

    def in_units(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was measured, a number or a list under each name, with errors in the target's unit.

        The cost J stays that of the scaled target: it is what is made small.

        Examples
        --------
        >>> price = Preparation(["x"], True, [0.0], [1.0], "price", None, y_scale=100.0)
        >>> price.in_units({"loss": 0.5, "validation_mean_squared_error": [0.25, 0.125]})
        {'loss': 0.5, 'validation_mean_squared_error': [2500.0, 1250.0]}
        """
        found = copy(measured) if isinstance(measured, dict) else dict(measured)  # a History stays one
        for name, value in measured.items():
            if power := UNITS.get(name.removeprefix("validation_")):
                unit = self.y_scale**power
                found[name] = [x * unit for x in value] if isinstance(value, list) else value * unit
        return found


def _number(first: Any, at: Any) -> int:
    """Return the row number of one of the samples; `first` is that of the first one, or those of all."""
    return int(first[at] if np.ndim(first) else (first or 1) + at)


def _same(name: str, entries: Sequence[Any], n: int) -> None:
    if len(entries) != n:
        raise InputError(f"preparation.{name} has {len(entries)} entries; expected {n}")


def _inputs(samples: Samples, train: Any) -> tuple[list[Column] | None, list[float], list[float]]:
    """Return what becomes of the features, and the mean and scale of each input."""
    if isinstance(samples.X, Columns):
        return learn(samples.X[train])
    X = np.asarray(samples.X[train], dtype=float)
    with quiet():
        mean = X.mean(axis=0)
        std = np.full(len(mean), X.std()) if samples.one_unit else X.std(axis=0)
    return None, mean.tolist(), _scale(mean, std).tolist()


def _firsts(features: Sequence[str], columns: Sequence[Column] | None) -> list[int]:
    """Return the place of each feature's first input."""
    if columns is None:
        return list(range(len(features)))
    widths = [len(column.inputs("")) for column in columns]
    return [0, *accumulate(widths[:-1])]


def _scale(mean: Any, std: Any) -> Any:
    """Return what to divide by: the deviation, or 1 for what is constant (but for rounding)."""
    return np.where(std > 1e-12 * np.abs(mean), std, 1.0)


def _numbers(samples: Samples) -> Any:
    """Return the targets as numbers; of text that means none, as it is."""
    return samples.y if samples.numbers is None else samples.numbers


def find_task(samples: Samples, task: str) -> str:
    """Return "classification", "regression" or "counts", checking that the target allows it."""
    return _found(samples, task)[0]


def _found(samples: Samples, task: str) -> tuple[str, str | None]:
    """Return the task, checking that the target allows it, and of "auto" what it is guessed from."""
    why = None
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    y = _numbers(samples)
    kind = y.dtype.kind
    where = f"the target {samples.target!r}"
    if kind not in "biufU":
        raise InputError(f"{where} holds {y.dtype}; expected text or numbers")
    if len(y) == 1:
        raise InputError("the data have one row; expected many: to learn from some, and to test on others")
    bad = np.flatnonzero(~np.isfinite(y)) if kind == "f" else np.empty(0, int)
    if len(bad):
        raise InputError(
            f"{where} is NaN or infinite in {count(len(bad), 'row')}, the first being row {bad[0] + 1} (counted from "
            "1, without the header); remove these rows"
        )
    different = len(samples.classes[0])
    whole = kind != "f" or bool((y == np.floor(y)).all())
    if task == "auto":
        task, why = _guess(samples)
    if task != "classification" and kind not in "biuf":
        raise InputError(f"{where} holds text such as {str(y[0])!r}; expected numbers for {task}")
    if task != "classification" and len(np.unique(y)) == 1:
        raise InputError(f"{where} is {y[0]} in all {len(y):,} rows; expected numbers that differ")
    if task == "counts" and (y < 0).any():
        raise InputError(
            f"{where} is negative in {count(int((y < 0).sum()), 'row')}, such as {y[y < 0][0]}; counts are >= 0. "
            "Correct these rows, or say --task regression"
        )
    if task == "classification":
        if not whole:
            raise InputError(
                f"{where} holds fractions such as {y[y != np.floor(y)][0]}; expected class labels"
            )
        if different < 2:
            raise InputError(f"{where} has one class only, {str(samples.y[0])!r}; expected two or more")
        if different > max(2, len(y) // 2):
            raise InputError(
                f"{where} has {different} different values in {len(y)} rows, such as {str(samples.y[0])!r}; expected "
                f"classes that repeat, or {'the task regression' if kind in 'biuf' else 'numbers alone'}"
            )
    return task, why


def reason(samples: Samples) -> str:
    """Return what in the target `find_task` guesses the task from.

    Examples
    --------
    >>> reason(Samples(np.ones((3, 1)), np.array(["a", "b", "a"]), ["x"], "kind"))
    "'kind' holds text"
    """
    return _guess(samples)[1]


def _guess(samples: Samples) -> tuple[str, str]:
    """Return the task, and what in the target it is guessed from."""
    y, target = _numbers(samples), repr(samples.target)
    if y.dtype.kind in "Ub":
        what = "booleans" if label.kind(samples.classes[0]) == "booleans" else "text"
        same = label.alike(samples.classes[0]) if what == "text" else []
        but = f"; {listed(map(repr, same), 4)} differ in case alone" if same else ""
        return "classification", f"{target} holds {what}{but}"
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        return "regression", f"{target} holds fractions"
    if label.has_leading_zeros(samples.classes[0]):
        return "classification", f"{target} holds numbers with leading zeros, as codes have"
    values, times = np.unique(y, return_counts=True)
    k, rarest, largest = len(values), times.argmin(), max(values.tolist(), key=abs)
    what = f"{target} holds {count(k, 'different whole number')} in {count(len(y), 'row')}"
    if k <= 2:
        return "classification", what
    if _is_called_classes(samples.target) and len(y) >= EACH_CLASS * k:
        return "classification", f"{what}, and its name says classes"
    if k > FEW:
        return "regression", what
    if abs(largest) > max(SMALL, 1.25 * k):
        return "regression", f"{what}, as large as {largest:g}"
    if times[rarest] < EACH_CLASS:
        return "regression", f"{what}, {values[rarest]:g} in {count(int(times[rarest]), 'row')} alone"
    return "classification", f"{what}, small ones that repeat"


def _is_called_classes(name: str) -> bool:
    """Whether a target's name, by its last word, says that its numbers stand for classes.

    Examples
    --------
    >>> [
    ...     _is_called_classes(name)
    ...     for name in ("zipcode", "CoverType", "http status", "class_id", "class_size", "price")
    ... ]
    [True, True, True, True, False, False]
    """
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    last = words[-2:] if words[-1:] in (["id"], ["Id"], ["ID"]) else words[-1:]
    return bool(NAME_OF_CLASSES.match("".join(last).lower()))


def decided(samples: Samples, task: str) -> tuple[Samples, str, str | None, str | None]:
    """Return the samples as their task has them, and the task; of "auto" the other one, if it can be, and the reason.

    Raises
    ------
    InputError
        When the target does not allow the task.
    """
    found, why = _found(samples, task)
    other = another_task(samples, found) if task == "auto" else None
    return samples if found == "classification" else samples.as_numbers(), found, other, why


def another_task(samples: Samples, task: str) -> str | None:
    """Return the other task, None if the target does not allow it."""
    other = "regression" if task == "classification" else "classification"
    try:
        return find_task(samples, other)
    except InputError:
        return None


def split(samples: Samples, task: str, held_out: float, seed: int, rows: Any = None) -> tuple[Any, Any]:
    """Return the row numbers to train on and those held out, a share of each class of its own size.

    Parameters
    ----------
    rows : array of int, or None
        The rows to split; None: all.

    Raises
    ------
    InputError
        When held_out is not between 0 and 1, or leaves either side empty.
    """
    if not 0 < held_out < 1:
        raise InputError(f"held-out must be between 0 and 1, the share of the samples; given {held_out}")
    return share_out(_by_class(samples, task, seed, rows), held_out)


def folds(samples: Samples, task: str, k: int, seed: int, rows: Any = None) -> list[tuple[Any, Any]]:
    """Return the row numbers to train on and those to test on, for each of k folds.

    Every row is in the test part of one fold. Folds have the same share of each class, up to one sample.

    Raises
    ------
    InputError
        When k is not between 2 and the number of rows.
    """
    order = _by_class(samples, task, seed, rows)
    if not 2 <= k <= len(order):
        raise InputError(f"folds must be from 2 to the number of samples, {len(order)}; given {k}")
    fold = np.arange(len(order)) % k
    return [(order[fold != i], order[fold == i]) for i in range(k)]


def _by_class(samples: Samples, task: str, seed: int, rows: Any) -> Any:
    """Return the row numbers in random order, for classes one class after the other."""
    classes = samples.classes[1] if task == "classification" else None
    return by_class(np.arange(len(samples.X)) if rows is None else rows, seed, classes)
