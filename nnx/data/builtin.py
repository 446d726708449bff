"""The data sets that come with nnx: scikit-learn's bundled ones, and generated ones."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nnx.data.generated import GENERATED
from nnx.data.source import Arrays
from nnx.port.base import require

BUNDLED = ("digits", "breast_cancer", "wine", "iris", "diabetes")
"""Those that come with scikit-learn: real data, in the package, no download."""

BUILTIN = (*BUNDLED, *GENERATED)


def load(name: str, seed: int = 0) -> Arrays:
    """Return a data set by its name; the seed draws the generated ones."""
    if name in GENERATED:
        X, Y = GENERATED[name](seed=seed)
        return Arrays(name, X.T, Y, "class", names=("x1", "x2"))
    if name == "digits":
        X, y = _digits()
        names = [f"pixel_{i}_{j}" for i in range(8) for j in range(8)]
        return Arrays(name, X, y, "target", one_unit=True, names=names, image_shape=(8, 8))
    bunch = getattr(require("sklearn.datasets", "cli"), f"load_{name}")()
    y = bunch.target
    if name != "diabetes":
        y = bunch.target_names[y]  # labels in words
    return Arrays(name, bunch.data, y, "target", names=[str(feature) for feature in bunch.feature_names])


def _digits() -> Any:
    """Return X and y of scikit-learn's digits, read where they lie in it.

    To import scikit-learn would take as long as all else that comes before the first step.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            numbers = np.loadtxt(path, delimiter=",")
            return numbers[:, :-1], numbers[:, -1].astype(int)
    return require("sklearn.datasets", "cli").load_digits(return_X_y=True)
