"""A rendered step done on the host: its kernels compiled by g++ for it, its products by NumPy."""

from contextlib import contextmanager
from itertools import product
from pathlib import Path

import array_api_compat.numpy as xp
import numpy as np
from cuda_kernels_on_host import KernelsOnHost, RefusedError
from numpy.lib.stride_tricks import as_strided

from nnx.backends.cupy import step as cupy_step
from nnx.backends.cupy.step import SCRATCH, Product, arguments
from nnx.compiler.passes.barriers import overlap, spans
from nnx.compiler.passes.dependencies import in_memory
from nnx.compiler.schedule import Copies, Copy

PRELUDE = Path(cupy_step.__file__).with_name("prelude.cuh").read_text(encoding="utf-8")
GUARD = 1 << 12
"""Bytes before and behind every memory."""


class Host:
    """A step with memory of its own, full of NaN at first.

    Beside each memory lie NaN or, in every other one, a pattern: reading them spoils the result, writing them shows.
    """

    made = 0

    def __init__(self, step):
        self.step, self.kernels = step, KernelsOnHost(PRELUDE + step.source)
        Host.made += 1
        self.guard = (255, 165)[Host.made % 2]
        self.whole = {}
        for memory, size in step.memory.items():
            self.whole[memory] = np.full(size + 2 * GUARD, 255, np.uint8)
            self.whole[memory][:GUARD] = self.whole[memory][GUARD + size :] = self.guard
            if memory == SCRATCH:
                self.bytes(memory)[:] = 0
        for memory, array in step.constants.items():
            self.bytes(memory)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def bytes(self, memory):
        """The bytes of a memory, without what lies beside it."""
        return self.whole[memory][GUARD : GUARD + self.step.memory[memory]]

    def numbers(self, memory, dtype):
        """A memory as numbers; it may have been made for smaller ones, of which there are some left."""
        whole = self.bytes(memory)
        return whole[: len(whole) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)

    def __getitem__(self, value):
        """A value as an array in the step's memory; of a stack with the members as its first axis."""
        place = self.step.schedule.place(value)
        flat = self.numbers(place.memory, place.dtype)[place.offset :]
        shape, strides = place.shape, [s * flat.itemsize for s in place.strides]
        if self.step.members is not None:
            shape, strides = (self.step.members, *shape), [self.step.strides[place.memory], *strides]
        return as_strided(flat, shape, strides)

    def spans(self, values):
        """Where values lie, of all members: a memory, its first byte and the last one."""
        return [
            (memory, *(end + k * self.step.strides.get(memory, 0) for end in ends))
            for memory, *ends in spans(self.step.schedule, values)
            for k in range(self.step.members or 1)
        ]

    def run(self, seed=0, late=None):
        """Do the step: calls, blocks and threads in an order that depends on the seed: 0: as they are; 1: reversed.

        Calls come before those that wait for them. All others may run at the same time on a GPU: one of them can be
        as late as possible.
        """
        with np.errstate(all="ignore"):
            for number in self._order(seed, late):
                call = self.step.calls[number]
                with self._alone_with_its_own(number):
                    if isinstance(call, Product):
                        self._product(call)
                    else:
                        self._launch(call, seed)

    def _order(self, seed, late):
        """Numbers of calls, each behind those that it waits for."""
        rng, left, found = np.random.default_rng(seed), list(range(len(self.step.calls))), []
        while left:
            ready = [k for k in left if self.step.after[k] <= set(found)]
            ready = [k for k in ready if k != late] or ready
            found.append({0: ready[0], 1: ready[-1]}.get(seed, rng.choice(ready)))
            left.remove(found[-1])
        return found

    @contextmanager
    def _alone_with_its_own(self, number):
        """Let a call see only what its instruction reads, and see that it changes only what its instruction writes."""
        schedule, instruction = self.step.schedule, self.step.schedule.instructions[number]
        reads, writes = map(self.spans, in_memory(schedule, instruction))
        if isinstance(instruction, Copy | Copies):
            reads = reads + writes  # it writes a part of what is given as written
        elif any(overlap([x], [y]) and x[1] != y[1] for x, y in product(writes, reads + writes)):
            raise RefusedError(
                f"{self.step.calls[number]} has two pointers to one place: they are __restrict__"
            )
        own = [(SCRATCH, 0, self.step.memory[SCRATCH])]
        constants = [
            (memory, 0, size) for memory, size in self.step.memory.items() if memory.kind == "constant"
        ]
        before = {memory: whole.copy() for memory, whole in self.whole.items()}
        self._only([*reads, *own, *constants], before)
        given = {memory: whole.copy() for memory, whole in self.whole.items()}
        yield
        changed = {memory: whole.copy() for memory, whole in self.whole.items()}
        for memory, first, last in [*writes, *own]:
            given[memory][GUARD + first : GUARD + last] = changed[memory][GUARD + first : GUARD + last]
            before[memory][GUARD + first : GUARD + last] = changed[memory][GUARD + first : GUARD + last]
        for memory, x in changed.items():
            if not np.array_equal(x, given[memory]):
                raise RefusedError(f"{self.step.calls[number]} writes into {memory} what is not its own")
            self.whole[memory][:] = before[memory]

    def _only(self, parts, before):
        """Fill all memory but some parts."""
        for memory, whole in self.whole.items():
            whole[GUARD : GUARD + self.step.memory[memory]] = self.guard
        for memory, first, last in parts:
            self.whole[memory][GUARD + first : GUARD + last] = before[memory][GUARD + first : GUARD + last]

    def _launch(self, call, seed):
        if any(x.offset * np.dtype(x.dtype).itemsize > self.step.memory[x.memory] for x in arguments(call)):
            raise RefusedError(f"{call} begins behind its memory")
        types = self.kernels.parameters[call.kernel]
        for x, ctype in zip(call.arguments, types, strict=False):
            assert ctype.split()[-1] == f"{x.dtype}*", f"{call}: {x} is given for {ctype}"
        addresses = [
            self.bytes(x.memory).ctypes.data + x.offset * np.dtype(x.dtype).itemsize for x in call.arguments
        ]
        numbers = [np.dtype(dtype).type(x) for dtype, x in call.numbers]
        grid = call.grid, call.members
        self.kernels.run(call.kernel, grid, call.block, [*map(np.uint64, addresses), *numbers], seed)

    def _product(self, call):
        """What BLAS does: matrices by columns, with leading dimensions; of each member."""
        for k in range(call.members):
            parts = zip((call.a, call.b, call.c), call.strides, strict=True)
            self._product_of(call, *(x._replace(offset=x.offset + k * stride) for x, stride in parts))

    def _product_of(self, call, a, b, c):
        def matrix(x, ld, rows, columns):
            flat = self.numbers(x.memory, x.dtype)[x.offset :]
            if ld < rows or (columns - 1) * ld + rows > flat.size:
                raise RefusedError(f"{call} reads beyond {x.memory}")
            return as_strided(flat, (rows, columns), (flat.itemsize, ld * flat.itemsize))

        m, n, k = call.m, call.n, call.k
        a = matrix(a, call.lda, k, m).T if call.transpose_a else matrix(a, call.lda, m, k)
        b = matrix(b, call.ldb, n, k).T if call.transpose_b else matrix(b, call.ldb, k, n)
        c = matrix(c, call.ldc, m, n)
        if np.shares_memory(a, c) or np.shares_memory(b, c):
            raise RefusedError(f"{call} writes over a factor")
        c[...] = xp.matmul(a, b)


def steps(step, state, batches, seed=0, late=None):
    """Do a step on each batch; return the state and the costs. The state of a stack is (K, ...)."""
    host = Host(step)
    graph = step.schedule.graph
    given, new = graph.arguments[0], graph.result[0]
    for name, x in state.items():
        held = host[given[name]]
        held[...] = x.reshape(-1) if held.ndim < x.ndim else x
    Js = []
    for batch in batches:
        for value, x in zip(graph.arguments[1], batch, strict=True):
            if x is not None:
                host[value][...] = x
        host.run(seed, late)
        Js.append(host[graph.result[1]].copy())
    assert all(name in given for name in new)
    if step.members is None:
        return {name: host[value].copy() for name, value in given.items()}, Js
    return {name: host[given[name]][: len(x)].reshape(x.shape).copy() for name, x in state.items()}, Js


def outputs(step, inputs, seed=0):
    """The results of a function that is no step, for its inputs in their order."""
    host = Host(step)
    for value, x in zip(step.schedule.graph.inputs, inputs, strict=True):
        host[value][...] = x
    host.run(seed)
    return [host[value].copy() for value in step.schedule.graph.outputs]
