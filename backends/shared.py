"""NumPy's calls shared out among threads: each does a part of every long one, of products too, by MKL with one thread.

NumPy by itself has one thread for all but its products: at 1,024 samples the other core has nothing to do for a fifth
of a step.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from nnx.backends.blas import Blas, asked_mkl, lies
from nnx.backends.recorded import Replay, work
from nnx.backends.replay import Calls, with_masks
from nnx.backends.split import ROWS, SAMPLES, Split
from nnx.backends.team import Crew, crew, threads
from nnx.host import quiet
from nnx.recording import Group, Op, Recording, RecordingError, Value, nbytes

LONG = 1 << 16
"""Elements from which it is worth it to wake the other threads up, which takes some 60 us."""

FLOPS = 1 << 23
"""Floating-point operations of products from which it is."""

WORTH = 30e-3
"""Seconds of work on one core from which all of this is."""

FEW = 32
"""Rows or columns of the largest product below which its time is that of reading a factor."""

Product: TypeAlias = Callable[..., None]
"""product(a, b, out) writes a b into out, with True behind it adds it; in one thread, and others go on meanwhile."""


def by_threads(recording: Recording) -> Replay:
    """Return the recorded function as NumPy's calls, which the threads share.

    Raises
    ------
    RecordingError
        When it is too short for that, or there is one thread only, or no MKL: NumPy's own products have threads of
        their own, which would be in the way.
    """
    largest = max((op.out for op in recording.ops if op.kind == "matmul"), key=lambda x: x.size, default=None)
    few = largest is None or min(largest.shape) < FEW
    if few or work(recording) < WORTH or threads() == 1:
        raise RecordingError("nothing for several threads")
    mkl = asked_mkl()
    if mkl is None:
        raise RecordingError("no products of one thread")
    function: Replay = quiet()(Shared(with_masks(recording), product(mkl)).function())
    return function


class Shared(Calls):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """The calls; those that are done together as functions part(t, T, sync) for thread t of T.

    From the samples to the last dZ a thread needs nothing of the others' samples, so it goes through all of it alone.
    What it makes of its own lies in one piece: in rows of half their length NumPy takes three times as long.
    """

    piece = 1 << 17  # a call more is a moment more in which the threads wait for the interpreter's lock

    def __init__(self, recording: Recording, product: Product) -> None:
        self._split, self._T = Split(recording), threads()
        super().__init__(self._split.sorted())
        self.names: dict[Value, str]
        self.lines: list[str]
        self._crew: Crew | None = None
        self._cut = ""  # what stands behind an array of which each thread does a share
        self._pieces = self._in_pieces()
        self.globals |= {"share": share, "together": self._together, "product": product}

    def function(self) -> Replay:
        """Return the function, which has the threads for as long as it runs."""
        run = super().function()

        def shared(*arguments: Any, over: bool = False) -> Any:
            with crew() as self._crew:
                return run(*arguments, over=over)

        return shared

    def _together(self, part: Callable[..., Any]) -> None:
        if self._crew is None or self._crew.T != self._T:  # another step has them
            for t in range(self._T):
                part(t, self._T, None)
        else:
            # Of what NumPy warns each thread has a setting of its own.
            self._crew.do(np.errstate(**np.geterr())(part), (), None)

    def joined(self, groups: list[Group]) -> list[Group]:
        """Return what is done together as one group, within which no buffer is used again."""
        together: list[Group] = self._split.joined(groups)
        return together

    def over(self, op: Op) -> tuple[Value, ...]:
        """Return the arguments over which the result can be written: what no thread reads of another's share."""
        return tuple(x for x in super().over(op) if x not in self._split.whole)

    def _in_pieces(self) -> set[Value]:
        """Return what lies as each thread's own piece: what is read by samples, or in sums over all of them."""
        found = {op.out for group in self._groups if self._way(group) == SAMPLES for op in group.ops}
        found -= {*self.plan.parts, *self.constants, *map(self.recording.base, self.recording.outputs)}
        for group in self._groups:
            for op in group.ops:
                for place, x in enumerate(op.reads):
                    base, way = self.recording.base(x), self._way(group)
                    own = way == SAMPLES and x == base and x in self._split.cut(op, SAMPLES)
                    if not own and not (way == ROWS and self._is_summed(op, place)):
                        found.discard(base)
        owners: dict[Value, set[Value]] = {}
        for op in self.recording.ops:
            if op.kind != "view":
                owners.setdefault(self.plan.owner(op.out), set()).add(op.out)
        return found - {x for those in owners.values() if not those <= found for x in those}

    def _is_summed(self, op: Op, place: int) -> bool:
        """Whether an operation by rows sums over the samples of what it reads there."""
        x, views = op.reads[place], self.recording.views(op.reads[place])
        if op.kind == "matmul" and len(op.reads) == 2:
            return [view.name for view in views] == ([] if place == 0 else ["permute"])
        return op.name == "sum" and not views and x.dtype in FLOATS and self._in_one_piece(op.out)

    def _way(self, group: Group) -> int | None:
        """Return the axis that is cut in a group which the threads share."""
        return self._split.way(group.ops[0]) if group.space is None and _is_long(group) else None

    def name(self, value: Value) -> str:
        """Return the name of the variable that is the value, or all of its pieces."""
        if value in self._pieces and value not in self.names:
            memory, pieces = self._buffers[self.plan.buffer[self.plan.owner(value)]], []
            for low, high in self._shares():
                piece = Value(value.number, (value.shape[0], high - low), value.dtype)
                pieces.append(self.shaped(memory, piece))
                memory = memory[nbytes(piece) :]
            self._global(value, pieces)
        name: str = super().name(value)
        return name

    def _shares(self) -> list[tuple[int, int]]:
        return [share(self._split.m, t, self._T, 16) for t in range(self._T)]

    def add(self, group: Group) -> None:
        """Add a group's calls."""
        axis = self._way(group)
        if axis is not None:
            self._part(group, axis)
        elif group.space is None:
            for op in group.ops:
                self.write(op)
        else:
            super().add(group)

    def _part(self, group: Group, axis: int) -> None:
        arrays = {x for op in group.ops for x in (*op.reads, op.out)}
        for x in sorted(arrays, key=lambda x: x.number):
            if self.recording.base(x) == x or self.recording.base(x) not in self._pieces:
                self.name(x)  # before the lines
        names: dict[Value, str] = self.names
        outer: list[str] = self.lines
        self.lines = []
        self._cut = "[:, low:high]" if axis == SAMPLES else "[low:high]"
        before = None
        for op in group.ops:
            if op.out.shape[axis] != before:
                before = op.out.shape[axis]
                self.lines.append(f"low, high = share({before}, t, T, {16 if axis == SAMPLES else 1})")
            if axis == ROWS and any(self.recording.base(x) in self._pieces for x in op.reads):
                self._sum(op)
                continue
            cut = {
                x: f"{names[x]}{'[t]' if x in self._pieces else self._cut}" for x in self._split.cut(op, axis)
            }
            self.names = names | cut
            if op.kind == "matmul":
                a, b = (op.reads * 2)[:2]
                given = (cut[a], names[b]) if axis == ROWS else (names[a], cut[b])
                self.lines.append(f"product({', '.join(given)}, {cut[op.out]})")
            else:
                super().write(op)
            self.names = names
        body, self.lines, self._cut = self.lines, outer, ""
        self._do(*body)

    def _sum(self, op: Op) -> None:
        """Add a product, or a sum, over the samples: piece by piece."""
        out = f"{self.name(op.out)}[low:high]"
        more = ""
        for t, (first, last) in enumerate(self._shares()):
            if first == last:
                continue  # more threads than there are samples
            factors = []
            for x in op.reads:
                base = self.recording.base(x)
                if base in self._pieces:
                    factors.append(f"{self.name(base)}[{t}]{'[low:high]' if base == x else '.T'}")
                else:
                    rows = "low:high, " if not factors else ""
                    factors.append(f"{self.name(x)}[{rows}{first}:{last}]")
            if op.kind == "reduction":
                ones = f"ones_{op.out.dtype}_{last - first}"
                self.globals[ones] = np.ones(last - first, op.out.dtype)
                factors.append(ones)
            to = f"{out}.reshape(-1)" if op.kind == "reduction" else out
            self.lines.append(f"product({', '.join(factors)}, {to}{more})")
            more = ", True"

    def _do(self, *lines: str) -> None:
        self.lines += ["def part(t, T, sync):", *(f"    {line}" for line in lines), "together(part)"]

    def write(self, op: Op) -> None:
        """Add an operation's calls."""
        if op.kind == "matmul" and self._split.way(op) is not None:
            a, b = (op.reads * 2)[:2]
            self.lines.append(f"product({self.name(a)}, {self.name(b)}, {self.name(op.out)})")
        else:
            super().write(op)

    def _by_pieces(self, group: Group) -> None:
        (size,) = group.ops[0].out.shape
        outer, self.lines = self.lines, []
        super()._by_pieces(group)
        at = next(at for at, line in enumerate(self.lines) if line.startswith("for "))
        (_, _, *body), self.lines = self.lines[at:], [*outer, *self.lines[:at]]
        self._do(
            f"first, last = share({size}, t, T, 16)",
            f"for low in range(first, last, {self.piece}):",
            f"    high = min(low + {self.piece}, last)",
            *body,
        )

    def _between(self, owner: Value, piece: Value) -> str:
        """Return each thread's own memory for a piece of what comes between."""
        each = Value(piece.number, (self._T, *piece.shape), piece.dtype)
        self.globals[f"v{piece.number}"] = self.shaped(self.bytes(nbytes(each)), each)
        return f"v{piece.number}[t]"

    def _zeros(self, value: Value) -> str:
        return f"{super()._zeros(value)}{self._cut}"


