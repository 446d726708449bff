"""Schedules done with NumPy on memory laid out as they say: what a renderer would do, slowly."""

import array_api_compat.numpy as xp
import numpy as np

from nnx.compiler import Value, step_graph, trace
from nnx.compiler.ir.evaluate import done, evaluated
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import Barrier, Columns, Copies, Copy, Gather, Gemm, Kernel, Reduce, TileUpdate


def loop_space(op):
    """The shape that a loop goes over: elementwise operations and reductions of up to two axes."""
    if op.kind == "reduction" and not op.name.startswith("arg"):
        shape = op.reads[0].shape
        return shape if 0 < len(shape) <= 2 and len(op.option("axes")) in (1, len(shape)) else None
    return op.out.shape if op.kind == "elementwise" and 0 < op.out.ndim <= 2 else None


def number_space(op):
    """As `loop_space`, with single numbers, too."""
    return (
        loop_space(op) if op.out.ndim or op.kind == "reduction" else () if op.kind == "elementwise" else None
    )


def vector_space(op):
    """The shape of elementwise operations on vectors."""
    flat = op.kind == "elementwise" and op.out.ndim == 1
    return op.out.shape if flat and all(x.ndim == 0 or x.shape == op.out.shape for x in op.reads) else None


TARGETS = {
    "calls": Target(),
    "blocks": Target(vector_space, block=4),
    "loops": Target(loop_space),
    "threads": Target(
        loop_space,
        threads=True,
        copies_transposed=lambda product: True,
        row_length=lambda value: value.shape[1] + 3,
    ),
    "columns": Target(
        number_space,
        columns=lambda op: True,
        numbers_after_sums=True,
        samples_as_rows=True,
        copies_at_once=True,
    ),
}


def schedule_of(step, state, batch, target):
    """The schedule of a training step."""
    graph, slots = step_graph(trace(step, state, batch))
    return schedule(graph, target, slots)


class Memory:
    """The memory of a schedule: bytes for each of its memories, and arrays in them."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.constants = evaluated(schedule.graph, {}, xp)
        self.bytes = {}
        for place in schedule.places.values():
            if place.memory.kind == "buffer":
                self._grow(place.memory, schedule.buffers[place.memory.number])
            else:
                self._grow(place.memory, place.span[1])

    def _grow(self, memory, size):
        if len(self.bytes.get(memory, b"")) < size:
            self.bytes[memory] = np.full(size, 0xFF, np.uint8)  # NaN, in floats

    def __getitem__(self, value):
        if value in self.constants:
            return self.constants[value]
        place = self.schedule.place(value)
        size = np.dtype(place.dtype).itemsize
        raw = self.bytes[place.memory]
        if 0 in place.shape:
            return np.empty(place.shape, place.dtype)
        return np.ndarray(
            place.shape, place.dtype, raw.data, place.offset * size, [s * size for s in place.strides]
        )

    def __setitem__(self, value, x):
        self[value][...] = x


def run(schedule, inputs, order=None):
    """The outputs of a schedule for arrays in the order of its graph's inputs; its instructions in another order."""
    memory = Memory(schedule)
    for value, x in zip(schedule.graph.inputs, inputs, strict=True):
        memory[value] = x
    with np.errstate(all="ignore"):
        for number in order or range(len(schedule.instructions)):
            _do(schedule.instructions[number], memory)
    return [memory[value].copy() for value in schedule.graph.outputs]


def _do(instruction, memory):
    match instruction:
        case Gather() | Barrier():
            pass
        case Gemm(op) | Reduce(op):
            memory[op.out] = done(op, [memory[x].copy() if isinstance(x, Value) else x for x in op.args], xp)
        case Copy(transposed=True):
            memory[instruction.target] = memory[instruction.source].T
        case Copy(source, target, axis, start):
            part = (slice(None),) * axis + (slice(start, instruction.stop),) if source.ndim else ()
            memory[target][part] = memory[source]
        case TileUpdate(product, update, start, stop, _, transposed):
            a, b = product.reads
            b = b if transposed is None else transposed
            memory[product.out] = done(product, [memory[a], memory[b]], xp)
            _kernel(update, memory, slice(start, stop))
        case Copies(copies):
            for copy in copies:
                _do(copy, memory)
        case Columns(kernels):
            axes = [op.option("axes") for op in kernels[0].ops if op.kind == "reduction"][:1]
            (_columns if axes in ([], [(0,)]) and len(kernels[0].iteration_space) == 2 else _after_sums)(
                kernels, memory
            )
        case Kernel():
            if instruction.block:
                _blocks(instruction, memory)
            for part in instruction.ranges or [(None, None)] * (not instruction.block):
                _kernel(instruction, memory, slice(*part))


def _kernel(kernel, memory, part):
    """A loop that reads each element once, and writes it when it has it."""
    local = {}
    for op in kernel.ops:
        for x in op.reads:
            if x not in local:
                local[x] = memory[x][part].copy() if x.ndim and part != slice(None) else memory[x].copy()
        found = done(op, [local[x] if isinstance(x, Value) else x for x in op.args], xp)
        local[op.out] = np.asarray(found)
        if op.out not in kernel.internal:
            memory[op.out][part if op.out.ndim and part != slice(None) else ...] = found


def _after_sums(kernels, memory):
    """Sums, and then numbers of the results, one for each."""
    local = {}
    for op in (op for kernel in kernels for op in kernel.ops):
        args = [x if not isinstance(x, Value) else local[x] if x in local else memory[x] for x in op.args]
        local[op.out] = np.array(done(op, args, xp))
    for x in (x for kernel in kernels for x in kernel.written):
        memory[x][...] = local[x]


def _columns(kernels, memory):
    """All kernels for one column, then for the next; what they make for others is written at once."""
    m = kernels[0].iteration_space[-1]
    graph, inner = memory.schedule.graph, {op.out for kernel in kernels for op in kernel.ops}
    for j in range(m):

        def column(x, j=j):
            return x[..., j : j + 1] if x.ndim and x.shape[-1] == m else x

        local = {}
        for op in (op for kernel in kernels for op in kernel.ops):
            args = []
            for x in op.args:
                if isinstance(x, Value) and graph.base(x) in inner:
                    shape = (*x.shape[:-1], 1)
                    x = local[graph.base(x)].reshape(shape if x.shape[-1] == m else x.shape)
                args.append(column(memory[x]).copy() if isinstance(x, Value) else x)
            local[op.out] = np.asarray(done(op, args, xp))
            if any(op.out in kernel.written for kernel in kernels):
                column(memory[op.out])[...] = local[op.out]


def _blocks(kernel, memory):
    """One operation after the other on a block of each vector, in memory."""
    (size,) = kernel.iteration_space
    for low in range(0, size, kernel.block):
        high = min(low + kernel.block, size)

        def at(x, low=low, high=high):
            array = memory[x]
            if not x.ndim:
                return array
            return array[low:high] if array.shape == x.shape else array[: high - low]

        for op in kernel.ops:
            at(op.out)[...] = done(op, [at(x) if isinstance(x, Value) else x for x in op.args], xp)
