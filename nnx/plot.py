"""The learning curve as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnx.errors import InputError
from nnx.files import written_aside


def learning_curve(history: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Draw the cost, and the score where there is one, over the epochs, to a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    scores = [name for name in history if not name.endswith("loss")]
    figure = Figure(figsize=(9 if scores else 5, 3.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    for axis, names in zip(axes, ([name for name in history if name.endswith("loss")], scores), strict=False):
        for name in names:
            held_out = name.startswith("validation_")
            label = "held out" if held_out else "training"
            epochs = range(1, len(history[name]) + 1)
            style = "o" if len(epochs) == 1 else "-"
            axis.plot(
                epochs, history[name], style, label=label, color="tab:orange" if held_out else "tab:blue"
            )
        axis.set_xlabel("epoch")
        score = names[0].split("_")[-1]
        axis.set_ylabel({"loss": "cost J", "r2": "R2"}.get(score, score))
        axis.set_xlim(left=0.5 if len(epochs) == 1 else 1, right=1.5 if len(epochs) == 1 else len(epochs))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    if all(value > 0 for name in history if name.endswith("loss") for value in history[name]):
        axes[0].set_yscale("log")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a picture in the format that the name ends with: .png, .pdf, .svg, ...

    Raises
    ------
    InputError
        For an ending that matplotlib does not write.
    """
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InputError(
            f"{str(path)!r} ends with {path.suffix!r}; expected one of {', '.join(sorted(kinds))}"
        )
    with written_aside(path) as aside:
        figure.savefig(aside, format=kind, dpi=150)
