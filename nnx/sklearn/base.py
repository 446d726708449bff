"""What the classifier and the regressor share: parameters become a network and a trainer, which does the work."""

import warnings
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
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from nnx import host, layers, optimizers
from nnx.arrays import Array, array_namespace
from nnx.batches.sources import Rows
from nnx.callbacks.base import Callbacks
from nnx.convert import SKLEARN_NAMES
from nnx.errors import DivergenceError
from nnx.network import Network
from nnx.optimizers import lbfgs
from nnx.port import Backend
from nnx.regularization import Regularization
from nnx.sklearn import samples
from nnx.sklearn.convergence import Convergence
from nnx.sklearn.optimizers import SGD, Adam
from nnx.sklearn.shuffles import Shuffles
from nnx.trainer import Trainer

AT_ONCE = 2**20
"""Numbers of the widest layer that a prediction computes at once on the host: more would leave the caches."""

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
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
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

    # --- parameters, translated -----------------------------------------------------------------------------------

    @property
    def _stochastic(self) -> bool:
        if self.optimizer is None:
            return bool(self.solver != "lbfgs")
        return not (self.optimizer == "lbfgs" or isinstance(self.optimizer, lbfgs.LBFGS))

    @property
    def _has_policy(self) -> bool:
        """Whether `learning_rate` says how the rate changes: it is of the solver "sgd"."""
        return self.solver == "sgd" and self.optimizer is None and self.schedule is None

    def _sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _network(self, n_features: int) -> Network:
        made: list[layers.Layer] = []
        hidden = SKLEARN_NAMES[self.activation]
        for n in self._sizes():
            if self.normalization is None:
                made.append(layers.Dense(n, hidden))
            else:
                made += [layers.Dense(n), NORMS[self.normalization](), layers.Activate(hidden)]
            if self.dropout:
                made.append(layers.Dropout(self.dropout))
        made.append(layers.Dense(self.n_outputs_))
        network = Network(n_features, made, SKLEARN_NAMES[self.out_activation_])
        if self.n_outputs_ > 1 and self.out_activation_ == "identity" and self._stochastic:
            # The loss that scikit-learn shows is the mean over the outputs; it follows the derivative of their sum.
            output, n = network.output, self.n_outputs_
            network.output = replace(output, loss=lambda Z, Y: output.loss(Z, Y) / n)
        return network

    def _optimizer(self) -> Any:
        rate = self.learning_rate_init if self.schedule is None else self.schedule
        if self.optimizer is not None:
            found = optimizers.optimizer(self.optimizer)
            return found if self.schedule is None else replace(found, learning_rate=rate)  # type: ignore[type-var]
        if self.solver == "lbfgs":
            return lbfgs.LBFGS(gradient_tolerance=self.tol, evaluations=self.max_fun)
        if self.solver == "sgd":
            return SGD(rate, self.momentum, self.nesterovs_momentum)
        return Adam(rate, self.beta_1, self.beta_2, self.epsilon)

    def _regularization(self) -> Regularization:
        """Return alpha/2 sum W^2 / m, m the samples (or their weights) of a batch; or what is given instead."""
        return self.regularization or Regularization(l2=self.alpha, per_sample=True)

    # --- fit ------------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
        self._sizes()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, Y = self._validate(X, y, incremental, first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(host.as_host(sample_weight), np.empty((X.shape[0], 0)))
        self._random_state = check_random_state(self.random_state)
        if first:
            self._begin(X)
        sizes = [X.shape[1], *self._sizes(), self.n_outputs_]
        P = sum((n_prev + 1) * n for n_prev, n in pairwise(sizes))
        work = 6.0 * X.shape[0] * P * self.max_iter  # three products of two operations
        backend = samples.backend_for(X, self.backend, self.device, work)
        trainer = self._trained(X, backend, incremental)
        score, weights = None, sample_weight
        if self.early_stopping and self._stochastic:
            kept, held_out = self._split(X.shape[0], Y)
            score = self._scorer(backend, X, Y, sample_weight, held_out)
            X, Y = samples.take(X, kept), Y[kept]
            weights = None if sample_weight is None else sample_weight[kept]
        self._run(trainer, X, Y, weights, incremental, score)
        self._take_up(trainer.state["theta"], backend, X)
        return self

    def _begin(self, X: Any) -> None:
        """Draw the first parameters and forget what was."""
        for name in ("_vector", "_views", "_trainer", "_memory", "_best"):
            self.__dict__.pop(name, None)
        self.n_iter_, self.t_ = 0, 0
        sizes = [X.shape[1], *self._sizes(), self.n_outputs_]
        self.n_layers_ = len(sizes)
        self.coefs_, self.intercepts_ = [], []
        for n_prev, n in pairwise(sizes):
            # Glorot and Bengio, see nnx.initializers: gain 6, 2 for the logistic function; of the biases, too
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (n_prev + n))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (n_prev, n)))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, n))
        if self._stochastic:
            self._forget_losses()

    def _forget_losses(self) -> None:
        held_out = self.early_stopping
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_loss_ = None if held_out else np.inf
        self.validation_scores_: list[float] | None = [] if held_out else None
        self.best_validation_score_ = -np.inf if held_out else None

    def _trained(self, X: Any, backend: Backend, incremental: bool) -> Trainer:
        """Return the trainer that is to go on: with `incremental` with the optimizer's memory, else without."""
        dtype = self.dtype or samples.dtype_of(X)
        if self.dtype is None and not self._stochastic and samples.home(X) is None:
            dtype = "float64"  # whose line search finds nothing lower in float32
        trainer: Trainer | None = self.__dict__.get("_trainer") if incremental else None
        if trainer is not None and (trainer.backend is not backend or trainer.dtype != dtype):
            self._memory, trainer = _memory(trainer), None
        network = trainer.network if trainer else self._network(X.shape[1])
        theta = self._theta(network)
        if trainer is None:
            random = network.random and not incremental
            seed = int(self._random_state.randint(2**31 - 1)) if random else 0
            trainer = Trainer(
                network,
                self._optimizer(),
                backend,
                dtype=dtype,
                seed=seed,
                regularization=self._regularization(),
                theta=backend.to_numpy(theta)
                if samples.home(theta) == (backend.name, backend.device)
                else theta,
            )
            if incremental:
                _remember(trainer, self.__dict__.pop("_memory", {}))
        elif theta is not trainer.state["theta"]:
            trainer.theta = theta
        trainer.rng = Shuffles(self._random_state)
        trainer.records = []
        self.network_, self._trainer = network, trainer
        return trainer

    def _run(self, trainer: Trainer, X: Any, Y: Any, weights: Any, incremental: bool, score: Any) -> None:
        m = X.shape[0]
        batch_size = self._batch_size(m) if self._stochastic else None
        epochs = 1 if incremental else self.max_iter
        self.n_iter_ = 0
        callbacks = [Convergence(self, m, score), *Callbacks(self.callbacks).all]
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
        parameters = trainer.parameters
        squares = sum(float((parameters[name] ** 2).sum()) for name in trainer.network.decayed)
        return float(loss + 0.5 * (self.alpha if self.regularization is None else 0.0) * squares / total)

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
        sizes = [X.shape[1], *self._sizes(), self.n_outputs_]
        P = sum((n_prev + 1) * n for n_prev, n in pairwise(sizes))
        work = 6.0 * X.shape[0] * P * self.max_iter  # three products of two operations
        backend = samples.backend_for(X, self.backend, self.device, work)
        theta, (seen, moved, forward) = self._theta(self.network_), self._ready.get(backend, (None,) * 3)
        if seen is not theta:
            dtype = samples.dtype_of(theta)
            moved, forward = backend.asarray(theta, dtype), backend.capture(self.network_.forward)
            self._ready[backend] = theta, moved, forward
        return self._outputs(backend, forward, moved, samples.dtype_of(moved), X), backend, X

    def _outputs(self, backend: Backend, forward: Any, theta: Array, dtype: str, X: Any) -> Array:
        """Return A[L] (n[L], m), computed as many samples at a time as is good."""
        at_once = AT_ONCE if backend.device == "cpu" else 16 * AT_ONCE
        size = max(1, at_once // self.network_.widest)
        parts = [forward(theta, backend.asarray(part, dtype)) for part in samples.pieces(X, size)]
        return parts[0] if len(parts) == 1 else array_namespace(theta).concat(parts, axis=-1)

    # --- pickle -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what was fitted as NumPy arrays, which any machine can load."""
        state = {**super().__getstate__()}
        trainer = state.pop("_trainer", None)
        state.pop("_ready", None)
        if "network_" in state:
            vector = host.copy(host.as_host(self._theta(self.network_)))
            state |= {"network_": self.network_.describe(), "_vector": vector}
            for name in ("coefs_", "intercepts_", "_views"):
                del state[name]
        if trainer is not None:
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
    """Give a trainer what `_memory` returned."""
    asarray = trainer.backend.asarray
    known = {name: x for name, x in memory.items() if name in trainer.state}
    trainer.state |= {
        name: asarray(x, "int32" if x.dtype.kind == "i" else trainer.dtype) for name, x in known.items()
    }
