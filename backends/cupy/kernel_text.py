"""What all kernels have in common: arguments, elements loaded and stored, and the function around the lines."""

import re
from typing import Any

from nnx.backends.cupy.expressions import combine, expression, first, literal
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import THREADS
from nnx.backends.cupy.step import SCRATCH, Argument, Launch
from nnx.compiler import Op, TraceError, Value
from nnx.compiler.ir.graph import Arg
from nnx.compiler.schedule import Kernel

Index = tuple[str, ...]
"""The variables with the index of an element along each axis of the iteration space."""


def indented(lines: list[str]) -> list[str]:
    """Return the lines further to the right."""
    return ["    " + line for line in lines]


def block(head: str, lines: list[str]) -> list[str]:
    """Return a loop or a condition with the lines in it."""
    return [f"{head} {{", *indented(lines), "}"]


class KernelText:
    """A kernel on its way to a text: what it is called with, and the variables that hold elements.

    The text has KERNEL for the kernel's name, so that kernels of one form have the same text.
    """

    threads = THREADS

    def __init__(self, form: Form) -> None:
        self.form = form
        self.arguments: dict[Argument, str] = {}
        self.written: set[Argument] = set()
        self.numbers: list[tuple[str, Any]] = []
        self.variables: dict[Value, str] = {}
        self._names: dict[Value, int] = {}

    # What derived classes write.

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        raise NotImplementedError

    def grid(self) -> int:
        """Return the number of blocks."""
        raise NotImplementedError

    # The whole.

    def rendered(self) -> tuple[str, Launch]:
        """Return the text, and the launch of a kernel whose name is still KERNEL."""
        body = self.lines()
        numbers, parameters = list(self.numbers), [self._declared(x) for x in self.arguments]
        parameters += [f"{dtype} c{k}" for k, (dtype, _) in enumerate(numbers)]
        if any(re.search(r"\bm\b", line) for line in body):
            parameters.append(f"{self.form.index} m")
            numbers.append((self.form.index, self.form.m))
        head = f'extern "C" __global__ void __launch_bounds__({self.threads}) KERNEL({", ".join(parameters)})'
        launch = Launch("KERNEL", self.grid(), self.threads, tuple(self.arguments), tuple(numbers))
        return "\n".join([*block(head, body), ""]), launch

    def _declared(self, argument: Argument) -> str:
        name = self.arguments[argument]
        if argument.memory == SCRATCH:  # other blocks read and write it, too
            return f"volatile {argument.dtype}* {name}"
        return f"{'' if argument in self.written else 'const '}{argument.dtype}* __restrict__ {name}"

    @property
    def thread(self) -> str:
        """The number of a thread among those of all blocks."""
        return f"{self.form.index}(blockIdx.x) * {THREADS} + threadIdx.x"

    def each(self, size: str) -> str:
        """Return the head of a loop of all threads over the numbers e of elements."""
        index = self.form.index
        return f"for ({index} e = {self.thread}; e < {size}; e += {index}(gridDim.x) * {THREADS})"

    # Elements.

    def name(self, value: Value, letter: str = "v") -> str:
        """Return a name for what holds a value: the first that the kernel makes is number 0."""
        return f"{letter}{self._names.setdefault(value, len(self._names))}"

    def pointer(self, argument: Argument, written: bool = False) -> str:
        """Return the name of an argument."""
        if written:
            self.written.add(argument)
        return self.arguments.setdefault(argument, f"p{len(self.arguments)}")

    def element(self, value: Value, index: Index, written: bool = False) -> str:
        """Return the element of a value in memory."""
        place = self.form.schedule.place(value)
        name = self.pointer(Argument(place.memory, place.offset, place.dtype), written)
        return f"{name}[{self._offset(value, index) or '0'}]"

    def _offset(self, value: Value, index: Index) -> str:
        """Return the sum of indices times strides; along an axis of 1 there is none.

        A value of fewer axes is read along the last ones.
        """
        if any(stride < 0 for stride in self.form.schedule.place(value).strides):
            raise TraceError(f"{value} is read from its end")
        strides = zip(index[len(index) - value.ndim :], self.form.strides(value), value.shape, strict=True)
        terms = [(k, stride) for k, stride, n in strides if n > 1 and stride != "0"]
        return " + ".join(k if stride == "1" else f"{k} * {stride}" for k, stride in terms)

    def read(self, op: Op, k: int, index: Index) -> str:
        """Return argument k of an operation, at an index."""
        arg: Arg = op.args[k]
        number = self.form.schedule.literal(arg)
        if number is None:
            assert isinstance(arg, Value)
            return self.load(arg, index)
        of = arg if isinstance(arg, Value) else op.out if op.name == "where" else op.reads[0]
        if not self.form.depends(op, k):
            return str(literal(number, of.dtype))
        self.numbers.append((of.dtype, number))
        return f"c{len(self.numbers) - 1}"

    def load(self, value: Value, index: Index) -> str:
        """Return a value's element: a variable that holds it, a constant, or in memory."""
        base = self.form.graph.base(value)
        if base in self.variables:
            return self.variables[base]
        if base in self.form.constants and (text := self._constant(value, base, index)) is not None:
            return text
        return self.element(value, index)

    def _constant(self, value: Value, base: Value, index: Index) -> str | None:
        """Return an element of a constant that need not lie in memory."""
        op = self.form.graph.makers[base]
        if op.name == "full":
            return str(literal(op.option("value"), base.dtype))
        place = self.form.schedule.place(value)
        if op.name == "arange" and min(place.strides, default=0) >= 0:
            step, start = op.option("step"), op.option("start") + op.option("step") * place.offset
            return f"{base.dtype}({start} + {step} * {base.dtype}({self._offset(value, index) or '0'}))"
        return None

    def store(self, value: Value, index: Index, text: str) -> str:
        """Return the line that writes an element."""
        return f"{self.element(value, index, written=True)} = {text};"

    def compute(self, op: Op, index: Index) -> str:
        """Return the line that computes an element of an elementwise operation."""
        text = expression(op, [self.read(op, k, index) for k in range(len(op.args))])
        name = self.variables[op.out] = self.name(op.out)
        return f"const {op.out.dtype} {name} = {text};"

    def computed(self, kernel: Kernel, op: Op, index: Index) -> list[str]:
        """Return the lines of an elementwise operation, which store what other kernels read."""
        return [self.compute(op, index), *self.kept(kernel, op, index)]

    def kept(self, kernel: Kernel, op: Op, index: Index, condition: str = "") -> list[str]:
        """Return the line that stores a result, if other kernels read it."""
        if op.out in kernel.internal:
            return []
        return [condition + self.store(op.out, index, self.variables[op.out])]

    # Reductions.

    def total(self, op: Op) -> str:
        """Return the line that declares what a thread has of a reduction so far."""
        return f"{op.out.dtype} {self.name(op.out, 's')} = {first(op)};"

    def take(self, op: Op, index: Index) -> str:
        """Return the line that takes one more element."""
        total = self.name(op.out, "s")
        return f"{total} = {combine(op)}({total}, {self.read(op, 0, index)});"

    def result(self, op: Op) -> str:
        """Return the line that makes the result: of a mean the total over the number of terms."""
        text, name, axes = self.name(op.out, "s"), self.name(op.out), op.option("axes")
        self.variables[op.out] = name
        if op.name == "mean":
            x = op.reads[0]
            count = self.form.size(x) if len(axes) == x.ndim else self.form.size(x, axes[0])
            text = f"{text} / {op.out.dtype}({count})"
        return f"const {op.out.dtype} {name} = {text};"


