"""The pictures of a run: which of them suit it, and leaving them in its folder."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnx.callbacks import Callback, Snapshots
from nnx.errors import first_line
from nnx.model.network import Network
from nnx.plots import held_out
from nnx.plots.animation import animated_boundary
from nnx.plots.boundary import decision_boundary
from nnx.plots.comparison import comparison
from nnx.plots.confusion import confusion_matrix
from nnx.plots.curves import learning_curves
from nnx.plots.held_out import HELD_OUT
from nnx.plots.regression import predicted_against_true
from nnx.plots.roc import roc
from nnx.plots.style import save
from nnx.plots.weights import first_layer, square

TRAINING_SAMPLE = "training_sample"
"""Of a trainer's metadata: how many of the training samples the training's scores in its history are of."""

REGIONS, CURVES = 200, 500
"""Classes up to which a plane, and ROC curves, are drawn: they need memory and time for each class."""

FRAMES, NUMBERS = 40, 2**22
"""Pictures of an animation; numbers that are kept for one."""


@dataclass(frozen=True)
class Left:
    """The data of a run's pictures.

    Attributes
    ----------
    title : str
    trainer : Trainer
    preparation : nnx.data.Preparation or None
        The names of the classes and features, and the target's unit.
    held : HeldOut or None
    """

    title: str
    trainer: Any
    preparation: Any = None
    held: held_out.HeldOut | None = None

    @property
    def of_held(self) -> str:
        """The title of a picture of the samples held out, which says whether they are the test part's."""
        parts = self.trainer.metadata.get("parts")
        tested = isinstance(parts, dict) and parts.get("test") is not None
        return f"{self.title}, {'test part' if tested else 'held out'}"

    @property
    def labels(self) -> list[Any] | None:
        """The classes' names."""
        return None if self.preparation is None else self.preparation.labels

    @property
    def target(self) -> str:
        """The name of the target."""
        return "target" if self.preparation is None else str(self.preparation.target)


Draw = Callable[[Path], None]
"""Draws a picture to a file."""


def _learning_curve(left: Left) -> Draw | None:
    return _saved(_curves, left) if left.trainer.history else None


def _curves(left: Left) -> Any:
    """Draw the learning curves, errors in the target's own unit."""
    history, preparation = left.trainer.history, left.preparation
    sample = left.trainer.metadata.get(TRAINING_SAMPLE)
    if preparation is None or preparation.labels is not None:
        return learning_curves(history, left.title, sample)
    drawn = learning_curves(preparation.in_units(history), left.title, sample)
    drawn.axes[0].set_ylabel("cost J of the scaled target")
    return drawn


def _many(left: Left, most: int) -> bool:
    """Whether there are more classes than that."""
    return bool(left.trainer.network.output.classes) and int(left.trainer.network.n[-1]) > most


def _confusion_matrix(left: Left) -> Draw | None:
    held, output = left.held, left.trainer.network.output
    if held is None or not output.classes or not len(held.y) or held.y.ndim == 2:
        return None
    return _saved(confusion_matrix, held.y, _decided(held.A, output), _names(left), left.of_held, held.total)


def _roc(left: Left) -> Draw | None:
    held = left.held
    if held is None or not left.trainer.network.output.classes or len(set(held.y.ravel().tolist())) < 2:
        return None
    if _many(left, CURVES):
        return None
    return _saved(roc, held.y, held.A, _names(left), left.of_held, held.total)


def _predicted_against_true(left: Left) -> Draw | None:
    held = left.held
    if held is None or left.trainer.network.output.classes or len(held.A) != 1 or not len(held.y):
        return None
    predicted = _numbers(left, held.A)
    return _saved(predicted_against_true, held.y, predicted, left.target, left.of_held, held.total)


def _first_layer(left: Left) -> Draw | None:
    if left.trainer.each:  # a matrix for each member
        return None
    shape, W = image_shape(left.preparation), left.trainer.parameters.get("W1")
    if shape is None or W is None or W.shape[1] != left.trainer.network.n[0]:
        return None
    return _saved(first_layer, W, shape, title=left.title)


def _decision_boundary(left: Left) -> Draw | None:
    if left.held is None or left.held.X is None or left.held.y.ndim == 2 or _many(left, REGIONS):
        return None
    to_X, arguments = _plane(left)

    def predict(points: Any) -> Any:
        return _numbers(left, left.trainer._predictor.predict(to_X(points)), keep=True)

    return _saved(decision_boundary, predict, *arguments, left.of_held, left.held.total)


def _animation(left: Left) -> Draw | None:
    held, network = left.held, left.trainer.network
    if held is None or held.X is None or held.y.ndim == 2 or len(held.epochs) < 2 or _many(left, REGIONS):
        return None
    to_X, arguments = _plane(left)

    def predict(theta: Any, points: Any) -> Any:
        return _numbers(left, network.forward(theta, to_X(points).astype(theta.dtype)), keep=True)

    X, y, labels, names, target = arguments
    kept = "the model kept" if left.trainer.kept is None else f"epoch {left.trainer.kept}, which was kept"
    epochs = [kept if epoch == held_out.KEPT else int(epoch) for epoch in held.epochs]

    def draw(path: Path) -> None:
        animated_boundary(
            predict, held.thetas, epochs, X, y, path, labels, names, target, left.of_held, held.total
        )

    return draw


