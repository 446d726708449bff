"""A `torch.nn.Sequential` as a network."""

from numbers import Real
from typing import Any

import numpy as np

from nnx.array import host
from nnx.errors import InputError, number, scalar, shown
from nnx.io.convert.torch_checks import called, flat_modules, refuse_shared
from nnx.io.convert.torch_names import TORCH_ACTIVATIONS, TORCH_SLOPES
from nnx.model.layers import Activate, BatchNorm, Dense, Dropout, Layer, LayerNorm, PReLU
from nnx.model.network import Network
from nnx.model.outputs import output as find_output
from nnx.port.base import require
from nnx.support.install import CPU_TORCH


def from_torch(sequential: Any, output: str, loss: str | None = None) -> tuple[Network, dict[str, Any]]:
    """Return the network and its parameters that compute the same as a `torch.nn.Sequential` in evaluation mode.

    Parameters
    ----------
    sequential : torch.nn.Sequential
        Of Linear, activations, Dropout, BatchNorm1d, LayerNorm and PReLU; one within another is taken apart. A bias
        that is not there becomes 0, gains and shifts that are not there 1 and 0: in training they are learned. A
        module without parameters may be used again; one with parameters may not, since nnx has no shared ones.
    output : {"sigmoid", "softmax", "identity", "exp"}
        The link. Its module, Sigmoid or Softmax, may stand at the end, or not be there, as is usual with
        CrossEntropyLoss and BCEWithLogitsLoss.
    loss : str or None
        See `Network`.

    Returns
    -------
    network : Network
    params : dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    InputError
        For a module that has no counterpart, one that does not fit those before it, parameters that two modules share,
        hooks and parametrizations: which one.
    BackendError
        When PyTorch is missing.

    Examples
    --------
    >>> import nnx
    >>> from torch.nn import Linear, ReLU, Sequential  # doctest: +SKIP
    >>> net, params = nnx.convert.from_torch(
    ...     Sequential(Linear(4, 8), ReLU(), Linear(8, 3)), "softmax"
    ... )  # doctest: +SKIP
    >>> net  # doctest: +SKIP
    Network(4, [Dense(8, relu), Dense(3, identity)], output='softmax')
    >>> params["W1"].shape  # doctest: +SKIP
    (8, 4)
    """
    nn = require("torch", "torch", CPU_TORCH).nn
    if not isinstance(sequential, nn.Sequential):
        raise InputError(f"expected a torch.nn.Sequential, not {shown(sequential)}")
    for hooks in ("_global_forward_hooks", "_global_forward_pre_hooks"):
        if getattr(nn.modules.module, hooks, None):
            raise InputError(
                "hooks of all modules are set (torch.nn.modules.module.register_module_forward_hook), which may "
                "change what the Sequential computes; remove them first"
            )
    find_output(output, loss)  # which refuses what is none, before the modules are looked at
    modules = list(flat_modules(nn, sequential, "", ()))
    if modules and _is_link(nn, modules[-1][1], output):
        modules.pop()
    refuse_shared(modules)
    sizes = [size for _, module in modules if (size := _size(nn, module)) is not None]
    if not sizes:
        raise InputError("the Sequential has no Linear; a network needs at least one")
    n_features = n = sizes[0]
    layers: list[Layer] = []
    arrays: list[Any] = []
    after_linear = False
    layer: Layer
    for name, module in modules:
        what = called(name, module)
        size = _size(nn, module)
        if size is not None and size != n:
            raise InputError(f"{what} takes {size} features; those before it give {n}")
        tensors: list[Any] = []
        try:
            if activation := _activation(nn, module):
                layer = Dense(n, activation) if after_linear else Activate(activation)
            else:
                layer, tensors = _layer(nn, module, n, what)
        except InputError as error:
            raise (
                error if str(error).startswith(what) else InputError(f"{what} does not fit: {error}")
            ) from None
        if activation and after_linear:
            layers.pop()  # the Dense that it is the activation of
        layers.append(layer)
        if activation:
            after_linear = False
            continue
        for x, shape in zip(map(_host, tensors), layer.shapes(n).values(), strict=True):
            if x.shape != shape and (*x.shape, 1) != shape:
                raise InputError(f"{what} has a parameter of shape {x.shape}; expected {shape}")
            arrays.append(x)
        n = layer.units(n)
        after_linear = isinstance(layer, Dense)
    network = Network(n_features, layers, output, loss)
    shapes = network.shapes.items()
    return network, {name: x.reshape(shape) for (name, shape), x in zip(shapes, arrays, strict=True)}


