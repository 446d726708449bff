"""A training state in the memory of a GPU, with the way back to earlier ones."""

from math import prod
from typing import Any

from nnx.array.members import is_stack, members
from nnx.array.namespace import Array
from nnx.backends.cupy.gpu import Gpu, offsets
from nnx.backends.cupy.members import row_bytes


class StateMemory:
    """The arrays of a state, all in one block of memory.

    Steps change the block `home` in place: a CUDA graph reads and writes fixed addresses. Before the first step of a
    run, the state is in another block, too, and stays the current one until the last step is done. So a run that is
    interrupted changes nothing, and costs one copy. A snapshot keeps such a block, and then not even a copy is needed.

    In the state of a stack each member's row begins at a multiple of 16 bytes; 0 stands behind its numbers.

    Parameters
    ----------
    gpu : Gpu
    state : dict
        Arrays whose names, shapes and dtypes are those of the state.

    Attributes
    ----------
    home : array
        The bytes of the block that steps change.
    offsets : dict
        The byte at which each array begins.
    key : tuple
        The names, shapes and dtypes.
    members : int or None
        The rows of a stack of networks.
    """

    def __init__(self, gpu: Gpu, state: dict[str, Array]) -> None:
        self._gpu = gpu
        self._forms = {name: (tuple(map(int, x.shape)), x.dtype) for name, x in state.items()}
        self.key = tuple(self._forms.items())
        self.members = members(state) if is_stack(state) else None
        self.offsets, self.nbytes = offsets({name: self._nbytes(name) for name in state})
        self.home = self._block()
        self._blocks = [self.home]
        self._current = self._same = self.home  # `_same`: another block that home is a copy of, or home
        self._saved: Array | None = None

    @property
    def missing_bytes(self) -> int:
        """The bytes of the blocks that steps and snapshots will need, and that are not there yet."""
        return int(max(0, 3 - len(self._blocks)) * self.nbytes)

    def fits(self, state: dict[str, Array]) -> bool:
        """Whether arrays have the names, shapes and dtypes of the state."""
        return self._forms == {name: (tuple(map(int, x.shape)), x.dtype) for name, x in state.items()}

    def arrays(self) -> dict[str, Array]:
        """Return the current state: views of its block. Write into none of them."""
        return self._arrays(self._current)

    def load(self, state: dict[str, Array]) -> None:
        """Copy arrays in: all of them, or those that are named."""
        new = self._other()
        if len(state) < len(self._forms):
            self._gpu.copy(self._current, new)
        for name, x in self._arrays(new).items():
            if name in state:
                x[...] = self._gpu.cupy.asarray(state[name])
        self._current, self._same = new, self.home

    def begin(self) -> None:
        """Bring the current state home, for steps there. It remains the current one until `commit`."""
        self._away()
        if self._same is not self._current:
            self._gpu.copy(self._current, self.home)
        self._same = self.home

    def commit(self) -> None:
        """Make the block that steps have changed the current one."""
        self._current = self.home

    def snapshot(self) -> Any:
        """Remember the current state; return what `rollback` takes."""
        self._saved = self._away()
        return self._saved

    def rollback(self, saved: Any) -> None:
        """Make a remembered state the current one."""
        self._current = self._saved = saved

    def _away(self) -> Array:
        """Return a block with the current numbers that is not home: the current block from now on."""
        if self._current is self.home:
            other = self._other()
            self._gpu.copy(self.home, other)
            self._current = self._same = other
        return self._current

    def _other(self) -> Array:
        """Return a block that holds nothing that is needed."""
        for block in self._blocks:
            if all(block is not used for used in (self.home, self._current, self._saved)):
                return block
        self._blocks.append(self._block())
        return self._blocks[-1]

    def _block(self) -> Array:
        block = self._gpu.empty(self.nbytes)
        if self.members is not None:
            block[...] = 0
        return block

    def _nbytes(self, name: str) -> int:
        """Return the bytes of an array, with those behind the rows of members."""
        shape, dtype = self._forms[name]
        if self.members is None:
            return int(prod(shape) * dtype.itemsize)
        return int(shape[0] * row_bytes(prod(shape[1:]) * dtype.itemsize))

    def _arrays(self, block: Array) -> dict[str, Array]:
        view = self._gpu.view
        if self.members is None:
            return {name: view(block, self.offsets[name], *form) for name, form in self._forms.items()}
        flat = zip(self.flat(block), self._forms.items(), strict=True)
        return {
            name: x.reshape(shape[0], -1)[:, : prod(shape[1:])].reshape(shape)
            for x, (name, (shape, _)) in flat
        }

    def flat(self, block: Array | None = None) -> list[Array]:
        """Return the arrays of a block, or of the current state, each as one row, with all that lies in its memory."""
        block, found = self._current if block is None else block, list[Array]()
        for name, (_, dtype) in self._forms.items():
            size = self._nbytes(name) // int(dtype.itemsize)
            found.append(self._gpu.view(block, self.offsets[name], (size,), dtype))
        return found
