"""The command line, as a user runs it."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import nnx
from nnx.port import base, communicators
from nnx.support import parallel, starting

for needed in ("typer", "rich", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")


CSV = "size,name,colour,kind\n" + "".join(
    f"{k % 7 + (k % 2) * 9},n{k},{k % 5},{'cat' if k % 2 else 'dog'}\n" for k in range(60)
)


@pytest.fixture
def pets(tmp_path):
    (tmp_path / "pets.csv").write_text(CSV)
    return tmp_path / "pets.csv"


@pytest.mark.usefixtures("drawn")
def test_train_digits(run, tmp_path):
    status, data, out = run("train", "digits", "--epochs", 15, "--backend", "numpy")
    assert (status, data) == (0, "")  # nothing but data on the standard output
    assert "1,797 samples, 64 features; target 'target', 10 classes; " in out
    assert "small ones that repeat; else --task regression" in out
    assert "1,438 to train on, 359 held out" in out
    assert f"numpy {np.__version__} on cpu: asked for" in out
    assert "(128, 64)" in out
    assert "17,226" in out
    accuracy = float(out.split("accuracy ")[-1].split("%")[0])
    assert accuracy >= 97
    folder = tmp_path / "runs" / "digits-1"
    left = {p.name for p in folder.iterdir()}
    assert left >= {"checkpoints", "config.toml", "history.jsonl", "learning_curve.png", "model.safetensors"}
    assert not any(name.startswith(".") for name in left)
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == list(range(1, 16))
    assert set(records[0]) == {"epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"}
    assert records[-1]["validation_accuracy"] == pytest.approx(accuracy / 100, abs=1e-4)
    assert (folder / "learning_curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    trainer = nnx.Trainer.load(folder / "model.safetensors", backend="numpy")
    assert trainer.history["loss"] == [r["loss"] for r in records]


def test_each_run_has_a_folder_of_its_own(run, tmp_path):
    for _ in range(3):
        assert run("train", "iris", "--epochs", 1)[0] == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["iris-1", "iris-2", "iris-3"]


@pytest.mark.parametrize("data", ["breast_cancer", "wine", "iris", "diabetes", "moons", "spirals", "flower"])
def test_builtin_data(run, data):
    status, _, out = run("train", data, "--epochs", 3)
    assert status == 0
    assert ("R2" if data == "diabetes" else "accuracy") in out


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "strict"])
def test_backends(run, backend):
    try:
        nnx.backend(backend)
    except nnx.BackendError as error:
        pytest.skip(str(error))
    options = ("--epochs", 2, "--layers", 8, "--batch-size", 64)
    status, _, out = run("train", "iris", "--backend", backend, "--device", "cpu", *options)
    assert status == 0
    assert f"{backend} " in out
    assert run("predict", "runs/iris-1", "iris", "--backend", backend)[0] == 0


def test_train_on_a_table_and_predict(run, pets, tmp_path):
    status, _, out = run(
        "train", pets, "--target", "kind", "--drop", "name", "--epochs", 60, "--layers", "16"
    )
    assert status == 0
    assert "60 samples, 2 features; target 'kind', 2 classes" in out
    # Other columns do not matter, nor does their order, and the target is not needed.
    (tmp_path / "new.csv").write_text("colour,extra,size\n1,hello,6\n0,world,0\n")
    model = tmp_path / "runs" / "pets-1" / "model.safetensors"
    status, out, _ = run("predict", model, tmp_path / "new.csv")
    assert status == 0
    header, *rows = [line.split(",") for line in out.splitlines()]
    assert header == ["kind", "P(cat)", "P(dog)"]
    assert len(rows) == 2
    for kind, cat, dog in rows:
        assert float(cat) + float(dog) == pytest.approx(1)
        assert kind == ("cat" if float(cat) > 0.5 else "dog")
    status, out, err = run("predict", model, pets, "--out", "predictions.csv")
    assert (status, out) == (0, "")
    assert "60 predictions" in err
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    right = sum(
        line.split(",")[0] == row.split(",")[3]
        for line, row in zip(lines[1:], CSV.splitlines()[1:], strict=True)
    )
    assert right > 50


def test_predictions_of_numbers_are_in_the_targets_unit(run, tmp_path):
    x = np.linspace(-1, 1, 200)
    np.savez(tmp_path / "line.npz", X=x[:, None], y=1000 + 50 * x)
    status, _, out = run(
        "train",
        "line.npz",
        "--epochs",
        150,
        "--layers",
        "none",
        "--learning-rate",
        0.01,
        "--no-early-stopping",
    )
    assert status == 0
    assert "R2 1.000" in out
    status, out, _ = run("predict", "runs/line-1", "line.npz")
    header, *rows = out.splitlines()
    assert header == "y"
    np.testing.assert_allclose([float(row) for row in rows], 1000 + 50 * x, atol=1)


def test_the_options_of_training_are_used(run):
    options = ["--layers", "5,4", "--activation", "leaky_relu(0.2)", "--optimizer", "gradient_descent"]
    options += [
        "--learning-rate",
        "0.5",
        "--batch-size",
        "0",
        "--epochs",
        "7",
        "--seed",
        "3",
        "--dtype",
        "float64",
    ]
    assert run("train", "iris", *options, "--out", "here")[0] == 0
    trainer = nnx.Trainer.load("here/model.safetensors", backend="numpy")
    assert trainer.network.n == (4, 5, 4, 3)
    assert trainer.network.layers[0].g.name == "leaky_relu(0.2)"
    assert trainer.optimizer == nnx.GradientDescent(0.5)
    assert (trainer.steps, trainer.dtype, trainer.seed) == (7, "float64", 3)


def test_an_existing_folder_is_never_overwritten_unasked(run, tmp_path):
    out = tmp_path / "here"
    out.mkdir()
    assert run("train", "iris", "--epochs", 1, "--out", out)[0] == 0  # an empty one is as good as none
    before = (out / "model.safetensors").read_bytes()
    status, _, err = run("train", "iris", "--epochs", 2, "--out", out)
    assert status == 1
    assert "exists already; choose another --out, or give --overwrite" in err
    assert (out / "model.safetensors").read_bytes() == before
    assert run("train", "iris", "--epochs", 2, "--out", out, "--overwrite")[0] == 0
    assert (out / "model.safetensors").read_bytes() != before
    (tmp_path / "p.csv").write_text("precious")
    status, _, err = run("predict", out, "iris", "--out", "p.csv")
    assert status == 1
    assert "exists already" in err
    assert (tmp_path / "p.csv").read_text() == "precious"


MISTYPED = (
    "unknown backend 'nunpy'; did you mean 'numpy'",
    "unknown device 'gpu'; did you mean 'cuda'?",
    "unknown activation 'rleu'; did you mean 'relu'",
    "unknown optimizer 'adan'; did you mean 'adam'",
    "unknown dtype 'float16'",
    "layers must be positive integers such as 128,64; given '8,x'",
    "layers must be positive integers",
    "epochs must be a positive integer, not 0",
    "batch-size must be a positive integer",
    "learning-rate must be greater than 0",
    "seed must be an integer >= 0",
    "held-out must be between 0 and 1",
    "unknown loss 'gausian'. Known: binary",
    "sizes must list",
    "batch-sizes must be positive integers",
)
"""What is wrong whatever the data are."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "https://example.com/pets.csv"], "is a URL; expected a file: download it first"),
        (["train", "digitz"], "there is no file 'digitz', nor a data set of that name; there are: digits"),
        (["train", "pets.csv"], "Give --target COLUMN, one of: size, name, colour, kind"),
        (["train", "pets.csv", "--target", "kind", "--test", "20%"], "A share is a number such as 0.2"),
        (
            ["train", "pets.csv", "--target", "sort"],
            "no column 'sort'; its columns are: size, name, colour, kind",
        ),
        (
            ["train", "pets.csv", "--target", "kind", "--drop", "size", "--drop", "colour"],
            "1 feature column of pets.csv cannot be used as it is: name (60 different values in 60 rows",
        ),
        (
            ["train", "pets.csv", "--target", "kind", "--drop", "kind"],
            "the target 'kind' cannot be left out; name other columns in --drop",
        ),
        (["train", "iris", "--target", "kind"], "has a target of its own"),
        (["train", "iris", "--backend", "nunpy"], "unknown backend 'nunpy'; did you mean 'numpy'"),
        (["train", "iris", "--backend", "numpy", "--device", "cuda"], "NumPy computes on the CPU only"),
        (["train", "iris", "--device", "gpu"], "unknown device 'gpu'; did you mean 'cuda'?"),
        (["train", "iris", "--activation", "rleu"], "unknown activation 'rleu'; did you mean 'relu'"),
        (["train", "iris", "--optimizer", "adan"], "unknown optimizer 'adan'; did you mean 'adam'"),
        (["train", "iris", "--dtype", "float16"], "unknown dtype 'float16'"),
        (
            ["train", "iris", "--layers", "8,x"],
            "layers must be positive integers such as 128,64; given '8,x'",
        ),
        (["train", "iris", "--layers", "8,0"], "layers must be positive integers"),
        (["train", "iris", "--epochs", "0"], "epochs must be a positive integer, not 0"),
        (["train", "iris", "--batch-size", "-1"], "batch-size must be a positive integer"),
        (["train", "iris", "--learning-rate", "-1"], "learning-rate must be greater than 0"),
        (["train", "iris", "--seed", "-1"], "seed must be an integer >= 0"),
        (["train", "iris", "--held-out", "2"], "held-out must be between 0 and 1"),
        (["train", "iris", "--task", "regression"], "holds text"),
        (["predict", "nowhere.safetensors", "iris"], "there is no model file 'nowhere.safetensors'"),
        (["predict", "pets.csv", "iris"], "'pets.csv' is a file of data; expected a model: the folder"),
        (["evaluate", "pets.csv", "iris"], "'pets.csv' is a file of data; expected a model: the folder"),
        (["export", "pets.csv", "pets.onnx"], "'pets.csv' is a file of data; expected a model: the folder"),
        (["show", "iris"], "'iris' is a data set; expected a model: the folder"),
        (["train", "iris", "--loss", "gausian"], "unknown loss 'gausian'. Known: binary"),
        (
            ["train", "pets.csv", "--target", "kind,size"],
            "no column 'kind,size'; a model has one target. Its",
        ),
        (["bench", "--sizes", "64"], "sizes must list"),
        (["bench", "--batch-sizes", "1,a"], "batch-sizes must be positive integers"),
    ],
)
def test_bad_input_is_one_clear_error(run, pets, tmp_path, arguments, message):
    status, out, err = run(*arguments)
    assert status == (2 if message in MISTYPED else 1)
    assert "Error: " in err
    assert message in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "runs").exists()  # nothing is left behind


