"""A function on a GPU: its kernels and products, asked for one after the other. It leaves no memory in use."""

from typing import Any

from nnx.array.namespace import Array
from nnx.backends.cupy.calls import Calls, has_layout
from nnx.backends.cupy.gpu import Gpu, offsets
from nnx.backends.cupy.step import RenderedStep
from nnx.compiler import Value, is_array
from nnx.compiler.schedule import Memory, Place
from nnx.support.tree import leaves, mapped

ROUND = 16
"""Bytes of which the address of an argument is a multiple, or it is copied: what products need to be fast."""


class CudaFunction:
    """A rendered function that returns new arrays.

    Parameters
    ----------
    gpu : Gpu
    rendered : RenderedStep
    precision : str
        Of products: see `nnx.backend`.
    """

    def __init__(self, gpu: Gpu, rendered: RenderedStep, precision: str) -> None:
        self._gpu, self._schedule = gpu, rendered.schedule
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
        new = self._gpu.cupy.empty(place.shape[::-1] if by_columns else place.shape, place.dtype)
        return new.T if by_columns else new

    def _with_layout(self, x: Array, place: Place) -> Array:
        """Return an array as it must lie in memory: itself if it does."""
        if has_layout(x, place, ROUND):
            return x
        new = self._empty(place)
        new[...] = x
        return new
