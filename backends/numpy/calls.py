"""A graph with NumPy: each operation one call, with `out=`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnx.backends.calls.renderer import Call, CallRenderer
from nnx.compiler import Graph, Op, Value
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.pipeline import Target
from nnx.compiler.schedule import Place
from nnx.compiler.thresholds import BLOCK

CALLS = {
    "abs": "absolute({0}, out={out})",
    "all": "logical_and.reduce({0}, {axes}, None, {out}, {keepdims})",
    "any": "logical_or.reduce({0}, {axes}, None, {out}, {keepdims})",
    "argmax": "{0}.argmax({axis}, {out}, keepdims={keepdims})",
    "argmin": "{0}.argmin({axis}, {out}, keepdims={keepdims})",
    "astype": "copyto({out}, {0}, 'unsafe')",
    "broadcast": "broadcast_to({0}, {1})",
    "copy": "copyto({out}, {0})",
    "matmul": "matmul({0}, {1}, {out})",
    "max": "maximum.reduce({0}, {axes}, None, {out}, {keepdims})",
    "mean": "add.reduce({0}, {axes}, None, {out}, {keepdims})\ndivide({out}, {count}, out={out})",
    "min": "minimum.reduce({0}, {axes}, None, {out}, {keepdims})",
    "permute": "{0}.transpose({1})",
    "prod": "multiply.reduce({0}, {axes}, None, {out}, {keepdims})",
    "reshape": "{0}.reshape({1})",
    "round": "rint({0}, out={out})",
    "slice": "{0}[{1}]",
    "sum": "add.reduce({0}, {axes}, None, {out}, {keepdims})",
    "where": "{out} is {2} or copyto({out}, {2})\ncopyto({out}, {1}, where={0})",
}


def render(graph: Graph, slots: Mapping[Value, Value]) -> Call:
    """Return the function of a graph: see `CallRenderer`. It allocates no array.

    Raises
    ------
    TraceError
        When an operation is not known here.
    """
    return NumpyCalls(graph, slots, TARGET, np).function()


def _long_vector(op: Op) -> Any:
    """Return the shape of an elementwise operation on a long vector, which is done block by block with others."""
    flat = op.kind == "elementwise" and op.out.ndim == 1 and op.out.size >= 2 * BLOCK
    return op.out.shape if flat and all(x.ndim == 0 or x.shape == op.out.shape for x in op.reads) else None


def _may_alias(op: Op) -> tuple[Value, ...]:
    """Return the arguments over which NumPy can write the result."""
    if op.name == "where":  # it copies its last argument, and writes the other one over that
        return op.reads[-1:] if isinstance(op.args[2], Value) and op.args[2] not in op.args[:2] else ()
    return op.reads if op.kind in ("elementwise", "all_reduce") else ()


TARGET = Target(_long_vector, _may_alias, BLOCK)


class NumpyCalls(CallRenderer):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """NumPy's calls."""

    calls = CALLS

    def bytes(self, size: int) -> Any:
        """Return new memory, which begins at a cache line."""
        return aligned(size)

    def strided(self, memory: Any, place: Place) -> Any:
        """Return an array at a place in an array that lies in row-major order."""
        size = itemsize(place.dtype)
        strides = [stride * size for stride in place.strides]
        return np.ndarray(place.shape, place.dtype, memory, place.offset * size, strides)

    def array(self, x: Any) -> Any:
        """Return it as it is."""
        return x

    def on_host(self, name: str) -> str:
        """Return it as it is."""
        return name


def aligned(size: int) -> Any:
    """Return bytes that begin at a cache line."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]
