"""The help of the commands, and the names that they suggest for mistyped ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

from rich.markup import escape
from typer import Exit
from typer.core import TyperCommand, TyperGroup

from nnx.cli import INTERRUPTED
from nnx.cli.stopped import line_of
from nnx.data.builtin import BUILTIN
from nnx.errors import nearest

HELP = {"help_option_names": ["--help", "-h"]}
"""The settings of every command."""


def as_shown(option: Any) -> Any:
    """Return a copy of an option for the help: its names in one column, and no value where it is a flag.

    Of a flag that is on by default the name that switches it off is shown; without a default both are.
    """
    if option.param_type_name != "option":
        return option
    found = copy(option)
    names = option.opts
    if option.is_flag and option.secondary_opts and option.default is not False:
        names = option.secondary_opts if option.default else ["/".join(option.opts + option.secondary_opts)]
    found.opts, found.secondary_opts = [", ".join(sorted(names, key=len, reverse=True))], []
    if option.is_flag:
        found.metavar, found.show_default = "", False
    return found


class _Helped:
    """The base of commands and groups of commands."""

    _helps = False

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options; while the help is printed, as they are shown."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        return [as_shown(one) for one in found] if self._helps else found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        self._helps = True
        try:
            super().format_help(ctx, formatter)  # type: ignore[misc]
        finally:
            self._helps = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; an unknown option is an error that names the nearest."""
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]
        except Exception as error:
            given = getattr(error, "option_name", "")
            if type(error).__name__ == "NoSuchOption" and given.startswith("--"):
                known = [name[2:] for one in self.get_params(ctx) for name in one.opts if name[:2] == "--"]
                error.message = f"No such option {given}.{_hint('--', nearest(given[2:], known))}"  # type: ignore[attr-defined]
                error.possibilities = None  # type: ignore[attr-defined]
            raise


class Command(_Helped, TyperCommand):
    """A command."""


class Group(_Helped, TyperGroup):
    """The command that the others stand under."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command; for an unknown one an error that names the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            if hasattr(error, "message") and (given := args[0]) not in self.commands:
                a_file = given in BUILTIN or Path(given).is_file()
                near = [f"nnx train {given}"] if a_file else nearest(given, self.commands)
                error.message = f"No such command {given!r}.{_hint('', near)}"
            raise

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Read the command line; say in one line that Ctrl-C has ended it: typer says nothing."""
        with _one_line():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; say in one line that Ctrl-C has ended it, unless it has said so itself."""
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        from nnx.cli.show import errors

        if line := line_of(error):
            errors.print(escape(line), soft_wrap=True)
        raise Exit(INTERRUPTED) from error


def _hint(before: str, near: list[str]) -> str:
    return f" Did you mean {' or '.join(repr(before + name) for name in near)}?" if near else ""


def examples(*lines: str) -> str:
    """Return the end of a command's help: a line each."""
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])
