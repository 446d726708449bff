"""A recipe for handwritten digits, and what each of its parts is good for.

`python -m nnx.bench.recipe IMAGES LABELS` trains on 8,000 of MNIST's 10,000 test images (two IDX files, gzipped or
not) and prints the accuracy on the other 2,000; `--table` measures the recipe's parts, too.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeAlias

import numpy as np

import nnx
from nnx.data.idx import read_idx
from nnx.data.source import Samples
from nnx.data.splits import split
from nnx.errors import positive_int

Array: TypeAlias = np.ndarray[Any, Any]
Digits: TypeAlias = tuple[Array, Array]
"""Images (m, side, side) with numbers in [0, 1], and their classes (m,)."""


@dataclass(frozen=True)
class Recipe:
    """All that is chosen; as it stands, what was best on a validation part of the 8,000.

    Attributes
    ----------
    hidden : tuple of int
        n[1], ..., n[L-1].
    activation : str
    moves : bool
        Whether each image is moved a little, anew in every epoch: see `moved`.
    smoothing : float
        Of the labels.
    norm : type of Layer or None
        Stands between each hidden layer's Z and its activation.
    average : float or None
        The decay of the moving average of theta by which is predicted.
    dropout, noise : float
        The rate after each hidden layer; the standard deviation of the noise on the input.
    decay : float
        AdamW's.
    residual : bool
        Whether there is a way around each hidden layer that has as many units as the one before.
    rate, batch_size, epochs
        Of Adam; of the fit.
    schedule : function (rate, steps=...) -> Schedule, or None
    """

    hidden: tuple[int, ...] = (512, 256)
    activation: str = "relu"
    moves: bool = True
    smoothing: float = 0.1
    norm: type[nnx.Layer] | None = nnx.BatchNorm
    average: float | None = 0.995
    dropout: float = 0.0
    noise: float = 0.0
    decay: float = 0.0
    residual: bool = False
    rate: float = 0.002
    schedule: Callable[..., Any] | None = None
    batch_size: int = 128
    epochs: int = 40

    def network(self, n_features: int, n_classes: int) -> nnx.Network:
        """Return the network."""
        layers: list[nnx.Layer] = [nnx.GaussianNoise(self.noise)] if self.noise else []
        n_prev = n_features
        for n in self.hidden:
            block = [
                nnx.Dense(n, init="he"),
                *([self.norm()] if self.norm else []),
                nnx.Activate(self.activation),
            ]
            if self.dropout:
                block.append(nnx.Dropout(self.dropout))
            layers += [nnx.Residual(block)] if self.residual and n == n_prev else block
            n_prev = n
        return nnx.Network(n_features, [*layers, nnx.Dense(n_classes)], output="softmax")

    def fit(self, images: Array, labels: Array, seed: int = 0) -> nnx.Trainer:
        """Return the trained trainer, its theta the moving average."""
        m, n_classes = len(images), int(labels.max()) + 1
        steps = self.epochs * -(-m // self.batch_size)
        rate = self.schedule(self.rate, steps=steps) if self.schedule else self.rate
        trainer = nnx.Trainer(
            self.network(images[0].size, n_classes),
            nnx.AdamW(rate, weight_decay=self.decay),
            regularization=nnx.Regularization(label_smoothing=self.smoothing),
            backend="numpy",
            seed=seed,
        )
        average = nnx.MovingAverage(self.average) if self.average else None
        rng = np.random.default_rng(seed)

        def batches() -> Iterator[Digits]:
            """Return the batches of one epoch."""
            order = rng.permutation(m)
            for start in range(0, m, self.batch_size):
                some = order[start : start + self.batch_size]
                yield columns(moved(rng, images[some]) if self.moves else images[some]), labels[some]

        trainer.fit(batches, epochs=self.epochs, callbacks=average, progress=False)
        if average:
            trainer.theta = average.theta
        return trainer


def columns(images: Array) -> Array:
    """Return X (n[0], m) of images (m, side, side)."""
    return images.reshape(len(images), -1).T


def moved(
    rng: np.random.Generator, images: Array, turn: float = 12.0, zoom: float = 0.12, shift: float = 0.07
) -> Array:
    """Return images (m, side, side), each turned, stretched and shifted at random, by bilinear interpolation.

    Parameters
    ----------
    turn : float
        At most so many degrees.
    zoom, shift : float
        Each axis is stretched by a factor of at most e^zoom, and shifted by at most this share of its length.
    """
    m, side, _ = images.shape
    angle, stretch, by = (
        rng.uniform(-most, most, (k, m, 1, 1)).astype(images.dtype)
        for k, most in ((1, np.radians(turn)), (2, zoom), (2, shift * side))
    )
    stretch, middle = np.exp(stretch), (side - 1) / 2
    grid = np.arange(side, dtype=images.dtype) - middle
    row, column = stretch[0] * grid[:, None], stretch[1] * grid
    # Where each pixel comes from, beyond the edge what is at the edge:
    y = np.clip(np.cos(angle[0]) * row - np.sin(angle[0]) * column + middle + by[0], 0, side - 1)
    x = np.clip(np.sin(angle[0]) * row + np.cos(angle[0]) * column + middle + by[1], 0, side - 1)
    y0, x0 = (np.minimum(np.floor(at), side - 2) for at in (y, x))
    y, x = y - y0, x - x0
    first = np.arange(m)[:, None, None] * side**2 + (y0 * side + x0).astype(int)
    a, b, c, d = (images.ravel()[first + to] for to in (0, 1, side, side + 1))
    above, below = a + x * (b - a), c + x * (d - c)
    moved: Array = above + y * (below - above)
    return moved


RECIPE = Recipe()
PLAIN = Recipe(moves=False, smoothing=0, norm=None, average=None)

PARTS: dict[str, Recipe] = {
    "plain: 784-512-256-10, ReLU, Adam": PLAIN,
    "+ label smoothing 0.1": (smoothed := replace(PLAIN, smoothing=0.1)),
    "+ moved images": (moving := replace(smoothed, moves=True)),
    "+ BatchNorm": replace(moving, norm=nnx.BatchNorm),
    "+ MovingAverage(0.995): the recipe": RECIPE,
    "the recipe without label smoothing": replace(RECIPE, smoothing=0),
    "the recipe without moved images": replace(RECIPE, moves=False),
    "the recipe without BatchNorm": replace(RECIPE, norm=None),
    "the recipe with LayerNorm in its place": replace(RECIPE, norm=nnx.LayerNorm),
    "the recipe with gelu": replace(RECIPE, activation="gelu"),
    "the recipe with Dropout(0.2)": replace(RECIPE, dropout=0.2),
    "the recipe with GaussianNoise(0.2) on the input": replace(RECIPE, noise=0.2),
    "the recipe with AdamW(weight_decay=0.05)": replace(RECIPE, decay=0.05),
    "the recipe with Cosine": replace(RECIPE, schedule=nnx.schedules.Cosine),
    "the recipe with 512-512-512, Residual": replace(RECIPE, hidden=(512, 512, 512), residual=True),
}
"""The rows of the table: first the parts one after the other, then the recipe without one, or with one more."""


def held_out(images: Array, labels: Array, share: float = 0.2) -> tuple[Digits, Digits]:
    """Return the digits to train on, and a stratified share of them that is held out: always the same."""
    train, held = split(Samples(images, labels, [], "label"), "classification", share, seed=0)
    return (images[train], labels[train]), (images[held], labels[held])


def measure(recipe: Recipe, train: Digits, held: Digits, seeds: Sequence[int]) -> tuple[list[float], float]:
    """Return the accuracy on what is held out of each seed, in percent, and the processor's seconds of a fit."""
    accuracies, seconds = [], 0.0
    for seed in seeds:
        start = time.process_time()
        trainer = recipe.fit(*train, seed)
        seconds += time.process_time() - start
        accuracies.append(100 * float(trainer.evaluate(columns(held[0]), held[1])["accuracy"]))
    return accuracies, seconds / len(seeds)


