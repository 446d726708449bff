"""`nnx predict`: a model file and data in, CSV out."""

import sys
from pathlib import Path
from typing import Any

from nnx.cli.folder import MODEL
from nnx.cli.inputs import refuse_existing, source
from nnx.cli.show import errors
from nnx.data.prepare import Preparation
from nnx.files import written_aside
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
    frame = predictions(preparation, A)
    if out is None:
        sys.stdout.write(frame.write_csv())
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(out) as aside:
        frame.write_csv(aside)
    errors.print(f"{frame.height:,} predictions in {out}", soft_wrap=True)


def predictions(preparation: Preparation, A: Any) -> Any:
    """Return a polars DataFrame: the prediction, and for classes the probability of each."""
    import polars

    probabilities: dict[str, Any] = {}
    if preparation.labels is not None:
        rows = [1 - A[0], A[0]] if len(A) == 1 else list(A)
        probabilities = {f"P({label})": p for label, p in zip(preparation.labels, rows, strict=True)}
    return polars.DataFrame({preparation.target: preparation.y(A)} | probabilities)
