"""`nnx export`: a model as an ONNX file."""

from pathlib import Path

from rich.markup import escape

from nnx.cli.inputs import UsageError, refuse_existing, typed
from nnx.cli.show import errors
from nnx.cli.terminal import line
from nnx.convert import to_onnx
from nnx.errors import InputError, one_of, size
from nnx.train.model_file import file_of
from nnx.train.trainer import Trainer


def run(path: Path, out: Path, overwrite: bool, members: bool, dtype: str | None) -> None:
    """Write the model of a model file or a run's folder to an ONNX file."""
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"a model is exported as ONNX, and {str(out)!r} does not end in .onnx")
    with typed():
        dtype = None if dtype is None else one_of("dtype", dtype, ("float32", "float64"))
    if not overwrite:
        refuse_existing(out, called="name")
    trainer = Trainer.load(file_of(path), "numpy")
    if members and not trainer.each:
        raise InputError(
            f"{str(path)!r} is one network; --members is for a model that was trained with --members 16"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    to_onnx(trainer, out, dtype=dtype, members=members)
    errors.print(f"{escape(line(str(out)))}: {size(out.stat().st_size)}", soft_wrap=True)
