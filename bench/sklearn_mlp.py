"""nnx.sklearn beside scikit-learn's own MLP: seconds of fit and predict, and the score, on scikit-learn's data.

    python -m nnx.bench.sklearn_mlp
    python -m nnx.bench.sklearn_mlp --mnist t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz --max-iter 10

All run in one process, in turns, seed by seed; medians are compared. Set OMP_NUM_THREADS and the like before: both
compute with NumPy's BLAS.
"""

import argparse
import json
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import sklearn.neural_network as theirs
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import nnx.sklearn as ours
from nnx.data.idx import read_idx
from nnx.io.atomic_write import written_aside

BUNDLED = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
    "digits": datasets.load_digits,
}
SIZES: tuple[tuple[int, ...], ...] = ((100,), (512, 512))


@dataclass(frozen=True)
class Row:
    """What one contestant did on one data set: medians of seconds; mean and standard deviation of the scores."""

    data: str
    hidden: tuple[int, ...]
    contestant: str
    fit: float
    predict: float
    score: float
    spread: float
    epochs: float


def contestants(regression: bool) -> dict[str, Any]:
    """Return the estimators' makers by name, scikit-learn's first."""
    name = "MLPRegressor" if regression else "MLPClassifier"
    own = getattr(ours, name)
    return {
        "scikit-learn": getattr(theirs, name),
        "nnx": own,
        "nnx, float32": lambda **parameters: own(dtype="float32", **parameters),
    }


def measure(data: str, X: Any, y: Any, hidden: tuple[int, ...], seeds: int, **parameters: Any) -> list[Row]:
    """Return a row for each contestant: a quarter of the samples is held out, another one for each seed."""
    regression = data == "diabetes"
    made = contestants(regression)
    fits: dict[str, list[float]] = {name: [] for name in made}
    predicts: dict[str, list[float]] = {name: [] for name in made}
    scores: dict[str, list[float]] = {name: [] for name in made}
    epochs: dict[str, list[int]] = {name: [] for name in made}
    for seed in range(seeds):
        strata = None if regression else y
        X_fit, X_test, y_fit, y_test = train_test_split(X, y, random_state=seed, stratify=strata)
        scaler = StandardScaler().fit(X_fit)
        X_fit, X_test = scaler.transform(X_fit), scaler.transform(X_test)
        if regression:
            y_fit, y_test = ((part - y_fit.mean()) / y_fit.std() for part in (y_fit, y_test))
        for name, make in made.items():
            one = make(hidden_layer_sizes=hidden, random_state=seed, **parameters)
            start = time.perf_counter()
            one.fit(X_fit, y_fit)
            fits[name].append(time.perf_counter() - start)
            predicts[name].append(min(_predicting(one, X_test) for _ in range(5)))
            scores[name].append(one.score(X_test, y_test))
            epochs[name].append(one.n_iter_)
    return [
        Row(
            data,
            hidden,
            name,
            median(fits[name]),
            median(predicts[name]),
            mean(scores[name]),
            stdev(scores[name]) if seeds > 1 else 0.0,
            mean(epochs[name]),
        )
        for name in made
    ]


def _predicting(one: Any, X: Any) -> float:
    start = time.perf_counter()
    one.predict(X)
    return time.perf_counter() - start


def main() -> None:
    """Print the table; `--out` writes it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", nargs=2, type=Path, metavar=("IMAGES", "LABELS"))
    parser.add_argument("--data", nargs="*", default=list(BUNDLED), choices=list(BUNDLED), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-iter", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = {name: BUNDLED[name](return_X_y=True) for name in arguments.data}
    if arguments.mnist:
        images, labels = map(read_idx, arguments.mnist)
        found["mnist"] = images.reshape(len(images), -1).astype(np.float64), labels
    rows: list[Row] = []
    print(
        "data           hidden      contestant       fit s    ×   predict ms    ×   score            epochs"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, (X, y) in found.items():
            for hidden in SIZES:
                new = measure(name, X, y, hidden, arguments.seeds, max_iter=arguments.max_iter)
                for row in new:
                    sizes = "x".join(map(str, hidden))
                    print(
                        f"{name:14} {sizes:11} {row.contestant:14} {row.fit:7.3f} {new[0].fit / row.fit:4.2f} "
                        f"{1e3 * row.predict:12.3f} {new[0].predict / row.predict:4.2f}   {row.score:.4f} "
                        f"± {row.spread:.4f} {row.epochs:7.1f}",
                        flush=True,
                    )
                rows += new
    if arguments.out:
        with written_aside(arguments.out) as aside:
            aside.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
