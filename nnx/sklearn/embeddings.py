"""`numerical_embeddings` of the estimators: the layer that embeds X, learned from the samples that are trained on.

The estimator decides once, with all samples of X, which columns it embeds: that is part of the architecture, which all
members share. A network learns the edges of its bins from the samples that it trains on, and from no others.
"""

from math import prod
from typing import Any

from scipy import sparse

from nnx.errors import InputError
from nnx.model.embeddings import embedding
from nnx.model.layers import PiecewiseLinear
from nnx.model.layers.embedding import Embedding
from nnx.sklearn import samples


def check_embeddings(estimator: Any) -> None:
    """Raise an InputError unless `numerical_embeddings` has a meaning."""
    try:
        embedding(estimator.numerical_embeddings)
    except InputError as error:
        raise InputError(f"numerical_embeddings: {error}") from error


def choose_columns(estimator: Any, X: Any) -> None:
    """Learn which columns of X (m, n) are embedded: those of more than two distinct values, or those that are named."""
    layer = embedding(estimator.numerical_embeddings)
    if layer is not None:
        refuse_sparse(X)
        try:
            layer = Embedding.fitted(layer, X, rows=True)
        except InputError as error:
            raise InputError(f"numerical_embeddings: {error}") from error
    estimator._embedded = layer


def refuse_sparse(X: Any) -> None:
    """Raise an InputError for a sparse X."""
    if sparse.issparse(X):
        raise InputError(
            "numerical_embeddings take no sparse X, whose zeros would become numbers; give X.toarray(), or "
            "numerical_embeddings=None"
        )


def begin(estimator: Any, X: Any, rows: Any) -> None:
    """Learn the network's own layer of the samples `rows` of X that are trained on; None: of all.

    Its first parameters are drawn by `random_state`.
    """
    layer: Embedding | None = vars(estimator).get("_embedded")
    estimator._embedding, estimator._embedding_seed = layer, 0
    if layer is not None:
        estimator._embedding_seed = int(estimator._random_state.randint(2**31 - 1))
    if isinstance(layer, PiecewiseLinear) and layer.edges is None:
        estimator._embedding = layer.fitted(X if rows is None else samples.take(X, rows), rows=True)


def units(estimator: Any, n_features: int) -> int:
    """Return the inputs of the first fully connected layer."""
    layer: Embedding | None = vars(estimator).get("_embedded")
    return n_features if layer is None else layer.units(n_features)


def parameters(estimator: Any, n_features: int) -> int:
    """Return the number of the embedding's parameters."""
    layer: Embedding | None = vars(estimator).get("_embedded")
    return 0 if layer is None else sum(map(prod, layer.shapes(n_features).values()))
