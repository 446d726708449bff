"""Three parts: what is trained on, what stops and chooses, what is reported."""

import json

import numpy as np
import pytest

import nnx
from nnx.cli import parts

QUICK = "--layers", "8", "--epochs", "4", "--backend", "numpy", "--no-plots"


def pets(path, m=60, seed=0, extra=""):
    """Write a table of pets whose kind follows from size and colour."""
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(40, 10, m), rng.choice(["red", "blue"], m)
    kind = np.where((size > 40) ^ (colour == "red"), "cat", "dog")
    rows = [f"{k},{c},{s:.6f}" for s, c, k in zip(size, colour, kind, strict=True)]
    path.write_text("\n".join(["kind,colour,size", *rows, *extra.split()]) + "\n")
    return path.name


@pytest.fixture
def files(run, tmp_path):
    """The names of a file to train on, one for validation and one to test on."""
    return [pets(tmp_path / f"{name}.csv", seed=i) for i, name in enumerate(("train", "valid", "test"))]


def found(run, *arguments):
    """Train, and return the results and what was said."""
    status, out, err = run("train", *arguments, "--json")
    assert status == 0, err
    return json.loads(out), err


def test_files_for_validation_and_test(run, files):
    train, valid, test = files
    said = "--validation", valid, "--test", test, "--out", "run"
    result, err = found(run, train, "--target", "kind", *QUICK, *said)
    assert "60 to train on, 60 (valid.csv) for validation, 60 (test.csv) to test" in err
    for name, file in (("validation", valid), ("test", test)):
        again = json.loads(run("evaluate", "run", file, "--metrics", "accuracy", "--json")[1])
        assert result[name] == {"samples": 60, "loss": again["loss"], "accuracy": again["accuracy"]}
    assert result["held_out"] == result["test"] != result["validation"]
    assert result["trained_on"] == 60
    trainer = nnx.Trainer.load("run/model.safetensors", backend="numpy")
    assert trainer.history["validation_loss"][-1] == pytest.approx(result["validation"]["loss"])
    assert parts.read(trainer.metadata)["test"]["of"].endswith("test.csv")
