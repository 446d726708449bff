"""The part of a step that one rank computes, where the ranks of a run train one network together."""

from typing import NamedTuple

from nnx.array.all_reduce import all_reduce
from nnx.array.namespace import Array, array_namespace
from nnx.errors import InputError
from nnx.model.network import Network
from nnx.port.communicator import Communicator


class Share(NamedTuple):
    """The part of each batch that this process computes."""

    communicator: Communicator
    start: int
    """The place of its first sample in the batch."""


def of_all_ranks(sums: dict[str, Array], communicator: Communicator) -> dict[str, Array]:
    """Return the sums over the samples of all ranks, from those of this one: J, dtheta and the weight (`Sums`).

    It is one sum of one vector (P + 2,).
    """
    xp = array_namespace(sums["J"])
    numbers = [xp.reshape(sums[name], (1,)) for name in ("J", "weight")]
    vector = all_reduce(xp.concat([sums["dtheta"], *numbers]), communicator)
    return {"dtheta": vector[:-2], "J": vector[-2], "weight": vector[-1]}


def check_network(network: Network) -> None:
    """Raise an InputError if a layer needs the samples of all ranks at once."""
    if network.whole_batches:
        raise InputError(
            "BatchNorm cannot be trained on several ranks: it needs the mean and the variance of the whole batch, of "
            "which each rank has a part; use LayerNorm, or one rank"
        )
