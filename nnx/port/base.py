"""The port: everything that nnx asks of an array library beyond the standard.

An adapter is one class, found through the entry-point group ``nnx.backends``. Its instance is one library on
one device. Nothing here grows with the number of activations, losses, layers or optimizers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from nnx.array.gather import Data, Pick, taken
from nnx.array.namespace import Array, Namespace
from nnx.errors import BackendError, first_line
from nnx.port.program import Program
from nnx.support.install import install

F = TypeVar("F", bound=Callable[..., Any])


class Checked(dict[str, Array]):
    """A state of which its backend knows whether every number that has changed is finite: nobody need look again.

    Examples
    --------
    >>> state = Checked({"t": 1}, True)
    >>> state.finite
    True
    >>> state["t"] = 2
    >>> state.finite is None
    True
    """

    def __init__(self, state: dict[str, Array], finite: Any) -> None:
        super().__init__(state)
        self._finite = finite

    @property
    def finite(self) -> bool | None:
        """Whether they are; only now is a device waited for that works it out. None: it has been written into."""
        return None if self._finite is None else bool(self._finite)

    def __setitem__(self, name: str, x: Array) -> None:
        self._finite = None
        super().__setitem__(name, x)

    def update(self, *others: Any, **named: Any) -> None:
        """Write what others hold into it."""
        self._finite = None
        super().update(*others, **named)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self


class Steps(Protocol):
    """What `Backend.repeat` returns."""

    def __call__(
        self, state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> tuple[dict[str, Array], Any]:
        """Do `count` steps, each on the next m samples.

        Parameters
        ----------
        state : dict of arrays
        data : (X, Y, w)
            All samples.
        order : integer array (M,) or None
            The order in which they are taken; None: as they are.
        at : int
            Where in this order the first step's samples begin.
        m, count : int
            After all samples come the first ones again, if m divides M and there is no order; an order may be longer
            than M, those of several epochs.

        Returns
        -------
        state : dict of arrays, maybe a `Checked` one
        Js : array (count,) or longer, or a list of arrays ()
            The costs, and nothing of meaning behind them.
        """


class Memory(NamedTuple):
    """Bytes in use and at the peak; None where the library or the system does not tell."""

    in_use: int | None
    peak: int | None


class Backend(ABC):
    """One array library on one device.

    Parameters
    ----------
    device : str or None
        "cpu", "cuda", "cuda:1", ... as the library has them; None: the library's best.

    Raises
    ------
    BackendError
        When the library is missing, too old, or cannot compute on the device: what is missing, and how to
        get it.

    Attributes
    ----------
    name : str
        The entry point's name.
    version : str
        The library's version.
    device : str
        Where its arrays live.
    detail : str
        What else a person wants to know: the GPU's name, say.
    xp : namespace
        The standard's functions, as array-api-compat gives them.
    one_order : bool
        Whether it would have to compile anew for an order of another length: `Steps` is then given those of one epoch.
    """

    name: str
    version: str
    device: str
    detail: str
    xp: Namespace
    one_order: bool = False

    @abstractmethod
    def __init__(self, device: str | None = None) -> None: ...

    @abstractmethod
    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """Return x on the device: no copy where possible.

        Parameters
        ----------
        x : array of any library, or anything NumPy takes
            NumPy arrays may be read-only.
        dtype : {"float32", "float64", "int32"} or None
            None: that of x.
        """

    @abstractmethod
    def to_numpy(self, x: Array) -> Any:
        """Return x, one of this backend's arrays, as a NumPy array."""

    def synchronize(self) -> None:  # noqa: B027  # nothing is queued, unless an adapter says so
        """Wait until all queued work is done."""

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return a pure function of arrays as this library runs it: see `Program`. Here: called as it is."""
        return Program(function)

    def capture(self, step: F) -> F:
        """Return the program of `step`: an old door."""
        return self.compile(step)  # type: ignore[return-value]

    def repeat(self, step: F) -> Steps:
        """Return a function that does the training step again and again: an old door."""
        return functional(self.compile(step))

    def picker(self) -> Pick:
        """Return what picks rows of a matrix, the samples of a batch."""
        return taken

    def picked_from(self, data: Data) -> None:  # noqa: B027
        """Get ready to pick samples out of these again and again: they may be laid out for it."""

    def describe(self) -> str:
        """Return the library, its version, its device, and what else a person wants to know of it."""
        return f"{self.name} {self.version} on {self.device}: {self.detail}"

    def threads(self, operations: float) -> AbstractContextManager[None]:
        """Return a context in which a product of so many operations has the threads that suit it. Here: all."""
        return nullcontext()

    def memory(self) -> Memory:
        """Return the bytes in use on the device and their peak. Here: the process's."""
        return process_memory()

    def __repr__(self) -> str:
        return f"<nnx backend {self.name} {self.version} on {self.device}>"


def functional(program: Program) -> Steps:
    """Return a program's steps as a function of a state, until all users load states."""

    def steps(
        state: dict[str, Array], data: Data, order: Array | None, at: int, m: int, count: int
    ) -> tuple[dict[str, Array], Any]:
        program.load(state)
        Js = program.run(data, order, at, m, count)
        return program.read(), Js

    return steps


class Transitional(Program):
    """A program over `capture` and `repeat`, until each adapter has a program of its own."""

    def __init__(self, backend: Backend, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._backend = backend
        self._captured: Callable[..., Any] | None = None
        self._repeated: Steps | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns."""
        if self._captured is None:
            self._captured = self._backend.capture(self.function)
        return self._captured(*arguments)

    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps."""
        if self._repeated is None:
            self._repeated = self._backend.repeat(self.function)
        if order is None or not self._backend.one_order:
            self._state, Js = self._repeated(self._state, data, order, at, m, count)
            return Js
        steps, Js, M = order.shape[0], [], data[1].shape[-1]
        for first in range(at // M * M, min(steps, at + m * count), M):  # epoch by epoch
            start = max(at, first)
            some = min(count - len(Js), max(1, (first + M - start) // m))
            if some > 0:
                self._state, costs = self._repeated(
                    self._state, data, order[first : first + M], start - first, m, some
                )
                Js += [costs[k] for k in range(some)]
        return Js

    @property
    def finite(self) -> bool:
        """Whether every number of the state is."""
        known = self._state.finite if isinstance(self._state, Checked) else None
        return super().finite if known is None else known


def require(module: str, extra: str, more: str = "") -> Any:
    """Import and return a library, or raise a BackendError that says how to install it: by an extra of nnx."""
    try:
        return import_module(module)
    except Exception as error:  # a half-installed library may raise anything
        raise BackendError(
            f"{module} cannot be imported ({first_line(error)}); install it: {install(extra)}{more}"
        ) from error


def only_cpu(name: str, device: str | None) -> str:
    """Return "cpu", or raise a BackendError when another device was asked of a library that has none."""
    if device not in (None, "cpu"):
        raise BackendError(
            f"{name} computes on the CPU only; given device={device!r}. For a CUDA GPU ask for the backend "
            "cupy or torch"
        )
    return "cpu"


def process_memory() -> Memory:
    """Return the resident bytes of this process and their peak."""
    try:
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        statm = Path("/proc/self/statm")
        in_use = int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else None
    except ImportError:  # not a Unix
        return Memory(None, None)
    return Memory(in_use, max(peak, in_use or 0))  # the two are sampled apart
