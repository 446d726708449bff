"""An output: the link A[L] = g[L](Z[L]) together with a loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnx.array.namespace import Array, array_namespace
from nnx.model.outputs.loss import Loss
from nnx.model.outputs.losses import Function, parts


@dataclass(frozen=True)
class Output:
    """A link and a loss.

    Parameters
    ----------
    name : str
        The link's name.
    loss_name : str
        The loss's name, for people.
    link : callable
        Z[L] (..., n[L], m) -> A[L] of the same shape.
    loss : callable
        Z[L] (..., n[L], m), Y (..., targets, m) -> the loss of each sample, summed over the outputs: (..., m).
    inverse : callable
        A[L] -> Z[L], a finite one of A[L] = 0 and 1, too. Of the softmax, which has several, it is the logarithm.
    derivative : callable
        Z[L], Y -> ∂loss/∂Z[L] (..., n[L], m); of a canonical loss A[L] - Y.
    spec : str or None
        The argument with which ``output(name, loss=spec)`` makes it again; None for the canonical loss.
    classes : bool
        Whether the targets may be class indices.
    exclusive : bool
        Whether a sample is of one class only: its targets sum to 1.
    soft : bool
        Whether targets of classes may be probabilities, not 0 and 1 alone.
    lowest, highest : float
        The range of the targets.
    probabilities : bool
        Whether A[L] are probabilities of classes.
    own : Loss or None
        The user's loss, if it is one.
    per_target : int
        The network's outputs for each target, n[L] / rows of Y: several quantiles, or a mean and a variance. Their
        rows in Z[L] and A[L] are the first outputs of all targets, then the second ones, and so on.
    point : int
        Which of them is the prediction that metrics of numbers measure.
    epsilon : float or None
        Of a mean a and a variance e^s + epsilon, whose outputs are a and s: this epsilon. None: the outputs are others.
    """

    name: str
    loss_name: str
    link: Callable[[Array], Array]
    loss: Function
    derivative: Function
    inverse: Callable[[Array], Array]
    spec: str | None = None
    classes: bool = False
    exclusive: bool = False
    soft: bool = True
    lowest: float = -math.inf
    highest: float = math.inf
    probabilities: bool = False
    own: Loss | None = None
    per_target: int = 1
    point: int = 0
    epsilon: float | None = None

    def predicted(self, A: Array) -> Array:
        """Return the prediction (..., targets, m) of each target, from A[L] (..., n[L], m)."""
        return A if self.per_target == 1 else parts(A, self.per_target)[self.point]

    @property
    def threshold(self) -> float:
        """The number above which an output says yes, for classes."""
        return 0.5 if self.probabilities else 0.0

    def __str__(self) -> str:
        """Return its name in errors: 'identity', or 'identity' with the loss 'huber'."""
        return repr(self.name) if self.spec is None else f"{self.name!r} with the loss {self.spec!r}"


def mean_loss(output: Output, Z: Array, Y: Array, weights: Array | None) -> tuple[Array, Array | None]:
    """Return J (...,) and the share w / sum of w (..., 1, m) of each sample in it; None where all have 1/m."""
    xp = array_namespace(Z)
    loss = output.loss(Z, Y)
    if weights is None:
        return xp.mean(loss, axis=-1), None  # J = (1/m) sum of the losses
    total = xp.sum(weights, axis=-1, keepdims=True)
    share = weights / xp.where(total > 0, total, 1.0)  # all weights zero: J = 0
    return xp.sum(share * loss, axis=-1), xp.expand_dims(share, axis=-2)
