"""`nnx train` on tables as people have them, then `nnx evaluate` and `nnx predict`, as a user runs them."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import nnx

for needed in ("typer", "rich", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

import polars  # noqa: E402  # after the skip
from sklearn import metrics  # noqa: E402

from nnx.cli import inputs  # noqa: E402
from nnx.data import memory, tables  # noqa: E402


def passengers(m, seed=0):
    """A table with text, booleans and holes, whose target can be learned."""
    rng = np.random.default_rng(seed)
    sex, age = rng.choice(["male", "female"], m), rng.normal(30, 12, m).round(1)
    pclass = rng.integers(1, 4, m)
    p = 1 / (1 + np.exp(-3.0 * (sex == "female") + 1.5 + 0.8 * (pclass - 2)))
    frame = polars.DataFrame(
        {
            "survived": (rng.random(m) < p).astype(int),
            "pclass": pclass,
            "sex": sex,
            "age": age,
            "embarked": rng.choice(["S", "C", "Q", ""], m, p=[0.7, 0.2, 0.08, 0.02]),
            "alone": rng.random(m) < 0.5,
        }
    )
    holes = rng.random(m) < 0.2
    return frame.with_columns(age=polars.Series(np.where(holes, np.nan, age)).fill_nan(None))


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The folder of what the first test with `trained` has trained."""
    return tmp_path_factory.mktemp("once") / "folder"


@pytest.fixture
def trained(run, tmp_path, once):
    if not once.exists():
        passengers(400).write_csv(tmp_path / "train.csv")
        passengers(150, seed=1).write_csv(tmp_path / "test.csv")
        status, out, err = run("train", "train.csv", "--target", "survived", "--epochs", 30, "--layers", 8)
        assert (status, out) == (0, "")
        (tmp_path / "said").write_text(err)
        shutil.copytree(tmp_path, once)
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    (tmp_path / "said").unlink()
    return (once / "said").read_text()


def test_the_first_lines_say_what_was_done(trained):
    assert "400 samples, 5 features as 10 inputs; target 'survived', 2 classes" in trained
    assert "classification, since 'survived' holds 2 different whole numbers in 400 rows" in trained
    assert "numbers: pclass, age" in trained
    assert "true or false: alone" in trained
    assert "one-hot: sex (2), embarked (3 and missing)" in trained
    assert "missing, filled with the median: age (" in trained
    assert float(trained.split("accuracy ")[-1].split("%")[0]) > 70


def predicted(out):
    return polars.read_csv(io.StringIO(out))


def test_evaluate_is_what_scikit_learn_says_of_the_predictions(run, trained):
    status, out, err = run("evaluate", "runs/train-1", "test.csv", "--json")
    assert status == 0
    assert err == "Note: missing values, filled in as the training taught: 32 in 'age'\n"
    found = json.loads(out)
    y, p = passengers(150, seed=1)["survived"], predicted(run("predict", "runs/train-1", "test.csv")[1])
    assert (found.pop("model"), found.pop("data"), found.pop("samples")) == ("runs/train-1", "test.csv", 150)
    assert found.pop("left_out") == 0
    always = found.pop("baseline")  # the most frequent class of the training part
    most = int(passengers(400)["survived"].mean() > 0.5)
    assert always == {"prediction": most, "accuracy": pytest.approx(np.mean(np.array(y) == most))}
    assert found == pytest.approx(
        {
            "loss": metrics.log_loss(y, p["P(1)"]),
            "accuracy": metrics.accuracy_score(y, p["survived"]),
            "precision": metrics.precision_score(y, p["survived"]),
            "recall": metrics.recall_score(y, p["survived"]),
            "f1": metrics.f1_score(y, p["survived"]),
            "roc_auc": metrics.roc_auc_score(y, p["P(1)"]),
        },
        rel=1e-5,
    )
    status, out, _ = run(
        "evaluate", "runs/train-1", "test.csv", "--metrics", "accuracy, f1(none),confusion_matrix"
    )
    assert status == 0
    assert "test.csv: 150 samples" in out
    assert "loss (binary cross-entropy)" in out
    assert f"{found['accuracy']:.6g}" in out
    right = metrics.confusion_matrix(y, p["survived"])
    for label, row in enumerate(right):
        assert any(
            [str(label), *map(str, row)] == line.replace("│", " ").split() for line in out.splitlines()
        )


