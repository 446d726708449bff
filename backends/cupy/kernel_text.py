"""What all kernels have in common: arguments, elements loaded and stored, and the function around the lines."""

import re
from typing import Any

from nnx.backends.cupy.expressions import expression, literal
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import THREADS, flat_blocks
from nnx.backends.cupy.step import Argument, Launch
from nnx.compiler import Op, TraceError, Value
from nnx.compiler.ir.graph import Arg
from nnx.compiler.schedule import Copy, Kernel

Index = tuple[str, ...]
"""The variables with the index of an element along each axis of the iteration space."""


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Return the lines further to the right."""
    return ["    " * depth + line for line in lines]


class KernelText:
    """A kernel on its way to a text: what it is called with, and the variables that hold elements.

    The text has KERNEL for the kernel's name, so that kernels of one form have the same text.
    """

    threads = THREADS
    barriers = False

    def __init__(self, form: Form) -> None:
        self.form = form
        self.arguments: dict[Argument, str] = {}
        self.written: set[Argument] = set()
        self.shared: set[Argument] = set()  # what several blocks write and read
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
        body = indented(self.lines())
        numbers, parameters = list(self.numbers), [self._declared(x) for x in self.arguments]
        parameters += [f"{dtype} c{k}" for k, (dtype, _) in enumerate(numbers)]
        if any(re.search(r"\bm\b", line) for line in body):
            parameters.append("uint32 m")
            numbers.append(("uint32", self.form.m))
        head = (
            f'extern "C" __global__ void __launch_bounds__({self.threads}) KERNEL({", ".join(parameters)}) {{'
        )
        launch = Launch(
            "KERNEL", self.grid(), self.threads, tuple(self.arguments), tuple(numbers), self.barriers
        )
        return "\n".join([head, *body, "}", ""]), launch

    def _declared(self, argument: Argument) -> str:
        kind = "volatile " if argument in self.shared else "" if argument in self.written else "const "
        return f"{kind}{argument.dtype}* __restrict__ {self.arguments[argument]}"

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
        place = self.form.place(value)
        name = self.pointer(Argument(place.memory, place.offset, place.dtype), written)
        return f"{name}[{self._offset(value, index) or '0'}]"

    def _offset(self, value: Value, index: Index) -> str:
        """Return the sum of indices times strides; a value of fewer axes is read along the last ones."""
        if any(stride < 0 for stride in self.form.schedule.place(value).strides):
            raise TraceError(f"{value} is read from its end")
        strides = zip(index[len(index) - value.ndim :], self.form.strides(value), value.shape, strict=True)
        terms = [(k, stride) for k, stride, n in strides if n > 1 and stride != "0"]
        return " + ".join(k if stride == "1" else f"{k} * {stride}" for k, stride in terms)

    def read(self, arg: Arg, op: Op, k: int, index: Index) -> str:
        """Return argument k of an operation, at an index."""
        number = self.form.schedule.literal(arg)
        if number is not None:
            dtype = op.out.dtype if op.name == "where" else op.reads[0].dtype
            return self._number(
                arg.dtype if isinstance(arg, Value) else dtype, number, self.form.depends(op, k)
            )
        assert isinstance(arg, Value)
        return self.load(arg, index)

    def load(self, value: Value, index: Index) -> str:
        """Return a value's element: a variable that holds it, a constant, or in memory."""
        base = self.form.graph.base(value)
        if base in self.variables:
            return self.variables[base]
        if base in self.form.constants and (text := self._constant(value, base, index)) is not None:
            return text
        return self.element(value, index)

    def _number(self, dtype: str, number: Any, depends: bool) -> str:
        if not depends:
            return str(literal(number, dtype))
        self.numbers.append((dtype, number))
        return f"c{len(self.numbers) - 1}"

    def _constant(self, value: Value, base: Value, index: Index) -> str | None:
        """Return an element of a constant that need not lie in memory."""
        op = self.form.graph.makers[base]
        if op.name == "full":
            return str(literal(op.option("value"), base.dtype))
        place = self.form.schedule.place(value)
        if op.name == "arange" and min(place.strides, default=0) >= 0:
            step, start = op.option("step"), op.option("start") + op.option("step") * place.offset
            index_there = self._offset(value, index) or "0"
            return f"{base.dtype}({start} + {step} * {base.dtype}({index_there}))"
        return None

    def store(self, value: Value, index: Index, text: str) -> str:
        """Return the line that writes an element."""
        return f"{self.element(value, index, written=True)} = {text};"

    def compute(self, op: Op, index: Index, kept: bool) -> list[str]:
        """Return the lines of an elementwise operation, whose result is stored if it is kept."""
        text = expression(op, [self.read(arg, op, k, index) for k, arg in enumerate(op.args)])
        name = self.variables[op.out] = self.name(op.out)
        lines = [f"const {op.out.dtype} {name} = {text};"]
        return [*lines, self.store(op.out, index, name)] if kept else lines