def _is_long(group: Group) -> bool:
    elements = sum(op.out.size for op in group.ops)
    flops = sum(2 * op.out.size * op.reads[0].shape[1] for op in group.ops if op.kind == "matmul")
    return elements >= LONG or flops >= FLOPS


def share(size: int, t: int, T: int, unit: int) -> tuple[int, int]:
    """Return where the t-th of T shares begins and ends, each of so many units, and much the same for all."""
    units = -(-size // unit)
    return min(units * t // T * unit, size), min(units * (t + 1) // T * unit, size)


FLOATS = ("float32", "float64")

BY_ROWS, PLAIN, TURNED = 101, 111, 112
"""CBLAS's words for: row by row, as it is, and transposed."""


def product(blas: Blas) -> Product:
    """Return the product of matrices, or of one and a vector, by a BLAS; rows of `out` lie in one piece each."""

    def multiplied(a: Any, b: Any, out: Any, more: bool = False) -> None:
        (a, turn, line), (gemm, gemv) = _taken(a), functions[out.dtype]
        if b.ndim == 1:
            rows, columns = a.shape if turn == PLAIN else a.shape[::-1]  # as they lie
            where = a.ctypes.data, line, b.ctypes.data, b.strides[0] // b.itemsize
            gemv(BY_ROWS, turn, rows, columns, 1.0, *where, float(more), out.ctypes.data, 1)
            return
        (b, turn_b, line_b), (m, n), k = _taken(b), out.shape, a.shape[1]
        where, to = (a.ctypes.data, line, b.ctypes.data, line_b), max(out.strides[0] // out.itemsize, n)
        gemm(BY_ROWS, turn, turn_b, m, n, k, 1.0, *where, float(more), out.ctypes.data, to)

    functions = {np.dtype(dtype): both for dtype, both in blas.cblas.items()}
    return multiplied


def _taken(x: Any) -> tuple[Any, int, int]:
    """Return a matrix as BLAS can take it, PLAIN or TURNED, and how many elements lie from one line to the next."""
    found = lies(x)
    if found is None:
        return np.ascontiguousarray(x), PLAIN, max(x.shape[1], 1)
    turned, line = found
    return x, TURNED if turned else PLAIN, line
