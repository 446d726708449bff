"""A moving average of the parameters, which often predicts better than those of the last step."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.callbacks.fit import Fit
from nnx.callbacks.progress import Progress
from nnx.callbacks.resumable import Resumable
from nnx.errors import InputError, above_zero
from nnx.support.registry import STEPS
from nnx.support.schema import Vector, Whole

AnyFit = TypeVar("AnyFit", bound=Fit)

Average = dict[str, Array]
"""The average "theta" (P,) of the parameters after "n" steps (0-d int32).

Of members theta is (K, P), n (K, 1), and "t" (K, 1) are the steps of each, over all fits, which the average has seen.
"""


class MovingAverage(Resumable):
    """The mean of theta over the steps of a fit, each step weighted with decay^(steps since).

    average = sum of decay^(n-i) theta_i / sum of decay^(n-i), over the steps i = 1, ..., n: an exponential moving
    average with Adam's correction of its bias (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980, section 3), as in
    optax.ema. So the first step's theta soon counts no more than any other. In Keras (`ema_momentum`) and PyTorch the
    first keeps the weight of 1/(1-decay) steps.

    The average is on the device, and no step waits for the host. The running statistics of BatchNorm are part of theta,
    and are averaged, too. Each fit begins a new average, unless it goes on from a checkpoint.

    Parameters
    ----------
    decay : float
        Between 0 and 1; the mean is over about 1/(1-decay) steps.

    Raises
    ------
    InputError
        For a decay out of its range.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> average = MovingAverage(decay=0.9)
    >>> X, Y = [[0.0, 1.0]], [0, 1]
    >>> _ = trainer.fit(X, Y, epochs=20, callbacks=average)
    >>> with average.applied(trainer):
    ...     averaged = trainer.evaluate(X, Y)
    >>> averaged["loss"] > trainer.evaluate(X, Y)["loss"]  # it lags behind a straight descent
    True
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = above_zero("decay", decay, 1)
        self._average: Average = {}
        self._members: Any = None  # the session of a trainer with members that fits
        self._good: tuple[int, Average] = 0, {}  # the steps at which the average was last finite
        self._to_numpy = host.as_host  # a fit brings its backend's

    def __getstate__(self) -> dict[str, Any]:
        """Return the contents of a copy or a pickle: the average as a NumPy array, and no running fit."""
        average = {name: host.copy(self._to_numpy(x)) for name, x in self._average.items()}
        state = {
            **vars(self),
            "_average": average,
            "_good": (0, {}),
            "_to_numpy": host.as_host,
            "_members": None,
        }
        return {name: x for name, x in state.items() if name not in ("_next", "_back")}

    @property
    def theta(self) -> Any:
        """The average (P,), or (K, P), a NumPy array of its own memory. A member without a step has its first theta.

        Raises
        ------
        InputError
            Before the first step. (L-BFGS has none.)
        """
        if not self._average or not self._to_numpy(self._average["n"]).any():
            raise InputError("nothing is averaged yet; give this callback to a fit first")
        return host.copy(self._to_numpy(self._average["theta"]))

    @contextmanager
    def applied(self, trainer: AnyFit) -> Iterator[AnyFit]:
        """Give a trainer the averaged parameters for a `with` block; after it the whole state is as before.

        Do not train it in the block: the steps would be lost.
        """
        before, kept = trainer.theta, trainer.kept
        trainer.theta = self.theta
        try:
            yield trainer
        finally:
            trainer.theta, trainer.kept = before, kept

    def begin(self, trainer: Fit, state: dict[str, Any] | None) -> None:
        """Begin with no step, or with the checkpoint's average."""
        backend, now = trainer.backend, trainer.session.read("theta", "t")
        self._to_numpy, theta = backend.to_numpy, now["theta"]
        self._members = trainer.session if theta.ndim > 1 else None
        self._next = backend.compile(self._averaged_members if self._members else self._averaged)
        if state is not None:
            theta, n = backend.asarray(state["theta"], trainer.dtype), state["n"]
        elif self._members:
            n = [[0] for _ in trainer.steps]  # type: ignore[attr-defined]
        else:
            theta, n = array_namespace(theta).zeros_like(theta), 0
        self._average = {"theta": theta, "n": backend.asarray(host.as_host(n), "int32")}
        if self._members:
            self._average["t"], self._back = now["t"], backend.compile(_taken_back)
        self._good = trainer.steps, self._average

    def state(self) -> dict[str, Any]:
        """Return the average and the number of its steps."""
        if self._members:
            self._take_back()
        theta, n = (self._to_numpy(self._average[name]) for name in ("theta", "n"))
        return {"theta": theta, "n": n.tolist()}

    def expects(self, trainer: Fit, state: Mapping[str, Any]) -> Any:
        """Return the form of the state in a checkpoint."""
        P, n = trainer.network.P, Whole(0, STEPS)
        if isinstance(trainer.steps, list):
            return {"theta": Vector(P, len(trainer.steps)), "n": [[n]]}
        return {"theta": Vector(P), "n": n}

    def on_step(self, trainer: Fit, progress: Progress) -> None:
        """Add the step to the average."""
        if self._members:
            now = trainer.session.read("theta", "t")
            self._average = self._next(self._average, now["theta"], now["t"])
        else:
            self._average = self._next(self._average, trainer.session.read("theta")["theta"])

    def on_epoch(self, trainer: Fit, progress: Progress) -> None:
        """Note an average that is finite."""
        if self._members:
            self._take_back()
        self._good = trainer.steps, self._average

    def on_fit_end(self, trainer: Fit) -> None:
        """Go back with the trainer, or with a member, after an epoch without a finite cost."""
        steps, average = self._good
        if self._members:
            self._take_back()
            self._members = None
        elif trainer.steps == steps:
            self._average = average

    def _take_back(self) -> None:
        """Take back the averages of members that have diverged in this epoch, and are as before it."""
        t = self._members.read("t")["t"]
        self._average = self._back(self._good[1], self._average, t)

    def _averaged(self, average: Average, theta: Array) -> Average:
        """Return the average with one more theta: a pure function."""
        xp = array_namespace(theta)
        n = average["n"] + 1
        # theta's share is 1 / sum of decay^k over k < n = (1 - decay) / (1 - decay^n)
        share = (1 - self.decay) / -xp.expm1(xp.astype(n, theta.dtype) * math.log(self.decay))
        return {"theta": average["theta"] + share * (theta - average["theta"]), "n": n}

    def _averaged_members(self, average: Average, theta: Array, t: Array) -> Average:
        """Return the averages of members with one more theta of those that have done a step: a pure function."""
        xp = array_namespace(theta)
        moved = t > average["t"]
        new = self._averaged(average, theta)
        first = xp.where(new["n"] == 1, theta, new["theta"])  # an average that begins has its theta as it is
        return {
            "theta": xp.where(moved, first, average["theta"]),
            "n": xp.where(moved, new["n"], average["n"]),
            "t": t,
        }


def _taken_back(good: Average, now: Average, t: Array) -> Average:
    """Return the averages now, and those before the epoch of members that were taken back: a pure function."""
    xp = array_namespace(t)
    return {name: xp.where(t < now["t"], good[name], x) for name, x in now.items()}
