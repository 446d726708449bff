"""One option of the command line: its help, its panel, and the completion of its value in a shell."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from nnx.port.precision import FLOAT32, PRECISIONS


def complete(names: Iterable[str], files: bool = False, several: bool = False) -> Callable[[str], list[str]]:
    """Return the completions of a value in the shell: the names, and files where they are allowed.

    Of `several` names with commas between, the last is completed.

    Examples
    --------
    >>> complete(["accuracy", "f1", "roc_auc"], several=True)("f1,ro")
    ['f1,roc_auc']
    """

    def completed(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        found = [f"{before}{comma}{name}" for name in names if name.startswith(last)]
        if files:
            paths = Path(incomplete).parent.glob(f"{Path(incomplete).name if incomplete else ''}*")
            found += [f"{path}/" if path.is_dir() else str(path) for path in paths]
        return found

    return completed


def backends(incomplete: str) -> list[str]:
    """Complete a backend's name: those that are installed, asked for only when it is needed."""
    from nnx.port.registry import AUTO, names

    return complete([AUTO, *names()])(incomplete)


def option(panel: str, help: str, *names: str, **more: Any) -> Any:
    """Return an option of the command line, shown in a panel of the help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def number_or_numbers(text: str) -> float | list[float]:
    """Return "0.01" as 0.01, and "0.01,0.003" as [0.01, 0.003]: one for each member.

    Raises
    ------
    typer.BadParameter
        When it is no number.
    """
    found = []
    for part in str(text).split(","):
        try:
            found.append(float(part))
        except ValueError:
            of = "" if part == text else f" of {text!r}"
            raise typer.BadParameter(f"{part!r}{of} is not a valid float.") from None
    return found if len(found) > 1 else found[0]


def whole_number(text: str) -> int:
    """Return the text as an int.

    Raises
    ------
    typer.BadParameter
        When it is none; of several numbers it says that one is for all members.
    """
    try:
        return int(text)
    except ValueError:
        several = ": one number for all members" if "," in str(text) else ""
        raise typer.BadParameter(f"{text!r} is not a valid integer{several}.") from None


def numbers(panel: str, help: str, *names: str, **more: Any) -> Any:
    """Return an option whose value is a number, or one for each member."""
    return option(panel, help, *names, parser=number_or_numbers, metavar="<float>", **more)


def integer(panel: str, help: str, metavar: str = "<int>", **more: Any) -> Any:
    """Return an option whose value is a whole number, that of all members."""
    return option(panel, help, parser=whole_number, metavar=metavar, **more)


BackendName = Annotated[
    str,
    option("Where", "auto, numpy, cupy, torch, jax, ...: see `nnx backends`.", autocompletion=backends),
]
PrecisionName = Annotated[
    str | None,
    option(
        "Where",
        "Of the matrix products. tf32: on a CUDA GPU (torch, cupy, jax); bfloat16: there, and on a CPU (torch, jax).",
        metavar="|".join(PRECISIONS),
        show_default=FLOAT32,
        autocompletion=complete(PRECISIONS),
    ),
]
DeviceName = Annotated[
    str | None,
    option(
        "Where",
        "cpu, cuda, cuda:1, ...",
        show_default="the backend's best",
        autocompletion=complete(["cpu", "cuda"]),
    ),
]
