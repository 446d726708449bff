"""Weights of classes by their labels, and counts, on the command line."""

import json

import numpy as np
import pytest

import nnx

QUICK = ("--epochs", 3, "--layers", 4, "--no-plots", "--backend", "numpy")


@pytest.fixture
def noise(tmp_path):
    """A table from which nothing but the shares of the classes can be learned."""
    rng = np.random.default_rng(0)
    rows = zip(
        rng.normal(size=200).round(3),
        rng.choice(["yes", "no, never"], 200),
        rng.integers(0, 2, 200),
        strict=True,
    )
    text = "".join(f'{x},"{answer}",{code}\n' for x, answer, code in rows)
    (tmp_path / "noise.csv").write_text(f"x,answer,code\n{text}")


def predicted(run, target, *options):
    """Return the predictions of a model that was trained with these options."""
    arguments = ("--epochs", 30, "--lr", 0.02, *QUICK[2:], "--quiet", "--overwrite", "--out", "r")
    assert run("train", "noise.csv", "--target", target, *options, *arguments)[0] == 0
    status, out, _ = run("predict", "r", "noise.csv", "--no-probabilities")
    assert status == 0
    return [line.strip('"') for line in out.splitlines()[1:]]


def test_classes_weigh_what_is_said(run, noise, tmp_path):
    both = ("--drop", "code")
    assert set(predicted(run, "answer", *both, "--class-weight", "yes=20")) == {"yes"}
    assert set(predicted(run, "answer", *both, "--class-weight", "no, never = 20, yes=1")) == {"no, never"}
    again = (tmp_path / "r" / "config.toml").read_text()
    assert 'class-weight = "no, never = 20, yes=1"' in again
    (tmp_path / "c.toml").write_text('[class-weight]\nyes = 0.5\n"no, never" = 20\n')
    assert set(predicted(run, "answer", *both, "--config", "c.toml")) == {"no, never"}
    integers = ("--drop", "answer", "--class-weight")
    assert set(predicted(run, "code", *integers, "1=20")) == {"1"}
    assert set(predicted(run, "code", *integers, "0=20")) == {"0"}


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (
            "Yes=5",
            1,
            "unknown class of 'answer' in class_weight 'Yes'; did you mean 'yes'? Known: no, never, yes",
        ),
        (
            "balance",
            2,
            "unknown class-weight 'balance'; did you mean 'balanced'? Known: balanced, none, a weight for",
        ),
        (
            "yes=",
            2,
            "unknown class-weight 'yes='. Known: balanced, none, a weight for each class, such as yes=5,no=1",
        ),
        ("yes=much", 2, "class-weight of 'yes' must be at least 0 and finite, not 'much'"),
        ("yes=-1", 2, "class-weight of 'yes' must be at least 0 and finite, not -1"),
        ("yes=1,yes=2", 2, "class-weight has the class 'yes' twice"),
        ("yes=0", 2, "class-weight is 0 for every class that it names"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    run, noise, tmp_path, given, status, message
):
    arguments = ("train", "noise.csv", "--target", "answer", "--drop", "code", "--class-weight", given)
    found, out, err = run(*arguments, *QUICK)
    assert (found, out) == (status, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_numbers_have_no_classes_to_weigh(run, noise):
    status, _, err = run("train", "noise.csv", "--target", "x", "--class-weight", "balanced", *QUICK)
    assert status == 1
    assert "--class-weight is for classes; the target 'x' is numbers" in err


@pytest.fixture
def rentals(tmp_path):
    """Counts with a mean of about 300, which depend on one column."""
    rng = np.random.default_rng(0)
    hour = rng.uniform(0, 24, 300)
    n = rng.poisson(np.exp(5.5 + np.sin(hour / 24 * 2 * np.pi)))
    text = "".join(f"{x:.3f},{y},{y - 150}\n" for x, y in zip(hour, n, strict=True))
    (tmp_path / "rentals.csv").write_text(f"hour,n,shifted\n{text}")
    return n


def test_counts_are_learned_measured_and_predicted_in_their_own_unit(run, rentals, tmp_path):
    arguments = ("--target", "n", "--drop", "shifted", "--task", "counts", "--epochs", 60, *QUICK[4:])
    status, out, _ = run("train", "rentals.csv", *arguments, "--lr", 0.01, "--out", "r", "--json")
    found = json.loads(out)
    assert (status, found["task"]) == (0, "counts")
    assert found["held_out"]["r2"] > 0.9
    assert 0 < found["held_out"]["root_mean_squared_error"] < 60
    trainer = nnx.Trainer.load(tmp_path / "r" / "model.safetensors", backend="numpy")
    assert trainer.network.output.name == "exp"
    status, out, _ = run("predict", "r", "rentals.csv")
    n = np.array([float(line) for line in out.splitlines()[1:]])
    assert (n > 0).all()
    assert abs(n.mean() / rentals.mean() - 1) < 0.1
    status, out, _ = run("evaluate", "r", "rentals.csv", "--json")
    measured = json.loads(out)
    assert measured["mean_absolute_error"] == pytest.approx(np.abs(n - rentals).mean(), rel=1e-4)
    # The cost is half the Poisson deviance in units of the mean that the training rows have.
    deviance = (rentals * np.log(np.maximum(rentals, 1) / n) - (rentals - n)).mean()
    assert measured["loss"] == pytest.approx(deviance / trainer.metadata["preparation"]["y_scale"], rel=1e-3)
    status, _, err = run("evaluate", "r", "rentals.csv", "--target", "shifted")
    assert status == 1
    assert (
        f"in row {(rentals < 150).argmax() + 1} (counted from 1); the model is of counts, which are >= 0"
        in err
    )
    assert run("train", "--resume", "r", "--epochs", 61, "--quiet")[0] == 0


def test_negative_counts_and_losses_of_counts_are_explained(run, rentals):
    status, _, err = run("train", "rentals.csv", "--target", "shifted", "--task", "counts", *QUICK)
    assert status == 1
    assert f"the target 'shifted' is negative in {(rentals < 150).sum()} rows" in err
    assert "or say --task regression" in err
    status, _, err = run("train", "rentals.csv", "--target", "n", "--loss", "half_poisson_deviance", *QUICK)
    assert status == 2
    assert "the loss half_poisson_deviance is of counts; say so: --task counts" in err
