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


def begin(case: Case, platform: str) -> tuple[Any, Any, Any, Any]:
    """Return JAX with the case's dtype, optax, the device of this platform and the optimizer; or raise Absent."""
    only(case, "gradient_descent", "adam")
    jax = library("jax", "jax")
    optax = library("optax", "bench")
    try:
        device = jax.devices(platform)[0]
    except RuntimeError as error:
        raise Absent(f"JAX finds no {platform} ({first_line(error)})") from error
    jax.config.update("jax_enable_x64", case.dtype == "float64")
    jax.config.update("jax_default_device", device)
    return jax, optax, device, (optax.adam if case.optimizer == "adam" else optax.sgd)(case.learning_rate)


def layers(jax: Any, start: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return these parameters as JAX's users have them: [(W^T, b), ...], of members with an axis before."""
    return [
        (jax.numpy.array(start[f"W{l}"].mT), jax.numpy.array(start[f"b{l}"][..., 0]))
        for l in range(1, len(start) // 2 + 1)
    ]


def named(params: Any) -> dict[str, Any]:
    """Return the parameters by the notes' names, in their shapes."""
    found: dict[str, Any] = {}
    for l, (W, b) in enumerate(params, 1):
        found |= {f"W{l}": np.asarray(W).mT, f"b{l}": np.asarray(b)[..., None]}
    return found


def targets(case: Case, data: Data) -> Any:
    """Return the classes, for the sigmoid as numbers of the case's dtype."""
    return data.y if case.sizes[-1] > 1 else data.y.astype(case.dtype)


def cost_of(jax: Any, optax: Any, case: Case) -> Any:
    """Return the cost, a function of the parameters of one network and a batch."""

    def cost(params: Any, X: Any, y: Any) -> Any:
        *hidden, (W, b) = params
        A = X
        for W_l, b_l in hidden:
            A = jax.nn.relu(A @ W_l + b_l)
        Z = A @ W + b
        if case.sizes[-1] > 1:
            return optax.softmax_cross_entropy_with_integer_labels(Z, y).mean()
        return optax.sigmoid_binary_cross_entropy(Z[:, 0], y).mean()

    return cost


def about(jax: Any, optax: Any, case: Case, device: Any, platform: str) -> dict[str, Any]:
    """Return the part of a contestant that tells about the libraries and the device."""
    told = {
        "library": f"jax {jax.__version__}, optax {optax.__version__}",
        "device": "cpu" if platform == "cpu" else "cuda",
        "detail": device.device_kind,
    }
    if platform == "cpu":
        return told
    by_itself = case.dtype == "float32" and jax.config.jax_default_matmul_precision is None
    told["precision"] = "tf32" if by_itself else None  # JAX's default on a GPU
    return told | {"peak": lambda: int((device.memory_stats() or {}).get("peak_bytes_in_use", 0))}


def _steps(jax: Any, optax: Any, optimizer: Any, case: Case) -> tuple[Any, Any]:
    """Return a step on a batch, and one that gathers its batch from all samples. Each adds its cost to a total."""
    cost = cost_of(jax, optax, case)

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
    jax, optax, device, optimizer = begin(case, platform)
    jnp = jax.numpy
    params: Any = layers(jax, case.start())
    memory = optimizer.init(params)

    step, gathering_step = _steps(jax, optax, optimizer, case)
    y = targets(case, data)
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

    clock = wall(lambda: jax.block_until_ready(params))
    return Contestant(epoch, clock, lambda: named(params), **about(jax, optax, case, device, platform))