@pytest.mark.parametrize("piece", [200, 2**22])
def test_predictions_do_not_depend_on_how_the_data_come(run, trained, tmp_path, monkeypatch, piece):
    monkeypatch.setattr(tables, "PIECE", piece)
    monkeypatch.setattr(tables, "ROWS", 40)
    monkeypatch.setattr(inputs, "at_once", lambda trainer: 64)
    frame = passengers(150, seed=1)
    status, expected, err = run("predict", "runs/train-1", "test.csv")
    assert status == 0
    assert expected.startswith("survived,P(0),P(1)\n")
    assert len(expected.splitlines()) == 151
    assert "32 in 'age'" in err  # and nothing but data on the standard output
    shuffled = frame.drop("survived").select("alone", "sex", "age", "embarked", "pclass")
    shuffled.write_parquet(tmp_path / "new.parquet")
    text = shuffled.write_csv().encode()
    assert run("predict", "runs/train-1", "new.parquet")[1] == expected
    assert run("predict", "runs/train-1", "-", stdin=text)[1] == expected
    assert run("predict", "runs/train-1", stdin=gzip.compress(text))[1] == expected
    assert run("predict", "runs/train-1", stdin=(tmp_path / "new.parquet").read_bytes())[1] == expected
    labels = run("predict", "runs/train-1", "test.csv", "--no-probabilities")[1]
    assert labels.splitlines() == [line.split(",")[0] for line in expected.splitlines()]


@pytest.mark.parametrize(
    ("options", "name"),
    [([], "p.parquet"), (["--format", "parquet"], "p.data"), ([], "p.csv"), (["--format", "csv"], "p.x")],
)
def test_predictions_are_written_as_the_ending_or_the_format_says(
    run, trained, tmp_path, monkeypatch, options, name
):
    monkeypatch.setattr(inputs, "at_once", lambda trainer: 64)
    expected = predicted(run("predict", "runs/train-1", "test.csv")[1])
    status, out, err = run("predict", "runs/train-1", "test.csv", "--out", name, *options)
    assert (status, out) == (0, "")
    assert f"150 predictions in {name}" in err
    read = polars.read_parquet if "parquet" in [*options, name.split(".")[1]] else polars.read_csv
    found = read(tmp_path / name)
    assert found.columns == expected.columns
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-6)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_categories_that_the_training_did_not_have(run, trained, tmp_path):
    frame = passengers(20).with_columns(sex=polars.lit("unknown"), pclass=polars.lit(None))
    frame.write_csv(tmp_path / "new.csv")
    status, _, err = run("predict", "runs/train-1", "new.csv")
    assert status == 0
    filled, unseen = err.splitlines()
    assert filled.startswith("Note: missing values, filled in as the training taught: 20 in 'pclass', ")
    assert unseen == "Note: values that the training did not have: 20 in 'sex', such as 'unknown'"


def test_the_target_of_numbers_is_measured_in_its_unit(run, tmp_path):
    rng = np.random.default_rng(0)
    town, x = rng.choice(["a", "b", "c"], 200), rng.random(200)
    price = 1000 * x + 500.0 * (town == "b") + rng.random(200)
    polars.DataFrame({"x": x, "town": town, "price": price}).write_csv(tmp_path / "t.csv")
    options = ["--layers", "none", "--epochs", 40, "--learning-rate", 0.02]
    status, _, out = run("train", "t.csv", "--target", "price", *options)
    assert status == 0
    assert "regression, since 'price' holds fractions" in out
    wanted = "r2,mean_absolute_error,mean_squared_error,root_mean_squared_error"
    found = json.loads(run("evaluate", "runs/t-1", "t.csv", "--json", "--metrics", wanted)[1])
    a = predicted(run("predict", "runs/t-1", "t.csv")[1])["price"]
    assert found["r2"] == pytest.approx(metrics.r2_score(price, a), rel=1e-4)
    for name in wanted.split(",")[1:]:
        assert found[name] == pytest.approx(getattr(metrics, name)(price, a), rel=1e-3), name
    assert found["mean_absolute_error"] > 0.1  # of a target from 0 to 1500
    assert "half squared error of the scaled target" in run("evaluate", "runs/t-1", "t.csv")[1]


