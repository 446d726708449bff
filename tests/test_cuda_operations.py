"""Every operation of the compiler's table in CUDA C, run on the host."""

import warnings

import numpy as np
import pytest
from array_api_compat import array_namespace
from conftest import long_but_for
from cuda_host import outputs
from cuda_kernels_on_host import needs_compiler

from nnx.array.host import quiet
from nnx.backends.cupy.expressions import literal
from nnx.backends.cupy.step_renderer import rendered, scheduled
from nnx.compiler import TraceError, own_outputs, trace
from nnx.compiler.ir.operations import ARITY, FLOATS, INTEGERS, names

pytestmark = needs_compiler


def render(function, *arrays):
    """A function of arrays, rendered."""
    graph = own_outputs(trace(lambda _, batch: function(*batch), None, arrays))
    return rendered(scheduled(graph, is_step=False))


def run(function, *arrays, seed=0):
    """The results of a function of arrays, as a list."""
    return outputs(render(function, *arrays), arrays, seed)


FLOATING = [-2.5, -2.0, -0.7, -0.0, 0.0, 0.3, 0.7, 1.0, 1.5, 2.5, 7.0, np.inf, -np.inf, np.nan]
WHOLE = [0, 1, 2, 3, 5, 7, 31, 100]


def pairs(dtype):
    """Arrays x and y of every two numbers of a dtype."""
    if dtype == "bool":
        numbers = [False, True]
    elif dtype in FLOATS:
        numbers = FLOATING
    else:
        numbers = [*WHOLE, *((-1, -3, -100) if dtype.startswith("int") else ()), np.iinfo(dtype).max]
    x, y = np.meshgrid(np.asarray(numbers, dtype), np.asarray(numbers, dtype))
    return x.reshape(1, -1), y.reshape(1, -1)


OF_ALL = names(
    "add subtract multiply negative square abs sign floor_divide remainder maximum minimum equal not_equal less "
    "less_equal greater greater_equal positive floor ceil trunc round"
)
"""The operations of integers and floats, but for those on bits."""


def dtypes(name):
    """The dtypes that the standard has an operation for, of those that steps use."""
    if name.startswith("bitwise_") and "shift" not in name:
        return ("bool", "int32", "int64", "uint8")
    if name.startswith("bitwise_"):
        return ("int32", "int64")
    if name.startswith("logical_"):
        return ("bool",)
    if name in OF_ALL:
        return ("float32", "float64", "int32", "int64")
    return FLOATS


def applied(name, x, y):
    """A function of x and y, or of x."""
    xp = array_namespace(x)
    if "shift" in name:
        y = xp.bitwise_and(y, 15)
    elif name in ("floor_divide", "remainder") and str(x.dtype) in INTEGERS:
        y = xp.where(y == 0, y + 3, y)
    return getattr(xp, name)(*(x, y)[: ARITY[name]])


DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


@pytest.mark.parametrize("dtype", long_but_for(DTYPES, "float32", "int32"))
def test_elementwise_functions(dtype):
    tested = [name for name in sorted(ARITY) if dtype in dtypes(name)]
    x, y = pairs(dtype)

    def function(x, y):
        return [applied(name, x, y) for name in tested]

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = function(x, y)
    rtol = 3e-6 if dtype == "float32" else 1e-14
    for name, found, right in zip(tested, run(function, x, y), expected, strict=True):
        assert found.dtype == right.dtype, name
        exact = 0 if name == "nextafter" else rtol
        np.testing.assert_allclose(found, right, rtol=exact, atol=rtol / 100 if exact else 0, err_msg=name)


