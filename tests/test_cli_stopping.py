"""When `nnx train` stops early, which epoch it keeps, and what it says of that."""

import json
from pathlib import Path

import numpy as np
import pytest

import nnx

pytest.importorskip("typer")

QUICK = ("--no-plots", "--backend", "numpy", "--layers", "16")


def load(folder):
    return nnx.Trainer.load(Path(folder) / "model.safetensors", backend="numpy")


@pytest.fixture
def noise(tmp_path):
    """A table from which nothing can be learned: a second epoch is hardly better than the first."""
    rng = np.random.default_rng(0)
    rows = "".join(f"{a:.3f},{b:.3f},{'ab'[k % 2]}\n" for k, (a, b) in enumerate(rng.normal(size=(80, 2))))
    (tmp_path / "noise.csv").write_text(f"a,b,kind\n{rows}")
    return ("train", "noise.csv", "--target", "kind", *QUICK, "--learning-rate", "0.02")


def test_training_stops_early_and_keeps_the_best_epoch(run, noise):
    status, out, err = run(*noise, "--json", "--out", "a")
    assert status == 0
    found, trainer = json.loads(out), load("a")
    losses = trainer.history["validation_loss"]
    best = int(np.argmin(losses)) + 1
    assert found["kept_epoch"] == trainer.kept == best
    assert found["epochs"] == len(losses) == best + 10 < 100
    assert found["held_out"]["loss"] == pytest.approx(losses[best - 1], rel=1e-5)
    assert (
        f"Stopped   after epoch {best + 10} of at most 100, the best was epoch {best} (held-out cost J" in err
    )
    assert f"History: {best + 10} epochs, of which epoch {best} was kept" in run("show", "a")[1]
    assert json.loads(run("show", "a", "--json")[1])["kept_epoch"] == best


def test_a_run_may_train_all_its_epochs_and_keep_the_last(run, noise):
    for option in (["--no-early-stopping"], ["--early-stopping", 0]):
        status, out, err = run(*noise, "--epochs", 30, *option, "--json", "--out", option[0])
        assert status == 0
        assert "Stopped" not in err
        assert "Kept" not in err
        found = json.loads(out)
        assert (found["epochs"], found["kept_epoch"], found["stopped"]) == (30, None, None)
    same = ("--config", "--no-early-stopping/config.toml", "--out", "again", "--no-plots")
    assert run("train", *same)[0] == 0
    np.testing.assert_array_equal(load("again").theta, load("--early-stopping").theta)
    status, _, err = run(*noise, "--no-early-stopping", "--early-stopping", 3)
    assert status == 2
    assert "--early-stopping and --no-early-stopping exclude each other" in err


def test_the_best_of_all_epochs_is_said_where_training_did_not_stop(run, noise):
    status, _, err = run(*noise, "--epochs", 8, "--early-stopping", 30, "--out", "a")
    assert status == 0
    assert 1 <= load("a").kept < 8
    assert f"Kept      the best of 8 epochs was epoch {load('a').kept} (" in err


@pytest.mark.parametrize(
    ("metric", "name", "best"),
    [("accuracy", "accuracy", max), ("f1", "f1", max), ("validation_log_loss", "log_loss", min)],
)
def test_a_metric_stops_and_is_measured(run, noise, metric, name, best):
    status, out, err = run(*noise, "--stop-by", metric, "--early-stopping", 4, "--json", "--out", "a")
    assert status == 0
    values = load("a").history[f"validation_{name}"]
    kept = values.index(best(values)) + 1
    found = json.loads(out)
    assert (found["kept_epoch"], found["epochs"]) == (kept, kept + 4)
    assert found["held_out"][name] == pytest.approx(best(values), rel=1e-5)
    assert "accuracy" in found["held_out"]  # the score is measured as before
    assert f"the best was epoch {kept} (held-out {name.replace('_', ' ').replace('f1', 'F1')} " in err


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--stop-by", "acuracy"], 2, "unknown metric to stop by 'acuracy'; did you mean 'accuracy'?"),
        (["--stop-by", "los"], 2, "did you mean 'loss'?"),
        (["--stop-by", "f1(none)"], 2, "stop-by must be a single number, which f1(none) is not"),
        (["--stop-by", "confusion_matrix"], 2, "stop-by must be a single number"),
        (["--stop-by", "r2"], 1, "the metric 'r2' has no meaning"),
        (["--stop-by", "f1", "--held-out", 0], 1, "stop-by f1 is measured on a validation part"),
    ],
)
def test_what_cannot_stop_a_training_is_an_error(run, noise, options, status, message):
    found, _, err = run(*noise, *options, "--out", "a")
    assert (found, message in err) == (status, True), err
    assert not Path("a").exists()


