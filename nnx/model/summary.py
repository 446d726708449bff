"""A network as a table: its layers, their parameters, and the numbers that a training step saves for backward."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.display import html
from nnx.errors import count, size
from nnx.model.layers import Context, Layer, changed, forward
from nnx.support.members import member

NUMBERS = {"l", "units", "parameters", "not learned", "kept"}
"""Columns of numbers."""


@dataclass(frozen=True)
class Row:
    """A layer.

    Attributes
    ----------
    l : int or None
        Its number, where it has weights W; 0 is the input.
    kind : str
        The name of its class.
    depth : int
        The number of layers around it, such as Residual.
    units : int
        n[l], its outputs.
    shapes : dict
        The shapes of its parameters by their names in the network: {"W1": (n[1], n[0]), ...}. Empty for a layer with
        layers inside.
    activation : str
        The activation of a Dense; for the last one the output's link and loss.
    parameters : int
        The number of its parameters.
    not_learned : int
        The number of those that are not learned: running statistics.
    kept : int
        The numbers a sample that a training step saves for backward, beside X and those of other layers.
    """

    l: int | None
    kind: str
    depth: int
    units: int
    shapes: dict[str, tuple[int, ...]]
    activation: str
    parameters: int
    not_learned: int
    kept: int

    @property
    def cells(self) -> dict[str, str]:
        """Its cells by the names of the columns; a zero is empty."""
        groups = groupby(self.shapes.items(), lambda item: item[1])
        return {
            "l": "" if self.l is None else str(self.l),
            "kind": "  " * self.depth + self.kind,
            "units": f"{self.units:,}",
            "shapes": ", ".join(f"{' '.join(name for name, _ in same)} {shape}" for shape, same in groups),
            "activation": self.activation,
            "parameters": f"{self.parameters:,}" if self.parameters else "",
            "not learned": f"{self.not_learned:,}" if self.not_learned else "",
            "kept": f"{self.kept:,}" if self.kept else "",
        }


@dataclass(frozen=True, repr=False)
class Summary:
    """The result of `Network.summary`; as a string, a table.

    Attributes
    ----------
    rows : tuple of Row
        The input, then every layer; a layer with layers inside stands before them.
    """

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """The number of parameters, P."""
        return sum(row.parameters for row in self.rows)

    @property
    def not_learned(self) -> int:
        """The number of parameters that are not learned."""
        return sum(row.not_learned for row in self.rows)

    @property
    def kept(self) -> int:
        """The numbers a sample that a training step saves for backward, beside X."""
        return sum(row.kept for row in self.rows)

    @property
    def bytes(self) -> int:
        """The size of theta in float32; Adam's own vectors take twice as much."""
        return 4 * self.parameters

    def __str__(self) -> str:
        cells = [row.cells for row in self.rows]
        names = [name for name in cells[0] if any(row[name] for row in cells)]
        table = [names, *([row[name] for name in names] for row in cells)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                text.rjust(width) if name in NUMBERS else text.ljust(width)
                for name, text, width in zip(names, row, widths, strict=True)
            ).rstrip()
            for row in table
        ]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", self.total])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.table([row.cells for row in self.rows], NUMBERS, self.total)

    @property
    def total(self) -> str:
        """The totals, in a sentence."""
        fixed = f" ({self.not_learned:,} of them not learned)" if self.not_learned else ""
        return (
            f"{count(self.parameters, 'parameter')}{fixed}, {size(self.bytes)} in float32; "
            f"kept for backward {count(self.kept, 'number')} a sample, {size(4 * self.kept)}"
        )


