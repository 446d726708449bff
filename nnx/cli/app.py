"""The commands and their options."""

from pathlib import Path
from typing import Annotated

import typer

from nnx.activations import ACTIVATIONS
from nnx.data.builtin import BUILTIN
from nnx.errors import unknown
from nnx.optimizers import OPTIMIZERS
from nnx.plots.run import FORMATS, JOINT, PICTURES

app = typer.Typer(
    help="Train fully connected networks on whatever array library is present.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Backend = Annotated[
    str, typer.Option(help="auto, numpy, cupy, torch, jax, ...: see `nnx backends`.", rich_help_panel="Where")
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, ...", show_default="the backend's best", rich_help_panel="Where"),
]


@app.command()
def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help=f"A data set ({', '.join(BUILTIN)}) or a file: CSV, Parquet, .npz, or IDX as MNIST's.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            help="What to predict: a column (CSV, Parquet), an array (.npz; y), a file (IDX; the labels beside it).",
            rich_help_panel="Data",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column to leave out; may be repeated.", rich_help_panel="Data")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help="classification, regression, or auto: text, and whole numbers that repeat, are classes.",
            rich_help_panel="Data",
        ),
    ] = "auto",
    held_out: Annotated[
        float, typer.Option(help="The share of the samples to hold out and test on.", rich_help_panel="Data")
    ] = 0.2,
    layers: Annotated[
        str,
        typer.Option(
            help="Units of the hidden layers, as 128,64; none: no hidden layer.", rich_help_panel="Network"
        ),
    ] = "128,64",
    activation: Annotated[
        str,
        typer.Option(
            help=f"Of the hidden layers: {', '.join(ACTIVATIONS)}, prelu; also leaky_relu(0.2), elu(0.5).",
            rich_help_panel="Network",
        ),
    ] = "relu",
    optimizer: Annotated[
        str, typer.Option(help=f"{', '.join(OPTIMIZERS)}.", rich_help_panel="Training")
    ] = "adam",
    learning_rate: Annotated[
        float | None,
        typer.Option(help="alpha.", show_default="the optimizer's own", rich_help_panel="Training"),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Times over the data.", rich_help_panel="Training")] = 60,
    batch_size: Annotated[
        int, typer.Option(help="Samples in a step; 0, and lbfgs: all of them.", rich_help_panel="Training")
    ] = 32,
    seed: Annotated[
        int, typer.Option(help="Of the weights, the split and the shuffling.", rich_help_panel="Training")
    ] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.", rich_help_panel="Where")] = "float32",
    backend: Backend = "auto",
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder.", show_default="a new one in runs/", rich_help_panel="Where"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into --out though it exists.", rich_help_panel="Where")
    ] = False,
    plots: Annotated[
        bool,
        typer.Option(
            "--plots/--no-plots",
            help="Leave pictures; else `nnx plot` draws them later.",
            rich_help_panel="Where",
        ),
    ] = True,
) -> None:
    """Train a network on DATA and test it on samples held out.

    Leaves a folder with the model, the history (JSON lines) and pictures of how it learned and of its errors.
    Ctrl-C stops early and leaves them, too.
    """
    from nnx.cli.train import Options, run

    finished = run(
        Options(
            data=data,
            target=target,
            drop=tuple(drop or ()),
            task=task,
            held_out=held_out,
            layers=layers,
            activation=activation,
            optimizer=optimizer,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            dtype=dtype,
            backend=backend,
            device=device,
            out=out,
            overwrite=overwrite,
            plots=plots,
        )
    )
    if not finished:
        raise typer.Exit(130)  # as a shell reports a program that Ctrl-C ended


@app.command()
def predict(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A model.safetensors that `nnx train` left, or its folder."),
    ],
    data: Annotated[str, typer.Argument(metavar="FILE", help="A file or data set with the same features.")],
    out: Annotated[
        Path | None, typer.Option(help="The CSV file to write.", show_default="the terminal")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
    backend: Backend = "auto",
    device: Device = None,
) -> None:
    """Write a model's predictions for FILE as CSV: one row a sample, with the classes' probabilities."""
    from nnx.cli.predict import run

    run(model, data, out, overwrite, backend, device)


