"""Numbers as people write them in CSV: 1,234 and 1.234, $ and %; asked about, read as said, kept in the model."""

import json
import re

import numpy as np
import pytest

polars = pytest.importorskip("polars")
pytest.importorskip("sklearn")

import nnx  # noqa: E402  # after the skip
from nnx import InputError  # noqa: E402
from nnx.data import files  # noqa: E402
from nnx.data.dialect import Dialect, options  # noqa: E402
from nnx.data.prepare import Preparation  # noqa: E402

rng = np.random.default_rng(0)
M = 90
SIZES, KINDS = rng.integers(200, 90_000, M), rng.choice(["a", "b"], M)


def written(path, write, delimiter=","):
    """Write a table of sizes, as `write` has them, kinds, and the price, which follows from both."""
    prices = [write(int(size * (2 + (kind == "a")))) for size, kind in zip(SIZES, KINDS, strict=True)]
    frame = polars.DataFrame({"size": [write(int(size)) for size in SIZES], "kind": KINDS, "price": prices})
    frame.write_csv(path, separator=delimiter)
    return path


WAYS = {  # how a number is written, and the options that read it
    "thousands": (lambda n: f"{n:,}", ["--thousands"]),
    "cents": (lambda n: f"{n:,}.00", ["--thousands"]),
    "signs": (lambda n: f"${n:,}.00", ["--thousands", "--units", "$"]),
    "behind": (lambda n: f"{n:,} €", ["--thousands", "--units", "€"]),
    "percent": (lambda n: f"{n} %", ["--units", "%"]),
    "german": (lambda n: f"{n:,},50".replace(",", ".", f"{n:,}".count(",")), ["--decimal-comma"]),
    "points": (lambda n: f"{n * 1000:,}".replace(",", "."), ["--decimal-comma", "--thousands"]),
    "spaces": (lambda n: f"{n:,}".replace(",", " "), ["--thousands"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_asked_about_and_kept_in_the_model(way, run, tmp_path):
    write, given = WAYS[way]
    written(tmp_path / "houses.csv", write)
    how = [
        "houses.csv",
        "--target",
        "price",
        "--epochs",
        2,
        "--no-plots",
        "--backend",
        "numpy",
        "--out",
        "run",
    ]
    code, _, err = run("train", *how)
    assert code == 1
    assert "'price'" in err
    for option in given:
        assert option in err
    code, _, err = run("train", "houses.csv", "--target", "kind", *how[3:])  # as a feature
    assert code == 1
    assert "size (numbers such as " in err
    code, _, err = run("train", *how, *given)
    assert code == 0, err
    assert "regression, since 'price'" in err
    assert "Columns   numbers: size\n" in err
    code, out, err = run("evaluate", "run", "houses.csv", "--json")
    assert code == 0, err
    predicted = run("predict", "run", "houses.csv")[1]
    thousand = 1000 if way == "points" else 1
    plain = written(tmp_path / "plain.csv", lambda n: str(n * thousand + (0.5 if way == "german" else 0)))
    assert {
        **json.loads(run("evaluate", "run", plain.name, "--json")[1]),
        "data": "houses.csv",
    } == json.loads(out)
    assert run("predict", "run", plain.name)[1] == predicted


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234", "999", None], "--thousands if it is 1234, or --decimal-comma if it is 1.234"),
        (["1,234,567", "1"], "--thousands"),
        (["1,234", "1,5"], "--decimal-comma"),
        (["1,234", "2.5"], "--thousands"),
        (["3,14", "-2"], "--decimal-comma"),
        (["1.234.567", "1.234"], "--decimal-comma --thousands"),
        (["€ 1,234.50", "5.00 €"], "--thousands --units '€'"),
        (["10%", "20%", "10%", "20%"], ""),  # these may be categories
        ([f"{k}%" for k in range(40)], "--units '%'"),
        ([f"{k / 4} km/h" for k in range(40)], "--units 'km/h'"),
        (
            [f"{k},000 kg" for k in range(1, 40)],
            "--thousands --units 'kg' if it is 1000, or --decimal-comma --units 'kg' if it is 1.000",
        ),
        ([f"{k}{'ab'[k % 2]}" for k in range(40)], ""),  # flats
        ([f"{k}{'a' * (k == 7)}" for k in range(40)], ""),
        ([f"n{k}" for k in range(40)], ""),
        (["1 st", "2 st", "3 st"] * 20, ""),
        (["1,234", "a"], ""),
        (["12", "1.5"], ""),
        (["1,5", "1,234.5"], ""),
        (["12-34", "5"], ""),
        ([None], ""),
    ],
)
def test_the_options_that_are_named(cells, expected):
    assert options(polars.Series(cells, dtype=polars.String)) == expected


@pytest.mark.parametrize(
    ("dialect", "cells", "numbers"),
    [
        (
            Dialect(thousands=True),
            ["1,234", "-1,234,567.5", "+999", "1,234e2"],
            [1234, -1234567.5, 999, 123400],
        ),
        (Dialect(True, True), ["1.234", "1.234,5", "7", "0,5"], [1234, 1234.5, 7, 0.5]),
        (Dialect(True), ["1.234,5", "7", "0,5"], [1234.5, 7, 0.5]),
        (Dialect(units=("$", "USD")), ["$5", "-$5", "$ -5", "5 USD"], [5, -5, -5, 5]),
        (Dialect(thousands=True, units=["%"]), ["1,234.5 %", "5%"], [1234.5, 5]),
    ],
)
def test_numbers_are_read_as_said(dialect, cells, numbers):
    frame = polars.DataFrame({"a": polars.Series(cells)})
    assert frame.select(dialect.numbers(polars.col("a")).cast(float))["a"].to_list() == numbers


def test_text_of_parquet_is_read_as_said(run, tmp_path):
    numbers = [f"{n:,}" for n in SIZES]
    frame = polars.DataFrame({"size": numbers, "code": [f"{n % 7:03}" for n in SIZES], "kind": KINDS})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    how = ["--epochs", 1, "--no-plots", "--backend", "numpy", "--out", "run"]
    code, _, err = run("train", "a.parquet", "--target", "kind", *how)
    assert code == 1
    assert "size (numbers such as " in err
    code, _, err = run("train", "a.parquet", "--target", "kind", "--thousands", *how)
    assert code == 0, err
    assert "Columns   numbers: size\n" in err
    assert "Columns   one-hot: code" in err
    assert run("predict", "run", "a.parquet")[1] == run("predict", "run", "a.csv")[1]


def test_text_of_data_frames_is_read_as_said(tmp_path):
    frame = polars.DataFrame({"size": [f"${n:,}" for n in SIZES], "kind": KINDS})
    with pytest.raises(InputError, match=r"give thousands=True, units=\['\$'\]"):
        nnx.Tabular(frame, "kind", backend="numpy")
    model = nnx.Tabular(frame, "kind", thousands=True, units=["$"], backend="numpy")
    assert model.preparation.inputs == ["size"]
    model.fit(epochs=1)
    model.save(tmp_path / "m.safetensors")
    again = nnx.Tabular.load(tmp_path / "m.safetensors", backend="numpy")
    plain = frame.with_columns(size=polars.Series(SIZES))
    frame.write_csv(tmp_path / "a.csv")
    for table in (frame, plain, tmp_path / "a.csv"):
        assert again.evaluate(table) == model.evaluate(frame)
    with pytest.raises(InputError, match="units"):
        nnx.Tabular(frame, "kind", units="$")


def test_other_text_stays(tmp_path):
    cells = ["1,23", "12,34,567", "x 1,234", "$", "$x", "1,2345", "5 $ a"]
    frame = polars.DataFrame({"a": cells})
    dialect = Dialect(thousands=True, units=("$",))
    assert frame.select(dialect.numbers(polars.col("a")))["a"].to_list() == cells


def test_a_point_beside_decimal_commas_is_asked_about(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;y\n1.234,5;1\n1.234;2\n")
    with pytest.raises(
        InputError, match=r"'a' of .* has decimal commas, and '1\.234'; give --thousands, too: it is 1234"
    ):
        files.read(path, dialect=Dialect(True))
    assert files.read(path, dialect=Dialect(True, True)).frame["a"].to_list() == [1234.5, 1234]


def test_a_dialect_of_a_model_can_be_taken_back(run, tmp_path):
    written(tmp_path / "a.csv", lambda n: f"{n:,}", ";")
    how = ["--epochs", 1, "--no-plots", "--backend", "numpy", "--out", "run"]
    assert run("train", "a.csv", "--target", "price", "--thousands", "--delimiter", ";", *how)[0] == 0
    expected = run("predict", "run", "a.csv")[1]
    written(tmp_path / "commas.csv", lambda n: f"{n:,}")  # with another delimiter, which its first rows tell
    assert run("predict", "run", "commas.csv")[1] == expected
    written(tmp_path / "german.csv", lambda n: f"{n},0")
    assert run("predict", "run", "german.csv", "--no-thousands", "--decimal-comma")[1] == expected
    code, _, err = run("predict", "run", "commas.csv", "--no-thousands")
    assert code == 1
    assert "give --thousands if it is" in err


def test_a_damaged_dialect_is_refused():
    of = {"features": ["a"], "named": True, "mean": [0.0], "scale": [1.0], "target": "y", "labels": None}
    assert Preparation.of({"preparation": of}).dialect == Dialect()
    whole = Dialect(thousands=True, units=("$",), delimiter=";")
    assert Preparation.of({"preparation": {**of, "dialect": whole.describe()}}).dialect == whole
    for wrong in ({"thousands": 1}, {"units": "$"}, {"delimiter": ";;"}, {"unknown": 1}):
        with pytest.raises(InputError, match="the model's description of its data cannot be read"):
            Preparation.of({"preparation": {**of, "dialect": {**whole.describe(), **wrong}}})


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (lambda k: "?" if k % 4 == 0 else f"{k}.5", ["?"]),
        (lambda k: ["-", "unknown"][k % 8 // 4] if k % 4 == 0 else str(k), ["-", "unknown"]),
        (lambda k: "unknown" if k % 3 == 0 else f"2024-{1 + k % 12:02}-{1 + k % 28:02}", ["unknown"]),
        (lambda k: "." if k == 7 else str(k), ["."]),
        (lambda k: "n.a." if k % 4 == 0 else f"{k}.5 %", ["n.a."]),
    ],
)
def test_words_for_missing_values_are_asked_about_and_stay_with_the_model(run, tmp_path, cells, words):
    def table(name, words):
        rows = [f"{'' if cells(k) in words else cells(k)},{'ab'[k % 2]}" for k in range(80)]
        (tmp_path / name).write_text("\n".join(["value,kind", *rows]), encoding="utf-8")

    table("words.csv", [])
    table("empty.csv", words)
    how = ["--target", "kind", "--epochs", 2, "--layers", 4, "--no-plots"]
    code, _, err = run("train", "words.csv", *how)
    assert code == 1
    given = [one for word in words for one in ("--missing", word)]
    if "%" in cells(1):
        assert "they are written as '1.5 %': also give --units '%'" in err
        how += ["--units", "%"]
    asked = " ".join(f"--missing {word!r}" for word in words)
    assert f"empty, or give {asked}" in err
    with pytest.raises(InputError, match=re.escape(f"missing=[{', '.join(map(repr, words))}]")):
        nnx.Tabular("words.csv", "kind")
    assert run("train", "words.csv", *how, *given, "--out", "run")[0] == 0
    assert run("train", "empty.csv", *how, "--out", "other")[0] == 0
    predicted = run("predict", "other", "empty.csv")[1]
    assert run("predict", "run", "words.csv")[1] == predicted
    assert run("predict", "run", "empty.csv")[1] == predicted
    assert json.loads(run("evaluate", "run", "words.csv", "--json")[1])["samples"] == 80


def test_a_target_of_numbers_and_a_word_is_asked_about(run, tmp_path):
    rows = [f"{k % 7},{'?' if k % 5 == 0 else k}" for k in range(80)]
    (tmp_path / "a.csv").write_text("\n".join(["x,y", *rows]), encoding="utf-8")
    how = ["--target", "y", "--epochs", 2, "--layers", 4, "--no-plots"]
    code, _, err = run("train", "a.csv", *how)
    assert code == 1
    assert "the target 'y' of a.csv holds numbers but for 16 values, the first '?' in row 1" in err
    code, _, err = run("train", "a.csv", *how, "--missing", "?")
    assert code == 0
    assert "16 rows without the target 'y' left out" in err


def test_categories_with_a_few_numbers_stay_categories(run, tmp_path):
    rows = [f"{['a', 'b', 'c', str(k)][k % 4]},{'xy'[k % 2]}" for k in range(160)]
    (tmp_path / "a.csv").write_text("\n".join(["code,kind", *rows]), encoding="utf-8")
    assert run("train", "a.csv", "--target", "kind", "--epochs", 1, "--layers", 4, "--no-plots")[0] == 0
