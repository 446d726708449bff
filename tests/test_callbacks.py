"""The callbacks that come with nnx: what each does, what it refuses, and what is left of a fit that was killed."""

import copy
import csv
import io
import json
import logging
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unreadable_arrays import Guarded

import nnx
from nnx import schedules
from nnx.callbacks import (
    Callback,
    Checkpoints,
    CSVLog,
    EarlyStopping,
    JSONLines,
    MovingAverage,
    ProgressBar,
    ReduceOnPlateau,
    Snapshots,
    TensorBoard,
)
from nnx.errors import CallbackError


def some_data(m=20, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((2, m))
    return X, (X[0] + 0.5 * rng.standard_normal(m) > 0).astype(int)


DATA, HELD_OUT = some_data(), some_data(11, seed=1)


def a_trainer(backend="numpy", learning_rate=0.2, network=None):
    return nnx.Trainer(
        network or nnx.mlp([2, 6, 1], "tanh"), nnx.Adam(learning_rate), backend, dtype="float64"
    )


def fit(trainer, callbacks, epochs=6, **arguments):
    """Six epochs of five steps, with a validation."""
    arguments = {"batch_size": 4, "validation": HELD_OUT, **arguments}
    return trainer.fit(*DATA, epochs, callbacks=callbacks, **arguments)


class Thetas(Callback):
    """The parameters after every step and every epoch."""

    def on_fit_start(self, trainer, epochs):
        self.steps, self.epochs = [], []

    def on_step(self, trainer, progress):
        self.steps.append(trainer.theta)

    def on_epoch(self, trainer, progress):
        self.epochs.append(trainer.theta)


class At(Callback):
    """Does something after a step of all, or an epoch."""

    def __init__(self, does, step=None, epoch=None):
        self.does, self.step, self.epoch = does, step, epoch

    def on_step(self, trainer, progress):
        if trainer.steps == self.step:
            self.does(trainer)

    def on_epoch(self, trainer, progress):
        if progress.epoch == self.epoch:
            self.does(trainer)


def interrupt(trainer):
    raise KeyboardInterrupt


def fail(trainer):
    raise OSError("the cat pulled the plug")


def diverge(trainer):
    trainer.theta = np.full_like(trainer.theta, 1e308)


def drive(callback, values, name="validation_loss", trainer=None):
    """Call a callback with these values of one number, an epoch each, until it stops; return the trainer."""
    trainer = trainer or a_trainer()
    trainer.measures = (name,)
    callback.on_fit_start(trainer, len(values))
    for epoch, value in enumerate(values, 1):
        callback.on_epoch(trainer, nnx.Progress(epoch, len(values), 1, 1, 4, 0.1, {name: value}))
        if trainer.stopped is not None:
            break
    return trainer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# A number that is watched


NUMBERS = st.lists(st.integers(0, 6).map(float) | st.just(float("nan")), min_size=1, max_size=25)


@settings(deadline=None)
@given(values=NUMBERS, patience=st.integers(1, 4), delta=st.integers(0, 2), greatest=st.booleans())
def test_early_stopping_ends_where_its_definition_says(values, patience, delta, greatest):
    name, sign = ("validation_accuracy", 1) if greatest else ("validation_loss", -1)
    stopping = EarlyStopping(name, patience, float(delta), restore_best=False)
    trainer = drive(stopping, values, name)
    best, waited, end = None, 0, None
    for epoch, value in enumerate(values, 1):
        if not np.isnan(value) and (best is None or sign * (value - best[0]) > delta):
            best, waited = (value, epoch), 0
        else:
            waited += 1
        if waited == patience:
            end = epoch
            break
    assert (trainer.stopped is not None) == (end is not None)
    assert (stopping.best, stopping.best_epoch) == (best or (None, None))
    if end is not None:
        assert f"{name} has not become better for {patience} epoch" in trainer.stopped
        assert best is None or f"that of epoch {best[1]}" in trainer.stopped


def best_epoch(trainer):
    return int(np.argmin(trainer.history["validation_loss"]))


def test_the_best_weights_are_restored(backend):
    trainer, thetas = a_trainer(backend, learning_rate=1.0), Thetas()
    stopping = EarlyStopping(patience=3)
    history = fit(trainer, [thetas, stopping], epochs=60)
    best = best_epoch(trainer)
    assert len(history["loss"]) == best + 1 + 3 < 60
    assert stopping.best_epoch == best + 1
    assert stopping.best == min(history["validation_loss"])
    np.testing.assert_array_equal(trainer.theta, thetas.epochs[best])
    np.testing.assert_array_equal(stopping.theta, thetas.epochs[best])
    assert trainer.evaluate(*HELD_OUT)["loss"] == pytest.approx(stopping.best)


def test_the_best_weights_are_restored_at_the_end_and_on_ctrl_c_but_not_after_an_error():
    def run(*others, **arguments):
        trainer, thetas = a_trainer(learning_rate=1.0), Thetas()
        stopping = EarlyStopping(patience=100, **arguments)
        try:
            fit(trainer, [thetas, stopping, *others], epochs=12)
        except (KeyboardInterrupt, nnx.Error) as error:
            return trainer, thetas, stopping, error
        return trainer, thetas, stopping, None

    trainer, thetas, _, _ = run()
    best = thetas.epochs[best_epoch(trainer)]
    assert not np.array_equal(best, thetas.epochs[-1])
    np.testing.assert_array_equal(trainer.theta, best)

    trainer, thetas, _, error = run(At(interrupt, step=58))
    assert isinstance(error, KeyboardInterrupt)
    np.testing.assert_array_equal(trainer.theta, thetas.epochs[best_epoch(trainer)])

    trainer, thetas, stopping, error = run(At(fail, step=58))
    assert isinstance(error, CallbackError)
    np.testing.assert_array_equal(trainer.theta, thetas.steps[57])
    np.testing.assert_array_equal(stopping.theta, thetas.epochs[best_epoch(trainer)])

    trainer, thetas, stopping, error = run(At(diverge, epoch=11))
    assert isinstance(error, nnx.DivergenceError)
    assert (trainer.theta == 1e308).all()  # as before that epoch
    np.testing.assert_array_equal(stopping.theta, thetas.epochs[best_epoch(trainer)])

    trainer, thetas, stopping, _ = run(restore_best=False)
    np.testing.assert_array_equal(trainer.theta, thetas.epochs[-1])
    assert stopping.theta is None

    try:
        raise ValueError("a rate too high, say")
    except ValueError:  # a fit from where an error is handled has none itself
        trainer, thetas, _, _ = run()
    np.testing.assert_array_equal(trainer.theta, thetas.epochs[best_epoch(trainer)])


def test_each_fit_begins_to_wait_anew():
    stopping = EarlyStopping(patience=2)
    drive(stopping, [1.0, 2.0])
    assert drive(stopping, [7.0, 8.0]).stopped is None
    assert (stopping.best, stopping.best_epoch) == (7.0, 1)


@settings(deadline=None)
@given(
    values=st.lists(st.integers(0, 6).map(float), min_size=1, max_size=40),
    patience=st.integers(1, 3),
    cooldown=st.integers(0, 3),
    delta=st.integers(0, 2),
    greatest=st.booleans(),
)
def test_the_rate_is_lowered_as_pytorch_lowers_it(values, patience, cooldown, delta, greatest):
    torch = pytest.importorskip("torch")
    name, mode = ("validation_r2", "max") if greatest else ("validation_loss", "min")
    theirs = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode, 0.25, patience - 1, delta, "abs", cooldown, min_lr=1e-3, eps=0
    )
    ours, rates, expected = a_trainer(learning_rate=0.5), [], []
    plateau = ReduceOnPlateau(name, 0.25, patience, delta, cooldown, min_learning_rate=1e-3)
    ours.measures = (name,)
    plateau.on_fit_start(ours, len(values))
    for epoch, value in enumerate(values, 1):
        plateau.on_epoch(ours, nnx.Progress(epoch, len(values), 1, 1, 4, 0.1, {name: value}))
        rates.append(ours.learning_rate)
        scheduler.step(value)
        expected.append(theirs.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_a_schedule_goes_on_from_a_lowered_rate(backend):
    schedule = schedules.Exponential(0.5, every=1, decay=0.9)
    trainer = nnx.Trainer(nnx.mlp([2, 1]), nnx.GradientDescent(schedule), backend, dtype="float64")
    fit(trainer, ReduceOnPlateau("loss", factor=0.1, patience=1, min_delta=100), epochs=3)
    # the first value is always better; alpha is lowered after the second and the third epoch
    assert float(backend.to_numpy(trainer.state["alpha"])) == pytest.approx(0.005)
    assert trainer.learning_rate == pytest.approx(0.005 * 0.9**15)


@pytest.mark.parametrize("make", [EarlyStopping, ReduceOnPlateau, lambda name: Checkpoints("run", best=name)])
def test_a_number_that_is_not_measured(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        nnx.InputError, match=r"did you mean 'validation_loss'.* Known: loss, validation_loss, "
    ):
        fit(a_trainer(), make("validatoin_loss"))
    with pytest.raises(
        nnx.InputError,
        match=r"Known: loss\. .*fit\(validation=\(X, Y\)\) or fit\(validation_split.* early_stopping=True",
    ):
        fit(a_trainer(), make("validation_loss"), validation=None)
    assert not list(tmp_path.glob("run/*"))
    for theirs in ("val_loss", "val_accuracy"):
        with pytest.raises(nnx.InputError, match=f"'{theirs}'; did you mean 'validation_{theirs[4:]}'"):
            fit(a_trainer(), make(theirs))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EarlyStopping(None), "monitor must be the name of a measured number"),
        (lambda: EarlyStopping(patience=0), "patience must be a positive integer, not 0"),
        (lambda: EarlyStopping(min_delta=-0.1), "min_delta must be at least 0 and finite, not -0.1"),
        (lambda: EarlyStopping(min_delta=float("nan")), "min_delta must be at least 0"),
        (lambda: EarlyStopping(mode="least"), "unknown mode 'least'"),
        (lambda: EarlyStopping("validation_beauty"), "Give mode='min' or mode='max'"),
        (lambda: ReduceOnPlateau(factor=1), "factor must be between 0 and 1, not 1"),
        (lambda: ReduceOnPlateau(cooldown=-1), "cooldown must be an integer >= 0, not -1"),
        (lambda: ReduceOnPlateau(min_learning_rate=None), "min_learning_rate must be at least 0"),
        (lambda: Checkpoints("c", steps=0), "steps must be a positive integer"),
        (lambda: Checkpoints("c", minutes=0), "minutes must be greater than 0"),
        (lambda: Checkpoints("c", epochs=1.5), "epochs must be a positive integer"),
        (lambda: Checkpoints("c", keep=0), "keep must be a positive integer"),
        (lambda: Checkpoints("c", best=True), "monitor must be the name"),
        (lambda: JSONLines("log", every_steps=0), "every_steps must be a positive integer"),
        (lambda: MovingAverage(1.0), "decay must be between 0 and 1, not 1.0"),
        (lambda: MovingAverage("0.9"), "decay must be between 0 and 1"),
        (lambda: MovingAverage().theta, "nothing is averaged yet"),
    ],
)
def test_wrong_parameters(make, said):
    with pytest.raises(nnx.InputError) as raised:
        make()
    assert said in str(raised.value)


