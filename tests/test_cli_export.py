"""`nnx export`: a model of `nnx train` becomes an ONNX file that predicts as `nnx predict` does."""

import io
import re

import numpy as np
import pytest

pytest.importorskip("polars")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import polars  # after the skips
from test_onnx import results
from test_onnx_tables import feed

import nnx

PETS = {
    "size": [60, 21, 62, 20, 65, 25] * 10,
    "coat": ["long", "short", None] * 20,
    "kind": ["dog", "cat"] * 30,
}


def test_export(run, tmp_path):
    frame = polars.DataFrame(PETS)
    nnx.Tabular(frame, "kind", layers=[4], members=2, backend="numpy").save(tmp_path / "model.safetensors")
    frame.write_csv(tmp_path / "new.csv")
    status, out, err = run("export", "model.safetensors", "deep/pets.onnx", "--members")
    assert (status, out) == (0, "")
    assert err.startswith("deep/pets.onnx: ")
    shown = [" ".join(re.split(r"[\s│]+", row)[1:-1]) for row in err.splitlines() if row.startswith("│")]
    assert shown == [
        "input size double (m, 1) a number; NaN: missing",
        "input coat string (m, 1) text; empty: missing",
        "output label string (m,)",
        "output probabilities float (m, 2)",
        "output members float (2, m, 2)",
    ]
    predicted = polars.read_csv(io.StringIO(run("predict", "model.safetensors", "new.csv")[1]))
    path = tmp_path / "deep" / "pets.onnx"
    for found in results(path, feed(path, frame)):
        assert found["label"].tolist() == predicted["kind"].to_list()
        np.testing.assert_allclose(found["probabilities"], predicted.select("P(cat)", "P(dog)"), atol=1e-6)
        assert found["members"].shape == (2, 60, 2)

    before = path.read_bytes()
    status, out, err = run("export", "model.safetensors", "deep/pets.onnx")
    assert (status, out) == (1, "")
    assert "'deep/pets.onnx' exists already; choose another name, or give --overwrite to replace it" in err
    assert path.read_bytes() == before
    assert run("export", "model.safetensors", "deep/pets.onnx", "--overwrite", "--dtype", "float64")[0] == 0
    assert results(path, feed(path, frame))[0].keys() == {"label", "probabilities"}
    assert results(path, feed(path, frame))[0]["probabilities"].dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("model.safetensors", "pets.csv"), 2, "'pets.csv' does not end in .onnx"),
        (
            ("a.onnx", "model.safetensors"),
            2,
            "the model comes first, then the file to write: nnx export model",
        ),
        (("nothing", "pets.onnx"), 1, "there is no model file 'nothing'"),
        (("model.safetensors", "a.onnx", "--dtype", "half"), 2, "half"),
        (("model.safetensors", "a.onnx", "--members"), 1, "'model.safetensors' is one network; --members"),
    ],
)
def test_bad_input(run, tmp_path, arguments, status, message):
    nnx.Trainer(nnx.mlp([2, 2]), backend="numpy").save(tmp_path / "model.safetensors")
    found, out, err = run("export", *arguments)
    assert (found, out) == (status, "")
    assert message in " ".join(err.split())
    assert [one.name for one in tmp_path.iterdir()] == ["model.safetensors"]
