"""Classes and their numbers: scikit-learn's y becomes the targets of a network."""

from typing import Any

import numpy as np
from array_api_compat import device
from scipy import sparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target, unique_labels

from nnx.array import host
from nnx.array.namespace import array_namespace
from nnx.errors import InputError, listed
from nnx.sklearn import samples

MULTILABEL = "multilabel-indicator"


def _refuse_gaps(missing: list[bool]) -> None:
    """Raise a ValueError if a label is missing, in scikit-learn's words and with the place."""
    if any(missing):
        raise ValueError(
            f"Input y contains NaN: {sum(missing):,} of {len(missing):,} labels are missing, the first in row "
            f"{missing.index(True)}; leave out such samples"
        )


def unmixed(y: Any) -> Any:
    """Return y, or raise a ValueError where its labels are of several kinds: NumPy would make 1 and "1" one text.

    A list of integers that only uint64 holds becomes such an array: NumPy would make floats of them. So would
    scikit-learn of pandas' nullable and Arrow integers and booleans; without missing values they become NumPy's.

    Examples
    --------
    >>> unmixed(["a", "1"])
    ['a', '1']
    """
    if getattr(y, "ndim", 0) == 1 and hasattr(y, "isna") and not isinstance(y.dtype, np.dtype):
        _refuse_gaps(y.isna().tolist())
    if _is_extended(y):
        values = y.tolist()
        y = np.array(unmixed(values)) if all(isinstance(one, int) for one in values) else y
    elif getattr(y, "ndim", 0) == 2 and hasattr(y, "iloc") and y.shape[1] == 1 and _is_extended(y.iloc[:, 0]):
        y = np.asarray(unmixed(y.iloc[:, 0])).reshape(-1, 1)
    if isinstance(y, list | tuple) or str(getattr(y, "dtype", "")) == "object":
        first: dict[str, Any] = {}
        values = np.asarray(y, dtype=object).reshape(-1).tolist()
        _refuse_gaps([one is None or (isinstance(one, float) and one != one) for one in values])
        for one in values:
            what = "text" if isinstance(one, str) else "numbers"
            first.setdefault(what, one)
        if len(first) > 1:
            shown = " and ".join(f"{what} ({one!r})" for what, one in first.items())
            raise ValueError(f"y holds labels of several kinds: {shown}; expected all text, or all numbers")
        if isinstance(y, list | tuple) and y and all(type(one) is int for one in y) and max(y) >= 2**63:
            if min(y) < 0 or max(y) >= 2**64:
                raise ValueError(f"y holds the integer {max(y)}, beyond 64 bits; hand in the labels as text")
            return np.array(y, np.uint64)
    return y


def _is_extended(y: Any) -> bool:
    """Whether y has integers or booleans of a dtype that is not NumPy's, such as pandas' Int64."""
    dtype = getattr(y, "dtype", np.dtype(object))
    inner = getattr(getattr(dtype, "categories", None), "dtype", dtype)
    return not isinstance(dtype, np.dtype) and getattr(inner, "kind", "O") in "iub" and hasattr(y, "tolist")


def kind_of(y: Any) -> str:
    """Return "binary", "multiclass" or "multilabel-indicator", or raise a ValueError for another kind of y."""
    kind: str = type_of_target(y, input_name="y")
    if "multioutput" in kind:
        raise ValueError("Multioutput target data is not supported with label binarization")
    if kind not in ("binary", "multiclass", MULTILABEL):
        raise ValueError(f"Unknown label type: {kind}. Expected classes, not numbers: use MLPRegressor")
    return kind


def classes_of(y: Any) -> Any:
    """Return the classes that occur, sorted; of several labels at once their numbers."""
    return unique_labels(y)


def n_outputs(kind: str, classes: Any) -> int:
    """Return n[L]: one output for two classes, else one for each class."""
    return 1 if kind == "binary" else int(classes.shape[0])


def numbers(kind: str, classes: Any, y: Any) -> Any:
    """Return the number of each sample's class (m,), or the labels (m, n) as 0 and 1.

    Examples
    --------
    >>> numbers("multiclass", np.array(["a", "b", "c"]), np.array(["c", "a"]))
    array([2, 0])
    """
    if kind == MULTILABEL:
        return y.toarray() if sparse.issparse(y) else np.asarray(y)
    y = np.asarray(y)
    integers = y.dtype.kind in "iu" and classes.dtype.kind in "iu"  # of two dtypes NumPy would compare floats
    return np.searchsorted(classes, y.astype(classes.dtype) if integers else y)


def numbers_of_others(y: Any, m: int, kind: str, classes: Any, n: int) -> Any:
    """Return the `numbers` of m samples that are not trained on, (m, 1) of two classes.

    Parameters
    ----------
    y : array-like (m,) or (m, labels)
    m : int
    kind, classes, n
        Of the training: see `kind_of`, `classes_of` and `n_outputs`.

    Raises
    ------
    InputError
        When y is of another kind, or has classes that the training does not have.
    """
    y = samples.with_length(host.as_host(y) if samples.home(y) else unmixed(y), m)
    y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
    given = kind_of(y)
    if (given == MULTILABEL) != (kind == MULTILABEL):
        raise InputError(f"y is of {given} targets, that of the training of {kind} ones")
    if kind == MULTILABEL:
        if y.shape[1] != n:
            raise InputError(f"y has {y.shape[1]} labels, that of the training {n}")
    elif new := {*classes_of(y).tolist()} - {*classes.tolist()}:
        raise InputError(
            f"y has classes that the y of the training does not have: {listed(sorted(new), 5)}; it has "
            f"{listed(classes.tolist(), 5)}"
        )
    Y = numbers(kind, classes, y)
    return Y.reshape(-1, 1) if kind == "binary" else Y


def are_common(classes: Any) -> bool:
    """Whether every library holds these numbers as they are, and can look them up.

    Examples
    --------
    >>> are_common(np.array([0, 1])), are_common(np.array([2**60])), are_common(np.array([1], np.uint64))
    (True, False, False)
    """
    if classes.dtype.kind == "u" and classes.dtype.itemsize > 1:
        return False
    kind = {"i": np.int32, "f": np.float32}.get(classes.dtype.kind, classes.dtype)
    with host.quiet():
        return bool((classes.astype(kind) == classes).all())


def given_back(classes: Any, found: Any, X: Any) -> Any:
    """Return the label of each class number (m,): of X's library and device, of NumPy where that lacks the label.

    Only NumPy has text. JAX has no integers of 64 bits by default.
    """
    xp = array_namespace(X)
    labels = classes[host.as_host(found)]
    try:
        moved = xp.asarray(labels, device=device(X))
        return moved if bool((host.as_host(moved) == labels).all()) else labels
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return labels


def refuse_text(y: Any, regressor: str, classifier: str) -> None:
    """Raise a ValueError where the y of a regressor holds text that is no number; it names the classifier, too.

    Examples
    --------
    >>> refuse_text(["1.5", 2], "MLPRegressor", "MLPClassifier")
    >>> refuse_text(["a", "b"], "MLPRegressor", "MLPClassifier")
    Traceback (most recent call last):
    ValueError: y holds text such as 'a'; MLPRegressor expects numbers. For classes use MLPClassifier
    """
    try:
        values = np.asarray(y)
    except ValueError:  # rows of unequal length, which scikit-learn refuses
        return
    for one in values.reshape(-1).tolist() if values.dtype.kind in "OUTS" else ():
        try:
            float(one if isinstance(one, str | bytes) else 0)
        except ValueError:
            raise ValueError(
                f"y holds text such as {one!r}; {regressor} expects numbers. For classes use {classifier}"
            ) from None
