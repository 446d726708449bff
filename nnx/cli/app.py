"""The commands and their options."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nnx.cli.bench_commands import bench_app
from nnx.cli.command import command
from nnx.cli.help import HELP, Command, Group, examples
from nnx.cli.option import BackendName, DeviceName, PrecisionName, complete
from nnx.cli.options import Options
from nnx.metrics import METRICS
from nnx.plots.run import FORMATS, JOINT, PICTURES

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


START = """\
nnx trains neural networks on tables. A first run:

  nnx train digits                         a data set that nnx brings
  nnx train FILE.csv --target COLUMN       your own: CSV, Parquet, .npz or IDX
  nnx evaluate runs/FILE-1 OTHER.csv       how good it is on other data
  nnx predict runs/FILE-1 NEW.csv          its predictions, as CSV
  nnx show runs/FILE-1                     what it is and how it learned

`nnx --help` lists all commands, `nnx train --help` the options of one."""
"""What `nnx` alone prints."""

app = typer.Typer(
    cls=Group,
    context_settings=HELP,
    help="Train fully connected networks with NumPy, numba, CuPy, PyTorch or JAX.",
    epilog=examples("nnx train digits", "nnx train --help", "nnx --install-completion"),
    pretty_exceptions_enable=False,
)


def _train(options: Options) -> int:
    """Train a network on DATA and test it on samples held out.

    Leaves a folder with the model, the history (JSON lines), pictures of how it learned and of its errors, and a
    configuration that makes the same run again. Ctrl-C stops early and leaves them, too; --resume goes on.
    """
    from nnx.cli.train import run

    return run(options)


app.command(
    "train",
    cls=Command,
    epilog=examples(
        "nnx train digits",
        "nnx train pets.csv --target kind --layers 64 --early-stopping 10",
        "nnx train --config runs/pets-1/config.toml --seed 1",
        "nnx train --resume runs/pets-1 --epochs 200",
        'nnx train digits --sweep "layers=64 128,64" --sweep "learning-rate=0.001 0.01"',
    ),
)(command(_train))


Model = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A model.safetensors that `nnx train` left, or its folder."),
]
AS_TRAINED: dict[str, Any] = {"show_default": "as in training", "rich_help_panel": "Data"}
DecimalComma = Annotated[
    bool | None,
    typer.Option("--decimal-comma/--no-comma", help="In CSV, 3,14 is a number.", **AS_TRAINED),
]
Thousands = Annotated[
    bool | None,
    typer.Option(
        "--thousands/--no-thousands",
        help="In CSV, 1,234 is 1234; with --decimal-comma, 1.234 is.",
        **AS_TRAINED,
    ),
]
Units = Annotated[
    list[str] | None,
    typer.Option(
        help="In CSV, what stands beside numbers, as $ or %: left out; may be repeated.", **AS_TRAINED
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(help="In CSV, what means that there is no value, as ?; may be repeated.", **AS_TRAINED),
]

Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Of CSV: one character, or tab.",
        show_default="the one that the first rows tell",
        rich_help_panel="Data",
    ),
]


@app.command(
    cls=Command,
    epilog=examples(
        "nnx predict runs/pets-1 new.csv --out predictions.parquet",
        "zcat new.csv.gz | nnx predict runs/pets-1 | head",
    ),
)
def predict(
    model: Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file (or data set) with the same features; - or none: the standard input.",
            show_default=False,
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write, .csv or .parquet.",
            show_default="the standard output",
            rich_help_panel="Data",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --out if it exists.", rich_help_panel="Data")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="csv|parquet",
            help="What to write.",
            show_default="by the ending of --out",
            rich_help_panel="Data",
            autocompletion=complete(("csv", "parquet")),
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option(help="Leave out the classes' probabilities.", rich_help_panel="Data")
    ] = True,
    spread: Annotated[
        bool,
        typer.Option(
            "--spread",
            help="Of a model with members, add a column: their standard deviation around the mean, of the number or of "
            "the predicted class's probability.",
            rich_help_panel="Data",
        ),
    ] = False,
    decimal_comma: DecimalComma = None,
    thousands: Thousands = None,
    units: Units = None,
    missing: Missing = None,
    delimiter: Delimiter = None,
    backend: BackendName = "auto",
    device: DeviceName = None,
    precision: PrecisionName = None,
) -> None:
    """Write a model's predictions for FILE as CSV or Parquet: one row a sample, with the classes' probabilities.

    The columns' order does not matter, nor do other columns. A table is read and predicted in pieces.
    """
    from nnx.cli.predict import run

    written = decimal_comma, thousands, units or None, missing or None, delimiter
    where = backend, device, precision
    run(model, piped(data), out, overwrite, format, probabilities, spread, written, *where)


@app.command(
    cls=Command, epilog=examples("nnx evaluate runs/pets-1 test.csv --metrics accuracy,f1,confusion_matrix")
)
def evaluate(
    model: Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file (or data set) with the same features and the target; - or none: the standard input.",
            show_default=False,
        ),
    ] = "",
    metrics: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(METRICS)}; with a parameter as top_k(3), f1(macro), f1(none).",
            show_default="those that suit the target",
            autocompletion=complete(METRICS, several=True),
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="What holds the target.", show_default="as in training", rich_help_panel="Data"),
    ] = None,
    json: Json = False,
    decimal_comma: DecimalComma = None,
    thousands: Thousands = None,
    units: Units = None,
    missing: Missing = None,
    delimiter: Delimiter = None,
    backend: BackendName = "auto",
    device: DeviceName = None,
    precision: PrecisionName = None,
) -> None:
    """Print the loss and the metrics of a model on FILE, errors of numbers in the target's unit."""
    from nnx.cli.evaluate import run

    written = decimal_comma, thousands, units or None, missing or None, delimiter
    run(model, piped(data), metrics, target, json, written, backend, device, precision)


