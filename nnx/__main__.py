"""The command ``nnx``, also ``python -m nnx``."""

import sys


def main() -> None:
    """Run the command line; what is wrong with its input is said in one line, without a traceback."""
    from nnx.errors import Error

    try:
        from nnx.cli.app import app
    except ImportError as error:
        if error.name and error.name.startswith("nnx"):
            raise
        sys.exit(f"nnx: the command line needs {error.name}: pip install 'nnx-array[cli]'")
    try:
        app()
    except (Error, OSError) as error:
        from nnx.cli.show import complain

        complain(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
