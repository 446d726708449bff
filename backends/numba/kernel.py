"""A kernel as the source of a function for numba: one loop over the elements of its iteration space."""

from nnx.backends.numba.arrays import Arrays
from nnx.backends.numba.expressions import REDUCTIONS, expression, first, indented
from nnx.compiler import Op, Value
from nnx.compiler.ir.graph import Arg
from nnx.compiler.schedule import Kernel


class KernelSource:
    """The function of one kernel.

    Attributes
    ----------
    text : str
        The function's source, with KERNEL for its name: kernels of one form have the same text.
    parameters : dict of str to str
        The function's parameter for each of the step's variables that it is called with. Behind them it takes i0, i1,
        j0 and j1: the rows and columns that it goes over.
    arrays : set of str
        The variables that are arrays.
    results : list of Value
        The single numbers that the function returns.
    """

    def __init__(self, kernel: Kernel, arrays: Arrays) -> None:
        self._kernel, self._arrays = kernel, arrays
        self.parameters: dict[str, str] = {}
        self.arrays: set[str] = set()
        self.results: list[Value] = []
        self._elements: dict[Value, str] = {}  # the variable with a value's element
        # Lines: before both loops, in a row before its columns, for an element, behind the columns, behind both loops.
        self._before: list[str] = []
        self._row: list[str] = []
        self._element: list[str] = []
        self._after_row: list[str] = []
        self._after: list[str] = []
        for number, op in enumerate(kernel.ops):
            (self._reduce if op.kind == "reduction" else self._compute)(op, f"e{number}")
        self.text = self._text()

    def _text(self) -> str:
        rows = [*self._row, "for j in range(j0, j1):", *indented(self._element), *self._after_row]
        if len(self._kernel.iteration_space) == 2:
            rows = ["for i in range(i0, i1):", *indented(rows)]
        body = [
            "i0, i1, j0, j1 = uint64(i0), uint64(i1), uint64(j0), uint64(j1)  # no index counts from the end",
            *self._before,
            *rows,
            *self._after,
            *([f"return {', '.join(self._elements[x] for x in self.results)},"] if self.results else []),
        ]
        head = f"def KERNEL({', '.join([*self.parameters.values(), 'i0', 'i1', 'j0', 'j1'])}):"
        return "\n".join(["@njit(**PLAIN)", head, *indented(body)])

    def _parameter(self, variable: str) -> str:
        return self.parameters.setdefault(variable, f"p{len(self.parameters)}")

    def _array(self, value: Value) -> str:
        name = self._arrays.name(value)
        self.arrays.add(name)
        return self._parameter(name)

    def _index(self, shape: tuple[int, ...]) -> str:
        """Return the indices of an array's element in the loops."""
        space = self._kernel.iteration_space
        letters, sizes = ("i", "j")[2 - len(shape) :], space[len(space) - len(shape) :]
        return ", ".join("0" if n != size else k for n, size, k in zip(shape, sizes, letters, strict=True))

    def _read(self, arg: Arg, op: Op) -> str:
        """Return the variable with an argument's element, which is loaded as far out as possible."""
        if isinstance(arg, Value) and arg in self._elements:
            return self._elements[arg]
        if (number := self._arrays.scalar(arg, op)) is not None:
            return self._parameter(number)
        assert isinstance(arg, Value)
        array, index = self._array(arg), self._index(arg.shape)
        name = self._elements[arg] = f"a{len(self._elements)}"
        (self._element if index.endswith("j") else self._row).append(f"{name} = {array}[{index}]")
        return name

    def _compute(self, op: Op, name: str) -> None:
        """Write an elementwise operation."""
        args = [self._read(arg, op) for arg in op.args]
        self._element.append(f"{name} = {expression(op, args)}")
        self._elements[op.out] = name
        if op.out not in self._kernel.internal:
            self._element.append(f"{self._array(op.out)}[{self._index(op.out.shape)}] = {name}")

    def _reduce(self, op: Op, name: str) -> None:
        """Write a reduction: to one number for all, for each row, or for each column."""
        x, dtype, axes = self._read(op.reads[0], op), op.out.dtype, op.option("axes")
        of_all = len(axes) == len(self._kernel.iteration_space)
        of_columns = not of_all and axes == (0,)
        if of_columns:
            name = f"{self._array(op.out)}[{'0, j' if op.out.ndim == 2 else 'j'}]"
        before, after = (self._before, self._after) if of_all or of_columns else (self._row, self._after_row)
        loop, more = "for j in range(j0, j1): " * of_columns, REDUCTIONS[op.name][1].format(name, x)
        before.append(f"{loop}{name} = {first(op)}")
        self._element.append(f"{name} = {dtype}({more})" if dtype.startswith("int") else f"{name} = {more}")
        if op.name == "mean":
            count = self._parameter(self._arrays.number(op.reads[0].size // op.out.size, dtype))
            after.append(f"{loop}{name} = {name} / {count}")
        if op.out.ndim == 0:
            self._elements[op.out] = name
            self.results.append(op.out)
        elif not of_columns:
            row = "0" if of_all else "i"
            after.append(f"{self._array(op.out)}[{row}{', 0' * (op.out.ndim - 1)}] = {name}")
