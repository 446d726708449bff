"""Every operation of the compiler's table, on every backend: compiled by itself, and within a step."""

from dataclasses import dataclass

import numpy as np
import pytest
from array_api_compat import array_namespace

import nnx
from nnx.compiler import TraceError, trace
from nnx.compiler.ir.operations import ARITY, REDUCTIONS

INTEGERS = {name for name in ARITY if name.startswith("bitwise")}
BOOLS = {name for name in ARITY if name.startswith("logical")}
ELEMENTWISE = sorted(ARITY)
NO_LOOP = {"remainder", "round", "isinf", "isfinite", "signbit", "logaddexp", "nextafter", "argmax", "argmin"}
"""numba runs a step with one of these as NumPy's calls."""


def operands(rng):
    """Return X and Y (3, 8): numbers above 1 and below 1, for functions such as acosh and asin."""
    return rng.uniform(1.1, 2.9, (3, 8)).astype("float32"), rng.uniform(0.1, 0.9, (3, 8)).astype("float32")


def applied(name, X, Y):
    """Return an elementwise function of X and Y, of floats, integers or truth values as the standard asks."""
    xp = array_namespace(X)
    x = X if name == "acosh" else Y
    if name in INTEGERS:
        X, x = xp.astype(4 * X, xp.int32), xp.astype(4 * Y, xp.int32)
    if name in BOOLS:
        X, x = X > 2, Y > 0.5
    found = getattr(xp, name)(*((X, x) if ARITY[name] == 2 else (x,)))
    return xp.astype(found, Y.dtype)


def reduced(name, X, axis=-1, keepdims=True):
    """Return a reduction of X, by default over its samples, as a column."""
    xp = array_namespace(X)
    found = getattr(xp, name)(X > 2 if name in ("all", "any") else X, axis=axis, keepdims=keepdims)
    return xp.astype(found, X.dtype)


@pytest.fixture(autouse=True)
def _nothing_runs_as_it_is(caplog):
    """`compile` falls back to the plain function, whose result is right: only the log tells of a missing entry."""
    caplog.set_level("DEBUG", "nnx")
    yield
    told = [record.getMessage() for when in ("setup", "call") for record in caplog.get_records(when)]
    assert not [text for text in told if "runs as it is" in text]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions(backend, rng, name):
    given = operands(rng)
    program = backend.compile(lambda X, Y: applied(name, X, Y))
    found = backend.to_numpy(program(*map(backend.asarray, given)))
    np.testing.assert_allclose(found, applied(name, *given), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("keepdims", [True, False])
def test_reductions(backend, rng, name, axis, keepdims, caplog):
    keepdims = keepdims and not (axis is None and name in ("argmax", "argmin"))  # see the next test
    X, _ = operands(rng)
    program = backend.compile(lambda X: reduced(name, X, axis, keepdims))
    found, expected = backend.to_numpy(program(backend.asarray(X))), reduced(name, X, axis, keepdims)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    if (backend.name, name, axis) == ("torch", "prod", None):
        assert "prod over 2 axes has no call" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_place_in_all_axes_keeps_them(name):
    X = np.ones((3, 8))
    (found,) = trace(lambda X: reduced(name, X, None), X).outputs
    assert found.shape == reduced(name, X, None).shape


@pytest.mark.parametrize("limits", [(1.5, None), (None, 2.0), (1.5, 2.0), (None, None)])
@pytest.mark.parametrize("of", ["numbers", "arrays"])
def test_clip(backend, rng, limits, of):
    """Composed of maximum and minimum. The limits may be arrays, too."""

    def clipped(clip, X, Y):
        return clip(X, *(x if x is None or of == "numbers" else x + 0.1 * Y for x in limits))

    def f(X, Y):
        return clipped(array_namespace(X).clip, X, Y) + 0 * Y

    X, Y = operands(rng)
    trace(f, X, Y)
    found = backend.to_numpy(backend.compile(f)(backend.asarray(X), backend.asarray(Y)))
    expected = X if limits == (None, None) else clipped(np.clip, X, Y)
    assert (expected == X).all() == (limits == (None, None))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_count_nonzero(backend, rng, axis, keepdims, dtype):
    """Composed of casts and a sum; NaN is not zero."""

    def f(X):
        return array_namespace(X).count_nonzero(X, axis=axis, keepdims=keepdims)

    X = rng.integers(-1, 2, (3, 8)).astype(dtype)
    if dtype == "float32":
        X[1, 2] = np.nan
    trace(f, X)
    found = backend.to_numpy(backend.compile(f)(backend.asarray(X)))
    expected = np.count_nonzero(X, axis=axis, keepdims=keepdims)
    assert found.dtype.kind == "i"
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None])
@pytest.mark.parametrize("correction", [0, 1, 0.5])
@pytest.mark.parametrize("keepdims", [True, False])
def test_variances(backend, rng, name, axis, correction, keepdims):
    """Of numbers with a large mean, too, where the mean of the squares minus the square of the mean has no digits."""

    def f(X):
        xp = array_namespace(X)
        return getattr(xp, name)(X, axis=axis, correction=correction, keepdims=keepdims)

    X = operands(rng)[0] + np.float32(1000)
    trace(f, X)
    found = backend.to_numpy(backend.compile(f)(backend.asarray(X)))
    expected = f(X.astype("float64"))
    assert found.dtype == "float32"
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_variances_that_are_not_traced():
    """The step runs as it is then: the library says what there is to say."""
    x = np.ones((3, 4))
    with pytest.raises(TraceError, match="var with correction=4 of too few elements"):
        trace(lambda x: array_namespace(x).std(x, axis=1, correction=4), x)
    with pytest.raises(TraceError, match="var of a int32 array: the standard has it for floating ones only"):
        trace(lambda x: array_namespace(x).var(x), x.astype("int32"))


