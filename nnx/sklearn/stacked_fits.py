"""Fits of several estimators, on samples of their own, that run together: those of one architecture in one stack."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any

import numpy as np
from scipy import sparse

from nnx.array.namespace import array_namespace
from nnx.callbacks.base import Callbacks
from nnx.errors import DivergenceError, InputError
from nnx.model import members
from nnx.port import registry
from nnx.sklearn import samples
from nnx.sklearn.fitting import Fit, finish
from nnx.support.members import together
from nnx.train.request import Request
from nnx.train.stack_fit import fit_stack
from nnx.train.stack_session import StackSession

DEFERRED: ContextVar[Callable[..., None] | None] = ContextVar("DEFERRED", default=None)
"""Where the fits of this thread wait: see `deferred`."""


MEMBER_BYTES = 40_000
"""Bytes on the host of an estimator and its fit beside the parameters (CPython 3.11, 64 bits)."""

MEMBER_COPIES = 20
"""Copies of its parameters: its own, those of the stack, and those of the optimizer."""

WAITING_COPIES = 10
"""Those of one that waits for its round or has trained: about what NumPy's take with early stopping."""

HOST_COPIES = 3
"""Those on the host of one that trains on a GPU: as they are drawn, in float64, and as they are handed out."""


def member_bytes(P: int, dtype: str, copies: int = MEMBER_COPIES) -> int:
    """Return the bytes on the host of an estimator that is trained in a stack."""
    return MEMBER_BYTES + copies * P * (4 if dtype == "float32" else 8)


@contextmanager
def deferred(wait: Callable[..., None]) -> Generator[None, None, None]:
    """Within it `fit` of an estimator calls wait(estimator, X, y, sample_weight, validation), and trains nothing."""
    token = DEFERRED.set(wait)
    try:
        yield
    finally:
        DEFERRED.reset(token)


def suits_a_stack(fit: Fit) -> bool:
    """Whether a stack can run a fit: not L-BFGS, no sparse matrix, and no callback that is one for all members."""
    # if a stack fails, each fit begins anew, with copies of its callbacks
    own = Callbacks(fit.estimator.callbacks)
    suits = all(one.each_member for one in own.all) and not own.each_step
    return suits and fit.estimator._stochastic and not sparse.issparse(fit.X)


def groups(fits: Sequence[Fit]) -> list[list[int]]:
    """Return the numbers of the fits of each stack: one architecture and backend, the same steps in an epoch."""
    stacks: dict[Any, list[list[int]]] = {}
    for k, fit in enumerate(fits):
        alike = stacks.setdefault(_key(fit), [])
        group = next((group for group in alike if _fit_together(fits[group[0]], fit)), None)
        if group is None:
            alike.append([k])
        else:
            group.append(k)
    return [group for alike in stacks.values() for group in alike]


def architecture(fit: Fit) -> Any:
    """Return all that a fit's `Network.forward` depends on."""
    estimator, session = fit.estimator, fit.trainer.session
    return (
        *session.network.shapes.items(), estimator.activation, estimator.normalization, estimator._link,
        estimator.dropout > 0, vars(estimator).get("_embedded"), id(session.backend), session.dtype,
    )  # fmt: skip


def _asked(fit: Fit) -> tuple[Any, Any, Any]:
    return fit.estimator.backend, fit.estimator.device, fit.estimator.precision


def _key(fit: Fit) -> Any:
    """Return the numbers and names that fits of one stack have in common."""
    estimator = fit.estimator
    m = fit.X.shape[0] if fit.rows is None else len(fit.rows)
    return (
        architecture(fit), m, fit.batch_size, fit.epochs, bool(estimator.shuffle), fit.weights is None,
        samples.home(fit.X), fit.Y.ndim, str(fit.Y.dtype), _asked(fit),
    )  # fmt: skip


def _fit_together(one: Fit, other: Fit) -> bool:
    """Whether two trainers differ in numbers alone."""
    a, b = one.trainer.session, other.trainer.session
    try:
        members.together([a.network, b.network])
        together("optimizer", [a.optimizer, b.optimizer])
        together("regularization", [a.regularization, b.regularization])
    except InputError:
        return False
    return True


