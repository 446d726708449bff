"""StackedSearchCV beside GridSearchCV with two processes, over the same candidates of nnx's own classifier.

    python -m nnx.bench.search
    python -m nnx.bench.search --data digits --hidden 32 --batch-size 32 --max-iter 50

Both search once before, so that processes have started and steps are compiled; then they take turns, and medians are
compared. 20 candidates of one architecture, in learning rate and penalty, 5 folds.
"""

import argparse
import time
import warnings
from statistics import median
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from nnx.sklearn import MLPClassifier, StackedSearchCV

DATA = {"breast_cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}
GRID = {
    "learning_rate_init": np.logspace(-4, -1.5, 5).tolist(),
    "alpha": np.logspace(-5, -1, 4).tolist(),
}
SETTINGS = ((100, "auto"), (100, 32), (32, "auto"), (32, 32))
"""Units of the hidden layer, and batch size."""


def searches(estimator: Any, folds: int, n_jobs: int) -> dict[str, Any]:
    """Return the two contestants."""
    return {
        "stacked": StackedSearchCV(estimator, GRID, cv=folds, refit=False),
        "grid": GridSearchCV(estimator, GRID, cv=folds, refit=False, n_jobs=n_jobs),
    }


def measure(
    estimator: Any, X: Any, y: Any, arguments: argparse.Namespace
) -> tuple[float, float, bool, float]:
    """Return the seconds of both, whether they find the same candidate, and the largest difference of two scores."""
    made = searches(estimator, arguments.folds, arguments.n_jobs)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(arguments.turns + 1):
        for name, search in made.items():
            start = time.perf_counter()
            search.fit(X, y)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    ours, theirs = (search.cv_results_["mean_test_score"] for search in made.values())
    same = made["stacked"].best_params_ == made["grid"].best_params_
    return median(seconds["stacked"]), median(seconds["grid"]), same, float(np.abs(ours - theirs).max())


def main(given: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA), metavar="NAME")
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--max-iter", type=int, default=200)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args(given)
    settings: Any = SETTINGS
    if arguments.hidden or arguments.batch_size:
        settings = [(arguments.hidden or 100, arguments.batch_size or "auto")]
    print("data          hidden  batch   stacked s    grid s   ratio   same best   largest difference")
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in arguments.data:
        X, y = DATA[name](return_X_y=True)
        X = StandardScaler().fit_transform(X)
        for hidden, batch_size in settings:
            estimator = MLPClassifier(
                (hidden,), batch_size=batch_size, max_iter=arguments.max_iter, random_state=0
            )
            ours, theirs, same, most = measure(estimator, X, y, arguments)
            print(
                f"{name:13} {hidden:6} {batch_size:>6} {ours:11.2f} {theirs:9.2f} {theirs / ours:7.2f} {same!s:>11} "
                f"{most:20.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
