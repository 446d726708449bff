"""The estimators of tables with tuned defaults: their preparation, their training, and all that scikit-learn asks."""

import pickle
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.class_weight import compute_sample_weight
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
    scores = cross_val_score(clone(found.best_estimator_), X, y, cv=2)
    assert found.best_score_ == scores.mean()
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
    with pytest.warns(
        UserWarning, match="X, column 1, holds values that the fit did not have, such as 'unseen'"
    ):
        other = inputs._expand([*_read(np.array([[3.0, "unseen", None]], dtype=object))])
    np.testing.assert_array_equal(other, [[3, 0, 0, 0, 0, 0]])
    with pytest.raises(nnx.InputError, match="X, column 0, holds 'many'; expected numbers"):
        inputs(np.array([["many", "x", "a"]], dtype=object))


def test_a_list_of_rows_is_as_an_array_of_objects():
    rows = [["a", 0.3], ["b", -1.5], ["a", None], ["b", 7]] * 3
    y = [0.5, 1.0, 2.0, 4.0] * 3
    model = quick(TabularRegressor).fit(rows, y)
    raw = model._model.inputs._expand(_read(np.array(rows, dtype=object)))
    np.testing.assert_array_equal(raw[:4], [[1, 0.3, 0], [-1, -1.5, 0], [1, 0.3, 1], [-1, 7, 0]])
    expected = quick(TabularRegressor).fit(np.array(rows, dtype=object), y).predict(rows)
    np.testing.assert_array_equal(model.predict(tuple(map(tuple, rows))), expected)


def test_categories_of_another_kind_than_in_the_fit_are_an_error():
    """Else all of them would be as unseen, without a word."""
    text = TableInputs(np.array([["1"], ["2"], ["1"]], dtype=object))
    with pytest.raises(nnx.InputError, match="X, column 0, holds 1; expected text, as in fit"):
        text(np.array([[None], [1], [2]], dtype=object))
    for values, expected in (([[1], ["2"]], [[0], [-1]]), ([["3"], [None]], [[0], [0]])):
        with pytest.warns(UserWarning, match="the fit did not have, such as (1|'3'); they count as missing"):
            assert text._expand(_read(np.array(values, dtype=object))).tolist() == expected


@pytest.mark.parametrize("when", [date(2024, 1, 1), np.datetime64("2024-01-01"), np.timedelta64(1, "D")])
def test_dates_among_objects_are_an_error(when):
    X = np.array([[None], [when]], dtype=object)
    with pytest.raises(
        nnx.InputError, match=f"X, column 0, holds {type(when).__name__} such as .*; hand in"
    ) as said:
        TableInputs(X)
    assert str(said.value).endswith("Or train with nnx.Tabular or `nnx train`, which take dates")


def test_decimals_and_booleans_among_objects_are_numbers():
    X = np.array([[Decimal("0.5"), np.True_], [Decimal("NaN"), False], [2, 3.0]], dtype=object)
    np.testing.assert_array_equal(TableInputs(X)._expand(_read(X)), [[0.5, 0, 1], [1.25, 1, 0], [2, 0, 3]])


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
    with pytest.raises(nnx.InputError, match=r"'a', holds '.*expected numbers, as in fit"):
        model.predict_proba(X.assign(a=X["a"].astype(str)))
    with pytest.raises(
        ValueError, match=r"feature names should match.*\n.*\n.*X\[list\(model\.feature_names_in_\)\]"
    ):
        model.predict(X[["b", "a"]])
    ordered = X[["b", "a"]][list(model.feature_names_in_)]
    np.testing.assert_array_equal(model.predict(ordered), model.predict(X))
    assert list(model.feature_names_in_) == ["a", "b"]


@pytest.mark.needs("pandas", "polars")
def test_tables_of_all_libraries_are_alike(rng):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"n": [*rng.standard_normal(39), None], "t": [*"abc" * 13, None], "b": [True, False] * 20}
    y = rng.standard_normal(40)
    models = [quick(TabularRegressor).fit(library.DataFrame(columns), y) for library in (pandas, polars)]
    first, second = (model.predict(polars.DataFrame(columns)) for model in models)
    np.testing.assert_array_equal(first, second)
    dates = pandas.Series(pandas.to_datetime(["2024-01-01"] * 40))
    for column in (
        dates,
        dates.astype(object),
        dates.dt.to_period("D"),
        dates.dt.to_period("D").astype(object),
    ):
        with pytest.raises(
            nnx.InputError, match=r"'when', holds (datetime64|Timestamp|period|Period).*hand in"
        ):
            quick(TabularRegressor).fit(pandas.DataFrame({"when": column}), y)
    TableInputs(pandas.DataFrame({"when": dates.astype("category")}))  # asked for


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


