"""scikit-learn's estimators by nnx: all that scikit-learn asks of its own, and what they do beside them."""

import copy
import pickle
import subprocess
import sys
import warnings
from importlib import import_module

import numpy as np
import pytest
from conftest import long_but_for

pytest.importorskip("sklearn", minversion="1.6")

import joblib
import sklearn.neural_network as theirs
from scipy import sparse
from sklearn import datasets
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nnx
from nnx.sklearn import MLPClassifier, MLPRegressor
from nnx.sklearn.regressor import r2

BOTH = [MLPClassifier, MLPRegressor]
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = datasets.load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def digits():
    X, y = datasets.load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def two(digits):
    """The digits 0 and 1."""
    X, y = digits
    return X[y < 2], y[y < 2]


@pytest.fixture(scope="module")
def numbers():
    X, y = datasets.make_regression(200, 10, bias=20.0, noise=30.0, random_state=7)
    return X, (y - y.mean()) / y.std()


@pytest.fixture(scope="module")
def labels():
    return datasets.make_multilabel_classification(60, n_classes=4, random_state=0)


def quick(kind, **parameters):
    return kind(**{"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0} | parameters)


# --- scikit-learn's own checks ---------------------------------------------------------------------------------------

SKIPPED = {
    "check_array_api_input": "it needs SCIPY_ARRAY_API in the environment before SciPy is imported; "
    "test_the_array_api_check_passes runs it",
    "check_classifiers_multilabel_output_format_decision_function": "an MLP has no decision_function",
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_the_checks_of_scikit_learn_pass(estimator, check):
    passes(estimator, check)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MLPClassifier(max_iter=100, n_members=2), MLPRegressor(max_iter=100, n_members=2)])
def test_the_checks_of_scikit_learn_pass_with_members(estimator, check):
    passes(estimator, check)


def passes(estimator, check):
    try:
        check(estimator)
    except pytest.skip.Exception:
        assert check.func.__name__ in SKIPPED
        raise
    except BaseException as error:
        if type(error).__name__ != "SkipTest":
            raise
        pytest.skip(str(error) if "pandas is not installed" in str(error) else SKIPPED[check.func.__name__])


@pytest.mark.long
def test_the_array_api_check_passes():
    pytest.importorskip("array_api_strict")
    code = """
import warnings; warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import check_array_api_input
from nnx.sklearn import MLPClassifier, MLPRegressor
for kind in MLPClassifier, MLPRegressor:
    check_array_api_input(kind.__name__, kind(max_iter=20), "array_api_strict")
"""
    from os import environ

    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


# --- the same run as scikit-learn's ----------------------------------------------------------------------------------

SAME = [
    {"max_iter": 20, "hidden_layer_sizes": (100,)},
    {"max_iter": 20, "activation": "tanh", "hidden_layer_sizes": (20, 10), "beta_1": 0.0, "beta_2": 0.5},
    {"max_iter": 20, "shuffle": False, "batch_size": 64, "alpha": 0.1},
    {"max_iter": 20, "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1},
    {
        "max_iter": 20,
        "solver": "sgd",
        "learning_rate": "invscaling",
        "power_t": 0.1,
        "activation": "logistic",
    },
    {"max_iter": 60, "solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2},
    {
        "max_iter": 60,
        "solver": "sgd",
        "nesterovs_momentum": False,
        "momentum": 1.0,
        "learning_rate_init": 1e-5,
    },
    {"max_iter": 40, "early_stopping": True, "n_iter_no_change": 3, "tol": 0.01},
    {"max_iter": 8, "solver": "lbfgs"},
    {"max_iter": 8, "solver": "lbfgs", "activation": "identity", "alpha": 1.0},
]


WITH_ALL = [("classes", True), ("numbers", True)]
"""Cases that are quick with all of these parameters."""

WITH_TWO = [
    ("two classes", False), ("labels", False), ("several numbers", False), ("counts", True), ("sparse", False),
    ("classes", False),
]  # fmt: skip
"""Cases that are quick with two hidden layers and with L-BFGS."""

LONG = [
    ("two classes", True), ("labels", True), ("numbers", False), ("several numbers", True), ("counts", False),
    ("sparse", True),
]  # fmt: skip


def _mark(case, parameters):
    is_quick = case in WITH_ALL or (case in WITH_TWO and parameters in (SAME[1], SAME[8]))
    return () if is_quick else pytest.mark.long


@unconverged
@pytest.mark.parametrize(
    ("case", "weighted", "parameters"),
    [
        pytest.param(*case, parameters, marks=_mark(case, parameters))
        for case in (*WITH_ALL, *WITH_TWO, *LONG)
        for parameters in SAME
    ],
    ids=lambda x: " ".join(map(str, x.values())) if isinstance(x, dict) else None,
)
def test_the_run_is_that_of_scikit_learn(case, weighted, parameters, iris, two, numbers, labels, rng):
    X, y = {
        "two classes": two,
        "classes": iris,
        "labels": labels,
        "numbers": numbers,
        "several numbers": (numbers[0], np.stack([numbers[1], -2 * numbers[1]], axis=1)),
        "counts": (iris[0], iris[1]),
        "sparse": (sparse.csr_matrix(two[0]), two[1]),
    }[case]
    kind = "MLPClassifier" if "classes" in case or case in ("labels", "sparse") else "MLPRegressor"
    parameters = {"random_state": 3, "hidden_layer_sizes": 12, **parameters}
    parameters |= {"loss": "poisson"} if case == "counts" else {}
    if parameters.get("solver") == "lbfgs" and case == "several numbers":
        pytest.skip(
            "there scikit-learn's line search sees the mean of the losses with the derivative of their sum"
        )
    weights = rng.integers(1, 4, X.shape[0]) / 2 if weighted else None
    if weighted:  # batches of unequal weight are not averaged alike: give them as one
        parameters |= {"batch_size": X.shape[0]}
    made = [
        getattr(theirs, kind)(**parameters),
        {"MLPClassifier": MLPClassifier}.get(kind, MLPRegressor)(**parameters),
    ]
    for one in made:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got `batch_size`")
            one.fit(X, y, sample_weight=weights)
    their, our = made
    tolerance = (
        {"rtol": 1e-6, "atol": 1e-6} if parameters.get("solver") == "lbfgs" else {"rtol": 1e-9, "atol": 1e-11}
    )
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(our, name) == getattr(their, name), name
    for name in ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"):
        there = hasattr(their, name) or name == "validation_scores_"  # which L-BFGS has here as None
        assert hasattr(our, name) == there, name
        if getattr(their, name, None) is not None:
            np.testing.assert_allclose(getattr(our, name), getattr(their, name), **tolerance, err_msg=name)
        else:
            assert getattr(our, name, None) is None
    for name in ("coefs_", "intercepts_"):
        for ours, his in zip(getattr(our, name), getattr(their, name), strict=True):
            assert (ours.shape, ours.dtype) == (his.shape, his.dtype)
            np.testing.assert_allclose(ours, his, **tolerance, err_msg=name)
    np.testing.assert_allclose(our.predict(X), their.predict(X), rtol=1e-5, atol=1e-5)
    if kind == "MLPClassifier":
        np.testing.assert_array_equal(our.classes_, their.classes_)
        np.testing.assert_allclose(our.predict_proba(X), their.predict_proba(X), rtol=1e-5, atol=1e-8)
    assert our.score(X, y, weights) == pytest.approx(their.score(X, y, weights), rel=1e-5)


@unconverged
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_and_warm_start_are_those_of_scikit_learn(solver, iris):
    X, y = iris
    made = [
        kind(8, solver=solver, max_iter=3, random_state=1) for kind in (theirs.MLPClassifier, MLPClassifier)
    ]
    for one in made:
        for part in (slice(0, 40), slice(40, 100), slice(100, 150)):
            one.partial_fit(X[part], y[part], classes=[0, 1, 2])
        one.set_params(warm_start=True).fit(X, y)
        one.partial_fit(X, y).fit(X, y)
    their, our = made
    assert (our.n_iter_, our.t_) == (their.n_iter_, their.t_)
    np.testing.assert_allclose(our.loss_curve_, their.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(our.coefs_[0], their.coefs_[0], rtol=1e-9, atol=1e-12)


def test_parameters_and_their_defaults_are_those_of_scikit_learn():
    for our, their in ((MLPClassifier(), theirs.MLPClassifier()), (MLPRegressor(), theirs.MLPRegressor())):
        own = {
            "backend", "device", "precision", "dtype", "dropout", "normalization", "optimizer", "schedule",
            "regularization", "callbacks", "numerical_embeddings", "n_members", "member_params",
                "selection", "class_weight",
        }  # fmt: skip
        own |= {"loss"} - their.get_params().keys()  # of a classifier
        assert {name: x for name, x in our.get_params().items() if name not in own} == their.get_params()
        assert repr(our) == repr(their)
    assert MLPRegressor("poisson", (3,), "tanh").get_params()["loss"] == "poisson"


@pytest.mark.parametrize("dtypes", [("float64", "float64"), ("float32", "float32"), ("float32", "float64")])
def test_r2_of_the_samples_held_out_is_scikit_learns_to_the_bit(dtypes, rng):
    for weights in (None, rng.integers(0, 3, 30).astype(dtypes[1])):
        Y = (100 * rng.standard_normal((30, 4))).astype(dtypes[0])
        A = (Y + rng.standard_normal((30, 4))).astype(dtypes[1])
        Y[:, :2], A[:, 0], A[:, 3] = 3, 3, Y[:, 3]  # no error and no deviation, no deviation, no error
        assert r2(Y, A, weights) == r2_score(Y, A, sample_weight=weights)


# --- what scikit-learn's tests ask -----------------------------------------------------------------------------------


@unconverged
def test_a_larger_alpha_makes_smaller_weights(two):
    sums = [
        [np.abs(W).sum() for W in MLPClassifier(10, alpha=alpha, random_state=1).fit(*two).coefs_]
        for alpha in (0, 1)
    ]
    assert (np.array(sums[0]) > sums[1]).all()


def test_a_step_worked_by_hand():
    X, y = np.array([[0.6, 0.8, 0.7]]), np.array([0])
    made = MLPClassifier(
        2, "logistic", solver="sgd", learning_rate_init=0.1, alpha=0.1, momentum=0, random_state=1
    )
    made.partial_fit(X, y, classes=[0, 1])
    made.coefs_ = [np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0]]), np.array([[0.1], [0.2]])]
    made.intercepts_ = [np.array([0.1, 0.1]), np.array([1.0])]
    made.partial_fit(X, y)
    h = 1 / (1 + np.exp(-np.array([0.6 * 0.1 + 0.8 * 0.3 + 0.7 * 0.5 + 0.1, 0.6 * 0.2 + 0.8 * 0.1 + 0.1])))
    p = 1 / (1 + np.exp(-(h @ [0.1, 0.2] + 1.0)))
    d2, d1 = p, p * np.array([0.1, 0.2]) * h * (1 - h)
    np.testing.assert_allclose(made.intercepts_[1], [1.0 - 0.1 * d2])
    np.testing.assert_allclose(made.intercepts_[0], 0.1 - 0.1 * d1)
    np.testing.assert_allclose(
        made.coefs_[1][:, 0], [0.1 - 0.1 * (h[0] * d2 + 0.01), 0.2 - 0.1 * (h[1] * d2 + 0.02)]
    )
    W = np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0]])
    np.testing.assert_allclose(made.coefs_[0], W - 0.1 * (np.outer(X[0], d1) + 0.1 * W))
    assert made.predict_proba(X)[0, 1] == pytest.approx(0.739, abs=5e-4)


