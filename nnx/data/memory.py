"""An error before more memory is taken than there is."""

from nnx.errors import InputError, size
from nnx.support.limits import available

SMALL = 2**24
"""Less memory is taken without a check."""


def check(needed: float, what: str, advice: str) -> None:
    """Raise an InputError if more bytes are needed than are free; it names both, and a remedy."""
    if needed < SMALL:
        return
    free = available()
    if free is not None and needed > free:
        raise InputError(f"{what} takes about {size(needed)} of memory; {size(free)} are available. {advice}")
