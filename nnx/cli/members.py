"""The members of a run: what each has for itself, and their mean as one predictor."""

import math
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnx.callbacks.monitor import best_is
from nnx.cli import metric_tables, show
from nnx.cli.options import in_options
from nnx.data.prepare import Preparation
from nnx.display.names import called
from nnx.display.rounding import significant
from nnx.errors import count
from nnx.metrics import is_number, metric
from nnx.support.members import varied
from nnx.train.trainer import Trainer

MOST = 16
"""Members that a table has; of more, the best."""


def numbers(trainer: Trainer) -> dict[str, Sequence[Any]]:
    """Return the numbers in which the members differ, by the names of the options.

    Examples
    --------
    >>> import nnx
    >>> numbers(nnx.Trainer(nnx.mlp([1, 1]), nnx.Adam([0.1, 0.2]), "numpy", members=2))
    {'learning-rate': (0.1, 0.2)}
    """
    found: dict[str, Sequence[Any]] = {}
    optimizer = trainer.optimizer
    owners = (
        optimizer,
        getattr(optimizer, "learning_rate", None),
        trainer.regularization,
        *trainer.network.layers,
    )
    for owner in owners:
        for name, values in varied(owner).items():
            if (
                name in signature(type(owner)).parameters
            ):  # others follow from those, such as a dropout's threshold
                found["dropout" if name == "rate" else name.replace("_", "-")] = tuple(values)
    return found


def each(trainer: Trainer) -> list[dict[str, Any]]:
    """Return what is known of each member: its seed, its numbers, its epochs, its weight, and why it ended."""
    own, weights = numbers(trainer), trainer.ensemble.weights
    rows = []
    for k, (member, error) in enumerate(zip(trainer.each, trainer.errors, strict=True)):
        row = {"member": k, "seed": member.seed, **{name: values[k] for name, values in own.items()}}
        row |= {"epochs": len(member.records), "kept_epoch": member.kept, "weight": weights[k]}
        rows.append(
            row | {"stopped": member.stopped, "error": None if error is None else in_options(str(error))}
        )
    return rows


def of_kept_epochs(trainer: Trainer, preparation: Preparation | None) -> list[dict[str, Any]]:
    """Return `each`, with the numbers of the epoch that a member has kept, errors in the target's own unit."""
    found: list[dict[str, Any]] = []
    for member in trainer.each:
        records = member.records
        record = records[(member.kept or len(records)) - 1] if records else {}
        found.append(dict(record) if preparation is None else preparation.in_units(record))
    return [{**row, "scores": scores} for row, scores in zip(each(trainer), found, strict=True)]