def test_a_run_that_diverges_keeps_the_last_good_state(run, tmp_path):
    options = ["--optimizer", "gradient_descent", "--batch-size", "0"]
    status, _, err = run("train", "diabetes", *options, "--learning-rate", "1e30")
    assert status == 1
    assert "Error: the " in err
    assert "Try a learning rate below 1e+30" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()  # nothing was learned
    status, _, err = run("train", "diabetes", *options, "--learning-rate", "30", "--out", "here")
    assert status == 1
    assert "Saved     here: model.safetensors, history.jsonl" in err
    epochs = len((tmp_path / "here" / "history.jsonl").read_text().splitlines())
    assert nnx.Trainer.load("here/model.safetensors", backend="numpy").steps == epochs >= 1
    assert run("predict", "here", "diabetes")[0] == 0


def test_predictions_keep_their_digits(run, tmp_path):
    x = np.linspace(-1, 1, 100)
    np.savez(tmp_path / "far.npz", X=x[:, None], y=1e9 + 10 * x)
    run("train", "far.npz", "--epochs", 100, "--layers", "none", "--learning-rate", 0.01)
    found = [float(line) for line in run("predict", "runs/far-1", "far.npz")[1].splitlines()[1:]]
    np.testing.assert_allclose(found, 1e9 + 10 * x, rtol=0, atol=1)


