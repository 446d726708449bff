"""The predictions of a network with two features, in the plane."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnx.array.host import as_host, as_numbers
from nnx.errors import InputError, items
from nnx.metrics import decide
from nnx.plots.figure import figure
from nnx.plots.given import drawable, indices
from nnx.plots.style import INK, SEQUENTIAL, colour, drawing, legend, marker
from nnx.plots.texts import EMPTY, class_names, label_list, sampled, short

GRID = 220
"""Points along each axis at which the network predicts."""

IN_LEGEND = 12
"""Classes that the legend names."""

DRAWN = 10_000
"""Samples that are drawn, about, of more."""

MOST = 10_000
"""Classes that are drawn without labels."""


def decision_boundary(
    predict: Callable[[Any], Any],
    X: Any,
    Y: Any,
    labels: Sequence[object] | None = None,
    names: Sequence[str] = ("x1", "x2"),
    target: str = "target",
    title: str = "",
    total: int | None = None,
) -> Any:
    """Draw the classes, or the numbers, that are predicted in the plane, and samples on top.

    Parameters
    ----------
    predict : function
        X (2, m) -> A (n[L], m), as `trainer.predict`; of classes probabilities.
    X : array-like (2, m)
        Samples; the picture reaches a little further than they do.
    Y : array-like (m,) or (1, m)
        Their classes, integers, or, with one output and numbers that are no integers, their values.
    labels : sequence or None
        The classes' names in the order of their indices; None: the indices.
    names : sequence of two str
        The names of the features, with their units.
    target : str
        The name of the numbers, with their unit.
    title : str
    total : int or None
        The number of all samples, if X and Y are only some of them.

    Returns
    -------
    matplotlib.figure.Figure
        Classes: each its colour, paler where the network is less sure, and a marker for each sample. Numbers: lines
        of equal prediction, and the samples in the colours of their true values. Of more than 10,000 samples some are
        drawn, which the picture says.

    Raises
    ------
    InputError
        When X has not two features, or Y is not of its samples.

    Examples
    --------
    >>> import nnx
    >>> from nnx.data import moons
    >>> X, Y = moons(100)
    >>> trainer = nnx.Trainer(nnx.mlp([2, 16, 1], hidden="tanh"), nnx.Adam(0.05), backend="numpy")
    >>> _ = trainer.fit(X, Y, epochs=100)
    >>> figure = nnx.plots.decision_boundary(trainer.predict, X, Y, ["upper", "lower"])
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['upper', 'lower']
    """
    with drawing():
        plane = Plane(X, Y, labels, names, target, title, total=total)
        plane.show(predict(plane.points))
    return plane.figure


class Plane:
    """A picture of the plane with samples, whose predictions can be exchanged: see `decision_boundary`.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    points : array (2, grid^2)
        Where the network is to be asked.
    """

    def __init__(
        self,
        X: Any,
        Y: Any,
        labels: Sequence[object] | None,
        names: Sequence[str],
        target: str,
        title: str,
        grid: int = GRID,
        total: int | None = None,
    ) -> None:
        X, Y = drawable("X", X), as_host(as_numbers("Y", Y))
        Y = Y[0] if Y.ndim == 2 and len(Y) == 1 else Y
        if X.ndim != 2 or len(X) != 2 or Y.shape != X.shape[1:] or not Y.size:
            raise InputError(
                f"a decision boundary is drawn for n[0] = 2 features; given X {X.shape} and Y {Y.shape}, expected "
                "(2, m) and (m,)"
            )
        named = items("names", names, "a list of the two features' names")
        if len(named) != 2:
            raise InputError(f"names must be those of the two features; given {len(named)}")
        self.classes = Y.dtype.kind in "biu" or labels is not None
        self._grid = grid
        low, high = X.min(axis=1), X.max(axis=1)
        apart = high - low > 1e-9 * np.maximum(abs(low), abs(high))
        room = np.where(apart, 0.08 * (high - low), np.maximum(1.0, 0.1 * abs(high)))
        low, high = low - room, high + room
        across = [np.linspace(a, b, grid) for a, b in zip(low, high, strict=True)]
        self.points = np.stack(np.meshgrid(*across)).reshape(2, -1)
        self._extent = (low[0], high[0], low[1], high[1])
        self.figure = figure(6.2 if self.classes else 5.8, 4.4)
        self.axes = self.figure.subplots()
        self.axes.set(xlabel=short(named[0], 40) or EMPTY, ylabel=short(named[1], 40) or EMPTY)
        self.axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        every = -(-len(Y) // DRAWN)
        note = sampled(-(-len(Y) // every), len(Y) if total is None else total)
        self.figure.suptitle("\n".join(filter(None, (short(title, 70), note))))
        X, Y = X[:, ::every], Y[::every]
        self._image: Any = None
        self._lines: Any = None
        size = 22 if len(Y) < 300 else 12 if len(Y) < 2000 else 4
        if self.classes:
            called = None if labels is None else label_list(labels)
            Y = indices("Y", Y, MOST if called is None else len(called))
            K = 1 + int(Y.max()) if called is None else len(called)
            self._colours = np.array([_rgb(colour(k)) for k in range(max(K, 2))])
            self._samples(X, Y, class_names(called, K), size)
        else:
            Y = drawable("Y", Y)
            self._limits = float(Y.min()), float(Y.max())
            if self._limits[0] == self._limits[1]:
                self._limits = self._limits[0] - 0.5, self._limits[1] + 0.5
            shown = self.axes.scatter(*X, c=Y, s=size, cmap=SEQUENTIAL, vmin=self._limits[0], vmax=self._limits[1],
                                      edgecolors="#f5f5f5", linewidths=0.6, zorder=3)  # fmt: skip
            bar = self.figure.colorbar(shown, ax=self.axes, shrink=0.85)
            bar.set_label(short(target, 40) or EMPTY)
            bar.outline.set_visible(False)

    def _samples(self, X: Any, Y: Any, names: Sequence[str], size: float) -> None:
        """Draw each class's samples, and name the classes beside the picture."""
        handles = []
        for k, name in enumerate(names):
            made = self.axes.scatter(*X[:, Y == k], s=size, color=colour(k), marker=marker(k), label=name,
                                     edgecolors="#f5f5f5", linewidths=0.5, zorder=3)  # fmt: skip
            handles.append(made)
        shown = handles[:IN_LEGEND]
        made = legend(self.figure, shown, names[:IN_LEGEND], loc="outside right upper")
        if len(handles) > len(shown):
            made.set_title(f"{len(handles)} classes, the first:", prop={"size": 8})

    def show(self, A: Any) -> None:
        """Draw predictions (n[L], points) in place of the last ones."""
        A = drawable("what predict returns", A)
        if A.ndim != 2 or A.shape[1] != self.points.shape[1] or not len(A):
            raise InputError(
                f"predict must return A (n[L], m) for X {self.points.shape}; it returned {A.shape}"
            )
        values = self._of_classes(A) if self.classes else A[0].reshape(self._grid, self._grid)
        if self._image is None:
            options: Any = {"origin": "lower", "extent": self._extent, "aspect": "auto", "zorder": 1}
            if not self.classes:
                options |= {"cmap": SEQUENTIAL, "vmin": self._limits[0], "vmax": self._limits[1]}
            self._image = self.axes.imshow(values, interpolation="bilinear", **options)
        else:
            self._image.set_data(values)
        if self._lines is not None:
            self._lines.remove()
        self._lines = self._boundaries(A)

    def _of_classes(self, A: Any) -> Any:
        """Return a colour for each point, that of its class: the surer the network, the less transparent."""
        k = decide(A, 0.5)
        sure = (np.abs(2 * A[0] - 1) if len(A) == 1 else _margin(A)).clip(0, 1)
        rgba = np.concatenate([self._colours[k % len(self._colours)], 0.12 + 0.38 * sure[:, None]], axis=1)
        return rgba.reshape(self._grid, self._grid, 4)

    def _boundaries(self, A: Any) -> Any:
        """Draw where the classes meet, or lines of equal numbers."""
        square = self.points.reshape(2, self._grid, self._grid)
        if not self.classes:
            values = A[0].reshape(self._grid, self._grid)
            if not np.ptp(values) > 0:
                return None
            return self.axes.contour(
                *square, values, 8, colors="#f5f5f5", linewidths=0.6, alpha=0.7, zorder=2
            )
        if len(A) == 1:
            return self._contour(square, A[0].reshape(self._grid, self._grid) - 0.5)
        from matplotlib.collections import LineCollection

        segments: list[Any] = []
        for k in np.unique(decide(A)):
            others = np.delete(A, k, axis=0).max(axis=0)
            made = self._contour(square, (A[k] - others).reshape(self._grid, self._grid))
            if made is not None:
                segments += [part for level in made.allsegs for part in level if len(part) > 1]
                made.remove()
        lines = LineCollection(segments, colors=INK, linewidths=1.0, zorder=2)
        self.axes.add_collection(lines, autolim=False)
        return lines

    def _contour(self, square: Any, values: Any) -> Any:
        if not (values.min() < 0 < values.max()):
            return None
        return self.axes.contour(*square, values, [0.0], colors=INK, linewidths=1.0, zorder=2)


def _margin(A: Any) -> Any:
    """Return by how much the first class is more probable than the second."""
    two = np.partition(A, -2, axis=0)[-2:]
    return two[1] - two[0]


def _rgb(hexadecimal: str) -> tuple[float, ...]:
    return tuple(int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5))