def table_of_kept(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Table:
    """Return the members as a table, by the first score of the validation, else by the cost of the training."""
    score = next(
        (name for name in names if name.startswith("validation_") and name != "validation_loss"), "loss"
    )
    if score == "loss":
        return table(rows, score, ", by their training")
    shown = [
        {
            **row,
            "scores": {
                name.removeprefix("validation_"): x
                for name, x in row["scores"].items()
                if name.startswith("validation_")
            },
        }
        for row in rows
    ]
    return table(shown, score.removeprefix("validation_"), ", by the validation part")


def with_scores(rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with each member's scores: {"accuracy": array (K,), ...}."""
    columns = {name: x.tolist() for name, x in scores.items()}
    return [{**row, "scores": {name: x[k] for name, x in columns.items()}} for k, row in enumerate(rows)]


COMMON = ("member", "epochs", "kept_epoch", "weight", "stopped", "error", "scores")
"""The entries of a row that each member has; the others are its seed and its numbers."""


def table(rows: Sequence[Mapping[str, Any]], score: str, of: str = "") -> Table:
    """Return the members as a table; of many those with the best score. `of` says which samples have the scores.

    Where its columns have no room, one has all numbers of a member.
    """
    shown, title = rows, f"Members{of}"
    if len(rows) > MOST:
        shown, title = ranked(rows, score)[:MOST], f"The best {MOST} of {len(rows):,} members{of}"
    own = {
        name: [significant(row[name], 4) if isinstance(row[name], float) else str(row[name]) for row in shown]
        for name in rows[0]
        if name not in COMMON
    }
    scores = {
        called(name): [
            metric_tables.figure(name, row["scores"].get(name))
            if row["error"] is None or row["weight"]
            else ""
            for row in shown
        ]
        for name in dict.fromkeys((score, "loss"))
    }
    columns = {"member": [str(row["member"]) for row in shown], "seed": own.pop("seed")}
    columns |= own | scores | {"epochs": list(map(_epochs, shown))}
    if len({row["weight"] for row in rows}) > 1:
        columns["weight"] = [significant(row["weight"], 3) for row in shown]
    made = _table(title, columns)
    if show.output.spare(made) >= 0:
        return made
    numbers = [" ".join(f"{name}={values[i]}" for name, values in own.items()) for i in range(len(shown))]
    return _table(title, {name: x for name, x in columns.items() if name not in own}, numbers)


def _table(title: str, columns: Mapping[str, Sequence[str]], numbers: Sequence[str] = ()) -> Table:
    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(escape(name), justify="right", no_wrap=True)
    if numbers:
        made.add_column("numbers", overflow="fold")
    for cells in zip(*columns.values(), *[numbers] * bool(numbers), strict=True):
        made.add_row(*cells)
    return made


def ranked(rows: Sequence[Mapping[str, Any]], score: str) -> list[Mapping[str, Any]]:
    """Return the members, the best first, those that have diverged last."""
    sign = -1 if best_is(score, "min") == "max" else 1

    def place(row: Mapping[str, Any]) -> tuple[bool, float]:
        value = row["scores"].get(score)
        there = isinstance(value, float) and math.isfinite(value) and row["error"] is None
        return not there, sign * value if there else 0.0

    return sorted(rows, key=place)


def _epochs(row: Mapping[str, Any]) -> str:
    if row["error"] is not None:
        return f"{row['epochs']}, [red]diverged[/]"
    kept = row["kept_epoch"]
    return str(row["epochs"]) if kept in (None, row["epochs"]) else f"{kept} of {row['epochs']}"


def describe(trainer: Trainer, chosen: bool = False) -> str:
    """Say how many members there are, with which seeds, which numbers they have for themselves, and which predict.

    `chosen`: those that predict are chosen later.
    """
    seeds = trainer.seed
    if len(seeds) == 1:
        return f"1 network, seed {seeds[0]}"
    said = f"{len(seeds):,} networks, trained at once, seeds {seeds[0]} to {seeds[-1]}"
    if own := numbers(trainer):
        said += f", each with its {', '.join(own)}"
    if not predicts(trainer):
        return f"{said}; none predicts: they have diverged"
    mean = "their mean" if all(trainer.ensemble.weights) else f"the {mean_of(trainer)}"
    if chosen:
        mean = "the mean of those that the validation part chooses"
    return f"{said}; {mean} predicts"


def predicts(trainer: Trainer) -> bool:
    """Whether it is one network, or has members with a share in the mean: some have not diverged."""
    return not trainer.each or any(trainer.ensemble.weights)


def mean_of(trainer: Trainer) -> str:
    """Say how many of the members have a share in the mean.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy", members=3)
    >>> trainer.ensemble.weights = [1, 0, 1]
    >>> mean_of(trainer)
    'mean of 2 of 3 members'
    """
    K, used = len(trainer.each), sum(weight > 0 for weight in trainer.ensemble.weights)
    return f"mean of {count(K, 'member')}" if used == K else f"mean of {used:,} of {count(K, 'member')}"


def first_score(names: Sequence[str]) -> str:
    """Return the name of the first metric that is one number; "loss" where there is none."""
    return next((metric(name).name for name in names if is_number(name)), "loss")
