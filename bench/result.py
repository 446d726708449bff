"""The results: what the JSON file holds (docs/benchmarks.md), written and read."""

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from math import inf
from pathlib import Path
from statistics import quantiles
from types import UnionType
from typing import Any, NamedTuple, get_origin, get_type_hints

from nnx.bench.contestants import SINGLES, backend_of
from nnx.errors import InputError
from nnx.io.atomic_write import written_aside

FORMAT = "nnx bench"
VERSION = 1
"""Of the schema: counts up when a field changes its meaning or goes away."""


class Key(NamedTuple):
    """What tells one figure from all others of a file."""

    sizes: tuple[int, ...]
    optimizer: str
    dtype: str
    order: str
    m: int
    contestant: str
    members: int | None = None

    @property
    def group(self) -> "Group":
        """The table and the plot that it stands in."""
        return Group(*self[:4], None if self.members is None else self.m)

    @property
    def x(self) -> int:
        """Its place in them: m, or of members K."""
        return self.m if self.members is None else self.members


class Group(NamedTuple):
    """What stands in one table and one plot: over m, or over the members K at one m."""

    sizes: tuple[int, ...]
    optimizer: str
    dtype: str
    order: str
    m: int | None = None

    @property
    def axis(self) -> str:
        """The symbol of the place in it."""
        return "m" if self.m is None else "K"

    def __str__(self) -> str:
        name = f"{'-'.join(map(str, self.sizes))}, {self.optimizer}, {self.dtype}, {self.order}"
        return name if self.m is None else f"{name}, m = {self.m:,}"


@dataclass(frozen=True)
class Figure:
    """What one contestant reached in one cell. The fields are described in docs/benchmarks.md."""

    contestant: str
    label: str
    kind: str
    sizes: list[int]
    m: int
    optimizer: str
    dtype: str
    order: str
    steps: int
    epochs: int
    rounds: list[float]
    seconds: float
    quartiles: list[float]
    samples_per_second: float
    flops_per_second: float
    floor: str | None
    over_floor: float | None
    over_floor_quartiles: list[float] | None
    first: float
    peak_bytes: int | None
    theory_bytes: dict[str, int]
    outside: float | None = None
    members: int | None = None

    @property
    def key(self) -> Key:
        """What tells this figure from all others."""
        cell = tuple(self.sizes), self.optimizer, self.dtype, self.order, self.m
        return Key(*cell, self.contestant, self.members)

    @property
    def group(self) -> Group:
        """What it is shown together with."""
        return self.key.group

    @property
    def each(self) -> float:
        """Seconds of a step of one network."""
        return self.seconds / (self.members or 1)

    @property
    def startup(self) -> float:
        """Seconds that the first epoch took more than another one: compiling, above all."""
        return max(0.0, self.first - self.steps * self.seconds)

    @property
    def own(self) -> float | None:
        """The share of the time that passes outside the program's steps, if that is known."""
        return None if self.outside is None else self.outside / self.seconds


@dataclass(frozen=True)
class Result:
    """A run of the benchmark. The fields are described in docs/benchmarks.md."""

    format: str
    version: int
    date: str
    note: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    contestants: list[dict[str, Any]]
    peaks: dict[str, float]
    figures: list[Figure]

    @property
    def groups(self) -> list[Group]:
        """The groups, in the order they were measured."""
        return list(dict.fromkeys(figure.group for figure in self.figures))

    def of(self, group: Group) -> list[Figure]:
        """Return the figures of a group."""
        return [figure for figure in self.figures if figure.group == group]

    def over_singles(self, figure: Figure) -> float | None:
        """Return how many times as fast nnx trains members as one after the other: the median, round by round."""
        backend = backend_of(figure.contestant)
        if figure.members is None or backend is None or figure.contestant.startswith(SINGLES):
            return None
        key = figure.key._replace(contestant=f"{SINGLES}{backend}")
        singles = next((one for one in self.figures if one.key == key), None)
        same = singles is not None and len(singles.rounds) == len(figure.rounds)
        return ratios(singles.rounds, figure.rounds)[0] if singles is not None and same else None

    @property
    def cells(self) -> set[Key]:
        """The cells that are measured: keys without a contestant."""
        return {figure.key._replace(contestant="") for figure in self.figures}

    @property
    def absent(self) -> list[dict[str, Any]]:
        """The contestants that did not take part, or not in every cell, with the reason."""
        return [one for one in self.contestants if one["absent"]]


