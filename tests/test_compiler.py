"""The step as a list of operations: what it says, where it puts things, and that replaying it is running it."""

import copy
import math
import threading
import types
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

import nnx
from nnx.array.host import quiet
from nnx.array.namespace import array_namespace
from nnx.backends.calls.program import Function, Step, arrays
from nnx.backends.numba.expressions import FLOAT32
from nnx.backends.numba.step_renderer import NumbaStepRenderer
from nnx.backends.numpy.adapter import LIBRARY
from nnx.backends.numpy.calls import render
from nnx.backends.torch.adapter import library_of
from nnx.backends.torch.calls import with_peepholes
from nnx.compiler import Graph, Op, TraceError, Value, fused, is_array, mapped, nbytes, trace
from nnx.compiler.passes.alias import aliased
from nnx.compiler.passes.fuse import singles
from nnx.compiler.passes.memory import buffers
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Copy, Kernel, TileUpdate
from nnx.model.network import Network
from nnx.model.outputs import LOSSES
from nnx.optimizers.schedules import SCHEDULES
from nnx.train.step import cost_and_gradient, initial_state, micro_batch_step, training_step

# ---------------------------------------------------------------------------------------------- what is traced


def names(graph):
    return [op.name for op in graph.ops]


def digits(m=16, sizes=(64, 64, 64, 10), optimizer=None, dtype="float32", **rest):
    """A step with a state and a batch for it."""
    net = nnx.mlp(list(sizes), **rest)
    optimizer = optimizer or nnx.Adam()
    rng = np.random.default_rng(0)
    state = initial_state(net, optimizer, net.init(0, dtype))
    X = rng.standard_normal((m, sizes[0])).astype(dtype).T  # as batches are gathered
    return training_step(net, optimizer), state, (X, rng.integers(0, sizes[-1], m, dtype=np.int32))


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


def test_a_recording_prints_what_it_is():
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


X = np.ones((3, 4), "float32")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda xp, x: xp.linalg, "the function 'linalg'"),
        (lambda xp, x: xp.searchsorted(x, x), "'searchsorted' of the standard cannot be traced"),
        (lambda xp, x: float(x[0, 0]), r"float\(\) of an array"),
        (lambda xp, x: x if x[0, 0] > 0 else -x, r"bool\(\) of an array"),
        (lambda xp, x: list(x), r"iter\(\) of an array"),
        (lambda xp, x: np.asarray(x), r"array\(\) of an array"),
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
def test_what_cannot_be_recorded_is_an_error_that_names_it(function, told):
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


# ------------------------------------------------------------------------------------------------ where it lies


def test_gradients_are_written_into_the_flat_vector():
    step, state, batch = digits()
    graph = trace(step, state, batch)
    plan = schedule(graph, Target())
    (concat,) = (op for op in graph.ops if op.name == "concat")
    assert [(part.start, part.stop) for part in sorted(plan.parts.values(), key=lambda part: part.start)] == [
        (place.start, place.stop) for place in nnx.mlp([64, 64, 64, 10]).places.values()
    ]
    assert {part.whole for part in plan.parts.values()} == {concat.out}
    assert not any(isinstance(instruction, Copy) for instruction in plan.instructions)


def test_a_value_is_at_one_place_only():
    """What is there twice, is an input, or a result itself, is copied."""

    def f(x):
        xp = array_namespace(x)
        y = xp.exp(x)
        return xp.concat([y, x, y, y[:1]]), y

    graph = trace(f, np.arange(3.0))
    assert schedule(graph, Target()).parts == {}
    compare(f, (np.arange(3.0),))

    def g(x):
        xp = array_namespace(x)
        y = xp.exp(x)
        return xp.sum(xp.concat([y, x, y]))

    assert len(schedule(trace(g, np.arange(3.0)), Target()).parts) == 1
    compare(g, (np.arange(3.0),))


