"""The command `nnx train`, as typer makes it of the options."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import typer

from nnx.cli.config import gathered
from nnx.cli.options import TYPED, Options
from nnx.port.communicators import communicator
from nnx.port.failures import together


def command(run: Callable[[Options], int]) -> Callable[..., None]:
    """Return the function that typer makes the command of: it gathers the options and runs."""

    def train(context: typer.Context, **values: Any) -> None:
        typed = {
            name: value
            for name, value in values.items()
            if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        }
        with together(communicator(typed.get("communicator"))):
            status = run(gathered(typed))
        if status:
            raise typer.Exit(status)

    hints = get_type_hints(Options, include_extras=True)
    kinds = {"context": typer.Context} | {name: hints[name] for name in TYPED}
    train.__annotations__ = kinds
    defaults: Mapping[str, Any] = {name: f.default for name, f in TYPED.items()}
    train.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                annotation=kind,
                default=defaults.get(name, inspect.Parameter.empty),
            )
            for name, kind in kinds.items()
        ]
    )
    paragraphs = (run.__doc__ or "").split("\n\n")
    train.__doc__ = "\n\n".join(" ".join(one.split()) for one in paragraphs)  # folded by the terminal
    return train
