"""The kernels around a step of CuPy: picked samples and kept costs, in three orders of threads, between guards."""

import numpy as np
import pytest
from conftest import long_but_for
from cuda_kernels_on_host import KernelsOnHost, needs_compiler
from cupy_on_host import CupyOnHost
from program_cases import NETWORKS, made

import nnx
from nnx.array.gather import mini_batch
from nnx.backends.cupy import loop
from nnx.backends.cupy.rendering import render_step
from nnx.backends.cupy.step import arguments
from nnx.compiler.ir.operations import itemsize

pytestmark = needs_compiler

GUARD = 256
"""Bytes before and behind every memory."""


class Guarded:
    """Memory between guards, full of NaN."""

    def __init__(self, nbytes):
        self.whole = np.full(nbytes + 2 * GUARD, 255, "uint8")
        self.whole[:GUARD] = self.whole[GUARD + nbytes :] = 165
        self.bytes = self.whole[GUARD : GUARD + nbytes]

    @property
    def is_whole(self):
        return (self.whole[:GUARD] == 165).all() and (self.whole[GUARD + len(self.bytes) :] == 165).all()


@pytest.fixture(scope="module")
def kernels():
    return KernelsOnHost(loop.SOURCE)


def run(kernels, launch, memory, seed):
    """Run a kernel of `with_loop` on guarded memory."""
    pointers = []
    for x in launch.arguments:
        address = memory[x.memory].bytes.ctypes.data + x.offset * itemsize(x.dtype)
        pointers.append(np.uint64(address))
    numbers = [np.dtype(dtype).type(number) for dtype, number in launch.numbers]
    kernels.run(launch.kernel, (launch.grid, launch.members), launch.block, (*pointers, *numbers), seed)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("order", [None, "int32", "int64"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", long_but_for([0, 1, 5], 0))
def test_samples_are_picked_and_costs_kept(kernels, name, order, weights, seed):
    step, state, data = made(name, nnx.backend("numpy"), weights=weights)
    cupy, m, at, count = CupyOnHost(), 7, 14, 4
    whole = loop.with_loop(render_step(step, state, data, m))
    memory = {x: Guarded(nbytes) for x, nbytes in whole.memory.items()}
    given = [None if x is None else cupy.array(x) for x in data]
    data = tuple(None if x is None else np.asarray(x) for x in given)
    places = None if order is None else cupy.asarray(np.random.default_rng(0).permutation(50).astype(order))
    Js = cupy.asarray(np.full(count + 1, -1, "float32"))
    M = 50 if order else 42  # whole batches
    cut = tuple(None if x is None else x[..., :M] for x in given)
    table = memory[loop.TABLE].bytes.ctypes.data
    kernels.run("begin", (1, 1), 1, loop.begin(table, cut, places, at, Js.data.ptr), seed)
    pick, count_step = whole.calls[0], whole.calls[-1]
    cost = memory[count_step.arguments[1].memory].bytes.view("float32")
    for k in range(count):
        run(kernels, pick, memory, seed)
        batch = mini_batch(tuple(None if x is None else x[..., :M] for x in data), places, at + k * m, m)
        for value, expected in zip(whole.schedule.graph.arguments[1], batch, strict=True):
            if value is not None:
                place = whole.schedule.place(value)
                flat = memory[place.memory].bytes.view(place.dtype)
                strides = [n * flat.itemsize for n in place.strides]
                found = np.lib.stride_tricks.as_strided(flat, place.shape, strides)
                np.testing.assert_array_equal(found, expected)
        cost[0] = k + 0.5
        run(kernels, count_step, memory, seed)
    np.testing.assert_array_equal(Js, [0.5, 1.5, 2.5, 3.5, -1])
    assert all(x.is_whole for x in memory.values())


def test_a_step_waits_for_its_samples_and_its_cost_for_the_step():
    step, state, data = made("softmax", nnx.backend("numpy"))
    rendered = render_step(step, state, data, 10)
    whole = loop.with_loop(rendered)
    X = {x.memory for x in whole.calls[0].arguments[1:]}
    assert [x.kernel for x in (whole.calls[0], whole.calls[-1])] == ["pick", "count_step"]
    for call, after, before in zip(whole.calls[1:-1], whole.after[1:-1], rendered.after, strict=True):
        assert {k - 1 for k in after} - {-1} == before
        assert (0 in after) == bool(X & {x.memory for x in arguments(call)})
    cost = whole.schedule.place(whole.schedule.graph.result[1]).memory
    makers = {k for k, call in enumerate(whole.calls[:-1]) if cost in {x.memory for x in arguments(call)}}
    assert makers
    assert makers <= whole.after[-1]
    assert whole.source.startswith(rendered.source)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_seen(kernels, dtype, bad):
    largest = np.finfo(dtype).max
    for where in (None, 0, 517, 999):
        x, flag = np.resize([largest, -largest, 0, 1], 1000).astype(dtype), np.ones(1, "int32")
        if where is not None:
            x[where] = bad
        given = np.uint64(flag.ctypes.data), np.uint64(x.ctypes.data), np.int64(1000)
        kernels.run(f"look_at_{dtype}", (3, 1), 64, given, 5)
        assert flag[0] == (where is None)
