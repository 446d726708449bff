"""The command ``nnx``, also ``python -m nnx``."""

import os
import sys
from typing import NoReturn

from nnx.cli import INTERRUPTED, streams
from nnx.cli.stopped import STOPPED
from nnx.support import starting


def main() -> None:
    """Run the command line; what is wrong is said in one line, without a traceback unless NNX_TRACEBACK is set."""
    streams.prepare()
    try:
        if any(word.partition("=")[0] == "--communicator" for word in sys.argv[1:]):
            from nnx.cli.ranks import begin

            starting.leave()  # the ranks end together
            begin(sys.argv[1:])
        from nnx.cli.app import app

        starting.leave()
        try:
            app()
        finally:  # app ends with SystemExit, also where all went well
            with streams.writing():
                pass
    except KeyboardInterrupt:  # before a command looks out for it, or after its end
        stop()
    except ImportError as error:
        if starting.hides_ctrl_c(error):
            stop()
        if os.environ.get("NNX_TRACEBACK") or not error.name or error.name.startswith("nnx"):
            raise
        from nnx.support.install import install

        sys.exit(f"nnx: the command line needs {error.name}: {install('cli')}")
    except Exception as error:
        if os.environ.get("NNX_TRACEBACK"):
            raise
        sys.exit(said(error))


def stop() -> NoReturn:
    """Say that Ctrl-C has ended the command, and end."""
    if sys.stderr is not None:
        print(STOPPED, file=sys.stderr)
    sys.exit(INTERRUPTED)


def said(error: Exception) -> int:
    """Say what is wrong; return the exit status."""
    from nnx.cli.faults import in_words, status_of
    from nnx.cli.show import complain

    complain(in_words(error))
    return status_of(error)


if __name__ == "__main__":
    main()
