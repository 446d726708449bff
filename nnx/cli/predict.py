"""`nnx predict`: a model and data in, predictions out, piece by piece."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from rich.markup import escape

from nnx.cli import streams
from nnx.cli.inputs import at_once, check_backend, check_order, model, pieces, refuse_existing, typed
from nnx.cli.show import errors
from nnx.cli.stopped import NOTHING, STOPPED, Stopped, at_ctrl_c
from nnx.cli.terminal import line, visible
from nnx.data import labels as label
from nnx.data.dialect import PLAIN, Written
from nnx.data.encoding import Notes
from nnx.data.prepare import Preparation
from nnx.errors import Error, InputError, count, first_line, unknown
from nnx.io.atomic_write import naming, written_aside
from nnx.port.precision import checked_precision

FORMATS = {"csv": (".csv", ".txt", ""), "parquet": (".parquet", ".pq")}
"""The formats of predictions, and their endings."""

Write = Callable[[Any], None]


def run(
    path: Path,
    data: str,
    out: Path | None,
    overwrite: bool,
    format: str | None,
    probabilities: bool,
    spread: bool,
    written: Written,
    backend: str,
    device: str | None,
    precision: str | None,
) -> None:
    """Write the predictions for the data to a file or to the standard output."""
    with typed():
        write_as = chosen(format, out)
        check_backend(backend, device)
        checked_precision(precision)
        check_order(path, data)
        PLAIN.over(*written)
    if out is not None and not overwrite:
        refuse_existing(out)
    with at_ctrl_c(NOTHING):
        trainer, preparation = model(path, backend, device, precision)
        if spread and not trainer.each:
            raise InputError(
                f"{str(path)!r} is one network; --spread is that of members: train with --members 16"
            )
        notes, m = Notes(), 0
        dialect = preparation.dialect.over(*written)
        found = pieces(data, at_once(trainer), preparation.target, dialect=dialect)
        found = _read(data, found)
        tell(renamed(preparation) if probabilities else ())
        frames = (
            predictions(preparation, A, probabilities, deviation)
            for A, deviation in _outputs(found, trainer, preparation, notes, spread)
        )
        first = next(frames)  # before anything is written
    with _written(write_as, out) as write:
        try:
            for frame in chain((first,), frames):
                write(frame)
                m += frame.height
        except Error as error:
            if out is None and write_as == "csv":  # else nothing is left
                raise InputError(
                    f"{error}. The predictions of the first {count(m, 'row')} are written"
                ) from error
            raise
        except KeyboardInterrupt as error:
            written_rows = f"{STOPPED} The predictions of the first {count(m, 'row')} are written."
            raise Stopped(written_rows if m and out is None and write_as == "csv" else NOTHING) from error
    tell(notes.lines())
    if out is not None:
        errors.print(f"{count(m, 'prediction')} in {escape(line(str(out)))}", soft_wrap=True)


def chosen(format: str | None, out: Path | None) -> str:
    """Return "csv" or "parquet": what was asked for, or what the ending says."""
    if format is not None:
        if format not in FORMATS:
            raise unknown("format", format, FORMATS)
        return format
    ending = "" if out is None else out.suffix.lower()
    for name, endings in FORMATS.items():
        if ending in endings:
            return name
    raise InputError(
        f"predictions are written as CSV or Parquet, and {str(out)!r} ends in neither .csv nor .parquet; choose "
        "another name, or give --format"
    )


def predictions(preparation: Preparation, A: Any, probabilities: bool = True, spread: Any = None) -> Any:
    """Return a polars DataFrame: the prediction, for classes the probability of each, and the spread of members.

    The spread of numbers is their standard deviation, in the target's unit; that of classes is of the probability of
    the class that is predicted.
    """
    import polars

    found = preparation.predicted(A)
    if found.dtype == object:  # integers beyond 64 bits
        found = [label.text(one) for one in found]
    shares = preparation.probabilities(A).T if probabilities and preparation.labels else []
    columns = dict(zip(names(preparation), shares, strict=False))
    if spread is not None:
        columns[spread_name([preparation.target, *columns])] = _of_predicted(preparation, A, spread)
    return polars.DataFrame({preparation.target: found} | columns)


def _of_predicted(preparation: Preparation, A: Any, spread: Any) -> Any:
    """Return the spread (m,) of the number, or of the probability of the class that is predicted."""
    if preparation.labels is None:
        return spread[0] * preparation.y_scale
    return spread[0] if len(A) == 1 else spread[A.argmax(axis=0), range(A.shape[1])]


def spread_name(taken: Sequence[str]) -> str:
    """Return the name of the column with the spread: none that is taken.

    Examples
    --------
    >>> spread_name(["price"]), spread_name(["spread"])
    ('spread', 'spread 2')
    """
    return next(name for n in count_from(1) if (name := f"spread {n}" if n > 1 else "spread") not in taken)


def names(preparation: Preparation) -> list[str]:
    """Return the names of the probability columns: no two alike, and none like the target."""
    taken, found = {preparation.target}, []
    for one in preparation.labels or []:
        name, n = f"P({label.text(one)})", 1
        while name in taken:
            n += 1
            name = f"P({label.text(one)}) {n}"
        taken.add(name)
        found.append(name)
    return found


def renamed(preparation: Preparation) -> list[str]:
    """Return the note on columns that would have replaced others."""
    said = []
    for one, name in zip(preparation.labels or [], names(preparation), strict=True):
        usual = f"P({label.text(one)})"
        if name != usual:
            said.append(
                f"the probabilities of {one!r} are in the column {name!r}: another is called {usual!r}"
            )
    return said


def tell(notes: Iterable[str], of: str = "") -> None:
    """Print notes on values filled in or unknown and rows left out, on the standard error output; `of` begins each."""
    for note in notes:
        errors.print(f"Note: {line(of + note)}", markup=False, soft_wrap=True)


def _read(data: str, found: Iterator[Any]) -> Iterator[Any]:
    """Yield the pieces of the data; a disk that fails to give them is not the one that is written to."""
    with naming(Path(data)):
        yield from found


def _outputs(
    found: Iterator[Any], trainer: Any, preparation: Preparation, notes: Notes, spread: bool
) -> Iterator[tuple[Any, Any]]:
    """Yield the outputs for each piece, and the spread of the members if it is asked for."""
    for piece in found:
        X = preparation.X(piece.values(preparation.features, preparation.named), trainer.dtype, notes)
        yield trainer.ensemble.predict_with_spread(X) if spread else (trainer._predictor.predict(X), None)


@contextmanager
def _written(write_as: str, out: Path | None) -> Iterator[Write]:
    """Give a function that writes one frame after the other, in memory that does not grow with them."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(out) as aside, aside.open("wb") as file, _FORMS[write_as](file) as write:
            yield write
        return
    if sys.stdout is None:
        raise InputError("the standard output is closed; say where to write the predictions: --out FILE")
    if write_as == "parquet" and sys.stdout.isatty():
        raise InputError("Parquet is nothing for a terminal; give --out FILE, or pipe it on")
    stream: Any = _Shown(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer
    with streams.writing(), _FORMS[write_as](stream) as write:
        yield write


class _Shown:
    """A terminal that its text cannot control: labels may have control characters."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(visible(data.decode()).encode())


@contextmanager
def _csv(file: BinaryIO) -> Iterator[Write]:
    begun = False

    def write(frame: Any) -> None:
        nonlocal begun
        file.write(frame.write_csv(include_header=not begun).encode())
        begun = True

    yield write


@contextmanager
def _parquet(file: BinaryIO) -> Iterator[Write]:
    """Write the pieces as files of their own, and join them at the end: Parquet has its index there."""
    import polars

    with TemporaryDirectory() as folder:
        parts: list[Path] = []

        def write(frame: Any) -> None:
            parts.append(Path(folder) / f"{len(parts)}.parquet")
            with _gathered(folder):
                frame.write_parquet(parts[-1])

        yield write
        joined = Path(folder) / "joined.parquet"
        with _gathered(folder):
            polars.scan_parquet(parts).sink_parquet(joined)
        with joined.open("rb") as whole:
            while block := whole.read(2**20):
                file.write(block)


@contextmanager
def _gathered(folder: str) -> Iterator[None]:
    """Make a failure to write to the temporary folder an error that names it."""
    from polars.exceptions import PolarsError

    try:
        yield
    except (OSError, PolarsError) as error:
        raise InputError(
            f"Parquet is gathered in the temporary folder {folder!r}, which failed: {first_line(error)}. Make room "
            "there, or set TMPDIR to another folder"
        ) from error


_FORMS = {"csv": _csv, "parquet": _parquet}
