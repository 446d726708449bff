"""Who takes part: the floor, nnx on every backend, and the peers, by name."""

from functools import partial
from importlib import import_module
from typing import NamedTuple, cast

from nnx.bench.case import Case, Data
from nnx.bench.contestant import Contestant, wanted
from nnx.errors import unknown


class Entry(NamedTuple):
    """A contestant's place in the table.

    Attributes
    ----------
    label : str
        Its name for people.
    kind : {"floor", "peer"}
    where : str
        module:function that makes it.
    """

    label: str
    kind: str
    where: str


FLOORS = {
    "floor": Entry("GEMM floor", "floor", "nnx.bench.floor:numpy_floor"),
    "floor-cuda": Entry("GEMM floor, GPU", "floor", "nnx.bench.floor:torch_floor"),
}

PEERS = {
    "typed": Entry("NumPy, typed", "peer", "nnx.bench.peers.typed:contestant"),
    "torch": Entry("PyTorch eager", "peer", "nnx.bench.peers.torch:eager"),
    "torch-compiled": Entry("PyTorch compiled", "peer", "nnx.bench.peers.torch:compiled"),
    "jax": Entry("JAX + optax", "peer", "nnx.bench.peers.jax:on_cpu"),
    "sklearn": Entry("scikit-learn", "peer", "nnx.bench.peers.sklearn:contestant"),
    "torch-cuda": Entry("PyTorch eager, GPU", "peer", "nnx.bench.peers.torch:eager_on_gpu"),
    "torch-compiled-cuda": Entry("PyTorch compiled, GPU", "peer", "nnx.bench.peers.torch:compiled_on_gpu"),
    "jax-cuda": Entry("JAX + optax, GPU", "peer", "nnx.bench.peers.jax:on_gpu"),
    "cupy-typed": Entry("CuPy, typed", "peer", "nnx.bench.peers.cupy:contestant"),
}
"""Every peer that `nnx bench --peers` may name."""

OURS = "nnx:"
"""Before a backend's name (and @device, and /precision): `Trainer.fit` on it."""


def label(name: str) -> str:
    """Return a contestant's name for people.

    Examples
    --------
    >>> label("torch-compiled"), label("nnx:numba"), label("nnx:torch@cuda/tf32")
    ('PyTorch compiled', 'nnx numba', 'nnx torch@cuda, tf32')
    """
    if name.startswith(OURS):
        return f"nnx {name.removeprefix(OURS)}".replace("/", ", ")
    known = {**FLOORS, **PEERS}
    return known[name].label if name in known else name  # an older file's


def kind(name: str) -> str:
    """Return "floor", "nnx" or "peer"."""
    return "nnx" if name.startswith(OURS) else {**FLOORS, **PEERS}[name].kind


def may_use_gpu(name: str) -> bool:
    """Return whether a contestant computes on a GPU where there is one.

    Examples
    --------
    >>> [name for name in ("nnx:numpy", "nnx:torch", "nnx:torch@cpu", "jax", "jax-cuda") if may_use_gpu(name)]
    ['nnx:torch', 'jax-cuda']
    """
    if not name.startswith(OURS):
        return "cuda" in name or "cupy" in name
    library, device, _ = wanted(name.removeprefix(OURS))
    return device != "cpu" and library not in ("numpy", "numba")


def check_peers(names: list[str]) -> list[str]:
    """Return these names, or raise an InputError for one that is not among PEERS.

    Examples
    --------
    >>> check_peers(["torhc"])
    Traceback (most recent call last):
    nnx.errors.InputError: unknown peer 'torhc'; did you mean 'torch'? Known: typed, torch, torch-compiled, jax, ...
    """
    for name in names:
        if name not in PEERS:
            raise unknown("peer", name, PEERS)
    return names


def make(name: str, case: Case, data: Data) -> Contestant:
    """Return the contestant of this name, ready to run this case.

    Raises
    ------
    Absent
        When it cannot take part: why.
    """
    if name.startswith(OURS):
        from nnx.bench import ours

        maker = partial(ours.fit, name.removeprefix(OURS))
    else:
        module, _, function = {**FLOORS, **PEERS}[name].where.partition(":")
        maker = getattr(import_module(module), function)
    return cast("Contestant", maker(case, data))
