"""`nnx train --members`, and the commands on a model file with members."""

import csv
import json
import shutil
import signal
import tomllib

import numpy as np
import pytest

import nnx

for needed in ("typer", "rich", "tomli_w", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

from nnx.cli import in_units, members, plot, show  # noqa: E402
from nnx.data import Preparation  # noqa: E402
from nnx.data.builtin import load  # noqa: E402
from nnx.data.encoding import Notes  # noqa: E402
from nnx.train.stack_memory import Need  # noqa: E402

IRIS = ("train", "iris", "--layers", "8", "--backend", "numpy", "--epochs", 6, "--no-plots")
RATES = "0.003,0.1,1e30"


def model(folder):
    return nnx.Trainer.load(folder / "model.safetensors", "numpy")


def test_members_train_at_once_and_their_mean_predicts(run, tmp_path):
    numbers = ("--learning-rate", RATES, "--dropout", "0.1,0.2,0.3", "--seed", 4)
    status, out, err = run(*IRIS, "--members", 3, *numbers, "--early-stopping", 2, "--out", "m", "--json")
    assert status == 0
    own = "seeds 4 to 6, each with its learning-rate, dropout; their mean predicts"
    assert f"Members 3 networks, trained at once, {own}" in " ".join(err.split())
    assert "mean of 2 of 3 members: accuracy" in err
    said = "Warning: 1 member diverged: 2, without which the mean is taken. The first: the cost became nan"
    assert said in err
    assert "Try a learning rate below 1e+30, --clip-norm 1, or scale the features" in err
    found, trainer = json.loads(out), model(tmp_path / "m")
    rows = found["members"]
    assert [(row["seed"], row["learning-rate"], row["dropout"]) for row in rows] == [
        (4, 0.003, 0.1), (5, 0.1, 0.2), (6, 1e30, 0.3)
    ]  # fmt: skip
    assert [row["weight"] for row in rows] == [0.5, 0.5, 0]
    assert found["steps"] == max(trainer.steps)
    assert [row["epochs"] for row in rows] == [*map(len, trainer.records)]
    lines = [json.loads(line) for line in (tmp_path / "m" / "history.jsonl").read_text().splitlines()]
    assert len(lines) == found["epochs"] == max(row["epochs"] for row in rows)
    assert lines[0]["loss"] == pytest.approx(np.mean([own["loss"] for own in lines[0]["members"][:2]]))
    assert lines[0]["members"][2] is None
    single = ("--learning-rate", 0.1, "--dropout", 0.2, "--early-stopping", 2, "--seed", 4)
    written = tomllib.loads((tmp_path / "m" / "config.toml").read_text())
    own = ("members", "learning-rate", "plots")
    assert [written[name] for name in own] == [3, [0.003, 0.1, 1e30], False]
    assert run("train", "--resume", "m")[0] == 0
    assert not [*(tmp_path / "m").glob("*.png")]  # --no-plots is the run's
    assert run("train", "--config", "m/config.toml", "--out", "again")[0] == 0
    for name in ("model.safetensors", "history.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "m" / name).read_bytes()
    assert run(*IRIS, *single, "--out", "one")[0] == 0  # member 1 has seed 5, but the split of seed 4
    assert [*model(tmp_path / "one").history] == [*trainer.history]


@pytest.mark.long
def test_the_commands_on_a_model_with_members(run, tmp_path):
    status, _, err = run(
        "train", "diabetes", *IRIS[2:], "--members", 3, "--selection", "greedy", "--out", "m"
    )
    assert (status, "; the mean of those that the validation part chooses predicts" in err) == (0, True)
    trainer = model(tmp_path / "m")
    preparation = Preparation.of(trainer.metadata)
    data = load("diabetes")
    X = preparation.X(data.values(preparation.features, False), "float32", Notes())
    status, out, _ = run("predict", "m", "diabetes", "--spread")
    assert status == 0
    rows = [*csv.DictReader(out.splitlines())]
    assert [*rows[0]] == ["target", "spread"]
    mean, spread = trainer.ensemble.predict(X)[0], trainer.ensemble.spread(X)[0]
    scale = preparation.y_scale
    np.testing.assert_allclose([float(row["spread"]) for row in rows], spread * scale, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        [float(row["target"]) for row in rows], mean * scale + preparation.y_mean, rtol=1e-4
    )
    status, out, _ = run("evaluate", "m", "diabetes", "--json")
    found, Y = json.loads(out), (data.y - preparation.y_mean) / scale
    assert (status, found["members"]) == (0, 3)
    assert found["r2"] == pytest.approx(trainer.ensemble.evaluate(X, Y)["r2"], rel=1e-4)
    status, out, _ = run("show", "m")
    assert status == 0
    used = sum(weight > 0 for weight in trainer.ensemble.weights)
    assert used < 3
    assert f"seeds 0 to 2; the mean of {used} of 3 members predicts" in " ".join(out.split())
    assert "Members, by the validation part" in out
    shown = json.loads(run("show", "m", "--json")[1])
    assert [row["weight"] for row in shown["members"]] == trainer.ensemble.weights
    first = [own[0]["validation_loss"] for own in trainer.records]
    assert shown["history"]["validation_loss"][0] == pytest.approx(np.median(first))
    status, _, err = run("plot", "m")
    assert (status, "learning_curve.png, predicted_against_true.png" in err) == (0, True)
    assert run("plot", "m", "m", "--out", "pictures")[0] == 0
    assert plot.with_members("m", plot.history(tmp_path / "m"))[0] == "m (median of 3 members)"
    assert run(*IRIS, "--out", "one")[0] == 0
    status, _, err = run("predict", "one", "iris", "--spread")
    assert status == 1
    assert "'one' is one network; --spread is that of members: train with --members 16" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", 2.5], "'2.5' is not a valid integer"),
        (["--draws", 2.5], "'2.5' is not a valid integer"),
        (["--members", 2.5], "'2.5' is not a valid integer"),
        (["--members", 0], "members must be a positive integer, not 0"),
        (["--members", 2, "--lr", "1,2,3"], "learning-rate has 3 numbers; expected 2, one for each member"),
        (
            ["--l2", "0.1,0.2"],
            'l2 has 2 numbers, one for each member; say --members 2, or compare runs: --sweep "l2=',
        ),
        (["--lr", "1,b"], "'b' of '1,b' is not a valid float"),
        (["--seed", "1,2"], "'1,2' is not a valid integer: one number for all"),
        (
            ["--members", 2, "--lr", "1,-2"],
            "learning-rate of member 1 must be greater than 0 and finite, not -2",
        ),
        (["--clip-norm", 0], "clip-norm must be greater than 0 and finite, not 0.0"),
        (["--members", 2, "--selection", "gredy"], "unknown selection 'gredy'; did you mean 'greedy'"),
        (["--selection", "greedy"], "selection greedy needs members: give --members 16"),
        (["--members", 2, "--selection", "greedy", "--held-out", 0], "greedy needs a validation part"),
        (["--members", 2, "--optimizer", "lbfgs"], "lbfgs trains one network; leave out --members"),
        (["--members", 2, "--sweep", "l2=1 2"], "a sweep trains one network a run, and its runs at once"),
        (["--sweep", "members=2 3"], "members cannot be swept"),
        (
            ["--sweep", "seed=0 1", "--selection", "greedy"],
            "--selection is of members, which a sweep has not",
        ),
        (["--sweep", "seed=0 1", "--lr", "1,2"], "2 numbers, one for each member; compare runs: --sweep"),
    ],
)
def test_options_of_members_that_do_not_go_together(run, tmp_path, options, message):
    status, _, err = run("train", "iris", *options)
    assert (status, any(tmp_path.iterdir())) == (2, False)
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('learning-rate = [0.1, "x"]', "learning-rate must be a number; given 'x'"),
        ("learning-rate = [[0.1], 0.2]", "learning-rate must be a number; given [[0.1], 0.2]"),
        ("epochs = [1, 2]", "epochs must be a whole number; given [1, 2]"),
        (
            "[sweep]\nl2 = [[1, 2], [3, 4]]",
            "values must be single ones: a sweep has no members; given [1, 2]",
        ),
    ],
)
def test_lists_of_numbers_in_a_configuration(run, tmp_path, text, message):
    (tmp_path / "c.toml").write_text(f'data = "iris"\n{text}\n')
    status, _, err = run("train", "--config", "c.toml")
    assert status == 2
    assert message in err


