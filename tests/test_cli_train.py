"""`nnx train` and `nnx show`, as a user runs them: configurations, going on, sweeps, and what goes wrong."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nnx

for needed in ("typer", "rich", "tomli_w", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

from nnx.cli import interrupt, show  # noqa: E402

pytestmark = pytest.mark.long


def load(folder):
    return nnx.Trainer.load(Path(folder) / "model.safetensors", backend="numpy")


def same(one, other):
    """Whether two runs ended in the same parameters and history, to the last bit."""
    np.testing.assert_array_equal(load(one).theta, load(other).theta)
    assert (Path(one) / "history.jsonl").read_bytes() == (Path(other) / "history.jsonl").read_bytes()


EVERYTHING = {
    "--layers": "16,8", "--activation": "tanh", "--norm": "batch", "--dropout": "0.1", "--init": "glorot",
    "--loss": "focal(1)", "--optimizer": "adamw(beta2=0.99)", "--learning-rate": "0.01", "--weight-decay": "0.1",
    "--schedule": "cosine(warmup=1)", "--epochs": "6", "--early-stopping": "4", "--batch-size": "10",
    "--class-weight": "balanced", "--seed": "3", "--l1": "1e-5", "--l2": "1e-4", "--max-norm": "4",
    "--clip-norm": "1", "--label-smoothing": "0.1", "--metrics": "f1", "--held-out": "0.25", "--dtype": "float64",
    "--embed": "periodic(sigma=1, frequencies=3, width=2)",
}  # fmt: skip


def typed(options):
    return [part for option in options.items() for part in option]


def test_each_option_does_what_it_says(run):
    assert run("train", "iris", *typed(EVERYTHING), "--out", "a")[0] == 0
    trainer = load("a")
    assert [repr(layer) for layer in trainer.network.layers] == [
        repr(layer)
        for layer in [
            nnx.Periodic(3, 2, sigma=1.0, columns=[0, 1, 2, 3]),
            nnx.Dense(16, "identity", "glorot"), nnx.BatchNorm(), nnx.Activate("tanh"), nnx.Dropout(0.1),
            nnx.Dense(8, "identity", "glorot"), nnx.BatchNorm(), nnx.Activate("tanh"), nnx.Dropout(0.1),
            nnx.Dense(3, "identity", "glorot"),
        ]
    ]  # fmt: skip
    assert str(trainer.network.output) == "'softmax' with the loss 'focal(1.0)'"
    m = 150 - round(150 * 0.25)
    steps = -(-m // 10)  # of an epoch
    assert trainer.optimizer == nnx.AdamW(
        nnx.schedules.Cosine(0.01, steps=6 * steps, warmup=steps), beta2=0.99, weight_decay=0.1
    )
    assert trainer.regularization == nnx.Regularization(
        l1=1e-5, l2=1e-4, max_norm=4, clip_norm=1, label_smoothing=0.1
    )
    assert (trainer.seed, trainer.dtype) == (3, "float64")
    assert set(trainer.history) == {
        "loss",
        "f1",
        "validation_loss",
        "validation_f1",
    }  # of training samples, too


def test_the_configuration_of_a_run_makes_it_again_bit_by_bit(run, tmp_path):
    assert run("train", "iris", *typed(EVERYTHING), "--out", "a")[0] == 0
    text = (tmp_path / "a" / "config.toml").read_text()
    assert text.startswith(f"# nnx {nnx.__version__}.")
    written = tomllib.loads(text)
    for name, value in EVERYTHING.items():
        found = written[name.removeprefix("--")]
        assert (",".join(found) if isinstance(found, list) else str(found)) in (value, str(float_or(value)))
    assert written["backend"] == "numpy"  # what "auto" took
    assert run("train", "--config", "a/config.toml", "--out", "b")[0] == 0
    same("a", "b")
    assert (tmp_path / "b" / "config.toml").read_text() == text
    assert run("train", "--config", "a/config.toml", "--out", "c", "--seed", 4)[0] == 0
    assert not np.array_equal(load("c").theta, load("a").theta)


def float_or(text):
    try:
        return float(text)
    except ValueError:
        return text


def test_a_run_on_a_file_is_made_again_from_any_folder(run, tmp_path, monkeypatch):
    (tmp_path / "line.csv").write_text("x,y\n" + "".join(f"{k},{2 * k}.5\n" for k in range(40)))
    assert run("train", "line.csv", "--target", "y", "--epochs", 2, "--out", "a")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("train", "--config", "../a/config.toml", "--out", "b")[0] == 0
    same("../a", "b")


def test_typed_options_win_over_the_file_and_the_file_over_the_defaults(run, tmp_path):
    (tmp_path / "c.toml").write_text(
        'data = "iris"\nbatch_size = 50\nearly-stopping = 7\nlearning-rate = 1\nepochs = 3\nlayers = "4"\n'
    )
    arguments = ("--config", "c.toml", "--epochs", 2, "--layers", "128,64", "--out", "a")
    assert run("train", *arguments)[0] == 0
    trainer = load("a")
    assert trainer.network.n == (4, 128, 64, 3)  # typed, though it is the default
    assert trainer.steps == 2 * 3  # 120 samples in steps of 50
    assert trainer.optimizer == nnx.Adam(1.0)
    assert tomllib.loads((tmp_path / "a" / "config.toml").read_text())["early-stopping"] == 7
    assert run("train", "wine", *arguments[:-2], "--out", "b")[0] == 0
    assert load("b").network.n[0] == 13


def test_another_backend_has_its_own_device(run, tmp_path):
    (tmp_path / "c.toml").write_text(
        'data = "iris"\nepochs = 1\nbackend = "cupy"\ndevice = "cuda:1"\nout = "a"\n'
    )
    assert run("train", "--config", "c.toml")[0] == 1
    assert run("train", "--config", "c.toml", "--backend", "numpy")[0] == 0
    assert "device" not in tomllib.loads((tmp_path / "a" / "config.toml").read_text())


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ('bach-size = 3\ndata = "iris"', 2, "c.toml: unknown option 'bach-size'; did you mean 'batch-size'?"),
        ('resume = "x"', 2, "unknown option 'resume'"),
        ('epochs = "ten"', 2, "c.toml: epochs must be a whole number; given 'ten'"),
        ("epochs = 1.5", 2, "epochs must be a whole number; given 1.5"),
        ("epochs = true", 2, "epochs must be a whole number; given True"),
        ("layers = [64, 32]", 2, 'layers must be text in quotes, such as "64,32"; given [64, 32]'),
        ('learning-rate = "high"', 2, "learning-rate must be a number; given 'high'"),
        ('overwrite = "no"', 2, "overwrite must be true or false; given 'no'"),
        ('drop = "name"', 2, "drop must be a list of texts, such as [\"name\"]; given 'name'"),
        ("batch-size = 1\nbatch_size = 2", 2, "batch-size is there twice, as batch-size and batch_size"),
        ("sweep = 3", 2, "sweep must be a table, [sweep]"),
        ("epochs = 3", 2, "which data? Give DATA, as in `nnx train digits`, or data = ... in c.toml"),
        ('data = "iris"\nepochs = 0', 2, "epochs must be a positive integer, not 0"),
        ("epochs = ", 1, "'c.toml' is no TOML: Invalid value (at"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(run, tmp_path, text, status, message):
    (tmp_path / "c.toml").write_text(text)
    found, out, err = run("train", "--config", "c.toml")
    assert (found, out) == (status, "")
    assert err.startswith("Error: ")
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml"]


def test_a_configuration_that_is_not_there(run):
    status, _, err = run("train", "--config", "no.toml")
    assert status == 1
    assert "the configuration 'no.toml' cannot be read: No such file" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--norm", "bach"], "unknown norm 'bach'; did you mean 'batch'"),
        (["--dropout", "1"], "dropout must be at least 0 and less than 1, not 1.0"),
        (["--init", "hee"], "unknown initializer 'hee'; did you mean 'he'"),
        (["--loss", "hubr"], "unknown loss 'hubr'; did you mean 'huber'"),
        (["--loss", "quantile(2)"], "a quantile must be a number between 0 and 1, such as 0.9, not 2"),
        (["--loss", "quantile(0.1,0.9)"], "'quantile(0.1,0.9)' has 2 outputs for each target"),
        (["--optimizer", "adam(beta3=1)"], "it takes learning_rate, beta1, beta2, epsilon"),
        (
            ["--optimizer", "adam(0.9)"],
            "the arguments must be named, as in adam(argument=value); given '0.9'",
        ),
        (["--optimizer", "momentum(momentum=2)"], "momentum must be at least 0 and less than 1, not 2"),
        (["--schedule", "cosin"], "unknown schedule 'cosin'; did you mean 'cosine'"),
        (["--schedule", "step_decay"], "schedule 'step_decay': missing a required argument: 'every'"),
        (["--schedule", "cosine", "--optimizer", "lbfgs"], "lbfgs has no learning rate"),
        (["--weight-decay", "0.1"], "with adam take --l2, or --optimizer adamw"),
        (["--l2", "-1"], "l2 must be at least 0 and finite, not -1.0"),
        (["--early-stopping", "-1"], "early-stopping must be the epochs to wait for a better one"),
        (["--metrics", "f1,acuracy"], "unknown metric 'acuracy'; did you mean 'accuracy'"),
        (["--metrics", "f1", "--held-out", "0"], "metrics are of the samples held out"),
        (["--class-weight", "balance"], "unknown class-weight 'balance'; did you mean 'balanced'"),
        (["--task", "regresion"], "unknown task 'regresion'; did you mean 'regression'"),
        (["--draws", "3"], "--draws are of a sweep"),
        (["--epohs", "3"], "--epochs"),
        (["--epochs", "many"], "--epochs"),
    ],
)
def test_a_mistyped_option_is_a_usage_error(run, tmp_path, options, message):
    status, out, err = run("train", "no-such-file.csv", *options)
    assert (status, out) == (2, "")  # before the data are looked at
    assert message in err
    assert "Traceback" not in err
    assert not any(tmp_path.iterdir())


def test_training_takes_no_pipe(run):
    status, _, err = run("train", "-")
    assert status == 2
    assert "'-' is a pipe; write what comes through it to a file" in err


def test_a_loss_that_does_not_suit_the_target_is_no_usage_error(run):
    status, _, err = run("train", "iris", "--loss", "huber(1)")
    assert status == 1
    assert "the loss 'huber(1)' goes with the output 'identity', not with 'softmax'" in err


def test_quiet_says_nothing(run, tmp_path):
    assert run("train", "iris", "--epochs", 1, "--quiet") == (0, "", "")
    assert (tmp_path / "runs" / "iris-1" / "model.safetensors").is_file()
    status, out, err = run("train", "iris", "-q", "--layers", "x")
    assert (status, out) == (2, "")
    assert err.startswith("Error: layers must be positive integers")


def test_json_is_one_object_on_the_standard_output(run, tmp_path):
    status, out, err = run("train", "iris", "--epochs", 3, "--json", "--metrics", "accuracy, f1(none)")
    assert status == 0
    assert "30 held out" in err
    found = json.loads(out)
    assert (found["folder"], found["epochs"], found["steps"]) == (str(Path("runs") / "iris-1"), 3, 12)
    trainer = load(found["folder"])
    assert found["held_out"]["loss"] == trainer.history["validation_loss"][-1]
    assert found["held_out"]["samples"] == 30
    assert len(found["held_out"]["f1(none)"]) == 3
    assert found["parameters"] == trainer.network.P
    assert (found["backend"], found["device"], found["stopped"]) == ("numpy", "cpu", None)
    assert found["files"][0] == "model.safetensors"
    status, out, err = run("train", "diabetes", "--epochs", 3, "--json", "--quiet")
    assert (status, err) == (0, "")
    held_out = json.loads(out)["held_out"]
    assert set(held_out) == {"samples", "loss", "r2", "root_mean_squared_error"}
    y = nnx.cli.inputs.source("diabetes", None, 0).y
    assert 0.3 * y.std() < held_out["root_mean_squared_error"] < 1.5 * y.std()  # in the target's unit


def test_errors_have_the_targets_unit_wherever_they_are_shown(run, tmp_path, rng):
    x = rng.standard_normal(200)
    rows = [f"{a},{300 * a + 5 * b}" for a, b in zip(x, rng.standard_normal(200), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["x,price", *rows]))
    metrics = "mean_absolute_error,mean_squared_error"
    options = (
        "--epochs",
        4,
        "--no-early-stopping",
        "--metrics",
        metrics,
        "--dtype",
        "float64",
        "--out",
        "here",
    )
    status, out, err = run("train", "t.csv", "--target", "price", "--json", *options)
    assert status == 0
    found = json.loads(out)
    of_model = load("here").history["validation_mean_absolute_error"]  # of the scaled target
    scale = nnx.data.Preparation.of(load("here").metadata).y_scale
    assert scale > 200
    mean = [value * scale for value in of_model]
    assert found["held_out"]["mean_absolute_error"] == pytest.approx(mean[-1])
    assert found["training"]["validation_mean_absolute_error"] == pytest.approx(mean[-1])
    assert found["training"]["validation_loss"] == load("here").history["validation_loss"][-1]
    assert f"mean_absolute_error {mean[-1]:.4g}" in err  # the line of progress
    assert "of the scaled target; errors are in the unit of 'price'" in err
    lines = [json.loads(line) for line in (tmp_path / "here" / "history.jsonl").read_text().splitlines()]
    assert [line["validation_mean_absolute_error"] for line in lines] == pytest.approx(mean)
    squared = load("here").history["validation_mean_squared_error"]
    assert lines[-1]["validation_mean_squared_error"] == pytest.approx(squared[-1] * scale**2)
    shown = json.loads(run("show", "here", "--json")[1])
    assert shown["history"]["validation_mean_absolute_error"] == pytest.approx(mean)
    assert shown["best"]["validation_mean_absolute_error"]["value"] == pytest.approx(min(mean))
    _, out, _ = run("show", "here")
    assert f"{min(mean):.4g}" in next(x for x in out.splitlines() if "held-out mean absolute error" in x)
    assert "The cost J is of the scaled target" in out


def test_a_confusion_matrix_is_a_table(run):
    status, out, err = run(
        "train", "iris", "--epochs", 2, "--metrics", "confusion_matrix", "--layers", "none"
    )
    assert status == 0
    said = out + err
    assert "true \\ predicted" in said
    assert "[[" not in said


@pytest.mark.usefixtures("drawn")
def test_quiet_leaves_out_notes_and_warnings(run, tmp_path, monkeypatch):
    (tmp_path / "d.parquet").write_text("x,y\n" + "".join(f"{k},{k % 2}\n" for k in range(40)))
    monkeypatch.setattr("nnx.plots.run.roc", None)  # which then cannot be drawn
    options = ("d.parquet", "--target", "y", "--epochs", 1)
    _, _, err = run("train", *options)
    assert "Note: 'd.parquet' holds CSV" in err
    assert "Warning: roc.png could not be drawn" in err
    assert run("train", *options, "--quiet") == (0, "", "")


def test_labels_in_another_file_are_found_from_any_folder(run, tmp_path, monkeypatch):
    from test_data import write_idx

    Y = np.arange(40, dtype="uint8") % 2
    write_idx(tmp_path / "images", (100 * Y[:, None, None] + np.arange(40)[:, None, None]).astype("uint8"))
    write_idx(tmp_path / "kinds", Y)
    assert run("train", "images", "--target", "kinds", "--epochs", 1, "--out", "a")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("train", "--config", "../a/config.toml", "--out", "../b")[0] == 0
    same(tmp_path / "a", tmp_path / "b")


def test_arrays_are_named_where_none_is_the_target(run, tmp_path):
    np.savez(tmp_path / "t.npz", X=np.ones((9, 2)), t=np.arange(9) % 2)
    status, _, err = run("train", "t.npz")
    assert status == 1
    assert (
        "t.npz (whose arrays are X (9, 2), t (9,); --target NAME says which has them) has no targets" in err
    )
    np.savez(tmp_path / "one.npz", X=np.ones((1, 2)), y=np.ones(1, int))
    assert "the data have one row; expected many" in run("train", "one.npz")[2]


def test_early_stopping_ends_with_the_best(run):
    status, out, err = run(
        "train", "iris", "--epochs", 200, "--early-stopping", 3, "--learning-rate", 0.05, "--json"
    )
    assert status == 0
    assert re.search(
        r"Stopped   after epoch \d+ of at most 200, the best was epoch \d+ \(held-out cost J", err
    )
    found = json.loads(out)
    assert "not become better" in found["stopped"]
    assert found["epochs"] < 200
    losses = load("runs/iris-1").history["validation_loss"]
    assert found["held_out"]["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_all_samples_can_be_trained_on(run):
    status, _, err = run("train", "iris", "--held-out", 0, "--epochs", 3, "--early-stopping", 1)
    assert status == 0
    assert "150 samples" in err
    assert "none held out\n" in err
    assert "Held out  none; on the samples that it was trained on: accuracy " in err
    trainer = load("runs/iris-1")
    assert set(trainer.history) == {"loss"}
    assert trainer.steps == 3 * 5
    assert run("train", "--config", "runs/iris-1/config.toml", "--out", "again")[0] == 0
    same("runs/iris-1", "again")
    status, out, _ = run("train", "iris", "--held-out", 0, "--epochs", 1, "--json")
    assert json.loads(out)["held_out"] is None


def test_a_folder_that_cannot_be_written_is_said_before_training(run, tmp_path, monkeypatch):
    monkeypatch.setattr(nnx.Trainer, "fit", lambda *_, **__: pytest.fail("it trains"))
    out = tmp_path / "there"
    out.mkdir()
    replace = Path.replace

    def read_only(self, target):
        if Path(target).parent == out:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", read_only)
    status, _, err = run("train", "iris", "--out", out)
    assert status == 1
    assert f"the run's folder '{out}' cannot be written: Permission denied. Choose another --out" in err
    assert out.is_dir()
    assert not any(out.iterdir())


def test_a_read_only_folder(run, tmp_path):
    out = tmp_path / "there"
    out.mkdir(mode=0o500)
    if os.access(out, os.W_OK):
        pytest.skip("root may write everywhere")
    for folder in (out, out / "within"):
        status, _, err = run("train", "iris", "--out", folder)
        assert status == 1
        assert "cannot be written: Permission denied. Choose another --out" in err


def test_a_file_in_the_folders_place(run, tmp_path):
    (tmp_path / "there").write_text("precious")
    status, _, err = run("train", "iris", "--out", "there", "--overwrite")
    assert status == 1
    assert "'there' is a file; expected a folder as --out" in err
    assert (tmp_path / "there").read_text() == "precious"


def test_a_failed_run_leaves_the_one_that_it_would_have_replaced(run, tmp_path):
    assert run("train", "diabetes", "--epochs", 2, "--out", "a")[0] == 0
    before = {name: (tmp_path / "a" / name).read_bytes() for name in ("model.safetensors", "config.toml")}
    diverges = ["--optimizer", "gradient_descent", "--batch-size", "0", "--learning-rate", "1e30"]
    assert run("train", "diabetes", *diverges, "--out", "a", "--overwrite")[0] == 1
    for name, content in before.items():
        assert (tmp_path / "a" / name).read_bytes() == content


DIVERGES = ("--optimizer", "gradient_descent", "--batch-size", "0", "--learning-rate", "1e30")


def test_a_run_or_a_sweep_leaves_nothing_of_what_it_replaces(run, tmp_path):
    assert run("train", "diabetes", "--epochs", 1, "--sweep", "seed=0 1 2", "--out", "a")[0] == 0
    (tmp_path / "a" / "4").mkdir()  # is not the sweep's
    assert run("train", "diabetes", *DIVERGES, "--out", "a", "--overwrite")[0] == 1
    assert run("train", "diabetes", *DIVERGES, "--sweep", "seed=0 1", "--out", "a", "--overwrite")[0] == 1
    assert len(rows("a")) == 3  # of the sweep: nothing has taken its place
    assert (
        "what was in"
        in run("train", "diabetes", *DIVERGES, "--sweep", "seed=0", "--out", "a", "--overwrite")[2]
    )
    assert run("train", "diabetes", "--epochs", 1, "--sweep", "seed=0 1", "--out", "a", "--overwrite")[0] == 0
    assert {path.name for path in (tmp_path / "a").iterdir() if path.is_dir()} == {"1", "2", "4"}
    assert run("train", "diabetes", "--epochs", 1, "--out", "a", "--overwrite")[0] == 0
    assert {path.name for path in (tmp_path / "a").iterdir() if path.is_dir()} == {"4", "checkpoints"}
    assert "History" in run("show", "a")[1]
    assert run("train", "diabetes", "--epochs", 1, "--sweep", "seed=0 1", "--out", "a", "--overwrite")[0] == 0
    files = {path.name for path in (tmp_path / "a").iterdir() if path.is_file()}
    assert files == {"config.toml", "results.csv", "results.json"}
    for command in (["show", "a/1"], ["predict", "a/1", "diabetes"]):
        assert run(*command)[0] == 0


def test_a_run_that_was_killed_is_what_all_commands_read(run, tmp_path):
    """Its checkpoint is newer than the model that it was to replace, and of other steps."""
    assert run("train", "iris", "--epochs", 2, "--out", "a")[0] == 0
    assert run("train", "iris", "--epochs", 6, "--out", "b")[0] == 0
    expected = run("predict", "b", "iris")[1]
    first = run("predict", "a", "iris")[1]
    assert first != expected
    model, (own,) = tmp_path / "a" / "model.safetensors", (tmp_path / "a" / "checkpoints").iterdir()
    os.utime(model, (1, 1))
    assert (
        run("predict", "a", "iris")[1] == first
    )  # a copied folder: the checkpoint is of the model's last step
    own.unlink()
    (checkpoint,) = (tmp_path / "b" / "checkpoints").iterdir()
    shutil.copy(checkpoint, tmp_path / "a" / "checkpoints")
    for _ in range(2):  # beside an earlier run's model, and without
        assert run("predict", "a", "iris")[1] == expected
        assert json.loads(run("show", "a", "--json")[1])["epochs"] == 6
        assert json.loads(run("evaluate", "a", "iris", "--json")[1])["samples"] == 150
        status, out, err = run("plot", "a", "--out", "pictures", "--overwrite")
        assert status == 0
        assert "learning_curve.png" in out + err
        assert not (tmp_path / "pictures" / "roc.png").exists()  # of the earlier run's samples
        model.unlink(missing_ok=True)


@pytest.mark.parametrize("command", ["show", "predict", "evaluate", "plot"])
def test_a_folder_of_runs_is_none(run, tmp_path, command):
    assert run("train", "iris", "--epochs", 1, "--out", "s/one")[0] == 0
    status, _, err = run(command, "s", *["iris"] * (command in ("predict", "evaluate")))
    assert status == 1
    assert "the folder 's' holds no run" in err
    assert f"give one of the runs in it, such as '{Path('s', 'one')}'" in err


# Going on


SLOW = """
import sys, time
from nnx.cli import interrupt
interrupt.EVERY = float(sys.argv.pop(1))
on_step = interrupt.Keeper.on_step
def slow(self, trainer, progress):
    time.sleep(0.001)
    on_step(self, trainer, progress)
