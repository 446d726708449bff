"""The training step: a pure function of arrays, so that an adapter may capture, compile or replay it."""

from collections.abc import Callable
from typing import TypeAlias

from nnx.arrays import Array, array_namespace, device
from nnx.network import Network
from nnx.optimizers import Optimizer, State

Batch: TypeAlias = tuple[Array, Array]
"""X (n[0], m) and Y (n[L], m) or class indices (m,)."""

Step: TypeAlias = Callable[[State, Batch], tuple[State, Array]]
"""step(state, batch) -> (state, J)."""


def initial_state(optimizer: Optimizer, theta: Array) -> State:
    """Return the state before the first step, on theta's device."""
    xp, place = array_namespace(theta), device(theta)
    return {
        "theta": theta,
        "t": xp.asarray(0, dtype=xp.int32, device=place),
        "alpha": xp.asarray(optimizer.learning_rate, dtype=theta.dtype, device=place),
        **optimizer.init(theta),
    }


def training_step(network: Network, optimizer: Optimizer) -> Step:
    """Return the step of this network under this optimizer.

    No array is read on the host in it, no Python number in it changes from step to step, and it never
    branches on an array's values. J is the cost before the update.
    """

    def step(state: State, batch: Batch) -> tuple[State, Array]:
        X, Y = batch
        J, dtheta = network.loss_and_gradient(state["theta"], X, Y)
        state = {**state, "t": state["t"] + 1}
        return {**state, **optimizer.update(state, dtheta)}, J

    return step
