"""The task of a target: classification, regression or counts, asked for or guessed."""

import re
from typing import Any

import numpy as np

from nnx.data import labels as label
from nnx.data.source import Samples
from nnx.errors import InputError, count, listed, unknown

TASKS = ("auto", "classification", "regression", "counts")
FEW = 20
"""The most different whole numbers that count as classes."""
SMALL = 10
"""The largest of them that counts as a class, unless it fits their number, as in 0 to 19. Larger: years, prices."""
EACH_CLASS = 5
"""The least rows of each class. The largest counts are rarer; classes seldom are."""
NAME_OF_CLASSES = re.compile(r"(class|label|category|kind|type|status|[a-z]*code)(id)?$")
"""The ends of target names with which any whole numbers are classes."""


def target_numbers(samples: Samples) -> Any:
    """Return the targets as numbers; of text that means none, as it is."""
    return samples.y if samples.numbers is None else samples.numbers


def find_task(samples: Samples, task: str) -> str:
    """Return "classification", "regression" or "counts", checking that the target allows it."""
    return _checked_task(samples, task)[0]


def _checked_task(samples: Samples, task: str) -> tuple[str, str | None]:
    """Return the task, checking that the target allows it, and of "auto" what it is guessed from."""
    why = None
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    y = target_numbers(samples)
    kind = y.dtype.kind
    where = f"the target {samples.target!r}"
    if kind not in "biufU":
        raise InputError(f"{where} holds {y.dtype}; expected text or numbers")
    if len(y) == 1:
        raise InputError("the data have one row; expected many: to learn from some, and to test on others")
    bad = np.flatnonzero(~np.isfinite(y)) if kind == "f" else np.empty(0, int)
    if len(bad):
        raise InputError(
            f"{where} is NaN or infinite in {count(len(bad), 'row')}, the first being row {bad[0] + 1} (counted from "
            "1, without the header); remove these rows"
        )
    different = len(samples.classes[0])
    whole = kind != "f" or bool((y == np.floor(y)).all())
    if task == "auto":
        task, why = _guess(samples)
    if task != "classification" and kind not in "biuf":
        raise InputError(f"{where} holds text such as {str(y[0])!r}; expected numbers for {task}")
    if task != "classification" and len(np.unique(y)) == 1:
        raise InputError(f"{where} is {y[0]} in all {len(y):,} rows; expected numbers that differ")
    if task == "counts" and (y < 0).any():
        raise InputError(
            f"{where} is negative in {count(int((y < 0).sum()), 'row')}, such as {y[y < 0][0]}; counts are >= 0. "
            "Correct these rows, or say --task regression"
        )
    if task == "classification":
        if not whole:
            raise InputError(
                f"{where} holds fractions such as {y[y != np.floor(y)][0]}; expected class labels"
            )
        if different < 2:
            raise InputError(f"{where} has one class only, {str(samples.y[0])!r}; expected two or more")
        if different > max(2, len(y) // 2):
            raise InputError(
                f"{where} has {different} different values in {len(y)} rows, such as {str(samples.y[0])!r}; expected "
                f"classes that repeat, or {'the task regression' if kind in 'biuf' else 'numbers alone'}"
            )
    return task, why


def reason(samples: Samples) -> str:
    """Return the property of the target from which `find_task` guesses the task.

    Examples
    --------
    >>> reason(Samples(np.ones((3, 1)), np.array(["a", "b", "a"]), ["x"], "kind"))
    "'kind' holds text"
    """
    return _guess(samples)[1]


def _guess(samples: Samples) -> tuple[str, str]:
    """Return the task, and the property of the target from which it is guessed."""
    y, target = target_numbers(samples), repr(samples.target)
    if y.dtype.kind in "Ub":
        what = "booleans" if label.kind(samples.classes[0]) == "booleans" else "text"
        same = label.alike(samples.classes[0]) if what == "text" else []
        but = f"; {listed(map(repr, same), 4)} differ in case alone" if same else ""
        return "classification", f"{target} holds {what}{but}"
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        return "regression", f"{target} holds fractions"
    if label.has_leading_zeros(samples.classes[0]):
        return "classification", f"{target} holds numbers with leading zeros, as codes have"
    values, times = np.unique(y, return_counts=True)
    k, rarest, largest = len(values), times.argmin(), max(values.tolist(), key=abs)
    what = f"{target} holds {count(k, 'different whole number')} in {count(len(y), 'row')}"
    if k <= 2:
        return "classification", what
    if _is_called_classes(samples.target) and len(y) >= EACH_CLASS * k:
        return "classification", f"{what}, and its name says classes"
    if k > FEW:
        return "regression", what
    if abs(largest) > max(SMALL, 1.25 * k):
        return "regression", f"{what}, as large as {largest:g}"
    if times[rarest] < EACH_CLASS:
        return "regression", f"{what}, {values[rarest]:g} in {count(int(times[rarest]), 'row')} alone"
    return "classification", f"{what}, small ones that repeat"


def _is_called_classes(name: str) -> bool:
    """Whether a target's name, by its last word, says that its numbers stand for classes.

    Examples
    --------
    >>> [
    ...     _is_called_classes(name)
    ...     for name in ("zipcode", "CoverType", "http status", "class_id", "class_size", "price")
    ... ]
    [True, True, True, True, False, False]
    """
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    last = words[-2:] if words[-1:] in (["id"], ["Id"], ["ID"]) else words[-1:]
    return bool(NAME_OF_CLASSES.match("".join(last).lower()))


def decided(samples: Samples, task: str) -> tuple[Samples, str, str | None, str | None]:
    """Return the samples as their task has them, and the task; of "auto" the other one, if it can be, and the reason.

    Raises
    ------
    InputError
        When the target does not allow the task.
    """
    found, why = _checked_task(samples, task)
    other = another_task(samples, found) if task == "auto" else None
    return samples if found == "classification" else samples.as_numbers(), found, other, why


def another_task(samples: Samples, task: str) -> str | None:
    """Return the other task, None if the target does not allow it."""
    other = "regression" if task == "classification" else "classification"
    try:
        return find_task(samples, other)
    except InputError:
        return None
