"""Choosing a backend: by name, or the best that is usable here."""

import ctypes
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from nnx.errors import BackendError, InputError, first_line, shown, unknown
from nnx.port import entry_points
from nnx.port.base import Backend
from nnx.port.device import check_device
from nnx.port.precision import FLOAT32, checked_precision, precision_note, takes_precision
from nnx.support.install import CPU_TORCH, install
from nnx.support.processes import whole
from nnx.support.starting import ctrl_c_kept

GROUP = "nnx.backends"
"""The entry-point group of all adapters, nnx's own and others."""

OWN = "nnx.backends."
"""What the modules of nnx's own adapters begin with. No other package takes the place of one."""

AUTO = "auto"

EXAMPLES = {"backend": "'auto' or 'numpy'", "device": "'cpu' or 'cuda'"}
"""Examples of each argument, for errors."""

DEVICES = ("cpu", "gpu", "cuda")
"""Names of devices that people may give in place of a backend."""

WORTH = 3e11
"""Additions and multiplications of a fit from which on "auto" takes numba: NumPy takes some seconds for them, as numba
does to compile a step for the first time."""

ON_GPU = {
    "torch": "the fastest on the whole when last measured on a GPU",
    "cupy": "the next after torch, until its times are measured",
    "jax": "the last one, since it takes most of the GPU's memory at once",
}
"""The backends that "auto" tries on a GPU, in this order, each with the reason for its place (docs/benchmarks.md)."""

ROUNDING_ON_CPU = ("torch", "jax")
"""The backends that "auto" tries on a CPU for another precision than float32, in this order."""

DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
"""The library of NVIDIA's driver."""

STEP = 3e6
"""Additions and multiplications that NumPy does in the time of one step's calls."""

_log = logging.getLogger("nnx")
_logged: set[str] = set()

SHARED = 0.8
"""The share of a step's calls that the members of a stack have in common. (2 cores of an AMD EPYC, 30 November 2026: a
member's step took 45 us alone, 18 in a stack of 4, 11 of 16 and 9 of 64: 13-50-1, m = 32.)"""

MEMBERS_MORE = 4
"""How many times as much the work of members counts, at most: numba has all cores, and a member in a core's cache."""


def work(P: int, samples: float, steps: float, K: int = 1) -> float:
    """Return the work of a fit: its additions and multiplications, and its steps' calls; of members `MEMBERS_MORE`.

    Parameters
    ----------
    P : int
        The number of parameters.
    samples, steps : float
        Over all epochs, of each member.
    K : int
        The members that are trained at once.

    Examples
    --------
    >>> work(10_000, 1_500 * 100, 50 * 100) < WORTH < work(10_000, 60_000 * 100, 1_000 * 100)
    True
    """
    products = 6.0 * P * samples  # three with each W: W A, dZ A^T, W^T dZ
    return min(K, MEMBERS_MORE) * (K * products + (SHARED + (1 - SHARED) * K) * STEP * steps)


class Choice(NamedTuple):
    """A backend, and why it was chosen."""

    backend: Backend
    reason: str


def backend(name: str | None = AUTO, device: str | None = None, precision: str | None = None) -> Backend:
    """Return a backend: the one asked for, or the best that is usable here.

    Parameters
    ----------
    name : str
        "numpy", "numba", "cupy", "torch", "jax", or one of another installed package. "auto" takes the backend of the
        environment variable NNX_BACKEND, else the first of PyTorch, CuPy and JAX that can compute on a CUDA GPU here,
        else NumPy (for a fit that is worth it: numba, if installed). The reason is logged once (logger "nnx", level
        INFO).
    device : str or None
        "cpu", "cuda", "cuda:1", ...; None: the library's best.
    precision : {"float32", "tf32", "bfloat16"} or None
        Of the products of float32 matrices in what the backend compiles; sums and results are float32 in any case.
        "tf32" and "bfloat16" round the factors, to 11 and 8 significant bits. None: float32. "auto" takes the
        first of PyTorch, CuPy and JAX that has another precision here, on a GPU before the CPU.

    Raises
    ------
    InputError
        For a name that no installed package provides, and for an unknown precision.
    BackendError
        When the backend, device or precision does not work here: what is missing, and how to install it. There is no
        silent fallback.

    Examples
    --------
    >>> backend("numpy", device="cpu").device
    'cpu'
    """
    return choose(name, device, precision).backend


