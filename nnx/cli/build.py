"""The network, the optimizer, the regularization and the callbacks of the options."""

import re
from typing import Any

from nnx.array.host import checked_seed, dtype_name
from nnx.callbacks import Callback, EarlyStopping, TensorBoard
from nnx.callbacks.early_stopping import PATIENCE
from nnx.callbacks.tracker import text_or_none
from nnx.cli import metric_tables, parts
from nnx.cli.in_units import tracker
from nnx.cli.inputs import WIDTHS, check_backend, integers, typed
from nnx.cli.options import LOSS, OF_EACH_MEMBER, Options, long
from nnx.data.prepare import Preparation
from nnx.data.targets import check_loss, loss_names
from nnx.data.task import TASKS
from nnx.errors import InputError, between, integer, number, one_of, positive_int, unknown
from nnx.metrics import METRICS, is_number, metric, score_name
from nnx.model.activations import activation
from nnx.model.embeddings import embedded, embedding
from nnx.model.initializers import initializer
from nnx.model.layers import Activate, BatchNorm, Dense, Dropout, Layer, LayerNorm, PReLU
from nnx.model.network import Network
from nnx.model.outputs import LOSSES
from nnx.model.outputs.base import Output
from nnx.model.regularization import Regularization
from nnx.optimizers import LBFGS, Optimizer, base_rate, schedules
from nnx.optimizers import optimizer as find_optimizer
from nnx.optimizers.in_epochs import LENGTHS
from nnx.port.base import require
from nnx.port.precision import check_dtype, checked_precision
from nnx.support import spec
from nnx.support.members import each

NORMS = {"batch": BatchNorm, "layer": LayerNorm}
WEIGHTS = ("balanced", "none")
_WEIGHT = re.compile(r"\s*(.+?)\s*=\s*([^=,\s]+)\s*(?:,|$)")
"""The weight of a class: LABEL=NUMBER. The label may hold commas."""


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
        validation, test = parts.check(options)
        checked_seed(options.seed)
        dtype_name(options.dtype)
        if options.task not in TASKS:
            raise unknown("task", options.task, TASKS)
        if options.class_weight not in WEIGHTS:
            weights(options.class_weight)
        check_backend(options.backend, options.device)
        check_dtype(checked_precision(options.precision), options.dtype)
        _ = options.dialect  # which refuses a delimiter that is none
        for one in metrics(options) or ():
            metric(one)
        if options.metrics is not None and not (validation or test or options.folds):
            raise InputError("metrics are of the samples held out, and --held-out 0 leaves none")
        if options.activation != "prelu":
            activation(options.activation)
        loss = None if options.loss is None else spec.split(options.loss)[0]
        links = [link for link in LOSSES if loss is None or loss in LOSSES[link]]
        if not links:
            raise unknown("loss", loss, loss_names())
        if links == ["exp"] and options.task != "counts":
            raise InputError(f"the loss {loss} is of counts; say so: --task counts")
        check_of_members(options, bool(validation))
        network(options, 1, links[0], 1)
        optimizer(options, 1000)
        regularization(options)
        callbacks(options, validates=True)
    check_trackers(options)


def check_trackers(options: Options) -> None:
    """Raise a UsageError for a tracker that is none, and a BackendError where its package is missing."""
    if options.mlflow is not None:
        tracker(options.mlflow)
    with typed():
        text_or_none("wandb", options.wandb)
    if options.tensorboard:
        TensorBoard("runs")  # says what is missing
    for package in ("mlflow", "wandb"):
        if getattr(options, package) is not None:
            require(package, package)


def check_of_members(options: Options, validates: bool) -> None:
    """Raise an InputError unless the members, their numbers and their selection go together."""
    K = options.members
    if K is not None:
        positive_int("members", K)
        if spec.call(options.optimizer)[0] == "lbfgs":
            raise InputError("lbfgs trains one network; leave out --members, or take another optimizer")
    for name in OF_EACH_MEMBER:
        if not isinstance(value := getattr(options, name), list):
            continue
        if K is None:
            how = "" if options.table else f"say --members {len(value)}, or "
            raise InputError(
                f"{long(name)} has {len(value)} numbers, one for each member; {how}compare runs: "
                f'--sweep "{long(name)}={" ".join(map(str, value))}"'
            )
        if len(value) != K:
            raise InputError(f"{long(name)} has {len(value)} numbers; expected {K}, one for each member")
    one_of("selection", options.selection, ("all", "greedy"))
    if options.selection == "greedy" and (K is None or not validates):
        lacks = "members: give --members 16" if K is None else "a validation part: give --validation 0.2"
        raise InputError(f"selection greedy needs {lacks}")


def _share(name: str, value: object) -> float:
    return number(name, value, "at least 0 and less than 1", lambda x: 0 <= x < 1)


def sizes(layers: str) -> list[int]:
    """Return the units of the hidden layers: "128,64" -> [128, 64], "none" -> []."""
    return [] if layers.strip().lower() in ("", "none") else integers("layers", layers, WIDTHS)


