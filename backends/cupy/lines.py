"""Kernels that do a line of a matrix with each warp: reductions along it, in one or several phases, as a softmax has.

The lanes of a warp do the elements i of its line j in turn.
"""

from nnx.backends.cupy.expressions import combine
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import LANES, ceil_div, line_blocks
from nnx.backends.cupy.kernel_text import Index, KernelText, block, whole
from nnx.compiler import Op, TraceError, Value
from nnx.compiler.schedule import Kernel


class OnLines(KernelText):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """A kernel that does so many lines: columns (axis 0) or rows (axis 1)."""

    def __init__(self, form: Form, axis: int, count: int, count_text: str) -> None:
        super().__init__(form)
        self.axis, self._count, self._count_text = axis, count, count_text
        self.index: Index = ("i", "j") if axis == 0 else ("j", "i")

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(line_blocks(self._count))

    def start(self) -> list[str]:
        """Return the lines that declare lane and j."""
        return [
            f"const uint32 lane = threadIdx.x % {LANES};",
            f"const {self.form.index} j = ({self.thread}) / {LANES};",
            f"if (j >= {self._count_text}) return;",
        ]

    def over_line(self, size: str, lines: list[str]) -> list[str]:
        """Return a lane's loop over its elements."""
        return list(block(f"for ({self.form.index} i = lane; i < {size}; i += {LANES})", lines))


class Lines(OnLines):
    """Elementwise operations, and reductions along the lines.

    Of several kernels over the same columns each is a phase. What a later phase reads is in the registers of the lanes.
    """

    def __init__(self, form: Form, phases: tuple[Kernel, ...], axis: int) -> None:
        value = whole(phases[0])
        across = 1 - axis if value.ndim == 2 else 0
        super().__init__(form, axis, value.shape[across], form.size(value, across))
        self._phases = phases
        self._registers: list[str] = []  # lines that declare them, for whole columns

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        body = list[str]()
        for number, kernel in enumerate(self._phases):
            space = kernel.iteration_space
            one = len(space) < 2 or space[self.axis] == 1
            body += self._numbers(kernel) if one else self._elements(kernel, self._phases[number + 1 :])
        return [*self.start(), *self._registers, *body]

    def _numbers(self, kernel: Kernel) -> list[str]:
        """Return the lines of a phase with one number for each line: every lane computes it.

        It may be written over one that is read: no lane may be late then.
        """
        lines, stores, index = list[str](), list[str](), ("j", "j")
        for op in kernel.ops:
            if op.kind == "elementwise":
                lines.append(self.compute(op, index))
            else:
                name = self.name(op.out)
                lines.append(f"const {op.out.dtype} {name} = {self.read(op, 0, index)};")
                self.variables[op.out] = name
            stores += self.kept(kernel, op, index, "if (lane == 0) ")
        return [*lines, "__syncwarp();", *stores] if stores else lines

    def _elements(self, kernel: Kernel, later: tuple[Kernel, ...]) -> list[str]:
        """Return the lines of a phase that goes over the elements of a line."""
        size = self.form.size(whole(kernel), self.axis)
        kept = {self.form.graph.base(x) for other in later for op in other.ops for x in op.reads}
        sums = [op for op in kernel.ops if op.kind == "reduction"]
        lines = list[str]()
        for op in kernel.ops:
            if op.kind == "reduction":
                lines.append(self.take(op, self.index))
                continue
            lines += self.computed(kernel, op, self.index)
            if op.out in kept:
                lines.append(f"{self.name(op.out, 'h')}[u] = {self.variables[op.out]};")
        self._keep([op.out for op in kernel.ops if op.kind == "elementwise"], kept, size)
        loop = self._over_registers if self._registers else self.over_line
        return [*map(self.total, sums), *loop(size, lines), *self._results(kernel, sums)]

    def _keep(self, made: list[Value], kept: set[Value], size: str) -> None:
        """Let later phases find in registers what they read: the variables end with their loop."""
        for x in made:
            del self.variables[x]
            if x in kept:
                self.variables[x] = f"{self.name(x, 'h')}[u]"
                self._registers.append(f"{x.dtype} {self.name(x, 'h')}[{self._turns(size)}];")

    def _results(self, kernel: Kernel, sums: list[Op]) -> list[str]:
        """Return the lines behind a loop: each lane has some terms of a reduction, and gets the result."""
        lines = list[str]()
        for op in sums:
            total = self.name(op.out, "s")
            lines += [f"{total} = over_warp({total}, {combine(op)});", self.result(op)]
            lines += self.kept(kernel, op, ("j", "j"), "if (lane == 0) ")
        return lines

    def _over_registers(self, size: str, lines: list[str]) -> list[str]:
        """Return a lane's loop over its elements, number u of which has a register."""
        inner = [f"const uint32 i = u * {LANES} + lane;", *block(f"if (i < {size})", lines)]
        return ["#pragma unroll", *block(f"for (uint32 u = 0; u < {self._turns(size)}; u++)", inner)]

    def _turns(self, size: str) -> int:
        if not size.isdecimal():
            raise TraceError("columns whose length is the number of samples do not fit into registers")
        return int(ceil_div(int(size), LANES))
