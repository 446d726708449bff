"""StackedSearchCV beside scikit-learn's searches: the same results, in stacks."""

import pickle

import numpy as np
import pytest
from conftest import long_but_for
from joblib import parallel_config
from joblib.parallel import get_active_backend
from scipy import sparse, stats
from sklearn import datasets
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nnx
from nnx.port import registry
from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV, search_tasks
from nnx.train import stack_fit

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite"),
]


def long(*cases):
    """The same cases, as parameters of long tests."""
    return [pytest.param(*case, marks=pytest.mark.long) for case in cases]


@pytest.fixture(scope="module")
def wine():
    X, y = datasets.load_wine(return_X_y=True)
    each = np.concatenate([np.flatnonzero(y == k)[:30] for k in range(3)])  # so that folds have one size
    return StandardScaler().fit_transform(X)[each], y[each]


@pytest.fixture
def stacks(monkeypatch):
    """The sizes of the stacks that are trained."""
    sizes, run = [], search_tasks.run_stack

    def counted(fits):
        found = run(fits)
        sizes.append(len(fits))
        return found

    monkeypatch.setattr(search_tasks, "run_stack", counted)
    return sizes


def net(kind=MLPClassifier, **parameters):
    return kind(
        **{"hidden_layer_sizes": (6,), "max_iter": 4, "batch_size": 20, "random_state": 0} | parameters
    )


def same(ours, theirs, rtol=1e-9):
    """Whether two searches have the same results, but for the seconds."""
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for name, x in theirs.cv_results_.items():
        if name.startswith(("split", "mean", "std")) and "time" not in name:
            assert np.allclose(ours.cv_results_[name], x, rtol=rtol, equal_nan=True), name
        elif "time" not in name:
            assert str(ours.cv_results_[name]) == str(x), name
    assert (ours.cv_results_["mean_fit_time"] > 0).all()


def searched(estimator, grid, X, y, given=None, **options):
    """Our search and scikit-learn's over the same candidates."""
    found = []
    for kind in (StackedSearchCV, GridSearchCV):
        found.append(kind(clone(estimator), grid, **{"cv": 3} | options).fit(X, y, **given or {}))
    same(*found)
    return found


RATES = {"learning_rate_init": [0.001, 0.03], "alpha": [0, 0.5]}


@pytest.mark.parametrize(
    ("parameters", "grid", "sizes"),
    [
        ({}, RATES | {"batch_size": [20, 30]}, [12, 12]),
        ({}, {"optimizer": [nnx.Lion(0.001), nnx.Lion(0.01), "momentum"]}, [3, 6]),
        *long(
            ({"early_stopping": True, "n_iter_no_change": 1}, {"tol": [1e-4, 0.5], "random_state": [0, 1]}, [12]),
            ({}, {"hidden_layer_sizes": [(6,), 6, (4, 4)], "tol": [1e-4, 1.0], "n_iter_no_change": [1]}, [6, 12]),
            ({"solver": "sgd"}, {"momentum": [0, 0.9], "learning_rate": ["constant", "invscaling", "adaptive"]}, [18]),
            ({}, [{"beta_1": [0, 0.9], "beta_2": [0]}, {"epsilon": [1e-3]}], [9]),
            ({"dropout": 0.1, "shuffle": False}, {"dropout": [0.2, 0.4], "normalization": [None, "layer"]}, [6, 6]),
            ({}, {"schedule": [nnx.schedules.Cosine.in_epochs(r) for r in (0.1, 0.01)], "max_iter": [3]}, [6]),
            ({}, {"solver": ["lbfgs", "adam"]}, [3]),
        ),
    ],
)  # fmt: skip
def test_the_scores_are_those_of_scikit_learns_search(wine, stacks, parameters, grid, sizes):
    ours, theirs = searched(net(**parameters), grid, *wine, return_train_score=True)
    assert sorted(stacks) == sizes
    assert ours.best_params_ == theirs.best_params_
    assert np.array_equal(ours.best_estimator_.predict(wine[0]), theirs.best_estimator_.predict(wine[0]))


def test_samples_of_a_fold_are_checked_once(wine, monkeypatch):
    checked, check = [], MLPClassifier._validate
    monkeypatch.setattr(MLPClassifier, "_validate", lambda *given: checked.append(1) or check(*given))
    grid = RATES | {"dtype": [None, "float32"]}
    StackedSearchCV(net(), grid, cv=3, refit=False).fit(*wine)
    assert len(checked) == 6


