"""Sweeps whose runs train in stacks, and `nnx train --members`: each run is the one that trains alone."""

import json
import shutil
import signal

import pytest

import nnx

for needed in ("typer", "rich", "tomli_w", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

from nnx.cli import in_units, running  # noqa: E402
from nnx.cli.options import Options  # noqa: E402
from nnx.cli.stacks import Run, stacks  # noqa: E402

FILES = ("model.safetensors", "history.jsonl", "config.toml")
IRIS = ("train", "iris", "--layers", "8", "--backend", "numpy", "--epochs", 6)


def same_files(one, other):
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())["runs"]


def stopping_after(monkeypatch, epoch, step=None):
    """Let Ctrl-C come after an epoch of a sweep, or after a step in it."""

    def look(self, trainer, progress):
        if progress.epoch == epoch and progress.step == (step or progress.steps):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(in_units.Watch, "on_step" if step else "on_epoch", look)


def test_the_runs_of_a_stack_leave_the_files_of_runs_alone(run, tmp_path):
    options = ("--optimizer", "adamw", "--dropout", 0.2, "--early-stopping", 1)
    swept = ("--sweep", "learning-rate=0.003 1 1e30", "--sweep", "weight-decay=0 0.5")
    status, _, err = run(*IRIS, *options, *swept, "--out", "s")
    assert status == 0
    assert "Stacks    6 runs in 1 stack, trained at once" in err
    rows = rows_of(tmp_path / "s")
    assert [row["status"] for row in rows] == 4 * ["done"] + 2 * ["failed"]
    assert len({row["epochs"] for row in rows[:4]}) > 1  # some have stopped early
    assert "the cost became nan in step 2 of epoch 1" in rows[4]["error"]
    for name in "14":
        assert run("train", "--config", f"s/{name}/config.toml", "--out", f"alone{name}")[0] == 0
        same_files(tmp_path / f"alone{name}", tmp_path / "s" / name)
    assert not (tmp_path / "s" / "5" / "model.safetensors").exists()


def names(*options):
    return [
        [run.name for run in stack]
        for stack in stacks(Run(str(k), {}, Options(**its)) for k, its in enumerate(options))
    ]


def test_runs_that_differ_in_more_than_numbers_are_in_stacks_of_their_own():
    swept = [
        {},
        {"layers": "8"},
        {"learning_rate": 0.1, "l2": 1e-3, "clip_norm": 1.0, "label_smoothing": 0.1, "early_stopping": 3},
        {"optimizer": "lbfgs"},
        {"optimizer": "adam(beta2=0.99)"},
        {"dropout": 0.1},
        {"dropout": 0.5},
        {"norm": "batch"},
        {"seed": 1},
        {"schedule": "cosine"},
        {"schedule": "cosine", "learning_rate": 0.1},
        {"schedule": "cosine(warmup=3)"},
        {"optimizer": "lbfgs"},
        {"optimizer": "adam(beta7=1)"},
    ]
    found = [["0", "2", "4"], ["1"], ["3"], ["5", "6"], ["7"], ["8"], ["9", "10"], ["11"], ["12"], ["13"]]
    assert names(*swept) == found


@pytest.mark.long
def test_a_stack_opens_no_more_files_than_the_process_may(run, tmp_path):
    resource = pytest.importorskip("resource")
    pytest.importorskip("tensorboardX")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        swept = ("--sweep", "learning-rate=log(1e-3,1e-2)", "--draws", 60, "--tensorboard")
        status, _, err = run(*IRIS[:-1], 1, *swept, "--out", "s")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert status == 0
    assert "60 runs in 4 stacks" in err
    assert {row["status"] for row in rows_of(tmp_path / "s")} == {"done"}


