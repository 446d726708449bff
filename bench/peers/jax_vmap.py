"""JAX: an epoch of all members in one call, `vmap` of a jitted loop over the steps of one network, with optax."""

from typing import Any

import numpy as np

from nnx.bench.case import Case, Data, stacked
from nnx.bench.clocks import wall
from nnx.bench.contestant import Contestant
from nnx.bench.peers.jax import about, begin, cost_of, layers, named, targets


def on_cpu(case: Case, data: Data) -> Contestant:
    """Return JAX on the CPU."""
    return _contestant(case, data, "cpu")


def on_gpu(case: Case, data: Data) -> Contestant:
    """Return JAX on a GPU, with its default there, products of TF32."""
    return _contestant(case, data, "gpu")


def _epoch(jax: Any, optax: Any, optimizer: Any, case: Case) -> Any:
    """Return the function that trains one network for an epoch. Its batches are picked by `order`, or None is given."""
    cost = cost_of(jax, optax, case)

    def epoch(params: Any, memory: Any, X: Any, y: Any, order: Any) -> Any:
        def step(carry: Any, batch: Any) -> Any:
            params, memory = carry
            X_batch, y_batch = batch if order is None else (X[batch], y[batch])
            J, grads = jax.value_and_grad(cost)(params, X_batch, y_batch)
            updates, memory = optimizer.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), J

        steps = case.steps, case.m
        batches = (X.reshape(*steps, -1), y.reshape(steps)) if order is None else order.reshape(steps)
        (params, memory), Js = jax.lax.scan(step, (params, memory), batches)
        return params, memory, Js.mean()

    return epoch


def _contestant(case: Case, data: Data, platform: str) -> Contestant:
    jax, optax, device, optimizer = begin(case, platform)
    params: Any = layers(jax, stacked(case.starts()))
    memory = jax.vmap(optimizer.init)(params)
    X, y = jax.numpy.array(data.X), jax.numpy.array(targets(case, data))
    axes = 0, 0, None, None, 0 if case.shuffled else None
    of_all = jax.jit(jax.vmap(_epoch(jax, optax, optimizer, case), axes), donate_argnums=(0, 1))
    orders = case.orders()

    def epoch() -> Any:
        nonlocal params, memory
        order = None
        if case.shuffled:
            order = np.stack([rng.permutation(case.M).astype(np.int32) for rng in orders])
        params, memory, costs = of_all(params, memory, X, y, order)
        return np.asarray(costs)

    clock = wall(lambda: jax.block_until_ready(params))
    return Contestant(epoch, clock, lambda: named(params), **about(jax, optax, case, device, platform))
