"""Estimators of tables with tuned defaults: RealMLP-TD-S."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array

from nnx.array import host
from nnx.errors import InputError
from nnx.sklearn import class_weights, labels, samples
from nnx.sklearn.tabular_base import CONSTRAINTS, BaseTabular
from nnx.sklearn.tabular_model import Recipe


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
        The epochs. All are done, unless a callback ends the fit; the best one is kept. One epoch needs two batches: the
        first step has the rate 0.
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
    class_weight : dict, "balanced" or None
        As of `MLPClassifier`. It weighs the samples held out, too, but not a `validation_set`.
    callbacks : callback, or sequence of them
        See `nnx.Callback`. Of several members each measured number is the median.
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
        "class_weight": [dict, StrOptions({class_weights.BALANCED}), None],
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
        class_weight: Any = None,
        callbacks: Any = (),
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
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_set: Any = None
    ) -> "TabularClassifier":
        """Train on X and y. After Ctrl-C the best epoch so far is kept, with a warning.

        Parameters
        ----------
        X : data frame, or array-like (m, n)
            Of pandas, polars or Arrow, or an array. Missing values are None, NaN or pandas' NA.
        y : array-like (m,)
            Classes of any kind.
        sample_weight : array-like (m,) or None
            At least 0. A sample of weight 0 is as one that is left out.
        validation_set : (X, y) or (X, y, sample_weight), or None
            Samples that choose the epoch, in place of a `validation_fraction`. All of X is then trained on.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C before the first epoch has ended. The estimator is then as it was.
        """
        return self._fit(X, y, sample_weight, validation_set)

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

    def _targets_of_others(self, y: Any, m: int) -> Any:
        return labels.numbers_of_others(y, m, "multiclass", self.classes_, len(self.classes_))

    def _class_weights(self, Y: Any) -> Any:
        class_weights.check_class_weight(self.class_weight, incremental=False)
        if self.class_weight is None:
            return None
        return class_weights.of_samples(self.class_weight, "multiclass", self.classes_, Y)


class TabularRegressor(RegressorMixin, BaseTabular):  # type: ignore[misc]
    """A regressor of tables with tuned defaults: RealMLP-TD-S (Holzmueller et al., 2024).

    (https://arxiv.org/abs/2407.04491.) As `TabularClassifier`, with Mish. The targets are scaled to mean 0 and
    deviation 1, and predictions stay in the range of the training's targets.

    Parameters
    ----------
    hidden_layer_sizes, max_iter, batch_size, learning_rate_init, validation_fraction, numerical_embeddings, \
n_members, callbacks, random_state, verbose, backend, device, dtype
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
        callbacks: Any = (),
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
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_set: Any = None
    ) -> "TabularRegressor":
        """Train on X and y; see `TabularClassifier.fit`.

        Parameters
        ----------
        X, sample_weight, validation_set
            As there.
        y : array-like (m,) or (m, outputs)
        """
        return self._fit(X, y, sample_weight, validation_set)

    def predict(self, X: Any) -> Any:
        """Return the predicted numbers (m,) or (m, outputs), the members' mean."""
        A = self._outputs(X)
        found = np.clip(A * self._scale + self._mean, self._low, self._high)
        return found[:, 0] if self._flat else found

    def _read_targets(self, y: Any) -> Any:
        """Return y (m, outputs) as float64."""
        y = self._numbers(y)
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

    def _targets_of_others(self, y: Any, m: int) -> Any:
        y = samples.with_length(self._numbers(y), m).reshape(m, -1)
        if y.shape[1] != len(self._mean):
            raise InputError(f"y has {y.shape[1]} outputs, that of the training {len(self._mean)}")
        return (y - self._mean) / self._scale

    def _numbers(self, y: Any) -> Any:
        y = host.as_host(y) if samples.home(y) else y
        labels.refuse_text(y, "TabularRegressor", "TabularClassifier")
        return check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self)

    def __sklearn_tags__(self) -> Any:
        """Several outputs are taken, too."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
