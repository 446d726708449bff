"""What the classifier and the regressor share: parameters become a network and a trainer, which does the work."""

import math
import operator
import warnings
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from nnx import optimizers
from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.batches.sample_weights import in_range
from nnx.batches.sources import Rows
from nnx.callbacks.base import Callbacks
from nnx.errors import (
    LARGEST,
    DivergenceError,
    InputError,
    between,
    integer,
    items,
    number,
    one_of,
    scalar,
    shown,
)
from nnx.io.convert.sklearn import SKLEARN_NAMES
from nnx.model import layers
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import lbfgs
from nnx.optimizers.schedules import Schedule
from nnx.port import registry
from nnx.port.base import Backend
from nnx.sklearn import samples
from nnx.sklearn.convergence import Convergence
from nnx.sklearn.optimizers import SGD, Adam
from nnx.sklearn.shuffles import Shuffles
from nnx.train.trainer import Trainer

AT_ONCE = 2**20
"""Numbers of the widest layer that a prediction computes at once on the host: more would leave the caches."""

ACTIVATIONS = {"identity", "logistic", "tanh", "relu"}
NORMS: dict[str, type[layers.Layer]] = {"batch": layers.BatchNorm, "layer": layers.LayerNorm}
TOO_LARGE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
    "preprocessed."
)


def _at_least(kind: type, low: float, closed: str = "left") -> Any:
    return Interval(kind, low, None, closed=closed)


