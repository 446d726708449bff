"""The base of the estimators of tables: their parameters, their fit and their outputs."""

from numbers import Integral, Real
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from nnx.callbacks.base import Callbacks
from nnx.errors import InputError, items, positive_int, shown
from nnx.model.layers import Layer
from nnx.sklearn import class_weights, embeddings, samples, tables
from nnx.sklearn.table_inputs import TableInputs
from nnx.sklearn.tabular_model import Asked, Recipe, TabularModel, train
from nnx.sklearn.unchanged import unchanged_on_failure
from nnx.sklearn.validation import given_set

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "numerical_embeddings": "no_validation",  # type: ignore[dict-item]
    "callbacks": "no_validation",  # type: ignore[dict-item]
    "n_members": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "backend": [str, None],
    "device": [str, None],
    "dtype": [StrOptions({"float32", "float64"})],
}


class BaseTabular(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The fit and the outputs of both estimators."""

    _parameter_constraints = CONSTRAINTS
    _recipe: Recipe
    _model: TabularModel

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_set: Any) -> Self:
        with unchanged_on_failure(self):
            self._train(X, y, sample_weight, given_set(validation_set))
        return self

    def _train(self, X: Any, y: Any, sample_weight: Any, validation: Any) -> None:
        X = tables.checked(self, X, reset=True, y=y)
        y = self._read_targets(y)
        check_consistent_length(X, y)
        X, y, weights = tables.counted(X, y, sample_weight)  # a sample of weight 0 is as one that is left out
        Y, n_outputs = self._targets(y, weights)
        weights = class_weights.multiplied(weights, self._class_weights(Y))
        inputs = TableInputs(X)
        rows = inputs(X)
        network = self._recipe.network(rows.shape[1], self._hidden(), n_outputs, self._embedding(rows))
        asked = self._asked(None if validation is None else self._validation(inputs, *validation))
        trainer, kept, theta = train(network, self._recipe, asked, rows, Y, weights)
        self.history_ = dict(trainer.history)
        self.n_iter_ = max(len(one.records) for one in [*trainer.each] or [trainer])
        self.best_epoch_ = kept[0] if self.n_members == 1 else kept
        backend = trainer.backend
        self._model = TabularModel(inputs, network, theta, backend.name, backend.device, asked.dtype)

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if isinstance(sizes, Integral) else sizes
        given = items("hidden_layer_sizes", sizes, "the units of the hidden layers")
        return [positive_int("hidden_layer_sizes", n) for n in given]

    def _embedding(self, rows: Any) -> list[Layer]:
        """Return the layer that embeds the inputs (m, n[0]) of more than two distinct values, if one is asked for."""
        columns = getattr(self.numerical_embeddings, "columns", None)
        if columns is not None:  # they would count the expanded inputs
            raise InputError(
                f"numerical_embeddings: the layer names columns, {shown(columns)}, which are a network's inputs, not "
                "X's columns; leave columns out: the numbers are embedded"
            )
        return embeddings.learned(self.numerical_embeddings, rows, self.dtype)

    def _validation(self, inputs: TableInputs, X: Any, y: Any, weights: Any) -> tuple[Any, ...]:
        """Return a `validation_set` as the trainer takes it: inputs (m, n[0]), targets, and weights (m,)."""
        try:
            rows = inputs(tables.checked(self, X, reset=False))
            Y = self._targets_of_others(y, len(rows))
            return (rows, Y) if weights is None else (rows, Y, samples.weights(weights, len(rows)))
        except ValueError as error:
            raise InputError(f"validation_set: {error}") from error

    def _asked(self, validation: tuple[Any, ...] | None) -> Asked:
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=self.n_members).tolist()
        return Asked(
            float(self.learning_rate_init), self.max_iter, self.batch_size,
            0.0 if validation else float(self.validation_fraction), seeds,
            float(getattr(self, "label_smoothing", 0.0)), self.backend, self.device, self.dtype, bool(self.verbose),
            Callbacks(self.callbacks).all, validation,
        )  # fmt: skip

    def _outputs(self, X: Any) -> Any:
        """Return A[L] (m, n[L])."""
        check_is_fitted(self)
        return self._model.outputs(tables.checked(self, X, reset=False))

    def __sklearn_is_fitted__(self) -> bool:
        return "_model" in vars(self)

    def __sklearn_tags__(self) -> Any:
        """Missing values and categories are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def _read_targets(self, y: Any) -> Any:
        raise NotImplementedError

    def _targets(self, y: Any, weights: Any) -> tuple[Any, int]:
        raise NotImplementedError

    def _targets_of_others(self, y: Any, m: int) -> Any:
        raise NotImplementedError

    def _class_weights(self, Y: Any) -> Any:
        return None