def test_predict_on_the_file_of_the_training(run, tmp_path):
    """With a target of another name than y, and with text as labels."""
    np.savez(
        tmp_path / "a.npz", pixels=np.random.default_rng(0).random((40, 3)), kind=np.array([b"a", b"b"] * 20)
    )
    assert run("train", "a.npz", "--target", "kind", "--epochs", 1)[0] == 0
    status, out, _ = run("predict", "runs/a-1", "a.npz")
    assert status == 0
    assert out.startswith("kind,P(a),P(b)\n")
    np.savez(tmp_path / "b.npz", anything=np.ones((2, 3)))  # nor is the target needed
    assert len(run("predict", "runs/a-1", "b.npz")[1].splitlines()) == 3


def test_a_model_of_the_command_line_in_python(run):
    """It predicts what `nnx predict` does."""
    from sklearn.datasets import load_digits

    assert run("train", "digits", "--epochs", 3, "--backend", "numpy")[0] == 0
    digits = load_digits()
    model = nnx.Tabular.load("runs/digits-1")
    labels = model.predict(dict(zip(model.preparation.features, digits.data.T, strict=True)))
    lines = run("predict", "runs/digits-1", "digits")[1].splitlines()[1:]
    assert [str(label) for label in labels] == [line.split(",")[0] for line in lines]
    assert np.mean(np.array(labels) == digits.target) > 0.9


