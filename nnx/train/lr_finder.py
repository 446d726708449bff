"""A search for the learning rate: a short training in which it rises."""

import copy
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from nnx.array import host
from nnx.array.gather import Data
from nnx.batches.rows import pair_as_rows
from nnx.errors import InputError, above_zero, as_path, between, flag, integer, positive_int, shown
from nnx.optimizers import base_rate, with_rate
from nnx.optimizers.lbfgs import LBFGS
from nnx.optimizers.schedules import Schedule
from nnx.plots.rates import learning_rates
from nnx.plots.style import save
from nnx.port.program import Program
from nnx.train.costs import costs as read_costs
from nnx.train.samples import make_batches
from nnx.train.session import Session
from nnx.train.step import training_step
from nnx.train.steps import least_samples


@dataclass(frozen=True, repr=False)
class RateSearch:
    """The result of `find_learning_rate`.

    Attributes
    ----------
    rates : tuple of float
        The learning rate of each step.
    costs : tuple of float
        J of each step, before its update: what the rates before it have led to.
    smoothed : tuple of float
        Their moving average.
    suggestion : float
        The rate at which the smoothed cost falls most steeply, see `find_learning_rate`.
    """

    rates: tuple[float, ...]
    costs: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed cost was lowest: already too high to train with."""
        return self.rates[_lowest(self.smoothed)]

    def plot(self, path: str | Path) -> None:
        """Draw the costs over the rates, with the suggestion, to a PNG, written aside and renamed.

        Raises
        ------
        InputError
            When there is no such folder.
        BackendError
            When matplotlib is missing.
        """
        low = min(self.costs)
        high = max(self.costs[: _lowest(self.smoothed) + 1])  # what comes after may be out of all bounds
        save(
            learning_rates(self.rates, self.costs, self.smoothed, self.suggestion, (low, high)),
            as_path("path", path),
        )

    def __repr__(self) -> str:
        at = _lowest(self.smoothed)
        return (
            f"<RateSearch: suggestion {self.suggestion:.3g}; the smoothed cost fell from "
            f"{_start(self.costs):.4g} to {self.smoothed[at]:.4g} at {self.rates[at]:.3g}; {len(self.rates)} steps, "
            f"rates {self.rates[0]:.3g} to {self.rates[-1]:.3g}>"
        )


def find_learning_rate(
    trainer: Any,
    X: Any,
    Y: Any = None,
    batch_size: int | None = None,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    *,
    smoothing: float = 0.9,
    sample_weight: Any = None,
    class_weight: Any = None,
    rows: bool = False,
) -> RateSearch:
    """Train for a few steps at rising learning rates and tell at which the cost falls most steeply.

    The range test of Smith, 2015, https://arxiv.org/abs/1506.01186, section 3.3, with rates that rise by the same
    factor from step to step, as fastai does it. It starts from where the trainer is, and leaves it exactly as it was.

    Parameters
    ----------
    trainer : Trainer
        Of its optimizer all but the learning rate is used; a schedule has no effect here.
    X, Y, batch_size, sample_weight, class_weight, rows
        As in `Trainer.fit`; give the batch_size that you will train with.
    low, high : float
        The rates of the first and the last step. The search ends before, when a cost is not finite, or the smoothed
        one is more than 4 times the lowest so far.
    steps : int
        At least 10. The rate rises for as long as these take, over several epochs if need be.
    smoothing : float
        In [0, 1): the share of the old in the moving average, which is freed of its start at 0. fastai's 0.98
        looks back over some 50 steps, at much lower rates.

    Returns
    -------
    RateSearch
        Its `suggestion`: the start is the mean of the costs of the first tenth of the steps, the fall goes from there
        to the lowest smoothed cost after it. Past the last step at which three quarters of the fall were still to
        come, that rate at which the smoothed cost falls most steeply, over the logarithm of the rate. (fastai's
        "steep" looks at all steps, where with small batches noise at the lowest rates may be steeper.) A first try, and
        a bold one, as an average shows what was some steps before: compare it with a third of it.

    Raises
    ------
    InputError
        When the fall is less than 1 % of the start, or than the standard deviation of the costs of the first tenth,
        which is noise; or an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> X = np.random.default_rng(0).standard_normal((2, 200))
    >>> Y = X[0] * X[1] > 0
    >>> trainer = nnx.Trainer(nnx.mlp([2, 16, 1]), nnx.Adam(), backend="numpy")
    >>> search = find_learning_rate(trainer, X, Y, batch_size=50)
    >>> 0.01 < search.suggestion < 1, trainer.steps
    (True, 0)
    """
    session = getattr(trainer, "session", None)
    if not isinstance(session, Session):
        hint = (
            ", which has members: give one of them, trainer.member(k)"
            if getattr(trainer, "each", None)
            else ""
        )
        raise InputError(f"expected an nnx.Trainer of one network, not {shown(trainer)}{hint}")
    if isinstance(session.optimizer, LBFGS):
        raise InputError(
            "L-BFGS has no learning rate to be found: its line search sets the length of each step"
        )
    if flag("rows", rows):
        X, Y = pair_as_rows("", X, Y, (session.network.n[0], session.network.n_targets))
    if batch_size is not None:
        batch_size = positive_int("batch_size", batch_size)
    steps = integer("steps", steps, 10)
    low, high = above_zero("low", low), above_zero("high", high)
    if not low < high:
        raise InputError(f"low and high must be numbers with 0 < low < high; given {low!r} and {high!r}")
    for name, rate in (("low", low), ("high", high)):
        host.option(name, rate, session.dtype)
    smoothing = between("smoothing", smoothing, 0, 1)
    rng = copy.deepcopy(session.rng)  # the search leaves the session's random numbers where they are
    batches = make_batches(session, "", X, Y, sample_weight, class_weight, batch_size, rng)
    rates = [float(low * (high / low) ** (k / (steps - 1))) for k in range(steps)]
    costs, smoothed = _search(session, batches, rates, smoothing)
    rates = rates[: len(costs)]
    return RateSearch(tuple(rates), tuple(costs), tuple(smoothed), _steepest(rates, costs, smoothed))


def _search(
    session: Session, batches: Any, rates: Sequence[float], smoothing: float
) -> tuple[list[float], list[float]]:
    """Do a step at each rate, until the cost leaves all bounds; return the costs and their moving average."""
    backend, program = session.backend, _unscheduled(session)
    found: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    with closing(_endless(batches, least_samples(session.network))) as endless:
        for k, (rate, batch) in enumerate(zip(rates, endless, strict=False)):
            program.load({"alpha": backend.asarray(rate, session.dtype)})
            (cost,) = read_costs(backend, program.run(batch, None, 0, batch[0].shape[-1], 1), 1)
            if not math.isfinite(cost):
                break
            average = smoothing * average + (1 - smoothing) * cost
            found.append(cost)
            smoothed.append(average / (1 - smoothing ** (k + 1)))
            if smoothed[-1] > 4 * min(smoothed):
                break
    return found, smoothed


def _unscheduled(session: Session) -> Program:
    """Return a program of the session's step at the rate that its state says, with a copy of the session's state."""
    optimizer = session.optimizer
    if isinstance(optimizer.learning_rate, Schedule):
        optimizer = with_rate(optimizer, base_rate(optimizer))
    program = session.backend.compile(training_step(session.network, optimizer, session.regularization))
    program.load(session.read())
    return program


def _endless(batches: Any, least: int) -> Generator[Data, None, None]:
    """Yield the batches of one epoch after the other, without those of fewer samples than can be trained on."""
    while True:
        empty = True
        with closing(batches.epoch()) as pieces:
            for batch, _, _ in pieces:
                if batch[0].shape[-1] >= least:
                    empty = False
                    yield batch
        if empty:
            raise InputError("there are no batches that can be trained on")


def _start(costs: Sequence[float]) -> float:
    """Return the mean of the first tenth."""
    return fmean(costs[: max(1, len(costs) // 10)])


def _lowest(smoothed: Sequence[float]) -> int:
    """Return the place of the lowest, the first tenth left out."""
    return min(range(len(smoothed) // 10, len(smoothed)), key=smoothed.__getitem__)


def _steepest(rates: Sequence[float], costs: Sequence[float], smoothed: Sequence[float]) -> float:
    """Return the rate of the steepest descent, or raise an InputError when there is none."""
    if len(costs) < 3:
        at = f"at the learning rate {rates[-1]:.3g}" if rates else "in the first step"
        raise InputError(f"the cost left all bounds {at}: give a lower `low`, or scale the features")
    start, end = _start(costs), _lowest(smoothed)
    fall, noise = start - smoothed[end], pstdev(costs[: max(1, len(costs) // 10)])
    if not fall > max(0.01 * abs(start), noise):
        raise InputError(
            f"the cost did not fall between the learning rates {rates[0]:.3g} and {rates[-1]:.3g}: it began with "
            f"{start:.4g} +- {noise:.2g}, and the lowest, smoothed, was {smoothed[end]:.4g}. Give a lower `low` if it "
            "only rose, a higher `high` if it stayed, or a larger batch_size; or the network is trained already"
        )
    begin = max((k for k in range(end) if smoothed[k] >= start - 0.25 * fall), default=0)

    def slope(k: int) -> float:  # between the neighbours; the rates' logarithms are equally far apart
        before, after = max(k - 1, 0), min(k + 1, len(smoothed) - 1)
        return (smoothed[after] - smoothed[before]) / (after - before)

    return rates[min(range(begin, end + 1), key=slope)]
