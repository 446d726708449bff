"""The fit of one member of a stack, as that of a single network: its position and its checkpoints."""

from collections.abc import Mapping
from typing import Any
from weakref import proxy

from nnx.callbacks.base import Callbacks
from nnx.train.costs import EpochCosts
from nnx.train.position import position_of
from nnx.train.session import Session


class MemberFit:
    """The fit of one member. Its checkpoints are those of a single network's fit, which can go on from them.

    Parameters
    ----------
    loop : StackLoop
        The fit of all members.
    k : int
    plan : dict
        As of `FitLoop`.

    Attributes
    ----------
    drawn : dict or None
        The state of the random numbers before the epoch that is under way draws its order.
    done : int
        The member's steps before that epoch, over all fits.
    ended : dict or None
        The position where it ended; None while it trains.
    """

    def __init__(self, loop: Any, k: int, plan: Mapping[str, Any]) -> None:
        self.loop: Any = proxy(loop)  # no cycle: the loop's memory is free at once when its round is over
        self.k, self.plan = k, dict(plan)
        self.session: Session = loop.stack.sessions[k]
        self.callbacks: Callbacks = loop.callbacks[k]
        self.batches = loop.batches
        self.first_record = len(self.session.records)
        self.drawn: Any = None
        self.done = 0
        self.ended: dict[str, Any] | None = None

    def position(self, costs: EpochCosts, step: int) -> dict[str, Any]:
        """Return the position after this step of the epoch, as that of `FitLoop`."""
        rng = self.drawn if step and self.batches.draws else None
        return position_of(self.session, self.loop.epoch, step, rng, costs, self.first_record, self.plan)

    def checkpoint(self) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
        """Return the position, of types that JSON has, and the callbacks' states.

        A member whose costs or state are not finite ends here, as it would at the end of the epoch.
        """
        if self.ended is None:
            costs = self.loop.costs_of(self)
            if costs.bad or not self.session.finite:
                self.loop.diverge([self.loop.stack.rows.index(self.k)])
        found = self.position(costs, self.loop.step) if self.ended is None else self.ended
        return found, self.callbacks.states()

    def restore(self, position: Mapping[str, Any]) -> None:
        """Go on from a position that was checked. The caller restores the session."""
        self.first_record, self.drawn = position["first_record"], position["rng"]
        self.session.rng.bit_generator.state = position["rng"]
        self.session.stopped = position["stopped"]
        self.loop.restored[self] = position
