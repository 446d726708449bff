"""The trainer: a network, an optimizer and a backend, and the state that they have reached."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.batches import Batches, Provider, frames
from nnx.batches.iterated import Iterated
from nnx.batches.provide import provide
from nnx.batches.rows import as_rows, one_row, one_sample, pair_as_rows
from nnx.batches.sample_weights import batch_weights, class_table, fitting, in_range, sample_weights
from nnx.batches.sources import Rows
from nnx.batches.split import Split, hold_out
from nnx.batches.stream import Checks, Stream
from nnx.callbacks.base import Callbacks
from nnx.callbacks.notebook_bar import with_progress
from nnx.errors import (
    BackendError,
    InputError,
    above_zero,
    as_path,
    count,
    flag,
    integer,
    items,
    number,
    positive_int,
    scalar,
    shown,
)
from nnx.metrics import check, decide, score_name
from nnx.metrics import metric as find_metric
from nnx.metrics.history import History, columns
from nnx.model.layers import Dense
from nnx.model.network import Network
from nnx.model.outputs.host_targets import checked_targets
from nnx.model.regularization import Regularization
from nnx.optimizers import Adam, Optimizer, State, rate, with_rate
from nnx.optimizers import optimizer as find_optimizer
from nnx.optimizers.in_epochs import InEpochs
from nnx.optimizers.lbfgs import LBFGS
from nnx.port.base import Backend, Checked
from nnx.port.registry import AUTO, WORTH, choose, work
from nnx.support.processes import whole
from nnx.train import model_file
from nnx.train.full_batch_loop import WholeRun
from nnx.train.loop import Run
from nnx.train.step import (
    PLAIN,
    Batch,
    Pieces,
    cost_and_gradient,
    initial_state,
    step_in_pieces,
    training_step,
)

MEASURES = 8
"""Sets of metrics whose captured functions are kept; one more replaces the oldest."""


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
        Draws the first weights, shuffles the samples, masks the units (`nnx.Dropout`); the same on every
        backend.
    regularization : Regularization or None
        Penalties, clipping, max-norm and label smoothing; None: none of them.
    theta : array-like (P,) or None
        The first parameters; None: those that `network.init` draws from the seed.

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
    features : list of str or None
        The names of X's columns, once a table with named columns was trained on. Of later tables these columns are
        taken, in whatever order they come.
    targets : list of str or None
        The same of Y's columns, where there are several.
    stopped : str or None
        Why the last fit ended before its epochs were over, if a callback said so.
    kept : int or None
        The epoch, from 1 in `records`, whose parameters these are, where `nnx.EarlyStopping` took back those of an
        earlier epoch or kept those of the last; None where nothing chose an epoch.
    resumes : bool
        Whether the fit that runs, or the last one, was asked to go on from a checkpoint, if there is one.
    measures : tuple of str
        What it measures in every epoch.
    held_out : array (k,) or None
        Which of the samples `validation_split` held out in it, in ascending order.

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

    @whole  # a backend imports modules, which a fork may not cut
    def __init__(
        self,
        network: Network,
        optimizer: str | Optimizer | None = None,
        backend: str | Backend = "auto",
        device: str | None = None,
        dtype: str = "float32",
        seed: int = 0,
        regularization: Regularization | None = None,
        theta: Any = None,
    ) -> None:
        self.prepare(network, optimizer, backend, device, dtype, seed, regularization)
        self._start(network.init(self.seed, self.dtype) if theta is None else self._checked(theta))

    def prepare(
        self,
        network: Network,
        optimizer: str | Optimizer | None,
        backend: str | Backend,
        device: str | None,
        dtype: str,
        seed: int,
        regularization: Regularization | None,
    ) -> None:
        """Set all but the state, which a file may bring."""
        if not isinstance(network, Network):
            raise InputError(f"network must be an nnx.Network, as nnx.mlp makes it; given {shown(network)}")
        if regularization is not None and not isinstance(regularization, Regularization):
            raise InputError(
                f"regularization must be an nnx.Regularization, such as nnx.Regularization(l2=1e-4); given "
                f"{shown(regularization)}"
            )
        self.network = network
        self.optimizer = find_optimizer(optimizer) if optimizer is not None else Adam()
        self.regularization = PLAIN if regularization is None else regularization
        self.dtype = host.dtype_name(dtype)
        network.check_options(self.dtype)
        if not isinstance(self.optimizer, LBFGS):  # whose numbers SciPy computes with, in float64
            for options in (self.optimizer, self.optimizer.learning_rate):
                host.options(options, self.dtype)
        host.options(self.regularization, self.dtype)
        self.seed = host.checked_seed(seed)
        self.rng: Any = host.generator(seed)
        self.backend, self.reason = choose(backend, device)
        self._wish = backend, device
        self._work = 0.0
        self.records: list[dict[str, float]] = []
        self.metadata: dict[str, Any] = {}
        self.features: list[str] | None = None
        self.targets: list[str] | None = None
        self.stopped: str | None = None
        self.kept: int | None = None
        self.resumes = False
        self.measures: tuple[str, ...] = ()
        self.held_out: Any = None
        self._run: Run | None = None
        self._capture()

    def _capture(self) -> None:
        """Hand what is called again and again to the backend."""
        self._capture_step()
        self._forward = self.backend.capture(self.network.forward)
        self._gradient: Any = None
        self._measures: dict[Any, Any] = {}

    def weigh(self, samples: int, steps: int) -> float:
        """Let "auto" take numba in NumPy's place if a fit's work, with that of earlier fits, is worth it.

        Return the fit's work (`nnx.port.registry.work`). `fit` calls this itself. Both backends have the same arrays.

        Parameters
        ----------
        samples, steps : int
            Over all epochs.
        """
        own = work(self.network.P, samples, steps)
        if self._wish[0] in (None, AUTO) and self.backend.name == "numpy" and self._work + own >= WORTH:
            self.backend, self.reason = choose(*self._wish, self._work + own)
            self._capture()
        return own

    def threads(self, samples: int | None) -> AbstractContextManager[None]:
        """Return a context for products with so many samples at once: small ones have one thread of the CPU."""
        return (
            nullcontext() if samples is None else self.backend.threads(self.network.largest_product(samples))
        )

    def _capture_step(self) -> None:
        parts = self.network, self.optimizer, self.regularization
        capture, pieces = self.backend.capture, step_in_pieces(*parts)
        self.repeated = self.backend.repeat(training_step(*parts))
        self.pieces = Pieces(
            capture(pieces.first), capture(pieces.add), capture(pieces.total), capture(pieces.update)
        )

    def _take(self, optimizer: Optimizer) -> None:
        """Take an optimizer with another schedule; all else stays."""
        if optimizer is not self.optimizer:
            host.options(optimizer.learning_rate, self.dtype)
            self.optimizer = optimizer
            self._capture_step()

    def _start(self, theta: Array) -> None:
        theta = self.backend.asarray(theta, self.dtype)
        self.state = initial_state(self.network, self.optimizer, theta, self.regularization, self.seed)
        self.kept = None

    @property
    def steps(self) -> int:
        """The number of steps done."""
        return int(self.state["t"])

    @property
    def history(self) -> History:
        """The records by name, over all calls of `fit`: {"loss": [...], ...}."""
        return columns(self.records, self.kept)

    @property
    def learning_rate(self) -> float:
        """The rate alpha of the next step, as the schedule, if there is one, has it.

        Setting it sets alpha, which a schedule multiplies with its factor.
        """
        alpha, t = self.state["alpha"], self.state["t"]
        return host.shortest(self.backend.to_numpy(rate(self.optimizer, alpha, t + 1)))

    @learning_rate.setter
    def learning_rate(self, alpha: float) -> None:
        alpha = host.option("learning_rate", above_zero("learning_rate", alpha), self.dtype)
        self.state = {**self.state, "alpha": self.backend.asarray(alpha, self.dtype)}

    @property
    def theta(self) -> Any:
        """All parameters as one vector (P,), a NumPy array of its own memory.

        Setting it leaves the optimizer's memory and the step count as they are.
        """
        return host.copy(self.backend.to_numpy(self.state["theta"]))

    @theta.setter
    def theta(self, theta: Any) -> None:
        self.state = {**self.state, "theta": self.backend.asarray(self._checked(theta), self.dtype)}
        self.kept = None

    def _checked(self, theta: Any) -> Any:
        """Return parameters that were handed in as a NumPy array (P,) of its own memory."""
        theta = host.numbers("theta", theta, self.dtype)
        if theta.shape != (self.network.P,):
            raise InputError(f"theta has shape {theta.shape}; expected ({self.network.P},)")
        return host.copy(theta)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name, NumPy arrays in the notes' shapes: {"W1": (n[1], n[0]), "b1": ...}.

        Reading gives copies. Setting starts anew from them: the step count and the optimizer's memory go
        back to zero.
        """
        return self.network.unflatten(self.theta)

    @parameters.setter
    def parameters(self, params: Mapping[str, Any]) -> None:
        if self._run is not None:
            raise InputError(
                "setting parameters starts anew, which cannot be in the middle of a fit; set theta"
            )
        if not isinstance(params, Mapping):
            raise InputError(
                f"parameters must be a dict of arrays by name, {', '.join(self.network.shapes)}; given "
                f"{shown(params)}"
            )
        arrays = {name: host.numbers(str(name), p, self.dtype) for name, p in params.items()}
        theta = self.network.flatten(arrays)
        if theta.ndim != 1:
            raise InputError(
                f"a Trainer trains one network, not a stack; given parameters {theta.shape[:-1]} times"
            )
        self._start(theta)

    def step(self, state: State, batch: Batch) -> tuple[State, Array]:
        """Return the state after one more step, and J before it."""
        X, Y, *w = batch
        state, Js = self.repeated(state, (X, Y, w[0] if w else None), None, 0, X.shape[-1], 1)
        return state, Js[0]

    def stop(self, reason: str = "a callback said so") -> None:
        """End the fit after the step, or epoch, whose callbacks are being called; see `stopped`."""
        self.stopped = reason if isinstance(reason, str) else shown(reason)

    def fit(
        self,
        X: Any,
        Y: Any = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        callbacks: Any = (),
        *,
        sample_weight: Any = None,
        class_weight: Any = None,
        metrics: Sequence[Any] | None = None,
        micro_batch: int | None = None,
        steps: int | None = None,
        resume: str | Path | None = None,
        progress: bool | None = None,
        rows: bool = False,
        validation_split: float | None = None,
        training_metrics: bool | int | None = None,
    ) -> History:
        """Train, going on from where the trainer is.

        Parameters
        ----------
        X : array-like (n[0], m)
            Samples as columns: an array of any library or a SciPy sparse array; or a table, whose rows are the
            samples and whose columns are found by their names: a pandas or polars frame, an Arrow table or a dict of
            columns; or, read piece by piece, a `numpy.memmap`, HDF5 or Zarr array (`nnx.Rows` where its rows are the
            samples). Or an iterable of batches (X, Y) or (X, Y, weights), or a function that returns an iterator of
            them; Y is then None.
        Y : array-like (n[L], m)
            Targets; or (m,) when n[L] = 1; or class indices (m,) for sigmoid and softmax.
        epochs : int or None
            How often to go over X. None: once, with a warning where that is one step.
        batch_size : int or None
            Samples in a step; the last step of an epoch takes what is left. None: the whole of X, as in the
            notes. A batch whose weights are all 0 is left out, and so is, of a network with BatchNorm, a batch of
            a single sample: it changes nothing and is not counted.
        validation : (X, Y) or (X, Y, sample_weight), or None
            Evaluated after every epoch. Also batches, as for X: a list of them, a function, `nnx.Rows(loader)`.
        shuffle : bool
            Whether to draw a new order of the samples for every epoch.
        callbacks : Callback, function, or several of them
            See `nnx.Callback`. A function is called with a `nnx.Progress` after every step and every epoch.
        sample_weight : array-like (m,) or None
            J is the mean of the losses with these weights, >= 0.
        class_weight : dict, sequence, "balanced" or None
            A weight for each class, multiplied into the samples' (`nnx.batches.sample_weights`).
        metrics : sequence of str, metric or function, or None
            Of the validation and the training samples, see `nnx.METRICS`, or functions of targets and predictions;
            None: of the validation alone the accuracy of classes, else R2.
        micro_batch : int or None
            Samples computed at once: a step's gradient is added up over pieces of its batch, with the same
            result as the whole batch, to rounding, in less memory. (Not with BatchNorm, which needs all of it.)
        steps : int or None
            Steps in an epoch of an iterable, which must not end before.
        resume : path or None
            A checkpoint (`nnx.Checkpoints`), the folder that holds them, or a run's folder: the fit that wrote it
            goes on, with the same arguments, to the same end, `epochs` counted from its beginning. A folder with no
            checkpoint yet is a fit that begins.
        progress : bool or None
            Whether to show how far the fit has come: in a notebook a bar and the curves so far, elsewhere a
            `nnx.ProgressBar`. None: in a notebook, and in a terminal from half a second on (on the error output, by
            rich, if it is installed); not beside a ProgressBar that is given.
        rows : bool
            Whether samples are rows: X (m, n[0]) and Y (m,) or (m, n[L]), of the validation and of batches, too.
            The same as `nnx.Rows` around each of them. An array is not copied for it.
        validation_split : float or None
            The share of the samples that is the validation, between 0 and 1, in place of `validation`. It is drawn by
            the trainer's seed, of each class its share, and the same in every fit of the same targets. It has the
            weights, of samples and classes, that it would have in training. For samples in memory: arrays, tables and
            sparse matrices. `held_out` says which they are.
        training_metrics : bool, int or None
            Whether `metrics` are measured on the training samples, too, after every epoch: on all, or on so many that
            the seed draws, with the weights that they have in training. None: on all where `metrics` are given and X
            is an array.

        Returns
        -------
        dict of lists
            Of this call (and, resumed, of the fit it goes on with), one number an epoch: "loss", the mean over
            the samples of the costs of its steps, each before its update and with the penalties; with
            validation "validation_loss" and "validation_accuracy" (or what `metrics` names); with metrics of the
            training samples "accuracy".

        Raises
        ------
        InputError
            When shapes do not fit, labels are outside the classes, or numbers are not finite.
        DivergenceError
            When the cost becomes infinite or NaN; the trainer is then as before that epoch.
        CallbackError
            When a callback raises; the trainer is then as after its last step.
        KeyboardInterrupt
            After Ctrl-C; the trainer is then as after the last steps that were done at once: it loses about half a
            second of them, at most. Where they ended an epoch, another fit goes on as this one would have; in the midst
            of one, its other samples have no turn.
        """
        if self._run is not None:
            raise InputError(
                "this trainer is in the middle of a fit; a callback may evaluate, save and stop, not fit"
            )
        again = partial(
            self.fit, X, Y, epochs, batch_size, validation, shuffle, callbacks, sample_weight=sample_weight,
            class_weight=class_weight, metrics=metrics, micro_batch=micro_batch, steps=steps, resume=resume,
            progress=progress, rows=rows, validation_split=validation_split, training_metrics=training_metrics,
        )  # fmt: skip
        given, given_epochs, epochs = X, epochs, positive_int("epochs", 1 if epochs is None else epochs)
        if resume is not None:
            resume = as_path("resume", resume, "a folder of checkpoints, or one of them")
        shuffle = flag("shuffle", shuffle)
        if progress is not None:
            progress = flag("progress", progress, "True, False, or None")
        if steps is not None:
            steps = positive_int("steps", steps)
        if batch_size is not None:
            batch_size = positive_int("batch_size", batch_size)
            if Y is None:
                raise InputError(
                    "batch_size is given, but no Y: batches that are handed in have their own sizes"
                )
        if micro_batch is not None:
            micro_batch = positive_int("micro_batch", micro_batch)
            if self.network.whole_batches:
                raise InputError(
                    "micro_batch cannot be used with BatchNorm, whose statistics are those of the whole batch; "
                    "leave it out, choose a smaller batch_size, or use LayerNorm"
                )
        if flag("rows", rows):
            X, Y = pair_as_rows("", X, Y, self.network.n)
            validation = self._validation_as_rows(validation)
        callbacks = with_progress(Callbacks(callbacks), progress)
        rng = self.rng if shuffle else None
        before = self.features, self.targets
        split = None
        try:
            if validation_split is not None:
                split = self._split(validation_split, validation, X, Y, sample_weight, class_weight)
                (X, Y, sample_weight), validation = split.train, split.held
            batches = self._batches(
                "", X, Y, sample_weight, class_weight, batch_size, rng, micro_batch, steps, learns=True
            )
        except InputError:
            self.features, self.targets = before
            raise
        m = batches.m
        own = 0.0 if m is None or batches.steps is None else self.weigh(m * epochs, batches.steps * epochs)
        if self.network.whole_batches and m is not None and min(batch_size or m, m) == 1:
            raise InputError(
                f"each batch would have a single sample (m = {m}, batch_size = {batch_size}), on which BatchNorm "
                "cannot train; choose a larger batch_size, or use LayerNorm"
            )
        held_out = None if validation is None else self._validation(validation, epochs)
        training = self._training(training_metrics, metrics, batches, X, Y, sample_weight, class_weight)
        if metrics is not None and held_out is None and training is None:
            raise InputError(
                "metrics are given, and nothing to measure them on: give validation=(X, Y), or training_metrics=True"
            )
        wanted = self._wanted(metrics, held_out, training)
        plan: dict[str, Any] = {
            "m": m,
            "batch_size": batch_size,
            "micro_batch": micro_batch,
            "shuffle": shuffle,
            "steps": steps,
        }
        if held_out is not None:
            plan |= {"validation": held_out.m, "metrics": [one.name for one in wanted]}
        if split is not None:
            plan |= {"validation_split": validation_split}
        if class_weight is not None or sample_weight is not None:
            plan |= {"class_weight": repr(class_weight), "sample_weight": sample_weight is not None}
        kind = WholeRun if isinstance(self.optimizer, LBFGS) else Run
        run = kind(self, batches, epochs, held_out, training, wanted, callbacks, plan)
        self.stopped, self.kept, self.resumes = None, None, resume is not None
        self.held_out = None if split is None else split.places
        names = [one.name for one in wanted]
        self.measures = (
            "loss",
            *(names if training is not None else ()),
            *([] if held_out is None else [f"validation_{name}" for name in ("loss", *names)]),
        )
        unbound = self.optimizer
        if isinstance(schedule := unbound.learning_rate, InEpochs):
            self._take(with_rate(unbound, schedule.bound(batches.steps, epochs)))
        if resume is not None:
            try:
                same = self._resume(run, resume)
            except BaseException:
                self._take(unbound)
                raise
            if not same:
                return again()  # whose batches have the columns in the order of the checkpoint
        if not self.steps and isinstance(self.network.layers[0], Dense):
            largest = host.largest_byte(given.x if isinstance(given, Rows) else given)
            if largest > 100:
                warnings.warn(
                    f"X holds bytes up to {largest}; a network learns best from features of a size around 1: "
                    "divide X by 255, here and where the network is used",
                    stacklevel=2,
                )
        self._run = run
        try:
            history = run.go()
        finally:
            self._run = None
        self._work += own
        unasked = given_epochs is None and kind is Run and Y is not None
        if unasked and self.steps == 1 and self.stopped is None:
            warnings.warn(
                "one step of gradient descent was done: fit goes over the samples once, all in one step, unless it is "
                "told otherwise. Give epochs= and batch_size=, as in fit(X, Y, epochs=100, batch_size=32)",
                stacklevel=2,
            )
        return history

    def _resume(self, run: Run, path: Path) -> bool:
        """Take up the fit of a checkpoint; return whether its columns have the order of the run's batches."""
        used = self.features, self.targets
        model_file.resume(self, run, path)
        its = self.features, self.targets
        self.features, self.targets = its[0] or used[0], its[1] or used[1]
        return not any(mine and other and mine != other for mine, other in zip(used, its, strict=True))

    def _validation_as_rows(self, validation: Any) -> Any:
        """Return a validation whose samples are rows as what says so."""
        if _is_batches(validation):
            return validation if isinstance(validation, Rows) else Rows(validation)
        if isinstance(validation, tuple | list) and len(validation) in (2, 3):
            X, Y, *weights = validation
            return *pair_as_rows("the validation's ", X, Y, self.network.n), *weights
        return validation

    def _split(
        self, share: Any, validation: Any, X: Any, Y: Any, sample_weight: Any, class_weight: Any
    ) -> Split:
        """Return the samples to train on and those held out by `validation_split`."""
        share = number(
            "validation_split", share, "between 0 and 1, the share of the samples", lambda x: 0 < x < 1
        )
        if validation is not None:
            raise InputError("validation and validation_split are both given; give one of them")
        if Y is None:
            raise InputError(
                "validation_split is for samples X and Y in memory; batches that are given cannot be split. Give "
                "validation=, batches of others"
            )
        checks, network = self._checks(learns=True), self.network
        return hold_out(
            share, X, Y, sample_weight, class_weight, checks, network.output, network.n[-1], self.seed
        )

    def _validation(self, validation: Any, epochs: int) -> Provider:
        """Return the samples that are held out from a fit."""
        if _is_batches(validation):
            if hasattr(validation, "__next__") and epochs > 1:
                raise InputError(
                    "the validation, an iterator, can be gone through but once, and there are several epochs; "
                    "give a list of batches, or a function that returns a new iterator"
                )
            validation = (validation, None)
        if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
            raise InputError(
                f"validation must be a pair (X, Y), not {type(validation).__name__}; for a share of the samples "
                "give validation_split=0.2"
            )
        held_out: Provider = self._held_out("the validation's ", *validation)
        return held_out

    def _training(
        self,
        asked: Any,
        metrics: Any,
        batches: Provider,
        X: Any,
        Y: Any,
        sample_weight: Any,
        class_weight: Any,
    ) -> Provider | None:
        """Return the samples that are trained on and measured after every epoch; None: none are."""
        if asked is None:
            asked = metrics is not None and isinstance(batches, Batches)
        if not isinstance(scalar(asked), bool):
            asked = integer("training_metrics", asked, 1, expected="True, False, None, or a positive integer")
        if not asked:
            return None
        if isinstance(batches, Batches):
            return batches.some(None if asked is True else asked, self._size(None), self.seed)
        if Y is None or asked is not True:
            raise InputError(
                f"training_metrics={asked} is for X and Y that are arrays; samples that are read piece by piece are "
                "measured with training_metrics=True, and batches that are given not at all"
            )
        return self._batches("", X, Y, sample_weight, class_weight, self._size(None), None)

    def _wanted(self, metrics: Any, *samples: Provider | None) -> tuple[Any, ...]:
        """Return the metrics to measure on samples, if there are any."""
        given = [one for one in samples if one is not None]
        wanted = self._metrics(metrics) if given else ()
        for one in given:
            if not isinstance(one, Iterated):  # which can perhaps be read but once
                with closing(one.epoch()) as first:
                    self._check(wanted, next(first)[0])
        return wanted

    def is_finite(self) -> bool:
        """Whether every number of the state is."""
        known = self.state.finite if isinstance(self.state, Checked) else None
        if known is not None:
            return known
        return host.is_finite(*(x for name, x in self.state.items() if name not in ("t", "key", "decays")))

    def gradient(self, state: Mapping[str, Array], batch: Batch) -> tuple[Array, Array]:
        """Return J and dtheta of a batch on the device, at a state, as a step would see them."""
        if self._gradient is None:
            self._gradient = self.backend.capture(cost_and_gradient(self.network, self.regularization))
        found: tuple[Array, Array] = self._gradient(state, batch)
        return found

    def predict(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return A[L] as a NumPy array (n[L], m), with `rows` (m, n[L]); of one sample (n[0],) it is (n[L],).

        Parameters
        ----------
        X : array-like (n[0], m)
            Whatever `fit` takes, but batches; or one sample (n[0],). Where n[0] is 1, an array (m,) is refused.
        batch_size : int or None
            Samples computed at once; None: as many as keep the widest layer within 2^24 numbers.
        rows : bool
            Whether samples are rows, X (m, n[0]), as in `fit`.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity"), backend="numpy")
        >>> trainer.parameters = {"W1": [[1, 2, 3]], "b1": [[0.5]]}
        >>> trainer.predict([1, 0, 1])
        array([4.5], dtype=float32)
        >>> trainer.predict([[1, 0, 1], [0, 1, 0]], rows=True)
        array([[4.5],
               [2.5]], dtype=float32)
        """
        A, alone = self._outputs(X, batch_size, rows)
        return A[:, 0] if alone else A.T if rows else A

    def _outputs(self, X: Any, batch_size: int | None, rows: bool) -> tuple[Any, bool]:
        """Return A[L] (n[L], m), and whether X was one sample (n[0],)."""
        theta, to_numpy = self.state["theta"], self.backend.to_numpy
        size, n = self._size(batch_size), self.network.n_features
        row = one_row(X, self.features)
        checks = self._checks()
        samples, alone = one_sample(
            checks.recognise("X", "X", as_rows("X", row, n) if flag("rows", rows) else row), n
        )
        stream = Stream(self.backend, samples, None, None, size, checks=checks, dtype=self.dtype)
        with self.threads(stream.at_once), closing(stream.epoch()) as batches:
            A = host.concat([host.copy(to_numpy(self._forward(theta, X))) for (X, *_), _, _ in batches])
        return A, alone or row is not X

    def classify(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return the class of each sample, (m,), int; of several labels at once (sigmoid) 0 or 1 for each, (n[L], m).

        Of one sample (n[0],) it is an int, or (n[L],); with `rows` the labels are (m, n[L]). The arguments are those
        of `predict`.

        Raises
        ------
        InputError
            When the output is of numbers, not of classes.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([2, 3], output="softmax"), backend="numpy")
        >>> trainer.parameters = {"W1": [[1, 0], [0, 1], [-1, -1]], "b1": [[0], [0], [0]]}
        >>> trainer.classify([[5, 0, -2], [0, 4, -2]])
        array([0, 1, 2], dtype=int32)
        >>> trainer.classify([0, 4])
        1
        """
        output = self.network.output
        if not output.classes:
            raise InputError(f"the output {output} is of numbers, which predict gives; there are no classes")
        A, alone = self._outputs(X, batch_size, rows)
        if A.shape[0] > 1 and output.name == "sigmoid":
            labels = host.integers(A > output.threshold)
            return labels[:, 0] if alone else labels.T if rows else labels
        classes = host.integers(decide(A, output.threshold))
        return int(classes[0]) if alone else classes

    def evaluate(
        self,
        X: Any,
        Y: Any = None,
        batch_size: int | None = None,
        *,
        sample_weight: Any = None,
        metrics: Sequence[Any] | None = None,
        rows: bool = False,
    ) -> dict[str, Any]:
        """Return {"loss": ..., "accuracy": ...}, {"loss": ..., "r2": ...} without classes, or the `metrics`.

        Parameters
        ----------
        X, Y : array-like
            As in `fit`.
        batch_size : int or None
            Samples computed at once, as in `predict`; the result does not depend on it.
        sample_weight : array-like (m,) or None
            The weights of the samples, in the loss and in all metrics.
        metrics : sequence of str, metric or function, or None
            See `nnx.METRICS`, or functions of targets and predictions; None: the accuracy of classes, else R2.
        rows : bool
            Whether samples are rows, as in `fit`.
        """
        if flag("rows", rows):
            X, Y = pair_as_rows("", X, Y, self.network.n)
        held_out = self._held_out("", X, Y, sample_weight, batch_size, resident=False)
        return self.measure(held_out, self._metrics(metrics))

    def scorer(self, X: Any, Y: Any, metrics: Sequence[Any] | None = None) -> Callable[[], dict[str, Any]]:
        """Return a function that evaluates the trainer, as it then is, on these samples, which stay on the device.

        For what is evaluated often, such as after every epoch; the arguments are those of `evaluate`.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
        >>> score = trainer.scorer([[-1.0, 1.0]], [0, 1])
        >>> sorted(score())
        ['accuracy', 'loss']
        """
        return partial(self.measure, self._held_out("", X, Y), self._metrics(metrics))

    def _metrics(self, metrics: Sequence[Any] | None) -> tuple[Any, ...]:
        """Return the metrics by their names."""
        output = self.network.output
        if metrics is None:
            metrics = (score_name(output),)
        names = items("metrics", metrics, "a list, such as ['accuracy', 'f1']")
        found = tuple(find_metric(one) for one in names)
        if len({one.name for one in found}) < len(found):
            raise InputError(
                f"metrics must have names of their own; given {', '.join(one.name for one in found)}"
            )
        return found

    def _check(self, metrics: Sequence[Any], batch: Batch) -> None:
        """Raise an InputError if a metric has no meaning for these targets."""
        for one in metrics:
            check(one, self.network.output, self.network.n[-1], batch[1])

    def measure(self, held_out: Any, wanted: Sequence[Any]) -> dict[str, Any]:
        """Return the loss and the metrics over what `evaluate` or `fit` has made of its arguments."""
        names = tuple(one.name for one in wanted)
        if names not in self._measures or self._measures[names][0] != tuple(wanted):
            network, output = self.network, self.network.output

            def function(theta: Array, batch: tuple[Array, Array, Array | None]) -> Any:
                X, Y, w = batch
                A, J = network.forward_and_loss(theta, X, Y, w)
                weight = X.shape[-1] if w is None else array_namespace(w).sum(w)
                return J, weight, [one.partial(output, A, Y, w) for one in wanted]

            self._measures[names] = tuple(wanted), self.backend.capture(function)
            if len(self._measures) > MEASURES:
                del self._measures[next(iter(self._measures))]
        captured = self._measures[names][1]
        parts: list[Any] = []
        with self.threads(held_out.at_once), closing(held_out.epoch()) as batches:
            for batch, _, _ in batches:
                if not batch[0].shape[-1]:
                    continue  # its weights are all 0
                if not parts:
                    self._check(wanted, batch)
                parts.append(captured(self.state["theta"], batch))
        to_numpy = self.backend.to_numpy
        weights = [float(w if isinstance(w, int) else to_numpy(w)) for _, w, _ in parts]
        loss = sum(float(to_numpy(J)) * weight for (J, _, _), weight in zip(parts, weights, strict=True))
        if not sum(weights) > 0:
            raise InputError(
                "the weights of all samples are 0: there is no mean of their losses; leave out the weights"
            )
        measured: dict[str, Any] = {"loss": loss / sum(weights)}
        with host.quiet():  # of predictions far out of range
            for i, one in enumerate(wanted):
                found = one.result([partials[i] for _, _, partials in parts], to_numpy)
                sums = held_out.exponent and getattr(one, "sums", False)
                measured[one.name] = host.times_power_of_two(found, -held_out.exponent) if sums else found
        return measured

    def _held_out(
        self,
        whose: str,
        X: Any,
        Y: Any,
        sample_weight: Any = None,
        batch_size: int | None = None,
        resident: bool = True,
    ) -> Any:
        """Return the batches of samples that are not trained on."""
        return self._batches(
            whose, X, Y, sample_weight, None, self._size(batch_size), None, resident=resident
        )

    def _size(self, batch_size: int | None) -> int:
        """Return how many samples are computed at once, where nothing is learned."""
        if batch_size is None:
            return max(1, 2**24 // self.network.widest)
        return positive_int("batch_size", batch_size)

    def _batches(
        self,
        whose: str,
        X: Any,
        Y: Any,
        sample_weight: Any,
        class_weight: Any,
        batch_size: int | None,
        rng: Any,
        micro_batch: int | None = None,
        steps: int | None = None,
        resident: bool = True,
        learns: bool = False,
    ) -> Provider:
        """Return what gives the pieces of every batch: arrays in memory, a stream, or batches that are given.

        Where it `learns`, the names of the columns of a first table are those of the training.
        """
        exponents: list[int] = []
        found = provide(
            self.backend,
            X,
            Y,
            sample_weight,
            None if Y is None else batch_size,
            rng,
            micro_batch,
            checks=self._checks(class_weight, learns, batch_size if learns else None, exponents),
            dtype=self.dtype,
            steps=steps,
            resident=resident,
            whose=whose,
        )
        found.exponent = exponents[-1] if exponents else 0
        return found

    def _checks(
        self,
        class_weight: Any = None,
        learns: bool = False,
        batch_size: int | None = None,
        exponents: list[int] | None = None,
    ) -> Checks:
        """Return what looks at the samples, of the whole or of a part, before they go to the device.

        Weights of the whole may be multiplied by a power of two, whose exponent is added to `exponents`.
        """
        output, n = self.network.output, self.network.n[-1]
        table: list[Any] = []

        def targets(name: str, Y: Any, m: int) -> Any:
            return checked_targets(name, Y, output, n, m, self.dtype)

        def weights(name: str, w: Any, Y: Any, m: int) -> Any:
            found = sample_weights(w, class_weight, Y, output, n, m)
            if found is None or self.regularization.per_sample:  # of which the sum of the weights is a part
                return fitting(found, self.dtype)
            found, exponent = in_range(found, self.dtype, together=batch_size is None or batch_size >= m)
            if exponents is not None:
                exponents.append(exponent)
            return found

        def weights_of_part(name: str, w: Any, Y: Any, m: int) -> Any:
            if not table:
                table.append(class_table(class_weight, output, n))
            return fitting(batch_weights(w, table[0], Y, output, n, m), self.dtype)

        def find(what: str, name: str, names: list[str]) -> list[str] | None:
            return self._columns(what, frames.distinct(name, names), learns)

        return Checks(self._features, targets, weights, weights_of_part, find)

    def _columns(self, what: str, names: list[str], learns: bool) -> list[str] | None:
        """Return the names of the columns of X or Y to take from a table, None where all are taken as they come."""
        if what == "X":
            if self.features is None and learns:
                self.features = names
            return self.features
        if self.targets is None and learns and len(names) > 1:
            self.targets = names
        return self.targets

    def _features(self, name: str, X: Any) -> Array:
        X = host.as_numbers(name, X)
        self.network.check_features(X, name, rows=True)
        if X.ndim != 2:
            raise InputError(f"{name} has shape {tuple(X.shape)}; expected two axes, (n[0], m)")
        host.check_finite(
            name, X, self.dtype, "feature {0}, sample {1}", ". Replace them, or leave out the samples"
        )
        return X

    def save(self, path: str | Path) -> None:
        """Write the whole run to one safetensors file, aside first, then renamed: see `load`.

        In the middle of a fit (from a callback) it also holds where the fit stands and the callbacks' states,
        for `fit(resume=path)`.
        """
        model_file.write(self, self._run, as_path("path", path))

    @classmethod
    @whole
    def load(cls, path: str | Path, backend: str | Backend = "auto", device: str | None = None) -> "Trainer":
        """Return the trainer that was saved: it goes on as the saved one would have, on any backend.

        Of the model of a table (`nnx train`, `nnx.Tabular`) it takes X as the model's preparation makes it, scaled;
        `nnx.Tabular.load` takes the table.

        Parameters
        ----------
        path : path
            A model file, a checkpoint, or the folder of a run: of it the model, or the newest checkpoint where that
            is newer, or there is no model.
        backend, device
            As of `Trainer`.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        InputError
            When there is neither a model nor a checkpoint in the folder.
        ModelFileError
            When it is damaged, no model of nnx, of a newer format, or its parts do not fit together.
        """
        path = model_file.file_of(as_path("path", path))
        found = model_file.read(path)
        chosen = choose(backend, device)
        try:
            trainer = model_file.make(found, cls, chosen.backend)
        except BackendError:
            raise
        except Exception as error:  # whatever a file may hold, it must not look like a fault of the program
            raise model_file.not_loadable(path, error) from error
        trainer.reason, trainer._wish = chosen.reason, (backend, device)
        return trainer

    def _repr_html_(self) -> str:
        facts = (
            f"{count(self.steps, 'step')} done by {self.optimizer!r}, in {self.dtype} on {self.backend.name} "
            f"{self.backend.version} ({self.backend.device})"
        )
        curves = self.history._repr_html_() if self.records else ""
        return f"<div>{escape(facts)}{self.network._repr_html_()}{curves}</div>"

    def __reduce__(self) -> Any:
        return model_file.unpickled, model_file.collect(
            self, None
        )  # as NumPy arrays: any machine can read them

    def __deepcopy__(self, memo: Any) -> "Trainer":
        return model_file.unpickled(*model_file.collect(self, None), self.backend)

    def __repr__(self) -> str:
        return f"<Trainer of {self.network!r} by {self.optimizer!r} on {self.backend!r}: {self.steps} steps done>"


def _is_batches(validation: Any) -> bool:
    """Whether a validation is batches, and no (X, Y) or (X, Y, sample_weight)."""
    if isinstance(validation, list):
        return bool(validation) and all(isinstance(batch, tuple) for batch in validation)
    return not isinstance(validation, tuple) and (
        callable(validation) or isinstance(validation, Rows) or hasattr(validation, "__next__")
    )
