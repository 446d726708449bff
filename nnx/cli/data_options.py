"""The options of the data of `nnx train`, and of the parts that stop the training and test it."""

from dataclasses import dataclass
from typing import Annotated

import typer

from nnx.cli.option import complete, integer, option
from nnx.data.builtin import BUILTIN
from nnx.data.dialect import Dialect
from nnx.metrics import METRICS


@dataclass(frozen=True)
class DataOptions:
    """The options of the data, and of the parts that stop the training and test it."""

    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help=f"A data set ({', '.join(BUILTIN)}) or a file: CSV, Parquet, .npz, or IDX as MNIST's.",
            show_default=False,
            autocompletion=complete(BUILTIN, files=True),
        ),
    ] = ""

    target: Annotated[
        str | None,
        option(
            "Data",
            "What to predict: a column (CSV, Parquet), an array (.npz; y), a file (IDX; the labels beside it).",
        ),
    ] = None
    drop: Annotated[list[str] | None, option("Data", "A column to leave out; may be repeated.")] = None
    decimal_comma: Annotated[bool, option("Data", "In CSV, 3,14 is a number.", "--decimal-comma")] = False
    thousands: Annotated[
        bool,
        option("Data", "In CSV, 1,234 is 1234; with --decimal-comma, 1.234 is.", "--thousands"),
    ] = False
    units: Annotated[
        list[str] | None,
        option("Data", "In CSV, what stands beside numbers, as $ or %: left out; may be repeated."),
    ] = None
    missing: Annotated[
        list[str] | None,
        option("Data", "In CSV, what means that there is no value, as ?; may be repeated."),
    ] = None
    delimiter: Annotated[
        str | None,
        option("Data", "Of CSV: one character, or tab.", show_default="the one that the first rows tell"),
    ] = None
    day_first: Annotated[
        bool | None,
        option(
            "Data",
            "Whether 1/3/2024 is the first of March, or the third of January.",
            "--day-first/--month-first",
            show_default="what other dates of the column tell",
        ),
    ] = None
    task: Annotated[
        str,
        option(
            "Data",
            "classification, regression, counts (numbers >= 0, by Poisson deviance), or auto: text and few, small "
            "whole numbers are classes.",
            autocompletion=complete(("auto", "classification", "regression", "counts")),
        ),
    ] = "auto"
    held_out: Annotated[
        float,
        option(
            "Data", "The share of the samples for validation, unless --validation says it; 0: train on all."
        ),
    ] = 0.2
    validation: Annotated[
        str | None,
        option(
            "Data",
            "What stops the training and chooses the epoch: a file, or a share of the samples.",
            metavar="FILE|SHARE",
            show_default="--held-out",
            autocompletion=complete((), files=True),
        ),
    ] = None
    test: Annotated[
        str | None,
        option(
            "Data",
            "What the scores and pictures are of: a file, or a share of the samples.",
            metavar="FILE|SHARE",
            show_default="the validation part",
            autocompletion=complete((), files=True),
        ),
    ] = None
    folds: Annotated[
        int | None,
        integer(
            "Data",
            "Also train so many times, each time without another part of the samples, and score it on that part.",
            metavar="K",
            show_default="no cross-validation",
        ),
    ] = None
    metrics: Annotated[
        str | None,
        option(
            "Data",
            "What to measure on them, as f1,roc_auc.",
            metavar="NAMES",
            show_default="accuracy of classes, R2 of numbers",
            autocompletion=complete(METRICS, several=True),
        ),
    ] = None

    @property
    def dialect(self) -> Dialect:
        """How CSV is written."""
        units, missing = tuple(self.units or ()), tuple(self.missing or ())
        return Dialect(self.decimal_comma, self.thousands, units, missing, self.delimiter)
