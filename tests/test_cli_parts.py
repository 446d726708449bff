"""Three parts: what is trained on, what stops and chooses (validation), and what is reported (test); and folds."""

import gzip
import json
import statistics
import struct
from pathlib import Path

import numpy as np
import pytest

import nnx
from nnx.data import source
from nnx.data.column_checks import checked
from nnx.data.source import Samples
from nnx.data.splits import folds, split

QUICK = "--layers", "8", "--epochs", "4", "--backend", "numpy", "--no-plots"
PETS = "--target", "kind", *QUICK


def pets(name, seed=0, m=60, more=()):
    """Write a table of pets whose kind follows from size and colour."""
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(40, 10, m), rng.choice(["red", "blue"], m)
    kind = np.where((size > 40) ^ (colour == "red"), "cat", "dog")
    rows = [f"{c},{s:.6f},{k}" for c, s, k in zip(colour, size, kind, strict=True)]
    Path(name).write_text("\n".join(["colour,size,kind", *rows, *more]) + "\n")
    return rows


@pytest.fixture
def train(run):
    """Train on train.csv or what is given; return the results and what was said."""
    for seed, name in enumerate(("train.csv", "valid.csv", "test.csv")):
        pets(name, seed)

    def call(*arguments):
        of_pets = not arguments or arguments[0].startswith("-")
        given = ("train.csv", *PETS, *arguments) if of_pets else arguments
        status, out, err = run("train", *given, "--json")
        assert status == 0, err
        return json.loads(out), err

    return call


def refused(run, *arguments, status=2):
    """Return the error of a command that is refused, and nothing else is said."""
    found, out, err = run("train", *arguments)
    assert (found, out) == (status, "")
    assert err.startswith("Error:")
    return err


def test_files_for_validation_and_test(run, train):
    result, err = train("--validation", "valid.csv", "--test", "test.csv", "--out", "run")
    assert "60 to train on, 60 (valid.csv) for validation, 60 (test.csv) to test" in err
    assert "Validated accuracy" in err
    assert "Test      accuracy" in err
    assert "Held out" not in err
    for name, file in (("validation", "valid.csv"), ("test", "test.csv")):
        again = json.loads(run("evaluate", "run", file, "--metrics", "accuracy", "--json")[1])
        assert result[name] == {"samples": 60, "loss": again["loss"], "accuracy": again["accuracy"]}
    assert result["held_out"] == result["test"] != result["validation"]
    best = min(nnx.Trainer.load("run", backend="numpy").history["validation_loss"])
    assert best == pytest.approx(result["validation"]["loss"])
    assert nnx.plots.held_out.read(Path("run/held_out.npz")).total == 60
    shown = json.loads(run("show", "run", "--json")[1])["parts"]
    assert (shown["test"]["of"], shown["test"]["samples"]) == (str(Path("test.csv").resolve()), 60)
    assert "Tested    60 samples, " in run("show", "run")[1]


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_pictures_are_of_the_test_part(run, train):
    pets("test.csv", 5, m=30)
    train("--test", "test.csv", "--plots", "--out", "run")
    assert Path("run/confusion_matrix.png").is_file()
    assert nnx.plots.held_out.read(Path("run/held_out.npz")).A.shape == (1, 30)


def test_shares_are_of_all_samples(train):
    result, err = train("--validation", "0.1", "--test", "0.25")
    assert "39 to train on, 6 for validation, 15 to test" in err
    assert (result["trained_on"], result["validation"]["samples"], result["test"]["samples"]) == (39, 6, 15)
    assert train("--validation", "0.1", "--test", "0.25")[0]["test"] == result["test"]
    result, err = train("--validation", "0.25")
    assert "45 to train on, 15 held out" in err
    assert result["test"] is None
    assert result["held_out"] == result["validation"] == train("--held-out", "0.25")[0]["held_out"]


