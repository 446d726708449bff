"""scikit-learn's multi-layer perceptrons, trained by nnx: change one import, keep the rest.

>>> from nnx.sklearn import MLPClassifier, MLPRegressor

Needs ``pip install "nnx-array[sklearn]"``.
"""

from nnx.sklearn.classifier import MLPClassifier
from nnx.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
