"""The losses and activations of the estimators by name, and those of one's own."""

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import mean_pinball_loss, r2_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_sklearn import passes

import nnx
from nnx.model.outputs import OWN
from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
QUANTILES = 0.1, 0.5, 0.9


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (120, 2))
    return X, X[:, 0] + 0.3 * (2 + X[:, 1]) * rng.standard_normal(120)


@pytest.fixture(scope="module")
def linear(samples):
    """A network without hidden layers that learns three quantiles."""
    given = {"hidden_layer_sizes": (), "alpha": 0.0, "batch_size": 120, "max_iter": 1500, "tol": 0.0}
    schedule = nnx.schedules.Cosine(0.05, steps=1500)
    model = MLPRegressor(
        "quantile(0.1,0.5,0.9)", **given, schedule=schedule, n_iter_no_change=2000, random_state=0
    )
    return model.fit(*samples)


def bent(A, Y):
    xp = nnx.array_namespace(A)
    R = xp.abs(A - Y)
    return xp.where(R <= 1, 0.5 * R * R, R - 0.5)


OWN_HUBER = nnx.Loss("own_huber", bent)


def squares(A, Y):
    return (A - Y) ** 2


def small(loss, *, kind=MLPRegressor, **options):
    return kind(loss=loss, **{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0, **options})


# --- quantiles --------------------------------------------------------------------------------------------------------


def test_quantiles_are_those_of_scikit_learns_quantile_regressor(linear, samples):
    X, y = samples
    found = linear.predict(X)
    assert found.shape == (120, 3)
    assert (np.diff(found, axis=1) >= 0).all()
    for q, one in zip(QUANTILES, found.T, strict=True):
        theirs = QuantileRegressor(quantile=q, alpha=0).fit(X, y).predict(X)
        least = mean_pinball_loss(y, theirs, alpha=q)
        assert least * (1 - 1e-9) <= mean_pinball_loss(y, one, alpha=q) <= 1.002 * least
    total = sum(mean_pinball_loss(y, one, alpha=q) for q, one in zip(QUANTILES, found.T, strict=True))
    assert linear.loss_ == pytest.approx(total, rel=2e-3)
    assert linear.score(X, y) == r2_score(y, found[:, 1])


@pytest.mark.needs("statsmodels")
def test_quantiles_are_those_of_statsmodels(linear, samples):
    from statsmodels.regression.quantile_regression import QuantReg

    X, y = samples
    with_constant = np.column_stack([np.ones(120), X])
    for q, one in zip(QUANTILES, linear.predict(X).T, strict=True):
        theirs = QuantReg(y, with_constant).fit(q=q).predict(with_constant)
        np.testing.assert_allclose(one, theirs, atol=0.06)  # the loss is flat about its minimum
        assert mean_pinball_loss(y, one, alpha=q) == pytest.approx(
            mean_pinball_loss(y, theirs, alpha=q), rel=2e-3
        )


def test_quantiles_of_several_targets_are_sorted(samples):
    X, y = samples
    Y = np.stack([y, 10 - y], axis=1)
    model = small("quantile(0.25,0.75)", early_stopping=True).fit(X, Y)
    found, A = model.predict(X), model.network_.forward(model._theta(model.network_), X.T)
    assert (found.shape, model.n_outputs_, model.out_activation_) == ((120, 2, 2), 4, "identity")
    assert (found[:, 0, 0] != A[0]).any()  # they cross at the start of a fit
    np.testing.assert_allclose(found, np.sort(A.reshape(2, 2, 120), axis=0).T)
    assert model.score(X, Y) == r2_score(Y, found[:, :, 0])
    assert model.validation_scores_ is not None
    with pytest.raises(nnx.InputError, match="y has 1 outputs, but the network that goes on has 2"):
        model.set_params(early_stopping=False).partial_fit(X, y)


# --- a mean and a variance --------------------------------------------------------------------------------------------