def take_backends(fits: Sequence[Fit]) -> None:
    """Let fits that are to run in stacks take the backend that all of one architecture are worth together."""
    alike: dict[Any, list[Fit]] = {}
    for fit in fits:
        alike.setdefault((architecture(fit), _asked(fit)), []).append(fit)
    for some in alike.values():
        work, P = 0.0, some[0].trainer.network.P
        for fit in some:
            m = fit.X.shape[0]
            steps = -(-m // (fit.batch_size or m)) * fit.epochs
            work += registry.work(P, m * fit.epochs, steps, len(some)) / len(some)  # its share of a stack's
        backend = samples.backend_for(some[0].X, *_asked(some[0]), work)
        for fit in some:
            if fit.trainer.session.backend is not backend:
                fit.trainer.session.take_backend(backend)


def run_stack(fits: Sequence[Fit]) -> list[Exception | None]:
    """Run fits of one group in one stack; leave each estimator as its own fit does, and return its warning or error."""
    pool = Pool()
    places = [pool.add(fit) for fit in fits]
    stack = StackSession.of([fit.trainer.session for fit in fits])
    train_together(stack, fits, pool.samples, places, Callbacks(None))
    ends = [_finished(fit, error) for fit, error in zip(fits, stack.errors, strict=True)]
    _share_forward([fit for fit, end in zip(fits, ends, strict=True) if not isinstance(end, ValueError)])
    return ends


def train_together(
    stack: StackSession, fits: Sequence[Fit], data: Any, places: Any, callbacks: Callbacks
) -> None:
    """Train the fits whose sessions a stack has, in rounds where memory ends. `stack.errors` has those that diverge.

    Each fit takes its `places` of `data`, X, Y and weights, or all. The `callbacks` are those of all fits together.
    """
    first, (X, Y, weights) = fits[0], data
    request = Request(
        X, Y, first.epochs, first.batch_size, None, first.estimator.shuffle, callbacks, weights, rounds=True
    )
    with suppress(DivergenceError):  # of all of them: each has its own
        fit_stack(stack, request, [fit.trainer for fit in fits], [fit.callbacks for fit in fits], places)


def _share_forward(fits: Sequence[Fit]) -> None:
    """Let the estimators of a stack predict by one compiled `forward`: on its backend, and on that of few samples."""
    if not fits:
        return
    trainer = fits[0].trainer
    for backend in {trainer.backend, samples.backend_for(fits[0].X, *_asked(fits[0]), 0.0)}:
        forward = backend.compile(trainer.network.forward)
        for fit in fits:
            fit.estimator._take_forward(backend, forward)


def _finished(fit: Fit, error: BaseException | None) -> Exception | None:
    try:
        warning = finish(fit, error)
        fit.estimator._take_up(fit)
    except ValueError as failure:
        return failure
    return warning


class Distinct:
    """Arrays on the host by their numbers: of those that are equal, the first stands for all."""

    def __init__(self) -> None:
        self._first: dict[Any, Any] = {}
        self._known: set[int] = set()

    def first(self, x: Any) -> Any:
        """Return the first array equal to x; what is no array on the host as it is."""
        if not isinstance(x, np.ndarray) or id(x) in self._known:
            return x
        key = x.shape, str(x.dtype), blake2b(np.ascontiguousarray(x).data).digest()
        first = self._first.setdefault(key, x)
        self._known.add(id(first))
        return first


class Pool:
    """The samples of several fits side by side; those that several fits have are there once."""

    def __init__(self) -> None:
        self._starts: dict[Any, int] = {}
        self._parts: list[tuple[Any, Any, Any]] = []
        self._M = 0

    def add(self, fit: Fit) -> Any:
        """Return the places in the pool of the samples that a fit trains on."""
        part, rows = (fit.X, fit.Y, fit.weights), fit.rows
        key = tuple(map(id, part))
        if key not in self._starts:
            self._starts[key] = self._M
            self._parts.append(part)
            self._M += fit.X.shape[0]
        return self._starts[key] + (np.arange(fit.X.shape[0]) if rows is None else np.asarray(rows))

    @property
    def samples(self) -> tuple[Any, Any, Any]:
        """X and Y as columns, and the weights."""
        X, Y, weights = ([part[i] for part in self._parts] for i in range(3))
        w = None if weights[0] is None else np.concatenate(weights)
        return array_namespace(X[0]).concat(X, axis=0).T, np.concatenate(Y).T, w
