"""Targets: which are taken as classes and which as numbers, whatever file they come from; rows without one."""

import re

import numpy as np
import pytest

pytest.importorskip("polars")
pytest.importorskip("sklearn")

import polars

from nnx.data import files
from nnx.data.prepare import find_task, reason

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
