"""Loops over the same columns, samples in one piece, and what may run beside what."""

import numpy as np
import pytest
from schedule_interpreter import TARGETS, Memory, number_space, run, schedule_of
from step_cases import CASES, digits

from nnx.array.namespace import array_namespace
from nnx.compiler import own_outputs, trace
from nnx.compiler.passes.dependencies import dependencies, in_memory
from nnx.compiler.passes.fuse import fused
from nnx.compiler.passes.layout import column_major
from nnx.compiler.passes.memory import last_times
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Columns, Gemm, Kernel

TARGET = TARGETS["columns"]


def softmax(xp, X):
    E = xp.exp(X - xp.max(X, axis=0, keepdims=True))
    return E / xp.sum(E, axis=0, keepdims=True)


def plan(function, *arrays, target=TARGET):
    """The schedule of a function of a batch."""
    return schedule(own_outputs(trace(lambda _, batch: function(*batch), None, arrays)), target)


def kinds(made):
    return [type(instruction).__name__ for instruction in made.instructions]


def test_a_softmax_is_one_instruction():
    X = np.random.default_rng(0).standard_normal((5, 7))
    made = plan(lambda X: softmax(array_namespace(X), X), X)
    assert kinds(made) == ["Columns"]
    assert len(made.instructions[0].kernels) == 3
    assert made.buffers == ()  # all that it makes on the way stays in registers
    np.testing.assert_allclose(run(made, [X])[0], softmax(np, X))


def test_a_target_says_which_operations():
    X = np.zeros((5, 7))
    few = Target(number_space, columns=lambda op: op.out.shape[0] != 5)
    assert kinds(plan(lambda X: softmax(array_namespace(X), X), X, target=few)) == ["Kernel"] * 3


@pytest.mark.parametrize(
    ("function", "joined"),
    [
        (lambda xp, X: X - xp.sum(X, axis=0), 1),
        (lambda xp, X: X - xp.reshape(xp.sum(X, axis=0), (1, -1)), 1),  # a view: the same column
        (lambda xp, X: X - xp.sum(X, axis=1, keepdims=True), 0),  # a sum over columns
        (lambda xp, X: X - xp.sum(X), 0),
        (lambda xp, X: xp.exp(X) - xp.sum(X, axis=0)[::-1], 0),  # other columns
        (
            lambda xp, X: xp.exp(X)[:2, :] - xp.sum(X, axis=0),
            0,
        ),  # a view of what another loop makes as a whole
        (lambda xp, X: xp.exp(X) + 1.0, 0),  # no sums
    ],
)
def test_which_loops_become_one(function, joined):
    X = np.random.default_rng(0).standard_normal((5, 7))
    made = plan(lambda X: function(array_namespace(X), X), X)
    assert kinds(made).count("Columns") == joined
    np.testing.assert_allclose(run(made, [X])[0], function(np, X))


def test_a_loop_joins_the_last_one_that_it_needs():
    """Also where others stand between them, which it does not need."""

    def function(X, Y):
        xp = array_namespace(X)
        return X - xp.sum(X, axis=0), xp.exp(Y), Y - xp.sum(Y, axis=0)

    made = plan(function, np.ones((3, 4)), np.ones((5, 4)))
    assert kinds(made).count("Columns") == 2


@pytest.mark.parametrize(
    ("function", "joined"),
    [
        (lambda xp, X: 1.0 / (1.0 + xp.sum(X, axis=1, keepdims=True)), True),
        (lambda xp, X: 2.0 * xp.sqrt(xp.sum(X * X)), True),
        (lambda xp, X: xp.sum(X, axis=1) + X[:, 0], True),  # another number of each
        (lambda xp, X: xp.sum(X, axis=1)[::-1] + 1.0, False),  # in another order
        (lambda xp, X: xp.sum(X, axis=1, keepdims=True) + X, False),  # no numbers
        (lambda xp, X: xp.sum(X, axis=1) + xp.sum(X), False),  # of all sums
        (lambda xp, X: xp.sum(xp.sqrt(xp.sum(X * X, axis=1))), False),  # a sum of them
    ],
)
def test_which_numbers_join_their_sums(function, joined):
    X = 1 + np.random.default_rng(0).random((5, 7))
    made = plan(lambda X: function(array_namespace(X), X), X)
    last = made.instructions[-1]
    assert (isinstance(last, Columns) and len(last.kernels[0].ops) > 0) == joined
    np.testing.assert_allclose(run(made, [X])[0], function(np, X))


def test_internal_values_have_no_memory():
    for name in ("focal softmax", "layer norm", "adam"):
        made = schedule_of(*CASES[name]("float32"), TARGET)
        for columns in (x for x in made.instructions if isinstance(x, Columns)):
            assert columns.internal
            assert not columns.internal & made.places.keys()
            assert {*columns.written} <= made.places.keys()
            assert {op.out for op in columns.ops} == {*columns.written} | columns.internal


def test_columns_are_shown():
    made = plan(lambda X: softmax(array_namespace(X), X), np.ones((5, 7)))
    lines = str(made).splitlines()
    assert lines[1].startswith("   1. columns    [5, 7]: %1 = max(%0,")
    assert lines[2].split() == ["[5,", "7]:"]


