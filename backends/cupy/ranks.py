"""The sum of a step's vector over all ranks, on the GPU by NCCL, or through the host."""

from typing import Any

import numpy as np

from nnx.backends.cupy.form import Form
from nnx.backends.cupy.step import Argument, SumOverRanks
from nnx.compiler import Op

TO_DEVICE, TO_HOST = 1, 2
"""CUDA's numbers of the directions of a copy."""


def sum_over_ranks(form: Form, op: Op) -> SumOverRanks:
    """Return the call of an all_reduce."""
    a, c = (form.schedule.place(x) for x in (op.reads[0], op.out))
    vector, total = (Argument(x.memory, x.offset, x.dtype) for x in (a, c))
    return SumOverRanks(vector, total, op.out.size, op.option("communicator"))


def enqueue(cupy: Any, call: SumOverRanks, source: int, target: int, stream: Any) -> None:
    """Ask a stream for the sum of the vectors at `source`, one on each rank, at `target`.

    Without NCCL the host waits for the vector. This cannot be captured: the step then is no CUDA graph.
    """
    on_stream = getattr(call.communicator, "sum_on_stream", None)
    if on_stream is not None:
        on_stream(source, target, call.size, call.vector.dtype, stream.ptr)
        return
    vector, memcpy = np.empty(call.size, call.vector.dtype), cupy.cuda.runtime.memcpy
    stream.synchronize()
    memcpy(vector.ctypes.data, source, vector.nbytes, TO_HOST)
    call.communicator.sum(vector)
    memcpy(target, vector.ctypes.data, vector.nbytes, TO_DEVICE)