def test_a_class_that_does_not_occur_has_no_roc(run, trained, tmp_path):
    passengers(50).filter(polars.col("survived") == 1).write_csv(tmp_path / "ones.csv")
    assert json.loads(run("evaluate", "runs/train-1", "ones.csv", "--json")[1])["roc_auc"] is None
    assert "none: a class does not occur" in run("evaluate", "runs/train-1", "ones.csv")[1]


def test_images_know_their_shape_and_find_their_labels(run, tmp_path, rng):
    from test_data import write_idx

    write_idx(tmp_path / "t10k-images-idx3-ubyte", rng.integers(0, 256, (40, 4, 5)).astype("uint8"))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", (np.arange(40) % 3).astype("uint8"))
    np.savez(
        tmp_path / "colour.npz", X=rng.integers(0, 256, (40, 4, 5, 3)).astype("uint8"), y=np.arange(40) % 3
    )
    for data, shape in {
        "t10k-images-idx3-ubyte": (4, 5),
        "colour.npz": (4, 5, 3),
        "digits": (8, 8),
        "iris": None,
    }.items():
        status, *_ = run("train", data, "--epochs", 1, "--layers", 4, "--out", "run", "--overwrite")
        assert status == 0
        trainer = nnx.Trainer.load("run/model.safetensors", backend="numpy")
        preparation = nnx.data.Preparation.of(trainer.metadata)
        assert preparation.image_shape == shape
        assert len(preparation.inputs) == trainer.network.n[0]
        status, _, err = run("evaluate", "run", data, "--json")
        assert status == 0
        assert all("no better than the baseline" in line for line in err.splitlines())  # after one epoch
    piped = (tmp_path / "t10k-images-idx3-ubyte").read_bytes()
    run("train", "t10k-images-idx3-ubyte", "--epochs", 1, "--layers", 4, "--out", "images")
    assert len(run("predict", "images", stdin=piped)[1].splitlines()) == 41
    write_idx(tmp_path / "others", (np.arange(40) % 2).astype("uint8"))
    status, _, _ = run("evaluate", "images", "t10k-images-idx3-ubyte", "--target", "others", "--json")
    assert status == 0
    status, _, err = run("evaluate", "images", stdin=piped)
    assert status == 1
    assert "no targets to compare the predictions with" in err


