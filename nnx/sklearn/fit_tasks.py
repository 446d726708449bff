"""scikit-learn's callbacks (`sklearn.callback`, from version 1.9 on): a fit and its epochs are tasks that they see.

The tree of tasks is fit > epoch. With `n_members` it is fit > member > epoch.
"""

from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from nnx.callbacks.base import Callback
from nnx.callbacks.progress import Progress
from nnx.errors import CallbackError

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in the place of scikit-learn's class, which versions before 1.9 do not have: no `set_callbacks`."""


class FitTask:
    """A fit, as scikit-learn's callbacks see it.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    X, y, sample_weight
        As they were given to `fit`.
    epochs : int
        At most so many.

    Attributes
    ----------
    error : Exception or None
        What a callback has raised.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self.estimator, self._given, self.epochs = estimator, (X, y, sample_weight), epochs
        self.error: Exception | None = None
        K = estimator.n_members
        self.context = estimator._init_callback_context(
            max_subtasks=epochs if K is None else K, sequential_subtasks=K is None
        )
        self._members = 0
        self.context.call_on_fit_task_begin(estimator=estimator, **self.data(None))

    def data(self, rows: Any) -> dict[str, Any]:
        """Return the arguments of a hook: the samples of these numbers, all for None, once they are asked for."""
        X, y, w = self._given

        def part(x: Any) -> Any:
            return x if rows is None else _safe_indexing(x, rows)

        metadata = None if w is None else lambda: {"sample_weight": w if np.ndim(w) == 0 else part(w)}
        return {"X": lambda: part(X), "y": lambda: part(y), "metadata": metadata}

    def callback(self, one: Any, rows: Any) -> "Epochs":
        """Return the callback of nnx that tells of the epochs of the estimator of one network, or of its next member.

        `rows` are the numbers of the samples that it trains on; None: all.
        """
        context = self.context
        if one is not self.estimator:
            context = context.subcontext("member", self._members, self.epochs)
            self._members += 1
        return Epochs(self, context, one, self.data(rows))


class Epochs(Callback):
    """Tells scikit-learn's callbacks when an epoch begins and ends, and ends the fit if one asks for it."""

    last = True

    def __init__(self, task: FitTask, context: Any, one: Any, data: dict[str, Any]) -> None:
        self._task, self._context, self._one, self._data = task, context, one, data
        self._epoch: Any = None
        self._left = task.epochs

    def on_fit_start(self, trainer: Any, epochs: int) -> None:
        """Begin the first epoch, and the member whose epochs they are."""
        if self._is_member:
            self._call(self._context.call_on_fit_task_begin)
        self._begin()

    def on_epoch(self, trainer: Any, progress: Progress) -> None:
        """End an epoch, and begin the next one if there is one."""
        context, self._epoch = self._epoch, None
        if self._call(context.call_on_fit_task_end, reconstruction_attributes=lambda: self._now(trainer)):
            trainer.stop("a callback of scikit-learn asked for it")
        if self._left and trainer.stopped is None:
            self._begin()

    def on_fit_end(self, trainer: Any) -> None:
        """End the epoch that was not done, and the member."""
        if self._task.error is None and self._epoch is not None:
            self._call(self._epoch.call_on_fit_task_end, data={})
        if self._task.error is None and self._is_member:
            self._call(
                self._context.call_on_fit_task_end, reconstruction_attributes=lambda: self._now(trainer)
            )

    @property
    def _is_member(self) -> bool:
        return self._one is not self._task.estimator

    def _begin(self) -> None:
        self._left -= 1
        self._epoch = self._context.subcontext("epoch")
        self._call(self._epoch.call_on_fit_task_begin)

    def _call(self, hook: Any, data: Any = None, **more: Any) -> Any:
        try:
            return hook(estimator=self._task.estimator, **(self._data if data is None else data), **more)
        except Exception as error:
            self._task.error = error
            raise

    def _now(self, trainer: Any) -> dict[str, Any]:
        """Return the attributes with which a copy of the estimator predicts as of now, of members by this one alone."""
        one, backend = self._one, trainer.backend
        attributes: dict[str, Any] = one._attributes_of(trainer.session.read("theta")["theta"], backend)
        if not self._is_member:
            return attributes
        member = copy(one)
        vars(member).update(attributes)
        return {
            "members_": [member], "member_weights_": np.ones(1), "_forwards": {}, "n_layers_": member.n_layers_,
            "n_iter_": member.n_iter_,
        }  # fmt: skip


@contextmanager
def fit_task(
    estimator: Any, X: Any, y: Any, sample_weight: Any, epochs: int
) -> Generator[FitTask | None, None, None]:
    """Tell the callbacks that `set_callbacks` has set of a fit in this context; None if there are none."""
    if not vars(estimator).get("_skl_callbacks"):
        yield None
        return
    task = FitTask(estimator, X, y, sample_weight, epochs)
    try:
        yield task
    except CallbackError as error:
        raise task.error or error from error.__cause__
    task.context.call_on_fit_task_end(estimator=estimator, reconstruction_attributes={}, **task.data(None))