interrupt.Keeper.on_step = slow
interrupt.Keeper.often = property(lambda self: True, lambda self, often: None)  # after every step
from nnx.__main__ import main
main()
"""


def start(tmp_path, every, *arguments):
    """Begin a slow run with a checkpoint every so many seconds; wait until it trains."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(every), "train", *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "NNX_BACKEND": "numpy", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not re.match(r"epoch 1/|1 +layers", line := process.stderr.readline()):
        assert line, process.communicate()
    return process


GOES_ON = ("digits", "--epochs", 40, "--layers", "16", "--dropout", "0.1", "--early-stopping", 39)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_an_interrupted_run_goes_on_to_the_same_numbers(run, tmp_path, how):
    process = start(tmp_path, 3600 if how == "SIGINT" else 0.05, *GOES_ON, "--out", "a")
    time.sleep(0.4)
    assert process.poll() is None, "it ended before it could be stopped: make it slower"
    process.send_signal(getattr(signal, how))
    out, err = process.communicate(timeout=60)
    assert out == ""
    checkpoints = sorted((tmp_path / "a" / "checkpoints").glob("*.safetensors"))
    assert checkpoints
    if how == "SIGINT":
        assert process.returncode == 130
        assert "Stopped by Ctrl-C after" in err
        assert "Traceback" not in err
        steps = int(re.search(r"epochs?, ([\d,]+) steps", err)[1].replace(",", ""))
        assert int(checkpoints[-1].stem.removeprefix("step-")) == steps  # nothing done is lost
    status, _, err = run("show", "a")
    assert status == 0  # a killed run, too, can be looked at
    status, _, err = run("train", "--resume", "a")
    assert status == 0
    assert "Resumed   a after epoch" in err
    assert run("train", *GOES_ON, "--out", "whole")[0] == 0
    same("a", "whole")
    assert not list((tmp_path / "a" / "checkpoints").glob(".*"))