def test_a_target_of_another_name(run, trained, tmp_path):
    passengers(150, seed=1).rename({"survived": "outcome"}).write_csv(tmp_path / "other.csv")
    status, _, err = run("evaluate", "runs/train-1", "other.csv")
    assert status == 1
    assert "lacks the column 'survived'" in err
    assert "Give --target COLUMN" in err
    expected = json.loads(run("evaluate", "runs/train-1", "test.csv", "--json")[1])
    found = json.loads(run("evaluate", "runs/train-1", "other.csv", "--target", "outcome", "--json")[1])
    assert found["loss"] == expected["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "runs/train-1", "labels.csv"],
            "labels that the model was not trained on: '7', in 1 row",
        ),
        (["evaluate", "runs/train-1", "text.csv"], "not trained on: 'dead', in 1 row, the first in row 3"),
        (["evaluate", "runs/train-1", "test.csv", "--metrics", "r2"], "the metric 'r2' has no meaning"),
        (
            ["evaluate", "runs/train-1", "holes.csv"],
            "the target 'survived' is missing in all 20 rows of holes.csv",
        ),
        (["predict", "runs/train-1", "numbers.csv"], "the column 'age' of numbers.csv holds 'x' in row 2"),
        (["predict", "runs/train-1", "empty.csv"], "'empty.csv' is empty"),
        (["predict", "runs/train-1", "header.csv"], "has the names of columns, and no rows"),
        (["predict", "runs/train-1"], "the standard input is empty"),
        (["predict", "runs/train-1", "iris"], "iris lacks the columns 'pclass', 'sex'"),
        (["predict", "nowhere", "test.csv"], "there is no model file 'nowhere'"),
        (["predict", "runs/train-1", "https://example.com/x.csv"], "is a URL; expected a file"),
        (["predict", "runs/train-1", "nowhere.csv"], "there is no file 'nowhere.csv'"),
        (["train", "holes.csv", "--target", "survived"], "the target 'survived' is missing in all 20 rows"),
        (["train", "one.csv", "--target", "survived"], "the data have one row; expected many"),
        (["train", "ones.csv", "--target", "survived"], "has one class only, '1'"),
        (["train", "ones.csv", "--target", "survived", "--task", "regression"], "is 1 in all 20 rows"),
        (["train", "sheet.csv", "--target", "survived"], "is an Excel workbook"),
        (
            ["train", "test.csv", "--target", "sex", "--drop", "age, alone"],
            "by itself: --drop 'age' --drop 'alone'. Its",
        ),
    ],
)
def test_bad_input_is_one_clear_error(run, trained, tmp_path, arguments, message):
    from test_data import zipped

    frame = passengers(20)
    ones = frame.with_columns(survived=polars.lit(1))
    text = frame.with_columns(polars.all().cast(polars.String)).rows()
    replaced = {
        "labels.csv": (2, 0, "7"),
        "text.csv": (2, 0, "dead"),
        "numbers.csv": (1, 3, "x"),
    }
    for name, (row, column, cell) in replaced.items():
        rows = [list(one) for one in text]
        rows[row][column] = cell
        polars.DataFrame(rows, schema=frame.columns, orient="row").write_csv(tmp_path / name)
    frame.with_columns(survived=polars.lit(None)).write_csv(tmp_path / "holes.csv")
    ones.write_csv(tmp_path / "ones.csv")
    ones[:1].write_csv(tmp_path / "one.csv")
    frame[:0].write_csv(tmp_path / "header.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "sheet.csv").write_bytes(zipped("[Content_Types].xml"))
    status, out, err = run(*arguments)
    assert status == 1
    assert message in err
    assert "Error: " in err
    assert out == ""
    assert "Traceback" not in err
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["train-1"]


def test_columns_of_no_use_are_left_out_and_said(run, tmp_path):
    names = polars.Series([f"name {k}" for k in range(60)])
    frame = passengers(60).with_columns(name=names, void=polars.lit(None))
    frame.write_csv(tmp_path / "odd.csv")
    status, _, err = run("train", "odd.csv", "--target", "survived", "--epochs", 1, "--no-plots")
    assert status == 0
    assert "left out: name (60 different values in 60 rows), void (no value at all)" in err
    assert run("predict", "runs/odd-1", "odd.csv")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--metrics", "acuracy"], "did you mean 'accuracy'"),
        (["evaluate", "--metrics", "f1,"], "metrics must be names such as"),
        (["evaluate", "--metrics", ""], "metrics must be names such as"),
        (["evaluate", "--backend", "nunpy"], "did you mean 'numpy'"),
        (["predict", "--backend", "nunpy"], "did you mean 'numpy'"),
        (["predict", "--out", "p.json"], "ends in neither .csv nor .parquet"),
        (["predict", "--format", "xml"], "unknown format 'xml'"),
    ],
)
def test_what_is_wrong_whatever_the_data_are(run, arguments, message):
    command, *options = arguments
    status, out, err = run(command, "model", "data.csv", *options)  # of which there is neither
    assert (status, out) == (2, "")
    assert message in err


def test_a_file_that_is_not_what_its_ending_says_is_read_as_what_it_is(run, trained, tmp_path):
    expected = run("predict", "runs/train-1", "test.csv")[1]
    (tmp_path / "test.parquet").write_bytes((tmp_path / "test.csv").read_bytes())
    status, out, err = run("predict", "runs/train-1", "test.parquet")
    assert (status, out) == (0, expected)
    assert "Note: 'test.parquet' holds CSV, not Parquet as its name says; it is read as CSV" in err
    status, _, err = run("train", "test.parquet", "--target", "survived", "--epochs", 1)
    assert status == 0
    assert "it is read as CSV" in err


