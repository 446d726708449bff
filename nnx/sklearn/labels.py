"""Classes and their numbers: what scikit-learn takes as y becomes what a network is trained on."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import type_of_target, unique_labels

MULTILABEL = "multilabel-indicator"


def kind_of(y: Any) -> str:
    """Return "binary", "multiclass" or "multilabel-indicator", or raise a ValueError for what is none of them."""
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
    """Return n[L]: one output tells two classes, else each class has its own."""
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
    return np.searchsorted(classes, y)
