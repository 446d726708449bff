"""The options of `nnx train`, each stated once: its name, type, default and help; the command is made of them."""

import re
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

from nnx.cli.data_options import DataOptions
from nnx.cli.option import BackendName, DeviceName, PrecisionName, complete, integer, numbers, option
from nnx.data.targets import loss_names
from nnx.errors import unknown
from nnx.metrics import METRICS
from nnx.model.activations import ACTIVATIONS
from nnx.model.embeddings import EMBEDDINGS
from nnx.model.initializers import INITIALIZERS
from nnx.optimizers import OPTIMIZERS
from nnx.optimizers.schedules import SCHEDULES

LOSS = "loss"
"""The number that stops the training unless a metric is named."""


@dataclass(frozen=True)
class Options(DataOptions):
    """The options of `nnx train`, from its arguments and a configuration file."""

    layers: Annotated[
        str, option("Network", "Units of the hidden layers, as 128,64; none: no hidden layer.")
    ] = "128,64"
    activation: Annotated[
        str,
        option(
            "Network",
            f"Of the hidden layers: {', '.join(ACTIVATIONS)}, prelu; also leaky_relu(0.2), elu(0.5).",
            autocompletion=complete([*ACTIVATIONS, "prelu"]),
        ),
    ] = "relu"
    norm: Annotated[
        str,
        option(
            "Network",
            "A norm before each activation.",
            metavar="batch|layer|none",
            autocompletion=complete(("batch", "layer", "none")),
        ),
    ] = "none"
    embed: Annotated[
        str,
        option(
            "Network",
            f"Numbers as several units each: {', '.join(EMBEDDINGS)}; also periodic(sigma=1), ...",
            metavar="NAME|none",
            autocompletion=complete((*EMBEDDINGS, "none")),
        ),
    ] = "none"
    dropout: Annotated[float, numbers("Network", "The share of each hidden layer's units to leave out.")] = (
        0.0
    )
    init: Annotated[
        str | None,
        option(
            "Network",
            f"The first weights: {', '.join(INITIALIZERS)}.",
            show_default="what suits the activation; glorot for he where the data is a table",
            autocompletion=complete(INITIALIZERS),
        ),
    ] = None
    loss: Annotated[
        str | None,
        option(
            "Network",
            "huber(1) or absolute_error for numbers, focal(2) for classes.",
            show_default="cross-entropy, or half the squared error",
            autocompletion=complete(loss_names()),
        ),
    ] = None

    optimizer: Annotated[
        str,
        option(
            "Training",
            f"{', '.join(OPTIMIZERS)}; also with arguments: adam(beta2=0.99).",
            autocompletion=complete(OPTIMIZERS),
        ),
    ] = "adam"
    learning_rate: Annotated[
        float | None,
        numbers("Training", "alpha.", "--learning-rate", "--lr", show_default="the optimizer's own"),
    ] = None
    schedule: Annotated[
        str,
        option(
            "Training",
            f"Of the learning rate: {', '.join(SCHEDULES)}; its lengths are in epochs: cosine(warmup=5), "
            "step_decay(every=20).",
            autocompletion=complete(SCHEDULES),
        ),
    ] = "constant"
    epochs: Annotated[int, integer("Training", "Times over the data, at most.")] = 100
    early_stopping: Annotated[
        int | None,
        integer(
            "Training",
            "Stop when the validation has been no better for so many epochs, and keep the best; 0: never.",
            metavar="PATIENCE",
            show_default="10",
        ),
    ] = None
    no_early_stopping: Annotated[
        bool, option("Training", "Train all epochs, and keep the last.", "--no-early-stopping")
    ] = False
    stop_by: Annotated[
        str,
        option(
            "Training",
            "What must get better, and chooses the best epoch: loss, or a metric, as f1.",
            metavar="METRIC",
            autocompletion=complete((LOSS, *METRICS)),
        ),
    ] = LOSS
    batch_size: Annotated[int, integer("Training", "Samples in a step; 0, and lbfgs: all of them.")] = 32
    members: Annotated[
        int | None,
        integer(
            "Training",
            "Networks to train at once, with this seed and those behind it; their mean predicts. Each may have its own "
            "--learning-rate, --weight-decay, --dropout, --l1, --l2, --max-norm, --clip-norm and --label-smoothing: "
            "0.01,0.003.",
            metavar="K",
            show_default="one network",
        ),
    ] = None
    selection: Annotated[
        str,
        option(
            "Training",
            "Of the members whose mean predicts. greedy: those that make it best on the validation part.",
            metavar="all|greedy",
            autocompletion=complete(("all", "greedy")),
        ),
    ] = "all"
    class_weight: Annotated[
        str,
        option(
            "Training",
            "yes=5,no=1: what each class counts; balanced: rare ones as much as common ones; none.",
            metavar="WEIGHTS",
            autocompletion=complete(("balanced", "none")),
        ),
    ] = "none"
    seed: Annotated[int, integer("Training", "Of the weights, the split and the shuffling.")] = 0

    l1: Annotated[float, numbers("Regularization", "The penalty l1 sum |w|.")] = 0.0
    l2: Annotated[float, numbers("Regularization", "The penalty l2/2 sum w^2.")] = 0.0
    weight_decay: Annotated[
        float | None,
        numbers("Regularization", "Decoupled, of adamw and lion.", show_default="the optimizer's own"),
    ] = None
    max_norm: Annotated[
        float | None,
        numbers("Regularization", "The longest that a unit's weights may be.", show_default="none"),
    ] = None
    clip_norm: Annotated[
        float | None, numbers("Regularization", "The longest that the gradient may be.", show_default="none")
    ] = None
    label_smoothing: Annotated[
        float, numbers("Regularization", "The share of each label given to all classes.")
    ] = 0.0

    dtype: Annotated[
        str,
        option(
            "Where",
            "Of all numbers.",
            metavar="float32|float64",
            autocompletion=complete(("float32", "float64")),
        ),
    ] = "float32"
    backend: BackendName = "auto"
    device: DeviceName = None
    precision: PrecisionName = None
    communicator: Annotated[
        str | None,
        option(
            "Where",
            "mpi: all processes that mpiexec has started train one network, each with its share of every batch; nccl: "
            "CuPy's sums by NCCL.",
            metavar="mpi|nccl",
            show_default="this process alone",
            autocompletion=complete(("mpi", "nccl")),
        ),
    ] = None
    out: Annotated[Path | None, option("Where", "The run's folder.", show_default="a new one in runs/")] = (
        None
    )
    overwrite: Annotated[bool, option("Where", "Write into --out though it exists.", "--overwrite")] = False

    plots: Annotated[
        bool, option("Where", "No pictures; `nnx plot` draws them later.", "--plots/--no-plots")
    ] = True

    tensorboard: Annotated[
        bool,
        option(
            "Where", "Write event files into the folder, for `tensorboard --logdir runs`.", "--tensorboard"
        ),
    ] = False

    mlflow: Annotated[
        str | None,
        option(
            "Where", "Record a run of MLflow: a server's URI, a folder, or auto: as it is set.", metavar="URI"
        ),
    ] = None
    wandb: Annotated[
        str | None,
        option(
            "Where",
            "Record a run of Weights & Biases in this project; auto: as it is set.",
            metavar="PROJECT",
        ),
    ] = None

    config: Annotated[
        Path | None,
        option("Runs", "A TOML file with options; those typed here win. A run leaves its own in its folder."),
    ] = None
    resume: Annotated[
        Path | None,
        option("Runs", "The folder of an earlier run or sweep to go on with; with --epochs, for longer."),
    ] = None
    sweep: Annotated[
        list[str] | None,
        option(
            "Runs",
            'Train once with each value: "layers=64 128,64"; all combinations, where repeated. Ranges, with '
            '--draws: "learning-rate=log(1e-4, 1e-1)", "dropout=uniform(0, 0.5)".',
            metavar="OPTION=VALUES",
        ),
    ] = None
    draws: Annotated[
        int | None, integer("Runs", "Combinations to draw at random.", show_default="all of them")
    ] = None
    jobs: Annotated[
        int | None,
        option("Runs", "Processes that train the runs of a sweep.", show_default="one, this process"),
    ] = None
    scheduler: Annotated[
        str | None,
        option(
            "Runs",
            "Of Dask, tcp://HOST:8786, or Ray, ray://HOST:10001, whose workers train the runs of a sweep; they must "
            "see its folder and the files.",
            metavar="ADDRESS",
            show_default="processes of this machine",
        ),
    ] = None
    quiet: Annotated[bool, option("Runs", "Say nothing but errors.", "--quiet", "-q")] = False
    json: Annotated[bool, option("Runs", "Print the results as one JSON object.", "--json")] = False

    table: dict[str, Any] = field(default_factory=dict, metadata={"typed": False})
    """[sweep] of the configuration file: values, or a range, under the options' long names."""


