"""A stand-in for CuPy on NumPy arrays, as far as backends/cupy uses it, with streams, events and captured graphs.

A graph does its nodes in any order that its streams and events allow, and so finds a wait that is missing. What CUDA
refuses while a stream captures is refused here, too. New memory is full of NaN.
"""

import gc
import random
import sys
import threading
import weakref
from ctypes import memmove
from types import SimpleNamespace

import array_api_compat.numpy as xp
import numpy as np
from cublaslt_on_host import CublasLtOnHost
from cuda_kernels_on_host import KernelsOnHost

from nnx.backends.cupy import adapter

ALIGNED = 512

SECONDS = 2e-6
"""What a kernel or a copy takes by the stand-in's clock."""


class CUDARuntimeError(RuntimeError):
    """What CUDA's runtime raises, with its number of the error: that of an address that is not allowed."""

    def __init__(self, text, status=700):
        super().__init__(text)
        self.status = status


class OutOfMemoryError(MemoryError):
    """What CuPy's pool raises."""


class Pointer:
    """An address in an array."""

    def __init__(self, array):
        self.array, self.ptr = array, array.ctypes.data

    def copy_from_device_async(self, source, nbytes):
        self.array.cupy.copies += 1
        to, given = (np.asarray(x.array).reshape(-1).view("uint8") for x in (self, source))
        cupy = self.array.cupy

        def copy():
            cupy.seconds += SECONDS
            np.copyto(to[:nbytes], given[:nbytes])

        cupy.do(copy)


class Place(str):
    """The device of an array: NumPy's, but like CuPy's it has a number and no hash."""

    __hash__, id = None, 0


class Array(np.ndarray):
    """An array on the GPU."""

    cupy = None

    def __array_finalize__(self, other):
        self.cupy = getattr(other, "cupy", None)

    @property
    def device(self):
        return Place("cpu")

    @property
    def data(self):
        return Pointer(self)

    def get(self):
        self.cupy.host_only("a copy to the host")
        return np.array(self)

    def __setitem__(self, key, x):
        self.cupy.host_only("an assignment")
        self.cupy.copies += 1
        super().__setitem__(key, x)

    def __int__(self):
        return int(self.get())


class Event:
    """An event; `time` is that of the stand-in's own clock."""

    done = False  # for all that the host knows

    def __init__(self, cupy):
        self.cupy, self.graph, self.nodes, self.time = cupy, None, (), None

    def record(self, stream=None):
        (stream or self.cupy.cuda.get_current_stream()).record(self)

    def synchronize(self):
        self.cupy.host_only("a wait of the host")


class Stream:
    """A stream. While it captures, what it is asked for becomes nodes of a graph, which wait for `tail`."""

    def __init__(self, cupy, ptr):
        self.cupy, self.ptr, self.graph, self.tail = cupy, ptr, None, set()

    def __enter__(self):
        self.cupy.stack.append(self)
        return self

    def __exit__(self, *_):
        assert self.cupy.stack.pop() is self

    def record(self, event=None):
        event = event or Event(self.cupy)
        event.graph, event.nodes, event.time = self.graph, frozenset(self.tail), self.cupy.seconds
        return event

    def synchronize(self):
        self.cupy.host_only("a wait of the host")

    def wait_event(self, event):
        if event.graph is not None:
            assert self.graph in (None, event.graph)
            self.graph = event.graph  # it captures, too
            self.graph.streams.add(self)
        else:
            assert self.graph is None, "a capture waits for what is not captured"
        self.tail |= event.nodes

    def begin_capture(self):
        if self is self.cupy.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.graph is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: it captures already", 401)
        self.graph, self.tail = Graph(self.cupy), set()
        self.graph.streams.add(self)

    def end_capture(self):
        graph = self.graph
        if graph is None:
            raise CUDARuntimeError("cudaErrorIllegalState: it does not capture", 401)
        joined, open_ends = set(), [*self.tail]
        while open_ends:
            node = open_ends.pop()
            if node not in joined:
                joined.add(node)
                open_ends += graph.nodes[node][1]
        for stream in graph.streams:
            stream.graph, stream.tail = None, set()
        if len(joined) < len(graph.nodes):
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream was not joined", 904)
        return graph

    def do(self, call):
        if self.graph is None:
            call()
            return
        self.graph.nodes.append((call, frozenset(self.tail)))
        self.tail = {len(self.graph.nodes) - 1}


class Graph:
    """Captured calls, each with those that it waits for."""

    def __init__(self, cupy):
        self.cupy, self.nodes, self.streams = cupy, [], set()

    def launch(self, stream=None):
        self.cupy.launches += 1
        done, left = set(), [*range(len(self.nodes))]
        while left:
            ready = [k for k in left if self.nodes[k][1] <= done]
            k = self.cupy.choose(ready)
            self.nodes[k][0]()
            done.add(k)
            left.remove(k)


class RawModule:
    def __init__(self, cupy, code, options):
        assert options == ("-std=c++17",)
        cupy.compiled.append(code)
        self.cupy, self.kernels = cupy, KernelsOnHost(code)

    def get_function(self, name):
        assert name in self.kernels.parameters, name

        def call(grid, block, arguments):
            self.cupy.calls += 1
            blocks, members, threads = *(*grid, 1)[:2], *block
            assert type(grid) is type(block) is tuple  # CuPy takes nothing else
            assert 0 < blocks < 2**31
            assert 0 < members < 2**16
            assert 0 < threads <= 1024

            def run():
                self.cupy.seconds += SECONDS
                self.kernels.run(name, (blocks, members), threads, arguments, self.cupy.seed)

            self.cupy.do(run)

        return call