def test_whether_the_least_or_the_greatest_is_best_by_its_name():
    least = "loss validation_loss validation_log_loss validation_mean_absolute_error validation_mean_squared_error"
    greatest = "validation_accuracy validation_top_k(3) validation_f1(micro) validation_r2 validation_roc_auc"
    for mode, some in (("min", least), ("max", greatest)):
        assert {EarlyStopping(name).mode for name in some.split()} == {mode}
    assert EarlyStopping("validation_beauty", mode="max").mode == "max"
    kinds = {
        name: EarlyStopping(f"validation_{name}").mode
        for name in set(nnx.metrics.METRICS) - {"confusion_matrix"}
    }
    assert set(kinds.values()) == {"min", "max"}  # no metric of nnx's own with one number leaves it open


# Checkpoints


def test_checkpoints_every_epoch(tmp_path):
    fit(a_trainer(), Checkpoints(tmp_path / "made" / "here"))
    assert names(tmp_path / "made" / "here") == [f"step-000000{n}.safetensors" for n in (20, 25, 30)]


@pytest.mark.parametrize(
    ("when", "steps"),
    [
        ({"steps": 7}, [7, 14, 21, 28, 30]),
        ({"epochs": 4}, [20, 30]),
        ({"steps": 10, "epochs": 3}, [10, 15, 20, 30]),
        ({"minutes": 1e9}, [30]),
    ],
)
def test_when_checkpoints_are_written(when, steps, tmp_path):
    fit(a_trainer(), Checkpoints(tmp_path, **when, keep=None))
    assert names(tmp_path) == [f"step-{n:08d}.safetensors" for n in steps]
    for n in steps:
        assert nnx.Trainer.load(tmp_path / f"step-{n:08d}.safetensors", backend="numpy").steps == n


