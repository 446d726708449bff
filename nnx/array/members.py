"""The numbers of a stack's members as arrays of its state, and as the formulas of a step read them.

A stack of K networks has theta (K, P), and its numbers are (K, 1). They are arrays of the state, so that one compiled
step serves all values. A formula that reads `self.beta1` finds a number there, or, in a stack whose members differ in
it, an array: see `bound`.
"""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

from nnx.array.namespace import Array, array_namespace, device
from nnx.support.members import Number, PerMember, varied

T = TypeVar("T")


def is_stack(state: Mapping[str, Array]) -> bool:
    """Whether a training state is that of a stack: the step count t is (K, 1), as all its arrays have that axis."""
    return "t" in state and state["t"].ndim > 1


def members(state: Mapping[str, Array]) -> int:
    """Return the number of members of a stack's state."""
    return int(state["t"].shape[0])


def of_member(x: Array, k: int) -> Array:
    """Return the part of member k of an array of a stack's state: (P,) of (K, P), 0-d of (K, 1)."""
    own = x[k if x.shape[0] > 1 else 0, ...]
    return array_namespace(x).reshape(own, ()) if own.shape == (1,) else own


class Share:
    """A share of each member, such as Adam's beta2, made of `rest` = 1 - share.

    In float32, 1 - 0.999 has but four of its digits. So the state has the rest, and the share is computed from that.
    """

    __array_ufunc__ = None  # an array of NumPy's leaves the product to this class

    def __init__(self, rest: Array) -> None:
        self.rest = rest

    def __rsub__(self, one: float) -> Array:
        assert one == 1
        return self.rest

    def __mul__(self, x: Any) -> Array:
        return (1 - self.rest) * x

    __rmul__ = __mul__


def log(x: Number) -> Number:
    """Return the logarithm of a number, or of a `Share`; that of the share 0 is that of the last digit of 1."""
    if not isinstance(x, Share):
        return math.log(x)
    xp = array_namespace(x.rest)
    return xp.log1p(-xp.minimum(x.rest, 1 - xp.finfo(x.rest.dtype).eps))


def numbers(x: Any, owner: str, theta: Array) -> dict[str, Array]:
    """Return the numbers of x that differ among members, (K, 1), by their names in the state.

    Those in `x.shares` are 1 - the number. The learning rate is not among them: it is alpha. None, where a bound is
    left out, is the largest number.

    Parameters
    ----------
    x : dataclass
    owner : str
        Stands before their names.
    theta : array
        Of the state: it has the dtype and the device.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> numbers(nnx.RMSprop(rho=[0.9, 0.5]), "RMSprop", np.zeros((2, 3)))
    {'RMSprop.rho': array([[0.1],
           [0.5]])}
    """
    xp, found = array_namespace(theta), {}
    for name, values in _of_state(x).items():
        whole = all(isinstance(value, int) for value in values)
        least = xp.finfo(theta.dtype).max
        column = [[1 - v if name in _shares(x) else least if v is None else v] for v in values]
        found[f"{owner}.{name}"] = xp.asarray(
            column, dtype=xp.int32 if whole else theta.dtype, device=device(theta)
        )
    return found


def bound(x: T, state: dict[str, Array], owner: str, matrices: bool = False) -> T:
    """Return x with arrays of the state in place of the numbers that differ among members; x itself if none does.

    With `matrices` they are (K, 1, 1), as they stand beside A (K, n, m).
    """
    names = _of_state(x)
    if not names:
        return x
    other = copy(x)
    for name in names:
        array = state[f"{owner}.{name}"]
        array = beside_matrix(array) if matrices else array
        object.__setattr__(other, name, Share(array) if name in _shares(x) else array)
    return other


def beside_matrix(x: Number) -> Number:
    """Return members' numbers (K, 1) as they stand beside A (K, n, m); a number as it is."""
    return x if isinstance(x, float) else array_namespace(x).expand_dims(x, axis=-1)


def beside_cost(x: Number) -> Number:
    """Return members' numbers (K, 1) as they stand beside J (K,); those of one network () and a number as they are."""
    return x if isinstance(x, float) or x.ndim == 0 else x[..., 0]


def _of_state(x: Any) -> dict[str, PerMember]:
    return {name: values for name, values in varied(x).items() if name != "learning_rate"}


def _shares(x: Any) -> tuple[str, ...]:
    return getattr(x, "shares", ())
