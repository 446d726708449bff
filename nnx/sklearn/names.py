"""Parameters of estimators that are names: scikit-learn's check of them, and the nearest name in its error."""

import re
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError, StrOptions

from nnx.errors import did_you_mean
from nnx.support.spec import split


class Names(StrOptions):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's constraint of names, also with a parameter, as "huber(0.5)", and those that a user registered."""

    def __init__(self, known: set[str], own: Any) -> None:
        super().__init__(known)
        self._own = own

    def is_satisfied_by(self, value: Any) -> bool:
        """Return whether a value is such a name."""
        return isinstance(value, str) and (split(value)[0] in self.options or value in self._own)


class NearestNames:
    """Estimators whose errors of a wrong name end with the nearest known one."""

    _parameter_constraints: dict[str, Any]

    def _validate_params(self) -> None:
        try:
            super()._validate_params()  # type: ignore[misc]
        except InvalidParameterError as error:
            hint = _hint(self, str(error))
            raise (InvalidParameterError(f"{error} {hint}") if hint else error) from None


def _hint(estimator: Any, said: str) -> str:
    """Return a question after the nearest of the names that a parameter may have, or nothing."""
    match = re.match(r"The '(\w+)' parameter", said)
    constraints = estimator._parameter_constraints.get(match[1], ()) if match else ()
    known = {name for one in constraints if isinstance(one, StrOptions) for name in one.options}
    value = getattr(estimator, match[1]) if match and known else None
    return did_you_mean(split(value)[0], sorted(known)).strip() if isinstance(value, str) else ""
