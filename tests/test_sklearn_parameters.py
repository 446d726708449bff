"""Every parameter of the estimators, set between two fits: as scikit-learn has it, or an error that names it."""

import copy
import pickle
import warnings
from datetime import date

import numpy as np
import pytest
from conftest import long_but_for

pytest.importorskip("sklearn", minversion="1.7")

import joblib
import sklearn.neural_network as theirs
from scipy.sparse import csr_array
from sklearn.base import clone

import nnx
from nnx.sklearn import MLPClassifier, MLPRegressor, TabularRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1"),
]

SET = {
    "activation": "tanh",
    "alpha": 10.0,
    "batch_size": 11,
    "beta_1": 0.1,
    "beta_2": 0.1,
    "epsilon": 1.0,
    "hidden_layer_sizes": (3,),
    "learning_rate": "invscaling",
    "learning_rate_init": 0.5,
    "loss": "poisson",
    "max_fun": 3,
    "max_iter": 2,
    "momentum": 0.1,
    "n_iter_no_change": 1,
    "nesterovs_momentum": False,
    "power_t": 0.1,
    "random_state": 5,
    "shuffle": False,
    "solver": "sgd",
    "tol": 1e9,
    "validation_fraction": 0.4,
    "verbose": True,
    "warm_start": True,
    "early_stopping": True,
    # of nnx alone: what a difference is made by, or what the error says
    "backend": "numpy",
    "device": "cpu",
    "precision": "bfloat16",
    "dtype": "float32",
    "dropout": 0.5,
    "normalization": "batch",
    "numerical_embeddings": "periodic",
    "optimizer": nnx.GradientDescent(0.7),
    "schedule": nnx.schedules.Constant(0.7),
    "regularization": nnx.Regularization(l2=5.0),
    "callbacks": (nnx.EarlyStopping("loss"),),
    "n_members": 3,
    "member_params": {"alpha": [0.1]},
    "selection": "greedy",
}
REFUSED = {
    "hidden_layer_sizes", "normalization", "loss", "early_stopping", "precision", "n_members", "member_params",
    "selection", "numerical_embeddings",
}  # fmt: skip
COUNTS = {"activation", "alpha", "dropout", "dtype", "optimizer", "schedule", "regularization"}
"""They change the second step's parameters."""


@pytest.fixture
def samples(rng):
    X = rng.standard_normal((40, 3))
    return X, np.abs(X[:, 0] + X[:, 1])


def parts(kind, y, times):
    """Give the estimator so many parts; return the loss of each."""
    rng = np.random.default_rng(1)
    losses = []
    for _ in range(times):
        X = rng.standard_normal((40, 3))
        kind.partial_fit(X, np.abs(X[:, 0] + X[:, 1]))
        losses.append(kind.loss_)
    return losses


OF_A_SOLVER = {
    "alpha", "batch_size", "beta_1", "beta_2", "epsilon", "learning_rate", "learning_rate_init", "momentum",
    "nesterovs_momentum", "optimizer", "power_t", "schedule", "solver",
}  # fmt: skip
"""Parameters that the two solvers read each in its way. The others are tried with one of them."""


def _marks(name, solver):
    long = solver == "sgd" and name not in OF_A_SOLVER
    return [pytest.mark.needs("torch")] * (name == "precision") + [pytest.mark.long] * long


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        pytest.param(name, solver, marks=_marks(name, solver))
        for name in sorted(MLPRegressor().get_params())
        for solver in ("adam", "sgd")
    ],
)
def test_a_parameter_that_is_set_between_partial_fits(name, solver, samples, capsys):
    value = SET[name] if name != "solver" else {"adam": "sgd", "sgd": "adam"}[solver]
    made = [
        library.MLPRegressor(hidden_layer_sizes=(4,), solver=solver, random_state=0, batch_size=16)
        for library in (theirs, nnx.sklearn)
    ]
    for one in made:
        parts(one, samples[1], 2)
    their, our = made
    untouched = copy.deepcopy(our)
    our.set_params(**{name: value})
    if name in REFUSED:
        before = [W.copy() for W in our.coefs_]
        with pytest.raises(ValueError, match=name):
            our.partial_fit(*samples)
        np.testing.assert_array_equal(our.coefs_[0], before[0])
        assert our.set_params(**{name: getattr(untouched, name)}).partial_fit(*samples).t_ == 120
        return
    found = parts(our, samples[1], 3)
    if name in their.get_params():
        expected = parts(their.set_params(**{name: value}), samples[1], 3)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(our.coefs_[0], their.coefs_[0], rtol=1e-8, atol=1e-10)
    changed = not np.array_equal(our.coefs_[0], (parts(untouched, samples[1], 3), untouched.coefs_[0])[1])
    assert changed == (name in COUNTS | {"batch_size", "random_state", "shuffle"})


