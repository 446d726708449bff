"""Parts of messages: values and counts as people write them, and the nearest of known names."""

from collections.abc import Iterable
from difflib import get_close_matches
from textwrap import shorten
from typing import Any


def first_line(error: BaseException) -> str:
    r"""Return what a library's error says, without its further lines.

    Examples
    --------
    >>> first_line(ValueError("no such device\nCompile with ..."))
    'no such device'
    """
    return shorten(next(iter(str(error).splitlines()), ""), 300, placeholder=" ...") or type(error).__name__


def count(n: int, noun: str) -> str:
    """Return n with its noun.

    Examples
    --------
    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def size(n: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> size(800), size(1_628_200), size(215e6), size(3e9), size(3e13)
    ('800 bytes', '1.6 MB', '215 MB', '3 GB', '30,000 GB')
    """
    if n < 1000:
        return count(round(n), "byte")
    k = (n >= 999.5e3) + (n >= 999.5e6)
    many, unit = n / 1000 ** (k + 1), ("kB", "MB", "GB")[k]
    return f"{many:,.0f} {unit}" if many >= 99.95 else f"{many:.1f} {unit}".replace(".0 ", " ")


def listed(names: Iterable[object], most: int) -> str:
    """Return the first few names, and the number of others.

    Examples
    --------
    >>> listed("abcde", 3), listed("abc", 3)
    ('a, b, c and 2 more', 'a, b, c')
    """
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


SYNONYMS = {
    "swish": "silu", "logistic": "sigmoid", "linear": "identity", "hardtanh": "hard_tanh",
    "sgd": "gradient_descent", "l-bfgs": "lbfgs",
    "mse": "half_squared_error", "squared_error": "half_squared_error", "mae": "absolute_error",
    "poisson": "half_poisson_deviance", "log_loss": "cross_entropy",
    "half_squared_error": "mean_squared_error", "mean_squared_error": "half_squared_error",
    "absolute_error": "mean_absolute_error", "mean_absolute_error": "absolute_error",
    "sparse_categorical_crossentropy": "cross_entropy", "categorical_crossentropy": "cross_entropy",
    "bce": "binary_cross_entropy", "nll": "cross_entropy", "l1_loss": "absolute_error",
    "cross_entropy": "log_loss", "binary_cross_entropy": "log_loss", "gradient_descent": "sgd",
    "kaiming": "he", "xavier": "glorot",
    "acc": "accuracy", "auc": "roc_auc", "rmse": "root_mean_squared_error", "top_k_accuracy": "top_k",
    "sensitivity": "recall", "r2_score": "r2", "pytorch": "torch", "np": "numpy", "gd": "gradient_descent",
    "rms": "rmsprop", "exponential_decay": "exponential", "onecycle": "one_cycle", "count": "counts",
    "poisson_regression": "counts", "bf16": "bfloat16",
    "classify": "classification", "classifier": "classification", "regressor": "regression",
    "on_epoch_end": "on_epoch", "on_epoch_begin": "on_epoch", "on_train_begin": "on_fit_start",
    "on_train_end": "on_fit_end", "on_train_batch_end": "on_step", "on_batch_end": "on_step",
    # options of the command line
    "lr": "learning-rate", "alpha": "learning-rate", "eta": "learning-rate", "bs": "batch-size", "batch": "batch-size",
    "epoch": "epochs",
    "hidden": "layers", "hidden-layers": "layers", "units": "layers", "act": "activation", "wd": "weight-decay",
    "optim": "optimizer", "opt": "optimizer", "sched": "schedule", "scheduler": "schedule",
    "patience": "early-stopping", "label": "target", "y": "target",
    "exclude": "drop", "ignore": "drop", "sep": "delimiter",
    "separator": "delimiter", "val": "validation", "valid": "validation", "test-size": "test", "metric": "metrics",
    "cv": "folds", "k-folds": "folds", "normalization": "norm", "clip": "clip-norm", "force": "overwrite",
    "output": "out", "continue": "resume", "random-state": "seed", "class-weights": "class-weight", "gpu": "device",
    # commands
    "fit": "train", "eval": "evaluate", "test": "evaluate", "score": "evaluate", "inference": "predict",
    "infer": "predict", "info": "show", "summary": "show", "benchmark": "bench", "devices": "backends",
}  # fmt: skip
"""Names in other libraries, and frequent short forms, with nnx's names."""