OF_EACH_MEMBER = (
    "dropout", "learning_rate", "l1", "l2", "weight_decay", "max_norm", "clip_norm", "label_smoothing",
)  # fmt: skip
"""The options that may have a number for each member: a list."""

OF_THE_COMMAND = frozenset(
    {
        "no_early_stopping", "communicator", "out", "overwrite", "config", "resume", "sweep", "draws", "jobs",
        "scheduler", "quiet", "json",
    }
)  # fmt: skip
"""The options of the command that are no part of the run."""

TYPED: dict[str, Field[Any]] = {f.name: f for f in fields(Options) if f.metadata.get("typed", True)}


def _kinds() -> dict[str, type]:
    """Return the type of every option's value, None left out."""
    found = {}
    for name, hint in get_type_hints(Options).items():
        kinds = [kind for kind in get_args(hint) if kind is not NoneType] if None in _parts(hint) else [hint]
        found[name] = kinds[0]
    return found


def _parts(hint: Any) -> list[Any]:
    return [None if part is NoneType else part for part in get_args(hint)]


KINDS = _kinds()

OF_A_RUN = tuple(name for name in TYPED if name not in OF_THE_COMMAND)
"""The options of a run: its configuration has them all."""

COMPARED_BY = ("data", "target", "task", "held_out", "validation", "test", "folds", "metrics")
"""The options that the runs of a sweep must share: otherwise their scores cannot be compared."""

