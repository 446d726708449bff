"""Tables' models as ONNX graphs: the preparation of columns and the labels are in the file."""

import datetime
import logging

import numpy as np
import pytest
from test_onnx import assert_same, results

import nnx
from nnx.convert import to_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pl = pytest.importorskip("polars")
pytest.importorskip("sklearn")

EPOCH = datetime.datetime(1970, 1, 1)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Models that are not trained yet say so."""
    caplog.set_level(logging.ERROR, "nnx")


def number(x):
    """A cell as a graph takes it."""
    if x is None:
        return np.nan
    if isinstance(x, datetime.datetime):
        return (x - EPOCH) / datetime.timedelta(seconds=1)
    if isinstance(x, datetime.time):
        return 3600 * x.hour + 60 * x.minute + x.second + 1e-6 * x.microsecond
    return float(x)


def feed(path, table):
    """The columns of a table as the inputs of a file."""
    found = {}
    for one in onnx.load(path).graph.input:
        cells = table[one.name].to_list()
        is_text = one.type.tensor_type.elem_type == onnx.TensorProto.STRING
        values = [x or "" for x in cells] if is_text else [number(x) for x in cells]
        found[one.name] = np.array(values, object if is_text else float)[:, None]
    return found


def columns(rng, m=120):
    """A table with columns of all kinds, in which values are missing."""

    def gaps(values):
        return [None if rng.random() < 0.1 else value for value in values]

    days = rng.uniform(0, 40_000, m)
    start = datetime.datetime(1931, 3, 1, 4, 5, 6, 789)
    return {
        "large": gaps((2**25 + rng.integers(0, 9, m)).tolist()),
        "kind": gaps([*rng.choice(["x", "y", "é z"], m - 1).tolist(), "once"]),
        "whole": rng.standard_normal(m).tolist(),
        "true": gaps((rng.random(m) > 0.5).tolist()),
        "when": gaps([start + datetime.timedelta(days=float(x)) for x in days]),
        "full": rng.choice(["p", "q"], m).tolist(),
        "at": [datetime.time(int(h), 59, 59, 999_999) for h in rng.integers(0, 24, m)],
    }


NEW = {
    "large": [None, 2**25 + 1, 3.5, -1e9],
    "kind": ["nope", None, "x", "once"],
    "whole": [0.5, None, 1.0, 2.0],
    "true": [True, None, False, True],
    "when": [
        None, datetime.datetime(1600, 2, 29, 23, 59, 59), datetime.datetime(2000, 2, 29),
        datetime.datetime(2024, 12, 31, 23, 0, 1),
    ],
    "full": ["p", None, "zz", "q"],
    "at": [None, datetime.time(0), datetime.time(12, 0, 0, 1), datetime.time(23)],
}  # fmt: skip
"""Rows with values that the training does not have."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_table_with_columns_of_all_kinds(tmp_path, rng, dtype):
    given = columns(rng)
    frame, path = pl.DataFrame(given), tmp_path / "a.onnx"
    new = pl.concat([frame, pl.DataFrame(NEW, schema=frame.schema, strict=False)])
    m, size = len(frame), np.asarray(given["whole"])
    cases = [
        ("numbers", 1000 + 5 * size, None, 3),
        ("counts", np.arange(m) % 5, "counts", None),
        ("two texts", np.where(size > 0, "big", "small"), None, None),
        ("three texts", np.array(["u", "v", "w"])[np.digitize(size, [-0.5, 0.5])], None, 2),
        ("booleans", size > 0, None, None),
        ("integers", np.digitize(size, [-0.5, 0.5]) * 2**40, "classification", None),
    ]
    for name, y, task, members in cases:
        data = frame.with_columns(pl.Series("target", y))
        model = nnx.Tabular(
            data, "target", task=task or "auto", layers=[6], activation="tanh", dtype=dtype, members=members,
            backend="numpy",
        )  # fmt: skip
        to_onnx(model, path, members=members is not None)
        for found in results(path, feed(path, new)):
            expected = model.predict(new)
            if model.classes is None:
                scale = model.preparation.y_scale
                assert found["prediction"].dtype == np.float64
                assert_same((found["prediction"] / scale).astype(dtype), (expected / scale).astype(dtype))
            else:
                assert found["label"].tolist() == expected.tolist(), name
                assert_same(found["probabilities"], model.predict_proba(new))
            assert not members or found["members"].shape[:2] == (members, len(new))


def test_every_turn_of_the_calendar(tmp_path):
    years = (1, 4, 99, 100, 400, 1582, 1600, 1899, 1900, 1969, 1970, 1999, 2000, 2024, 2100, 9998)
    ends = [datetime.datetime(y, *day, 23, 59, 59) for y in years for day in ((1, 31), (2, 28), (12, 31))]
    at = [*ends, *(one + datetime.timedelta(seconds=1) for one in ends)]
    at += [one + datetime.timedelta(microseconds=999_999) for one in ends if 1800 < one.year < 2200]
    frame = pl.DataFrame({"when": at, "target": np.linspace(0, 1, len(at))})
    model = nnx.Tabular(frame, "target", layers=[64], dtype="float64", backend="numpy")
    to_onnx(model, tmp_path / "a.onnx")
    for found in results(tmp_path / "a.onnx", feed(tmp_path / "a.onnx", frame)):
        np.testing.assert_allclose(found["prediction"], model.predict(frame), rtol=0, atol=1e-9)


