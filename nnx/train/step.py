"""The training step: a pure function of arrays, so that an adapter may capture, compile or replay it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from nnx import optimizers
from nnx.array import host
from nnx.array.members import bound, numbers
from nnx.array.namespace import Array, array_namespace, device
from nnx.array.random import fold
from nnx.errors import InputError, count
from nnx.model import members
from nnx.model.layers import Context
from nnx.model.network import Network
from nnx.model.regularization import Regularization
from nnx.optimizers import Optimizer, State
from nnx.support.members import acts, for_each_member, member, sizes, varied
from nnx.train.share import Share, check_network, of_all_ranks

Batch: TypeAlias = tuple[Array, Array] | tuple[Array, Array, Array | None]
"""X (n[0], m), Y (n[L], m) or class indices (m,), and the samples' weights (m,), if they have any.

Of a stack each may have a leading axis, the members', else it is that of all; class indices are then (K, 1, m).
"""

Step: TypeAlias = Callable[[State, Batch], tuple[State, Array]]
"""step(state, batch) -> (state, J)."""

Sums: TypeAlias = dict[str, Array]
"""The sums over the micro-batches of a step: J, dtheta, and the weight that divides both."""

Gradient: TypeAlias = tuple[Array, Array, dict[str, Array]]
"""J, dtheta, and the next running statistics by name."""

PLAIN = Regularization()

T = TypeVar("T")


class MicroBatchStep(NamedTuple):
    """The step in parts, for batches that are computed in micro-batches: each adds to the sums, then comes the update.

    All are functions without a state of their own. The caller loads the state that `update` returns.
    """

    first: Callable[[State, Batch, Array], Sums]
    add: Callable[[State, Sums, Batch, Array], Sums]
    total: Callable[[State, Sums], tuple[Array, Array]]
    """J and dtheta, with the penalties."""
    update: Callable[[State, Sums], tuple[State, Array]]


def initial_state(
    network: Network,
    optimizer: Optimizer,
    theta: Array,
    regularization: Regularization = PLAIN,
    seed: int = 0,
) -> State:
    """Return the state before the first step, on theta's device.

    It holds "theta", the steps done "t", the learning rate "alpha", and what the optimizer keeps; "key", if a
    layer is random; "decays" (P,), 1 where weights decay, if any do.
    """
    check_members(network, optimizer, regularization, None)
    xp, place = array_namespace(theta), device(theta)
    state = {
        "theta": theta,
        "t": xp.asarray(0, dtype=xp.int32, device=place),
        "alpha": xp.asarray(optimizers.base_rate(optimizer), dtype=theta.dtype, device=place),
        **optimizer.init(theta),
    }
    regularization.names(network)  # checked, whether used or not
    if any(map(acts, (regularization.l1, regularization.l2, getattr(optimizer, "weight_decay", 0.0)))):
        state["decays"] = regularization.mask(network, theta)
    if network.random:
        state["key"] = xp.asarray(host.key(seed), dtype=xp.int32, device=place)
    return state


def stacked_state(
    network: Network,
    optimizer: Optimizer,
    theta: Array,
    regularization: Regularization = PLAIN,
    seeds: Sequence[int] = (),
) -> State:
    """Return the state of a stack of K networks before the first step: those of its members, one behind the other.

    Each array has the members as its first axis, theta (K, P); numbers are (K, 1). An array of all members has the
    first axis 1, such as "decays" (1, P). The numbers in which members differ are in it, by names such as
    "optimizer.beta1".

    Parameters
    ----------
    network, optimizer, regularization
        Each number in them may be a sequence, one for each member: see `nnx.support.members`.
    theta : array (K, P)
    seeds : sequence of K int
        Of the members' masks; empty: 0, 1, ..., K - 1.
    """
    K = theta.shape[0]
    check_members(network, optimizer, regularization, K)
    states = [
        initial_state(
            members.member_of(network, k), member(optimizer, k), theta[k, :], member(regularization, k), seed
        )
        for k, seed in enumerate(seeds or range(K))
    ]
    return stacked(states) | members_numbers(network, optimizer, theta, regularization)


def stacked(states: Sequence[State]) -> State:
    """Return the states of members one behind the other: see `stacked_state`."""
    found, xp = {}, array_namespace(next(iter(states[0].values())))
    for name in dict.fromkeys(name for state in states for name in state):
        each = [state[name] for state in states if name in state]
        joined = xp.stack(each[:1] if name == "decays" else each, axis=0)
        found[name] = xp.expand_dims(joined, axis=-1) if joined.ndim == 1 else joined
    return found


def members_numbers(
    network: Network, optimizer: Optimizer, theta: Array, regularization: Regularization = PLAIN
) -> State:
    """Return the numbers in which members differ, (K, 1), as arrays like theta, by their names in the state."""
    found = numbers(optimizer, "optimizer", theta) | numbers(regularization, "regularization", theta)
    return found | members.numbers(network, theta)


def check_members(
    network: Network, optimizer: Optimizer, regularization: Regularization, K: int | None
) -> None:
    """Raise an InputError unless each sequence of numbers has one for each of K members; None: there is no stack."""
    for name, given in (sizes(optimizer, regularization) | members.layer_sizes(network)).items():
        if K is None:
            raise InputError(
                f"{name} is a sequence of {given}, one for each member of a stack, and this is a single network"
            )
        if given != K:
            raise InputError(f"{name} has {count(given, 'number')}; expected {K}, one for each member")


def training_step(
    network: Network,
    optimizer: Optimizer,
    regularization: Regularization = PLAIN,
    own_weights: bool = False,
    share: Share | None = None,
) -> Step:
    """Return the step of this network, or of a stack of it, under this optimizer.

    No array is read on the host in it, no Python number in it changes from step to step, and it never
    branches on an array's values. J is the cost before the update.

    With `own_weights` each member of a stack has weights of its own, and one stays as it is in a step in which all of
    its samples weigh 0. (A single network has no such step: the batch is left out.)

    With a `share` the batch is this rank's part of the step's. J and the gradient are those of all ranks' samples.
    """
    if share is not None:
        return _step_of_ranks(micro_batch_step(network, optimizer, regularization, share=share), share)
    gradient, update = _gradient(network, regularization), _update(network, optimizer, regularization)

    def step(state: State, batch: Batch) -> tuple[State, Array]:
        J, dtheta, observed = gradient(state, batch, 0)
        penalized = _penalized(regularization, state, J, dtheta, lambda: _weight(batch))
        new, J = update(state, *penalized, observed)
        return (_moved(state, new, _sum_of_weights(batch)) if own_weights else new), J

    return step


def _sum_of_weights(batch: Batch) -> Array:
    weights = batch[2]  # type: ignore[misc]  # it is there
    return array_namespace(weights).sum(weights, axis=-1)


def _moved(state: State, new: State, weight: Array) -> State:
    """Return the new state of the members whose samples weigh more than 0 together, and the old one of the others."""
    xp = array_namespace(weight)
    moves = weight > 0
    found = {}
    for name, old in state.items():
        own = xp.reshape(moves, (*moves.shape, *(1,) * (old.ndim - 1))) if moves.ndim else moves
        found[name] = old if new[name] is old else xp.where(own, new[name], old)
    return found


def cost_and_gradient(
    network: Network, regularization: Regularization = PLAIN, share: Share | None = None
) -> Callable[[State, Batch], tuple[Array, Array]]:
    """Return the function of a state and a batch that a step follows: J and dtheta, with the penalties."""
    gradient = _gradient(network, regularization)
    if share is not None:
        first, total = _first(gradient, share), _total(regularization)
        return lambda state, batch: total(state, of_all_ranks(first(state, batch, 0), share.communicator))

    def function(state: State, batch: Batch) -> tuple[Array, Array]:
        J, dtheta, _ = gradient(state, batch, 0)
        return _penalized(regularization, state, J, dtheta, lambda: _weight(batch))

    return function


def micro_batch_step(
    network: Network,
    optimizer: Optimizer,
    regularization: Regularization = PLAIN,
    own_weights: bool = False,
    share: Share | None = None,
) -> MicroBatchStep:
    """Return the step for batches in micro-batches: the same result, to rounding. See `training_step`.

    With a `share` the sums are those of this rank's samples. `of_all_ranks` comes before `total` and `update`.
    """
    if share is not None:
        check_network(network)
    gradient, finish = _gradient(network, regularization), _update(network, optimizer, regularization)
    first, total = _first(gradient, share), _total(regularization)

    @for_each_member
    def add(state: State, sums: Sums, batch: Batch, start: Array) -> Sums:
        piece = first(state, batch, start)
        return {name: total + piece[name] for name, total in sums.items()}

    def update(state: State, sums: Sums) -> tuple[State, Array]:
        new, J = finish(state, *total(state, sums), {})
        return (_moved(state, new, sums["weight"]) if own_weights else new), J

    return MicroBatchStep(first, add, total, update)


def _step_of_ranks(parts: MicroBatchStep, share: Share) -> Step:
    def step(state: State, batch: Batch) -> tuple[State, Array]:
        return parts.update(state, of_all_ranks(parts.first(state, batch, 0), share.communicator))

    return step


def _first(gradient: Callable[..., Gradient], share: Share | None) -> Callable[..., Sums]:
    """Return the function that begins the sums of a step: those over its first samples."""
    ahead = 0 if share is None else share.start

    @for_each_member
    def first(state: State, batch: Batch, start: Array | int) -> Sums:
        J, dtheta, _ = gradient(state, batch, start + ahead if ahead else start)
        weights = _weights(batch)
        xp = array_namespace(J)
        weight = xp.full_like(J, batch[0].shape[-1]) if weights is None else xp.sum(weights, axis=-1)
        return {"J": weight * J, "dtheta": xp.expand_dims(weight, axis=-1) * dtheta, "weight": weight}

    return first


def _total(regularization: Regularization) -> Callable[..., tuple[Array, Array]]:
    """Return the function from the sums of a step to J and dtheta."""

    def total(state: State, sums: Sums) -> tuple[Array, Array]:
        xp = array_namespace(sums["J"])
        weight = xp.where(sums["weight"] > 0, sums["weight"], 1.0)
        J, dtheta = sums["J"] / weight, sums["dtheta"] / xp.expand_dims(weight, axis=-1)
        return _penalized(regularization, state, J, dtheta, lambda: weight)

    return total


def _weights(batch: Batch) -> Array | None:
    return batch[2] if len(batch) > 2 else None


def _weight(batch: Batch) -> Array | int:
    """Return what the losses of a batch are divided by: its samples, or the sum of their weights."""
    weights = _weights(batch)
    if weights is None:
        samples: int = batch[0].shape[-1]
        return samples
    xp = array_namespace(weights)
    total = xp.sum(weights, axis=-1)
    return xp.where(total > 0, total, 1.0)


def _with_numbers(x: T, owner: str) -> Callable[[State], T]:
    """Return a function of the state: it returns x with arrays of the state for what differs among members."""
    return (lambda state: bound(x, state, owner)) if varied(x) else lambda state: x


def _gradient(network: Network, regularization: Regularization) -> Callable[..., Gradient]:
    differ, regularized = bool(members.layer_sizes(network)), _with_numbers(regularization, "regularization")

    def gradient(state: State, batch: Batch, start: Array | int) -> Gradient:
        """Return J, dtheta and the next running statistics, without the penalties."""
        key = fold(state["key"], state["t"]) if "key" in state else None
        context = Context(training=True, key=key, start=start)
        own, smoothing = (
            members.bound(network, state) if differ else network,
            regularized(state).label_smoothing,
        )
        return own.training_pass(state["theta"], batch[0], batch[1], _weights(batch), context, smoothing)

    return gradient


def _penalized(
    regularization: Regularization, state: State, J: Array, dtheta: Array, weight: Callable[[], Array | int]
) -> tuple[Array, Array]:
    if not (acts(regularization.l1) or acts(regularization.l2)):
        return J, dtheta
    regularization = bound(regularization, state, "regularization")
    total = weight() if regularization.per_sample else 1
    return regularization.penalized(J, dtheta, state["theta"], state["decays"], total)


def _update(
    network: Network, optimizer: Optimizer, regularization: Regularization
) -> Callable[..., tuple[State, Array]]:
    regularized, optimized = (
        _with_numbers(regularization, "regularization"),
        _with_numbers(optimizer, "optimizer"),
    )

    def update(state: State, J: Array, dtheta: Array, observed: dict[str, Array]) -> tuple[State, Array]:
        """Return the next state, and J as it is."""
        own = regularized(state)
        dtheta = own.clipped(dtheta)
        state = {**state, "t": state["t"] + 1}
        alpha = optimizers.rate(optimizer, state["alpha"], state["t"])
        state |= optimized(state).update({**state, "alpha": alpha}, dtheta)
        state["theta"] = own.constrained(network, state["theta"])
        if observed:
            state["theta"] = network.flatten({**network.unflatten(state["theta"]), **observed})
        return state, J

    return update