def test_samples_of_a_fold_are_in_memory_once(wine, monkeypatch):
    sizes, run = [], search_tasks.run_stack
    monkeypatch.setattr(
        search_tasks, "run_stack", lambda fits: sizes.append(len({id(fit.X) for fit in fits})) or run(fits)
    )
    X = (100 * wine[0]).astype(int)  # each fit makes floats of it
    StackedSearchCV(net(), RATES, cv=3, refit=False).fit(X, wine[1])
    assert sizes == [3]


@pytest.mark.long
def test_a_stack_that_memory_does_not_hold_is_trained_in_rounds(wine, stacks, monkeypatch):
    sizes, room = [], stack_fit.room
    monkeypatch.setattr(
        stack_fit, "room", lambda K, *given: sizes.append(min(5, room(K, *given))) or sizes[-1]
    )
    searched(net(), RATES | {"learning_rate_init": [0.001, 1e300]}, *wine, error_score=-1)
    assert stacks == [12]
    assert max(sizes) == 5
    monkeypatch.setattr(search_tasks, "available", lambda: 0)
    monkeypatch.setattr(search_tasks, "SMALL", 300_000)  # holds five fits
    searched(net(), RATES, *wine)
    assert stacks == [12, 6, 6]


@pytest.mark.long
@pytest.mark.needs("numba")
def test_numba_is_taken_when_the_work_of_all_candidates_is_worth_it(wine, monkeypatch):
    taken, take = [], search_tasks.take_backends

    def noted(fits):
        before = fits[0].trainer.backend.name
        take(fits)
        taken.append((before, fits[0].trainer.backend.name))

    monkeypatch.setattr(search_tasks, "take_backends", noted)
    monkeypatch.setattr(registry, "WORTH", 2 * registry.work(13 * 6 + 6 + 6 * 3 + 3, 60 * 4, 3 * 4))
    searched(net(), RATES, *wine)
    assert taken == [("numpy", "numba")]


class CountedScaler(StandardScaler):
    """Counts its fits."""

    fits = 0

    def fit(self, X, y=None, sample_weight=None):
        CountedScaler.fits += 1
        return super().fit(X, y, sample_weight)


@pytest.mark.long
def test_a_pipeline_is_fitted_to_each_fold_apart_and_once_for_all_its_networks(wine, stacks):
    X, y = wine[0] * [*range(1, 14)], wine[1]
    steps = make_pipeline(CountedScaler(), net())
    grid = {f"mlpclassifier__{name}": values for name, values in RATES.items()}
    CountedScaler.fits = 0
    searched(steps, grid, X, y, refit=False)
    assert CountedScaler.fits == 3 + 12
    given = {
        "countedscaler": [MinMaxScaler(), CountedScaler()],
        "mlpclassifier": [net(alpha=0), net(alpha=1.0)],
    }
    searched(steps, given, X, y)
    assert stacks == [12, 12]


def test_weights_of_the_samples_reach_the_last_step_of_a_pipeline(wine, stacks, rng):
    steps, w = make_pipeline(StandardScaler(), net()), rng.uniform(0.5, 2, len(wine[1]))
    searched(steps, {"mlpclassifier__alpha": [0, 1.0]}, *wine, {"mlpclassifier__sample_weight": w})
    assert stacks == [6]


def test_targets_may_be_scaled(stacks):
    X, y = (x[:60] for x in datasets.load_diabetes(return_X_y=True))
    steps = TransformedTargetRegressor(net(MLPRegressor), transformer=StandardScaler())
    searched(steps, {"regressor__alpha": [0, 1.0], "transformer__with_std": [True, False]}, X, y)
    assert sum(stacks) == 12


def least_alpha(results):
    return int(np.argmin(results["param_alpha"]))


