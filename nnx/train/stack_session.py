"""The session of a trainer with members: K sessions, and the stack that trains them together."""

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, Self

from nnx.array import host
from nnx.array.namespace import Array
from nnx.errors import DivergenceError, InputError, count, items, positive_int, shown
from nnx.errors.texts import shape_of
from nnx.model import members
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import Optimizer, State
from nnx.optimizers import optimizer as find_optimizer
from nnx.port.communicator import Alone, Communicator
from nnx.port.communicators import communicator as find_communicator
from nnx.port.registry import AUTO, WORTH, choose, work
from nnx.support.members import member, named, together
from nnx.train.session import Session
from nnx.train.stack import Stack, check_together
from nnx.train.stack_memory import check_sessions
from nnx.train.step import PLAIN, check_members, stacked


def _of_each(name: str) -> Any:
    """Return a property: the attribute of this name of each member, as a list.

    Setting it to a list, a tuple or an array of one axis sets those of each, and to anything else that of all.
    """

    def read(stack: "StackSession") -> list[Any]:
        return [getattr(session, name) for session in stack.members]

    def write(stack: "StackSession", value: Any) -> None:
        several = isinstance(value, list | tuple) or len(shape_of(value)) == 1
        values = items(name, value, "a value for each member") if several else [value] * stack.K
        if len(values) != stack.K:
            raise InputError(
                f"{name} has {count(len(values), 'value')}; expected {stack.K}, one for each member"
            )
        for session, one in zip(stack.members, values, strict=True):
            setattr(session, name, one)

    return property(read, write, doc=f"`Session.{name}` of each member.")


def _of_first(name: str) -> Any:
    """Return a property: the attribute of this name, which all members have in common."""

    def write(stack: "StackSession", value: Any) -> None:
        for session in stack.members:
            setattr(session, name, value)

    return property(lambda stack: getattr(stack.first, name), write, doc=f"`Session.{name}` of all members.")


