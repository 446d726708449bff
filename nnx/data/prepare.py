"""The preparation of samples: columns become inputs, labels become classes, and outputs become predictions.

A model file keeps it.
"""

from bisect import bisect_right
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nnx.array import host
from nnx.array.host import is_finite, quiet
from nnx.batches import frames
from nnx.data import labels as label
from nnx.data import memory
from nnx.data.columns import Columns
from nnx.data.description import arguments, check_length
from nnx.data.dialect import PLAIN, Dialect
from nnx.data.encoding import Column, Notes, account
from nnx.data.scaling import divisor, first_inputs, learned_inputs
from nnx.data.source import Samples, finite
from nnx.data.targets import class_indices, scaled
from nnx.data.task import target_numbers
from nnx.errors import InputError, count, listed, unknown
from nnx.metrics import decide
from nnx.metrics.history import times
from nnx.model.activations import activation as as_activation
from nnx.model.activations.base import Activation

ROWS = 2**14
"""The samples that are scaled at once."""

UNITS = {"mean_absolute_error": 1, "root_mean_squared_error": 1, "mean_squared_error": 2}
"""The power of the target's unit that a metric has."""


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
        columns, mean, scale = learned_inputs(samples, train)
        for name, at in zip(samples.features, first_inputs(samples.features, columns), strict=True):
            if not np.isfinite(mean[at] + scale[at]):
                raise InputError(f"the feature {name!r} has numbers too large to compute their deviation")
        labels, y_mean, y_scale, class_counts = None, 0.0, 1.0, None
        if task == "classification":
            labels = samples.classes[0]
            class_counts = np.bincount(samples.classes[1][train], minlength=len(labels)).tolist()
        else:
            y = target_numbers(samples)[train].astype(float)
            with quiet():
                y_mean, y_scale = float(y.mean()), float(divisor(y.mean(), y.std()))
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
        try:
            return _checked(cls(**arguments(metadata["preparation"])))
        except InputError as error:
            raise InputError(f"the model's description of its data cannot be read: {error}") from error

    def describe(self) -> dict[str, Any]:
        """Return it as JSON's types, for `trainer.metadata`."""
        return {**asdict(self), "dialect": self.dialect.describe()}

    @property
    def task(self) -> str:
        """The task: "classification", "regression" or "counts"."""
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
        """Return the treatment of the columns of a table, a line each."""
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
            Collects the values that were filled in or unknown.

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
        firsts = first_inputs(self.features, self.columns)
        own = values.frame.columns if isinstance(values, Columns) else self.features
        for j, (column, at) in enumerate(zip(self.columns, firsts, strict=True)):
            given = values if isinstance(values, Columns) else np.asarray(values[:, j], float)
            part = slice(at, at + len(column.inputs(own[j])))
            column.expand(given, own[j], mean[part], scale[part], X[:, part], notes)

    def _beyond(self, X: Any, values: Any) -> InputError:
        """Return the error for inputs (m, n[0]) that are not all finite."""
        i, k = np.argwhere(~np.isfinite(X))[0]
        j = bisect_right(first_inputs(self.features, self.columns), int(k)) - 1
        row = values.row(i) if isinstance(values, Columns) else i + 1
        where = values.where if isinstance(values, Columns) else "the samples"
        return InputError(
            f"the feature {self.features[j]!r} of {where} has a number that is not finite, or too large to be scaled "
            f"in {X.dtype}, in row {row} (counted from 1, without the header); correct it, or leave the row out"
        )

    def _table(self, values: Any) -> Any:
        """Return the columns of a table; another object is returned as an array."""
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
            return scaled(y, first, dtype, self.target, (self.y_mean, self.y_scale), self.counts)
        return class_indices(y, first, self.target, self.labels, self._known)

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
        """Return the predictions of the outputs A (n[L], m): a label, or a number in the target's unit, a sample."""
        return self.predicted(A).tolist()  # type: ignore[no-any-return]

    def predicted(self, A: Any) -> Any:
        """Return the predictions of the outputs A (n[L], m) as an array (m,), see `y`."""
        if self.labels is None:  # float32 would lose the last digits of y_mean
            return np.asarray(A[0], dtype=float) * self.y_scale + self.y_mean
        return np.array(self.labels, label.dtype_of(self.labels) or object)[decide(np.asarray(A))]

    def probabilities(self, A: Any) -> Any:
        """Return the probability of each class, (m, classes), from the outputs A (n[L], m)."""
        return np.stack([1 - A[0], A[0]], axis=1) if len(A) == 1 else np.asarray(A).T

    def in_units(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Return the measured numbers, one or a list under each name, with errors in the target's unit.

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
                found[name] = times(value, unit)
        return found


def _checked(made: Preparation) -> Preparation:
    """Return a preparation that was read, or raise an InputError if its parts do not fit each other."""
    columns = made.features if made.columns is None else made.columns
    check_length("columns", columns, len(made.features))
    check_length("mean", made.mean, len(made.inputs))
    check_length("scale", made.scale, len(made.inputs))
    if made.class_counts is not None:
        check_length("class_counts", made.class_counts, len(made.labels or ()))
    if 0 in (made.y_scale, *made.scale):
        raise InputError("preparation has a scale of 0, by which nothing can be divided")
    return made