@pytest.mark.parametrize("between", ["nothing", "pickle", "deepcopy", "float32 and back"])
@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "learning_rate": "invscaling"}], ids=str)
def test_a_new_alpha_keeps_the_memory_of_the_optimizer(between, parameters, samples):
    made = [
        library.MLPRegressor(hidden_layer_sizes=(4,), random_state=0, **parameters)
        for library in (theirs, nnx.sklearn)
    ]
    for k, alpha in enumerate((0.0, 3.0, 3.0, 0.1)):
        for one in made:
            parts(one.set_params(alpha=alpha, power_t=0.5 + k), samples[1], 2)
        if between == "pickle":
            made[1] = pickle.loads(pickle.dumps(made[1]))
        elif between == "deepcopy":
            made[1] = copy.deepcopy(made[1])
    rtol = 1e-9
    if between == "float32 and back":
        rtol = 1e-4
        for dtype in ("float32", None):
            parts(made[1].set_params(dtype=dtype), samples[1], 1)
        parts(made[0], samples[1], 1)
        parts(made[0], samples[1], 1)
    np.testing.assert_allclose(made[1].coefs_[0], made[0].coefs_[0], rtol=rtol, atol=rtol)


def test_an_optimizer_that_is_set_begins_anew(samples):
    one = MLPRegressor(hidden_layer_sizes=(4,), random_state=0)
    parts(one, samples[1], 2)
    before, (X, y) = one.coefs_[0].copy(), samples
    one.set_params(optimizer=nnx.GradientDescent(0.5), alpha=0.0).partial_fit(X, y)
    theta = one.network_.flatten({f"W{l + 1}": W.T for l, W in enumerate(one.coefs_)} | {
        f"b{l + 1}": b[:, None] for l, b in enumerate(one.intercepts_)
    })  # fmt: skip
    assert theta.size == one.network_.P
    assert not np.allclose(one.coefs_[0], before)
    # The schedule's first step is at its first rate, however many were done before.
    rate = nnx.schedules.StepDecay(1e-12, every=1, decay=0.5)
    before = one.coefs_[0].copy()
    one.set_params(schedule=rate).partial_fit(X, y)
    assert one._trainer.steps == 1
    np.testing.assert_allclose(one.coefs_[0], before, atol=1e-9)
    one.set_params(schedule=nnx.schedules.StepDecay(1e-12, every=1, decay=0.5)).partial_fit(X, y)
    assert one._trainer.steps == 2  # an equal one goes on


def test_a_prediction_goes_by_nothing_that_is_set_after_the_fit(samples):
    """scikit-learn's goes by the activation that is set, with the weights of another."""
    X, y = samples
    one = nnx.sklearn.MLPRegressor(hidden_layer_sizes=(4,), random_state=0, max_iter=3).fit(X, y)
    found, score = one.predict(X), one.score(X, y)
    for parameters in (
        {"activation": "tanh"},
        {"activation": "elu", "loss": "huber"},
        {"hidden_layer_sizes": (9, 9), "alpha": 7, "dropout": 0.9, "normalization": "batch"},
    ):
        np.testing.assert_array_equal(one.set_params(**parameters).predict(X), found)
        assert one.score(X, y) == score


