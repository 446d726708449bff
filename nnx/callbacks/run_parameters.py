"""The parameters of a run, by name, for experiment trackers."""

from dataclasses import fields, is_dataclass
from typing import Any

from nnx.callbacks.fit import Fit

DEFAULTS = {"precision": "float32", "ranks": 1}


def run_parameters(trainer: Fit) -> dict[str, Any]:
    """Return the network, the optimizer, the regularization, the seed and the arguments of the fit, by name.

    Numbers, texts and booleans stay; other values become texts. Options at their defaults are left out, where they
    change nothing: no regularization, a precision of float32, one rank.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([4, 8, 1]), nnx.Momentum(0.1), "numpy", seed=3)
    >>> run_parameters(trainer)["optimizer.learning_rate"], run_parameters(trainer)["network.parameters"]
    (0.1, 49)
    """
    network, session = trainer.network, trainer.session
    found: dict[str, Any] = {
        "network": repr(network),
        "network.parameters": network.P,
        **_of("optimizer", session.optimizer),
        **_of("regularization", session.regularization, only_set=True),
        "dtype": trainer.dtype,
        "seed": getattr(session, "seed", None),
        "backend": trainer.backend.name,
        "device": trainer.backend.device,
        "precision": trainer.backend.precision,
        "ranks": trainer.communicator.size,
        **{f"fit.{name}": value for name, value in session.plan.items()},
    }
    if session.K > 1 or getattr(trainer, "each", ()):
        found["members"] = session.K
    return {name: _plain(x) for name, x in found.items() if x is not None and DEFAULTS.get(name) != x}


def _of(what: str, x: Any, only_set: bool = False) -> dict[str, Any]:
    """Return a dataclass's name and fields, with `only_set` without the fields at their defaults."""
    own = fields(x) if is_dataclass(x) else ()
    values = {f"{what}.{field.name}": getattr(x, field.name) for field in own if field.init}
    if only_set:
        defaults = {f"{what}.{field.name}": field.default for field in own}
        return {name: value for name, value in values.items() if value != defaults[name]}
    return {what: type(x).__name__, **values}


def _plain(x: Any) -> Any:
    return x if isinstance(x, bool | int | float | str) else repr(x)