def test_the_columns_are_those_of_the_training_part(run, train):
    rows = pets("test.csv", 2)
    turned = [",".join(reversed(row.split(","))) for row in rows]
    Path("turned.csv").write_text("\n".join(["kind,size,colour", *turned]) + "\n")
    assert train("--test", "turned.csv")[0]["test"] == train("--test", "test.csv")[0]["test"]
    pets("some.csv", 2, more=["red,50,", "blue,20,"])
    result, err = train("--test", "some.csv")
    assert result["test"]["samples"] == 60
    assert "some.csv: 2 rows without the target 'kind' left out" in err
    pets("odd.csv", 2, more=["red,50,cow"])
    err = refused(run, "train.csv", *PETS, "--test", "odd.csv", status=1)
    assert "odd.csv" in err
    assert "labels that the model was not trained on: 'cow'" in err
    assert "there is no file 'none.csv'" in refused(
        run, "train.csv", *PETS, "--validation", "none.csv", status=1
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--validation", "1.5"),
            "validation must be a share of the samples, from 0 (none) to less than 1, or a file",
        ),
        (("--test", "nan"), "test must be a share of the samples"),
        (("--validation", "0.5", "--test", "0.5"), "leave nothing to train on"),
        (("--validation", "0.1", "--held-out", "0.1"), "--held-out and --validation say the same"),
        (("--folds", "1"), "folds must be 2 or more; given 1"),
        (("--validation", "0", "--metrics", "f1"), "metrics are of the samples held out"),
        (("--validation", "0", "--sweep", "seed=4 8"), "a sweep compares its runs on the samples held out"),
        (("--sweep", "folds=2 3"), "folds cannot be swept"),
    ],
)
def test_what_cannot_be(run, options, said):
    pets("train.csv")
    assert said in refused(run, "train.csv", *PETS, *options)


@pytest.mark.long
def test_the_same_samples_in_two_parts_are_warned_of(train):
    rows = pets("train.csv")
    Path("part.csv").write_text("\n".join(["colour,size,kind", *rows[:20]]) + "\n")
    said = "Warning: of the {} samples of the {} part there are "
    assert (
        said.format(60, "test") + "48 in the training part and 12 in the validation part"
        in (train("--test", "train.csv")[1])
    )
    assert said.format(20, "validation") + "20 in the training part" in train("--validation", "part.csv")[1]
    both = train("--validation", "valid.csv", "--test", "valid.csv")[1]
    assert said.format(60, "validation") + "60 in the test part" in both
    assert "say little about new samples" not in train("--validation", "valid.csv", "--test", "test.csv")[1]
    same = ["red,1,cat", "red,1,cat", "blue,2,dog", "blue,2,dog"]
    for name in ("train.csv", "test.csv"):  # rows that are mostly alike tell nothing
        Path(name).write_text("\n".join(["colour,size,kind", *same * 10]) + "\n")
    assert "say little about new samples" not in train("--test", "test.csv")[1]


def test_all_samples_can_be_trained_on_and_another_file_tested(train):
    result, err = train("--validation", "0")
    assert "60 samples" in err
    assert "none held out; no early stopping" in err
    assert "Held out  none; on the samples that it was trained on: accuracy" in err
    assert (result["held_out"], result["validation"], result["trained_on"]) == (None, None, 60)
    result, err = train("--held-out", "0", "--test", "test.csv", "--metrics", "f1")
    assert "60 to train on, none for validation, 60 (test.csv) to test; no early stopping" in err
    assert (result["validation"], result["test"]["samples"], result["kept_epoch"]) == (None, 60, None)
    assert set(result["test"]) == {"samples", "loss", "f1"}


@pytest.mark.long
def test_a_run_goes_on_with_the_same_parts(run, train):
    whole, _ = train("--validation", "valid.csv", "--test", "test.csv", "--out", "whole")
    train("--validation", "valid.csv", "--test", "test.csv", "--epochs", "2", "--out", "run")
    status, out, _ = run("train", "--resume", "run", "--epochs", "4", "--json")
    assert status == 0
    assert json.loads(out)["test"] == whole["test"]
    assert run("train", "--config", "run/config.toml", "--out", "again", "--no-plots")[0] == 0
    held = [f"{folder}/held_out.npz" for folder in ("run", "again")]
    np.testing.assert_array_equal(*(nnx.plots.held_out.read(Path(name)).A for name in held))
    for name, part in (("test.csv", "test"), ("valid.csv", "validation")):
        pets(name, seed=9)
        said = refused(run, "--resume", "run", status=1)
        assert f"the {part} part is not the one that the run 'run' began with" in said
        pets(name, seed=1 if part == "validation" else 2)
    assert "its test is" in refused(run, "--resume", "run", "--test", "other.csv")


def test_what_is_typed_wins_over_the_file(run, train):
    Path("c.toml").write_text('data = "train.csv"\ntarget = "kind"\nvalidation = 0.5\nepochs = 2\n')
    options = "--config", "c.toml", "--backend", "numpy", "--no-plots", "--json"
    assert json.loads(run("train", *options)[1])["held_out"]["samples"] == 30
    assert json.loads(run("train", *options, "--held-out", "0.1")[1])["held_out"]["samples"] == 6


