"""The derivative of a function of arrays, got from its graph backwards: reverse mode.

The graph is computed forwards with the arrays' own library. Then each operation, from the last to the first, hands the
derivative of its result on to its arguments. All of it is calls of the standard. So the derivative can itself be
traced, and becomes part of a compiled step.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias

from nnx.array.namespace import Array, array_namespace, device
from nnx.compiler import trace
from nnx.compiler.ir.evaluate import done
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.ir.operations import FLOATS, TraceError

Rule: TypeAlias = Callable[..., Any]


class NoDerivativeError(TraceError):
    """A function has an operation without a derivative here: which."""


@dataclass(frozen=True)
class Derivative:
    """The derivative of the sum of a function's result by its first argument: f -> f'.

    Two of one function are equal, and it can be pickled where the function can.

    Parameters
    ----------
    function : callable
        x, ... -> an array; pure, written with the standard's functions.

    Raises
    ------
    TraceError
        When it is called, and the function cannot be traced or has an operation without a derivative here.

    Examples
    --------
    >>> import numpy as np
    >>> cubic = Derivative(lambda x, y: abs(x - y) ** 3)
    >>> cubic(np.array([1.0, 2.0]), np.array([3.0, 0.0]))
    array([-12.,  12.])
    """

    function: Callable[..., Any]

    def __call__(self, *arguments: Array) -> Array:
        """Return f'(x, ...), an array like x."""
        of = tuple((tuple(x.shape), str(x.dtype).rpartition(".")[2]) for x in arguments)
        return backwards(_graph(self.function, of), arguments)


@lru_cache(maxsize=64)
def _graph(function: Callable[..., Any], of: Any) -> Graph:
    return trace(function, *(SimpleNamespace(shape=shape, dtype=dtype) for shape, dtype in of))


def backwards(graph: Graph, arguments: tuple[Array, ...]) -> Array:
    """Return the derivative, by the first argument, of the sum of the array that a graph makes."""
    x, xp = arguments[0], array_namespace(arguments[0])
    found: dict[Value, Any] = dict(zip(graph.inputs, arguments, strict=True))
    first, result = graph.inputs[0], graph.result
    active = {first}  # the values that depend on x, and have a derivative
    for op in graph.ops:
        found[op.out] = _done(op, found, xp, device(x))
        if op.out.dtype in FLOATS and active.intersection(op.reads) and op.name not in FLAT:
            active.add(op.out)
    if result not in active:
        return xp.zeros_like(x)
    slopes = {result: xp.ones_like(found[result])}
    for op in reversed(graph.ops):
        if op.out in active and op.out in slopes:
            for value, slope in _handed_on(op, slopes.pop(op.out), found, active, xp):
                slopes[value] = slopes[value] + slope if value in slopes else slope
    return slopes[first] if first in slopes else xp.zeros_like(x)


def _done(op: Op, found: Mapping[Value, Any], xp: Any, where: Any) -> Any:
    """Return what an operation makes, constants on the arrays' own device."""
    if op.name == "full":
        dtype = getattr(xp, op.out.dtype)
        return xp.full(op.out.shape, op.option("value"), dtype=dtype, device=where)
    if op.name == "arange":
        start, step = op.option("start"), op.option("step")
        dtype = getattr(xp, op.out.dtype)
        return xp.arange(start, start + step * op.out.size, step, dtype=dtype, device=where)
    return done(op, [found[arg] if isinstance(arg, Value) else arg for arg in op.args], xp)


def _handed_on(op: Op, d: Any, found: Mapping[Value, Any], active: set[Value], xp: Any) -> list[Any]:
    """Return the arguments of an operation with their derivatives, from that of its result."""
    args = [found[arg] if isinstance(arg, Value) else arg for arg in op.args]
    handed = []
    for i, arg in enumerate(op.args):
        if not isinstance(arg, Value) or arg not in active:
            continue
        if (rules := ELEMENTWISE.get(op.name)) is not None:
            rule = rules[i]
            slope = rule(xp, d, found[op.out], *args) if rule is not None else None
        elif (shaped := SHAPED.get(op.name)) is not None:
            slope = shaped(xp, d, found[op.out], args[i], op, i)
        else:
            slope = None
        if slope is None:
            raise NoDerivativeError(f"the operation {op.name!r} has no derivative that nnx knows")
        handed.append((arg, summed_to(xp, slope, arg.shape)))
    return handed


