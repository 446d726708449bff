"""The entry points by which nnx finds adapters, its own and those of other packages."""

import sys
from functools import cache
from typing import Any

from nnx.errors import BackendError

OWN = "nnx."
"""What the modules of nnx's own adapters begin with. No other package takes the place of one."""


@cache
def _entries(group: str, path: tuple[str, ...]) -> Any:
    """Return the entry points of a group on a `sys.path`: it takes a look at every package that is installed."""
    from importlib.metadata import entry_points

    return entry_points(group=group)


def names(group: str) -> list[str]:
    """Return the names of all adapters of a group that installed packages provide, usable here or not."""
    return list(dict.fromkeys(entry.name for entry in _entries(group, tuple(sys.path))))


def entry(group: str, name: str) -> Any:
    """Return the entry point of an adapter, nnx's own before those of other packages; None if there is none.

    Raises
    ------
    BackendError
        When several packages have one of this name, and nnx has none.
    """
    if name not in names(group):
        _entries.cache_clear()  # a package that was installed meanwhile
    found: dict[str, Any] = {
        entry.value: entry for entry in _entries(group, tuple(sys.path)) if entry.name == name
    }
    own = [entry for value, entry in found.items() if value.startswith(OWN)]
    if len(found) > 1 and not own:
        packages = " and ".join(f"{entry.dist.name} ({value})" for value, entry in found.items())
        kind = group.rpartition(".")[2].removesuffix("s")
        raise BackendError(f"several packages have a {kind} {name!r}: {packages}; uninstall all but one")
    return next(iter([*own, *found.values()]), None)