@dataclass(frozen=True)
class Spread(nnx.Layer):
    """A[l] = A/s, s the standard deviation of a sample's units, with n - 1."""

    def forward(self, params, A_prev, context):
        s = array_namespace(A_prev).std(A_prev, axis=-2, correction=1, keepdims=True) + 0.1
        return A_prev / s, (A_prev, s)

    def backward(self, params, saved, dA, need_dA_prev):
        A, s = saved  # ds/dA = (A - mean)/((n - 1)(s - 0.1))
        xp = array_namespace(dA)
        off = (A - xp.mean(A, axis=-2, keepdims=True)) / ((A.shape[-2] - 1) * (s - 0.1))
        return dA / s - off * xp.sum(dA * A, axis=-2, keepdims=True) / s**2, {}


def test_a_layer_with_a_standard_deviation_trains_everywhere(backend, rng, caplog):
    net = nnx.Network(4, [nnx.Dense(6, "tanh"), Spread(), nnx.Dense(3)], "softmax")
    nnx.check_gradient(net)
    X, Y = rng.standard_normal((4, 60)), rng.integers(0, 3, 60)

    def trained(where):
        trainer = nnx.Trainer(net, nnx.Adam(0.01), backend=where, dtype="float64", seed=0)
        trainer.fit(X, Y, epochs=3, batch_size=20)
        return trainer.theta

    with caplog.at_level("INFO", logger="nnx"):
        found = trained(backend)
    assert "not compiled" not in caplog.text
    np.testing.assert_allclose(found, trained("numpy"), rtol=1e-9, atol=1e-11)


@pytest.mark.long
@pytest.mark.parametrize("only", ["every", "with a loop"])
def test_all_in_a_step(backend, rng, only, caplog):
    """A state with one array for each function. numba compiles those that have a loop, and says nothing then."""
    skipped = NO_LOOP if only == "with a loop" else set()
    chosen = [name for name in (*ELEMENTWISE, *sorted(REDUCTIONS)) if name not in skipped]

    def step(state, batch):
        X, Y, _ = batch
        made = {name: applied(name, X, Y) if name in ARITY else reduced(name, X) for name in chosen}
        new = {name: state[name] + x for name, x in {"theta": X, **made}.items()}
        return new, array_namespace(X).sum(X)

    X, Y = operands(rng)
    zeros = dict.fromkeys(["theta", *chosen], np.zeros_like(X)) | {
        name: np.zeros_like(X[:, :1]) for name in REDUCTIONS if name in chosen
    }
    expected, J = step(zeros, (X, Y, None))
    data = backend.asarray(X), backend.asarray(Y), None
    program = backend.compile(step)
    program.load({name: backend.asarray(x) for name, x in zeros.items()})
    with caplog.at_level("INFO", logger="nnx"):
        costs = program.run(data, None, 0, X.shape[1], 1)
    assert float(costs[0]) == pytest.approx(float(J), rel=1e-5)
    found = program.read(*chosen)
    for name in chosen:
        np.testing.assert_allclose(
            backend.to_numpy(found[name]), expected[name], rtol=1e-5, atol=1e-6, err_msg=name
        )
    if only == "with a loop":
        assert "not compiled" not in caplog.text
