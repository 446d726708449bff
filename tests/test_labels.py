"""A label comes out as it came in, and the labels of other data are found where a person would find them."""

import json
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

import nnx
from nnx.data import Preparation
from nnx.data.labels import Known, classes, of_text

OLD = {
    "features": ["a"], "named": True, "mean": [0.0], "scale": [1.0], "target": "kind", "y_mean": 0.0, "y_scale": 1.0,
}  # fmt: skip
"""The preparation of a model file as earlier versions wrote it."""


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["2", "10", "2"], [2, 10]),
        (["7", "007"], ["007", "7"]),
        (["1", "1.0", "2"], [1, 2]),
        (["1.0", "1", "2"], ["1.0", "2"]),
        (["1.0", "2.0"], [1.0, 2.0]),
        (["1e5", "100000"], ["100000", "1e5"]),
        (["+1", "-1"], ["-1", "+1"]),
        (["true", "false"], [False, True]),
        (["True", "FALSE", "true"], ["FALSE", "True"]),
        (["True", "yes"], ["True", "yes"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        ([str(2**63), str(2**63 + 1)], [2**63, 2**63 + 1]),
        ([str(2**63), "-1"], ["-1", str(2**63)]),
        ([str(2**70), "1"], ["1", str(2**70)]),
    ],
)
def test_what_the_cells_of_a_column_mean(cells, labels):
    from nnx.data.labels import dtype_of

    found = of_text(cells)
    assert classes(np.array(found, dtype_of(found)))[0] == labels
    assert {type(one) for one in found} == {type(one) for one in labels}


@pytest.mark.parametrize(
    ("labels", "from_text", "given", "places"),
    [
        ([1, 2], True, ["1", "2.0", "+1", "01", "1e0", "3"], [0, 1, 0, -1, -1, -1]),  # CSV beside CSV
        ([1, 2], True, [1, 2.0, True, 3], [0, 1, 0, -1]),  # Parquet beside CSV
        (["007", "7"], True, ["007", "7", "7.0", "07"], [0, 1, -1, -1]),
        (["007", "7"], True, [7], [1]),
        (["007", "008"], True, [7, 8.0, 9], [0, 1, -1]),  # as a reader that makes numbers of them writes them
        (["7", "07", "007"], True, [7], [0]),
        (["07", "007"], True, [7], [-1]),  # which of them?
        ([7, 8], False, ["007", "8"], [0, 1]),  # CSV beside Parquet
        ([7, 8], False, ["8e0", "7.0"], [1, 0]),
        ([1e20, 1.0], False, ["1e20", "1"], [0, 1]),
        (["1", "2"], True, ["1", "1.0"], [0, 0]),
        (["1", "x"], True, ["1", "1.0", "X"], [0, -1, -1]),
        ([False, True], False, ["True", "FALSE", True, 0], [1, 0, 1, 0]),
        (["False", "True"], True, [True, False], [1, 0]),
        (["false", "true"], False, ["TRUE", "False", True], [1, 0, 1]),
        ([2**60, 2**60 + 1], False, [str(2**60 + 1), float(2**60), 2**60 + 2], [1, 0, -1]),
        ([2**63, 2**63 + 1], True, [2**63 + 1, str(2**63)], [1, 0]),
        (["a", "b"], True, ["a", float("nan"), "A"], [0, -1, -1]),
        ([1, "1"], True, [1, "1"], [0, 1]),
    ],
)
def test_where_labels_are_found(labels, from_text, given, places):
    known = Known(labels, from_text)
    assert [known.places([one])[0] for one in given] == places


