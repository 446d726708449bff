"""scikit-learn's multi-layer perceptrons, trained by nnx: change one import, keep the rest.

>>> from nnx.sklearn import MLPClassifier, MLPRegressor

Needs the extra ``sklearn``, which brings scikit-learn and SciPy.
"""

from nnx.support.install import install

try:
    from nnx.sklearn.classifier import MLPClassifier
    from nnx.sklearn.regressor import MLPRegressor
    from nnx.sklearn.search import StackedSearchCV
    from nnx.sklearn.tabular import TabularClassifier, TabularRegressor
except ModuleNotFoundError as error:
    if not error.name or error.name.startswith("nnx"):
        raise
    raise ModuleNotFoundError(
        f"nnx.sklearn needs {error.name}: {install('sklearn')}", name=error.name
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor", "StackedSearchCV", "TabularClassifier", "TabularRegressor"]
