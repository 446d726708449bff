"""The weights of the first layer as images, where the input is one."""

from math import isqrt, prod
from typing import Any

import numpy as np

from nnx.errors import InputError, count, items, positive_int
from nnx.plots.figure import figure
from nnx.plots.given import drawable
from nnx.plots.style import DIVERGING, drawing
from nnx.plots.texts import short


def first_layer(W: Any, shape: tuple[int, ...] | None = None, most: int = 64, title: str = "") -> Any:
    """Draw the weights W[1] of units as images: the pattern to which each responds.

    Parameters
    ----------
    W : array-like (n[1], n[0])
        `trainer.parameters["W1"]`.
    shape : (h, w), (h, w, 3) or None
        Of the input; None: a square, grey or, where n[0] is three times one, coloured.
    most : int
        Units that are drawn: those with the largest sum of squares, the largest first.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Grey images: one scale of colours for all, zero in its middle. Coloured ones: zero is mid-grey, and each
        unit's largest weight has full intensity.

    Raises
    ------
    InputError
        When n[0] is not the number of the image's values.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.mlp([64, 16, 10], output="softmax")
    >>> figure = nnx.plots.first_layer(net.unflatten(net.init(seed=0))["W1"])
    >>> figure.axes[0].images[0].get_array().shape  # 4 rows of 4 images of 8 by 8, a pixel between
    (35, 35)
    """
    W = drawable("W", W)
    if W.ndim != 2 or not W.size:
        raise InputError(f"W must be (n[1], n[0]), at least one unit; given {W.shape}")
    found = square(W.shape[1]) if shape is None else _sides(shape)
    if (
        found is None
        or prod(found) != W.shape[1]
        or len(found) not in (2, 3)
        or found[2:] not in ((), (1,), (3,))
    ):
        raise InputError(
            f"n[0] = {W.shape[1]} values are no image of shape {found or '(h, h) or (h, h, 3)'}; give its shape (h, w) "
            "or (h, w, 3)"
        )
    coloured = found[2:] == (3,)
    order = np.argsort(-(W**2).sum(axis=1), kind="stable")[: positive_int("most", most)]
    columns = _columns(len(order))
    rows = -(-len(order) // columns)
    limit = (
        float(np.quantile(np.abs(W[order]), 0.998)) or 1.0
    )  # else a single weight would make the others pale
    mosaic = _mosaic(W[order].reshape(-1, *found), columns, coloured)
    height, width = (0.75 * side / max(found[:2]) for side in found[:2])
    with drawing():
        made = figure(max(4.0, columns * width + (0.3 if coloured else 1.0)), rows * height + 0.6)
        axes = made.subplots()
        axes.set_axis_off()
        of = f"the {len(order)} largest of {len(W)} units" if len(order) < len(W) else count(len(W), "unit")
        made.suptitle(f"{short(title, 50)}\n".lstrip() + f"W[1], {of}")
        if coloured:
            axes.imshow(mosaic, interpolation="nearest")
            return made
        shown = axes.imshow(mosaic, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
        bar = made.colorbar(shown, ax=axes, shrink=min(1.0, 3.0 / (rows * height)), pad=0.02, extend="both")
        bar.set_label("weight")
        bar.outline.set_visible(False)
    return made


def _sides(shape: Any) -> tuple[int, ...]:
    return tuple(positive_int("shape", side) for side in items("shape", shape, "(h, w) or (h, w, 3)"))


def _columns(n: int) -> int:
    """Return in how many columns n images are shown: not fewer than rows, and so that few places stay empty."""
    side = isqrt(n - 1) + 1
    return min(range(side, min(n, side + side // 2) + 1), key=lambda columns: -n % columns)


def _mosaic(images: Any, columns: int, coloured: bool) -> Any:
    """Return images (units, h, w, ...) in rows, one pixel apart, as one: (h', w') or, coloured, RGBA (h', w', 4)."""
    if coloured:
        largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
        images = 0.5 + 0.5 * images / np.where(largest > 0, largest, 1.0)
        images = np.concatenate([images, np.ones_like(images[..., :1])], axis=3)
    else:
        images = images.reshape(images.shape[:3])
    blank, (h, w) = 0.0 if coloured else np.nan, images.shape[1:3]  # blank parts are transparent
    rows = -(-len(images) // columns)
    mosaic = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, *images.shape[3:]), blank)
    for k, image in enumerate(images):
        top, left = k // columns * (h + 1), k % columns * (w + 1)
        mosaic[top : top + h, left : left + w] = image
    return mosaic


def square(n: int) -> tuple[int, ...] | None:
    """Return the shape of a square image of n values, grey or coloured, if there is one.

    Examples
    --------
    >>> square(784), square(3072), square(30)
    ((28, 28), (32, 32, 3), None)
    """
    for side, channels in ((isqrt(n), ()), (isqrt(n // 3), (3,))):
        if side > 1 and side * side * prod(channels) == n:
            return side, side, *channels
    return None
