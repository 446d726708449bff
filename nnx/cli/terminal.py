"""Consoles that any text can be printed on: of files, with control characters, in any encoding."""

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from nnx.cli import streams

HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys and does not show: control characters (but for tabs and line ends), changes of direction,
and what stands for bytes that are no text."""


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""Return a text with escapes for what would not be seen, or not be known in this encoding.

    Examples
    --------
    >>> print(visible("caf\u00e9 \x1b[31mred"))
    café \x1b[31mred
    >>> print(visible("caf\u00e9 \u03b2", "latin-1"))
    café \u03b2
    """
    shown = HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    try:
        return shown.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:  # an encoding that Python does not know
        return shown


def line(text: str) -> str:
    r"""Return a text as one line.

    Examples
    --------
    >>> print(line("a\nb"))
    a\nb
    """
    return text.replace("\n", "\\n")


class Terminal(Console):
    """A console that shows text as `visible` returns it. The reader of its output may end; that is no error.

    It takes no :names: for emoji, which a column may have as its name.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    @property
    def encoding(self) -> str:
        """The encoding of the stream that it prints on now."""
        return (getattr(self.file, "encoding", None) or "utf-8").lower()

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text to print: every one passes here."""
        return super().render_str(visible(text, self.encoding), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or raise an Error that says where nothing can be written, such as on a full disk."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            called = "standard error output" if self.stderr else "standard output"
            raise streams.unwritable(self.file, called, error) from error

    def spare(self, table: Any) -> int:
        """Return the columns that a table leaves of the width; negative where it is too wide."""
        return self.width - self.measure(table, options=self.options.update(width=10_000)).maximum

    def on_broken_pipe(self) -> None:
        """End silently when the reader of the output has ended."""
        streams.ended()
