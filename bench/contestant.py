"""A contestant: one that trains a case, and is timed at it."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from nnx.bench.case import Case
from nnx.bench.clocks import Clock
from nnx.support.install import install


class Absent(Exception):  # noqa: N818  # it is no error to be absent
    """A contestant cannot take part here; the message is the reason."""


class Contestant(NamedTuple):
    """One that is ready to run.

    Attributes
    ----------
    epoch : function
        Trains one epoch.
    clock : Clock
        Measures it.
    parameters : function
        Returns the parameters as NumPy arrays in the notes' shapes, {"W1": ..., "b1": ...}.
    library : str
        What computes, with its version: "torch 2.13.0".
    device : str
        "cpu", or what the library calls the GPU.
    detail : str
        The GPU's name, the threads, ... for people.
    peak : function or None
        The peak of the bytes in the device's memory since the last call, where the process's is not what counts.
    precision : str or None
        Of the matrix products, as "tf32"; None: that of the case's dtype.
    """

    epoch: Callable[[], Any]
    clock: Clock
    parameters: Callable[[], dict[str, Any]]
    library: str
    device: str = "cpu"
    detail: str = ""
    peak: Callable[[], int] | None = None
    outside: Callable[[], float] | None = None
    """Of nnx: what the last call of `seconds` found outside the program's steps, the Trainer's own share."""
    time: Callable[[int], float] | None = None
    """time(k), where it is not just the clock around k epochs."""
    precision: str | None = None
    has_workers: bool = False
    """Whether other processes do the work, so that this one's memory says nothing."""

    def seconds(self, epochs: int) -> float:
        """Train so many epochs and return the seconds they took."""
        if self.time is not None:
            return self.time(epochs)

        def run() -> None:
            for _ in range(epochs):
                self.epoch()

        seconds: float = self.clock(run)
        return seconds


class BackendParts(NamedTuple):
    """A backend as `nnx bench --backends` names it; None: the backend's best device, and products of float32."""

    name: str
    device: str | None
    precision: str | None


def split_backend(backend: str) -> BackendParts:
    """Return the parts of a backend's name.

    Examples
    --------
    >>> split_backend("torch@cuda:1/tf32")
    BackendParts(name='torch', device='cuda:1', precision='tf32')
    >>> split_backend("jax")
    BackendParts(name='jax', device=None, precision=None)
    """
    place, _, precision = backend.partition("/")
    name, _, device = place.partition("@")
    return BackendParts(name, device or None, precision or None)


def library(name: str, extra: str) -> Any:
    """Import and return a library, or raise Absent with the command that installs it by an extra of nnx."""
    try:
        return import_module(name)
    except Exception as error:  # a half-installed library may raise anything
        raise Absent(f"{name} cannot be imported ({error}); {install(extra)}") from error


def only(case: Case, *optimizers: str) -> None:
    """Raise Absent unless the case's optimizer is one of these, for which the peer is written."""
    if case.optimizer not in optimizers:
        raise Absent(f"it is written for {' and '.join(optimizers)}, not for {case.optimizer}")
