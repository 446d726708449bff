"""The lines of a compiled step that do one instruction of the schedule."""

from typing import Any

from nnx.backends.numba.arrays import Arrays
from nnx.backends.numba.expressions import expression
from nnx.backends.numba.kernel import KernelSource
from nnx.backends.numba.threads import threads
from nnx.compiler import Op, TraceError
from nnx.compiler.ir.operations import FLOATS
from nnx.compiler.schedule import AllReduce, Barrier, Copy, Gather, Gemm, Instruction, Kernel, TileUpdate
from nnx.compiler.thresholds import PARTIAL_SUMS_SAMPLES

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
        # The optimizer's kernel, and its arguments: see `over_tiles`.
        self._update: tuple[str, str] | None = None

    def render(self, instruction: Instruction) -> None:
        """Add an instruction's lines."""
        match instruction:
            case Gather():
                self._gather()
            case Gemm():
                self._gemm(instruction)
            case Kernel(ranges=(_, *_)):
                self._update_ranges(instruction)
            case Kernel(ops=(op,), iteration_space=()):
                self._compute_number(op)
            case Kernel():
                self._kernel(instruction)
            case Copy(transposed=True):
                self._transpose(instruction)
            case Copy():
                self._copy(instruction)
            case TileUpdate():
                self._tile_update(instruction)
            case AllReduce(op):
                self._all_reduce(op)
            case Barrier():
                self.lines.append(BARRIER)
            case _:
                raise TraceError(f"{instruction} has no loop")

    def _gather(self) -> None:
        """Find the samples of a batch: a part of all samples, or in a given order copied to a place of their own."""
        X, *others = self._batch
        memory = self._arrays.memory("XB", X.shape[::-1], X.dtype)
        self.lines += [
            "if order.size > 0:",
            f"    gather(t, T, rows, order, start, {memory})",
            f"    {BARRIER}",
            f"    x{X.number} = {memory}.T",
            "else:",
            f"    x{X.number} = X[:, start : start + m]",
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
        if not gemm.partial_sums:
            self.lines.append(f"gemm_partition(t, T, {operands}, {scalars})")
            return
        transposed = any(view.name == "permute" for view in self._graph.views(a))
        size = (threads() - 1) * op.out.size if op.out.shape[1] <= PARTIAL_SUMS_SAMPLES else 0
        sums = arrays.memory(f"E_{op.out.dtype}", (size,), op.out.dtype)
        self.lines += [
            f"sums = gemm_owner_computes(t, T, {operands}, {sums}, {scalars}, int64({int(transposed)}))",
            "if sums > 1:",
            f"    {BARRIER}",
            f"    add_partial_sums(t, T, sums, {arrays.name(op.out)}, {sums}, {arrays.row(0, op.out.shape)})",
        ]

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
        call = f"{self._function(source.text)}({', '.join([*source.parameters, parts])})"
        if kernel.partition == "one":
            results = "".join(f"{self._arrays.result(x)}, " for x in source.results)
            self.lines += ["if t == 0:", f"    {results + '= ' if results else ''}{call}"]
        else:
            self.lines.append(call)

    def _transpose(self, copy: Copy) -> None:
        target, arrays = copy.target, self._arrays
        row_length = arrays.schedule.places[target].strides[0]
        shape = (target.shape[0], row_length) if copy.worthwhile else (0, 0)
        memory, name = arrays.memory(f"B{target.number}", shape, target.dtype), arrays.name(copy.source)
        view = name.removesuffix(".T") if name.endswith(".T") else f"{name}.T"
        self.lines.append(
            f"b{target.number} = transpose(t, T, {view}, {memory}, {arrays.row(0, target.shape)})"
        )

    def _copy(self, copy: Copy) -> None:
        source, target, arrays = copy.source, copy.target, self._arrays
        if target.ndim == 0:
            if not arrays.is_single(source):
                raise TraceError("an element of an array")
            self.lines += ["if t == 0:", f"    {arrays.result(target)} = {arrays.single(source)}"]
        elif arrays.is_single(source) and source.size == 1:
            part = arrays.part(target, copy.start, copy.stop)
            self.lines += ["if t == 0:", f"    {part}[0] = {arrays.single(source)}"]
        elif source.ndim == target.ndim == 1:
            part = arrays.part(target, copy.start, copy.stop)
            self.lines.append(f"copy_state(t, T, {arrays.name(source)}, {part})")
        elif source.shape == target.shape:
            self.lines += ["if t == 0:", f"    {arrays.name(target)}[...] = {arrays.name(source)}"]
        else:
            raise TraceError(f"{copy} has no loop")

    def _all_reduce(self, op: Op) -> None:
        """Sum a vector over all ranks: one thread does it, and the others wait."""
        vector, out = map(self._arrays.name, (op.reads[0], op.out))
        copy = [f"    {out}[...] = {vector}"] if vector != out else []
        self.lines += ["if t == 0:", *copy, f"    sum_over_ranks({self._arrays.sum_of(op)}, {out})"]

    def _tile_update(self, tile: TileUpdate) -> None:
        (a, b), copy, arrays = tile.product.reads, tile.transposed, self._arrays
        row, gradient = arrays.row(tile.start, tile.product.out.shape), arrays.name(tile.gradient)
        if tile.product.name == "multiply":  # of one sample
            product, factor, letter = "tile_outer", arrays.name, "B"
        else:
            product, factor, letter = "tile_gemm", arrays.operand, "b"
        left, right = factor(a), f"{letter}{copy.number}" if copy else factor(b)
        if self._update is None:
            self._update = self._update_of(tile.update, gradient)
        update, arguments = self._update
        scalars = f"scalars_{tile.product.out.dtype}"
        loop = self._function(f"KERNEL = over_tiles({product}, {update})")
        self.lines.append(f"{loop}(t, T, {arguments}, {row}, m, {left}, {right}, {gradient}, {scalars})")

    def _update_ranges(self, kernel: Kernel) -> None:
        """Go over the parts of theta that no tile belongs to."""
        assert self._update is not None
        (update, arguments), first = self._update, self._arrays.rows
        for start, stop in kernel.ranges:
            self._arrays.row(start, (stop - start,))
        loop = self._function(f"KERNEL = over_ranges({update})")
        self.lines.append(f"{loop}(t, T, {arguments}, D, {first}, {self._arrays.rows})")

    def _update_of(self, kernel: Kernel, gradient: str) -> tuple[str, str]:
        source = KernelSource(kernel, self._arrays)
        part = dict.fromkeys(source.arrays, "low:high") | {gradient: "ahead : ahead + high - low"}
        given = [f"{name}[{part[x]}]" if x in part else name for x, name in source.parameters.items()]
        text = f"""@njit(**PLAIN)
def KERNEL(arguments, low, high, ahead):
    {", ".join(source.parameters.values())}, = arguments
    {self._function(source.text)}({", ".join(given)}, 0, 0, 0, high - low)"""
        return self._function(text), f"({', '.join(source.parameters)},)"

    def _function(self, text: str) -> str:
        """Return the name of a function of this text."""
        return self.kernels.setdefault(text, f"k{len(self.kernels)}")
