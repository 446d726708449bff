"""The kernels around a step: they pick its samples, keep its cost and count it. So the host only launches steps.

All of them read one table in the GPU's memory, which `begin` writes at the beginning of a run.
"""

from collections.abc import Container
from typing import Any

import numpy as np

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.cupy.step import Argument, Launch, RenderedStep, arguments
from nnx.compiler import Value
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory

SOURCE = r"""
namespace loop {
typedef long long number;

// Of X, Y and the weights each: the address, and the elements from one feature and from one sample to the next. Then
// the places in which samples are taken (their address, or 0, and the bytes of each), the number of samples or of these
// places, where the first step's samples begin, where the costs go, and how many steps are done.
enum { X = 0, Y = 3, W = 6, ORDER = 9, ORDER_BYTES, SAMPLES, AT, COSTS, STEP, SIZE };

__device__ void copy(void* to, number i, const void* from, number k, unsigned bytes) {
    if (bytes == 8) ((number*)to)[i] = ((const number*)from)[k];
    else if (bytes == 4) ((int*)to)[i] = ((const int*)from)[k];
    else if (bytes == 2) ((short*)to)[i] = ((const short*)from)[k];
    else ((char*)to)[i] = ((const char*)from)[k];
}

// Copy the n numbers of a sample, each of so many bytes, to column j of an array with the strides `down` and `right`.
__device__ void copy_sample(const number* array, number sample, number j, char* to, unsigned n, unsigned bytes,
                            number down, number right) {
    for (number i = threadIdx.x; i < n; i += blockDim.x)
        copy(to, i * down + j * right, (const void*)array[0], i * array[1] + sample * array[2], bytes);
}

template <class T> __device__ void look_at(const T* x, number n, int* is_finite) {
    for (number i = blockIdx.x * (number)blockDim.x + threadIdx.x; i < n; i += (number)blockDim.x * gridDim.x)
        if (!(x[i] - x[i] == 0)) *is_finite = 0;  // the difference is NaN
}
}

extern "C" __global__ void begin(long long* table, long long x, long long xi, long long xj, long long y, long long yi,
                                 long long yj, long long w, long long wi, long long wj, long long order,
                                 long long bytes, long long samples, long long at, long long costs) {
    const long long values[loop::SIZE] = {x, xi, xj, y, yi, yj, w, wi, wj, order, bytes, samples, at, costs, 0};
    for (int k = 0; k < loop::SIZE; k++) table[k] = values[k];
}

// A block does a sample.
extern "C" __global__ void pick(const long long* table, char* x, char* y, char* w, unsigned m,
                                unsigned nx, unsigned xb, long long xi, long long xj,
                                unsigned ny, unsigned yb, long long yi, long long yj,
                                unsigned nw, unsigned wb, long long wi, long long wj) {
    const loop::number j = blockIdx.x, at = table[loop::AT] + table[loop::STEP] * m + j;
    const void* order = (const void*)table[loop::ORDER];
    const loop::number sample = !order ? at % table[loop::SAMPLES]
        : table[loop::ORDER_BYTES] == 8 ? ((const loop::number*)order)[at] : ((const int*)order)[at];
    loop::copy_sample(table + loop::X, sample, j, x, nx, xb, xi, xj);
    loop::copy_sample(table + loop::Y, sample, j, y, ny, yb, yi, yj);
    loop::copy_sample(table + loop::W, sample, j, w, nw, wb, wi, wj);
}

extern "C" __global__ void count_step(long long* table, const char* cost, unsigned bytes) {
    loop::copy((void*)table[loop::COSTS], table[loop::STEP], cost, 0, bytes);
    table[loop::STEP] += 1;
}

extern "C" __global__ void look_at_float32(int* is_finite, const float* x, long long n) {
    loop::look_at(x, n, is_finite);
}
extern "C" __global__ void look_at_float64(int* is_finite, const double* x, long long n) {
    loop::look_at(x, n, is_finite);
}
"""

MEMBERS = r"""
// The same for the members of a stack, of which each may have samples of its own: mx, my and mw are the bytes from a
// member's X, Y and weights to the next one's, or 0 where they are those of all. Its places in the order are as many as
// the table says. A block does a sample of a member.
extern "C" __global__ void pick_members(const long long* table, char* x, char* y, char* w, unsigned m,
                                        unsigned nx, unsigned xb, long long xi, long long xj,
                                        unsigned ny, unsigned yb, long long yi, long long yj,
                                        unsigned nw, unsigned wb, long long wi, long long wj,
                                        long long mx, long long my, long long mw) {
    const loop::number k = blockIdx.y, j = blockIdx.x, at = table[loop::AT] + table[loop::STEP] * m + j;
    const void* order = (const void*)table[loop::ORDER];
    const loop::number place = my ? k * table[loop::SAMPLES] + at : at;
    const loop::number sample = !order ? at % table[loop::SAMPLES]
        : table[loop::ORDER_BYTES] == 8 ? ((const loop::number*)order)[place] : ((const int*)order)[place];
    if (mx || !k) loop::copy_sample(table + loop::X, sample, j, x + k * mx, nx, xb, xi, xj);
    if (my || !k) loop::copy_sample(table + loop::Y, sample, j, y + k * my, ny, yb, yi, yj);
    if (nw && !threadIdx.x && (mw || !k))  // of weights (K, M) the table has the elements to the next member's
        loop::copy(w + k * mw, j * wj, (const void*)table[loop::W],
                   k * table[loop::W + 1] + sample * table[loop::W + 2], wb);
}

extern "C" __global__ void count_members(long long* table, const char* cost, unsigned bytes, unsigned members,
                                         long long row) {
    const loop::number step = table[loop::STEP];
    for (loop::number k = threadIdx.x; k < members; k += blockDim.x)
        loop::copy((void*)table[loop::COSTS], step * members + k, cost + k * row, 0, bytes);
    __syncthreads();
    if (!threadIdx.x) table[loop::STEP] = step + 1;
}
"""

