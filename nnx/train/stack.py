"""A stack: sessions of one architecture whose steps are done together, by one program."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from nnx.array import host
from nnx.array.members import of_member
from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError
from nnx.model import members
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import LBFGS, Optimizer, State
from nnx.port.communicator import Alone, Communicator
from nnx.port.program import Program
from nnx.support.members import together
from nnx.train.session import Session
from nnx.train.step import MicroBatchStep, members_numbers, micro_batch_step, stacked, training_step


class OwnState(Program):
    """The program of a member that is in no stack: it has a state, and no step until one is compiled."""

    def __init__(self, state: State) -> None:
        super().__init__(_no_step)
        self._state = state

    def __deepcopy__(self, memo: Any) -> "OwnState":
        return OwnState(self.read())


class Row(OwnState):
    """The program of a member: while it is in the stack its part of the stack's state, else a state of its own."""

    reads_parts = True

    def __init__(self, stack: "Stack", k: int, state: State) -> None:
        super().__init__(state)
        self._stack, self._k = stack, k

    def lock(self) -> Any:
        """Return the lock of the stack's program."""
        return self._stack.program.lock()

    def load(self, state: State) -> None:
        """Copy arrays into the member's state."""
        if self._k in self._stack.rows:
            self._stack.load_row(self._k, state)
        else:
            super().load(state)

    def take_out(self, state: State) -> None:
        """Copy the member's part of the stack's state into its own, which it has once it leaves."""
        super().load(state)

    def read(self, *names: str) -> State:
        """Return copies of the member's arrays."""
        if self._k in self._stack.rows:
            return self._stack.read_row(self._k, names or tuple(self._state))
        found: State = super().read(*names)
        return found

    @property
    def finite(self) -> bool:
        """Whether every number of the member's state is."""
        state = self.read().values()
        return host.is_finite(*(x for x in state if array_namespace(x).isdtype(x.dtype, "real floating")))


