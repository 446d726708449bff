"""A graph with PyTorch: each operation one call, with `out=`.

A call takes longer than the arithmetic of a small step, and a pass over a long vector longer than that. So operations
become one call where PyTorch has one function for them: a comparison as numbers, and the parts of optimizers.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nnx.backends.calls.renderer import Call, CallRenderer
from nnx.compiler import Graph, Op, TraceError, Value
from nnx.compiler.ir.operations import FLOATS, ROUNDED
from nnx.compiler.passes.round_factors import in_precision
from nnx.compiler.pipeline import Target
from nnx.compiler.schedule import Place
from nnx.compiler.thresholds import SLOW_ROOT

CALLS = {
    "add_scaled": "add({0}, {1}, alpha={n}, out={out})",
    "all": "all({0}, {axes}, {keepdims}, out={out})",
    "any": "any({0}, {axes}, {keepdims}, out={out})",
    "argmax": "argmax({0}, {axis}, {keepdims}, out={out})",
    "argmin": "argmin({0}, {axis}, {keepdims}, out={out})",
    "astype": "{out}.copy_({0})",
    "bitwise_invert": "bitwise_not({0}, out={out})",
    "broadcast": "{0}.expand({1})",
    "copy": "{out}.copy_({0})",
    "equal": "eq({0}, {1}, out={out})",
    "isfinite": "{out}.copy_(isfinite({0}))",
    "isinf": "{out}.copy_(isinf({0}))",
    "isnan": "{out}.copy_(isnan({0}))",
    "lerp": "lerp({0}, {1}, weight={n}, out={out})",
    "matmul": "{out}.copy_(matmul({0}, {1}))",
    "max": "amax({0}, {axes}, {keepdims}, out={out})",
    "mean": "mean({0}, {axes}, {keepdims}, out={out})",
    "min": "amin({0}, {axes}, {keepdims}, out={out})",
    "permute": "{0}.permute({1})",
    "prod": "prod({0}, {axis}, {keepdims}, dtype={out}.dtype, out={out})",
    "reshape": "{0}.reshape({1})",
    "sign": "{out}.copy_(where(isnan({0}), {0}, sign({0})))",  # PyTorch's sign of NaN is 0
    "slice": "{0}[{1}]",
    "subtract_scaled": "sub({0}, {1}, alpha={n}, out={out})",
    "sum": "sum({0}, {axes}, {keepdims}, dtype={out}.dtype, out={out})",
}
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_SCALED = {"add_scaled", "subtract_scaled", "lerp"}
"""x + n y, x - n y, and x + n (y - x), where n is a number: they may be written over x."""


def render(
    graph: Graph, slots: Mapping[Value, Value], torch: Any, device: Any, precision: str | None = None
) -> Call:
    """Return the function of a graph: see `CallRenderer`.

    Raises
    ------
    TraceError
        When an operation is not known here.
    """
    graph = with_peepholes(in_precision(graph, precision), device.type == "cpu")
    return TorchCalls(graph, slots, torch, device).function()


def _may_alias(op: Op) -> tuple[Value, ...]:
    """Return the arguments over which PyTorch can write the result."""
    if op.name in _SCALED:
        return op.reads[:1]
    same = all(x.dtype == op.out.dtype for x in op.reads)
    return op.reads if op.kind in ("elementwise", "all_reduce") and same else ()


TARGET = Target(may_alias=_may_alias)


def with_peepholes(graph: Graph, on_host: bool) -> Graph:
    """Return the graph with one operation where PyTorch has one function for several.

    On the host an array of no axes may stand for the number n. On a GPU, to read it would wait for the queue.
    """
    uses = Counter(x for op in graph.ops for x in op.reads) + Counter(graph.outputs)

    def maker(x: Any, *names: str) -> Op | None:
        """Return the operation that makes x, if it is one of these, and x is used once."""
        op = graph.makers.get(x) if isinstance(x, Value) and uses[x] == 1 else None
        return op if op is not None and op.name in names else None

    def scaled(x: Any) -> tuple[Any, Value] | None:
        """Return n, y where x is n y and used once."""
        product = maker(x, "multiply")
        for n, y in (product.args, product.args[::-1]) if product else ():
            is_number = not isinstance(n, Value) or (n.ndim == 0 and on_host)
            if is_number and isinstance(y, Value) and y.shape == x.shape:
                return n, y
        return None

    def joined(op: Op) -> Op:
        """Return an operation with those that it reads in it."""
        if op.name == "astype" and (test := maker(op.args[0], *_COMPARISONS)):
            return Op(test.name, test.args, op.out)
        if op.name not in ("add", "subtract") or op.out.dtype not in FLOATS:
            return op
        plus = op.name == "add"
        for x, y in (op.args, op.args[::-1]) if plus else (op.args,):
            if isinstance(x, Value) and x.shape == op.out.shape and (found := scaled(y)):
                n, z = found
                if plus and (kept := scaled(x)) and not isinstance(n, Value) and kept[0] == 1 - n:
                    return Op("lerp", (kept[1], z, n), op.out)
                return Op(f"{op.name}_scaled", (x, z, n), op.out)
        return op

    needed, ops = set(graph.outputs), []
    for op in map(joined, reversed(graph.ops)):
        if op.out in needed:
            needed.update(op.reads)
            ops.append(op)
    return Graph(graph.inputs, tuple(ops[::-1]), graph.arguments, graph.result)


class TorchCalls(CallRenderer):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """PyTorch's calls."""

    calls = CALLS

    def __init__(self, graph: Graph, slots: Mapping[Value, Value], torch: Any, device: Any) -> None:
        self._torch, self._device = torch, device
        self._on_mkl = device.type == "cpu" and torch.backends.mkl.is_available()
        super().__init__(graph, slots, TARGET, torch)

    def bytes(self, size: int) -> Any:
        """Return new memory, a multiple of 8 bytes, which is read as any dtype."""
        return self._torch.empty(-(-size // 8) * 8, dtype=self._torch.uint8, device=self._device)

    def strided(self, memory: Any, place: Place) -> Any:
        """Return a tensor at a place in one that lies in row-major order."""
        flat = memory.view(-1).view(getattr(self._torch, place.dtype))
        return flat.as_strided(place.shape, place.strides, flat.storage_offset() + place.offset)

    def array(self, x: Any) -> Any:
        """Return it as a tensor."""
        return self._torch.from_numpy(x.copy()).to(self._device)

    def on_host(self, name: str) -> str:
        """Return the expression of the tensor's memory as a NumPy array."""
        if self._device.type != "cpu":
            raise TraceError("the sum over ranks has no call on a GPU")
        return f"{name}.numpy()"

    def view(self, op: Op) -> str:
        """Return the expression of an input's view."""
        if op.name == "slice" and any(isinstance(k, slice) and (k.step or 1) < 0 for k in op.option("key")):
            raise TraceError("PyTorch has no view from the end to the beginning")
        return super().view(op)  # type: ignore[no-any-return]

    def call(self, op: Op) -> str:
        """Return the lines of an operation."""
        if len({x.dtype for x in op.reads[op.name == "where" :]}) > 1 and op.name != "astype":
            raise TraceError(f"{op.name} of several dtypes has no call in PyTorch")
        if op.name == "sqrt" and op.out.dtype == "float32" and op.out.size >= SLOW_ROOT and self._on_mkl:
            return "rsqrt({0}, out={out})\nreciprocal({out}, out={out})"
        if op.name == "matmul" and op.reads[0].dtype == ROUNDED:
            if self._device.type != "cpu" and op.out.ndim == 2:
                return "mm({0}, {1}, out_dtype=float32, out={out})"
            return "{out}.copy_(matmul({0}.float(), {1}.float()))"  # PyTorch rounds the result, too
        if op.name == "matmul" and all(x.ndim == 2 for x in op.reads):
            return "mm({0}, {1}, out={out})"
        if op.kind == "reduction" and op.option("axes") == () and op.out.ndim:  # PyTorch's () are all axes
            return "{out}.copy_({0})"
        return super().call(op)  # type: ignore[no-any-return]
