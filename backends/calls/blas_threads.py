"""The threads of the BLAS libraries in this process, which threadpoolctl finds."""

from functools import lru_cache
from typing import Any

from nnx.backends.calls.fewer_threads import Fewer


@lru_cache(maxsize=1)
def libraries() -> Any:
    """Return threadpoolctl's handles of the BLAS libraries, without any that always has one thread: MKL, above all.

    Raises
    ------
    ImportError
        Without threadpoolctl.
    """
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [one for one in found if one.info().get("threading_layer") != "sequential"]


def get_threads() -> list[int]:
    """Return the number of threads of each library."""
    return [one.num_threads for one in libraries()]


def _set_threads(threads: list[int]) -> None:
    for one, count in zip(libraries(), threads, strict=True):
        one.set_num_threads(count)


FEWER = Fewer(get_threads, _set_threads)
"""Lets BLAS have one thread for a while."""


def one_thread() -> Fewer | None:
    """Return what lets BLAS have one thread for a while; None without threadpoolctl."""
    try:
        libraries()
    except ImportError:
        return None
    return FEWER


def look_again() -> None:
    """Find the libraries anew: SciPy's or MKL may have been loaded since they were found."""
    if FEWER.idle:
        libraries.cache_clear()