def test_predict_on_data_that_lack_features(run, pets, tmp_path):
    run("train", pets, "--target", "kind", "--drop", "name", "--epochs", 1)
    (tmp_path / "new.csv").write_text("size\n1\n")
    status, _, err = run("predict", "runs/pets-1", "new.csv")
    assert status == 1
    assert "lacks the column 'colour', which the model was trained on; it has the column 'size'" in err


def test_predict_with_a_model_that_the_trainer_saved(run, tmp_path):
    nnx.Trainer(nnx.mlp([4, 1]), backend="numpy").save(tmp_path / "m.safetensors")
    status, _, err = run("predict", "m.safetensors", "iris")
    assert status == 1
    assert "nnx.Trainer.load" in err


def test_backends_table(run):
    status, out, _ = run("backends")
    assert status == 0
    for name in ("numpy", "cupy", "torch", "jax", "strict"):
        assert name in out
    assert np.__version__ in out
    assert "auto      takes " in out


def test_a_model_of_another_target_finds_y(run, tmp_path):
    digits = nnx.data.builtin.load("digits")
    np.savez(tmp_path / "some.npz", X=digits.X[:50] / 16, y=digits.y[:50])
    run("train", "digits", "--epochs", 2, "--backend", "numpy", "--no-plots")
    status, out, error = run("evaluate", "runs/digits-1", "some.npz")
    assert status == 0, (out, error)
    assert "accuracy" in out


@pytest.mark.long
def test_bench(run, tmp_path):
    options = [
        "--backends",
        "numpy",
        "--peers",
        "none",
        "--sizes",
        "8,4,3",
        "--batch-sizes",
        "1,16",
        "--rounds",
        "2",
    ]
    status, out, _ = run("bench", *options, "--out", "b.json")
    assert status == 0
    assert "GEMM floor" in out
    found = json.loads((tmp_path / "b.json").read_text())
    assert [(f["contestant"], f["m"]) for f in found["figures"]] == [
        ("floor", 1),
        ("nnx:numpy", 1),
        ("floor", 16),
        ("nnx:numpy", 16),
    ]