@pytest.mark.parametrize("loop", [False, True])
def test_no_buffer_is_used_by_two_at_once(loop):
    """Every operation, done on buffers with their owner's number in them, finds in each what it expects."""
    for name in ("batch norm", "everything", "gelu", "focal softmax"):
        step, state, batch = CASES[name]("float32")
        graph = trace(step, state, batch)
        groups = fused(graph, lambda op: op.out.shape) if loop else singles(graph)
        plan = aliased(graph, groups, {})
        sizes, where = buffers(graph, groups, plan)
        assert all(sizes[buffer] >= nbytes(value) for value, buffer in where.items())
        ops = [op for group in groups for op in group.ops]
        inside: dict = {}

        def owned(value, plan=plan, graph=graph, where=where):
            owner = plan.owner(graph.base(value))
            return where.get(owner), owner

        constants = graph.constants()
        for op in ops:
            if op.kind == "view" or op.out in constants:
                continue
            for value in op.reads:
                buffer, _ = owned(value)
                if buffer is not None:
                    assert graph.base(value) in inside[buffer], (str(op), name)
            buffer, owner = owned(op.out)
            if buffer is not None:
                kept = {v for v in inside.get(buffer, set()) if owned(v)[1] == owner and v not in plan.shared}
                inside[buffer] = kept | {op.out}


def test_buffers_are_used_again():
    step, state, batch = digits()
    graph = trace(step, state, batch)
    every = sum(op.out.size * 4 for op in graph.ops if op.kind != "view")
    assert sum(schedule(graph, Target()).buffers) < every / 3


def test_fused():
    """Adam is one loop over theta; an activation goes with the bias, and the sum for db with dZ."""
    step, state, batch = digits()
    instructions = NumbaStepRenderer(trace(step, state, batch)).schedule.instructions
    groups = [one for one in instructions if isinstance(one, Kernel)]
    theta = [one.update for one in instructions if isinstance(one, TileUpdate)]
    assert len({kernel.ops for kernel in theta}) == 1
    theta = [group for group in groups if group.iteration_space == (8970,)]
    assert len(theta) == 1
    assert [op.name for op in theta[0].ops].count("sqrt") == 1
    assert ["add", "maximum"] in [[op.name for op in group.ops] for group in groups]
    assert ["greater", "astype", "multiply", "sum"] in [[op.name for op in group.ops] for group in groups]


def source(optimizer=None, regularization=None):
    network = nnx.mlp([20, 12, 12, 5])
    optimizer = optimizer or nnx.Adam()
    extra = [regularization] if regularization else []
    state = initial_state(network, optimizer, network.init(0), *extra)
    batch = np.zeros((20, 8), "float32"), np.zeros(8, "int32")
    return NumbaStepRenderer(trace(training_step(network, optimizer, *extra), state, batch)).source().text


def test_each_derivative_is_used_where_it_is_made():
    """All dW in tiles, the biases together; no meeting of the threads more than between two layers."""
    text = source()
    assert text.count("operand(v") > 0
    step = text[text.index("def step(") :]
    assert len([line for line in step.splitlines() if "scalars_float32, C_" in line]) == 3
    assert "gemm_partition(" not in step


def test_a_barrier_stands_between_gathering_samples_and_transposing_them():
    network, optimizer, m = nnx.mlp([100, 260, 5]), nnx.Adam(), 144
    state = initial_state(network, optimizer, network.init(0))
    batch = np.zeros((100, m), "float32"), np.zeros(m, "int32")
    text = NumbaStepRenderer(trace(training_step(network, optimizer), state, batch)).source().text
    lines = text[text.index("def step(") :].splitlines()
    (gathers,) = [k for k, line in enumerate(lines) if "gather(t, T, rows, order, start" in line]
    transposes = next(k for k, line in enumerate(lines) if "transpose(t, T, " in line)
    assert gathers < transposes
    assert any("barrier(sync, T, " in line for line in lines[gathers:transposes])


@pytest.mark.parametrize(
    "regularization", [nnx.Regularization(l2=0.1), nnx.Regularization(clip_norm=1.0)], ids=["l2", "clipped"]
)
def test_what_needs_the_whole_gradient_has_it(regularization):
    step = source(regularization=regularization)
    assert "tile_gemm(" not in step