def test_a_class_of_weight_0_alone_is_none(some):
    X, y = some
    model = quick(TabularClassifier).fit(X, y, (y < 2).astype(float))
    assert model.classes_.tolist() == [0, 1]
    assert model.predict_proba(X).shape == (60, 2)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        quick(TabularClassifier).fit(X, y, np.where(y < 2, 1.0, -1.0))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"validation_fraction": 0.999},
            "n_samples=60 and validation_fraction=0.999, the resulting train set",
        ),
        (
            {"validation_fraction": 0.001},
            "n_samples=60 and validation_fraction=0.001, the resulting validation",
        ),
        ({"max_iter": 1}, "max_iter=1 with a single batch of 48 samples is one step"),
    ],
)
def test_a_training_that_could_not_be_is_an_error(kind, parameters, message, some):
    with pytest.raises(ValueError, match=message):
        quick(kind, **parameters).fit(*some)


@pytest.mark.parametrize("n_members", [1, 2])
def test_a_fit_that_diverges_keeps_its_best_epoch(n_members, some):
    X, _ = some
    model = quick(TabularRegressor, n_members=n_members, learning_rate_init=1e8, max_iter=20)
    with pytest.warns(ConvergenceWarning, match="The parameters of epoch.* are kept"):
        model.fit(X, X[:, 0])
    kept = [model.best_epoch_] if n_members == 1 else model.best_epoch_
    assert len(kept) == len(model._model.theta) == n_members
    assert all(1 <= epoch <= model.n_iter_ < 20 for epoch in kept)
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match="Give a smaller learning_rate_init"):
        model.set_params(validation_fraction=0).fit(X, X[:, 0])


def test_targets_are_scaled_by_their_weights_and_predictions_clipped(some, rng):
    X, _ = some
    y, weights = rng.standard_normal((60, 2)) * [1, 100], rng.random(60)
    model = quick(TabularRegressor, max_iter=30).fit(X, y, weights)
    found = model.predict(100 * X)
    assert found.shape == (60, 2)
    assert (found >= y.min(axis=0)).all()
    assert (found <= y.max(axis=0)).all()
    once = quick(TabularRegressor, max_iter=2, learning_rate_init=1e-9).fit(X, y, weights)
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


