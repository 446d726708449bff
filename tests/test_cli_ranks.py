"""`nnx train --communicator mpi`."""

import json
import signal
import time

import numpy as np
import pytest
from mpi import ended, needs_mpi, started
from mpi import run as in_ranks

import nnx

pytestmark = needs_mpi
COMMAND = "-m", "nnx", "train"


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("more", [(), pytest.param(("--tensorboard",), marks=pytest.mark.long)])
def test_a_run_is_that_of_one_process(run, tmp_path, more):
    """The first rank alone writes and says something."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", X=rng.random((60, 3)), y=rng.random(60))
    options = (
        tmp_path / "data.npz",
        "--epochs",
        "4",
        "--backend",
        "numpy",
        "--no-plots",
        "--early-stopping",
        "2",
        *more,
    )
    _, *alone = run("train", *options, "--out", tmp_path / "1")
    together = in_ranks(2, *COMMAND, *options, "--communicator", "mpi", "--out", tmp_path / "2")
    for output in ("".join(alone), together):
        assert output.count("Optimizer ") == output.count("Held out  ") == output.count("Saved  ") == 1, (
            output
        )
    first, second = (history(tmp_path / str(n)) for n in (1, 2))
    assert len(first) == len(second) == 4
    for row, other in zip(first, second, strict=True):
        assert row.keys() == other.keys()
        for name, x in row.items():
            assert x == pytest.approx(other[name], rel=1e-4)
    first, second = (nnx.Trainer.load(tmp_path / str(n), "numpy").theta for n in (1, 2))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)
    assert [len([*(tmp_path / str(n)).glob("events*")]) for n in (1, 2)] == 2 * [len(more)]
    assert "communicator" not in (tmp_path / "2" / "config.toml").read_text()


@pytest.mark.long
def test_ctrl_c_ends_all_and_the_run_goes_on_with_other_ranks(tmp_path):
    options = (
        "--no-early-stopping",
        "--epochs",
        "1000000",
        "--backend",
        "numpy",
        "--no-plots",
        "--out",
        tmp_path,
    )
    process = started(2, *COMMAND, "digits", "--communicator", "mpi", *options)
    while "epoch 1/" not in process.stdout.readline():
        pass
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, status, seconds = ended(process)
    assert status == 130, output
    assert seconds < 10
    assert output.count("Stopped by Ctrl-C after") == output.count("Go on  ") == 1, output
    done = len(history(tmp_path))
    (checkpoint,) = tmp_path.glob("checkpoints/*")
    saved = nnx.Trainer.load(checkpoint, "numpy")
    assert saved.stopped is None
    assert len(saved.records) == done
    again = in_ranks(3, *COMMAND, "--resume", tmp_path, "--communicator=mpi", "--epochs", done + 2)
    assert again.count(f"Resumed   {tmp_path} after epoch {done}") == 1, again
    assert len(history(tmp_path)) == done + 2


FAULTS = {
    "sweep": (
        ("digits", "--sweep", "layers=64 32"),
        2,
        "--sweep trains networks that know nothing of each other",
    ),
    "folds": (("digits", "--folds", "3"), 2, "--folds trains networks that know nothing of each other"),
    "no number": (("digits", "--epochs", "x"), 2, "Invalid value for"),
    "no file": (("nowhere.csv",), 1, "there is no file"),
    "batch norm": (
        ("digits", "--norm", "batch", "--no-plots", "--out", "OUT"),
        1,
        "BatchNorm cannot be trained on",
    ),
    "of one rank": (
        ("digits", "--no-plots", "--out", "/proc/x"),
        1,
        "Error: rank 0 of 2 failed, and ends all: the run",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_once(tmp_path, fault):
    options, expected, said = FAULTS[fault]
    options = [str(tmp_path / "run") if x == "OUT" else x for x in options]
    output, status, seconds = ended(
        started(2, *COMMAND, *options, "--communicator", "mpi", "--backend", "numpy")
    )
    assert status == expected, output
    assert output.count(said) == 1, output
    assert seconds < 20


def test_an_unknown_communicator(run):
    status, _, errors = run("train", "iris", "--communicator", "mpx")
    assert status == 1
    assert "unknown communicator 'mpx'; did you mean 'mpi'?" in errors


SLOW = """if True:
    import time
    from nnx import plots
    from nnx.__main__ import main
    leave = plots.leave
    plots.leave = lambda *given, **more: (time.sleep(3), leave(*given, **more))[1]
    main()
"""


@pytest.mark.long
def test_a_run_that_diverges_is_saved_however_long_that_takes(tmp_path):
    rng, table = np.random.default_rng(0), tmp_path / "table.csv"
    X = rng.standard_normal((400, 5))
    np.savetxt(table, np.c_[X, X @ rng.standard_normal(5)], delimiter=",", header="a,b,c,d,e,y", comments="")
    options = (
        "--activation", "identity", "--optimizer", "gradient_descent", "--learning-rate", "5", "--layers", "none",
        "--target", "y", "--backend", "numpy", "--batch-size", "0", "--no-early-stopping", "--no-plots",
        "--out", tmp_path / "run",
    )  # fmt: skip
    output, status, _ = ended(started(2, "-c", SLOW, "train", table, "--communicator", "mpi", *options))
    assert status == 1, output
    assert output.count("Error: ") == output.count("Saved  ") == 1, output
    assert "ends all" not in output
    assert {"model.safetensors", "history.jsonl"} <= {path.name for path in (tmp_path / "run").iterdir()}
