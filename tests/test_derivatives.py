"""The derivative that the compiler gets from a function's graph, against central differences."""

import numpy as np
import pytest

import nnx
from nnx.compiler import TraceError, trace
from nnx.compiler.derivative import ELEMENTWISE, SHAPED, Derivative

X = np.array([[0.31, 0.62, 0.87], [0.45, 0.11, 0.53]])  # (2, 3): where every function has a derivative
Y = np.array([[0.72, 0.28, 0.19], [0.33, 0.94, 0.68]])


def xp(x):
    return nnx.array_namespace(x)


def of_one(name, shift=0.0):
    return lambda x, y: y * getattr(xp(x), name)(x + shift)


def of_two(name):
    return lambda x, y: getattr(xp(x), name)(x * x, y) + getattr(xp(x), name)(y, 3 * x)


ONE = "abs acos asin asinh atan atanh cos cosh exp expm1 log log10 log1p log2 negative positive reciprocal sin sinh"
FUNCTIONS = {
    **{name: of_one(name) for name in (ONE + " sqrt square tan tanh").split()},
    "acosh": of_one("acosh", 1.0),
    "of two": lambda x, y: sum(of_two(name)(x, y) for name in ("add", "subtract", "multiply", "divide", "remainder")),
    **{name: of_two(name) for name in ("pow", "maximum", "minimum", "hypot", "atan2", "logaddexp")},
    "numbers": lambda x, y: 2**x + x**3 + x**-1.5 + (1 - x) / 3 + 1 / x + xp(x).maximum(x, 0.5) + xp(x).minimum(0.5, x),
    "where": lambda x, y: xp(x).where(x > 0.5, x * x, y) + xp(x).where(y > 0.5, 2.0, xp(x).sin(x)),
    "sum": lambda x, y: xp(x).exp(x) / xp(x).sum(xp(x).exp(x), axis=0, keepdims=True) * y,
    "mean": lambda x, y: x * xp(x).mean(x * y, axis=-1, keepdims=True) + xp(x).mean(x),
    "max": lambda x, y: x * xp(x).max(x * y, axis=0) + xp(x).min(x, axis=0) ** 2,
    "var": lambda x, y: y * xp(x).var(x) + xp(x).std(x, axis=1, keepdims=True),
    "views": lambda x, y: xp(x).reshape(x, (3, 2)).mT * y + xp(x).broadcast_to(x[:, :1], (2, 3)) * x[1, None, :],
    "slices": lambda x, y: x[0, 1:3] * x[1, -1] * y[0, 0] + x[..., :2][1, :],
    "concat": lambda x, y: xp(x).concat([x[:, 1:] ** 2, x], axis=-1) * xp(x).stack([x[0, 0], x[1, 1]])[:, None],
    "flat": lambda x, y: x * xp(x).floor(3 * x) + xp(x).round(x) + x * xp(x).sign(x - 0.5),
    "constants": lambda x, y: x * xp(x).astype(xp(x).arange(3), x.dtype) + xp(x).ones_like(x) * 2,
    "of a comparison": lambda x, y: x * xp(x).astype(x > y, x.dtype),
    "unused": lambda x, y: y + 1,
    "copy": lambda x, y: xp(x).reshape(xp(x).astype(xp(x).astype(x.mT, xp(x).float64), xp(x).float64), (6,))[:3] * y,
}  # fmt: skip


def slopes(function, h=1e-6):
    """The derivative of the sum by each number of X."""
    found = np.zeros_like(X)
    for place in np.ndindex(*X.shape):
        step = np.zeros_like(X)
        step[place] = h
        found[place] = (function(X + step, Y).sum() - function(X - step, Y).sum()) / (2 * h)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_differences(name):
    found = Derivative(FUNCTIONS[name])(X, Y)
    np.testing.assert_allclose(found, slopes(FUNCTIONS[name]), rtol=1e-7, atol=1e-8)


def test_every_rule_is_tested():
    traced = {op.name for function in FUNCTIONS.values() for op in trace(function, X, Y).ops}
    assert traced >= ELEMENTWISE.keys() | SHAPED.keys()


def everything(x, y):
    """Some of each group of operations."""
    names = ("sum", "max", "slices", "concat", "constants", "where", "maximum")
    return sum(xp(x).sum(FUNCTIONS[name](x, y)) for name in names)


@pytest.mark.long
def test_derivatives_on_every_backend(backend):
    x, y = (backend.asarray(array, "float64") for array in (X, Y))
    expected = Derivative(everything)(X, Y)
    found = backend.to_numpy(backend.compile(Derivative(everything))(x, y))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_equal_numbers_share_the_derivative_of_a_maximum():
    ties = np.array([[1.0, 1.0, 0.0]])
    assert Derivative(lambda x, y: xp(x).maximum(x, y))(ties, ties).tolist() == [[0.5, 0.5, 0.5]]
    assert Derivative(lambda x, y: xp(x).max(x, axis=1))(ties, ties).tolist() == [[0.5, 0.5, 0.0]]


ZERO, TWO = np.zeros((1, 3)), np.array([[0.0, 1.0, 2.0]])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y: x**0, [0, 0, 0]),
        (lambda x, y: x**1, [1, 1, 1]),
        (lambda x, y: x**y, [0, 1, 0]),
        (lambda x, y: abs(x) ** y, [0, 0, 0]),
        (lambda x, y: (x + 3) ** y, [0, 1, 6]),
        (lambda x, y: xp(x).hypot(x, 2 * x), [0, 0, 0]),
        (lambda x, y: xp(x).atan2(x, y), [0, 1, 0.5]),
    ],
)
def test_derivatives_at_zero(function, expected):
    assert Derivative(function)(ZERO, TWO).tolist() == [expected]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: xp(x).prod(x), "the operation 'prod' has no derivative"),
        (lambda x, y: x @ y.mT, "the operation 'matmul' has no derivative"),
        (lambda x, y: x[:, ::2], "a slice with a step has no derivative"),
        (lambda x, y: xp(x).flip(x, axis=0), "a slice with a step has no derivative"),
        (lambda x, y: xp(x).cumulative_sum(x, axis=0), "'cumulative_sum' of the standard cannot be traced"),
    ],
)
def test_operations_without_a_derivative_are_named(function, message):
    with pytest.raises(TraceError, match=message):
        Derivative(function)(X, Y)
