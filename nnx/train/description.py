"""The description of a run in a model file. All of it is checked before its network or optimizer is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from nnx.array import host
from nnx.errors import InputError, unknown
from nnx.metrics import METRICS
from nnx.model.activations.base import Activation
from nnx.model.layers import LAYERS, Layer
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import OPTIMIZERS, Optimizer, schedules
from nnx.optimizers import optimizer as find_optimizer
from nnx.optimizers.schedules import Schedule
from nnx.support.registry import STEPS, check_taken
from nnx.support.schema import Whole, check


@dataclass(frozen=True)
class Parts:
    """The objects that a description describes."""

    network: Network
    optimizer: Optimizer
    regularization: Regularization


def parts(description: Mapping[str, Any], tensors: Mapping[str, Any]) -> Parts:
    """Return the parts of a run, once all of its description is known to be as `collect` makes one.

    Raises
    ------
    InputError
        For a wrong type, a missing or unknown key, a value out of its range: where, what is there, what was expected.
    """
    check("description", description, _EXPECTED)
    check_callbacks(description.get("callbacks", []), tensors)
    position, records = description.get("position"), description["records"]
    if position is not None and position["first_record"] > len(records):
        raise InputError(
            f"position.first_record is {position['first_record']}; expected at most {len(records)}, "
            "the number of records"
        )
    if (description.get("kept") or 0) > len(records):
        raise InputError(f"kept is epoch {description['kept']}; expected one of the {len(records)} recorded")
    host.dtype_name(description["dtype"])
    return Parts(
        Network.from_description(description["network"]),
        find_optimizer(**description["optimizer"]),
        Regularization(**description.get("regularization", {})),
    )


def _rng(where: str, value: Any) -> None:
    """Check the state of NumPy's PCG64."""
    state = {"state": Whole(0, 2**128 - 1), "inc": Whole(0, 2**128 - 1)}
    own = {"bit_generator": str, "state": state, "has_uint32": Whole(0, 1), "uinteger": Whole(0, 2**32 - 1)}
    check(where, value, own)
    if value["bit_generator"] != "PCG64":
        raise InputError(f"{where}.bit_generator is {value['bit_generator']!r}; expected 'PCG64'")


def _rate(where: str, value: Any) -> None:
    check(where, value, float)
    if value < 0:
        raise InputError(f"{where} is {value}; expected a learning rate, at least 0")


def _last(where: str, value: Any) -> None:
    """Check the last step and its cost."""
    check(where, value, [float])
    if len(value) != 2 or not isinstance(value[0], int):
        raise InputError(f"{where} is {value!r}; expected a step and its cost")


def _records(where: str, value: Any) -> None:
    """Check what was measured: nnx's own metrics are numbers, or null where they were not finite."""
    check(where, value, [dict])
    for i, record in enumerate(value):
        for name, measured in record.items():
            kind = name.removeprefix("validation_").partition("(")[0]
            if kind == "loss" or kind in METRICS:
                _number(f"{where}[{i}].{name}", measured)


def _number(where: str, value: Any) -> None:
    check(where, value, (float, None, [_number]))


def _layer(where: str, value: Any) -> None:
    """Check a layer's arguments: their names, and their types where the layer is nnx's own."""
    check(where, value, dict)
    check(f"{where}.kind", value.get("kind"), str)
    if value["kind"] not in LAYERS:
        raise unknown("layer", value["kind"], LAYERS, register="register_layer")
    _arguments(where, value, "kind", LAYERS)


def _optimizer(where: str, value: Any) -> None:
    _named(where, value, "optimizer", OPTIMIZERS, "")


def _schedule(where: str, value: Any) -> None:
    if isinstance(value, Mapping) and "in_epochs" in value:
        check(where, value, {"name": str, "learning_rate": float, "in_epochs": dict})
        for name, length in value["in_epochs"].items():
            check(f"{where}.in_epochs.{name}", length, float)
        return
    _named(where, value, "schedule", schedules.SCHEDULES, "register_schedule")


def _named(where: str, value: Any, kind: str, known: Mapping[str, Callable[..., Any]], register: str) -> None:
    check(where, value, dict)
    check(f"{where}.name", value.get("name"), str)
    if value["name"] not in known:
        raise unknown(kind, value["name"], known, register)
    _arguments(where, value, "name", known)


def _arguments(
    where: str, value: Mapping[str, Any], key: str, known: Mapping[str, Callable[..., Any]]
) -> None:
    """Check the arguments that a class is to be made with."""
    kind = known[value[key]]
    given = {name: one for name, one in value.items() if name != key}
    check_taken(f"{where}, {value[key]}", kind, given, "expected")
    if not (isinstance(kind, type) and is_dataclass(kind) and kind.__module__.startswith("nnx.")):
        return  # a class that a user registered checks its own arguments
    hints = get_type_hints(kind)
    for field in fields(kind):
        expected = _expected(hints[field.name])
        if field.name in given and expected:
            check(f"{where}.{field.name}", given[field.name], expected)


_OF_HINTS: dict[Any, Any] = {
    int: int, float: float, str: str, bool: bool, NoneType: None, Activation: str, Schedule: _schedule,
}  # fmt: skip


def _expected(hint: Any) -> tuple[Any, ...]:
    """Return what JSON has for a field of this type; nothing where that is not known."""
    if get_origin(hint) is tuple and Layer in get_args(hint):
        return ([_layer],)
    kinds = get_args(hint) if get_origin(hint) is not None or get_args(hint) else (hint,)
    return tuple(_of_kind(kind) for kind in kinds if kind in _OF_HINTS or get_origin(kind) is Sequence)


def _of_kind(kind: Any) -> Any:
    """Return what JSON has for a type among those of a field: of a sequence a list."""
    return [_of_kind(get_args(kind)[0])] if get_origin(kind) is Sequence else _OF_HINTS[kind]


def check_callbacks(callbacks: list[Any], tensors: Mapping[str, Any]) -> None:
    """Check that each callback has its arrays, and that there are no others."""
    named = {f"callback.{i}.{key}" for i, one in enumerate(callbacks) for key in one["arrays"]}
    there = {name for name in tensors if name.startswith("callback.")}
    for name in sorted(named ^ there):
        raise InputError(f"the tensor {name} {'is missing' if name in named else 'is of no callback'}")


_EXPECTED = {
    "network": {"n_features": Whole(1), "layers": [_layer], "output": str, "loss?": (str, None)},
    "optimizer": _optimizer,
    "regularization?": {
        "l1?": float, "l2?": float, "max_norm?": (float, None), "clip_value?": (float, None),
        "clip_norm?": (float, None), "label_smoothing?": float, "decayed?": ([str], None), "per_sample?": bool,
    },
    "dtype": str,
    "seed": Whole(0, None),
    "steps": Whole(0, STEPS),
    "alpha": _rate,
    "rng": _rng,
    "records": _records,
    "kept?": (Whole(1), None),
    "metadata": dict,
    "features?": ([str], None),
    "targets?": ([str], None),
    "position?": (
        {
            "epoch": Whole(1), "step": Whole(), "rng": (_rng, None), "samples": Whole(), "total": float,
            "weight": float, "last": (_last, None), "first_record": Whole(), "stopped": (str, None), "plan": dict,
        },
        None,
    ),
    "callbacks?": [{"name": str, "state": dict, "arrays": [str]}],
}  # fmt: skip
