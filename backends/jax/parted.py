"""A state whose vectors stay in pieces from epoch to epoch, and are whole for whoever reads them."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from nnx.array.namespace import Array
from nnx.backends.jax.lowering import Pieces
from nnx.port.base import Checked

_Mapping: Any = MutableMapping
"""Its methods read by `__getitem__`, a dict's own do not; typed as anything, since mypy knows no class that is both."""


def pieces(kept: dict[str, Any]) -> dict[str, Pieces]:
    """Return what lies in pieces."""
    return {name: x for name, x in kept.items() if isinstance(x, Pieces)}


def shapes(own: dict[str, Pieces]) -> Any:
    """Return the names, and the shapes and dtypes of the pieces, as a key."""
    return tuple((name, *((part.shape, part.dtype) for part in x.parts)) for name, x in own.items())


class Spares:
    """The memory of states that nobody has any more, for those to come; of one chain of states, all of one form.

    Parameters
    ----------
    maker : object
        Whose states they are.
    own : dict of pieces
        The vectors of such a state that lie in pieces.
    left : list of dicts of pieces
        Of the same shapes: what another chain has left, and this one will.
    """

    MOST = 1
    """States whose memory is kept: an epoch leaves one, and takes one."""

    def __init__(self, maker: object, own: dict[str, Pieces], left: list[dict[str, Pieces]]) -> None:
        self.maker, self.names, self.closed = maker, frozenset(own), False
        self._left = left

    def leave(self, left: dict[str, Pieces]) -> None:
        """Keep these for another state."""
        if not self.closed and len(self._left) < self.MOST and left.keys() == self.names:
            self._left.append(left)

    def take(self) -> dict[str, Pieces] | None:
        """Return some that are nobody's any more, if there are."""
        try:
            return self._left.pop()
        except IndexError:
            return None


class Parted(_Mapping, Checked):  # type: ignore[misc]
    """A state in which some vectors are `Pieces`: one is joined when it is first read.

    Parameters
    ----------
    kept : dict of arrays and pieces
    finite : bool, array (), or callable
        Whether every number is; what is called with `kept` to find out, once somebody asks.
    join : callable
        Returns the vector that pieces are.
    spares : Spares
        Where the pieces are left when nobody has this state any more.
    """

    spares: Spares | None = None

    def __init__(
        self, kept: dict[str, Any], finite: Any, join: Callable[[Pieces], Array], spares: Spares
    ) -> None:
        super().__init__(kept, finite)
        self._join, self.spares = join, spares
        self._joined: dict[str, Array] = {}

    def __del__(self, pieces: Callable[..., Any] = pieces) -> None:
        # (Given by default, since at the end of a program a function's name may be gone before.)
        if self.spares is not None:
            self.spares.leave(pieces(self.kept()))

    @property
    def finite(self) -> bool | None:
        """Whether every number is."""
        if callable(self._finite):
            self._finite = self._finite(self.kept())
        return super().finite

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
