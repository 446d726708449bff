"""The step of one network as that of a stack: a kernel's blockIdx.y is the member, and products are batches.

One member is traced and rendered, as a single network is. So each member has the numbers of its single run, and the
number of members is in no kernel's text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.cupy.rendering import Stub
from nnx.backends.cupy.step import Argument, Call, Launch, Product, RenderedStep
from nnx.compiler import TraceError, is_array
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.schedule import Memory
from nnx.support.tree import leaves

ROUND = 16
"""Bytes of which a member's part of a memory is a multiple: products need that to be fast."""

MOST_MEMBERS = (1 << 16) - 1
"""The largest number of blocks along y."""


def row_bytes(nbytes: int) -> int:
    """Return the bytes from one member's part to the next, of so many bytes each.

    Examples
    --------
    >>> row_bytes(4), row_bytes(32)
    (16, 32)
    """
    return -(-nbytes // ROUND) * ROUND


def of_members(step: RenderedStep, K: int, shared: Mapping[Memory, bool]) -> RenderedStep:
    """Return the step of K members.

    Parameters
    ----------
    step : RenderedStep
        Of one member.
    K : int
    shared : dict of Memory to bool
        Whether a memory of the state or of the batch is that of all members. Constants are, too; each member has its
        own part of all other memories.
    """
    if K > MOST_MEMBERS:
        raise TraceError(
            f"{K} members are more than the {MOST_MEMBERS} blocks that CUDA allows along one axis"
        )
    strides = {
        x: 0 if x.kind == "constant" or shared.get(x) else row_bytes(nbytes)
        for x, nbytes in step.memory.items()
    }
    return step._replace(
        kernels={name: _of_member(text) for name, text in step.kernels.items()},
        calls=tuple(_call(call, K, strides) for call in step.calls),
        memory={x: K * strides[x] or nbytes for x, nbytes in step.memory.items()},
        members=K,
        strides=strides,
    )


def _of_member(text: str) -> str:
    """Return the text of a kernel whose pointers go to the part of member blockIdx.y before anything else."""
    head, body = text.split(") {\n", 1)
    pointers = range(head.count("*"))
    moves = "".join(f"    p{k} += blockIdx.y * d{k};\n" for k in pointers)
    return f"{head}, {', '.join(f'uint64 d{k}' for k in pointers)}) {{\n{moves}{body}"


def _call(call: Call, K: int, strides: Mapping[Memory, int]) -> Call:
    def stride(x: Argument) -> int:
        return strides[x.memory] // int(itemsize(x.dtype))

    if isinstance(call, Launch):
        moves = tuple(("uint64", stride(x)) for x in call.arguments)
        return call._replace(members=K, numbers=call.numbers + moves)
    assert isinstance(call, Product)  # members are not trained on several ranks
    return call._replace(members=K, strides=(stride(call.a), stride(call.b), stride(call.c)))


def member_state(state: Mapping[str, Array]) -> dict[str, Stub]:
    """Return the forms of a member's part of a stack's state, as `nnx.array.members.of_member` has them."""
    return {name: Stub(() if x.shape[1:] == (1,) else x.shape[1:], x.dtype) for name, x in state.items()}


BATCH = 2, 2, 1
"""The axes of X, Y and weights that are those of all members. There is one more where each member has its own."""


def members_of(arguments: Any) -> int:
    """Return the number of members, of which the first argument has theta (K, P) or a stack's state."""
    return int(_first(arguments).shape[0])


def is_stack_of_parameters(function: Callable[..., Any], arguments: Any) -> bool:
    """Whether a function of (theta, ...) or (state, ...) is called for the members of a stack."""
    return getattr(function, "for_each_member", False) and _first(arguments).ndim > 1


def own_arguments(arguments: Any) -> list[bool]:
    """Return which arrays each member has by itself: in a dict those of K rows, in a batch those with an axis more."""
    K, found = members_of(arguments), list[bool]()
    for x in arguments:
        if isinstance(x, dict):
            found += [array.shape[0] == K for array in x.values()]
        elif isinstance(x, tuple):
            found += [array.ndim > axes for array, axes in zip(x, BATCH, strict=False) if array is not None]
        elif is_array(x):
            found.append(x is arguments[0] or x.ndim > 2)
    return found


def of_first_member(arguments: Any) -> Any:
    """Return the forms of such arguments for one member. Its targets (1, m) are (m,)."""

    def of_one(x: Any) -> Any:
        if isinstance(x, dict):
            return member_state(x)
        if isinstance(x, tuple):
            X, Y, *w = x
            Y = Y if Y.ndim < 3 else Stub(Y.shape[2:] if Y.shape[1] == 1 else Y.shape[1:], Y.dtype)
            return of_one(X), Y, *(each if each is None else Stub(each.shape[-1:], each.dtype) for each in w)
        return Stub(x.shape[1:], x.dtype) if x is arguments[0] or (is_array(x) and x.ndim > 2) else x

    return tuple(map(of_one, arguments))


def _first(arguments: Any) -> Array:
    return next(filter(is_array, leaves(arguments)))


def member_data(data: Data) -> tuple[Any, ...]:
    """Return the samples as a member sees them: of weights (K, M) the form of its own."""
    X, Y, w = data
    return X, Y, w if w is None else Stub(w.shape[-1:], w.dtype)


def own_parts(data: Data, order: Array | None) -> tuple[bool, bool, bool]:
    """Return whether each member has X, Y and weights of its own in a mini-batch."""
    w, gathers = data[2], order is not None and order.ndim > 1
    return gathers, gathers, gathers or (w is not None and w.ndim > 1)
