"""The attributes of a trainer that are its session's; of one with members several are lists, one value a member."""

from typing import Any, TypeVar

from nnx.errors import InputError, count
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import Optimizer, State
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.train.session import Session

T = TypeVar("T")


class Each(list[T]):
    """The members of a trainer, each as a trainer."""

    def __getitem__(self, k: Any) -> Any:
        try:
            return super().__getitem__(k)
        except IndexError:
            there = (
                f"the last one is {len(self) - 1}" if self else "this trainer has one network, and no members"
            )
            raise InputError(f"there is no member {k}; {there}") from None


def _of_session(name: str, fixed: bool = False) -> Any:
    """Return a property that is the session's attribute of this name. One that is fixed cannot be set."""

    def read(trainer: Any) -> Any:
        return getattr(trainer.session, name)

    def write(trainer: Any, value: Any) -> None:
        if fixed:
            raise InputError(
                f"a trainer keeps its {name}; make another one: nnx.Trainer(..., {name}=..., theta=trainer.theta)"
            )
        setattr(trainer.session, name, value)

    return property(read, write, doc=getattr(getattr(Session, name, None), "__doc__", None))


class Attributes:
    """What a trainer has of its session: see `nnx.Trainer`."""

    session: Any

    network: Network = _of_session("network", fixed=True)
    optimizer: Optimizer = _of_session("optimizer", fixed=True)
    regularization: Regularization = _of_session("regularization", fixed=True)
    backend: Backend = _of_session("backend", fixed=True)
    communicator: Communicator = _of_session("communicator")
    reason: str = _of_session("reason")
    dtype: str = _of_session("dtype", fixed=True)
    seed: Any = _of_session("seed", fixed=True)
    rng: Any = _of_session("rng")
    records: Any = _of_session("records")
    metadata: dict[str, Any] = _of_session("metadata")
    features: list[str] | None = _of_session("features")
    targets: list[str] | None = _of_session("targets")
    stopped: Any = _of_session("stopped")
    kept: Any = _of_session("kept")
    resumes: bool = _of_session("resumes")
    measures: tuple[str, ...] = _of_session("measures")
    held_out: Any = _of_session("held_out")
    steps: Any = _of_session("steps")
    learning_rate: Any = _of_session("learning_rate")
    theta: Any = _of_session("theta")

    @property
    def _steps_done(self) -> str:
        if not isinstance(self.steps, list):
            return f"{count(self.steps, 'step')} done"
        return f"{count(len(self.steps), 'member')}, {count(max(self.steps), 'step')} done"

    @property
    def errors(self) -> list[Any]:
        """Why members have diverged in the last fit: an error for each that has, else None; empty of one network."""
        return list(self.session.errors)

    @property
    def state(self) -> State:
        """The state, copies of arrays on the device. Change it through `theta`, `parameters` and `learning_rate`."""
        found: State = self.session.state
        return found