def test_folds(run, train):
    result, err = train("--folds", "3", "--out", "run")
    plain, _ = train("--out", "plain")
    assert result["held_out"] == plain["held_out"]  # the model is that of a run without folds
    assert Path("run/history.jsonl").read_bytes() == Path("plain/history.jsonl").read_bytes()
    found = result["folds"]
    assert json.loads(Path("run/folds.json").read_text()) == found
    assert "folds.json" in result["files"]
    assert [one["samples"] for one in found["each"]] == [20, 20, 20]
    assert [one["trained_on"] for one in found["each"]] == [
        32,
        32,
        32,
    ]  # 40, of which a fifth stops the training
    for name in ("accuracy", "loss"):
        scores = [one[name] for one in found["each"]]
        assert len(set(scores)) > 1 or name == "accuracy"
        assert found["mean"][name] == pytest.approx(statistics.mean(scores))
        assert found["deviation"][name] == pytest.approx(statistics.stdev(scores))
    assert "mean and deviation of 3 models, each on samples that neither taught nor stopped it" in err
    assert "3 folds" in run("show", "run")[1]
    assert run("train", "train.csv", *PETS, "--out", "run", "--overwrite")[0] == 0
    assert not Path("run/folds.json").exists()


def test_folds_are_of_what_is_left_of_a_test_part(train, monkeypatch):
    """And the columns are looked at once for all of them."""
    looked = []
    monkeypatch.setattr(source, "checked", lambda *given: looked.append(1) or checked(*given))
    result, _ = train("--folds", "2", "--test", "0.2", "--validation", "0")
    assert result["test"]["samples"] == 12
    assert [(one["samples"], one["trained_on"]) for one in result["folds"]["each"]] == [(24, 24), (24, 24)]
    assert len(looked) == 1


