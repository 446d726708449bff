"""One fit of a stack, from its arguments to the histories of its members."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnx.batches.members import MemberBatches
from nnx.callbacks.base import Callbacks
from nnx.callbacks.checkpoints import Checkpoints
from nnx.callbacks.moving_average import MovingAverage
from nnx.errors import DivergenceError, InputError, LeftOutWarning
from nnx.metrics.history import History, columns_of_members
from nnx.support.limits import available
from nnx.support.warned import warn
from nnx.train.fit import (
    IN_A_FIT,
    begin,
    bind_schedule,
    measured_names,
    plan,
    same_columns,
    warn_of_bytes,
    warn_of_one_step,
)
from nnx.train.request import Request, checked
from nnx.train.stack_loop import StackLoop
from nnx.train.stack_memory import FILE_STATES, Need, check_room, needed, parts, room
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
    batches, estimate, unbound = samples.batches, 0.0, stack.optimizers
    columns = stack.features, stack.targets
    before = [session.outcome for session in stack.members]
    if batches.m is not None and batches.steps is not None:
        estimate = stack.take_numba_if_worth(batches.m * request.epochs, batches.steps * request.epochs)
    try:
        for session in stack.members:
            bind_schedule(session, batches.steps, request.epochs)
        rounds = _rounds(stack, request, samples, of_one_file=not callbacks)
        stack.stop_reason, stack.features, stack.targets = None, *columns
        resumes, measures = request.resume is not None or bool(checkpoints), measured_names(*samples[1:4])
        for session, held in zip(stack.members, samples.held or [None] * stack.K, strict=True):
            begin(session, resumes, measures, held)
            session.untrained = len(rounds) > 1 and not (session.records or session.steps)
        loops = [_loop(stack, part, request, samples, trainers, callbacks) for part in rounds]
        if request.resume is not None:
            resume_stack(loops[0][1], request.resume)
        for part, (_, loop) in zip(rounds, loops if checkpoints else (), strict=False):
            resume_members(loop, checkpoints[part.start : part.stop])
    except BaseException:
        stack.optimizers = unbound
        for session, outcome in zip(stack.members, before, strict=True):
            session.outcome = outcome
        raise
    if not same_columns(stack, *columns):  # again, with batches whose columns have the checkpoint's order
        return fit_stack(stack, asked, trainers, callbacks, places, checkpoints)
    warn_of_bytes(stack.first, asked)
    first_records = [member.first_record for _, loop in loops for member in loop.members]
    _run(stack, loops, estimate)
    if all(stack.errors):
        first, K = stack.errors[0], stack.K
        raise DivergenceError(f"{f'all {K} members have diverged; the first: ' if K > 1 else ''}{first}")
    if not request.epochs_given and request.Y is not None:
        warn_of_one_step(stack.first)
    return columns_of_members([x.records[n:] for x, n in zip(stack.members, first_records, strict=True)])


def warn_of_left_out(stack: StackSession) -> None:
    """Warn of members that take no part in the ensemble: they diverged in a fit, or it ended before their round."""
    if which := stack.said_of_left_out():
        first = next((error for k in stack.left_out if (error := stack.errors[k])), None)
        why = "" if first is None else f", and its errors say why. The first: {first}"
        warn(f"{which}; the trainer's ensemble leaves out such members{why}", LeftOutWarning)


def _loop(
    stack: StackSession,
    part: range,
    request: Request,
    samples: StackSamples,
    trainers: Sequence[Any],
    known: Sequence[Sequence[Any]],
) -> tuple[StackSession, StackLoop]:
    """Return the members of a round as a session, and the loop that trains them.

    Each member has its known callbacks, and copies of those that are each member's.
    """
    given, one, trainer = request.callbacks.all, stack, request.callbacks.trainer
    if len(part) < stack.K:
        one, samples = StackSession.of(stack.members[part.start : part.stop]), samples.of(part)
        trainer = type(trainers[0])._of(one)
    shared = Callbacks([callback for callback in given if not callback.each_member])
    shared.trainer = trainer
    callbacks = []
    for k in part:
        copies = [deepcopy(callback) for callback in given if callback.each_member]
        callbacks.append(Callbacks([*(known[k] if known else ()), *copies]))
        callbacks[-1].trainer = trainers[k]
    batches, validation, training, metrics, held = samples
    weighted = isinstance(batches, MemberBatches) and batches.data[2] is not None
    one.plan = arguments = plan(request, batches, validation, metrics, held is not None)
    return one, StackLoop(
        one.stack(own_weights=weighted), batches, request.epochs, callbacks, shared, validation, training, metrics,
        arguments,
    )  # fmt: skip


def _run(stack: StackSession, loops: list[tuple[StackSession, StackLoop]], estimate: float) -> None:
    """Train the members round by round. After `trainer.stop()` the members of later rounds do not train."""
    stack.checkpoint = list  # of several rounds: no fit in rounds is resumed
    try:
        while loops:
            one, loop = loops.pop(0)  # the round before has freed its memory
            one.checkpoint, records = loop.shared.states, sum(map(len, one.records))
            for session in one.members:
                session.untrained = False
            try:
                loop.run()
            finally:
                _end(one)
                stack.work += estimate * (sum(map(len, one.records)) - records) / (stack.K * loop.epochs)
                if one is not stack:
                    one.release()
            why = one.stop_reason or stack.stop_reason
            if why is not None:
                for session in (session for later, _ in loops for session in later.members):
                    session.stopped = why
                break
    finally:
        _end(stack)


def _end(stack: StackSession) -> None:
    """Forget the position of the fit, which is over."""
    stack.checkpoint = None
    for session in stack.members:
        session.checkpoint = None


def _rounds(stack: StackSession, request: Request, samples: StackSamples, of_one_file: bool) -> list[range]:
    """Return the members that train at once, round by round; an InputError if there must be several unasked."""
    K, validation = stack.K, samples.validation
    need = needed(stack.first, K, samples.batches, 0 if validation is None else validation.m or 0)

    def free() -> int | None:
        return stack.backend.memory().free

    if request.resume is not None or not request.rounds:
        advice = "Give fewer members; or, in Python, fit(rounds=True) trains as many at once as fit"
        if request.resume is not None:
            advice = "A fit that goes on has all members at once: free memory, or train anew"
        check_room(K, need, free, advice)
        return parts(K, K)
    file = FILE_STATES * need.taken if of_one_file else 0
    on_host = need if stack.backend.device == "cpu" else Need(0, 0)
    one = Need(file, on_host.shared + on_host.each, need.taken)
    check_room(K, one, available, "Give fewer members: a file holds all", "members and their model file")
    found = parts(K, room(K, need._replace(shared=need.shared + (K * file if on_host is need else 0)), free))
    of_all = (one for one in request.callbacks.all if isinstance(one, Checkpoints | MovingAverage))
    given = [one for one in of_all if isinstance(one, MovingAverage) or not one.in_rounds]
    if len(found) > 1 and not samples.batches.again:
        raise InputError(
            f"the batches can be gone through but once, and the members train in {len(found)} rounds; give a list of "
            "batches, or a function that returns a new iterator"
        )
    if len(found) > 1 and given:
        raise InputError(
            f"{type(given[0]).__name__} is of all members at once, and they train in {len(found)} rounds; leave it out"
        )
    return found