class KernelOf(KernelText):
    """The text of a kernel of the schedule."""

    def __init__(self, form: Form, kernel: Kernel) -> None:
        super().__init__(form)
        self.kernel = kernel
        self.space = kernel.iteration_space

    def computed(self, op: Op, index: Index) -> list[str]:
        """Return the lines of an elementwise operation."""
        return self.compute(op, index, op.out not in self.kernel.internal)

    def sizes(self) -> tuple[str, ...]:
        """Return the elements along each axis of the iteration space."""
        op = self.kernel.ops[0]
        value = op.reads[0] if op.kind == "reduction" else op.out
        return tuple(self.form.size(value, axis) for axis in range(len(self.space)))

    def dense_axis(self) -> int:
        """Return the axis along which elements lie next to each other: of most of the arrays as large as the space."""
        votes = [0, 0]
        for x in {x for op in self.kernel.ops for x in (*op.reads, op.out)} - self.kernel.internal:
            if x.shape == self.space and self.form.graph.base(x) not in self.form.constants:
                strides = self.form.schedule.place(x).strides
                axes = [axis for axis in (0, 1) if strides[axis] == 1 and x.shape[axis] > 1]
                votes[axes[0] if axes else 1] += 1
        return 0 if votes[0] > votes[1] else 1


class Numbers(KernelOf):
    """Single numbers, by one thread."""

    threads = 1

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        return [line for op in self.kernel.ops for line in self.computed(op, ("0", "0"))]

    def grid(self) -> int:
        """Return the number of blocks."""
        return 1


class Flat(KernelOf):
    """Elements that do not need each other, in the order in which they lie."""

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        where, index = split(self)
        inner = [line for op in self.kernel.ops for line in self.computed(op, index)]
        return flat_loop(self.form.size(self.kernel.ops[0].out), where + inner)

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(flat_blocks(self.kernel.ops[0].out.size))


class CopyText(KernelText):
    """Elements copied into other values, or parts of them: one copy after the other."""

    def __init__(self, form: Form, copies: tuple[Copy, ...]) -> None:
        super().__init__(form)
        self.copies = copies

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        return [line for copy in self.copies for line in self._copied(copy)]

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(flat_blocks(max(copy.source.size for copy in self.copies)))

    def _copied(self, copy: Copy) -> list[str]:
        source, target = copy.source, copy.target
        if target.ndim > 2:
            raise TraceError(f"a copy of {target.ndim} axes has no kernel")
        index: Index = ("e",)
        where: list[str] = []
        if source.ndim == 2:
            columns = self.form.size(source, 1)
            index, where = ("i", "j"), [f"const uint32 i = e / {columns}, j = e - i * {columns};"]
        name = self.name(source)
        to = tuple(
            f"({k} + {copy.start})" if a == copy.axis and copy.start else k for a, k in enumerate(index)
        )
        lines = [f"const {source.dtype} {name} = {self.load(source, index)};", self.store(target, to, name)]
        return flat_loop(self.form.size(source), where + lines)


def split(text: KernelOf) -> tuple[list[str], Index]:
    """Return the lines that make indices of the number e of an element, and these indices."""
    if len(text.space) < 2:
        return [], ("e",)
    dense = text.dense_axis()
    size, (inner, outer) = text.sizes()[dense], ("ij", "ji")[dense]
    return [f"const uint32 {outer} = e / {size}, {inner} = e - {outer} * {size};"], ("i", "j")


def flat_loop(size: str, lines: list[str]) -> list[str]:
    """Return a loop of all threads over the numbers e of elements."""
    step = f"e += gridDim.x * {THREADS}"
    return [
        f"for (uint32 e = blockIdx.x * {THREADS} + threadIdx.x; e < {size}; {step}) {{",
        *indented(lines),
        "}",
    ]
