"""`class_weight`, as scikit-learn's classifiers have it: the weights of samples by their classes."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from nnx.array import host
from nnx.errors import InputError, listed, shown
from nnx.sklearn.labels import MULTILABEL

BALANCED = "balanced"
CONSTRAINT = [dict, list, StrOptions({BALANCED}), None]
"""scikit-learn's check of the parameter; a list is for several labels at once."""


def check_class_weight(class_weight: Any, incremental: bool) -> None:
    """Raise a ValueError unless `class_weight` has a meaning, whatever the classes are.

    The first message is that of scikit-learn's `SGDClassifier`.
    """
    if incremental and isinstance(class_weight, str):
        raise ValueError(
            f"class_weight '{class_weight}' is not supported for partial_fit. In order to use 'balanced' weights, use "
            f"compute_class_weight('{class_weight}', classes=classes, y=y). In place of y you can use a large enough "
            "sample of the full training set target to properly estimate the class frequency distributions. Pass the "
            "resulting weights as the class_weight parameter."
        )
    for one in class_weight if isinstance(class_weight, list) else [class_weight]:
        if isinstance(class_weight, list) and not isinstance(one, Mapping):
            raise InputError(
                f"class_weight lists {shown(one)}; expected dicts {{0: weight, 1: weight}}, one for each label"
            )
        for label, weight in one.items() if isinstance(one, Mapping) else ():
            if not (isinstance(weight, Real) and 0 <= float(weight) < np.inf):
                raise InputError(
                    f"class_weight gives {shown(label)} the weight {shown(weight)}; expected a finite number of at "
                    "least 0"
                )


def of_samples(class_weight: Any, kind: str, classes: Any, Y: Any) -> Any:
    """Return the weight of each sample by its class (m,), float64.

    Parameters
    ----------
    class_weight : dict, list of dict, or "balanced"
    kind : str
        See `nnx.sklearn.labels.kind_of`.
    classes : NumPy array (K,)
    Y : NumPy array (m,), (m, 1) or (m, labels)
        What `nnx.sklearn.labels.numbers` returned.

    Examples
    --------
    >>> of_samples({"a": 1, "b": 5}, "binary", np.array(["a", "b"]), np.array([0, 1, 1]))
    array([1., 5., 5.])
    """
    if kind == MULTILABEL:
        found = compute_sample_weight(class_weight, Y)
    elif isinstance(class_weight, list):
        raise InputError(
            "class_weight is a list of dicts, which is for several labels at once; y is of one class for each sample. "
            "Give one dict {class: weight}"
        )
    else:  # of all classes, of which a part of the samples may lack some
        numbers = Y.reshape(-1)
        try:
            found = compute_class_weight(class_weight, classes=classes, y=classes[numbers])[numbers]
        except ValueError as error:
            labels = classes.tolist()
            others = [label for label in class_weight if label not in labels]
            raise InputError(
                f"{error}: it has {listed(map(repr, others), 5)}, which y does not; the labels of y are "
                f"{listed(map(repr, labels), 10)}"
            ) from error
    return found


def weights_name(estimator: Any) -> str:
    """Return the parameters from which an estimator's weights are made, for people."""
    is_given = getattr(estimator, "class_weight", None) is not None
    return "sample_weight times class_weight" if is_given else "sample_weight"


def multiplied(sample_weight: Any, of_class: Any) -> Any:
    """Return the product of both weights (m,), where there is more than one."""
    if of_class is None:
        return sample_weight
    if not of_class.any():
        raise InputError(f"class_weight is 0 for all of the {len(of_class)} samples; expected some above 0")
    if sample_weight is None:
        return of_class
    with host.quiet():
        product = sample_weight * of_class
    if not np.isfinite(product).all():
        raise InputError("sample_weight times class_weight is too large; divide one of them by its largest")
    if not product.any():
        raise InputError("sample_weight times class_weight is 0 for all samples; expected some above 0")
    return product
