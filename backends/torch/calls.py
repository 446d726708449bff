"""A graph with PyTorch: each operation one call, with `out=`.

A call takes longer than the arithmetic of a small step, and a pass over a long vector longer than that. So operations
become one call where PyTorch has one function for them: W X + b, a comparison as numbers, and those of `_PEEPHOLES`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from nnx.backends.calls.renderer import Call, CallRenderer
from nnx.compiler import Graph, Op, TraceError, Value
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.pipeline import Target
from nnx.compiler.schedule import Place
from nnx.compiler.thresholds import SLOW_ROOT

_NAMES = {"equal": "eq", "bitwise_invert": "bitwise_not", "max": "amax", "min": "amin"}
_SWAPPED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}
_EITHER_WAY = {
    "add", "multiply", "equal", "not_equal", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor",
}  # fmt: skip
_COMPARISONS = {"equal", "not_equal", *_SWAPPED}
_OF_NUMBERS = {*_COMPARISONS, "add", "subtract", "multiply", "divide", "remainder", "pow"}
"""Functions that take a Python number as their second argument."""
_NO_OUT = {"isnan", "isinf", "isfinite", "sign", "matmul"}
"""Functions that take no `out`, or (matmul, of stacks) none that is a part of another tensor."""
_PEEPHOLES = {"axpy": "alpha", "addcmul": "value", "addcdiv": "value", "lerp": "weight"}
"""x + number y, x + number a b, x + number a/b, x + number (y - x), each with the name of the number in PyTorch.

