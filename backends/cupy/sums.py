"""Kernels with sums whose terms several warps share, and several blocks: across the lines of a matrix, and of all.

The sums are the same bits in every run: threads and blocks add in an order that does not depend on who is done first.
"""

from typing import NamedTuple

from nnx.backends.cupy.expressions import combine, first
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import LANES, ROWS, THREADS, ceil_div, scratch_starts, shares
from nnx.backends.cupy.kernel_text import Index, KernelOf, block
from nnx.backends.cupy.step import SCRATCH, Argument
from nnx.compiler import Op
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Kernel


class Division(NamedTuple):
    """How threads and blocks divide the terms of sums, in CUDA C.

    Attributes
    ----------
    start : list of str
        Lines that declare `chunks`, the blocks that share a sum, `chunk`, the number of this block among them, and
        `has_sum`, whether a thread gets a total.
    terms : str
        The head of a thread's loop over its terms.
    index : tuple of str
        Of a term, which the lines `where` compute.
    totals : str
        The head of a thread's loop over the totals of blocks that it takes, number k.
    total : str
        The place of total number {0}.
    in_block : str
        The expression for the total of a block, of a thread's sum {0}, shared memory {1} and a function {2}.
    at, counter : str
        The number of a thread's result among all results of a sum, and of what counts the blocks that are done.
    """

    start: list[str]
    terms: str
    index: Index
    where: list[str]
    totals: str
    total: str
    in_block: str
    at: str
    counter: str


class Sums(KernelOf):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """Reductions of the elements that a loop computes, along an axis or (None) of all.

    Each thread takes some of the terms, and a block adds up the sums of its threads. If several blocks share a sum, the
    last of them to be done takes their totals as its terms. Later kernels compute numbers of the results, one for each.
    """

    def __init__(self, form: Form, kernels: tuple[Kernel, ...], scratch: int, axis: int | None) -> None:
        kernel, *self._later = kernels
        super().__init__(form, kernel)
        self._sums = [op for op in kernel.ops if op.kind == "reduction"]
        self._scratch = [scratch + start for start in scratch_starts(kernel)]
        self._by = self._of_all() if axis is None else self._across(axis)

    def grid(self) -> int:
        """Return the number of blocks."""
        n, chunks = shares(self.kernel)
        return int(ceil_div(n, LANES) * chunks)

    def _of_all(self) -> Division:
        where, index = self.indices()
        return Division(
            start=[
                "const uint32 chunks = gridDim.x, chunk = blockIdx.x;",
                "const bool has_sum = threadIdx.x == 0;",
            ],
            terms=self.each(self.form.size(self.whole)),
            index=index,
            where=where,
            totals=f"for (uint32 k = threadIdx.x; k < chunks; k += {THREADS})",
            total="{0}",
            in_block="over_warp(over_warps({0}, {1}, {2}), {2})",
            at="0",
            counter="0",
        )

    def _across(self, axis: int) -> Division:
        """Return how the lanes of a warp do neighbouring sums, and warps and blocks share the terms of each."""
        n, size, number = (
            self.form.size(self.whole, 1 - axis),
            self.form.size(self.whole, axis),
            self.form.index,
        )
        return Division(
            start=[
                f"const uint32 lane = threadIdx.x % {LANES}, warp = threadIdx.x / {LANES};",
                f"const uint32 chunks = gridDim.x / (({n} + {LANES - 1}) / {LANES});",
                "const uint32 group = blockIdx.x / chunks, chunk = blockIdx.x % chunks;",
                f"const {number} i = {number}(group) * {LANES} + lane;",
                f"const bool has_sum = warp == 0 && i < {n};",
            ],
            terms=f"if (i < {n}) for ({number} j = chunk * {ROWS} + warp; j < {size}; j += chunks * {ROWS})",
            index=("j", "i") if axis == 0 else ("i", "j"),
            where=[],
            totals=f"if (i < {n}) for (uint32 k = warp; k < chunks; k += {ROWS})",
            total=f"{{0}} * {n} + i",
            in_block="over_warps({0}, {1}, {2})",
            at="i",
            counter="group",
        )

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        by, inner = self._by, list(self._by.where)
        for op in self.kernel.ops:
            is_sum = op.kind == "reduction"
            inner += [self.take(op, by.index)] if is_sum else self.computed(self.kernel, op, by.index)
        dtypes = sorted({op.out.dtype for op in self._sums})
        return [
            *by.start,
            *(f"__shared__ {dtype} tile_{dtype}[{ROWS}][{LANES}];" for dtype in dtypes),
            *map(self.total, self._sums),
            *block(by.terms, inner),
            *map(self._in_block, self._sums),
            *block("if (chunks > 1)", self._of_blocks()),
            "if (!has_sum) return;",
            *self._results(),
        ]

    def _in_block(self, op: Op) -> str:
        total = self.name(op.out, "s")
        return f"{total} = {self._by.in_block.format(total, f'tile_{op.out.dtype}', combine(op))};"

    def _of_blocks(self) -> list[str]:
        """Return the lines that add up the totals of several blocks."""
        by, write, read = self._by, list[str](), list[str]()
        counters, *starts = self._scratch
        for op, start in zip(self._sums, starts, strict=False):
            total, dtype = self.name(op.out, "s"), op.out.dtype
            totals = self.pointer(Argument(SCRATCH, start // itemsize(dtype), dtype))
            write.append(f"if (has_sum) {totals}[{by.total.format('chunk')}] = {total};")
            more = f"{total} = {combine(op)}({total}, {totals}[{by.total.format('k')}]);"
            read += [f"{total} = {first(op)};", f"{by.totals} {more}", self._in_block(op)]
        done = self.pointer(Argument(SCRATCH, counters // 4, "uint32"))
        return [*write, f"if (!is_last(&{done}[{by.counter}], chunks)) return;", *read]

    def _results(self) -> list[str]:
        """Return the lines of a thread that has totals: the results, and later numbers."""
        index, found = (self._by.at, self._by.at), list[str]()
        for op in self._sums:
            found += [self.result(op), *self.kept(self.kernel, op, index)]
        for kernel in self._later:
            found += [line for op in kernel.ops for line in self.computed(kernel, op, index)]
        return found
