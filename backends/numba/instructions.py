"""The lines of a compiled step that do one instruction of the schedule."""

from typing import Any

from nnx.backends.numba.arrays import Arrays
from nnx.backends.numba.expressions import expression, indented
from nnx.backends.numba.kernel import KernelSource
from nnx.compiler import Op, TraceError
from nnx.compiler.ir.operations import FLOATS
from nnx.compiler.schedule import Barrier, Copy, Gather, Gemm, Instruction, Kernel

BARRIER = "next_barrier = barrier(sync, T, next_barrier)"


class Instructions:
    """Renders the instructions of a step.

    Attributes
    ----------
    lines : list of str
        Of every step.
    kernels : dict of str to str
        The functions' texts, with KERNEL for their names, and their names.
    """

    def __init__(self, arrays: Arrays, batch: tuple[Any, ...]) -> None:
        self._arrays, self._batch, self._graph = arrays, batch, arrays.schedule.graph
        self.lines: list[str] = []
        self.kernels: dict[str, str] = {}

    def render(self, instruction: Instruction) -> None:
        """Add an instruction's lines."""
        match instruction:
            case Gather():
                self._gather()
            case Gemm():
                self._gemm(instruction)
            case Kernel(ops=(op,), iteration_space=()):
                self._compute_number(op)
            case Kernel():
                self._kernel(instruction)
            case Copy():
                self._copy(instruction)
            case Barrier():
                self.lines.append(BARRIER)
            case _:
                raise TraceError(f"{instruction} has no loop")

    def _gather(self) -> None:
        """Find the samples of a batch: a part of all samples, or in a given order copied to a place of their own."""
        X, *others = self._batch
        memory = self._arrays.memory("XB", X.shape[::-1], X.dtype)
        in_order = [f"x{X.number} = X[:, start : start + m]"]
        if X.shape[1] == 1:  # copied, too: a loop is vectorized over what is known to be neighbours
            in_order = [f"copy_vector(t, T, X[:, start], {memory}[0])", BARRIER, f"x{X.number} = {memory}.T"]
        self.lines += [
            "if order.size > 0:",
            f"    gather(t, T, rows, order, start, {memory})",
            f"    {BARRIER}",
            f"    x{X.number} = {memory}.T",
            "else:",
            *indented(in_order),
        ]
        for letter, x in zip("Yw", others, strict=False):
            if x is not None:  # every thread copies all of it, since it is little
                memory = self._arrays.memory(f"{letter}B", x.shape, x.dtype)
                self.lines.append(f"gather{x.ndim}({letter}, order, start, {memory})")

    def _gemm(self, gemm: Gemm) -> None:
        op, arrays = gemm.op, self._arrays
        a, b = op.reads if len(op.reads) == 2 else op.reads * 2
        if op.out.ndim != 2 or op.out.dtype not in FLOATS or any(x.dtype != op.out.dtype for x in (a, b)):
            raise TraceError("a product that is no product of two matrices of floats")
        operands = ", ".join(map(arrays.operand, (a, b, op.out)))
        scalars = f"scalars_{op.out.dtype}"
        self.lines.append(f"gemm_partition(t, T, {operands}, {scalars})")

    def _compute_number(self, op: Op) -> None:
        """Compute a single number, in every thread."""
        args = [self._arrays.scalar(arg, op) for arg in op.args]
        if None in args:
            raise TraceError("an element of an array")
        self.lines.append(f"s{op.out.number} = {expression(op, args)}")

    def _kernel(self, kernel: Kernel) -> None:
        """Call a function of its own, which kernels of the same form share."""
        source = KernelSource(kernel, self._arrays)
        parts = ", ".join(f"{letter}{self._arrays.rows}" for letter in "iIjJ")
        row = self._arrays.row(0, kernel.iteration_space)
        self._arrays.once.append(f"{parts} = by_{kernel.partition}(t, T, {row})")
        function = self.kernels.setdefault(source.text, f"k{len(self.kernels)}")
        call = f"{function}({', '.join([*source.parameters, parts])})"
        if kernel.partition == "one":
            results = "".join(f"{self._arrays.result(x)}, " for x in source.results)
            self.lines += ["if t == 0:", f"    {results + '= ' if results else ''}{call}"]
        else:
            self.lines.append(call)

    def _copy(self, copy: Copy) -> None:
        source, target, arrays = copy.source, copy.target, self._arrays
        if target.ndim == 0:
            if not arrays.is_single(source):
                raise TraceError("an element of an array")
            self.lines += ["if t == 0:", f"    {arrays.result(target)} = {arrays.single(source)}"]
        elif source.ndim == target.ndim == 1:
            part = arrays.part(target, copy.start, copy.stop)
            self.lines.append(f"copy_vector(t, T, {arrays.name(source)}, {part})")
        elif source.shape == target.shape:
            self.lines += ["if t == 0:", f"    {arrays.name(target)}[...] = {arrays.name(source)}"]
        else:
            raise TraceError(f"{copy} has no loop")
