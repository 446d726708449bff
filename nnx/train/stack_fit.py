"""One fit of a stack, from its arguments to the histories of its members."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnx.array import host
from nnx.batches import Batches
from nnx.batches.members import MemberBatches
from nnx.callbacks.base import Callbacks
from nnx.errors import InputError
from nnx.errors.texts import shape_of
from nnx.metrics.history import History, columns_of_members
from nnx.optimizers import with_rate
from nnx.optimizers.in_epochs import InEpochs
from nnx.train.evaluation import find_metrics, held_out
from nnx.train.fit import IN_A_FIT, plan, same_columns
from nnx.train.request import Request, checked, checked_validation
from nnx.train.samples import make_batches
from nnx.train.stack_loop import StackLoop
from nnx.train.stack_resume import resume_members, resume_stack
from nnx.train.stack_session import StackSession


def fit_stack(
    stack: StackSession,
    asked: Request,
    trainers: Sequence[Any],
    callbacks: Sequence[Sequence[Any]] = (),
    places: Sequence[Any] | None = None,
    checkpoints: Sequence[Path] = (),
) -> History:
    """Train all members; return the history of this fit.

    Parameters
    ----------
    stack : StackSession
    asked : Request
        The arguments of `Trainer.fit` as they were handed in. `sample_weight` may be (K, m).
    trainers : sequence of K Trainer
        The members, as their callbacks see them.
    callbacks : sequence of K sequences of Callback
        Each member's own, called before the copies of those in `asked`; empty: there are none. A file that they save
        is a checkpoint of the member's single run.
    places : sequence of K integer arrays (m,), or None
        The samples that each member trains on: see `MemberBatches`.
    checkpoints : sequence of K paths
        To go on from: those of the members' single runs, all of one epoch. Empty: the fit begins.

    Raises
    ------
    DivergenceError
        When all members have diverged: that of the first.
    """
    if stack.checkpoint is not None:
        raise InputError(IN_A_FIT)
    request = checked(asked, stack.network)
    _check(request)
    batches = _batches(stack, request, places)
    validation = None
    if request.validation is not None:
        given = checked_validation(request.validation, request.epochs)
        validation = held_out(stack, "the validation's ", *given)
    metrics = find_metrics(stack.first, request.metrics) if validation is not None else ()
    resumes, unbound = request.resume is not None or bool(checkpoints), stack.optimizers
    _begin(stack, resumes, batches.steps, request.epochs, validation, metrics)
    stack.take_numba_if_worth(batches.m * request.epochs, batches.steps * request.epochs)
    together = stack.stack(own_weights=batches.data[2] is not None)
    own, shared = _callbacks(request.callbacks, trainers, callbacks)
    its_plan = plan(request, batches, validation, metrics, split=False)
    loop = StackLoop(together, batches, request.epochs, own, shared, validation, None, metrics, its_plan)
    if resumes:
        ours = stack.features, stack.targets
        try:
            resume_members(loop, checkpoints) if checkpoints else resume_stack(loop, request.resume)
        except BaseException:
            stack.optimizers = unbound
            raise
        if not same_columns(stack, *ours):  # again, with batches whose columns have the checkpoint's order
            return fit_stack(stack, asked, trainers, callbacks, places, checkpoints)
    stack.failures, stack.checkpoint = loop.errors, shared.states
    try:
        loop.run()
    finally:
        stack.checkpoint = None
    if all(stack.errors):
        raise loop.errors[0]
    return columns_of_members([own.session.records[own.first_record :] for own in loop.members])


def _begin(
    stack: StackSession, resumes: bool, steps: int, epochs: int, validation: Any, metrics: Sequence[Any]
) -> None:
    """Set the attributes by which callbacks know the fit that begins, and the lengths of schedules."""
    names = [f"validation_{name}" for name in ("loss", *(one.name for one in metrics))]
    measures = ("loss", *(names if validation is not None else ()))
    columns = stack.features, stack.targets
    for session in stack.members:
        session.features, session.targets = columns
        session.stopped, session.kept, session.resumes, session.measures = None, None, resumes, measures
        if isinstance(schedule := session.optimizer.learning_rate, InEpochs):
            session.take_optimizer(with_rate(session.optimizer, schedule.bound(steps, epochs)))


def _callbacks(
    given: Callbacks, trainers: Sequence[Any], known: Sequence[Sequence[Any]]
) -> tuple[list[Callbacks], Callbacks]:
    """Return the callbacks of each member, copies beside those that are known, and those of all members together."""
    own, shared = [], Callbacks([one for one in given.all if not one.each_member])
    for k, trainer in enumerate(trainers):
        copies = [deepcopy(one) for one in given.all if one.each_member]
        own.append(Callbacks([*(known[k] if known else ()), *copies]))
        own[-1].trainer = trainer
    shared.trainer = given.trainer
    return own, shared


def _check(request: Request) -> None:
    for name in ("micro_batch", "steps", "validation_split", "training_metrics"):
        if getattr(request, name) is not None:
            raise InputError(f"{name} is given; a trainer with members does not have it yet")
    if request.Y is None:
        raise InputError("a trainer with members takes X and Y, arrays in memory, and no batches")


def _batches(stack: StackSession, request: Request, places: Sequence[Any] | None) -> MemberBatches:
    """Return the batches of the members."""
    first, w = stack.first, request.sample_weight
    own = w is not None and len(shape_of(w)) == 2
    found = make_batches(
        first, "", request.X, request.Y, None if own else w, request.class_weight, request.batch_size,
        first.rng if request.shuffle else None, learns=True,
    )  # fmt: skip
    if not isinstance(found, Batches):
        raise InputError("a trainer with members takes samples that fit into memory: arrays, no files")
    X, Y, weights = found.data
    if own:
        weights = stack.backend.asarray(_own_weights(w, stack.K, found.m, stack.dtype))
    rngs = [session.rng for session in stack.members] if request.shuffle else None
    return MemberBatches(stack.backend, X, Y, weights, request.batch_size, rngs, [*range(stack.K)], places)


def _own_weights(w: Any, K: int, m: int, dtype: str) -> Any:
    found = host.numbers("sample_weight", w, dtype)
    if found.shape != (K, m) or (found < 0).any() or not found.any(axis=-1).all():
        raise InputError(
            f"sample_weight of shape {found.shape} must be (m,), or (K, m) = ({K}, {m}) of numbers >= 0, some of each "
            "member above 0"
        )
    return found
