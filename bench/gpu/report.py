"""The results of checks. Each is written when it is known, so that a crash loses none that came before it."""

import json
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from nnx.errors import first_line

OUTCOMES = ("passed", "failed", "skipped", "met", "missed", "measured", "interrupted")
"""A check passed or failed; a time met its bar or missed it; a figure without a bar was measured.
A section was interrupted."""


@dataclass(frozen=True)
class Row:
    """The result of one check.

    Attributes
    ----------
    section, check : str
    outcome : str
        One of OUTCOMES.
    text : str
        The figures, or the reason, for people.
    numbers : dict
        The figures.
    """

    section: str
    check: str
    outcome: str
    text: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


class Report:
    """The rows of one section, in a file with a line of JSON for each.

    Parameters
    ----------
    section : str
    path : Path

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     report = Report("sums", Path(folder) / "rows")
    ...     with report.guard("1 + 1"):
    ...         report.judge("1 + 1", 1 + 1 == 2, "2", found=2)
    ...     print(*read_rows(report.path))
    Row(section='sums', check='1 + 1', outcome='passed', text='2', numbers={'found': 2})
    """

    def __init__(self, section: str, path: Path) -> None:
        self.section, self.path = section, path

    def add(self, check: str, outcome: str, text: str = "", **numbers: Any) -> None:
        """Write a row."""
        assert outcome in OUTCOMES, outcome
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Row(self.section, check, outcome, text, numbers))) + "\n")

    def judge(self, check: str, is_right: bool, text: str = "", **numbers: Any) -> None:
        """Write whether a check passed."""
        self.add(check, "passed" if is_right else "failed", text, **numbers)

    @contextmanager
    def guard(self, check: str) -> Iterator[None]:
        """Write that a check failed if it raises an error. The log has the traceback."""
        try:
            yield
        except Exception as error:  # of any library: the other checks go on
            traceback.print_exc()
            self.add(check, "failed", f"{type(error).__name__}: {first_line(error)}")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file. A process that was ended may have left half a line."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError):
                rows.append(Row(**json.loads(line)))
    return rows


def counts(rows: Iterable[Row]) -> str:
    """Return how many rows have each outcome.

    Examples
    --------
    >>> counts([Row("a", "b", "passed"), Row("a", "c", "failed"), Row("a", "d", "passed")])
    '2 passed, 1 failed'
    """
    outcomes = [row.outcome for row in rows]
    return ", ".join(f"{outcomes.count(x)} {x}" for x in OUTCOMES if x in outcomes) or "nothing"


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table in plain text, section by section.

    Examples
    --------
    >>> print(table([Row("sums", "1 + 1", "passed", "2"), Row("sums", "twice", "skipped", "no numbers")]))
    sums
      passed      1 + 1  2
      skipped     twice  no numbers
    """
    lines = []
    for section, group in groupby(rows, lambda row: row.section):
        of_section = list(group)
        width = max(len(row.check) for row in of_section)
        lines.append(section)
        lines += [f"  {row.outcome:11} {row.check:{width}}  {row.text}".rstrip() for row in of_section]
    return "\n".join(lines)