@pytest.mark.parametrize("step", [None, 7])
@pytest.mark.long
def test_ctrl_c_in_a_stack_leaves_every_run_to_go_on_as_it_would_have(run, tmp_path, monkeypatch, step):
    swept = ("--sweep", "learning-rate=0.003 0.01", "--no-early-stopping", "--batch-size", 8)
    assert run(*IRIS, *swept, "--out", "whole")[0] == 0
    with monkeypatch.context() as patch:
        stopping_after(patch, 3, step)
        status, _, err = run(*IRIS, *swept, "--out", "s")
    assert status == 130
    assert "Stopped by Ctrl-C with 2 runs to go." in err
    assert [row["status"] for row in rows_of(tmp_path / "s")] == 2 * ["interrupted"]
    assert run("plot", "s", "--kind", "learning_curves", "--out", "c.png")[0] == 0  # of the epochs so far
    assert [path.name for path in (tmp_path / "s" / "1" / "checkpoints").iterdir()] == [
        f"step-{2 * 15 + (step or 15):08}.safetensors"
    ]
    shutil.copytree(tmp_path / "s" / "1", tmp_path / "alone")
    status, _, err = run("train", "--resume", "s")
    assert status == 0
    assert "2 runs in 1 stack" in err
    assert run("train", "--resume", "alone")[0] == 0
    for name in "12":
        same_files(tmp_path / "s" / name, tmp_path / "whole" / name)
    same_files(tmp_path / "alone", tmp_path / "whole" / "1")


@pytest.mark.long
def test_a_member_that_has_ended_before_ctrl_c_is_done(run, tmp_path, monkeypatch):
    swept = ("--sweep", "early-stopping=1 0", "--learning-rate", 1)
    stopping_after(monkeypatch, 15)
    assert run(*IRIS[:-1], 20, *swept, "--out", "s")[0] == 130
    assert [row["status"] for row in rows_of(tmp_path / "s")] == ["done", "interrupted"]


@pytest.mark.long
def test_an_error_in_a_stack_is_that_of_each_of_its_runs(run, tmp_path, monkeypatch):
    def fails(self, trainer, progress):
        raise RuntimeError("no more")

    monkeypatch.setattr(running.StackKeeper, "on_epoch", fails)
    status, _, err = run(*IRIS, "--sweep", "learning-rate=0.01 0.02", "--out", "s")
    assert status == 1
    assert "all 2 runs failed; 1: the callback StackKeeper raised RuntimeError in on_epoch: no more" in err
    trainer = nnx.Trainer.load(tmp_path / "s" / "1" / "model.safetensors", "numpy")
    assert len(trainer.records) == 1  # the epoch before is kept


@pytest.mark.long
def test_a_sweep_in_stacks_takes_the_place_of_another(run, tmp_path):
    assert run(*IRIS, "--sweep", "seed=0 1 2 3", "--out", "s")[0] == 0
    assert run(*IRIS, "--sweep", "l2=0 1e-3", "--out", "s", "--overwrite")[0] == 0
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir()) == ["1", "2"]
    assert run(*IRIS, "--sweep", "l2=0 1e-3", "--folds", 3, "--out", "f")[0] == 0
    assert [json.loads((tmp_path / "f" / name / "folds.json").read_text())["folds"] for name in "12"] == [
        3,
        3,
    ]


@pytest.mark.long
def test_ctrl_c_in_the_second_round_of_a_stack_that_memory_does_not_hold_at_once(run, tmp_path, monkeypatch):
    swept = ("--sweep", "learning-rate=0.01 0.02 0.03 0.04 0.05", "--no-early-stopping")
    assert run(*IRIS, *swept, "--out", "whole")[0] == 0
    epochs = []

    def look(self, trainer, progress):
        epochs.append(progress.epoch)
        if len(epochs) == 6 + 6:  # at the end of the second round
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("nnx.train.stack_fit.room", lambda K, need, free: min(K, 2))
        patch.setattr(in_units.Watch, "on_epoch", look)
        assert run(*IRIS, *swept, "--out", "s")[0] == 130
    assert [row["status"] for row in rows_of(tmp_path / "s")] == 3 * ["done"] + 2 * ["interrupted"]  # 1, 2, 2
    for name in "123":
        status, _, err = run("train", "--resume", f"s/{name}")
        assert (status, "its training is over" in err) == (0, True)
    for name in "45":  # of the third round: nothing learned, and nothing left
        status, _, err = run("train", "--resume", f"s/{name}")
        assert (status, f"there is no folder 's/{name}'" in err) == (1, True)
    assert run("train", "--resume", "s")[0] == 0
    for name in "12345":
        same_files(tmp_path / "s" / name, tmp_path / "whole" / name)
