"""A fit that fails leaves the estimator as it was."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

HEAVY = ("_trainer", "_stack", "_asked")
"""What a fit that begins anew has no use for: the memory of the optimizer, and what tells that it is there."""

OF_SCIKIT_LEARN = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx")
"""What scikit-learn puts into an estimator for the time of a fit, and takes out itself."""


class Kept:
    """The attributes of an estimator, and of its members, before a fit."""

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.attributes = estimator, dict(vars(estimator))
        self._lengths = {name: len(x) for name, x in self.attributes.items() if type(x) is list}
        self._members = [Kept(member) for member in self.attributes.get("members_", ())]

    def lighten(self) -> None:
        """Let go of what the optimizer remembers, so that two fits need not be in memory at once."""
        for name in HEAVY:
            self.attributes.pop(name, None)
        for member in self._members:
            for name in HEAVY:
                vars(member.estimator).pop(name, None)
            member.lighten()

    def put_back(self) -> None:
        """Give all attributes back; of the curves what the fit has added goes."""
        for name, length in self._lengths.items():
            del self.attributes[name][length:]
        now = vars(self.estimator)
        others = {name: now[name] for name in OF_SCIKIT_LEARN if name in now}
        now.clear()
        now.update(self.attributes | others)
        for member in self._members:
            member.put_back()


@contextmanager
def unchanged_on_failure(estimator: Any) -> Generator[Kept, None, None]:
    """Put the attributes of an estimator back if what is done in this context raises."""
    kept = Kept(estimator)
    try:
        yield kept
    except BaseException:
        kept.put_back()
        raise