@whole  # a fork would leave the lock of a module that is being imported
def choose(
    name: str | Backend | None = AUTO,
    device: str | None = None,
    precision: str | None = None,
    work: float = 0.0,
) -> Choice:
    """Return `backend(name, device, precision)` and why it was chosen; a Backend is taken as it is.

    `work` is that of the fit, as far as it is known: see `WORTH`.
    """
    if isinstance(name, Backend):
        if device is not None:
            raise InputError(
                f"the backend {name!r} has its device already; given device={shown(device)}, too"
            )
        if precision is not None and checked_precision(precision) != name.precision:
            raise InputError(
                f"the backend {name!r} has its precision already, {name.precision}; given precision={precision!r}, too"
            )
        return Choice(name, "given")
    precision = checked_precision(precision)
    for what, value in (("backend", name), ("device", device)):
        if not (value is None or isinstance(value, str)) or not 0 < len(value or "x") <= 100:
            raise InputError(f"{what} must be a name, such as {EXAMPLES[what]}, not {shown(value)}")
    if name not in (None, AUTO):
        return Choice(_load(str(name), device, precision), "asked for")
    requested = os.environ.get("NNX_BACKEND", "").strip() or AUTO
    if requested != AUTO:
        try:
            return Choice(_load(requested, device, precision), f"NNX_BACKEND={requested}")
        except (BackendError, InputError) as error:  # names the variable: the user has typed no backend
            raise type(error)(f"NNX_BACKEND={requested}: {error}") from error
    choice = _best(device, precision, work)
    made = choice.backend
    message = f"backend {made.name} on {made.device}{precision_note(made.precision)}: {choice.reason}"
    if message not in _logged:
        _logged.add(message)
        _log.info(message)
    return choice


def _best(device: str | None, precision: str, work: float) -> Choice:
    """Return the first of `ON_GPU` that computes there, else a backend of the CPU's."""
    why = "the CPU was asked for"
    if device is not None:
        check_device(device)
    if device != "cpu":
        choice, failures = _on_gpu(device, precision)
        if choice is not None:
            return choice
        if device is not None:
            raise BackendError(f"no backend can compute on device={device!r}: {failures}. See `nnx backends`")
        why = f"no usable CUDA GPU ({failures})"
    if precision == FLOAT32:
        return _on_cpu(work, why)
    if precision == "tf32":
        raise BackendError(f"precision='tf32' takes a CUDA GPU of compute capability 8.0 or newer: {why}")
    found, failures = _first(ROUNDING_ON_CPU, "cpu", precision)
    if found is None:
        remedy = f"PyTorch has them on a CPU: {install('torch')}{CPU_TORCH}"
        raise BackendError(f"no backend has products in {precision} here: {why}; {failures}. {remedy}")
    return Choice(found, f"{why}; of the backends with {precision} on a CPU {found.name} comes first")


