"""The kernels and products of a training step of CuPy's backend, with their bytes, operations and times.

Without a GPU there are no times: the step's schedule tells the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

from nnx.array.gather import Data
from nnx.backends.cupy.adapter import CuPy
from nnx.backends.cupy.cost import cost, moved_bytes
from nnx.backends.cupy.gpu import Gpu
from nnx.backends.cupy.loop import with_loop
from nnx.backends.cupy.rendering import Stub, render_step
from nnx.backends.cupy.resident import ResidentStep
from nnx.backends.cupy.state import StateMemory
from nnx.backends.cupy.step import Product, RenderedStep
from nnx.backends.cupy.timing import CALLS, ROUNDS, fastest_round, seconds
from nnx.bench.call_names import call_names
from nnx.bench.case import Case
from nnx.bench.contestant import split_backend
from nnx.bench.floor_cuda import StepProducts
from nnx.compiler.ir.graph import nbytes
from nnx.errors import BackendError, InputError, count, shown
from nnx.port.precision import FLOAT32, check_dtype, precision_note
from nnx.port.registry import backend as find_backend
from nnx.train.step import initial_state, training_step

COPIED, LARGE = 1 << 28, 4096
"""The bytes of a large copy, and the size of the matrices of a large product: by them a GPU's speed is measured."""

COSTS = 4 * CALLS * (ROUNDS + 1)
"""The steps for whose costs there is memory: timing a step and its last kernel counts fewer."""


@dataclass(frozen=True)
class Row:
    """A kernel or a product.

    Attributes
    ----------
    name : str
        The values that it writes and those that it reads: "Z1 = W1 X" is a product, "A1 from Z1, b1" a kernel.
    call : str
        "k1<<<blocks, threads>>>", or "gemm TN MxNxK" as BLAS has it.
    is_product : bool
    bytes, flops : int
        The bytes of the arrays that it reads and writes, each once; a product's multiplications and additions.
    seconds : float or None
        Of the call by itself, repeated.
    least_seconds : float or None
        The time that its bytes, or its operations, need at the speed of the GPU.
    """

    name: str
    call: str
    is_product: bool
    bytes: int
    flops: int
    seconds: float | None = None
    least_seconds: float | None = None


