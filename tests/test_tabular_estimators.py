"""The estimators of tables with tuned defaults: their preparation, their training, and all that scikit-learn asks."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import nnx
from nnx.sklearn import TabularClassifier, TabularRegressor
from nnx.sklearn.table_inputs import TableInputs, robust_scale, smooth_clip
from nnx.sklearn.tabular_model import BestEpoch

BOTH = [TabularClassifier, TabularRegressor]
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": "a sample that is there twice is drawn twice"}


def quick(kind, **parameters):
    return kind(
        **{"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0, "backend": "numpy"} | parameters
    )


@pytest.fixture
def some(rng):
    X = rng.standard_normal((60, 3))
    return X, (X[:, 0] > 0.3).astype(int) + (X[:, 1] > 0)


# --- scikit-learn -----------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [quick(kind, backend=None, hidden_layer_sizes=(32,), max_iter=60) for kind in BOTH],
    expected_failed_checks=lambda _: EXPECTED,
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    try:
        check(estimator)
    except BaseException as error:
        if type(error).__name__ != "SkipTest":
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", BOTH)
def test_a_search_a_clone_and_a_pickle(kind, some):
    X, y = some
    found = GridSearchCV(quick(kind), {"learning_rate_init": [0.01, 0.04]}, cv=2).fit(X, y)
    assert found.best_score_ == max(found.cv_results_["mean_test_score"])
    model = quick(kind, n_members=2).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


@pytest.mark.long
def test_it_learns(rng):
    X, y = load_iris(return_X_y=True)
    assert cross_val_score(quick(TabularClassifier, max_iter=60), X, y, cv=3).mean() > 0.9
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(quick(TabularRegressor, max_iter=20), X, y, cv=3).mean() > 0.35


# --- the preparation of a table ---------------------------------------------------------------------------------------


def test_numbers_are_scaled_as_published(rng):
    """The median, the quartiles, or half the range where the quartiles are equal; then x / sqrt(1 + (x/3)^2)."""
    X = np.stack([rng.lognormal(size=50), (np.arange(50) < 5) * 4.0, np.full(50, 2.0)], axis=1)
    x = (X[:, 0] - np.median(X[:, 0])) / (np.quantile(X[:, 0], 0.75) - np.quantile(X[:, 0], 0.25))
    expected = np.stack([x, X[:, 1] / 2, np.zeros(50)], axis=1)
    expected = expected / np.sqrt(1 + (expected / 3) ** 2)
    np.testing.assert_allclose(TableInputs(X)(X), expected, rtol=1e-12)
    assert smooth_clip(np.array([1e300, -1e300])).tolist() == [3, -3]
    assert robust_scale(X)[1][2] == 0


def test_columns_become_inputs():
    """Of two categories one input, of more one each, all 0 for a missing or unseen one; of numbers also the missing."""
    values = [[1, "x", "a"], [2, "y", "b"], [np.nan, None, "c"], [4, "x", "a"]]
    X = np.array(values, dtype=object)
    inputs = TableInputs(X)
    raw = inputs._expand([*_read(X)])
    np.testing.assert_array_equal(raw[:, :2], [[1, 0], [2, 0], [2, 1], [4, 0]])
    np.testing.assert_array_equal(raw[:, 2], [1, -1, 0, 1])
    np.testing.assert_array_equal(raw[:, 3:], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    other = inputs._expand([*_read(np.array([[3.0, "unseen", None]], dtype=object))])
    np.testing.assert_array_equal(other, [[3, 0, 0, 0, 0, 0]])
    with pytest.raises(nnx.InputError, match="X, column 0, holds 'many'; expected numbers"):
        inputs(np.array([["many", "x", "a"]], dtype=object))


def _read(X):
    from nnx.sklearn.table_inputs import read

    return read(X)


@pytest.mark.needs("pandas")
def test_categories_are_compared_by_value(rng):
    """A category of 1 is 1.0 in a later table; and a missing one that training had none of is no error."""
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"a": pandas.Categorical(rng.integers(0, 12, 80)), "b": rng.standard_normal(80)})
    y = np.where(X["a"].astype(int) > 9, "yes", "no")
    model = quick(TabularClassifier, max_iter=10).fit(X, y)
    later = X.assign(a=X["a"].astype(float))
    np.testing.assert_array_equal(model.predict_proba(later), model.predict_proba(X))
    later.loc[0, "a"] = np.nan
    assert np.isfinite(model.predict_proba(later)).all()
    text = X.assign(a=X["a"].astype(str))
    assert (model.predict_proba(text) != model.predict_proba(X)).any()
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[["b", "a"]])
    assert list(model.feature_names_in_) == ["a", "b"]


@pytest.mark.needs("pandas", "polars")
def test_tables_of_all_libraries_are_alike(rng):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"n": [*rng.standard_normal(39), None], "t": [*"abc" * 13, None], "b": [True, False] * 20}
    y = rng.standard_normal(40)
    models = [quick(TabularRegressor).fit(library.DataFrame(columns), y) for library in (pandas, polars)]
    first, second = (model.predict(polars.DataFrame(columns)) for model in models)
    np.testing.assert_array_equal(first, second)
    dates = pandas.DataFrame({"when": pandas.to_datetime(["2024-01-01"] * 40)})
    with pytest.raises(nnx.InputError, match=r"'when', holds datetime64.*hand in numbers"):
        quick(TabularRegressor).fit(dates, y)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("kind", BOTH)
def test_a_sample_of_weight_0_is_as_one_left_out(kind, n_members, some, rng):
    X, y = some
    weights = rng.integers(0, 3, 60)
    kept = weights > 0
    far = np.where(kept, y, 2 * y) if kind is TabularClassifier else np.where(kept, y, 1e6)
    X = np.where(kept[:, None], X, 1e9)
    model = quick(kind, n_members=n_members)
    found = clone(model).fit(X, np.minimum(far, 2) if kind is TabularClassifier else far, weights)
    expected = model.fit(X[kept], y[kept], weights[kept])
    np.testing.assert_array_equal(found.predict(X[kept]), expected.predict(X[kept]))


def test_targets_are_scaled_by_their_weights_and_predictions_clipped(some, rng):
    X, _ = some
    y, weights = rng.standard_normal((60, 2)) * [1, 100], rng.random(60)
    model = quick(TabularRegressor, max_iter=30).fit(X, y, weights)
    found = model.predict(100 * X)
    assert found.shape == (60, 2)
    assert (found >= y.min(axis=0)).all()
    assert (found <= y.max(axis=0)).all()
    once = quick(TabularRegressor, max_iter=1, learning_rate_init=1e-9).fit(X, y, weights)
    np.testing.assert_allclose(
        once.predict(X[:1])[0], np.average(y, axis=0, weights=weights), rtol=1e-3, atol=1e-3
    )


def test_members_are_single_fits_and_their_mean_predicts(some):
    X, y = some
    together = quick(TabularClassifier, n_members=3, dtype="float64").fit(X, y)
    alone = quick(TabularClassifier, dtype="float64").fit(X, y)
    assert together.best_epoch_[0] == alone.best_epoch_
    np.testing.assert_allclose(together._model.theta[0], alone._model.theta[0], rtol=1e-9, atol=1e-12)
    each = [
        together._model.network.forward(theta, together._model.inputs(X).T).T
        for theta in together._model.theta
    ]
    np.testing.assert_allclose(together.predict_proba(X), np.mean(each, axis=0), rtol=1e-12)


@pytest.mark.long
def test_every_backend_fits_alike(backend, some):
    X, y = some
    where = {"backend": backend.name, "device": str(backend.device), "dtype": "float64"}
    found = quick(TabularClassifier, **where).fit(X, y).predict_proba(X)
    expected = quick(TabularClassifier, dtype="float64").fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_the_best_epoch_is_kept_of_equal_ones_the_last(some):
    X, y = some
    model = quick(TabularClassifier, max_iter=12).fit(X, y)
    scores = model.history_["validation_accuracy"]
    assert model.best_epoch_ == max(k + 1 for k, score in enumerate(scores) if score == max(scores))
    assert model.n_iter_ == 12
    assert quick(TabularClassifier, validation_fraction=0).fit(X, y).best_epoch_ is None


@pytest.mark.parametrize("n_members", [1, 2])
def test_an_interrupt_keeps_the_best_epoch_so_far(n_members, some, monkeypatch):
    X, y = some
    expected, after = quick(TabularClassifier, n_members=n_members), 3
    on_epoch = BestEpoch.on_epoch

    def interrupted(self, trainer, progress):
        on_epoch(self, trainer, progress)
        if progress.epoch == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(BestEpoch, "on_epoch", interrupted)
    with pytest.warns(
        UserWarning, match="interrupted by user. The best parameters so far are kept, of epoch"
    ):
        found = clone(expected).set_params(max_iter=40).fit(X, y)
    assert found.n_iter_ == 3
    assert np.isfinite(found.predict_proba(X)).all()


@pytest.mark.parametrize("kind", BOTH)
def test_a_failed_fit_and_new_parameters_change_no_prediction(kind, some):
    X, y = some
    model = quick(kind).fit(X, y)
    expected, attributes = model.predict(X), set(vars(model))
    model.set_params(hidden_layer_sizes=(3, 3), n_members=5, dtype="float64", backend="no such", max_iter=1)
    np.testing.assert_array_equal(model.predict(X), expected)
    for bad in ({"backend": "no such"}, {"hidden_layer_sizes": ("a",)}, {"dtype": "half"}):
        with pytest.raises(ValueError, match=r"no such|hidden_layer_sizes|dtype"):
            model.set_params(backend=None, hidden_layer_sizes=(3,), dtype="float32").set_params(**bad).fit(
                X[:, :2], y
            )
        np.testing.assert_array_equal(model.predict(X), expected)
    assert set(vars(model)) == attributes


def test_a_network_is_compiled_once_for_all_predictions(some, monkeypatch):
    X, y = some
    model = quick(TabularClassifier).fit(X, y)
    kind, calls = type(nnx.backend("numpy")), []
    compiled = kind.compile
    monkeypatch.setattr(kind, "compile", lambda self, *given: calls.append(1) or compiled(self, *given))
    model.predict(X)
    model.predict_proba(X[:7])
    assert len(calls) == 1


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("weight", "message"), [(-1, "sample_weight must be at least 0; given -1"), (0, "non-zero|is 0")]
)
def test_bad_weights(kind, weight, message, some):
    with pytest.raises(ValueError, match=message):
        quick(kind).fit(*some, sample_weight=np.full(60, float(weight)))


@pytest.mark.parametrize("kind", BOTH)
def test_numbers_may_be_embedded(kind, some):
    X, y = some
    model = quick(kind, numerical_embeddings="piecewise_linear", n_members=2).fit(X, y)
    first = model._model.network.layers[0]
    assert type(first) is nnx.PiecewiseLinear
    assert first.columns == (0, 1, 2)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with pytest.raises(nnx.InputError, match="numerical_embeddings: "):
        quick(kind, numerical_embeddings="no such").fit(X, y)


def test_few_samples():
    X = np.arange(4.0)[:, None]
    assert set(quick(TabularClassifier).fit(X[:2], ["a", "b"]).predict(X)) <= {"a", "b"}
    assert quick(TabularClassifier).fit(X, ["a"] * 4).predict_proba(X).tolist() == [[1.0]] * 4
    assert quick(TabularRegressor).fit(X, [3.0] * 4).predict(X).tolist() == [3.0] * 4
    with pytest.raises(ValueError, match="Unknown label type"):
        quick(TabularClassifier).fit(X, [0.5, 1.5, 2.5, 3.5])
