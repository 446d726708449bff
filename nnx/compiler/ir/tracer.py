"""Arrays without numbers: each function of the standard that is called on them becomes an operation of the graph."""

from collections.abc import Callable, Sequence
from typing import Any

from nnx.compiler.ir import views
from nnx.compiler.ir.graph import Arg, Op, Value
from nnx.compiler.ir.operations import NotPortableError, TraceError


class GraphBuilder:
    """The inputs and operations of a graph that is being traced; `Namespace` adds the standard's functions."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.inputs: list[Value] = []
        self._strides: dict[Value, views.Strides] = {}

    def input(self, shape: Sequence[int], dtype: str) -> "Tracer":
        """Return a new input; all of them before the first operation."""
        self.inputs.append(Value(len(self.inputs), tuple(shape), dtype))
        return Tracer(self, self.inputs[-1])

    def write(
        self, name: str, args: Sequence[Any], shape: Sequence[int], dtype: str, **options: Any
    ) -> "Tracer":
        """Add an operation, and return its result."""
        values: tuple[Arg, ...] = tuple(arg.value if isinstance(arg, Tracer) else arg for arg in args)
        out = Value(len(self.inputs) + len(self.ops), tuple(shape), dtype)
        self.ops.append(Op(name, values, out, tuple(options.items())))
        return Tracer(self, out)

    def strides(self, x: "Tracer") -> views.Strides:
        """Return the strides of an array: of all but views, those of a row-major one."""
        return self._strides.get(x.value, views.contiguous(x.shape))

    def view(self, name: str, x: "Tracer", shape: Sequence[int], **options: Any) -> "Tracer":
        """Add a view of x."""
        found = self.write(name, [x], shape, x.dtype, **options)
        viewed = views.viewed(self.ops[-1], x.shape, self.strides(x))
        assert viewed is not None
        self._strides[found.value] = viewed[1]
        return found


class Tracer:
    """An array of which the shape and dtype are known."""

    __array_ufunc__ = None  # an array of NumPy's beside it is an error that says so
    device = None

    def __init__(self, xp: Any, value: Value) -> None:
        self.xp, self.value = xp, value

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: len(self.value.shape))
    size = property(lambda self: self.value.size)
    mT = property(lambda self: self.xp.matrix_transpose(self))  # noqa: N815  # the standard's name
    T = property(lambda self: self.xp.permute_dims(self, range(self.ndim)[::-1]))

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.xp

    def __getitem__(self, key: Any) -> "Tracer":
        keys = key if isinstance(key, tuple) else (key,)
        missing = self.ndim - sum(k is not None and k is not ... for k in keys)
        at = next((at for at, k in enumerate(keys) if k is ...), len(keys))
        shape: list[int] = []
        normal: list[Any] = []
        sizes = iter(self.shape)
        for k in (*keys[:at], *(slice(None),) * missing, *keys[at + 1 :]):
            if k is None:
                shape.append(1)
                normal.append(None)
            elif isinstance(k, slice):
                part = range(*k.indices(next(sizes)))
                shape.append(len(part))
                stop = None if part.step < 0 and part.stop < 0 else part.stop
                normal.append(slice(part.start, stop, part.step))
            elif type(k) is int:
                n = next(sizes)
                normal.append(k + (n if k < 0 else 0))
            else:
                raise TraceError(f"an index of type {type(k).__name__}: only slices and integers are views")
        return self.xp.view("slice", self, shape, key=tuple(normal))  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotPortableError("an array is written into (x[...] = y), which not every library allows")


def _forbidden(what: str) -> Callable[..., Any]:
    def read(self: Any, *args: Any) -> Any:
        raise NotPortableError(f"{what}: nnx calls the function once, before an array has values")

    return read


_READS = {
    "bool": "bool() of an array, a branch on its values, such as if, while, and, or, not, max(a, b)",
    "int": "int() of an array", "float": "float() of an array, as a function of math calls it",
    "complex": "complex() of an array", "index": "an array as an index",
    "array": "an array made NumPy's, as by np.asarray and most functions of NumPy",
    "dlpack": "an array handed to another library",
    "iter": "iter() of an array, a loop over its values, such as for, sum, zip",
    "len": "len() of an array (x.shape has it)", "contains": "in, the search for a value in an array",
}  # fmt: skip
"""What a user has written where Python calls these methods, which would read the numbers of an array."""
for _name, _what in _READS.items():
    setattr(Tracer, f"__{_name}__", _forbidden(_what))


def _operator(function: str, reflected: bool = False) -> Callable[..., Any]:
    def operate(self: Tracer, *others: Any) -> Any:
        args = (*others, self) if reflected else (self, *others)
        return getattr(self.xp, function)(*args)

    return operate


_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_OTHERS = {
    "neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert", "eq": "equal",
    "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
for _name, _function in {**_BINARY, **_OTHERS}.items():
    setattr(Tracer, f"__{_name}__", _operator(_function))
for _name, _function in _BINARY.items():
    setattr(Tracer, f"__r{_name}__", _operator(_function, reflected=True))
Tracer.__hash__ = object.__hash__  # type: ignore[method-assign]