CHANGES = {
    "early stopping on": ({"warm_start": True}, {"early_stopping": True}),
    "early stopping off": ({"warm_start": True, "early_stopping": True}, {"early_stopping": False}),
    "lbfgs, then adam": ({"warm_start": True, "solver": "lbfgs"}, {"solver": "adam"}),
    "lbfgs, then sgd, held out": (
        {"warm_start": True, "solver": "lbfgs"},
        {"solver": "sgd", "early_stopping": True},
    ),
    "adam, then lbfgs": ({"warm_start": True}, {"solver": "lbfgs"}),
    "another activation": ({"warm_start": True}, {"activation": "tanh"}),
    "no change": ({"warm_start": True}, {}),
}


@pytest.mark.parametrize("kind", [MLPClassifier, pytest.param(MLPRegressor, marks=pytest.mark.long)])
@pytest.mark.parametrize("change", CHANGES)
def test_a_fit_goes_on_after_a_change(change, kind, samples):
    X, y = samples
    y = y > 0.5 if kind is MLPClassifier else y
    before, after = CHANGES[change]
    one = kind(hidden_layer_sizes=(4,), max_iter=3, random_state=0, **before).fit(X, y)
    W = one.coefs_[0].copy()
    for again in (lambda: one.fit(X, y), lambda: pickle.loads(pickle.dumps(one)).fit(X, y)):
        made = one.set_params(**after) and again()
        assert np.isfinite(made.loss_)
        assert not np.array_equal(made.coefs_[0], W)
        if made.solver != "lbfgs":
            assert (made.validation_scores_ is None) == (not made.early_stopping)
            assert len(made.loss_curve_) >= 3
    if not one.early_stopping and one.solver != "lbfgs":
        one.partial_fit(X, y)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"hidden_layer_sizes": (3,)}, r"hidden_layer_sizes is \[3\], but the network that goes on .* \[4\]"),
        ({}, {"hidden_layer_sizes": (4, 4)}, "hidden_layer_sizes"),
        ({}, {"normalization": "layer"}, "normalization is 'layer'.*None"),
        ({"normalization": "layer"}, {"normalization": None}, "normalization is None"),
        ({}, {"loss": "poisson"}, "loss is 'poisson', but the network that goes on was made with 'squared_error'"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_go_on(before, after, message, samples):
    one = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, **before).fit(*samples)
    found = one.predict(samples[0])
    one.set_params(warm_start=True, **after)
    for again in (one.fit, one.partial_fit):
        with pytest.raises(ValueError, match=message):
            again(*samples)
        np.testing.assert_array_equal(one.predict(samples[0]), found)
    assert np.isfinite(one.set_params(warm_start=False).fit(*samples).loss_)


