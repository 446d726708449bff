"""Labels of all kinds, drawn at random: each comes out as it came in, from every format into every format."""

import csv
import decimal
import io
import json
import random
import re

import numpy as np
import pytest

for needed in ("typer", "rich", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

import polars  # noqa: E402  # after the skip

import nnx  # noqa: E402
from nnx.cli.predict import predictions  # noqa: E402
from nnx.data import Preparation, files  # noqa: E402
from nnx.data.task import find_task  # noqa: E402

NUMPY = nnx.backend("numpy")
REPEATS = 6
"""How often each label occurs."""


def words(draw, letters, most=6):
    return "".join(draw.choice(letters) for _ in range(draw.randint(1, most)))


OF_TEXT = {
    "words": lambda draw: words(draw, "abcxyzÄéß漢"),
    "with separators": lambda draw: "a" + words(draw, "ab,;\"' |=()") + "z",
    "codes": lambda draw: words(draw, "0123456789", 4),
    "leading zeros": lambda draw: "0" * draw.randint(1, 3) + str(draw.randint(0, 9)),
    "hexadecimal": lambda draw: words(draw, "0123456789ef"),
    "exponents": lambda draw: f"{draw.randint(1, 9)}{draw.choice('eE')}{draw.randint(0, 5)}",
    "signed": lambda draw: draw.choice("+-") + str(draw.randint(1, 50)),
    "whole with a point": lambda draw: f"{draw.randint(0, 99)}.{'0' * draw.randint(0, 2)}",
    "beyond 64 bits": lambda draw: str(draw.randint(-(2**70), 2**70)),
    "booleans": lambda draw: draw.choice(["True", "False"]),
    "small booleans": lambda draw: draw.choice(["true", "false"]),
    "words like values": lambda draw: draw.choice(
        ["True", "1", "1.0", "01", "none", "inf", "x", "yes", "1e0"]
    ),
    "integers": lambda draw: str(draw.randint(-20, 20)),
    "large integers": lambda draw: str(2**60 + draw.randint(0, 9)),
    "unsigned": lambda draw: str(2**63 + draw.randint(0, 3000)),
}
"""Labels as they stand in a CSV file."""

TYPED = {
    "int8": lambda draw: draw.randint(-128, 127),
    "int64": lambda draw: draw.choice([-(2**63), 2**63 - 1, 0, 2**53, 2**53 + 1, draw.randint(0, 2**62)]),
    "uint64": lambda draw: 2**64 - 1 - draw.randint(0, 9),
    "uint16": lambda draw: draw.randint(0, 2**16 - 1),
    "float64": lambda draw: float(draw.choice([0, 1, -3, 2**52, 1e5, 1e20, 3e300])),
    "float32": lambda draw: float(draw.randint(-5, 5)),
    "bool": lambda draw: draw.random() < 0.5,
}
"""Labels as they stand in Parquet, .npz and arrays, by their types."""


def meaning(cells):
    """The labels that CSV cells mean: those of a column of plain numbers are one where the numbers are."""
    first = {}
    if all(re.fullmatch(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?", cell) for cell in cells):
        return {cell: first.setdefault(decimal.Decimal(cell), cell) for cell in cells}
    return {cell: cell for cell in cells}


def drawn(make, draw):
    """Two to five labels, and one of them for each sample, every one REPEATS times, in order of their drawing."""
    n = draw.randint(2, 5)
    found = list(dict.fromkeys(make(draw) for _ in range(100)))[:n]
    order = [k for k in range(len(found)) for _ in range(REPEATS)]
    draw.shuffle(order)
    return found, order


def features(order, n):
    """Features that tell the classes apart: the place of each class on an axis of its own."""
    return np.eye(n)[order] + 0.01 * np.random.default_rng(0).standard_normal((len(order), n))


def write(path, order, y, n):
    columns = {f"x{j}": column for j, column in enumerate(features(order, n).T)}
    frame = polars.DataFrame({**columns, "kind": y})
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".npz":
        np.savez(path, X=features(order, n), y=y)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([frame.columns, *frame.rows()])


class Functions:
    """Training, predicting and evaluating by the functions of the package, with a network of one layer."""

    def __init__(self, folder):
        self.folder, self.models = folder, {}

    def train(self, data, name):
        samples = files.read(data, None if data.suffix == ".npz" else "kind").training("kind", ())
        preparation = Preparation.learn(samples, find_task(samples, "classification"), slice(None))
        X, Y = preparation.X(samples.X), preparation.Y(samples.y)
        network = nnx.mlp([X.shape[0], preparation.n_outputs], output=preparation.output)
        trainer = nnx.Trainer(network, nnx.LBFGS(), NUMPY, dtype="float64")
        trainer.metadata = {"preparation": preparation.describe()}
        trainer.fit(X, Y, epochs=6)
        trainer.save(self.folder / f"{name}.safetensors")
        trainer = nnx.Trainer.load(self.folder / f"{name}.safetensors", NUMPY)
        self.models[name] = trainer, Preparation.of(trainer.metadata)
        return self.models[name][1]

    def predicted(self, name, data):
        trainer, preparation = self.models[name]
        (piece,) = files.pieces(data)
        X = preparation.X(piece.values(preparation.features, preparation.named))
        frame = predictions(preparation, trainer.predict(X), False)
        frame.write_parquet(self.folder / "p.parquet")
        text = [row[0] for row in csv.reader(io.StringIO(frame.write_csv()))][1:]
        return text, polars.read_parquet(self.folder / "p.parquet").to_series()

    def measured(self, name, data):
        trainer, preparation = self.models[name]
        (piece,) = files.pieces(data, None if data.suffix == ".npz" else "kind", predicting=False)
        X = preparation.X(piece.values(preparation.features, preparation.named))
        return trainer.evaluate(X, preparation.Y(piece.targets("kind", preparation.labels)))


class Commands:
    """The same by the command line."""

    def __init__(self, run):
        self._run = run

    def run(self, *arguments):
        status, out, err = self._run(*arguments)
        assert status == 0, err
        return out

    def train(self, data, name):
        self.run(
            "train", data, *(() if data.suffix == ".npz" else ("--target", "kind")), "--task", "classification",
            "--layers", "16", "--optimizer", "lbfgs", "--epochs", "60", "--held-out", "0", "--no-plots",
            "--backend", "numpy", "--dtype", "float64", "--init", "glorot", "--out", name, "--quiet",
        )  # fmt: skip
        return Preparation.of(nnx.Trainer.load(f"{name}/model.safetensors", "numpy").metadata)

    def predicted(self, name, data):
        options = ("predict", name, data, "--no-probabilities", "--backend", "numpy")
        text = self.run(*options)
        self.run(*options, "--out", "p.parquet", "--overwrite")
        rows = [row[0] for row in csv.reader(io.StringIO(text))][1:]
        return rows, polars.read_parquet("p.parquet").to_series()

    def measured(self, name, data):
        target = () if data.suffix == ".npz" else ("--target", "kind")
        options = ("--metrics", "accuracy", "--json", "--backend", "numpy")
        found = json.loads(self.run("evaluate", name, data, *target, *options))
        return {"loss": found["loss"], "accuracy": found["accuracy"]}


def written(label):
    """A label as CSV has it."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def check_text(by, tmp_path, kind, seed):
    draw = random.Random(f"{kind} {seed}")
    labels, order = drawn(OF_TEXT[kind], draw)
    cells = [labels[k] for k in order]
    means = meaning(list(dict.fromkeys(cells)))  # in the order of the file
    expected = [means[cell] for cell in cells]
    place = {label: k for k, label in enumerate(dict.fromkeys(expected))}
    if len(place) < 2:
        return
    order = [place[label] for label in expected]
    data, parquet, npz = (tmp_path / f"{seed}.{ending}" for ending in ("csv", "parquet", "npz"))
    for path in (data, parquet):
        write(path, order, cells, len(place))
    np.savez(npz, X=features(order, len(place)), y=np.array(cells))
    preparation = by.train(data, f"csv{seed}")
    assert set(map(written, preparation.labels)) == set(expected)
    text, column = by.predicted(f"csv{seed}", data)
    assert text == expected
    assert [*map(written, column.to_list())] == expected
    found = by.measured(f"csv{seed}", data)
    assert found["accuracy"] == 1
    assert by.measured(f"csv{seed}", parquet) == found
    if len(place) < len(means):  # of text that has a type, 1 and 1.0 are always two labels
        return
    for path in (parquet, npz):
        name = f"{path.suffix[1:]}{seed}"
        assert set(by.train(path, name).labels) == set(cells)
        text, column = by.predicted(name, path)
        assert text == column.to_list() == cells
        assert by.measured(name, path)["accuracy"] == 1
    assert by.measured(f"parquet{seed}", data) == found  # the same classes and scores


def check_typed(by, tmp_path, kind, seed):
    draw = random.Random(f"{kind} {seed}")
    labels, order = drawn(TYPED[kind], draw)
    y = np.array([labels[k] for k in order], kind)
    paths = [tmp_path / f"{seed}.{ending}" for ending in ("csv", "parquet", "npz")]
    said = []
    for path in paths:
        write(path, order, y, len(labels))
    for path in paths:
        preparation = by.train(path, name := f"of {path.name}")
        text, column = by.predicted(name, path)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                assert text == [row["kind"] for row in csv.DictReader(file)]
        else:
            assert preparation.labels == sorted(set(y.tolist()))
            assert column.to_list() == y.tolist()
            assert {type(label) for label in preparation.labels} == {type(y.tolist()[0])}
        found = [by.measured(name, other) for other in paths]
        assert found[0] == found[1] == found[2]
        assert found[0]["accuracy"] == 1
        said.append(found[0]["loss"])
    assert said[0] == said[1]  # the features of .npz are scaled by NumPy, not by scikit-learn
    assert said[0] == pytest.approx(said[2], rel=1e-3)


@pytest.mark.parametrize(
    "kind", ["words", "codes", "booleans", "beyond 64 bits", "words like values", "integers"]
)
def test_labels_of_text(tmp_path, kind):
    check_text(Functions(tmp_path), tmp_path, kind, 0)


@pytest.mark.parametrize("kind", ["int64", "float64", "bool"])
def test_labels_with_a_type(tmp_path, kind):
    check_typed(Functions(tmp_path), tmp_path, kind, 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", OF_TEXT)
def test_many_labels_of_text(run, tmp_path, kind):
    for seed in range(11):
        check_text(Functions(tmp_path), tmp_path, kind, seed)
    check_text(Commands(run), tmp_path, kind, 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", TYPED)
def test_many_labels_with_a_type(run, tmp_path, kind):
    for seed in range(11):
        check_typed(Functions(tmp_path), tmp_path, kind, seed)
    check_typed(Commands(run), tmp_path, kind, 0)