def test_samples_lie_in_one_piece():
    """X, and all that products and loops make of it; no weight, and no derivative of one."""
    made = schedule_of(*digits(16, (20, 12, 5)), TARGET)
    for op in made.graph.ops:
        if op.out in made.places and op.out.ndim == 2 and 1 not in op.out.shape:
            samples = op.out.shape[1] == 16
            assert made.places[op.out].strides == ((1, op.out.shape[0]) if samples else (op.out.shape[1], 1))
    X = made.graph.arguments[1][0]
    assert made.places[X].strides == (1, 20)
    products = [x.op for x in made.instructions if isinstance(x, Gemm)]
    assert all(1 in made.place(x).strides for op in products for x in op.reads)  # BLAS reads each as it lies


def test_what_is_read_as_a_vector_lies_row_by_row():
    def function(X):
        xp = array_namespace(X)
        return xp.reshape(X * 2.0, (-1,))

    graph = own_outputs(trace(lambda _, batch: function(*batch), None, (np.ones((3, 4)),)))
    (X,), doubled = graph.inputs, graph.ops[0].out
    assert column_major(graph, ()) == {X}
    assert doubled not in column_major(graph, ())
    X = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(run(schedule(graph, TARGET), [X])[0], 2 * X.reshape(-1))


def orders(after, seed):
    """Numbers of instructions in an order in which each comes behind those that it waits for."""
    rng, left, found = np.random.default_rng(seed), list(range(len(after))), []
    while left:
        found.append(int(rng.choice([k for k in left if after[k] <= set(found)])))
        left.remove(found[-1])
    return found


@pytest.mark.parametrize("name", [name for name in CASES if name != "stack"])
@pytest.mark.parametrize("beside", [0, 1 << 20])
def test_any_order_that_the_dependencies_allow_gives_the_same(name, beside):
    step, state, batch = CASES[name]("float64")
    target = Target(number_space, columns=lambda op: True, samples_as_rows=True, beside=beside)
    made = schedule_of(step, state, batch, target)
    inputs = [*state.values(), *(x for x in batch if x is not None)]
    expected, after = run(made, inputs), dependencies(made)
    for seed in range(3):
        for found, x in zip(run(made, inputs, orders(after, seed)), expected, strict=True):
            np.testing.assert_array_equal(found, x)


def test_dependencies_are_what_instructions_touch():
    made = schedule_of(*digits(16, (20, 12, 12, 5)), TARGET)
    memory, after = Memory(made), dependencies(made)
    arrays = [
        [
            [memory[x.value] for x in regions if made.literal(x.value) is None]
            for regions in in_memory(made, one)
        ]
        for one in made.instructions
    ]
    assert after[0] == frozenset()
    for k, waits in enumerate(after):
        for earlier in waits:
            (reads, writes), (its_reads, its_writes) = arrays[k], arrays[earlier]
            pairs = [(x, y) for x in reads + writes for y in its_writes]
            pairs += [(x, y) for x in writes for y in its_reads]
            assert any(np.may_share_memory(x, y) for x, y in pairs)


def test_memory_is_kept_for_what_runs_beside():
    """Each dW can be computed while the derivatives of lower layers are."""

    def waits(beside):
        target = Target(number_space, columns=lambda op: True, samples_as_rows=True, beside=beside)
        made = schedule_of(*digits(16, (20, 12, 12, 5)), target)
        derivatives = {
            k for k, x in enumerate(made.instructions) if isinstance(x, Gemm) and x.op.out in made.parts
        }
        last = len(made.instructions) - 1
        assert isinstance(made.instructions[last], Kernel)  # the optimizer
        needed = [k for k, some in enumerate(dependencies(made)) if some & derivatives and k != last]
        return needed, sum(made.buffers)

    assert waits(0)[0]
    assert waits(1 << 20)[0] == []
    assert waits(1 << 20)[1] > waits(0)[1]
    assert waits(4)[1] == waits(0)[1]  # only small ones are kept


def test_until_when_a_group_may_last():
    made = plan(lambda X: (X @ X, array_namespace(X).exp(X) + 1.0), np.ones((3, 3)))
    assert len(made.instructions) == 2

    def function(X):
        xp = array_namespace(X)
        A, B = xp.sum(X, axis=0), xp.sum(X, axis=1)
        return xp.sum(A), xp.sum(xp.exp(X)), B

    graph = own_outputs(trace(lambda _, batch: function(*batch), None, (np.ones((3, 3)),)))
    groups = fused(graph, number_space)
    ends = last_times(graph, groups)
    makers = {op.out: g for g, group in enumerate(groups) for op in group.ops}
    for g, end in enumerate(ends):
        readers = [
            makers[op.out] for op in graph.ops for x in op.reads if makers.get(x) == g != makers.get(op.out)
        ]
        assert end == min(readers, default=len(groups)) - 1


def test_kernels_get_the_scratch_memory_that_their_target_asks_for():
    target = Target(number_space, scratch=lambda kernel: 8 * len(kernel.ops))
    made = plan(lambda X: array_namespace(X).sum(array_namespace(X).exp(X)), np.ones((3, 3)), target=target)
    assert [x.scratch for x in made.instructions] == [16]
