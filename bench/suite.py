"""The measurement: every contestant in its own process, in turns, round by round.

Only one computes at a time, so that all have the whole machine; and what else the machine does falls on all alike,
since each has a turn in every round, in an order that moves on from round to round.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from nnx.bench import contestants, machine, result
from nnx.bench.case import Case, steps_within
from nnx.bench.child import Built, Child
from nnx.bench.contestant import Absent
from nnx.bench.result import Figure, Group, Key, Result, ratios, spread

PAUSE = 0.1
"""Seconds before each turn in which nobody computes: the threads of whoever had the turn before go on spinning for a
while (OpenBLAS's for some 25 ms), and the system shares the cores out between them and the next: 64-64-64-10 at m = 128
took five times as long in its first 0.1 s."""

LEAD = 0.05
"""Seconds of training before each turn that are not timed: the caches fill. An epoch ten times as long needs none."""


SECONDS = 0.1
"""Of a turn, about."""

SECONDS_OF_MEMBERS = 0.5
"""Of a turn of members, so that each is trained for several epochs: a fit of one epoch has its own costs."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Parameters
    ----------
    contestants : sequence of str
        Names, as `contestants` has them, without the floors, which take part by themselves.
    sizes : sequence of (n[0], ..., n[L])
    batch_sizes : sequence of int
    optimizers : sequence of str
    dtype : {"float32", "float64"}
    shuffled : sequence of bool
    rounds : int
        Turns of each contestant.
    seconds : float
        How long a turn lasts, about: at least one epoch.
    note : str
        What a reader of the file should know.
    members : sequence of int
        The numbers K of networks that are trained at once; empty: one network, by contestants that train one.
    """

    contestants: Sequence[str]
    sizes: Sequence[tuple[int, ...]]
    batch_sizes: Sequence[int]
    optimizers: Sequence[str] = ("adam",)
    dtype: str = "float32"
    shuffled: Sequence[bool] = (False,)
    rounds: int = 9
    seconds: float = SECONDS
    note: str = ""
    members: Sequence[int] = ()

    @property
    def cases(self) -> list[Case]:
        """The cells, in order."""
        found = (
            Case(sizes, m, optimizer, self.dtype, shuffled, steps_within(sizes[0], m, self.dtype), members=K)
            for sizes, optimizer, shuffled, m, K in product(
                self.sizes, self.optimizers, self.shuffled, self.batch_sizes, self.members or (None,)
            )
        )
        return list(dict.fromkeys(found))  # each once

    @property
    def groups(self) -> list[Group]:
        """The groups that the figures will stand in, in order."""
        keys = (
            Key(one.sizes, one.optimizer, one.dtype, one.order, one.m, "", one.members) for one in self.cases
        )
        return list(dict.fromkeys(key.group for key in keys))


def run(
    plan: Plan,
    say: Callable[[str], Any] = lambda text: None,
    keep: Callable[[Result], Any] = lambda result: None,
    turn: Callable[[str], Any] = lambda text: None,
) -> Result:
    """Measure; `say` is told each cell and `turn` each turn that begins, `keep` handed what there is after each cell.

    Examples
    --------
    >>> plan = Plan(["typed"], [(3, 4, 2)], [2], rounds=2, seconds=0.001)
    >>> [figure.label for figure in run(plan).figures]
    ['GEMM floor', 'NumPy, typed']
    """
    names = [*contestants.floors(plan.contestants, plan.dtype), *plan.contestants]
    told = {name: _untold(name) for name in names}
    figures: list[Figure] = []
    about = machine.describe(), machine.versions(), _settings(plan)
    with ExitStack() as stack:
        children = {name: stack.enter_context(Child(name)) for name in names}
        for child in children.values():
            child.begin(plan.cases[0])
        for child in children.values():
            child.ready()
        peak = children["floor"].large_product(plan.dtype)

        def found() -> Result:
            measured = {figure.contestant for figure in figures}
            took_part = {name: _told(one, measured) for name, one in told.items()}
            if all(one["device"] in (None, "cpu") for one in told.values()):  # no GPU, no floor of one
                took_part = {
                    name: one for name, one in took_part.items() if not name.startswith("floor-cuda")
                }
            return Result(
                result.FORMAT,
                result.VERSION,
                machine.now(),
                plan.note,
                *about,
                [*took_part.values()],
                {plan.dtype: peak},
                list(figures),
            )

        for case in plan.cases:
            say(_called(case))
            figures += _cell(plan, case, children, told, turn)
            keep(found())
        with suppress(Absent):  # the floor may have run out of memory, and the peak is known
            peak = max(peak, children["floor"].large_product(plan.dtype))
    return found()


def _settings(plan: Plan) -> dict[str, Any]:
    """Return how the plan is measured, for the file."""
    return {
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "pause": PAUSE,
        "lead": LEAD,
        "load_before": machine.load(),
        "cells": len(plan.cases),
    }


def _untold(name: str) -> dict[str, Any]:
    """Return what is known of a contestant before it is built."""
    return {
        "name": name,
        "label": contestants.label(name),
        "kind": contestants.kind(name),
        "library": None,
        "device": None,
        "detail": None,
        "precision": None,
        "blas": [],
        "absent": None,
    }


def _called(case: Case) -> str:
    name = f"{'-'.join(map(str, case.sizes))}, {case.optimizer}, {case.order}, m = {case.m:,}"
    return name if case.members is None else f"{name}, K = {case.members:,}"


def _told(one: dict[str, Any], measured: set[str]) -> dict[str, Any]:
    """Return what is told of a contestant; of one that has figures, in which cell it was absent."""
    told = {**one}
    cell = told.pop("cell", "")
    if told["absent"] and told["name"] in measured:
        told["absent"] += f" ({cell})"
    return told


def _cell(
    plan: Plan,
    case: Case,
    children: dict[str, Child],
    told: dict[str, dict[str, Any]],
    turn: Callable[[str], Any],
) -> list[Figure]:
    """Return the figures of one case, the floor's first."""
    built: dict[str, Built] = {}
    for name, child in children.items():
        turn(f"{_called(case)}: {contestants.label(name)} begins")
        try:
            built[name] = one = child.build(case)
        except Absent as reason:
            told[name] |= {"absent": str(reason), "cell": _called(case)}
        else:
            told[name] |= {
                "library": one.library,
                "device": one.device,
                "detail": one.detail,
                "precision": one.precision,
                "blas": one.blas,
            }
    turns: dict[str, tuple[int, int]] = {}
    rounds: dict[str, list[float]] = {name: [] for name in built}
    outside: dict[str, list[float]] = {name: [] for name in built}
    order = list(built)
    for number in range(1, plan.rounds + 1):
        for name in order:
            turn(f"{_called(case)}: round {number} of {plan.rounds}, {contestants.label(name)}")
            try:
                time.sleep(PAUSE)
                if name not in turns:
                    turns[name] = _turn(plan, children[name], built[name].epoch)
                lead, epochs = turns[name]
                if lead:
                    children[name].seconds(lead)
                rounds[name].append(children[name].seconds(epochs) / (epochs * case.steps))
                if (own := children[name].outside()) is not None:
                    outside[name].append(own / (epochs * case.steps))
            except Absent as reason:  # it ran out of memory, say
                told[name] |= {"absent": str(reason), "cell": _called(case)}
                del built[name], rounds[name]
        order = [name for name in (*order[1:], *order[:1]) if name in built]
    for name in built:
        with suppress(Absent):  # the system has killed it: the next case has a new one
            children[name].drop()
    return [_figure(case, name, built, rounds, outside[name], turns[name][1]) for name in built]


def _turn(plan: Plan, child: Child, epoch: float) -> tuple[int, int]:
    """Return the epochs of a turn that are not timed, and those that are."""
    if epoch < plan.seconds:  # so short a time is measured again, over several
        several = math.ceil(plan.seconds / 4 / epoch)
        epoch = child.seconds(several) / several
    lead = math.ceil(LEAD / epoch) if epoch < 10 * LEAD else 0
    return lead, max(1, round(plan.seconds / epoch))


def _figure(
    case: Case,
    name: str,
    built: dict[str, Built],
    rounds: dict[str, list[float]],
    outside: list[float],
    epochs: int,
) -> Figure:
    one, mine = built[name], rounds[name]
    seconds, quartiles = spread(mine)
    floor = contestants.floor(one.device, one.precision, case.dtype)
    over, over_quartiles = ratios(mine, rounds[floor]) if floor in rounds else (None, None)
    label = contestants.label(name)
    if one.precision not in (case.dtype, *label.split(", ")):
        label += f", {one.precision}"
    return Figure(
        contestant=name,
        label=label,
        kind=contestants.kind(name),
        sizes=list(case.sizes),
        m=case.m,
        optimizer=case.optimizer,
        dtype=case.dtype,
        order=case.order,
        steps=case.steps,
        epochs=epochs,
        rounds=mine,
        seconds=seconds,
        quartiles=quartiles,
        samples_per_second=case.K * case.m / seconds,
        flops_per_second=case.flops / seconds,
        floor=floor if over is not None else None,
        over_floor=over,
        over_floor_quartiles=over_quartiles,
        first=one.first,
        peak_bytes=one.peak,
        theory_bytes=case.theory,
        outside=spread(outside)[0] if outside else None,
        members=case.members,
    )