def spread(values: Sequence[float]) -> tuple[float, list[float]]:
    """Return the median and the quartiles.

    Examples
    --------
    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    (3.0, [2.0, 4.0])
    >>> spread([7.0])
    (7.0, [7.0, 7.0])
    """
    if len(values) < 2:
        return values[0], [values[0], values[0]]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return middle, [low, high]


def ratios(rounds: Sequence[float], floor: Sequence[float]) -> tuple[float, list[float]]:
    """Return the median and the quartiles of the ratios, round by round: what slowed a round slowed both.

    Examples
    --------
    >>> ratios([2.0, 4.0, 2.0], [1.0, 2.0, 1.0])
    (2.0, [2.0, 2.0])
    """
    return spread([one / other for one, other in zip(rounds, floor, strict=True)])


def write(result: Result, path: Path) -> None:
    """Write the JSON file."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Result:
    """Read a JSON file that `write` wrote.

    Raises
    ------
    InputError
        When it cannot be read, is another file, of another version, or lacks a field.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no JSON, and so no file of `nnx bench --out`: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{str(path)!r} is no file of `nnx bench --out`")
    if found.get("version") != VERSION:
        raise InputError(
            f"{str(path)!r} has version {found.get('version')} of the schema; this nnx reads version {VERSION}: "
            "measure anew, or take the nnx that wrote it"
        )
    figures = found.get("figures")
    if isinstance(figures, list):
        found["figures"] = [_only(Figure, figure, path) for figure in figures]
    result: Result = _only(Result, found, path)
    _check(result, path)
    return result


def _check(result: Result, path: Path) -> None:
    """Raise an InputError unless the figures are such as are measured."""
    known = {one.get("name") for one in result.contestants}
    seen = set()
    for figure in result.figures:
        called = f"{str(path)!r} has a figure of {figure.contestant!r}, {figure.group}, "
        called += f"{figure.group.axis} = {figure.key.x}"
        times = [figure.seconds, *figure.rounds, *figure.quartiles]
        if not (figure.rounds and len(figure.quartiles) == 2):
            raise InputError(f"{called} with {figure.rounds} as rounds and {figure.quartiles} as quartiles")
        numbers = figure.m, 1 if figure.members is None else figure.members, *times
        if not all(isinstance(x, int | float) and 0 < x < inf for x in numbers):
            raise InputError(f"{called} in which not all times are positive and finite: {times}")
        if figure.contestant not in known:
            raise InputError(f"{called}, which is not among its contestants")
        if figure.key in seen:
            raise InputError(f"{called} twice")
        seen.add(figure.key)


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the types of what JSON has for a field of this type."""
    if isinstance(hint, UnionType):
        return tuple(kind for one in hint.__args__ for kind in _kinds(one))
    return (int, float) if hint is float else (get_origin(hint) or hint,)


def _only(kind: Any, values: Any, path: Path) -> Any:
    called = f"a {kind.__name__.lower()}"
    if not isinstance(values, dict):
        raise InputError(f"{str(path)!r} has {values!r} where {called} is expected")
    defaults = {field.name: field.default for field in fields(kind)}
    missing = sorted(name for name, default in defaults.items() if default is MISSING and name not in values)
    if missing:
        raise InputError(f"{str(path)!r} lacks {', '.join(missing)} in {called}")
    values = {**defaults, **values}
    for name, hint in get_type_hints(kind).items():
        if not isinstance(values[name], _kinds(hint)):
            said = getattr(hint, "__name__", hint) if get_origin(hint) is None else hint
            raise InputError(f"{str(path)!r} has {values[name]!r} as {name} in {called}; expected {said}")
    return kind(**{name: values[name] for name in defaults})  # a later minor version may say more
