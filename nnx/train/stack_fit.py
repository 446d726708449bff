"""One fit of a stack, from its arguments to the histories of its members."""

from copy import deepcopy
from typing import Any

from nnx.array import host
from nnx.batches import Batches
from nnx.batches.members import MemberBatches
from nnx.callbacks.base import Callbacks
from nnx.errors import InputError
from nnx.optimizers import with_rate
from nnx.optimizers.in_epochs import InEpochs
from nnx.train.evaluation import find_metrics, held_out
from nnx.train.request import Request, checked, checked_validation
from nnx.train.samples import make_batches
from nnx.train.stack_loop import StackLoop
from nnx.train.stack_session import StackSession


def fit_stack(stack: StackSession, asked: Request, callbacks: list[Callbacks]) -> list[list[dict[str, Any]]]:
    """Train all members; return the records of this fit of each.

    Parameters
    ----------
    stack : StackSession
    asked : Request
        The arguments of `Trainer.fit` as they were handed in. `sample_weight` may be (K, m).
    callbacks : list of K Callbacks
        Each member's own.
    """
    request = checked(asked, stack.network)
    _check(request)
    batches = _batches(stack, request)
    validation = None
    if request.validation is not None:
        given = checked_validation(request.validation, request.epochs)
        validation = held_out(stack.first, "the validation's ", *given)
    metrics = find_metrics(stack.first, request.metrics) if validation is not None else ()
    names = [one.name for one in metrics]
    measures = ("loss", *(f"validation_{name}" for name in ("loss", *names) if validation is not None))
    for session in stack.members:
        session.features, session.targets = stack.first.features, stack.first.targets
        session.stopped, session.kept, session.resumes, session.measures = None, None, False, measures
        if isinstance(schedule := session.optimizer.learning_rate, InEpochs):
            session.take_optimizer(
                with_rate(session.optimizer, schedule.bound(batches.steps, request.epochs))
            )
    first_record = [len(session.records) for session in stack.members]
    loop = StackLoop(
        stack.stack(batches.data[2] is not None),
        batches,
        request.epochs,
        callbacks,
        validation,
        None,
        metrics,
    )
    try:
        loop.run()
    finally:
        stack.errors = [loop.errors.get(k) for k in range(stack.K)]
    if all(stack.errors):
        raise stack.errors[0]
    return [session.records[start:] for session, start in zip(stack.members, first_record, strict=True)]


def own_callbacks(given: Callbacks, K: int) -> list[Callbacks]:
    """Return callbacks for each of K members: copies, for each remembers what it has seen of its member."""
    return [Callbacks(deepcopy(given.all)) for _ in range(K)]


def _check(request: Request) -> None:
    for name in ("micro_batch", "steps", "resume", "validation_split", "training_metrics"):
        if getattr(request, name) is not None:
            raise InputError(f"{name} is given; a trainer with members does not have it yet")
    if request.Y is None:
        raise InputError("a trainer with members takes X and Y, arrays in memory, and no batches")


def _batches(stack: StackSession, request: Request) -> MemberBatches:
    """Return the batches of the members."""
    first, w = stack.first, request.sample_weight
    own = w is not None and len(getattr(w, "shape", ())) == 2
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
    return MemberBatches(stack.backend, X, Y, weights, request.batch_size, rngs, [*range(stack.K)])


def _own_weights(w: Any, K: int, m: int, dtype: str) -> Any:
    found = host.numbers("sample_weight", w, dtype)
    if found.shape != (K, m) or (found < 0).any() or not found.any(axis=-1).all():
        raise InputError(
            f"sample_weight of shape {found.shape} must be (m,), or (K, m) = ({K}, {m}) of numbers >= 0, some of each "
            "member above 0"
        )
    return found
