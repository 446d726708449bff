"""A graph done again with NumPy: each operation one call, with `out=`, into a buffer planned beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.backends.calls.program_cache import Replay, pool
from nnx.backends.calls.renderer import Lowering
from nnx.compiler import Graph, Op, TraceError, Value, nbytes

_UFUNCS = {"round": np.rint, "abs": np.absolute}
_REDUCTIONS = {
    "sum": np.add, "mean": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "all": np.logical_and, "any": np.logical_or,
}  # fmt: skip


def replay(graph: Graph) -> Replay:
    """Return the traced function as a list of NumPy's calls, none of which allocates an array.

    Raises
    ------
    TraceError
        When an operation is not known here.
    """
    function: Replay = quiet()(Calls(with_masks(graph)).function())
    return function


def with_masks(graph: Graph) -> Graph:
    """Return the graph with products by truth values as they are, where they were made numbers first.

    NumPy makes them numbers on the way, some thousands at a time, which stay in the cache. As an array they would be
    written where the other thread's part of some product lies, line by line fetched from that core: of f'(Z) of 512
    units and 1024 samples a millisecond, twenty times what the arithmetic takes.
    """
    masks: dict[Any, Any] = {
        op.out: op.reads[0] for op in graph.ops if op.name == "astype" and op.reads[0].dtype == "bool"
    }
    for value in graph.outputs:
        masks.pop(graph.base(value), None)
    for op in graph.ops:
        numbers = [x for x in op.reads if x not in masks]
        if op.name != "multiply" or len(op.reads) != 2 or [x.dtype for x in numbers] != [op.out.dtype]:
            for x in op.reads:
                masks.pop(x, None)
    ops = tuple(
        Op(op.name, tuple(masks.get(x, x) for x in op.args), op.out, op.options)
        for op in graph.ops
        if op.out not in masks
    )
    return Graph(graph.inputs, ops, graph.arguments, graph.result)


class Calls(Lowering):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """NumPy's calls."""

    piece = 1 << 16  # fewer calls cost more than a core's own cache gains; what all share holds some of these
    copy, permuted, broadcast = ".copy()", "{0}.transpose({1})", "broadcast_to({0}, {1})"

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.globals |= {
            "copyto": np.copyto, "dot": np.dot, "matmul": np.matmul, "broadcast_to": np.broadcast_to,
        }  # fmt: skip

    def bytes(self, size: int) -> Any:
        """Return new memory."""
        return aligned(size)

    def shaped(self, memory: Any, value: Value) -> Any:
        """Return the beginning of a memory as an array."""
        return memory[: nbytes(value)].view(value.dtype).reshape(value.shape)

    def array(self, x: Any) -> Any:
        """Return it as it is."""
        return x

    def is_view(self, x: Any, of: Any) -> bool:
        """Whether an array lies in the memory of another."""
        return np.may_share_memory(x, of)

    def result(self, value: Value) -> Callable[[], Any]:
        """Return a pool."""
        return pool(value.shape, value.dtype)  # type: ignore[no-any-return]

    def over(self, op: Op) -> tuple[Value, ...]:
        """Return the arguments over which NumPy can write the result."""
        if op.name == "where":  # is a copy of its last, over which the other is written
            return op.reads[-1:] if isinstance(op.args[2], Value) and op.args[2] not in op.args[:2] else ()
        return op.reads if op.kind == "elementwise" else ()

    def write(self, op: Op) -> None:
        """Add an operation's calls."""
        out = self.name(op.out)
        dtype = op.out.dtype if op.name == "where" or not op.reads else op.reads[0].dtype
        args = [self.name(x) if isinstance(x, Value) else self.scalar(x, dtype) for x in op.args]
        kind = op.kind
        if op.name == "where":
            if out != args[2]:
                self.lines.append(f"copyto({out}, {args[2]})")
            self.lines.append(f"copyto({out}, {args[1]}, where={args[0]})")
        elif op.name == "astype":
            self.lines.append(f"copyto({out}, {args[0]}, 'unsafe')")
        elif op.name == "copy":
            self.lines.append(f"copyto({out}, {args[0]})")
        elif kind == "elementwise":
            if (
                op.name in ("maximum", "minimum")
                and args[1:] == [self.scalar(0.0, dtype)]
                and op.out.ndim > 1
            ):
                args[1] = self._zeros(op.out)
            ufunc = _UFUNCS.get(op.name) or getattr(np, op.name)
            self.globals[op.name] = ufunc
            self.lines.append(f"{op.name}({', '.join(args)}, out={out})")
        elif kind == "matmul":
            product = "dot" if op.out.ndim == 2 and self._in_one_piece(op.out) else "matmul"
            line = f"{product}({args[0]}, {args[1]}, {out})"
            if self.narrow(op):
                a, b = args
                turned = f"dot({b}.T, {a}.T, {{0}})", f"copyto({out}, {{0}}.T)"
                self.lines += self.turned(op, f"{b}.flags.f_contiguous", *turned, line)
            else:
                self.lines.append(line)
        elif kind == "concat":
            for x, start, stop in self.misplaced(op):
                key = f"j{op.out.number}_{start}"
                self.globals[key] = (slice(None),) * op.option("axis") + (slice(start, stop),)
                self.lines.append(f"copyto({out}[{key}], {self.name(x)})")
        elif kind == "reduction":
            self._reduction(op, out, args[0])
        else:
            raise TraceError(f"{op.name} is not replayed with NumPy")

    def _zeros(self, value: Value) -> str:
        """Return zeros of a value's shape: with them a maximum takes a third of the time that it takes with one zero.

        They take no memory: nobody writes into them, so that the system has one page of zeros for all.
        """
        name = f"zeros_{value.dtype}_{'_'.join(map(str, value.shape))}"
        self.globals.setdefault(name, np.zeros(value.shape, value.dtype))
        return name

    def _in_one_piece(self, value: Value) -> bool:
        part = self.plan.parts.get(value)
        return part is None or part.whole.ndim == 1

    def _reduction(self, op: Op, out: str, x: str) -> None:
        axes, value = op.option("axes"), op.reads[0]
        if op.name in ("argmax", "argmin"):
            self.lines.append(f"{x}.{op.name}({axes[0]}, {out}, keepdims={op.option('keepdims')})")
            return
        if (
            op.name == "sum"
            and value.ndim == 2
            and len(axes) == 1
            and value.dtype in ("float32", "float64")
            and self._in_one_piece(op.out)
        ):  # as a product by ones, which is BLAS's: a fourth of the time, and less
            ones = f"ones_{value.dtype}_{value.shape[axes[0]]}"
            self.globals[ones] = np.ones(value.shape[axes[0]], value.dtype)
            flat = out
            if op.option("keepdims"):
                flat = f"{out}.reshape(-1)"
                if out in self.globals:
                    self.globals[f"{out}_flat"] = self.globals[out].reshape(-1)
                    flat = f"{out}_flat"
            self.lines.append(f"dot({x}, {ones}, {flat})" if axes == (1,) else f"dot({ones}, {x}, {flat})")
            return
        name = f"reduce_{op.name}"
        self.globals[name] = _REDUCTIONS[op.name].reduce
        axis = axes[0] if len(axes) == 1 else axes
        self.lines.append(f"{name}({x}, {axis}, None, {out}, {op.option('keepdims')})")
        if op.name == "mean":
            count = self.scalar(value.size // max(op.out.size, 1), value.dtype)
            self.globals["divide"] = np.divide
            self.lines.append(f"divide({out}, {count}, out={out})")


def aligned(size: int) -> Any:
    """Return bytes that begin at a cache line."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]
