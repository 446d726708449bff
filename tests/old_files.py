"""Files of every kind that nnx writes: later versions must read them (test_old_files.py).

`python tests/old_files.py` writes them to HERE. The nnx of a day wrote the folder of that day (`files/2026-11-28`),
which stays as it is. This program calls public names only, so that an older nnx can run it.
"""

import contextlib
import io
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

import nnx

OPTIMIZERS = (
    "gradient_descent", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "nadam", "lion", "lbfgs",
)  # fmt: skip
HERE = Path("/tmp/files-of-nnx")
"""Where they are written: runs hold the path of their data."""


def samples():
    """X (4, 60) and class indices (60,)."""
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((4, 60)), rng.integers(0, 3, 60)
    X[0] += y
    return X, y


def with_optimizer(name):
    """A small trainer of float64, with this optimizer and its defaults."""
    network = nnx.Network(4, [nnx.Dense(3, "tanh"), nnx.Dense(3)], "softmax")
    return nnx.Trainer(network, nnx.optimizers.optimizer(name), backend="numpy", dtype="float64", seed=2)


def with_everything(backend="numpy"):
    """A trainer of all that a model file describes: layers with a memory, masks, a schedule, penalties."""
    layers = [
        nnx.GaussianNoise(0.05),
        nnx.Dense(6),
        nnx.BatchNorm(),
        nnx.PReLU(),
        nnx.Residual([nnx.Dense(6, "gelu"), nnx.LayerNorm()]),
        nnx.Dropout(0.2),
        nnx.Dense(3),
    ]
    schedule = nnx.schedules.Cosine(0.02, steps=60, warmup=5)
    return nnx.Trainer(
        nnx.Network(4, layers, "softmax"),
        nnx.AdamW(schedule),
        backend=backend,
        dtype="float64",
        seed=4,
        regularization=nnx.Regularization(l2=1e-4, clip_norm=1.0, max_norm=3.0, label_smoothing=0.05),
    )