@pytest.mark.parametrize("dtype", long_but_for(["float32", "float64", "int64", "bool"], "float32"))
def test_reductions(rng, dtype):
    """Of lines that lie in one piece, across those that do not, and of all elements; by one block and by several."""
    tested = (
        ("all", "any") if dtype == "bool" else ("sum", "prod", "max", "min", "mean")[: 4 + (dtype in FLOATS)]
    )
    X = 1 + rng.standard_normal((5, 333)) / 9 if dtype in FLOATS else rng.integers(0, 2, (5, 333))
    long = 1 + rng.standard_normal(5000) / 99 if dtype in FLOATS else rng.integers(0, 2, 5000)

    def function(X, long):
        xp = array_namespace(X)
        found = [getattr(xp, name)(long) for name in tested]
        for name in tested:
            for axis in (0, 1, None):
                reduce = getattr(xp, name)
                found += [reduce(X, axis=axis), reduce(X.T, axis=axis, keepdims=True)]
        return found

    X, long = X.astype(dtype), long.astype(dtype)
    found = run(function, X, long)
    for one, other in zip(found, function(X, long), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4 if dtype == "float32" else 1e-12)
    for seed in (1, 5):
        for one, other in zip(found, run(function, X, long, seed=seed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_argmax_and_argmin(rng):
    """Of equal numbers the first; of numbers with NaN the first NaN."""
    X = rng.integers(0, 9, (5, 70)).astype("float32")
    X[3, 40] = X[1, 40] = X[2, 50] = np.nan
    n = rng.integers(0, 3, (40, 3)).astype("int32")

    def function(X, n):
        xp = array_namespace(X)
        found = [
            reduce(x, axis=axis) for x in (X, n) for axis in (0, 1, None) for reduce in (xp.argmax, xp.argmin)
        ]
        return [
            *found,
            xp.argmax(X.T, axis=1, keepdims=True),
            xp.argmin(X[:1, :], axis=0),
            xp.argmax(X[:, :1], axis=0),
        ]

    for seed in (0, 1, 5):
        for one, other in zip(run(function, X, n, seed=seed), function(X, n), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_a_reduction_sees_nan():
    X = np.arange(2000.0).reshape(4, 500)
    X[2, 77] = np.nan

    def function(X):
        xp = array_namespace(X)
        return xp.max(X), xp.min(X, axis=0), xp.max(X, axis=1), xp.sum(X)

    for one, other in zip(run(function, X), function(X), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_numbers_of_every_dtype():
    for dtype in ("float32", "float64", *INTEGERS):
        limits = np.finfo(dtype) if dtype in FLOATS else np.iinfo(dtype)
        numbers = [0, 1, limits.max, limits.min]
        numbers += [0.1, 1e-30, -np.inf, np.nan] if dtype in FLOATS else [limits.min + 1]
        x = np.zeros((1, len(numbers)), dtype)

        def function(x, numbers=numbers, dtype=dtype):
            xp = array_namespace(x)
            each = float if dtype in FLOATS else int
            return xp.concat([xp.full((1, 1), each(n), dtype=x.dtype) + x[:, :1] for n in numbers], axis=1)

        (found,) = run(function, x)
        np.testing.assert_array_equal(found, function(x))
    assert literal(-0.0, "float64") == "float64(-0.0)"


def test_conversions():
    x = np.asarray([[0.0, 1.0, -2.7, 3.9, 100.0]])

    def function(x):
        xp = array_namespace(x)
        kinds = [
            xp.astype(x, getattr(xp, dtype)) for dtype in ("bool", "int32", "int64", "float32", "float64")
        ]
        return (*kinds, xp.astype(kinds[0], xp.float32), xp.astype(kinds[1] + 3, xp.bool))

    for one, other in zip(run(function, x), function(x), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_what_has_no_kernel_says_which_operation_it_is():
    X = np.ones((2, 3, 4))
    for function, told in (
        (lambda X: X + 1.0, r"%0 \+ 1.0"),
        (lambda X: array_namespace(X).sum(X), "sum"),
        (lambda X: array_namespace(X).argmax(X, axis=0), "argmax"),
        (lambda X: X @ array_namespace(X).permute_dims(X, (0, 2, 1)), "no product"),
        (lambda X: X[0, ::-1, :] + 1.0, "from its end"),
    ):
        with pytest.raises(TraceError, match=told):
            run(function, X)