# ------------------------------------------------------------------------------------- replaying it is running it


def interpreted(text):
    """The function of a source, run by Python itself."""
    module = types.ModuleType("step")
    vectors = {name: getattr(np, plain) for plain, name in FLOAT32.items()}
    types_ = {name: getattr(np, name) for name in ("float32", "float64", "int32", "int64", "bool_")}

    def gather(t, T, rows, order, start, out):
        out[...] = rows[order[start : start + len(out)]]

    def gather_columns(y, order, start, out):
        m = out.shape[-1]
        out[...] = y[..., order[start : start + m]] if len(order) else y[..., start : start + m]

    def tile_product(a, b, r, rows, c, columns, out, at, width, *scalars):
        product = a[r : r + rows] @ b[:, c : c + columns]
        for i, row in enumerate(product):
            out[at + i * width : at + i * width + columns] = row

    def tile(d, r, c, rows, columns, place):
        start, k = d[0], d[3]
        first = start + r * k + c
        at, width = (start, columns) if place >= 0 else (first, k)
        return (at, width, first, rows * k, 1) if columns == k else (at, width, first, columns, rows)

    def operand(x, d):
        return x[: d[2], : d[3]]

    def transpose(t, T, a, out, d):
        if out.shape[0] == 1:
            out[:, : a.shape[1]] = a
        return operand(a, d)

    others = {
        "np": np,
        "tiling": lambda t, T, d, m: (0, d[2], 0, d[3], -(-d[2] // 2), -(-d[3] // m), 0 if m < 9 else -1),
        "tile": tile,
        "gemm_owner_computes": lambda t, T, a, b, out, *_: int(np.matmul(a, b, out=out) is out),
        "all_finite": lambda t, T, x: np.isfinite(x).all(),
        "flush_to_zero": lambda: 0,
        "set_float_mode": lambda before: None,
        "announce_call": lambda t, T, sync: None,
        "tile_gemm": tile_product,
        "tile_outer": tile_product,
        "partition": lambda t, T, n, grain: (0, n),
        "LINE": 16,
        "ZERO": 0,
        "ONE": 1,
        "transpose": transpose,
        "njit": lambda *_, **__: lambda f: f,
        "types": SimpleNamespace(
            void=lambda *_: None, Array=lambda *_, **__: None, **dict.fromkeys([*types_, "boolean"])
        ),
        "PLAIN": {},
        "CALLED": {},
        "uint64": int,
        "add_in_any_order": lambda sum, x: sum + x,
        "barrier": lambda sync, T, number: number + 1,
        **dict.fromkeys(
            ("by_rows", "by_columns", "by_elements", "by_one"), lambda t, T, d: (0, d[2], 0, d[3])
        ),
        "part": lambda x, d: x[d[0] : d[1]],
        "matrix": lambda x, d: x[d[0] : d[1]].reshape(d[2], d[3]),
        "as_vector": lambda x, d: x.reshape(d[3]),
        "as_matrix": lambda x, d: x.reshape(d[2], d[3]),
        "operand": operand,
        "gemm_partition": lambda t, T, a, b, out, *_: np.matmul(a, b, out=out),
        "gather": gather,
        "gather1": gather_columns,
        "gather2": gather_columns,
        "copy_state": lambda t, T, new, old: np.copyto(old, new),
    }
    module.__dict__.update(vars(math), **vectors, **types_, **others)
    exec(text, module.__dict__)
    return np.errstate(all="ignore")(module.step)


def replay(graph):
    """The function of a graph as NumPy's calls."""
    return quiet()(Function(graph, LIBRARY))


def in_loops(graph):
    """The step of a graph, as numba would do it."""
    from nnx.backends.numba.step import CompiledStep

    source = NumbaStepRenderer(graph).source()
    compiled = CompiledStep(source, interpreted(source.text))
    _, (X, *_) = graph.arguments

    def step(state, batch):
        new = {name: np.empty_like(state[name]) for name in compiled.changed}
        Js, is_finite = compiled(state, new, (*batch, None)[:3], None, 0, X.shape[-1], 1)
        assert is_finite == all(np.isfinite(x).all() for x in new.values())
        return {**state, **new}, Js[0]

    return step


def leaves(tree):
    if isinstance(tree, dict):
        tree = [tree[name] for name in sorted(tree)]
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [] if tree is None else [np.array(tree)]


def close(found, expected, dtype):
    rtol = 1e-9 if dtype == "float64" else 2e-4
    for x, y in zip(leaves(found), leaves(expected), strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol / 10)


def compare(function, arguments, dtype="float64", lowers=(replay,)):
    with quiet():
        expected = function(*arguments)
        for lower in lowers:
            again = lower(trace(function, *arguments))
            for _ in range(2):
                close(again(*arguments), expected, dtype)


def case(net, optimizer=None, regularization=None, m=6, Y=None, weights=False, lead=()):
    """A function of a dtype that returns a step, a state and a batch for it."""
    optimizer, regularization = optimizer or nnx.Momentum(), regularization or nnx.Regularization()

    def made(dtype):
        rng = np.random.default_rng(0)
        theta = net.init(0, dtype)
        if lead:
            theta = theta + 0.1 * rng.standard_normal((*lead, net.P)).astype(dtype)
        state = initial_state(net, optimizer, theta, regularization, seed=3)
        X = rng.standard_normal((m, net.n[0])).astype(dtype).T
        n = net.n[-1]
        if Y == "indices":
            batch = X, rng.integers(0, n, m, dtype=np.int32)
        else:
            batch = X, (rng.random((n, m)) > 0.5).astype(dtype)
        if weights:
            batch = (*batch, rng.random(m).astype(dtype))
        return training_step(net, optimizer, regularization), state, batch

    return made


def small(hidden="tanh", output="softmax", loss=None, sizes=(4, 5, 3)):
    return nnx.mlp(list(sizes), hidden, output, loss=loss)


def layered(*layers):
    return Network(4, [nnx.Dense(5, "relu"), *layers, nnx.Dense(3)], "softmax")


def _optimizers():
    for name, make in nnx.OPTIMIZERS.items():
        if name != "lbfgs":
            yield name, make()
    yield "lion that decays", nnx.Lion(weight_decay=0.1)


SCHEDULED = {
    "constant": {}, "step_decay": {"every": 2}, "exponential": {"every": 2, "decay": 0.5}, "inverse_scaling": {},
    "polynomial": {"steps": 9}, "cosine": {"steps": 9}, "one_cycle": {"steps": 9},
}  # fmt: skip

CASES = {
    **{activation: case(small(activation)) for activation in nnx.ACTIVATIONS},
    **{
        f"{loss} {output}": case(small(output=output, loss=loss))
        for output, losses in LOSSES.items()
        for loss in losses
    },
    "focal softmax": case(small(loss="focal"), Y="indices"),
    **{name: case(small(), optimizer) for name, optimizer in _optimizers()},
    "one output": case(small(output="sigmoid", sizes=(4, 5, 1))),
    "one sample": case(small("relu"), nnx.Adam(), m=1, Y="indices"),
    "no hidden layer": case(small(sizes=(4, 3))),
    "weights": case(small(), weights=True, Y="indices"),
    "prelu": case(layered(nnx.PReLU())),
    "activate": case(layered(nnx.Activate("silu"))),
    "dropout": case(layered(nnx.Dropout(0.3))),
    "noise": case(Network(4, [nnx.GaussianNoise(0.2), nnx.Dense(5, "relu"), nnx.Dense(3)], "softmax")),
    "layer norm": case(layered(nnx.LayerNorm())),
    "batch norm": case(layered(nnx.BatchNorm()), nnx.Adam()),
    "residual": case(layered(nnx.Residual([nnx.LayerNorm(), nnx.Dense(7, "gelu"), nnx.Dense(5)]))),
    "stack": case(small(), nnx.Adam(), lead=(3,)),
    "l1": case(small(), regularization=nnx.Regularization(l1=0.1)),
    "everything": case(
        layered(nnx.BatchNorm(), nnx.Dropout(0.2), nnx.PReLU(), nnx.Residual([nnx.Dense(5, "mish")])),
        nnx.AdamW(nnx.schedules.Cosine(0.01, steps=9)),
        nnx.Regularization(
            l1=0.01, l2=0.1, max_norm=0.8, clip_value=0.05, clip_norm=0.1, label_smoothing=0.1
        ),
        weights=True,
        Y="indices",
    ),
}
NOT_IN_LOOPS = {"stack"}
"""What numba leaves to NumPy's replay."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_three_steps(name, dtype):
    """As it is, replayed, and in step_renderer."""
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


def torch_library():
    torch = pytest.importorskip("torch")
    return torch, library_of(torch, torch.device("cpu"))


def in_torch(graph):
    """A graph as PyTorch's calls, of NumPy's arrays."""
    torch, library = torch_library()
    with library.settings():
        function = Function(graph, library)

    def back(x):
        return x.numpy() if isinstance(x, torch.Tensor) else x

    def replayed(*arguments):
        given = mapped(arguments, lambda x: torch.from_numpy(np.asarray(x)) if is_array(x) else x)
        with library.settings():
            return mapped(function(*given), back)

    return replayed


def step_in_numpy(graph):
    """A step as NumPy's calls, with `over`: whether the new state is written over the old one."""
    step = Step(graph, LIBRARY)

    def done(state, batch, over=False):
        new = {name: state[name] if over else np.full_like(state[name], 7) for name in step.changed}
        J = np.full(step.J.shape, 7, step.J.dtype)
        with quiet():
            step.call([*state.values(), *arrays(batch)], [*new.values(), J])
        return {**state, **new}, J

    return done


def step_in_torch(graph):
    """A step as PyTorch's calls, of NumPy's arrays, with `over`."""
    torch, library = torch_library()
    step = Step(graph, library)

    def done(state, batch, over=False):
        new = {name: state[name] if over else np.full_like(state[name], 7) for name in step.changed}
        J = np.full(step.J.shape, 7, step.J.dtype)
        inputs, outs = [*state.values(), *arrays(batch)], [*new.values(), J]
        with library.settings():
            step.call(*([torch.from_numpy(np.asarray(x)) for x in some] for some in (inputs, outs)))
        return {**state, **new}, J

    return done


LOWERINGS = [step_in_numpy, pytest.param(step_in_torch, marks=pytest.mark.needs("torch"))]


@pytest.mark.parametrize("lower", LOWERINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
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
    assert "copyto" not in render(graph, {}).source


def test_operations_of_several_dtypes_are_not_with_peepholes():
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

    JOINED = ("axpy", "addcmul", "addcdiv", "lerp")
    assert names(True)[0] == [
        "multiply", "axpy", "axpy", "lerp", "multiply", "axpy", "multiply", "axpy", "addcdiv", "addcdiv", "addcmul",
        "addcmul", "addcmul", "subtract", "multiply", "axpy", "axpy",
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


def test_a_state_is_changed_in_its_place():
    """Adam's arrays are written by the operations themselves: no copy follows."""
    step, state, batch = digits(sizes=(20, 10, 5))
    made = Step(trace(step, state, batch), LIBRARY)
    assert set(made.changed) == {"theta", "m", "v", "t"}
    assert "copyto(o" not in made.call.source


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


# ------------------------------------------------------------------------------------------------------ on disk


def test_the_source_holds_no_size_and_no_number():
    """So one compiled function serves all sizes, all batches, all rates."""
    sources = set()
    for m, sizes, rate in ((16, (64, 32, 32, 10), 0.1), (5, (20, 10, 10, 4), 0.3)):
        step, state, batch = digits(m, sizes, nnx.Adam(rate))
        sources.add(NumbaStepRenderer(trace(step, state, batch)).source().text)
    assert len(sources) == 1


def test_layers_of_one_form_share_a_kernel():
    texts = []
    for hidden in (2, 6):
        step, state, batch = digits(8, (9, *[7] * hidden, 5))
        texts.append(NumbaStepRenderer(trace(step, state, batch)).source().text)
    assert texts[0].count("@njit") == texts[1].count("@njit")


def test_compiled_steps_are_kept_and_share_what_they_call(tmp_path, monkeypatch):
    """Another program compiles nothing for the same form, and its own loops alone for another one."""
    pytest.importorskip("numba")
    from nnx.backends.numba import compiled

    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "cache"))
    for activation, misses in (("relu", 1), ("relu", 0), ("softplus", 1)):
        monkeypatch.setattr(compiled, "_here", {})
        step, state, (X, Y) = digits(sizes=(20, 10, 5), hidden=activation)
        expected, _ = step(state, (X, Y))
        program = nnx.backend("numba").compile(step)
        program.load(state)
        program.run((X, Y, None), None, 0, 16, 1)
        close(program.read(), expected, "float32")
        together, module = compiled._here.values()
        assert sum(module.step.stats.cache_misses.values()) == misses
        assert sum(module.step.stats.cache_hits.values()) == 1 - misses
    functions = {name: f.stats for name, f in vars(together).items() if hasattr(f, "stats")}
    assert sum(functions["gemm_owner_computes"].cache_hits.values()) > 0
    assert not functions["gemm_owner_computes"].cache_misses
    assert len([*(tmp_path / "cache").glob("step_*.py")]) == 2
    assert len([*(tmp_path / "cache").glob("runtime_*.py")]) == 1


def test_one_process_compiles_at_a_time(tmp_path):
    pytest.importorskip("fcntl", reason="files are not locked on Windows")
    from nnx.backends.numba.compiled import alone

    entered, seen = threading.Event(), []

    def other():
        entered.set()
        with alone(tmp_path / "lock"):  # of a file that is opened anew, as in another process
            seen.append("other")

    with alone(tmp_path / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(60)
        thread.join(0.2)
        seen.append("this one")
    thread.join(60)
    assert seen == ["this one", "other"]
    with alone(tmp_path / "no such folder" / "lock"):
        pass


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    from nnx.backends.numba import compiled

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert compiled.written("step_test.py", "x = 1\n").read_text() == "x = 1\n"


def test_elementary_functions():
    """In float32, to 4 ulp, and NaN and infinity as everywhere."""
    numba = pytest.importorskip("numba")
    from nnx.backends.numba.runtime import elementary

    rng = np.random.default_rng(0)
    spread = np.exp(rng.uniform(-90, 88, 4_000)) * rng.choice([-1, 1], 4_000)
    near = rng.uniform(-3, 3, 4_000)
    wide = rng.uniform(-120, 100, 4_000)
    ends = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-45,
        1e-40,
        -1.0,
        3.4028e38,
        88.7,
        88.8,
        -103.9,
        -104.1,
        0.625,
    ]
    x = np.concatenate([spread, near, wide, 1 + 1e-3 * near, ends]).astype("float32")
    for plain, name in FLOAT32.items():
        with np.errstate(all="ignore"):
            expected = getattr(np, plain)(x.astype("float64"))
            function = getattr(elementary, name)
            call = numba.njit(lambda one: function(one))  # noqa: B023
            found = np.array([call(one) for one in x])  # as Python's numbers
            assert (found == found.astype("float32")).sum() == (found == found).sum()
            # of numbers below 2^-126, which come out as a whole number of 2^-149
            ulp = np.maximum(np.spacing(np.abs(expected).astype("float32")), np.float32(1e-45)).astype(
                "float64"
            )
            rounded = expected.astype("float32")
            off = np.where(np.isfinite(rounded), np.abs(found - expected) / ulp, 0)
            np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded), name)
            np.testing.assert_array_equal(np.isinf(found), np.isinf(rounded), name)
        assert off[~np.isnan(off)].max() <= 4, name