def test_checkpoints_by_the_clock(tmp_path):
    """Within an epoch, too, though not after every step: several may be done at once."""
    fit(a_trainer(), Checkpoints(tmp_path, minutes=1e-9, keep=None))
    steps = [int(name[5:13]) for name in names(tmp_path)]
    assert {5, 10, 15, 20, 25, 30} < {*steps}
    fit(a_trainer(), [Checkpoints(tmp_path / "each", minutes=1e-9, keep=None), lambda progress: None])
    assert names(tmp_path / "each") == [f"step-{n:08d}.safetensors" for n in range(1, 31)]


def test_a_stopped_fit_leaves_a_checkpoint(tmp_path):
    fit(a_trainer(), [Checkpoints(tmp_path, epochs=4), At(lambda trainer: trainer.stop("enough"), step=13)])
    assert names(tmp_path) == ["step-00000013.safetensors"]


def test_the_best_model_stays(tmp_path):
    trainer, thetas = a_trainer(learning_rate=1.0), Thetas()
    fit(trainer, [thetas, Checkpoints(tmp_path, keep=1, best="validation_loss")], epochs=12)
    assert names(tmp_path) == ["best.safetensors", "step-00000060.safetensors"]
    best = nnx.Trainer.load(tmp_path / "best.safetensors", backend="numpy")
    assert len(best.records) == best_epoch(trainer) + 1 < 12
    np.testing.assert_array_equal(best.theta, thetas.epochs[best_epoch(trainer)])


