"""A table and a network that predicts one of its columns from the others."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nnx.array import host
from nnx.callbacks import EarlyStopping
from nnx.callbacks.base import Callbacks
from nnx.callbacks.early_stopping import PATIENCE
from nnx.callbacks.fit import steps_done
from nnx.data.arguments_in_errors import in_python, in_words_of_python
from nnx.data.baseline import Baseline, no_better
from nnx.data.dialect import Dialect
from nnx.data.encoding import Notes
from nnx.data.prepare import Preparation
from nnx.data.tabular_parts import labelled_rows, parts_of, pieces, tell
from nnx.data.tabular_text import described
from nnx.data.targets import check_loss
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import InputError, flag, integer, items, positive_int, scalar, shown
from nnx.metrics import score_name
from nnx.metrics.history import History
from nnx.model.embeddings import embedded
from nnx.model.layers import Dense, Layer
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers.lbfgs import LBFGS
from nnx.optimizers.schedules import has_end
from nnx.port.base import Backend
from nnx.train.trainer import Trainer


class Tabular:
    """A table, and a network that predicts one of its columns from the others.

    What becomes of the columns is learned from the rows to train on, as `nnx train` does it: text becomes one-hot,
    missing values are filled in, numbers are scaled. The model file holds it. `nnx predict` reads it, too.

    Parameters
    ----------
    table : path or table
        CSV or Parquet, or what else `nnx train` reads; or a pandas or polars data frame, an Arrow table, or a dict of
        columns. Rows are samples.
    target : str or None
        The column to predict. (None: of .npz the array y, of IDX the labels beside it.)
    task : {"auto", "classification", "regression", "counts"}
        "auto": text is classes, and so are few whole numbers. If it could be otherwise, what was decided is logged.
    drop : sequence of str
        Columns to leave out.
    validation : float or table
        The share of the rows that are held out, or a table of their own. They stop the training, and choose its epoch.
        0: none.
    layers : sequence of int or Layer
        The hidden layers; a number is a `Dense` of so many units.
    activation : str or Activation
        That of the numbers among the layers.
    embed : str, layer or None
        Each number as several units, as `numerical_embeddings` of `nnx.sklearn.MLPClassifier`.
    loss : str or None
        See `nnx.LOSSES`; None: cross-entropy for classes, half the squared error for numbers.
    optimizer, backend, device, precision, dtype, seed, regularization, members
        As of `nnx.Trainer`; the mean of members predicts. The seed, or the first
        of several, draws the rows that are held out, too.
    decimal_comma, thousands, units, missing, delimiter
        How CSV is read: whether 3,14 is a number; whether 1,234 is 1234 (with a decimal comma 1.234); what stands
        beside numbers, as ["$", "%"]; what means that there is no value, as ["?"]; what stands between the cells,
        None: what the first rows tell. Kept in the model.
    day_first : bool or None
        Whether the text 1/3/2024 is the first of March; None: what other dates of the column tell.

    Attributes
    ----------
    trainer : Trainer
        Of X (n[0], m), as `preparation.X` makes it.
    preparation : nnx.data.Preparation
        What becomes of the columns, and of the target.
    reason : str or None
        Why the task is what it is, if none was asked for.

    Raises
    ------
    InputError
        When the table cannot be read, lacks the target or holds a column of no use: which, and what to do.
    BackendError
        When polars or scikit-learn is missing.

    Examples
    --------
    >>> import nnx
    >>> pets = {
    ...     "size": [60, 62, 65, 20, 22, 25] * 10,
    ...     "kind": ["dog", "dog", "dog", "cat", "cat", "cat"] * 10,
    ... }
    >>> model = nnx.Tabular(pets, target="kind", backend="numpy")
    >>> history = model.fit(epochs=20)
    >>> model.predict({"size": [61, 21]}).tolist()
    ['dog', 'cat']
    >>> model.evaluate(pets)["accuracy"]
    1.0
    """

    _train: tuple[Any, Any] | None
    _validation: tuple[Any, Any] | None

    def __init__(
        self,
        table: Any,
        target: str | None = None,
        *,
        task: str = "auto",
        drop: Sequence[str] = (),
        validation: Any = 0.2,
        layers: Sequence[Any] = (128, 64),
        activation: Any = "relu",
        embed: Any = None,
        loss: str | None = None,
        optimizer: Any = None,
        backend: str | Backend = "auto",
        device: str | None = None,
        precision: str | None = None,
        dtype: str = "float32",
        seed: Any = 0,
        regularization: Regularization | None = None,
        members: int | None = None,
        decimal_comma: bool = False,
        thousands: bool = False,
        units: Sequence[str] = (),
        missing: Sequence[str] = (),
        delimiter: str | None = None,
        day_first: bool | None = None,
    ) -> None:
        dialect = Dialect(
            flag("decimal_comma", decimal_comma),
            flag("thousands", thousands),
            tuple(items("units", units, "a list of text, such as ['$']")),
            tuple(items("missing", missing, "a list of text, such as ['?']")),
            delimiter,
        )
        columns = [str(name) for name in items("drop", drop, "a list of columns")]
        if target is not None and not isinstance(scalar(target), str | int):
            raise InputError(f"target must be the name of a column of the table, not {shown(target)}")
        target = None if target is None else str(target)  # pandas may have numbers as names
        day_first = None if day_first is None else flag("day_first", day_first, "True, False or None")
        with in_python():
            self._parts = parts = parts_of(
                table, target, columns, dialect, day_first, task, validation, dtype, seed
            )
        self.preparation, self.reason = parts.preparation, parts.reason
        self._rows, self._train, self._validation = parts.rows, parts.train, parts.validation
        init = self.preparation.init(activation)
        hidden = [
            layer if isinstance(layer, Layer) else Dense(integer("layers", layer, 1), activation, init)
            for layer in items("layers", layers, "a list, such as [128, 64]")
        ]
        check_loss(self.preparation.output, loss)
        layers = [*embedded(embed, self._train[0]), *hidden, Dense(self.preparation.n_outputs)]
        network = Network(len(self.preparation.inputs), layers, self.preparation.output, loss)
        arguments = optimizer, backend, device, dtype, seed, regularization, None, precision, members
        self.trainer = Trainer(network, *arguments)
        where = str(table) if isinstance(table, str | os.PathLike) else "a data frame"
        self.trainer.metadata = {"preparation": self.preparation.describe(), "data": where}

    @classmethod
    def load(
        cls,
        path: str | Path,
        backend: str | Backend = "auto",
        device: str | None = None,
        precision: str | None = None,
    ) -> "Tabular":
        """Return the model that `save` or `nnx train` has left, from its file or its run's folder: to use, not to fit.

        Raises
        ------
        FileNotFoundError, InputError, ModelFileError
            As `nnx.Trainer.load`; and when the model holds no description of its table.
        """
        made = cls.__new__(cls)
        made.trainer = Trainer.load(path, backend, device, precision)
        made.preparation = Preparation.of(made.trainer.metadata)
        made.reason = made._train = made._validation = None
        return made

    def save(self, path: str | Path) -> None:
        """Write the model to one file, for `load`, `nnx.Trainer.load` and `nnx predict`; the table is not in it."""
        self.trainer.save(path)

    def fit(
        self,
        epochs: int = 100,
        batch_size: int | None = 32,
        early_stopping: int | None = None,
        *,
        sample_weight: Any = None,
        class_weight: Any = None,
        callbacks: Any = (),
        **options: Any,
    ) -> History:
        """Train, going on from where the model is; return the history, errors in the target's own unit.

        Parameters
        ----------
        epochs : int
            How often to go over the rows, at most.
        batch_size : int or None
            Rows in a step; None, and with L-BFGS: all of them.
        early_stopping : int or None
            After so many epochs without a lower loss of the validation (without one, of the training) the fit ends,
            and the best epoch is taken back. None: 10; with a schedule that has an end all epochs; without a
            validation 0. 0: it goes on, and keeps the last. An `nnx.EarlyStopping` among the callbacks replaces it.
        sample_weight : array-like (m,) or None
            Of the rows of the whole table, those that are held out among them.
        class_weight : dict, "balanced" or None
            A weight for each label, of the rows to train on and of the validation.
        callbacks, **options
            As of `nnx.Trainer.fit`: metrics, progress, resume, ...

        Raises
        ------
        InputError
            When the model was loaded, without its table; and as `nnx.Trainer.fit`.
        """
        if not self._train:
            raise InputError(
                "the model was loaded, without its table; make an nnx.Tabular of the table to train one"
            )
        epochs = positive_int("epochs", epochs)
        if given := {"validation", "validation_split"} & options.keys():
            raise InputError(
                f"fit does not take {given.pop()}: nnx.Tabular(table, validation=...) holds rows out"
            )
        if early_stopping is None:
            usual = epochs if has_end(self.trainer.optimizer.learning_rate) else PATIENCE
            early_stopping = usual if self._validation else 0
        patience, callbacks = integer("early_stopping", early_stopping), Callbacks(callbacks).all
        if patience and not any(isinstance(one, EarlyStopping) for one in callbacks):
            monitor = "validation_loss" if self._validation else "loss"
            callbacks = [EarlyStopping(monitor, patience), *callbacks]
        if isinstance(class_weight, Mapping) and self.preparation.labels:
            class_weight = self.preparation.class_weight(class_weight)
        weights, validation = self._parts.weighted(sample_weight, class_weight, self.trainer.network)
        history = self.trainer.fit(
            *self._train,
            epochs=epochs,
            batch_size=None if isinstance(self.trainer.optimizer, LBFGS) else batch_size,
            validation=validation,
            callbacks=callbacks,
            sample_weight=weights,
            class_weight=class_weight,
            **{"rounds": True, **options},
        )
        self._warn()
        return self._in_units(history)

    def evaluate(self, table: Any = None, metrics: Sequence[Any] | None = None) -> dict[str, Any]:
        """Return the loss and the metrics, errors in the target's own unit: {"loss": ..., "accuracy": ...}.

        Parameters
        ----------
        table : path or table, or None
            With the target. None: the validation, which has chosen the epoch.
        metrics : sequence of str or metric, or None
            See `nnx.METRICS`; None: the accuracy of classes, else R2 and the root of the mean squared error.
        """
        if metrics is None:
            more = [] if self.preparation.labels else ["root_mean_squared_error"]
            metrics = [score_name(self.trainer.network.output), *more]
        predictor = self.trainer._predictor
        if table is None:
            if not self._validation:
                raise InputError("no rows were held out; give a table with the target")
            self._tell_untrained()
            return self.preparation.in_units(predictor.evaluate(*self._validation, metrics=metrics))
        labelled = labelled_rows(table, self.preparation, self.trainer.dtype)
        with in_python():
            found = predictor.evaluate(lambda: ((X, Y) for X, Y, _ in labelled), None, metrics=metrics)
        self._tell_untrained()
        tell(labelled.said())
        return self.preparation.in_units(found)

    def _warn(self) -> None:
        """Log that the model is no better than the same answer always, if it is not."""
        if not self._validation:
            return
        measured = self.evaluate()
        baseline = Baseline(self.preparation, self.trainer.network.output, [*measured][1:])
        baseline.add(self._validation[1])
        name, base = next(iter(baseline.scores().items()))
        if no_better(name, measured[name], base):
            scores = f"{called(name)} {significant(measured[name], 3)} against {significant(base, 3)} on the validation"
            tell([f"the model is no better than the baseline, {baseline.text}: {scores}"])

    def predict(self, table: Any) -> Any:
        """Return the label, or the number in the target's own unit, of each row: an array (m,).

        Columns are found by their names, in any order, and others do not matter.
        """
        return self.preparation.predicted(self._outputs(table))

    def predict_proba(self, table: Any) -> Any:
        """Return the probability of each class, (m, classes), in the order of `classes`."""
        if self.preparation.labels is None:
            raise InputError(
                f"{self.preparation.target!r} is numbers, which have no probabilities; call predict"
            )
        return self.preparation.probabilities(self._outputs(table))

    @property
    def classes(self) -> list[Any] | None:
        """The labels, in the order of `predict_proba`; None for numbers."""
        return self.preparation.labels

    @property
    def history(self) -> History:
        """The history over all calls of `fit`, errors in the target's own unit."""
        return self._in_units(self.trainer.history)

    def account(self) -> list[str]:
        """Return the treatment of the columns, a line each."""
        return [in_words_of_python(line) for line in self.preparation.account()]

    def _in_units(self, history: History) -> History:
        return self.preparation.in_units(history)  # type: ignore[return-value]  # a History stays one

    def _outputs(self, table: Any) -> Any:
        """Return A[L] (n[L], m)."""
        prepared, notes, found = self.preparation, Notes(), []
        with in_python():
            for piece in pieces(table, prepared):
                X = prepared.X(piece.values(prepared.features, prepared.named), self.trainer.dtype, notes)
                found.append(self.trainer._predictor.predict(X))
        self._tell_untrained()
        tell(notes.lines())
        return host.concat(found)

    def _tell_untrained(self) -> None:
        if not steps_done(self.trainer):
            tell(["the model is not trained yet: call fit first"])

    def __repr__(self) -> str:
        return f"<Tabular of {described(self.preparation, self.trainer, self.reason)}>"

    def _repr_html_(self) -> str:
        lines = "".join(f"<div>{escape(line)}</div>" for line in (repr(self)[1:-1], *self.account()))
        curves = self.history._repr_html_() if self.trainer.records else ""
        return f"<div>{lines}{self.trainer.network._repr_html_()}{curves}</div>"
