"""Where values lie, and which operations are in one loop."""

import numpy as np
import pytest
from step_cases import CASES, digits, names
from traced_steps import compare

import nnx
from nnx.array.namespace import array_namespace
from nnx.backends.numba.step_renderer import NumbaStepRenderer
from nnx.compiler import own_outputs, trace
from nnx.compiler.ir.graph import nbytes
from nnx.compiler.passes.fuse import fused
from nnx.compiler.passes.memory import buffers, owner, parts_of_concats
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Copy, Kernel, TileUpdate


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
        groups = fused(graph, lambda op: op.out.shape) if loop else fused(graph, lambda op: None)
        parts = parts_of_concats(graph, groups)
        sizes, where, _ = buffers(graph, groups, parts)
        assert all(sizes[buffer] >= nbytes(value) for value, buffer in where.items())
        ops = [op for group in groups for op in group.ops]
        inside: dict = {}

        def owned(value, parts=parts, graph=graph, where=where):
            whole = owner(graph.base(value), parts)
            return where.get(whole), whole

        constants = graph.constants
        for op in ops:
            if op.kind == "view" or op.out in constants:
                continue
            for value in op.reads:
                buffer, _ = owned(value)
                if buffer is not None:
                    assert graph.base(value) in inside[buffer], (str(op), name)
            buffer, whole = owned(op.out)
            if buffer is not None:
                inside[buffer] = {v for v in inside.get(buffer, set()) if owned(v)[1] == whole} | {op.out}


def test_a_result_is_written_over_an_argument_that_nothing_reads_later():
    """The square is where its root was; both halves of the gradient are where they belong."""

    def f(x):
        xp = array_namespace(x)
        return xp.sum(xp.concat([xp.exp(x), (xp.sqrt(x) + 1.0) ** 2])) + xp.max(xp.tanh(x) ** 2)

    graph = trace(f, np.zeros(4))
    found = {op.out: op.name for op in graph.ops}
    plan = schedule(graph, Target())
    over = buffers(graph, fused(graph, lambda op: None), plan.parts).overwrites
    assert [(found[value], found[other]) for value, other in over.items()] == [
        ("add", "sqrt"),
        ("square", "tanh"),
    ]
    assert [(found[x], part.start, part.stop) for x, part in plan.parts.items()] == [
        ("exp", 0, 4),
        ("square", 4, 8),
    ]
    assert all(plan.places[value] is plan.places[other] for value, other in over.items())


def test_buffers_are_used_again():
    step, state, batch = digits()
    graph = trace(step, state, batch)
    every = sum(op.out.size * 4 for op in graph.ops if op.kind != "view")
    assert sum(schedule(graph, Target()).buffers) < every / 3


def test_softmax_in_three_loops():
    def softmax(Z):
        xp = array_namespace(Z)
        E = xp.exp(Z - xp.max(Z, axis=-2, keepdims=True))
        return E / xp.sum(E, axis=-2, keepdims=True)

    groups = fused(trace(softmax, np.zeros((3, 4))), lambda op: op.reads[0].shape)
    assert [names(group) for group in groups] == [["max"], ["subtract", "exp", "sum"], ["divide"]]


def test_products_in_a_chain_take_turns_in_two_buffers():
    graph = trace(lambda x, W: W @ (W @ (W @ (W @ x))), np.zeros((4, 1)), np.zeros((4, 4)))
    sizes, where, _ = buffers(graph, fused(graph, lambda op: None), {})
    assert sizes == [32, 32]
    assert [(value.number, buffer) for value, buffer in where.items()] == [(2, 0), (3, 1), (4, 0)]


def test_own_outputs():
    graph = own_outputs(trace(lambda x: (x, x[1:], x + 1), np.zeros(3)))
    assert str(graph).splitlines() == [
        "   %0: float64[3]",
        "   %1: float64[2] = slice(%0, key=(1:3,))",
        "   %2: float64[3] = %0 + 1.0",
        "   %3: float64[3] = copy(%0)",
        "   %4: float64[2] = copy(%1)",
        "return (%3, %4, %2)",
    ]


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
