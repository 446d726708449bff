"""A recording as a function for JAX, written so that XLA makes fast loops of it on a CPU."""

from collections.abc import Callable
from typing import Any

from nnx.recording import Op, Recording, RecordingError, Value, leaves, mapped


def function(recording: Recording, jax: Any) -> Callable[..., Any]:
    """Return the recorded function, of JAX's arrays.

    XLA computes what it fuses with a slice or a concatenation number by number: a step took ten times as long. A
    barrier keeps it from fusing the parameters' views with the products that read them, and the gradients with the
    vector that they are put in.
    """
    barrier = jax.lax.optimization_barrier
    alone = {value for op in recording.ops if op.name == "concat" for value in (*op.reads, op.out)}
    for op in recording.ops:
        if op.name == "matmul":
            alone |= {x for x in op.reads if recording.base(x) in recording.inputs}

    def run(*arguments: Any) -> Any:
        found: dict[Value, Any] = dict(zip(recording.inputs, _arrays(recording, arguments), strict=True))
        for op in recording.ops:
            args = [found[x] if isinstance(x, Value) else x for x in op.args]
            out = _do(op, args, jax)
            found[op.out] = barrier(out) if op.out in alone and op.name != "permute" else out
        return mapped(recording.result, lambda leaf: found[leaf] if isinstance(leaf, Value) else leaf)

    return run


def _arrays(recording: Recording, arguments: Any) -> list[Any]:
    pairs = zip(leaves(recording.arguments), leaves(arguments), strict=True)
    return [given for value, given in pairs if isinstance(value, Value)]


def _do(op: Op, args: list[Any], jax: Any) -> Any:
    """Return what one operation makes."""
    jnp = jax.numpy
    dtype = jax.dtypes.canonicalize_dtype(op.out.dtype)  # no 64 bits, unless x64 is on
    if op.name == "reshape":
        return args[0].reshape(op.out.shape)
    if op.name == "slice":
        return args[0][op.option("key")]
    if op.name == "permute":
        return jnp.transpose(args[0], op.option("axes"))
    if op.name == "broadcast":
        return jnp.broadcast_to(args[0], op.out.shape)
    if op.name == "copy":
        return args[0]
    if op.name == "concat":
        whole, at = jnp.zeros(op.out.shape, dtype), 0
        for x in args:  # no jnp.concatenate: that would be fused with what reads it
            whole = jax.lax.dynamic_update_slice_in_dim(whole, x, at, op.option("axis"))
            at += x.shape[op.option("axis")]
        return whole
    if op.name == "full":
        return jnp.full(op.out.shape, op.option("value"), dtype)
    if op.name == "arange":
        start, step = op.option("start"), op.option("step")
        return jnp.arange(start, start + step * op.out.size, step, dtype=dtype)
    if op.name == "astype":
        return args[0].astype(dtype)
    if op.kind == "reduction":
        axes = op.option("axes")
        axis = axes[0] if op.name in ("argmax", "argmin") else axes
        return getattr(jnp, op.name)(args[0], axis=axis, keepdims=op.option("keepdims")).astype(dtype)
    if op.kind in ("elementwise", "matmul"):
        return getattr(jnp, op.name)(*args)
    raise RecordingError(f"{op.name} is not known to the adapter of JAX")