def test_targets_of_another_kind_cannot_go_on(samples):
    X, y = samples
    one = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="y has 2 outputs, but the network that goes on has 1"):
        one.partial_fit(X, np.stack([y, y], axis=1))
    assert one.predict(X).shape == (40,)
    three, labels = np.arange(40) % 3, np.eye(3, dtype=int)[np.arange(40) % 3]
    for first, then, message in (
        (three, labels, "y is of multilabel-indicator targets, but the network that goes on has multiclass"),
        (labels, three, "y is of multiclass targets, but the network that goes on has multilabel-indicator"),
        (labels, labels[:, :2], "y has 2 outputs, but the network that goes on has 3|has the same classes"),
    ):
        made = MLPClassifier(hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(X, first)
        found = made.predict(X)
        for again in (made.partial_fit, made.set_params(warm_start=True).fit):
            with pytest.raises(ValueError, match=message):
                again(X, then)
        np.testing.assert_array_equal(made.predict(X), found)


@pytest.mark.parametrize("library", ["torch", "jax.numpy", "array_api_strict", "numpy"])
def test_labels_of_another_library_go_on(library, samples):
    """With and without warm_start, also when X or later labels are NumPy's."""
    xp = pytest.importorskip(library)
    X, _ = samples
    y, labels = np.arange(40) % 3, (X > 0).astype(int)
    for target in (y, labels, y == 1):
        expected = MLPClassifier(
            hidden_layer_sizes=(4,), max_iter=2, warm_start=True, random_state=0, dtype="float32"
        )
        expected.fit(X, target).fit(X, target).partial_fit(X, target).partial_fit(X, target)
        given = xp.asarray(target.tolist())
        classes = np.unique(target).tolist() if target.ndim == 1 else [0, 1, 2]
        made = clone(expected).fit(X, given).fit(xp.asarray(X.tolist()), given)
        made.partial_fit(X, given, classes=xp.asarray(classes)).partial_fit(X, target)
        assert made.loss_ == pytest.approx(expected.loss_, rel=1e-4)
        np.testing.assert_array_equal(np.asarray(made.predict(X)), expected.predict(X))


def test_arrays_of_a_library_whose_adapter_another_package_adds(samples):
    """They stay on their device, which only that adapter knows."""
    xp = pytest.importorskip("array_api_strict")
    X, y = samples
    there = xp.Device("device1")
    given = xp.asarray(X.tolist(), device=there), xp.asarray((y > 0.5).tolist(), device=there)
    made = MLPClassifier(hidden_layer_sizes=4, max_iter=2, random_state=0).fit(*given)
    for x in (made.predict(given[0]), made.predict_proba(given[0]), *made.coefs_):
        assert type(x) is type(given[0])
        assert x.device == there
    expected = MLPClassifier(hidden_layer_sizes=4, max_iter=2, random_state=0).fit(X, y > 0.5)
    np.testing.assert_allclose(
        np.from_dlpack(made.predict_proba(given[0])), expected.predict_proba(X), rtol=1e-4
    )


# --- what is no value of a parameter ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MLPClassifier, pytest.param(MLPRegressor, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "sizes",
    [
        (5.9,), (0.5,), (5.0,), True, False, (True, 3), "5", ("5",), ((5,), (3,)), [[5]], (None,), (np.nan,), 5.5, 0,
        (3, 0), -3, np.array([4.5]), np.array([[4]]), np.array([True]), np.array(True), {5: 3},
        {5}, b"5", (5 + 0j,), None,
    ],
    ids=repr,
)  # fmt: skip
def test_sizes_that_are_none(sizes, kind, samples):
    X, y = samples
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        kind(hidden_layer_sizes=sizes, max_iter=2).fit(X, y > 0.5)
    one = kind(hidden_layer_sizes=(4,), max_iter=2).fit(X, y > 0.5).set_params(hidden_layer_sizes=sizes)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        one.partial_fit(X, y > 0.5)


@pytest.mark.parametrize(
    "sizes",
    [(3, 2), [3, 2], np.array([3, 2]), np.array([3, 2], np.uint8), range(3, 1, -1), (np.int64(3), 2)],
    ids=repr,
)
def test_sizes_of_every_kind(sizes, samples):
    one = MLPRegressor(hidden_layer_sizes=sizes, max_iter=2).fit(*samples)
    assert [W.shape for W in one.coefs_] == [(3, 3), (3, 2), (2, 1)]
    for size in (4, np.int32(4), np.array(4)):
        assert MLPRegressor(hidden_layer_sizes=size, max_iter=2).fit(*samples).coefs_[0].shape == (3, 4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"schedule": 0.1}, r"schedule must be an instance of nnx\.schedules, .*given 0\.1"),
        ({"schedule": "cosine"}, "schedule must be"),
        ({"schedule": nnx.schedules.Cosine}, "schedule must be"),
        ({"schedule": nnx.Adam(0.1)}, "schedule must be"),
        ({"schedule": np.ones(3)}, "schedule must be"),
        ({"schedule": 0}, "schedule must be"),
        ({"schedule": nnx.schedules.Constant(0.1), "solver": "lbfgs"}, "schedule .*L-BFGS"),
        ({"schedule": nnx.schedules.Constant(0.1), "optimizer": "lbfgs"}, "schedule .*L-BFGS"),
        ({"optimizer": "adm"}, "optimizer 'adm'.*adam"),
        ({"optimizer": 3}, "optimizer"),
        ({"optimizer": np.ones(3)}, "optimizer"),
        ({"optimizer": nnx.Adam}, "optimizer"),
        ({"regularization": 0.1}, "regularization must be an nnx.Regularization"),
        ({"regularization": np.zeros(2)}, "regularization must be an nnx.Regularization"),
        ({"regularization": 0}, "regularization must be an nnx.Regularization"),
        ({"callbacks": 3}, "callback"),
        ({"callbacks": [nnx.EarlyStopping]}, "callback"),
        pytest.param(
            {"callbacks": nnx.Checkpoints("f")}, "Checkpoints, .* Pickle the estimator", id="Checkpoints"
        ),
    ],
    ids=str,
)
def test_objects_that_are_none(parameters, message, samples):
    with pytest.raises(ValueError, match=message):
        MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, **parameters).fit(*samples)
    if "lbfgs" not in str(parameters):
        one = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(*samples).set_params(**parameters)
        with pytest.raises(ValueError, match=message):
            one.partial_fit(*samples)


