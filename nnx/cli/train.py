"""`nnx train`: data, network, training, test, and the folder that is left."""

import json
from dataclasses import dataclass
from pathlib import Path

from nnx.callbacks import ProgressBar
from nnx.cli import show
from nnx.cli.folder import HISTORY, MODEL
from nnx.cli.inputs import integers, refuse_existing, source
from nnx.data.prepare import Preparation, find_task, reason, split
from nnx.data.source import Samples
from nnx.errors import InputError, count, positive_int
from nnx.files import written_aside
from nnx.network import mlp
from nnx.optimizers import LBFGS, optimizer
from nnx.trainer import Trainer

CURVE = "learning_curve.png"


@dataclass(frozen=True)
class Options:
    """The options of the command, as typed."""

    data: str
    target: str | None
    drop: tuple[str, ...]
    decimal_comma: bool
    task: str
    held_out: float
    layers: str
    activation: str
    optimizer: str
    learning_rate: float | None
    epochs: int
    batch_size: int
    seed: int
    dtype: str
    backend: str
    device: str | None
    out: Path | None
    overwrite: bool


def run(options: Options) -> bool:
    """Train as the options say; return whether it went to its end, False after Ctrl-C."""
    # Everything that can be wrong is looked at before anything is written or trained.
    hidden = sizes(options.layers)
    epochs = positive_int("epochs", options.epochs)
    batch_size = positive_int("batch-size", options.batch_size) if options.batch_size != 0 else None
    rate = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    method = optimizer(options.optimizer, **rate)
    if isinstance(method, LBFGS):  # which looks at all samples in every iteration
        batch_size = None
    if options.out is not None and not options.overwrite:
        refuse_existing(options.out, empty_folder=True)

    found = source(options.data, options.target, options.seed, decimal_comma=options.decimal_comma)
    samples = found.training(options.target, options.drop)
    task = find_task(samples, options.task)
    train, held = split(samples, task, options.held_out, options.seed)
    preparation = Preparation.learn(samples, task, train)
    n = [len(preparation.inputs), *hidden, preparation.n_outputs]
    network = mlp(n, options.activation, preparation.output)
    trainer = Trainer(network, method, options.backend, options.device, options.dtype, options.seed)
    trainer.metadata = {"preparation": preparation.describe(), "data": options.data}

    what = "numbers" if preparation.labels is None else f"{len(preparation.labels)} classes"
    if options.task == "auto" and (other := another_task(samples, task)):
        what += f" (else --task {other})"
    features = count(len(preparation.features), "feature")
    if n[0] != len(preparation.features):
        features += f" as {count(n[0], 'input')}"
    show.say(
        "Data",
        f"{options.data}: {count(len(samples.X), 'sample')}, {features}; target "
        f"{samples.target!r}, {what}; {len(train):,} to train on, {len(held):,} held out",
    )
    if options.task == "auto":
        show.say("Task", f"{task}, since {reason(samples)}")
    for line in preparation.account():
        show.say("Columns", line)
    backend = trainer.backend
    show.say("Backend", f"{backend.name} {backend.version} on {backend.device}: {trainer.reason}")
    show.say("Optimizer", f"{method!r}, {'all samples' if batch_size is None else batch_size} a step")
    show.console.print(show.network_table(network))

    X, Y = preparation.X(samples.X[train], trainer.dtype), preparation.Y(samples.y[train])
    validation = preparation.X(samples.X[held], trainer.dtype), preparation.Y(samples.y[held])
    folder, made = make_folder(options.out, options.data)
    title = f"{options.data}: {'-'.join(map(str, network.n))}, {backend.name}"
    try:
        trainer.fit(X, Y, epochs, batch_size, validation, callbacks=ProgressBar(show.console))
        finished = True
    except KeyboardInterrupt:
        finished = False
    except BaseException:  # whatever ends the training, the epochs before it are kept
        leave(trainer, folder, made, title, keep=bool(trainer.records))
        raise
    if not finished:
        done = f"{count(len(trainer.records), 'epoch')}, {count(trainer.steps, 'step')}"
        none = "with nothing learned yet: nothing is saved"  # nor is a model replaced by random weights
        show.console.print(f"Stopped by Ctrl-C {f'after {done}' if trainer.steps else none}.")
    leave(trainer, folder, made, title, keep=trainer.steps > 0)
    if trainer.steps:
        report(trainer, preparation, *validation)
    return finished


def leave(trainer: Trainer, folder: Path, made: list[Path], title: str, keep: bool) -> None:
    """Save what is to be kept, and remove the folders made for it that stay empty."""
    try:
        if keep:
            save(trainer, folder, title)
    finally:
        remove_empty(made)


def another_task(samples: Samples, task: str) -> str | None:
    """Return the other task, if the target allows it."""
    other = "regression" if task == "classification" else "classification"
    try:
        return find_task(samples, other)
    except InputError:
        return None


def sizes(layers: str) -> list[int]:
    """Return the units of the hidden layers: "128,64" -> [128, 64], "none" -> []."""
    return [] if layers.strip().lower() in ("", "none") else integers("layers", layers)


def make_folder(out: Path | None, data: str) -> tuple[Path, list[Path]]:
    """Return the run's folder, the one asked for or the first free runs/DATA-N, and the folders made for it."""
    name = Path(data).name.split(".")[0] or "run"
    number = 1
    while True:
        folder = out if out is not None else Path("runs") / f"{name}-{number}"
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=out is not None)
        except FileExistsError:
            if out is not None:
                raise InputError(f"{str(out)!r} is a file; expected a folder as --out") from None
            number += 1
        else:
            return folder, made


def remove_empty(made: list[Path]) -> None:
    """Remove the folders that a failed run made, the innermost first, as far as nothing is in them."""
    for folder in made:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def save(trainer: Trainer, folder: Path, title: str) -> None:
    """Write the model, the history and the learning curve, and say so."""
    written = [MODEL]
    trainer.save(folder / MODEL)
    if trainer.records:
        with written_aside(folder / HISTORY) as aside:
            lines = (
                json.dumps({"epoch": epoch, **record}) for epoch, record in enumerate(trainer.records, 1)
            )
            aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        from nnx.plot import learning_curve

        learning_curve(trainer.history, folder / CURVE, title)
        written += [HISTORY, CURVE]
    else:  # stopped in the first epoch: those of an earlier run do not belong to this model
        for name in (HISTORY, CURVE):
            (folder / name).unlink(missing_ok=True)
    show.say("Saved", f"{folder}: {', '.join(written)}", fold=False)


def report(trainer: Trainer, preparation: Preparation, X: object, Y: object) -> None:
    """Say how good the model is on the samples held out."""
    measured = trainer.evaluate(X, Y)
    if "accuracy" in measured:
        m = len(Y)  # type: ignore[arg-type]
        right = round(measured["accuracy"] * m)
        text = f"accuracy {measured['accuracy']:.2%} ({right} of {m}), cost {measured['loss']:.4f}"
    else:  # J = 1/2 mean (a - y)^2 in units of the target's deviation
        error = (2 * measured["loss"]) ** 0.5 * preparation.y_scale
        text = f"R2 {measured['r2']:.3f}, root mean squared error {error:.4g}"
    show.say("Held out", text)
