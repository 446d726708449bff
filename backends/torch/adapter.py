"""PyTorch, on the CPU or a CUDA GPU. Its autograd is not used: nnx has its own backward."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from nnx.array.gather import Pick
from nnx.backends.calls.fewer_threads import SMALL, Fewer
from nnx.backends.calls.program_cache import Recorded, Replay, picking
from nnx.backends.torch.calls import calls
from nnx.backends.torch.cuda_graph import Cuda, Graphs
from nnx.compiler import Graph, trace
from nnx.errors import BackendError, first_line
from nnx.port.base import Backend, F, Memory, Steps, process_memory, require
from nnx.support.install import CPU_TORCH
from nnx.support.processes import not_forked, whole


@lru_cache(maxsize=1)
def _one_thread_in_forks(torch: Any) -> None:
    """Let PyTorch have one thread in forks of this process: it would wait for its others, which are not there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


_one_thread = Fewer(
    lambda: [import_module("torch").get_num_threads()],
    lambda threads: import_module("torch").set_num_threads(*threads),
    of_thread=True,
)


class Torch(Backend):
    """PyTorch's tensors on "cpu", "cuda" or "cuda:N"."""

    name = "torch"

    def __init__(self, device: str | None = None) -> None:
        self._torch = torch = require("torch", "torch", CPU_TORCH)
        _one_thread_in_forks(torch)
        import array_api_compat.torch as xp

        self.xp = xp
        self.version = torch.__version__
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._device = torch.device(device)
            self._check()
            if self._device.type == "cuda" and self._device.index is None:
                self._device = torch.device("cuda", torch.cuda.current_device())
            (torch.ones(2, device=self._device) + 1).cpu()  # a tiny computation decides
        except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
            raise BackendError(
                f"PyTorch {self.version} cannot compute on device={device!r} ({first_line(error)}); it can on 'cpu'"
                + (f" and {torch.cuda.device_count()} CUDA GPUs" if torch.cuda.is_available() else "")
            ) from error
        self.device = str(self._device)
        self.detail = (
            torch.cuda.get_device_name(self._device)
            if self._on_gpu
            else f"{torch.get_num_threads()} threads on the CPU"
        )

    @property
    def _on_gpu(self) -> bool:
        return bool(self._device.type == "cuda")

    def _check(self) -> None:
        """Raise a BackendError on a GPU, in a fork."""
        if self._on_gpu:
            not_forked("CUDA")

    @whole
    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return x as a tensor on the device; NumPy arrays are shared where they can be."""
        self._check()
        torch = self._torch
        if not isinstance(x, torch.Tensor):
            if hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray):
                x = torch.from_dlpack(x)
            else:
                x = np.asarray(x)
                # torch shares neither read-only memory nor strides that are negative or no multiple of an item
                shared = x.flags.writeable and all(s >= 0 and s % x.itemsize == 0 for s in x.strides)
                x = torch.from_numpy(x if shared else x.copy())
        return x.to(device=self._device, dtype=getattr(torch, dtype) if dtype else None)

    @whole
    def to_numpy(self, x: Any) -> Any:
        """Return x on the host."""
        self._check()
        return x.detach().cpu().numpy()

    @whole
    def synchronize(self) -> None:
        """Wait for the GPU's queue."""
        if self._on_gpu:
            self._torch.cuda.synchronize(self._device)

    def capture(self, step: F) -> F:
        """Return the step recorded, and replayed into buffers that are used again; without autograd's bookkeeping."""

        def replay(graph: Graph) -> Replay:
            return calls(graph, self._torch, self._device)

        return Recorded(self._torch.no_grad()(step), replay)  # type: ignore[no-any-return]

    def repeat(self, step: F) -> Steps:
        """Return the steps on end; on a GPU each is the launch of a CUDA graph."""
        plain = super().repeat(step)
        if not self._on_gpu:
            return plain
        torch, pure = self._torch, self._torch.no_grad()(step)

        def lowered(*arguments: Any) -> Any:
            return partial(calls(trace(pure, *arguments), torch, self._device), over=True)

        def captured(run: Callable[[], Any]) -> Callable[[], Any]:
            run()  # what the libraries make at their first call cannot be made while CUDA records
            graph = torch.cuda.CUDAGraph()
            # Not the stream of the first run, whose workspaces are not the graph's.
            stream = torch.cuda.Stream(self._device)
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                run()
            return graph.replay  # type: ignore[no-any-return]

        def costs(J: Any, count: int) -> Any:
            return torch.empty(count, dtype=J.dtype, device=self._device)

        graphs = Graphs(
            lowered, plain, self.picker(), Cuda(torch.empty_like, costs, torch.Tensor.copy_, captured)
        )
        steps = torch.inference_mode(False)(torch.no_grad()(lambda *arguments: graphs(*arguments)))
        steps.graphs = graphs
        return steps  # type: ignore[no-any-return]

    def picker(self) -> Pick:
        """Return what picks samples; on the CPU into memory that is used again, as on a GPU it is anyhow."""
        torch = self._torch
        if self._device.type != "cpu":
            return super().picker()

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def take(rows: Any, places: Any, out: Any) -> Any:
            return torch.index_select(rows, 0, places, out=torch.from_numpy(out))

        return picking(take)  # type: ignore[no-any-return]

    def threads(self, operations: float) -> AbstractContextManager[None]:
        """Return a context in which PyTorch has one thread for small products on the CPU."""
        return nullcontext() if self._on_gpu or operations >= SMALL else _one_thread()

    def memory(self) -> Memory:
        """Return the bytes of torch's allocator on a GPU, the process's on the CPU."""
        if not self._on_gpu:
            return process_memory()
        cuda = self._torch.cuda
        return Memory(cuda.memory_allocated(self._device), cuda.max_memory_allocated(self._device))
