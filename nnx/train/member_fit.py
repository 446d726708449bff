"""The fit of a member of a stack as that of a single network: its own checkpoints, and going on from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnx.errors import InputError
from nnx.train.resume import resume
from nnx.train.stack_loop import StackLoop


class MemberFit:
    """The fit of one member: at the end of an epoch it stands where the fit of a single network would.

    Parameters
    ----------
    loop : StackLoop
    k : int
    plan : dict
        The arguments that a checkpoint must share, as of `FitLoop`.
    """

    def __init__(self, loop: StackLoop, k: int, plan: Mapping[str, Any]) -> None:
        self.session, self.callbacks, self.batches = loop.stack.sessions[k], loop.callbacks[k], loop.batches
        self.plan = dict(plan)
        self.epoch, self.step, self.first_record = 1, 0, len(self.session.records)
        self._loop = loop

    def checkpoint(self) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        """Return the position and the callbacks' states, as `FitLoop.checkpoint` does between two epochs."""
        position = {
            "epoch": self._loop.epoch,
            "step": 0,
            "rng": self.session.rng.bit_generator.state,
            "samples": 0,
            "total": 0.0,
            "weight": 0.0,
            "last": None,
            "first_record": self.first_record,
            "stopped": self.session.stopped,
            "plan": self.plan,
        }
        return position, self.callbacks.states()

    def restore(self, position: Mapping[str, Any]) -> None:
        """Go on from a position that was checked."""
        self.epoch, self.step, self.first_record = (
            position[name] for name in ("epoch", "step", "first_record")
        )
        self.session.rng.bit_generator.state = position["rng"]
        self.session.stopped = position["stopped"]


def resume_members(loop: StackLoop, fits: Sequence[MemberFit], checkpoints: Sequence[Path]) -> None:
    """Let a stack go on from its members' own checkpoints.

    Raises
    ------
    InputError
        When they are not between the same two epochs, or not of these fits.
    """
    for fit, path in zip(fits, checkpoints, strict=True):
        resume(fit.session, fit, path)
    places = {(fit.epoch, fit.step) for fit in fits}
    if len(places) > 1 or fits[0].step:
        raise InputError(
            "the members of a stack go on together from the end of one epoch, and these stand apart"
        )
    loop.go_on(fits[0].epoch)
