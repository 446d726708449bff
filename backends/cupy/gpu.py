"""A CUDA GPU through CuPy: memory, compiled kernels, streams and graphs, and the products of cuBLASLt."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeVar

from nnx.array.namespace import Array
from nnx.backends.cupy.cublaslt import CuBlasLt
from nnx.errors import BackendError, first_line, size
from nnx.support.processes import not_forked

T = TypeVar("T")

ALIGNED = 256
"""Bytes of which the address of each piece of memory is a multiple."""


def aligned(nbytes: int) -> int:
    """Return the number of bytes, rounded up to a multiple of `ALIGNED`.

    Examples
    --------
    >>> aligned(1), aligned(512)
    (256, 512)
    """
    return -(-nbytes // ALIGNED) * ALIGNED


def offsets(memory: Mapping[T, int]) -> tuple[dict[T, int], int]:
    """Return where each piece of memory, given with its bytes, begins in one block, and the bytes of the block."""
    *starts, end = accumulate(map(aligned, memory.values()), initial=0)
    return dict(zip(memory, starts, strict=True)), end


OUT_OF_MEMORY = 2
"""The status of CUDA's error for too little memory: cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY."""


class _Thread(threading.local):
    """The stream that a thread used before it began to capture another one."""

    stream: Any = None


_thread = _Thread()


class Gpu:
    """One GPU, as one program uses it: with streams of the program's own, and the products that all programs share.

    Parameters
    ----------
    cupy : module
    device : cupy.cuda.Device
    lt : CuBlasLt
    """

    def __init__(self, cupy: Any, device: Any, lt: CuBlasLt) -> None:
        self.cupy, self.device, self.lt = cupy, device, lt
        self._modules: dict[str, Any] = {}
        self._ends: dict[tuple[int, int], Any] = {}  # an event after the last call of each thread and stream

    def again(self) -> "Gpu":
        """Return the same GPU with other streams, whose calls come after those of this one, and the other way round."""
        other = Gpu(self.cupy, self.device, self.lt)
        other._ends = self._ends
        return other

    @contextmanager
    def use(self) -> Iterator[Any]:
        """Make the GPU the current one of this thread, and give the thread's stream.

        A call comes after all calls that have returned, also those of other threads and streams: a thread reads samples
        ahead, and its stream need not be the caller's. A signal's handler may come here while a stream captures. Its
        calls go to the stream that was in use before.

        Raises
        ------
        BackendError
            In a fork of a process that has used CUDA, or when CUDA fails within.
        MemoryError
            When the GPU has too little.
        """
        not_forked("CUDA")
        try:
            with self.device, _thread.stream or nullcontext():
                stream = self.cupy.cuda.get_current_stream()
                this = threading.get_ident(), stream.ptr
                for which, end in list(self._ends.items()):
                    if which != this:
                        stream.wait_event(end)
                        if end.done:
                            self._ends.pop(which, None)
                try:
                    yield stream
                finally:
                    with suppress(Exception):  # a GPU that is lost refuses this, too
                        self._ends[this] = self.event(stream)
        except Exception as error:
            if self.lacks_memory(error):
                raise self._memory_error(error) from error
            if self.is_error(error):
                raise BackendError(
                    f"the GPU failed ({first_line(error)}), and this process can use it no longer. Start a new one. "
                    "A fit goes on from its last checkpoint, which is whole: fit(resume=FOLDER), or nnx train "
                    "--resume FOLDER"
                ) from error
            raise

    # Memory.

    def empty(self, nbytes: int) -> Array:
        """Return memory, an array of bytes. CuPy's pool aligns it to 512 bytes."""
        return self.cupy.empty(max(nbytes, 1), "uint8")

    def view(self, memory: Array, start: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a row-major array that lies in memory, from a byte on."""
        nbytes = int(self.cupy.dtype(dtype).itemsize)
        for n in shape:
            nbytes *= n
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def copy(self, source: Array, target: Array) -> None:
        """Copy all bytes from one memory to another one."""
        target.data.copy_from_device_async(source.data, source.nbytes)

    @property
    def free_bytes(self) -> int:
        """The bytes that can be had: by the GPU, and by the limit of CuPy's pool if it has one."""
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        pool = self.cupy.get_default_memory_pool()
        limit = pool.get_limit()
        if limit:
            free = min(free, limit - pool.total_bytes())
        return int(free) + int(pool.free_bytes())

    # What runs.

    def module(self, source: str) -> Any:
        """Return compiled CUDA C. CuPy keeps it on disk, too."""
        if source not in self._modules:
            self._modules[source] = self.cupy.RawModule(code=source, options=("-std=c++17",))
        return self._modules[source]

    @cached_property
    def streams(self) -> tuple[Any, Any]:
        """A stream that captures, and one for what runs beside another one."""
        new = self.cupy.cuda.Stream
        return new(non_blocking=True), new(non_blocking=True)

    def event(self, stream: Any) -> Any:
        """Return an event that is recorded on a stream."""
        return stream.record(self.cupy.cuda.Event(disable_timing=True))

    def captured(self, enqueue: Callable[[Any], None]) -> Any:
        """Return a CUDA graph of what `enqueue` asks of a stream."""
        stream, outer = self.streams[0], _thread.stream
        try:
            _thread.stream = self.cupy.cuda.get_current_stream()
            with self.lt.lock, stream:
                try:
                    stream.begin_capture()
                    enqueue(stream)
                    return stream.end_capture()
                except BaseException:  # an interrupt may come anywhere: the stream must not go on capturing
                    with suppress(Exception):  # half a graph is an error by itself
                        stream.end_capture()
                    raise
        finally:
            _thread.stream = outer

    @contextmanager
    def memory_errors(self) -> Iterator[None]:
        """Raise a MemoryError for CUDA's own error: modules, streams and graphs take memory beside the pool's."""
        try:
            yield
        except Exception as error:
            if self.lacks_memory(error):
                raise self._memory_error(error) from error
            raise

    def _memory_error(self, error: Exception) -> MemoryError:
        return MemoryError(
            f"the GPU has too little memory, {size(self.free_bytes)} are free ({first_line(error)}). A smaller "
            "batch_size takes less, and so do samples that are read block by block (nnx.Rows, a memmap, batches)"
        )

    def lacks_memory(self, error: Exception) -> bool:
        """Whether there is too little memory, for CuPy's pool or for CUDA itself."""
        of_pool = isinstance(error, self.cupy.cuda.memory.OutOfMemoryError)
        return of_pool or (self.is_error(error) and getattr(error, "status", None) == OUT_OF_MEMORY)

    def is_error(self, error: Exception) -> bool:
        """Whether an error is CUDA's: the GPU is lost or a kernel was wrong, and nothing more runs there."""
        cuda = self.cupy.cuda
        return isinstance(error, cuda.runtime.CUDARuntimeError | cuda.driver.CUDADriverError)