def piped(data: str) -> str:
    """Return the name of the data, - where there is none and something is piped in."""
    if not data and (sys.stdin is None or sys.stdin.isatty()):
        raise typer.BadParameter("give FILE, or pipe a table in", param_hint="FILE")
    return data or "-"


@app.command(
    cls=Command,
    epilog=examples(
        "nnx plot runs/digits-1 --format svg",
        "nnx plot runs/digits-1 --kind roc --out roc.pdf",
        "nnx plot runs/digits-* --out pictures",
    ),
)
def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Folders that `nnx train` left, of runs or of sweeps.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder, or with one --kind a file.",
            show_default="the run's; of several runs the current one",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One picture; may be repeated. Of a run: {', '.join(PICTURES)}; of several: {', '.join(JOINT)}.",
            show_default="all that suit",
            autocompletion=complete(dict.fromkeys((*PICTURES, *JOINT))),
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="png|svg|pdf",
            help="Of the pictures; the animation is a GIF.",
            show_default="png",
            autocompletion=complete(FORMATS),
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures in --out.")] = False,
) -> None:
    """Draw the pictures of a run again, or the learning curves of several runs in one picture."""
    from nnx.cli.plot import run

    run(runs, out, kind or [], format, overwrite)


@app.command(
    cls=Command,
    epilog=examples("nnx export runs/pets-1 pets.onnx", "nnx export model.safetensors model.onnx"),
)
def export(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, .onnx.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    members: Annotated[
        bool, typer.Option("--members", help="One more output: the predictions of each member.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="float32|float64",
            help="In which the file computes.",
            show_default="as in training",
            autocompletion=complete(("float32", "float64")),
        ),
    ] = None,
) -> None:
    """Write a model as ONNX: its columns' preparation, its network and its labels, in one file.

    ONNX runs in C++, C#, Java, JavaScript and others, without Python.
    """
    from nnx.cli.export import run

    run(model, out, overwrite, members, dtype)


app.add_typer(bench_app, name="bench")


@app.command(
    "show", cls=Command, epilog=examples("nnx show runs/digits-1", "nnx show model.safetensors --json")
)
def show_model(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file, or the folder of a run or a sweep.")
    ],
    json: Json = False,
) -> None:
    """Show what a model is: its network, how it was trained, its size and its data; of a sweep, its results."""
    from nnx.cli.model import run

    run(model, json)


@app.command(cls=Command, epilog=examples("nnx backends", "nnx backends --json"))
def backends(json: Json = False) -> None:
    """Show which backends are usable here, and why the others are not."""
    from nnx.cli import show

    show.backends(json)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Show the version, or how to begin."""
    if show:
        from nnx.version import __version__

        typer.echo(f"nnx {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(START)