@pytest.mark.long
@pytest.mark.parametrize("step", [None, 7])
def test_ctrl_c_leaves_members_to_go_on_as_they_would_have(run, tmp_path, monkeypatch, step):
    options = ("--members", 3, "--lr", "0.003,0.1,1e30", "--batch-size", 8, "--selection", "greedy")
    assert run(*IRIS, *options, "--out", "whole")[0] == 0

    class Bar(in_units.Bar):
        often = True

        def on_step(self, trainer, progress):
            if (progress.epoch, progress.step) == (3, step):
                signal.raise_signal(signal.SIGINT)

        def on_epoch(self, trainer, progress):
            if progress.epoch == 3 and step is None:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("nnx.cli.train.Bar", Bar)
        status, _, err = run(*IRIS, *options, "--out", "m")
    assert status == 130
    assert ("Go on     nnx train --resume m" in err, "this begins anew" in err) == (True, False)
    shutil.copytree(tmp_path / "m", tmp_path / "other")
    status, _, err = run("train", "--resume", "m")
    assert status == 0
    assert f"Resumed   m after epoch {2 if step else 3}" in err
    for name in ("model.safetensors", "history.jsonl", "config.toml"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    status, _, err = run("train", "--resume", "other", "--members", 4)
    assert status == 2
    assert "--members cannot be given with --resume: a run goes on as it began, and its members is 3" in err


@pytest.mark.long
def test_members_in_folds_on_a_plane_and_without_a_validation(run, tmp_path):
    short = ("--epochs", 3, "--backend", "numpy", "--members", 18, "--layers", "4")
    status, _, err = run("train", "spirals", *short, "--test", 0.2, "--folds", 2, "--out", "s")
    assert status == 0
    assert "The best 16 of 18 members, by the test part" in err
    assert "mean of 18 members: accuracy" in err
    assert (tmp_path / "s" / "decision_boundary.png").is_file()
    status, _, err = run("train", "iris", *short, "--held-out", 0, "--out", "i")
    assert status == 0
    assert "none; on the samples that it was trained on: mean of 18 members" in err
    status, _, err = run("train", "iris", *short, "--lr", 1e30, "--out", "d")
    assert status == 1
    assert "the cost became nan" in err


def test_members_that_memory_does_not_hold_at_once_train_in_rounds(run, tmp_path, monkeypatch):
    options = ("--members", 3, "--lr", "0.003,0.1,1e30", "--early-stopping", 2)
    assert run(*IRIS, *options, "--out", "whole")[0] == 0
    monkeypatch.setattr("nnx.train.stack_fit.room", lambda K, need, free: min(K, 2))
    status, _, err = run(*IRIS, *options, "--out", "m")
    assert (status, err.count("they train in rounds, without checkpoints")) == (0, 1)
    for name in ("model.safetensors", "history.jsonl", "config.toml"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not [*(tmp_path / "m" / "checkpoints").iterdir()]
    with monkeypatch.context() as patch:
        patch.setattr(in_units.Bar, "on_epoch", lambda *_: signal.raise_signal(signal.SIGINT))
        status, _, err = run(*IRIS, *options, "--out", "stopped")
    assert (status, "--resume stopped" in err, "this begins anew" in err) == (130, True, True)
    shutil.rmtree(tmp_path / "stopped")
    (tmp_path / "m" / "model.safetensors").unlink()
    status, _, err = run("train", "--resume", "m")
    assert (status, "Resumed   m from its beginning" in err) == (0, True)
    first, second = (path.read_bytes() for path in tmp_path.glob("*/model.safetensors"))
    assert first == second
    monkeypatch.setattr("nnx.train.stack_fit.needed", lambda *_: Need(2**60, 0))
    status, _, err = run("train", "--resume", "whole", "--epochs", 8)
    assert (status, "A fit that goes on has all members at once: free memory, or train anew" in err) == (
        1,
        True,
    )
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == first


@pytest.mark.long
def test_a_model_whose_members_have_all_diverged_is_shown_and_does_not_predict(run, tmp_path):
    rates = ("--optimizer", "gradient_descent", "--lr", "0.6,0.6", "--schedule", "cosine(warmup=3)")
    options = ("--layers", 8, "--backend", "numpy", "--epochs", 60, "--early-stopping", 0, "--members", 2)
    status, _, err = run("train", "diabetes", "--activation", "relu", *options, *rates, "--out", "m")
    assert (status, "2 members have diverged" in err, "could not" in err) == (1, True, False)
    status, out, _ = run("show", "m")
    assert (status, "seeds 0 to 1; none predicts: they have diverged" in out, out.count("3, diverged")) == (
        0, True, 2
    )  # fmt: skip
    rows = json.loads(run("show", "m", "--json")[1])["members"]
    assert [(row["weight"], row["error"] is None) for row in rows] == [(0, False)] * 2
    for command in (("evaluate", "m"), ("predict", "m"), ("predict", "--spread", "m")):
        status, _, err = run(*command, "diabetes")
        assert (status, err.count("has no member that predicts: they have diverged; train again")) == (1, 1)


def test_the_table_of_members_with_many_numbers_is_not_cut(monkeypatch):
    monkeypatch.setattr(show.output, "_width", 80)
    own = {f"number-{i}": 0.001 * i for i in range(8)}
    row = {"seed": 4, **own, "epochs": 5, "kept_epoch": None, "error": None, "scores": {"loss": 0.5}}
    with show.output.capture() as captured:
        show.output.print(members.table([{"member": k, "weight": 0.5, **row} for k in range(2)], "loss"))
    lines = captured.get().splitlines()
    assert "\u2026" not in captured.get()
    assert max(map(len, lines)) <= 80
    assert all(captured.get().count(f"number-{i}={0.001 * i:.3g}") == 2 for i in range(1, 8))
