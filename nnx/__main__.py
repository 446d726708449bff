"""The command ``nnx``, also ``python -m nnx``."""

import os
import sys

from nnx.cli import FAILED, INTERRUPTED, MISTYPED, streams

OUT_OF_MEMORY = ("OutOfMemoryError", "RESOURCE_EXHAUSTED")
"""In the errors of PyTorch and JAX where a GPU has too little memory."""

LOST_GPU = "CUDA error"
"""The beginning of PyTorch's error where a GPU fails."""


def main() -> None:
    """Run the command line; what is wrong is said in one line, without a traceback unless NNX_TRACEBACK is set."""
    streams.prepare()
    try:
        if any(word.partition("=")[0] == "--communicator" for word in sys.argv[1:]):
            from nnx.cli.ranks import begin

            begin(sys.argv[1:])
        from nnx.cli.app import app

        try:
            app()
        finally:  # app ends with SystemExit, also where all went well
            with streams.writing():
                pass
    except KeyboardInterrupt:  # before typer looks out for it
        sys.exit(INTERRUPTED)
    except ImportError as error:
        if os.environ.get("NNX_TRACEBACK") or not error.name or error.name.startswith("nnx"):
            raise
        from nnx.support.install import install

        sys.exit(f"nnx: the command line needs {error.name}: {install('cli')}")
    except Exception as error:
        if os.environ.get("NNX_TRACEBACK"):
            raise
        sys.exit(said(error))


def said(error: Exception) -> int:
    """Say what is wrong; return the exit status."""
    from nnx.cli.inputs import UsageError
    from nnx.cli.options import in_options
    from nnx.cli.show import complain
    from nnx.errors import Error, first_line

    if isinstance(error, Error):
        complain(in_options(str(error)))
    elif isinstance(error, OSError):
        why, where = error.strerror or str(error), error.filename
        complain(why if where is None else f"{os.fsdecode(where)!r}: {why}")
    elif isinstance(error, MemoryError) or any(name in repr(error) for name in OUT_OF_MEMORY):
        complain(f"the memory does not suffice: {first_line(error)}")
    elif isinstance(error, RuntimeError) and str(error).startswith(LOST_GPU):
        complain(
            f"the GPU failed ({first_line(error)}). Start again: a run goes on from its last checkpoint, which is "
            "whole, by nnx train --resume FOLDER"
        )
    elif isinstance(error, RuntimeError) and "start new thread" in str(error):
        complain(
            "the system starts no more threads for this user or container; end other programs, raise the limit "
            "(ulimit -u, or the container's pids limit), or ask for fewer (OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1)"
        )
    else:
        complain(
            f"nnx failed, {type(error).__name__}: {first_line(error)}. This is no fault of yours; please report it "
            "with what the same command prints when the environment variable NNX_TRACEBACK=1 is set"
        )
    return MISTYPED if isinstance(error, UsageError) else FAILED


if __name__ == "__main__":
    main()