def test_a_gaussian_has_a_mean_and_a_deviation(samples):
    X, y = samples
    model = small("gaussian", max_iter=400, learning_rate_init=0.01, n_iter_no_change=400).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    A = model.network_.forward(model._theta(model.network_), X.T)
    np.testing.assert_allclose(mean, A[0], rtol=1e-12)
    np.testing.assert_allclose(std, np.sqrt(np.exp(A[1]) + 1e-6), rtol=1e-12)
    assert np.corrcoef(std, 2 + X[:, 1])[0, 1] > 0.8  # the noise that was put in
    assert model.score(X, y) == r2_score(y, mean)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_std(X), std)
    Y = np.stack([y, y], axis=1)
    assert small("gaussian(0.01)").fit(X, Y).predict_std(X).shape == (120, 2)


def moments(y, weights):
    mean = np.average(y, weights=weights)
    return mean, np.log(np.average((y - mean) ** 2, weights=weights))


def test_a_gaussian_begins_at_the_moments_of_y(samples):
    X, y = samples
    Y, w = np.stack([150 + 77 * y, 0.01 * y], axis=1), np.arange(120.0)
    (a, s), (b, _) = (moments(one, w) for one in Y.T)
    model = small("gaussian", max_iter=1, learning_rate_init=1e-12)
    with pytest.warns(
        ConvergenceWarning, match=r"deviation of 0\.00.*TransformedTargetRegressor\(MLPRegressor"
    ):
        model.fit(X, Y, w)
    np.testing.assert_allclose(model.intercepts_[-1], [a, b, s, 0], rtol=1e-7, atol=1e-11)
    model.set_params(early_stopping=True).fit(X, Y[:, 0], w)
    rng = np.random.RandomState(0)
    rng.uniform(size=(2 + 1) * 4 + (4 + 1) * 2)  # the first parameters
    part, _ = train_test_split(np.arange(120), random_state=rng, test_size=0.1)
    np.testing.assert_allclose(model.intercepts_[-1], moments(Y[part, 0], w[part]), rtol=1e-7)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_gaussian_learns_beside_a_constant(solver, samples):
    X, y = samples
    options = {"hidden_layer_sizes": (32,), "max_iter": 60, "solver": solver, "batch_size": 20}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "y has a standard deviation")
        model = small("gaussian", **options).fit(X, np.stack([y, np.full(120, 1 / 7)], axis=1))
    assert model.loss_ < -0.5
    assert r2_score(y, model.predict(X)[:, 0]) > 0.15


@pytest.mark.parametrize("first", [[1.0], [0.0] * 20, [1.0, 1.1]])
def test_a_gaussian_begins_with_a_batch_unlike_others(first, samples):
    X, y = samples
    model = small("gaussian", learning_rate_init=0.01).partial_fit(X[: len(first)], first)
    for _ in range(20):
        model.partial_fit(X, y)
    assert model.loss_ < 1


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("size", [0.001, 37_000])
def test_a_gaussian_warns_of_the_size_of_y(size, solver, samples):
    X, y = samples
    with pytest.warns(ConvergenceWarning, match="y has a standard deviation of .*Scale y"):
        small("gaussian", max_iter=1, solver=solver).fit(X, size * y)


def test_a_gaussian_learns_targets_of_any_unit(samples):
    X, y = samples
    options = {"hidden_layer_sizes": (32,), "max_iter": 100, "learning_rate_init": 0.01, "batch_size": 20}
    for solver in ("adam", "lbfgs"):
        model = small("gaussian", solver=solver, **options).fit(X, 150 + 77 * y)
        assert model.score(X, 150 + 77 * y) > 0.3


def test_members_of_a_gaussian_are_a_mixture(samples):
    X, y = samples
    model = small("gaussian", n_members=3).fit(X, y)
    pairs = [member.predict(X, return_std=True) for member in model.members_]
    means, stds = (np.stack(each) for each in zip(*pairs, strict=True))
    np.testing.assert_allclose(model.predict(X), means.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        model.predict_std(X), np.sqrt((stds**2).mean(axis=0) + means.var(axis=0)), rtol=1e-12
    )


