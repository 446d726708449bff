"""The baseline beside a model's score, and the hints that a result gives."""

import json
import re

import numpy as np
import pytest
from conftest import long_but_for

import nnx
from nnx.data.prepare import Preparation

pytest.importorskip("typer")

QUICK = ("--no-plots", "--backend", "numpy")


def table(path, features, targets, target="kind"):
    """Write features (m, n) and targets as CSV."""
    names = [f"x{j}" for j in range(features.shape[1])]
    rows = (",".join([*(f"{x:.4f}" for x in row), str(y)]) for row, y in zip(features, targets, strict=True))
    path.write_text("\n".join([",".join([*names, target]), *rows, ""]))


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(300, 12))


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
@pytest.mark.parametrize(
    "metric", long_but_for(["accuracy", "f1", "recall(macro)", "roc_auc", "log_loss"], "accuracy", "log_loss")
)
def test_the_baseline_is_that_of_scikit_learns_dummy(run, tmp_path, X, classes, metric):
    from sklearn import metrics
    from sklearn.dummy import DummyClassifier

    y = np.array([classes[k] for k in (X[:, 0] > 0.3) * (len(classes) - 1)])
    y[X[:, 1] > 1.2] = classes[1]
    table(tmp_path / "a.csv", X, y)
    arguments = ("train", "a.csv", "--target", "kind", *QUICK, "--epochs", 3, "--metrics", metric)
    status, out, err = run(*arguments, "--json", "--out", "run")
    assert status == 0
    preparation = Preparation.of(nnx.Trainer.load("run/model.safetensors", "numpy").metadata)
    counts = dict(zip(preparation.labels, preparation.class_counts, strict=True))
    train = np.repeat(list(counts), list(counts.values()))
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((len(train), 1)), train)
    guess, shares = dummy.predict(np.zeros((len(y), 1))), dummy.predict_proba(np.zeros((len(y), 1)))
    two = len(classes) == 2
    average = {"pos_label": "b"} if two else {"average": "macro"}
    expected = {
        "accuracy": lambda: metrics.accuracy_score(y, guess),
        "f1": lambda: metrics.f1_score(y, guess, zero_division=0, **average),
        "recall(macro)": lambda: metrics.balanced_accuracy_score(y, guess),
        "roc_auc": lambda: 0.5,
        "log_loss": lambda: metrics.log_loss(y, shares),
    }[metric]()
    found = json.loads(run("evaluate", "run", "a.csv", "--metrics", metric, "--json")[1])
    assert found["baseline"] == {"prediction": guess[0], metric: pytest.approx(expected)}
    assert f"baseline: always '{guess[0]}'" in run("evaluate", "run", "a.csv", "--metrics", metric)[1]
    if two:
        assert "│ precision of 'b' " in run("evaluate", "run", "a.csv")[1]
    assert json.loads(out)["baseline"]["prediction"] == guess[0]
    assert f"; baseline (always '{guess[0]}'): " in err


@pytest.mark.parametrize("options", [[], ["--metrics", "mean_absolute_error"], ["--task", "counts"]])
def test_the_baseline_of_numbers_is_the_mean_of_the_training_part(run, tmp_path, X, options):
    y = np.round(np.exp(X[:, 0]) * 20)
    table(tmp_path / "a.csv", X, y, "price")
    given = ("--target", "price", "--task", "regression", *options)  # the last --task wins
    arguments = ("train", "a.csv", *given, *QUICK, "--epochs", 2)
    status, out, err = run(*arguments, "--json", "--out", "run")
    assert status == 0
    metric = options if "--metrics" in options else []
    found = json.loads(run("evaluate", "run", "a.csv", *metric, "--json")[1])["baseline"]
    mean = found["prediction"]
    assert mean == pytest.approx(y.mean(), rel=0.2)
    assert found["root_mean_squared_error"] == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)))
    if metric:
        assert found["mean_absolute_error"] == pytest.approx(np.mean(np.abs(y - mean)))
    else:
        assert found["r2"] == pytest.approx(1 - np.sum((y - mean) ** 2) / np.sum((y - y.mean()) ** 2))
    assert "; baseline (always the mean, " in err
    assert set(json.loads(out)["baseline"]) == set(found)


def test_a_model_that_is_no_better_is_warned_of(run, tmp_path, X):
    table(tmp_path / "rare.csv", X, np.where(X[:, 0] > 1.5, "yes", "no"))
    rare = ("train", "rare.csv", "--target", "kind", *QUICK)
    err = run(*rare, "--epochs", 1, "--learning-rate", 1e-4, "--seed", 1)[2]
    assert (
        "Warning: the model is no better than the baseline, always 'no'. Try --class-weight balanced, " in err
    )
    assert "more --epochs than 1, another --learning-rate, or columns that tell more of 'kind'" in err
    table(tmp_path / "noise.csv", X[:, :2], X[:, 5], "price")
    err = run("train", "noise.csv", "--target", "price", *QUICK, "--drop", "x1")[2]
    assert re.search(r"Warning: the model is (no|hardly) better than the baseline, always the mean, ", err)
    assert "another --learning-rate, or fewer columns in --drop" in err
    assert "--class-weight" not in err
    table(tmp_path / "easy.csv", X, np.where(X[:, 0] > 0, "yes", "no"))
    err = run("train", "easy.csv", "--target", "kind", *QUICK)[2]
    assert "Warning" not in err
    assert "Hint" not in err