def test_an_interrupted_run_gets_no_advice_on_its_model(run, tmp_path, monkeypatch):
    rows = [f"{k % 11},{int(k % 10 == 0)}" for k in range(220)]  # y has nothing to do with x
    (tmp_path / "d.csv").write_text("\n".join(["x,y", *rows]))
    barely = ("train", "d.csv", "--target", "y", "--epochs", 2, "--learning-rate", 1e-9, "--no-plots")
    assert "than the baseline" in run(*barely, "--out", "whole")[2]
    on_step = interrupt.Keeper.on_step

    def interrupted(self, trainer, progress):
        self.interrupt()
        on_step(self, trainer, progress)

    monkeypatch.setattr(interrupt.Keeper, "on_step", interrupted)
    status, _, err = run(*barely, "--out", "a")
    assert status == 130
    assert "nnx train --resume a" in err
    assert "baseline. Try" not in err
    assert "Warning" not in err


def test_pictures_that_were_interrupted_are_drawn_by_nnx_plot(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnx.cli.saving.plots.leave", interrupted)
    status, _, err = run("train", "iris", "--epochs", 2, "--out", "a")
    assert status == 130
    assert "nnx plot a draws them" in err
    assert "--resume" not in err


def test_a_finished_run_says_so_and_goes_on_for_more_epochs(run, tmp_path):
    assert run("train", "iris", "--epochs", 3, "--out", "a")[0] == 0
    assert run("train", "iris", "--epochs", 7, "--out", "whole")[0] == 0
    status, out, err = run("train", "--resume", "a", "--json")
    assert status == 0
    assert "a; its training is over: epoch 3 was the last. --epochs asks for more" in err
    assert json.loads(out)["epochs"] == 3
    status, _, err = run("train", "--resume", "a", "--epochs", 7, "--backend", "numpy", "--seed", 0)
    assert status == 0
    assert "Resumed   a after epoch 3, of 7" in err
    same("a", "whole")
    assert run("train", "--config", "a/config.toml", "--out", "again")[0] == 0  # that of the whole
    same("again", "whole")
    status, _, err = run("train", "--resume", "a", "--epochs", 2)
    assert status == 1
    assert "the run 'a' has done 7 epochs already; give more with --epochs, not 2" in err
    same("a", "whole")


def test_a_run_that_was_stopped_early_stays_stopped(run):
    options = ("--early-stopping", 1, "--learning-rate", 0.3, "--epochs", 100)
    assert run("train", "iris", *options, "--out", "a")[0] == 0
    before = load("a").theta
    status, _, err = run("train", "--resume", "a", "--epochs", 200)
    assert status == 0
    assert "its training is over: validation_loss has not become better for 1 epoch" in err
    np.testing.assert_array_equal(load("a").theta, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "8"], "a run goes on as it began, and its layers is '128,64'"),
        (["wine"], "DATA cannot be given with --resume: the run's are 'iris'"),
        (["--l2", "0.1"], "--l2 cannot be given with --resume: a run goes on as it began, and its l2 is 0.0"),
        (["--target", "y"], "a run goes on as it began, and it has no target"),
        (["--out", "b"], "--out goes with a new run, not with --resume"),
        (["--config", "a/config.toml"], "--config goes with a new run, not with --resume"),
        (["--sweep", "layers=8 16"], "--sweep goes with a new run, not with --resume"),
        (["--epochs", "0"], "epochs must be a positive integer"),
    ],
)
def test_a_run_goes_on_as_it_began(run, options, message):
    assert run("train", "iris", "--epochs", 1, "--out", "a")[0] == 0
    status, _, err = run("train", "--resume", "a", *options)
    assert status == 2
    assert message in err


