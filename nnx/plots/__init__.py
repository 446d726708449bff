"""Pictures: functions that return matplotlib's figures, and those that a run leaves in its folder.

They need matplotlib and scikit-learn (extra `cli`), which are imported when the first is drawn. They have no
background, and colours that read on a light page and on a dark one.

>>> import nnx
>>> figure = nnx.plots.learning_curves({"loss": [0.7, 0.4], "validation_loss": [0.8, 0.5]})
"""

from nnx.plots.animation import animated_boundary
from nnx.plots.boundary import decision_boundary
from nnx.plots.comparison import comparison
from nnx.plots.confusion import confusion_matrix
from nnx.plots.curves import learning_curves
from nnx.plots.regression import predicted_against_true
from nnx.plots.roc import roc
from nnx.plots.run import callbacks, leave
from nnx.plots.style import save
from nnx.plots.weights import first_layer

__all__ = [
    "animated_boundary",
    "callbacks",
    "comparison",
    "confusion_matrix",
    "decision_boundary",
    "first_layer",
    "learning_curves",
    "leave",
    "predicted_against_true",
    "roc",
    "save",
]
