"""The names of measured numbers, as people write them."""

NAMES = {"loss": "cost J", "r2": "R2", "roc_auc": "ROC AUC", "f1": "F1"}


def called(name: str) -> str:
    """Return the name of a number of the history for people.

    Examples
    --------
    >>> called("loss"), called("f1(none)"), called("validation_mean_absolute_error")
    ('cost J', 'F1(none)', 'held-out mean absolute error')
    """
    kind, bracket, rest = name.removeprefix("validation_").partition("(")
    said = NAMES.get(kind, kind.replace("_", " ")) + bracket + rest
    return f"held-out {said}" if name.startswith("validation_") else said