@pytest.mark.parametrize(
    "activation",
    [pytest.param(one, marks=() if one == "relu" else pytest.mark.long) for one in ACTIVATIONS],
)
def test_lbfgs(activation, two, iris, numbers):
    for X, y in (two, iris):
        made = MLPClassifier(50, activation, solver="lbfgs", max_iter=500, alpha=0.01, random_state=1).fit(
            X[::2], y[::2]
        )
        assert made.score(X[1::2], y[1::2]) > 0.9
        assert made.predict(X).dtype.kind == y.dtype.kind
        assert not hasattr(made, "loss_curve_")
    fits = MLPRegressor(
        hidden_layer_sizes=50, activation=activation, solver="lbfgs", max_iter=1000, tol=1e-3, random_state=1
    ).fit(*numbers)
    assert fits.score(*numbers) > (0.8 if activation == "identity" else 0.96)


@pytest.mark.parametrize("kind", BOTH)
def test_lbfgs_is_bounded(kind, iris):
    with pytest.warns(
        ConvergenceWarning, match=r"lbfgs failed to converge after \d+ iteration.*of 10 evaluations"
    ):
        made = kind(solver="lbfgs", max_fun=10, tol=0).fit(*iris)
    assert made.n_iter_ <= 10
    with pytest.warns(ConvergenceWarning, match="iterations of max_iter are done"):
        assert kind(solver="lbfgs", max_iter=3, tol=0).fit(*iris).n_iter_ == 3
    assert not hasattr(made, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit is only available for stochastic optimizers"):
        made.partial_fit(*iris)


@unconverged
def test_lbfgs_that_begins_at_its_end_has_a_loss(iris):
    made = MLPClassifier(5, solver="lbfgs", warm_start=True, tol=10.0, random_state=0).fit(*iris)
    assert made.n_iter_ == 0
    P = made.predict_proba(iris[0])[np.arange(150), iris[1]]
    squares = sum((W**2).sum() for W in made.coefs_)
    assert made.loss_ == pytest.approx(-np.log(P).mean() + 0.5e-4 * squares / 150)


def test_several_labels(labels):
    X, Y = labels
    made = MLPClassifier(50, "logistic", solver="lbfgs", alpha=1e-5, max_iter=200, random_state=0).fit(X, Y)
    assert made.score(X, Y) > 0.95
    P = made.predict_proba(X)
    assert P.shape == Y.shape
    np.testing.assert_array_equal(P > 0.5, made.predict(X))
    assert np.abs(P.sum(axis=1) - 1).max() > 0.01  # no softmax
    np.testing.assert_allclose(made.predict_log_proba(X), np.log(P))
    going = MLPClassifier(50, "logistic", solver="sgd", random_state=0, alpha=1e-5, learning_rate_init=0.2)
    for _ in range(100):
        going.partial_fit(X, Y, classes=[0, 1, 2, 3])
    assert going.score(X, Y) > 0.85
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        early = MLPClassifier(early_stopping=True, max_iter=20, random_state=0).fit(X, Y)
        assert len(early.validation_scores_) == early.n_iter_
        found = MLPClassifier(max_iter=5).fit(X, sparse.csr_matrix(Y)).predict(X)
    assert sparse.issparse(found)
    assert found.shape == Y.shape


def test_several_numbers(numbers):
    X, y = datasets.make_regression(200, n_targets=5, random_state=11)
    made = MLPRegressor(hidden_layer_sizes=50, solver="lbfgs", max_iter=1000, tol=1, random_state=1).fit(X, y)
    assert made.score(X, y) > 0.9
    assert made.predict(X).shape == y.shape
    with pytest.warns(DataConversionWarning):
        quick(MLPRegressor, max_iter=300, tol=1.0).fit(numbers[0], numbers[1][:, None])


@pytest.mark.long
def test_partial_fit_is_a_fit_in_parts(two, numbers):
    X, y = two
    parameters = {
        "solver": "sgd",
        "random_state": 1,
        "alpha": 1e-5,
        "learning_rate_init": 0.2,
        "shuffle": False,
    }
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(100\) reached"):
        whole = MLPClassifier(max_iter=100, tol=0, **parameters).fit(X, y)
    parts = MLPClassifier(**parameters)
    for _ in range(100):
        parts.partial_fit(X, y, classes=np.unique(y))
    np.testing.assert_allclose(whole.coefs_[0], parts.coefs_[0], rtol=1e-12, atol=1e-14)
    assert parts.score(X, y) > 0.95
    parameters = {"solver": "sgd", "random_state": 1, "learning_rate_init": 0.01, "batch_size": 200}
    going = MLPRegressor(**parameters)
    for _ in range(100):
        going.partial_fit(*numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        np.testing.assert_allclose(
            going.predict(numbers[0]),
            MLPRegressor(max_iter=100, tol=0, **parameters).fit(*numbers).predict(numbers[0]),
        )


def test_partial_fit_wants_all_classes_first():
    made = MLPClassifier(solver="sgd", random_state=0)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        made.partial_fit([[3, 2]], [0])
    made.partial_fit([[3, 2]], [0], classes=[0, 1])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        made.partial_fit([[3, 2]], [0], classes=[1, 2])
    with pytest.raises(ValueError, match="has classes not in `self"):
        made.partial_fit([[3, 2]], [2])
    with pytest.raises(ValueError, match="has classes not in"):
        MLPClassifier().partial_fit([[3, 2], [1, 6]], [1, 0], classes=[2])
    letters = MLPClassifier(random_state=0)
    letters.partial_fit([[1], [2], [3]], ["a", "b", "c"], classes=["a", "b", "c", "d"]).partial_fit(
        [[4]], ["d"]
    )
    assert letters.predict_proba([[1]]).shape == (1, 4)
    assert letters.predict([[1]])[0] in "abcd"


@pytest.mark.filterwarnings("ignore:overflow")
def test_what_grows_beyond_all_numbers():
    X = np.finfo(np.float64).max * np.random.default_rng(0).random((10, 2))
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights") as error:
        MLPRegressor().fit(X, np.ones(10))
    assert isinstance(error.value.__cause__, nnx.DivergenceError)


def test_what_diverges_keeps_its_best_weights(iris):
    made = MLPRegressor(
        activation="identity",
        solver="sgd",
        learning_rate_init=1,
        max_iter=20,
        early_stopping=True,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="infinite or NaN|became"):
        made.fit(*datasets.load_iris(return_X_y=True))
    assert isinstance(made.validation_scores_[-1], float)
    assert np.isnan(made.validation_scores_[-1])
    assert np.isfinite(made.coefs_[0]).all()
    assert len(made.validation_scores_) == len(made.loss_curve_) == made.n_iter_ <= 20


@unconverged
@pytest.mark.parametrize("k", [2, 3])
def test_probabilities(k, digits):
    X, y = digits
    X, y = X[y < k][:60], y[y < k][:60]
    made = MLPClassifier(5, "logistic", random_state=1, learning_rate_init=0.05).fit(X, y)
    P = made.predict_proba(X)
    assert P.shape == (60, k)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    np.testing.assert_allclose(made.predict_log_proba(X), np.log(P))
    np.testing.assert_array_equal(P.argmax(axis=1), made.predict(X))
    if k == 2:
        assert roc_auc_score(y, P[:, 1]) == 1


@unconverged
def test_shuffle_has_its_effect(numbers):
    runs = {
        shuffle: [
            MLPRegressor(hidden_layer_sizes=1, max_iter=1, batch_size=1, random_state=0, shuffle=shuffle).fit(
                *numbers
            )
            for _ in range(2)
        ]
        for shuffle in (True, False)
    }
    for a, b in runs.values():
        np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])
    assert not np.array_equal(runs[True][0].coefs_[0], runs[False][0].coefs_[0])