class Stack:
    """K sessions of one architecture, trained by one program.

    Each session keeps all that is its own: its numbers, its random numbers, its records. While it is in the stack,
    its arrays are a row of those of the stack's program.

    Parameters
    ----------
    sessions : sequence of K Session
        Of one backend, dtype and architecture, whose optimizers and regularizations differ in numbers alone.

    Attributes
    ----------
    program : Program
        Does the steps of all rows.
    rows : list of int
        The member in each row; -1: it has left.
    """

    communicator: Communicator = Alone()
    share = None  # of each batch a stack takes all: members are not trained on several ranks

    def __init__(self, sessions: Sequence[Session], own_weights: bool = False) -> None:
        self.sessions = list(sessions)
        self.backend, self.dtype = self.sessions[0].backend, self.sessions[0].dtype
        parts = self.network, self.optimizer, self.regularization = check_together(sessions)
        self.program: Program = self.backend.compile(training_step(*parts, own_weights))
        self.rows: list[int] = []
        self.own_weights = own_weights
        self._copies: State = {}

    def enter(self) -> None:
        """Take all members in."""
        states = [session.read() for session in self.sessions]
        rows = [*range(len(states))]
        state = stacked(states)
        theta = self.backend.to_numpy(state["theta"])
        found = members_numbers(self.network, self.optimizer, theta, self.regularization)
        state |= {name: self.backend.asarray(x) for name, x in found.items()}
        for k, session in enumerate(self.sessions):
            session.program, session._copies = Row(self, k, states[k]), {}
        self._load_rows(state, rows)

    def leave(self, *gone: int) -> None:
        """Let members go with their states."""
        self._take_out(gone)
        for k in gone:
            self.rows[self.rows.index(k)] = -1
            self.sessions[k]._copies = {}
        if gone:
            self.program.live = [row for row, k in enumerate(self.rows) if k >= 0]

    def compact(self) -> list[int] | None:
        """Drop the rows of members that are gone, if they are a quarter or more; return those that stay, else None."""
        stay = [row for row, k in enumerate(self.rows) if k >= 0]
        if not stay or 4 * len(stay) > 3 * len(self.rows):
            return None
        places = self.backend.asarray(host.stacked(stay))
        state = self.program.read()
        xp = array_namespace(state["theta"])
        kept = {name: x if x.shape[0] == 1 else xp.take(x, places, axis=0) for name, x in state.items()}
        rows = [self.rows[row] for row in stay]
        self._take_out(rows)
        self._load_rows(kept, rows)
        return stay

    def _take_out(self, members: Sequence[int]) -> None:
        """Copy the rows of members into states of their own."""
        for k in members:
            self.sessions[k].program.take_out(self.read_row(k, self.sessions[k]._names))  # type: ignore[attr-defined]

    def _load_rows(self, state: State, rows: list[int]) -> None:
        """Load a state whose rows are those of these members, which have it as states of their own.

        In between no row is theirs, so that an interrupt leaves each member with its state.
        """
        self.rows = []
        self._change(self.program.load, state)
        self.rows, self.program.live = rows, None

    def run(self, data: Any, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do steps of all rows; return their costs (count, rows)."""
        return self._change(self.program.run, data, order, at, m, count)

    def load(self, state: State) -> None:
        """Copy arrays into the state of all rows."""
        self._change(self.program.load, state)

    @cached_property
    def micro_batches(self) -> MicroBatchStep:
        """The parts of a step in micro-batches."""
        parts = micro_batch_step(self.network, self.optimizer, self.regularization, self.own_weights)
        return MicroBatchStep(*(self.backend.compile(part) for part in parts))

    @property
    def runs_epochs(self) -> bool:
        """Whether the program does epochs in one call whose last batch is smaller."""
        return hasattr(self.program, "run_epochs")

    def run_epochs(self, data: Any, order: Array | None, M: int, m: int, epochs: int) -> Any:
        """Do all steps of epochs of M samples; return their costs (count, rows)."""
        if M % m == 0:
            return self.run(data, order, 0, m, epochs * (M // m))
        return self._change(self.program.run_epochs, data, order, M, m, epochs)  # type: ignore[attr-defined]

    def rollback(self, *which: int) -> None:
        """Take the members in some rows back to the state of the program's last snapshot."""
        now = self.program.read()
        self._change(self.program.rollback)
        if len(which) < len(self.rows):
            before, xp = self.program.read(), array_namespace(now["theta"])
            back = xp.asarray([row in which for row in range(len(self.rows))])
            mixed = {
                name: x if x.shape[0] == 1 else xp.where(_beside(back, x), before[name], x)
                for name, x in now.items()
            }
            self._change(self.program.load, mixed)

    @property
    def compiled_metrics(self) -> dict[Any, Any]:
        """The programs of sets of metrics, by the metrics' names: those of member 0, compiled for stacks, too."""
        return self.sessions[0].compiled_metrics

    @property
    def device_theta(self) -> Array:
        """A copy of all rows' parameters on the device."""
        return self.read("theta")["theta"]

    def read_row(self, k: int, names: Sequence[str]) -> State:
        """Return arrays of the state of a member in the stack."""
        row = self.rows.index(k)
        return {name: of_member(x, row) for name, x in self.read(*names).items()}

    def steps(self) -> dict[int, int]:
        """Return the steps that each member in the stack has done."""
        t = self.backend.to_numpy(self.read("t")["t"])
        return {k: int(t[row, 0]) for row, k in enumerate(self.rows) if k >= 0}

    def load_row(self, k: int, state: State) -> None:
        """Copy arrays into the state of a member in the stack."""
        row, found = self.rows.index(k), {}
        for name, x in self.program.read(*state).items():
            if x.shape[0] < len(self.rows):
                continue  # it is of all members
            xp = array_namespace(x)
            new = xp.reshape(xp.astype(xp.asarray(state[name]), x.dtype), (1, *x.shape[1:]))
            found[name] = xp.concat([x[:row, ...], new, x[row + 1 :, ...]])
        self._change(self.program.load, found)

    def read(self, *names: str) -> State:
        """Return copies of these arrays of the state, or of all, of all rows; the same ones until the state changes."""
        missing = [name for name in names if name not in self._copies]
        if missing or not names:
            self._copies |= self.program.read(*missing)
        return {name: self._copies[name] for name in names or self._copies}

    def _change(self, change: Callable[..., Any], *arguments: Any) -> Any:
        with self.program.lock():
            try:
                return change(*arguments)
            finally:
                self._copies = {}
                for k in self.rows:
                    if k >= 0:
                        self.sessions[k]._copies = {}


def check_together(sessions: Sequence[Session]) -> tuple[Network, Optimizer, Regularization]:
    """Return the network, the optimizer and the regularization of all; an InputError if they do not fit together."""
    first = sessions[0]
    for session in sessions:
        if _where(session) != _where(first):
            raise InputError(
                f"the members of a stack must have one backend and one dtype; given {_where(first)} and "
                f"{_where(session)}"
            )
        if isinstance(session.optimizer, LBFGS):
            raise InputError("L-BFGS trains one network: its line search ends elsewhere for each member")
    return (
        members.together([session.network for session in sessions]),
        together("optimizer", [session.optimizer for session in sessions]),
        together("regularization", [session.regularization for session in sessions]),
    )


def _where(session: Session) -> tuple[str, ...]:
    return session.backend.name, session.backend.device, session.backend.precision, session.dtype


def _beside(back: Array, x: Array) -> Array:
    return array_namespace(back).reshape(back, (-1, *(1,) * (x.ndim - 1)))


def _no_step(state: State, batch: Any) -> Any:
    raise InputError("a member of a stack steps with the others: fit the stack")