def test_what_cannot_go_on(run, tmp_path):
    status, _, err = run("train", "--resume", "nowhere")
    assert status == 1
    assert "there is no folder 'nowhere'; give the folder that `nnx train` named" in err
    (tmp_path / "bikes.csv").write_text("x,y\n1,2\n")
    status, _, err = run("train", "--resume", "bikes.csv")
    assert status == 1
    assert "'bikes.csv' is a file; --resume takes the folder of a run" in err
    (tmp_path / "empty").mkdir()
    status, _, err = run("train", "--resume", "empty")
    assert status == 1
    assert "no run of `nnx train` is in 'empty': it has no config.toml" in err
    assert run("train", "iris", "--epochs", 2, "--schedule", "cosine", "--out", "a")[0] == 0
    status, _, err = run("train", "--resume", "a", "--epochs", 4)
    assert status == 1
    assert "the schedule 'cosine' was laid out over the steps of the run 'a'" in err


def test_other_data_than_the_run_began_with_are_noticed(run, tmp_path):
    rows = [f"{k},{k % 2}\n" for k in range(40)]
    (tmp_path / "d.csv").write_text("x,y\n" + "".join(rows))
    assert run("train", "d.csv", "--target", "y", "--epochs", 1, "--out", "a")[0] == 0
    (tmp_path / "d.csv").write_text("x,y\n" + "".join(rows[:-1]) + "99,1\n")
    status, _, err = run("train", "--resume", "a", "--epochs", 2)
    assert status == 1
    assert "are not those that the run 'a' began with" in err


