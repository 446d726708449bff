"""One fit, from its arguments to its history: it makes batches, takes up a checkpoint, and runs the loop."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from nnx.array import host
from nnx.batches import Batches, Provider
from nnx.batches.iterated import Iterated
from nnx.batches.source import Rows
from nnx.batches.split import Split, hold_out
from nnx.errors import DivergenceError, InputError, integer, scalar
from nnx.metrics.history import History
from nnx.model.layers import Dense
from nnx.model.network import Network
from nnx.optimizers import with_rate
from nnx.optimizers.in_epochs import InEpochs
from nnx.optimizers.lbfgs import LBFGS
from nnx.port.failures import together
from nnx.support.warned import warn
from nnx.train.evaluation import check_metrics, evaluation_size, find_metrics, held_out
from nnx.train.full_batch_loop import FullBatchLoop
from nnx.train.loop import FitLoop
from nnx.train.ranks import check_alike, check_kind
from nnx.train.request import Request, checked, checked_split, checked_validation
from nnx.train.resume import resume
from nnx.train.samples import checks, make_batches
from nnx.train.session import Session
from nnx.train.stack import OwnState

LARGE_BYTE = 100
"""fit warns of a byte in X above this: X is likely an unscaled picture."""

IN_A_FIT = "this trainer is in the middle of a fit; a callback may evaluate, save and stop, not fit"


@dataclass(frozen=True)
class Samples:
    """The samples of a fit as batches, the metrics that are measured on them, and the work of the fit."""

    batches: Provider
    validation: Provider | None
    training: Provider | None
    metrics: tuple[Any, ...]
    split: Split | None
    work: float


def fit(session: Session, asked: Request) -> History:
    """Train a session as `Trainer.fit` describes; return the history of this fit.

    Parameters
    ----------
    session : Session
    asked : Request
        The arguments as they were handed in.
    """
    with together(session.communicator):
        return _fit(session, asked)


def _fit(session: Session, asked: Request) -> History:
    if session.checkpoint is not None:
        raise InputError(IN_A_FIT)
    if isinstance(session.program, OwnState):  # it was in a stack, and goes on alone
        session.take_backend(session.backend)
    request = checked(asked, session.network)
    samples = _samples(session, request)
    request.callbacks.rank = session.communicator.rank
    agreed = plan(request, samples.batches, samples.validation, samples.metrics, samples.split is not None)
    compared = {**agreed, "training_metrics": request.training_metrics}
    check_alike(
        session, request.epochs, request.callbacks.names, compared, samples.batches, samples.validation
    )
    session.take_share(getattr(samples.batches, "start", 0) if session.network.random else 0)
    kind = FullBatchLoop if isinstance(session.optimizer, LBFGS) else FitLoop
    loop = kind(
        session,
        samples.batches,
        request.epochs,
        samples.validation,
        samples.training,
        samples.metrics,
        request.callbacks,
        agreed,
    )
    measures = measured_names(samples.validation, samples.training, samples.metrics)
    held_out = None if samples.split is None else samples.split.places
    unbound = session.optimizer
    before = session.outcome
    begin(session, request.resume is not None, measures, held_out)
    session.plan = agreed
    bind_schedule(session, samples.batches.steps, request.epochs)
    if request.resume is not None:
        try:
            ours = session.features, session.targets
            resume(session, loop, request.resume)
        except BaseException:
            session.take_optimizer(unbound)
            session.outcome = before
            raise
        if not same_columns(session, *ours):  # again, with batches whose columns have the checkpoint's order
            return _fit(session, asked)
    warn_of_bytes(session, asked)
    session.checkpoint = loop.checkpoint
    try:
        history = loop.run()
    except DivergenceError as error:
        session.failure = DivergenceError(str(error))  # without a traceback, which would keep the samples
        raise
    finally:
        session.checkpoint = None
        session.work += samples.work * loop.share_done
    if not request.epochs_given and kind is FitLoop and request.Y is not None:
        warn_of_one_step(session)
    return history


def _samples(session: Session, request: Request) -> Samples:
    """Return the samples of a fit. Later tables have the columns of this one."""
    check_kind(session.communicator, request.Y is None)
    before = session.features, session.targets
    split = None
    try:
        if request.validation_split is not None:
            split = _split(session, request)
        X, Y, sample_weight = split.train if split else (request.X, request.Y, request.sample_weight)
        batches = make_batches(
            session, "", X, Y, sample_weight, request.class_weight, request.batch_size,
            session.rng if request.shuffle else None, request.micro_batch, request.steps, learns=True,
        )  # fmt: skip
    except InputError:
        session.features, session.targets = before
        raise
    m, size = batches.m, request.batch_size
    work = 0.0
    if m is not None and batches.steps is not None:
        work = session.take_numba_if_worth(m * request.epochs, batches.steps * request.epochs)
    check_sizes(session.network, m, size)
    validation = validation_samples(session, split.held if split else request.validation, request.epochs)
    training = training_samples(session, request, batches, X, Y, sample_weight)
    metrics = metrics_of(session, request, validation, training)
    return Samples(batches, validation, training, metrics, split, work)


def in_shares(session: Session, samples: Provider) -> Provider:
    """Return samples that are measured, of several ranks in a batch for each."""
    size = session.communicator.size
    if size == 1 or not isinstance(samples, Batches):
        return samples
    return samples.some(None, min(samples.batch_size, -(-samples.m // size)), session.seed)


def check_sizes(network: Network, m: int | None, batch_size: int | None) -> None:
    """Raise an InputError if each batch would have a single sample, where BatchNorm needs two."""
    if network.whole_batches and m is not None and min(batch_size or m, m) == 1:
        raise InputError(
            f"each batch would have a single sample (m = {m}, batch_size = {batch_size}), on which BatchNorm "
            "cannot train; choose a larger batch_size, or use LayerNorm"
        )


def _split(session: Session, request: Request) -> Split:
    """Return the samples to train on and those held out by `validation_split`."""
    share, network = checked_split(request), session.network
    return hold_out(
        share,
        request.X,
        request.Y,
        request.sample_weight,
        request.class_weight,
        checks(session, learns=True),
        network.output,
        network.n[-1],
        session.seed,
    )


def validation_samples(session: Session, validation: Any, epochs: int) -> Provider | None:
    """Return the batches of a validation that was handed in; None: there is none."""
    if validation is None:
        return None
    return in_shares(session, held_out(session, "the validation's ", *checked_validation(validation, epochs)))


def training_samples_asked(request: Request, in_memory: bool) -> bool | int:
    """Return whether training samples are measured, or how many."""
    asked = request.training_metrics
    if asked is None:
        return request.metrics is not None and in_memory
    if isinstance(found := scalar(asked), bool):
        return found
    return integer("training_metrics", asked, 1, expected="True, False, None, or a positive integer")


def training_samples(
    session: Session, request: Request, batches: Provider, X: Any, Y: Any, sample_weight: Any
) -> Provider | None:
    """Return the samples that are trained on and measured after every epoch; None: none are."""
    asked = training_samples_asked(request, isinstance(batches, Batches))
    if not asked:
        return None
    size = evaluation_size(session)
    if isinstance(batches, Batches):
        return in_shares(session, batches.some(None if asked is True else asked, size, session.seed))
    if Y is None or asked is not True:
        raise InputError(
            f"training_metrics={asked} is for X and Y that are arrays; samples that are read piece by piece are "
            "measured with training_metrics=True, and batches that are given not at all"
        )
    return make_batches(session, "", X, Y, sample_weight, request.class_weight, size)


def metrics_of(session: Session, request: Request, *samples: Provider | None) -> tuple[Any, ...]:
    """Return the metrics to measure on samples, if there are any."""
    wanted = metrics_asked(session, request, *samples)
    for one in (one for one in samples if one is not None):
        if not isinstance(one, Iterated):  # such batches may be readable only once
            with closing(one.epoch()) as first:
                check_metrics(session, wanted, next(first)[0])
    return wanted


def metrics_asked(session: Session, request: Request, *samples: Provider | None) -> tuple[Any, ...]:
    """Return the metrics of samples, unchecked; none where there are no samples."""
    if any(one is not None for one in samples):
        return find_metrics(session, request.metrics)
    if request.metrics is None:
        return ()
    raise InputError(
        "metrics are given, and nothing to measure them on: give validation=(X, Y), or training_metrics=True"
    )


def plan(
    request: Request, batches: Provider, validation: Provider | None, metrics: Sequence[Any], split: bool
) -> dict[str, Any]:
    """Return the arguments that a checkpoint must agree with for the fit to go on."""
    found: dict[str, Any] = {
        "m": batches.m,
        "batch_size": request.batch_size,
        "micro_batch": request.micro_batch,
        "shuffle": request.shuffle,
        "steps": request.steps,
    }
    if validation is not None:
        found |= {"validation": validation.m, "metrics": [one.name for one in metrics]}
    if split:
        found |= {"validation_split": request.validation_split}
    weights = request.class_weight, request.sample_weight
    if any(one is not None for one in weights):
        found |= {"class_weight": repr(weights[0]), "sample_weight": weights[1] is not None}
    return found


def begin(session: Session, resumes: bool, measures: tuple[str, ...], held_out: Any) -> None:
    """Set the attributes by which callbacks know the fit that begins."""
    session.outcome = None, None, None, False
    session.resumes, session.measures, session.held_out = resumes, measures, held_out


def bind_schedule(session: Session, steps: int | None, epochs: int) -> None:
    """Give a schedule in epochs the steps of the fit."""
    if isinstance(schedule := session.optimizer.learning_rate, InEpochs):
        session.take_optimizer(with_rate(session.optimizer, schedule.bound(steps, epochs)))


def measured_names(
    validation: Provider | None, training: Provider | None, metrics: Sequence[Any]
) -> tuple[str, ...]:
    """Return the names of the numbers that a fit measures in every epoch."""
    names = [one.name for one in metrics]
    held = [f"validation_{name}" for name in ("loss", *names)] if validation is not None else []
    return ("loss", *(names if training is not None else ()), *held)


def same_columns(session: Any, features: list[str] | None, targets: list[str] | None) -> bool:
    """Return whether the columns of a resumed session, or of a stack's, have the order of its batches.

    Parameters
    ----------
    features, targets
        The columns of the batches, which the session gets where its checkpoint has none.
    """
    ours, saved = (features, targets), (session.features, session.targets)
    session.features, session.targets = saved[0] or ours[0], saved[1] or ours[1]
    return not any(mine and other and mine != other for mine, other in zip(ours, saved, strict=True))


def warn_of_bytes(session: Session, asked: Request) -> None:
    """Warn before the first step of X that is bytes as pictures have them."""
    if session.steps or not isinstance(session.network.layers[0], Dense):
        return
    largest = host.largest_byte(asked.X.x if isinstance(asked.X, Rows) else asked.X)
    if largest > LARGE_BYTE:
        warn(
            f"X holds bytes up to {largest}; a network learns best from features of a size around 1: "
            "divide X by 255, here and where the network is used"
        )


def warn_of_one_step(session: Session) -> None:
    """Warn after a fit of one step that was not told how many epochs to do."""
    if session.steps == 1 and session.stopped is None:
        warn(
            "one step of gradient descent was done: fit goes over the samples once, all in one step, unless it is "
            "told otherwise. Give epochs= and batch_size=, as in fit(X, Y, epochs=100, batch_size=32)"
        )