def rows(recipes: Mapping[str, Recipe], train: Digits, held: Digits, seeds: Sequence[int]) -> Iterator[str]:
    """Yield a table in Markdown, row by row."""
    yield f"| network | accuracy on {len(held[0]):,}, % | its deviation over {len(seeds)} seeds | processor seconds |"
    yield "|---|---:|---:|---:|"
    for name, recipe in recipes.items():
        accuracies, seconds = measure(recipe, train, held, seeds)
        spread = stdev(accuracies) if len(seeds) > 1 else 0.0
        yield f"| {name} | {mean(accuracies):.2f} | {spread:.2f} | {seconds:.1f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the recipe's accuracy, or the table."""
    parser = argparse.ArgumentParser(prog="python -m nnx.bench.recipe", description=__doc__)
    parser.add_argument("images", type=Path, help="MNIST's test images: t10k-images-idx3-ubyte, or .gz")
    parser.add_argument("labels", type=Path, help="their labels: t10k-labels-idx1-ubyte, or .gz")
    parser.add_argument("--seeds", type=int, default=5, help="how many fits a row is the mean of")
    parser.add_argument("--table", action="store_true", help="measure the parts, too")
    given = parser.parse_args(arguments)
    images, labels = read_idx(given.images).astype("float32") / 255, read_idx(given.labels)
    train, held = held_out(images, labels)
    seeds = range(positive_int("--seeds", given.seeds))
    for row in rows(PARTS if given.table else {"the recipe": RECIPE}, train, held, seeds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
