"""The arguments of a fit, checked."""

from dataclasses import dataclass, replace
from typing import Any

from nnx.batches.rows import pair_as_rows
from nnx.batches.source import Rows
from nnx.callbacks.base import Callbacks
from nnx.errors import InputError, as_path, flag, number, positive_int
from nnx.model.network import Network


@dataclass(frozen=True)
class Request:
    """The arguments of `Trainer.fit`; its docstring describes them.

    Attributes
    ----------
    epochs_given : bool
        Whether `epochs` was given. Without it, it is 1.
    callbacks : Callbacks
        Those that were given, and one that shows the progress, if it is to be shown.
    """

    X: Any
    Y: Any
    epochs: Any
    batch_size: Any
    validation: Any
    shuffle: Any
    callbacks: Callbacks
    sample_weight: Any = None
    class_weight: Any = None
    metrics: Any = None
    micro_batch: Any = None
    steps: Any = None
    resume: Any = None
    rows: Any = False
    validation_split: Any = None
    training_metrics: Any = None
    rounds: Any = False
    epochs_given: bool = True


def checked(asked: Request, network: Network) -> Request:
    """Return a request whose numbers, flags and paths are checked. Samples as rows are marked as `Rows`.

    Raises
    ------
    InputError
        When an argument has no meaning, alone or beside the others.
    """
    epochs = positive_int("epochs", 1 if asked.epochs is None else asked.epochs)
    resume = asked.resume
    if resume is not None:
        resume = as_path("resume", resume, "a folder of checkpoints, or one of them")
    shuffle = flag("shuffle", asked.shuffle)
    steps = None if asked.steps is None else positive_int("steps", asked.steps)
    batch_size = asked.batch_size
    if batch_size is not None:
        batch_size = positive_int("batch_size", batch_size)
        if asked.Y is None:
            raise InputError("batch_size is given, but no Y: batches that are handed in have their own sizes")
    micro_batch = asked.micro_batch
    if micro_batch is not None:
        micro_batch = positive_int("micro_batch", micro_batch)
        if network.whole_batches:
            raise InputError(
                "micro_batch cannot be used with BatchNorm, whose statistics are those of the whole batch; "
                "leave it out, choose a smaller batch_size, or use LayerNorm"
            )
    X, Y, validation = asked.X, asked.Y, asked.validation
    if flag("rows", asked.rows):
        X, Y = pair_as_rows("", X, Y, (network.n[0], network.n_targets))
        validation = _validation_as_rows(validation, network)
    return replace(
        asked,
        X=X,
        Y=Y,
        epochs=epochs,
        batch_size=batch_size,
        validation=validation,
        shuffle=shuffle,
        micro_batch=micro_batch,
        steps=steps,
        resume=resume,
        rounds=flag("rounds", asked.rounds),
        epochs_given=asked.epochs is not None,
    )


def checked_split(asked: Request) -> float:
    """Return the share of the samples that `validation_split` holds out."""
    share = number(
        "validation_split",
        asked.validation_split,
        "between 0 and 1, the share of the samples",
        lambda x: 0 < x < 1,
    )
    if asked.validation is not None:
        raise InputError("validation and validation_split are both given; give one of them")
    if asked.Y is None:
        raise InputError(
            "validation_split is for samples X and Y in memory; batches that are given cannot be split. Give "
            "validation=, batches of others"
        )
    return share


def checked_validation(validation: Any, epochs: int) -> tuple[Any, ...]:
    """Return a validation that was handed in as (X, Y) or (X, Y, weights); Y is None where X is batches."""
    if is_batches(validation):
        if hasattr(validation, "__next__") and epochs > 1:
            raise InputError(
                "the validation, an iterator, can be gone through but once, and there are several epochs; "
                "give a list of batches, or a function that returns a new iterator"
            )
        return validation, None
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        raise InputError(
            f"validation must be a pair (X, Y), not {type(validation).__name__}; for a share of the samples "
            "give validation_split=0.2"
        )
    return tuple(validation)


def is_batches(validation: Any) -> bool:
    """Whether a validation is batches, and no (X, Y) or (X, Y, sample_weight)."""
    if isinstance(validation, list):
        return bool(validation) and all(isinstance(batch, tuple) for batch in validation)
    return not isinstance(validation, tuple) and (
        callable(validation) or isinstance(validation, Rows) or hasattr(validation, "__next__")
    )


def _validation_as_rows(validation: Any, network: Network) -> Any:
    """Return a validation whose samples are rows, marked as `Rows`."""
    if is_batches(validation):
        return validation if isinstance(validation, Rows) else Rows(validation)
    if isinstance(validation, tuple | list) and len(validation) in (2, 3):
        X, Y, *weights = validation
        return *pair_as_rows("the validation's ", X, Y, (network.n[0], network.n_targets)), *weights
    return validation