def test_an_overwritten_run_is_not_gone_on_from(run, tmp_path):
    assert run("train", "iris", "--epochs", 5, "--out", "a")[0] == 0
    assert run("train", "iris", "--epochs", 2, "--out", "a", "--overwrite")[0] == 0
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == ["step-00000008.safetensors"]
    assert run("train", "--resume", "a")[0] == 0
    assert load("a").steps == 8


def test_a_run_killed_before_its_first_checkpoint_begins_anew(run, tmp_path):
    assert run("train", "iris", "--epochs", 2, "--out", "a")[0] == 0
    assert run("train", "iris", "--epochs", 2, "--out", "whole")[0] == 0
    for path in (tmp_path / "a").rglob("*.safetensors"):
        path.unlink()
    status, _, err = run("train", "--resume", "a")
    assert status == 0
    assert "a from its beginning, for it has no checkpoint yet" in err
    same("a", "whole")


def test_checkpoints_are_seldom(tmp_path, monkeypatch):
    """As often as they may by the clock, but with a twentieth of the time at most."""
    clock = [0.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: clock[0])
    written = []

    def save(self, path):
        clock[0] += 2.0  # it takes two seconds, so that the next is due after forty
        written.append(clock[0])
        path.touch()

    monkeypatch.setattr(nnx.Trainer, "save", save)
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")

    def tick(_):
        clock[0] += 1.0

    trainer.fit(np.ones((1, 200)), np.zeros(200), 1, 1, callbacks=[tick, interrupt.Keeper(tmp_path)])
    assert written[0] == 12
    assert np.diff(written[:4]).tolist() == [42, 42, 42]


# Sweeps


