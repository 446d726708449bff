"""A graph with NumPy: each operation one call, with `out=`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnx.backends.calls.renderer import Call, CallRenderer
from nnx.compiler import Graph, Op, TraceError, Value
from nnx.compiler.ir.operations import FLOATS, itemsize
from nnx.compiler.ir.views import contiguous
from nnx.compiler.pipeline import Target
from nnx.compiler.schedule import Place
from nnx.compiler.thresholds import BLOCK

_UFUNCS = {"round": np.rint, "abs": np.absolute}
_REDUCTIONS = {
    "sum": np.add, "mean": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "all": np.logical_and, "any": np.logical_or,
}  # fmt: skip


def render(graph: Graph, slots: Mapping[Value, Value]) -> Call:
    """Return the function of a graph: see `CallRenderer`. It allocates no array.

    Raises
    ------
    TraceError
        When an operation is not known here.
    """
    return NumpyCalls(with_masks(graph), slots, TARGET).function()


def _long_vector(op: Op) -> Any:
    """Return the shape of an elementwise operation on a long vector, which is done block by block with others."""
    flat = op.kind == "elementwise" and op.out.ndim == 1 and op.out.size >= 2 * BLOCK
    return op.out.shape if flat and all(x.ndim == 0 or x.shape == op.out.shape for x in op.reads) else None


def _may_alias(op: Op) -> tuple[Value, ...]:
    """Return the arguments over which NumPy can write the result."""
    if op.name == "where":  # it copies its last argument, and writes the other one over that
        return op.reads[-1:] if isinstance(op.args[2], Value) and op.args[2] not in op.args[:2] else ()
    return op.reads if op.kind == "elementwise" else ()


TARGET = Target(_long_vector, _may_alias, BLOCK)


def with_masks(graph: Graph) -> Graph:
    """Return the graph with products by bool arrays, where these became numbers first.

    NumPy converts them within the product, a few thousand at a time, so that they stay in the cache. As an array, f'(Z)
    of 512 units and 1,024 samples took a millisecond, twenty times as long as its arithmetic.
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


class NumpyCalls(CallRenderer):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """NumPy's calls."""

    permuted, broadcast = "{0}.transpose({1})", "broadcast_to({0}, {1})"

    def __init__(self, graph: Graph, slots: Mapping[Value, Value], target: Target) -> None:
        super().__init__(graph, slots, target)
        self.globals |= {
            "copyto": np.copyto,
            "dot": np.dot,
            "matmul": np.matmul,
            "broadcast_to": np.broadcast_to,
        }

    def bytes(self, size: int) -> Any:
        """Return new memory."""
        return aligned(size)

    def strided(self, memory: Any, place: Place) -> Any:
        """Return an array at a place in an array that lies in row-major order."""
        size = itemsize(place.dtype)
        strides = [stride * size for stride in place.strides]
        return np.ndarray(place.shape, place.dtype, memory, place.offset * size, strides)

    def array(self, x: Any) -> Any:
        """Return it as it is."""
        return x

    def copy(self, source: str, target: str) -> str:
        """Return the line that copies one array into another."""
        return f"copyto({target}, {source})"

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
            self._product(op, out, *args)
        elif kind == "reduction":
            self._reduction(op, out, args[0])
        else:
            raise TraceError(f"{op.name} has no call in NumPy")

    def _product(self, op: Op, out: str, a: str, b: str) -> None:
        product = "dot" if op.out.ndim == 2 and self._is_contiguous(op.out) else "matmul"
        line = f"{product}({a}, {b}, {out})"
        if self.is_narrow(op):
            product, copy = f"dot({b}.T, {a}.T, {{0}})", f"copyto({out}, {{0}}.T)"
            self.lines += self.by_transpose(op, f"{b}.flags.f_contiguous", product, copy, line)
        else:
            self.lines.append(line)

    def _zeros(self, value: Value) -> str:
        """Return zeros of a value's shape: a maximum with them takes a third of the time of one with a single zero.

        They take no memory: the system maps one page of zeros, since they are never written.
        """
        name = f"zeros_{value.dtype}_{'_'.join(map(str, value.shape))}"
        self.globals.setdefault(name, np.zeros(value.shape, value.dtype))
        return name

    def _is_contiguous(self, value: Value) -> bool:
        return bool(self.schedule.place(value).strides == contiguous(value.shape))

    def _reduction(self, op: Op, out: str, x: str) -> None:
        axes, value = op.option("axes"), op.reads[0]
        if op.name in ("argmax", "argmin"):
            self.lines.append(f"{x}.{op.name}({axes[0]}, {out}, keepdims={op.option('keepdims')})")
            return
        if (
            op.name == "sum"
            and value.ndim == 2
            and len(axes) == 1
            and value.dtype in FLOATS
            and self._is_contiguous(op.out)
        ):  # as a product by ones, which is BLAS's: a fourth of the time, and less
            ones = f"ones_{value.dtype}_{value.shape[axes[0]]}"
            self.globals[ones] = np.ones(value.shape[axes[0]], value.dtype)
            flat = self.placed(self.schedule.place(op.out)._replace(shape=(op.out.size,), strides=(1,)))
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
