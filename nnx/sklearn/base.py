"""The base of the classifier and the regressor: a fit by a `Trainer`, and the predictions after it."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from nnx.array.namespace import Array, array_namespace
from nnx.batches.sample_weights import in_range
from nnx.errors import (
    InputError,
)
from nnx.model.outputs import output as find_output
from nnx.model.outputs.base import Output
from nnx.model.regularization import Regularization
from nnx.optimizers import lbfgs
from nnx.port import registry
from nnx.port.base import Backend
from nnx.sklearn import embeddings, gaussian, samples
from nnx.sklearn.class_weights import multiplied
from nnx.sklearn.fit_tasks import CallbackSupportMixin, fit_task
from nnx.sklearn.fitting import Fit, Given, ready, run
from nnx.sklearn.input_gradients import InputGradients
from nnx.sklearn.losses import OUT_ACTIVATIONS, Link, is_gaussian, name_of
from nnx.sklearn.member_params import check_goes_on
from nnx.sklearn.members import OF_MEMBERS, fit_members, outputs
from nnx.sklearn.memory import optimizer_memory, remember
from nnx.sklearn.names import NearestNames
from nnx.sklearn.parameters import (
    CONSTRAINTS,
    check_design,
    check_parameters,
    choose_optimizer,
    count_parameters,
    design_of,
    layer_sizes,
    network_of,
    regularization_of,
)
from nnx.sklearn.shuffles import Shuffles
from nnx.sklearn.stacked_fits import DEFERRED
from nnx.sklearn.unchanged import unchanged_on_failure
from nnx.sklearn.validation import HeldOut, checked_set, hold_out, judge, of_training
from nnx.train.trainer import Trainer


class BaseMLP(NearestNames, CallbackSupportMixin, InputGradients):  # type: ignore[misc]  # scikit-learn has no types
    """The parameters, fit and forward of both estimators."""

    _parameter_constraints = CONSTRAINTS

    n_outputs_: int
    out_activation_: str
    classes_: Any
    _link: Link
    """The link and loss of the network."""
    _designed: dict[str, Any]
    """The result of `design_of` when the network was made."""
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    _watched: tuple[str | None, bool] | None
    """What the curves are of, see `_go_on`."""
    _memory: dict[str, Any]
    """The optimizer's state at the end of the last fit."""
    _made: tuple[Any, ...]
    """The trainer's arguments beside its network, optimizer and backend."""

    @property
    def _stochastic(self) -> bool:
        if self.optimizer is None:
            return not (isinstance(self.solver, str) and self.solver == "lbfgs")
        named = isinstance(self.optimizer, str) and self.optimizer == "lbfgs"
        return not (named or isinstance(self.optimizer, lbfgs.LBFGS))

    @property
    def _output(self) -> Output:
        """The output of the fitted network, whatever `loss` has become."""
        return find_output(*self._link)

    def _set_outputs(self, n: int, link: Link, first: bool) -> None:
        """Take up the number of targets and the link and loss, which a network that goes on must keep."""
        k = find_output(*link).per_target
        if not first and link != self._link:
            raise InputError(
                f"loss is {name_of(link)}, but the network that goes on was made with {name_of(self._link)}; set it "
                "back, or begin anew with fit and warm_start=False"
            )
        if not first and n * k != self.n_outputs_:
            raise InputError(f"y has {n} outputs, but the network that goes on has {self.n_outputs_ // k}")
        self.n_outputs_, self.out_activation_, self._link = n * k, OUT_ACTIVATIONS[link[0]], link

    # --- fit ------------------------------------------------------------------------------------------------------

    def _fit(
        self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False, validation: Any = None
    ) -> Any:
        wait = DEFERRED.get()
        if wait is not None and not incremental:
            wait(self, X, y, sample_weight, validation)
            return self
        epochs = 1 if incremental else self.max_iter
        with fit_task(self, X, y, sample_weight, epochs) as task, unchanged_on_failure(self) as kept:
            given = self._check(X, y, sample_weight, incremental, validation)
            given.task = task
            if given.first:
                kept.lighten()
            if self.n_members is None:
                fit = self._ready_for(given)
                run(fit)
                self._take_up(fit)
            else:
                fit_members(self, given)
        return self

    def _check(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, validation: tuple[Any, Any, Any] | None
    ) -> Given:
        """Return the samples of a fit, as it takes them."""
        check_parameters(self, incremental)
        goes_on = (self.warm_start or incremental) and bool({"coefs_", "members_"} & {*vars(self)})
        if goes_on:
            check_goes_on(self)
            if self.n_members is None:
                check_design(self)
        X, Y = self._validate(samples.table(self, X, not goes_on), y, incremental, not goes_on)
        dtype = self.dtype or samples.dtype_of(X)
        if self.dtype is None and not self._stochastic and samples.home(X) is None:
            dtype = "float64"  # whose line search finds nothing lower in float32
        m, exponent = X.shape[0], 0
        weights = None if sample_weight is None else samples.weights(sample_weight, m)
        weights = multiplied(weights, self._class_weights(Y))
        if weights is not None:
            together = not self._stochastic or m <= (200 if self.batch_size == "auto" else self.batch_size)
            weights, exponent = in_range(weights, dtype, together)
        if not goes_on:
            embeddings.choose_columns(self, X, weights)
        elif self._embedded is not None:
            embeddings.refuse_sparse(X)
        held = checked_set(self, validation, dtype)
        return Given(X, Y, weights, exponent, dtype, not goes_on, incremental, held)

    def _ready_for(self, given: Given, K: int = 1, split: Any = None) -> Fit:
        """Return the fit of this estimator of one network, ready to run, with a trainer at its first parameters.

        Parameters
        ----------
        given : Given
        K : int
            How many networks are trained at once.
        split : pair of arrays of int, or None
            The samples that are trained on, and those that `early_stopping` holds out; None: it draws them.
        """
        X, Y, dtype = given.X, given.Y, given.dtype
        regularization = regularization_of(self, given.exponent, dtype)
        self._random_state = check_random_state(self.random_state)
        stops = self.early_stopping and self._stochastic
        watched: tuple[str | None, bool] | None = ("validation_fraction", True) if stops else None
        if given.validation is not None:
            watched = given.validation.digest, stops
        holds_out = stops and given.validation is None
        if given.first:
            self._begin(X)
            if holds_out and (self._embedded is not None or is_gaussian(self._output)):
                split = split or hold_out(self, X.shape[0], Y)
            embeddings.begin(self, X, split and split[0], given.weights, dtype)
            gaussian.begin(self, Y, split and split[0], given.weights, given.incremental)
        self._go_on(watched)
        P = count_parameters(self, X.shape[1])
        work = registry.work(P, X.shape[0] * self.max_iter, 0, K)
        backend = samples.backend_for(X, self.backend, self.device, self.precision, work)
        trainer = self._trained(X, backend, dtype, regularization, given.incremental)
        rows, held = None, given.validation
        if holds_out:
            rows, held_out = split or hold_out(self, X.shape[0], Y)
            held = of_training(self, given, held_out)
        return ready(self, trainer, given, rows, held and self._judge(backend, given, held), stops)

    def _judge(self, backend: Backend, given: Given, held: HeldOut) -> Any:
        if given.forward is None:
            given.forward = backend.compile(self.network_.forward_and_loss)
        return judge(self, backend, given.forward, held, given.dtype)

    def _begin(self, X: Any) -> None:
        """Draw the first parameters and forget the last fit."""
        for name in ("_vector", "_views", "_best", *OF_MEMBERS):
            self.__dict__.pop(name, None)
        self.n_iter_, self.t_ = 0, 0
        sizes = layer_sizes(self, X.shape[1])
        self.n_layers_ = len(sizes)
        self.coefs_, self.intercepts_ = [], []
        for n_prev, n in pairwise(sizes):
            # Glorot and Bengio, see nnx.model.initializers: gain 6, 2 for the logistic function; of the biases, too
            bound = np.sqrt((2.0 if self.activation in ("logistic", "sigmoid") else 6.0) / (n_prev + n))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (n_prev, n)))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, n))
        self.__dict__.pop("loss_curve_", None)

    def _go_on(self, watched: tuple[str | None, bool] | None) -> None:
        """Go on with the curves of the fits before, unless they watched something else, or there are none.

        `watched` is the digest of a `validation_set`, or what else is not trained on, and whether it ends the fit.
        """
        if not self._stochastic:
            if watched is not None:
                self.__dict__.pop("loss_curve_", None)
            if not hasattr(self, "loss_curve_"):
                self._curves(watched)
        elif not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self._watch_anew(watched)
        elif watched != self._watched:
            self._watch_anew(watched)
        elif (
            self.validation_scores_ is not None and self.validation_loss_curve_ is None
        ):  # of an older pickle
            self.validation_loss_curve_ = [float("nan")] * len(self.validation_scores_)

    def _watch_anew(self, watched: tuple[str | None, bool] | None) -> None:
        """Forget the best loss, or the best score of other samples."""
        stops = watched is not None and watched[1]
        self.__dict__.pop("_best", None)
        self._no_improvement_count = 0
        self.best_loss_ = None if stops else np.inf
        self.best_validation_score_ = -np.inf if stops else None
        self._curves(watched)

    def _curves(self, watched: tuple[str | None, bool] | None) -> None:
        """Begin the curves of the samples that are not trained on; None without such samples."""
        self._watched = watched
        self.validation_scores_ = None if watched is None else []
        self.validation_loss_curve_ = None if watched is None else []

    def _trained(
        self, X: Any, backend: Backend, dtype: str, regularization: Regularization, incremental: bool
    ) -> Trainer:
        """Return the trainer that is to go on: with `incremental` with the optimizer's memory, else without."""
        optimizer, design = choose_optimizer(self, incremental), design_of(self)
        made = design, dtype, regularization
        trainer: Trainer | None = self.__dict__.get("_trainer")
        if trainer is None or trainer.optimizer is not self.__dict__.get("_optimizer"):
            trainer = None
        elif not incremental or trainer.backend is not backend or self._made != made:
            self._memory, trainer = optimizer_memory(trainer), None
        network = trainer.network if trainer else network_of(self, X.shape[1], design)
        theta = self._theta(network)
        if trainer is None:
            memory = self._memory if self._stochastic else {}
            draws = network.random and "key" not in memory
            seed = int(self._random_state.randint(2**31 - 1)) if draws else 0
            if samples.home(theta) == (backend.name, backend.device):
                theta = backend.to_numpy(theta)
            trainer = Trainer(network, optimizer, backend, None, dtype, seed, regularization, theta)
            remember(trainer, memory)
        elif theta is self.__dict__.get("_vector"):  # the views of it may have been written into
            trainer.session.load({"theta": backend.asarray(theta, dtype)})
        else:
            trainer.theta = theta
        trainer.rng = Shuffles(self._random_state)
        trainer.records = []
        self.network_, self._trainer, self._made, self._designed = network, trainer, made, design
        return trainer

    # --- predictions --------------------------------------------------------------------------------------------------

    def _rows(self, X: Any) -> tuple[Any, Backend, Any]:
        """Return A[L] (n[L], m) on the backend, the backend, and X as it was validated."""
        if "members_" in self.__dict__:
            return outputs(self, X)
        if "network_" not in self.__dict__:
            check_is_fitted(self)  # raises
        X = samples.validated(self, X, reset=False)
        work = registry.work(self.network_.P, X.shape[0] * self.max_iter, 0)  # as of a fit
        backend = samples.backend_for(X, self.backend, self.device, self.precision, work)
        theta = self._theta(self.network_)
        seen, moved, forward = self._ready.get(backend, (None,) * 3)
        if seen is not theta:
            dtype = samples.dtype_of(theta)
            moved, forward = backend.asarray(theta, dtype), backend.compile(self.network_.forward)
            self._ready[backend] = theta, moved, forward
        return self._outputs(backend, forward, moved, X), backend, X

    def _take_forward(self, backend: Backend, forward: Any) -> None:
        """Predict on a backend with a compiled `forward`, which other estimators may have, too."""
        theta = self._theta(self.network_)
        self._ready[backend] = theta, backend.asarray(theta, samples.dtype_of(theta)), forward

    def _outputs(self, backend: Backend, forward: Any, theta: Array, X: Any) -> Array:
        """Return A[L] (n[L], m)."""
        parts = [*self._pieces(backend, forward, theta, X)]
        return parts[0] if len(parts) == 1 else array_namespace(theta).concat(parts, axis=-1)

    def _pieces(self, backend: Backend, forward: Any, theta: Array, X: Any) -> Iterator[Array]:
        """Yield A[L] (..., n[L], m) of theta (..., P), as many samples m at a time as is good."""
        K, dtype = math.prod(theta.shape[:-1]), samples.dtype_of(theta)
        for part in samples.pieces(X, samples.at_once(backend, K * self.network_.widest)):
            yield forward(theta, backend.asarray(part, dtype))

    def __sklearn_tags__(self) -> Any:
        """Sparse X is taken, unless its numbers are embedded."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.numerical_embeddings is None
        return tags

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        raise NotImplementedError

    def _targets(self, y: Any, m: int) -> Any:
        raise NotImplementedError

    def _class_weights(self, Y: Any) -> Any:
        return None

    def _strata(self, Y: Any) -> Any:
        return None

    def _score(self, found: Any, Y: Any, weights: Any) -> float:
        raise NotImplementedError
