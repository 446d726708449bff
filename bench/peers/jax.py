"""JAX: a jitted step with `value_and_grad`, and optax for the optimizer."""

from functools import partial
from typing import Any

import numpy as np

from nnx.bench.case import Case, Data
from nnx.bench.clocks import wall
from nnx.bench.contestant import Absent, Contestant, library, only
from nnx.errors import first_line


def on_cpu(case: Case, data: Data) -> Contestant:
    """Return JAX on the CPU."""
    return _contestant(case, data, "cpu")


def on_gpu(case: Case, data: Data) -> Contestant:
    """Return JAX on a GPU. JAX has no events to time with: it is waited for by the wall clock."""
    return _contestant(case, data, "gpu")


def on_gpu_in_float32(case: Case, data: Data) -> Contestant:
    """Return JAX on a GPU with products of float32, which are not its default there."""
    if case.dtype != "float32":
        raise Absent(f"{case.dtype} has products of its own: see jax-cuda")
    library("jax", "jax").config.update("jax_default_matmul_precision", "highest")
    return on_gpu(case, data)


def _steps(jax: Any, optax: Any, optimizer: Any, case: Case) -> tuple[Any, Any]:
    """Return a step on a batch, and one that gathers its batch from all samples. Each adds its cost to a total."""

    def cost(params: Any, X: Any, y: Any) -> Any:
        *hidden, (W, b) = params
        A = X
        for W_l, b_l in hidden:
            A = jax.nn.relu(A @ W_l + b_l)
        Z = A @ W + b
        if case.sizes[-1] > 1:
            return optax.softmax_cross_entropy_with_integer_labels(Z, y).mean()
        return optax.sigmoid_binary_cross_entropy(Z[:, 0], y).mean()

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params: Any, memory: Any, total: Any, X: Any, y: Any) -> Any:
        J, grads = jax.value_and_grad(cost)(params, X, y)
        updates, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory, total + J

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def gathering_step(params: Any, memory: Any, total: Any, X: Any, y: Any, pick: Any) -> Any:
        return step(params, memory, total, X[pick], y[pick])

    return step, gathering_step


def _contestant(case: Case, data: Data, platform: str) -> Contestant:
    only(case, "gradient_descent", "adam")
    jax = library("jax", "jax")
    optax = library("optax", "bench")
    jnp = jax.numpy
    try:
        device = jax.devices(platform)[0]
    except RuntimeError as error:
        raise Absent(f"JAX finds no {platform} ({first_line(error)})") from error
    jax.config.update("jax_enable_x64", case.dtype == "float64")
    jax.config.update("jax_default_device", device)
    start, L = case.start(), len(case.sizes) - 1
    params: Any = [(jnp.array(start[f"W{l}"].T), jnp.array(start[f"b{l}"][:, 0])) for l in range(1, L + 1)]
    optimizer = (optax.adam if case.optimizer == "adam" else optax.sgd)(case.learning_rate)
    memory = optimizer.init(params)

    step, gathering_step = _steps(jax, optax, optimizer, case)
    y = data.y if case.sizes[-1] > 1 else data.y.astype(case.dtype)
    if case.shuffled:
        X, y = jnp.array(data.X), jnp.array(y)
    else:  # slicing is a call of its own in JAX, so the batches are cut before
        batches = [(jnp.array(data.X[place]), jnp.array(y[place])) for place in case.places()]
    rng = np.random.default_rng(case.seed)

    def epoch() -> float:
        nonlocal params, memory
        total = jnp.zeros((), case.dtype)
        if case.shuffled:
            order = rng.permutation(case.M).astype(np.int32)
            for place in case.places():
                params, memory, total = gathering_step(params, memory, total, X, y, order[place])
        else:
            for batch in batches:
                params, memory, total = step(params, memory, total, *batch)
        return float(total / case.steps)

    def parameters() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for l, (W, b) in enumerate(params, 1):
            found |= {f"W{l}": np.asarray(W).T, f"b{l}": np.asarray(b)[:, None]}
        return found

    def peak() -> int:
        return int((device.memory_stats() or {}).get("peak_bytes_in_use", 0))

    clock = wall(lambda: jax.block_until_ready(params))
    versions = f"jax {jax.__version__}, optax {optax.__version__}"
    if platform == "cpu":
        return Contestant(epoch, clock, parameters, versions, "cpu", device.device_kind)
    by_itself = case.dtype == "float32" and jax.config.jax_default_matmul_precision is None
    precision = "tf32" if by_itself else None  # JAX's default on a GPU
    return Contestant(
        epoch, clock, parameters, versions, "cuda", device.device_kind, peak, precision=precision
    )