def test_a_resumed_fit_does_not_replace_a_better_best(tmp_path):
    def run(epochs):
        trainer = a_trainer(learning_rate=1.0)
        fit(trainer, Checkpoints(tmp_path, best="validation_loss"), epochs, resume=tmp_path)
        return trainer

    best = best_epoch(run(12))
    before = (tmp_path / "best.safetensors").read_bytes()
    trainer = run(14)
    assert len(trainer.records) == 14
    assert best_epoch(trainer) == best  # which the two epochs more are not
    assert (tmp_path / "best.safetensors").read_bytes() == before


def test_what_killed_processes_left_is_removed(tmp_path):
    for name in (
        ".step-00000002.safetensors.999.tmp",
        ".best.safetensors.999.tmp",
        "notes.tmp",
        ".step-notes",
    ):
        (tmp_path / name).write_bytes(b"half")
    fit(a_trainer(), Checkpoints(tmp_path, keep=1))
    assert names(tmp_path) == [".step-notes", "notes.tmp", "step-00000030.safetensors"]


def test_a_fit_refuses_the_checkpoints_of_another(tmp_path):
    trainer, checkpoints = a_trainer(), Checkpoints(tmp_path)
    fit(trainer, checkpoints, epochs=2)
    before = names(tmp_path)
    with pytest.raises(nnx.InputError, match=r"this fit has not done, such as step-00000010.*resume=folder"):
        fit(a_trainer(), Checkpoints(tmp_path))
    assert names(tmp_path) == before
    fit(trainer, checkpoints, epochs=2)  # the same trainer goes on
    assert names(tmp_path)[-1] == "step-00000020.safetensors"


def test_going_on_from_an_earlier_checkpoint_drops_the_later_ones(tmp_path):
    fit(a_trainer(), Checkpoints(tmp_path, keep=None))
    trainer, earlier = a_trainer(), tmp_path / "step-00000010.safetensors"
    fit(trainer, Checkpoints(tmp_path, keep=2), epochs=3, resume=earlier)
    assert trainer.steps == 15
    assert names(tmp_path) == ["step-00000010.safetensors", "step-00000015.safetensors"]


def test_going_on_in_another_folder_leaves_what_is_there(tmp_path):
    fit(a_trainer(), Checkpoints(tmp_path / "a"), epochs=1)
    fit(a_trainer(), Checkpoints(tmp_path / "b", keep=1))
    with pytest.raises(nnx.InputError, match="this fit has not done, such as step-00000030"):
        fit(a_trainer(), Checkpoints(tmp_path / "b"), resume=tmp_path / "a")
    assert names(tmp_path / "b") == ["step-00000030.safetensors"]
    fit(a_trainer(), Checkpoints(tmp_path / "c"), epochs=2, resume=tmp_path / "a")
    assert names(tmp_path / "c") == ["step-00000010.safetensors"]