TABLE = Memory("table", 0)
TABLE_BYTES = 15 * 8
MOST_THREADS = 256


def with_loop(step: RenderedStep, given: Container[Memory] = ()) -> RenderedStep:
    """Return a training step that picks its samples by the table, and writes its cost where the table says.

    `given` is memory with samples that all steps read where they are.
    """
    graph, place = step.schedule.graph, step.schedule.place
    picked = [
        x if isinstance(x, Value) and place(x).memory not in given else None for x in graph.arguments[1]
    ]
    cost = place(graph.result[1])
    pick = _pick(step, picked)
    kept = Argument(cost.memory, cost.offset, cost.dtype)
    count = Launch(
        "count_step", 1, 1, (Argument(TABLE, 0, "int64"), kept), (("uint32", itemsize(cost.dtype)),)
    )
    samples = {x.memory for x in pick.arguments[1:]}
    after = [frozenset[int]()]
    for call, calls in zip(step.calls, step.after, strict=True):
        waits = {k + 1 for k in calls} | ({0} if samples & {x.memory for x in arguments(call)} else set())
        after.append(frozenset(waits))
    makers = {k for k, call in enumerate(step.calls, 1) if cost.memory in {x.memory for x in arguments(call)}}
    after.append(frozenset({0, *makers}))
    if step.members is not None:
        pick, count = _pick_members(step, pick), _count_members(step, count)
    return step._replace(
        kernels={**step.kernels, "loop": SOURCE if step.members is None else SOURCE + MEMBERS},
        calls=(pick, *step.calls, count),
        memory={**step.memory, TABLE: TABLE_BYTES},
        after=tuple(after),
    )


def _pick(step: RenderedStep, batch: list[Value | None]) -> Launch:
    """Return the kernel that brings the samples of a step to where it reads them."""
    m, most = max([x.shape[-1] for x in batch if x is not None], default=1), 1
    arguments, numbers = [Argument(TABLE, 0, "int64")], [("uint32", m)]
    for x in batch:
        if x is None:
            arguments.append(arguments[0])
            numbers += [("uint32", 0), ("uint32", 1), ("int64", 0), ("int64", 0)]
            continue
        place, n = step.schedule.place(x), x.size // m
        down = place.strides[0] if x.ndim == 2 else 0
        arguments.append(Argument(place.memory, place.offset, place.dtype))
        numbers += [
            ("uint32", n),
            ("uint32", itemsize(x.dtype)),
            ("int64", down),
            ("int64", place.strides[-1]),
        ]
        most = max(most, n)
    return Launch("pick", m, min(MOST_THREADS, -(-most // 32) * 32), tuple(arguments), tuple(numbers))


def _pick_members(step: RenderedStep, pick: Launch) -> Launch:
    """Return the kernel that brings members their samples: one row of blocks where they have the same."""
    strides = [step.strides.get(x.memory, 0) for x in pick.arguments[1:]]
    return pick._replace(
        kernel="pick_members",
        members=step.members if any(strides) else 1,
        numbers=(*pick.numbers, *(("int64", stride) for stride in strides)),
    )


def _count_members(step: RenderedStep, count: Launch) -> Launch:
    row = step.strides[count.arguments[1].memory]
    numbers = (*count.numbers, ("uint32", step.members), ("int64", row))
    return count._replace(kernel="count_members", block=MOST_THREADS, numbers=numbers)


def begin(table: int, data: Data, order: Array | None, at: int, costs: int) -> tuple[Any, ...]:
    """Return the arguments of `begin`; see `nnx.port.program.Program.run`."""
    numbers = [number for x in data for number in _source(x)]
    numbers += [0, 0] if order is None else [order.data.ptr, order.itemsize]
    samples = (data[1] if order is None else order).shape[-1]
    return np.uint64(table), *map(np.int64, [*numbers, samples, at, costs])


def _source(x: Array | None) -> tuple[int, int, int]:
    """Return where an array lies, and its elements from one feature to the next, and from one sample to the next."""
    if x is None:
        return 0, 0, 0
    strides = [stride // x.itemsize for stride in x.strides]
    return x.data.ptr, strides[0] if x.ndim == 2 else 0, strides[-1]
