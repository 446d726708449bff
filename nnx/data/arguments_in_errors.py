"""Errors of the readers name options of the command line; in Python they name arguments."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from nnx.errors import InputError

_NAME = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""


def in_words_of_python(text: str) -> str:
    """Return a text with arguments for the options of the command line that it names."""
    several = rf"--(drop|missing|units) {_NAME}(?: --\1 {_NAME})*"
    text = re.sub(r"(--[a-z]+) (?=--)", r"\1, ", text)  # arguments have commas between them
    text = re.sub(several, lambda found: f"{found[1]}=[{', '.join(re.findall(_NAME, found[0]))}]", text)
    text = text.replace("--month-first", "day_first=False").replace("--day-first", "day_first=True")
    text = re.sub("--(decimal-comma|thousands)", lambda found: f"{found[1].replace('-', '_')}=True", text)
    text = re.sub("--task ([a-z]+)", r"task='\1'", text)
    return re.sub("--(drop|target|delimiter|task)(?: (?=[A-Z]))?", r"\1=", text)


@contextmanager
def in_python() -> Iterator[None]:
    """Let errors name arguments, where they name options of the command line."""
    try:
        yield
    except InputError as error:
        error.args = (in_words_of_python(str(error)),)
        raise
