"""Warnings that point to the user's line."""

import sys
import warnings

OURS = "nnx", "sklearn", "joblib"
"""The packages whose calls are not the user's; scikit-learn wraps the estimators' `fit`, and joblib runs searches."""


def warn(said: str | Warning, kind: type[Warning] = UserWarning) -> None:
    """Warn, at the innermost call of the user."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(said, kind, stacklevel=level)
