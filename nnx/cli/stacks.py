"""Which runs of a sweep train together: those of one architecture, whose options differ in numbers alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nnx.cli import build
from nnx.cli.options import OF_A_RUN, Options
from nnx.errors import Error, InputError, count, listed
from nnx.io.run_folder import CHECKPOINTS
from nnx.model import members
from nnx.model.layers import every
from nnx.model.network import Network
from nnx.model.outputs import LOSSES
from nnx.model.regularization import Regularization
from nnx.optimizers import LBFGS, Optimizer
from nnx.support import spec
from nnx.support.limits import open_files
from nnx.support.members import together
from nnx.train import model_file
from nnx.train.step import check_members

OWN = (
    "dropout", "optimizer", "learning_rate", "schedule", "early_stopping", "l1", "l2", "weight_decay", "max_norm",
    "clip_norm", "label_smoothing",
)  # fmt: skip
"""The options in which runs of a stack may differ, where they differ in numbers alone."""


FILES_OF_A_RUN, FILES_OF_THE_REST = 4, 64
"""Files that are open at once: locks, a checkpoint and an event file of each run; those of Python and its libraries."""

BEGIN = (1, 0)
"""The place of a run that begins."""


@dataclass(frozen=True)
class Run:
    """A run of a sweep.

    Attributes
    ----------
    name : str
        Of its folder.
    values : dict
        The swept options of this run.
    options : Options
    resumed : bool
        Whether its folder is that of an earlier part of it.
    place : (int, int) or None
        The epoch, and the step in it, from which it goes on; None: its training has ended.
    """

    name: str
    values: Mapping[str, Any]
    options: Options
    resumed: bool = False
    place: tuple[int, int] | None = BEGIN


def stacks(runs: Iterable[Run]) -> list[list[Run]]:
    """Return the runs in stacks, in the order of the first run of each. A run that goes with no other is alone.

    No stack has more runs than the process may have files open for.

    Examples
    --------
    >>> rates = [Run(str(k), {}, Options(learning_rate=rate)) for k, rate in enumerate([0.1, 0.2])]
    >>> [len(stack) for stack in stacks([*rates, Run("2", {}, Options(layers="8"))])]
    [2, 1]
    """
    most = max(1, (open_files() - FILES_OF_THE_REST) // FILES_OF_A_RUN)
    found: list[list[Run]] = []
    firsts: dict[Any, list[tuple[_Parts, list[Run]]]] = {}
    for run in runs:
        parts = None if run.place is None else _parts(run.options)
        if parts is None:
            found.append([run])
            continue
        shared = tuple(str(getattr(run.options, name)) for name in OF_A_RUN if name not in OWN)
        known = firsts.setdefault((run.place, parts.kinds, shared), [])
        stack = next(
            (stack for first, stack in known if len(stack) < most and _can_share_stack(first, parts)), None
        )
        if stack is None:
            stack = []
            known.append((parts, stack))
            found.append(stack)
        stack.append(run)
    return found


class _Parts(NamedTuple):
    """The parts of a run in which those of a stack may differ in numbers."""

    network: Network
    optimizer: Optimizer
    regularization: Regularization

    @property
    def kinds(self) -> tuple[type, ...]:
        return type(self.optimizer), *(type(layer) for layer in every(self.network.layers))


def _parts(options: Options) -> _Parts | None:
    """Return the parts of a run; None where it trains alone, or where they are wrong, which it says when it trains.

    The network has one feature and one output: the runs of a sweep have one table.
    """
    loss = None if options.loss is None else spec.split(options.loss)[0]
    link = next((link for link in LOSSES if loss is None or loss in LOSSES[link]), "identity")
    try:
        optimizer = build.optimizer(options, 1000)
        found = _Parts(build.network(options, 1, link, 1), optimizer, build.regularization(options))
    except InputError:
        return None
    return None if isinstance(optimizer, LBFGS) else found


def _can_share_stack(one: _Parts, other: _Parts) -> bool:
    """Whether runs can train in one stack."""
    try:
        check_members(
            members.together([one.network, other.network]),
            together("optimizer", [one.optimizer, other.optimizer]),
            together("regularization", [one.regularization, other.regularization]),
            2,
        )
    except InputError:  # they differ in more than numbers
        return False
    return True


def place_of(folder: Path) -> tuple[int, int] | None:
    """Return the place from which the run in a folder goes on, see `Run`."""
    try:
        found = model_file.newest(folder / CHECKPOINTS)
    except (Error, OSError):  # which it says when it trains
        return None
    if found is None:
        return BEGIN
    position = found[1].run.get("position")
    if position is None or position["stopped"] is not None:
        return None
    return position["epoch"], position["step"]


def describe(found: Sequence[Sequence[Run]]) -> str:
    """Say which runs train together, and why others do not.

    Examples
    --------
    >>> a, b, c = (Run(name, {}, Options(optimizer=name)) for name in ("adam", "momentum", "lbfgs"))
    >>> describe([[a, a], [b], [c]])
    '2 runs in 1 stack, trained at once; alone: momentum (no other run is alike), lbfgs (L-BFGS)'
    """
    together, alone = [one for one in found if len(one) > 1], [one[0] for one in found if len(one) == 1]
    runs, many = count(sum(map(len, together)), "run"), count(len(together), "stack")
    said = [f"{runs} in {many}, {'each ' * (len(together) > 1)}trained at once" if together else "none"]
    if alone:
        reasons: dict[str, list[str]] = {}
        for run in alone:
            reasons.setdefault(_why_alone(run), []).append(run.name)
        said.append(f"alone: {', '.join(f'{listed(names, 6)} ({why})' for why, names in reasons.items())}")
    return "; ".join(said)


def _why_alone(run: Run) -> str:
    if spec.split(run.options.optimizer)[0] == "lbfgs":
        return "L-BFGS"
    return "its training has ended" if run.place is None else "no other run is alike"