# --- the random state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", long_but_for(["MLPClassifier", "MLPRegressor"], "MLPClassifier"))
@pytest.mark.parametrize("parameters", [
    {"batch_size": 7}, {"batch_size": 40}, {"solver": "lbfgs"}, {"early_stopping": True, "batch_size": 35},
    {"tol": 1e9, "n_iter_no_change": 2, "max_iter": 9},
    *(pytest.param(x, marks=pytest.mark.long) for x in (
        {}, {"batch_size": 41}, {"shuffle": False}, {"solver": "sgd"}, {"early_stopping": True},
        {"early_stopping": True, "batch_size": 36}, {"early_stopping": True, "solver": "lbfgs"},
        {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 1},
    )),
], ids=str)  # fmt: skip
def test_a_random_state_is_left_where_scikit_learn_leaves_it(parameters, kind, samples):
    X, y = samples
    y = y > 0.5 if kind == "MLPClassifier" else y
    states = []
    for library in (theirs, nnx.sklearn):
        state = np.random.RandomState(3)
        one = getattr(library, kind)(
            hidden_layer_sizes=4, random_state=state, **{"max_iter": 4, **parameters}
        )
        for X_given in (X, nnx.sklearn.samples.sparse.csr_matrix(X)):
            one.fit(X_given, y)
            one.set_params(warm_start=True).fit(X_given, y)
            if not one.early_stopping and one.solver != "lbfgs":
                one.set_params(warm_start=False).partial_fit(X_given, y).partial_fit(X_given, y)
            one.set_params(warm_start=False)
        states.append((state.get_state(), one.loss_))
    np.testing.assert_array_equal(states[0][0][1], states[1][0][1])
    assert states[0][0][2:] == states[1][0][2:]
    assert states[0][1] == pytest.approx(states[1][1], rel=1e-6)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    "weight",
    [2.0, 3, np.float32(0.5), True, np.array(2.0), 1e-3, 1e40, 1e150, "mixed", "huge and 0"],
    ids=repr,
)
def test_weights_of_any_size(weight, solver, samples):
    """As in scikit-learn, in float64; the penalty is divided by their sum."""
    X, y = samples
    weight = {
        "mixed": 10.0 ** np.linspace(-20, 20, 40),
        "huge and 0": np.r_[np.full(20, 1e40), np.zeros(20)],
    }.get(weight if isinstance(weight, str) else "", weight)
    made = [
        library.MLPClassifier(hidden_layer_sizes=4, solver=solver, max_iter=3, random_state=0, alpha=0.1)
        for library in (theirs, nnx.sklearn)
    ]
    given = weight.item() if np.ndim(weight) == 0 and isinstance(weight, np.ndarray) else weight
    their, our = (one.fit(X, y > 0.5, sample_weight=w) for one, w in zip(made, (given, weight), strict=True))
    assert our.loss_ == pytest.approx(their.loss_, rel=1e-5)
    np.testing.assert_allclose(our.coefs_[0], their.coefs_[0], rtol=1e-4, atol=1e-6)
    if np.ndim(weight) == 0:
        weight = given
        their, our = (
            one.partial_fit(X, y > 0.5, sample_weight=weight) if solver == "adam" else one for one in made
        )
        assert our.loss_ == pytest.approx(their.loss_, rel=1e-5)