class Device:
    compute_capability = "90"

    def __init__(self, index=None):
        self.id = index or 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def use(self):
        pass


class CupyOnHost:
    """The module.

    Parameters
    ----------
    limit : int, optional
        Bytes that there are; default: enough.
    order : {"as asked", "last first", "any"}
        In which a graph does calls that do not wait for each other.
    seed : int
        In which order a kernel's threads and blocks run: 0 in order, 1 in reverse, else shuffled.
    """

    __version__ = "14.2.0"
    ndarray, dtype = Array, staticmethod(np.dtype)

    def __init__(self, limit=1 << 30, order="as asked", seed=0):
        self.limit, self.seed, self.used, self.held, self.pool_limit = limit, seed, 0, 0, 0
        self._of_thread, self.streams, self.compiled = threading.local(), {}, []
        self.calls = self.launches = self.copies = 0
        self.seconds = 0.0  # the clock: kernels and products move it on
        drawn = random.Random(0)
        self.choose = {"as asked": min, "last first": max, "any": lambda ready: drawn.choice(ready)}[order]
        self.null = self._stream()
        self.cuda = SimpleNamespace(
            Stream=lambda non_blocking: self._stream(),
            Event=lambda **_: Event(self),
            get_elapsed_time=lambda start, end: 1e3 * (end.time - start.time),
            Device=type("Device", (Device,), {}),
            set_allocator=lambda allocator: None,
            get_current_stream=lambda: self.stack[-1] if self.stack else self.null,
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                memGetInfo=lambda: (self.limit - self.used, self.limit),
                getDeviceCount=lambda: 1,
                memcpy=lambda to, source, nbytes, kind: (
                    self.host_only("a copy") or memmove(to, source, nbytes)
                ),
                driverGetVersion=lambda: 13020,
                runtimeGetVersion=lambda: 13020,
                getDeviceProperties=lambda number: {"name": b"a GPU of NumPy"},
            ),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            driver=SimpleNamespace(CUDADriverError=CUDARuntimeError),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 2)),
        )

    @property
    def stack(self):
        """The streams that a thread has entered."""
        return self._of_thread.__dict__.setdefault("stack", [])

    def _stream(self):
        ptr = len(self.streams)
        self.streams[ptr] = Stream(self, ptr)
        return self.streams[ptr]

    def do(self, call):
        """Ask the current stream for a call."""
        self.cuda.get_current_stream().do(call)

    def host_only(self, what):
        if self.cuda.get_current_stream().graph is not None:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream captures", 900)

    def get_default_memory_pool(self):
        return SimpleNamespace(
            free_bytes=lambda: 0,
            get_limit=lambda: self.pool_limit,
            used_bytes=lambda: self.used,
            total_bytes=lambda: self.held,
            free_all_blocks=self._free_all_blocks,
        )

    def _free_all_blocks(self):
        gc.collect()
        self.held = self.used

    def empty(self, shape, dtype):
        self.host_only("new memory")
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.used + nbytes > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {nbytes} bytes")
        self.used += nbytes
        self.held = max(self.held, self.used)
        whole = np.full(nbytes + ALIGNED, 255, "uint8")
        weakref.finalize(whole, self._free, nbytes).atexit = False
        memory = whole.view(Array)
        memory.cupy = self
        start = -memory.ctypes.data % ALIGNED
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def _free(self, nbytes):
        self.used -= nbytes

    def ones(self, shape):
        new = self.empty(shape, "float64")
        new[...] = 1
        return new

    def asnumpy(self, x):
        return np.array(x)

    def asarray(self, x, dtype=None):
        if isinstance(x, Array) and dtype in (None, x.dtype):
            return x
        return self.array(x, dtype)

    def array(self, x, dtype=None, copy=True):
        """A copy, with the layout of x."""
        x = np.asarray(x, dtype)
        turned = x.ndim == 2 and abs(x.strides[0]) < abs(x.strides[1])
        new = self.empty(x.shape[::-1] if turned else x.shape, x.dtype)
        new = new.T if turned else new
        new[...] = x
        return new

    def ascontiguousarray(self, x):
        return x if x.flags.c_contiguous else self.array(np.ascontiguousarray(x))

    def RawModule(self, code, options):  # CuPy's name
        return RawModule(self, code, options)


def install(**options):
    """Put a stand-in where CuPy and cuBLASLt are imported from, for this whole process; return both."""
    cupy = CupyOnHost(**options)
    library = CublasLtOnHost(cupy)
    sys.modules["cupy"], sys.modules["array_api_compat.cupy"] = cupy, xp
    adapter.library = lambda: library
    return cupy, library


def installed(monkeypatch, **options):
    """Install a stand-in for one test; return the backend, the module and the library."""
    monkeypatch.setitem(sys.modules, "cupy", None)  # what is there now comes back after the test
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    monkeypatch.setattr(adapter, "library", None)
    cupy, library = install(**options)
    return adapter.CuPy(), cupy, library