def _is_link(nn: Any, module: Any, output: str) -> bool:
    return (output == "sigmoid" and type(module) is nn.Sigmoid) or (
        output == "softmax" and type(module) is nn.Softmax and module.dim in (1, -1)
    )


def _size(nn: Any, module: Any) -> int | None:
    """Return n[l-1] as a module's parameters have it; None where it takes any."""
    kind, shape = type(module), tuple(getattr(getattr(module, "weight", None), "shape", ()))
    if kind is nn.Linear and len(shape) == 2:
        return int(shape[1])
    if kind is nn.PReLU and shape != (1,):  # a single slope fits all
        return int(shape[0])
    if kind is nn.LayerNorm and len(module.normalized_shape) == 1:
        return int(module.normalized_shape[0])
    return int(module.num_features) if kind is nn.BatchNorm1d else None


def _activation(nn: Any, module: Any) -> str | None:
    """Return our name of an activation's module; None where it is none, or has no counterpart."""
    for name, (kind, arguments) in TORCH_ACTIVATIONS.items():
        same = type(module) is getattr(nn, kind)
        same = same and all(_is(getattr(module, key), value) for key, value in arguments.items())
        if same and kind == "Softplus":
            same = number("threshold", module.threshold, "a number", lambda _: True) >= 20
        if same and kind in TORCH_SLOPES:
            slope = TORCH_SLOPES[kind]
            return f"{name}({number(slope, getattr(module, slope), 'one number', lambda _: True)!r})"
        if same:
            return name
    return None


def _is(given: Any, value: Any) -> bool:
    """Whether a module's attribute is this number or text; an array of several is not."""
    given = scalar(given)
    return isinstance(given, Real | str) and given == value


def _layer(nn: Any, module: Any, n: int, what: str) -> tuple[Layer, list[Any]]:
    """Return the layer of a module that takes n features, and its parameters in our order, or raise."""
    kind = type(module)
    if kind is nn.Linear:
        bias = module.weight.new_zeros(module.weight.shape[0]) if module.bias is None else module.bias
        return Dense(module.weight.shape[0]), [module.weight, bias]
    if kind is nn.Dropout:
        return Dropout(module.p), []
    if kind is nn.PReLU:
        return PReLU(), [module.weight.expand(n)]
    if kind is nn.LayerNorm and len(module.normalized_shape) == 1:
        return LayerNorm(module.eps), _gain_and_shift(module.weight, module.bias, n)
    if kind is nn.BatchNorm1d:
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None or module.momentum is None:
            raise InputError(
                f"{what} has no running statistics, or a plain mean of them (momentum=None); nnx's BatchNorm has a "
                "moving one"
            )
        tensors = [*_gain_and_shift(module.weight, module.bias, n, like=mean), mean, variance]
        return BatchNorm(module.momentum, module.eps), tensors
    raise InputError(
        f"{what} has no counterpart in nnx; known: Linear, Dropout, BatchNorm1d, LayerNorm, PReLU, "
        f"{', '.join(dict.fromkeys(name for name, _ in TORCH_ACTIVATIONS.values()))}"
    )


def _gain_and_shift(gain: Any, shift: Any, n: int, like: Any = None) -> list[Any]:
    """Return gamma and beta, 1 and 0 where they are not there."""
    like = next((x for x in (gain, shift, like) if x is not None), None)
    if like is None:  # a LayerNorm with neither
        return [np.ones(n, np.float32), np.zeros(n, np.float32)]
    return [like.new_ones(n) if gain is None else gain, like.new_zeros(n) if shift is None else shift]


def _host(tensor: Any) -> Any:
    """Return a tensor as a NumPy array of its own memory, float64 or float32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if not tensor.is_floating_point() or tensor.is_meta:
        where = " on the device meta, which has none" if tensor.is_meta else ""
        raise InputError(f"a parameter has the dtype {tensor.dtype}{where}; expected real numbers")
    if str(tensor.layout) != "torch.strided":
        raise InputError(f"a parameter has the layout {tensor.layout}; make it dense: its to_dense()")
    tensor = tensor.detach().cpu()
    return host.copy((tensor if str(tensor.dtype) == "torch.float64" else tensor.float()).numpy())