@unconverged
@pytest.mark.parametrize(
    "form", long_but_for(["csr_matrix", "csc_matrix", "csr_array", "coo_matrix"], "csr_array", "coo_matrix")
)
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_sparse_samples_are_dense_ones(form, solver, two):
    X, y = two
    made = MLPClassifier(15, solver=solver, max_iter=10, random_state=1)
    dense = clone(made).fit(X, y)
    thin = clone(made).fit(getattr(sparse, form)(X), y)
    np.testing.assert_allclose(thin.coefs_[0], dense.coefs_[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(thin.predict(X), dense.predict(getattr(sparse, form)(X)))


def test_tol_ends_a_fit(capsys):
    X, y = [[3, 2], [1, 6]], [1, 0]
    made = MLPClassifier(tol=0.5, max_iter=3000, solver="sgd", verbose=True).fit(X, y)
    assert made.n_iter_ < 3000
    said = capsys.readouterr().out
    assert "Iteration 1, loss = " in said
    assert "Training loss did not improve more than tol=0.500000 for 10 consecutive epochs. Stopping." in said
    made = MLPClassifier(tol=0.5, max_iter=3000, solver="sgd", learning_rate="adaptive", verbose=10).fit(X, y)
    assert made.n_iter_ < 3000
    assert made._trainer.learning_rate < 1e-6
    said = capsys.readouterr().out
    assert "Setting learning rate to 0.000200" in said
    assert "Learning rate too small. Stopping." in said
    made.partial_fit(X, y)
    assert "Iteration 1" in capsys.readouterr().out


@unconverged
@pytest.mark.parametrize("policy", ["invscaling", "constant"])
def test_the_rate_after_a_warm_start(policy):
    X, y = [[3, 2], [1, 6], [5, 6], [-2, -4]], [1, 1, 1, 0]
    made = MLPClassifier(4, solver="sgd", learning_rate=policy, max_iter=1, power_t=0.25, warm_start=True)
    before = made.fit(X, y)._trainer.learning_rate
    after = made.fit(X, y)._trainer.learning_rate
    assert after == pytest.approx(before if policy == "constant" else 0.001 / (8 + 1) ** 0.25)


@pytest.mark.parametrize("kind", BOTH)
def test_early_stopping(kind, two, capsys):
    X, y = two
    made = kind(tol=0.2, max_iter=3000, solver="sgd", early_stopping=True, random_state=0, verbose=True).fit(
        X, y
    )
    assert made.n_iter_ < 3000
    assert made.best_loss_ is None
    assert max(made.validation_scores_) == made.best_validation_score_
    assert made.best_validation_score_ + 0.2 > made.validation_scores_[-1]
    assert "Validation score did not improve" in capsys.readouterr().out
    made = kind(tol=0.2, max_iter=3000, solver="sgd", random_state=0).fit(X, y)
    assert made.validation_scores_ is None
    assert made.best_validation_score_ is None
    assert made.best_loss_ is not None


def test_early_stopping_holds_out_a_share_of_each_class(iris):
    with pytest.raises(ValueError, match=r"least populated class.*\['True'\]|least populated class"):
        MLPClassifier(early_stopping=True).fit([[1, 2], [2, 3], [3, 4], [4, 5]], [0, 0, 0, 1])
    with pytest.raises(ValueError, match="The validation set is too small"):
        MLPRegressor(early_stopping=True).fit([[1, 2], [2, 3]], [0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[iris[1]]
        made = MLPClassifier(early_stopping=True, max_iter=10, random_state=0).fit(iris[0], names)
    assert len(made.validation_scores_) == made.n_iter_
    assert made.predict(iris[0])[0] in names


@pytest.mark.parametrize("kind", BOTH)
def test_early_stopping_is_not_for_partial_fit(kind, iris):
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        quick(kind, max_iter=200, tol=0.1, early_stopping=True).fit(*iris).partial_fit(*iris)


@unconverged
@pytest.mark.parametrize("kind", BOTH)
def test_warm_starts(kind, iris):
    made = quick(kind, solver="sgd", warm_start=True, max_iter=3)
    for times in (1, 2):
        made.fit(*iris)
        assert made.n_iter_ == 3
        assert len(made.loss_curve_) == 3 * times
    assert made.t_ == 900
    held = quick(kind, max_iter=10, warm_start=True, early_stopping=True).fit(*iris)
    n = len(held.validation_scores_)
    held.set_params(max_iter=20).fit(*iris)
    assert len(held.validation_scores_) > n
    for solver in ("sgd", "adam", "lbfgs"):
        made = quick(kind, solver=solver, warm_start=True, max_iter=4, n_iter_no_change=np.inf, tol=0).fit(
            *iris
        )
        assert made.n_iter_ == 4
        first = made.loss_
        assert made.set_params(max_iter=8).fit(*iris).n_iter_ == 8
        assert made.loss_ < first


def test_a_warm_start_has_the_same_classes(iris):
    X, y = iris
    made = MLPClassifier(2, solver="lbfgs", warm_start=True, random_state=42, tol=1e-2, max_iter=1000).fit(
        X, y
    )
    made.fit(X, np.roll(y, 7))
    for other in (np.repeat([0, 1], 75), np.repeat([0, 1, 3], 50), np.repeat(range(5), 30)):
        with pytest.raises(
            ValueError, match="warm_start can only be used where `y` has the same classes as in the prev"
        ):
            made.fit(X, other)


@unconverged
def test_n_iter_no_change(two):
    for k in (2, 5):
        made = MLPClassifier(tol=0.01, max_iter=1000, solver="sgd", n_iter_no_change=k, random_state=0).fit(
            *two
        )
        assert made._no_improvement_count == k + 1
        assert made.n_iter_ < 1000
    made = MLPClassifier(tol=1e9, max_iter=50, solver="sgd", n_iter_no_change=np.inf).fit(*two)
    assert made.n_iter_ == 50
    assert made._no_improvement_count == 49


@unconverged
@pytest.mark.parametrize("kind", BOTH)
def test_the_dtype_is_that_of_the_samples(kind, digits):
    X, y = digits
    found = {}
    for dtype in ("float64", "float32"):
        made = kind(hidden_layer_sizes=(5, 3), alpha=1e-5, random_state=1, max_iter=30, tol=0.1).fit(
            X[:300].astype(dtype), y[:300]
        )
        assert {W.dtype.name for W in [*made.coefs_, *made.intercepts_]} == {dtype}
        found[dtype] = made.predict(X[300:].astype(dtype))
        if kind is MLPRegressor:
            assert found[dtype].dtype == dtype
        else:
            assert made.predict_proba(X).dtype == dtype
    np.testing.assert_allclose(found["float32"], found["float64"], rtol=5e-4)
    assert kind(max_iter=1, dtype="float32").fit(X, y).coefs_[0].dtype == np.float32
    small = kind(max_iter=3, solver="lbfgs").fit(X.astype("float32"), y)
    assert small.coefs_[0].dtype == np.float32


def test_a_loaded_model_goes_on(tmp_path):
    made = MLPRegressor(hidden_layer_sizes=42, random_state=42, learning_rate_init=0.01).fit([[2]], [4])
    joblib.dump(made, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model")
    both = made.partial_fit([[2]], [1]), loaded.partial_fit([[2]], [1])
    np.testing.assert_array_equal(both[0].coefs_[0], both[1].coefs_[0])
    assert loaded._trainer.steps == made._trainer.steps > 10
    for _ in range(200):
        loaded.partial_fit([[2]], [1])
    np.testing.assert_allclose(loaded.predict([[2]]), [1], rtol=1e-4)


@unconverged
@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("kind", BOTH)
def test_frames(library, kind, iris):
    frames = pytest.importorskip(library)
    X, y = iris
    names = ["a", "b", "c", "d"]
    table = frames.DataFrame({name: X[:, j] for j, name in enumerate(names)})
    made = quick(kind, early_stopping=True).fit(table, frames.Series(y))
    assert list(made.feature_names_in_) == names
    assert type(made.predict(table)) is np.ndarray
    assert made.score(table, frames.Series(y)) == made.score(table, y)
    with pytest.raises(ValueError, match="feature names should match"):
        made.predict(frames.DataFrame({name.upper(): X[:, j] for j, name in enumerate(names)}))


def test_weights_of_one_are_none(numbers):
    parameters = {
        "early_stopping": True,
        "tol": 1e-2,
        "learning_rate_init": 0.01,
        "batch_size": 10,
        "random_state": 42,
    }
    plain = MLPRegressor(hidden_layer_sizes=10, **parameters).fit(*numbers)
    weighed = MLPRegressor(hidden_layer_sizes=10, **parameters).fit(*numbers, sample_weight=np.ones(200))
    np.testing.assert_allclose(plain.predict(numbers[0]), weighed.predict(numbers[0]))


@unconverged
def test_a_weight_is_a_repetition(iris):
    X, y = iris
    weights = np.arange(150) % 3
    weighed = MLPClassifier(5, solver="lbfgs", random_state=0, max_iter=20).fit(X, y, sample_weight=weights)
    repeated = MLPClassifier(5, solver="lbfgs", random_state=0, max_iter=20).fit(
        X.repeat(weights, 0), y.repeat(weights)
    )
    np.testing.assert_allclose(weighed.coefs_[0], repeated.coefs_[0], rtol=1e-5, atol=1e-7)


def test_poisson_is_a_generalized_linear_model():
    rng = np.random.default_rng(0)
    X = np.linspace(0, 1, 100)
    y = rng.poisson(np.exp(X + 1))
    X = X[:, None]
    linear = PoissonRegressor(alpha=0, tol=1e-7).fit(X, y).predict(X)
    parameters = {
        "hidden_layer_sizes": (1,),
        "activation": "identity",
        "alpha": 0,
        "solver": "lbfgs",
        "tol": 1e-7,
    }
    found = MLPRegressor("poisson", **parameters, random_state=1).fit(X, y)
    np.testing.assert_allclose(found.predict(X), linear, rtol=1e-4)
    assert found.out_activation_ == "exp"
    straight = MLPRegressor("squared_error", **parameters, random_state=1).fit(X, y)
    assert not np.allclose(straight.predict(X), linear, rtol=1e-4)
    with pytest.raises(ValueError, match="expects values >= 0"):
        MLPRegressor("poisson").fit(X, y - 10)


def test_what_is_refused(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be > 0, got \[3, 0\]"):
        MLPClassifier((3, 0)).fit(X, y)
    with pytest.raises(ValueError, match="'solver' parameter of MLPClassifier must be a str among"):
        MLPClassifier(solver="newton").fit(X, y)
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(X, X[:, 0])
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(X)
    with pytest.raises(ValueError, match="X has 2 features, but MLPRegressor is expecting 4"):
        quick(MLPRegressor, max_iter=200, tol=1).fit(X, y).predict(X[:, :2])
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        quick(MLPClassifier, batch_size=1000, tol=1, max_iter=50).fit(X, y)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        MLPClassifier().fit(X, y, sample_weight=-np.ones(150))


def test_an_interrupt_ends_a_fit(iris):
    class Interrupts(nnx.Callback):
        def on_step(self, trainer, progress):
            if trainer.steps == 5:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        made = MLPClassifier(callbacks=Interrupts()).fit(*iris)
    assert made._trainer.steps == 5
    assert made.predict(iris[0]).shape == (150,)


# --- with the rest of scikit-learn -----------------------------------------------------------------------------------


@pytest.mark.long
@unconverged
def test_searches_pipelines_and_the_rest(iris):
    X, y = iris
    line = make_pipeline(StandardScaler(), MLPClassifier(solver="lbfgs", max_iter=50, random_state=0))
    assert cross_val_score(line, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(quick(MLPClassifier), {"alpha": [1e-4, 1.0]}, cv=2).fit(X, y)
    assert search.best_params_["alpha"] in (1e-4, 1.0)
    made = line.fit(X, y)
    assert permutation_importance(made, X, y, n_repeats=2, random_state=0).importances_mean.max() > 0.1
    P = CalibratedClassifierCV(quick(MLPClassifier), cv=2).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1)


def test_clones_and_copies(iris):
    made = quick(
        MLPClassifier, max_iter=200, tol=0.1, schedule=nnx.schedules.Cosine(0.01, 100), callbacks=[print]
    )
    made.set_params(callbacks=())
    assert clone(made).get_params() == made.get_params()
    made.fit(*iris)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(other.predict_proba(iris[0]), made.predict_proba(iris[0]))
        other.coefs_[0][:] = 0
        assert made.coefs_[0].any()
    assert not hasattr(pickle.loads(pickle.dumps(clone(made))), "coefs_")


@unconverged
def test_parameters_that_are_set_are_used(iris):
    X, y = iris
    made = quick(MLPClassifier).fit(X, y)
    assert all(np.shares_memory(x, made._vector) for x in [*made.coefs_, *made.intercepts_])
    before = made.predict_proba(X)
    made.coefs_[1][:] = 0
    made.intercepts_[1][:] = 0
    np.testing.assert_allclose(made.predict_proba(X), 1 / 3)
    made.coefs_ = [2 * W for W in made.coefs_]
    made.intercepts_ = [b + 1 for b in made.intercepts_]
    np.testing.assert_allclose(made.predict_proba(X), 1 / 3)
    assert not np.allclose(before, 1 / 3)
    made.partial_fit(X, y)
    assert made.score(X, y) >= 0


# --- beside scikit-learn ---------------------------------------------------------------------------------------------


def of(backend, x):
    return backend.asarray(x)


@unconverged
@pytest.mark.parametrize("kind", BOTH)
def test_arrays_of_every_library(backend, kind, iris):
    X, y = iris[0].astype("float32"), iris[1].astype("float32" if kind is MLPRegressor else "int32")
    expected = quick(kind).fit(X, y)
    made = quick(kind).fit(of(backend, X), of(backend, y))
    found = made.predict(of(backend, X))
    assert type(found) is type(of(backend, X))
    assert nnx.sklearn.samples.home(found) == (
        None if backend.name == "numpy" else (backend.name, backend.device)
    )
    np.testing.assert_allclose(backend.to_numpy(found), expected.predict(X), rtol=1e-4, atol=1e-5)
    assert type(made.coefs_[0]) is type(found)
    np.testing.assert_allclose(backend.to_numpy(made.coefs_[0]), expected.coefs_[0], rtol=1e-4, atol=1e-5)
    assert made.score(of(backend, X), of(backend, y)) == pytest.approx(expected.score(X, y), abs=1e-4)
    loaded = pickle.loads(pickle.dumps(made))
    assert type(loaded.coefs_[0]) is np.ndarray
    np.testing.assert_allclose(loaded.predict(X), expected.predict(X), rtol=1e-4, atol=1e-5)
    loaded.partial_fit(X, y)
    made.partial_fit(of(backend, X), of(backend, y))
    np.testing.assert_allclose(loaded.coefs_[0], backend.to_numpy(made.coefs_[0]), rtol=1e-4, atol=1e-5)
    early = quick(kind, early_stopping=True).fit(of(backend, X), of(backend, y))
    assert early.validation_scores_ == pytest.approx(
        quick(kind, early_stopping=True).fit(X, y).validation_scores_, abs=1e-4
    )
    if kind is MLPClassifier:
        assert type(made.classes_) is type(found)
        for function in ("predict_proba", "predict_log_proba"):
            P = getattr(made, function)(of(backend, X))
            assert type(P) is type(found)
            np.testing.assert_allclose(
                backend.to_numpy(P), getattr(expected.partial_fit(X, y), function)(X), rtol=1e-3, atol=1e-4
            )
            expected = quick(kind).fit(X, y)
        words = np.array(["one", "two", "three"])[iris[1]]
        assert set(quick(kind).fit(of(backend, X), words).predict(of(backend, X))) <= set(words)


def test_samples_do_not_pass_over_the_host(iris, monkeypatch):
    torch = pytest.importorskip("torch")
    X, y = torch.asarray(iris[0]), torch.asarray(iris[1])
    seen, adapter = [], import_module("nnx.backends.torch.adapter")
    real = nnx.array.host.as_host
    for module in (nnx.array.host, adapter):
        monkeypatch.setattr(
            module, "as_host", lambda x: seen.append(tuple(x.shape)) or real(x), raising=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made = quick(MLPClassifier).fit(X, y)
    assert tuple(X.shape) not in seen
    seen.clear()
    monkeypatch.setattr(adapter.Torch, "to_numpy", lambda *_: pytest.fail("read on the host"))
    made.predict_proba(X)
    made.predict(X)
    assert not [shape for shape in seen if 150 in shape]


@unconverged
def test_a_backend_that_is_asked_for(iris):
    pytest.importorskip("torch")
    X, y = iris
    made = quick(MLPClassifier, backend="torch", device="cpu").fit(X, y)
    assert type(made.predict(X)) is type(made.coefs_[0]) is np.ndarray
    np.testing.assert_allclose(
        made.predict_proba(X), quick(MLPClassifier).fit(X, y).predict_proba(X), rtol=1e-9
    )
    with pytest.raises(nnx.InputError, match="unknown backend 'trch'; did you mean 'torch'"):
        MLPClassifier(backend="trch").fit(X, y)


class Told(nnx.Callback):
    def __init__(self):
        self.epochs = []

    def on_epoch(self, trainer, progress):
        self.epochs.append(progress.epoch)


@unconverged
def test_layers_and_objects_of_nnx(iris):
    X, y = iris
    told = Told()
    made = MLPClassifier(
        (16, 8),
        max_iter=30,
        random_state=0,
        dropout=0.1,
        normalization="batch",
        batch_size=50,
        optimizer=nnx.AdamW(0.01),
        schedule=nnx.schedules.Cosine(0.02, steps=90),
        regularization=nnx.Regularization(clip_norm=1.0),
        callbacks=[told],
    ).fit(X, y)
    kinds = [type(layer).__name__ for layer in made.network_.layers]
    assert kinds == ["Dense", "BatchNorm", "Activate", "Dropout"] * 2 + ["Dense"]
    assert made._trainer.optimizer == nnx.AdamW(nnx.schedules.Cosine(0.02, steps=90))
    assert made._trainer.regularization == nnx.Regularization(clip_norm=1.0)
    assert told.epochs == list(range(1, made.n_iter_ + 1))
    assert made.score(X, y) > 0.9
    loaded = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(loaded.predict_proba(X), made.predict_proba(X))
    loaded.coefs_ = [W + 0 for W in loaded.coefs_]  # the norms' parameters stay
    np.testing.assert_array_equal(loaded.predict_proba(X), made.predict_proba(X))
    for one in (made, loaded):  # the masks, too, go on alike
        one.set_params(callbacks=()).partial_fit(X, y)
    np.testing.assert_array_equal(loaded.coefs_[0], made.coefs_[0])
    named = MLPRegressor(hidden_layer_sizes=4, optimizer="lbfgs", normalization="layer", max_iter=3).fit(X, y)
    assert not named._stochastic
    with pytest.raises(nnx.InputError, match="LBFGS cannot be used with Dropout"):
        MLPClassifier(solver="lbfgs", dropout=0.5).fit(X, y)


def test_a_callback_may_end_a_fit(iris):
    class Enough(nnx.Callback):
        def on_epoch(self, trainer, progress):
            if progress.epoch == 3:
                trainer.stop("enough")

    made = MLPClassifier(callbacks=[Enough()]).fit(*iris)
    assert made.n_iter_ == 3
