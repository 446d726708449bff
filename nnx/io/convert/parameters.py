"""Parameters from and for users, as NumPy arrays by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nnx.array import host
from nnx.errors import InputError, shown
from nnx.model.layers import Layer
from nnx.model.network import Network


def check_network(network: Any) -> None:
    """Raise an InputError unless this is a network."""
    if not isinstance(network, Network):
        raise InputError(f"network must be an nnx.Network, as nnx.mlp makes it; given {shown(network)}")


def checked_parameters(network: Network, params: Any) -> dict[str, Any]:
    """Return the parameters by name, NumPy arrays, checked against the network."""
    check_network(network)
    if isinstance(params, Mapping):
        params = network.flatten({name: as_floats(name, x) for name, x in params.items()})
    theta = as_floats("theta", params)
    if theta.ndim != 1:
        raise InputError(f"theta has shape {theta.shape}; expected ({network.P},): one network, not a stack")
    return network.unflatten(theta)


def as_floats(name: str, x: Any) -> Any:
    """Return x as a NumPy array, float64 or float32."""
    x = host.as_host(host.as_numbers(name, x))
    return x.astype(np.result_type(x.dtype, np.float32), copy=False)


def contiguous_copy(x: Any) -> Any:
    """Return a copy in row-major order."""
    return np.array(x, order="C")


def each_layer(
    network: Network, arrays: Mapping[str, Any] | None
) -> Iterator[tuple[Layer, int, dict[str, Any]]]:
    """Yield every layer, a Residual before those inside it, with n[l-1] and its own parameters, if given."""
    values = iter((arrays or {}).values())

    def walk(layers: Sequence[Layer], n_prev: int) -> Iterator[tuple[Layer, int, dict[str, Any]]]:
        for layer in layers:
            own = (
                {} if layer.layers or arrays is None else {key: next(values) for key in layer.shapes(n_prev)}
            )
            yield layer, n_prev, own
            yield from walk(layer.layers, n_prev)
            n_prev = layer.units(n_prev)

    return walk(network.layers, network.n_features)
