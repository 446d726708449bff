"""The content of the model file of a trainer with members."""

from collections.abc import Mapping, Sequence
from typing import Any

from nnx.array import host
from nnx.errors import InputError
from nnx.support.schema import check
from nnx.train.description import check_callbacks
from nnx.train.stack_session import StackSession

Content = tuple[dict[str, Any], dict[str, Any]]
"""NumPy arrays by name, and a description of types that JSON has."""


def collect_members(stack: StackSession, each: Sequence[Content], in_fit: bool) -> Content:
    """Return the content of the file of a trainer with members.

    Each array has the members as its first axis, but for those of callbacks: "members.2.callback.0.theta" is that of
    a callback of member 2, and "callback.0.theta" that of a callback of all.
    """
    names = [name for name in each[0][0] if not name.startswith("callback.")]
    found = {name: host.stacked([tensors.pop(name) for tensors, _ in each]) for name in names}
    for k, (tensors, _) in enumerate(each):
        found |= {f"members.{k}.{name}": x for name, x in tensors.items() if name.startswith("callback.")}
    errors, states = [None if one is None else str(one) for one in stack.errors], []
    if in_fit and stack.checkpoint is not None:
        states = stack.checkpoint()
    arrays, callbacks = collect_callbacks(states)
    run = {"members": [run for _, run in each], "selection": stack.selection, "errors": errors}
    untrained = [session.untrained for session in stack.members]
    return found | arrays, {**run, "untrained": untrained, "callbacks": callbacks}


def collect_callbacks(states: Sequence[tuple[str, dict[str, Any]]]) -> tuple[dict[str, Any], list[Any]]:
    """Return the arrays of callbacks' states by name, and the rest."""
    tensors: dict[str, Any] = {}
    described = []
    for i, (name, own) in enumerate(states):
        arrays = {key: x for key, x in own.items() if hasattr(x, "dtype")}
        tensors |= {f"callback.{i}.{key}": x for key, x in arrays.items()}
        plain = {key: x for key, x in own.items() if key not in arrays}
        described.append({"name": name, "state": plain, "arrays": sorted(arrays)})
    return tensors, described


def tensors_of_members(tensors: Mapping[str, Any], run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tensors of each member, once those of the file are known to be such.

    Raises
    ------
    InputError
        When the description or the tensors are not as `collect_members` makes them.
    """
    callbacks = [{"name": str, "state": dict, "arrays": [str]}]
    check(
        "description",
        run,
        {
            "members": [dict],
            "selection": ([float], None),
            "errors": [(str, None)],
            "untrained?": [bool],
            "callbacks": callbacks,
        },
    )
    K = len(run["members"])
    for name in ("selection", "errors", "untrained"):
        there = run.get(name)
        if not K or (there is not None and len(there) != K):
            raise InputError(f"{name} has {len(there or ())} entries; expected one for each of {K} members")
    check_callbacks(run["callbacks"], tensors)
    found: list[dict[str, Any]] = [{} for _ in range(K)]
    for name, x in tensors.items():
        if name.startswith("members."):
            k, _, own = name.removeprefix("members.").partition(".")
            if not (k.isdecimal() and int(k) < K and own.startswith("callback.")):
                raise InputError(f"the tensor {name} is of none of the {K} members")
            found[int(k)][own] = x
        elif not name.startswith("callback."):
            if x.shape[:1] != (K,):
                raise InputError(f"{name} has shape {x.shape}; expected {K} members as its first axis")
            for tensors_of_member, part in zip(found, x, strict=True):
                tensors_of_member[name] = part
    return found