def network(
    options: Options,
    n_features: int,
    output: str,
    n_outputs: int,
    preparation: Preparation | None = None,
    X: Any = None,
) -> Network:
    """Return the network: the embedding of X, the samples to train on; each hidden layer is a Dense, its norm, ..."""
    if options.embed != "none":
        embedding(options.embed)  # may be refused
    layers: list[Layer] = [] if X is None else embedded(options.embed, X)
    if options.norm not in (*NORMS, "none"):
        raise unknown("norm", options.norm, (*NORMS, "none"))
    each("dropout", options.dropout, _share)
    if options.init is not None:
        initializer(options.init)
    learned = options.activation == "prelu"
    given = options.init
    if given is None and preparation is not None:
        given = preparation.init("relu" if learned else options.activation)
    for n in sizes(options.layers):
        if options.norm == "none" and not learned:
            layers.append(Dense(n, options.activation, given))
        else:  # W is drawn for the activation, though that stands in a layer of its own
            init = "he" if learned else activation(options.activation).init
            layers.append(Dense(n, "identity", given or init))
            if options.norm != "none":
                layers.append(NORMS[options.norm]())
            layers.append(PReLU() if learned else Activate(options.activation))
        if options.dropout:
            layers.append(Dropout(options.dropout))
    check_loss(output, options.loss)
    layers.append(Dense(n_outputs, "identity", options.init))
    return Network(n_features, layers, output, options.loss)


def batch_size(options: Options, method: Optimizer) -> int | None:
    """Return the samples of a step; None: all of them, as for L-BFGS."""
    return None if options.batch_size == 0 or isinstance(method, LBFGS) else options.batch_size


def steps(m: int, batch_size: int | None) -> int:
    """Return the steps of an epoch of m samples."""
    return 1 if batch_size is None else -(-m // batch_size)


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
    for key in LENGTHS:  # in epochs
        length = given.get(key)
        if isinstance(length, int | float):
            given[key] = round(between(key, length, 0) * steps)
    return find_optimizer(name, **{**arguments, "learning_rate": {"name": kind, **given}})


def weights(text: str) -> dict[str, float]:
    """Return the weights of the classes by their labels: "yes=5,no=1" -> {"yes": 5.0, "no": 1.0}."""
    found: dict[str, float] = {}
    at = 0
    while at < len(text) or not found:
        pair = _WEIGHT.match(text, at)
        if pair is None:
            raise unknown("class-weight", text, (*WEIGHTS, "a weight for each class, such as yes=5,no=1"))
        name, weight = pair[1], spec.split(f"w({pair[2]})")[1]
        if name in found:
            raise InputError(f"class-weight has the class {name!r} twice; give each class once")
        found[name] = between(f"class-weight of {name!r}", weight, 0)
        at = pair.end()
    if not any(found.values()):
        raise InputError(f"class-weight is 0 for every class that it names; given {text!r}")
    return found


def class_weight(options: Options, preparation: Preparation) -> dict[int, float] | str | None:
    """Return the weights of the classes as `Trainer.fit` takes them.

    Raises
    ------
    InputError
        For a label that the data do not have (the nearest), and where the target is numbers.
    """
    if options.class_weight == "none":
        return None
    if preparation.labels is None:
        raise InputError(
            f"--class-weight is for classes; the target {preparation.target!r} is numbers. Leave it out, or say "
            "--task classification"
        )
    if options.class_weight == "balanced":
        return "balanced"
    return preparation.class_weight(weights(options.class_weight))


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
    """Return the names of the metrics; None: those that suit the target."""
    return metric_tables.names(options.metrics)


def measures(options: Options, output: Output) -> list[str]:
    """Return the names of the measured numbers: the metrics, and the number that stops the training."""
    names = metrics(options) or [score_name(output)]
    by = stop_by(options)
    return names if by in (LOSS, *(metric(name).name for name in names)) else [*names, by]


def stop_by(options: Options) -> str:
    """Return the name of what the training is stopped by: the loss, or a metric that is one number.

    Raises
    ------
    InputError
        When there is no such metric (the nearest), or it has a number for each class.
    """
    name = options.stop_by.strip().removeprefix("validation_")
    if name == LOSS:
        return name
    if spec.split(name)[0] not in METRICS:
        raise unknown("metric to stop by", name, (LOSS, *METRICS))
    if not is_number(name):
        raise InputError(
            f"stop-by must be a single number, which {name} is not; give loss, or another metric"
        )
    return metric(name).name


def patience(options: Options, validates: bool) -> int:
    """Return after how many epochs without a better one the training stops; 0: it goes on, and keeps the last.

    A schedule that is laid out over all epochs runs to its end, by default: its last epochs are its best. The best
    epoch is kept then, too.

    Parameters
    ----------
    options : Options
    validates : bool
        Whether there are samples to validate on.
    """
    if options.early_stopping is not None:
        expected = "the epochs to wait for a better one, at least 1, or 0 to train all epochs"
        return integer("early-stopping", options.early_stopping, 0, expected=expected)
    kind, lengths = spec.call(options.schedule)
    laid_out = kind not in ("constant", "none") and "steps" in {*schedules.parameters(kind)} - {*lengths}
    return 0 if not validates else options.epochs if laid_out else PATIENCE


def callbacks(options: Options, validates: bool) -> list[Callback]:
    """Return the callbacks that act on the training: early stopping, by the training's loss without a validation part.

    Raises
    ------
    InputError
        For a patience that is none, and for a metric to stop by that cannot be.
    """
    by, wait = stop_by(options), patience(options, validates)
    if by != LOSS and not validates:
        raise InputError(
            f"stop-by {by} is measured on a validation part, and there is none; give --validation 0.2"
        )
    return [EarlyStopping(f"validation_{by}" if validates else by, wait)] if wait else []