@dataclass(frozen=True)
class Profile:
    """The calls of a step, in order. Without a GPU all times are None.

    Attributes
    ----------
    case : Case
    precision : str
    rows : tuple of Row
    least_bytes : int
        Of all kernels: see `nnx.backends.cupy.cost.Cost`.
    device, absent : str or None
        The GPU's name; why there is none.
    graph_seconds : float or None
        Of the step as one CUDA graph, where calls run beside each other. None, too, if CUDA has refused the graph.
    bytes_per_second, flops_per_second : float or None
        Of a large copy, and of a large product in the same precision.
    """

    case: Case
    precision: str
    rows: tuple[Row, ...]
    least_bytes: int
    device: str | None = None
    absent: str | None = None
    graph_seconds: float | None = None
    bytes_per_second: float | None = None
    flops_per_second: float | None = None

    @property
    def kernels(self) -> int:
        """The number of kernels."""
        return sum(not row.is_product for row in self.rows)

    @property
    def products(self) -> int:
        """The number of products."""
        return sum(row.is_product for row in self.rows)

    @property
    def bytes(self) -> int:
        """The bytes that all calls read and write."""
        return sum(row.bytes for row in self.rows)

    @property
    def flops(self) -> int:
        """The operations of the products."""
        return sum(row.flops for row in self.rows)

    @property
    def seconds(self) -> float | None:
        """The sum of the times of the calls by themselves."""
        return total(row.seconds for row in self.rows)

    @property
    def least_seconds(self) -> float | None:
        """The sum of the least times."""
        return total(row.least_seconds for row in self.rows)

    def __str__(self) -> str:
        case = self.case
        sizes = "-".join(map(str, case.sizes))
        rows = [
            *self.rows,
            self._together("all kernels", False),
            self._together("all products", True),
            Row("all kernels, at least", "", False, self.least_bytes, 0),
        ]
        if self.graph_seconds is not None:
            rows.append(Row("the step as one CUDA graph", "", False, 0, 0, self.graph_seconds))
        columns = len(HEAD) if self.device is not None else 4  # no times without a GPU
        lines = [line[:columns] for line in (HEAD, *((row.name, row.call, *_numbers(row)) for row in rows))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        title = f"{sizes}, {case.optimizer}, {case.dtype}, m = {case.m:,}{precision_note(self.precision)}"
        return "\n".join([title, *(_line(cells, widths) for cells in lines)])

    def _together(self, name: str, is_product: bool) -> Row:
        """Return the sums over the kernels or the products."""
        some = [row for row in self.rows if row.is_product == is_product]
        moved, done = sum(row.bytes for row in some), sum(row.flops for row in some)
        times = total(row.seconds for row in some), total(row.least_seconds for row in some)
        return Row(name, count(len(some), "call"), is_product, moved, done, *times)


HEAD = "computes", "call", "kB", "MFLOP", "µs", "at least µs"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells as a line: two columns of text, then numbers."""
    sides = "<<" + ">" * len(cells)
    padded = (f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=False))
    return "  ".join(padded).rstrip()


def _numbers(row: Row) -> Iterable[str]:
    """Give the numbers of a row: in kilobytes, million operations, microseconds."""
    for number, unit, form in (
        (row.bytes, 1e3, ",.1f"),
        (row.flops, 1e6, ",.1f"),
        (row.seconds, 1e-6, ",.2f"),
        (row.least_seconds, 1e-6, ",.2f"),
    ):
        yield format(number / unit, form) if number else ""


def total(numbers: Iterable[float | None]) -> float | None:
    """Return the sum; None if one is not known.

    Examples
    --------
    >>> total([1.0, 2.0]), total([1.0, None])
    (3.0, None)
    """
    known = [*numbers]
    return None if None in known else sum(x for x in known if x is not None)


def step_profile(case: Case, backend: str = "cupy") -> Profile:
    """Return the kernels and products of a step, with times where there is a GPU.

    Parameters
    ----------
    case : Case
    backend : str
        "cupy", with its device and precision where they matter: "cupy@cuda:1/tf32".

    Examples
    --------
    >>> profile = step_profile(Case((784, 512, 512, 10), m=128))
    >>> profile.kernels, profile.products, profile.flops == profile.case.flops
    (11, 8, True)
    """
    name, device, precision = split_backend(backend)
    if name != "cupy" or not (device or "cuda").startswith("cuda"):
        raise InputError(
            f"kernels are those of the backend cupy, as 'cupy' or 'cupy/tf32', on a CUDA GPU; given {shown(backend)}"
        )
    check_dtype(precision or FLOAT32, case.dtype)
    network, optimizer = case.network(), case.make_optimizer()
    step = training_step(network, optimizer)
    state = initial_state(network, optimizer, network.init(case.seed, case.dtype), seed=case.seed)
    targets = ((case.M,), "int32") if case.sizes[-1] > 1 else ((1, case.M), case.dtype)
    data = Stub((case.sizes[0], case.M), case.dtype), Stub(*targets), None
    rendered = render_step(step, state, data, case.m, precision or FLOAT32)
    rows = tuple(_rows(rendered, call_names(rendered, network)))
    least = cost(rendered).least_bytes + rows[0].bytes + rows[-1].bytes
    profile = Profile(case, precision or FLOAT32, rows, least)
    try:
        found = cast("CuPy", find_backend("cupy", device, precision))
    except BackendError as error:
        return replace(profile, absent=str(error))
    return _timed(profile, found, rendered, state)


def _rows(rendered: RenderedStep, names: list[str]) -> Iterable[Row]:
    """Give the rows without times."""
    pick, *calls, last = with_loop(rendered).calls
    graph = rendered.schedule.graph
    samples = sum(nbytes(x) for x in graph.arguments[1] if x is not None)
    yield Row("X, Y of the mini-batch", str(pick), False, 2 * samples, 0)
    for call, name, moved in zip(calls, names, moved_bytes(rendered), strict=True):
        flops = call.flops if isinstance(call, Product) else 0
        yield Row(name, str(call), isinstance(call, Product), moved, flops)
    yield Row("J stored, step counted", str(last), False, 2 * nbytes(graph.result[1]), 0)


def _timed(profile: Profile, found: CuPy, rendered: RenderedStep, state: dict[str, Any]) -> Profile:
    """Return a profile with its times on a GPU."""
    gpu, case = found.gpu.again(), profile.case
    X, y = case.data()
    Y = y if case.sizes[-1] > 1 else y[None].astype(case.dtype)
    data = found.asarray(X).T, found.asarray(Y), None
    with gpu.use() as stream:
        memory = StateMemory(gpu, state)
        memory.load(state)
        memory.begin()
        step = ResidentStep(gpu, rendered, memory, profile.precision, gpu.empty)
        whole, own = _times(gpu, step, data, stream)
    bytes_per_second, flops_per_second = speeds(found.device, case.dtype, profile.precision)
    rows = (
        replace(
            row,
            seconds=time,
            least_seconds=max(row.bytes / bytes_per_second, row.flops / flops_per_second),
        )
        for row, time in zip(profile.rows, own, strict=True)
    )
    return replace(
        profile,
        rows=tuple(rows),
        device=found.describe().partition(": ")[2],
        graph_seconds=whole,
        bytes_per_second=bytes_per_second,
        flops_per_second=flops_per_second,
    )


def _times(gpu: Gpu, step: ResidentStep, data: Data, stream: Any) -> tuple[float | None, list[float]]:
    """Return the seconds of the step as one graph, and of each call by itself."""
    costs = step.begin(data, None, 0, COSTS)
    for _ in range(2):  # the second one captures the graph
        step.step(stream)

    def steps() -> None:
        for _ in range(CALLS):
            step.step(stream)

    whole = None if step.has_no_graph else fastest_round(gpu, steps) / CALLS
    own = [_seconds(gpu, step, k) for k in range(len(step.calls.calls))]
    del costs  # the steps have written there
    return whole, own


def _seconds(gpu: Gpu, step: ResidentStep, k: int) -> float:
    return float(seconds(gpu, lambda stream: step.calls.enqueue_one(k, stream, step.addresses)))


@cache
def speeds(device: str, dtype: str, precision: str) -> tuple[float, float]:
    """Return the bytes a second of a large copy, read and written, and the operations a second of large products."""
    gpu = cast("CuPy", find_backend("cupy", device, precision)).gpu.again()
    with gpu.use():
        source, target = gpu.empty(COPIED), gpu.empty(COPIED)
        source[...] = 0
        copied = 2 * COPIED / seconds(gpu, lambda stream: gpu.copy(source, target))
    large = Case((LARGE, LARGE), LARGE, dtype=dtype)
    products = StepProducts(gpu, large, precision)
    with gpu.use():
        return copied, large.flops / fastest_round(gpu, lambda: products.launch(1))
