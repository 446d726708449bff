"""What is wrong, in words for the command line."""

import os
import sys
import traceback

from nnx.cli import FAILED, INTERRUPTED, MISTYPED
from nnx.cli.inputs import UsageError
from nnx.cli.options import in_options
from nnx.cli.show import complain
from nnx.errors import Error, first_line

OUT_OF_MEMORY = ("OutOfMemoryError", "RESOURCE_EXHAUSTED")
"""In the errors of PyTorch and JAX where a GPU has too little memory."""

LOST_GPU = "CUDA error"
"""The beginning of PyTorch's error where a GPU fails."""


def in_words(error: BaseException) -> str:
    """Return an error as a user is told of it."""
    if isinstance(error, Error):
        return in_options(str(error))
    if isinstance(error, OSError):
        why, where = error.strerror or str(error), error.filename
        return why if where is None else f"{os.fsdecode(where)!r}: {why}"
    if isinstance(error, MemoryError) or any(name in repr(error) for name in OUT_OF_MEMORY):
        return f"the memory does not suffice: {first_line(error)}"
    if isinstance(error, RuntimeError) and str(error).startswith(LOST_GPU):
        return (
            f"the GPU failed ({first_line(error)}). Start again: a run goes on from its last checkpoint, which is "
            "whole, by nnx train --resume FOLDER"
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return (
            "the system starts no more threads for this user or container; end other programs, raise the limit "
            "(ulimit -u, or the container's pids limit), or ask for fewer (OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1)"
        )
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    return (
        f"nnx failed, {type(error).__name__}: {first_line(error)}. This is no fault of yours; please report it "
        "with what the same command prints when the environment variable NNX_TRACEBACK=1 is set"
    )


def status_of(error: BaseException) -> int:
    """Return the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return MISTYPED if isinstance(error, UsageError) else FAILED


def said_of_a_rank(where: str, error: BaseException) -> int:
    """Say the error of one rank, which ends all, also where that rank says nothing else; return the exit status."""
    sys.stderr = sys.__stderr__
    if os.environ.get("NNX_TRACEBACK"):
        traceback.print_exception(error)
    complain(f"{where}: {in_words(error)}")
    return status_of(error)
