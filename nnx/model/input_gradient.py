"""The derivatives of a network's outputs, or of its loss, with respect to its input: one backward pass to dA[0]."""

from typing import Any

from array_api_compat import is_numpy_array

from nnx.array import host
from nnx.array.namespace import Array, array_namespace, device
from nnx.errors import InputError, one_of, shown
from nnx.errors.texts import scalar
from nnx.model import layers
from nnx.model.layers import Context, Layer
from nnx.model.outputs.base import Output
from nnx.model.outputs.custom import through_link
from nnx.model.outputs.targets import targets
from nnx.support.members import for_each_member


class InputGradient:
    """The part of a network that differentiates with respect to X."""

    n: tuple[int, ...]
    layers: tuple[Layer, ...]
    output: Output
    _check_narrow: Any
    _propagate: Any

    @for_each_member
    @host.quiet()
    def input_gradient(
        self, theta: Array, X: Array, Y: Array | None = None, *, output: Any = None, of: str = "A"
    ) -> Array:
        """Return the derivative of an output, or of the loss, with respect to X: (..., n[0], m).

        Each sample's column is the derivative of that sample's own output or loss, by its own features. The network is
        as at inference: Dropout passes on, BatchNorm has its running statistics.

        Parameters
        ----------
        theta : array (..., P)
        X : array (..., n[0], m)
            Samples as columns, of theta's library, device and dtype.
        Y : array or None
            The targets, as of `loss_and_gradient`: then it is the derivative of each sample's loss. That of the cost J
            is the m-th part. Their values are not looked at (`nnx.Trainer.input_gradient` does).
        output : int, array of int (m,), or array (..., n[L], m); or None
            The output's number k, from 0, of all samples or of each; or the weight of each output in a sum, of X's
            dtype. None: the only one.
        of : {"A", "Z"}
            Whether the output is A[L], or Z[L] before the link: the logit of a class.

        Raises
        ------
        InputError
            When the number of features, parameters or targets does not fit, or there is no such output. (An array of
            outputs is looked at if it is NumPy's; one of another library has no number read from its device.)

        Notes
        -----
        dA[L] is 1 at output k and 0 elsewhere. The backward pass of the layers leads from dZ[L] to dA[0].
        (Simonyan et al., 2013, https://arxiv.org/abs/1312.6034, use it for saliency.)

        Examples
        --------
        a = sigmoid(2 x1 - x2) has the derivative a (1 - a) (2, -1):

        >>> import numpy as np
        >>> import nnx
        >>> net = nnx.mlp([2, 1], output="sigmoid")
        >>> net.input_gradient(np.array([2.0, -1.0, 0.0]), np.zeros((2, 1)))
        array([[ 0.5 ],
               [-0.25]])
        """
        host.check_arrays({"Y": Y}, theta=theta, X=X)
        self._check_narrow(X)
        of = one_of("of, what is differentiated,", of, ("A", "Z"))
        Z, params, kept = self._propagate(theta, X, Context())
        if Y is not None:
            if output is not None or of != "A":
                raise InputError(
                    "give Y for the derivative of the loss, or output and of for that of an output"
                )
            dZ = self.output.derivative(Z, targets(self.output, Z, Y))
        else:
            dA = selected(output, self.n[-1], Z)
            dZ = through_link(self.output, self.output.link(Z), dA) if of == "A" else dA
        dX, _ = layers.backward(self.layers, params, kept, dZ, need_dA_prev=True)
        return dX


def selected(output: Any, n: int, like: Array) -> Array:
    """Return dA[L] (..., n, m) that selects an output of each sample: 1 there, 0 elsewhere; weights as they are.

    Parameters
    ----------
    output
        As of `Network.input_gradient`.
    n : int
        n[L].
    like : array (..., m)
        Has m, the library, the device and the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> selected(np.array([1, 0, 1]), 2, np.zeros((2, 3)))
    array([[0., 1., 0.],
           [1., 0., 1.]])
    """
    xp, m = array_namespace(like), like.shape[-1]
    k = scalar(output)
    if k is None:
        if n > 1:
            raise InputError(
                f"the network has {n} outputs; give output=k, from 0 to {n - 1}, or Y for the derivative of the loss"
            )
        k = 0
    if getattr(k, "ndim", 0) == 0:
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < n:
            raise InputError(
                f"output is {shown(k)}; expected the number of an output, 0 to {n - 1}, or an array ({m},) of them"
            )
        k = xp.full((m,), k, dtype=xp.int32, device=device(like))
    host.check_arrays(output=k, X=like)
    if xp.isdtype(k.dtype, "integral") and tuple(k.shape) == (m,):
        if is_numpy_array(k) and (outside := k[(k < 0) | (k >= n)]).size:
            raise InputError(f"output holds {outside[0]}; expected numbers of outputs, 0 to {n - 1}")
        row = xp.reshape(xp.arange(n, dtype=k.dtype, device=device(like)), (n, 1))
        return xp.astype(row == xp.reshape(k, (1, m)), like.dtype)
    if k.dtype == like.dtype and k.ndim >= 2 and tuple(k.shape[-2:]) == (n, m):
        return k
    raise InputError(
        f"output is an array of shape {tuple(k.shape)} and dtype {k.dtype}; expected integers ({m},), an output for "
        f"each sample, or {like.dtype} weights ({n}, {m})"
    )