class Interrupt(nnx.Callback):
    """Ctrl-C after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, trainer, progress):
        if trainer.steps == self.step:
            signal.raise_signal(signal.SIGINT)


def fit(trainer, folder, epochs=6, after=None, resume=None):
    """Fit with every callback that has a memory; return the moving average. `after`: Ctrl-C after so many steps."""
    X, y = samples()
    average = nnx.MovingAverage(0.9)
    callbacks = [
        *([Interrupt(after)] if after else []),
        average,
        nnx.ReduceOnPlateau("validation_loss", factor=0.7, patience=1),
        nnx.EarlyStopping("validation_loss", patience=5),
        nnx.JSONLines(folder / "log.jsonl"),
        nnx.CSVLog(folder / "log.csv"),
        nnx.Checkpoints(folder / "checkpoints", steps=2, keep=2, best="validation_loss"),
    ]
    trainer.fit(
        X[:, :45],
        y[:45],
        epochs=epochs,
        batch_size=10,
        validation=(X[:, 45:], y[45:]),
        callbacks=callbacks,
        metrics=["accuracy"],
        resume=resume,
    )
    return average.theta


def end_of(trainer):
    """What must be the same: parameters, state and history."""
    state = {name: trainer.backend.to_numpy(trainer.state[name]) for name in trainer.state}
    return {**state, **{f"history {name}": np.asarray(x) for name, x in trainer.history.items()}}


def table():
    """Text of a CSV file with numbers, categories and missing values."""
    rng = np.random.default_rng(3)
    rows = ["weight,length,colour,kind"]
    for _ in range(60):
        kind = rng.integers(3)
        weight = f"{rng.normal(kind, 0.5):.2f}" if rng.random() > 0.05 else ""
        rows.append(
            f"{weight},{rng.normal(-kind, 0.7):.1f},{rng.choice(['red', 'blue'])},{('cat', 'dog', 'eel')[kind]}"
        )
    return "\n".join(rows) + "\n"


TRAIN = (
    "--init=glorot", "--epochs=12", "--batch-size=8", "--learning-rate=0.02", "--backend=numpy", "--dtype=float64",
    "--optimizer=adamw", "--schedule=cosine(warmup=2)", "--dropout=0.1", "--norm=batch", "--early-stopping=5",
    "--no-plots", "--quiet",
)  # fmt: skip


def command(*arguments, after=None):
    """Run a command of nnx; return its status and output. `after`: Ctrl-C after so many steps."""
    from nnx.__main__ import main

    original, out, status = nnx.Trainer.fit, io.StringIO(), 0

    def interrupted(trainer, *positional, callbacks=(), **named):
        return original(trainer, *positional, callbacks=[Interrupt(after), *callbacks], **named)

    fitted = patch.object(nnx.Trainer, "fit", interrupted) if after else contextlib.nullcontext()
    with fitted, patch.object(sys, "argv", ["nnx", *map(str, arguments)]), contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
    return status, out.getvalue()


def write_models(folder):
    """A model of each optimizer in the middle of its fit, and what it reaches later."""
    X, y = samples()
    (folder / "models").mkdir()
    for name in OPTIMIZERS:
        trainer = with_optimizer(name)
        on = partial(trainer.fit, X, y, epochs=2, batch_size=None if name == "lbfgs" else 20, progress=False)
        on()
        trainer.save(folder / "models" / f"{name}.safetensors")
        A = trainer.predict(X)
        on()
        np.savez(folder / "models" / f"{name}.npz", A=A, **end_of(trainer))


def write_checkpoints(folder):
    """A fit that was interrupted within an epoch, and the end of one that was not."""
    (folder / "fit").mkdir()
    with contextlib.suppress(KeyboardInterrupt):
        fit(with_everything(), folder / "fit", after=18)
    trainer, whole = with_everything(), folder / "whole"
    average = fit(trainer, whole)
    X, _ = samples()
    np.savez(folder / "fit.npz", average=average, A=trainer.predict(X), **end_of(trainer))
    (folder / "fit.jsonl").write_text((whole / "log.jsonl").read_text())
    shutil.rmtree(whole)


def write_runs(folder):
    """What the command line writes: a run, one that was interrupted, a sweep, its results, a configuration."""
    (folder / "pets.csv").write_text(table())
    data, layers = [folder / "pets.csv", "--target=kind", *TRAIN], "--layers=5"
    run, stopped, sweep = folder / "run", folder / "stopped", folder / "sweep"
    assert command("train", *data, layers, "--out", run)[0] == 0
    command("train", *data, layers, "--out", stopped, after=17)
    assert command("train", *data, "--out", sweep, "--sweep=layers=4 5 6")[0] == 0
    shutil.rmtree(sweep / "2")  # so that a sweep can go on
    (sweep / "results.csv").rename(folder / "sweep.csv")
    (sweep / "results.json").unlink()
    for one in (run, *sweep.glob("?")):
        shutil.rmtree(one / "checkpoints")  # of runs that are done
    assert command("predict", run, data[0], "--out", folder / "predictions.csv")[0] == 0
    (folder / "evaluation.json").write_text(command("evaluate", run, data[0], "--json")[1])
    (folder / "shown.json").write_text(command("show", run, "--json")[1])


def write_bench(folder):
    """A tiny file of `nnx bench`."""
    out = folder / "bench.json"
    who = "--backends=numpy", "--peers=typed", "--note=tiny"
    assert command("bench", *who, "--sizes=3,4,2", "--batch-sizes=2,4", "--rounds=2", "--out", out)[0] == 0
    for path in folder.glob("bench*.*"):
        if path != out:  # the page and the picture
            path.unlink()


def main(folder):
    """Write all of it."""
    folder.mkdir()
    write_models(folder)
    write_checkpoints(folder)
    write_runs(folder)
    write_bench(folder)


if __name__ == "__main__":
    main(HERE)