def begun(tmp_path, said, command):
    """Begin a command; wait until it says a line on stderr that this matches."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not re.match(said, line := process.stderr.readline()):
        assert line, process.stdout.read()
    return process


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_an_interrupted_bench_keeps_the_cells_that_were_measured(run, tmp_path, how):
    command = (
        "nnx bench --backends numpy --peers none --sizes 8-4-3 --batch-sizes 1,16 --rounds 2 --out b.json"
    )
    process = begun(tmp_path, r".*m = 16\n", command)
    process.send_signal(getattr(signal, how))
    _, err = process.communicate(timeout=60)
    if how == "SIGINT":
        assert process.returncode == 130
        assert "Stopped by Ctrl-C after 1 of 2 cells." in err
        assert "Saved     b.json, b.html" in err
        assert "Traceback" not in err
    assert {f["m"] for f in json.loads((tmp_path / "b.json").read_text())["figures"]} == {1}
    status, out, _ = run("bench", "show", "b.json")
    assert status == 0
    assert "GEMM floor" in out


def test_version(run):
    assert run("--version") == (0, f"nnx {nnx.__version__}\n", "")


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_keeps_the_model_and_the_history(tmp_path):
    process = begun(tmp_path, "epoch 1/", "nnx train digits --epochs 100000 --out run --backend numpy")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Stopped by Ctrl-C after" in err
    assert "run: model.safetensors, history.jsonl, learning_curve.png" in err
    assert "Go on     nnx train --resume run" in err
    trainer = nnx.Trainer.load(tmp_path / "run" / "model.safetensors", backend="numpy")
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert len(trainer.records) == len(lines) >= 1
    assert trainer.steps >= 45 * len(lines)  # 1,438 samples, 32 a step
    assert not list((tmp_path / "run").glob(".*"))


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['typer'] = None; from nnx.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "python -m pip install" in done.stderr
    assert '[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("the GPU has too little memory"),
        type("OutOfMemoryError", (RuntimeError,), {})(
            "CUDA out of memory. Tried to allocate 20.00 MiB"
        ),  # PyTorch's
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 512 bytes."),  # JAX's
    ],
)
def test_too_little_memory_is_no_fault_of_nnx(run, capsys, error):
    from nnx.__main__ import said

    assert said(error) == 1
    assert capsys.readouterr().err.startswith(f"Error: the memory does not suffice: {error}")


def test_a_gpu_that_fails_under_pytorch_is_no_fault_of_nnx(run, capsys):
    from nnx.__main__ import said

    assert said(RuntimeError("CUDA error: an illegal memory access was encountered\nand more")) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert err.startswith(
        "Error: the GPU failed (CUDA error: an illegal memory access was encountered). Start"
    )
    assert err.endswith("nnx train --resume FOLDER")


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


IMPORTING = """
import signal, sys
sys.argv = {argv!r}
sys.orig_argv = ["python", *{typed!r}]
signal.signal(signal.SIGINT, signal.default_int_handler)