def test_overfitting_is_said_where_it_is_large(run, tmp_path, X):
    rng = np.random.default_rng(1)
    table(tmp_path / "a.csv", X, np.where(X[:, 0] + 1.5 * rng.normal(size=300) > 0, "yes", "no"))
    arguments = ("train", "a.csv", "--target", "kind", *QUICK)
    err = run(*arguments, "--no-early-stopping")[2]
    assert "Hint      it overfits: accuracy 100.00% on the training part, " in err
    assert "Try early stopping, --dropout 0.2, --l2 0.001, or more samples" in err
    assert "overfits" not in run(*arguments)[2]  # the epoch is kept before it does
    table(tmp_path / "b.csv", X, X[:, 0] + 1.5 * rng.normal(size=300), "price")
    numbers = ("train", "b.csv", "--target", "price", *QUICK, "--metrics", "root_mean_squared_error")
    assert "it overfits: root mean squared error " in run(*numbers, "--no-early-stopping")[2]


def test_rare_classes_are_hinted_at(run, tmp_path, X):
    hint = "nearly all samples are 'no': accuracy says little of the other classes"
    rng = np.random.default_rng(1)
    table(tmp_path / "a.csv", X, np.where(X[:, 0] + 0.5 * rng.normal(size=300) > 1.1, "yes", "no"))
    arguments = ("train", "a.csv", "--target", "kind", *QUICK, "--epochs")
    said = []
    for epochs in (3, 6, 7, 8, 40):
        out, err = run(*arguments, epochs, "--json")[1:]
        found = json.loads(out)
        accuracy, base = found["held_out"]["accuracy"], found["baseline"]["accuracy"]
        said.append(hint in err)
        assert said[-1] == (base < accuracy < base + (1 - base) / 4)
    assert set(said) == {True, False}
    assert hint not in run(*arguments, 5, "--class-weight", "balanced")[2]


def test_weights_that_cost_accuracy_are_no_fault_of_the_model(run, tmp_path, X):
    rng = np.random.default_rng(1)
    table(tmp_path / "a.csv", X, np.where(X[:, 0] + 2 * rng.normal(size=300) > 3, "yes", "no"))
    arguments = ("train", "a.csv", "--target", "kind", *QUICK, "--class-weight", "balanced")
    err = run(*arguments)[2]
    assert (
        "Hint      accuracy is no better than the baseline's, always 'no': --class-weight gives it up" in err
    )
    assert "Warning" not in err
    assert "gives it up" not in run(*arguments, "--metrics", "recall(macro)")[2]


def test_more_epochs_are_no_help_against_overfitting(run, tmp_path, X):
    table(tmp_path / "noise.csv", X, np.random.default_rng(2).choice(["yes", "no"], 300))
    err = run("train", "noise.csv", "--target", "kind", *QUICK, "--no-early-stopping")[2]
    assert "Warning: the model is " in err
    assert "it overfits" in err
    assert "more --epochs" not in err


def test_evaluate_warns_of_a_model_that_is_no_better(run, tmp_path, X):
    table(tmp_path / "a.csv", X, X[:, 0], "price")
    assert run("train", "a.csv", "--target", "price", *QUICK, "--out", "run")[0] == 0
    assert "Warning" not in run("evaluate", "run", "a.csv")[2]
    table(tmp_path / "later.csv", X, -X[:, 0], "price")
    _, out, err = run("evaluate", "run", "later.csv", "--json")
    assert json.loads(out)["r2"] < 0
    assert "Warning: R2 is no better than the baseline's, always the mean, " in err


def test_samples_that_chose_the_epoch_are_said_to_have(run, tmp_path, X):
    table(tmp_path / "a.csv", X, np.where(X[:, 0] > 0, "yes", "no"))
    said = "these samples also chose the epoch; --test 0.2 keeps others apart"
    arguments = ("train", "a.csv", "--target", "kind", *QUICK, "--epochs", 3)
    assert said in run(*arguments)[2]
    assert said not in run(*arguments, "--no-early-stopping")[2]


def test_a_model_of_an_earlier_version_has_no_baseline_of_classes(run, tmp_path, X):
    table(tmp_path / "a.csv", X, np.where(X[:, 0] > 0, "yes", "no"))
    assert run("train", "a.csv", "--target", "kind", *QUICK, "--epochs", 3, "--out", "run")[0] == 0
    trainer = nnx.Trainer.load("run/model.safetensors", "numpy")
    del trainer.metadata["preparation"]["class_counts"]
    trainer.save("run/model.safetensors")
    assert json.loads(run("evaluate", "run", "a.csv", "--json")[1])["baseline"] is None
    assert "baseline" not in run("evaluate", "run", "a.csv")[1]
    for counts, message in (
        ([1, 2, 3], "has 3 entries; expected 2"),
        ([1, -2], "is -2; expected a whole number"),
    ):
        trainer.metadata["preparation"]["class_counts"] = counts
        trainer.save("run/model.safetensors")
        status, _, err = run("evaluate", "run", "a.csv")
        assert status == 1
        assert message in err