def _on_gpu(device: str | None, precision: str) -> tuple[Choice | None, str]:
    """Return the first of `ON_GPU` that computes on the device, and why those before it do not."""
    if (device or "cuda").startswith("cuda") and not has_driver():
        return None, "there is no NVIDIA driver"
    found, failures = _first(ON_GPU, device or "cuda", precision)
    if found is None:
        return None, failures
    where = "a usable CUDA GPU" if device is None else f"{device} was asked for"
    after = f" ({failures})" if failures else ""
    return Choice(found, f"{where} ({described(found).detail}); {ON_GPU[found.name]}{after}"), failures


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed. Importing a library that can ask for a GPU takes seconds; this does not.

    It starts nothing on the GPU: a fork could not use the GPU any longer.
    """
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _first(names: Iterable[str], device: str, precision: str) -> tuple[Backend | None, str]:
    """Return the first backend that computes on the device in the precision, and why those before it do not."""
    failures: list[str] = []
    for name in names:
        try:
            return _load(name, device, precision), "; ".join(failures)
        except BackendError as error:
            why = str(error.__cause__ or error)
            failures.append(why.split(";")[0])  # `nnx backends` says how to get one
    return None, "; ".join(failures)


def _on_cpu(work: float, why: str) -> Choice:
    """Return numba where it is installed and its compilation worth the time, else NumPy."""
    if work >= WORTH and "numba" in names():
        with suppress(BackendError):
            return Choice(_load("numba", None), f"{why}; the fit is long enough to let numba compile it")
    return Choice(_load("numpy", None), why)


def names() -> list[str]:
    """Return the names of all backends that installed packages provide, usable here or not."""
    return entry_points.names(GROUP)


class Row(NamedTuple):
    """A backend in the table of all: whether it is usable here, and why or why not."""

    name: str
    usable: bool
    device: str
    version: str
    reason: str


class Described(NamedTuple):
    """The parts of `Backend.describe`: the library with its version, and what stands behind the device."""

    library: str
    detail: str


def described(backend: Backend) -> Described:
    """Return the parts of what a backend says of itself.

    Examples
    --------
    >>> described(backend("numpy")).library.split()[0]
    'numpy'
    """
    head, _, detail = backend.describe().partition(": ")
    return Described(head.removesuffix(f" on {backend.device}"), detail)


def survey() -> list[Row]:
    """Try every backend that installed packages provide; "auto" is not among them."""
    rows = []
    for name in names():
        try:
            made = _load(name, None)
        except BackendError as error:
            told = error.__cause__ if isinstance(error.__cause__, BackendError) else error
            rows.append(Row(name, False, "", "", str(told)))
        else:
            library, detail = described(made)
            rows.append(Row(name, True, made.device, library.removeprefix(f"{name} "), detail))
    return rows


def _entry(name: str) -> Any:
    """Return the entry point of a backend; None if there is none."""
    return entry_points.entry(GROUP, name)


def check_device_of(name: str, device: str | None) -> None:
    """Raise an InputError for a device that none of nnx's own adapters has, unless the backend is another package's."""
    if device is None:
        return
    entry = _entry(os.environ.get("NNX_BACKEND", "").strip() if name == AUTO else name)
    if entry is None or entry.value.startswith(OWN):
        check_device(device)


def _load(name: str, device: str | None, precision: str = FLOAT32) -> Backend:
    entry = _entry(name)
    if entry is None:
        if not names():
            raise BackendError(f"nnx is not installed, Python found it in a folder: {install()}")
        if name.partition(":")[0].lower() in DEVICES:
            device = name.lower().replace("gpu", "cuda")
            raise InputError(f"{name!r} is a device, not a backend: give device={device!r}")
        raise unknown("backend", name, [AUTO, *names()])
    check_device_of(name, device)
    try:
        with ctrl_c_kept():
            adapter = entry.load()
            if precision != FLOAT32 and not takes_precision(adapter):
                raise BackendError(
                    f"{name} multiplies in float32 only; given precision={precision!r}. Give precision='float32', or "
                    f"ask for the backend {' or '.join(_with_precision())}{' on a CUDA GPU' * (precision == 'tf32')}"
                )
            made = adapter(device) if precision == FLOAT32 else adapter(device, precision=precision)
    except BackendError as error:
        raise BackendError(f"backend {name!r} cannot be used here: {error}") from error
    except Exception as error:  # of any package: one that fails must not hide the others
        raise BackendError(
            f"backend {name!r} ({entry.value}) fails: {type(error).__name__}: {first_line(error)}"
        ) from error
    missing = [part for part in ("name", "device", "xp") if not hasattr(made, part)]
    if not isinstance(made, Backend) or missing:
        what = f"lacks {', '.join(missing)}" if missing else "is no nnx.Backend"
        raise BackendError(f"backend {name!r} ({entry.value}) {what}; see nnx.Backend")
    return made


def _with_precision() -> list[str]:
    """Return the names of the backends whose adapters have other precisions than float32."""
    found = []
    for name in names():
        with suppress(Exception):  # of any package
            if takes_precision(_entry(name).load()):
                found.append(name)
    return found
