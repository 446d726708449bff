"""The command `nnx bench` and those under it."""

from pathlib import Path
from typing import Annotated

import typer

from nnx.cli.help import Command, Group, examples
from nnx.cli.option import complete
from nnx.optimizers import OPTIMIZERS

Backends = Annotated[
    str,
    typer.Option(
        help="Names, as numpy,torch; torch@cpu says where, torch/bfloat16 and torch@cuda/tf32 the products' "
        "precision, too.",
        show_default="all that are usable",
    ),
]
Peers = Annotated[
    str,
    typer.Option(
        help="all, none, or some of typed, torch, torch-compiled, jax, sklearn; on a GPU torch-cuda, "
        "torch-compiled-cuda, jax-cuda, jax-cuda-float32, cupy-typed. With --members: torch-vmap, jax-vmap, "
        "sklearn-jobs; on a GPU torch-vmap-cuda, jax-vmap-cuda."
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        help="The network: n[0],...,n[L], or n[0]-...-n[L]; repeatable.",
        show_default="784,512,512,10; with --members 64,64,64,10",
    ),
]
BatchSizes = Annotated[
    str | None,
    typer.Option(help="The samples m of a step.", show_default="1,16,128,1024,8192; with --members 32,128"),
]
Members = Annotated[
    str | None,
    typer.Option(
        help="Numbers K of networks, as 1,8,64: train K at once, and beside that one after the other.",
        show_default="one network",
    ),
]
Kernels = Annotated[
    bool,
    typer.Option(
        "--kernels",
        help="Instead, list the kernels and matrix products of a step on cupy; --backends may name its precision, "
        "as cupy/tf32.",
    ),
]
Optimizers = Annotated[
    str,
    typer.Option(
        help=f"One or several of {', '.join(OPTIMIZERS)}, as adam,gradient_descent.",
        autocompletion=complete(OPTIMIZERS, several=True),
    ),
]

bench_app = typer.Typer(cls=Group, add_completion=False, pretty_exceptions_enable=False)


@bench_app.callback(
    invoke_without_command=True,
    epilog=examples(
        "nnx bench",
        "nnx bench --backends numpy,torch --sizes 64,64,10 --out before.json",
        "nnx bench compare before.json after.json",
        "nnx bench --members 1,8,64 --backends numba --peers jax-vmap",
        "nnx bench --kernels --sizes 784-512-512-10 --batch-sizes 128",
    ),
)
def bench(
    context: typer.Context,
    backends: Backends = "",
    peers: Peers = "all",
    sizes: Sizes = None,
    batch_sizes: BatchSizes = None,
    members: Members = None,
    optimizer: Optimizers = "adam",
    dtype: Annotated[
        str,
        typer.Option(metavar="float32|float64", autocompletion=complete(("float32", "float64"))),
    ] = "float32",
    order: Annotated[
        str,
        typer.Option(
            help="Of the samples: in-order, shuffled, or both.",
            autocompletion=complete(("in-order", "shuffled", "both")),
        ),
    ] = "in-order",
    rounds: Annotated[
        int, typer.Option(help="Turns of each contestant, of about 0.1 s; of members 0.5 s.")
    ] = 9,
    note: Annotated[str, typer.Option(help="What a reader of the file should know.")] = "",
    kernels: Kernels = False,
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
    networks = sizes or ["784,512,512,10" if members is None else "64,64,64,10"]
    if batch_sizes is None:
        batch_sizes = "1,16,128,1024,8192" if members is None else "32,128"
    if kernels:
        from nnx.cli.bench_kernels import show_kernels

        _check_kernels(context)
        show_kernels(backends, networks, batch_sizes, optimizer, dtype)
        return
    from nnx.cli.bench import run

    status = run(
        backends,
        peers,
        networks,
        batch_sizes,
        optimizer,
        dtype,
        order,
        rounds,
        note,
        members,
        out,
        overwrite,
    )
    raise typer.Exit(status)


def _check_kernels(context: typer.Context) -> None:
    """Raise a UsageError where an option is typed that --kernels does not use."""
    from nnx.cli.inputs import UsageError

    for name in ("peers", "order", "rounds", "note", "members", "out", "overwrite"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--kernels measures no contestants and writes no file; leave out --{name}")


@bench_app.command(cls=Command, epilog=examples("nnx bench compare before.json after.json"))
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A JSON file of `nnx bench --out`.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one.")],
) -> None:
    """Say what got faster or slower beyond the noise."""
    from nnx.cli.bench import compare

    compare(before, after)


@bench_app.command("show", cls=Command, epilog=examples("nnx bench show before.json --out page"))
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