def test_a_model_file_and_a_table_without_names(tmp_path):
    X = np.random.default_rng(0).standard_normal((50, 3)).astype("f") + 1000
    np.savez(tmp_path / "a.npz", X=X, y=np.arange(50) % 3)
    model = nnx.Tabular(tmp_path / "a.npz", layers=[5], backend="numpy")
    model.save(tmp_path / "m.safetensors")
    to_onnx(nnx.Trainer.load(tmp_path / "m.safetensors", "numpy"), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx")
    assert {one.key: one.value for one in graph.metadata_props} == {"target": "y", "classes": "[0, 1, 2]"}
    for found in results(tmp_path / "a.onnx", {"X": X.astype(float)}):
        assert found["label"].tolist() == model.predict(X).tolist()
        assert_same(found["probabilities"], model.predict_proba(X))


def of_text(values, m=40):
    frame = pl.DataFrame(
        {"kind": (values * m)[:m], "size": np.arange(m) % 7, "target": ["a", "b"] * (m // 2)}
    )
    return frame, nnx.Tabular(frame, "target", layers=[4], dtype="float64", backend="numpy", validation=0)


@pytest.mark.parametrize("values", [["", "x", "y"], ["x", None, "y"], ["x", "y"]], ids=str)
def test_empty_text_is_a_missing_value(tmp_path, values):
    frame, model = of_text(values)
    frame = frame.with_columns(pl.Series("kind", ["", None, "x", "other"] * 10))
    to_onnx(model, tmp_path / "a.onnx")
    for found in results(tmp_path / "a.onnx", feed(tmp_path / "a.onnx", frame)):
        assert_same(found["probabilities"], model.predict_proba(frame))


def test_empty_text_beside_missing_values_is_refused(tmp_path):
    """A table of nnx's own reading has none: it takes empty text for a missing value."""
    _, model = of_text(["y", None, "x"])
    model.trainer.metadata["preparation"]["columns"][0]["categories"] = ["", "x", None]
    with pytest.raises(nnx.InputError, match="the column 'kind' cannot be exported to ONNX: the empty text"):
        to_onnx(model, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_an_infinite_number_gives_nan(tmp_path):
    """A graph raises no error, as nnx does; its other rows are as ever."""
    frame, model = of_text(["x", "y"])
    path = tmp_path / "a.onnx"
    to_onnx(model, path, dtype="float32")
    given = feed(path, frame)
    given["size"][[3, 5], 0] = np.inf, 1e300
    for found in results(path, given):
        wrong = np.isnan(found["probabilities"]).all(axis=1)
        assert np.flatnonzero(wrong).tolist() == [3, 5]
        np.testing.assert_allclose(
            found["probabilities"][~wrong], model.predict_proba(frame)[~wrong], atol=1e-6
        )


def test_a_moment_that_is_none_gives_nan(tmp_path):
    start = datetime.datetime(2024, 1, 1)
    frame = pl.DataFrame({
        "at": [datetime.time(hour) for hour in range(24)],
        "when": [start + datetime.timedelta(hours=15 * day) for day in range(24)],
        "target": ["a", "b"] * 12,
    })  # fmt: skip
    path, model = (
        tmp_path / "a.onnx",
        nnx.Tabular(frame, "target", layers=[4], dtype="float64", backend="numpy"),
    )
    to_onnx(model, path)
    given = feed(path, frame)
    given["at"][[2, 3], 0] = np.inf, -np.inf
    given["when"][[5, 6, 7, 8], 0] = np.inf, -np.inf, 1e300, -63e9
    for found in results(path, given):
        wrong = np.isnan(found["probabilities"]).all(axis=1)
        assert np.flatnonzero(wrong).tolist() == [2, 3, 5, 6, 7, 8]
        np.testing.assert_allclose(
            found["probabilities"][~wrong], model.predict_proba(frame)[~wrong], atol=1e-9
        )


def test_columns_that_are_called_as_outputs(tmp_path, rng):
    frame = pl.DataFrame({"label": rng.random(20), "Gemm_1": rng.random(20), "constant": rng.random(20)})
    frame = frame.with_columns(pl.Series("y", ["a", "b"] * 10))
    model = nnx.Tabular(frame, "y", layers=[4], backend="numpy")
    to_onnx(model, tmp_path / "a.onnx")
    for found in results(tmp_path / "a.onnx", feed(tmp_path / "a.onnx", frame)):
        assert set(found) == {"label 2", "probabilities"}
        assert found["label 2"].tolist() == model.predict(frame).tolist()
