"""A state whose vectors stay in pieces from epoch to epoch, and are whole for whoever reads them."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from nnx.arrays import Array
from nnx.backends.xla import Pieces
from nnx.port import Checked

MOST = 2
"""States whose memory is kept, at most: a fit has one that it could go back to, and one that it leaves."""

_Mapping: Any = MutableMapping
"""Its methods read by `__getitem__`, a dict's own do not; typed as anything, since mypy knows no class that is both."""


class Parted(_Mapping, Checked):  # type: ignore[misc]
    """A state in which some vectors are `Pieces`: one is joined when it is first read.

    Parameters
    ----------
    kept : dict of arrays and pieces
    finite : bool or array ()
    join : callable
        Returns the vector that pieces are.
    spares : list, optional
        Where the pieces are left when nobody has this state any more.
    """

    def __init__(
        self,
        kept: dict[str, Any],
        finite: Any,
        join: Callable[[Pieces], Array],
        spares: list[dict[str, Pieces]] | None = None,
    ) -> None:
        super().__init__(kept, finite)
        self._join, self._spares = join, spares
        self._joined: dict[str, Array] = {}

    def __del__(self) -> None:
        if self._spares is not None and len(self._spares) < MOST:
            self._spares.append({name: x for name, x in self.kept().items() if isinstance(x, Pieces)})

    def kept(self) -> dict[str, Any]:
        """Return the arrays and pieces as they lie."""
        return {name: dict.__getitem__(self, name) for name in dict.__iter__(self)}

    def __getitem__(self, name: str) -> Array:
        x = dict.__getitem__(self, name)
        if not isinstance(x, Pieces):
            return x
        if name not in self._joined:
            self._joined[name] = self._join(x)
        return self._joined[name]

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)  # of a dict with an own one, {**state} asks `__getitem__` for the values

    __setitem__, __delitem__, __len__ = Checked.__setitem__, dict.__delitem__, dict.__len__

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a copy is a plain state
