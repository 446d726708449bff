"""Who takes part: the floor, nnx on every backend, and the peers, by name."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple, cast

from nnx.bench.case import Case, Data
from nnx.bench.contestant import Contestant, split_backend
from nnx.errors import InputError, unknown


class Entry(NamedTuple):
    """A contestant's place in the table.

    Attributes
    ----------
    label : str
        Its name for people.
    kind : {"floor", "peer"}
    where : str
        module:function that makes it.
    members : bool
        Whether it trains members, as `nnx bench --members` has them; else one network.
    """

    label: str
    kind: str
    where: str
    members: bool = False


FLOORS = {
    "floor": Entry("GEMM floor", "floor", "nnx.bench.floor:numpy_floor"),
    "floor-cuda": Entry("GEMM floor, GPU", "floor", "nnx.bench.floor_cuda:floor"),
    "floor-cuda/tf32": Entry("GEMM floor, GPU, tf32", "floor", "nnx.bench.floor_cuda:tf32"),
    "floor-cuda/bfloat16": Entry("GEMM floor, GPU, bfloat16", "floor", "nnx.bench.floor_cuda:bfloat16"),
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
    "jax-cuda-float32": Entry("JAX + optax, GPU, float32", "peer", "nnx.bench.peers.jax:on_gpu_in_float32"),
    "cupy-typed": Entry("CuPy, typed", "peer", "nnx.bench.peers.cupy:contestant"),
    "torch-vmap": Entry("PyTorch vmap", "peer", "nnx.bench.peers.torch_vmap:on_cpu", True),
    "jax-vmap": Entry("JAX vmap + optax", "peer", "nnx.bench.peers.jax_vmap:on_cpu", True),
    "sklearn-jobs": Entry("scikit-learn, n_jobs", "peer", "nnx.bench.peers.sklearn_jobs:contestant", True),
    "torch-vmap-cuda": Entry("PyTorch vmap, GPU", "peer", "nnx.bench.peers.torch_vmap:on_gpu", True),
    "jax-vmap-cuda": Entry("JAX vmap + optax, GPU", "peer", "nnx.bench.peers.jax_vmap:on_gpu", True),
}
"""Every peer that `nnx bench --peers` may name."""

TF32 = ("jax-cuda", "jax-vmap-cuda")
"""The peers whose products of float32 have this precision on a GPU by themselves."""

WITH_WORKERS = ("sklearn-jobs",)
"""The peers that start processes."""

OURS = "nnx:"
"""Before a backend's name (and @device, and /precision): `Trainer.fit` on it."""

SINGLES = "nnx-single:"
"""Before a backend's name: K fits of single networks on it, one after the other."""


def backend_of(name: str) -> str | None:
    """Return the backend of a contestant that is nnx, else None.

    Examples
    --------
    >>> backend_of("nnx:torch/tf32"), backend_of("nnx-single:numba"), backend_of("torch")
    ('torch/tf32', 'numba', None)
    """
    return next((name.removeprefix(one) for one in (OURS, SINGLES) if name.startswith(one)), None)


def label(name: str) -> str:
    """Return a contestant's name for people.

    Examples
    --------
    >>> label("torch-compiled"), label("nnx:torch@cuda/tf32"), label("nnx-single:numba")
    ('PyTorch compiled', 'nnx torch@cuda, tf32', 'nnx numba, one by one')
    """
    if (backend := backend_of(name)) is not None:
        return f"nnx {backend}".replace("/", ", ") + ", one by one" * name.startswith(SINGLES)
    known = {**FLOORS, **PEERS}
    return known[name].label if name in known else name  # an older file's


def kind(name: str) -> str:
    """Return "floor", "nnx" or "peer"."""
    return "nnx" if backend_of(name) is not None else {**FLOORS, **PEERS}[name].kind


def may_use_gpu(name: str) -> bool:
    """Return whether a contestant computes on a GPU where there is one.

    Examples
    --------
    >>> [name for name in ("nnx:numpy", "nnx:torch", "nnx:torch@cpu", "jax", "jax-cuda") if may_use_gpu(name)]
    ['nnx:torch', 'jax-cuda']
    """
    if (backend := backend_of(name)) is None:
        return "cuda" in name or "cupy" in name
    library, device, _ = split_backend(backend)
    return device != "cpu" and library not in ("numpy", "numba")


def floor(device: str, precision: str, dtype: str) -> str:
    """Return the floor of a contestant on a device whose products have a precision.

    Examples
    --------
    >>> (
    ...     floor("cpu", "bfloat16", "float32"),
    ...     floor("cuda:0", "float64", "float64"),
    ...     floor("cuda", "tf32", "float32"),
    ... )
    ('floor', 'floor-cuda', 'floor-cuda/tf32')
    """
    if not device.startswith("cuda"):
        return "floor"
    return "floor-cuda" if precision == dtype else f"floor-cuda/{precision}"


def floors(names: Sequence[str], dtype: str) -> list[str]:
    """Return the floors with which contestants are compared, as far as their names tell.

    Examples
    --------
    >>> floors(["nnx:numpy", "torch"], "float32"), floors(["nnx:cupy", "jax-cuda"], "float32")
    (['floor'], ['floor', 'floor-cuda', 'floor-cuda/tf32'])
    """
    on_gpu = [name for name in names if may_use_gpu(name)]
    precisions = {
        split_backend(backend_of(name) or "").precision or dtype for name in on_gpu if name not in TF32
    }
    if any(name in TF32 for name in on_gpu):
        precisions.add("tf32" if dtype == "float32" else dtype)
    needed = {floor("cuda", precision, dtype) for precision in precisions}
    return ["floor", *(name for name in FLOORS if name in needed)]


def peers(members: bool) -> list[str]:
    """Return the names of the peers that train members, or of those that train one network.

    Examples
    --------
    >>> peers(members=True)
    ['torch-vmap', 'jax-vmap', 'sklearn-jobs', 'torch-vmap-cuda', 'jax-vmap-cuda']
    """
    return [name for name, entry in PEERS.items() if entry.members == members]


def check_peers(names: list[str], members: bool = False) -> list[str]:
    """Return these names, or raise an InputError for one that is no peer, or one of the other kind.

    Examples
    --------
    >>> check_peers(["torhc"])
    Traceback (most recent call last):
    nnx.errors.InputError: unknown peer 'torhc'; did you mean 'torch'? Known: typed, torch, torch-compiled, jax, ...
    >>> check_peers(["torch-vmap"])
    Traceback (most recent call last):
    nnx.errors.InputError: the peer 'torch-vmap' trains members: give --members, or take some of typed, torch, ...
    """
    for name in names:
        if name not in PEERS:
            raise unknown("peer", name, PEERS)
        if PEERS[name].members != members:
            trains = "one network: leave out --members" if members else "members: give --members"
            raise InputError(
                f"the peer {name!r} trains {trains}, or take some of {', '.join(peers(members))}"
            )
    return names


def make(name: str, case: Case, data: Data) -> Contestant:
    """Return the contestant of this name, ready to run this case.

    Raises
    ------
    Absent, nnx.errors.Error
        When it cannot take part: why.
    """
    if (backend := backend_of(name)) is not None:
        from nnx.bench import ours

        maker = partial(ours.one_by_one if name.startswith(SINGLES) else ours.fit, backend)
    else:
        module, _, function = {**FLOORS, **PEERS}[name].where.partition(":")
        maker = getattr(import_module(module), function)
    return cast("Contestant", maker(case, data))
