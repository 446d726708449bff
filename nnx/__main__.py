"""The command ``nnx``, also ``python -m nnx``."""

import os
import sys

from nnx.cli import FAILED, INTERRUPTED, MISTYPED


def main() -> None:
    """Run the command line; what is wrong is said in one line, without a traceback unless NNX_TRACEBACK is set."""
    if os.environ.get("NNX_TRACEBACK"):
        from nnx.cli.app import app

        app()
        return
    try:
        from nnx.cli.app import app

        app()
    except KeyboardInterrupt:  # before typer looks out for it
        sys.exit(INTERRUPTED)
    except ImportError as error:
        if not error.name or error.name.startswith("nnx"):
            raise
        sys.exit(f"nnx: the command line needs {error.name}: pip install 'nnx-array[cli]'")
    except Exception as error:
        from nnx.cli.inputs import UsageError
        from nnx.cli.show import complain
        from nnx.errors import Error, first_line

        if isinstance(error, Error | OSError):
            complain(error)
        elif isinstance(error, MemoryError):
            complain(f"the memory does not suffice: {first_line(error)}")
        else:
            complain(
                f"nnx failed, {type(error).__name__}: {first_line(error)}. This is no fault of yours; please report it "
                "with what the same command prints when the environment variable NNX_TRACEBACK=1 is set"
            )
        sys.exit(MISTYPED if isinstance(error, UsageError) else FAILED)


if __name__ == "__main__":
    main()
