"""Estimators of tables with tuned defaults: RealMLP-TD-S."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from nnx.array import host
from nnx.errors import InputError, items, positive_int, shown
from nnx.model.layers import Layer
from nnx.sklearn import embeddings, labels, samples, tables
from nnx.sklearn.table_inputs import TableInputs
from nnx.sklearn.tabular_model import Asked, Recipe, TabularModel, train
from nnx.sklearn.unchanged import unchanged_on_failure

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "numerical_embeddings": "no_validation",  # type: ignore[dict-item]
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

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        with unchanged_on_failure(self):
            self._train(X, y, sample_weight)
        return self

    def _train(self, X: Any, y: Any, sample_weight: Any) -> None:
        X = tables.checked(self, X, reset=True, y=y)
        y = self._read_targets(y)
        check_consistent_length(X, y)
        X, y, weights = tables.counted(X, y, sample_weight)  # a sample of weight 0 is as one that is left out
        Y, n_outputs = self._targets(y, weights)
        inputs = TableInputs(X)
        rows = inputs(X)
        network = self._recipe.network(rows.shape[1], self._hidden(), n_outputs, self._embedding(rows))
        asked = self._asked()
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

    def _asked(self) -> Asked:
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=self.n_members).tolist()
        return Asked(
            float(self.learning_rate_init), self.max_iter, self.batch_size, float(self.validation_fraction), seeds,
            float(getattr(self, "label_smoothing", 0.0)), self.backend, self.device, self.dtype, bool(self.verbose),
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


class TabularClassifier(ClassifierMixin, BaseTabular):  # type: ignore[misc]
    """A classifier of tables with tuned defaults: RealMLP-TD-S (Holzmueller et al., 2024).

    (https://arxiv.org/abs/2407.04491, "Better by Default".) X may have text, categories and missing values. Numbers are
    scaled robustly and clipped smoothly, categories become one input each. The network has a learned factor for each
    input, the neural tangent parametrization and SELU. It trains with label smoothing by Adam under four cycles of the
    learning rate, and keeps the epoch that is best on samples that are held out.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, or int
        The units of the hidden layers.
    max_iter : int
        The epochs. All are done; the best one is kept. One epoch needs two batches: the first step has the rate 0.
    batch_size : int
        The most samples in a step. The steps of an epoch are of the same size, but for the last.
    learning_rate_init : float
        The highest rate of the schedule.
    validation_fraction : float
        The share of the samples, of each class, that chooses the epoch. 0: the last epoch is kept. These samples are
        not trained on, but the scales, the categories and the embedding's bins are learned from all.
    numerical_embeddings : str, layer or None
        As of `MLPClassifier`: "piecewise_linear", "periodic", or such a layer, for the inputs of more than two values.
        A layer that names `columns` is an error.
    n_members : int
        The networks that are trained at once, each with its own seed and samples held out. Predictions are their mean.
    label_smoothing : float
        The share of each target that goes to all classes; at least 0, below 1. 0 gives better probabilities.
    random_state : int, RandomState or None
        Draws the weights, the order of the samples and those held out.
    verbose : bool
        Whether to show a progress bar.
    backend, device : str or None
        See `nnx.backend`. None: NumPy, or numba where it is installed and the fit may take some seconds.
    dtype : {"float32", "float64"}
        Of the training.

    Attributes
    ----------
    classes_ : array (classes,)
    n_features_in_, feature_names_in_
        As in scikit-learn.
    n_iter_ : int
        The epochs done.
    best_epoch_ : int, or list of int
        The epoch whose parameters are kept, from 1; of members one for each.
    history_ : dict of lists
        What `nnx.Trainer.fit` returned.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = TabularClassifier(max_iter=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    _parameter_constraints = {  # noqa: RUF012  # scikit-learn's own way
        **CONSTRAINTS,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    _recipe = Recipe("selu", "softmax", "validation_accuracy")

    def __init__(
        self,
        hidden_layer_sizes: Any = (256, 256, 256),
        *,
        max_iter: int = 256,
        batch_size: int = 256,
        learning_rate_init: float = 0.04,
        validation_fraction: float = 0.2,
        numerical_embeddings: Any = None,
        n_members: int = 1,
        label_smoothing: float = 0.1,
        random_state: Any = None,
        verbose: Any = False,
        backend: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        given = dict(locals())
        del given["self"]
        self.__dict__.update(given)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "TabularClassifier":
        """Train on X and y. After Ctrl-C the best epoch so far is kept, with a warning; before the first, none.

        Parameters
        ----------
        X : data frame, or array-like (m, n)
            Of pandas, polars or Arrow, or an array. Missing values are None, NaN or pandas' NA.
        y : array-like (m,)
            Classes of any kind.
        sample_weight : array-like (m,) or None
            At least 0. A sample of weight 0 is as one that is left out.
        """
        return self._fit(X, y, sample_weight)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class (m, classes), the members' mean."""
        A = self._outputs(X)
        return A if len(self.classes_) > 1 else np.ones((len(A), 1))

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each sample (m,)."""
        A = self.predict_proba(X)
        return self.classes_[A.argmax(axis=1)]

    def _read_targets(self, y: Any) -> Any:
        """Return the labels (m,)."""
        return column_or_1d(host.as_host(y) if samples.home(y) else labels.unmixed(y), warn=True)

    def _targets(self, y: Any, weights: Any) -> tuple[Any, int]:
        """Return the number of each sample's class (m,), and how many outputs there are; keep the classes."""
        kind = labels.kind_of(y)
        self.classes_ = labels.classes_of(y)
        return labels.numbers(kind, self.classes_, y), max(2, len(self.classes_))


class TabularRegressor(RegressorMixin, BaseTabular):  # type: ignore[misc]
    """A regressor of tables with tuned defaults: RealMLP-TD-S (Holzmueller et al., 2024).

    (https://arxiv.org/abs/2407.04491.) As `TabularClassifier`, with Mish. The targets are scaled to mean 0 and
    deviation 1, and predictions stay in the range of the training's targets.

    Parameters
    ----------
    hidden_layer_sizes, max_iter, batch_size, learning_rate_init, validation_fraction, numerical_embeddings, \
n_members, random_state, verbose, backend, device, dtype
        As in `TabularClassifier`.

    Attributes
    ----------
    n_features_in_, feature_names_in_, n_iter_, best_epoch_, history_
        As in `TabularClassifier`. The errors in `history_` are those of the scaled targets.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> TabularRegressor(max_iter=10, random_state=0).fit(X, y).score(X, y) > 0.2
    True
    """

    _recipe = Recipe("mish", "identity", "validation_loss")

    def __init__(
        self,
        hidden_layer_sizes: Any = (256, 256, 256),
        *,
        max_iter: int = 256,
        batch_size: int = 256,
        learning_rate_init: float = 0.07,
        validation_fraction: float = 0.2,
        numerical_embeddings: Any = None,
        n_members: int = 1,
        random_state: Any = None,
        verbose: Any = False,
        backend: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        given = dict(locals())
        del given["self"]
        self.__dict__.update(given)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "TabularRegressor":
        """Train on X and y; see `TabularClassifier.fit`.

        Parameters
        ----------
        X, sample_weight
            As there.
        y : array-like (m,) or (m, outputs)
        """
        return self._fit(X, y, sample_weight)

    def predict(self, X: Any) -> Any:
        """Return the predicted numbers (m,) or (m, outputs), the members' mean."""
        A = self._outputs(X)
        found = np.clip(A * self._scale + self._mean, self._low, self._high)
        return found[:, 0] if self._flat else found

    def _read_targets(self, y: Any) -> Any:
        """Return y (m, outputs) as float64."""
        y = host.as_host(y) if samples.home(y) else y
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self)
        self._flat = y.ndim == 1 or y.shape[1] == 1
        return column_or_1d(y, warn=True)[:, None] if self._flat else y

    def _targets(self, y: Any, weights: Any) -> tuple[Any, int]:
        """Return the scaled targets (m, outputs), and how many outputs there are."""
        with host.quiet():
            mean = np.average(y, axis=0, weights=weights)
            scale = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weights))
        if not np.isfinite(mean + scale).all():
            raise InputError("y holds numbers too large to compute their deviation; divide y by its largest")
        self._mean, self._scale = mean, np.where(scale > 1e-12 * np.abs(mean), scale, 1.0)
        self._low, self._high = y.min(axis=0), y.max(axis=0)
        return (y - self._mean) / self._scale, y.shape[1]

    def __sklearn_tags__(self) -> Any:
        """Several outputs are taken, too."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