def summed_to(xp: Any, d: Any, shape: tuple[int, ...]) -> Any:
    """Return the derivative by an array that was broadcast to d's shape: the sum over its copies."""
    lead = d.ndim - len(shape)
    copied = tuple(
        axis for axis in range(d.ndim) if axis < lead or (shape[axis - lead] == 1 != d.shape[axis])
    )
    return xp.reshape(xp.sum(d, axis=copied), shape) if copied else d


# --- elementwise: xp, d, the result y, the arguments -> the derivative by the argument at this place ------------------


def _share(xp: Any, d: Any, y: Any, mine: Any, other: Any) -> Any:
    """Return d where a maximum or minimum is mine, half of it where it is both's."""
    one = xp.astype(mine == y, d.dtype)
    both = xp.astype(mine == other, d.dtype)
    return d * one * (1 - 0.5 * both)


def _power(xp: Any, d: Any, y: Any, x: Any, p: Any) -> Any:
    # p x^(p - 1), but 0 for p = 0, also at x = 0
    if hasattr(p, "shape"):
        return d * p * x ** (p - xp.astype(p != 0, p.dtype))
    return d * p * x ** (p - 1) if p else xp.zeros_like(d)


def _exponent(xp: Any, d: Any, y: Any, x: Any, p: Any) -> Any:
    if not hasattr(x, "shape"):
        return d * y * math.log(x) if x > 0 else None
    return d * y * xp.log(xp.where(x > 0, x, 1.0))


def _component(xp: Any, a: Any, size: Any) -> Any:
    """Return a / size, of a vector (a, b) and its length or the square of it; 0 for the vector 0."""
    return a / xp.where(size == 0, 1.0, size)


FLAT = frozenset(("sign", "floor", "ceil", "trunc", "round", "floor_divide"))
"""Operations whose derivative is 0 wherever it is."""

_ONE: dict[str, Rule] = {
    "abs": lambda xp, d, y, x: d * xp.sign(x),
    "acos": lambda xp, d, y, x: -d / xp.sqrt(1 - x * x),
    "acosh": lambda xp, d, y, x: d / xp.sqrt(x * x - 1),
    "asin": lambda xp, d, y, x: d / xp.sqrt(1 - x * x),
    "asinh": lambda xp, d, y, x: d / xp.sqrt(x * x + 1),
    "atan": lambda xp, d, y, x: d / (1 + x * x),
    "atanh": lambda xp, d, y, x: d / (1 - x * x),
    "cos": lambda xp, d, y, x: -d * xp.sin(x),
    "cosh": lambda xp, d, y, x: d * xp.sinh(x),
    "exp": lambda xp, d, y, x: d * y,
    "expm1": lambda xp, d, y, x: d * (y + 1),
    "log": lambda xp, d, y, x: d / x,
    "log10": lambda xp, d, y, x: d / (x * math.log(10)),
    "log1p": lambda xp, d, y, x: d / (1 + x),
    "log2": lambda xp, d, y, x: d / (x * math.log(2)),
    "negative": lambda xp, d, y, x: -d,
    "reciprocal": lambda xp, d, y, x: -d * y * y,
    "sin": lambda xp, d, y, x: d * xp.cos(x),
    "sinh": lambda xp, d, y, x: d * xp.cosh(x),
    "sqrt": lambda xp, d, y, x: d / (2 * y),
    "square": lambda xp, d, y, x: 2 * d * x,
    "tan": lambda xp, d, y, x: d * (1 + y * y),
    "tanh": lambda xp, d, y, x: d * (1 - y * y),
}

