"""Accuracy beside scikit-learn's MLP on its bundled data: `python -m nnx.bench.accuracy`.

All see the same samples, scaled by the mean and deviation of those to train on (so is diabetes' target), in batches of
one size. Each seed draws another split and other first weights; what is over scikit-learn is so split by split.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import nnx
from nnx.data.builtin import load
from nnx.data.prepare import Preparation
from nnx.data.splits import split
from nnx.data.task import find_task
from nnx.errors import positive_int

DATA = ("breast_cancer", "wine", "diabetes")
HIDDEN, BATCH_SIZE = 100, 32
"""What all have: one hidden layer of so many ReLUs, and batches of one size."""


@dataclass(frozen=True)
class Problem:
    """One split of a data set: samples as columns, scaled; class indices (m,), or scaled numbers (1, m)."""

    X: Any
    Y: Any
    X_held_out: Any
    Y_held_out: Any
    output: str
    n_outputs: int

    @classmethod
    def draw(cls, name: str, seed: int, held_out: float = 0.25) -> "Problem":
        """Return a bundled data set, a stratified share of it held out."""
        samples = load(name).training(None, ())
        task = find_task(samples, "auto")
        train, held = split(samples, task, held_out, seed)
        made = Preparation.learn(samples, task, train)
        X, Y = made.X(samples.X), made.Y(samples.y)
        parts = X[:, train], Y[..., train], X[:, held], Y[..., held]
        return cls(*parts, made.output, made.n_outputs)


def sklearn(problem: Problem, seed: int, epochs: int) -> tuple[float, float]:
    """Return the score and the seconds of scikit-learn's MLP: Adam, its defaults; no tolerance ends it early."""
    kind = MLPRegressor if problem.output == "identity" else MLPClassifier
    mlp = kind(
        hidden_layer_sizes=(HIDDEN,), batch_size=BATCH_SIZE, max_iter=epochs, n_iter_no_change=epochs, tol=0.0,
        random_state=seed,
    )  # fmt: skip
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # which says that all epochs were done
        mlp.fit(problem.X.T, problem.Y.reshape(-1))
    seconds = time.process_time() - start
    return float(mlp.score(problem.X_held_out.T, problem.Y_held_out.reshape(-1))), seconds


def same(problem: Problem, seed: int, epochs: int) -> tuple[float, float]:
    """Return those of nnx with scikit-learn's settings: Glorot's weights, and its L2, alpha/(2m) sum W^2."""
    net = nnx.mlp([len(problem.X), HIDDEN, problem.n_outputs], output=problem.output, init="glorot")
    l2 = nnx.Regularization(l2=1e-4, per_sample=True)
    return _fitted(
        nnx.Trainer(net, nnx.Adam(), regularization=l2, seed=seed, backend="numpy"), problem, epochs
    )


def own(problem: Problem, seed: int, epochs: int) -> tuple[float, float]:
    """Return those of nnx with more than scikit-learn has: dropout, AdamW, a falling rate, label smoothing."""
    layers = [nnx.Dense(HIDDEN, "relu"), nnx.Dropout(0.5), nnx.Dense(problem.n_outputs)]
    net = nnx.Network(len(problem.X), layers, problem.output)
    steps = epochs * -(-problem.X.shape[1] // BATCH_SIZE)
    optimizer = nnx.AdamW(nnx.schedules.Cosine(0.003, steps=steps), weight_decay=0.1)
    smooth = nnx.Regularization(label_smoothing=0.1 if net.output.classes else 0.0)
    return _fitted(
        nnx.Trainer(net, optimizer, regularization=smooth, seed=seed, backend="numpy"), problem, epochs
    )


def _fitted(trainer: nnx.Trainer, problem: Problem, epochs: int) -> tuple[float, float]:
    start = time.process_time()
    trainer.fit(problem.X, problem.Y, epochs, BATCH_SIZE, progress=False)
    seconds = time.process_time() - start
    measured = trainer.evaluate(problem.X_held_out, problem.Y_held_out)
    return float(measured["accuracy" if trainer.network.output.classes else "r2"]), seconds


CONTESTANTS: dict[str, tuple[Callable[[Problem, int, int], tuple[float, float]], int]] = {
    "scikit-learn": (sklearn, 50),
    "nnx, the same": (same, 50),
    "nnx, its own": (own, 100),
}
"""contestant(problem, seed, epochs) -> accuracy or R2 on what is held out, and the processor's seconds of the fit;
with the number of epochs that suits it best: chosen, as all of `own` is, on parts of the samples to train on."""


def rows(data: Sequence[str], seeds: Sequence[int], most: int | None = None) -> Iterator[str]:
    """Yield a table in Markdown, row by row; `most`: at most so many epochs."""
    yield "| data | score | contestant | mean | deviation | over scikit-learn | processor seconds |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for name in data:
        problems = [Problem.draw(name, seed) for seed in seeds]
        theirs: list[float] = []
        for contestant, (run, epochs) in CONTESTANTS.items():
            epochs = min(epochs, most or epochs)
            done = [run(problem, seed, epochs) for problem, seed in zip(problems, seeds, strict=True)]
            scores, seconds = zip(*done, strict=True)
            theirs = theirs or list(scores)
            over = [score - other for score, other in zip(scores, theirs, strict=True)]
            better = "" if run is sklearn else f"{round(mean(over), 4) + 0:+.4f} ± {_spread(over):.4f}"
            score = "R2" if problems[0].output == "identity" else "accuracy"
            yield (
                f"| {name} | {score} | {contestant} | {mean(scores):.4f} | {_spread(scores):.4f} | "
                f"{better} | {mean(seconds):.2f} |"
            )


def _spread(numbers: Sequence[float]) -> float:
    return stdev(numbers) if len(numbers) > 1 else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m nnx.bench.accuracy", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA, help="the data sets")
    parser.add_argument("--seeds", type=int, default=5, help="how many splits a row is the mean of")
    given = parser.parse_args(arguments)
    for row in rows(given.data, range(positive_int("--seeds", given.seeds))):
        print(row, flush=True)


if __name__ == "__main__":
    main()