def test_a_panic_of_rust_is_one_line(run, trained, tmp_path, monkeypatch):
    """As polars has it for some damaged Parquet files: it prints its stack, and raises no Exception."""
    polars.read_csv(tmp_path / "test.csv").write_parquet(tmp_path / "test.parquet")

    def panic(*arguments, **options):
        os.write(2, b"thread 'main' panicked\nstack backtrace:\n")
        raise polars.exceptions.PanicException("called unwrap on an Err")

    monkeypatch.setattr(polars, "scan_parquet", panic)
    kept, shown = os.dup(2), tmp_path / "shown"
    with shown.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        status, out, err = run("predict", "runs/train-1", "test.parquet")
        os.write(2, b"the same as before")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert (status, out) == (1, "")
    assert err == "Error: 'test.parquet' cannot be read as Parquet: called unwrap on an Err\n"
    assert shown.read_bytes() == b"the same as before"


def test_decimal_commas_are_an_option(run, trained, tmp_path):
    text = (tmp_path / "test.csv").read_text()
    (tmp_path / "comma.csv").write_text(text.replace(",", ";").replace(".", ","))
    expected = run("predict", "runs/train-1", "test.csv")[1]
    status, _, err = run("predict", "runs/train-1", "comma.csv")
    assert status == 1
    assert "give --decimal-comma" in err
    assert run("predict", "runs/train-1", "comma.csv", "--decimal-comma")[:2] == (0, expected)
    assert run("evaluate", "runs/train-1", "comma.csv", "--decimal-comma")[0] == 0
    assert run("train", "comma.csv", "--target", "survived", "--decimal-comma", "--epochs", 1)[0] == 0


def test_too_little_memory_is_said_before_it_is_taken(run, tmp_path, monkeypatch):
    passengers(2000).write_csv(tmp_path / "t.csv")
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 50_000)
    status, out, err = run("train", "t.csv", "--target", "survived")
    assert (status, out) == (1, "")
    assert "training on 't.csv' (" in err
    assert "of memory; 50 kB are available. Close other programs, or take a part of its rows" in err


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_who_reads_the_predictions_may_stop_early(run, trained, tmp_path):
    passengers(60_000).write_csv(tmp_path / "many.csv")
    command = f"{sys.executable} -m nnx predict runs/train-1 many.csv | head -n 2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "survived,P(0),P(1)"
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_read_as_the_standard_input(run, trained, tmp_path):
    expected = run("predict", "runs/train-1", "test.csv")[1]
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", "test.csv", "pipe"], cwd=tmp_path):
        assert run("predict", "runs/train-1", "pipe")[:2] == (0, expected)


def test_what_is_wrong_in_a_pipe(run, trained):
    for stdin, message in {
        b"": "the standard input is empty",
        b"pclass,sex\n": "the standard input has the names of columns, and no rows",
        b"pclass,sex\n1\n": "row 1 of the standard input",
        b"\x89PNG\r\n\0": "the standard input is a PNG image",
        b"PAR1 but no more": "the standard input cannot be read as Parquet",
    }.items():
        status, out, err = run("predict", "runs/train-1", stdin=stdin)
        assert (status, out) == (1, "")
        assert message in err


def test_booleans_are_classes(run, tmp_path):
    frame = passengers(100)
    frame.with_columns(alone=polars.col("age") > 30).drop_nulls().write_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("true", "True"))
    assert run("train", "t.csv", "--target", "alone", "--epochs", 40)[0] == 0
    status, out, _ = run("evaluate", "runs/t-1", "t.csv", "--json")
    assert status == 0
    assert json.loads(out)["accuracy"] > 0.9


def test_nothing_to_predict_on_is_a_wrong_use(run, trained):
    status, _, err = run("predict", "runs/train-1", stdin=None)
    assert status == 2
    assert "give FILE, or pipe a table in" in err
