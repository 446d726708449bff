"""Targets: which are taken as classes and which as numbers, whatever file they come from; rows without one."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("polars")
pytest.importorskip("sklearn")

import polars

from nnx import InputError
from nnx.data import files
from nnx.data.task import find_task, reason

CLASSES, NUMBERS = "classification", "regression"
rng = np.random.default_rng(0)
M = 600
TARGETS = {  # the name: what there is in the rows, what it should be taken as, and why
    "survived": (rng.integers(0, 2, M), CLASSES, "2 different whole numbers in 600 rows"),
    "sign": (rng.choice([-1, 1], M), CLASSES, "2 different"),
    "group": (rng.choice([1.0, 2.0], M), CLASSES, "2 different"),
    "digit": (rng.integers(0, 10, M), CLASSES, "10 different whole numbers in 600 rows, small ones"),
    "stars": (rng.integers(1, 6, M), CLASSES, "small ones that repeat"),
    "score": (rng.integers(1, 11, M), CLASSES, "small ones that repeat"),
    "quality": (rng.choice(6, M, p=[0.02, 0.06, 0.4, 0.35, 0.14, 0.03]) + 3, CLASSES, "small ones"),
    "month": (rng.integers(1, 13, M), CLASSES, "small ones that repeat"),
    "species": (np.repeat(["setosa", "virginica"], M // 2), CLASSES, "text"),
    "late": (rng.random(M) < 0.3, CLASSES, "booleans"),
    "zip": (np.array([f"0{k}" for k in rng.integers(1000, 1200, M)]), CLASSES, "text|leading zeros"),
    "zipcode": (rng.integers(10115, 10215, M), CLASSES, "its name says classes"),
    "http_status": (rng.choice([200, 301, 404, 500], M), CLASSES, "its name says classes"),
    "diagnosis": (rng.choice(["A00.1", "J45", "I10"], M), CLASSES, "text"),
    "answer": (rng.choice(["yes", "Yes", "no"], M), CLASSES, "text; 'Yes', 'yes' differ in case alone$"),
    "iris": (np.repeat([0, 1, 2], 50), CLASSES, "3 different whole numbers in 150 rows"),
    "age": (rng.integers(18, 90, M), NUMBERS, "different whole numbers in 600 rows$"),
    "children": (rng.poisson(1.2, M), NUMBERS, "in [1-4] rows? alone"),
    "rooms": (np.minimum(1 + rng.poisson(2.5, M), 12), NUMBERS, "alone"),
    "year": (rng.integers(2015, 2025, M), NUMBERS, "as large as 2024"),
    "price": (rng.choice([10, 200, 4000], M), NUMBERS, "3 different whole numbers .*, as large as 4000"),
    "rent": (rng.integers(400, 2500, M), NUMBERS, "different whole"),
    "delay": (np.rint(rng.exponential(40, M)) - 5, NUMBERS, "different whole"),
    "wage": (rng.integers(30, 46, M), NUMBERS, "16 different whole numbers in 600 rows, as large as 45"),
    "temperature": (rng.integers(-12, 25, M), NUMBERS, "different whole"),
    "hour": (rng.integers(0, 24, M), NUMBERS, "24 different"),
    "percent": (rng.integers(0, 101, M), NUMBERS, "different whole"),
    "class_size": (rng.integers(12, 31, M), NUMBERS, "as large as 30"),
    "length": (rng.normal(5, 1, M), NUMBERS, "fractions"),
}  # fmt: skip


def written(folder, name, y, kind):
    x = np.arange(len(y), dtype=float)
    if kind == "npz":
        np.savez(folder / "t.npz", X=x[:, None], **{name: y})
    else:
        frame = polars.DataFrame({"x": x, name: y})
        frame.write_csv(folder / "t.csv") if kind == "csv" else frame.write_parquet(folder / "t.parquet")
    return files.read(folder / f"t.{kind}", name).training(name, ())


@pytest.mark.parametrize("name", TARGETS)
def test_classes_or_numbers(name, tmp_path):
    y, task, why = TARGETS[name]
    for kind in ("csv", "parquet", "npz"):
        samples = written(tmp_path, name, y, kind)
        assert find_task(samples, "auto") == task, kind
        assert re.search(why, reason(samples)), (kind, reason(samples))


def test_many_classes_are_classes_where_that_is_asked_for(tmp_path):
    samples = written(tmp_path, "delay", np.arange(M) // 2 * 7, "csv")
    assert find_task(samples, "auto") == NUMBERS
    assert find_task(samples, CLASSES) == CLASSES


def test_the_task_is_said_first_with_the_other_one(run, tmp_path):
    polars.DataFrame({"x": np.arange(M), "delay": TARGETS["delay"][0]}).write_csv("flights.csv")
    code, _, err = run("train", "flights.csv", "--target", "delay", "--epochs", 1)
    assert code == 0, err
    n = len(np.unique(TARGETS["delay"][0]))
    said = (
        f"regression, since 'delay' holds {n} different whole numbers in 600 rows; else --task classification"
    )
    assert said in " ".join(err.split()[:30])


def of_kind(kind, folder, X, y):
    """Write a file whose target is missing where y is NaN or None; return its name."""
    if kind == "npz":
        np.savez(folder / "t.npz", X=X, y=np.array(["" if one is None else one for one in y.tolist()]))
    else:
        frame = polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y.tolist()}, strict=False)
        frame.write_csv(folder / "t.csv") if kind == "csv" else frame.write_parquet(folder / "t.parquet")
    return f"t.{kind}"


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("task", [CLASSES, NUMBERS])
def test_rows_without_a_target_are_left_out(kind, task, run, tmp_path):
    X = rng.normal(size=(120, 2))
    y = np.where(X[:, 0] > 0, "up", "down").astype(object) if task == CLASSES else X[:, 0] + 0.5
    y[::10] = None if task == CLASSES else np.nan
    name = of_kind(kind, tmp_path, X, y)
    code, _, err = run("train", name, "--target", "y", "--epochs", 20, "--out", "run", "--no-plots")
    assert code == 0, err
    assert f"{task}, since" in err
    assert "12 rows without the target 'y' left out" in err
    assert "108 samples" in err
    code, out, err = run("evaluate", "run", name, "--json")
    assert code == 0, err
    assert "12 rows without the target 'y' left out" in err
    found = json.loads(out)
    assert (found["samples"], found["left_out"]) == (108, 12)
    there = [k for k in range(120) if k % 10]
    whole = of_kind(kind, tmp_path, X[there], y[there])
    same = json.loads(run("evaluate", "run", whole, "--json")[1])
    assert {**same, "left_out": 12} == found


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_no_row_has_a_target(kind, run, tmp_path):
    y = np.full(5, None, object)
    name = of_kind(kind, tmp_path, np.ones((5, 2)), y)
    with pytest.raises(
        InputError, match=r"the target 'y' is missing in all 5 rows of .*; expected some that have it"
    ):
        files.read(tmp_path / name, "y").training("y", ())


def test_errors_count_the_rows_that_are_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,2.5\n2,\n-inf,3.5\n")
    with pytest.raises(InputError, match="the column 'a', the first in row 3"):
        files.read(path).training("y", ())
    np.savez(tmp_path / "t.npz", X=[[1.0], [2], [np.nan]], y=[0.5, np.nan, 1.5])
    with pytest.raises(InputError, match="the first in row 3 "):
        files.read(tmp_path / "t.npz").training(None, ())