@pytest.mark.parametrize("dtype", long_but_for(["float32", "float64"], "float32"))
@pytest.mark.parametrize("factor", [1e-320, 1e-300, 1e-60, 1e60, 1e305], ids=repr)
def test_only_the_ratios_of_weights_matter(factor, dtype, samples):
    X, y = samples
    w = np.random.default_rng(0).integers(1, 5, 40).astype(float)
    with np.errstate(under="ignore"):
        scaled = w * factor
    if factor < 1e-307:
        w = scaled / factor  # what is left of them
    options = {"alpha": 0.0, "dtype": dtype, "max_iter": 4, "random_state": 0, "batch_size": 9}
    one, other = (
        MLPRegressor(hidden_layer_sizes=4, **options).fit(X, y, sample_weight=weights)
        for weights in (w, scaled)
    )
    np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-2 if factor < 1e-307 else 1e-5)
    trainers = [
        nnx.Trainer(nnx.mlp([3, 4, 1], output="identity"), backend="numpy", dtype=dtype) for _ in "ab"
    ]
    losses = [
        trainer.fit(X.T, y, 3, 9, sample_weight=weights, validation=(X.T, y, weights))
        for trainer, weights in zip(trainers, (w, scaled), strict=True)
    ]
    for name in losses[0]:
        np.testing.assert_allclose(losses[0][name], losses[1][name], rtol=1e-2 if factor < 1e-307 else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [1e-305, 1e-60, 1e60, 1e300], ids=repr)
def test_metrics_with_weights_of_any_size(factor, dtype, samples):
    """A mean depends on their ratios alone; a confusion matrix holds their sums."""
    X, y = samples
    y, w = (y > 0.5) * 1.0, np.arange(1.0, 41.0)
    trainer = nnx.Trainer(nnx.mlp([3, 4, 1]), backend="numpy", dtype=dtype)
    metrics = ["accuracy", "roc_auc", "f1", "log_loss", "confusion_matrix"]
    expected, found = (trainer.evaluate(X.T, y, sample_weight=v, metrics=metrics) for v in (w, factor * w))
    history = trainer.fit(X.T, y, 1, validation=(X.T, y, factor * w), metrics=["confusion_matrix"])
    for name in expected:
        unit = factor if name == "confusion_matrix" else 1.0
        np.testing.assert_allclose(found[name], expected[name] * unit, rtol=1e-5)
    np.testing.assert_allclose(np.sum(history["validation_confusion_matrix"][0]), 820 * factor, rtol=1e-5)


def test_weights_that_are_too_far_apart(samples):
    """In one batch the smallest are as good as 0; in a batch of their own they would not be."""
    X, y = samples
    w = np.r_[np.full(20, 1e-320), np.full(20, 1e300)]
    options = {"hidden_layer_sizes": 4, "max_iter": 3, "random_state": 0, "alpha": 0.0, "shuffle": False}
    one, other = (MLPRegressor(**options).fit(X, y, weights) for weights in (w, w > 1))
    np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-9)
    trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity"), backend="numpy")
    for fit in (
        lambda: MLPRegressor(**options, batch_size=20).fit(X, y, w),
        lambda: trainer.fit(X.T, y, 2, 20, sample_weight=w),
    ):
        with pytest.raises(
            ValueError, match=r"weights go from 9.99989e-321 to 1e\+300, which float(32|64) cannot hold"
        ):
            fit()
    assert np.isfinite(trainer.fit(X.T, y, 2, sample_weight=w)["loss"]).all()
    near = np.r_[np.full(20, 1e-14), np.full(20, 1e30)]  # float32 holds them beside each other
    assert np.isfinite(trainer.fit(X.T, y, 2, 20, sample_weight=near)["loss"]).all()
    assert trainer.evaluate(X.T, y, sample_weight=w)["loss"] >= 0


