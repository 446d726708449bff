"""A network as a `torch.nn.Sequential`."""

from typing import Any

from nnx.array import host
from nnx.errors import InputError, flag
from nnx.io.convert.parameters import checked_parameters, contiguous_copy, each_layer
from nnx.io.convert.torch_names import TORCH_ACTIVATIONS, TORCH_NAMES, TORCH_SLOPES
from nnx.model.layers import Activate, BatchNorm, Dense, Dropout, Layer, LayerNorm, PReLU
from nnx.model.network import Network
from nnx.port.base import require
from nnx.support.install import CPU_TORCH
from nnx.support.spec import split


def to_torch(network: Network, params: Any, dtype: str | None = None, link: bool = True) -> Any:
    """Return a network as a `torch.nn.Sequential`, in evaluation mode, on the CPU.

    Its outputs for X.T, samples as rows, are A[L].T.

    Parameters
    ----------
    network : Network
    params : dict of arrays, or array (P,)
        The parameters by name, or theta, of any library.
    dtype : {"float32", "float64"} or None
        Of the modules; None: that of the parameters.
    link : bool
        Whether the output's link is the last module. PyTorch's losses (`torch.nn.CrossEntropyLoss`,
        `torch.nn.BCEWithLogitsLoss`) take Z[L]: for them give False.

    Returns
    -------
    torch.nn.Sequential
        A Dense is a Linear and the module of its activation. For training call its `train()`.

    Raises
    ------
    InputError
        When a parameter does not fit; or for what PyTorch has no module: a Residual, GaussianNoise, the link exp,
        a layer or activation of your own.
    BackendError
        When PyTorch is missing.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.Network(4, [nnx.Dense(8, "relu"), nnx.Dropout(0.2), nnx.Dense(3)], output="softmax")
    >>> nnx.convert.to_torch(net, net.init())  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Dropout(p=0.2, inplace=False)
      (3): Linear(in_features=8, out_features=3, bias=True)
      (4): Softmax(dim=1)
    )
    """
    torch = require("torch", "torch", CPU_TORCH)
    arrays = checked_parameters(network, params)
    made = getattr(torch, host.dtype_name(next(iter(arrays.values())).dtype if dtype is None else dtype))
    modules = []
    for layer, n_prev, p in each_layer(network, arrays):
        new = _modules(torch.nn, layer, n_prev, made)
        if p:
            tensors = {
                TORCH_NAMES[name]: torch.tensor(contiguous_copy(x if name == "W" else x[:, 0]))
                for name, x in p.items()
            }
            new[0].load_state_dict(tensors, strict=False)  # BatchNorm1d also has a count of batches: 0
        modules += new
    if flag("link", link) and network.output.name != "identity":
        links = {"sigmoid": torch.nn.Sigmoid, "softmax": lambda: torch.nn.Softmax(dim=1)}
        if network.output.name not in links:
            raise InputError(
                f"PyTorch has no module for the output {network.output.name!r}; give link=False, and apply torch.exp "
                "to what the modules return"
            )
        modules.append(links[network.output.name]())
    return torch.nn.Sequential(*modules).eval()


def _modules(nn: Any, layer: Layer, n_prev: int, dtype: Any) -> list[Any]:
    """Return the modules of a layer, the one with its parameters first."""
    place = {"device": "cpu", "dtype": dtype}
    match layer:
        case Dense():
            # skip_init: no weights are drawn, which would move PyTorch's random numbers
            linear = nn.utils.skip_init(nn.Linear, n_prev, layer.n, **place)
            return [linear] + ([] if layer.g.name == "identity" else [_activation_module(nn, layer.g.name)])
        case Activate():
            return [_activation_module(nn, layer.g.name)]
        case Dropout():
            return [nn.Dropout(layer.rate)]
        case BatchNorm():
            return [nn.BatchNorm1d(n_prev, layer.epsilon, layer.momentum, **place)]
        case LayerNorm():
            return [nn.LayerNorm(n_prev, layer.epsilon, **place)]
        case PReLU():
            return [nn.PReLU(n_prev, **place)]
    raise InputError(
        f"the layer {layer!r} has no counterpart in torch.nn; write a torch.nn.Module for it, and give it the "
        "parameters yourself"
    )


def _activation_module(nn: Any, activation: str) -> Any:
    """Return the module of an activation."""
    name, slope = split(activation)
    if name not in TORCH_ACTIVATIONS:
        raise InputError(
            f"PyTorch has no module for the activation {name!r}; convert a network with 'identity' in its place, and "
            "put a torch.nn.Module of your own behind that Linear"
        )
    kind, arguments = TORCH_ACTIVATIONS[name]
    arguments = dict(arguments)
    if slope is not None:
        arguments[TORCH_SLOPES[kind]] = slope
    if kind == "Softplus":
        arguments["threshold"] = 40  # PyTorch gives z itself above it: exact in float64 from there on
    return getattr(nn, kind)(**arguments)
