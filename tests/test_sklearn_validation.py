"""Class weights and validation sets of the estimators, beside weights and scores by hand; fits that fail."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")

from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.utils.class_weight import compute_sample_weight

import nnx
from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def made(kind=MLPClassifier, **parameters):
    return kind(**{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | parameters)


def same(one, other):
    for a, b in zip([*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def classes(rng):
    X = rng.standard_normal((60, 3))
    y = np.array(["a", "b", "c"])[np.where(X[:, 0] > 0.8, 2, (X[:, 1] > 0).astype(int))]
    return X, y


# --- class_weight -----------------------------------------------------------------------------------------------------

WEIGHTS = {
    "text": ("balanced", lambda y: y),
    "a dict": ({"a": 0.3, "c": 5, "b": 1}, lambda y: y),
    "two": ({"b": 0.3, "other": 5}, lambda y: np.where(y == "b", y, "other")),
    "numbers": ({0: 7.0, 1: 0.0}, lambda y: (y == "b").astype(int)),
    "labels": ("balanced", lambda y: np.stack([y == "a", y == "b"], axis=1).astype(int)),
    "dicts": (
        [{0: 1, 1: 3}, {0: 2.0, 1: 1}],
        lambda y: np.stack([y == "a", y == "b"], axis=1).astype(int),
    ),
}


QUICK = {("text", True), ("labels", False), ("dicts", True)}
CASES = [
    pytest.param(which, stops, marks=() if (which, stops) in QUICK else pytest.mark.long)
    for which in WEIGHTS
    for stops in (False, True)
]


@pytest.mark.parametrize(("which", "early_stopping"), CASES)
def test_class_weight_is_the_sample_weight_that_it_stands_for(which, early_stopping, classes, rng):
    (X, y), (weight, labels) = classes, WEIGHTS[which]
    y, own = labels(y), None if which == "text" else rng.integers(1, 4, 60) / 2
    by_hand = compute_sample_weight(weight, y) * (1 if own is None else own)
    one = made(class_weight=weight, early_stopping=early_stopping).fit(X, y, own)
    other = made(early_stopping=early_stopping).fit(X, y, by_hand)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_  # the samples held out have their weights
    assert one.validation_loss_curve_ == other.validation_loss_curve_
    same(one, other)


def test_class_weight_of_parts_counts_the_classes_of_all(classes):
    X, y = classes
    weight, parts = {"a": 1.0, "b": 4.0}, [np.flatnonzero(y != "a"), np.flatnonzero(y == "c"), np.arange(60)]
    one, other = made(class_weight=weight), made()
    for k, part in enumerate(parts):
        named = {"classes": ["a", "b", "c"]} if k == 0 else {}
        one.partial_fit(X[part], y[part], **named)
        by_class = {"a": 1.0, "b": 4.0, "c": 1.0}
        other.partial_fit(X[part], y[part], compute_sample_weight(by_class, y[part]), **named)
        same(one, other)


def test_balanced_has_no_meaning_for_parts(classes):
    said = []
    for one in (made(class_weight="balanced"), SGDClassifier(class_weight="balanced")):
        with pytest.raises(ValueError, match="balanced") as error:
            one.partial_fit(*classes, classes=["a", "b", "c"])
        said.append(str(error.value))
    assert said[0] == said[1]
    assert not hasattr(made(class_weight="balanced"), "classes_")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("balancd", "class_weight"),
        (7, "class_weight"),
        ({"a": -1.0}, "'a' the weight -1.0; expected a finite number of at least 0"),
        ({"a": np.nan}, "at least 0"),
        ({"a": "2"}, "the weight '2'"),
        ({"z": 2.0}, r"\['a', 'b', 'c'\], are not in class_weight: it has 'z', which y does not"),
        ({"a": 0, "b": 0, "c": 0}, "0 for all"),
        ([{0: 1, 1: 2}], "several labels at once"),
        (["balanced"], "expected dicts"),
    ],
)
def test_class_weights_without_a_meaning(weight, message, classes):
    one = made(class_weight=weight)
    with pytest.raises(ValueError, match=message):
        one.fit(*classes, np.ones(60))
    assert {*vars(one)} == {*one.get_params()}


@pytest.mark.parametrize("early_stopping", [False, True])
def test_errors_name_the_weights_of_classes(early_stopping, classes):
    for weight, message in (
        (0, "^class_weight is 0 for all of the 60 samples"),
        (1e300, "^alpha divided by the sum of sample_weight times class_weight .* too large .* Divide"),
    ):
        one = made(class_weight=dict.fromkeys("abc", weight), dtype="float32", early_stopping=early_stopping)
        with pytest.raises(ValueError, match=message):
            one.fit(*classes)


# --- validation_set ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "weighted"),
    [
        ("adam", True),
        *(pytest.param(*one, marks=pytest.mark.long) for one in (("adam", False), ("lbfgs", True))),
    ],
)
def test_the_curves_are_those_of_the_predictions(solver, weighted, classes, rng):
    (X, y), rest = classes, ()
    X_val, y_val = X[:20] + 0.1, y[:20]
    if weighted:
        rest = (rng.integers(0, 3, 20).astype(float),)
    w = rest[0] if weighted else None
    fits = [
        made(solver=solver, max_iter=k).fit(X, y, validation_set=(X_val, y_val, *rest)) for k in (1, 2, 3)
    ]
    for k, one in enumerate(fits):
        loss = log_loss(y_val, one.predict_proba(X_val), sample_weight=w, labels=["a", "b", "c"])
        score = accuracy_score(y_val, one.predict(X_val), sample_weight=w)
        np.testing.assert_allclose(fits[2].validation_loss_curve_[k], loss, rtol=1e-12)
        np.testing.assert_allclose(fits[2].validation_scores_[k], score, rtol=1e-12)
    same(fits[2], made(solver=solver).fit(X, y))  # they are only looked at
    assert made().fit(X, y).validation_loss_curve_ is made().fit(X, y).validation_scores_ is None


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_the_curves_of_numbers(loss, rng, monkeypatch):
    X = rng.standard_normal((50, 3))
    Y = np.abs(X[:, :2])
    monkeypatch.setattr("nnx.sklearn.samples.MAX_NUMBERS", 30)  # in pieces
    one = made(MLPRegressor, loss=loss).fit(X, Y, validation_set=(X[:30], Y[:30]))
    found, given = one.predict(X[:30]), Y[:30]
    np.testing.assert_allclose(one.validation_scores_[-1], r2_score(given, found))
    if loss == "squared_error":
        np.testing.assert_allclose(one.validation_loss_curve_[-1], ((found - given) ** 2).mean() / 2)


def test_early_stopping_takes_the_validation_set(classes):
    X, y = classes
    held = X[:20], np.roll(y, 1)[:20]
    one = made(early_stopping=True, max_iter=30, n_iter_no_change=3).fit(X, y, validation_set=held)
    assert len(one.validation_scores_) == len(one.validation_loss_curve_) == one.n_iter_ < 30
    best = int(np.argmax(one.validation_scores_))
    assert one.best_validation_score_ == one.validation_scores_[best] == one.score(*held)
    same(one, made(max_iter=best + 1).fit(X, y))  # trained on all of X
    # the same set: the best counts; another one: it does not, and the curves begin anew
    one.set_params(warm_start=True, max_iter=1)
    one.__dict__["best_validation_score_"] = 2.0
    one.fit(X, y, validation_set=[x.copy() for x in held])
    assert one.best_validation_score_ == 2.0
    one.fit(X, y, validation_set=(X[:30], y[:30]))
    assert one.best_validation_score_ == one.score(X[:30], y[:30]) == one.validation_scores_[-1]
    assert len(one.validation_scores_) == len(one.validation_loss_curve_) == 1
    one.set_params(early_stopping=False).fit(X, y)
    assert one.validation_scores_ is one.validation_loss_curve_ is None


def test_a_validation_set_of_any_form(classes):
    X, y = classes
    expected = made().fit(X, y, validation_set=(X[:20], y[:20])).validation_loss_curve_
    for given in (sparse.csr_array(X[:20]), sparse.csc_matrix(X[:20]), X[:20].tolist()):
        found = made().fit(X, y, validation_set=(given, y[:20].tolist())).validation_loss_curve_
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    parts = made()
    for _ in range(3):
        parts.partial_fit(X, y, classes=["a", "b", "c"], validation_set=(X[:20], y[:20]))
    assert len(parts.validation_loss_curve_) == len(parts.validation_scores_) == 3
    np.testing.assert_allclose(parts.validation_loss_curve_[0], expected[0], rtol=1e-12)


def test_a_validation_set_in_three(classes):
    X, y = classes
    w = np.arange(20.0)
    expected = made().fit(X, y, validation_set=(X[:20], y[:20], w)).validation_loss_curve_
    one = made().fit(X, y, X_val=X[:20], y_val=y[:20], sample_weight_val=w)
    assert one.validation_loss_curve_ == expected
    for given, message in (
        ({"X_val": X}, "X_val is provided, but y_val was not provided"),
        ({"y_val": y}, "y_val is provided, but X_val was not provided"),
        ({"X_val": X, "y_val": y, "validation_set": (X, y)}, "give one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            one.fit(X, y, **given)


@pytest.mark.needs("pandas")
def test_a_validation_set_of_frames(classes):
    import pandas

    X, y = classes
    frame = pandas.DataFrame(X, columns=["p", "q", "r"])
    expected = made().fit(X, y, validation_set=(X[:20], y[:20])).validation_loss_curve_
    found = made().fit(frame, y, validation_set=(frame[:20], pandas.Series(y[:20]))).validation_loss_curve_
    assert found == expected
    with pytest.raises(ValueError, match="validation_set: The feature names should match"):
        made().fit(frame, y, validation_set=(frame[["q", "p", "r"]], y))


@pytest.mark.long
@pytest.mark.needs("torch")
def test_a_validation_set_of_tensors(classes):
    import torch

    X, y = classes
    expected = made().fit(X, y, validation_set=(X[:20], y[:20])).validation_loss_curve_
    numbers = torch.tensor(np.unique(y, return_inverse=True)[1])
    for X_fit, X_val in ((torch.tensor(X), X), (X, torch.tensor(X)), (torch.tensor(X), torch.tensor(X))):
        one = made().fit(X_fit, numbers, validation_set=(X_val[:20], numbers[:20]))
        np.testing.assert_allclose(one.validation_loss_curve_, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda X, y: "ab", r"must be \(X, y\)"),
        (lambda X, y: (X,), "given 1 values"),
        (lambda X, y: [(X, y)], "given 1 values"),
        (lambda X, y: np.ones((2, 3)), r"must be \(X, y\)"),
        (lambda X, y: (X, None), "its y is None"),
        (lambda X, y: (X[:, :2], y), "2 features"),
        (lambda X, y: (X * np.nan, y), "NaN"),
        (lambda X, y: (X, y[:3]), "inconsistent numbers of samples"),
        (lambda X, y: (X, np.append(y[1:], "z")), "classes that the y of the training does not have: z"),
        (lambda X, y: (X, y, -np.ones(60)), "Negative values in data passed to `sample_weight`"),
        (lambda X, y: (X, y, np.ones(3)), "sample_weight"),
        (lambda X, y: (X, np.ones((60, 2), int)), "multilabel-indicator targets"),
    ],
)
def test_a_validation_set_that_does_not_fit(given, message, classes):
    one = made()
    with pytest.raises(ValueError, match=message):
        one.fit(*classes, validation_set=given(*classes))
    assert {*vars(one)} == {*one.get_params()}


def test_targets_that_the_training_does_not_have(rng):
    X = rng.standard_normal((20, 2))
    for kind, y, bad, message in (
        (MLPRegressor, X[:, 0], X, "2 outputs, that of the training 1"),
        (MLPClassifier, X > 0, np.ones((20, 3), int), "3 labels, that of the training 2"),
        (MLPRegressor, X[:, 0], np.full(20, np.inf), "infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            made(kind).fit(X, y, validation_set=(X, bad))


def test_numbers_of_a_set_that_the_training_would_refuse(rng, capsys):
    X = rng.standard_normal((40, 3))
    y, large = np.abs(X[:, 0]), X.copy()
    large[2, 1] = 1e300
    beyond = "has 1 value that is NaN, infinite or too large for float32"
    given = {"loss": "poisson", "dtype": "float32", "early_stopping": True, "verbose": True}
    for held, message in (
        ((large, y), rf"^validation_set: X {beyond}; .* \(feature 1, sample 2, "),
        ((sparse.csr_array(large), y), f"^validation_set: X.data {beyond}"),
        ((X, np.abs(large[:, 1])), f"^validation_set: y {beyond}; .* sample 2"),
        ((X, -y), "^validation_set: y holds values .* expects values >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            made(MLPRegressor, **given).fit(X, y, validation_set=held)
    with pytest.raises(ValueError, match=f"^the 39 samples that early_stopping holds out: X {beyond}"):
        made(MLPRegressor, **given, validation_fraction=0.975).fit(large, y)
    assert capsys.readouterr().out == ""  # before the first epoch


@pytest.mark.parametrize("selection", [pytest.param("all", marks=pytest.mark.long), "greedy"])
def test_members_have_curves_of_their_own(selection, classes):
    X, y = classes
    held = X[:20], y[:20]
    one = made(n_members=2, early_stopping=True, selection=selection).fit(X, y, validation_set=held)
    for member in one.members_:
        alone = clone(member).fit(X, y, validation_set=held)
        np.testing.assert_allclose(member.validation_loss_curve_, alone.validation_loss_curve_, rtol=1e-9)
        assert member.validation_scores_ == alone.validation_scores_
    with pytest.raises(AttributeError, match="each of the 2 members has its own validation_loss_curve_"):
        _ = one.validation_loss_curve_


@pytest.mark.long
def test_a_search_in_stacks_passes_it_on(classes):
    X, y = classes
    held = X[:20], y[:20], np.ones(20)
    grid = {"alpha": [0.0, 5.0]}
    search = StackedSearchCV(made(early_stopping=True, class_weight="balanced"), grid, cv=2)
    search.fit(X, y, validation_set=held)
    alone = made(early_stopping=True, class_weight="balanced", alpha=0.0)
    expected = alone.fit(X, y, validation_set=held).validation_loss_curve_
    best = search.best_estimator_.set_params(alpha=0.0)
    np.testing.assert_allclose(best.fit(X, y, validation_set=held).validation_loss_curve_, expected)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# --- fits that fail ---------------------------------------------------------------------------------------------------


class Fails(nnx.Callback):
    on = True

    def on_epoch(self, trainer, progress):
        if self.on and progress.epoch == 2:
            raise OSError("no room")


@pytest.mark.parametrize(
    ("how", "n_members"),
    [
        ("a callback", None),
        ("bad labels", 2),
        *(
            pytest.param(*one, marks=pytest.mark.long)
            for one in (("divergence", None), ("bad labels", None), ("a callback", 2), ("divergence", 2))
        ),
    ],
)
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(how, n_members, classes):
    X, y = classes
    one = made(n_members=n_members, tol=0.0).fit(X, y)
    before, there = one.predict_proba(X), {*vars(one)}
    again = X[:30, :2], np.array(["d", "e"] * 15)
    if how == "a callback":
        one.set_params(callbacks=Fails())
    elif how == "divergence":
        one.set_params(solver="sgd", learning_rate_init=1e300, max_iter=50)
    else:
        again = again[0], np.arange(30) / 7
    with pytest.raises((ValueError, nnx.CallbackError)), np.errstate(all="ignore"):
        one.fit(*again)
    np.testing.assert_array_equal(one.predict_proba(X), before)
    assert list(one.classes_) == ["a", "b", "c"]
    assert one.n_features_in_ == 3
    assert {*vars(one)} - there <= {"_forwards"}
    one.set_params(callbacks=(), solver="adam", learning_rate_init=0.001).partial_fit(X, y)


@pytest.mark.long
def test_a_warm_start_that_fails_keeps_the_curves(classes):
    X, y = classes
    one = made(warm_start=True, callbacks=Fails()).set_params(callbacks=()).fit(X, y, validation_set=classes)
    loss, curve, before = [*one.loss_curve_], [*one.validation_loss_curve_], one.predict_proba(X)
    with pytest.raises(nnx.CallbackError):
        one.set_params(callbacks=Fails()).fit(X, y, validation_set=classes)
    assert (one.loss_curve_, one.validation_loss_curve_) == (loss, curve)
    np.testing.assert_array_equal(one.predict_proba(X), before)
    first = made(callbacks=Fails())
    with pytest.raises(nnx.CallbackError):
        first.fit(X, y)
    assert {*vars(first)} == {*first.get_params()}


# --- pickles from before ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [pytest.param(False, marks=pytest.mark.long), True])
def test_pickles_from_before_go_on(early_stopping, classes):
    X, y = classes
    one = made(early_stopping=early_stopping, warm_start=True).fit(X, y)
    old = pickle.loads(pickle.dumps(one))
    state = {**one.__getstate__()}
    for name in ("class_weight", "validation_loss_curve_", "_watched"):
        del state[name]
    old = MLPClassifier.__new__(MLPClassifier)
    old.__setstate__(state)
    np.testing.assert_array_equal(old.predict_proba(X), one.predict_proba(X))
    assert old.validation_loss_curve_ is None
    assert old.class_weight is None
    for each in (old, one):
        each.set_params(random_state=1).fit(X, y)
    assert old.loss_curve_ == one.loss_curve_
    assert old.validation_scores_ == one.validation_scores_
    if early_stopping:
        assert np.isnan(old.validation_loss_curve_[:3]).all()
        assert old.validation_loss_curve_[3:] == one.validation_loss_curve_[3:]