PICTURES: dict[str, Callable[[Left], Draw | None]] = {
    "learning_curve": _learning_curve,
    "confusion_matrix": _confusion_matrix,
    "roc": _roc,
    "predicted_against_true": _predicted_against_true,
    "first_layer": _first_layer,
    "decision_boundary": _decision_boundary,
    "animation": _animation,
}
"""Every picture of a run by its name, with its function; None if it does not suit the run."""

JOINT = {"learning_curves": learning_curves, "comparison": comparison}
"""The pictures of several runs."""

FORMATS = ("png", "svg", "pdf")


def file_name(kind: str, format: str = "png") -> str:
    """Return the name of a picture's file: an animation is a GIF in any case.

    Examples
    --------
    >>> file_name("roc", "svg"), file_name("animation", "svg")
    ('roc.svg', 'decision_boundary.gif')
    """
    return "decision_boundary.gif" if kind == "animation" else f"{kind}.{format}"


def callbacks(network: Network) -> list[Callback]:
    """Return the callbacks of a fit that `leave` needs for its pictures: snapshots if n[0] = 2."""
    most = min(FRAMES, NUMBERS // network.P)
    return [Snapshots(most)] if network.n[0] == 2 and most >= 2 else []


def leave(
    folder: str | Path,
    title: str,
    trainer: Any,
    preparation: Any,
    X: Any,
    Y: Any,
    y: Any,
    *,
    snapshots: Sequence[Callback] = (),
    pictures: bool = True,
    complain: Callable[[str], None] = warnings.warn,
) -> list[str]:
    """Write the pictures that suit a run into its folder, with their data.

    A picture that cannot be drawn is a complaint, and no error.

    Parameters
    ----------
    folder : path
    title : str
        Of the pictures.
    trainer : Trainer
    preparation : nnx.data.Preparation or None
    X, Y, y : arrays
        The held-out samples: X (n[0], m) prepared, Y as trained, y (m,) the target's own values. None: there are none.
    snapshots : list
        The result of `callbacks`, after the fit with them.
    pictures : bool
        Whether to draw; if not, `nnx plot` can do so later.
    complain : function
        Takes a sentence that names the picture and the reason.

    Returns
    -------
    list of str
        The names of the files. Those that an earlier run left under these names are removed.
    """
    folder, kept, held = Path(folder), [], None
    try:
        for name in (HELD_OUT, *(file_name(kind, format) for kind in PICTURES for format in FORMATS)):
            (folder / name).unlink(missing_ok=True)
        if y is not None and len(y):
            held = held_out.of(trainer, X, Y, y, next(iter(snapshots), None))
            held_out.write(held, folder / HELD_OUT)
            kept.append(HELD_OUT)
    except Exception as error:
        complain(f"{HELD_OUT} could not be written: {first_line(error)}")
    if not pictures:
        return kept
    left = Left(title, trainer, preparation, held)
    return draw(left, {kind: folder / file_name(kind) for kind in PICTURES}, complain) + kept


def draw(left: Left, paths: dict[str, Path], complain: Callable[[str], None]) -> list[str]:
    """Draw those pictures that suit a run, each to its path; return the names of the files."""
    written = []
    for kind, path in paths.items():
        try:
            drawing = PICTURES[kind](left)
            if drawing is not None:
                drawing(path)
                written.append(path.name)
        except Exception as error:
            complain(f"{path.name} could not be drawn: {first_line(error)}")
    return written


def _saved(function: Callable[..., Any], *arguments: Any, **options: Any) -> Draw:
    return lambda path: save(function(*arguments, **options), path)


def _decided(A: Any, output: Any) -> Any:
    from nnx.metrics import decide

    return decide(A, output.threshold)


def _names(left: Left) -> list[Any]:
    """Return the classes' names, or their indices."""
    n = left.trainer.network.n[-1]
    return left.labels or [*range(max(n, 2))]


def _numbers(left: Left, A: Any, keep: bool = False) -> Any:
    """Return predicted numbers in the target's unit; classes' probabilities, which have none, as they are."""
    if left.trainer.network.output.classes or left.preparation is None:
        return A if keep or left.trainer.network.output.classes else A[0]
    y = left.preparation.y(A)
    return [y] if keep else y


def _plane(left: Left) -> tuple[Callable[[Any], Any], list[Any]]:
    """Return what makes points X for the network, and X, Y, the labels, names and target of `decision_boundary`.

    Features that were scaled are shown in their own units.
    """
    held, preparation = left.held, left.preparation
    assert held is not None
    names = ["x1", "x2"] if preparation is None else list(preparation.inputs)
    classes = left.trainer.network.output.classes
    rest = [held.y, _names(left) if classes else None, names, left.target]
    if preparation is None:
        return lambda points: points, [held.X, *rest]
    (a, b), (c, d) = preparation.mean, preparation.scale
    mean, scale = held.X[:, :1] * 0, held.X[:, :1] * 0
    mean[0], mean[1], scale[0], scale[1] = a, b, c, d
    return lambda points: (points - mean) / scale, [held.X * scale + mean, *rest]


def image_shape(preparation: Any) -> tuple[int, ...] | None:
    """Return the shape (h, w) or (h, w, 3) of the input if it is an image, else None.

    Where the preparation does not know it: a square, where all features have one scale, as those of images have. The
    columns of a table are no image, whatever their scales.
    """
    if preparation is None or preparation.columns is not None:
        return None
    known, scale = preparation.image_shape, preparation.scale
    if known:
        return tuple(known) if tuple(known[2:]) in ((), (1,), (3,)) else None
    return square(len(scale)) if len(scale) >= 16 and len(set(scale)) == 1 else None
