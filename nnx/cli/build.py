"""What the options mean: the network, the optimizer, the regularization and the callbacks."""

from nnx import schedules, spec
from nnx.activations import activation
from nnx.callbacks import Callback, EarlyStopping
from nnx.cli import measured
from nnx.cli.inputs import WIDTHS, check_backend, check_delimiter, integers, typed
from nnx.cli.options import Options
from nnx.data.prepare import TASKS
from nnx.errors import InputError, number, positive_int, unknown
from nnx.host import checked_seed, dtype_name
from nnx.initializers import initializer
from nnx.layers import Activate, BatchNorm, Dense, Dropout, Layer, LayerNorm, PReLU
from nnx.metrics import metric
from nnx.network import Network
from nnx.optimizers import LBFGS, Optimizer, base_rate
from nnx.optimizers import optimizer as find_optimizer
from nnx.outputs import LOSSES
from nnx.regularization import Regularization

NORMS = {"batch": BatchNorm, "layer": LayerNorm}
IN_EPOCHS = ("steps", "every", "warmup")
"""The arguments of schedules that the command line counts in epochs."""


def check(options: Options) -> None:
    """Look at everything that can be wrong whatever the data are.

    Raises
    ------
    UsageError
        Naming the option.
    """
    with typed():
        positive_int("epochs", options.epochs)
        size = options.batch_size
        if size < 0:
            raise InputError(f"batch-size must be a positive integer, or 0 for all samples, not {size}")
        if not 0 <= options.held_out < 1:
            raise InputError(
                "held-out must be between 0 and 1, the share of the samples, or 0 for none; "
                f"given {options.held_out}"
            )
        checked_seed(options.seed)
        dtype_name(options.dtype)
        if options.task not in TASKS:
            raise unknown("task", options.task, TASKS)
        if options.class_weight not in ("balanced", "none"):
            raise unknown("class-weight", options.class_weight, ("balanced", "none"))
        check_backend(options.backend)
        check_delimiter(options.delimiter)
        for one in metrics(options) or ():
            metric(one)
        if options.metrics is not None and options.held_out == 0:
            raise InputError("metrics are of the samples held out, and --held-out 0 leaves none")
        if options.activation != "prelu":
            activation(options.activation)
        label = spec.split(options.loss)[0] if options.loss is not None else ""
        network(options, 1, next((link for link in LOSSES if label in LOSSES[link]), "identity"), 1)
        optimizer(options, 1000)
        regularization(options)
        callbacks(options)


def sizes(layers: str) -> list[int]:
    """Return the units of the hidden layers: "128,64" -> [128, 64], "none" -> []."""
    return [] if layers.strip().lower() in ("", "none") else integers("layers", layers, WIDTHS)


def network(options: Options, n_features: int, output: str, n_outputs: int) -> Network:
    """Return the network: each hidden layer is a Dense, its norm, its activation, its dropout."""
    layers: list[Layer] = []
    if options.norm not in (*NORMS, "none"):
        raise unknown("norm", options.norm, (*NORMS, "none"))
    number("dropout", options.dropout, "at least 0 and less than 1", lambda x: 0 <= x < 1)
    if options.init is not None:
        initializer(options.init)
    learned = options.activation == "prelu"
    for n in sizes(options.layers):
        if options.norm == "none" and not learned:
            layers.append(Dense(n, options.activation, options.init))
        else:  # W is drawn for the activation, though that stands in a layer of its own
            init = "he" if learned else activation(options.activation).init
            layers.append(Dense(n, "identity", options.init or init))
            if options.norm != "none":
                layers.append(NORMS[options.norm]())
            layers.append(PReLU() if learned else Activate(options.activation))
        if options.dropout:
            layers.append(Dropout(options.dropout))
    layers.append(Dense(n_outputs, "identity", options.init))
    return Network(n_features, layers, output, options.loss)


def batch_size(options: Options, method: Optimizer) -> int | None:
    """Return the samples of a step, None for all of them, as L-BFGS has it."""
    return None if options.batch_size == 0 or isinstance(method, LBFGS) else options.batch_size


def optimizer(options: Options, steps: int) -> Optimizer:
    """Return the optimizer, with its schedule; `steps` is how many an epoch has."""
    name, arguments = spec.call(options.optimizer)
    if options.learning_rate is not None:
        arguments["learning_rate"] = options.learning_rate
    if options.weight_decay is not None:
        if name not in ("adamw", "lion"):
            raise InputError(
                f"weight-decay is an argument of adamw and lion, which decay the weights apart from the gradient; "
                f"with {name} take --l2, or --optimizer adamw"
            )
        arguments["weight_decay"] = options.weight_decay
    method = find_optimizer(name, **arguments)
    kind, lengths = spec.call(options.schedule)
    if kind in ("constant", "none"):
        return method
    if isinstance(method, LBFGS):
        raise InputError(f"lbfgs has no learning rate for the schedule {kind!r}; leave it out")
    taken = schedules.parameters(kind)
    whole = {key: options.epochs for key in ("steps",) if key in taken}
    given: dict[str, spec.Parameter] = {"learning_rate": base_rate(method), **whole, **lengths}
    for key in IN_EPOCHS:
        length = given.get(key)
        if isinstance(length, int | float):
            given[key] = round(length * steps)
    return find_optimizer(name, **{**arguments, "learning_rate": {"name": kind, **given}})


def regularization(options: Options) -> Regularization:
    """Return the penalties, bounds and label smoothing."""
    return Regularization(
        l1=options.l1,
        l2=options.l2,
        max_norm=options.max_norm,
        clip_norm=options.clip_norm,
        label_smoothing=options.label_smoothing,
    )


def metrics(options: Options) -> list[str] | None:
    """Return the names of the metrics; None: what suits the target."""
    return measured.names(options.metrics)


def callbacks(options: Options) -> list[Callback]:
    """Return what acts on the training itself."""
    if options.early_stopping is None:
        return []
    patience = positive_int("early-stopping", options.early_stopping)
    return [EarlyStopping("validation_loss" if options.held_out else "loss", patience)]
