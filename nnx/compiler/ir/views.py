"""How a view lies in the memory of what it looks at: strides, in elements."""

from collections.abc import Sequence
from math import prod

from nnx.compiler.ir.graph import Op
from nnx.compiler.ir.operations import TraceError

Strides = tuple[int, ...]


def contiguous(shape: Sequence[int]) -> Strides:
    """Return the strides of an array in row-major order."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def reshaped(shape: Sequence[int], strides: Strides, new: Sequence[int]) -> Strides | None:
    """Return the strides of the same elements under another shape; None where that takes a copy."""
    if 0 in shape:
        return contiguous(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    found: list[int] = []
    todo = list(new)
    while todo:
        n = todo.pop(0)
        if n == 1:
            found.append(0)
            continue
        if not old:
            return None
        length, stride = old.pop(0)
        # Join axes that lie one within the other until the new axis divides them.
        while length % n or length < n:
            if not old or old[0][0] * old[0][1] != stride:
                return None
            length, stride = length * old[0][0], old.pop(0)[1]
        found.append(stride * (length // n))
        if length > n:
            old.insert(0, (length // n, stride))
    return tuple(found)


def wanted(shape: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
    """Return the new shape with its -1 replaced."""
    size, new = prod(shape), tuple(new)
    if new.count(-1) == 1:
        rest = prod(n for n in new if n != -1)
        new = tuple(size // rest if rest and n == -1 else n for n in new)
    if prod(new) != size or any(n < 0 for n in new):
        raise TraceError(f"reshape of {tuple(shape)} to {new}")
    return new


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that arrays of these shapes have together."""
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes]
    found = tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*padded, strict=True))
    for shape in padded:
        if any(n not in (1, size) for n, size in zip(shape, found, strict=True)):
            raise TraceError(f"shapes {' and '.join(str(tuple(shape)) for shape in shapes)} do not fit")
    return found


def viewed(op: Op, shape: Sequence[int], strides: Strides) -> tuple[int, Strides] | None:
    """Return the offset and strides of a view (reshape, permute, slice, broadcast) of an array with these strides.

    None where a reshape takes a copy.
    """
    new = op.out.shape
    if op.name == "reshape":
        found = reshaped(shape, strides, new)
        return None if found is None else (0, found)
    if op.name == "permute":
        return 0, tuple(strides[axis] for axis in op.option("axes"))
    if op.name == "broadcast":
        lead = len(new) - len(shape)
        sizes = zip(shape, strides, new[lead:], strict=True)
        return 0, (0,) * lead + tuple(s if n == size else 0 for n, s, size in sizes)
    offset, kept, left = 0, [], list(strides)
    for k in op.option("key"):
        if k is None:
            kept.append(0)
            continue
        stride = left.pop(0)
        offset += stride * (k.start if isinstance(k, slice) else k)
        if isinstance(k, slice):
            kept.append(stride * (k.step or 1))
    return offset, (*kept, *left)