def test_members_of_quantiles_are_those_of_their_predictions(samples):
    """Each member's quantiles are put in order before the mean."""
    X, y = samples
    for targets in (y, np.stack([y, 10 - y], axis=1)):
        model = small("quantile(0.1,0.5,0.9)", n_members=3, max_iter=1).fit(X, targets)
        A = [one.network_.forward(one._theta(one.network_), X.T) for one in model.members_]
        assert any((one[0] > one[-1]).any() for one in A)  # some cross
        each = np.stack([one.predict(X) for one in model.members_])
        assert each.shape == (3, *targets.shape, 3)
        np.testing.assert_allclose(model.predict(X), each.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(model.predict_std(X), each.std(axis=0), rtol=1e-9)


def test_predict_std_is_there_for_members_and_gaussians_alone(samples):
    model = small("huber").fit(*samples)
    assert not hasattr(model, "predict_std")
    with pytest.raises(AttributeError, match="the deviation of members, or that of loss='gaussian'"):
        model.predict(samples[0], return_std=True)
    assert hasattr(small("gaussian"), "predict_std")
    assert hasattr(small("huber", n_members=2), "predict_std")


@pytest.mark.parametrize("loss", ["nonsense", "huber(-1)", np.array([1, 2]), 3, None, squares])
def test_every_loss_has_an_answer_to_hasattr(loss):
    regressor, classifier = small(loss), small(loss, kind=MLPClassifier)
    assert not hasattr(regressor, "predict_std")
    assert hasattr(classifier, "predict_proba")
    assert not hasattr(classifier, "decision_function")
    assert not hasattr(classifier, "predict_std")


@pytest.mark.long
@pytest.mark.needs("torch")
def test_predictions_are_arrays_of_the_library_of_X(samples):
    torch = pytest.importorskip("torch")
    X, y = samples
    for loss in ("gaussian", "quantile(0.1,0.9)"):
        model = small(loss).fit(torch.tensor(X), torch.tensor(y))
        found = model.predict(torch.tensor(X))
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), model.predict(X), rtol=1e-6, atol=1e-9)
    assert isinstance(small("gaussian").fit(torch.tensor(X), y).predict_std(torch.tensor(X)), torch.Tensor)


# --- losses of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [bent, OWN_HUBER])
def test_a_loss_of_ones_own_is_a_parameter_as_others(own, samples):
    X, y = samples
    model = clone(small(own)).fit(X, y)
    np.testing.assert_allclose(model.predict(X), small("huber").fit(X, y).predict(X), rtol=1e-9)
    assert model.get_params()["loss"] == own
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        again.partial_fit(X, y)  # with the same loss
        with pytest.raises(
            nnx.InputError, match="loss is 'squared_error', but the network that goes on was made"
        ):
            again.set_params(loss="squared_error").partial_fit(X, y)


def test_a_registered_loss_by_name(samples):
    X, y = samples
    with pytest.raises(ValueError, match="The 'loss' parameter of MLPRegressor must be a str among"):
        small("own_huber").fit(X, y)
    nnx.register_loss(OWN_HUBER)
    try:
        named = small("own_huber").fit(X, y)
        np.testing.assert_array_equal(named.predict(X), small(OWN_HUBER).fit(X, y).predict(X))
    finally:
        del OWN["own_huber"]


# --- what a fit has made ----------------------------------------------------------------------------------------------


def test_a_fitted_model_does_not_read_parameters_that_change(samples):
    X, y = samples
    model = small("quantile(0.1,0.9)", activation="gelu").fit(X, y)
    found, score = model.predict(X), model.score(X, y)
    model.set_params(loss="poisson", activation="tanh", hidden_layer_sizes=(9, 9))
    np.testing.assert_array_equal(model.predict(X), found)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), found)
    assert model.score(X, y) == score
    model = small("hinge", kind=MLPClassifier).fit(X, y > 0)
    margins = model.decision_function(X)
    np.testing.assert_array_equal(model.set_params(loss="log_loss").decision_function(X), margins)
    np.testing.assert_array_equal(model.predict(X), margins > 0)


