"""A function as a graph: what it says, what cannot be traced, and what is simplified."""

import array_api_compat.numpy
import numpy as np
import pytest
from step_cases import X, digits, names
from traced_steps import compare

from nnx.array.namespace import array_namespace
from nnx.compiler import Graph, Op, TraceError, Value, trace
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.ir.views import contiguous, reshaped


def test_a_step_is_a_straight_list():
    step, state, batch = digits()
    graph = trace(step, state, batch)
    graph.validate()
    assert names(graph).count("matmul") == 3 + 3 + 2  # Z[l], dW[l], and dA[l-1] of all layers but the first
    assert names(graph).count("exp") == 1  # that of the softmax is that of its cost, too
    (result, J) = graph.result
    assert J.shape == ()
    assert {name: (value.shape, value.dtype) for name, value in result.items()} == {
        name: (np.shape(x), str(x.dtype)) for name, x in state.items()
    }
    assert result["alpha"] in graph.inputs  # handed through
    text = str(graph)
    assert len(text.splitlines()) == len(graph.inputs) + len(graph.ops) + 1
    assert "float32[64, 16] = %8 @ %5" in text
    assert "maximum(%20, 0.0)" in text


def test_a_graph_prints_what_it_is():
    def f(x):
        xp = array_namespace(x)
        return {"y": xp.where(x[1:] > 0, x[1:], 0.5), "none": None}

    assert str(trace(f, np.zeros(3))).splitlines() == [
        "   %0: float64[3]",
        "   %1: float64[2] = slice(%0, key=(1:3,))",
        "   %2: bool[2] = %1 > 0.0",
        "   %4: float64[2] = where(%2, %1, 0.5)",
        "return {'y': %4, 'none': None}",
    ]


def test_validation():
    x, y, z = (Value(number, (2,), "float32") for number in range(3))
    tree = (x,), y
    Graph((x,), (Op("exp", (x,), y),), *tree)
    for inputs, ops, told in (
        ((x,), (Op("exp", (z,), y),), "before it is made"),
        ((x,), (Op("exp", (x,), y), Op("log", (x,), y)), "made twice"),
        ((x,), (Op("exp", (x,), x), Op("exp", (x,), y)), "made twice"),
        ((x, x), (Op("exp", (x,), y),), "an input is there twice"),
        ((x,), (), "nothing makes"),
        ((x,), (Op("reshape", (x,), Value(1, (3,), "float32")),), "number of elements"),
        ((x,), (Op("exp", (x,), Value(1, (2,), "complex64")),), "unknown dtype"),
    ):
        with pytest.raises(TraceError, match=told):
            Graph(inputs, ops, *tree)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda xp, x: xp.linalg, "the function 'linalg'"),
        (lambda xp, x: xp.searchsorted(x, x), "'searchsorted' of the standard cannot be traced"),
        (lambda xp, x: float(x[0, 0]), r"float\(\) of an array"),
        (lambda xp, x: x if x[0, 0] > 0 else -x, r"bool\(\) of an array"),
        (lambda xp, x: list(x), r"iter\(\) of an array"),
        (lambda xp, x: np.asarray(x), "an array made NumPy's"),
        (lambda xp, x: x[x > 0], "an index of type Tracer"),
        (lambda xp, x: x.__setitem__(0, 1.0), "written into"),
        (lambda xp, x: x + xp.astype(x, xp.int32), "float32 and int32 arrays"),
        (lambda xp, x: xp.astype(x, xp.int32) + 0.5, "int32 array and 0.5"),
        (lambda xp, x: xp.exp(xp.astype(x, xp.int32)), "exp of a int32 array"),
        (lambda xp, x: x * np.float64(2), "float64 that is none|array and float64"),
        (lambda xp, x: xp.maximum(x, np.ones(4)), "ndarray that is none"),
        (lambda xp, x: x @ x, "matmul of"),
        (lambda xp, x: x + xp.reshape(x, (4, 3)), "do not fit"),
        (lambda xp, x: xp.reshape(x, (5, 3)), "reshape of"),
        (lambda xp, x: xp.sum(x > 0), "sum of a bool array"),
        (lambda xp, x: xp.add(1, 2), "no traced array"),
        (lambda xp, x: np.ones(3), "does not depend on the arguments"),
    ],
)
def test_what_cannot_be_traced_is_an_error_that_names_it(function, told):
    with pytest.raises(TraceError, match=told):
        trace(lambda x: function(array_namespace(x), x), X)


def test_views_are_known_as_views():
    def f(x):
        xp = array_namespace(x)
        W = xp.reshape(x[2:14], (3, 4))
        return xp.matrix_transpose(W) @ xp.expand_dims(x[:3], axis=-1)

    graph = trace(f, np.zeros(20))
    assert [op.kind for op in graph.ops] == ["view"] * 5 + ["matmul"]
    a, b = graph.ops[-1].reads
    assert graph.base(a) == graph.base(b) == graph.inputs[0]
    assert [op.name for op in graph.views(a)] == ["slice", "reshape", "permute"]


def test_a_reshape_that_takes_a_copy_says_so():
    def f(x):
        xp = array_namespace(x)
        return xp.reshape(xp.matrix_transpose(x) + 0.0, (-1,)), xp.reshape(
            xp.matrix_transpose(xp.exp(x)), (-1,)
        )

    graph = trace(f, X)
    assert names(graph).count("copy") == 1
    compare(f, (X,))


@pytest.mark.parametrize(
    "key", [0, (..., 1), (slice(None), None), slice(None, None, -1), (1, slice(3, 0, -2)), -1]
)
def test_slices(key):
    compare(lambda x: x[key] + 0.0, (np.random.default_rng(0).random((3, 4)),))


def test_simplified():
    """Nothing twice, nothing that changes nothing, nothing unused; a sum over one term is none."""

    def f(x, column):
        xp = array_namespace(x)
        xp.exp(x)  # unused
        y = xp.ones_like(x) * x / 1 + xp.tanh(x * 1.0) + xp.tanh(x)
        return y, column @ xp.matrix_transpose(column)

    graph = trace(f, X, np.ones((3, 1), "float32"))
    assert names(graph) == ["tanh", "add", "add", "permute", "multiply"]
    compare(f, (X, X[:, :1]))


def test_evaluated():
    graph = trace(lambda x: x * 2 + 1, np.zeros(3))
    found = evaluated(graph, {graph.inputs[0]: np.arange(3.0)}, array_api_compat.numpy)
    assert found[graph.outputs[0]].tolist() == [1, 3, 5]


def test_strides():
    assert contiguous((2, 3, 4)) == (12, 4, 1)
    assert reshaped((6, 4), (4, 1), (2, 3, 4)) == (12, 4, 1)
    assert reshaped((6, 4), (1, 6), (24,)) is None