class CtrlC:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, CtrlC)
import nnx.__main__
nnx.__main__.main()
"""


@pytest.mark.parametrize(
    ("argv", "typed", "module"),
    [
        (["bin/nnx", "train", "iris"], ["bin/nnx", "train", "iris"], "nnx.convert"),
        (["nnx.exe"], ["nnx.exe"], "nnx.errors"),
        (["-m", "train", "-m"], ["-m", "nnx", "train", "-m"], "nnx.convert"),
        pytest.param(["bin/nnx"], ["bin/nnx"], "typer", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_while_the_command_imports_is_one_line(argv, typed, module):
    code = IMPORTING.format(argv=argv, typed=typed, module=module)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (130, "")
    assert found.stderr == "Stopped by Ctrl-C before anything was done: nothing is written.\n"


@pytest.mark.parametrize("argv", [["mine.py"], ["-m", "x"], ["-c"], [""], []])
def test_a_program_that_imports_nnx_handles_ctrl_c_itself(argv, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "mine", "x"])
    handler = signal.getsignal(signal.SIGINT)
    starting.watch()
    assert signal.getsignal(signal.SIGINT) is handler


def ctrl_c(*arguments, **named):
    raise KeyboardInterrupt


def ctrl_c_in_an_extension(*arguments, **named):
    raise ImportError("initialization failed") from KeyboardInterrupt()


def test_ctrl_c_in_an_import_is_no_missing_library(monkeypatch):
    for module, call in [
        (base, lambda: base.require("torch", "torch")),
        (parallel, lambda: parallel._library("ray", "pip")),
    ]:
        monkeypatch.setattr(module, "import_module", ctrl_c_in_an_extension)
        with pytest.raises(KeyboardInterrupt):
            call()
    monkeypatch.setattr(base, "import_module", importlib.import_module)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:  # one that came before is no reason
        with pytest.raises(nnx.errors.BackendError, match="no_such_library cannot be imported"):
            base.require("no_such_library", "torch")


def test_ctrl_c_while_a_backend_is_loaded_is_no_failure_of_it(monkeypatch):
    monkeypatch.setattr("nnx.port.entry_points.entry", lambda *_: Entry())
    with pytest.raises(KeyboardInterrupt):
        nnx.backend("other")
    with pytest.raises(KeyboardInterrupt):
        communicators._load("other")


class Entry:
    """An entry point whose package Ctrl-C ends."""

    value = "other:Other"
    load = staticmethod(ctrl_c_in_an_extension)


@pytest.mark.parametrize(
    ("step", "raises"),
    [
        ("nnx.cli.app.app", ctrl_c_in_an_extension),
        ("nnx.cli.streams.writing", ctrl_c),
        ("nnx.cli.help.TyperGroup.make_context", ctrl_c),
    ],
)
def test_ctrl_c_before_and_after_a_command_is_one_line(run, monkeypatch, step, raises):
    monkeypatch.setattr(step, raises)
    status, _, err = run("show", "--help")
    assert (status, err) == (130, "Stopped by Ctrl-C.\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    nnx.Tabular({"a": [1, 2] * 9, "b": ["x", "y"] * 9}, "b", layers=[], backend="numpy").save(path)
    return path


@pytest.mark.parametrize(
    ("step", "arguments", "line"),
    [
        (
            "nnx.cli.train.prepare",
            ["train", "iris"],
            "Stopped by Ctrl-C before the first epoch: nothing is saved.",
        ),
        (
            "nnx.cli.running.begin",
            ["train", "iris"],
            "Stopped by Ctrl-C before the first epoch: nothing is saved.",
        ),
        (
            "nnx.cli.inputs.Trainer.load",
            ["predict", "MODEL", "iris"],
            "Stopped by Ctrl-C: nothing is written.",
        ),
        ("nnx.cli.inputs.Trainer.load", ["evaluate", "MODEL", "iris"], "Stopped by Ctrl-C."),
        ("nnx.cli.export.to_onnx", ["export", "MODEL", "a.onnx"], "Stopped by Ctrl-C: nothing is written."),
        ("nnx.cli.model.described", ["show", "MODEL", "--json"], "Stopped by Ctrl-C."),
        ("nnx.cli.bench._check", ["bench", "--out", "a.json"], "Stopped by Ctrl-C."),
    ],
)
def test_ctrl_c_before_there_is_a_result_is_one_line(
    run, monkeypatch, tmp_path, model, step, arguments, line
):
    monkeypatch.setattr(step, ctrl_c)
    status, out, err = run(*[model if one == "MODEL" else one for one in arguments])
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == line
    assert "Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
