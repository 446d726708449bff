"""The fits of a search, as joblib's tasks: they are collected, and those that a stack can run wait for each other."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from joblib import Parallel
from joblib.parallel import ParallelBackendBase
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from nnx.errors import first_line
from nnx.sklearn.base import BaseMLP
from nnx.sklearn.fitting import Fit, Given
from nnx.sklearn.member_params import OWN
from nnx.sklearn.members import OF_ALL
from nnx.sklearn.parameters import check_parameters
from nnx.sklearn.stacked_fits import (
    Distinct,
    architecture,
    deferred,
    groups,
    member_bytes,
    run_stack,
    suits_a_stack,
    take_backends,
)
from nnx.support.limits import available
from nnx.support.warned import warn
from nnx.train.stack_memory import SMALL, USABLE

_log = logging.getLogger("nnx")


class Stacks(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A backend of joblib that collects all tasks of a search, and does them when the first result is asked for.

    Parameters
    ----------
    n_jobs : int or None
        Of the tasks that no stack can run.
    begun : callable
        Is called when joblib has taken this backend.
    """

    uses_threads = True
    supports_sharedmem = True

    def __init__(self, n_jobs: int | None, begun: Callable[[], None]) -> None:
        super().__init__(nesting_level=0)
        self._n_jobs, self._begun = n_jobs, begun
        self._tasks: list[Task] = []
        self._results: list[Any] = []

    def configure(self, *given: Any, **named: Any) -> int:
        """Return the number of workers, as far as joblib is concerned."""
        self._begun()
        n_jobs: int = super().configure(*given, **named)
        return n_jobs

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return 2: of one worker joblib would do the tasks itself."""
        return 2

    def submit(self, func: Any, callback: Any = None) -> "Submitted":
        """Collect tasks."""
        first = len(self._tasks)
        self._tasks += [Task(*item) for item in func.items]
        return Submitted(self, slice(first, len(self._tasks)), callback)

    apply_async = submit  # its name before joblib 1.5

    def results(self, place: slice) -> list[Any]:
        """Return the results of some of the tasks."""
        if not self._results:
            self._results = results(self._tasks, self._n_jobs)
        return self._results[place]


class Submitted:
    """Some tasks that a `Stacks` has collected, for joblib."""

    def __init__(self, backend: Stacks, place: slice, callback: Any) -> None:
        self._backend, self._place, self._callback = backend, place, callback

    def get(self, timeout: float | None = None) -> list[Any]:
        """Return their results."""
        found = self._backend.results(self._place)
        self._callback(found)
        return found


class Task:
    """A call of scikit-learn's function that fits an estimator to a fold and scores it.

    Parameters
    ----------
    function, given, named
        The call, as joblib has it. It is done as it is where no stack can run the fit.

    Attributes
    ----------
    result : dict or None
        The scores of the fit that a stack has run.
    """

    def __init__(self, function: Any, given: Sequence[Any], named: dict[str, Any]) -> None:
        self.call = function, given, named
        self.result: dict[str, Any] | None = None
        self._estimator: Any = None
        self._seconds = 0.0

    def wait(self, folds: "Folds") -> Fit | None:
        """Return the fit that a stack can run; None: the task is to be done as it is.

        An error is no error here: the task does it again as it is, and scikit-learn says what has failed.
        """
        start = time.perf_counter()
        try:
            (base, X, y), named = self.call[1:]
            parameters, train, others = (named[name] for name in ("parameters", "train", "fit_params"))
            estimator = clone(base).set_params(**clone(parameters, safe=False))
            if trained_last(estimator) is None:
                return None
            fit = folds.fit(estimator, X, y, train, others or {}, parameters)
        except (TypeError, ValueError):  # of parameters and samples
            return None
        except Exception as error:
            _tell("a fit of the search cannot be made ready for a stack, and is done by itself", error)
            return None
        self._estimator, self._seconds = estimator, time.perf_counter() - start
        return fit

    def end(self, end: Exception | None, seconds: float) -> None:
        """Score the fit of `wait`, which a stack has trained in so many seconds, to this warning or error."""
        if isinstance(end, Warning):
            warn(end)
            end = None
        trained = Trained(self._estimator, end)
        self.result = self.call[0](trained, *self.call[1][1:], **self.call[2])
        self.result["fit_time"] = self._seconds + seconds
        self._estimator = None


class Trained:
    """Stands in the place of an estimator that is to get its parameters and be fitted: it is, or has failed."""

    def __init__(self, estimator: Any, error: Exception | None) -> None:
        self._estimator, self._error = estimator, error

    def set_params(self, **_: Any) -> Any:
        """Return the estimator, whose next `fit` does nothing, or fails."""
        self._estimator.fit = self._end_fit
        return self._estimator

    def _end_fit(self, *_: Any, **__: Any) -> Any:
        del self._estimator.fit
        if self._error is not None:
            raise self._error
        return self._estimator


class Folds:
    """The training samples of the folds. Candidates that differ in the network alone share the transformed samples."""

    def __init__(self) -> None:
        self._samples: dict[int, Any] = {}
        self._transformed: dict[Any, Any] = {}
        self._checked: dict[Any, tuple[Given, dict[str, Any], Any]] = {}
        self._forwards: dict[Any, Any] = {}
        self._distinct = Distinct()

    def fit(
        self, estimator: Any, X: Any, y: Any, train: Any, others: dict[str, Any], parameters: dict[str, Any]
    ) -> Fit | None:
        """Fit an estimator to a fold, but for its network; return the fit of that, if there is one."""
        if id(train) not in self._samples:
            own = _check_method_params(X, params=others, indices=train)
            self._samples[id(train)] = *_safe_split(estimator, X, y, train), own, train
        X_train, y_train, own, _ = self._samples[id(train)]
        key = None
        if isinstance(estimator, Pipeline) and isinstance(estimator.steps[-1][1], BaseMLP):
            last = estimator.steps[-1][0]
            before = {k: v for k, v in parameters.items() if k != last and not k.startswith(f"{last}__")}
            key = id(train), tuple((name, id(value)) for name, value in sorted(before.items()))
        if key in self._transformed:
            steps, given = self._transformed[key]
            network = estimator.steps[-1]
            estimator.steps = [*steps, network]
            return self._ready(network[1], given)
        waiting: list[Any] = []
        with deferred(lambda *given: waiting.append(given)):
            estimator.fit(X_train, **own) if y_train is None else estimator.fit(X_train, y_train, **own)
        if len(waiting) != 1:
            return None
        ((network, *given),) = waiting
        if key is not None:
            self._transformed[key] = estimator.steps[:-1], given
        return self._ready(network, given)

    def _ready(self, network: BaseMLP, given: Any) -> Fit:
        """Return the fit of a network; those of one architecture score the samples held out by one program."""
        samples = self._samples_for(network, given)
        fit = network._ready_for(samples)
        samples.forward = self._forwards.setdefault(architecture(fit), samples.forward)
        return fit

    def _samples_for(self, network: BaseMLP, given: Any) -> Given:
        """Return the samples as a network takes them; networks that differ in numbers alone have them checked once."""
        check_parameters(network, False)
        *given, validation = given
        X, y, sample_weight, *held = [self._distinct.first(x) for x in (*given, *(validation or ()))]
        given = X, y, sample_weight, *held
        alike = (repr(value) for name, value in network.get_params(deep=False).items() if name not in OWN)
        edges = getattr(network.numerical_embeddings, "edges", None)  # which its repr has not
        key = type(network), network._stochastic, *map(id, given), edges, *alike
        if key not in self._checked:
            samples = network._check(X, y, sample_weight, False, tuple(held) or None)
            learned = {name: vars(network)[name] for name in OF_ALL if name in vars(network)}
            self._checked[key] = samples, learned, given
        samples, learned, _ = self._checked[key]
        network.__dict__.update(learned)
        return replace(samples)


def trained_last(estimator: Any) -> BaseMLP | None:
    """Return the estimator of one network of ours whose training is the last thing that a `fit` does."""
    if vars(estimator).get("_skl_callbacks"):  # of scikit-learn, which see each fit by itself
        return None
    if isinstance(estimator, Pipeline):
        return trained_last(estimator.steps[-1][1])
    if isinstance(estimator, TransformedTargetRegressor):
        return trained_last(estimator.regressor)
    return estimator if isinstance(estimator, BaseMLP) and estimator.n_members is None else None


def results(tasks: Sequence[Task], n_jobs: int | None) -> list[Any]:
    """Return the results of tasks, whose fits run in as few stacks as they can, as many at once as memory holds."""
    folds, free = Folds(), available()
    most = math.inf if free is None else max(SMALL, USABLE * free)
    waiting: list[tuple[Task, Fit]] = []
    size = 0
    for task in tasks:
        fit = task.wait(folds)
        if fit is not None and suits_a_stack(fit):
            waiting.append((task, fit))
            size += member_bytes(fit.trainer.network.P, fit.trainer.dtype)
        if size > most:
            _run(waiting)
            waiting, size = [], 0
    _run(waiting)
    alone = iter(Parallel(n_jobs=n_jobs)([task.call for task in tasks if task.result is None]))
    return [next(alone) if task.result is None else task.result for task in tasks]


def _run(waiting: Sequence[tuple[Task, Fit]]) -> None:
    """Run fits in stacks, and score them; those that are alone, or whose stack fails, go on waiting."""
    fits = [fit for _, fit in waiting]
    stacks = [group for group in groups(fits) if len(group) > 1]
    take_backends([fits[k] for group in stacks for k in group])
    for group in stacks:
        start = time.perf_counter()
        try:
            ends = run_stack([fits[k] for k in group])
        except Exception as error:
            _tell(f"a stack of {len(group)} fits of the search has failed; each is done by itself", error)
            continue
        seconds = (time.perf_counter() - start) / len(group)
        for k, end in zip(group, ends, strict=True):
            waiting[k][0].end(end, seconds)


def _tell(text: str, error: Exception) -> None:
    _log.warning("%s: %s: %s", text, type(error).__name__, first_line(error))
