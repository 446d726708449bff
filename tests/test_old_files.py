"""Files that an older nnx wrote: today's loads them, predicts the same numbers, and goes on to the same end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from old_files import HERE, OPTIMIZERS, end_of, fit, samples, with_everything, with_optimizer

import nnx

FOLDERS = sorted((Path(__file__).parent / "files").iterdir())
CLOSE = {"rtol": 1e-6, "atol": 1e-8}
"""Of numbers of float64: another processor, or library, adds in another order."""


def assert_close(found, expected, name=""):
    """Compare numbers, of which some are not finite in a history."""
    np.testing.assert_allclose(found, expected, **CLOSE, err_msg=name)


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def files(request, tmp_path):
    """A copy of a day's files. The runs know where their data are now."""
    shutil.copytree(request.param, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("config.toml"):
        path.write_text(path.read_text().replace(str(HERE), str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_of_every_optimizer_goes_on(name, files):
    goes_on(name, files, "numpy")


def goes_on(name, files, backend):
    """Load, predict and train on."""
    X, y = samples()
    trainer = nnx.Trainer.load(files / "models" / f"{name}.safetensors", backend)
    assert type(trainer.optimizer) is type(with_optimizer(name).optimizer)
    expected = dict(np.load(files / "models" / f"{name}.npz"))
    assert_close(trainer.predict(X), expected.pop("A"))
    trainer.fit(X, y, epochs=2, batch_size=None if name == "lbfgs" else 20, progress=False)
    assert_ends(trainer, expected)


def assert_ends(trainer, expected, **more):
    """Compare parameters, the optimizer's memory and the history. A later nnx may record more."""
    found = {**more, **end_of(trainer)}
    assert found.keys() >= expected.keys()
    for part, x in expected.items():
        assert_close(found[part], x, part)


def test_a_model_goes_on_with_every_library(backend):
    goes_on("adam", FOLDERS[0], backend)


@pytest.mark.parametrize(
    "backend", ["numpy", pytest.param("torch", marks=pytest.mark.needs("torch")), "strict"], indirect=True
)
def test_a_fit_that_was_interrupted_within_an_epoch_ends_as_one_that_was_not(backend, files):
    """With noise, masks, norms, a schedule, penalties, and all callbacks that have a memory."""
    trainer = with_everything(backend)
    average = fit(trainer, files / "fit", resume=files / "fit" / "checkpoints")
    expected = dict(np.load(files / "fit.npz"))
    assert_close(trainer.predict(samples()[0]), expected.pop("A"))
    assert_ends(trainer, expected, average=average)
    assert_same(lines(files / "fit" / "log.jsonl"), lines(files / "fit.jsonl"), but=("seconds",))


@pytest.mark.parametrize(("name", "steps"), [("best", 15), ("step-00000014", 14), ("step-00000016", 16)])
def test_a_checkpoint_is_a_model_too(name, steps, files):
    trainer = nnx.Trainer.load(files / "fit" / "checkpoints" / f"{name}.safetensors", backend="numpy")
    assert trainer.steps == steps
    for part in ("network", "optimizer", "regularization"):
        assert repr(getattr(trainer, part)) == repr(getattr(with_everything(), part))


def lines(path):
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(path):
    """The rows of a CSV file; numbers as such."""
    with path.open(newline="") as lines:
        return [{name: as_number(x) for name, x in row.items()} for row in csv.DictReader(lines)]


def as_number(text):
    """A number of a CSV file, or its text."""
    try:
        return float(text)
    except ValueError:
        return text


def assert_same(found, expected, but=()):
    """Compare what was read from JSON or CSV. Numbers may differ by rounding, and a later nnx may say more."""
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys()
        for name in expected.keys() - set(but):
            assert_same(found[name], expected[name], but)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, but)
    elif isinstance(expected, float):
        assert_close(found, expected)
    else:
        assert found == expected


def test_commands_read_a_run(run, files):
    assert run("predict", "run", "pets.csv", "--out", "again.csv")[0] == 0
    assert_same(rows(files / "again.csv"), rows(files / "predictions.csv"))
    for command, file in (("evaluate", "evaluation.json"), ("show", "shown.json")):
        status, out, _ = run(command, "run", *(["pets.csv"] if command == "evaluate" else []), "--json")
        assert status == 0
        assert_same(
            json.loads(out), json.loads((files / file).read_text()), but=("model", "data", "nnx_version")
        )


@pytest.mark.parametrize("how", ["from its checkpoint", "from its configuration"])
def test_a_run_ends_as_it_did(run, files, how):
    """One that Ctrl-C had stopped goes on; and a run is made again."""
    again, whole = files / "stopped", files / "run"
    if how == "from its checkpoint":
        assert len(lines(again / "history.jsonl")) < len(lines(whole / "history.jsonl"))
        assert list((again / "checkpoints").iterdir())
        arguments = ["--resume", again]
    else:
        again = files / "anew"
        arguments = ["--config", whole / "config.toml", "--out", again, "--no-plots"]
    status, _, err = run("train", *arguments)
    assert status == 0
    assert "from its beginning" not in err
    found, expected = (nnx.Trainer.load(folder, backend="numpy") for folder in (again, whole))
    assert_ends(found, end_of(expected))
    assert_same(lines(again / "history.jsonl"), lines(whole / "history.jsonl"))


def test_a_sweep_goes_on_where_a_run_is_missing(run, files):
    assert not (files / "sweep" / "2").exists()
    assert run("train", "--resume", files / "sweep", "--quiet")[0] == 0
    assert (files / "sweep" / "2" / "model.safetensors").exists()
    assert_same(rows(files / "sweep" / "results.csv"), rows(files / "sweep.csv"), but=("seconds",))


def test_a_file_of_figures_is_shown_and_compared(run, files):
    status, out, _ = run("bench", "show", "bench.json", "--out", "pictures")
    assert status == 0
    assert "Training: 3-4-2, adam, float32, in order" in out
    assert "nnx numpy" in out
    assert (files / "pictures.html").stat().st_size > 10_000
    status, out, _ = run("bench", "compare", "bench.json", "bench.json")
    assert status == 0
    assert "4 same" in out
