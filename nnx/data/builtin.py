"""The data sets that come with nnx: scikit-learn's bundled ones, and generated ones."""

from nnx.data.generated import GENERATED
from nnx.data.source import Arrays
from nnx.errors import INSTALL, InputError

BUNDLED = ("digits", "breast_cancer", "wine", "iris", "diabetes")
"""Those that come with scikit-learn: real data, in the package, no download."""

BUILTIN = (*BUNDLED, *GENERATED)


def load(name: str, seed: int = 0) -> Arrays:
    """Return a data set by its name; the seed draws the generated ones."""
    if name in GENERATED:
        X, Y = GENERATED[name](seed=seed)
        return Arrays(name, X.T, Y, "class", names=("x1", "x2"))
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError(f"the data set {name!r} comes with scikit-learn: {INSTALL}") from error
    bunch = getattr(datasets, f"load_{name}")()
    y = bunch.target
    if name != "diabetes" and not str(bunch.target_names[0]).isdecimal():
        y = bunch.target_names[y]  # labels in words
    names = [str(feature) for feature in bunch.feature_names]
    digits = name == "digits"
    shape = tuple(bunch.images.shape[1:]) if digits else None
    return Arrays(name, bunch.data, y, "target", one_unit=digits, names=names, image_shape=shape)
