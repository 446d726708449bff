"""Every renderer's step is the step: NumPy's and PyTorch's calls, and numba's loops."""

import copy
import re
from importlib.util import find_spec

import numpy as np
import pytest
from numba_interpreter import in_loops
from step_cases import CASES, SCHEDULED, case, close, digits, layered, leaves, small
from traced_steps import compare, in_torch, replay, step_in_numpy, step_in_torch, torch_library

import nnx
from nnx.array.host import quiet
from nnx.array.namespace import array_namespace
from nnx.backends.calls.program import Step
from nnx.backends.numpy.adapter import LIBRARY
from nnx.backends.torch.calls import with_peepholes
from nnx.compiler import TraceError, Value, trace
from nnx.optimizers.schedules import SCHEDULES
from nnx.train.step import cost_and_gradient, micro_batch_step

NOT_IN_LOOPS = {"stack"}
"""What numba leaves to NumPy's replay."""


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.long), "float64"])
@pytest.mark.parametrize("name", CASES)
def test_three_steps(name, dtype):
    """As it is, as NumPy's calls, and as numba's loops."""
    step, state, batch = CASES[name](dtype)
    graph = trace(step, state, batch)
    ways = [quiet()(step), replay(graph)]
    if name in NOT_IN_LOOPS:
        with pytest.raises(TraceError):
            in_loops(graph)
    else:
        ways.append(in_loops(graph))
    states = [state] * len(ways)
    for _ in range(3):
        done = [way(state, batch) for way, state in zip(ways, states, strict=True)]
        for found in done[1:]:
            close(found, done[0], dtype)
        states = [state for state, _ in done]


LOWERINGS = [step_in_numpy, pytest.param(step_in_torch, marks=pytest.mark.needs("torch"))]


@pytest.mark.parametrize("lower", LOWERINGS)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", CASES)
def test_three_steps_in_place(name, dtype, lower):
    """The first leaves the state alone that it is handed; the others write over what is not needed any more."""
    step, state, batch = CASES[name](dtype)
    again = lower(trace(step, state, batch))
    given = copy.deepcopy(state)
    here, J = quiet()(step)(state, batch)
    there, K = again(state, batch)
    for _ in range(3):
        close((there, K), (here, J), dtype)
        here, J = quiet()(step)(here, batch)
        there, K = again(there, batch, over=True)
    close((there, K), (here, J), dtype)
    for key, x in given.items():
        np.testing.assert_array_equal(state[key], x)


def in_order(state, X):
    """Plain: what is new depends on nothing that is written over before."""
    return {"a": state["a"] * 0.5 + X, "b": state["b"] - state["a"]}, X + 1


def a_new_one_besides(state, X):
    a = state["a"] + X
    return {"a": a, "b": state["b"] * 3.0}, a


AWKWARD = {
    "a new one besides": a_new_one_besides,
    "plain": in_order,
    "each other's": lambda s, X: ({"a": s["b"] + X, "b": s["a"] * 2.0}, X + 1),
    "handed on": lambda s, X: ({"a": s["b"], "b": s["a"] + X}, X + 1),
    "the same twice": lambda s, X: (dict.fromkeys("ab", s["a"] + s["b"]), X + 1),
    "from behind": lambda s, X: ({"a": s["a"] + s["a"][::-1], "b": s["b"] + X}, X + 1),
    "read later": lambda s, X: ({"a": s["a"] + X, "b": s["b"] * 3.0}, s["a"] + s["b"]),
    "a result besides": lambda s, X: ({"a": s["a"] + X, "b": s["b"] * 3.0}, s["a"]),
    "a part besides": lambda s, X: ({"a": s["a"] + X, "b": s["b"] * 3.0}, s["b"][:2]),
    "a part of the other": lambda s, X: ({"a": s["b"][:4] * 1.0 + X, "b": s["b"] * 3.0}, X + 1),
    "one kept": lambda s, X: ({"a": s["a"], "b": s["b"] + s["a"]}, X + 1),
    "twice as old": lambda s, X: ({"a": (s["a"] + X) * (s["b"] + s["a"]), "b": s["b"] + 1.0}, X + 1),
}


