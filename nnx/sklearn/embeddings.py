"""`numerical_embeddings` of the estimators: the layer that embeds X, learned from the samples that are trained on.

The estimator decides once, with all samples of X, which columns it embeds: that is part of the architecture, which all
members share. A network learns the edges of its bins from the samples that it trains on, and from no others. Samples of
weight 0 count for neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from scipy import sparse

from nnx.errors import InputError
from nnx.model.embeddings import embedding
from nnx.model.layers import Layer, PiecewiseLinear
from nnx.model.layers.embedding import Embedding
from nnx.sklearn import samples


@contextmanager
def named() -> Iterator[None]:
    """Name the parameter in each InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"numerical_embeddings: {error}") from error


def learned(given: Any, X: Any, dtype: str) -> list[Layer]:
    """Return the layer that embeds X (m, n), if one is asked for."""
    with named():
        layer = embedding(given)
        return [] if layer is None else [layer.learned(X, rows=True, dtype=dtype)]


def check_embeddings(estimator: Any) -> None:
    """Raise an InputError unless `numerical_embeddings` has a meaning."""
    with named():
        embedding(estimator.numerical_embeddings)


def choose_columns(estimator: Any, X: Any, weights: Any) -> None:
    """Learn which columns of X (m, n) are embedded: those of more than two distinct values, or those that are named.

    `weights` (m,) are those of the samples, or None.
    """
    layer = embedding(estimator.numerical_embeddings)
    if layer is not None:
        refuse_sparse(X)
        with named():
            layer = Embedding.fitted(layer, _counted(X, None, weights), rows=True)
    estimator._embedded = layer


def refuse_sparse(X: Any) -> None:
    """Raise an InputError for a sparse X."""
    if sparse.issparse(X):
        raise InputError(
            "numerical_embeddings take no sparse X, whose zeros would become numbers; give X.toarray(), or "
            "numerical_embeddings=None"
        )


def begin(estimator: Any, X: Any, rows: Any, weights: Any, dtype: str) -> None:
    """Learn the network's own layer of the samples `rows` of X that are trained on; None: of all.

    `weights` (m,) are those of all samples, or None. The training is in `dtype`. The layer's
    first parameters are drawn by `random_state`.
    """
    layer: Embedding | None = vars(estimator).get("_embedded")
    estimator._embedding, estimator._embedding_seed = layer, 0
    if layer is not None:
        estimator._embedding_seed = int(estimator._random_state.randint(2**31 - 1))
    if isinstance(layer, PiecewiseLinear):
        (estimator._embedding,) = learned(layer, _counted(X, rows, weights), dtype)


def _counted(X: Any, rows: Any, weights: Any) -> Any:
    """Return the samples `rows` of X, without those of weight 0 if others are left."""
    if weights is not None and not np.all(weights):
        rows = np.arange(X.shape[0]) if rows is None else np.asarray(rows)
        counted = rows[weights[rows] != 0]
        rows = counted if len(counted) else rows
    return X if rows is None else samples.take(X, rows)


def units(estimator: Any, n_features: int) -> int:
    """Return the inputs of the first fully connected layer."""
    layer: Embedding | None = vars(estimator).get("_embedded")
    return n_features if layer is None else layer.units(n_features)


def parameters(estimator: Any, n_features: int) -> int:
    """Return the number of the embedding's parameters."""
    layer: Embedding | None = vars(estimator).get("_embedded")
    return 0 if layer is None else sum(map(prod, layer.shapes(n_features).values()))
