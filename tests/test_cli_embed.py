"""`nnx train --embed`: the bins, runs that go on, predictions, members and sweeps."""

import csv
import json

import numpy as np
import pytest

import nnx

BINS = "piecewise_linear(bins=4, width=3)"


@pytest.fixture
def prices(tmp_path, rng):
    kinds, size, floor = np.array(["a", "b"])[rng.integers(0, 2, 80)], rng.random(80), rng.integers(0, 9, 80)
    with (tmp_path / "prices.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "size", "floor", "price"])
        writer.writerows(zip(kinds, size, floor, np.sin(9 * size) + (kinds == "a"), strict=True))


def train(run, *more):
    status, out, error = run("train", *more, "--no-plots")
    assert status == 0, out + error
    return out + error


def load(folder):
    return nnx.Trainer.load(folder, backend="numpy")


def test_a_run_with_embeddings_goes_on_and_predicts(run, prices, tmp_path):
    data = "prices.csv", "--target", "price", "--embed", BINS, "--layers", 8
    train(run, *data, "--epochs", 4, "--out", "whole")
    trainer = load("whole")
    layer, preparation = trainer.network.layers[0], nnx.Tabular.load("whole", backend="numpy").preparation
    assert layer.columns == tuple(map(preparation.inputs.index, ("size", "floor")))
    train(run, *data, "--epochs", 2, "--out", "part")
    train(run, "--resume", "part", "--epochs", 4)
    np.testing.assert_array_equal(load("part").theta, trainer.theta)
    assert run("predict", "whole", "prices.csv", "--out", "found.csv")[0] == 0
    found = np.loadtxt(tmp_path / "found.csv", skiprows=1)
    np.testing.assert_allclose(
        found, nnx.Tabular.load("whole", backend="numpy").predict("prices.csv"), rtol=1e-6
    )
    status, out, _ = run("evaluate", "whole", "prices.csv", "--json")
    assert status == 0
    assert np.isfinite(json.loads(out)["loss"])


def test_bins_are_those_of_the_training_part(run, prices):
    model = nnx.Tabular("prices.csv", "price", embed=BINS, backend="numpy", validation=0.2, seed=0)
    X = model._train[0]
    assert X.shape[1] == 64
    layer = model.trainer.network.layers[0]
    for c, edges in zip(layer.columns, layer.edges, strict=True):
        np.testing.assert_allclose(
            edges, np.unique(np.quantile(X[c].astype(float), np.linspace(0, 1, 5))), rtol=1e-6
        )
    train(
        run,
        "prices.csv",
        "--target",
        "price",
        "--embed",
        BINS,
        "--epochs",
        1,
        "--held-out",
        0.2,
        "--out",
        "a",
    )
    assert load("a").network.layers[0].edges == layer.edges


def test_members_and_sweeps(run, prices):
    data = "prices.csv", "--target", "price", "--layers", 8, "--epochs", 2
    train(run, *data, "--embed", "periodic(frequencies=3, width=2)", "--members", 2, "--out", "k")
    theta = load("k").theta
    assert theta.shape[0] == 2
    assert not np.array_equal(theta[0], theta[1])
    sweep = "--sweep", f"embed=none {BINS.replace(' ', '')}", "--sweep", "learning-rate=0.01 0.1"
    out = train(run, *data, *sweep, "--out", "s")
    assert "4 runs in 2 stacks" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("periodical", "unknown embedding 'periodical'; did you mean 'periodic'"),
        ("piecewise_linear(bins=1)", "bins must be an integer >= 2, not 1"),
        ("periodic(sigma=0)", "sigma must be"),
        ("periodic(columns=x)", "columns must be"),
    ],
)
def test_bad_embeddings(run, given, said):
    status, out, error = run("train", "iris", "--embed", given)
    assert status == 2
    assert said in (out + error).replace("\n", " ")


def test_columns_without_numbers(run, tmp_path):
    (tmp_path / "kinds.csv").write_text("kind,y\n" + "a,1\nb,2.5\n" * 20)
    status, out, error = run(
        "train", "kinds.csv", "--target", "y", "--task", "regression", "--embed", "periodic"
    )
    assert status != 0
    assert "more than two distinct values" in (out + error).replace("\n", " ")