class BaseMLP(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The parameters, fit and forward of both estimators."""

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  # scikit-learn's own way
        "hidden_layer_sizes": ["array-like", _at_least(Integral, 1)],
        "activation": [StrOptions(ACTIVATIONS)],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [_at_least(Real, 0)],
        "batch_size": [StrOptions({"auto"}), _at_least(Integral, 1)],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [_at_least(Real, 0, "neither")],
        "power_t": [_at_least(Real, 0)],
        "max_iter": [_at_least(Integral, 1)],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [_at_least(Real, 0)],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [_at_least(Real, 0, "neither")],
        "n_iter_no_change": [_at_least(Integral, 1), Options(Real, {np.inf})],
        "max_fun": [_at_least(Integral, 1)],
        # beyond scikit-learn's
        "backend": [str, None],
        "device": [str, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "normalization": [StrOptions(set(NORMS)), None],
        "optimizer": "no_validation",
        "schedule": "no_validation",
        "regularization": "no_validation",
        "callbacks": "no_validation",
    }

    n_outputs_: int
    out_activation_: str
    classes_: Any
    _designed: dict[str, Any]
    """What `_design` returned when the network was made."""
    _made: tuple[Any, ...]
    """What the trainer was made of, beside its network, optimizer and backend."""

    # --- parameters, translated -----------------------------------------------------------------------------------

    @property
    def _stochastic(self) -> bool:
        if self.optimizer is None:
            return not (isinstance(self.solver, str) and self.solver == "lbfgs")
        named = isinstance(self.optimizer, str) and self.optimizer == "lbfgs"
        return not (named or isinstance(self.optimizer, lbfgs.LBFGS))

    def _sizes(self) -> list[int]:
        """Return the units of the hidden layers, or raise a ValueError unless they are whole numbers above 0."""
        name, expected = (
            "hidden_layer_sizes",
            "the units of each hidden layer, such as (100, 50), or one such number",
        )
        given = scalar(self.hidden_layer_sizes)
        sizes = [
            integer(name, size, -LARGEST, expected="whole numbers of units")
            for size in ([given] if isinstance(given, Real) else items(name, given, expected))
        ]
        if any(size <= 0 for size in sizes):
            raise InputError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _check_parameters(self, incremental: bool) -> None:
        """Raise a ValueError unless the parameters have a meaning, alone and together.

        scikit-learn does not look at its constraints in a `partial_fit` after another: here it is done when a parameter
        has been set.
        """
        given = [getattr(self, name) for name in self._parameter_constraints]
        known = self.__dict__.get("_looked_at", ())
        if len(known) != len(given) or not all(map(operator.is_, known, given)):
            self._validate_params()
            for name, value in zip(self._parameter_constraints, given, strict=True):
                if isinstance(value, Integral) and not isinstance(value, bool):
                    number(name, value, "a number that floats hold", math.isfinite)
            self._looked_at = given
        self._sizes()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.optimizer is not None:
            optimizers.optimizer(self.optimizer)
        if self.schedule is not None:
            if isinstance(self.schedule, type) or not isinstance(self.schedule, Schedule):
                raise InputError(
                    "schedule must be an instance of nnx.schedules, such as nnx.schedules.Cosine(0.01, steps=1000), "
                    f"or None; given {shown(self.schedule)}"
                )
            if not self._stochastic:
                raise InputError(
                    "schedule changes the learning rate, which L-BFGS does not have; leave out schedule, or choose "
                    "solver='adam' or 'sgd'"
                )
        if self.regularization is not None and not isinstance(self.regularization, Regularization):
            raise InputError(
                "regularization must be an nnx.Regularization, such as nnx.Regularization(l2=1e-4), or None; given "
                f"{shown(self.regularization)}"
            )
        Callbacks(self.callbacks)

    def _design(self) -> dict[str, Any]:
        """Return what the parameters say of the network."""
        return {
            "hidden_layer_sizes": self._sizes(),
            "activation": self.activation,
            "normalization": self.normalization,
            "dropout": self.dropout,
        }

    def _check_design(self) -> None:
        """Raise a ValueError unless the network that is there can go on under the parameters as they are now."""
        now = self._design()
        for name in ("hidden_layer_sizes", "normalization"):
            if now[name] != self._designed[name]:
                raise InputError(
                    f"{name} is {now[name]!r}, but the network that goes on was made with {self._designed[name]!r}; "
                    "set it back, or begin anew with fit and warm_start=False"
                )

    def _set_outputs(self, n: int, activation: str, first: bool) -> None:
        """Take up the number and the activation of the outputs, which a network that goes on must keep."""
        if not first and n != self.n_outputs_:
            raise InputError(f"y has {n} outputs, but the network that goes on has {self.n_outputs_}")
        if not first and activation != self.out_activation_:
            raise InputError(
                f"loss needs the output {activation!r}, but the network that goes on has {self.out_activation_!r}; set "
                "loss back, or begin anew with fit and warm_start=False"
            )
        self.n_outputs_, self.out_activation_ = n, activation

    def _network(self, n_features: int, design: Mapping[str, Any]) -> Network:
        made: list[layers.Layer] = []
        hidden = SKLEARN_NAMES[design["activation"]]
        for n in design["hidden_layer_sizes"]:
            if design["normalization"] is None:
                made.append(layers.Dense(n, hidden))
            else:
                made += [layers.Dense(n), NORMS[design["normalization"]](), layers.Activate(hidden)]
            if design["dropout"]:
                made.append(layers.Dropout(design["dropout"]))
        made.append(layers.Dense(self.n_outputs_))
        network = Network(n_features, made, SKLEARN_NAMES[self.out_activation_])
        if self.n_outputs_ > 1 and self.out_activation_ == "identity" and self._stochastic:
            # The loss that scikit-learn shows is the mean over the outputs; it follows the derivative of their sum.
            output, n = network.output, self.n_outputs_
            network.output = replace(output, loss=lambda Z, Y: output.loss(Z, Y) / n)
        return network

    def _new_optimizer(self) -> Any:
        rate = self.learning_rate_init if self.schedule is None else self.schedule
        if self.optimizer is not None:
            found = optimizers.optimizer(self.optimizer)
            return found if self.schedule is None else replace(found, learning_rate=rate)  # type: ignore[type-var]
        if self.solver == "lbfgs":
            return lbfgs.LBFGS(gradient_tolerance=self.tol, evaluations=self.max_fun)
        if self.solver == "sgd":
            return SGD(rate, self.momentum, self.nesterovs_momentum)
        return Adam(rate, self.beta_1, self.beta_2, self.epsilon)

    def _choose_optimizer(self, incremental: bool) -> Any:
        """Return the optimizer of this fit.

        As in scikit-learn `partial_fit` goes on with the optimizer of the fit before, whatever was set since: the
        solver, its rate and momentum count from the next `fit` on. `optimizer` and `schedule`, which scikit-learn does
        not have, count at once.
        """
        if not self._stochastic:
            return self._new_optimizer()  # what a later partial_fit goes on with stays
        asked = self.optimizer, self.schedule
        known = self.__dict__.get("_asked")
        if not incremental or known is None or not all(map(_same, known, asked)):
            self._optimizer, self._asked = self._new_optimizer(), asked
            self._policy = None
            if self.solver == "sgd" and asked == (None, None):
                self._policy = self.learning_rate, self.learning_rate_init, self.power_t
            self._memory: dict[str, Any] = {}
        return self._optimizer

    def _regularization(self, exponent: int, dtype: str) -> Regularization:
        """Return alpha/2 sum W^2 / m, m the samples (or their weights) of a batch; or what is given instead.

        The weights were multiplied by 2^exponent, and so must be what is divided by their sum.
        """
        alpha = self.regularization is None
        own: Regularization = self.regularization
        if alpha:
            own = Regularization(l2=between("alpha", self.alpha, 0), per_sample=True)
        if not exponent or not own.per_sample:
            return own
        try:
            l1, l2 = (math.ldexp(x, exponent) for x in (own.l1, own.l2))
            fits = bool(max(l1, l2) <= np.finfo(dtype).max)
        except OverflowError:
            fits = False
        if not fits:
            name = "alpha" if alpha else "regularization"
            raise InputError(
                f"{name} divided by the sum of sample_weight has no number in {dtype}: the weights are too small for "
                f"it. Multiply sample_weight, or give {name}={0.0 if alpha else None}"
            )
        return replace(own, l1=l1, l2=l2)

    # --- fit ------------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
        self._check_parameters(incremental)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if not first:
            self._check_design()
        X, Y = self._validate(samples.table(self, X, first), y, incremental, first)
        dtype = self.dtype or samples.dtype_of(X)
        if self.dtype is None and not self._stochastic and samples.home(X) is None:
            dtype = "float64"  # whose line search finds nothing lower in float32
        weights, exponent = None, 0
        if sample_weight is not None:
            m, given = X.shape[0], samples.weights(sample_weight, X.shape[0])
            together = not self._stochastic or m <= (200 if self.batch_size == "auto" else self.batch_size)
            weights, exponent = in_range(given, dtype, together)
        regularization = self._regularization(exponent, dtype)
        self._random_state = check_random_state(self.random_state)
        if first:
            self._begin(X)
        elif self._stochastic:
            self._go_on()
        sizes = [X.shape[1], *self._sizes(), self.n_outputs_]
        P = sum((n_prev + 1) * n for n_prev, n in pairwise(sizes))
        work = registry.work(P, X.shape[0] * self.max_iter, 0)
        backend = samples.backend_for(X, self.backend, self.device, work)
        trainer = self._trained(X, backend, dtype, regularization, incremental)
        score = None
        if self.early_stopping and self._stochastic:
            kept, held_out = self._split(X.shape[0], Y)
            score = self._scorer(backend, X, Y, weights, held_out)
            X, Y = samples.take(X, kept), Y[kept]
            weights = None if weights is None else weights[kept]
        self._run(trainer, X, Y, weights, incremental, score)
        self._take_up(trainer.state["theta"], backend, X)
        return self

    def _begin(self, X: Any) -> None:
        """Draw the first parameters and forget what was."""
        for name in ("_vector", "_views", "_best"):
            self.__dict__.pop(name, None)
        self.n_iter_, self.t_ = 0, 0
        sizes = [X.shape[1], *self._sizes(), self.n_outputs_]
        self.n_layers_ = len(sizes)
        self.coefs_, self.intercepts_ = [], []
        for n_prev, n in pairwise(sizes):
            # Glorot and Bengio, see nnx.model.initializers: gain 6, 2 for the logistic function; of the biases, too
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_prev + n))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (n_prev, n)))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, n))
        if self._stochastic:
            self.loss_curve_: list[float] = []
            self._watch_anew()

    def _go_on(self) -> None:
        """Go on with the curves of the fits before, unless they watched something else, or there are none."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self._watch_anew()
        elif self.early_stopping != (self.validation_scores_ is not None):
            self._watch_anew()

    def _watch_anew(self) -> None:
        """Forget the best loss, or the best score of the samples held out."""
        held_out = self.early_stopping
        self.__dict__.pop("_best", None)
        self._no_improvement_count = 0
        self.best_loss_ = None if held_out else np.inf
        self.validation_scores_: list[float] | None = [] if held_out else None
        self.best_validation_score_ = -np.inf if held_out else None

    def _trained(
        self, X: Any, backend: Backend, dtype: str, regularization: Regularization, incremental: bool
    ) -> Trainer:
        """Return the trainer that is to go on: with `incremental` with the optimizer's memory, else without."""
        optimizer, design = self._choose_optimizer(incremental), self._design()
        made = design, dtype, regularization
        trainer: Trainer | None = self.__dict__.get("_trainer")
        if trainer is None or trainer.optimizer is not self.__dict__.get("_optimizer"):
            trainer = None
        elif not incremental or trainer.backend is not backend or self._made != made:
            self._memory, trainer = _memory(trainer), None
        network = trainer.network if trainer else self._network(X.shape[1], design)
        theta = self._theta(network)
        if trainer is None:
            memory = self._memory if self._stochastic else {}
            draws = network.random and "key" not in memory
            seed = int(self._random_state.randint(2**31 - 1)) if draws else 0
            trainer = Trainer(
                network,
                optimizer,
                backend,
                dtype=dtype,
                seed=seed,
                regularization=regularization,
                theta=backend.to_numpy(theta)
                if samples.home(theta) == (backend.name, backend.device)
                else theta,
            )
            _remember(trainer, memory)
        elif theta is not trainer.state["theta"]:
            trainer.theta = theta
        trainer.rng = Shuffles(self._random_state)
        trainer.records = []
        self.network_, self._trainer, self._made, self._designed = network, trainer, made, design
        return trainer

    def _run(self, trainer: Trainer, X: Any, Y: Any, weights: Any, incremental: bool, score: Any) -> None:
        m = X.shape[0]
        batch_size = self._batch_size(m) if self._stochastic else None
        epochs = 1 if incremental else self.max_iter
        self.n_iter_ = 0
        alone = self._stochastic and self.shuffle and batch_size == m
        callbacks = [Convergence(self, m, score, alone), *Callbacks(self.callbacks).all]
        columns = Rows(X) if sparse.issparse(X) else X.T
        few = max(1, 2**24 // X.shape[1])  # of a sparse matrix no more is made dense at once
        pieces = {"micro_batch": few} if sparse.issparse(X) and not self._stochastic and few < m else {}
        try:
            trainer.fit(
                columns,
                Y.T,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=self.shuffle,
                callbacks=callbacks,
                sample_weight=weights,
                progress=False,  # as scikit-learn's: a search fits many
                **pieces,
            )
        except DivergenceError as error:
            if score is None:
                raise ValueError(TOO_LARGE) from error
            # The best weights are kept; what came after has no score.
            self.n_iter_ += 1
            self.loss_ = np.nan
            self.loss_curve_.append(self.loss_)
            assert self.validation_scores_ is not None
            self.validation_scores_.append(float("nan"))
            warnings.warn(f"Stochastic Optimizer: {error}", ConvergenceWarning, stacklevel=4)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        else:
            if not incremental:
                self._warn_unless_converged(trainer)
        if not self._stochastic and not trainer.records:  # it began where it would have ended
            self.loss_ = self._cost(trainer, columns, Y, weights)
        if score is not None and hasattr(self, "_best"):
            best = trainer.backend.asarray(self._best, trainer.dtype)
            trainer.state = {**trainer.state, "theta": best}

    def _warn_unless_converged(self, trainer: Trainer) -> None:
        if self._stochastic:
            if trainer.stopped is None:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=5,
                )
        elif not (trainer.stopped or "").startswith(lbfgs.CONVERGED):
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s): "
                f"{trainer.stopped or 'the iterations of max_iter are done'}.\n\n"
                "Increase the number of iterations (max_iter) or scale the data as shown in:\n"
                "    https://scikit-learn.org/stable/modules/preprocessing.html",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _batch_size(self, m: int) -> int:
        if self.batch_size == "auto":
            return min(200, m)
        if self.batch_size > m:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=5,
            )
        return int(min(self.batch_size, m))

    def _cost(self, trainer: Trainer, columns: Any, Y: Any, weights: Any) -> float:
        """Return J at the trainer's parameters, with the penalty."""
        loss = trainer.evaluate(columns, Y.T, sample_weight=weights)["loss"]
        total = len(Y) if weights is None else weights.sum()
        parameters, own = trainer.parameters, trainer.regularization
        decayed = [parameters[name] for name in own.names(trainer.network)]
        penalty = sum(0.5 * own.l2 * float((W**2).sum()) + own.l1 * float(np.abs(W).sum()) for W in decayed)
        return float(loss + penalty / (total if own.per_sample else 1))

    def _split(self, m: int, Y: Any) -> tuple[Any, Any]:
        """Return the numbers of the samples that are trained on, and of those held out."""
        kept, held_out = train_test_split(
            np.arange(m),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._strata(Y),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return kept, held_out

    def _scorer(self, backend: Backend, X: Any, Y: Any, weights: Any, rows: Any) -> Any:
        X, Y = samples.take(X, rows), Y[rows]
        weights = None if weights is None else weights[rows]
        if weights is not None and not weights.any():
            raise InputError(
                f"sample_weight is 0 for all of the {len(Y)} samples that early_stopping holds out: they have no "
                "score. Raise validation_fraction, or leave out the samples without weight"
            )
        forward = backend.capture(self.network_.forward)

        def score(trainer: Trainer) -> float:
            A = self._outputs(backend, forward, trainer.state["theta"], trainer.dtype, X)
            found = backend.to_numpy(A).T
            return self._score(found, Y, weights) if np.isfinite(found).all() else float("nan")

        return score

    # --- parameters, as they are --------------------------------------------------------------------------------------

    def _theta(self, network: Network) -> Array:
        """Return all parameters as one vector: that which coefs_ and intercepts_ are views of, unless they were set."""
        handed = [*self.coefs_, *self.intercepts_]
        views = self.__dict__.get("_views", [])
        if len(views) == len(handed) and all(a is b for a, b in zip(views, handed, strict=True)):
            return self._vector
        params = network.unflatten(
            network.init(0, "float64") if "_vector" not in self.__dict__ else host.as_host(self._vector)
        )
        for l, (W, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True), 1):
            params |= {f"W{l}": host.as_host(W).T, f"b{l}": host.as_host(b)[:, None]}
        return network.flatten(params)

    def _take_up(self, theta: Array, backend: Backend, X: Any) -> None:
        """Hand out coefs_ and intercepts_: views of theta, where X's library is the backend's."""
        dtype = self.dtype or samples.dtype_of(X)
        xp = array_namespace(theta)
        if samples.dtype_of(theta) != dtype:
            theta = xp.astype(theta, getattr(xp, dtype))
        if not host.is_finite(theta):
            raise ValueError(TOO_LARGE)
        self._vector = theta
        self._hand_out(samples.given_back(theta, backend, X))

    def _hand_out(self, theta: Array) -> None:
        params = self.network_.unflatten(theta)
        hidden = range(1, self.network_.L + 1)
        self.coefs_ = [params[f"W{l}"].T for l in hidden]
        self.intercepts_ = [params[f"b{l}"][:, 0] for l in hidden]
        self._views = [*self.coefs_, *self.intercepts_]
        self._ready: dict[Any, Any] = {}

    def _rows(self, X: Any) -> tuple[Any, Backend, Any]:
        """Return A[L] (n[L], m) on the backend, the backend, and X as it was validated."""
        if "network_" not in self.__dict__:
            check_is_fitted(self)  # raises
        X = samples.validated(self, X, reset=False)
        work = registry.work(self.network_.P, X.shape[0] * self.max_iter, 0)  # as of a fit
        backend = samples.backend_for(X, self.backend, self.device, work)
        theta, known = self._theta(self.network_), (backend, self.activation)
        seen, moved, forward = self._ready.get(known, (None,) * 3)
        if seen is not theta:
            dtype = samples.dtype_of(theta)
            moved, forward = backend.asarray(theta, dtype), backend.capture(self._network_as_set().forward)
            self._ready[known] = theta, moved, forward
        return self._outputs(backend, forward, moved, samples.dtype_of(moved), X), backend, X

    def _network_as_set(self) -> Network:
        """Return the network that predicts: as in scikit-learn, with the activation as it is set now."""
        activation = one_of("activation", self.activation, ACTIVATIONS)
        if activation == self._designed["activation"]:
            return self.network_
        return self._network(self.network_.n[0], {**self._designed, "activation": activation})

    def _outputs(self, backend: Backend, forward: Any, theta: Array, dtype: str, X: Any) -> Array:
        """Return A[L] (n[L], m), computed as many samples at a time as is good."""
        at_once = AT_ONCE if backend.device == "cpu" else 16 * AT_ONCE
        size = max(1, at_once // self.network_.widest)
        with backend.threads(self.network_.largest_product(min(size, X.shape[0]))):
            parts = [forward(theta, backend.asarray(part, dtype)) for part in samples.pieces(X, size)]
        return parts[0] if len(parts) == 1 else array_namespace(theta).concat(parts, axis=-1)

    # --- pickle -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what was fitted as NumPy arrays, which any machine can load."""
        state = {**super().__getstate__()}
        trainer = state.pop("_trainer", None)
        for name in ("_ready", "_made", "_looked_at"):
            state.pop(name, None)
        if "network_" in state:
            vector = host.copy(host.as_host(self._theta(self.network_)))
            state |= {"network_": self.network_.describe(), "_vector": vector}
            for name in ("coefs_", "intercepts_", "_views"):
                del state[name]
        if trainer is not None and trainer.optimizer is state.get("_optimizer"):
            state["_memory"] = _memory(trainer)
        for name in ("classes_", "_best"):
            if name in state:
                state[name] = host.as_host(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the network and the views of its parameters again."""
        super().__setstate__(state)
        if "network_" in state:
            self.network_ = Network.from_description(state["network_"])
            self._hand_out(self._vector)

    def __sklearn_tags__(self) -> Any:
        """Sparse X is taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        raise NotImplementedError

    def _strata(self, Y: Any) -> Any:
        return None

    def _score(self, found: Any, Y: Any, weights: Any) -> float:
        raise NotImplementedError


def _memory(trainer: Trainer) -> dict[str, Any]:
    """Return what the optimizer remembers, as NumPy arrays."""
    kept = {name: x for name, x in trainer.state.items() if name not in ("theta", "decays")}
    return {name: host.copy(trainer.backend.to_numpy(x)) for name, x in kept.items()}


def _remember(trainer: Trainer, memory: dict[str, Any]) -> None:
    """Give a trainer what `_memory` returned, unless it is of another network or optimizer."""
    state, asarray = trainer.state, trainer.backend.asarray
    known = {name: x for name, x in memory.items() if name in state}
    if all(x.shape == tuple(state[name].shape) for name, x in known.items()):
        trainer.state |= {
            name: asarray(x, "int32" if x.dtype.kind == "i" else trainer.dtype) for name, x in known.items()
        }


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(a == b))
