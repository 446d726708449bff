"""`nnx predict`: a model file and data in, CSV out."""

import sys
from pathlib import Path
from typing import Any

from nnx.cli.inputs import refuse_existing, source
from nnx.cli.show import errors
from nnx.cli.train import MODEL
from nnx.data.prepare import Preparation
from nnx.files import written_aside
from nnx.metrics import decide
from nnx.trainer import Trainer


def run(model: Path, data: str, out: Path | None, overwrite: bool, backend: str, device: str | None) -> None:
    """Write the predictions for the data to a file or to the standard output."""
    if out is not None and not overwrite:
        refuse_existing(out)
    trainer = Trainer.load(model / MODEL if model.is_dir() else model, backend, device)
    preparation = Preparation.of(trainer.metadata)
    found = source(data, preparation.target, seed=0, predicting=True)
    values = found.values(preparation.features, preparation.named)
    A = trainer.predict(preparation.X(values))
    frame = predictions(trainer, preparation, A)
    if out is None:
        sys.stdout.write(frame.write_csv())
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(out) as aside:
        frame.write_csv(aside)
    errors.print(f"{frame.height:,} predictions in {out}", soft_wrap=True)


def predictions(trainer: Trainer, preparation: Preparation, A: Any) -> Any:
    """Return a polars DataFrame: the prediction, and for classes the probability of each."""
    import polars

    A = A.astype(float)  # or float32 would swallow the last digits of y_mean
    labels = preparation.labels
    if labels is None:
        return polars.DataFrame({preparation.target: A[0] * preparation.y_scale + preparation.y_mean})
    probabilities = [1 - A[0], A[0]] if len(A) == 1 else list(A)
    return polars.DataFrame(
        {preparation.target: [labels[k] for k in decide(A)]}
        | {f"P({label})": p for label, p in zip(labels, probabilities, strict=True)}
    )
