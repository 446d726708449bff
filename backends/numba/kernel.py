"""A kernel as the source of a function for numba: one loop over the elements of its iteration space."""

import numpy as np

from nnx.backends.numba.arrays import Arrays
from nnx.backends.numba.expressions import REDUCTIONS, expression, indented, number_dtype
from nnx.compiler import Op, Value
from nnx.compiler.ir.graph import Arg
from nnx.compiler.schedule import Kernel


class KernelSource:
    """The function of one kernel.

    Parameters
    ----------
    kernel : Kernel
    arrays : Arrays
        Knows the variables of the step.

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
            if op.kind == "reduction":
                self._reduce(op, f"e{number}")
            else:
                self._compute(op, f"e{number}")
        self.text = self._text()

    def _text(self) -> str:
        two_axes = len(self._kernel.iteration_space) == 2
        rows = [
            *self._row,
            "for j in range(j0, j1):",
            *indented(self._element),
            *self._after_row,
        ]
        body = [
            "i0, i1, j0, j1 = uint64(i0), uint64(i1), uint64(j0), uint64(j1)  # no index counts from the end",
            *self._before,
            *(["for i in range(i0, i1):", *indented(rows)] if two_axes else rows),
            *self._after,
            *([f"return {', '.join(self._elements[x] for x in self.results)},"] if self.results else []),
        ]
        head = f"def KERNEL({', '.join([*self.parameters.values(), 'i0', 'i1', 'j0', 'j1'])}):"
        return "\n".join(["@njit(**PLAIN)", head, *indented(body)])

    def _parameter(self, variable: str) -> str:
        return self.parameters.setdefault(variable, f"p{len(self.parameters)}")

    def _array(self, value: Value) -> str:
        self.arrays.add(self._arrays.name(value))
        return self._parameter(self._arrays.name(value))

    def _index(self, shape: tuple[int, ...]) -> str:
        """Return the indices of an array's element in the loops."""
        space = self._kernel.iteration_space
        letters = ("i", "j")[2 - len(shape) :]
        sizes = space[len(space) - len(shape) :]
        return ", ".join("0" if n != size else k for n, size, k in zip(shape, sizes, letters, strict=True))

    def _read(self, arg: Arg, op: Op) -> str:
        """Return the variable with an argument's element, which is loaded as far out as possible."""
        if (number := self._arrays.schedule.literal(arg)) is not None:
            dtype = arg.dtype if isinstance(arg, Value) else number_dtype(op)
            return self._parameter(self._arrays.number(number, dtype))
        assert isinstance(arg, Value)
        if arg in self._elements:
            return self._elements[arg]
        if self._arrays.is_single(arg):
            return self._parameter(self._arrays.single(arg))
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
            array = self._array(op.out)
            self._element.append(f"{array}[{self._index(op.out.shape)}] = {name}")

    def _reduce(self, op: Op, name: str) -> None:
        """Write a reduction: to one number for all, for each row, or for each column."""
        x, dtype, axes = self._read(op.reads[0], op), op.out.dtype, op.option("axes")
        first, count = self._first(op), None
        if op.name == "mean":
            count = self._parameter(self._arrays.number(op.reads[0].size // op.out.size, dtype))
        cast = f"{dtype}({{}})" if dtype.startswith("int") else "{}"
        of_all = len(axes) == len(self._kernel.iteration_space)
        more = REDUCTIONS[op.name][1]
        if not of_all and axes == (0,):
            array = self._array(op.out)
            place = f"{array}[{'0, j' if op.out.ndim == 2 else 'j'}]"
            self._before += ["for j in range(j0, j1):", f"    {place} = {first}"]
            self._element.append(f"{place} = {cast.format(more.format(place, x))}")
            if count:
                self._after += ["for j in range(j0, j1):", f"    {place} /= {count}"]
            return
        (self._before if of_all else self._row).append(f"{name} = {first}")
        self._element.append(f"{name} = {cast.format(more.format(name, x))}")
        after = self._after if of_all else self._after_row
        if count:
            after.append(f"{name} = {name} / {count}")
        if op.out.ndim == 0:
            self._elements[op.out] = name
            self.results.append(op.out)
        else:
            row = "0" if of_all else "i"
            after.append(f"{self._array(op.out)}[{row}{', 0' * (op.out.ndim - 1)}] = {name}")

    def _first(self, op: Op) -> str:
        """Return what a reduction begins with."""
        first, dtype = REDUCTIONS[op.name][0], op.out.dtype
        if first is not None:
            return str(first.format(T=dtype))
        if dtype.startswith("float"):
            low, high = -np.inf, np.inf
        else:
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return self._parameter(self._arrays.number(low if op.name == "max" else high, dtype))
