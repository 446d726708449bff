"""PyTorch, on the CPU or a CUDA GPU. Its autograd is not used: nnx has its own backward."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from nnx.backends.calls.program import CallProgram, Library, is_small
from nnx.backends.torch.calls import render
from nnx.backends.torch.cuda_graph import CudaGraphProgram, captured
from nnx.compiler import Graph
from nnx.compiler.thresholds import GROUP_BYTES
from nnx.errors import BackendError, first_line
from nnx.port.base import Backend, Memory, process_memory, require
from nnx.port.precision import FLOAT32, check_capability, precision_note
from nnx.port.program import Program
from nnx.support.blas_threads import Fewer
from nnx.support.install import CPU_TORCH
from nnx.support.processes import not_forked, whole


def _in_child() -> None:
    """Let PyTorch have one thread in a fork: it would wait for its others, which are not there."""
    set_num_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_num_threads is not None:  # else a thread of the parent was importing it
        set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

_one_thread = Fewer(
    lambda: [sys.modules["torch"].get_num_threads()],
    lambda threads: sys.modules["torch"].set_num_threads(*threads),
    of_thread=True,
)


WITH_CUDA = "https://pytorch.org/get-started/locally"
"""How to install PyTorch with CUDA: the command depends on the system."""


class Torch(Backend):
    """PyTorch's tensors on "cpu", "cuda" or "cuda:N"."""

    name = "torch"

    def __init__(self, device: str | None = None, precision: str = FLOAT32) -> None:
        self._torch = torch = require("torch", "torch", CPU_TORCH)
        import array_api_compat.torch as xp

        self.xp = xp
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.partition(":")[0] not in ("cpu", "cuda"):
            raise BackendError(f"PyTorch computes on 'cpu', 'cuda' or 'cuda:N' only; given device={device!r}")
        try:
            self._device = torch.device(device)
            self._check()
            if self._device.type == "cuda" and self._device.index is None:
                self._device = torch.device("cuda", torch.cuda.current_device())
            (torch.ones(2, device=self._device) + 1).cpu()  # a tiny computation decides
        except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
            raise BackendError(
                f"PyTorch {torch.__version__} cannot compute on device={device!r} ({first_line(error)}); "
                "it can on 'cpu'"
                + (f" and {torch.cuda.device_count()} CUDA GPUs" if torch.cuda.is_available() else "")
                + ("" if torch.version.cuda else f". PyTorch with CUDA: {WITH_CUDA}")
            ) from error
        self.device, self.precision = str(self._device), precision
        self._check_precision()

    def _check_precision(self) -> None:
        """Raise a BackendError where the device lacks the precision: a tiny product decides."""
        torch, where = self._torch, f"PyTorch {self._torch.__version__} on {self.device}"
        if self.precision == "tf32":
            check_capability(
                where,
                self.precision,
                torch.cuda.get_device_capability(self._device)[0] if self._on_gpu else 0,
            )
        if self.precision == "bfloat16" and self._on_gpu:
            one = torch.ones(8, 8, dtype=torch.bfloat16, device=self._device)
            try:
                torch.mm(one, one, out_dtype=torch.float32).cpu()  # from PyTorch 2.8 on
            except (RuntimeError, TypeError) as error:
                why = f"no products of bfloat16 with float32 results ({first_line(error)})"
                raise BackendError(
                    f"{where} has {why}; give precision='float32', or another device"
                ) from error

    def describe(self) -> str:
        """Return PyTorch's version, the GPU's name or the number of threads, and the products' precision."""
        torch = self._torch
        more = f"{torch.get_num_threads()} threads on the CPU"
        if self._on_gpu:
            more = torch.cuda.get_device_name(self._device)
        return f"torch {torch.__version__} on {self.device}: {more}{precision_note(self.precision)}"

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

    def compile(self, function: Callable[..., Any]) -> Program:
        """Return the function as a list of PyTorch's calls; on a GPU its steps are CUDA graphs."""
        library = library_of(self._torch, self._device, self.precision)
        if not self._on_gpu:
            return CallProgram(function, library)  # type: ignore[no-any-return]
        capture = partial(captured, self._torch, self._device)
        return CudaGraphProgram(function, library, capture)  # type: ignore[no-any-return]

    def memory(self) -> Memory:
        """Return the bytes of torch's allocator on a GPU, the process's on the CPU."""
        if not self._on_gpu:
            return process_memory()
        cuda = self._torch.cuda
        used, held = cuda.memory_allocated(self._device), cuda.memory_reserved(self._device)
        free = cuda.mem_get_info(self._device)[0] + held - used
        return Memory(used, cuda.max_memory_allocated(self._device), free)


def library_of(torch: Any, device: Any, precision: str = FLOAT32) -> Library:
    """Return what programs of calls need of PyTorch on a device."""

    @contextmanager
    def settings() -> Iterator[None]:
        products = nullcontext() if device.type == "cpu" else _products(torch, precision == "tf32")
        with torch.inference_mode(False), torch.no_grad(), products:
            yield

    def threads(graph: Graph) -> Callable[[], AbstractContextManager[None]]:
        return _one_thread if device.type == "cpu" and is_small(graph) else nullcontext

    return Library(
        render=partial(render, torch=torch, device=device, precision=precision),
        empty=lambda shape, dtype: torch.empty(shape, dtype=getattr(torch, dtype), device=device),
        take=lambda rows, places, out: torch.index_select(rows, 0, places, out=out),
        settings=settings,
        threads=threads,
        group_bytes=GROUP_BYTES if device.type == "cpu" else float("inf"),
    )


@contextmanager
def _products(torch: Any, tf32: bool) -> Iterator[None]:
    """Let CUDA's products of float32 be TF32, or not, whatever the process has set."""
    matmul = torch.backends.cuda.matmul
    is_new = hasattr(matmul, "fp32_precision")  # PyTorch 2.9
    name, values = ("fp32_precision", ("ieee", "tf32")) if is_new else ("allow_tf32", (False, True))
    before = getattr(matmul, name)
    setattr(matmul, name, values[tf32])
    try:
        yield
    finally:
        setattr(matmul, name, before)