@app.command(
    epilog="\n\n".join(
        [
            "Examples:",
            "  nnx plot runs/digits-1 --format svg",
            "  nnx plot runs/digits-1 --kind roc --out roc.pdf",
            "  nnx plot runs/digits-* --out pictures",
        ]
    )
)
def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders that `nnx train` left.", show_default=False),
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
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="png, svg or pdf; the animation is a GIF.")] = "png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures in --out.")] = False,
) -> None:
    """Draw the pictures of a run again, or the learning curves of several runs in one picture."""
    from nnx.cli.plot import run

    allowed = PICTURES if len(runs) == 1 else JOINT
    for given, known, name in ((kind or [], (*allowed,), "kind"), ([format], FORMATS, "format")):
        for one in given:
            if one not in known:
                raise typer.BadParameter(str(unknown(name, one, known)), param_hint=f"--{name}")
    run(runs, out, kind or [], format, overwrite)


bench_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.add_typer(bench_app, name="bench")


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    backends: Annotated[
        str,
        typer.Option(
            help="Names, as numpy,torch; torch@cpu says where, too.", show_default="all that are usable"
        ),
    ] = "",
    peers: Annotated[
        str,
        typer.Option(
            help="all, none, or some of typed, torch, torch-compiled, jax, sklearn; on a GPU torch-cuda, "
            "torch-compiled-cuda, jax-cuda, cupy-typed."
        ),
    ] = "all",
    sizes: Annotated[
        list[str] | None,
        typer.Option(help="n[0],...,n[L] of the network; may be repeated.", show_default="784,512,512,10"),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="The samples m of a step.")] = "1,16,128,1024,8192",
    optimizer: Annotated[
        str, typer.Option(help=f"One or several of {', '.join(OPTIMIZERS)}, as adam,gradient_descent.")
    ] = "adam",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    order: Annotated[str, typer.Option(help="Of the samples: in-order, shuffled, or both.")] = "in-order",
    rounds: Annotated[int, typer.Option(help="Turns of each contestant, of about 0.1 s.")] = 9,
    step_alone: Annotated[
        bool,
        typer.Option("--step-alone", help="Measure each backend's step without the Trainer around it, too."),
    ] = False,
    note: Annotated[str, typer.Option(help="What a reader of the file should know.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="A JSON file for the figures; plots and a page get its name.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
) -> None:
    """Measure training across batch sizes, beside the matrix products alone (the GEMM floor) and other libraries.

    `nnx bench compare BEFORE AFTER` says what got faster or slower; `nnx bench show FILE` prints a file again.
    """
    if context.invoked_subcommand is not None:
        return
    from nnx.cli.bench import run

    networks = sizes or ["784,512,512,10"]
    run(
        backends,
        peers,
        networks,
        batch_sizes,
        optimizer,
        dtype,
        order,
        rounds,
        step_alone,
        note,
        out,
        overwrite,
    )


@bench_app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A JSON file of `nnx bench --out`.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one.")],
) -> None:
    """Say what got faster or slower beyond the noise."""
    from nnx.cli.bench import compare

    compare(before, after)


@bench_app.command("show")
def show_figures(
    figures: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON file of `nnx bench --out`.")],
    out: Annotated[
        Path | None, typer.Option(help="Write NAME.html and NAME-....png, too.", metavar="NAME")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace them if they exist.")] = False,
) -> None:
    """Print the tables of a file; write its page and plots where asked."""
    from nnx.cli.bench import show_file

    show_file(figures, out, overwrite)


@app.command()
def backends() -> None:
    """Show which backends are usable here, and why the others are not."""
    from nnx.cli import show

    show.backends()


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Show the version."""
    if show:
        from nnx.version import __version__

        typer.echo(f"nnx {__version__}")
        raise typer.Exit
