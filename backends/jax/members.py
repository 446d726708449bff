"""A stack of networks on JAX: the loop of one member, which `jax.vmap` does for many at once."""

from collections.abc import Callable
from typing import Any

from nnx.array.members import is_stack
from nnx.backends.jax.lowering import is_tree


def first_member(state: dict[str, Any], data: Any, order: Any) -> Any:
    """Return the state, the data and the order of a stack's first member; those of a single network as they are."""
    if not is_stack(state):
        return state, data, order
    X, Y, w = data
    w, order = (x[0] if _is_own(x) else x for x in (w, order))
    return {name: _numbers(x)[0] for name, x in state.items()}, (X, Y, w), order


def loop_of_stack(
    loop: Callable[..., Any], jax: Any, group_bytes: float, state: Any, data: Any, order: Any, Js: Any
) -> Any:
    """Do the loop of a single network, loop(state, data, order, Js), for each member of a stack; Js are (K, ...).

    On a CPU as many members are computed at once as stay in the cache. An array of all members, (1, ...), comes back
    as it is.
    """
    K, (X, Y, w), leaves = state["t"].shape[0], data, jax.tree.leaves
    own = {name: _numbers(x) for name, x in state.items() if leaves(x)[0].shape[0] == K}
    of_all = {name: jax.tree.map(lambda x: x[0], x) for name, x in state.items() if name not in own}

    def one(its: Any) -> Any:
        own, places, weights, Js = its
        samples = X, Y, w if weights is None else weights
        after, Js = loop(of_all | own, samples, order if places is None else places, Js)
        return {name: after[name] for name in own}, Js

    each = own, order if _is_own(order) else None, w if _is_own(w) else None, Js
    member = (
        2 * sum(x.size * x.dtype.itemsize for x in leaves(own)) // K
    )  # a gradient, activations and a batch, too
    size = max(1, group_bytes // member)
    new, Js = jax.vmap(one)(each) if size >= K else jax.lax.map(one, each, batch_size=int(size))
    return state | {name: x if is_tree(x) else x.reshape(state[name].shape) for name, x in new.items()}, Js


def _numbers(x: Any) -> Any:
    """Return an array of a stack's state as its members are cut out: numbers (K, 1) are (K,), so a member's is ()."""
    return x.reshape(-1) if not is_tree(x) and x.shape[1:] == (1,) else x


def _is_own(x: Any) -> bool:
    """Whether orders or weights are (K, ...), and not those of all members."""
    return x is not None and x.ndim > 1