def rows(folder):
    with (Path(folder) / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_over_a_grid(run, tmp_path):
    status, out, err = run(
        "train",
        "iris",
        "--epochs",
        5,
        "--sweep",
        "layers=8 none",
        "--sweep",
        "learning-rate=0.001 0.1",
        "--out",
        "s",
    )
    assert status == 0
    assert "4 runs in s: layers, learning-rate" in err
    found = rows("s")
    assert {(row["layers"], row["learning-rate"]) for row in found} == {
        ("8", "0.001"), ("8", "0.1"), ("none", "0.001"), ("none", "0.1"),
    }  # fmt: skip
    scores = [float(row["accuracy"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    shown = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert shown == [row["run"] for row in found]
    assert f"Best      {Path('s') / found[0]['run']}" in err
    for row in found:  # each is a run of its own, as if trained alone
        options = ("--layers", row["layers"], "--learning-rate", row["learning-rate"])
        assert run("train", "iris", "--epochs", 5, *options, "--out", f"alone-{row['run']}")[0] == 0
        same(f"s/{row['run']}", f"alone-{row['run']}")
        assert json.loads((tmp_path / "s" / "results.json").read_text())["score"] == "accuracy"
    status, again, _ = run("show", "s")
    assert status == 0
    assert again == out


def test_a_sweep_reads_its_data_once(run, tmp_path, monkeypatch):
    from nnx.data import files

    (tmp_path / "d.csv").write_text("x,y\n" + "".join(f"{k},{k % 2}\n" for k in range(40)))
    read, calls = files.read, []
    monkeypatch.setattr(files, "read", lambda *given: calls.append(given) or read(*given))
    options = ("--epochs", 1, "--sweep", "layers=1 2 3", "--sweep", "seed=0 1", "--out", "s")
    assert run("train", "d.csv", "--target", "y", *options)[0] == 0
    assert len(rows("s")) == 6
    assert len(calls) == 1


def test_a_sweep_in_which_some_runs_fail(run, tmp_path):
    status, out, _ = run(
        "train",
        "iris",
        "--epochs",
        2,
        "--sweep",
        "layers=8 8,x",
        "--sweep",
        "learning-rate=0.01 -1",
        "--out",
        "s",
    )
    assert status == 0
    assert out.count("failed") == 3
    assert "Failed    3: layers must be positive integers such as 128,64; given '8,x'" in out
    assert "Failed    2: learning-rate must be greater than 0 and finite, not -1.0" in out
    found = {row["run"]: row for row in rows("s")}
    assert [found[name]["status"] for name in "1234"] == ["done", "failed", "failed", "failed"]
    assert "8,x" in found["3"]["error"]
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir()) == ["1"]
    status, out, err = run("train", "iris", "--sweep", "layers=x y", "--out", "t")
    assert status == 1  # all of them
    assert out.count("failed") == 2
    said = "Error: all 2 runs failed; 1: layers must be positive integers such as 128,64; given 'x'\n"
    assert err.endswith(said)
    assert run("train", "iris", "--sweep", "layers=x y", "--out", "q", "--quiet") == (1, "", said)
    status, out, _ = run("train", "iris", "--epochs", 1, "--sweep", "layers=8 x", "--out", "u", "--json")
    assert status == 0
    found = json.loads(out)
    assert [row["status"] for row in found["runs"]] == ["done", "failed"]
    assert run("train", "iris", "--epochs", 1, "--sweep", "layers=8", "--out", "v", "--quiet") == (0, "", "")


def test_what_goes_wrong_in_a_run_of_a_sweep_unforeseen(run, monkeypatch):
    evaluate = nnx.Trainer.evaluate

    def fails(self, *given, **options):
        if self.seed == 1:
            raise ZeroDivisionError("of all things")
        return evaluate(self, *given, **options)

    monkeypatch.setattr(nnx.Trainer, "evaluate", fails)
    status, out, _ = run("train", "iris", "--epochs", 1, "--sweep", "seed=0 1 2")
    assert status == 0
    assert "Failed    2: ZeroDivisionError: of all things" in out


def test_random_draws(run):
    options = ["--sweep", "learning-rate=log(1e-4, 1e-1)", "--sweep", "dropout=uniform(0, 0.5)"]
    options += [
        "--sweep",
        "batch-size=log(8, 64)",
        "--sweep",
        "activation=relu leaky_relu(0.2)",
        "--epochs",
        1,
    ]
    assert run("train", "iris", *options, "--draws", 6, "--out", "a")[0] == 0
    found = rows("a")
    assert len({row["learning-rate"] for row in found}) == 6
    for row in found:
        assert 1e-4 <= float(row["learning-rate"]) <= 1e-1
        assert 0 <= float(row["dropout"]) <= 0.5
        assert 8 <= int(row["batch-size"]) <= 64
        assert row["activation"] in ("relu", "leaky_relu(0.2)")
    assert run("train", "--config", "a/config.toml", "--out", "b")[0] == 0  # draws the same
    timeless = [{key: value for key, value in row.items() if key != "seconds"} for row in rows("b")]
    assert timeless == [{key: value for key, value in row.items() if key != "seconds"} for row in found]
    assert run("train", "iris", *options, "--draws", 6, "--seed", 1, "--out", "c")[0] == 0
    assert {row["learning-rate"] for row in rows("c")} != {row["learning-rate"] for row in found}
    options = ("--sweep", "layers=1 2", "--sweep", "seed=1 2", "--epochs", 1, "--draws", 9)
    status, _, err = run("train", "iris", *options, "--out", "d")
    assert (status, len(rows("d"))) == (0, 4)  # each of the grid once
    assert "Note: there are no more than 4 combinations to draw" in err


def test_a_sweep_in_the_configuration(run, tmp_path):
    (tmp_path / "s.toml").write_text(
        'data = "iris"\nepochs = 1\n[sweep]\nlayers = ["8", "none"]\nlearning_rate = [1, 0.1]\nl2 = "0 0.1"\n'
    )
    arguments = ("train", "--config", "s.toml", "--learning-rate", 0.01, "--sweep", "l2=0.5", "--out", "s")
    assert run(*arguments)[0] == 0
    assert {(row["layers"], row["l2"]) for row in rows("s")} == {("8", "0.5"), ("none", "0.5")}  # typed: wins
    assert load("s/1").optimizer == nnx.Adam(0.01)


def test_an_option_swept_twice_is_refused(run):
    status, _, err = run("train", "iris", "--sweep", "batch-size=8 16", "--sweep", "batch_size=32")
    assert status == 2
    assert "batch-size is swept twice" in err


def test_an_option_swept_under_two_names_is_refused(run, tmp_path):
    (tmp_path / "s.toml").write_text('data = "iris"\n[sweep]\nlr = "0.1 0.2"\nlearning-rate = [0.3]\n')
    status, _, err = run("train", "--config", "s.toml")
    assert status == 2
    assert "learning-rate is swept twice, once as lr; give all its values to one" in " ".join(err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["layers"], "must be OPTION=VALUES, such as \"layers=64 128,64\"; given 'layers'"),
        (["layrs=3"], "unknown option 'layrs'; did you mean 'layers'"),
        (["quiet=1"], "unknown option 'quiet'"),
        (["drop=a b"], "drop cannot be swept; train once with each"),
        (["held-out=0 0.2"], "held-out cannot be swept: runs of different held-out cannot be compared"),
        (["data=iris digits"], "data cannot be swept: runs of different data cannot be compared"),
        (["task=auto regression"], "task cannot be swept"),
        (["target=a b"], "target cannot be swept"),
        (["epochs=1 two"], "the sweep's epochs must be a whole number; given 'two'"),
        (["epochs=1.5"], "the sweep's epochs must be a whole number; given '1.5'"),
        (
            ["lr=0.1,1"],
            "learning-rate must be a number; given '0.1,1'; put spaces between values, and no commas",
        ),
        (["lr=0.1", "--learning-rate", 1], "learning-rate is given and swept; leave out one of the two"),
        (["l2=log(1e-4, 1)"], "how many numbers are to be drawn from l2? Say --draws N"),
        (["l2=log(0, 1)", "--draws", 3], "log(from, to) for l2 must be greater than 0"),
        (["l2=uniform(1, 0)", "--draws", 3], "uniform(from, to) for l2 must rise"),
        (["l2=uniform(a, 1)", "--draws", 3], "uniform(from, to) needs two numbers"),
        (["l2=normal(0, 1)", "--draws", 3], "unknown range 'normal'"),
        (["layers=uniform(1, 9)", "--draws", 3], "layers is text, and uniform(...) draws numbers"),
        (["l2=1 2", "--draws", 0], "draws must be a positive integer, not 0"),
        (["l2=1 2", "--l2", 3], "l2 is given and swept; leave out one of the two"),
        (["l2=1 2", "--held-out", 0], "a sweep compares its runs on the samples held out"),
    ],
)
def test_a_sweep_that_is_mistyped(run, tmp_path, options, message):
    status, _, err = run("train", "iris", "--sweep", *options)
    assert status == 2
    assert message in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("metric", ["confusion_matrix", "f1(none)"])
def test_a_metric_that_cannot_compare_runs(run, metric):
    status, _, err = run("train", "iris", "--metrics", metric, "--sweep", "seed=0 1")
    assert status == 2
    assert f"{metric} of --metrics is no single number to compare the runs by; give another one first" in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_in_a_sweep_shows_the_table_and_resume_does_what_is_missing(run, tmp_path):
    arguments = ("digits", "--epochs", 12, "--batch-size", 16, "--sweep", "layers=8 16 x 4")
    process = start(tmp_path, 3600, *arguments, "--out", "s")
    time.sleep(0.4)  # the second is being trained
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Stopped by Ctrl-C with 3 runs to go." in err
    assert "Go on     nnx train --resume s" in err
    assert "Traceback" not in err
    assert [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")] == ["1", "2"]
    assert "(stopped)" in out
    first = (tmp_path / "s" / "1" / "model.safetensors").stat().st_mtime_ns
    status, out, err = run("train", "--resume", "s")
    assert status == 0
    assert first == (tmp_path / "s" / "1" / "model.safetensors").stat().st_mtime_ns  # it was done
    assert sorted((row["run"], row["status"]) for row in rows("s")) == [
        ("1", "done"), ("2", "done"), ("3", "failed"), ("4", "done"),
    ]  # fmt: skip
    assert run("train", *arguments, "--out", "whole")[0] == 0
    for name in "124":
        same(f"s/{name}", f"whole/{name}")
    status, _, err = run("train", "--resume", "s", "--epochs", 20)
    assert status == 2
    assert "--epochs cannot be changed when a sweep goes on" in err


def test_a_sweep_that_was_killed_goes_on_within_the_run(run, tmp_path):
    """It has no row for the run yet, but a checkpoint."""
    options = ("--epochs", 4, "--sweep", "layers=4 8 16")
    assert run("train", "iris", *options, "--out", "s")[0] == 0
    assert run("train", "iris", *options, "--out", "whole")[0] == 0
    path = tmp_path / "s" / "results.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "runs": found["runs"][:1]}))
    (tmp_path / "s" / "2" / "model.safetensors").unlink()
    (checkpoint,) = (tmp_path / "s" / "2" / "checkpoints").iterdir()
    before = checkpoint.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "s" / "3")
    assert run("train", "--resume", "s")[0] == 0
    assert checkpoint.stat().st_mtime_ns == before  # all its steps were done
    for name in "123":
        same(f"s/{name}", f"whole/{name}")


# Showing


def test_show(run, tmp_path):
    options = ("--layers", "8", "--l2", "0.01", "--dtype", "float64")
    assert run("train", "iris", "--epochs", 30, *options, "--out", "a")[0] == 0
    status, out, err = run("show", "a")
    assert (status, err) == (0, "")
    assert f"written by nnx {nnx.__version__}" in out
    assert "67 parameters, 268 bytes in float32; numbers in float64" in out
    assert (
        "iris: 4 features (sepal length (cm), sepal width (cm), petal length (cm), petal width (cm))" in out
    )
    assert "3 classes, setosa, versicolor, virginica" in out
    assert "Adam(learning_rate=0.001" in out
    assert "120 steps, seed 0" in out
    assert "l2=0.01" in out
    assert "W1 (8, 4)" in out
    assert "The training's scores are of 30 of its samples" in out
    records = [json.loads(line) for line in (tmp_path / "a" / "history.jsonl").read_text().splitlines()]
    losses = [record["validation_loss"] for record in records]
    line = next(line for line in out.splitlines() if "held-out cost J" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[1:5] == [
        f"{losses[0]:.4g}",
        f"{min(losses):.4g}",
        str(np.argmin(losses) + 1),
        f"{losses[-1]:.4g}",
    ]
    assert cells[5][0] == "█"
    assert cells[5][-1] == "▁"
    status, out, _ = run("show", "a/model.safetensors", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["history"]["validation_loss"] == losses
    assert found["best"]["validation_loss"] == {"value": min(losses), "epoch": int(np.argmin(losses) + 1)}
    assert found["parameters"] == 67
    assert found["bytes"] == (tmp_path / "a" / "model.safetensors").stat().st_size
    assert found["preparation"]["labels"] == ["setosa", "versicolor", "virginica"]


class Mine:
    """A metric of one's own, of which nobody knows whether more of it is better."""

    name = "mine"

    def partial(self, output, A, Y, w):
        return (A.sum(),)

    def result(self, partials, to_numpy):
        return float(sum(to_numpy(total) for (total,) in partials))


def test_show_a_metric_of_ones_own(run, tmp_path):
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    X, Y = np.array([[0.0, 1.0]]), np.array([0, 1])
    trainer.fit(X, Y, epochs=3, validation=(X, Y), metrics=[Mine()])
    trainer.save(tmp_path / "m.safetensors")
    values = trainer.history["validation_mine"]
    status, out, _ = run("show", "m.safetensors")
    assert status == 0
    line = next(line for line in out.splitlines() if "held-out mine" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[1:5] == [f"{values[0]:.4g}", "", "", f"{values[-1]:.4g}"]
    status, out, _ = run("show", "m.safetensors", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["history"]["validation_mine"] == values
    assert set(found["best"]) == {"loss", "validation_loss"}


def test_show_cuts_no_number_off(run, monkeypatch):
    options = "--metrics", "accuracy,top_k(2)", "--layers", "8", "--held-out", "0.5"
    assert run("train", "iris", "--epochs", 100, *options, "--out", "a")[0] == 0
    history = load("a").history
    for width in (60, 80, 100):
        monkeypatch.setattr(show.output, "width", width)
        status, out, _ = run("show", "a")
        assert status == 0
        shown = out[out.index("History") :]
        assert "…" not in shown
        assert "in epoch" in shown
        assert " kept " in shown
        assert " last " not in shown
        assert ("█" in shown) == (width > 60)  # the curve is what gives way
        for name in ("loss", "validation_loss", "validation_accuracy"):
            assert f"{history[name][history.kept - 1]:.4g}" in shown


def test_show_a_model_that_the_trainer_saved(run, tmp_path):
    nnx.Trainer(nnx.mlp([4, 1]), backend="numpy").save(tmp_path / "m.safetensors")
    status, out, _ = run("show", "m.safetensors")
    assert status == 0
    assert "nnx.Trainer saved the model" in out
    assert "History" not in out


def test_show_what_is_no_model(run, tmp_path):
    for model, message in (
        ("nowhere", "there is no model file 'nowhere'"),
        (".", "the folder '.' holds no run: there is no model.safetensors in it, and no checkpoint"),
        ("text.safetensors", "truncated or no safetensors file"),
    ):
        (tmp_path / "text.safetensors").write_text("a text")
        status, out, err = run("show", model)
        assert (status, out) == (1, "")
        assert message in err
    (tmp_path / "results.json").write_text("{}")
    status, _, err = run("show", ".")
    assert status == 1
    assert "'results.json' holds no results of a sweep" in err
    whole = {"seconds": 1.0}
    for row, test, what in (
        ({}, None, "no 'seconds' in it"),
        ({"seconds": "long"}, None, "the seconds 'long'"),
        (whole, {"run": "1", "accuracy": 0.5}, "no 'samples' in it"),
        (whole, {"run": "1", "samples": 7}, "no 'accuracy' in it"),
        (whole, [], "must be integers or slices"),
    ):
        rows = [{"run": "1", "seed": 0, "status": "done", "epochs": 3, **row}]
        found = {"score": "accuracy", "swept": ["seed"], "runs": rows, "test": test}
        (tmp_path / "results.json").write_text(json.dumps(found))
        status, out, err = run("show", ".")
        assert (status, out) == (1, "")
        assert what in err


def test_backends_as_json(run):
    status, out, _ = run("backends", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["auto"]["name"] == "numpy"
    numpy = next(row for row in found["backends"] if row["name"] == "numpy")
    assert numpy["usable"] is True
    assert numpy["version"] == np.__version__


def test_backends_say_what_long_fits_get(run, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.delenv("NNX_BACKEND")
    found = json.loads(run("backends", "--json")[1])
    auto = found["auto"]
    if auto["name"] == "numpy":  # no GPU
        assert (auto["long_fits"]["name"], auto["long_fits"]["work"]) == ("numba", 3e11)
        assert "for fits of some seconds: numba on cpu" in run("backends")[1]


# What holds for all commands


COMMANDS = [
    [],
    ["train"],
    ["predict"],
    ["evaluate"],
    ["plot"],
    ["show"],
    ["backends"],
    ["bench"],
    ["bench", "compare"],
    ["bench", "show"],
]


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_the_terminal(tmp_path, command, width):
    done = subprocess.run(
        [sys.executable, "-m", "nnx", *command, "--help"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": str(width), "TERMINAL_WIDTH": str(width), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert max(map(len, done.stdout.splitlines())) <= width
    if command:
        examples = done.stdout.partition("Examples:")[2]
        assert f"nnx {' '.join(command)}" in " ".join(examples.split())


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['nnx', 'train', '--help']; from nnx.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    heavy = {"sklearn", "scipy", "polars", "pandas", "matplotlib", "torch", "jax", "safetensors", "tomli_w"}
    assert not modules & heavy


def test_a_run_on_the_digits_does_without_importing_scikit_learn(tmp_path):
    """That would take as long as all else before the first step."""
    code = (
        "import sys; from nnx.__main__ import main\n"
        "sys.argv = ['nnx', 'train', 'digits', '--epochs', '1', '--backend', 'numpy', '--no-plots']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('sklearn' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False True"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("nnx tra", "train"),
        ("nnx train --backend to", "torch"),
        ("nnx train --optimizer ada", "adamw"),
        ("nnx train --activation gel", "gelu_tanh"),
        ("nnx train dig", "digits"),
        ("nnx train pe", "pets.csv"),
        ("nnx train --schedule one", "one_cycle"),
        ("nnx train --early", "--early-stopping"),
        ("nnx train --loss hub", "huber"),
        ("nnx train --metrics f1,ro", "f1,roc_auc"),
        ("nnx evaluate --metrics acc", "accuracy"),
        ("nnx predict --format par", "parquet"),
        ("nnx plot --kind conf", "confusion_matrix"),
        ("nnx plot --format sv", "svg"),
        ("nnx bench --optimizer adam,lio", "adam,lion"),
    ],
)
def test_completion(tmp_path, typed, expected):
    (tmp_path / "pets.csv").touch()
    code = "import sys; sys.argv = ['nnx']; from nnx.__main__ import main; main()"
    environment = {
        **os.environ,
        "_NNX_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout.split(), done.stderr


def test_a_fault_of_nnx_is_no_traceback_unless_asked_for(run, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(nnx.Trainer, "fit", fails)
    status, out, err = run("train", "iris")
    assert (status, out) == (1, "")
    assert "nnx failed, ZeroDivisionError: of all things" in err
    assert "NNX_TRACEBACK=1" in err
    monkeypatch.setenv("NNX_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run("train", "iris")


@pytest.mark.parametrize("command", ["train", "predict", "show"])
def test_ctrl_c_before_anything_is_done(run, monkeypatch, command, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(nnx.Trainer, "load", interrupted)
    monkeypatch.setattr("nnx.cli.prepared.source", interrupted)
    (tmp_path / "m.safetensors").touch()
    more = {"train": ["iris"], "predict": ["m.safetensors", "iris"], "show": ["m.safetensors"]}[command]
    status, out, err = run(command, *more)
    assert (status, out) == (130, "")
    assert "Traceback" not in err
