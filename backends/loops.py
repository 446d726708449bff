"""A recording as one function for numba: chains of elementwise operations and sums as loops, products through BLAS.

The source holds no size and no number: all of them stand in tables that the function is called with. So one compiled
function serves every network of one form, whatever its sizes, and batches of every size; and the source's hash names
it on disk.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nnx.backends.recorded import Replay, entry, pool, returned
from nnx.backends.replay import replay

from nnx.recording import Group, Op, Plan, Recording, RecordingError, Value, fused, planned
from nnx.recording.operations import names

FUNCTIONS = names(
    "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt floor ceil trunc "
    "atan2 hypot copysign"
)
OPERATORS = {
    "add": "({} + {})", "subtract": "({} - {})", "multiply": "({} * {})", "divide": "({} / {})",
    "floor_divide": "({} // {})", "bitwise_and": "({} & {})", "bitwise_or": "({} | {})",
    "bitwise_xor": "({} ^ {})", "bitwise_left_shift": "({} << {})", "bitwise_right_shift": "({} >> {})",
    "bitwise_invert": "(~{})", "equal": "({} == {})", "not_equal": "({} != {})", "less": "({} < {})",
    "less_equal": "({} <= {})", "greater": "({} > {})", "greater_equal": "({} >= {})", "negative": "(-{})",
    "abs": "abs({})", "square": "({0} * {0})", "reciprocal": "(1 / {})", "pow": "({} ** {})",
    "logical_and": "({} and {})", "logical_or": "({} or {})", "logical_xor": "({} != {})",
    "logical_not": "(not {})", "isnan": "({0} != {0})", "positive": "{}",
    "where": "({1} if {0} else {2})",
    # NaN, where there is one
    "maximum": "(({0} if not ({0} <= {1}) else {1}) if {1} == {1} else {1})",
    "minimum": "(({0} if not ({0} >= {1}) else {1}) if {1} == {1} else {1})",
    "sign": "({0} if {0} != {0} else {T}(1 if {0} > 0 else -1 if {0} < 0 else 0))",
}  # fmt: skip
NUMBER = {"maximum": "({0} if not ({0} <= {1}) else {1})", "minimum": "({0} if not ({0} >= {1}) else {1})"}
"""The same, where the second is a number, which is not NaN."""
REDUCED = {
    "sum": ("{T}(0)", "total({0}, {1})"),
    "mean": ("{T}(0)", "total({0}, {1})"),
    "prod": ("{T}(1)", "({0} * {1})"),
    "max": (None, OPERATORS["maximum"]),
    "min": (None, OPERATORS["minimum"]),
    "all": ("True", "({0} and {1})"),
    "any": ("False", "({0} or {1})"),
}
"""What a reduction begins with (None: the first element), and how it takes one more."""


class Source(NamedTuple):
    """The function and the tables it is called with."""

    text: str
    parameters: tuple[str, ...]
    sizes: Any
    numbers: dict[str, Any]
    constants: dict[str, Any]
    arenas: dict[str, Any]


def _space(op: Op) -> Any:
    """Return the shape that an operation goes over in a loop; None: it does not."""
    if op.kind == "reduction" and op.name in REDUCED:
        shape = op.reads[0].shape
        axes = op.option("axes")
        return shape if 0 < len(shape) <= 2 and len(axes) in (1, len(shape)) else None
    if op.kind == "elementwise" and 0 < op.out.ndim <= 2:
        return op.out.shape
    return None


class Loops:
    """A recording on its way to the source of a compiled function."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.groups: list[Group] = fused(recording, _space)
        self.plan: Plan = planned(recording, self.groups, inner=lambda value: 0)
        self.constants = recording.constants()
        self.lines: list[str] = []
        self.kernels: dict[str, str] = {}  # text: name
        self.names: dict[Value, str] = {}
        self.sizes: list[int] = []
        self.numbers: dict[str, list[Any]] = {}
        self.fixed: dict[str, Value] = {}  # arrays that are the same in every call
        self.dtypes: set[str] = set()
        offsets = np.cumsum([0, *(-(-size // 64) * 64 for size in self.plan.buffers)])
        self.offsets = [int(offset) for offset in offsets]

    def source(self) -> Source:
        """Return the source of the function `step`, and what it is called with.

        Raises
        ------
        RecordingError
            When an operation has no loop here.
        """
        for value in self.recording.inputs:
            self.names[value] = f"x{value.number}"
            if value.ndim == 0:
                self.names[value] = f"s{value.number}"
                self.lines.append(f"s{value.number} = x{value.number}[()]")
        outputs = []
        for value in self.recording.outputs:
            if value in self.recording.inputs:
                continue
            if value != self.recording.base(value) or value in self.constants:
                raise RecordingError("a result is a view or a constant")
            outputs.append(f"o{value.number}")
        for group in self.groups:
            if group.space is not None:
                self._loop(group)
            else:
                self._single(group.ops[0])
        for value in self.recording.outputs:
            if value.ndim == 0 and value not in self.recording.inputs:
                self.lines.append(f"o{value.number}[()] = {self._scalar(value)}")
        arenas = {f"A_{dtype}": dtype for dtype in sorted(self.dtypes)}
        inputs = [f"x{value.number}" for value in self.recording.inputs]
        parameters = (*inputs, *outputs, "D", *(f"C_{t}" for t in sorted(self.numbers)), *arenas, *self.fixed)
        body = "\n    ".join(self.lines)
        kernels = "\n\n\n".join(text.replace("KERNEL", name) for text, name in self.kernels.items())
        text = f"{HEAD}\n\n{kernels}\n\n@njit(cache=True, **PLAIN)\ndef step({', '.join(parameters)}):\n    {body}\n"
        memory = _aligned(self.offsets[-1])
        return Source(
            text,
            parameters,
            np.asarray(self.sizes or [0], np.int64),
            {f"C_{t}": np.asarray(numbers, t) for t, numbers in self.numbers.items()},
            dict(zip(self.fixed, _values(self.recording, list(self.fixed.values())), strict=True)),
            {name: memory[: len(memory) // 8 * 8].view(dtype) for name, dtype in arenas.items()},
        )

    # Where a value lies.

    def _size(self, number: int) -> str:
        """Return a size, out of the table."""
        self.sizes.append(number)
        return f"D[{len(self.sizes) - 1}]"

    def _number(self, number: Any, dtype: str) -> str:
        """Return a number, out of the table of its dtype."""
        table = self.numbers.setdefault(dtype, [])
        table.append(number)
        return f"C_{dtype}[{len(table) - 1}]"

    def _shape(self, shape: tuple[int, ...]) -> str:
        return "(" + "".join(f"{self._size(n)}, " for n in shape) + ")"

    def _is_scalar(self, value: Value) -> bool:
        base = self.recording.base(value)
        flat = all(view.name in ("reshape", "broadcast") for view in self.recording.views(value))
        return base.ndim == 0 and base not in self.constants and flat

    def _scalar(self, value: Value) -> str:
        return self.names[self.recording.base(value)]

    def _name(self, value: Value) -> str:
        """Return the variable that is the value, an array."""
        if value in self.names:
            return self.names[value]
        name = self.names[value] = f"v{value.number}"
        op = self.recording.makers[value]
        if value in self.constants and op.kind != "view":
            self.names[value] = name = f"f{value.number}"
            self.fixed[name] = value
        elif op.kind == "view":
            self.lines.append(f"{name} = {self._name(op.reads[0])}{self._view(op)}")
        elif value in self.plan.shared:
            self.names[value] = name = self._name(self.plan.shared[value])
            if self.plan.shared[value].ndim == 0:
                raise RecordingError("a number shares its memory")
        elif value in self.plan.parts:
            part = self.plan.parts[value]
            if part.whole.ndim != 1:
                raise RecordingError("a part of a stack")
            whole = self._name(part.whole)
            start, stop = self._size(part.start), self._size(part.stop)
            self.lines.append(f"{name} = {whole}[{start}:{stop}].reshape({self._shape(value.shape)})")
        elif value in self.recording.outputs:
            self.names[value] = name = f"o{value.number}"
        else:
            self.dtypes.add(value.dtype)
            offset = self.offsets[self.plan.buffer[value]] // np.dtype(value.dtype).itemsize
            start, stop = self._size(offset), self._size(offset + value.size)
            self.lines.append(f"{name} = A_{value.dtype}[{start}:{stop}].reshape({self._shape(value.shape)})")
        return name

    def _view(self, op: Op) -> str:
        value = op.reads[0]
        if op.name == "permute":
            if sum(n != 1 for n in value.shape) < 2:
                return f".reshape({self._shape(op.out.shape)})"
            if value.ndim == 2:
                return ".T"
        if op.name == "reshape":
            return f".reshape({self._shape(op.out.shape)})"
        if op.name == "slice":
            parts = []
            for key, n in zip(op.option("key"), value.shape, strict=True):
                if isinstance(key, slice) and (key.start, key.stop, key.step) == (0, n, 1):
                    parts.append(":")
                elif isinstance(key, slice) and key.step == 1:
                    parts.append(f"{self._size(key.start)}:{self._size(key.stop)}")
                else:
                    raise RecordingError("an index or a step")
            return f"[{', '.join(parts)}]"
        raise RecordingError(f"{op.name} has no loop")

    # What is done.

    def _single(self, op: Op) -> None:
        if op.kind == "elementwise" and op.out.ndim == 0:
            args = []
            for arg in op.args:
                if not isinstance(arg, Value):
                    args.append(self._number(arg, _dtype(op)))
                elif self._is_scalar(arg):
                    args.append(self._scalar(arg))
                else:
                    raise RecordingError("an element of an array")
            self.names[op.out] = f"s{op.out.number}"
            self.lines.append(f"s{op.out.number} = {_expression(op, args)}")
        elif (
            op.name == "matmul"
            and op.out.ndim == 2
            and op.reads[0].dtype == op.reads[1].dtype == op.out.dtype
        ):
            a, b = op.reads if len(op.reads) == 2 else op.reads * 2
            x, y, out = self._name(a), self._name(b), self._name(op.out)
            if op.out.dtype not in ("float32", "float64"):
                raise RecordingError("a product of integers")
            if b.shape[1] == 1:
                y, out = f"{y}.reshape({self._size(b.size)})", f"{out}.reshape({self._size(op.out.size)})"
            self.lines.append(f"np.dot({x}, {y}, {out})")
        elif op.name == "concat" and op.out.ndim == 1:
            at = 0
            for arg in op.reads:
                start, at = at, at + arg.size
                part = self.plan.parts.get(self.recording.base(arg))
                if part is None or (part.whole, part.start) != (op.out, start):
                    x = self._name(arg)  # before the line below: it may have one of its own
                    self.lines.append(f"{self._name(op.out)}[{self._size(start)}:{self._size(at)}] = {x}")
        elif op.name == "copy":
            x, out = self._name(op.reads[0]), self._name(op.out)
            self.lines.append(f"{out}[...] = {x}")
        else:
            raise RecordingError(f"{op.name} of {[x.ndim for x in op.reads]} axes has no loop")

    def _loop(self, group: Group) -> None:
        """Call a kernel: a function of its own, which groups of the same form share."""
        kernel = Kernel(self, group)
        text, call = kernel.text()
        name = self.kernels.setdefault(text, f"k{len(self.kernels)}")
        results = "".join(f"{result}, " for result in kernel.results)
        self.lines.append(f"{results + '= ' if results else ''}{name}({call})")


class Kernel:
    """The loop over the elements of one group."""

    def __init__(self, loops: Loops, group: Group) -> None:
        self.loops, self.group = loops, group
        self.space: tuple[int, ...] = group.space  # type: ignore[assignment]
        self.parameters: dict[str, str] = {}  # what is handed in: its name here
        self.rows: list[str] = []  # lines before the inner loop
        self.inner: list[str] = []
        self.before: list[str] = []
        self.after_row: list[str] = []
        self.after: list[str] = []
        self.local: dict[Value, str] = {}
        self.results: list[str] = []
        self.returns: list[str] = []

    def text(self) -> tuple[str, str]:
        """Return the kernel's source, in which only its place in the module is missing, and the call's arguments."""
        two = len(self.space) == 2
        for number, op in enumerate(self.group.ops):
            if op.kind == "reduction":
                self._reduce(op, number)
            else:
                self._element(op, number)
        sizes = [self.loops._size(n) for n in self.space]
        call = ", ".join([*self.parameters, *sizes])
        parameters = ", ".join([*self.parameters.values(), *(["n", "m"] if two else ["m"])])
        lines = [f"def KERNEL({parameters}):", *_indented(self.before)]
        if two:
            lines += ["    for i in range(n):", *_indented(self.rows, 2), "        for j in range(m):"]
            lines += [*_indented(self.inner, 3), *_indented(self.after_row, 2)]
        else:
            lines += [*_indented(self.rows), "    for j in range(m):", *_indented(self.inner, 2)]
            lines += _indented(self.after_row)
        lines += _indented(self.after)
        if self.returns:
            lines.append(f"    return ({''.join(f'{x}, ' for x in self.returns)})")
        text = "\n".join(lines)
        return f"@njit(**PLAIN)\n{text}", call

    def _parameter(self, name: str) -> str:
        return self.parameters.setdefault(name, f"p{len(self.parameters)}")

    def _index(self, shape: tuple[int, ...]) -> str:
        """Return how an element of an array is found in the loops."""
        letters = ("i", "j")[-len(self.space) :]
        letters = letters[len(letters) - len(shape) :]
        sizes = self.space[len(self.space) - len(shape) :]
        return ", ".join("0" if n != size else k for n, size, k in zip(shape, sizes, letters, strict=True))

    def _read(self, arg: Any, op: Op) -> str:
        """Return the variable with an argument's element, loaded as far out as can be."""
        loops = self.loops
        if not isinstance(arg, Value):
            return self._parameter(loops._number(arg, _dtype(op)))
        if arg in self.local:
            return self.local[arg]
        if loops._is_scalar(arg):
            return self._parameter(loops._scalar(arg))
        array = self._parameter(loops._name(arg))
        index = self._index(arg.shape)
        name = self.local[arg] = f"a{len(self.local)}"
        inner = index.split(", ")[-1] == "j" and (len(arg.shape) > 0)
        (self.inner if inner else self.rows).append(f"{name} = {array}[{index}]")
        return name

    def _element(self, op: Op, number: int) -> None:
        args = [self._read(arg, op) for arg in op.args]
        name = f"e{number}"
        self.inner.append(f"{name} = {_expression(op, args)}")
        self.local[op.out] = name
        if op.out not in self.group.inner:
            array = self._parameter(self.loops._name(op.out))
            self.inner.append(f"{array}[{self._index(op.out.shape)}] = {name}")

    def _reduce(self, op: Op, number: int) -> None:
        x, dtype, axes = self._read(op.reads[0], op), op.out.dtype, op.option("axes")
        first, take = REDUCED[op.name]
        if first is None:
            kind = np.finfo if dtype.startswith("float") else np.iinfo
            low, high = (-np.inf, np.inf) if kind is np.finfo else (kind(dtype).min, kind(dtype).max)
            first = self._parameter(self.loops._number(low if op.name == "max" else high, dtype))
        else:
            first = first.format(T=dtype)
        count = None
        if op.name == "mean":
            count = self._parameter(self.loops._number(op.reads[0].size // op.out.size, dtype))
        name = f"e{number}"
        cast = f"{dtype}({{}})" if dtype.startswith("int") else "{}"
        whole = len(axes) == len(self.space)
        if whole or axes == (1,):  # one number for all, or for a row
            (self.before if whole else self.rows).append(f"{name} = {first}")
            self.inner.append(f"{name} = {cast.format(take.format(name, x))}")
            after = self.after if whole else self.after_row
            if count:
                after.append(f"{name} = {name} / {count}")
            if op.out.ndim == 0:
                self.returns.append(name)
                self.results.append(f"s{op.out.number}")
                self.loops.names[op.out] = f"s{op.out.number}"
            else:
                array = self._parameter(self.loops._name(op.out))
                index = {1: "0" if whole else "i", 2: "0, 0" if whole else "i, 0"}[op.out.ndim]
                after.append(f"{array}[{index}] = {name}")
            return
        array = self._parameter(self.loops._name(op.out))  # a row of sums
        index = "0, j" if op.out.ndim == 2 else "j"
        self.before += ["for j in range(m):", f"    {array}[{index}] = {first}"]
        self.inner.append(f"{array}[{index}] = {cast.format(take.format(f'{array}[{index}]', x))}")
        if count:
            self.after += ["for j in range(m):", f"    {array}[{index}] /= {count}"]


HEAD = Path(__file__).with_name("elementary.py").read_text(encoding="utf-8")
FLOAT32 = {"exp": "exp32", "expm1": "expm1_32", "log": "log32", "log1p": "log1p_32", "tanh": "tanh32"}
"""What there is a vector form of."""


def _indented(lines: list[str], depth: int = 1) -> list[str]:
    return [f"{'    ' * depth}{line}" for line in lines]


def _dtype(op: Op) -> str:
    """Return the dtype of the numbers beside an operation's arrays."""
    return op.out.dtype if op.name == "where" else op.reads[0].dtype


def _expression(op: Op, args: list[str]) -> str:
    """Return an elementwise operation on single numbers, in the dtype that it must have."""
    dtype = op.out.dtype
    if op.name == "astype":
        return f"({args[0]} != 0)" if dtype == "bool" else f"{dtype}({args[0]})"
    if op.name in FUNCTIONS:
        name = FLOAT32.get(op.name, op.name) if dtype == "float32" and op.out.ndim else op.name
        text = f"{name}({', '.join(args)})"
    elif op.name in OPERATORS:
        form = NUMBER.get(op.name) if not isinstance(op.args[-1], Value) else None
        text = (form or OPERATORS[op.name]).format(*args, T=dtype)
    else:
        raise RecordingError(f"{op.name} has no loop")
    return text if dtype == "bool" else f"{dtype}({text})"


def _values(recording: Recording, values: list[Value]) -> list[Any]:
    """Return what is the same in every call."""
    if not values:
        return []
    constants = recording.constants()
    part = Recording((), tuple(op for op in recording.ops if op.out in constants), (), values)
    return [np.ascontiguousarray(x) for x in replay(part)()]


def _aligned(size: int) -> Any:
    raw = np.zeros(size + 128, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size + 64]


def function(recording: Recording, compiled: Any) -> Replay:
    """Return the recorded function by a compiled one.

    Parameters
    ----------
    recording : Recording
    compiled : callable
        Makes the source's text a function `step`, and one that is called instead when arrays come in a form that
        `step` is not compiled for.
    """
    source = Loops(recording).source()
    parameters, body, given = entry(recording)
    names: dict[Value, str] = {value: f"x{value.number}" for value in recording.inputs}
    for value in recording.outputs:
        if value not in recording.inputs:
            names[value] = f"o{value.number}"
            given[f"take{value.number}"] = pool(value.shape, value.dtype)
            body.append(f"o{value.number} = take{value.number}()")
    tables = {"D": source.sizes, **source.numbers, **source.arenas, **source.constants}
    given |= {f"T_{name}": table for name, table in tables.items()}
    step, again = compiled(source.text)

    def first(*arrays: Any) -> None:
        given["step"] = step
        again(*arrays)

    given |= {"step": first, "again": again}
    arguments = ", ".join(f"T_{name}" if name in tables else name for name in source.parameters)
    body += ["try:", f"    step({arguments})", "except TypeError:", f"    again({arguments})"]
    result = returned(recording, names, given)
    text = "\n    ".join([f"def replayed({parameters}):", *body, f"return {result}"])
    exec(compile(text, "<nnx recording>", "exec"), given)
    made: Replay = given["replayed"]
    made.source = source.text  # for people
    return made
