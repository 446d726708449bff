"""Samples that are held out of a training, a share of each class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nnx.array import host
from nnx.array.namespace import array_namespace, device
from nnx.batches.sample_weights import sample_weights
from nnx.batches.source import Source
from nnx.batches.sources import Sparse, placeholder, whole
from nnx.batches.stream import Checks
from nnx.errors import InputError, count
from nnx.model.outputs.base import Output


def by_class(places: Any, seed: int, classes: Any = None) -> Any:
    """Return numbers of samples in an order drawn from the seed, one class after the other.

    Parameters
    ----------
    places : NumPy array (k,)
    seed : int
    classes : NumPy array (m,) or None
        Of all m samples; None: there are none.
    """
    order = host.generator(seed).permutation(places)
    return order if classes is None else order[np.argsort(classes[order], kind="stable")]


def share_out(order: Any, share: float) -> tuple[Any, Any]:
    """Return the samples to train on and those held out: every 1/share-th.

    Raises
    ------
    InputError
        When there are too few samples for some on each side.

    Examples
    --------
    >>> share_out(np.array([5, 3, 1, 2, 4]), 0.4)
    (array([5, 1, 4]), array([3, 2]))
    """
    m = len(order)
    held = np.diff(np.floor(np.arange(m + 1) * share + 0.5)) > 0
    if held.all() or not held.any():
        raise InputError(
            f"{count(m, 'sample')} {'is' if m == 1 else 'are'} too few to hold out {share:g} of them; expected some "
            "on each side"
        )
    return order[~held], order[held]


def split_places(share: float, output: Output, Y: Any, seed: int) -> tuple[Any, Any]:
    """Return the places of the samples to train on, and of those held out, each ascending; of classes a share of each.

    Parameters
    ----------
    share : float
        Of those held out.
    output : Output
    Y : array (n, m), or class indices (m,)
    seed : int
    """
    train, held = share_out(by_class(np.arange(Y.shape[-1]), seed, _classes(output, Y)), share)
    return np.sort(train), np.sort(held)


def weights_of_members(
    sample_weights_of: Sequence[Any],
    class_weight: Any,
    Y: Any,
    output: Output,
    n: int,
    places: Sequence[Any] | None,
    learns: bool,
) -> Any:
    """Return weights (K, M) of members' samples, float64, and 0 for other samples.

    Parameters
    ----------
    sample_weights_of : sequence of K arrays (M,), numbers or None
    class_weight : dict, sequence, "balanced" or None
    Y, output, n
        As of `sample_weights`.
    places : sequence of K integer arrays (m,), or None
        The samples of each member; None: all.
    learns : bool
        Whether each trains on these samples; then "balanced" counts the classes among them, else among all.
    """
    M = Y.shape[-1]
    found = np.zeros((len(sample_weights_of), M))
    for k, (row, w) in enumerate(zip(found, sample_weights_of, strict=True)):
        own = np.arange(M) if places is None else places[k]
        if learns:
            row[own] = sample_weights(_only(w, own), class_weight, Y[..., own], output, n, len(own))
        else:
            row[own] = sample_weights(w, class_weight, Y, output, n, M)[own]
    return found


class Split(NamedTuple):
    """Samples (X, Y, w) to train on, those held out, and the latter's places (k,) among all."""

    train: tuple[Any, Any, Any]
    held: tuple[Any, Any, Any]
    places: Any


def hold_out(
    share: float,
    X: Any,
    Y: Any,
    sample_weight: Any,
    class_weight: Any,
    checks: Checks,
    output: Output,
    n: int,
    seed: int,
) -> Split:
    """Return the samples, each side in its order among all; of classes a share of each is held out.

    Those held out have the weights of their classes in w, too; n is the outputs' number.

    Raises
    ------
    InputError
        When X is read from a file, or the samples do not pass the checks.
    """
    X, Y = checks.recognise("X", "X", X), whole(checks.recognise("Y", "Y", Y))
    if isinstance(X, Source) and not isinstance(X, Sparse):
        raise InputError(
            f"validation_split is for samples in memory; X is {X.where}, which is read in order. Give the samples to "
            "hold out: validation=(X, Y)"
        )
    features = checks.features("X", placeholder(X) if isinstance(X, Source) else X)
    X = X if isinstance(X, Source) else features
    m = X.shape[-1]
    Y = checks.targets("Y", Y, m)
    w = (
        None
        if sample_weight is None
        else host.as_numbers("w", whole(checks.recognise("w", "w", sample_weight)))
    )
    weights = sample_weights(w, class_weight, Y, output, n, m)
    train, held = split_places(share, output, Y, seed)
    return Split(
        (_only(X, train), _only(Y, train), _only(w, train)),
        (_only(X, held), _only(Y, held), _only(weights, held)),
        held,
    )


def _only(x: Any, places: Any) -> Any:
    """Return the samples of these numbers; what is one number for all, or None, as it is."""
    if isinstance(x, Sparse):
        return x.only(places)
    if x is None or x.ndim == 0:
        return x
    xp = array_namespace(x)
    return xp.take(x, xp.asarray(places, device=device(x)), axis=-1)


def _classes(output: Output, Y: Any) -> Any:
    """Return the class of each sample; None where there are none, or several at once."""
    if not output.classes or Y.ndim == 1:
        return Y if output.classes else None
    if Y.shape[0] == 1:
        return Y[0] > output.threshold
    return Y.argmax(axis=0) if output.exclusive else None
