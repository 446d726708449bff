"""`numerical_embeddings` of the estimators, `nnx train --embed` and `nnx.Tabular(embed=)`."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import nnx
from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV, TabularRegressor

BINS = "piecewise_linear(bins=6, width=4)"
SMALL = {
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 0.01,
    "random_state": 0,
    "tol": 0,
    "backend": "numpy",
}


@pytest.fixture
def table(rng):
    """A target that waves along one number, and depends on a column of 0 and 1."""
    X = rng.random((300, 3))
    X[:, 1] = X[:, 1] > 0.5
    return X, np.sin(15 * X[:, 0]) + X[:, 1]


def silent(estimator, *given, **named):
    with pytest.warns(match="Maximum iterations"):
        return estimator.fit(*given, **named)


def first(estimator):
    return estimator.network_.layers[0]


@pytest.mark.parametrize("embedding", [BINS, nnx.Periodic(6, 4, sigma=1.0)])
def test_a_regressor_with_embeddings_learns_what_one_without_does_not(table, embedding):
    X, y = table
    plain, found = (
        silent(MLPRegressor(numerical_embeddings=e, max_iter=60, **SMALL), X, y) for e in (None, embedding)
    )
    assert found.score(X, y) > plain.score(X, y) + 0.2
    assert first(found).columns == (0, 2)
    assert [W.shape for W in found.coefs_] == [(2 * 4 + 1, 16), (16, 1)]
    assert (found.n_features_in_, found.n_layers_, found.network_.n_features) == (3, 3, 3)
    expected = found.predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(X), expected)
    again = silent(clone(found), X, y)
    np.testing.assert_array_equal(again.predict(X), expected)
    other = silent(clone(found).set_params(random_state=1), X, y)
    assert not np.array_equal(
        other.network_.unflatten(other._vector)["V0"], found.network_.unflatten(found._vector)["V0"]
    )


def test_it_goes_on_with_the_bins_of_the_first_call(table):
    X, y = table
    labels = (y > 0.5).astype(int)
    estimator = MLPClassifier(numerical_embeddings=BINS, **SMALL).partial_fit(
        X[:100], labels[:100], classes=[0, 1]
    )
    edges, theta = first(estimator).edges, estimator._vector.copy()
    np.testing.assert_allclose(edges[0], np.quantile(X[:100, 0], np.linspace(0, 1, 7)), rtol=1e-12)
    copy = pickle.loads(pickle.dumps(estimator))
    for one in (estimator, copy):
        one.partial_fit(10 * X, labels)
        assert first(one).edges == edges
        assert not np.array_equal(one._vector, theta)
    np.testing.assert_array_equal(copy._vector, estimator._vector)
    estimator.set_params(warm_start=True, max_iter=2, numerical_embeddings="periodic")
    with pytest.raises(ValueError, match="numerical_embeddings is 'periodic', but the network that goes on"):
        estimator.fit(X, labels)
    silent(estimator.set_params(numerical_embeddings=BINS), X, labels)
    assert first(estimator).edges == edges


ONE_STEP = {"hidden_layer_sizes": (2,), "max_iter": 1, "random_state": 0, "backend": "numpy"}


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_edges_that_are_given_stay(table):
    X, y = table
    given = nnx.PiecewiseLinear(bins=2, columns=[0], edges=[[-1, 0, 1]])
    layer = first(MLPRegressor(numerical_embeddings=given, **ONE_STEP).fit(X, y))
    assert (layer.columns, layer.edges) == ((0,), ((-1.0, 0.0, 1.0),))
    of_all = nnx.PiecewiseLinear(bins=2, edges=given.edges)
    tables = TabularRegressor(numerical_embeddings=of_all, **{**ONE_STEP, "max_iter": 2})
    assert tables.fit(X[:, :1], y)._model.network.layers[0].edges == given.edges
    with pytest.raises(
        ValueError, match="numerical_embeddings: PiecewiseLinear has edges of 1 columns; its input has 3"
    ):
        tables.fit(X, y)
    other = nnx.PiecewiseLinear(bins=2, columns=[0], edges=[[0, 0.5, 1]])
    estimator = MLPRegressor(numerical_embeddings=given, warm_start=True, **ONE_STEP).fit(X, y)
    with pytest.raises(
        ValueError, match=r"embeddings.edges is \(\(0.0, 0.5, 1.0\),\), but the network that goes on"
    ):
        estimator.set_params(numerical_embeddings=other).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("stops", [False, True])
def test_samples_of_weight_0_shape_nothing(table, stops):
    X, y = table
    w = (np.arange(300) < 200) * 1.0
    X[200:] = 9 * X[200:] + 5  # the column of 0 and 1, too
    layer = first(MLPRegressor(numerical_embeddings=BINS, early_stopping=stops, **ONE_STEP).fit(X, y, w))
    assert layer.columns == (0, 2)
    assert max(one[-1] for one in layer.edges) <= 1
    if not stops:
        np.testing.assert_allclose(layer.edges, edges_of(X, range(200)), rtol=1e-12)


@pytest.mark.parametrize(("second", "dtype"), [(1e-45, "float32"), (1e-320, "float64")])
def test_numbers_too_near_for_the_dtype(table, second, dtype):
    X, y = table
    X[:, 1] *= second
    model = MLPRegressor(numerical_embeddings=nnx.PiecewiseLinear(4, columns=[0, 1]), dtype=dtype, **ONE_STEP)
    with pytest.raises(
        ValueError, match=f"numerical_embeddings: the edges of column 1, from 0 .* near .* for {dtype}"
    ):
        model.fit(X, y)
    given = nnx.PiecewiseLinear(2, columns=[1], edges=[[0, second]])
    with pytest.raises(ValueError, match="the edges of column 1"):
        model.set_params(numerical_embeddings=given).fit(X, y)


@pytest.mark.long
def test_candidates_with_edges_of_their_own(table):
    X, y = table
    layers = [nnx.PiecewiseLinear(2, 3, columns=[0], edges=[[0, e, 1]]) for e in (0.1, 0.5)]
    scores = []
    for search in (StackedSearchCV, GridSearchCV):
        with pytest.warns(match="Maximum iterations"):
            found = search(MLPRegressor(max_iter=9, **SMALL), {"numerical_embeddings": layers}, cv=3).fit(
                X, y
            )
        scores.append(found.cv_results_["mean_test_score"])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-7)
    assert scores[0][0] != scores[0][1]


def edges_of(X, rows):
    return [tuple(np.unique(np.quantile(X[rows, c], np.linspace(0, 1, 7)))) for c in (0, 2)]


@pytest.mark.parametrize("members", [None, pytest.param(3, marks=pytest.mark.long)])
def test_bins_know_nothing_of_the_samples_held_out(table, members, monkeypatch):
    """Of early stopping: each member has a split of its own, and bins of its own."""
    import nnx.sklearn.base

    X, y = table
    X = np.asarray(X, "float64")
    splits = []
    hold_out = nnx.sklearn.base.hold_out

    def seen(*given):
        splits.append(hold_out(*given))
        return splits[-1]

    monkeypatch.setattr(nnx.sklearn.base, "hold_out", seen)
    estimator = MLPRegressor(
        numerical_embeddings=BINS, early_stopping=True, n_members=members, max_iter=3, **SMALL
    )
    silent(estimator, X, y)
    networks = estimator.members_ if members else [estimator]
    assert len(splits) == len(networks)
    for one, (rows, held_out) in zip(networks, splits, strict=True):
        assert len(rows) + len(held_out) == len(X)
        np.testing.assert_allclose(first(one).edges, edges_of(X, rows), rtol=1e-12)
        left = one.network_.unflatten(one._vector)["left0"].reshape(2, 6)
        np.testing.assert_allclose(left, [e[:-1] for e in first(one).edges], rtol=1e-12)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict(X), estimator.predict(X))


@pytest.mark.long
def test_members_are_fits_of_their_own(table):
    X, y = table
    estimator = MLPRegressor(
        numerical_embeddings=BINS, early_stopping=True, n_members=2, max_iter=4, **SMALL, dtype="float64"
    )
    silent(estimator, X, y)
    for member in estimator.members_:
        alone = silent(clone(member), X, y)
        np.testing.assert_allclose(alone.predict(X), member.predict(X), rtol=1e-9, atol=1e-12)
    mean = np.mean([member.predict(X) for member in estimator.members_], axis=0)
    np.testing.assert_allclose(estimator.predict(X), mean, rtol=1e-9)


@pytest.mark.long
def test_a_stacked_search_finds_what_a_grid_search_finds(table):
    X, y = table
    X[:140, 2] = np.round(3 * X[:140, 2])  # equal quantiles: fewer bins in some folds than in others
    base = MLPRegressor(early_stopping=True, max_iter=3, **SMALL)
    grid = {"numerical_embeddings": [BINS, "periodic(frequencies=2, width=3)", None], "alpha": [1e-4, 1.0]}
    found = []
    for search in (StackedSearchCV, GridSearchCV):
        with pytest.warns(match="Maximum iterations"):
            found.append(search(base, grid, cv=3).fit(X, y))
    scores = [one.cv_results_["mean_test_score"] for one in found]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-7)
    np.testing.assert_allclose(found[0].predict(X), found[1].predict(X), rtol=1e-7)


@pytest.mark.long
@pytest.mark.needs("torch")
def test_samples_of_another_library(table):
    import torch

    X, y = table
    options = {**SMALL, "backend": None, "numerical_embeddings": BINS, "max_iter": 2}
    there = silent(MLPRegressor(**options), torch.from_numpy(X), torch.from_numpy(y))
    here = silent(MLPRegressor(**options), X, y)
    np.testing.assert_allclose(there.predict(torch.from_numpy(X)).numpy(), here.predict(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("piecewise", "unknown embedding 'piecewise'"),
        (3, "expected 'piecewise_linear'"),
        ("piecewise_linear(bins=1)", "bins must be an integer >= 2, not 1"),
        ("periodic(sigm=1)", "'sigm'; it takes frequencies, width"),
        ("periodic(columns=[0, 2])", "a text can name neither columns nor edges"),
        (nnx.Periodic(columns=[7]), "embeds column 7"),
    ],
)
def test_bad_embeddings(table, given, message):
    with pytest.raises(ValueError, match=f"numerical_embeddings: .*{message}"):
        MLPRegressor(numerical_embeddings=given).fit(*table)


@pytest.mark.long
def test_bad_samples(table):
    X, y = table
    with pytest.raises(ValueError, match="take no sparse X"):
        MLPRegressor(numerical_embeddings=BINS).fit(sparse.csr_array(X), y)
    with pytest.raises(ValueError, match="more than two distinct values"):
        MLPRegressor(numerical_embeddings=BINS).fit((X > 0.5).astype(float), y)
    with pytest.raises(ValueError, match="contains NaN"):
        MLPRegressor(numerical_embeddings=BINS).fit(np.where(X > 0.9, np.nan, X), y)
    with pytest.raises(ValueError, match="same for all members"):
        MLPRegressor(n_members=2, member_params={"numerical_embeddings": [None, BINS]}).fit(X, y)


@pytest.mark.long
def test_a_table(rng):
    kinds = np.array(["a", "b", "c"])[rng.integers(0, 3, 200)]
    table = {"kind": kinds, "size": rng.random(200)}
    table["price"] = np.sin(15 * table["size"]) + (kinds == "a")
    model = nnx.Tabular(table, "price", embed=BINS, backend="numpy")
    layer = model.trainer.network.layers[0]
    assert layer.columns == (model.preparation.inputs.index("size"),)
    X = model._train[0]
    np.testing.assert_allclose(
        layer.edges[0], np.unique(np.quantile(X[layer.columns[0]].astype(float), np.linspace(0, 1, 7)))
    )
    model.fit(epochs=2)
    assert len(model.predict(table)) == 200
    given = nnx.PiecewiseLinear(bins=2, columns=[0], edges=[[-1, 0, 1]])
    layer = nnx.Tabular(table, "price", embed=given, backend="numpy").trainer.network.layers[0]
    assert (layer.columns, layer.edges) == ((0,), ((-1.0, 0.0, 1.0),))