def summary(n_features: int, layers: Sequence[Layer], names: Iterable[str], output: str) -> Summary:
    """Return the layers of a network, their parameters, and the numbers that a training step saves for backward.

    It counts these numbers by the layers' own forward propagation of a few samples, so that it knows your own layers,
    too.

    Parameters
    ----------
    n_features : int
        n[0].
    layers : sequence of Layer
    names : iterable of str
        The parameters' names in the network, in theta's order.
    output : str
        The output's link and loss.

    Examples
    --------
    >>> from nnx import Dense, LayerNorm, Network, Residual
    >>> net = Network(8, [Dense(4, "tanh"), Residual([LayerNorm(), Dense(4, "relu")]), Dense(3)], "softmax")
    >>> print(net.summary())
    l  kind         units  shapes                activation              parameters  kept
    -------------------------------------------------------------------------------------
    0  input            8
    1  Dense            4  W1 (4, 8), b1 (4, 1)  tanh                            36     4
       Residual         4
         LayerNorm      4  gamma1 beta1 (4, 1)                                    8     5
    2    Dense          4  W2 (4, 4), b2 (4, 1)  relu                            20     8
    3  Dense            3  W3 (3, 4), b3 (3, 1)  softmax, cross-entropy          15     4
    <BLANKLINE>
    79 parameters, 316 bytes in float32; kept for backward 21 numbers a sample, 84 bytes
    """
    left, total = iter(names), 0
    kept = iter(_kept(n_features, layers))
    rows = [Row(0, "input", 0, n_features, {}, "", 0, 0, 0)]

    def walk(layers: Sequence[Layer], n_prev: int, depth: int) -> None:
        nonlocal total
        for layer in layers:
            n, own = layer.units(n_prev), {} if layer.layers else layer.shapes(n_prev)
            total += "W" in own
            rows.append(
                Row(
                    total if "W" in own else None,
                    type(layer).__name__,
                    depth,
                    n,
                    {next(left): shape for shape in own.values()},
                    str(layer.describe().get("activation") or ""),
                    sum(map(prod, own.values())),
                    sum(prod(own[key]) for key in layer.statistics + layer.fixed if key in own),
                    0 if layer.layers else next(kept),
                )
            )
            walk(layer.layers, n_prev, depth + 1)
            n_prev = n

    walk(layers, n_features, 0)
    rows[-1] = Row(**{**vars(rows[-1]), "activation": output})
    return Summary(tuple(rows))


def _kept(n_features: int, layers: Sequence[Layer]) -> list[int]:
    """Return the numbers a sample that each layer saves: the difference between three samples and two."""
    layers = changed(layers, lambda _, layer: member(layer, 0))  # of a stack all members save as many
    two, three = (_kept_of(n_features, layers, m) for m in (2, 3))
    return [more - less for more, less in zip(three, two, strict=True)]


@host.quiet()
def _kept_of(n_features: int, layers: Sequence[Layer], m: int) -> list[int]:
    """Return the number of numbers that each layer saves for m samples."""
    one = host.as_dtype(1.0, "float32")
    xp = array_namespace(one)

    def params(layers: Sequence[Layer], n_prev: int) -> list[Any]:
        made: list[Any] = []
        for layer in layers:
            shapes = layer.shapes(n_prev).items()  # each is a single 1 in memory, whatever its shape
            own = {key: xp.broadcast_to(one, shape) for key, shape in shapes}
            made.append(params(layer.layers, n_prev) if layer.layers else own)
            n_prev = layer.units(n_prev)
        return made

    X = xp.broadcast_to(one, (n_features, m))
    context = Context(training=True, key=xp.asarray(host.key(0), dtype=xp.int32))
    _, keeps = forward(layers, params(layers, n_features), X, context)
    seen = [X]  # A[l] counts once: it is layer l's output and layer l + 1's input

    def sizes(layers: Sequence[Layer], keeps: Sequence[Any]) -> Iterator[int]:
        for layer, keep in zip(layers, keeps, strict=True):
            if layer.layers:
                yield from sizes(layer.layers, keep)
                continue
            new = []
            for x in _arrays(keep):
                if not any(x is other for other in seen):
                    seen.append(x)
                    new.append(prod(x.shape))
            yield sum(new)

    return list(sizes(layers, keeps))


def _arrays(keep: Any) -> Iterator[Array]:
    """Yield the arrays in a tuple, list or dict that a layer saves."""
    if hasattr(keep, "shape"):
        yield keep
    elif isinstance(keep, dict | tuple | list):
        for part in keep.values() if isinstance(keep, dict) else keep:
            yield from _arrays(part)
