"""The standard's functions on tracers: each adds an operation to the graph."""

import math
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from nnx.compiler.ir import views
from nnx.compiler.ir.operations import (
    ARITY,
    DTYPES,
    FLOATS,
    KINDS,
    OF_FLOATS,
    REDUCTIONS,
    SIGNED,
    TO_BOOL,
    UNSIGNED,
    NotPortableError,
    TraceError,
    itemsize,
    promoted,
    scalar,
)
from nnx.compiler.ir.tracer import GraphBuilder, Tracer

_ON_BOOLS = {
    "bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "logical_xor",
    "bitwise_invert": "logical_not",
}  # fmt: skip
_OF_SUM = dict.fromkeys(SIGNED, "int64") | dict.fromkeys(UNSIGNED, "uint64")
"""The dtype of a sum or product of integers."""


def _axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes in order, counted from the first one; None: all."""
    every = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(a % ndim for a in every))


class Namespace(GraphBuilder):
    """The standard's functions on tracers."""

    __name__ = "nnx.compiler"
    pi, e, inf, nan, newaxis = math.pi, math.e, math.inf, math.nan, None

    def __init__(self) -> None:
        super().__init__()
        for name in DTYPES:
            setattr(self, name, name)

    def __getattr__(self, name: str) -> Any:
        if name in ARITY:
            return partial(self._elementwise, name)
        if name in REDUCTIONS:
            return partial(self._reduction, name)
        if name in ("zeros", "ones"):
            return partial(self._filled, int(name == "ones"))
        if name in ("zeros_like", "ones_like", "full_like"):
            return partial(self._like, name.removesuffix("_like"))
        if name.startswith("__"):
            raise AttributeError(name)
        raise TraceError(f"the function {name!r} of the standard cannot be traced")

    def _elementwise(self, name: str, *given: Any) -> Tracer:
        if len(given) != ARITY[name]:
            raise TraceError(f"{name} takes {ARITY[name]} arguments; given {len(given)}")
        args, dtype = self._together(name, given)
        if name in OF_FLOATS and dtype not in FLOATS:
            raise TraceError(f"{name} of a {dtype} array: the standard has it for floating ones only")
        if dtype == "bool":
            name = _ON_BOOLS.get(name, name)
        if name == "pow" and isinstance(args[1], float) and args[1] in (2.0, 0.5):
            name, args = ("square" if args[1] == 2.0 else "sqrt"), args[:1]  # as NumPy does it, too
        return self._write(name, args, "bool" if name in TO_BOOL else dtype)

    def _write(self, name: str, args: list[Any], dtype: str) -> Tracer:
        """Write an operation whose result has the shape of all arrays together."""
        shape = views.broadcast(*(arg.shape for arg in args if isinstance(arg, Tracer)))
        return self.write(name, args, shape, dtype)

    def _together(self, name: str, args: Sequence[Any]) -> tuple[list[Any], str]:
        """Return the arguments, numbers as those of the arrays' dtype, and this dtype."""
        arrays = [arg for arg in args if isinstance(arg, Tracer)]
        if not arrays:
            told = ", ".join(type(arg).__name__ for arg in args)
            raise NotPortableError(f"{name} of {told}: no traced array")
        for arg in args:
            if hasattr(arg, "shape") and not isinstance(arg, Tracer):
                raise NotPortableError(f"{name} of a traced array and a {type(arg).__name__} that is none")
        dtype = promoted(name, [x.dtype for x in arrays])
        return [x if isinstance(x, Tracer) else scalar(name, x, dtype) for x in args], dtype

    # Dtypes.

    def astype(self, x: Tracer, dtype: str, *, copy: bool = True, device: Any = None) -> Tracer:
        if dtype not in DTYPES:
            raise TraceError(f"astype to {dtype!r}, which is no dtype of the standard's")
        return x if dtype == x.dtype else self.write("astype", [x], x.shape, dtype)

    def isdtype(self, dtype: str, kind: Any) -> bool:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        return any(dtype == one or dtype in KINDS.get(one, ()) for one in kinds)

    def finfo(self, x: Any) -> SimpleNamespace:
        dtype = getattr(x, "dtype", x)
        digits, top = (23, 128) if dtype == "float32" else (52, 1024)
        eps, tiny, largest = 2.0**-digits, 2.0 ** (2 - top), math.ldexp(2 - 2.0**-digits, top - 1)
        limits = {"eps": eps, "max": largest, "min": -largest, "smallest_normal": tiny}
        return SimpleNamespace(dtype=dtype, bits=8 * itemsize(dtype), **limits)

    def __array_namespace_info__(self) -> SimpleNamespace:
        def dtypes(*, device: Any = None, kind: Any = None) -> dict[str, str]:
            return {name: name for name in DTYPES if kind is None or self.isdtype(name, kind)}

        return SimpleNamespace(dtypes=dtypes)

    # Choices.

    def where(self, condition: Tracer, x1: Any, x2: Any) -> Tracer:
        (x1, x2), dtype = self._together("where", (x1, x2))
        return self._write("where", [condition, x1, x2], dtype)

    def clip(self, x: Tracer, min: Any = None, max: Any = None) -> Tracer:
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    # Views.

    def reshape(self, x: Tracer, shape: Sequence[int], *, copy: bool | None = None) -> Tracer:
        shape = views.wanted(x.shape, (shape,) if isinstance(shape, int) else shape)
        if views.reshaped(x.shape, self.strides(x), shape) is None:
            x = self.write("copy", [x], x.shape, x.dtype)
        return self.view("reshape", x, shape)

    def permute_dims(self, x: Tracer, axes: Sequence[int]) -> Tracer:
        axes = tuple(axis % x.ndim for axis in axes)
        return self.view("permute", x, [x.shape[axis] for axis in axes], axes=axes)

    def matrix_transpose(self, x: Tracer) -> Tracer:
        *lead, i, j = range(x.ndim)
        return self.permute_dims(x, (*lead, j, i))

    def expand_dims(self, x: Tracer, *, axis: int = 0) -> Tracer:
        axis = axis % (x.ndim + 1)
        return self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    def squeeze(self, x: Tracer, axis: int | tuple[int, ...]) -> Tracer:
        gone = _axes(axis, x.ndim)
        return self.reshape(x, [n for a, n in enumerate(x.shape) if a not in gone])

    def flip(self, x: Tracer, *, axis: int | tuple[int, ...] | None = None) -> Tracer:
        axes = _axes(axis, x.ndim)
        return x[tuple(slice(None, None, -1 if a in axes else 1) for a in range(x.ndim))]

    def broadcast_to(self, x: Tracer, shape: Sequence[int]) -> Tracer:
        shape = tuple(shape)
        if views.broadcast(x.shape, shape) != shape:
            raise TraceError(f"broadcast_to of {x.shape} to {shape}")
        return self.view("broadcast", x, shape)

    # Products and joins.

    def matmul(self, x1: Tracer, x2: Tracer) -> Tracer:
        for x in (x1, x2):
            if not isinstance(x, Tracer):
                raise TraceError(f"matmul of a traced array and a {type(x).__name__} that is none")
        if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-2]:
            raise TraceError(f"matmul of {x1.shape} and {x2.shape}")
        lead = views.broadcast(x1.shape[:-2], x2.shape[:-2])
        dtype = promoted("matmul", [x1.dtype, x2.dtype])
        return self.write("matmul", [x1, x2], (*lead, x1.shape[-2], x2.shape[-1]), dtype)

    def vecdot(self, x1: Tracer, x2: Tracer, *, axis: int = -1) -> Tracer:
        return self.sum(self.multiply(x1, x2), axis=axis)  # type: ignore[no-any-return]

    def concat(self, arrays: Sequence[Tracer], *, axis: int | None = 0) -> Tracer:
        if axis is None:
            arrays, axis = [self.reshape(x, (-1,)) for x in arrays], 0
        axis %= arrays[0].ndim
        shape = list(arrays[0].shape)
        shape[axis] = sum(x.shape[axis] for x in arrays)
        dtype = promoted("concat", [x.dtype for x in arrays])
        return self.write("concat", [self.astype(x, dtype) for x in arrays], shape, dtype, axis=axis)

    def stack(self, arrays: Sequence[Tracer], *, axis: int = 0) -> Tracer:
        axis %= arrays[0].ndim + 1
        return self.concat([self.expand_dims(x, axis=axis) for x in arrays], axis=axis)

    # Sums over the ranks of a run: beside the standard, see `nnx.array.all_reduce`.

    def all_reduce(self, x: Tracer, communicator: Any) -> Tracer:
        if x.ndim != 1 or x.dtype not in FLOATS:
            raise TraceError(f"all_reduce of a {x.dtype} array {x.shape}: it takes a vector of floats")
        return self.write("all_reduce", [x], x.shape, x.dtype, communicator=communicator)

    # Creation.

    def full(self, shape: Any, value: Any, *, dtype: str | None = None, device: Any = None) -> Tracer:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if dtype is None:
            dtype = {bool: "bool", int: "int64", float: "float64"}.get(type(value), "float64")
        return self.write("full", [], shape, dtype, value=scalar("full", value, dtype))

    def _filled(self, number: int, shape: Any, *, dtype: str = "float64", device: Any = None) -> Tracer:
        return self.full(shape, bool(number) if dtype == "bool" else number, dtype=dtype)

    def _like(self, name: str, x: Tracer, *value: Any, dtype: str | None = None, device: Any = None) -> Any:
        return getattr(self, name)(x.shape, *value, dtype=dtype or x.dtype)

    def arange(
        self, start: int, stop: int | None = None, step: int = 1, *, dtype: Any = None, device: Any = None
    ) -> Tracer:
        start, stop = (0, start) if stop is None else (start, stop)
        if {type(start), type(stop), type(step)} != {int}:
            raise TraceError("arange of other numbers than Python's integers")
        n = len(range(start, stop, step))
        return self.write("arange", [], (n,), dtype or "int64", start=start, step=step)

    def asarray(self, x: Any, *, dtype: str | None = None, device: Any = None, copy: Any = None) -> Tracer:
        if isinstance(x, Tracer):
            return x if dtype is None else self.astype(x, dtype)
        if type(x) not in (bool, int, float):
            raise TraceError(f"asarray of {type(x).__name__}: only Python numbers can be traced")
        return self.full((), x, dtype=dtype)

    # Reductions.

    def _reduction(
        self, name: str, x: Tracer, axis: Any = None, keepdims: bool = False, *, dtype: str | None = None
    ) -> Tracer:
        if name in ("sum", "prod"):
            if x.dtype == "bool":
                raise TraceError(f"{name} of a bool array: the standard does not have it")
            x = self.astype(x, dtype or _OF_SUM.get(x.dtype, x.dtype))
        elif dtype is not None:
            raise TraceError(f"{name} with a dtype: the standard does not have it")
        elif name in ("all", "any"):
            x = self.astype(x, "bool")
        elif name.startswith("arg") and axis is None:  # the place among all elements
            return self.reshape(self._reduction(name, self.reshape(x, (-1,)), 0), (1,) * x.ndim * keepdims)
        axes = _axes(axis, x.ndim)
        kept = [1 if a in axes else n for a, n in enumerate(x.shape)]
        shape = kept if keepdims else [n for a, n in enumerate(x.shape) if a not in axes]
        dtype = "int64" if name.startswith("arg") else x.dtype
        return self.write(name, [x], shape, dtype, axes=axes, keepdims=bool(keepdims))

    def var(self, x: Tracer, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tracer:
        if x.dtype not in FLOATS:
            raise TraceError(f"var of a {x.dtype} array: the standard has it for floating ones only")
        off = self.square(x - self.mean(x, axis=axis, keepdims=True))
        total = self.sum(off, axis=axis, keepdims=keepdims)
        count = x.size // max(total.size, 1) - correction
        if count <= 0:
            raise TraceError(f"var with correction={correction} of too few elements: it would divide by 0")
        found: Tracer = total / count
        return found

    def std(self, x: Tracer, **options: Any) -> Tracer:
        found: Tracer = self.sqrt(self.var(x, **options))
        return found

    def count_nonzero(self, x: Tracer, *, axis: Any = None, keepdims: bool = False) -> Tracer:
        found: Tracer = self.sum(self.astype(self.astype(x, "bool"), "int64"), axis=axis, keepdims=keepdims)
        return found