@pytest.mark.long
def test_folds_that_were_interrupted_go_on(run, train, monkeypatch):
    from nnx.cli import folds as cross

    whole, _ = train("--folds", "3")
    done, one = [], cross._one

    def interrupted(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(one(*arguments))
        return done[-1]

    monkeypatch.setattr(cross, "_one", interrupted)
    status, out, err = run("train", "train.csv", *PETS, "--folds", "3", "--out", "run", "--json")
    assert status == 130
    assert json.loads(out)["folds"]["mean"] is None
    assert "Stopped by Ctrl-C in fold 3 of 3; the folds before are saved" in err
    assert "nnx train --resume run" in err
    monkeypatch.setattr(cross, "_one", one)
    status, out, _ = run("train", "--resume", "run", "--json")
    assert status == 0
    found = json.loads(out)["folds"]
    assert found["mean"] == whole["folds"]["mean"]
    assert [one["seconds"] for one in found["each"][:2]] == [one["seconds"] for one in done]
    longer = json.loads(run("train", "--resume", "run", "--epochs", "6", "--json")[1])["folds"]
    assert [one["epochs"] for one in longer["each"]] == [6, 6, 6]
    assert "its folds is 3" in refused(run, "--resume", "run", "--folds", "4")
    Path("run/folds.json").write_text('{"folds": 3}')
    assert "holds no folds of `nnx train`" in run("show", "run")[2]


@pytest.mark.long
def test_a_sweep_compares_on_the_validation_part_and_tests_once(run, train):
    options = "--test", "test.csv", "--sweep", "layers=1 16", "--out", "sweep"
    options = ["train.csv", "--target", "kind", "--epochs", "4", "--backend", "numpy", *options]
    status, out, _ = run("train", *options, "--json")
    assert status == 0
    found = json.loads(out)
    best = found["runs"][0]
    of_best = json.loads(
        run("evaluate", f"sweep/{best['run']}", "test.csv", "--metrics", "accuracy", "--json")[1]
    )
    assert found["test"] == {
        "run": best["run"],
        "samples": 60,
        "loss": of_best["loss"],
        "accuracy": of_best["accuracy"],
    }
    kept = [json.loads(line) for line in Path(f"sweep/{best['run']}/history.jsonl").read_text().splitlines()]
    assert best["loss"] == pytest.approx(min(one["validation_loss"] for one in kept))
    assert f"Test      {best['run']}: accuracy" in run("show", "sweep")[1]


@pytest.mark.long
def test_a_sweep_with_folds_compares_their_means(run, train):
    options = "train.csv", "--target", "kind", "--epochs", "3", "--backend", "numpy", "--folds", "2"
    status, out, _ = run("train", *options, "--sweep", "layers=1 16", "--out", "sweep", "--json")
    assert status == 0
    for row in json.loads(out)["runs"]:
        found = json.loads(Path(f"sweep/{row['run']}/folds.json").read_text())
        assert row["accuracy"] == found["mean"]["accuracy"]
        assert row["accuracy_deviation"] == found["deviation"]["accuracy"]
    assert "means of 2 folds" in run("show", "sweep")[1]


def test_a_split_by_time_is_suggested(train):
    rows = [f"2024-01-{1 + i % 28:02},{i % 7 + i / 100}" for i in range(60)]
    Path("dates.csv").write_text("\n".join(["when,sales", *rows]) + "\n")
    options = "dates.csv", "--target", "sales", *QUICK
    said = "to score later ones by 'when', give a file of them: --test FILE"
    assert said in train(*options)[1]
    assert said not in train(*options, "--test", "dates.csv")[1]
    assert said not in train("--test", "0.2")[1]


def images(rng, m):
    """Images of two kinds, a bright left half and a bright right half."""
    y = np.arange(m) % 2
    X = rng.integers(0, 80, (m, 4, 4))
    X[:, :, :2] += 150 * (1 - y)[:, None, None]
    X[:, :, 2:] += 150 * y[:, None, None]
    return X.astype(np.uint8), y.astype(np.uint8)


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wb") as file:
        file.write(head + array.tobytes())


def test_the_ready_split_of_idx_files(run, train, rng):
    for name, m in (("train", 40), ("t10k", 10)):
        X, y = images(rng, m)
        write_idx(Path(f"mnist/{name}-images-idx3-ubyte.gz"), X)
        write_idx(Path(f"mnist/{name}-labels-idx1-ubyte.gz"), y)
    data, test = (f"mnist/{name}-images-idx3-ubyte.gz" for name in ("train", "t10k"))
    result, err = train(data, *QUICK, "--test", test)
    assert (result["trained_on"], result["test"]["samples"]) == (32, 10)
    assert "lies beside" not in err
    assert f"test on it with --test {test}" in train(data, *QUICK)[1]
    assert f"is a folder; expected a file, such as '{data}' in it" in refused(run, "mnist", *QUICK, status=1)


@pytest.mark.parametrize(
    "names", ["X_train y_train X_test y_test", "x_train y_train x_test y_test", "X y X_test y_test"]
)
def test_the_ready_split_of_npz_files(run, train, rng, names):
    (X, y), (Z, z) = images(rng, 40), images(rng, 10)
    names = names.split()
    np.savez("digits.npz", **dict(zip(names, (X, y, Z, z), strict=True)))
    np.savez("test.npz", X=Z, y=z)
    result, err = train("digits.npz", *QUICK, "--out", "run")
    assert f"32 to train on, 8 for validation, 10 (digits.npz: {names[2]}, {names[3]}) to test" in err
    assert result["test"] == train("digits.npz", *QUICK, "--test", "test.npz")[0]["test"]
    scores = [run("evaluate", "run", name, "--json") for name in ("digits.npz", "test.npz")]
    assert f"{names[2]} and {names[3]} are read" in scores[0][2]
    assert json.loads(scores[0][1])["loss"] == json.loads(scores[1][1])["loss"]
    result, _ = train("digits.npz", *QUICK, "--test", "0")
    assert result["test"] is None


def test_the_ready_validation_part_of_npz_files(train, rng):
    parts = {"train": images(rng, 40), "val": images(rng, 12), "test": images(rng, 10)}
    arrays = {
        f"{name}_{part}": array
        for part, both in parts.items()
        for name, array in zip("xy", both, strict=True)
    }
    np.savez("digits.npz", **arrays)
    result, _ = train("digits.npz", *QUICK)
    assert (result["trained_on"], result["validation"]["samples"], result["test"]["samples"]) == (40, 12, 10)
    assert train("digits.npz", *QUICK, "--validation", "0.5")[0]["validation"]["samples"] == 20


def samples(y):
    return Samples(np.ones((len(y), 1)), np.asarray(y), ["x"], "kind")


def test_folds_are_stratified_disjoint_and_always_the_same(rng):
    y = rng.permutation(np.repeat([0, 1, 2], [50, 20, 10]))
    found = folds(samples(y), "classification", 5, seed=3)
    for train_rows, test_rows in found:
        np.testing.assert_array_equal(np.bincount(y[test_rows]), [10, 4, 2])
        np.testing.assert_array_equal(np.sort(np.concatenate([train_rows, test_rows])), np.arange(80))
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in found])), np.arange(80))
    again = folds(samples(y), "classification", 5, seed=3)
    assert all((one[1] == other[1]).all() for one, other in zip(found, again, strict=True))
    with pytest.raises(nnx.InputError, match="folds must be from 2 to the number of samples, 80; given 81"):
        folds(samples(y), "regression", 81, 0)


def test_a_share_of_some_rows(rng):
    y = rng.permutation(np.repeat([0, 1], [60, 40]))
    rest, test = split(samples(y), "classification", 0.2, 0)
    train_rows, validation = split(samples(y), "classification", 0.25, 0, rest)
    np.testing.assert_array_equal(np.bincount(y[validation]), [12, 8])
    np.testing.assert_array_equal(np.sort(np.concatenate([train_rows, validation, test])), np.arange(100))