@pytest.mark.parametrize("lower", LOWERINGS)
@pytest.mark.parametrize("name", AWKWARD)
def test_nothing_is_written_over_that_somebody_reads(name, lower):
    function, X = AWKWARD[name], np.arange(4.0)
    state = {"a": np.arange(1.0, 5.0), "b": np.arange(2.0, 6.0) ** 2}
    given = copy.deepcopy(state)
    graph = trace(function, state, X)
    if (name, lower) == ("from behind", step_in_torch):
        with pytest.raises(TraceError, match="no view from the end"):
            lower(graph)
        return
    again = lower(graph)
    here, there = function(state, X), again(state, X)
    for _ in range(4):
        close(there, here, "float64")
        last, held = there[1], copy.deepcopy(there[1])
        here, there = function(here[0], X), again(there[0], X, over=True)
        np.testing.assert_array_equal(last, held)
    close(there, here, "float64")
    for key, x in given.items():
        np.testing.assert_array_equal(state[key], x)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min"])
def test_a_reduction_over_no_axes_changes_nothing(name):
    def f(x):
        return getattr(array_namespace(x), name)(x * 2.0, axis=()) + 1.0

    x = np.arange(6.0).reshape(2, 3)
    for lower in (replay, in_torch):
        np.testing.assert_array_equal(lower(trace(f, x))(x), x * 2 + 1)


def test_products_by_truth_values():
    """They are multiplied as they are, where nothing else needs them as numbers."""

    def f(x, y):
        xp = array_namespace(x)
        plain, read, given = (xp.astype(z > 1.0, xp.float32) for z in (x, y, x + y))
        both = xp.astype(x > 2.0, xp.float32) * xp.astype(y < 2.0, xp.float32)
        return plain * y, x * plain, read * y + read, given * y, given, both * both, plain * 2.0 - x

    def g(x, y):
        xp = array_namespace(x)
        return x * xp.astype(x > 1.0, xp.float32) + y * (2.0 * xp.astype(y > 1.0, xp.float32))

    def h(x, y):
        return y * array_namespace(x).astype(x > 1.0, "float32"), x + y

    x, y = np.arange(12, dtype="float32").reshape(3, 4) % 4, np.arange(12, dtype="float32").reshape(3, 4) % 5
    x[0, 0] = y[1, 1] = np.nan
    y[2, 2] = np.inf
    for function in (f, g, h):
        with quiet():
            graph = trace(function, x, y)
            here, again = function(x, y), replay(graph)
            for _ in range(2):
                for one, other in zip(here, again(x, y), strict=True):
                    np.testing.assert_array_equal(other, one, strict=True)


def test_operations_of_several_dtypes_are_not_joined():
    pytest.importorskip("torch")
    x, y = np.full(3, 1e30), np.full(3, 1e30, "float32")

    def f(x, y):
        xp = array_namespace(x)
        return x + xp.astype(y * y, xp.float64)

    with quiet():
        np.testing.assert_array_equal(in_torch(trace(f, x, y))(x, y), f(x, y))  # infinite
    with pytest.raises(TraceError, match="several dtypes"):
        in_torch(trace(lambda x, y: x + y, x, y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_pytorch_does_in_one_call(dtype):
    """An array of no axes stands for a number, where that does not wait for a GPU."""
    pytest.importorskip("torch", reason="torch is not installed")
    x, y, z = np.random.default_rng(0).uniform(0.5, 1.0, (3, 40)).astype(dtype)
    s, t = np.asarray(0.3, dtype), np.asarray(-0.7, dtype)

    def f(x, y, z, s, t):
        square = array_namespace(x).square
        read = t * y
        return (
            x + s * y, x - z * s, y * 0.75 + 0.25 * z, 0.75 * z - 0.25 * x, x * 0.75 + 0.5 * z, x - s * x / z,
            x + y / z, x + t * square(y), x - 0.1 * square(z), x - y * z, x - read, read, x + (s * t) * y, x - 2.0 * s,
        )  # fmt: skip

    graph, expected = trace(f, x, y, z, s, t), f(x, y, z, s, t)
    for found in (in_torch(graph)(x, y, z, s, t), in_torch(graph)(x, y, z, s, t)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6 if dtype == "float32" else 1e-14)

    def names(on_host):
        ops = [op for op in with_peepholes(graph, on_host).ops if op.kind != "view"]
        return [op.name for op in ops], [isinstance(op.args[-1], Value) for op in ops if op.name in JOINED]

    JOINED = ("add_scaled", "subtract_scaled", "lerp")
    assert names(True)[0] == [
        "multiply", "add_scaled", "subtract_scaled", "lerp", "multiply", "subtract_scaled", "multiply", "add_scaled",
        "multiply", "divide", "subtract", "divide", "add", "square", "add_scaled", "square", "subtract_scaled",
        "multiply", "subtract", "subtract", "multiply", "add_scaled", "subtract_scaled",
    ]  # fmt: skip
    assert not any(names(False)[1])
    assert "lerp" in names(False)[0]


def test_numbers_that_are_not_finite_stand_beside_arrays():
    x = np.asarray([1.0, -2.0, np.nan])
    for f in (lambda x: x + x * np.inf, lambda x: array_namespace(x).maximum(x, -np.inf) + x * np.nan):
        for lower in (replay, in_torch):
            with quiet():
                np.testing.assert_array_equal(lower(trace(f, x))(x), f(x))


def test_what_is_no_array_comes_back_as_it_is():
    def f(x):
        return (x * 2.0)[1:], "leaf"

    x = np.arange(4.0)
    for k in range(24):  # whatever the numbers of the names

        def g(x, k=k):
            for _ in range(k):
                x = x + 1.0
            return f(x)

        for lower in (replay, in_torch):
            found, leaf = lower(trace(g, x))(x)
            assert leaf == "leaf"
            np.testing.assert_array_equal(found, f(x + k)[0])


@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=pytest.mark.needs("torch"))])
def test_a_state_is_changed_in_its_place(name):
    """Adam's arrays are written by the operations themselves: no copy follows."""
    step, state, batch = digits(sizes=(20, 10, 5))
    made = Step(trace(step, state, batch), LIBRARY if name == "numpy" else torch_library()[1])
    assert set(made.changed) == {"theta", "m", "v", "t"}
    source = made.call.source
    (outs,) = re.findall(r"^ +(.+), = outs$", source, re.MULTILINE)
    assert len(outs.split(", ")) == 5  # with J
    assert not [out for out in outs.split(", ") if f"copyto({out}," in source or f"{out}.copy_(" in source]


