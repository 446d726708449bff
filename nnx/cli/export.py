"""`nnx export`: a model as an ONNX file."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from nnx.cli.inputs import UsageError, model_file, refuse_existing, typed
from nnx.cli.show import console, errors
from nnx.cli.stopped import NOTHING, at_ctrl_c
from nnx.cli.terminal import line
from nnx.convert import to_onnx
from nnx.convert.to_onnx import ends_of
from nnx.errors import InputError, count, one_of, size
from nnx.train.trainer import Trainer

MOST = 40
"""Inputs that are printed; a table may have thousands of columns."""


def run(path: Path, out: Path, overwrite: bool, members: bool, dtype: str | None) -> None:
    """Write the model of a model file or a run's folder to an ONNX file, and print the file's inputs and outputs."""
    if path.suffix.lower() == ".onnx" and out.suffix.lower() != ".onnx":
        raise UsageError(f"the model comes first, then the file to write: nnx export {out} {path}")
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"a model is exported as ONNX, and {str(out)!r} does not end in .onnx")
    with typed():
        dtype = None if dtype is None else one_of("dtype", dtype, ("float32", "float64"))
    if not overwrite:
        refuse_existing(out, called="name")
    with at_ctrl_c(NOTHING):
        trainer = Trainer.load(model_file(path), "numpy")
        if members and not trainer.each:
            raise InputError(
                f"{str(path)!r} is one network; --members is for a model that was trained with --members 16"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        to_onnx(trainer, out, dtype=dtype, members=members)
    errors.print(f"{escape(line(str(out)))}: {size(out.stat().st_size)}", soft_wrap=True)
    console.print(inputs_and_outputs(out))


def inputs_and_outputs(path: Path) -> Table:
    """Return the inputs and outputs of an ONNX file as a table: name, type, shape, and the meaning of the values."""
    table = Table("", "name", "type", "shape", "values")
    for kind, found in zip(("input", "output"), ends_of(path), strict=True):
        for end in found[:MOST]:
            table.add_row(kind, *(escape(line(text)) for text in end))
        if len(found) > MOST:
            table.add_row("", f"and {count(len(found) - MOST, kind)} more")
        table.add_section()
    return table
