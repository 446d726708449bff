"""One fit of a stack, from its arguments to the histories of its members."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnx.batches.members import MemberBatches
from nnx.callbacks.base import Callbacks
from nnx.callbacks.checkpoints import Checkpoints
from nnx.callbacks.moving_average import MovingAverage
from nnx.errors import DivergenceError, InputError
from nnx.errors.texts import shape_of
from nnx.metrics.history import History, columns_of_members
from nnx.optimizers import with_rate
from nnx.optimizers.in_epochs import InEpochs
from nnx.train.fit import IN_A_FIT, measured_names, plan, same_columns, warn_of_bytes, warn_of_one_step
from nnx.train.request import Request, checked
from nnx.train.stack_loop import StackLoop
from nnx.train.stack_memory import check_room, needed, parts, room
from nnx.train.stack_resume import resume_members, resume_stack
from nnx.train.stack_samples import StackSamples, stack_samples
from nnx.train.stack_session import StackSession


def fit_stack(
    stack: StackSession,
    asked: Request,
    trainers: Sequence[Any],
    callbacks: Sequence[Sequence[Any]] = (),
    places: Sequence[Any] | None = None,
    checkpoints: Sequence[Path] = (),
    stacklevel: int = 3,
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
    stacklevel : int
        As of `nnx.train.fit.fit`.

    Raises
    ------
    DivergenceError
        When all members have diverged; it names the reason of the first.
    """
    if stack.checkpoint is not None:
        raise InputError(IN_A_FIT)
    request = checked(asked, stack.network)
    columns = stack.features, stack.targets
    try:
        samples = stack_samples(stack, request, places)
    except InputError:
        stack.features, stack.targets = columns
        raise
    batches = samples.batches
    resumes, unbound = request.resume is not None or bool(checkpoints), stack.optimizers
    _begin(stack, resumes, request.epochs, samples)
    if batches.m is not None and batches.steps is not None:
        stack.work += stack.take_numba_if_worth(batches.m * request.epochs, batches.steps * request.epochs)
    try:
        rounds = _rounds(stack, request, samples)
    except BaseException:
        stack.optimizers = unbound
        raise
    if len(rounds) > 1:
        del samples, batches  # each round has its own
        return _in_rounds(rounds, stack, asked, trainers, callbacks, places, checkpoints, stacklevel + 2)
    weighted = isinstance(batches, MemberBatches) and batches.data[2] is not None
    together = stack.stack(own_weights=weighted)
    own, shared = _callbacks(request.callbacks, trainers, callbacks)
    measured = samples.validation, samples.training, samples.metrics
    its_plan = plan(request, batches, samples.validation, samples.metrics, samples.held is not None)
    loop = StackLoop(together, batches, request.epochs, own, shared, *measured, its_plan)
    if resumes:
        ours = stack.features, stack.targets
        try:
            resume_members(loop, checkpoints) if checkpoints else resume_stack(loop, request.resume)
        except BaseException:
            stack.optimizers = unbound
            raise
        if not same_columns(stack, *ours):  # again, with batches whose columns have the checkpoint's order
            return fit_stack(stack, asked, trainers, callbacks, places, checkpoints, stacklevel + 1)
    warn_of_bytes(stack.first, asked, stacklevel + 1)
    stack.failures, stack.checkpoint = loop.errors, shared.states
    try:
        loop.run()
    finally:
        _end(stack)
    if all(stack.errors):
        raise all_diverged(stack)
    if not request.epochs_given and request.Y is not None:
        warn_of_one_step(stack.first, stacklevel + 1)
    return columns_of_members([own.session.records[own.first_record :] for own in loop.members])


def all_diverged(stack: StackSession) -> DivergenceError:
    """Return the error for a stack whose every member has diverged."""
    first = stack.failures[0]
    return (
        first if stack.K == 1 else DivergenceError(f"all {stack.K} members have diverged; the first: {first}")
    )


def _begin(stack: StackSession, resumes: bool, epochs: int, samples: StackSamples) -> None:
    """Set the attributes by which callbacks know the fit that begins, and the lengths of schedules."""
    measures, columns = measured_names(*samples[1:4]), (stack.features, stack.targets)
    for k, session in enumerate(stack.members):
        session.features, session.targets = columns
        session.stopped, session.kept, session.resumes, session.measures = None, None, resumes, measures
        session.held_out = None if samples.held is None else samples.held[k]
        if isinstance(schedule := session.optimizer.learning_rate, InEpochs):
            bound = schedule.bound(samples.batches.steps, epochs)
            session.take_optimizer(with_rate(session.optimizer, bound))


def _end(stack: StackSession) -> None:
    """Forget the position of the fit, which is over."""
    stack.checkpoint = None
    for session in stack.members:
        session.checkpoint = None


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


def _rounds(stack: StackSession, request: Request, samples: StackSamples) -> list[range]:
    """Return the members that train at once, round by round; an InputError if there must be several unasked."""
    K, validation = stack.K, samples.validation
    need = needed(stack.first, K, samples.batches, 0 if validation is None else validation.m or 0)

    def free() -> int | None:
        return stack.backend.memory().free

    if not request.rounds:
        check_room(
            K, need, free, "Give fewer members; or, in Python, fit(rounds=True) trains as many at once as fit"
        )
        return parts(K, K)
    found = parts(K, room(K, need, free))
    given = [one for one in request.callbacks.all if isinstance(one, Checkpoints | MovingAverage)]
    if len(found) > 1 and not samples.batches.again:
        raise InputError(
            f"the batches can be gone through but once, and the members train in {len(found)} rounds; give a list of "
            "batches, or a function that returns a new iterator"
        )
    if len(found) > 1 and (given or request.resume is not None):
        name = type(given[0]).__name__ if given else "resume"
        raise InputError(
            f"{name} is of all members at once, and they train in {len(found)} rounds; leave it out"
        )
    return found


def _in_rounds(
    rounds: Sequence[range],
    stack: StackSession,
    asked: Request,
    trainers: Sequence[Any],
    callbacks: Sequence[Sequence[Any]],
    places: Sequence[Any] | None,
    checkpoints: Sequence[Path],
    stacklevel: int,
) -> History:
    """Train the members round by round, each round as a stack of its own, or in rounds itself; see `fit_stack`."""
    before, w = [len(session.records) for session in stack.members], asked.sample_weight
    stack.failures, stack.checkpoint = {}, list  # without callbacks' states, as no fit in rounds is resumed
    try:
        for part in rounds:
            own = slice(part.start, part.stop)
            one, some = StackSession.of(stack.members[own]), Callbacks(asked.callbacks.all)
            some.trainer = type(trainers[0])._of(one)
            weights = w[own] if w is not None and len(shape_of(w)) > 1 else w
            its = replace(asked, callbacks=some, sample_weight=weights)
            given = trainers[own], callbacks[own], None if places is None else places[own], checkpoints[own]
            try:
                fit_stack(one, its, *given, stacklevel)
            except DivergenceError:  # all of this round, and perhaps none of another one
                if len(one.failures) < one.K:
                    raise
            finally:
                stack.failures |= {part[k]: error for k, error in one.failures.items()}
                one.release()
    finally:
        _end(stack)
    if len(stack.failures) == stack.K:
        raise all_diverged(stack)
    return columns_of_members([x.records[n:] for x, n in zip(stack.members, before, strict=True)])
