"""Regularization: penalties, clipping, max-norm and label smoothing in a training step.

Dropout and noise are layers (`nnx.Dropout`, `nnx.GaussianNoise`); decoupled weight decay is the optimizer's
(`nnx.AdamW`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from nnx.array.members import beside_cost, beside_matrix
from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError, above_zero, between, flag, items, shown, unknown
from nnx.model.network import Network
from nnx.support.members import Number, acts, each


@dataclass(frozen=True)
class Regularization:
    """Bounds on the parameters, the gradient and the targets.

    Of a stack of networks a number may be a sequence, one for each member.

    Parameters
    ----------
    l1, l2 : float
        Added to the cost: J + l1 sum |w| + (l2 / 2) sum w^2. The history's "loss" includes them; the loss of
        `evaluate` does not.
    max_norm : float or None
        After each step a longer row of W[l], the weights into a unit, is scaled back to this length
        (Srivastava et al., 2014, section 5.1).
    clip_value : float or None
        Each entry of the gradient is brought into [-clip_value, clip_value].
    clip_norm : float or None
        Then a longer gradient is scaled to this length, as a whole and not layer by layer
        (Pascanu et al., 2013, https://arxiv.org/abs/1211.5063, algorithm 1).
    label_smoothing : float
        epsilon in [0, 1): of K classes the targets become (1 - epsilon) y + epsilon/K, of labels
        (1 - epsilon) y + epsilon/2, only in training (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567).
    decayed : sequence of str or None
        The parameters ("W1", ...) that l1, l2, max_norm and an optimizer's weight_decay act on; None: all
        weights W, no biases and no norms.
    per_sample : bool
        Whether l1 and l2 are divided by the number of samples in a step's batch (or by the sum of their weights), as
        scikit-learn's alpha is. They are then larger for a smaller last batch.

    Raises
    ------
    InputError
        When a number is out of its range; later, when `decayed` names a parameter that the network lacks, or the
        output has no labels to smooth.

    Examples
    --------
    >>> Regularization(l2=1e-4, clip_norm=1.0)
    Regularization(l1=0.0, l2=0.0001, max_norm=None, clip_value=None, clip_norm=1.0, label_smoothing=0.0, decayed=None,
    per_sample=False)
    """

    l1: Number = 0.0
    l2: Number = 0.0
    max_norm: Number | None = None
    clip_value: Number | None = None
    clip_norm: Number | None = None
    label_smoothing: Number = 0.0
    decayed: Sequence[str] | None = None
    per_sample: bool = False

    def __post_init__(self) -> None:
        for name, high in (("l1", math.inf), ("l2", math.inf), ("label_smoothing", 1.0)):
            found = each(name, getattr(self, name), partial(between, low=0, high=high))
            object.__setattr__(self, name, found)
        for name in ("max_norm", "clip_value", "clip_norm"):
            object.__setattr__(self, name, each(name, getattr(self, name), _bound))
        if self.decayed is not None:
            names = items("decayed", self.decayed, "a list of parameters' names, such as ['W1'], or None")
            for name in names:
                if not isinstance(name, str):
                    raise InputError(f"decayed must hold names, such as 'W1', not {shown(name)}")
            object.__setattr__(self, "decayed", tuple(map(str, names)))
        object.__setattr__(self, "per_sample", flag("per_sample", self.per_sample))

    def names(self, network: Network) -> tuple[str, ...]:
        """Return the parameters of a network that are decayed, checked."""
        if acts(self.label_smoothing) and not (network.output.classes and network.output.soft):
            raise InputError(
                f"label_smoothing needs targets that may lie between 0 and 1; {network.output} has none"
            )
        if self.decayed is None:
            return network.decayed
        for name in self.decayed:
            if name not in network.shapes:
                raise unknown("parameter", name, network.shapes)
            if name in network.statistics:
                raise InputError(f"{name} is a running statistic, which is not learned and cannot decay")
            if name in network.fixed:
                raise InputError(f"{name} is not learned, and cannot decay")
        return tuple(self.decayed)

    def mask(self, network: Network, theta: Array) -> Array:
        """Return (P,): 1 where theta is decayed, else 0."""
        xp = array_namespace(theta)
        names = self.names(network)
        one = theta[(0,) * (theta.ndim - 1) + (slice(None),)]  # of a stack, its first network
        return xp.concat(
            [
                (xp.ones_like if name in names else xp.zeros_like)(one[place])
                for name, place in network.places.items()
            ]
        )

    def penalized(
        self, J: Array, dtheta: Array, theta: Array, decays: Array, total: Array | int = 1
    ) -> tuple[Array, Array]:
        """Return J + (l1 sum |w| + (l2 / 2) sum w^2) / total (...,) and its derivative (..., P).

        total is an int, 0-d or (...,).
        """
        l1, l2 = self.l1, self.l2
        xp = array_namespace(theta)
        w = theta * decays
        totals = total if isinstance(total, int) else xp.expand_dims(total, axis=-1)
        # Numbers are divided first and multiplied with vectors then: fewer passes over P.
        if acts(l2):
            J = J + 0.5 * beside_cost(l2) / total * xp.vecdot(w, w)
            dtheta = dtheta + l2 / totals * w
        if acts(l1):
            J = J + beside_cost(l1) / total * xp.sum(xp.abs(w), axis=-1)
            dtheta = dtheta + l1 / totals * xp.sign(w)
        return J, dtheta

    def clipped(self, dtheta: Array) -> Array:
        """Return the gradient (..., P), entry by entry and then as a whole within its bounds."""
        xp = array_namespace(dtheta)
        if self.clip_value is not None:
            dtheta = xp.clip(dtheta, -self.clip_value, self.clip_value)
        if self.clip_norm is not None:
            # Dividing by the largest entry keeps the squares from overflowing.
            largest = xp.max(xp.abs(dtheta), axis=-1, keepdims=True)
            largest = xp.where(largest > 0, largest, 1.0)
            norm = largest * xp.sqrt(xp.sum((dtheta / largest) ** 2, axis=-1, keepdims=True))
            longer = norm > self.clip_norm
            dtheta = dtheta * xp.where(longer, self.clip_norm / xp.where(longer, norm, 1.0), 1.0)
        return dtheta

    def constrained(self, network: Network, theta: Array) -> Array:
        """Return theta with each row of the decayed parameters at most max_norm long."""
        if self.max_norm is None:
            return theta
        xp, max_norm = array_namespace(theta), beside_matrix(self.max_norm)
        params = network.unflatten(theta)
        for name in self.names(network):
            W = params[name]
            norm = xp.sqrt(xp.sum(W * W, axis=-1, keepdims=True))
            longer = norm > max_norm
            params[name] = xp.where(longer, W * (max_norm / xp.where(longer, norm, 1.0)), W)
        return network.flatten(params)


def _bound(name: str, value: object) -> float | None:
    return None if value is None else above_zero(name, value, none=True)
