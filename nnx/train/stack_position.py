"""Where the fit of a stack stands: its epoch and step, and the members that are left."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nnx.batches.members import MemberBatches
from nnx.train.costs import EpochCosts
from nnx.train.divergence import diverged
from nnx.train.member_fit import MemberFit
from nnx.train.position import costs_of
from nnx.train.stack import Stack
from nnx.train.stack_costs import StackCosts


class StackPosition:
    """Where the fit of a stack stands. Members end one by one, and the stack closes up.

    Parameters
    ----------
    stack : Stack
    batches : MemberBatches
    validation, training : Batches, Stream or Iterated, or None
        Samples that are measured after every epoch.

    Attributes
    ----------
    epoch, step : int
        The epoch that is under way, and its steps that are done or left out.
    costs : StackCosts
        Of these steps.
    members : list of K MemberFit
    restored : dict of MemberFit to dict
        The positions of a checkpoint, which the fit goes on from; empty: it begins.
    """

    def __init__(self, stack: Stack, batches: Any, validation: Any, training: Any) -> None:
        self.stack, self.batches, self.validation, self.training = stack, batches, validation, training
        self.members: list[MemberFit] = []
        self.restored: dict[MemberFit, Mapping[str, Any]] = {}
        self.epoch = 1
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.step = 0  # done in this epoch, left out or not
        self._first = 0  # of them done by an earlier fit
        self._taken = 0  # by this call of the fit, none of them left out
        self.costs = StackCosts()

    @property
    def _live(self) -> list[tuple[int, int]]:
        """The rows of the members that are left, and these members."""
        return [(row, k) for row, k in enumerate(self.stack.rows) if k >= 0]

    def resume_epoch(self) -> None:
        """Go on from the positions of a checkpoint, if there are some; members that have ended leave."""
        sessions = self.stack.sessions
        left = [k for _, k in self._live if sessions[k].stopped is None and sessions[k].failure is None]
        for k in {*range(len(self.members))} - {*left}:
            position = self.restored.get(self.members[k])
            self.members[k].ended = dict(position) if position else None
        self._leave(k for _, k in self._live if k not in left)
        self.compact()
        if self.restored and left:
            position = self.restored[self.members[left[0]]]
            self.epoch, self.step = position["epoch"], position["step"]
            self._first = self.step
            before = [self.restored.get(self.members[k]) if k >= 0 else None for k in self.stack.rows]
            self.costs = StackCosts([costs_of(one) if one else EpochCosts() for one in before])
            self.batches.go_on(self.epoch - 1)

    # --- members that diverge, stop or go back ---

    def _bad(self, costs: StackCosts) -> list[int]:
        """Return the rows of members that are left whose costs or states are not finite."""
        sessions, bad, finite = self.stack.sessions, costs.bad, self.stack.program.finite
        return [row for row, k in self._live if row in bad or not (finite or sessions[k].finite)]

    def diverge(self, rows: Sequence[int], validation: Mapping[int, float] | None = None) -> None:
        """End the members in these rows, which have diverged, as they were before the epoch that is under way.

        Parameters
        ----------
        rows : sequence of int
        validation : dict or None
            The costs of the validation, of members for which these are not finite.
        """
        if not rows:
            return
        for row in rows:
            k = self.stack.rows[row]
            member, value = self.members[k], (validation or {}).get(k)
            costs = self.costs.of_row(row)
            before = member.done - self._first
            member.session.failure = diverged(member.session, costs, None, before, value)
            member.session.rng.bit_generator.state = member.drawn
        self.stack.rollback(*rows)
        for row in rows:
            member = self.members[self.stack.rows[row]]
            member.ended = member.position(EpochCosts(), 0)
        # The others stay in their rows, as the costs are.
        self.stack.leave(*(self.stack.rows[row] for row in rows))

    def _leave(self, gone: Iterable[int]) -> None:
        gone = [*gone]
        done = self._done() if gone else []
        for member in (self.members[k] for k in gone):
            if member.ended is None:
                member.done = done[member.k]
                member.ended = member.position(self.costs_of(member), self.step)
        self.stack.leave(*gone)

    def compact(self) -> None:
        """Drop the rows of members that are gone, if they are many; no costs of an epoch may be under way."""
        if (rows := self.stack.compact()) is not None:
            for some in self._of_members():
                some.keep(rows, self.stack.rows)

    def _of_members(self) -> list[MemberBatches]:
        """Return the batches in which members have samples of their own."""
        return [
            one for one in (self.batches, self.validation, self.training) if isinstance(one, MemberBatches)
        ]

    def _note_random_numbers(self) -> None:
        for _, k in self._live:
            self.members[k].drawn = self.members[k].session.rng.bit_generator.state

    def rollback_members(self, rows: Sequence[int] | None = None) -> None:
        """Take members back to the snapshot, with their random numbers: those in these rows, or all."""
        rows = [row for row, _ in self._live] if rows is None else rows
        self.stack.rollback(*(rows if len(rows) < len(self._live) else range(len(self.stack.rows))))
        for row in rows:
            member = self.members[self.stack.rows[row]]
            member.session.rng.bit_generator.state = member.drawn

    def _stay_or_go_back(self) -> None:
        """After an error or an interrupt: the steps done stay, but those of members that have diverged."""
        steps = self.stack.steps()
        if not self._first and all(t == self.members[k].done for k, t in steps.items()):
            # Before the first step: the next fit draws this epoch's order.
            bad = [row for row, _ in self._live]
        else:
            bad = self._bad(self.costs)
        if bad:
            self.rollback_members(bad)

    def costs_of(self, member: MemberFit) -> EpochCosts:
        """Return the costs of a member's steps in the epoch that is under way."""
        self.costs.read(self.stack.backend)
        return self.costs.of_row(self.stack.rows.index(member.k))

    def _done(self) -> list[int]:
        """Return the steps that each member has done, over all fits."""
        if self.stack.own_weights:  # it may have stayed as it was in some
            now = self.stack.steps()
            return [now.get(member.k, member.done) for member in self.members]
        return [member.done + (self._taken if member.ended is None else 0) for member in self.members]
