"""Estimators with members: each is the fit of its clone alone, and they predict by their mean."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import long_but_for

pytest.importorskip("sklearn", minversion="1.6")

from scipy import sparse, stats
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, ParameterSampler, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nnx
from nnx.port.base import Memory
from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV, members
from nnx.train.stack_memory import Need

BOTH = [MLPClassifier, MLPRegressor]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = datasets.load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def made(kind=MLPClassifier, **parameters):
    return kind(
        **{"hidden_layer_sizes": (6,), "max_iter": 6, "random_state": 3, "batch_size": 32, "n_members": 3}
        | parameters
    )


def alone(member, *samples, **weights):
    """Return the clone of a member, fitted alone."""
    return clone(member).fit(*samples, **weights)


def assert_same(member, single):
    for ours, its in zip([*member.coefs_, *member.intercepts_], [*single.coefs_, *single.intercepts_]):  # noqa: B905
        np.testing.assert_allclose(ours, its, rtol=1e-7, atol=1e-10)
    assert member.loss_ == pytest.approx(single.loss_, rel=1e-7)
    assert member.n_iter_ == single.n_iter_
    if member.solver != "lbfgs":
        np.testing.assert_allclose(member.loss_curve_, single.loss_curve_, rtol=1e-7)
        np.testing.assert_allclose(member.best_loss_ or 0, single.best_loss_ or 0, rtol=1e-7)
        assert member.t_ == single.t_


# --- each member is its single fit -----------------------------------------------------------------------------------

CASES = {
    "plain": {},
    "each number": {
        "member_params": {
            "alpha": [0.0, 0.1, 1.0], "learning_rate_init": [0.1, 0.01, 0.001], "beta_1": [0.0, 0.9, 0.5],
            "beta_2": [0.999, 0.9, 0.0], "epsilon": [1e-8, 1e-3, 1.0],
        },
    },
    "sgd": {
        "solver": "sgd", "tol": 1e-2, "n_iter_no_change": 1, "max_iter": 12,
        "member_params": {
            "learning_rate": ["constant", "invscaling", "adaptive"], "momentum": [0.0, 0.9, 0.5],
            "learning_rate_init": [0.1, 0.3, 0.5], "power_t": [0.5, 0.1, 0.2],
        },
    },
    "their ends": {"max_iter": 30, "member_params": {"tol": [1e-4, 0.1, 1.0], "n_iter_no_change": [20, 2, 1]}},
    "samples held out": {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 2, "max_iter": 20},
    "dropout": {"member_params": {"dropout": [0.1, 0.5, 0.3]}},
    "batch norm and a schedule": {
        "normalization": "batch", "member_params": {"schedule": [nnx.schedules.Cosine(r, 30) for r in (0.1, 0.01, 1)]},
    },
    "a schedule in epochs": {"schedule": nnx.schedules.OneCycle.in_epochs(0.05)},
    "optimizers": {"member_params": {"optimizer": [nnx.AdamW(0.01, weight_decay=w) for w in (0.1, 0.0, 1.0)]}},
    "regularizations": {"member_params": {"regularization": [nnx.Regularization(l1=x) for x in (0.0, 0.1, 0.01)]}},
    "seeds": {"member_params": {"random_state": [7, 1, 7]}},
    "in order, one batch": {"shuffle": False, "batch_size": 1000},
    "one batch": {"batch_size": 150},
    "float32": {"dtype": "float32"},
    "one member": {"n_members": 1},
    "lbfgs": {"solver": "lbfgs", "member_params": {"alpha": [0.0, 0.1, 1.0]}},
}  # fmt: skip


QUICK = {"each number", "sgd", "samples held out", "dropout", "lbfgs", "one batch"}


@pytest.mark.filterwarnings("ignore:Got `batch_size`")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.long) for case in CASES]
)
def test_a_member_is_its_clone_fitted_alone(case, iris):
    X, y = iris
    for kind, targets in ((MLPClassifier, y), (MLPRegressor, np.c_[y, X[:, 0] ** 2])):
        one = made(kind, **CASES[case]).fit(X, targets)
        tolerance = 1e-3 if one.dtype == "float32" else 1e-10
        for member in one.members_:
            single = alone(member, X, targets)
            np.testing.assert_allclose(member.coefs_[0], single.coefs_[0], rtol=1e-7, atol=tolerance)
            if one.dtype is None:
                assert_same(member, single)
        assert one.n_iter_ == max(member.n_iter_ for member in one.members_)
        distinct = {member.coefs_[0].tobytes() for member in one.members_}
        assert len(distinct) == (2 if case == "seeds" else one.n_members)


@pytest.mark.parametrize("kind", [MLPClassifier, pytest.param(MLPRegressor, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"batch_size": 150}]
)
def test_members_have_the_weights_of_the_samples(kind, parameters, iris, rng):
    X, y = iris
    w = rng.integers(0, 3, len(X)) * 1e-30
    w[:40] = 0.0  # a batch without weight
    one = made(kind, shuffle=False, **parameters).fit(X, y, w)
    for member in one.members_:
        assert_same(member, alone(member, X, y, sample_weight=w))


@pytest.mark.parametrize("how", long_but_for(["partial_fit", "fit"], "partial_fit"))
def test_members_go_on(how, iris):
    X, y = iris
    parameters = {"member_params": {"alpha": [0.1, 0.01, 1.0]}, "warm_start": True}
    one = made(**parameters)
    singles = None
    for changed in ({}, {}, {"batch_size": 50}, {"tol": 1e-5}):
        more = {"classes": [0, 1, 2]} if how == "partial_fit" else {}
        getattr(one.set_params(**changed), how)(X, y, **more)
        singles = singles or [clone(member) for member in one.members_]
        for member, single in zip(one.members_, singles, strict=True):
            getattr(single.set_params(**changed), how)(X, y, **more)
            assert_same(member, single)
        one = pickle.loads(pickle.dumps(one)) if changed else one
    again = copy.deepcopy(one)
    np.testing.assert_array_equal(again.predict_proba(X), one.predict_proba(X))
    for message, changed in (
        ("n_members is 2, but the fit that goes on has 3", {"n_members": 2, "member_params": None}),
        ("n_members is None, but .* has 3", {"n_members": None, "member_params": None}),
        ("member_params are others", {"member_params": {"alpha": [0.1, 0.01, 2.0]}}),
        (r"hidden_layer_sizes is \[5\]", {"hidden_layer_sizes": 5}),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(copy.deepcopy(one).set_params(**changed), how)(X, y)


def test_the_optimizer_goes_on_in_one_stack(iris):
    X, y = iris
    one = made().partial_fit(X, y, classes=[0, 1, 2])
    stack = one._stack.session.stack(False)
    one.partial_fit(X, y)
    assert one._stack.session.stack(False) is stack


def test_without_a_seed_each_part_is_shuffled_anew(iris):
    one = made(random_state=np.random.RandomState(0)).partial_fit(*iris, classes=[0, 1, 2])
    seeds = [member.random_state for member in one.members_]
    one.partial_fit(*iris)
    assert len({*seeds, *(member.random_state for member in one.members_)}) == 6


# --- the mean ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "weights"),
    [("two", [1, 0, 3]), ("three", [1, 1, 1]), ("three", [1, 0, 3]), ("labels", [2, 1, 1])],
)
def test_probabilities_are_means(case, weights, iris, rng):
    X, y = iris
    if case == "labels":
        y = np.c_[y == 0, y == 1, X[:, 0] > 0].astype(int)
    elif case == "two":
        X, y = X[y > 0], np.asarray(["none", "some"])[y[y > 0] - 1]
    one = made().fit(X, y)
    one.member_weights_ = shares = np.asarray(weights) / sum(weights)
    P = np.stack([member.predict_proba(X) for member in one.members_])
    mean = np.einsum("k,kmn", shares, P)
    np.testing.assert_allclose(one.predict_proba(X), mean, rtol=1e-12)
    np.testing.assert_allclose(one.predict_log_proba(X), np.log(mean), rtol=1e-9)
    deviation = np.sqrt(np.einsum("k,kmn", shares, (P - mean) ** 2))
    np.testing.assert_allclose(one.predict_std(X), deviation, rtol=1e-9, atol=1e-15)
    expected = (mean > 0.5) if case == "labels" else one.classes_[mean.argmax(axis=1)]
    np.testing.assert_array_equal(one.predict(X), expected)
    assert one.score(X, y) == np.mean((expected == y).reshape(len(X), -1).all(axis=1))


@pytest.mark.parametrize(("n_outputs", "loss"), [(1, "squared_error"), (2, "squared_error"), (1, "poisson")])
def test_predictions_are_means(n_outputs, loss, iris, monkeypatch):
    X, y = iris[0], np.abs(iris[0][:, :n_outputs]).squeeze()
    one = made(MLPRegressor, loss=loss).fit(X, y)
    found = np.stack([member.predict(X) for member in one.members_])
    monkeypatch.setattr("nnx.sklearn.samples.MAX_NUMBERS", 1000)  # in pieces
    np.testing.assert_allclose(one.predict(X), found.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(one.predict_std(X), found.std(axis=0), rtol=1e-9)
    for changed in (lambda W: np.multiply(W, 2, out=W), lambda W: W + 1):  # in place, and anew: both are seen
        one.members_[0].coefs_ = [changed(W) for W in one.members_[0].coefs_]
        found[0] = one.members_[0].predict(X)
        np.testing.assert_allclose(one.predict(X), found.mean(axis=0), rtol=1e-12)


def test_greedy_selection(iris):
    X, y = iris
    one = made(n_members=5, early_stopping=True, validation_fraction=0.3, selection="greedy", max_iter=3).fit(
        X, y
    )
    rng = np.random.RandomState(3)
    rng.randint(2**31 - 1, size=5)
    _, held_out = train_test_split(np.arange(len(X)), random_state=rng, test_size=0.3)
    P = [member.predict_proba(X[held_out]) for member in one.members_]
    total, counts, best = 0, np.zeros(5), (np.inf, None)
    for n in range(1, 11):
        losses = [log_loss(y[held_out], (total + own) / n) for own in P]
        k = int(np.argmin(losses))
        counts[k] += 1
        total = total + P[k]
        best = min(best, (losses[k], tuple(counts)))
    np.testing.assert_allclose(one.member_weights_, np.asarray(best[1]) / sum(best[1]))
    assert 0 < (one.member_weights_ > 0).sum() < 5
    for member in one.members_:  # all have trained on the same samples
        assert member.validation_scores_[-1] <= member.best_validation_score_
        scores = [member.score(X[held_out], y[held_out])]
        np.testing.assert_allclose(max(member.validation_scores_), scores)
    weighted = made(MLPRegressor, early_stopping=True, selection="greedy").fit(X, y, np.arange(len(X)))
    assert weighted.member_weights_.sum() == pytest.approx(1)


def test_drawn_parameters(iris):
    given = {
        "alpha": stats.loguniform(1e-4, 1e-1),
        "n_iter_no_change": stats.randint(3, 9),
        "tol": [0.1, 0.2, 0.3],
    }
    one = made(member_params=given).fit(*iris)
    rng = np.random.RandomState(3)
    seeds = rng.randint(2**31 - 1, size=3)
    drawn = ParameterSampler(
        {name: given[name] for name in ("alpha", "n_iter_no_change")}, 3, random_state=rng
    )
    for member, seed, tol, expected in zip(one.members_, seeds, given["tol"], drawn, strict=True):
        assert {"random_state": seed, "tol": tol, **expected}.items() <= member.get_params().items()
    assert clone(one).get_params()["member_params"]["tol"] == given["tol"]


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_member_that_diverges_is_left_out(iris):
    X, y = iris
    rates = {"solver": "sgd", "member_params": {"learning_rate_init": [0.1, 1e200, 0.01]}}
    with pytest.warns(
        ConvergenceWarning, match=r"^member 1: left out of the mean, as it has diverged: "
    ) as warned:
        one = made(MLPRegressor, **rates).fit(X, y)
    assert any(str(w.message).startswith("2 of 3 members (0, 2): Stochastic Optimizer") for w in warned)
    assert {w.filename for w in warned} == {__file__}
    np.testing.assert_allclose(one.member_weights_, [0.5, 0, 0.5])
    found = [one.members_[k].predict(X) for k in (0, 2)]
    np.testing.assert_allclose(one.predict(X), np.mean(found, axis=0), rtol=1e-12)
    for k in (0, 2):
        assert_same(one.members_[k], alone(one.members_[k], X, y))
    early = made(MLPRegressor, early_stopping=True, **rates).fit(X, y)  # it has no best parameters
    np.testing.assert_allclose(early.member_weights_, [0.5, 0, 0.5])
    kept = made(MLPRegressor, early_stopping=True, callbacks=[Explodes()], solver="sgd").fit(X, y)
    assert [member.loss_curve_[2:] for member in kept.members_] == [[pytest.approx(np.nan, nan_ok=True)]] * 3
    assert (kept.member_weights_ > 0).all()
    assert np.isfinite(kept.predict(X)).all()
    for more in ({}, {"early_stopping": True}):
        with pytest.raises(ValueError, match="non-finite parameter weights") as error:
            made(MLPRegressor, solver="sgd", learning_rate_init=1e200, **more).fit(X, y)
        assert isinstance(error.value.__cause__, nnx.DivergenceError)


class Explodes(nnx.Callback):
    each_member = True

    def on_epoch(self, trainer, progress):
        if progress.epoch == 2:
            trainer.learning_rate = 1e30


class Interrupt(nnx.Callback):
    def __init__(self, at):
        self.at = at

    def on_epoch(self, trainer, progress):
        if progress.epoch == self.at:
            raise KeyboardInterrupt


class InterruptOne(Interrupt):
    each_member = True

    def on_epoch(self, trainer, progress):
        self.at -= 1
        if not self.at:
            raise KeyboardInterrupt


def test_an_interrupt_ends_all(iris):
    with pytest.warns(UserWarning, match=r"^Training interrupted by user.$") as warned:
        one = made(callbacks=Interrupt(2)).fit(*iris)
    assert len(warned) == 1
    assert [member.n_iter_ for member in one.members_] == [2, 2, 2]
    with pytest.warns(UserWarning, match=r"^Training interrupted by user.$"):  # one after the other
        one = made(MLPRegressor, solver="lbfgs", callbacks=InterruptOne(2)).fit(*iris)
    assert one.member_weights_.tolist() == [1.0, 0.0, 0.0]
    assert np.isfinite(one.predict(iris[0])).all()


@pytest.mark.parametrize("end", ["interrupt", "stop"])
@pytest.mark.parametrize("selection", ["all", "greedy"])
@pytest.mark.filterwarnings("ignore:Training interrupted")
def test_members_of_rounds_that_never_began_take_no_part(iris, end, selection, monkeypatch):
    monkeypatch.setattr("nnx.train.stack_memory.SMALL", 0)
    monkeypatch.setattr("nnx.train.stack_fit.needed", lambda *_: Need(1000, 0))
    monkeypatch.setattr(type(nnx.backend("numpy")), "memory", lambda _: Memory(0, 0, 2500))  # of two members

    def stop(now):
        if now.measured and now.epoch == 2:
            one._stack.stop()

    one = made(backend="numpy", callbacks=Interrupt(2) if end == "interrupt" else stop, warm_start=True)
    one.set_params(selection=selection, early_stopping=selection == "greedy")
    with pytest.warns(
        ConvergenceWarning, match=r"2 of 3 members \(1, 2\): left out of the mean, as the fit ended"
    ):
        one.fit(*iris)
    assert ([member.n_iter_ for member in one.members_], [*one.member_weights_]) == ([2, 0, 0], [1, 0, 0])
    one.set_params(callbacks=None).fit(*iris)
    one.set_params(callbacks=Interrupt(1), selection="all").fit(*iris)
    assert (one.member_weights_ > 0).all()  # they have trained before


def test_callbacks_of_all_and_of_each(iris, capsys):
    X, y = iris
    seen = []
    one = made(
        callbacks=[lambda now: seen.append(now.measured), nnx.EarlyStopping("loss", patience=1)], verbose=True
    )
    one.set_params(max_iter=20, member_params={"learning_rate_init": [0.001, 3.0, 0.01]}).fit(X, y)
    losses = [member.loss_curve_[0] for member in one.members_]
    assert next(x["loss"] for x in seen if x) == pytest.approx(np.median(losses), rel=1e-6)
    assert len([x for x in seen if x]) == one.n_iter_
    assert one.members_[1].n_iter_ < one.n_iter_  # its own EarlyStopping
    assert f"Member 2: Iteration 1, loss = {losses[2]:.8f}\n" in capsys.readouterr().out


@pytest.mark.parametrize("x", ["dense", "sparse"])
def test_members_that_train_one_after_the_other_call_all_callbacks(x, iris, monkeypatch):
    monkeypatch.setattr(members, "MOST_DENSE", 10)
    seen = []
    X, solver = (iris[0], "lbfgs") if x == "dense" else (sparse.csr_array(iris[0]), "adam")
    one = made(solver=solver, callbacks=lambda now: seen.append(now.measured)).fit(X, iris[1])
    assert len([x for x in seen if x]) == sum(member.n_iter_ for member in one.members_)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [members.MOST_DENSE, 10])
def test_sparse_samples(most, iris, monkeypatch):
    monkeypatch.setattr(members, "MOST_DENSE", most)
    X, y = np.maximum(iris[0], 0), iris[1]
    dense, thin = (made(early_stopping=True).fit(x, y) for x in (X, sparse.csr_array(X)))
    for member, other in zip(dense.members_, thin.members_, strict=True):
        assert_same(other, member)
    np.testing.assert_allclose(thin.predict_proba(sparse.csr_array(X)), dense.predict_proba(X), rtol=1e-7)
    assert made(early_stopping=True, selection="greedy").fit(sparse.csr_array(X), y).score(X, y) > 0.3


@pytest.mark.parametrize(
    "backend", ["numpy", "numba", "torch", pytest.param("jax", marks=pytest.mark.long)], indirect=True
)
def test_arrays_of_every_library(backend, iris):
    X, y = iris
    x, targets = backend.asarray(X, "float64"), backend.asarray(y, "int64")
    one = made(backend=None if backend.name in ("torch", "jax") else backend.name, max_iter=3)
    if backend.name == "numba":
        x, targets = X, y
    one.fit(x, targets)
    here = made(max_iter=3, backend="numpy").fit(X, y)
    for found, expected in (
        (one.predict_proba(x), here.predict_proba(X)),
        (one.predict_std(x), here.predict_std(X)),
    ):
        assert type(found) is type(x)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-3, atol=1e-5)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_allclose(again.predict_proba(X), np.asarray(one.predict_proba(x)), rtol=1e-3, atol=1e-5)


@pytest.mark.long
def test_members_beside_the_rest_of_scikit_learn(iris):
    X, y = iris
    model = make_pipeline(StandardScaler(), made(n_members=2, max_iter=40, learning_rate_init=0.03))
    assert cross_val_score(model, X, np.asarray(["a", "b", "c"])[y], cv=2).mean() > 0.9
    grid = {"mlpclassifier__n_members": [None, 2], "mlpclassifier__alpha": [1e-4, 1.0]}
    found, expected = (
        kind(model, grid, cv=2).fit(X, y).cv_results_ for kind in (StackedSearchCV, GridSearchCV)
    )
    np.testing.assert_allclose(found["mean_test_score"], expected["mean_test_score"], rtol=1e-9)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[*"pqrs"])
    one = made().fit(frame, y)
    assert [*one.feature_names_in_] == [*one.members_[0].feature_names_in_] == [*"pqrs"]
    with pytest.raises(ValueError, match="same order"):
        one.predict(frame[[*"qprs"]])


def test_attributes_of_one_network_are_the_members(iris):
    X, y = iris
    one = made().fit(X, y)
    for name in members.OF_ONE:
        with pytest.raises(
            AttributeError, match=rf"each of the 3 members has its own {name}: take members_\[0\]"
        ):
            getattr(one, name)
        assert hasattr(one.members_[0], name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = one.nothing
    assert (one.n_layers_, one.n_outputs_, one.out_activation_) == (3, 3, "softmax")
    single = one.set_params(n_members=None).fit(X, y)
    assert hasattr(single, "coefs_")
    assert not {"members_", "member_weights_"} & {*vars(single)}
    with pytest.raises(AttributeError, match="deviation of members; give n_members=8"):
        _ = single.predict_std
    again = single.set_params(n_members=2).fit(X, y)
    with pytest.raises(nnx.InputError, match=r"this MLPClassifier has 2 networks; .*: its members_\[0\]"):
        nnx.convert.from_sklearn(again)
    assert not hasattr(again, "coefs_")
    assert len(again.members_) == 2
    with pytest.raises(NotFittedError):
        clone(again).predict(X)
    with pytest.raises(NotFittedError):
        clone(again).predict_std(X)


def test_a_pickle_from_before_there_were_members(iris):
    one = made(n_members=None).fit(*iris)
    state = {name: x for name, x in one.__getstate__().items() if name not in members.ALONE}
    old = MLPClassifier.__new__(MLPClassifier)
    old.__setstate__(state)
    np.testing.assert_array_equal(old.predict_proba(iris[0]), one.predict_proba(iris[0]))
    assert old.n_members is None


@pytest.mark.parametrize(("device", "free"), [("cpu", 3_500_000), ("cuda", 1_000_000)])
def test_members_that_only_wait_take_less_memory(device, free, iris, monkeypatch):
    one = made(hidden_layer_sizes=(1000,), max_iter=1)  # 20 copies of each member are 1.3 MB, 10 are 0.64 MB
    backend = SimpleNamespace(device=device)
    monkeypatch.setattr(members, "samples", SimpleNamespace(backend_for=lambda *_: backend))
    monkeypatch.setattr("nnx.train.stack_memory.SMALL", 0)
    monkeypatch.setattr(members, "available", lambda: free)
    assert one.fit(*iris).n_iter_ == 1
    monkeypatch.setattr(members, "available", lambda: free * 3 // 4)
    with pytest.raises(nnx.InputError, match=r"3 members take .* 2 fit into .* Give a smaller n_members"):
        one.fit(*iris)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_members": 0}, "'n_members' parameter"),
        ({"n_members": 2.5}, "'n_members' parameter"),
        ({"n_members": 10**12}, r"1,000,000,000,000 members take .* fit .* Give a smaller n_members"),
        ({"n_members": True}, "n_members must be a positive integer, not True"),
        ({"n_members": None, "member_params": {}}, "member_params is given without n_members"),
        ({"n_members": None, "selection": "greedy"}, "selection='greedy' is given without n_members"),
        ({"selection": "best"}, "'selection' parameter"),
        ({"selection": "greedy"}, "greedy' chooses members by .* validation_set .* early_stopping=True"),
        ({"selection": "greedy", "early_stopping": True, "solver": "lbfgs"}, "solver='adam' or 'sgd'"),
        ({"member_params": [1, 2, 3]}, "'member_params' parameter"),
        ({"member_params": {"hidden_layer_sizes": [1, 2, 3]}}, "has 'hidden_layer_sizes', which is the same for all"),
        ({"member_params": {"alhpa": [1, 2, 3]}}, "unknown parameter of members 'alhpa'; did you mean 'alpha'"),
        ({"member_params": {"alpha": [0.1, 0.2]}}, r"member_params\['alpha'\] has length 2; expected n_members=3"),
        ({"member_params": {"alpha": 0.1}}, r"member_params\['alpha'\] must be a list of n_members=3 values"),
        ({"member_params": {"learning_rate": "constant"}}, r"member_params\['learning_rate'\] must be a list"),
        (
            {"member_params": {"alpha": stats.loguniform}},
            r"no value of the distribution of alpha: .* missing .* as in scipy.stats.loguniform\(1e-4, 1\)",
        ),
        ({"member_params": {"alpha": [0.1, -1.0, 0.2]}}, r"member 1, with {'alpha': -1.0}: .*'alpha' parameter"),
        ({"member_params": {"dropout": [0.0, 0.5, 0.5]}}, "a network without dropout has another architecture"),
        (
            {"member_params": {"optimizer": [nnx.Adam(), nnx.Lion(), nnx.Adam()]}},
            r"members of a stack may differ in numbers, and in nothing else of the optimizer",
        ),
        ({"regularization": 3}, "regularization must be an nnx.Regularization"),
        ({"callbacks": [print, nnx.Checkpoints("folder")]}, "has Checkpoints, from which no estimator goes on"),
    ],
)  # fmt: skip
def test_what_is_refused(parameters, message, iris):
    with pytest.raises(ValueError, match=message):
        made(**parameters).fit(*iris)


def test_what_partial_fit_refuses(iris):
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        made(early_stopping=True, selection="greedy").partial_fit(*iris, classes=[0, 1, 2])
    with pytest.raises(AttributeError, match="partial_fit is only available for stochastic optimizers"):
        _ = made(solver="lbfgs").partial_fit


def test_no_warning_where_all_have_converged(iris):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(tol=1e3, n_iter_no_change=1).fit(*iris)
