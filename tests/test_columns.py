"""What becomes of a table's columns: as scikit-learn's transformers have it, from lists and numbers alone."""

import json

import numpy as np
import pytest
from conftest import long_but_for

import nnx
from nnx.data import encoding_learned as module
from nnx.data.columns import Columns
from nnx.data.encoding import Notes
from nnx.data.prepare import Preparation
from nnx.data.source import Samples, Table

polars = pytest.importorskip("polars", reason="the command line's readers (extra cli) are not installed")
pytest.importorskip("sklearn", reason="scikit-learn (extra cli) is not installed")


def raises(*fragments):
    return pytest.raises(nnx.InputError, match="(?s)" + ".*".join(fragments))


def some_table(rng, m=400):
    """Numbers and booleans with and without holes, categories with and without, rare ones, too."""
    age = np.where(rng.random(m) < 0.2, np.nan, rng.normal(40, 9, m).round())
    town = np.array([f"town {k}" for k in range(60)])[(60 * rng.random(m) ** 3).astype(int)]
    return polars.DataFrame(
        {
            "sex": rng.choice(["f", "m"], m),
            "age": polars.Series(age).fill_nan(None),
            "count": rng.integers(0, 9, m),
            "alone": polars.Series(rng.choice([1, 0, -1], m)).replace_strict({1: True, 0: False, -1: None}),
            "town": town,
            "deck": polars.Series(rng.choice(["A", "B", "C", ""], m)).replace("", None),
            "fixed": np.full(m, 0.1),
        }
    )


def learned(frame, train, y=None):
    """The preparation for these training rows, as a model file brings it back."""
    y = np.arange(len(frame)) % 2 if y is None else y
    samples = Samples(Columns("the table", frame), y, frame.columns, "y")
    p = Preparation.learn(samples, "classification", train)
    again = Preparation.of({"preparation": json.loads(json.dumps(p.describe()))})
    assert again == p
    return again


