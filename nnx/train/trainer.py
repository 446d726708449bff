"""The trainer: the class that users call. Its session does the work."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Self

from nnx.callbacks.base import Callbacks
from nnx.callbacks.notebook_bar import with_progress
from nnx.errors import InputError, as_path, flag, integer, shown
from nnx.metrics.history import History, columns, columns_of_members
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import Optimizer
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.port.registry import AUTO
from nnx.support.processes import whole
from nnx.train import model_file
from nnx.train.attributes import Attributes, Each
from nnx.train.ensemble import Ensemble
from nnx.train.fit import fit
from nnx.train.input_gradients import InputGradients
from nnx.train.request import Request
from nnx.train.session import Session, flat_parameters
from nnx.train.stack_fit import fit_stack, warn_of_left_out
from nnx.train.stack_session import StackSession
from nnx.train.trainer_html import html_of


class Trainer(Attributes, InputGradients):
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
    seed : int, or sequence of int
        Draws the first weights, shuffles the samples, masks the units (`nnx.Dropout`); the same on every
        backend. Of members: a seed for each, or that of member 0; the others then have the integers behind it.
    regularization : Regularization or None
        Penalties, clipping, max-norm and label smoothing; None: none of them.
    theta : array-like (P,) or None
        The first parameters; None: those that `network.init` draws from the seed.
    precision : {"float32", "tf32", "bfloat16"} or None
        Of the matrix products, see `nnx.backend`; None: float32.
    members : int or None
        K: train K networks of this architecture at once. Each number of the optimizer, the regularization, `Dropout`
        and `GaussianNoise` may then be a sequence with one for each member, and theta is (K, P). Member k is the run
        of a trainer with its seed and its numbers. None: one network.
    communicator : {"mpi", "nccl"}, Communicator or None
        The processes that train this network, each with its share of every batch (`nnx.communicator`). All call
        the same methods with the same arguments. None: this process.

    Attributes
    ----------
    backend : Backend
    reason : str
        Why that backend.
    session : Session
        All of this state, and the program that changes it.
    state : dict of arrays
        Copies of theta, the step count t, the learning rate alpha, and the optimizer's own, on the device.
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
    errors : list of DivergenceError or None
        Why members have diverged in the last fit; empty of one network.
    kept : int or None
        The epoch, from 1 in `records`, whose parameters these are, where `nnx.EarlyStopping` took back those of an
        earlier epoch or kept those of the last; None where nothing chose an epoch.
    resumes : bool
        Whether the fit that runs, or the last one, was asked to go on from a checkpoint, if there is one.
    measures : tuple of str
        What it measures in every epoch.
    held_out : array (k,) or None
        Which of the samples `validation_split` held out in it, in ascending order; of members one for each.

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
        backend: str | Backend = AUTO,
        device: str | None = None,
        dtype: str = "float32",
        seed: Any = 0,
        regularization: Regularization | None = None,
        theta: Any = None,
        precision: str | None = None,
        members: int | None = None,
        communicator: str | Communicator | None = None,
    ) -> None:
        arguments = network, optimizer, backend, device, dtype, seed, regularization, theta, precision
        kind: Any = Session if members is None else partial(StackSession, members)
        self.session = kind(*arguments, communicator)

    @property
    def history(self) -> History:
        """The records by name, over all calls of `fit`: {"loss": [...], ...}. Of members each entry is a list of K."""
        return columns_of_members(self.records) if self.each else columns(self.records, self.kept)

    @property
    def each(self) -> "Each[Trainer]":
        """The members, each as a trainer that trains with the others; empty of one network."""
        return Each(Trainer._of(one) for one in getattr(self.session, "members", ()))

    @property
    def ensemble(self) -> Ensemble:
        """The members as one predictor, without those that have diverged."""
        return Ensemble(self)

    @property
    def _predictor(self) -> "Trainer | Ensemble":  # of a run: its network, or the mean of its members
        return self.ensemble if isinstance(self.session, StackSession) else self

    def member(self, k: int) -> "Trainer":
        """Return an ordinary trainer of member k, from 0, as it is now: a copy."""
        trainer: Trainer = self.each[integer("k, the member,", k)]
        return deepcopy(trainer)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name, NumPy arrays in the notes' shapes: {"W1": (n[1], n[0]), "b1": ...}.

        Those of members have K as their first axis. Reading gives copies. Setting starts anew from them: the step
        count and the optimizer's memory go back to zero.
        """
        return self.network.unflatten(self.theta)

    @parameters.setter
    def parameters(self, params: Mapping[str, Any]) -> None:
        if self.session.checkpoint is not None:
            raise InputError(
                "setting parameters starts anew, which cannot be in the middle of a fit; set theta"
            )
        K = self.session.K if isinstance(self.session, StackSession) else None
        self.session.start(flat_parameters(self.network, params, self.dtype, K))

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
        rounds: bool = False,
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
        rounds : bool
            Whether members that do not fit into the memory together train in rounds, as many at once as fit.

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
            When the cost becomes infinite or NaN; the trainer is then as before that epoch. Of members when all of
            them have; of some it is a warning (`errors`).
        CallbackError
            When a callback raises; the trainer is then as after its last step.
        KeyboardInterrupt
            After Ctrl-C; the trainer is then as after the last steps that were done at once: it loses about half a
            second of them, at most. Where they ended an epoch, another fit goes on as this one would have; in the midst
            of one, its other samples have no turn.
        """
        if progress is not None:
            progress = flag("progress", progress, "True, False, or None")
        shown = with_progress(Callbacks(callbacks), progress, self.communicator.size)
        shown.trainer = self
        asked = Request(
            X, Y, epochs, batch_size, validation, shuffle, shown, sample_weight, class_weight, metrics, micro_batch,
            steps, resume, rows, validation_split, training_metrics, rounds,
        )  # fmt: skip
        if not isinstance(self.session, StackSession):
            return fit(self.session, asked)
        history = fit_stack(self.session, asked, self.each)
        warn_of_left_out(self.session)
        return history

    def save(self, path: str | Path) -> None:
        """Write the whole run to one safetensors file, aside first, then renamed: see `load`.

        In the middle of a fit (from a callback) it also holds where the fit stands and the callbacks' states,
        for `fit(resume=path)`.
        """
        model_file.write(self.session, as_path("path", path))

    @classmethod
    @whole
    def load(
        cls,
        path: str | Path,
        backend: str | Backend = AUTO,
        device: str | None = None,
        precision: str | None = None,
        communicator: str | Communicator | None = None,
    ) -> Self:
        """Return the trainer that was saved: it goes on as the saved one would have, on any backend.

        Of the model of a table (`nnx train`, `nnx.Tabular`) it takes X as the model's preparation makes it, scaled;
        `nnx.Tabular.load` takes the table.

        Parameters
        ----------
        path : path
            A model file, a checkpoint, or a run's folder: its model, or its newest checkpoint where that is newer.
        backend, device, precision, communicator
            As of `Trainer`. A file says nothing of them.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        InputError
            When there is neither a model nor a checkpoint in the folder.
        ModelFileError
            When it is damaged, no model of nnx, of a newer format, or its parts do not fit together.
        """
        return cls._of(model_file.load(as_path("path", path), backend, device, precision, communicator))

    @classmethod
    def _of(cls, session: Session | StackSession) -> Self:
        made = cls.__new__(cls)
        made.session = session
        return made

    def _repr_html_(self) -> str:
        return html_of(self)

    def __reduce__(self) -> Any:
        return _unpickled, model_file.collect(self.session)  # as NumPy arrays: any machine can read them

    def __deepcopy__(self, memo: Any) -> "Trainer":
        return _unpickled(*deepcopy(model_file.collect(self.session), memo), self.backend)

    def __repr__(self) -> str:
        return f"<Trainer of {self.network!r} by {self.optimizer!r} on {self.backend!r}: {self._steps_done}>"


def _unpickled(tensors: Mapping[str, Any], run: Mapping[str, Any], backend: Any = AUTO) -> Trainer:
    """Return a trainer from the result of `collect`. A pickle takes the backend that "auto" means here."""
    return Trainer._of(model_file.make(model_file.checked(tensors, run), backend))
