"""A function on a GPU: its kernels and products, asked for one after the other. It leaves no memory in use."""

from math import prod
from typing import Any

from nnx.array.namespace import Array
from nnx.backends.cupy.calls import Calls, has_layout
from nnx.backends.cupy.gpu import Gpu, offsets
from nnx.backends.cupy.members import ROUND
from nnx.backends.cupy.step import RenderedStep
from nnx.compiler import Value, is_array
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory, Place
from nnx.support.tree import leaves, mapped


class CudaFunction:
    """A rendered function that returns new arrays.

    Of a stack the first argument and all results have the members as their first axis. An argument whose address is no
    multiple of `ROUND` is copied.

    Parameters
    ----------
    gpu : Gpu
    rendered : RenderedStep
    precision : str
        Of products: see `nnx.backend`.
    """

    def __init__(self, gpu: Gpu, rendered: RenderedStep, precision: str) -> None:
        self._gpu, self._schedule = gpu, rendered.schedule
        self._members, self._strides = rendered.members, rendered.strides
        graph = self._schedule.graph
        inputs = {self._schedule.place(x).memory: ROUND for x in graph.inputs}
        self._calls = Calls(gpu, rendered, precision, inputs)
        outputs = [self._schedule.place(x).memory for x in graph.outputs]
        given = {*inputs, *outputs}
        self._places, self._size = offsets({x: n for x, n in self._calls.memory.items() if x not in given})

    def __call__(self, arguments: Any, stream: Any) -> Any:
        """Return what the function returns for arguments like those that it was traced with."""
        gpu, graph, place = self._gpu, self._schedule.graph, self._schedule.place
        held = [
            self._with_layout(x, place(value))
            for value, x in zip(graph.inputs, filter(is_array, leaves(arguments)), strict=True)
        ]
        outs = {value: self._empty(place(value)) for value in graph.outputs}
        working = gpu.empty(self._size)  # used again for what the stream does after these calls
        addresses: dict[Memory, int] = {x: working.data.ptr + start for x, start in self._places.items()}
        addresses |= {place(value).memory: x.data.ptr for value, x in zip(graph.inputs, held, strict=True)}
        addresses |= {place(value).memory: x.data.ptr for value, x in outs.items()}
        self._calls.enqueue(stream, addresses)
        return mapped(graph.result, lambda leaf: outs[leaf] if isinstance(leaf, Value) else leaf)

    def _empty(self, place: Place) -> Array:
        """Return a new array with the strides of a place: of a matrix rows or columns may be dense."""
        by_columns = len(place.shape) == 2 and place.strides == (1, place.shape[0])
        shape = place.shape[::-1] if by_columns else place.shape
        if row := self._strides.get(place.memory):
            rows = self._gpu.cupy.empty((self._members, row // itemsize(place.dtype)), place.dtype)
            new = rows[:, : prod(shape)].reshape((self._members, *shape))
            return new.transpose(0, 2, 1) if by_columns else new
        new = self._gpu.cupy.empty(shape, place.dtype)
        return new.T if by_columns else new

    def _with_layout(self, x: Array, place: Place) -> Array:
        """Return an array as it must lie in memory: itself if it does."""
        x, row = self._gpu.cupy.asarray(x), self._strides.get(place.memory)
        if row:
            x = x.reshape((self._members, *place.shape))
            if x.strides[0] == row and has_layout(x[0, ...], place, ROUND):
                return x
        else:
            x = x.reshape(place.shape)
            if has_layout(x, place, ROUND):
                return x
        new = self._empty(place)
        new[...] = x
        return new
