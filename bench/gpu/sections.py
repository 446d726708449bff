"""The sections of the script, each a process with a limit of its own."""

from typing import NamedTuple


class Section(NamedTuple):
    """A part of the script.

    Attributes
    ----------
    where : str
        module:function, called with a `Report` and the `Options`.
    seconds : int
        The longest that it may take.
    alone : bool
        Whether nothing else may run beside it, since it measures times.
    content : str
        For people.
    """

    where: str
    seconds: int
    alone: bool
    content: str


class Options(NamedTuple):
    """The options that all sections have.

    Attributes
    ----------
    out : str
        The beginning of the names of files to write, as "folder/nvidia-h200".
    seed : int
        Draws samples and weights.
    small : bool
        Whether the networks are tiny and the times short: a try of the script itself.
    tests : str
        The folder with the test suite.
    """

    out: str
    seed: int
    small: bool
    tests: str


FIRST = "device"
"""The section before all others: without a GPU there are none."""

SECTIONS = {
    FIRST: Section("nnx.bench.gpu.device:describe", 40, True, "the GPU's name and its libraries"),
    "correctness": Section(
        "nnx.bench.gpu.correctness:check", 130, False, "8 networks against NumPy, in memory full of NaN"
    ),
    "tests": Section("nnx.bench.gpu.suite_tests:run", 130, False, "the suite's tests of the backend cupy"),
    "memcheck": Section("nnx.bench.gpu.sanitizer:memcheck", 130, False, "compute-sanitizer on a short fit"),
    "racecheck": Section("nnx.bench.gpu.sanitizer:racecheck", 130, False, "compute-sanitizer on a short fit"),
    "speed": Section("nnx.bench.gpu.speed:measure", 210, True, "a step beside the floor and other libraries"),
    "members": Section(
        "nnx.bench.gpu.members:measure", 35, True, "1,000 networks at once, beside one after the other"
    ),
    "kernels": Section("nnx.bench.gpu.kernels:measure", 30, True, "the time of each kernel and product"),
    "choices": Section(
        "nnx.bench.gpu.kernels:compare_choices", 30, True, "a step with one choice of the program changed"
    ),
}
"""All sections, in their order. Those that may run beside others run at the same time."""


def groups(names: list[str]) -> list[list[str]]:
    """Return the sections in groups that run one after the other.

    Examples
    --------
    >>> groups(["correctness", "tests", "speed", "kernels"])
    [['correctness', 'tests'], ['speed'], ['kernels']]
    """
    beside = [name for name in names if not SECTIONS[name].alone]
    alone = [[name] for name in names if SECTIONS[name].alone]
    return [beside, *alone] if beside else alone


def longest(names: list[str]) -> int:
    """Return the most seconds that these sections take.

    Examples
    --------
    >>> longest(["correctness", "tests", "kernels"])
    160
    """
    return sum(max(SECTIONS[name].seconds for name in group) for group in groups(names))