def theirs(frame):
    """scikit-learn's own transformers, column by column in the table's order."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def scaled():
        return make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())

    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=2, max_categories=100, sparse_output=False
    )
    entries = []
    for name, kind in frame.schema.items():
        made = (
            one_hot if str(kind) == "String" else make_union(scaled(), MissingIndicator(error_on_new=False))
        )
        entries.append((name, made, [name]))
    return ColumnTransformer(entries)


def as_pandas(frame):
    """For scikit-learn: text as objects with None, all else as floats with NaN."""
    pandas = pytest.importorskip("pandas")
    text = {name: str(kind) == "String" for name, kind in frame.schema.items()}
    return pandas.DataFrame(
        {
            name: np.array(frame[name].to_list(), object)
            if text[name]
            else frame[name].cast(float).to_numpy()
            for name in frame.columns
        }
    )


@pytest.mark.parametrize("most", [100, 7])
def test_x_is_what_scikit_learns_transformers_give(rng, monkeypatch, most):
    monkeypatch.setattr(module, "MOST_CATEGORIES", most)
    monkeypatch.setattr(module, "AT_ONCE", 1)  # the numbers are learned a column at a time
    frame = some_table(rng)
    train, rest = np.arange(300), np.arange(300, 400)
    transformer = theirs(frame)
    for name in ("sex", "town", "deck"):
        next(made for column, made, _ in transformer.transformers if column == name).max_categories = most
    expected = transformer.fit(as_pandas(frame[train]))
    unseen = frame[rest].with_columns(
        sex=polars.Series(["f", "x", None, "m"] * 25),
        town=polars.Series(["town 0", "Utopia", None, "town 59"] * 25),
        count=polars.Series([None, 7] * 50),
    )
    p = learned(frame, train)
    for part in frame[train], frame[rest], unseen:
        found = p.X(Columns("the table", part))
        np.testing.assert_array_equal(found.T, expected.transform(as_pandas(part)))
    assert len(p.inputs) == len(found)
    np.testing.assert_array_equal(p.X(unseen, "float32"), found.astype("float32"))  # of a data frame, too


def test_text_that_comes_through_a_pipe_is_taken_as_what_it_was_in_training(rng):
    frame = some_table(rng)
    p = learned(frame, np.arange(300))
    text = polars.DataFrame({name: frame[name].cast(polars.String) for name in reversed(frame.columns)})
    np.testing.assert_array_equal(p.X(text), p.X(frame))
    np.testing.assert_array_equal(
        p.X(text.with_columns(alone=polars.col("alone").str.to_uppercase())), p.X(frame)
    )


def test_inputs_and_the_account_of_them(rng):
    p = learned(some_table(rng), np.arange(300))
    assert p.inputs[:4] == ["sex=f", "sex=m", "age", "age is missing"]
    assert p.inputs[4:7] == ["count", "alone", "alone is missing"]
    assert p.inputs[-6:] == ["town is rare", "deck=A", "deck=B", "deck=C", "deck is missing", "fixed"]
    numbers, booleans, texts, filled, constant = p.account()
    assert numbers == "numbers: age, count, fixed"
    assert booleans == "true or false: alone"
    assert texts.startswith("one-hot: sex (2), town (")
    assert texts.endswith(" and the rare), deck (3 and missing)")
    assert filled.startswith("missing, filled with the median: age (")
    assert constant == "constant, which tells nothing: fixed (leave out by --drop 'fixed')"


def test_a_column_that_counts_the_rows_is_noticed(rng):
    frame = polars.DataFrame({"id": range(1, 41), "a": rng.random(40)})
    p = learned(frame, rng.permutation(40)[:30])
    assert p.account()[1] == "counts the rows, which tells nothing: id (leave out by --drop 'id')"
    frame = polars.DataFrame(
        {"id": rng.permutation(200) + 7, "a": rng.random(200), "b": rng.integers(0, 200, 200)}
    )
    p = learned(frame, rng.permutation(200)[:160])  # in any order
    assert p.account()[1] == "counts the rows, which tells nothing: id (leave out by --drop 'id')"


def test_what_was_filled_in_and_not_known_is_counted(rng):
    frame = some_table(rng)
    p = learned(frame, np.arange(300))
    new = frame[:6].with_columns(
        sex=polars.Series(["f", "x", None, "m", "x", "f"]),
        age=polars.Series([1.0, None, 3.0, None, 5.0, 6.0]),
        count=polars.Series([1, None, 3, 4, 5, 6]),
        alone=polars.Series([True] * 6),
        town=polars.Series(["town 0"] * 5 + ["Utopia"]),
    )
    notes = Notes()
    X = p.X(new, notes=notes)
    p.X(new[:2], notes=notes)
    assert notes.filled == {"age": 3, "count": 2}
    assert notes.unseen == {"sex": 4, "town": 1}
    filled, unseen = notes.lines()
    assert filled == "missing values, filled in as the training taught: 3 in 'age', 2 in 'count'"
    assert unseen == "values that the training did not have: 4 in 'sex', 1 in 'town', such as 'x'"
    sex = X[:2]
    np.testing.assert_array_equal(sex, [[1, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]])
    assert X[p.inputs.index("town is rare"), -1] == 1


def test_a_column_without_a_value_in_the_training_rows():
    frame = polars.DataFrame({"a": [1.0, 2.0, None, None], "b": [None, None, "x", "x"]})
    p = learned(frame, np.array([2, 3]))
    assert p.inputs == ["a", "a is missing", "b=x"]
    np.testing.assert_array_equal(p.X(frame), [[1, 2, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([f"2024-01-{k + 1:02}" for k in range(60)], "dates or times but for '2024-01-32' in row 32"),
        (
            ["1/3/2024", "12/11/2024 9:30"] * 30,
            "dates such as '1/3/2024', .* give --day-first or --month-first",
        ),
        (["13/1/2024", "1/13/2024"] * 30, "dates or times but for '1/13/2024' in row 2"),
        (["3/1/24", "3/13/24"] * 30, "dates such as '3/1/24': write their years with four digits"),
        (
            ["9:30", "27:05"] * 30,
            "dates or times but for '27:05' in row 2, where a time of day such as 17:30",
        ),
        ([*["2024-03-01"] * 54, *["soon"] * 6], "dates or times but for 'soon' in row 55"),
        ([*map(str, range(57)), "?", "x", "?"], "numbers but for 3 values, the first '\\?' in row 58"),
        ([f"{k},5" for k in range(60)], "numbers such as '0,5': give --decimal-comma"),
        ([[1]] * 60, "List"),
        ([b"x"] * 60, "Binary"),
    ],
)
def test_columns_that_cannot_be_used(values, why):
    frame = polars.DataFrame({"a": values, "b": [1.5] * 60, "y": ["p", "q"] * 30})
    with raises("1 feature column of the table cannot be used as it is: a", why):
        Table("the table", frame).training("y", ())
    assert Table("the table", frame).training("y", ["a"]).features == ["b"]


def test_columns_that_tell_nothing_are_left_out(rng):
    frame = polars.DataFrame({"id": [f"n{k}" for k in range(60)], "none": [None] * 60, "y": ["p", "q"] * 30})
    samples = Table("the table", frame.with_columns(b=polars.Series(rng.random(60)))).training("y", ())
    p = Preparation.learn(samples, "classification", slice(None))
    assert p.features == p.inputs == ["b"]
    assert p.account() == [
        "numbers: b",
        "left out: id (60 different values in 60 rows), none (no value at all)",
    ]
    assert Preparation.of({"preparation": json.loads(json.dumps(p.describe()))}) == p
    keys = polars.DataFrame(
        {"PassengerId": range(7, 67), "x": range(60), "fixed": [1] * 60, "y": ["p", "q"] * 30}
    )
    samples = Table("the table", keys).training("y", ())
    assert samples.features == ["x"]
    assert samples.unused == {"PassengerId": "counts the rows", "fixed": "constant"}
    with raises(
        "2 feature columns of the table cannot be used as they are: id .*60 rows.*; none .no value at all"
    ):
        Table("the table", frame).training("y", ())


def test_text_that_is_no_date_is_categories():
    kinds = ["2024", "1-2-3", "10.0.0.1", "2024-03-01 a", "9:3", "March 2024", "2024-03", "Mayer 2024"]
    frame = polars.DataFrame({"a": kinds * 10, "y": ["p", "q"] * 40})
    p = learned(Table("the table", frame).training("y", ()).X.frame, np.arange(80))
    assert p.inputs == sorted(f"a={kind}" for kind in kinds)


def test_infinite_numbers():
    frame = polars.DataFrame({"a": [1.0, float("inf")] * 9, "y": ["p", "q"] * 9})
    with raises("infinite numbers in the features of the table: 9 in the column 'a', the first in row 2"):
        Table("the table", frame).training("y", ())


def test_floors_are_categories_though_most_are_numbers():
    frame = polars.DataFrame({"floor": [*"1234567", "G"] * 9, "y": ["p", "q"] * 36})
    p = learned(Table("the table", frame).training("y", ()).X.frame, np.arange(72))
    assert p.inputs == [f"floor={k}" for k in "1234567G"]


def test_wrong_columns_to_predict_on(rng):
    p = learned(some_table(rng), np.arange(300))
    frame = some_table(rng)
    with raises("lacks the column 'age', which the model was trained on"):
        p.X(frame.drop("age"))
    wrong = frame.with_columns(age=polars.Series(["1", "x"] * 200))
    with raises(
        "the column 'age' of new holds 'x' in row 12 .*; expected numbers, as the model was trained on"
    ):
        p.X(Table("new", wrong, first=11).values(p.features, named=True))
    with raises("'1,5' in row 1 .*give --decimal-comma"):
        p.X(frame.with_columns(age=polars.Series(["1,5"] * 400)))
    with raises("the column 'alone'", "expected true or false"):
        p.X(frame.with_columns(alone=polars.Series(["perhaps"] * 400)))
    with raises("the column 'age' of the data frame holds Date; expected numbers"):
        p.X(frame.with_columns(age=polars.Series([0] * 400).cast(polars.Date)))
    with raises("the samples have 3 features; expected 7"):
        p.X(np.ones((2, 3)))
    with raises("was trained on text in the column 'sex'"):
        p.X(np.ones((2, 7)))


def test_arrays_fit_a_table_of_numbers(rng):
    frame = polars.DataFrame(rng.random((50, 3)), schema=["a", "b", "c"])
    p = learned(frame, np.arange(40))
    np.testing.assert_array_equal(p.X(frame.to_numpy()), p.X(frame))


OLD = {
    "features": ["a", "b"], "named": True, "mean": [1.0, 2.0], "scale": [2.0, 4.0], "target": "y",
    "labels": ["p", "q"], "y_mean": 0.0, "y_scale": 1.0,
}  # fmt: skip


def test_a_preparation_of_an_earlier_version():
    """Without columns: numbers alone, of which none may be missing."""
    p = Preparation.of({"preparation": OLD})
    assert (p.inputs, p.image_shape, p.account()) == (["a", "b"], None, [])
    frame = polars.DataFrame({"b": [2.0, 6.0], "a": [1, 5]})
    np.testing.assert_array_equal(p.X(frame), [[0, 2], [0, 1]])
    np.testing.assert_array_equal(p.X(np.array([[1, 2], [5, 6]])), [[0, 2], [0, 1]])
    with raises("missing or infinite numbers", "column 'b'"):
        p.X(frame.with_columns(b=polars.Series([1.0, None])))
    with raises("cannot be read: .*unexpected"):
        Preparation.of({"preparation": {**OLD, "columns": [{"kind": "unexpected", "what": 3}]}})


def test_labels_that_the_training_did_not_have():
    p = Preparation.of({"preparation": OLD})
    np.testing.assert_array_equal(p.Y(np.array(["q", "p"])), [1, 0])
    with raises(
        "labels that the model was not trained on: 'fish', in 1 row, the first in row 12", "knows 'p', 'q'"
    ):
        p.Y(np.array(["p", "fish"]), first=11)
    numbers = Preparation.of({"preparation": {**OLD, "labels": [3, 7]}})
    np.testing.assert_array_equal(numbers.Y(np.array([7.0, 3])), [1, 0])
    for wrong in (1, 5, 9):
        with raises(f"not trained on: '{wrong}"):
            numbers.Y(np.array([3, wrong]))


def test_targets_to_compare_with():
    table = Table("new", polars.DataFrame({"y": ["1", "2.0", "x"], "z": ["1", None, "3"]}), first=5)
    with raises("the target 'y' of new is 'x' in row 7 .*trained on numbers$"):
        table.targets("y", None)
    with raises("is '1,5' in row 1 .*trained on numbers; give --decimal-comma"):
        Table("new", polars.DataFrame({"y": ["1,5", "2,0"]})).targets("y", None)
    assert table.targets("y", ["1"]).tolist() == ["1", "2.0", "x"]
    labelled = table.labelled("z")
    assert labelled.targets("z", None).tolist() == [1, 3]
    assert [labelled.values(["y"], True).row(j) for j in range(len(labelled))] == [5, 7]
    with raises("lacks the column 'w', the target to compare", "Give --target COLUMN"):
        table.targets("w", [1])
    booleans = Table("new", polars.DataFrame({"y": ["True", "FALSE"]}))  # as CSV in pieces has them
    of_booleans = Preparation.of({"preparation": {**OLD, "labels": ["false", "true"]}})
    assert of_booleans.Y(booleans.targets("y", of_booleans.labels)).tolist() == [1, 0]
    of_numbers = Preparation.of({"preparation": {**OLD, "labels": [1, 2]}})
    assert of_numbers.Y(table.part(0, 2).targets("y", [1, 2])).tolist() == [0, 1]


@pytest.mark.parametrize("pattern", long_but_for(["^.*$", "*", "^c.*$", "$x"], "^.*$"))
def test_names_that_polars_takes_for_patterns(run, tmp_path, pattern):
    """Of numbers, text, dates, a key, and the target."""
    cells = {
        "n": lambda k: f"{k % 7}.5", "c": lambda k: "ab"[k % 2], "d": lambda k: f"2024-03-{k % 28 + 1:02}",
        "key": lambda k: f"id-{k}", "y": lambda k: "pq"[k % 2],
    }  # fmt: skip
    how = ["--epochs", 1, "--layers", 4, "--no-plots", "--overwrite", "--out", "run"]
    for renamed in cells:
        names = [pattern if name == renamed else name for name in cells]
        rows = [",".join(cell(k) for cell in cells.values()) for k in range(60)]
        (tmp_path / "a.csv").write_text("\n".join([",".join(names), *rows]), encoding="utf-8")
        status, _, err = run("train", "a.csv", "--target", names[-1], *how)
        assert status == 0, err
        assert f"left out: {names[3]} (60 different values in 60 rows)" in err
        assert f"dates: {names[2]} (" in err
        assert run("evaluate", "run", "a.csv")[0] == 0
        assert run("predict", "run", "a.csv")[1].startswith(f"{names[-1]},P(p),P(q)\n")


def test_rows_without_a_target_do_not_make_text_of_numbers(run, tmp_path):
    """A sheet's last row is often that of the totals."""
    rows = [f"{k % 9}.5,{k % 4},{'true' if k % 3 else 'false'},{k % 5},{'ab'[k % 2]}" for k in range(60)]
    for name, more in (("plain", []), ("total", ["Total,sum of b,none,x,"])):
        text = "\n".join(["a,b,c,d,y", *rows, *more])
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        how = ["--target", "y", "--epochs", 2, "--layers", 4, "--no-plots", "--out", name]
        status, _, err = run("train", f"{name}.csv", *how)
        assert status == 0, err
        assert "numbers: a, b, d\n" in err
        assert "true or false: c\n" in err
    assert run("predict", "total", "plain.csv")[1] == run("predict", "plain", "plain.csv")[1]
    status, _, err = run("predict", "plain", "total.csv")
    assert status == 1
    assert "holds 'Total' in row 61" in err


def test_text_of_numbers_that_hardly_repeat_is_numbers():
    cells = [f"{k / 8 + 0.05:.2f}" for k in range(60)]
    codes = [f"{k:03}" for k in range(60)]
    frame = polars.DataFrame({"a": cells, "code": codes, "few": ["1", "2"] * 30, "y": ["p", "q"] * 30})
    samples = Table("the table", frame.with_columns(a=polars.Series(cells).replace("0.05", None))).training(
        "y", ()
    )
    assert samples.unused.keys() == {"code"}
    p = Preparation.learn(samples, "classification", slice(None))
    assert p.inputs == ["a", "a is missing", "few=1", "few=2"]
    of_numbers = p.X(
        Columns("the table", frame.with_columns(polars.col("a").cast(float))[["a", "few"]]), "float64"
    )
    np.testing.assert_array_equal(p.X(Columns("the table", frame[["a", "few"]]), "float64"), of_numbers)
