"""The classifier."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.sklearn import class_weights, labels, losses, samples
from nnx.sklearn.available import can_partial_fit
from nnx.sklearn.base import BaseMLP
from nnx.sklearn.members import outputs
from nnx.sklearn.unchanged import unchanged_on_failure
from nnx.sklearn.validation import given_set


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's `MLPClassifier`, trained by nnx: the same parameters, attributes, random numbers and results.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn, https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html
    backend : str or None
        The backend, see `nnx.backend`. None: the library and device of X; for NumPy arrays, lists, frames
        and sparse matrices NumPy, or numba where it is installed and the fit may take some seconds.
    device : str or None
        See `nnx.backend`.
    precision : {"float32", "tf32", "bfloat16"} or None
        Of the matrix products, see `nnx.backend`; None: float32. Others need the dtype float32.
    dtype : {"float32", "float64"} or None
        None: float32 if X is, else float64, as scikit-learn.
    dropout : float
        The rate of `nnx.Dropout` after each hidden layer.
    normalization : {"batch", "layer"} or None
        `nnx.BatchNorm` or `nnx.LayerNorm` before each hidden activation.
    optimizer : nnx optimizer, str or None
        In place of solver, learning_rate_init and all that belongs to them.
    schedule : nnx schedule or None
        In place of learning_rate and learning_rate_init: an object of `nnx.schedules`.
    regularization : Regularization or None
        `nnx.Regularization`, in place of alpha.
    callbacks : callback, or sequence of them
        See `nnx.Callback`. `trainer` is the estimator's own.
    numerical_embeddings : str, layer or None
        "piecewise_linear" or "periodic", also with arguments, "periodic(sigma=1)", or an `nnx.PiecewiseLinear` or
        `nnx.Periodic`: the first layer. Without `columns` it embeds those of more than two distinct values in X. Its
        bins are learned in the first call of `fit` or `partial_fit`, from the samples that each network trains on.
    n_members : int or None
        The number of networks that are trained at once, each as an estimator of its own with a `random_state` drawn
        from that of this one. Predictions are the means of theirs. None: one network.
    member_params : dict or None
        By the name of a parameter, such as "alpha" or "learning_rate_init", a list with one value for each member, or
        a distribution of scipy.stats.
    selection : {"all", "greedy"}
        "greedy": the members, with their shares in the mean, that are best together on the samples that
        `early_stopping` holds out, the same of all members, or on the `validation_set` in their place
        (`nnx.train.ensemble.Ensemble.select`). It needs early_stopping=True, with a `validation_set`, too.
    class_weight : dict, list of dict, "balanced" or None
        {class: weight}, or "balanced": m / (K count of the class), K the number of classes. It is multiplied with
        sample_weight, as in scikit-learn's `compute_sample_weight`. For several labels at once a list with a dict
        {0: weight, 1: weight} for each, or "balanced".
    loss : str, Loss or function
        "log_loss": cross-entropy. "focal" or "focal(gamma)": the focal loss. "hinge": that of support vector machines,
        with `decision_function` and without probabilities. Or one of your own of probabilities, see `MLPRegressor`.

    Attributes
    ----------
    classes_, loss_, best_loss_, loss_curve_, best_validation_score_, t_, coefs_, intercepts_, \
n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn. coefs_ and intercepts_ are views of the network's parameters.
    validation_scores_ : list of float or None
        The accuracy after each epoch on the samples that `early_stopping` holds out, or on a `validation_set`.
    validation_loss_curve_ : list of float or None
        Their mean loss after each epoch, without the penalty.
    network_ : Network
        The trained network.
    members_ : list of MLPClassifier
        With `n_members` the members, fitted. They have the attributes that belong to one network, such as coefs_.
        n_iter_ is the largest of theirs.
    member_weights_ : array (n_members,)
        Their shares in the mean.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(solver="lbfgs", max_iter=1000, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints = {  # noqa: RUF012  # scikit-learn's own way
        **BaseMLP._parameter_constraints,
        "class_weight": class_weights.CONSTRAINT,
        "loss": losses.LOSS_OF_CLASSES,
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        dtype: str | None = None,
        dropout: float = 0.0,
        normalization: str | None = None,
        optimizer: Any = None,
        schedule: Any = None,
        regularization: Any = None,
        callbacks: Any = (),
        numerical_embeddings: Any = None,
        n_members: int | None = None,
        member_params: Any = None,
        selection: str = "all",
        class_weight: Any = None,
        loss: Any = "log_loss",
    ) -> None:
        given = dict(locals())
        del given["self"]
        self.__dict__.update(given)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation_set: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> "MLPClassifier":
        """Train on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples as rows: of NumPy, CuPy, PyTorch or JAX, a pandas or polars frame, a SciPy sparse matrix.
        y : array-like (m,) or (m, labels)
            Classes of any kind; or several labels at once, as 0 and 1.
        sample_weight : array-like (m,) or None
            At least 0.
        validation_set : (X, y) or (X, y, sample_weight), or None
            Samples that are not trained on: after each epoch their score and loss are added to
            `validation_scores_` and `validation_loss_curve_`. With `early_stopping` they decide in place of a
            `validation_fraction`, and all of X is trained on. `class_weight` does not weigh them.
        X_val, y_val, sample_weight_val : array-like
            The same, apart: a `Pipeline(..., transform_input=["X_val"])` transforms X_val as X.
        """
        validation = given_set(validation_set, X_val, y_val, sample_weight_val)
        self._fit(X, y, sample_weight, validation=validation)
        return self

    @available_if(can_partial_fit)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        validation_set: Any = None,
    ) -> "MLPClassifier":
        """Train one epoch on X and y, going on from where it is.

        Parameters
        ----------
        X, y, sample_weight, validation_set
            See `fit`.
        classes : array-like or None
            All classes that will ever occur; needed in the first call.
        """
        with unchanged_on_failure(self):
            self._expect(y, classes)
            self._fit(X, y, sample_weight, incremental=True, validation=given_set(validation_set))
        return self

    def _expect(self, y: Any, classes: Any) -> None:
        """Learn the classes in the first call of `partial_fit`, and hold them against `classes` in others."""
        y = host.as_host(y) if samples.home(y) else labels.unmixed(y)
        classes = host.as_host(classes) if samples.home(classes) else labels.unmixed(classes)
        if hasattr(self, "classes_"):
            self.classes_ = host.as_host(self.classes_)
        if _check_partial_fit_first_call(self, classes):
            kind = labels.kind_of(y)
            kind = kind if kind == labels.MULTILABEL else labels.kind_of(self.classes_)
            self._learn(kind, self.classes_)

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each sample (m,), or its labels (m, labels): of X's library and device."""
        A, backend, X = self._rows(X)
        xp, limit = array_namespace(A), self._output.threshold
        if self._kind == labels.MULTILABEL:
            found = samples.given_back(xp.astype((A > limit).T, xp.int64), backend, X)
            return sparse.csr_matrix(found) if self._sparse_labels else found
        numbers = xp.argmax(A, axis=0) if A.shape[0] > 1 else xp.astype(A[0, :] > limit, xp.int32)
        classes = host.as_host(self.classes_)
        if len(classes) == 1:
            numbers = xp.zeros_like(numbers)
        if classes.dtype.kind not in "biuf" or samples.home(X) is None:
            return classes[backend.to_numpy(numbers)]
        if not labels.are_common(classes):
            return labels.given_back(classes, backend.to_numpy(numbers), X)
        return samples.given_back(xp.take(backend.asarray(classes), numbers, axis=0), backend, X)

    @available_if(losses.check_has_margins)  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Any:
        """Return the hinge's z (m,) of two classes, else (m, classes): above 0 for yes, of X's library and device."""
        A, backend, X = self._rows(X)
        return samples.given_back(A[0, :] if A.shape[0] == 1 else A.T, backend, X)

    @available_if(losses.check_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class (m, classes), or of each label: of X's library and device."""
        A, backend, X = self._rows(X)
        if A.shape[0] == 1:
            A = array_namespace(A).concat([1 - A, A], axis=0)
        return samples.given_back(A.T, backend, X)

    @available_if(losses.check_has_std_of_classes)  # type: ignore[untyped-decorator]
    def predict_std(self, X: Any) -> Any:
        """Return the standard deviation of the members' `predict_proba` around its mean, of the same shape."""
        A, backend, X = outputs(self, X, losses.std_of_members)
        A = array_namespace(A).concat([A, A], axis=0) if A.shape[0] == 1 else A
        return samples.given_back(A.T, backend, X)

    @available_if(losses.check_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`."""
        P = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return array_namespace(P).log(P)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; of several labels the share of samples whose labels are all right."""
        found = self.predict(X)
        found, y = (host.as_host(x) if samples.home(x) else labels.unmixed(x) for x in (found, y))
        return float(accuracy_score(y, found, sample_weight=sample_weight))

    def _learn(self, kind: str, classes: Any) -> None:
        self._kind, self.classes_, self._sparse_labels = kind, classes, False

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Return X (m, n), and Y: 0 and 1 (m, 1) for two classes, (m, labels) for labels, else numbers (m,)."""
        foreign = samples.home(y)
        y = host.as_host(y) if foreign else labels.unmixed(y)
        if samples.home(X) is None:
            X, y = samples.checked(
                self,
                X,
                y,
                accept_sparse=["csr", "csc"],
                multi_output=True,
                dtype=(np.float64, np.float32),
                reset=reset,
            )
            X = X.tocsr() if sparse.issparse(X) else X
        else:
            X, y = samples.on_device(self, X, reset), samples.with_length(y, X.shape[0])
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        kind = labels.kind_of(y)
        if not hasattr(self, "_kind") or not (self.warm_start or incremental):
            self._learn(kind, labels.classes_of(y))
            self._sparse_labels = sparse.issparse(y)
        else:
            if (kind == labels.MULTILABEL) != (self._kind == labels.MULTILABEL):
                raise ValueError(
                    f"y is of {kind} targets, but the network that goes on has {self._kind} ones"
                )
            self._compare(labels.classes_of(y))
        classes = host.as_host(self.classes_)
        link = "softmax" if self._kind == "multiclass" else "sigmoid"
        n = y.shape[1] if self._kind == labels.MULTILABEL else labels.n_outputs(self._kind, classes)
        self._set_outputs(n, losses.of_classes(self.loss, link), reset)
        Y = labels.numbers(self._kind, classes, y)
        self.classes_ = classes
        if foreign and classes.dtype.kind in "biuf":
            self.classes_ = samples.backend(*foreign).asarray(classes)
        return X, Y.reshape(-1, 1) if self._kind == "binary" else Y

    def _compare(self, classes: Any) -> None:
        """Raise a ValueError where y has other classes than those that were fitted."""
        known = host.as_host(self.classes_)
        if self.warm_start and set(classes) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {known}, `y` has {classes}"
            )
        if not set(classes) <= set(known):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {classes}."
            )

    def _targets(self, y: Any, m: int) -> Any:
        return labels.numbers_of_others(y, m, self._kind, host.as_host(self.classes_), self.n_outputs_)

    def _class_weights(self, Y: Any) -> Any:
        if self.class_weight is None:
            return None
        return class_weights.of_samples(self.class_weight, self._kind, host.as_host(self.classes_), Y)

    def _strata(self, Y: Any) -> Any:
        """Return the classes of a stratified split: as in scikit-learn, only for two classes."""
        return Y.astype(bool) if self._kind == "binary" else None

    def _score(self, found: Any, Y: Any, weights: Any) -> float:
        limit, several = self._output.threshold, self._kind == "multiclass"
        right = found.argmax(axis=1) == Y if several else ((found > limit) == Y).all(axis=1)
        return float(np.average(right, weights=weights))

    def __sklearn_tags__(self) -> Any:
        """Several labels are taken, too."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
