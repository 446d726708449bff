"""A full disk, while `nnx train` runs and when it has trained: nothing that was learned is lost."""

import errno
import re
import sys
import tempfile

import pytest

import nnx

pytestmark = pytest.mark.usefixtures("drawn")

IRIS = ("train", "iris", "--layers", 4, "--no-plots", "--backend", "numpy", "--out", "r", "--epochs", 3)


@pytest.fixture
def full(tmp_path, monkeypatch):
    """Give the function that says of which paths the disk is full."""
    real, state = nnx.Trainer.save, {"of": lambda path: False}

    def save(trainer, path):
        if state["of"](path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(trainer, path)

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(nnx.Trainer, "save", save)
    return lambda of: state.update(of=of)


def test_a_checkpoint_that_finds_no_room_ends_no_training(run, tmp_path, full, monkeypatch):
    monkeypatch.setattr("nnx.cli.interrupt.EVERY", 1e-9)  # one after every epoch
    monkeypatch.setattr("nnx.cli.interrupt.SHARE", 1e9)
    full(lambda path: path.parent.name == "checkpoints")
    status, _, err = run(*IRIS)
    assert status == 0
    assert err.count("cannot be written") == 1
    said = (
        r"Warning: 'r.checkpoints.step-\d+\.safetensors' cannot be written: No space left on device\. The model takes "
        r"[\d.]+ kB, and [\d.]+ .?B are free in 'r.checkpoints'; there is no checkpoint before it\. "
        "The training goes on, and tries again later"
    )
    assert re.search(said, err), err
    assert len(nnx.Trainer.load(tmp_path / "r" / "model.safetensors", backend="numpy").records) == 3


def test_a_model_that_finds_no_room_is_written_elsewhere(run, tmp_path, full):
    full(lambda path: path.name == "model.safetensors" and path.parent.name == "r")
    status, _, err = run(*IRIS)
    assert status == 1
    said = r"Error: 'r.model\.safetensors' cannot be written: No space .* free in 'r'\. The model is in '(.*)' instead"
    path = re.search(said, err)[1]
    assert path.startswith(str(tmp_path / "temporary"))
    assert len(nnx.Trainer.load(path, backend="numpy").records) == 3
    full(lambda path: False)
    status, _, err = run("train", "--resume", "r", "--epochs", 4)  # its last checkpoint is there
    assert status == 0
    assert "Resumed   r after epoch 3, of 4" in err


def test_where_there_is_no_room_at_all_the_error_says_what_is_left(run, tmp_path, full):
    full(lambda path: path.name == "model.safetensors")
    status, _, err = run(*IRIS)
    assert status == 1
    assert re.search(
        r"The model is lost\. Make room, and go on from 'r.checkpoints.step-\d+\.s\S+': nnx train --res", err
    )
    assert not list((tmp_path / "temporary").iterdir())
    full(lambda path: True)
    status, _, err = run(*IRIS[:-3], "other", *IRIS[-2:])
    assert status == 1
    assert "The model is lost. Make room, and train again" in err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("gives_up", [False, True])
def test_at_a_terminal_one_can_make_room_and_write_again(run, tmp_path, full, monkeypatch, gives_up):
    from nnx.cli import show

    asked = []

    def enter(text):
        asked.append(text)
        if gives_up:
            raise KeyboardInterrupt
        if len(asked) == 2:
            full(lambda path: False)

    full(lambda path: path.parent.name == "r")
    monkeypatch.setattr("builtins.input", enter)
    monkeypatch.setattr(show.console, "_force_terminal", True)
    status, _, err = run(*IRIS, stdin=None)
    assert "Make room, then press Enter" in asked[0]
    assert "The model is kept in memory" in err
    assert (status, len(asked)) == ((1, 1) if gives_up else (0, 2))
    assert ("instead" in err) is gives_up
    assert (tmp_path / "r" / "model.safetensors").exists() is not gives_up


def test_tensorboard_reads_the_run_in_the_targets_unit(run, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    options = (
        "--layers",
        4,
        "--no-plots",
        "--backend",
        "numpy",
        "--epochs",
        3,
        "--metrics",
        "mean_absolute_error",
    )
    assert run("train", "diabetes", *options, "--tensorboard", "--out", "r")[0] == 0
    assert "tensorboard = true" in (tmp_path / "r" / "config.toml").read_text()
    found = accumulator.EventAccumulator(str(tmp_path / "r"))
    found.Reload()
    name = "validation_mean_absolute_error"
    trainer = nnx.Trainer.load(tmp_path / "r" / "model.safetensors", backend="numpy")
    scale = trainer.metadata["preparation"]["y_scale"]
    expected = [value * scale for value in trainer.history[name]]
    assert [event.value for event in found.Scalars(name)] == pytest.approx(expected, rel=1e-5)


def test_tensorboard_that_is_missing_is_said_before_anything_is_done(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    status, out, err = run(*IRIS, "--tensorboard")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"Error: tensorboardX cannot be imported .*; install it: .*tensorboard.*\n", err)
    assert not (tmp_path / "r").exists()


def test_what_cannot_go_on_is_refused_before_anything_is_said(run, tmp_path):
    assert run(*IRIS)[0] == 0
    for more in (("--epochs", 2), ("--layers", 8), ("--seed", 1)):
        status, out, err = run("train", "--resume", "r", *more)
        assert (status, out) == (1 if more[0] == "--epochs" else 2, "")
        assert err.startswith("Error: ")
        assert len(err.splitlines()) == 1
    (tmp_path / "r" / "history.jsonl").unlink()
    (tmp_path / "r" / "history.jsonl").mkdir()
    status, out, err = run("train", "--resume", "r", "--epochs", 9)
    assert (status, out) == (1, "")
    assert err.startswith("Error: 'r/history.jsonl' was not written by nnx")


def test_compiling_is_said_until_the_first_step_is_done(monkeypatch):
    rich = pytest.importorskip("rich.console", reason="rich is not installed")
    import io
    import time

    monkeypatch.setattr("nnx.callbacks.progress_bar.COMPILING", {"numpy": "compiling"})
    monkeypatch.setattr("nnx.callbacks.progress_bar.SLOW", 0.01)

    class Slow(nnx.callbacks.Callback):
        def on_fit_start(self, trainer, epochs):
            time.sleep(0.2)

    for terminal in (False, True):
        said = io.StringIO()
        bar = nnx.ProgressBar(rich.Console(file=said, force_terminal=terminal, width=120))
        trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
        trainer.fit([[0.0, 1.0]], [0, 1], epochs=2, callbacks=[bar, Slow()])
        text = said.getvalue()
        assert "compiling" in text.replace("epoch 1/2", "\0").partition("\0")[0]
        assert "compiling" not in text.rpartition("epoch 2/2")[2]
    monkeypatch.setattr("nnx.callbacks.progress_bar.SLOW", 60)
    said = io.StringIO()
    bar = nnx.ProgressBar(rich.Console(file=said))
    trainer.fit([[0.0, 1.0]], [0, 1], epochs=2, callbacks=bar)
    assert "compiling" not in said.getvalue()