class StackSession:
    """K sessions of one architecture: what a `Trainer` with members has for its session.

    Member k is the session that a trainer would have with its seed and its numbers.

    Parameters
    ----------
    K : int
        The number of members.
    network, optimizer, backend, device, dtype, regularization, precision
        As of `nnx.Trainer`; each number may be a sequence, one for each member.
    seed : int or sequence of K int
        An int is that of member 0; the others have the integers behind it.
    theta : array-like (K, P) or None

    Attributes
    ----------
    members : list of K Session
    stop_reason : str or None
        Why all members were stopped at once, in the last fit; None: they were not.
    selection : list of K float or None
        The weights of the members in the ensemble; None: all alike.
    """

    checkpoint: Any = None
    plan: Mapping[str, Any] = {}

    @property
    def communicator(self) -> Communicator:
        """That of one process: members are not trained on several ranks."""
        return Alone()

    @communicator.setter
    def communicator(self, communicator: str | Communicator | None) -> None:
        if (ranks := find_communicator(communicator).size) > 1:
            raise InputError(
                f"members cannot be trained on several ranks ({ranks}): they know nothing of each "
                "other. Give each rank members of its own, and no communicator"
            )

    steps, kept = _of_each("steps"), _of_each("kept")
    records, rng, learning_rate = _of_each("records"), _of_each("rng"), _of_each("learning_rate")
    features, targets = _of_first("features"), _of_first("targets")
    forward, compiled_metrics = _of_first("forward"), _of_first("compiled_metrics")
    measures, resumes, held_out = _of_first("measures"), _of_first("resumes"), _of_each("held_out")

    def __init__(
        self,
        K: int,
        network: Network,
        optimizer: str | Optimizer | None = None,
        backend: Any = None,
        device: str | None = None,
        dtype: str = "float32",
        seed: Any = 0,
        regularization: Regularization | None = None,
        theta: Any = None,
        precision: str | None = None,
        communicator: str | Communicator | None = None,
    ) -> None:
        self.communicator = communicator
        self.K = K = positive_int("members", K)
        check_sessions(K)
        if not isinstance(network, Network):
            raise InputError(f"network must be an nnx.Network, as nnx.mlp makes it; given {shown(network)}")
        optimizer = find_optimizer("adam" if optimizer is None else optimizer)
        regularization = PLAIN if regularization is None else regularization
        check_members(network, optimizer, regularization, K)
        self.seed = seeds(seed, K)
        self.requested = backend, device, precision
        self.work = 0.0
        self.backend, self.reason = choose(backend, device, precision)
        self.dtype = host.dtype_name(dtype)
        thetas = [None] * K if theta is None else checked_thetas(theta, K, network.P, self.dtype)
        self.members: list[Session] = []
        for k, own_seed in enumerate(self.seed):
            own_network, own_optimizer = members.member_of(network, k), member(optimizer, k)
            options = self.backend, None, dtype, own_seed, member(regularization, k), thetas[k]
            self.members.append(Session(own_network, own_optimizer, *options))
            if k == 0:
                check_sessions(K, self.first)
        self._begin()

    def _begin(self) -> None:
        self.selection: list[float] | None = None
        self.stop_reason: str | None = None
        self._stacks: dict[bool, tuple[list[Any], Stack]] = {}

    @classmethod
    def of(cls, sessions: list[Session]) -> Self:
        """Return the session of members that there are already, of one backend and architecture."""
        stack = cls.__new__(cls)
        first = sessions[0]
        stack.members, stack.K, stack.seed = sessions, len(sessions), [session.seed for session in sessions]
        stack.backend, stack.reason, stack.dtype = first.backend, first.reason, first.dtype
        stack.requested, stack.work = first.requested, 0.0
        stack._begin()
        check_together(sessions)
        return stack

    def stack(self, own_weights: bool) -> Stack:
        """Return the stack of the members as they are: with their optimizers, whose schedules a fit may have bound."""
        now = self.optimizers
        before, stack = self._stacks.get(own_weights, ([], None))
        if stack is None or any(x is not y for x, y in zip(now, before, strict=True)):
            stack = Stack(self.members, own_weights)
            self._stacks = {own_weights: (now, stack)}
        return stack

    def release(self) -> None:
        """Give the members programs of their own, and forget the stack: its memory is then free."""
        self._stacks = {}
        for session in self.members:
            session.program, session._copies = deepcopy(session.program), {}

    def take_numba_if_worth(self, samples: int, steps: int) -> float:
        """Take numba in NumPy's place if "auto" was asked for, and the work of all members is worth it.

        Return the work of this fit: see `Session.take_numba_if_worth`.
        """
        of_fit = work(self.first.network.P, samples, steps, self.K)
        total = self.work + of_fit
        if self.requested[0] in (None, AUTO) and self.backend.name == "numpy" and total >= WORTH:
            backend, self.reason = choose(*self.requested, total)
            if backend.name != self.backend.name:
                self.backend, self._stacks = backend, {}
                for session in self.members:
                    session.take_backend(backend)
        return of_fit

    # --- as a session of one network has them ---

    @property
    def stopped(self) -> list[str | None]:
        """Why each member's last fit ended early. Setting it stops those that train, and the rounds behind them."""
        return [session.stopped for session in self.members]

    @stopped.setter
    def stopped(self, why: str | None) -> None:
        self.stop_reason = why
        for session in self.members:
            if session.checkpoint is not None and session.stopped is None and session.failure is None:
                session.stopped = why

    @property
    def metadata(self) -> dict[str, Any]:
        """`Session.metadata` of all members: one dict, so that a change in it is one of all."""
        found = self.first.metadata
        for session in self.members:
            if session.metadata == found:
                session.metadata = found
        return found

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        for session in self.members:
            session.metadata = metadata

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizer of each member."""
        return [session.optimizer for session in self.members]

    @optimizers.setter
    def optimizers(self, optimizers: list[Optimizer]) -> None:
        for session, own in zip(self.members, optimizers, strict=True):
            session.take_optimizer(own)

    @property
    def errors(self) -> list[DivergenceError | None]:
        """Why each member has diverged in the last fit; None: it has not."""
        return [session.failure for session in self.members]

    @property
    def left_out(self) -> dict[int, str]:
        """The members that take no part in the mean, and why.

        They diverged, or a fit in rounds ended before their first. If no other is left, those stay whose best epoch
        was taken back: it may be far from good.
        """
        untrained = {k: "did not train" for k, x in enumerate(self.members) if x.untrained}
        diverged = {k: x for k, x in enumerate(self.members) if x.failure is not None}
        if len(diverged) + len(untrained) == self.K:
            diverged = {k: x for k, x in diverged.items() if x.kept is None}
        return dict.fromkeys(diverged, "diverged") | untrained

    def said_of_left_out(self) -> str:
        """Say which members take no part in the mean, and why; "" of none."""
        left_out = self.left_out
        which = {why: [k for k, own in left_out.items() if own == why] for why in left_out.values()}
        return "; ".join(f"{named(some, self.K)} {why}" for why, some in which.items())

    @property
    def first(self) -> Session:
        """Member 0: what all have in common is that of its session."""
        return self.members[0]

    @cached_property
    def network(self) -> Network:
        """The network, with the numbers of all members."""
        return members.together([session.network for session in self.members])

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, with the numbers of all members."""
        return together("optimizer", self.optimizers)

    @property
    def regularization(self) -> Regularization:
        """The regularization, with the numbers of all members."""
        return together("regularization", [session.regularization for session in self.members])

    def start(self, theta: Any) -> None:
        """Start anew from parameters (K, P): see `Session.start`."""
        for session, own in zip(self.members, self._checked(theta), strict=True):
            session.start(own)

    @property
    def state(self) -> State:
        """The states of all members, (K, ...) each."""
        return stacked([session.read() for session in self.members])

    @property
    def device_theta(self) -> Array:
        """A copy of all parameters (K, P) on the device."""
        return self.read("theta")["theta"]

    def read(self, *names: str) -> State:
        """Return copies of these arrays of the states of all members, (K, ...) each. Write into none of them."""
        for _, stack in self._stacks.values():
            if stack.rows == [*range(self.K)]:  # in a fit that no member has left
                return stack.read(*names)
        return stacked([session.read(*names) for session in self.members])

    @property
    def theta(self) -> Any:
        """All parameters (K, P), a NumPy array of its own memory."""
        return host.stacked([session.theta for session in self.members])

    @theta.setter
    def theta(self, theta: Any) -> None:
        for session, own in zip(self.members, self._checked(theta), strict=True):
            session.theta = own

    def _checked(self, theta: Any) -> Any:
        return checked_thetas(theta, self.K, self.first.network.P, self.dtype)


def checked_thetas(theta: Any, K: int, P: int, dtype: str) -> Any:
    """Return parameters (K, P) that were handed in as a NumPy array."""
    found = host.numbers("theta", theta, dtype)
    if found.shape != (K, P):
        raise InputError(f"theta has shape {found.shape}; expected (K, P) = ({K}, {P})")
    return found


def seeds(seed: Any, K: int) -> list[int]:
    """Return the seed of each of K members.

    Examples
    --------
    >>> seeds(4, 3), seeds([4, 9, 2], 3)
    ([4, 5, 6], [4, 9, 2])
    """
    if not isinstance(seed, list | tuple) and not shape_of(seed):
        first = host.checked_seed(seed)
        return [first + k for k in range(K)]
    found = [host.checked_seed(one) for one in items("seed", seed, "an integer, or a list of integers")]
    if len(found) != K:
        raise InputError(f"seed has {count(len(found), 'number')}; expected {K}, one for each member")
    return found
