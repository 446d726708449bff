"""How much memory there is, and an error before more than that is taken."""

import os
from contextlib import suppress
from pathlib import Path

from nnx.errors import InputError, size

SMALL = 2**24
"""What is less is taken without a look."""

_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def available() -> int | None:
    """Return the bytes that this process may still take; None where nobody says.

    On Linux what the kernel says is available, or what is left of the container's limit (cgroups) if that is less;
    elsewhere all that the machine has.
    """
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        found.append(1024 * int(fields["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError):
        with suppress(AttributeError, ValueError, OSError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, usage in _CGROUPS:
        try:
            most, taken = (int((Path("/sys/fs/cgroup") / name).read_text()) for name in (limit, usage))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        found.append(max(0, most - taken))
    return min(found, default=None)


def check(needed: float, what: str, advice: str) -> None:
    """Raise an InputError if more bytes are needed than there are: how many, and what to do."""
    if needed < SMALL:
        return
    free = available()
    if free is not None and needed > free:
        raise InputError(f"{what} takes about {size(needed)} of memory; {size(free)} are available. {advice}")