ELEMENTWISE: dict[str, tuple[Rule | None, ...]] = {
    **{name: (rule,) for name, rule in _ONE.items()},
    "add": (lambda xp, d, y, a, b: d, lambda xp, d, y, a, b: d),
    "subtract": (lambda xp, d, y, a, b: d, lambda xp, d, y, a, b: -d),
    "multiply": (lambda xp, d, y, a, b: d * b, lambda xp, d, y, a, b: d * a),
    "divide": (lambda xp, d, y, a, b: d / b, lambda xp, d, y, a, b: -d * y / b),
    "pow": (_power, _exponent),
    "maximum": (_share, lambda xp, d, y, a, b: _share(xp, d, y, b, a)),
    "minimum": (_share, lambda xp, d, y, a, b: _share(xp, d, y, b, a)),
    "hypot": (
        lambda xp, d, y, a, b: d * _component(xp, a, y),
        lambda xp, d, y, a, b: d * _component(xp, b, y),
    ),
    "atan2": (
        lambda xp, d, y, a, b: d * _component(xp, b, a * a + b * b),
        lambda xp, d, y, a, b: -d * _component(xp, a, a * a + b * b),
    ),
    "logaddexp": (
        lambda xp, d, y, a, b: d * xp.exp(a - y),
        lambda xp, d, y, a, b: d * xp.exp(b - y),
    ),
    "remainder": (lambda xp, d, y, a, b: d, lambda xp, d, y, a, b: -d * xp.floor(a / b)),
    "where": (
        None,
        lambda xp, d, y, chosen, a, b: xp.where(chosen, d, 0.0),
        lambda xp, d, y, chosen, a, b: xp.where(chosen, 0.0, d),
    ),
}
"""The derivative by each argument."""


# --- all others: xp, d, the result y, the argument x, the operation, the argument's place -----------------------------


def _over(xp: Any, d: Any, op: Op, x: Any) -> Any:
    """Return what a reduction made, with the reduced axes again: to stand beside its argument."""
    kept = [1 if axis in op.option("axes") else n for axis, n in enumerate(x.shape)]
    return xp.reshape(d, tuple(kept))


def _mean(xp: Any, d: Any, y: Any, x: Any, op: Op, i: int) -> Any:
    count = math.prod(x.shape[axis] for axis in op.option("axes"))
    return xp.broadcast_to(_over(xp, d, op, x) / count, x.shape)


def _extreme(xp: Any, d: Any, y: Any, x: Any, op: Op, i: int) -> Any:
    """Return the derivative of a maximum or minimum: shared among the equal ones."""
    chosen = xp.astype(x == _over(xp, y, op, x), d.dtype)
    return _over(xp, d, op, x) * chosen / xp.sum(chosen, axis=op.option("axes"), keepdims=True)


def _slice(xp: Any, d: Any, y: Any, x: Any, op: Op, i: int) -> Any:
    """Return d with zeros where the slice took nothing."""
    keys, at = [k for k in op.option("key") if k is not None], 0
    if any(isinstance(k, slice) and k.step not in (None, 1) for k in keys):
        raise NoDerivativeError("a slice with a step has no derivative that nnx knows")
    full = tuple(
        len(range(*k.indices(n))) if isinstance(k, slice) else 1 for k, n in zip(keys, x.shape, strict=True)
    )
    d = xp.reshape(d, full)
    for at, (k, n) in enumerate(zip(keys, x.shape, strict=True)):
        start = k.indices(n)[0] if isinstance(k, slice) else k
        before, after = ((*d.shape[:at], size, *d.shape[at + 1 :]) for size in (start, n - start - full[at]))
        zeros = [xp.zeros(shape, dtype=d.dtype, device=device(d)) for shape in (before, after)]
        parts = [part for part in (zeros[0], d, zeros[1]) if part.shape[at]]
        d = xp.concat(parts, axis=at) if len(parts) > 1 else d
    return d


def _concat(xp: Any, d: Any, y: Any, x: Any, op: Op, i: int) -> Any:
    _, start, stop = op.joined[i]
    return d[(*(slice(None),) * op.option("axis"), slice(start, stop), ...)]


def _permute(xp: Any, d: Any, y: Any, x: Any, op: Op, i: int) -> Any:
    axes = op.option("axes")
    return xp.permute_dims(d, tuple(axes.index(axis) for axis in range(len(axes))))


SHAPED: dict[str, Rule] = {
    "sum": lambda xp, d, y, x, op, i: xp.broadcast_to(_over(xp, d, op, x), x.shape),
    "mean": _mean,
    "max": _extreme,
    "min": _extreme,
    "reshape": lambda xp, d, y, x, op, i: xp.reshape(d, x.shape),
    "permute": _permute,
    "broadcast": lambda xp, d, y, x, op, i: d,  # `summed_to` adds the copies
    "slice": _slice,
    "copy": lambda xp, d, y, x, op, i: d,
    "astype": lambda xp, d, y, x, op, i: xp.astype(d, x.dtype),
    "concat": _concat,
}
