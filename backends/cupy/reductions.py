"""Kernels with sums: along the lines of a matrix, across them, and over all elements.

The sums are the same bits in every run: threads and blocks add in an order that does not depend on who is done first.
"""

from nnx.backends.cupy.expressions import combine, expression, first
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import (
    LANES,
    ROWS,
    THREADS,
    ceil_div,
    chunks,
    counter_bytes,
    line_blocks,
    whole_blocks,
)
from nnx.backends.cupy.kernel_text import Index, KernelOf, KernelText, flat_loop, indented, split
from nnx.backends.cupy.step import SCRATCH, Argument
from nnx.compiler import Op, TraceError, Value
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Columns, Kernel


def divided(text: KernelText, op: Op, total: str) -> str:
    """Return the result of a reduction: of a mean the total over the number of terms."""
    if op.name != "mean":
        return total
    x, axes = op.reads[0], op.option("axes")
    count = text.form.size(x) if len(axes) == x.ndim else text.form.size(x, axes[0])
    return f"{total} / {op.out.dtype}({count})"


def at(op: Op, line: str) -> Index:
    """Return the index of a reduction's result for a line: where its axis is not, or along its one axis."""
    axes = op.option("axes")
    if len(axes) == op.reads[0].ndim:
        return ("0", "0")
    return ("0", line) if axes == (0,) else (line, "0") if op.out.ndim == 2 else ("0", line)


class Lines(KernelText):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """A warp does a line, along which elements lie or which is a column: its lanes do the line's elements in turn.

    Of several kernels over the same columns each is a phase. What a later phase reads is in the registers of the lanes.
    """

    barriers = True

    def __init__(self, form: Form, phases: tuple[Kernel, ...], axis: int) -> None:
        super().__init__(form)
        self.phases, self.axis = phases, axis
        self.index: Index = ("i", "j") if axis == 0 else ("j", "i")
        self.held: list[str] = []  # lines that declare registers for whole lines

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        body = []
        for number, kernel in enumerate(self.phases):
            space = kernel.iteration_space
            one = len(space) == 1 or space[self.axis] == 1
            body += self._numbers(kernel) if one else self._elements(kernel, self.phases[number + 1 :])
        return [
            f"const uint32 lane = threadIdx.x % {LANES}, j = (blockIdx.x * {THREADS} + threadIdx.x) / {LANES};",
            f"if (j >= {self._count()}) return;",
            *self.held,
            *body,
        ]

    def grid(self) -> int:
        """Return the number of blocks."""
        space = self.phases[0].iteration_space
        return int(line_blocks(space[-1] if self.axis == 0 else space[0]))

    def _whole(self, kernel: Kernel) -> Value:
        """Return a value as large as a kernel's iteration space."""
        op = kernel.ops[0]
        return op.reads[0] if op.kind == "reduction" else op.out

    def _count(self) -> str:
        value = self._whole(self.phases[0])
        return str(self.form.size(value, value.ndim - 1 if self.axis == 0 else 0))

    def _numbers(self, kernel: Kernel) -> list[str]:
        """Return the lines of a phase with one number for each line: every lane computes it.

        It may be written over one that is read: no lane may be late then.
        """
        lines, index = [], tuple("0" if k == "i" else k for k in self.index)
        stores: list[str] = []
        for op in kernel.ops:
            args = [self.read(arg, op, k, index) for k, arg in enumerate(op.args)]
            text = args[0] if op.kind == "reduction" else expression(op, args)
            name = self.variables[op.out] = self.name(op.out)
            lines.append(f"const {op.out.dtype} {name} = {text};")
            if op.out not in kernel.internal:
                place = at(op, "j") if op.kind == "reduction" else index
                stores.append(f"if (lane == 0) {self.store(op.out, place, name)}")
        return [*lines, *(["__syncwarp();", *stores] if stores else [])]

    def _elements(self, kernel: Kernel, later: tuple[Kernel, ...]) -> list[str]:
        """Return the lines of a phase that goes over the elements of a line."""
        needed = {self.form.graph.base(x) for other in later for op in other.ops for x in op.reads}
        before: list[str] = []
        inner: list[str] = []
        after: list[str] = []
        size = self.form.size(self._whole(kernel), self.axis)
        for op in kernel.ops:
            if op.kind == "elementwise":
                inner += self.compute(op, self.index, op.out not in kernel.internal)
                if op.out in needed:
                    inner.append(f"{self.name(op.out, 'h')}[u] = {self.name(op.out)};")
                continue
            total, result = self.name(op.out, "s"), self.name(op.out)
            before.append(f"{op.out.dtype} {total} = {first(op)};")
            inner.append(f"{total} = {combine(op)}({total}, {self.read(op.reads[0], op, 0, self.index)});")
            after.append(f"{total} = over_warp({total}, {combine(op)});")
            after.append(f"const {op.out.dtype} {result} = {divided(self, op, total)};")
            if op.out not in kernel.internal:
                after.append(f"if (lane == 0) {self.store(op.out, at(op, 'j'), result)}")
        for (
            op
        ) in kernel.ops:  # what the variables of this loop held is in registers now, or not needed any more
            self.variables.pop(op.out, None)
            if op.kind == "reduction":
                self.variables[op.out] = self.name(op.out)
            elif op.out in needed:
                registers = self.name(op.out, "h")
                self.variables[op.out] = f"{registers}[u]"
                self.held.append(f"{op.out.dtype} {registers}[{self._turns(size)}];")
        return [*before, *self._loop(size, inner), *after]

    def _turns(self, size: str) -> int:
        if not size.isdecimal():
            raise TraceError("columns whose length is the number of samples do not fit into registers")
        return int(ceil_div(int(size), LANES))

    def _loop(self, size: str, lines: list[str]) -> list[str]:
        if len(self.phases) == 1:
            return [f"for (uint32 i = lane; i < {size}; i += {LANES}) {{", *indented(lines), "}"]
        return [
            "#pragma unroll",
            f"for (uint32 u = 0; u < {self._turns(size)}; u++) {{",
            f"    const uint32 i = u * {LANES} + lane;",
            f"    if (i < {size}) {{",
            *indented(lines, 2),
            "    }",
            "}",
        ]