They may be written over x only. The number is their last argument.
"""


def render(graph: Graph, slots: Mapping[Value, Value], torch: Any, device: Any) -> Call:
    """Return the function of a graph: see `CallRenderer`.

    Raises
    ------
    TraceError
        When an operation is not known here.
    """
    graph = with_peepholes(graph, device.type == "cpu")
    return TorchCalls(graph, slots, torch, device).function()


def _may_alias(op: Op) -> tuple[Value, ...]:
    """Return the arguments over which PyTorch can write the result."""
    if op.name in _PEEPHOLES:
        return op.reads[:1] if op.reads[0] not in op.reads[1:] else ()
    return op.reads if op.kind == "elementwise" and _of_one_dtype(op) else ()


def with_peepholes(graph: Graph, on_host: bool) -> Graph:
    """Return the graph with one operation where PyTorch has one function for several.

    On the host an array of no axes may stand for the number. On a GPU, to read it would wait for the queue.
    """
    uses = Counter(x for op in graph.ops for x in op.reads) + Counter(graph.outputs)
    made = dict(graph.makers)
    gone: set[Any] = set()

    def inner(x: Any, *names: str) -> Op | None:
        """Return the operation that makes x, if it is one of these and the only use of x is here."""
        op = made.get(x) if isinstance(x, Value) else None
        if op is None or op.name not in names or uses[op.out] != 1:
            return None
        return op if op.name in _COMPARISONS or _of_one_dtype(op) else None

    def scaled(x: Any) -> tuple[Any, Value] | None:
        """Return number, y where x is number y and is used here only: x itself is not needed then."""
        product = inner(x, "multiply")
        if product is None:
            return None
        for number, y in (product.args, product.args[::-1]):
            is_number = number.ndim == 0 and on_host if isinstance(number, Value) else True
            if is_number and isinstance(y, Value) and y.shape == product.out.shape:
                return number, y
        return None

    for op in graph.ops:
        found = _join(op, inner, scaled)
        if found is not None:
            made[op.out], absorbed = found
            gone |= absorbed
    ops = tuple(made[op.out] for op in graph.ops if op.out not in gone)
    return Graph(graph.inputs, ops, graph.arguments, graph.result)


def _of_one_dtype(op: Op) -> bool:
    return all(x.dtype == op.out.dtype for x in op.reads)


def _join(
    op: Op, inner: Callable[..., Op | None], scaled: Callable[..., tuple[Any, Value] | None]
) -> tuple[Op, set[Any]] | None:
    """Return one operation for this one and those that it reads, and the values that are not needed any more."""
    if op.name == "astype":
        test = inner(op.args[0], *_COMPARISONS)
        return (Op(test.name, test.args, op.out), {test.out}) if test else None
    if op.name not in ("add", "subtract") or not _of_one_dtype(op):
        return None
    sign = (("sign", "" if op.name == "add" else "-"),)
    for x, y in (op.args, op.args[::-1]) if op.name == "add" else (op.args,):
        if not isinstance(x, Value):
            continue
        if (
            op.name == "add"
            and (product := inner(y, "matmul"))
            and op.out.ndim == 2
            and op.out.shape == product.out.shape
        ):
            return Op("addmm", (x, *product.args), op.out), {y}
        if x.shape != op.out.shape or op.out.dtype not in ("float32", "float64"):
            continue
        if (quotient := inner(y, "divide")) and len(quotient.reads) == 2:
            a, b = quotient.args
            number, c = scaled(a) or (1.0, a)
            return Op("addcdiv", (x, c, b, number), op.out, sign), {y} if c is a else {y, a}
        if found := scaled(y):
            number, z = found
            if square := inner(z, "square"):
                return Op("addcmul", (x, *square.args, *square.args, number), op.out, sign), {y, z}
            kept = scaled(x) if op.name == "add" else None
            if kept and not isinstance(number, Value) and kept[0] == 1 - number:
                return Op("lerp", (kept[1], z, number), op.out, sign), {x, y}
            return Op("axpy", (x, z, number), op.out, sign), {y}
        if (product := inner(y, "multiply")) and all(isinstance(arg, Value) for arg in product.args):
            return Op("addcmul", (x, *product.args, 1.0), op.out, sign), {y}
    return None


class TorchCalls(CallRenderer):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """PyTorch's calls."""

    permuted, broadcast = "{0}.permute({1})", "{0}.expand({1})"

    def __init__(self, graph: Graph, slots: Mapping[Value, Value], torch: Any, device: Any) -> None:
        self._torch, self._device = torch, device
        super().__init__(graph, slots, Target(may_alias=_may_alias))
        self.globals |= {"inf": math.inf, "nan": math.nan}

    def bytes(self, size: int) -> Any:
        """Return new memory."""
        return self._torch.empty(size, dtype=self._torch.uint8, device=self._device)

    def strided(self, memory: Any, place: Place) -> Any:
        """Return a tensor at a place in one that lies in row-major order."""
        flat = memory.view(-1)
        if flat.dtype == self._torch.uint8 != place.dtype:
            whole = flat.shape[0] // itemsize(place.dtype) * itemsize(place.dtype)
            flat = flat[:whole].view(getattr(self._torch, place.dtype))
        return flat.as_strided(place.shape, place.strides, place.offset)

    def array(self, x: Any) -> Any:
        """Return it as a tensor."""
        return self._torch.from_numpy(x.copy()).to(self._device)

    def copy(self, source: str, target: str) -> str:
        """Return the line that copies one tensor into another."""
        return f"{target}.copy_({source})"

    def view(self, op: Op, x: str) -> str:
        """Return the expression of an input's view."""
        if op.name == "slice" and any(isinstance(k, slice) and (k.step or 1) < 0 for k in op.option("key")):
            raise TraceError("PyTorch has no view from the end to the beginning")
        return super().view(op, x)  # type: ignore[no-any-return]

    def write(self, op: Op) -> None:
        """Add an operation's call."""
        out = self.name(op.out)
        if op.name == "astype":
            self.lines.append(self.copy(self.name(op.reads[0]), out))
        elif op.kind == "reduction":
            self._reduction(op, out)
        elif op.name == "sqrt" and self._has_slow_root(op.out):
            self.lines.append(f"{self._function('rsqrt')}({self.name(op.reads[0])}, out={out})")
            self.lines.append(f"{self._function('reciprocal')}({out}, out={out})")
        elif op.kind == "elementwise" or op.name in ("matmul", "addmm", *_PEEPHOLES):
            self._call(op, out)
        else:
            raise TraceError(f"{op.name} has no call in PyTorch")

    def _function(self, name: str) -> str:
        import array_api_compat.torch as xp

        name = _NAMES.get(name, name)
        self.globals[name] = getattr(xp if name == "sign" else self._torch, name)  # torch.sign(NaN) is 0
        return name

    def _call(self, op: Op, out: str) -> None:
        name, args, options = op.name, list(op.args), ""
        if name in _PEEPHOLES:
            number = args.pop()
            text = f"{self.name(number)}.item()" if isinstance(number, Value) else repr(number)
            options = f", {_PEEPHOLES[name]}={op.option('sign')}{text}"
        if len(args) == 2 and not isinstance(args[0], Value) and (name in _EITHER_WAY or name in _SWAPPED):
            name, args = _SWAPPED.get(name, name), args[::-1]
        if name == "axpy":
            name = "add"
        if name == "matmul" and op.out.ndim == 2 and all(x.ndim == 2 for x in op.reads):
            name = "mm"
        dtype = op.reads[-1].dtype
        if {x.dtype for x in op.reads[name == "where" :]} != {dtype}:
            raise TraceError(f"{name} of several dtypes has no call in PyTorch")
        texts = [self.name(arg) if isinstance(arg, Value) else self.scalar(arg, dtype) for arg in args]
        if not isinstance(args[-1], Value):
            number = args[-1]
            if name in ("maximum", "minimum"):  # of NaN NaN, as these
                texts[-1], name = repr(number), {"maximum": "clamp_min", "minimum": "clamp_max"}[name]
            elif name in _OF_NUMBERS:
                texts[-1] = repr(number)
        call = f"{self._function(name)}({', '.join(texts)}{options}"
        line = f"{out}.copy_({call}))" if name in _NO_OUT else f"{call}, out={out})"
        if name in ("mm", "addmm") and self._device.type == "cpu" and self.is_narrow(op):
            *c, a, b = texts
            product = f"{name}({', '.join(f'{x}.T' for x in (*c, b, a))}, out={{0}})"
            copy = f"{out}.copy_({{0}}.T)"
            self.lines += self.by_transpose(op, f"{b}.T.is_contiguous()", product, copy, line)
        else:
            self.lines.append(line)

    def _has_slow_root(self, value: Value) -> bool:
        mkl = self._device.type == "cpu" and self._torch.backends.mkl.is_available()
        return mkl and value.dtype == "float32" and value.size >= SLOW_ROOT

    def _reduction(self, op: Op, out: str) -> None:
        axes, keepdims = op.option("axes"), op.option("keepdims")
        if axes == () and op.out.ndim > 0:  # PyTorch's () are all axes
            self.lines.append(f"{out}.copy_({self.name(op.reads[0])})")
            return
        if op.name in ("prod", "argmax", "argmin") and len(axes) == 1:
            axes = axes[0]
        elif op.name in ("sum", "mean", "max", "min", "all", "any"):
            axes = tuple(axes)
        else:
            raise TraceError(f"{op.name} over {len(axes)} axes has no call in PyTorch")
        call = f"{self._function(op.name)}({self.name(op.reads[0])}, {axes}, {keepdims}"
        if op.name in ("sum", "prod"):
            self.lines.append(f"{call}, dtype={out}.dtype, out={out})")
        else:
            self.lines.append(f"{call}, out={out})")