def whole(kernel: Kernel) -> Value:
    """Return a value as large as a kernel's iteration space."""
    op = kernel.ops[0]
    return op.reads[0] if op.kind == "reduction" else op.out


class KernelOf(KernelText):
    """The text of a kernel of the schedule."""

    def __init__(self, form: Form, kernel: Kernel) -> None:
        super().__init__(form)
        self.kernel = kernel
        self.whole = whole(kernel)

    def indices(self) -> tuple[list[str], Index]:
        """Return the lines that make indices of the number e of an element, and these indices."""
        if self.whole.ndim < 2:
            return [], ("e",)
        dense = self.dense_axis()
        size, (inner, outer) = self.form.size(self.whole, dense), ("ij", "ji")[dense]
        return [f"const {self.form.index} {outer} = e / {size}, {inner} = e - {outer} * {size};"], ("i", "j")

    def dense_axis(self) -> int:
        """Return the axis along which elements lie next to each other: of most of the arrays as large as the space."""
        votes = [0, 0]
        for x in {x for op in self.kernel.ops for x in (*op.reads, op.out)} - self.kernel.internal:
            if x.shape == self.whole.shape and self.form.graph.base(x) not in self.form.constants:
                strides = self.form.schedule.place(x).strides
                axes = [axis for axis in (0, 1) if strides[axis] == 1 and x.shape[axis] > 1]
                votes[axes[0] if axes else 1] += 1
        return 0 if votes[0] > votes[1] else 1