def test_weights_too_small_for_the_penalty(samples):
    X, y = samples
    with pytest.raises(
        ValueError, match="alpha divided by the sum of sample_weight has no number in float64"
    ):
        MLPRegressor(hidden_layer_sizes=4, alpha=0.1).fit(X, y, sample_weight=1e-320)
    own = nnx.Regularization(l2=0.1, per_sample=True)
    with pytest.raises(ValueError, match="regularization divided by the sum of sample_weight"):
        MLPRegressor(hidden_layer_sizes=4, regularization=own).fit(X, y, sample_weight=1e-320)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_nothing_held_out_that_weighs(kind, samples):
    X, y = samples
    y = y > 0.5 if kind is MLPClassifier else y
    with pytest.raises(
        ValueError, match="sample_weight is 0 for all of the 4 samples that early_stopping holds out"
    ):
        kind(hidden_layer_sizes=4, early_stopping=True, random_state=0).fit(X, y, sample_weight=np.eye(40)[0])
    for w in (0, np.zeros(40)):
        with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
            kind(hidden_layer_sizes=4).fit(X, y, sample_weight=w)


# --- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: nnx.MovingAverage(0.9), lambda: nnx.EarlyStopping("loss"), lambda: nnx.ReduceOnPlateau("loss"),
    lambda: nnx.ProgressBar(), lambda: nnx.Snapshots(),
], ids=["average", "stopping", "plateau", "bar", "snapshots"])  # fmt: skip
def test_an_estimator_with_callbacks_is_copied(make, backend, samples, tmp_path, capsys):
    X, y = samples
    one = MLPRegressor(
        hidden_layer_sizes=4, max_iter=3, backend=backend.name, random_state=0, callbacks=[make()]
    )
    if backend.name == "strict":
        pytest.skip("the estimators take its arrays, not its name")
    one.fit(X, y)
    joblib.dump(one, tmp_path / "one.joblib")
    copies = [copy.deepcopy(one), pickle.loads(pickle.dumps(one)), joblib.load(tmp_path / "one.joblib")]
    for other in copies:
        np.testing.assert_allclose(other.predict(X), one.predict(X), rtol=1e-12)
        assert type(other.callbacks[0]) is type(one.callbacks[0])
    for other in (clone(one), copies[1]):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            other.fit(X, y)
        np.testing.assert_allclose(other.predict(X), one.predict(X), rtol=1e-9)


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("how", ["save", "copy"])
@pytest.mark.parametrize("parameters", [{}, {"optimizer": nnx.Adam()}, {"solver": "lbfgs"}])
def test_the_trainer_of_an_estimator_is_neither_saved_nor_copied(members, how, parameters, tmp_path):
    class Tries(nnx.Callback):
        def on_epoch(self, trainer, progress):
            trainer.save(tmp_path / "model") if how == "save" else copy.deepcopy(trainer)

    X, y = np.ones((20, 2)), np.arange(20.0)
    with pytest.raises(
        nnx.InputError, match=r"trainer of an estimator is neither .* Take trainer\.theta, or pickle"
    ):
        MLPRegressor(hidden_layer_sizes=4, callbacks=Tries(), n_members=members, **parameters).fit(X, y)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "weights",
    [10**400, "abc", {0: 1.0}, object(), (w for w in [1.0]), np.full(40, 1j), csr_array(np.ones((1, 40)))],
    ids=lambda w: type(w).__name__,
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_that_are_no_numbers_are_refused_by_name(weights, method):
    X, y = np.ones((40, 2)), np.zeros(40)
    with pytest.raises(nnx.InputError, match="sample_weight must be numbers, one for each of the 40 samples"):
        getattr(MLPRegressor(hidden_layer_sizes=4), method)(X, y, sample_weight=weights)


@pytest.mark.parametrize(
    "X", [10**400, 1j, None, object(), {1.0}, (x for x in [1.0]), 3.0], ids=lambda X: type(X).__name__
)
def test_what_is_no_table_is_refused_by_name(X):
    model = MLPRegressor(hidden_layer_sizes=4).partial_fit(np.ones((4, 2)), np.zeros(4))
    for call in (model.predict, lambda X: model.fit(X, np.zeros(4))):
        with pytest.raises(nnx.InputError, match=r"X must be array-like \(m, n\), samples as rows"):
            call(X)