@contextmanager
def no_space_beyond(size):
    """No file can grow beyond this size: what a full disk does, without filling one."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path):
    trainer = a_trainer()
    fit(trainer, Checkpoints(tmp_path), epochs=1)
    with no_space_beyond(100), pytest.raises(CallbackError) as raised:
        fit(trainer, Checkpoints(tmp_path, keep=1), epochs=1)
    message = str(raised.value)
    assert "step-00000010.safetensors' cannot be written: File too large" in message
    assert "step-00000005.safetensors' stays" in message
    assert names(tmp_path) == ["step-00000005.safetensors"]  # and nothing half-written
    assert nnx.Trainer.load(tmp_path / "step-00000005.safetensors", backend="numpy").steps == 5
    assert trainer.steps == 10


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(nnx.InputError, match="file' cannot be made"):
        fit(a_trainer(), Checkpoints(tmp_path / "file"))


# Killed, and gone on


def everything(folder, end):
    return [
        end,
        EarlyStopping(patience=50),
        ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=0.05),
        MovingAverage(0.9),
        JSONLines(folder / "log.jsonl", every_steps=2, overwrite=True),
        CSVLog(folder / "log.csv", overwrite=True),
        Snapshots(most=4),
        Checkpoints(folder, steps=4, best="validation_accuracy"),
    ]


def left_by(folder, callbacks, trainer):
    """All that must be the same, however often the fit was killed."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rows = list(csv.DictReader(io.StringIO((folder / "log.csv").read_text())))
    for record in (*lines, *rows):
        record.pop("seconds", None)
    best = nnx.Trainer.load(folder / "best.safetensors", backend="numpy")
    return {
        "theta": trainer.theta.tolist(),
        "rate": trainer.learning_rate,
        "best": best.theta.tolist(),
        "average": callbacks[3].theta.tolist(),
        "snapshots": (callbacks[6].epochs, [theta.tolist() for theta in callbacks[6].thetas]),
        "records": trainer.records,
        "lines": lines,
        "rows": rows,
        "names": names(folder),
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    trainer, callbacks = a_trainer(), everything(folder, At(interrupt))
    fit(trainer, callbacks, resume=folder)
    found = left_by(folder, callbacks, trainer)
    assert len(found["rows"]) == 6
    assert len(found["lines"]) == 6 + 15
    assert found["rate"] < 0.2  # ReduceOnPlateau had something to do
    return found


@pytest.mark.parametrize(
    "ends", [[3], [4], [11], [16], [20], [21], [13, 14, 29], [8, 8]], ids=lambda ends: f"killed at {ends}"
)
def test_a_killed_and_resumed_fit_leaves_what_an_uninterrupted_one_does(ends, uninterrupted, tmp_path):
    for end in ends:
        with pytest.raises(KeyboardInterrupt):
            fit(a_trainer(), everything(tmp_path, At(interrupt, step=end)), resume=tmp_path)
        if not list(
            tmp_path.glob("step-*")
        ):  # nothing to go on from: the logs are those of a fit that is gone
            (tmp_path / "log.jsonl").unlink()
            (tmp_path / "log.csv").unlink()
    trainer, callbacks = a_trainer(), everything(tmp_path, At(interrupt))
    fit(trainer, callbacks, resume=tmp_path)
    assert left_by(tmp_path, callbacks, trainer) == uninterrupted


@pytest.mark.long
def test_a_process_that_dies_while_it_writes(uninterrupted, tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_callbacks import At, a_trainer, everything, fit, interrupt

def die(trainer):
    os.fsync = lambda file: os._exit(9)  # in the next file, before it is renamed

folder = Path({str(tmp_path)!r})
fit(a_trainer(), everything(folder, At(die, step=15)), resume=folder)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    trainer, callbacks = a_trainer(), everything(tmp_path, At(interrupt))
    fit(trainer, callbacks, resume=tmp_path)
    assert left_by(tmp_path, callbacks, trainer) == uninterrupted


def test_a_fit_that_was_stopped_stays_so_with_its_best_weights(tmp_path):
    def run():
        trainer = a_trainer(learning_rate=1.0)
        fit(trainer, [EarlyStopping(patience=3), Checkpoints(tmp_path)], epochs=60, resume=tmp_path)
        return trainer

    first, again = run(), run()
    assert first.stopped == again.stopped is not None
    assert again.steps == first.steps < 300
    np.testing.assert_array_equal(again.theta, first.theta)


# Logs


def test_json_lines(tmp_path):
    trainer, path = a_trainer(), tmp_path / "made" / "log.jsonl"
    history = fit(trainer, JSONLines(path), epochs=2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 5), (2, 10)]
    assert [line["validation_accuracy"] for line in lines] == history["validation_accuracy"]
    assert all(line["learning_rate"] == 0.2 and line["seconds"] > 0 for line in lines)
    assert list(lines[0])[:4] == ["epoch", "step", "seconds", "learning_rate"]


def test_json_lines_of_steps(tmp_path):
    costs = []
    seen = At(None)
    seen.on_step = lambda trainer, progress: costs.append(progress.cost)
    fit(a_trainer(), [JSONLines(tmp_path / "log", every_steps=3), seen], epochs=2)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    steps = [(line["epoch"], line["step"], line["cost"]) for line in lines if "cost" in line]
    assert steps == [(1, 3, costs[2]), (2, 6, costs[5]), (2, 9, costs[8])]


def test_what_json_has_not_is_null(tmp_path):
    drive(JSONLines(tmp_path / "log"), [float("inf"), np.float32(0.5), np.array([1.0, float("nan")])])
    lines = [json.loads(line)["validation_loss"] for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == [None, 0.5, [1.0, None]]


@pytest.mark.parametrize("make", [JSONLines, CSVLog])
def test_a_log_that_is_there_is_not_overwritten_unasked(make, tmp_path):
    path = tmp_path / "log"
    path.write_text("the only copy\n")
    with pytest.raises(nnx.InputError, match=r"log' is there already; .*overwrite=True"):
        fit(a_trainer(), make(path))
    assert path.read_text() == "the only copy\n"
    fit(a_trainer(), make(path, overwrite=True), epochs=1)
    assert "only copy" not in path.read_text()
    path.write_text("")
    fit(a_trainer(), make(path), epochs=1)  # of which nothing is lost
    with pytest.raises(nnx.InputError, match="is a folder"):
        fit(a_trainer(), make(tmp_path, overwrite=True))


def test_a_second_fit_with_the_same_log_appends_and_new_columns_come_last(tmp_path):
    trainer, log = a_trainer(), CSVLog(tmp_path / "log.csv")
    fit(trainer, log, epochs=2, validation=None)
    first = log.path.read_text()
    fit(trainer, log, epochs=1)
    fit(trainer, log, epochs=1, validation=None)
    with log.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert first.splitlines()[0] == "epoch,step,seconds,learning_rate,loss"
    assert list(rows[0]) == [*first.splitlines()[0].split(","), "validation_loss", "validation_accuracy"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["loss"]) for row in rows] == trainer.history["loss"]
    assert [row["validation_loss"] for row in rows] == [
        "",
        "",
        repr(trainer.records[2]["validation_loss"]),
        "",
    ]


def test_every_line_is_there_when_its_epoch_is_over(tmp_path):
    seen = []
    log = JSONLines(tmp_path / "log")
    look = At(None)
    look.on_epoch = lambda trainer, progress: seen.append(log.path.read_text().count("\n"))
    fit(a_trainer(), [log, look], epochs=3)
    assert seen == [1, 2, 3]


# TensorBoard


@pytest.fixture
def events():
    """What TensorBoard itself reads in a folder."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # which tells of what it purges

    def read(folder):
        found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
        found.Reload()
        return found

    return read


def scalars(found, tag):
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in found.Scalars(tag)]


def test_tensorboard_reads_what_was_measured(events, tmp_path):
    trainer = a_trainer()
    history = fit(trainer, TensorBoard(tmp_path / "made", every_steps=2, histograms=True), epochs=3)
    found = events(tmp_path / "made")
    assert set(found.Tags()["scalars"]) == {*history, "learning_rate", "cost"}
    for name, values in history.items():
        assert scalars(found, name) == list(zip((5, 10, 15), values, strict=True))
    assert scalars(found, "learning_rate") == [(5, 0.2), (10, 0.2), (15, 0.2)]
    assert [step for step, _ in scalars(found, "cost")] == [2, 4, 6, 8, 10, 12, 14]
    assert set(found.Tags()["histograms"]) == {
        "parameters/W1",
        "parameters/b1",
        "parameters/W2",
        "parameters/b2",
    }
    last = found.Histograms("parameters/W1")[-1]
    W1 = trainer.parameters["W1"]
    assert last.step == 15
    assert last.histogram_value.num == W1.size
    assert last.histogram_value.max == pytest.approx(W1.max())


def test_tensorboard_shows_every_epoch_of_a_resumed_fit_once(events, tmp_path):
    def callbacks(end):
        return [TensorBoard(tmp_path / "board", every_steps=1), end, Checkpoints(tmp_path / "run", steps=4)]

    with pytest.raises(KeyboardInterrupt):
        fit(a_trainer(), callbacks(At(interrupt, step=11)), epochs=3, resume=tmp_path / "run")
    trainer = a_trainer()
    fit(trainer, callbacks(At(interrupt)), epochs=3, resume=tmp_path / "run")
    found = events(tmp_path / "board")
    assert scalars(found, "loss") == list(zip((5, 10, 15), trainer.history["loss"], strict=True))
    assert [step for step, _ in scalars(found, "cost")] == list(range(1, 16))


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [("tensorboardX", lambda: TensorBoard("board"), "tensorboard"), ("rich", ProgressBar, "cli")],
)
def test_without_the_extra_the_error_says_what_to_install(module, make, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(nnx.BackendError, match=rf"{module} cannot .* pip install .*\[{extra}\]\""):
        make()


# The progress bar


def test_without_a_terminal_there_are_lines(capsys):
    pytest.importorskip("rich")
    fit(a_trainer(), ProgressBar(), epochs=5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/5", "5/5"]
    assert all("held out: loss" in line and line.endswith("samples/s") for line in lines)


def test_an_interrupted_or_stopped_fit_shows_its_last_epoch_and_why(capsys):
    pytest.importorskip("rich")
    with pytest.raises(KeyboardInterrupt):
        fit(a_trainer(), [ProgressBar(), At(interrupt, step=18)])
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1/6", "3/6"]
    fit(a_trainer(), [At(lambda trainer: trainer.stop("[enough]"), epoch=2), ProgressBar()])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("epoch 2/6 ")
    assert lines[2] == "stopped: [enough]"


@pytest.mark.parametrize("steps", [None, 5])
def test_on_a_terminal_there_is_a_bar(steps):
    console = pytest.importorskip("rich.console")
    out = io.StringIO()
    bar = ProgressBar(console.Console(file=out, force_terminal=True, width=100))
    trainer = a_trainer()
    fit(trainer, [bar, At(interrupt)], epochs=3)
    assert "epoch 3/3" in out.getvalue()
    assert f"loss {trainer.records[-1]['loss']:.4g}" in out.getvalue()
    # an iterable of batches may not know its steps yet
    bar.on_fit_start(trainer, 1)
    bar.on_step(trainer, nnx.Progress(1, 1, 1, steps, 4, 0.1, None))
    bar.on_epoch(trainer, nnx.Progress(1, 1, 1, steps, 4, 0.1, {"loss": 1.0}))
    bar.on_fit_end(trainer)


# The moving average


def test_the_moving_average_is_the_weighted_mean_of_the_steps(backend):
    trainer, thetas, average = a_trainer(backend), Thetas(), MovingAverage(0.8)
    fit(trainer, [thetas, average], epochs=4)
    n = len(thetas.steps)
    weights = 0.8 ** np.arange(n - 1.0, -1, -1)
    expected = weights @ np.stack(thetas.steps) / weights.sum()
    np.testing.assert_allclose(average.theta, expected, rtol=1e-12)
    fit(trainer, [thetas, average], epochs=1)  # begins anew
    weights = 0.8 ** np.arange(4.0, -1, -1)
    np.testing.assert_allclose(average.theta, weights @ np.stack(thetas.steps) / weights.sum(), rtol=1e-12)


def test_the_average_is_put_in_place_and_out_again(backend):
    trainer, average = a_trainer(backend), MovingAverage(0.9)
    fit(trainer, average, epochs=2)
    before, theta, prediction = trainer.state, trainer.theta, trainer.predict(DATA[0])
    other = a_trainer(backend)
    other.theta = average.theta
    with average.applied(trainer) as the_same:
        assert the_same is trainer
        np.testing.assert_array_equal(trainer.theta, average.theta)
        np.testing.assert_array_equal(trainer.predict(DATA[0]), other.predict(DATA[0]))
    after = trainer.state
    assert [*after] == [*before]
    for name, x in before.items():
        np.testing.assert_array_equal(backend.to_numpy(after[name]), backend.to_numpy(x))
    np.testing.assert_array_equal(trainer.theta, theta)
    with pytest.raises(ZeroDivisionError), average.applied(trainer):
        1 / 0  # noqa: B018
    np.testing.assert_array_equal(trainer.predict(DATA[0]), prediction)
    with (
        pytest.raises(nnx.InputError, match="theta has shape"),
        average.applied(a_trainer(backend, network=nnx.mlp([2, 1]))),
    ):
        pass


def test_running_statistics_are_averaged_too():
    network = nnx.Network(2, [nnx.Dense(6), nnx.BatchNorm(), nnx.Dense(1)], "sigmoid")
    trainer, thetas, average = a_trainer(network=network), Thetas(), MovingAverage(0.5)
    fit(trainer, [thetas, average], epochs=1)
    weights = 0.5 ** np.arange(4.0, -1, -1)
    expected = weights @ np.stack(thetas.steps) / weights.sum()
    assert network.statistics
    for name in network.statistics:
        ours, theirs = (network.unflatten(theta)[name] for theta in (average.theta, expected))
        assert not np.array_equal(ours, trainer.parameters[name])
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_average_reads_nothing_on_the_host(monkeypatch):
    trainer, average = a_trainer(), MovingAverage(0.9)
    read = trainer.session.read

    def guarded(*names):
        return {name: Guarded(x) if name == "theta" else x for name, x in read(*names).items()}

    monkeypatch.setattr(trainer.session, "read", guarded)
    average.on_fit_start(trainer, 1)
    average.on_step(trainer, None)
    average.on_step(trainer, None)


def test_the_iterations_of_lbfgs_are_averaged(tmp_path):
    pytest.importorskip("scipy")
    average, thetas = MovingAverage(0.5), []
    trainer = nnx.Trainer(nnx.mlp([2, 1]), nnx.LBFGS(), "numpy", dtype="float64")

    class Keep(nnx.Callback):
        def on_epoch(self, trainer, progress):
            thetas.append(trainer.theta)

    fit(trainer, [average, Keep(), Checkpoints(tmp_path)], batch_size=None)
    shares = 0.5 ** np.arange(len(thetas))[::-1]
    np.testing.assert_allclose(average.theta, shares @ np.array(thetas) / shares.sum(), rtol=1e-10)


def test_an_epoch_that_leads_nowhere_is_taken_out_of_the_average():
    trainer, average = a_trainer(), MovingAverage(0.9)
    kept = []
    keep = At(lambda trainer: kept.append(average.theta), epoch=2)
    with pytest.raises(nnx.DivergenceError):
        fit(trainer, [average, keep, At(diverge, epoch=2)])
    assert trainer.steps == 10
    np.testing.assert_array_equal(average.theta, kept[0])
    assert np.isfinite(average.theta).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_a_callback_draws_is_not_drawn_again(rng, shuffle):
    trainer, drawn = nnx.Trainer(nnx.mlp((4, 3, 2)), backend="numpy", seed=0), []

    class Draws(nnx.Callback):
        def on_epoch(self, trainer, progress):
            drawn.append(trainer.rng.random())

    X, Y = rng.standard_normal((4, 30)), rng.integers(0, 2, 30)
    trainer.fit(X, Y, epochs=3, batch_size=10, shuffle=shuffle, callbacks=Draws())
    expected = nnx.Trainer(nnx.mlp((4, 3, 2)), backend="numpy", seed=0).rng
    for number in drawn:
        if shuffle:
            expected.permutation(30)
        assert number == expected.random()


# --- copies and pickles ----------------------------------------------------------------------------------------------


ELSEWHERE = "MLflow", "WandB", "OptunaPruning"
"""Their tests are in test_tracking.py."""


def every_callback(folder):
    made = {
        "EarlyStopping": lambda: EarlyStopping("loss", patience=3),
        "ReduceOnPlateau": lambda: ReduceOnPlateau("loss", patience=1, min_delta=10),
        "MovingAverage": lambda: MovingAverage(0.5),
        "Snapshots": lambda: Snapshots(most=3),
        "Checkpoints": lambda: Checkpoints(folder / "checkpoints"),
        "CSVLog": lambda: CSVLog(folder / "log.csv", overwrite=True),
        "JSONLines": lambda: JSONLines(folder / "log.jsonl", overwrite=True),
        "TensorBoard": lambda: TensorBoard(folder / "board"),
        "ProgressBar": lambda: ProgressBar(),
        "NotebookBar": lambda: nnx.callbacks.notebook_bar.NotebookBar(),
    }
    missing = {
        name
        for name in nnx.callbacks.__all__
        if name not in made and name not in ("Callback", "Callbacks", *ELSEWHERE)
    }
    assert not missing
    return made


NAMES = sorted(every_callback(Path()))


def told(callback):
    """What a callback knows, that a person may ask for."""
    state = callback.state()
    return {name: np.asarray(x).tolist() for name, x in state.items()}


class Shown:
    """A place in a notebook: like that of IPython it is of one process."""

    def __init__(self, html, text):
        self.lock = threading.RLock()

    def update(self, html, text):
        pass


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_is_copied_and_pickled_after_and_within_a_fit(backend, name, tmp_path, monkeypatch):
    if backend.name != "numpy" and name not in ("EarlyStopping", "MovingAverage", "ReduceOnPlateau"):
        pytest.skip("it keeps nothing of a backend")
    if name == "TensorBoard":
        pytest.importorskip("tensorboardX")
    if name == "ProgressBar":
        pytest.importorskip("rich")
    monkeypatch.setattr("nnx.callbacks.notebook_bar.Display", Shown)
    copies = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
    callback = every_callback(tmp_path)[name]()
    within = []

    class Within(Callback):
        def on_step(self, trainer, progress):
            if progress.epoch == 2 and not within:
                within.extend((told(callback), [one(callback) for one in copies]))

    X, Y = some_data()
    new = lambda: nnx.Trainer(nnx.mlp([2, 3, 1]), backend=backend)  # noqa: E731
    try:
        raise KeyError  # so that there is an exception when the fit begins
    except KeyError:
        new().fit(X, Y, epochs=3, callbacks=[callback, Within()])
    assert [told(one) for one in within[1]] == [within[0]] * 2
    after = told(callback)
    for one in copies:
        other = one(callback)
        assert told(other) == told(callback) == after
        for attribute in ("theta", "best", "best_epoch", "path", "folder", "epochs"):
            if hasattr(callback, attribute):
                np.testing.assert_array_equal(getattr(other, attribute), getattr(callback, attribute))
        trainer = new()
        trainer.fit(X, Y, epochs=2, callbacks=one(callback) if name != "Checkpoints" else ())
        assert np.isfinite(trainer.theta).all()


def test_a_copied_bar_keeps_its_console():
    console = pytest.importorskip("rich.console").Console(file=io.StringIO())
    X, Y = some_data()
    bar = copy.deepcopy(ProgressBar(console))
    nnx.Trainer(nnx.mlp([2, 1]), backend="numpy").fit(X, Y, callbacks=bar, epochs=1)
    assert "epoch 1/1" in console.file.getvalue()
    assert pickle.loads(pickle.dumps(bar)).often is False


@pytest.mark.parametrize("name", ["epoch", "step", "seconds", "learning_rate"])
def test_a_log_has_no_column_twice(tmp_path, name):
    """A callback that adds a number to those measured cannot replace one of the log's own."""

    class Adds(nnx.Callback):
        def on_epoch(self, trainer, progress):
            progress.measured[name] = 7.0

    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    for log in (nnx.CSVLog(tmp_path / "log.csv"), nnx.JSONLines(tmp_path / "log.jsonl")):
        with pytest.raises(nnx.InputError, match=f"a log has '{name}' itself"):
            trainer.fit([[0.0, 1.0]], [0, 1], callbacks=[Adds(), log])
