"""Training and computing on the GPU beside NumPy, in memory that was full of NaN."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import nnx
from nnx.bench.gpu.networks import Tried, networks
from nnx.bench.gpu.report import Report
from nnx.bench.gpu.sections import Options
from nnx.errors import BackendError

Array = Any

EPOCHS = 3
"""Of a fit. A shorter last batch comes once in each: called, captured, launched as a graph."""

LIMITS = {
    "float32": {"theta": 3e-3, "costs": 1e-5, "outputs": 1e-5, "metrics": 1e-2},
    "float64": {"theta": 1e-6, "costs": 1e-11, "outputs": 1e-11, "metrics": 1e-2},
}
"""The largest errors. Adam's first step is the sign of a gradient, also of one that is rounding alone; and rounding may
change the class of a sample on the border of two."""

ROUNDING = {"tf32": (1e-5, 5e-3), "bfloat16": (2e-4, 5e-2)}
"""The least and the largest error of theta in each precision: 10 and 7 binary digits stand behind the first one."""

GRAPH, FALLBACKS = "is a CUDA graph", ("single operations", "no CUDA graph")
"""Parts of the messages of the log that tell how a step runs."""


class Errors(NamedTuple):
    """The relative differences between two fits."""

    theta: float
    costs: float
    outputs: float
    metrics: float


def check(report: Report, options: Options) -> None:
    """Compare all networks in float32, one of them in the other precisions, and all in float64."""
    tried = networks(options.small)
    _compare_all(report, tried, "float32", options)
    for precision in ROUNDING:
        with report.guard(precision):
            check_precision(report, precision, tried[0], options)
    _compare_all(report, tried, "float64", options)


def _compare_all(report: Report, tried: Sequence[Tried], dtype: str, options: Options) -> None:
    for one in tried:
        name = f"{one.name}, {dtype}"
        with report.guard(name):
            compare(report, name, one, dtype, options)


def compare(report: Report, name: str, tried: Tried, dtype: str, options: Options) -> None:
    """Report how far fits of one network are from NumPy's, over its batch sizes and both orders of the samples."""
    errors, same, graphs, fallbacks = [], True, 0, list[str]()
    for m, M in tried.batch_sizes.items():
        X, Y = tried.samples(M, options.seed, dtype)
        for shuffle in (False, True):
            expected = _fit(tried, "numpy", dtype, X, Y, m, shuffle, options)
            with logged() as messages:
                found = _fit(tried, "cupy", dtype, X, Y, m, shuffle, options)
                errors.append(compared(found, expected, X, Y, options.seed))
            graphs += sum(GRAPH in text for text in messages)
            fallbacks += [text for text in messages if any(part in text for part in FALLBACKS)]
            if shuffle:
                again = _fit(tried, "cupy", dtype, X, Y, m, shuffle, options)
                same = same and np.array_equal(found.theta, again.theta)
    worst = Errors(*np.max(errors, axis=0).tolist())  # NaN, if there is any
    is_close = all(x <= LIMITS[dtype][kind] for kind, x in worst._asdict().items())
    text = ", ".join(f"{kind} {x:.0e}" for kind, x in worst._asdict().items())
    text += f"; {graphs} graphs; {'the same bits twice' if same else 'other bits the second time'}"
    if fallbacks:
        text += f"; {fallbacks[0]}"
    is_right = is_close and same and graphs >= 2 * len(tried.batch_sizes) and not fallbacks
    report.judge(name, is_right, text, **worst._asdict(), graphs=graphs, same=same, fallbacks=fallbacks)


def check_precision(report: Report, precision: str, tried: Tried, options: Options) -> None:
    """Compare a fit whose step is linear in the gradient: its error is that of the products."""
    tried = tried._replace(optimizer=nnx.Momentum())
    m, M = list(tried.batch_sizes.items())[1]
    X, Y = tried.samples(M, options.seed, "float32")
    try:
        nnx.backend("cupy", precision=precision)
    except BackendError as error:  # this GPU has no such products
        report.add(precision, "skipped", str(error))
        return
    expected = _fit(tried, "numpy", "float32", X, Y, m, True, options)
    found = _fit(tried, "cupy", "float32", X, Y, m, True, options, precision)
    (least, most), off = ROUNDING[precision], compared(found, expected, X, Y, options.seed).theta
    text = f"theta {off:.0e}; expected {least:.0e} to {most:.0e}"
    report.judge(precision, least < off < most, text, theta=off)


def _fit(
    tried: Tried,
    backend: str,
    dtype: str,
    X: Array,
    Y: Array,
    m: int,
    shuffle: bool,
    options: Options,
    precision: str | None = None,
) -> nnx.Trainer:
    """Return a trainer after some epochs."""
    if backend == "cupy":
        fill_with_nan(2**20 if options.small else 2**29)
    trainer = nnx.Trainer(
        tried.network,
        tried.optimizer,
        backend,
        dtype=dtype,
        seed=options.seed,
        regularization=tried.regularization,
        precision=precision,
    )
    trainer.fit(X, Y, epochs=EPOCHS, batch_size=m, shuffle=shuffle, progress=False)
    return trainer


def compared(found: nnx.Trainer, expected: nnx.Trainer, X: Array, Y: Array, seed: int) -> Errors:
    """Return the errors of a fit: theta's relative to its way from the start, the others for the same theta."""
    start = expected.network.init(seed, expected.dtype)
    theta, costs = expected.theta, expected.history["loss"]
    moved = np.linalg.norm(found.theta - theta) / np.linalg.norm(theta - start)
    off_costs = np.max(np.abs(np.subtract(found.history["loss"], costs))) / np.max(np.abs(costs))
    expected.theta = found.theta
    outputs = expected.predict(X)
    off = np.max(np.abs(found.predict(X) - outputs)) / np.max(np.abs(outputs))
    metrics = expected.evaluate(X, Y)
    measured = found.evaluate(X, Y)
    by = [abs(measured[name] - x) / max(1.0, abs(x)) for name, x in metrics.items()]
    expected.theta = theta
    return Errors(float(moved), float(off_costs), float(off), float(np.max(by)))


def fill_with_nan(nbytes: int) -> None:
    """Leave a block full of NaN in CuPy's pool, and no other one: all that is asked for next is a part of it."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    block = cupy.empty(nbytes, "uint8")
    block[...] = 255  # which is NaN in each dtype of floating-point numbers, and -1 in integers


@contextmanager
def logged() -> Iterator[list[str]]:
    """Give the messages of nnx's log."""
    messages: list[str] = []
    logger, handler = logging.getLogger("nnx"), logging.Handler(logging.DEBUG)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
