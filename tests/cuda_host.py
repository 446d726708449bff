"""A rendered step done on the host: its kernels compiled by g++ behind cuda_shim.h, its products by NumPy."""

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import array_api_compat.numpy as xp
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from nnx.backends.cupy import step as cupy_step
from nnx.backends.cupy.step import SCRATCH, Launch, Product, arguments
from nnx.compiler.passes.barriers import spans
from nnx.compiler.passes.dependencies import in_memory
from nnx.compiler.schedule import Copies, Copy

SHIM = Path(__file__).with_name("cuda_shim.h")
PRELUDE = Path(cupy_step.__file__).with_name("prelude.cuh")
GUARD = 1 << 12
"""Bytes before and behind every memory."""

_BUILT = tempfile.TemporaryDirectory(prefix="nnx-cuda-")
"""Libraries of kernels, by their text."""

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="kernels are run on the host by g++")


class RefusedError(Exception):
    """What a GPU would not forgive."""


def library(step):
    """The kernels as a library of the host's, each with a function run_NAME."""
    runs = {}
    for call in step.calls:
        if isinstance(call, Launch):
            given = [f"({x.dtype}*)pointers[{k}]" for k, x in enumerate(call.arguments)]
            given += [f"*({dtype}*)numbers[{k}]" for k, (dtype, _) in enumerate(call.numbers)]
            barriers = str(call.barriers).lower()
            runs[call.kernel] = (
                f"static void call_{call.kernel}() {{ {call.kernel}({', '.join(given)}); }}\n"
                f'extern "C" int run_{call.kernel}(unsigned grid, unsigned block, unsigned seed, void** p, void** n) '
                f"{{ pointers = p; numbers = n; return launch(grid, block, seed, {barriers}, call_{call.kernel}); }}"
            )
    text = "\n".join(
        [
            SHIM.read_text(),
            PRELUDE.read_text(),
            step.source,
            "static void **pointers, **numbers;",
            *runs.values(),
        ]
    )
    path = Path(_BUILT.name) / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not path.exists():
        source = path.with_suffix(".cpp")
        source.write_text(text)
        options = ["-O0", "-std=c++17", "-shared", "-fPIC", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
        command = ["g++", *options, str(source), "-o", str(path)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[:2000]
    return ctypes.CDLL(str(path))


class Host:
    """A step with memory of its own, full of NaN at first.

    Beside each memory lie NaN or, in every other one, a pattern: reading them spoils the result, writing them shows.
    """

    made = 0

    def __init__(self, step):
        self.step, self.library = step, library(step)
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
        outputs = step.schedule.graph.outputs
        self.old = {
            outputs.index(slot.new): step.schedule.places[slot.old].memory for slot in step.schedule.slots
        }

    def bytes(self, memory):
        """The bytes of a memory, without what lies beside it."""
        return self.whole[memory][GUARD : GUARD + self.step.memory[memory]]

    def __getitem__(self, value):
        """A value as an array in the step's memory."""
        place = self.step.schedule.place(value)
        memory = (
            self.old.get(place.memory.number, place.memory) if place.memory.kind == "output" else place.memory
        )
        flat = self.bytes(memory).view(place.dtype)[place.offset :]
        return as_strided(flat, place.shape, [s * flat.itemsize for s in place.strides])

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
        reads, writes = (spans(schedule, values) for values in in_memory(schedule, instruction))
        if isinstance(instruction, Copy | Copies):
            reads = reads + writes  # it writes a part of what is given as written
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
        starts = [x.offset * np.dtype(x.dtype).itemsize for x in call.arguments]
        places = zip(call.arguments, starts, strict=True)
        pointers = [self.bytes(x.memory).ctypes.data + start for x, start in places]
        numbers = [np.asarray(x, dtype) for dtype, x in call.numbers]
        given = (ctypes.c_void_p * max(len(pointers), 1))(*pointers)
        values = (ctypes.c_void_p * max(len(numbers), 1))(*(x.ctypes.data for x in numbers))
        if getattr(self.library, f"run_{call.kernel}")(call.grid, call.block, seed, given, values):
            raise RefusedError(f"{call.kernel} has a barrier that not all threads reach")

    def _product(self, call):
        """What BLAS does: matrices by columns, with leading dimensions."""

        def matrix(x, ld, rows, columns):
            flat = self.bytes(x.memory).view(x.dtype)[x.offset :]
            if ld < rows or (columns - 1) * ld + rows > flat.size:
                raise RefusedError(f"{call} reads beyond {x.memory}")
            return as_strided(flat, (rows, columns), (flat.itemsize, ld * flat.itemsize))

        m, n, k = call.m, call.n, call.k
        a = matrix(call.a, call.lda, k, m).T if call.transpose_a else matrix(call.a, call.lda, m, k)
        b = matrix(call.b, call.ldb, n, k).T if call.transpose_b else matrix(call.b, call.ldb, k, n)
        c = matrix(call.c, call.ldc, m, n)
        if np.shares_memory(a, c) or np.shares_memory(b, c):
            raise RefusedError(f"{call} writes over a factor")
        c[...] = xp.matmul(a, b)


def steps(step, state, batches, seed=0, late=None):
    """Do a step on each batch; return the state and the costs."""
    host = Host(step)
    graph = step.schedule.graph
    given, new = graph.arguments[0], graph.result[0]
    for name, x in state.items():
        host[given[name]][...] = x
    Js = []
    for batch in batches:
        for value, x in zip(graph.arguments[1], batch, strict=True):
            if x is not None:
                host[value][...] = x
        host.run(seed, late)
        Js.append(host[graph.result[1]].copy())
    assert all(name in given for name in new)
    return {name: host[value].copy() for name, value in given.items()}, Js


def outputs(step, inputs, seed=0):
    """The results of a function that is no step, for its inputs in their order."""
    host = Host(step)
    for value, x in zip(step.schedule.graph.inputs, inputs, strict=True):
        host[value][...] = x
    host.run(seed)
    return [host[value].copy() for value in step.schedule.graph.outputs]
