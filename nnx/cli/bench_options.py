"""The options of `nnx bench`, checked."""

from nnx.bench import contestants
from nnx.bench.contestant import split_backend
from nnx.cli.inputs import WIDTHS, integers
from nnx.errors import InputError, unknown
from nnx.model.mlp import mlp
from nnx.optimizers import optimizer
from nnx.port.precision import check_dtype, checked_precision
from nnx.port.registry import backend as make_backend
from nnx.port.registry import choose, survey

ORDERS = {"in-order": (False,), "shuffled": (True,), "both": (False, True)}
"""The order of the samples: whether they are shuffled."""

DTYPES = ("float32", "float64")


def names(text: str) -> list[str]:
    """Return the names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def ours(backends: str, dtype: str, members: bool = False) -> list[str]:
    """Return nnx on each of these backends, or on all that are usable, as contestants.

    Of members each backend takes part twice: with all at once, and with one after the other.
    """
    known = {row.name: row for row in survey()}
    found = names(backends) if backends else usable()
    for name in found:
        kind, device, precision = split_backend(name)
        if kind not in known:
            raise unknown("backend", name, sorted(known))
        check_dtype(checked_precision(precision), dtype)
        if device or precision or not known[kind].usable:
            make_backend(kind, device, precision)  # says why it is not
    forms = (contestants.OURS, contestants.SINGLES) if members else (contestants.OURS,)
    return [f"{form}{name}" for name in found for form in forms]


def usable() -> list[str]:
    """Return the backends that are usable here, the one that "auto" takes first."""
    first = choose().backend.name
    return [first, *(row.name for row in survey() if row.usable and row.name != first)]


def networks(sizes: list[str]) -> list[tuple[int, ...]]:
    """Return the sizes of the networks, checked by making each."""
    found = [tuple(integers("sizes", one, WIDTHS)) for one in sizes]
    for one in found:
        mlp(one)
    return found


def methods(optimizers: str) -> list[str]:
    """Return the names of the optimizers, which must use batches."""
    found = names(optimizers)
    for method in found:
        optimizer(method)
    if "lbfgs" in found:
        raise InputError("lbfgs has no steps over batches to measure; choose another optimizer")
    return found


def checked_dtype(dtype: str) -> str:
    """Return a dtype that figures may have."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return dtype
