"""The schedule: what is done in which order, where values lie, what is updated in place, and where threads wait."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from schedule_interpreter import TARGETS, Memory, loop_space, run, schedule_of
from step_cases import CASES, digits

from nnx.array.namespace import array_namespace
from nnx.compiler import TraceError, own_outputs, thresholds, trace
from nnx.compiler.passes.barriers import regions_of, with_barriers
from nnx.compiler.passes.memory import Part
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Barrier, Copy, Gather, Gemm, Kernel, TileUpdate
from nnx.compiler.thresholds import TABLE

LOOPS = Target(loop_space)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_a_schedule_computes_what_the_step_computes(name, target):
    step, state, batch = CASES[name]("float64")
    plan = schedule_of(step, state, batch, TARGETS[target])
    new, J = step(state, batch)
    values, cost = plan.graph.result
    found = run(plan, [*state.values(), *(x for x in batch if x is not None)])
    for value, x in zip(plan.graph.outputs, found, strict=True):
        (key,) = [key for key, y in values.items() if y == value] or [None]
        expected = J if value == cost else new[key]
        np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-10, err_msg=str(key))
    assert all(new[key] is state[key] for key in state if key not in values)


@pytest.mark.parametrize("name", CASES)
def test_between_barriers_no_instruction_touches_what_another_one_writes(name):
    plan = schedule_of(*CASES[name]("float32"), TARGETS["threads"])
    memory = Memory(plan)

    def arrays(regions):
        found = []
        for value, start, stop in regions:
            if plan.literal(value) is None and plan.place(value).memory.kind not in ("register", "constant"):
                found.append(memory[value] if stop is None else memory[value][start:stop])
        return found

    since = []
    for instruction in plan.instructions:
        if isinstance(instruction, Barrier):
            assert since  # none is needless
            since = []
            continue
        reads, writes = map(arrays, regions_of(instruction))
        for other, others_reads, others_writes in since:
            for one, two in [*product(writes, others_reads + others_writes), *product(reads, others_writes)]:
                assert not np.shares_memory(one, two), (str(other), str(instruction))
        since.append((instruction, reads, writes))


def test_a_barrier_is_between_products_that_add_partial_sums():
    """They have one memory for them."""
    step, state, batch = digits(sizes=(64, 64, 64, 64, 10))
    plan = schedule_of(step, state, batch, TARGETS["threads"])
    since = 0
    for instruction in plan.instructions:
        if isinstance(instruction, Barrier):
            since = 0
        since += isinstance(instruction, Gemm) and instruction.partial_sums
        assert since <= 1
    two = a_step(lambda W, X, Y: (W + 1.0, (W @ X), (W @ Y)), (3, 3), (3, 2), (3, 2))
    both = [Gemm(gemm.op, True) for gemm in of_kind(two, Gemm)]
    assert [type(x) for x in with_barriers(replace(two, instructions=tuple(both)))] == [Gemm, Barrier, Gemm]


def test_no_barrier_is_needless():
    """Each stands before an instruction that touches what one before it writes, or writes what one reads."""
    step, state, batch = digits()
    plan = schedule_of(step, state, batch, TARGETS["threads"])
    behind = [(x, y) for x, y in pairwise(plan.instructions) if isinstance(x, Barrier)]
    assert 0 < len(behind) < len(plan.instructions) / 2
    assert not any(isinstance(y, Barrier) for _, y in behind)


def a_step(function, *shapes):
    """The schedule of a function of a state that returns the new one, with loops."""
    graph = own_outputs(trace(function, *(np.zeros(shape) for shape in shapes)))
    outputs = graph.result if isinstance(graph.result, tuple) else (graph.result,)
    return schedule(graph, LOOPS, dict(zip(outputs, graph.inputs, strict=False)))


def test_a_state_keeps_its_shape():
    with pytest.raises(TraceError, match="another shape"):
        a_step(lambda x: x @ x.T, (3, 4))


def of_kind(plan, kind):
    return [instruction for instruction in plan.instructions if isinstance(instruction, kind)]


@pytest.mark.parametrize(
    ("function", "shapes", "in_place"),
    [
        (lambda x: x * 2.0 + 1.0, [(3,)], [True]),
        (lambda x: x * 2.0 + x, [(3,)], [True]),  # one loop reads each element once
        (lambda x, y: (x * 2.0 + y, y + 1.0), [(3,), (3,)], [True, True]),
        (lambda x, y: (y, x), [(3,), (3,)], [False, True]),  # swapped
        (lambda x, y: (x @ x, y + 1.0), [(3, 3), (3,)], [False, True]),  # a product reads all while it writes
        (lambda x, y: (y @ y, x @ y), [(3, 3), (3, 3)], [False, False]),
        (lambda x, y: (y @ y, y + 1.0), [(3, 3), (3, 3)], [True, True]),
        (lambda x: x[::-1] * 2.0, [(3,)], [False]),  # another element than the one that is written
        (lambda x: x * 2.0 + x[::-1], [(3,)], [False]),
    ],
)
def test_a_state_is_updated_in_place_unless_its_old_value_is_read_later(function, shapes, in_place):
    plan = a_step(function, *shapes)
    assert [slot.in_place for slot in plan.slots] == in_place
    rng = np.random.default_rng(0)
    state = [rng.standard_normal(shape) for shape in shapes]
    expected = function(*state)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for found, x in zip(run(plan, state), expected, strict=True):
        np.testing.assert_allclose(found, x, rtol=1e-12)


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_arrays_without_elements_have_a_place(shape):
    def f(x):
        xp = array_namespace(x)
        y = xp.exp(x) + 1.0
        return xp.concat([y, y * 2.0, xp.tanh(y)]) * 3.0

    plan = schedule(trace(f, np.zeros(shape)), Target())
    assert all(plan.place(op.out).shape == op.out.shape for op in plan.graph.ops)


def test_a_concat_of_a_concat_is_written_straight_into_its_place():
    def f(x):
        xp = array_namespace(x)
        inner = xp.concat([xp.exp(x), xp.concat([xp.tanh(x), xp.sin(x)])])
        return xp.concat([xp.cos(x), inner]) * 2.0

    plan = schedule(trace(f, np.ones(3)), LOOPS)
    assert not of_kind(plan, Copy)
    np.testing.assert_allclose(*run(plan, [np.ones(3)]), f(np.ones(3)))


@pytest.mark.parametrize(
    ("function", "in_place", "copies"),
    [
        (lambda xp, new: [new[:2], new[2:4] * 0.5, new[4:]], False, 2),  # read by others
        (lambda xp, new: [new[:2], xp.ones(2), new[4:]], True, 1),
        (lambda xp, new: [new[:2], xp.reshape(new[2:6], (4,))], True, 0),
        (lambda xp, new: [new[1:3], xp.ones(2), new[4:]], False, 3),  # elsewhere
        (lambda xp, new: [new[:2], xp.ones(4) * xp.sum(new)], False, 1),  # read as a whole, too
    ],
)
def test_a_vector_with_other_parts_is_updated_in_place(function, in_place, copies):
    def step(theta, g):
        xp = array_namespace(theta)
        return xp.concat(function(xp, theta - g))

    theta, g = np.arange(6.0), np.arange(6.0) / 7
    graph = trace(step, theta, g)
    plan = schedule(graph, TARGETS["loops"], {graph.outputs[0]: graph.inputs[0]})
    assert plan.slots[0].in_place
    assert (Part(graph.outputs[0], 0, 0, 6) in plan.parts.values()) == in_place
    assert sum(isinstance(x, Copy) for x in plan.instructions) == copies
    np.testing.assert_allclose(run(plan, [theta, g])[0], step(theta, g))


def test_a_reduction_of_the_old_state_is_no_reason_for_a_copy():
    def step(x):
        xp = array_namespace(x)
        return x - xp.mean(x * x)

    plan = a_step(step, (4,))
    assert [slot.in_place for slot in plan.slots] == [True]
    np.testing.assert_allclose(*run(plan, [np.arange(4.0)]), step(np.arange(4.0)))


def test_the_gradient_is_written_into_its_places():
    step, state, batch = digits()
    plan = schedule_of(step, state, batch, LOOPS)
    (gradient,) = {part.whole for part in plan.parts.values()}
    for value, part in plan.parts.items():
        place = plan.place(value)
        assert place.memory == plan.place(gradient).memory
        assert place.offset == part.start
    assert not of_kind(plan, Copy)


def test_a_step_of_threads():
    """The samples are gathered, each dW is made and used tile by tile, the rest of theta comes last."""
    step, state, batch = digits()
    plan = schedule_of(step, state, batch, TARGETS["threads"])
    assert isinstance(plan.instructions[0], Gather)
    products = of_kind(plan, Gemm)
    assert len(products) == 5
    assert all(product.partial_sums for product in products)
    tiles = of_kind(plan, TileUpdate)
    rest = plan.instructions[-1]
    assert isinstance(rest, Kernel)
    parts = sorted([*((tile.start, tile.stop) for tile in tiles), *rest.ranges])
    assert parts[0][0] == 0
    assert parts[-1][1] == state["theta"].size
    assert all(x[1] == y[0] for x, y in pairwise(parts))
    copies = {copy.target for copy in of_kind(plan, Copy)}
    assert all(copy.transposed for copy in of_kind(plan, Copy))
    assert {tile.transposed for tile in tiles} == copies
    for value, place in plan.places.items():
        if place.memory.kind == "buffer" and value.ndim == 2 and place.strides[0] != value.shape[1]:
            assert place.strides == (value.shape[1] + 3, 1)
            break
    else:
        raise AssertionError("no rows with gaps")


def test_numbers_are_in_registers():
    step, state, batch = digits()
    plan = schedule_of(step, state, batch, TARGETS["threads"])
    kinds = {
        plan.places[op.out].memory.kind for op in plan.graph.ops if op.out in plan.places and not op.out.ndim
    }
    assert kinds == {"register", "number"}


@pytest.mark.parametrize(
    ("axis", "partition"), [(None, "one"), (0, "columns"), (1, "rows"), ((0, 1), "one"), ("none", "elements")]
)
def test_how_threads_divide_a_kernel(axis, partition):
    def f(x):
        xp = array_namespace(x)
        return xp.exp(x) if axis == "none" else xp.sum(xp.exp(x), axis=axis)

    plan = schedule(trace(f, np.zeros((3, 4))), LOOPS)
    (kernel,) = of_kind(plan, Kernel)
    assert kernel.partition == partition


def test_a_schedule_says_what_it_is():
    step, state, batch = digits()
    text = str(schedule_of(step, state, batch, TARGETS["threads"]))
    for part in ("gather", "gemm", "partial sums", "kernel     [", "tile", "then update of [0:4096]",
                 "transposed", "barrier", "(internal)", "in place", "bytes in", "us on one core"):  # fmt: skip
        assert part in text


def test_a_small_schedule_in_full():
    graph = trace(lambda w, X: w - 0.5 * (w @ X), np.zeros((3, 3)), np.zeros((3, 3)))
    assert str(schedule(graph, LOOPS, {graph.outputs[0]: graph.inputs[0]})).splitlines() == [
        "   %0: float64[3, 3] in input 0",
        "   %1: float64[3, 3] in input 1",
        "   1. gemm       %2 = %0 @ %1",
        "   2. kernel     [3, 3]:",
        "                   %3 = 0.5 * %2 (internal)",
        "                   %4 = %0 - %3",
        "   %2 in buffer 0",
        "   %4 in input 0",
        "%4 replaces %0, in place",
        "72 bytes in 1 buffers; about 0.015 us on one core",
    ]


def test_what_a_view_of_rows_with_gaps_cannot_be_is_an_error():
    graph = trace(lambda W, X: (W @ X).T + 1.0, np.zeros((3, 3)), np.zeros((3, 3)))
    plan = schedule(graph, Target(loop_space, row_length=lambda value: 8))
    product = graph.ops[0].out
    assert plan.place(product).strides == (8, 1)
    assert plan.place(graph.ops[1].out).strides == (1, 8)
    assert plan.buffers == (3 * 8 * 8,)


def test_the_table_of_thresholds():
    assert len(TABLE) > 20
    for name, row in TABLE.items():
        assert getattr(thresholds, name) == row.value
        assert row.unit
        assert all((row.effect, row.processor, row.measurement))
