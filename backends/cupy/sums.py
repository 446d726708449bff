"""Kernels with sums whose terms several warps share, and several blocks: across the lines of a matrix, and of all.

The sums are the same bits in every run: threads and blocks add in an order that does not depend on who is done first.
"""

from nnx.backends.cupy.expressions import combine, first
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import LANES, ROWS, THREADS, ceil_div, scratch_starts, shares
from nnx.backends.cupy.kernel_text import Index, KernelOf, indented
from nnx.backends.cupy.step import SCRATCH, Argument
from nnx.compiler import Op
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Kernel


class Sums(KernelOf):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """Reductions of the elements that a loop computes.

    Each thread takes some of the terms. A block adds up those of its threads: one thread with `has_sum` has a total
    then. If several blocks share a sum (`chunks`, of which this one is number `chunk`), the last of them to be done
    takes the totals of all as its terms. Later kernels compute numbers of the results, one for each.
    """

    index: Index

    def __init__(self, form: Form, kernels: tuple[Kernel, ...], scratch: int) -> None:
        kernel, *self._later = kernels
        super().__init__(form, kernel)
        self._sums = [op for op in kernel.ops if op.kind == "reduction"]
        self._scratch = [scratch + start for start in scratch_starts(kernel)]

    # What derived classes write.

    at = "0"
    """The number of a thread's result among the results of each operation."""
    counter = "0"
    """The number of what counts the blocks that are done."""

    def part(self, chunk: str) -> str:
        """Return the place of a block's total among the partial sums."""
        raise NotImplementedError

    def over_parts(self, line: str) -> str:
        """Return a thread's loop over the partial sums that it takes, number k."""
        raise NotImplementedError

    def start(self) -> list[str]:
        """Return the lines that declare chunks, chunk and has_sum."""
        raise NotImplementedError

    def over_terms(self, lines: list[str]) -> list[str]:
        """Return a thread's loop over its terms."""
        raise NotImplementedError

    def over_block(self, total: str, tile: str, take: str) -> str:
        """Return the expression for the total of a block."""
        raise NotImplementedError

    # The whole.

    def grid(self) -> int:
        """Return the number of blocks."""
        n, chunks = shares(self.kernel)
        return int(ceil_div(n, LANES) * chunks)

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        inner = list[str]()
        for op in self.kernel.ops:
            is_sum = op.kind == "reduction"
            inner += [self.take(op, self.index)] if is_sum else self.computed(self.kernel, op, self.index)
        shared = self._over_chunks()
        return [
            *self.start(),
            *self._tiles(),
            *map(self.total, self._sums),
            *self.over_terms(inner),
            *map(self._block_total, self._sums),
            "if (chunks > 1) {",
            *indented(shared),
            "}",
            "if (!has_sum) return;",
            *self._results(),
        ]

    def _results(self) -> list[str]:
        """Return the lines of a thread that has the totals: with number `at` of the results, and of later numbers."""
        index, found = (self.at, self.at), list[str]()
        for op in self._sums:
            found += [self.result(op), *self.kept(self.kernel, op, index)]
        for kernel in self._later:
            found += [line for op in kernel.ops for line in self.computed(kernel, op, index)]
        return found

    def _tiles(self) -> list[str]:
        dtypes = sorted({op.out.dtype for op in self._sums})
        return [f"__shared__ {dtype} tile_{dtype}[{ROWS}][{LANES}];" for dtype in dtypes]

    def _block_total(self, op: Op) -> str:
        total = self.name(op.out, "s")
        return f"{total} = {self.over_block(total, f'tile_{op.out.dtype}', combine(op))};"

    def _over_chunks(self) -> list[str]:
        """Return the lines that share the totals of several blocks."""
        write, read = list[str](), list[str]()
        counters, *starts = self._scratch
        for op, start in zip(self._sums, starts, strict=False):
            total, dtype = self.name(op.out, "s"), op.out.dtype
            sums = self.pointer(Argument(SCRATCH, start // itemsize(dtype), dtype))
            write.append(f"if (has_sum) {sums}[{self.part('chunk')}] = {total};")
            more = f"{total} = {combine(op)}({total}, {sums}[{self.part('k')}]);"
            read += [f"{total} = {first(op)};", self.over_parts(more), self._block_total(op)]
        done = self.pointer(Argument(SCRATCH, counters // 4, "uint32"))
        return [*write, f"if (!is_last(&{done}[{self.counter}], chunks)) return;", *read]


class Across(Sums):
    """Sums across lines: the lanes of a warp do neighbours, ROWS warps and several blocks share the terms of each."""

    at, counter = "i", "group"

    def __init__(self, form: Form, kernels: tuple[Kernel, ...], scratch: int, axis: int) -> None:
        super().__init__(form, kernels, scratch)
        self._n, self._terms = form.size(self.whole, 1 - axis), form.size(self.whole, axis)
        self.index = ("j", "i") if axis == 0 else ("i", "j")

    def start(self) -> list[str]:
        """Return the lines that declare chunks, chunk and has_sum."""
        index, groups = self.form.index, f"({self._n} + {LANES - 1}) / {LANES}"
        return [
            f"const uint32 lane = threadIdx.x % {LANES}, warp = threadIdx.x / {LANES};",
            f"const uint32 chunks = gridDim.x / ({groups}), group = blockIdx.x / chunks, chunk = blockIdx.x % chunks;",
            f"const {index} i = {index}(group) * {LANES} + lane;",
            f"const bool has_sum = warp == 0 && i < {self._n};",
        ]

    def over_terms(self, lines: list[str]) -> list[str]:
        """Return a thread's loop over its terms."""
        start, step = f"chunk * {ROWS} + warp", f"chunks * {ROWS}"
        return [
            f"if (i < {self._n}) for ({self.form.index} j = {start}; j < {self._terms}; j += {step}) {{",
            *indented(lines),
            "}",
        ]

    def over_block(self, total: str, tile: str, take: str) -> str:
        """Return the expression for the total of a block."""
        return f"over_warps({total}, {tile}, {take})"

    def part(self, chunk: str) -> str:
        """Return the place of a block's total among the partial sums."""
        return f"{chunk} * {self._n} + i"

    def over_parts(self, line: str) -> str:
        """Return a thread's loop over the partial sums that it takes, number k."""
        return f"if (i < {self._n}) for (uint32 k = warp; k < chunks; k += {ROWS}) {line}"


class Whole(Sums):
    """Sums of all elements."""

    def __init__(self, form: Form, kernels: tuple[Kernel, ...], scratch: int) -> None:
        super().__init__(form, kernels, scratch)
        self._where, self.index = self.indices()

    def start(self) -> list[str]:
        """Return the lines that declare chunks, chunk and has_sum."""
        return [
            "const uint32 chunks = gridDim.x, chunk = blockIdx.x;",
            "const bool has_sum = threadIdx.x == 0;",
        ]

    def over_terms(self, lines: list[str]) -> list[str]:
        """Return a thread's loop over its terms."""
        return list(self.loop(self.form.size(self.whole), [*self._where, *lines]))

    def over_block(self, total: str, tile: str, take: str) -> str:
        """Return the expression for the total of a block."""
        return f"over_warp(over_warps({total}, {tile}, {take}), {take})"

    def part(self, chunk: str) -> str:
        """Return the place of a block's total among the partial sums."""
        return chunk

    def over_parts(self, line: str) -> str:
        """Return a thread's loop over the partial sums that it takes, number k."""
        return f"for (uint32 k = threadIdx.x; k < chunks; k += {THREADS}) {line}"