class Shared(KernelOf):  # type: ignore[misc]
    """A kernel whose blocks share sums: the last block that is done adds up what each has, in their order."""

    barriers = True

    def __init__(self, form: Form, kernel: Kernel, scratch: int, counters: int) -> None:
        super().__init__(form, kernel)
        self._free, self._counters = scratch, scratch
        self._free += counter_bytes(counters)

    def partial_sums(self, op: Op, count: int) -> str:
        """Return the name of memory for so many partial sums."""
        size = itemsize(op.out.dtype)
        argument = Argument(SCRATCH, self._free // size, op.out.dtype)
        self._free += 8 * ceil_div(count * size, 8)
        self.shared.add(argument)
        return str(self.pointer(argument, written=True))

    def by_last(self, which: str, blocks: str, lines: list[str]) -> list[str]:
        """Return the lines that the last of so many blocks does; `which` counts them."""
        counter = f"{self.pointer(Argument(SCRATCH, self._counters // 4, 'int32'), written=True)}[{which}]"
        return [
            "__shared__ bool last;",
            "__threadfence();",
            "__syncthreads();",
            f"if (threadIdx.x == 0) last = atomicAdd(&{counter}, 1) == (int)({blocks}) - 1;",
            "__syncthreads();",
            "if (last) {",
            "    __threadfence();",
            *indented(lines),
            f"    if (threadIdx.x == 0) {counter} = 0;",
            "}",
        ]


class Across(Shared):
    """Sums across lines: the lanes of a warp do neighbours. ROWS warps and several blocks share the terms of each."""

    def __init__(self, form: Form, kernel: Kernel, scratch: int, axis: int) -> None:
        self._axis = axis  # which is summed over
        self._n, self._terms = kernel.iteration_space[1 - axis], kernel.iteration_space[axis]
        super().__init__(form, kernel, scratch, ceil_div(self._n, LANES))

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(ceil_div(self._n, LANES) * chunks(self._terms))

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        sizes = self.sizes()
        n, terms = sizes[1 - self._axis], sizes[self._axis]
        blocks = f"({n} + {LANES - 1}) / {LANES}"
        index = ("i", "j") if self._axis == 1 else ("j", "i")
        inner, after, last = [], [], []
        before = [
            f"const uint32 x = threadIdx.x % {LANES}, y = threadIdx.x / {LANES}, chunks = gridDim.x / ({blocks});",
            f"const uint32 group = blockIdx.x / chunks, chunk = blockIdx.x % chunks, i = group * {LANES} + x;",
            f"const uint32 each = ({terms} + chunks - 1) / chunks, begin = chunk * each;",
            f"const uint32 end = begin + each < {terms} ? begin + each : {terms};",
        ]
        for op in self.kernel.ops:
            if op.kind == "elementwise":
                inner += self.computed(op, index)
                continue
            total, shared, value = (self.name(op.out, letter) for letter in "stv")
            before += [
                f"__shared__ {op.out.dtype} {shared}[{ROWS}][{LANES + 1}];",
                f"{op.out.dtype} {total} = {first(op)};",
            ]
            inner.append(f"{total} = {combine(op)}({total}, {self.read(op.reads[0], op, 0, index)});")
            part = self.partial_sums(op, chunks(self._terms) * self._n)
            store = self.store(op.out, at(op, "i"), value)
            result = [f"const {op.out.dtype} {value} = {divided(self, op, total)};", store]
            after += [
                f"{shared}[y][x] = {total};",
                "__syncthreads();",
                f"if (y == 0 && i < {n}) {{",
                f"    for (uint32 k = 1; k < {ROWS}; k++) {total} = {combine(op)}({total}, {shared}[k][x]);",
                "    if (chunks == 1) {",
                *indented(result, 2),
                f"    }} else {part}[chunk * {n} + i] = {total};",
                "}",
            ]
            last += [
                f"{total} = {part}[i];",
                f"for (uint32 k = 1; k < chunks; k++) {total} = {combine(op)}({total}, {part}[k * {n} + i]);",
                *result,
            ]
        loop = [f"if (i < {n}) for (uint32 j = begin + y; j < end; j += {ROWS}) {{", *indented(inner), "}"]
        shared = self.by_last("group", "chunks", [f"if (y == 0 && i < {n}) {{", *indented(last), "}"])
        return [*before, *loop, *after, "if (chunks == 1) return;", *shared]


class Whole(Shared):
    """Sums of all elements, by one block or by several."""

    def __init__(self, form: Form, kernel: Kernel, scratch: int) -> None:
        super().__init__(form, kernel, scratch, 1)
        self._op = next(op for op in kernel.ops if op.kind == "reduction")

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(whole_blocks(self._op.reads[0].size))

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        inner, index = split(self)
        before, after, last = [], [], []
        for op in self.kernel.ops:
            if op.kind == "elementwise":
                inner += self.computed(op, index)
                continue
            total, shared, value = (self.name(op.out, letter) for letter in "stv")
            before += [
                f"__shared__ {op.out.dtype} {shared}[{LANES}];",
                f"{op.out.dtype} {total} = {first(op)};",
            ]
            inner.append(f"{total} = {combine(op)}({total}, {self.read(op.reads[0], op, 0, index)});")
            part = self.partial_sums(op, self.grid())
            store = self.store(op.out, ("0", "0"), value)
            result = [f"const {op.out.dtype} {value} = {divided(self, op, total)};", store]
            after += [
                f"{total} = over_warp({total}, {combine(op)});",
                f"if (threadIdx.x % {LANES} == 0) {shared}[threadIdx.x / {LANES}] = {total};",
                "__syncthreads();",
                "if (threadIdx.x == 0) {",
                f"    for (uint32 k = 1; k < {THREADS // LANES}; k++) {total} = {combine(op)}({total}, {shared}[k]);",
                "    if (gridDim.x == 1) {",
                *indented(result, 2),
                f"    }} else {part}[blockIdx.x] = {total};",
                "}",
            ]
            last += [
                f"{total} = {part}[0];",
                f"for (uint32 k = 1; k < gridDim.x; k++) {total} = {combine(op)}({total}, {part}[k]);",
                *result,
            ]
        loop = flat_loop(self.form.size(self._op.reads[0]), inner)
        shared = self.by_last("0", "gridDim.x", ["if (threadIdx.x == 0) {", *indented(last), "}"])
        return [*before, *loop, *after, "if (gridDim.x == 1) return;", *shared]


def of_columns(form: Form, instruction: Columns) -> KernelText:
    """Return the text of kernels over the same columns."""
    return Lines(form, instruction.kernels, 0)


def of_sums(form: Form, kernel: Kernel, scratch: int) -> KernelText:
    """Return the text of a kernel with sums; its memory for partial sums begins at byte `scratch`."""
    op = next(op for op in kernel.ops if op.kind == "reduction")
    if len(op.option("axes")) == len(kernel.iteration_space):
        return Whole(form, kernel, scratch)
    (axis,) = op.option("axes")
    if KernelOf(form, kernel).dense_axis() == axis:
        return Lines(form, (kernel,), axis)
    return Across(form, kernel, scratch, axis)
