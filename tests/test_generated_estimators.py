"""Random histories of an estimator, beside scikit-learn's: the same results, or an error that names the parameter.

Each history is a sequence of set_params, fit, partial_fit, warm starts, clones, copies and pickles. scikit-learn's
estimator lives the same history. Both end each act with the same loss, weights and random numbers, or both refuse, or
nnx refuses what scikit-learn ignores. Some acts end in an error within scikit-learn where nnx goes on; then the history
is over.
"""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")

import sklearn.neural_network as theirs
from scipy import sparse
from sklearn.base import clone

import nnx.sklearn as ours

CHOICES = {
    "hidden_layer_sizes": [(4,), (3, 2), 4, (), np.array([4]), [5], (4.5,), True, (0,), "44"],
    "activation": ["identity", "logistic", "tanh", "relu", "eluu"],
    "solver": ["lbfgs", "sgd", "adam"],
    "alpha": [0.0, 1e-4, 1.0, 10, -1.0],
    "batch_size": ["auto", 7, 20, 1000],
    "learning_rate": ["constant", "invscaling", "adaptive"],
    "learning_rate_init": [0.001, 0.01, 0.1],
    "power_t": [0.5, 0.1],
    "max_iter": [1, 2, 5, 12],
    "shuffle": [True, False],
    "tol": [1e-4, 0.05, 10.0],
    "warm_start": [True, False],
    "momentum": [0.9, 0.5, 0.0],
    "nesterovs_momentum": [True, False],
    "early_stopping": [True, False],
    "validation_fraction": [0.1, 0.3],
    "beta_1": [0.9, 0.5],
    "beta_2": [0.999, 0.9],
    "epsilon": [1e-8, 1e-4],
    "n_iter_no_change": [1, 2, 10, np.inf],
    "max_fun": [15000, 3],
    "loss": ["squared_error", "poisson"],
}
PARAMETERS = "|".join([*CHOICES, "random_state", "sample_weight", "classes", "outputs"])
OF_THEIR_OWN = (
    r"NoneType|has no attribute|index out of range|broadcast|operands|shapes|cannot reshape|not aligned|infs"
)
"""What scikit-learn says where parameters that were changed meet attributes of before."""


def data(rng, kind):
    X = rng.standard_normal((40, 3))
    y = {
        "two": lambda: np.where(X[:, 0] > X[:, 1], "b", "a"),
        "three": lambda: np.arange(40) % 3,
        "labels": lambda: (X[:, :2] > 0).astype(int),
        "number": lambda: np.abs(X[:, 0]) + X[:, 1] ** 2,
        "numbers": lambda: np.abs(X[:, :2]),
    }[kind]()
    return X, y


def weights(rng, m):
    return [None, None, None, 2.0, rng.integers(1, 4, m) / 2, np.full(m, 1e40)][rng.integers(6)]