NOT_SWEPT = (*COMPARED_BY, "members", "selection", "mlflow", "wandb")
"""Those that are not swept: of members, a sweep would have too many; trackers change no run."""

SWEPT = tuple(name for name in OF_A_RUN if KINDS[name] in (str, int, float) and name not in NOT_SWEPT)
"""The options that can be swept: not the lists, either."""


def long(name: str) -> str:
    """Return an option's long name: batch_size -> batch-size."""
    return name.replace("_", "-")


def in_options(said: str) -> str:
    """Return an error's text in the options' names.

    Examples
    --------
    >>> in_options("learning_rate[1] must be greater than 0 and finite, or None, not -1.0")
    'learning-rate of member 1 must be greater than 0 and finite, not -1.0'
    """
    said = said.replace("nnx.Regularization(clip_norm=1.0)", "--clip-norm 1")
    said = said.replace(", or None, not", ", not").replace(", or None; given", "; given")
    argument = rf"\b({'|'.join(OF_EACH_MEMBER)})(?:\[(\d+)\])?(?= must be )"
    return re.sub(
        argument, lambda found: long(found[1]) + (f" of member {found[2]}" if found[2] else ""), said
    )


def named(key: str, known: Iterable[str] = OF_A_RUN) -> str:
    """Return the field of an option by its long name; batch-size and batch_size are the same, and lr is learning-rate.

    Raises
    ------
    InputError
        When there is none: the nearest.
    """
    name = "learning_rate" if key == "lr" else key.replace("-", "_")
    if name not in known:
        raise unknown("option", key, map(long, known))
    return name