@pytest.mark.parametrize("name", ["tol", "power_t", "max_iter", "n_iter_no_change"])
def test_integers_beyond_floats_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must be a number that floats hold"):
        MLPRegressor(hidden_layer_sizes=4, **{name: 10**400}).fit(np.ones((4, 2)), np.zeros(4))


def test_a_solver_that_is_no_name_is_refused_by_name():
    with pytest.raises(ValueError, match="solver"):
        MLPRegressor(solver=np.array(["adam"])).partial_fit(np.ones((4, 2)), np.zeros(4))


# --- what X and y may not hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "takes_more"), [(MLPClassifier, "TabularClassifier"), (MLPRegressor, "TabularRegressor")]
)
def test_an_X_with_gaps_or_text_is_one_of_the_estimators_of_tables(kind, takes_more, samples):
    X, y = samples
    gaps, text = X.copy(), X.astype(object)
    gaps[3, 1], text[:, 1] = np.nan, "red"
    model = kind(hidden_layer_sizes=(4,), max_iter=1).fit(X, y > 0.5)
    for given, message in (
        (gaps, "Input X contains NaN."),
        (text, "could not convert string to float: 'red'"),
    ):
        for use in (lambda X: kind().fit(X, y > 0.5), model.predict):
            with pytest.raises(
                ValueError, match=rf"(?s){message}.*nnx\.sklearn\.{takes_more} takes missing values"
            ):
                use(given)
    with pytest.raises(ValueError, match="Input X contains infinity") as raised:
        model.predict(np.abs(X) * np.inf)
    assert "Tabular" not in str(raised.value)
    with pytest.raises(ValueError, match=r"Input X contains NaN\.") as raised:
        kind().fit(csr_array(gaps), y > 0.5)
    assert "Tabular" not in str(raised.value)  # which refuses sparse X


@pytest.mark.needs("torch")
def test_a_tensor_with_gaps_or_infinity(samples):
    torch = pytest.importorskip("torch")
    X, y = samples
    for number, message in (
        (np.nan, r"Input X contains NaN\. .*TabularRegressor takes missing values"),
        (np.inf, r"Input X contains infinity\. Replace it, or leave out the samples$"),
    ):
        given = torch.asarray(X.copy())
        given[3, 1] = number
        with pytest.raises(ValueError, match=message):
            MLPRegressor().fit(given, y)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_dates_in_X_are_refused_with_advice(kind, samples):
    X, y = samples
    dates = X.astype(object)
    dates[:, 1] = date(2020, 1, 1)
    model = kind(hidden_layer_sizes=(4,), max_iter=1).fit(X, y > 0.5)
    for use in (lambda X: kind().fit(X, y > 0.5), model.predict):
        with pytest.raises(
            nnx.InputError, match="X, column 1, holds date such as 2020-01-01; hand in numbers"
        ):
            use(dates.tolist())


@pytest.mark.needs("pandas")
def test_a_column_of_dates_is_refused_by_name(samples):
    pandas = pytest.importorskip("pandas")
    X, y = samples
    days = pandas.DataFrame({"a": X[:, 0], "day": pandas.date_range("2020-01-01", periods=len(X))})
    for use in (MLPClassifier().fit, MLPRegressor().fit):
        with pytest.raises(nnx.InputError, match=r"X, column 'day', holds datetime64.*; hand in numbers"):
            use(days, y > 0.5)


@pytest.mark.parametrize(("kind", "other"), [(MLPRegressor, "MLP"), (TabularRegressor, "Tabular")])
def test_text_is_no_target_of_a_regressor(kind, other, samples):
    X, y = samples
    text = np.where(y > 0.5, "a", "b")
    for labels in (text, text.astype(object), ["a"] * 40, text.astype("S1"), [b"a"] * 40):
        message = f"y holds text such as b?'[ab]'; {other}Regressor expects numbers. .* use {other}Classifier"
        with pytest.raises(ValueError, match=f"^{message}"):
            kind().fit(X, labels)
        with pytest.raises(nnx.InputError, match=f"^validation_set: {message}"):
            kind().fit(X, y, validation_set=(X, labels))
    MLPRegressor(max_iter=1).fit(X, y.astype(str).astype(object))  # as in scikit-learn