@pytest.mark.long
def test_deviations_are_those_of_the_members_of_the_fit(samples):
    X, y = samples
    for model in (small("huber").fit(X, y), small("focal", kind=MLPClassifier).fit(X, y > 0)):
        with pytest.raises(AttributeError, match="predict_std is the deviation of members"):
            model.set_params(n_members=4).predict_std(X)
    for model in (small("huber", n_members=2).fit(X, y), small("gaussian").fit(X, y)):
        deviation = model.predict_std(X)
        model.set_params(n_members=None if model.n_members else 2, loss="squared_error")
        np.testing.assert_array_equal(model.predict_std(X), deviation)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("squared_error", "huber"),
        ("huber", "huber(0.5)"),
        ("quantile(0.1,0.9)", "gaussian"),
        ("poisson", OWN_HUBER),
    ],
)
def test_a_network_cannot_go_on_with_another_loss(first, then, samples):
    X, y = samples
    model = small(first).fit(X, abs(y))
    found = model.predict(X)
    model.set_params(loss=then, warm_start=True)
    for again in (model.partial_fit, model.fit):
        with pytest.raises(nnx.InputError, match=f"but the network that goes on was made with '{first[:5]}"):
            again(X, abs(y))
        np.testing.assert_array_equal(model.predict(X), found)
    model.set_params(warm_start=False).fit(X, abs(y))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("hubr", r"The 'loss' parameter of MLPRegressor must be a str among.* instead\. Did you mean 'huber'\?"),
        ("huber(size=2)", r"the loss 'huber\(size=2\)': its parameter is delta, not 'size'"),
        ("hinge", "The 'loss' parameter of MLPRegressor must be a str among"),
        (3, "The 'loss' parameter of MLPRegressor must be"),
        ("huber(-1)", r"the loss 'huber\(-1\)': delta must be greater than 0"),
        ("quantile(0.9,0.1)", "several quantiles must ascend"),
        (np.square, r"the loss 'square'"),
        (nnx.Loss("poisson", bent), "nnx has a loss named 'poisson' itself; choose another name"),
        (nnx.Loss("prod", lambda A, Y: nnx.array_namespace(A).prod(A - Y, axis=-2)), "cannot derive its derivative"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be(loss, message, samples):
    with pytest.raises(ValueError, match=message):
        small(loss).fit(*samples)


def power(A, Y, p):
    return abs(A - Y) ** p


def test_a_loss_needs_no_name_where_nothing_names_it(samples):
    X, y = samples
    expected = small(squares).fit(X, y)
    for loss in (lambda A, Y: (A - Y) ** 2, partial(power, p=2)):
        model = clone(small(loss)).fit(X, y)
        np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-6)
        assert model.partial_fit(X, y).loss_ > 0
    assert small(partial(power, p=4), n_members=2).fit(X, y).predict(X).shape == (120,)


@pytest.mark.parametrize(
    ("kind", "parameter", "value", "nearest"),
    [
        (MLPRegressor, "activation", "rleu", "relu"),
        (MLPRegressor, "solver", "adma", "adam"),
        (MLPRegressor, "precision", "bf16", "bfloat16"),
        (MLPClassifier, "learning_rate", "constnt", "constant"),
        (MLPClassifier, "loss", "cross_entropy", "log_loss"),
        (MLPClassifier, "class_weight", "balance", "balanced"),
    ],
)
def test_a_wrong_name_has_a_nearest_one(kind, parameter, value, nearest, samples):
    model = kind(**{parameter: value})
    with pytest.raises(ValueError, match=rf"Got '{value}' instead\. Did you mean '{nearest}'\?$"):
        model.fit(samples[0], samples[1] > 0)
    with pytest.raises(ValueError, match=r"instead\.$"):
        model.set_params(**{parameter: "nothing like it"}).fit(samples[0], samples[1] > 0)


# --- classifiers ------------------------------------------------------------------------------------------------------


def classes(samples, kind):
    y = samples[1]
    labels = np.stack([y > 0, y > 1], axis=1).astype(int)
    return {"two": y > 0, "three": np.digitize(y, [-0.5, 0.5]), "labels": labels}[kind]