class Pair:
    """Their estimator and ours, and the random state of each."""

    def __init__(self, rng, kind, instances):
        name = "MLPClassifier" if kind in ("two", "three", "labels") else "MLPRegressor"
        self.kind, self.rng, self.instances, self.said = kind, rng, instances, []
        self.activation = None  # that of the last fit
        self.both = [getattr(library, name)(max_iter=3) for library in (theirs, ours)]
        self.set(hidden_layer_sizes=(4,))
        self.draw_anew()

    def draw_anew(self):
        seed = int(self.rng.integers(100))
        for one in self.both:
            one.set_params(random_state=np.random.RandomState(seed) if self.instances else seed)

    def set(self, **parameters):
        for one in self.both:
            one.set_params(**parameters)

    def replaced(self, made):
        self.both = [made(one) for one in self.both]

    def act(self, rng):
        """Do one thing with both; return whether the history goes on."""
        act = rng.choice(["set", "set", "fit", "partial_fit", "partial_fit", "copy", "predict"])
        if act == "set":
            known = self.both[0].get_params()
            name = rng.choice([name for name in CHOICES if name in known])
            value = CHOICES[name][rng.integers(len(CHOICES[name]))]
            self.said.append(f"{name}={value!r}")
            self.set(**{name: value})
            return True
        if act == "copy":
            how = rng.integers(4)
            self.said.append(["pickle", "deepcopy", "clone", "new random_state"][how])
            if how == 3:
                self.draw_anew()
            else:
                self.replaced([lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, clone][how])
            return True
        X, y = data(rng, self.kind)
        w = weights(rng, len(X))
        if w is not None and self.both[0].batch_size in (7, 20):
            w = 2.0  # the losses of batches of unequal weight are not averaged alike
        X = sparse.csr_matrix(X) if rng.random() < 0.2 else X
        if act == "predict":
            self.said.append("predict")
            their, now = self.both[0], self.both[0].activation
            their.activation = (
                self.activation or now
            )  # scikit-learn's goes by the one that is set, ours by the fit's
            found = [self.tried(one, "predict", X) for one in self.both]
            their.activation = now
            return self.compared(found)
        self.said.append(f"{act}(weights {'none' if w is None else np.ravel(w)[0]:})")
        given = {"sample_weight": w}
        if act == "partial_fit" and self.kind in ("two", "three", "labels"):
            given["classes"] = {"two": ["a", "b"], "three": [0, 1, 2], "labels": [0, 1]}[self.kind]
            given["classes"] = np.array(given["classes"])
        self.activation = self.both[0].activation
        return self.compared([self.tried(one, act, X, y, **given) for one in self.both])

    def tried(self, one, act, *arguments, **given):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return getattr(one, act)(*arguments, **given)
        except Exception as error:
            return error

    def compared(self, found):
        their, our = found
        failed = [isinstance(one, Exception) for one in found]
        if failed[1] and not isinstance(our, (ValueError, AttributeError)):
            raise AssertionError(f"{self.said}: ours raised {our!r}") from our
        if all(failed):
            return False
        if failed[1]:
            assert re.search(PARAMETERS, f"{our} {our.__cause__}"), (self.said, our)
            return False
        if failed[0]:
            assert re.search(OF_THEIR_OWN, str(their)), (self.said, their)
            assert self.said[-1] == "predict" or np.isfinite(self.both[1].loss_), self.said
            return False
        if self.said[-1] == "predict":
            same(our, their, self.said)
            return True
        their, our = self.both
        if not all(map(np.isfinite, (their.loss_, our.loss_))):
            return False
        for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_"):
            assert getattr(our, name) == getattr(their, name), (self.said, name)
        if not (our.solver == "lbfgs" and our.n_outputs_ > 1 and our.out_activation_ == "identity"):
            same(our.loss_, their.loss_, self.said)
            for name in ("coefs_", "intercepts_"):
                for a, b in zip(getattr(our, name), getattr(their, name), strict=True):
                    same(a, b, self.said)
        else:
            return False  # scikit-learn's line search sees the mean of the losses there
        if self.instances:
            a, b = (one.random_state.get_state() for one in self.both)
            np.testing.assert_array_equal(a[1], b[1], err_msg=str(self.said))
            assert a[2:] == b[2:], self.said
        # What differs by rounding shall not grow, and their views are copies.
        our.coefs_ = [W.copy() for W in their.coefs_]
        our.intercepts_ = [b.copy() for b in their.intercepts_]
        return True


def same(a, b, said):
    if np.asarray(a).dtype.kind in "US":
        np.testing.assert_array_equal(a, b, err_msg=str(said))
    else:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=str(said))


def histories(seed, count, most=12):
    rng = np.random.default_rng(seed)
    acts = 0
    for number in range(count):
        kind = ["two", "three", "labels", "number", "numbers"][number % 5]
        pair = Pair(rng, kind, instances=bool(number % 2))
        for _ in range(most):
            acts += 1
            if not pair.act(rng):
                break
    assert acts > 4 * count  # few end at once


def test_a_few_histories():
    histories(1, 20)


@pytest.mark.long
def test_many_histories():
    for seed in range(2, 5):
        histories(seed, 80, most=20)