def f1_and_accuracy(estimator, X, y):
    return {"a": accuracy_score(y, estimator.predict(X)), "b": estimator.coefs_[0].sum()}


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"scoring": ["accuracy", "f1_macro", "neg_log_loss"], "refit": "f1_macro"}, {}),
        ({}, {"sample_weight": np.r_[np.zeros(5), np.ones(85)]}),
        *long(
            ({"cv": ShuffleSplit(3, test_size=30, random_state=0)}, {}),
            ({"cv": GroupKFold(3)}, {"groups": np.arange(90) % 7}),
            ({"scoring": f1_and_accuracy, "refit": "a"}, {}),
            ({"scoring": "roc_auc_ovr", "refit": least_alpha}, {}),
            ({"scoring": ["accuracy", "f1_macro"], "refit": False}, {}),
            ({"cv": [(np.arange(60), np.arange(60, 90)), (np.arange(40, 90), np.arange(40))]}, {}),
        ),
    ],
)
def test_every_option_of_scikit_learns_search(wine, stacks, options, given):
    ours, theirs = searched(net(), {"alpha": [0, 9.0]}, *wine, given, **options)
    assert stacks
    for name in ("best_index_", "best_params_", "best_score_", "multimetric_", "n_splits_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        assert str(getattr(ours, name, "")) == str(getattr(theirs, name, "")), name
    if options.get("refit", True):
        assert ours.score(*wine) == pytest.approx(theirs.score(*wine))


def test_a_scorer_may_keep_and_train_on_the_estimators_that_it_sees(wine, stacks):
    seen = []

    def score(estimator, X, y):
        seen.append(estimator)
        return estimator.score(X, y)

    StackedSearchCV(net(), {"alpha": [0, 1.0]}, scoring=score, cv=3, refit=False).fit(*wine)
    again = pickle.loads(pickle.dumps(seen[0]))
    assert again.partial_fit(*wine).t_ == seen[0].partial_fit(*wine).t_ > 4 * 60
    assert np.allclose(again.coefs_[0], seen[0].coefs_[0])
    assert seen[1].fit(*wine).n_iter_ == 4


@pytest.mark.parametrize("y", long_but_for(["binary", "labels", "numbers"], "binary", "numbers"))
def test_targets_of_every_kind(rng, stacks, y):
    X, z = rng.standard_normal((60, 3)), rng.standard_normal((60, 2))
    kind = MLPRegressor if y == "numbers" else MLPClassifier
    target = {"binary": np.where(z[:, 0] > 0, "a", "b"), "labels": (z > 0).astype(int), "numbers": z}[y]
    searched(net(kind), RATES, X, target)
    assert stacks[-1] > 3


def test_candidates_are_drawn_from_distributions(wine, stacks):
    options = {"n_iter": 4, "random_state": 3, "cv": 3}
    given = {"alpha": stats.loguniform(1e-5, 1), "learning_rate_init": stats.uniform(0.001, 0.1)}
    ours = StackedSearchCV(net(), param_distributions=given, **options).fit(*wine)
    same(ours, RandomizedSearchCV(net(), given, **options).fit(*wine))
    assert stacks == [12]


# --- failures -----------------------------------------------------------------------------------------------


class Breaks(nnx.Callback):
    error: type[BaseException] = RuntimeError

    def on_epoch(self, trainer, progress):
        raise self.error("broken")


class BreaksInAStack(Breaks):
    each_member = True


class Interrupts(BreaksInAStack):
    error = KeyboardInterrupt


CALLED = []


def call(progress):
    CALLED.append(progress.epoch)


@pytest.mark.parametrize(
    ("bad", "says", "stacked"),
    [
        ({"learning_rate_init": [1e300]}, "non-finite parameter weights", True),
        *long(({"alpha": [-1.0]}, "alpha", True), ({"callbacks": [Breaks()]}, "broken", True)),
        ({"callbacks": [BreaksInAStack()]}, "broken", False),
    ],
)
def test_a_candidate_that_fails_has_the_error_score(wine, stacks, bad, says, stacked, caplog):
    grid = [{"alpha": [0.0, 1.0]}, bad]
    with pytest.warns(FitFailedWarning, match=says):
        ours = StackedSearchCV(net(), grid, cv=3, error_score=-1).fit(*wine)
    assert ours.cv_results_["mean_test_score"][2] == -1
    with pytest.warns(FitFailedWarning):
        same(ours, GridSearchCV(net(), grid, cv=3, error_score=-1).fit(*wine))
    assert bool(stacks) == stacked
    assert ("a stack of 9 fits of the search has failed; each is done by itself" in caplog.text) == (
        not stacked
    )
    with pytest.raises((ValueError, nnx.CallbackError), match=f"(?i){says}"):
        StackedSearchCV(net(), grid, cv=3, error_score="raise").fit(*wine)


def test_a_callback_that_is_not_of_each_member_is_called_as_often_as_in_scikit_learns_search(wine, stacks):
    counts = []
    for kind in (StackedSearchCV, GridSearchCV):
        CALLED.clear()
        kind(net(callbacks=call), {"alpha": [0, 1.0]}, cv=3, refit=False).fit(*wine)
        counts.append([*CALLED])
    assert counts[0] == counts[1]
    assert counts[0][-1] == 4
    assert stacks == []


def test_an_error_that_is_not_of_parameters_or_samples_is_told(wine, stacks, monkeypatch, caplog):
    def broken(*given):
        raise RuntimeError("out of order")

    monkeypatch.setattr(search_tasks, "architecture", broken)
    searched(net(), {"alpha": [0, 1.0]}, *wine)
    assert (
        "cannot be made ready for a stack, and is done by itself: RuntimeError: out of order" in caplog.text
    )
    assert stacks == []


def test_if_every_candidate_diverges_the_error_says_why(wine):
    search = StackedSearchCV(net(), {"learning_rate_init": [1e300, 1e299]}, cv=3)
    with pytest.raises(ValueError, match=r"(?s)All the 6 fits failed.*Try a learning rate below 1e\+300"):
        search.fit(*wine)


def test_an_interrupt_ends_the_search(wine):
    with pytest.raises(KeyboardInterrupt):
        StackedSearchCV(net(callbacks=Interrupts()), RATES, cv=3).fit(*wine)


# --- what no stack can train --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        *long((LogisticRegression(), {"C": [0.1, 1.0]}), (net(max_iter=2), {"n_members": [2, 3]})),
        (make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0]}),
        (net(max_iter=2), {"alpha": [0, 1.0]}),  # of a sparse X
    ],
)
def test_others_are_fitted_one_by_one(wine, stacks, estimator, grid):
    X, y = wine
    with parallel_config(backend="threading"):
        searched(estimator, grid, sparse.csr_matrix(X) if "alpha" in grid else X, y, n_jobs=2)
    assert stacks == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "neither is given .*; give one of them"),
        ({"param_grid": {}, "param_distributions": {}}, "both are given .*; give one of them"),
        ({"param_grid": {}, "n_iter": 3}, "n_iter=3 is of param_distributions; all combinations"),
        (
            {"param_distributions": {"alpha": stats.uniform()}, "n_iter": 10**12},
            r"1,000,000,000,000 candidates take .* fit .* Give fewer values, or a smaller n_iter",
        ),
        (
            {"param_grid": [{"alpha": range(10**6), "beta_1": range(10**6)}]},
            "1,000,000,000,000 candidates take",
        ),
    ],
)
def test_what_is_refused(wine, given, says):
    with pytest.raises(nnx.InputError, match=says):
        StackedSearchCV(net(), **given).fit(*wine)


@pytest.mark.filterwarnings("default")
def test_warnings_point_to_the_search(wine):
    with pytest.warns(ConvergenceWarning) as caught:
        StackedSearchCV(net(max_iter=1), {"alpha": [0.1, 1.0]}, cv=2, refit=False).fit(*wine)
    assert {one.filename for one in caught} == {__file__}


# --- as an estimator of scikit-learn ------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [StackedSearchCV(net(max_iter=15, learning_rate_init=0.1), {"alpha": [1e-4, 1e-3]}, cv=2)]
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_a_search_is_cloned_and_pickled(wine):
    search = StackedSearchCV(net(), RATES, cv=2, return_train_score=True)
    fitted = clone(search).fit(*wine)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert np.array_equal(again.predict_proba(wine[0]), fitted.predict_proba(wine[0]))
    assert again.cv_results_["params"] == fitted.cv_results_["params"]


def test_a_search_leaves_joblib_as_it_was(wine):
    before = type(get_active_backend()[0])
    StackedSearchCV(net(), RATES, cv=2).fit(*wine)
    with pytest.raises(ValueError, match="cv"):
        StackedSearchCV(net(), RATES, cv="x").fit(*wine)
    assert type(get_active_backend()[0]) is before
