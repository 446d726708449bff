"""The fit of a stack goes on from a checkpoint of the stack, or from those of its members."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnx.errors import DivergenceError, InputError, count
from nnx.train.model_file import Saved
from nnx.train.resume import checkpoint_of, take_up
from nnx.train.stack_loop import StackLoop


def resume_stack(loop: StackLoop, path: Path) -> None:
    """Take up the fit of a checkpoint that all members share: see `nnx.train.resume.resume`."""
    found = checkpoint_of(path)
    if found is None:
        return
    path, saved = found
    K, given = len(loop.members), len(saved.members)
    if given != K:
        whose = count(given, "member") if given else "one network"
        raise InputError(
            f"the checkpoint {str(path)!r} is of a trainer with {whose}, and this one has members={K}; they must "
            "be equal"
        )
    errors = {k: DivergenceError(text) for k, text in enumerate(saved.run["errors"]) if text is not None}
    goes_on, of_all = [k for k in range(K) if k not in errors], [(path, loop.shared, saved)]
    _take_up(loop, [(path, one) for one in saved.members], goes_on, of_all)
    for k, error in errors.items():
        loop.members[k].session.failure = error


def resume_members(loop: StackLoop, checkpoints: Sequence[Path]) -> None:
    """Take up the fits of the members' own checkpoints, one for each.

    Raises
    ------
    InputError
        When they stand at different steps, or are of other fits.
    """
    found = [checkpoint_of(path) for path in checkpoints]
    if any(one is None for one in found):
        raise InputError(f"{_APART}: some have no checkpoint yet")
    _take_up(loop, found, range(len(found)))


def _take_up(
    loop: StackLoop, found: Sequence[Any], goes_on: Sequence[int], of_all: Sequence[Any] = ()
) -> None:
    saved: list[Saved] = [one for _, one in found]
    positions = [saved[k].run.get("position") for k in goes_on]
    places = {(one["epoch"], one["step"]) for one in positions if one is not None and one["stopped"] is None}
    if len(places) > 1:
        (epoch, step), (other, there) = sorted(places)[:2]
        raise InputError(
            f"{_APART}: after step {step} of epoch {epoch}, and after step {there} of epoch {other}"
        )
    each = zip(found, loop.members, strict=True)
    take_up([(path, member.session, member, one) for (path, one), member in each], of_all)


_APART = "the members of a stack go on together from one place, and these stand apart"
