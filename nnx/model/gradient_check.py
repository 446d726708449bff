"""The gradient of a network, compared with differences of its cost."""

from nnx.array.host import generator, key
from nnx.errors import InputError, shown
from nnx.model import custom
from nnx.model.network import Network
from nnx.model.outputs.custom import some_targets

ENTRIES = 8
"""The most numbers of a parameter that are compared."""


def check_gradient(network: Network, seed: int = 0) -> None:
    """Raise an InputError if a network's gradient is not the derivative of its cost: for layers of your own.

    It compares the gradient with central differences of the cost, in float64 on NumPy, for some numbers of every
    parameter, at random parameters and samples. It begins at the output. So the parameter that it names belongs to
    the layer with the fault, or to the layer before.

    Parameters
    ----------
    network : Network
    seed : int
        The seed of the parameters and the samples.

    Raises
    ------
    InputError
        When a derivative is wrong: the parameter, its derivative, and the right one.

    Examples
    --------
    >>> import nnx
    >>> nnx.check_gradient(nnx.mlp([4, 8, 3], hidden="gelu"))
    """
    if not isinstance(network, Network):
        raise InputError(f"network must be an nnx.Network; given {shown(network)}")
    rng = generator(seed)
    X, Y = rng.standard_normal((network.n_features, 16)), some_targets(network.output, network.n[-1])
    random = custom.array(key(seed), "int32") if network.random else None
    # Random ones beside the first: a parameter of 0 can hide a fault. Two: at a kink of one the other has none.
    first = network.init(seed, "float64")
    thetas = [first + 0.1 * rng.standard_normal(network.P) for _ in range(2)]
    found = [network.loss_and_gradient(theta, X, Y, key=random)[1] for theta in thetas]
    for name, place in reversed(network.places.items()):
        if name in network.statistics + network.fixed:
            continue
        for i in range(place.start, place.stop, (place.stop - place.start - 1) // ENTRIES + 1):
            for theta, dtheta in zip(thetas, found, strict=True):
                step = custom.unit(network.P, i) * custom.STEP
                slope = custom.slope(lambda x: network.loss_and_gradient(x, X, Y, key=random)[0], theta, step)
                if not custom.far(dtheta[i], slope):
                    break
            else:
                at = custom.place(i - place.start, network.shapes[name])
                raise InputError(
                    f"the derivative of {name}{at} is {dtheta[i]:.6g}, where the cost changes by {slope:.6g} (central "
                    "differences); see the backward of its layer and of the layer after it"
                )
