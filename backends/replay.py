"""A recording done again with NumPy: each operation one call, with `out=`, into a buffer planned beforehand."""

from typing import Any

import numpy as np

from nnx.backends.recorded import Replay, entry, pool, returned
from nnx.host import quiet
from nnx.recording import Op, Plan, Recording, RecordingError, Value, nbytes, planned

_UFUNCS = {"round": np.rint, "abs": np.absolute}
_REDUCTIONS = {
    "sum": np.add, "mean": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "all": np.logical_and, "any": np.logical_or,
}  # fmt: skip
SMALL = 8192
"""Elements up to which a sum over an axis costs less as a product by ones: one call of BLAS."""


def replay(recording: Recording) -> Replay:
    """Return the recorded function as a list of NumPy's calls, none of which allocates an array.

    Raises
    ------
    RecordingError
        When an operation is not known here.
    """
    return _Lowering(recording, planned(recording, over=_over)).function()


def _over(op: Op) -> tuple[Value, ...]:
    """Return the arguments over which NumPy can write the result."""
    if op.name == "where":  # is a copy of its last, over which the other is written
        return op.reads[-1:] if isinstance(op.args[2], Value) and op.args[2] not in op.args[:2] else ()
    return op.reads if op.kind == "elementwise" else ()


class _Lowering:
    """A recording on its way to Python source.

    What lies in buffers is made once, and is a global of the function; what is handed in, and the results, change
    from call to call, and are its local variables.
    """

    def __init__(self, recording: Recording, plan: Plan) -> None:
        self.recording, self.plan = recording, plan
        self.constants = recording.constants()
        self.globals: dict[str, Any] = {"copyto": np.copyto, "dot": np.dot, "matmul": np.matmul}
        self.names: dict[Value, str] = {value: f"x{value.number}" for value in recording.inputs}
        self.lines: list[str] = []
        self._buffers = [aligned(size) for size in plan.buffers]

    def function(self) -> Replay:
        """Return the function."""
        parameters, body, given = entry(self.recording)
        self.globals |= given
        for op in self.recording.ops:
            if op.out in self.constants and op.kind != "view":
                self._constant(op)
        for op in self.recording.ops:
            if op.kind != "view" and op.out not in self.constants:
                self._write(op)
        for value in self.recording.outputs:
            base = self.recording.base(value)
            if value != base or value in self.constants or value in self.plan.parts:  # the result is its own
                self.lines.append(f"r{value.number} = {self._name(value)}.copy()")
                self.names[value] = f"r{value.number}"
            elif value not in self.recording.inputs:
                self._name(value)
        result = returned(self.recording, self.names, self.globals)
        source = "\n    ".join([f"def replayed({parameters}):", *body, *self.lines, f"return {result}"])
        exec(compile(source, "<nnx recording>", "exec"), self.globals)
        function: Replay = quiet()(self.globals["replayed"])
        function.source = source  # for people
        return function

    # Where a value lies.

    def _name(self, value: Value) -> str:
        """Return the name of the variable that is the value."""
        if value not in self.names:
            op = self.recording.makers[value]
            if op.name == "broadcast":
                self.globals["broadcast_to"] = np.broadcast_to
                source = self._name(op.reads[0])
                self.names[value] = f"v{value.number}"
                self.lines.append(f"v{value.number} = broadcast_to({source}, {value.shape})")
            elif op.kind == "view":
                self._define(value, self._name(op.args[0]), _view(op))  # type: ignore[arg-type]
            elif value in self.plan.shared:
                self.names[value] = self._name(self.plan.shared[value])
            elif value in self.plan.parts:
                part = self.plan.parts[value]
                key = (slice(None),) * part.axis + (slice(part.start, part.stop),)
                self._define(value, self._name(part.whole), [("[{}]", key), (".reshape({})", value.shape)])
            elif value in self.recording.outputs:
                self.globals[f"take{value.number}"] = pool(value.shape, value.dtype)
                self.names[value] = f"o{value.number}"
                self.lines.append(f"o{value.number} = take{value.number}()")
            else:
                flat = self._buffers[self.plan.buffer[value]][: nbytes(value)]
                self._global(value, flat.view(value.dtype).reshape(value.shape))
        return self.names[value]

    def _global(self, value: Value, array: Any) -> None:
        self.names[value] = f"v{value.number}"
        self.globals[f"v{value.number}"] = array

    def _define(self, value: Value, source: str, steps: list[tuple[str, Any]]) -> None:
        """Make a view: at once where what it looks at stays in its place, else in every call."""
        array = self.globals.get(source)
        text = source
        for number, (step, key) in enumerate(steps):
            name = f"i{value.number}_{number}"
            self.globals[name] = key
            text += step.format(name)
        if array is not None:
            found = eval(text, self.globals)
            if not np.may_share_memory(found, array):
                raise RecordingError(f"{value} is not the view that it should be")
            self._global(value, found)
        else:
            self.names[value] = f"v{value.number}"
            self.lines.append(f"v{value.number} = {text}")

    def _scalar(self, number: Any, dtype: str) -> str:
        name = f"c_{dtype}_{len(self.globals)}"
        for known, value in self.globals.items():
            if known.startswith(f"c_{dtype}_") and value.tobytes() == np.asarray(number, dtype).tobytes():
                return known
        self.globals[name] = np.asarray(number, dtype)
        return name

    # What is done.

    def _constant(self, op: Op) -> None:
        """Compute now what is the same in every call."""
        if op.name == "full":
            array = np.full(op.out.shape, op.option("value"), op.out.dtype)
        elif op.name == "arange":
            start, step = op.option("start"), op.option("step")
            array = np.arange(start, start + step * op.out.size, step).astype(op.out.dtype)
        else:
            self._global(op.out, np.empty(op.out.shape, op.out.dtype))
            before, self.lines = self.lines, []
            self._write(op)
            with quiet():
                exec("\n".join(self.lines), self.globals)
            self.lines = before
            return
        self._global(op.out, array)

    def _write(self, op: Op) -> None:
        out = self._name(op.out)
        dtype = op.out.dtype if op.name == "where" or not op.reads else op.reads[0].dtype
        args = [self._name(x) if isinstance(x, Value) else self._scalar(x, dtype) for x in op.args]
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
            ufunc = _UFUNCS.get(op.name) or getattr(np, op.name)
            self.globals[op.name] = ufunc
            self.lines.append(f"{op.name}({', '.join(args)}, out={out})")
        elif kind == "matmul":
            product = "dot" if op.out.ndim == 2 and self._in_one_piece(op.out) else "matmul"
            self.lines.append(f"{product}({args[0]}, {args[1]}, {out})")
        elif kind == "concat":
            self._concat(op, out, args)
        elif kind == "reduction":
            self._reduction(op, out, args[0])
        else:
            raise RecordingError(f"{op.name} is not replayed with NumPy")

    def _in_one_piece(self, value: Value) -> bool:
        part = self.plan.parts.get(value)
        return part is None or part.whole.ndim == 1

    def _concat(self, op: Op, out: str, args: list[str]) -> None:
        axis, at = op.option("axis"), 0
        for number, (arg, name) in enumerate(zip(op.reads, args, strict=True)):
            start, at = at, at + arg.shape[axis]
            part = self.plan.parts.get(self.recording.base(arg))
            if part is None or (part.whole, part.start) != (op.out, start):
                key = f"j{op.out.number}_{number}"
                self.globals[key] = (slice(None),) * axis + (slice(start, at),)
                self.lines.append(f"copyto({out}[{key}], {name})")

    def _reduction(self, op: Op, out: str, x: str) -> None:
        axes, value = op.option("axes"), op.reads[0]
        if op.name in ("argmax", "argmin"):
            self.lines.append(f"{x}.{op.name}({axes[0]}, {out}, keepdims={op.option('keepdims')})")
            return
        if (
            op.name == "sum"
            and value.ndim == 2
            and len(axes) == 1
            and value.size <= SMALL
            and (value.dtype in ("float32", "float64") and self._in_one_piece(op.out))
        ):
            ones = f"ones_{value.dtype}_{value.shape[axes[0]]}"
            self.globals[ones] = np.ones(value.shape[axes[0]], value.dtype)
            flat = out
            if op.option("keepdims"):
                flat = f"{out}.reshape({op.out.size})"
                if out in self.globals:
                    self.globals[f"{out}_flat"] = self.globals[out].reshape(op.out.size)
                    flat = f"{out}_flat"
            self.lines.append(f"dot({x}, {ones}, {flat})" if axes == (1,) else f"dot({ones}, {x}, {flat})")
            return
        name = f"reduce_{op.name}"
        self.globals[name] = _REDUCTIONS[op.name].reduce
        axis = axes[0] if len(axes) == 1 else axes
        self.lines.append(f"{name}({x}, {axis}, None, {out}, {op.option('keepdims')})")
        if op.name == "mean":
            count = self._scalar(value.size // max(op.out.size, 1), value.dtype)
            self.globals["divide"] = np.divide
            self.lines.append(f"divide({out}, {count}, out={out})")


def _view(op: Op) -> list[tuple[str, Any]]:
    """Return how a view is taken: an expression's end, and what stands in it."""
    if op.name == "slice":
        return [("[{}]", op.option("key"))]
    if op.name == "reshape":
        return [(".reshape({})", op.out.shape)]
    if op.name == "permute":
        return [(".transpose({})", op.option("axes"))]
    raise RecordingError(f"{op.name} is not replayed with NumPy")


def aligned(size: int) -> Any:
    """Return bytes that begin at a cache line."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]
