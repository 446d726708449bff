"""The training loop."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nnx import checkpoint, host, metrics
from nnx.arrays import Array
from nnx.batches import Batches, places
from nnx.choice import choose
from nnx.errors import BackendError, DivergenceError, InputError, ModelFileError, positive_int
from nnx.network import Network
from nnx.optimizers import Adam, Optimizer
from nnx.optimizers import describe as describe_optimizer
from nnx.optimizers import optimizer as find_optimizer
from nnx.port import Backend
from nnx.progress import History, Progress, columns, diverged
from nnx.step import initial_state, training_step


class Trainer:
    """Trains a network on a backend.

    Parameters
    ----------
    network : Network
    optimizer : Optimizer, str or None
        A name stands for the optimizer with its defaults; None: ``Adam()``.
    backend : str or Backend
        A name, see `nnx.backend`, or what it returned.
    device : str or None
        See `nnx.backend`.
    dtype : {"float32", "float64"}
        Of all arrays. Integers and booleans in X are converted, once.
    seed : int
        Draws the first weights and shuffles the samples; the same on every backend.

    Attributes
    ----------
    backend : Backend
    reason : str
        Why that backend.
    state : dict of arrays
        theta, the step count t, the learning rate alpha, and the optimizer's own, on the device.
    records : list of dict
        What was measured in every epoch so far, over all calls of `fit`.
    metadata : dict
        Anything of JSON's types that should be saved with the model: label names, scaling, ...

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> X = np.random.default_rng(0).standard_normal((2, 200))
    >>> Y = X[0] * X[1] > 0  # no line separates these classes
    >>> trainer = nnx.Trainer(nnx.mlp([2, 16, 1]), nnx.Adam(0.02), backend="numpy")
    >>> history = trainer.fit(X, Y, epochs=100, batch_size=50)
    >>> bool(trainer.evaluate(X, Y)["accuracy"] > 0.95)
    True
    """

    def __init__(
        self,
        network: Network,
        optimizer: str | Optimizer | None = None,
        backend: str | Backend = "auto",
        device: str | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self._prepare(network, optimizer, backend, device, dtype, seed)
        self._start(network.init(self.seed, self.dtype))

    def _prepare(
        self,
        network: Network,
        optimizer: str | Optimizer | None,
        backend: str | Backend,
        device: str | None,
        dtype: str,
        seed: int,
    ) -> None:
        """Set all but the state."""
        if not isinstance(network, Network):
            raise InputError(f"network must be an nnx.Network, as nnx.mlp makes it; given {network!r}")
        self.network = network
        self.optimizer = find_optimizer(optimizer) if optimizer is not None else Adam()
        self.dtype = host.dtype_name(dtype)
        self.seed = host.checked_seed(seed)
        self.rng = host.generator(seed)
        self.backend, self.reason = choose(backend, device)
        self.records: list[dict[str, float]] = []
        self.metadata: dict[str, Any] = {}
        self._step = self.backend.capture(training_step(network, self.optimizer))
        self._forward = self.backend.capture(network.forward)
        self._forward_and_loss = self.backend.capture(network.forward_and_loss)

    def _start(self, theta: Array) -> None:
        self.state = initial_state(self.optimizer, self.backend.asarray(theta, self.dtype))

    @property
    def steps(self) -> int:
        """The number of steps done."""
        return int(self.state["t"])

    @property
    def history(self) -> History:
        """The records by name, over all calls of `fit`: {"loss": [...], ...}."""
        return columns(self.records)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name, NumPy arrays in the notes' shapes: {"W1": (n[1], n[0]), "b1": ...}.

        Reading gives copies. Setting starts anew from them: the step count and the optimizer's memory go
        back to zero.
        """
        return self.network.unflatten(host.copy(self.backend.to_numpy(self.state["theta"])))

    @parameters.setter
    def parameters(self, params: Mapping[str, Any]) -> None:
        arrays = {name: host.as_dtype(host.as_host(p), self.dtype) for name, p in params.items()}
        for name, p in arrays.items():
            host.check_finite(name, p, self.dtype)
        theta = self.network.flatten(arrays)
        if theta.ndim != 1:
            raise InputError(
                f"a Trainer trains one network, not a stack; given parameters {theta.shape[:-1]} times"
            )
        self._start(theta)

    def fit(
        self,
        X: Any,
        Y: Any,
        epochs: int = 1,
        batch_size: int | None = None,
        validation: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        callback: Callable[[Progress], None] | None = None,
    ) -> History:
        """Train, going on from where the trainer is.

        Parameters
        ----------
        X : array-like (n[0], m)
            Samples as columns; of any array library.
        Y : array-like (n[L], m)
            Targets; or (m,) when n[L] = 1; or class indices (m,) for sigmoid and softmax.
        epochs : int
            How often to go over X.
        batch_size : int or None
            Samples in a step; the last step of an epoch takes what is left. None: the whole of X, as in the
            notes.
        validation : (X, Y) or None
            Evaluated after every epoch.
        shuffle : bool
            Whether to draw a new order of the samples for every epoch.
        callback : callable or None
            Called with a `Progress` after every step and every epoch. What it raises ends the training, and
            leaves the trainer as after the last step.

        Returns
        -------
        dict of lists
            Of this call, one number an epoch: "loss", the mean over the samples of the costs of its steps,
            each before its update; with validation "validation_loss" and "validation_accuracy" (or
            "validation_r2").

        Raises
        ------
        InputError
            When shapes do not fit, labels are outside the classes, or numbers are not finite.
        DivergenceError
            When the cost becomes infinite or NaN; the trainer is then as before that epoch.
        """
        epochs = positive_int("epochs", epochs)
        if batch_size is not None:
            batch_size = positive_int("batch_size", batch_size)
        X, Y = self._samples(X, Y)
        if validation is not None:
            if not isinstance(validation, tuple | list) or len(validation) != 2:
                raise InputError(
                    f"validation must be a pair (X, Y), not {type(validation).__name__}; split the samples "
                    "before, and give those that are held out"
                )
            Xv, Yv = self._samples(*validation, "the validation's ")
            validation = self.backend.asarray(Xv, self.dtype), Yv  # X goes to the device once
        if shuffle and batch_size is not None and batch_size < X.shape[1]:
            X = host.rows_contiguous(X)  # so that gathering a sample reads one piece of memory
        batches = Batches(
            self.backend,
            self.backend.asarray(X, self.dtype),
            self.backend.asarray(Y),
            batch_size,
            self.rng if shuffle else None,
        )
        before = len(self.records)
        for epoch in range(1, epochs + 1):
            at = partial(Progress, epoch, epochs)
            # A step replaces the state and changes nothing in it: this is all it takes to come back.
            good = self.state, self.rng.bit_generator.state
            try:
                costs, sizes, seconds = self._run(batches, callback, at)
                measured = self._measure(costs, sizes, validation)
            except BaseException as error:  # an interrupt keeps the steps done, unless they led nowhere
                if isinstance(error, DivergenceError) or not self._is_finite():
                    self.state, self.rng.bit_generator.state = good
                raise
            self.records.append(measured)
            if callback is not None:
                callback(at(len(batches), len(batches), sum(sizes), seconds, measured))
        return columns(self.records[before:])

    def _run(
        self, batches: Batches, callback: Callable[[Progress], None] | None, at: Callable[..., Progress]
    ) -> tuple[list[float], list[int], float]:
        """Do one epoch's steps; return the cost and the samples of each, and the seconds of all."""
        start, samples, costs, sizes = time.perf_counter(), 0, [], []
        for step, batch in enumerate(batches, 1):
            self.state, J = self._step(self.state, batch)
            costs.append(J)
            sizes.append(batch[0].shape[-1])
            samples += sizes[-1]
            if callback is not None:
                callback(at(step, len(batches), samples, time.perf_counter() - start, None))
        # The costs are read here, once an epoch: no step waits for the host.
        return [float(self.backend.to_numpy(J)) for J in costs], sizes, time.perf_counter() - start

    def _measure(
        self, costs: list[float], sizes: list[int], validation: tuple[Any, Any] | None
    ) -> dict[str, float]:
        """Return the epoch's record, or raise a DivergenceError unless all in it and the state are finite."""
        epoch = len(self.records) + 1
        if not (all(map(math.isfinite, costs)) and self._is_finite()):
            raise diverged(costs, epoch, self.optimizer)
        measured = {"loss": sum(J * m for J, m in zip(costs, sizes, strict=True)) / sum(sizes)}
        if validation is not None:
            found = self._evaluate(*validation)
            if not all(map(math.isfinite, found.values())):
                raise diverged(costs, epoch, self.optimizer, found["loss"])
            measured |= {f"validation_{name}": value for name, value in found.items()}
        return measured

    def _is_finite(self) -> bool:
        return all(host.is_finite(x) for name, x in self.state.items() if name != "t")

    def predict(self, X: Any, batch_size: int | None = None) -> Any:
        """Return A[L] as a NumPy array (n[L], m).

        Parameters
        ----------
        X : array-like (n[0], m)
        batch_size : int or None
            Samples computed at once; None: as many as keep the widest layer within 2^24 numbers.
        """
        X = self._features("X", X)
        theta = self.state["theta"]
        outputs = [
            self.backend.to_numpy(self._forward(theta, self.backend.asarray(X[:, place], self.dtype)))
            for place in self._places(X.shape[1], batch_size)
        ]
        return host.concat(outputs)

    def evaluate(self, X: Any, Y: Any, batch_size: int | None = None) -> dict[str, float]:
        """Return {"loss": ..., "accuracy": ...}, or {"loss": ..., "r2": ...} without classes.

        Parameters
        ----------
        X : array-like (n[0], m)
        Y : array-like
            As in `fit`.
        batch_size : int or None
            Samples computed at once, as in `predict`; the result does not depend on it.
        """
        return self._evaluate(*self._samples(X, Y), batch_size)

    def _evaluate(self, X: Array, Y: Any, batch_size: int | None = None) -> dict[str, float]:
        total, outputs = 0.0, []
        for place in self._places(X.shape[1], batch_size):
            Xb, Yb = self.backend.asarray(X[:, place], self.dtype), self.backend.asarray(Y[..., place])
            A, J = self._forward_and_loss(self.state["theta"], Xb, Yb)
            outputs.append(self.backend.to_numpy(A))
            total += float(self.backend.to_numpy(J)) * Xb.shape[1]
        output = self.network.output
        with host.quiet():  # of predictions far out of range
            score = metrics.score(output, host.concat(outputs), Y)
        return {"loss": total / X.shape[1], metrics.score_name(output): score}

    def _places(self, m: int, batch_size: int | None) -> list[slice]:
        if batch_size is None:
            batch_size = max(1, 2**24 // max(self.network.n))
        return places(m, positive_int("batch_size", batch_size))

    def _features(self, name: str, X: Any) -> Array:
        X = host.as_numbers(name, X)
        self.network.check_features(X, name)
        if X.ndim != 2:
            raise InputError(f"{name} has shape {tuple(X.shape)}; expected two axes, (n[0], m)")
        host.check_finite(
            name, X, self.dtype, "feature {0}, sample {1}", ". Replace them, or leave out the samples"
        )
        return X

    def _samples(self, X: Any, Y: Any, whose: str = "") -> tuple[Array, Array]:
        """Return X and Y, checked; Y as NumPy, values (n[L], m) or int32 class indices (m,)."""
        X = self._features(f"{whose}X", X)
        output, n = self.network.output, self.network.n[-1]
        return X, host.targets(f"{whose}Y", Y, output, n, X.shape[-1], self.dtype)

    def save(self, path: str | Path) -> None:
        """Write the whole run to one safetensors file, aside first, then renamed: see `load`."""
        to_numpy = self.backend.to_numpy
        own = {name: x for name, x in self.state.items() if name not in ("theta", "t", "alpha")}
        tensors = {**self.parameters, **{f"optimizer.{name}": to_numpy(x) for name, x in own.items()}}
        description = {
            "network": self.network.describe(),
            "optimizer": describe_optimizer(self.optimizer),
            "dtype": self.dtype,
            "seed": self.seed,
            "steps": self.steps,
            "alpha": float(to_numpy(self.state["alpha"])),
            "rng": self.rng.bit_generator.state,
            "records": self.records,
            "metadata": self.metadata,
        }
        checkpoint.write(path, tensors, description)

    @classmethod
    def load(cls, path: str | Path, backend: str | Backend = "auto", device: str | None = None) -> "Trainer":
        """Return the trainer that was saved: it goes on as the saved one would have, on any backend.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ModelFileError
            When it is truncated, no model of nnx, of a newer format, or its parts do not fit together.
        """
        tensors, run = checkpoint.read(path)
        chosen = choose(backend, device)
        trainer = cls.__new__(cls)
        try:
            network = Network.from_description(run["network"])
            optimizer = find_optimizer(**run["optimizer"])
            trainer._prepare(network, optimizer, chosen.backend, None, run["dtype"], run["seed"])
            trainer.reason = chosen.reason
            trainer._restore(tensors, run)
        except BackendError:
            raise
        except Exception as error:  # whatever a file may hold, it must not look like a fault of the program
            raise ModelFileError(
                f"{str(path)!r} does not describe a run that nnx can load: {type(error).__name__}: {error}"
            ) from error
        return trainer

    def _restore(self, tensors: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        for name, kind in (("steps", int), ("alpha", float), ("records", list), ("metadata", dict)):
            if type(run[name]) is not kind:
                raise InputError(f"{name} is {run[name]!r}; expected {kind.__name__}")
        if run["steps"] < 0 or not all(isinstance(record, dict) for record in run["records"]):
            raise InputError("steps must be >= 0, records a list of objects")
        own = {name: x for name, x in tensors.items() if name.startswith("optimizer.")}
        self.parameters = {name: x for name, x in tensors.items() if name not in own}
        for name in self.optimizer.init(self.state["theta"]):
            vector = own.pop(f"optimizer.{name}", None)
            if vector is None or vector.shape != (self.network.P,):
                given = "is missing" if vector is None else f"has shape {vector.shape}"
                raise InputError(f"optimizer.{name} {given}; expected ({self.network.P},)")
            host.check_finite(f"optimizer.{name}", vector, self.dtype)
            self.state[name] = self.backend.asarray(vector, self.dtype)
        if own:
            raise InputError(f"{', '.join(own)} is not of the optimizer {self.optimizer!r}")
        self.state["t"] = self.backend.asarray(run["steps"], "int32")
        self.state["alpha"] = self.backend.asarray(run["alpha"], self.dtype)
        self.rng.bit_generator.state = run["rng"]
        self.records = run["records"]
        self.metadata = run["metadata"]

    def __repr__(self) -> str:
        return f"<Trainer of {self.network!r} by {self.optimizer!r} on {self.backend!r}: {self.steps} steps done>"