def test_an_interrupt_without_a_validation_keeps_the_last_parameters(some, monkeypatch):
    fit = nnx.Trainer.fit

    def interrupted(self, *given, **more):
        fit(self, *given, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(nnx.Trainer, "fit", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user. The last parameters are kept"):
        assert quick(TabularClassifier, validation_fraction=0).fit(*some).n_iter_ == 4


class Ends(nnx.Callback):
    """Counts the epochs, and ends the fit: after some of them, or by Ctrl-C in a step."""

    def __init__(self, epochs=None):
        self.epochs, self.seen = epochs, []

    def on_step(self, trainer, progress):
        if self.epochs is None:
            raise KeyboardInterrupt

    def on_epoch(self, trainer, progress):
        self.seen.append({*progress.measured})
        if progress.epoch == self.epochs:
            trainer.stop("enough")


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("validation_fraction", [0, 0.2])
def test_an_interrupt_in_the_first_epoch_changes_nothing(n_members, validation_fraction, some):
    X, y = some
    model = quick(TabularClassifier, n_members=n_members, validation_fraction=validation_fraction).fit(X, y)
    expected, attributes = model.predict_proba(X), set(vars(model))
    with pytest.raises(
        KeyboardInterrupt, match=r"the first epoch has not ended.*the estimator is as before fit"
    ):
        model.set_params(callbacks=Ends()).fit(X[:, :2], y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert set(vars(model)) == attributes


@pytest.mark.parametrize("kind", BOTH)
def test_callbacks_see_the_epochs_and_may_end_the_fit(kind, some):
    callback = Ends(3)
    model = quick(kind, max_iter=9, callbacks=callback, n_members=2).fit(*some)
    assert model.n_iter_ == 3
    assert callback.seen == [{*model.history_}] * 3
    assert clone(model).callbacks.epochs == 3
    with pytest.raises(nnx.InputError, match="a callback must be an instance"):
        quick(kind, callbacks="no such").fit(*some)


# --- weights of classes, and a validation set -------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["balanced", {"a": 3.0, "b": 2.0, "c": 0.5}])
def test_class_weight_is_the_sample_weight_that_it_stands_for(given, some, rng):
    (X, y), own = some, rng.integers(1, 3, 60) / 2
    y = np.array(["b", "a", "c"])[y]
    one = quick(TabularClassifier, class_weight=given).fit(X, y, own)
    other = quick(TabularClassifier).fit(X, y, compute_sample_weight(given, y) * own)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    assert one.history_ == other.history_  # the samples held out have their weights


def test_a_class_of_class_weight_0_stays_a_class(some):
    X, y = some
    model = quick(TabularClassifier, class_weight={0: 1.0, 1: 0.0, 2: 1.0}, max_iter=30).fit(X, y)
    assert model.classes_.tolist() == [0, 1, 2]
    assert 1 not in model.predict(X)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({0: -1.0}, "at least 0"),
        ({7: 1.0}, "not in class_weight"),
        ({0: 0, 1: 0, 2: 0}, "0 for all"),
        ("no", "str"),
    ],
)
def test_class_weights_without_a_meaning(weight, message, some):
    with pytest.raises(ValueError, match=message):
        quick(TabularClassifier, class_weight=weight).fit(*some)


@pytest.mark.parametrize("n_members", [1, 2])
def test_nothing_held_out_that_weighs(n_members, some):
    X, _ = some
    few = (np.arange(60) == 7).astype(int)
    few[3] = 1
    model = quick(TabularClassifier, class_weight={0: 0, 1: 1}, n_members=n_members)
    with pytest.raises(
        nnx.InputError, match=r"^class_weight is 0 for all of the 12 samples that validation_fraction holds"
    ):
        model.fit(X, few)
    with pytest.raises(
        nnx.InputError, match=r"class_weight is 0 for all of the 12 samples .* leaves to train on"
    ):
        model.set_params(validation_fraction=0.8, class_weight={0: 0, 1: 1}).fit(X, few)


@pytest.mark.parametrize("n_members", [1, 2])
def test_a_validation_set_chooses_the_epoch(n_members, some, rng):
    X, y = some
    w = rng.integers(0, 3, 20).astype(float)
    held, train = (X[:20], y[:20], w), (X[20:], y[20:])
    options = {"max_iter": 9, "dtype": "float64"}
    model = quick(TabularClassifier, n_members=n_members, **options).fit(*train, validation_set=held)
    alone = quick(TabularClassifier, n_members=n_members, validation_fraction=0, **options).fit(*train)
    assert model.history_["loss"] == alone.history_["loss"]  # all of the training's samples are trained on
    each = np.array(model.history_["validation_accuracy"]).reshape(9, n_members).T
    for accuracy, epoch, theta in zip(each, np.ravel(model.best_epoch_), model._model.theta, strict=True):
        A = model._model.network.forward(theta, model._model.inputs(X[:20]).T)
        found = np.average(A.argmax(axis=0) == y[:20], weights=w)
        np.testing.assert_allclose([accuracy[epoch - 1], accuracy.max()], found, rtol=1e-9)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_targets_of_a_validation_set_are_scaled_as_those_of_the_training(outputs, some):
    X, _ = some
    y = 100 + 7 * X[:, 0] if outputs == 1 else 100 + 7 * X[:, :2]
    model = quick(TabularRegressor, max_iter=9).fit(X[20:], y[20:], validation_set=(X[:20], y[:20]))
    error = (
        0.5
        * (((model.predict(X[:20]) - y[:20]) / y[20:].std(axis=0)) ** 2).reshape(20, -1).sum(axis=1).mean()
    )
    np.testing.assert_allclose(model.history_["validation_loss"][model.best_epoch_ - 1], error, rtol=1e-4)


@pytest.mark.parametrize("kind", BOTH)
def test_validation_sets_without_a_meaning(kind, some):
    X, y = some
    names = "classes" if kind is TabularClassifier else "outputs"
    other = y + 5 if kind is TabularClassifier else np.stack([y, y], axis=1)
    for bad, message in (
        ((X, other), f"validation_set: y has .*{names}"),
        ((X[:, :2], y), "validation_set: X has 2 features"),
        ((X, y, -np.ones(60)), "validation_set: Negative values in data passed to `sample_weight`"),
        ((X, y[:9]), "validation_set: Found input variables with inconsistent numbers"),
        (X, "validation_set must be"),
    ):
        with pytest.raises(nnx.InputError, match=message):
            quick(kind).fit(X, y, validation_set=bad)


@pytest.mark.parametrize("kind", BOTH)
def test_a_failed_fit_and_new_parameters_change_no_prediction(kind, some):
    X, y = some
    model = quick(kind).fit(X, y)
    expected, attributes = model.predict(X), set(vars(model))
    model.set_params(hidden_layer_sizes=(3, 3), n_members=5, dtype="float64", backend="no such", max_iter=2)
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
    ("weight", "message"),
    [(-1, "Negative values in data passed to"), (0, "must contain at least one non-zero")],
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
    for bad in ("no such", nnx.Periodic(columns=[0])):
        with pytest.raises(nnx.InputError, match=r"numerical_embeddings: .*(no such|names columns)"):
            quick(kind, numerical_embeddings=bad).fit(X, y)


def test_few_samples():
    X = np.arange(4.0)[:, None]
    y = ["a", "a", "b", "b"]
    assert quick(TabularClassifier, max_iter=20, validation_fraction=0).fit(X, y).predict(X).tolist() == y
    with pytest.raises(ValueError, match=r"n_samples=2 .*the resulting validation set will be empty"):
        quick(TabularClassifier).fit(X[:2], ["a", "b"])
    assert quick(TabularClassifier).fit(X, ["a"] * 4).predict_proba(X).tolist() == [[1.0]] * 4
    assert quick(TabularRegressor).fit(X, [3.0] * 4).predict(X).tolist() == [3.0] * 4
    with pytest.raises(ValueError, match="Unknown label type"):
        quick(TabularClassifier).fit(X, [0.5, 1.5, 2.5, 3.5])