@pytest.mark.parametrize("kind", ["two", pytest.param("three", marks=pytest.mark.long), "labels"])
def test_focal_and_hinge_losses_of_classifiers(kind, samples):
    X, Y = samples[0], classes(samples, kind)
    plain, zero, focal = (
        small(loss, kind=MLPClassifier, learning_rate_init=0.05).fit(X, Y).predict_proba(X)
        for loss in ("log_loss", "focal(0)", "focal")
    )
    np.testing.assert_allclose(zero, plain, rtol=1e-9)
    assert not np.allclose(focal, plain, rtol=1e-3)
    given = {"max_iter": 100, "learning_rate_init": 0.02, "early_stopping": kind == "two"}
    hinge = small("hinge", kind=MLPClassifier, **given).fit(X, Y)
    margins = hinge.decision_function(X)
    assert hinge.out_activation_ == "identity"
    assert hinge.score(X, Y) > 0.55
    if kind == "three":
        np.testing.assert_array_equal(hinge.predict(X), margins.argmax(axis=1))
    else:
        np.testing.assert_array_equal(hinge.predict(X), margins > 0)
    for name in ("predict_proba", "predict_log_proba", "predict_std"):
        assert not hasattr(hinge.set_params(n_members=2 if name == "predict_std" else None), name)
    with pytest.raises(AttributeError, match="probability estimates are not available for loss='hinge'"):
        hinge.predict_proba(X)
    assert not hasattr(small("focal", kind=MLPClassifier), "decision_function")
    assert (
        small("hinge", kind=MLPClassifier, n_members=2).fit(X, Y).decision_function(X).shape == margins.shape
    )


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        MLPRegressor("gaussian", max_iter=100),
        MLPClassifier(loss="hinge", max_iter=100),
    ]
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    if estimator.loss == "hinge" and check.func.__name__.endswith("predict_proba"):
        pytest.skip("the hinge has no probabilities")
    passes(estimator, check)


def test_the_hinge_can_be_calibrated(samples):
    X, y = samples[0], samples[1] > 0
    P = CalibratedClassifierCV(small("hinge", kind=MLPClassifier), cv=2).fit(X, y).predict_proba(X)
    assert ((P >= 0) & (P <= 1)).all()


def test_a_loss_of_ones_own_of_probabilities(samples):
    """The Brier score."""
    X, y = samples[0], samples[1] > 0
    model = small(squares, kind=MLPClassifier).fit(X, y)
    fitted = small(squares, kind=MLPClassifier, solver="lbfgs", alpha=0.0, max_iter=9).fit(X, y)
    assert fitted.loss_ == pytest.approx(np.mean((fitted.predict_proba(X)[:, 1] - y) ** 2), rel=1e-6)
    assert fitted.loss_ < model.loss_
    with pytest.raises(ValueError, match="The 'loss' parameter of MLPClassifier must be a str among"):
        small("binary_cross_entropy", kind=MLPClassifier).fit(X, y)


# --- searches, activations --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_search_over_losses(samples):
    X, y = samples
    grid = {"loss": ["squared_error", "huber(0.3)", OWN_HUBER], "activation": ["relu", "silu"]}
    theirs = GridSearchCV(small("huber"), grid, cv=2).fit(X, y)
    ours = StackedSearchCV(small("huber"), grid, cv=2).fit(X, y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-6
    )


@pytest.mark.parametrize("normalization", [None, "layer"])
@pytest.mark.parametrize("name", ["gelu", "leaky_relu(0.2)", "prelu", "sigmoid"])
def test_activations_by_name(name, normalization, samples):
    X, y = samples
    model = small("huber", activation=name, normalization=normalization).fit(X, y)
    assert np.isfinite(model.loss_)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    found = [row.activation or row.kind for row in model.network_.summary().rows][1:-1]
    assert any(name in text.lower() for text in found)


def test_the_activation_sigmoid_is_scikit_learns_logistic(samples):
    X, y = samples
    one, other = (small("huber", activation=name).fit(X, y).predict(X) for name in ("sigmoid", "logistic"))
    np.testing.assert_array_equal(one, other)


def test_an_activation_of_ones_own(samples):
    own = nnx.Activation(
        "softsign_of_a_test", lambda Z: Z / (1 + abs(Z)), lambda Z: 1 / (1 + abs(Z)) ** 2, "Z"
    )
    with pytest.raises(ValueError, match="The 'activation' parameter of MLPRegressor must be a str among"):
        small("huber", activation="softsign_of_a_test").fit(*samples)
    nnx.register_activation(own)
    try:
        assert np.isfinite(small("huber", activation="softsign_of_a_test").fit(*samples).loss_)
    finally:
        del nnx.ACTIVATIONS["softsign_of_a_test"]
    with pytest.raises(nnx.InputError, match="leaky_relu"):
        small("huber", activation="leaky_relu(-1)").fit(*samples)