def synonym(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that is another one in another case, or that nnx has for it; None if there is none.

    Examples
    --------
    >>> synonym("Accuracy", ["accuracy"]), synonym("sensitivity", ["recall"]), synonym("recalled", ["recall"])
    ('accuracy', 'recall', None)
    """
    name, lower = given.lower(), {one.lower(): one for one in known}
    for _ in range(3):  # "mse" is a loss and a metric under names of their own
        if name in lower:
            return lower[name]
        name = SYNONYMS.get(name, "")
    return None


def nearest(given: object, known: Iterable[str], most: int = 2) -> list[str]:
    """Return the known names that a user who typed another one probably meant.

    Examples
    --------
    >>> nearest("Survived", ["survived", "sex"]), nearest("sgd", ["adam", "gradient_descent"])
    (['survived'], ['gradient_descent'])
    """
    wanted = given.strip().lower()[:100] if isinstance(given, str) else ""
    lower = {name.lower(): name for name in known}
    if wanted.startswith("val_"):
        wanted = f"validation_{wanted[4:]}"
    if (same := synonym(wanted, lower)) is not None:
        return [lower[same]]
    cutoff = 0.67 if len(wanted) > 3 else 0.6  # of three letters one may be wrong
    return [lower[name] for name in get_close_matches(wanted, lower, n=most, cutoff=cutoff)]


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return a question after the nearest of the known names, or nothing.

    Examples
    --------
    >>> did_you_mean("rleu", ["relu", "tanh"]), did_you_mean("rleu", ["tanh"])
    ("Did you mean 'relu'? ", '')
    """
    near = nearest(given, known)
    return f"Did you mean {' or '.join(map(repr, near))}? " if near else ""


def shown(value: object, most: int = 120) -> str:
    """Return a value for people: its repr, cut; the shape and dtype of an array or a data frame.

    Examples
    --------
    >>> shown("adam"), shown(10**400), shown("x" * 500, most=20)
    ("'adam'", 'an integer of 1,329 bits', "'xxxxxxxxxxxxxxxx...")
    """
    kind = type(value)
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length():,} bits"
    try:
        if shape := shape_of(value):
            dtype = f", {value.dtype}" if hasattr(value, "dtype") else ""
            return f"a {kind.__module__.partition('.')[0]} {kind.__name__} of shape {shape}{dtype}"
        if isinstance(value, str | bytes | bytearray) and len(value) > most:
            value = value[:most]
        elif isinstance(value, list | tuple) and kind in (list, tuple) and len(value) > 8:
            return f"a {kind.__name__} of {len(value):,}, [{', '.join(shown(x, 20) for x in value[:3])}, ...]"
        text = repr(value)
    except Exception:  # a class of the user's may raise any error
        text = f"an instance of {kind.__module__}.{kind.__qualname__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an array or a data frame; () for another object."""
    try:
        return () if isinstance(value, type) else tuple(value.shape)
    except Exception:  # not an array; a class of the user's may raise any error
        return ()


def scalar(value: Any) -> Any:
    """Return the number of a 0-d array of any library as a Python number; another object as it is.

    Examples
    --------
    >>> import numpy as np
    >>> scalar(np.asarray(3)), scalar("3")
    (3, '3')
    """
    if isinstance(value, (int | float | str | None, type)):
        return value
    try:
        if hasattr(value, "dtype") and value.shape == () and not hasattr(value, "mask"):
            return value.item()
    except Exception:  # not an array, or one whose number cannot be read
        pass
    return value