def test_two_labels_of_the_data_are_not_taken_for_one():
    known = Known([7, 8], False)
    with pytest.raises(
        nnx.InputError, match="the labels '7' and '007' of the data would both be the model's 7"
    ):
        known.places(["7", "8", "007"])
    assert known.places(["7", "7.0"]) == [0, 0]


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        ([1.0, 2.0], ["1", "2.0", "02"]),  # of a CSV file whose column had a point
        ([7, 8], ["007", "8", "7"]),
        (["false", "true"], ["False", "TRUE", "true"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_models_of_earlier_versions_know_their_labels(labels, given):
    p = Preparation.of({"preparation": {**OLD, "labels": labels}})
    assert p.y(np.array([[0.1, 0.9]])) == labels
    for one in given:
        k = p.Y(np.array([one]))
        assert str(labels[k[0]]).strip("0").split(".")[0] == one.lower().strip("0").split(".")[0]
    with pytest.raises(nnx.InputError, match="not trained on: 'z'"):
        p.Y(np.array(["z"]))


def estimator(**options):
    from nnx.sklearn import MLPClassifier

    return MLPClassifier((8,), max_iter=200, solver="lbfgs", random_state=0, **options)


LABELS = {
    "large": np.array([2**60, 2**60 + 1, 5]),
    "least": np.array([-(2**63), 2**63 - 1, 0]),
    "unsigned": np.array([2**64 - 1, 2**64 - 2, 7], np.uint64),
    "bytes": np.array([255, 0, 7], np.uint8),
    "booleans": np.array([True, False, True]),
    "floats": np.array([1.0, 2.0, 2.0**25 + 1]),
    "text": np.array(["007", "7", "1e5"]),
    "objects": np.array(["True", "1", "NaN"], dtype=object),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("library", ["numpy", "list", "torch", "jax", "array_api_strict"])
def test_labels_of_an_estimator(library, kind):
    pytest.importorskip("sklearn")
    X = np.eye(3)[np.arange(30) % 3].astype(np.float32)
    y = LABELS[kind][np.arange(30) % 3]
    given = y.tolist() if library == "list" else y
    x = X
    if library in ("torch", "jax", "array_api_strict"):
        made = pytest.importorskip("jax.numpy" if library == "jax" else library)
        x = made.asarray(X)
    model = estimator(backend="numpy").fit(x, given)
    found = model.predict(x)
    np.testing.assert_array_equal(np.asarray(found), y)
    assert model.score(x, given) == 1
    if library != "list" and kind != "objects":
        assert np.asarray(found).dtype.kind == y.dtype.kind


@pytest.mark.needs("pandas")
@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("dtype", ["Int64", "UInt64", "int64[pyarrow]", "boolean", "category"])
def test_labels_of_pandas_own_dtypes(dtype, frame):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    values = [True, False, True] if dtype in ("boolean", "category") else [2**60, 2**60 + 1, 5]
    X = np.eye(3)[np.arange(30) % 3]
    y = pd.Series([values[i % 3] for i in range(30)], dtype=dtype)
    given = y.to_frame() if frame else y
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A column-vector y was passed")
        model = estimator(backend="numpy").fit(X, given)
    assert model.predict(X).tolist() == y.tolist()
    assert model.score(X, y) == 1
    model = nnx.sklearn.MLPClassifier(4).partial_fit(X, y, classes=y.drop_duplicates())
    assert set(model.classes_.tolist()) == set(values)
    if dtype == "Int64":
        y[3] = None
        with pytest.raises(ValueError, match="NaN"):
            model.fit(X, y)


@pytest.mark.parametrize("labels", [[1, "1"], [True, "True"], np.array([1, "1"], dtype=object), (0.5, "0.5")])
def test_labels_of_several_kinds_are_refused(labels):
    pytest.importorskip("sklearn")
    X = np.eye(2)
    with pytest.raises(ValueError, match="y holds labels of several kinds"):
        estimator().fit(X, labels)
    with pytest.raises(ValueError, match="several kinds"):
        nnx.sklearn.MLPClassifier().partial_fit(X, [0, 1], classes=labels)


@pytest.mark.parametrize("kind", ["MLPClassifier", "TabularClassifier"])
def test_missing_labels_are_counted(kind):
    pytest.importorskip("sklearn")
    made = getattr(nnx.sklearn, kind)()
    given = ["a", "b", None, "a"], np.array([1, 2, np.nan, None], dtype=object)
    if find_spec("pandas"):
        import pandas

        given += (pandas.Series(["a", "b", None, "a"]), pandas.Series([1, 0, None, 1], dtype="Int64"))
    for y in given:
        with pytest.raises(
            ValueError, match=r"Input y contains NaN: [12] of 4 labels are missing, .* in row 2"
        ):
            made.fit(np.eye(4), y)


def test_integers_of_two_types_are_compared_exactly():
    pytest.importorskip("sklearn")
    from nnx.sklearn import MLPClassifier

    known = np.array([2**60, 2**60 + 1, 2**60 + 2], np.uint64)
    X = np.eye(3)[np.arange(30) % 3]
    y = known.astype(np.int64)[np.arange(30) % 3]
    model = MLPClassifier((8,), learning_rate_init=0.1, random_state=0)
    for _ in range(60):
        model.partial_fit(X, y, classes=known)
    np.testing.assert_array_equal(model.predict(X), y)


def test_integers_beyond_64_bits_are_refused():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="beyond 64 bits; hand in the labels as text"):
        estimator().fit(np.eye(2), [2**64, 1])


# Output columns

for needed in ("typer", "rich", "polars"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

import polars  # noqa: E402  # after the skip

from nnx.cli.predict import names, predictions, renamed  # noqa: E402


@pytest.mark.parametrize(
    ("target", "labels", "expected"),
    [
        ("kind", ["a", "b"], ["P(a)", "P(b)"]),
        ("P(a)", ["a", "b"], ["P(a) 2", "P(b)"]),
        ("P(a)", ["a", "a) 2"], ["P(a) 2", "P(a) 2)"]),
        ("P(1)", ["1", "1) 2"], ["P(1) 2", "P(1) 2)"]),
        ("kind", [1, "1"], ["P(1)", "P(1) 2"]),
        ("kind", [True, "true", "P(true)"], ["P(true)", "P(true) 2", "P(P(true))"]),
    ],
)
def test_no_output_column_replaces_another(target, labels, expected):
    p = Preparation.of({"preparation": {**OLD, "target": target, "labels": labels}})
    assert names(p) == expected
    A = (
        np.array([[0.25, 0.75]])
        if len(labels) == 2
        else np.array([[0.25, 0.5], [0.125, 0.25], [0.625, 0.25]])
    )
    frame = predictions(p, A)
    assert frame.columns == [target, *expected]
    sums = frame[:, 1:].sum_horizontal()
    np.testing.assert_array_equal(sums.to_numpy(), 1)
    changed = [name for name in expected if name.endswith(" 2")]
    assert len(renamed(p)) == len(changed)
    assert all(repr(name) in said for name, said in zip(changed, renamed(p), strict=True))
    assert predictions(p, A, False).columns == [target]


def test_predictions_have_the_type_of_all_labels():
    for labels, dtype in (
        ([0, 2**63], polars.UInt64),
        ([-1, 1], polars.Int64),
        ([1.0, 2.0], polars.Float64),
        ([False, True], polars.Boolean),
        (["007", "7"], polars.String),
    ):
        p = Preparation.of({"preparation": {**OLD, "labels": labels}})
        frame = predictions(p, np.array([[0.25]]))  # a piece in which one of them occurs
        assert frame["kind"].dtype == dtype
        assert frame["kind"].to_list() == labels[:1]
        assert json.loads(json.dumps(p.describe()))["labels"] == labels


def table(cells, **columns):
    from nnx.data.source import Table

    m = len(cells)
    frame = polars.DataFrame({"x": [float(i % 7) for i in range(m)], "kind": cells, **columns})
    return Table("t", frame, of_text=frame["kind"].dtype == polars.String).training("kind", ())


@pytest.mark.parametrize(
    ("cells", "task", "why"),
    [
        (
            ["007", "008", "009"] * 10,
            "classification",
            "'kind' holds numbers with leading zeros, as codes have",
        ),
        ([f"{i:03}" for i in range(15)] * 2, "classification", "leading zeros"),
        ([str(i) for i in range(15)] * 2, "regression", "holds 15 different whole numbers in 30 rows"),
        (["1e5", "2e5"] * 15, "classification", "holds 2 different whole numbers"),
        (["0.5", "01.5"] * 15, "regression", "holds fractions"),
        (["True", "false"] * 15, "classification", "holds booleans"),
        (["True", "x"] * 15, "classification", "holds text"),
        (["true", "false"] * 15, "classification", "holds booleans"),
    ],
)
def test_the_task_of_codes(cells, task, why):
    pytest.importorskip("sklearn")
    from nnx.data.task import find_task, reason

    samples = table(cells)
    if task == "regression" and "fractions" in why:
        samples = table([*cells[:-1], "3.25"])
    assert find_task(samples, "auto") == task
    assert why in reason(samples)


def test_codes_that_do_not_repeat():
    pytest.importorskip("sklearn")
    from nnx.data.task import find_task

    with pytest.raises(
        nnx.InputError, match=r"30 different values in 30 rows, such as .*; .*, or the task regression"
    ):
        find_task(table([f"{k:03}" for k in range(30)]), "auto")


def test_codes_are_numbers_where_a_regression_is_asked_for():
    pytest.importorskip("sklearn")
    from nnx.data.task import find_task

    samples = table(["007", "1e1", "12"] * 10)
    assert find_task(samples, "regression") == "regression"
    p = Preparation.learn(samples, "regression", slice(None))
    np.testing.assert_allclose(p.y(p.Y(samples.y)), [7, 10, 12] * 10)
    np.testing.assert_array_equal(samples.as_numbers().y, [7, 10, 12] * 10)


def test_decimals_and_integers_of_128_bits_are_exact():
    pytest.importorskip("sklearn")
    from decimal import Decimal

    from nnx.data.source import Table

    large = [Decimal(10**20 + k % 3) for k in range(30)]
    frame = polars.DataFrame(
        {"x": [1.0, 2.0, 4.0] * 10, "kind": polars.Series(large, dtype=polars.Decimal(25, 0))}
    )
    samples = Table("t", frame).training("kind", ())
    p = Preparation.learn(samples, "classification", slice(None))
    assert p.labels == [str(10**20 + k) for k in range(3)]
    np.testing.assert_array_equal(p.Y(Table("t", frame).targets("kind", p.labels)), np.arange(30) % 3)


def test_a_run_of_an_earlier_version_goes_on(tmp_path, run):
    """Its preparation does not say whether the labels were text, and its labels are numbers: 007 was 7."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    from nnx.io import container

    polars.DataFrame({"x": [0.5, 1.5, 0.25, 2.0] * 10, "kind": ["7", "8"] * 20}).write_csv("t.csv")
    how = ("--target", "kind", "--epochs", 2, "--backend", "numpy", "--no-plots", "--out", "r")
    assert run("train", "t.csv", *how)[0] == 0
    for path in tmp_path.glob("r/**/*.safetensors"):
        tensors, description = container.read(path)
        assert description["metadata"]["preparation"].pop("from_text") is True
        container.write(path, tensors, description)
    assert run("train", "--resume", "r", "--epochs", 3)[0] == 0
    trainer = nnx.Trainer.load("r/model.safetensors", "numpy")
    assert len(trainer.records) == 3
    p = Preparation.of(trainer.metadata)
    assert p.labels == [7, 8]
    np.testing.assert_array_equal(p.Y(np.array(["007", "8.0"])), [0, 1])
