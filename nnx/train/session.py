"""The session: everything that a fit changes, and the program that changes it."""

from collections.abc import Callable, Mapping
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.errors import DivergenceError, InputError, above_zero, count, shown
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import Adam, Optimizer, State, rate
from nnx.optimizers import optimizer as find_optimizer
from nnx.optimizers.lbfgs import LBFGS
from nnx.port.base import Backend
from nnx.port.communicator import Communicator
from nnx.port.communicators import communicator as find_communicator
from nnx.port.precision import check_dtype, checked_precision
from nnx.port.program import Program
from nnx.port.rank_device import choose_of_rank
from nnx.port.registry import AUTO, WORTH, choose, work
from nnx.support.processes import whole
from nnx.train.costs import costs
from nnx.train.share import Share
from nnx.train.step import (
    PLAIN,
    MicroBatchStep,
    cost_and_gradient,
    initial_state,
    micro_batch_step,
    training_step,
)

CheckpointParts = Callable[[], tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]]
"""Returns the position of a fit, of types that JSON has, and the name and state of each callback that has one."""


class Session:
    """The state of a trainer. The trainer, the fit loop, the model file and the learning-rate finder share it.

    The program owns the arrays: `read` copies them out, `load` copies them in, `run` does steps.

    Parameters
    ----------
    network, optimizer, backend, device, dtype, seed, regularization, theta, precision, communicator
        As of `nnx.Trainer`.

    Attributes
    ----------
    rng : numpy.random.Generator
        Shuffles the samples.
    requested : tuple
        The backend, the device and the precision that were asked for.
    share : Share or None
        The part of each batch that this process computes, of several ranks.
    work : float
        The work of all steps that fits have done (`nnx.port.registry.work`).
    forward, gradient, micro_batches : Program, Program, MicroBatchStep
        Programs without a state: the network's outputs; J and dtheta; the parts of a step in micro-batches.
    compiled_metrics : dict
        The programs of sets of metrics, by the metrics' names.
    checkpoint : function or None
        Returns the position of the running fit and its callbacks' states; None while no fit runs.
    plan : dict
        The arguments of the last fit that a checkpoint has: batch_size, ...
    failure : DivergenceError or None
        Why the last fit diverged; None: it has not.
    records, metadata, features, targets, stopped, kept, resumes, measures, held_out, reason
        As of `nnx.Trainer`.
    """

    K = 1
    """Networks."""
    share: Share | None

    untrained = False
    """Whether a fit of members in rounds ended before this member's first."""

    @whole  # a backend imports modules, which a fork may not cut
    def __init__(
        self,
        network: Network,
        optimizer: str | Optimizer | None = None,
        backend: str | Backend | None = AUTO,
        device: str | None = None,
        dtype: str = "float32",
        seed: int = 0,
        regularization: Regularization | None = None,
        theta: Any = None,
        precision: str | None = None,
        communicator: str | Communicator | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise InputError(f"network must be an nnx.Network, as nnx.mlp makes it; given {shown(network)}")
        if regularization is not None and not isinstance(regularization, Regularization):
            raise InputError(
                f"regularization must be an nnx.Regularization, such as nnx.Regularization(l2=1e-4); given "
                f"{shown(regularization)}"
            )
        self.network = network
        self.optimizer = find_optimizer(optimizer) if optimizer is not None else Adam()
        self.regularization = PLAIN if regularization is None else regularization
        self.dtype = host.dtype_name(dtype)
        network.check_options(self.dtype)
        if not isinstance(self.optimizer, LBFGS):  # SciPy computes with its numbers, in float64
            for options in (self.optimizer, self.optimizer.learning_rate):
                host.options(options, self.dtype)
        host.options(self.regularization, self.dtype)
        self.seed = host.checked_seed(seed)
        self.rng: Any = host.generator(seed)
        check_dtype(checked_precision(precision), self.dtype)  # before a library is looked for
        self._communicator, self.share = find_communicator(communicator), None
        self.backend, self.reason = choose_of_rank(backend, device, precision, self.communicator)
        check_dtype(self.backend.precision, self.dtype)
        self.requested = backend, device, precision
        self.work = 0.0
        self.records: list[dict[str, float]] = []
        self.metadata: dict[str, Any] = {}
        self.features: list[str] | None = None
        self.targets: list[str] | None = None
        self.stopped: str | None = None
        self.kept: int | None = None
        self.resumes = False
        self.measures: tuple[str, ...] = ()
        self.plan: Mapping[str, Any] = {}
        self.held_out: Any = None
        self.checkpoint: CheckpointParts | None = None
        self.errors: list[Any] = []
        self.failure: DivergenceError | None = None
        self._copies: State = {}
        self._compile()
        self.start(network.init(self.seed, self.dtype) if theta is None else self.checked_theta(theta))

    # --- the programs ---

    def _compile(self, state: State | None = None) -> None:
        self._compile_step(state)
        self.forward = self.backend.compile(self.network.forward)
        self.compiled_metrics: dict[Any, Any] = {}

    def _compile_step(self, state: State | None) -> None:
        """Compile the step. A state is loaded first: an interrupt leaves the former program with its state."""
        parts, share = (self.network, self.optimizer, self.regularization), self.share
        compiled = self.backend.compile
        program: Program = compiled(training_step(*parts, share=share))
        if state is not None:
            program.load(state)
        self.micro_batches = MicroBatchStep(
            *(compiled(part) for part in micro_batch_step(*parts, share=share))
        )
        self.gradient = compiled(cost_and_gradient(self.network, self.regularization, share))
        self.program, self._copies = program, {}

    def take_numba_if_worth(self, samples: int, steps: int) -> float:
        """Take numba in NumPy's place if "auto" was asked for, and this fit and the earlier ones are worth it.

        Return the work of this fit (`nnx.port.registry.work`). Both backends have the same arrays.

        Parameters
        ----------
        samples, steps : int
            Of this fit, over all epochs.
        """
        own = work(self.network.P, samples, steps)
        together = self.work + own
        if self.requested[0] in (None, AUTO) and self.backend.name == "numpy" and together >= WORTH:
            found, self.reason = choose(*self.requested, together)
            if found.name != self.backend.name:  # without numba it is NumPy again, and all stays compiled
                self.take_backend(found)
            self.requested = found, None, None  # it is not asked again
        return own

    def take_backend(self, backend: Backend) -> None:
        """Go on with a backend that has the same arrays."""
        self.backend = backend
        self._compile(self.read())

    def take_optimizer(self, optimizer: Optimizer) -> None:
        """Take the optimizer with another schedule; the state stays."""
        if optimizer is not self.optimizer:
            host.options(optimizer.learning_rate, self.dtype)
            self.optimizer = optimizer
            self._compile_step(self.read())

    @property
    def communicator(self) -> Communicator:
        """The processes that train it together. Setting it, or its name, is for the next fit; the device stays."""
        return self._communicator

    @communicator.setter
    def communicator(self, communicator: str | Communicator | None) -> None:
        self._communicator = find_communicator(communicator)
        if self.share is not None:
            self.share = None
            self._compile_step(self.read())

    def take_share(self, start: int) -> None:
        """Compute the part of each batch that begins at this place, of several ranks; the state stays."""
        if self.communicator.size > 1 and self.share != (share := Share(self.communicator, start)):
            self.share = share
            self._compile_step(self.read())

    # --- the state ---

    @property
    def outcome(self) -> tuple[Any, Any, Any, bool]:
        """How the last fit ended: `stopped`, `kept`, `failure` and `untrained`."""
        return self.stopped, self.kept, self.failure, self.untrained

    @outcome.setter
    def outcome(self, outcome: tuple[Any, Any, Any, bool]) -> None:
        self.stopped, self.kept, self.failure, self.untrained = outcome

    def start(self, theta: Array) -> None:
        """Start anew from parameters (P,): no step is done, and the optimizer remembers nothing."""
        theta = self.backend.asarray(theta, self.dtype)
        state = initial_state(self.network, self.optimizer, theta, self.regularization, self.seed)
        self._names = tuple(state)
        self.load(state)
        self.kept, self.failure, self.untrained = None, None, False

    def read(self, *names: str) -> State:
        """Return copies of these arrays of the state; of all without names.

        The same copies are returned until the next `run`, `load` or `rollback`. Write into none of them.
        """
        names = names or self._names
        with self.program.lock():
            missing = [name for name in names if name not in self._copies]
            if missing:
                self._copies |= self.program.read(*missing)
            return {name: self._copies[name] for name in names}

    def load(self, state: State) -> None:
        """Copy arrays into the state: all of them, or those that are named."""
        self._change(self.program.load, state)

    def run(self, data: Any, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do steps, and return their costs: see `nnx.port.program.Program.run`.

        Of several ranks the costs are numbers: the steps are done, and no sum of theirs meets one that comes later.
        """
        Js = self._change(self.program.run, data, order, at, m, count)
        return Js if self.share is None else costs(self.backend, Js, count)

    def rollback(self) -> None:
        """Go back to the state of the program's last snapshot."""
        self._change(self.program.rollback)

    def _change(self, change: Callable[..., Any], *arguments: Any) -> Any:
        """Change the state, and forget its copies.

        No other thread reads the state between the two; a signal's handler, which may, reads the old one.
        """
        with self.program.lock():
            try:
                return change(*arguments)
            finally:
                self._copies = {}

    @property
    def state(self) -> State:
        """The state, copies of arrays on the device. Change it through `theta`, `parameters` and `learning_rate`."""
        return self.program.read()  # not the session's copies, which others read

    @property
    def finite(self) -> bool:
        """Whether every number of the state is."""
        return self.program.finite

    # --- parts of the state, as numbers and NumPy arrays ---

    @property
    def steps(self) -> int:
        """The number of steps done."""
        return int(self.read("t")["t"])

    @property
    def learning_rate(self) -> float:
        """The rate alpha of the next step, as the schedule, if there is one, has it.

        Setting it sets alpha, which a schedule multiplies with its factor.
        """
        state = self.read("alpha", "t")
        return host.shortest(self.backend.to_numpy(rate(self.optimizer, state["alpha"], state["t"] + 1)))

    @learning_rate.setter
    def learning_rate(self, alpha: float) -> None:
        alpha = host.option("learning_rate", above_zero("learning_rate", alpha), self.dtype)
        self.load({"alpha": self.backend.asarray(alpha, self.dtype)})

    @property
    def device_theta(self) -> Array:
        """A copy of all parameters (P,) on the device; as `read` has it."""
        return self.read("theta")["theta"]

    @property
    def own_theta(self) -> Array:
        """The same in memory of its own: a member's `device_theta` is a part of all members' copy, and keeps that."""
        theta = self.device_theta
        return array_namespace(theta).asarray(theta, copy=True) if self.program.reads_parts else theta

    @property
    def theta(self) -> Any:
        """All parameters as one vector (P,), a NumPy array of its own memory.

        Setting it leaves the optimizer's memory and the step count as they are. Between fits it takes back in a member
        that has diverged, or was not trained.
        """
        return host.copy(self.backend.to_numpy(self.read("theta")["theta"]))

    @theta.setter
    def theta(self, theta: Any) -> None:
        self.load({"theta": self.backend.asarray(self.checked_theta(theta), self.dtype)})
        self.kept = None
        if self.checkpoint is None:
            self.failure, self.untrained = None, False

    def checked_theta(self, theta: Any) -> Any:
        """Return parameters that were handed in as a NumPy array (P,) of its own memory."""
        theta = host.numbers("theta", theta, self.dtype)
        if theta.shape != (self.network.P,):
            raise InputError(f"theta has shape {theta.shape}; expected ({self.network.P},)")
        return host.copy(theta)


def flat_parameters(network: Network, parameters: Any, dtype: str, members: int | None = None) -> Any:
    """Return parameters by name as one NumPy array (P,); those of K members, with K as their first axis, as (K, P).

    Raises
    ------
    InputError
        When a parameter is missing, unknown, of another shape or not finite.
    """
    if not isinstance(parameters, Mapping):
        raise InputError(
            f"parameters must be a dict of arrays by name, {', '.join(network.shapes)}; given {shown(parameters)}"
        )
    arrays = {name: host.numbers(str(name), x, dtype) for name, x in parameters.items()}
    theta = network.flatten(arrays)
    if theta.shape[:-1] != (() if members is None else (members,)):
        expected = "one network, not a stack" if members is None else count(members, "member")
        raise InputError(
            f"expected the parameters of {expected}; given arrays with the first axes {theta.shape[:-1]}"
        )
    return theta