@pytest.mark.parametrize("name", SCHEDULES)
def test_three_steps_under_every_schedule(name):
    schedule = nnx.schedules.schedule(name, learning_rate=0.1, **SCHEDULED[name])
    step, state, batch = case(small(), nnx.Adam(schedule))("float64")
    graph = trace(step, state, batch)
    ways = [step, replay(graph), in_loops(graph)]
    states = [state] * 3
    for _ in range(3):
        done = [way(state, batch) for way, state in zip(ways, states, strict=True)]
        close(done[1], done[0], "float64")
        close(done[2], done[0], "float64")
        states = [state for state, _ in done]


def test_steps_in_pieces():
    net, optimizer = layered(nnx.Dropout(0.3)), nnx.Adam()
    _, state, (X, Y, w) = case(net, optimizer, weights=True)("float64")
    pieces = micro_batch_step(net, optimizer)
    first, start = (X[:, :4], Y[:, :4], w[:4]), np.asarray(0, "int32")
    second, later = (X[:, 4:], Y[:, 4:], w[4:]), np.asarray(4, "int32")
    sums = pieces.first(state, first, start)
    total = pieces.add(state, sums, second, later)
    compare(pieces.first, (state, first, start))
    compare(pieces.add, (state, sums, second, later))
    compare(pieces.total, (state, total))
    compare(pieces.update, (state, total))


def test_what_is_evaluated():
    net = layered(nnx.BatchNorm(), nnx.Dropout(0.3))
    _, state, (X, Y) = case(net, Y="indices")("float64")
    compare(net.forward, (state["theta"], X))
    compare(net.forward_and_loss, (state["theta"], X, Y, np.arange(6.0)))
    compare(cost_and_gradient(net), (state, (X, Y)))
    for name in (
        "accuracy",
        "top_k(2)",
        "log_loss",
        "precision",
        "recall",
        "f1",
        "confusion_matrix",
        "roc_auc",
    ):
        one = nnx.metrics.metric(name)

        def measured(theta, X, Y, one=one):
            A, J = net.forward_and_loss(theta, X, Y)
            return J, one.partial(net.output, A, Y, None)

        compare(measured, (state["theta"], X, Y))


def test_nan_and_infinity_come_through():
    """A cost that is not finite must be seen, or a run that diverges is not."""
    for bad in (np.nan, np.inf):
        for name in ("relu", "dropout", "hard_tanh", "huber identity", "lion", "l1"):
            step, state, (X, Y) = CASES[name]("float32")
            theta = state["theta"].copy()
            theta[:4] = bad
            arguments = {**state, "theta": theta}, (X, Y)
            graph = trace(step, *arguments)
            with quiet():
                expected = step(*arguments)
                for lower in (replay, in_loops, *([in_torch] if find_spec("torch") else [])):
                    found = lower(graph)(*arguments)
                    for x, y in zip(leaves(found), leaves(expected), strict=True):
                        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