def test_a_metric_that_is_never_a_number_stops_with_the_last_epoch(run, noise):
    one = (*noise, "--held-out", 0.0125)  # one sample, of which there is no ROC curve
    status, _, err = run(*one, "--stop-by", "roc_auc", "--out", "a")
    assert status == 0
    why = "validation_roc_auc has not become better for 10 epochs; it was no finite number in any epoch"
    assert f"Stopped   after epoch 10: {why}; the last parameters are kept" in err
    assert load("a").kept is None
    assert run(*one, "--out", "b")[0] == 0  # of the loss there is a number
    assert load("b").kept is not None


@pytest.mark.parametrize("schedule", ["cosine", "cosine(warmup=15)", "one_cycle", "polynomial"])
def test_a_schedule_over_all_epochs_runs_to_its_end(run, noise, schedule):
    arguments = (*noise, "--schedule", schedule, "--epochs", 30, "--json")
    found = json.loads(run(*arguments, "--out", "a")[1])
    assert found["epochs"] == 30
    assert found["kept_epoch"] is not None
    assert json.loads(run(*arguments, "--early-stopping", 2, "--out", "b")[1])["epochs"] < 30


@pytest.mark.parametrize("optimizer", ["gradient_descent", "lbfgs"])
def test_whole_batches_stop_early_too(run, noise, optimizer):
    status, out, _ = run(*noise[:-2], "--optimizer", optimizer, "--batch-size", 0, "--json", "--out", "a")
    assert status == 0
    found, losses = json.loads(out), load("a").history["validation_loss"]
    assert found["kept_epoch"] == int(np.argmin(losses)) + 1
    assert found["epochs"] == len(losses) == min(100, found["kept_epoch"] + 10)


def test_patience_goes_on_when_a_run_goes_on(run, noise):
    assert run(*noise, "--epochs", 4, "--out", "a")[0] == 0
    for epochs in (9, 40):
        assert run("train", "--resume", "a", "--epochs", epochs, "--no-plots")[0] == 0
    assert run(*noise, "--epochs", 40, "--out", "whole")[0] == 0
    np.testing.assert_array_equal(load("a").theta, load("whole").theta)
    assert load("a").kept == load("whole").kept


def test_a_run_of_an_earlier_version_goes_on_without_stopping_early(run, noise):
    assert run(*noise, "--no-early-stopping", "--epochs", 5, "--out", "a")[0] == 0
    lines = Path("a/config.toml").read_text().splitlines(keepends=True)
    old = "".join(line for line in lines if not line.startswith(("stop-by", "early-stopping")))
    Path("a/config.toml").write_text(old)
    assert run("train", "--resume", "a", "--epochs", 40, "--no-plots")[0] == 0
    assert (load("a").kept, len(load("a").records)) == (None, 40)
    Path("old.toml").write_text(old.replace("epochs = 5", "epochs = 40"))
    assert run("train", "--config", "old.toml", "--out", "again", "--no-plots")[0] == 0
    np.testing.assert_array_equal(load("again").theta, load("a").theta)


def test_a_sweep_over_what_stops(run, noise):
    values = ("--sweep", "stop-by=loss f1", "--sweep", "early-stopping=0 2", "--epochs", 25, "--json")
    status, out, _ = run(*noise, *values)
    assert status == 0
    rows = json.loads(out)["runs"]
    assert {row["epochs"] == 25 for row in rows if row["early-stopping"] == 0} == {True}
    assert {row["epochs"] < 25 for row in rows if row["early-stopping"] == 2} == {True}
    assert {row["stop-by"] for row in rows if "f1" in row} == {"f1"}
