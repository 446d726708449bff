"""Configuration files: TOML, whose keys are the options' long names."""

import codecs
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnx.cli import parts
from nnx.cli.in_units import tracker
from nnx.cli.inputs import UsageError
from nnx.cli.options import KINDS, OF_A_RUN, OF_EACH_MEMBER, OF_THE_COMMAND, SWEPT, Options, long, named
from nnx.data.builtin import BUILTIN
from nnx.data.files import look
from nnx.errors import InputError, first_line, size
from nnx.io.atomic_write import neighbours
from nnx.port.precision import FLOAT32
from nnx.version import __version__

IN_FILES = (*OF_A_RUN, "out", "overwrite", "draws", "quiet", "json")
"""The options that a file may hold, beside the table [sweep]."""

LONGEST = 2**20
"""The bytes that a configuration may have."""

EXPECTED = {
    str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false",
    list: "a list of texts", Path: "text in quotes",
}  # fmt: skip


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options in a file, by their fields, and its table [sweep].

    Raises
    ------
    InputError
        When there is no such file, or it is no TOML.
    UsageError
        For an unknown key (the nearest known one), and a value of another type than its option's.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = getattr(error, "strerror", None) or error
        hint = neighbours(path) if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"the configuration {str(path)!r} cannot be read: {why}{hint}") from error
    if len(content) > LONGEST:
        raise InputError(f"{str(path)!r} has more than {size(LONGEST)}; is it a configuration?")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{str(path)!r} is in UTF-16; save it in UTF-8, which TOML is in")
    try:
        found = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{str(path)!r} is not in UTF-8 (line {line}); save it in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no TOML: {first_line(error)}") from error
    table = found.pop("sweep", {})
    if not isinstance(table, dict):
        raise UsageError(
            f"{path}: sweep must be a table, [sweep], with values for each option: "
            f"learning-rate = [0.01, 0.1]; given {table!r}"
        )
    options: dict[str, Any] = {}
    try:
        for key, value in found.items():
            name = named(key, IN_FILES)
            if name in options:
                raise InputError(f"{long(name)} is there twice, as {long(name)} and {name}")
            options[name] = checked(name, value)
    except InputError as error:
        raise UsageError(f"{path}: {error}") from error
    if (
        content.startswith(b"# nnx ") and "stop_by" not in options
    ):  # a run's, made before stopping early was usual
        options.setdefault("early_stopping", 0)
    return options, table


def checked(name: str, value: Any) -> Any:
    """Return a TOML value in the type of its option.

    Raises
    ------
    InputError
        When it is of another type: the option, what was given and what was expected.

    Examples
    --------
    >>> checked("learning_rate", 1)
    1.0
    >>> checked("layers", [64, 32])
    Traceback (most recent call last):
    nnx.errors.InputError: layers must be text in quotes, such as "64,32"; given [64, 32]
    """
    kind = KINDS[name]
    if name == "class_weight" and isinstance(value, dict):  # a table: {yes = 5, no = 1}
        value = ",".join(f"{label}={weight}" for label, weight in value.items())
    if name in ("validation", "test") and type(value) in (int, float):  # a share, or text: a file
        value = str(value)
    if "\0" in str(value):
        raise InputError(f"{long(name)} holds a zero byte, which no name has; given {value!r}")
    if kind in (str, Path) and isinstance(value, str):
        return kind(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    is_numbers = isinstance(value, list) and value and not any(isinstance(one, list) for one in value)
    if name in OF_EACH_MEMBER and is_numbers:
        return [checked(name, one) for one in value]
    if kind in (int, bool) and type(value) is kind:
        return value
    if kind not in EXPECTED:  # list[str]
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        kind = list
    hint = ""
    if kind is str and isinstance(value, int | float | list) and not isinstance(value, bool):
        parts = value if isinstance(value, list) else [value]
        hint = f', such as "{",".join(map(str, parts))}"'
    elif kind is list and isinstance(value, str):
        hint = f', such as ["{value}"]'
    raise InputError(f"{long(name)} must be {EXPECTED[kind]}{hint}; given {value!r}")


def text(options: Options, command: str, **resolved: Any) -> str:
    """Return the file that makes a run again: every option that has a value.

    Parameters
    ----------
    options : Options
    command : str
        What it is for, in the first line, as "trains this run again".
    resolved : str
        What stands for an option's value, such as the backend that "auto" took.
    """
    import tomli_w

    values = {name: getattr(options, name) for name in OF_A_RUN} | resolved | files(options)
    if options.draws is not None:
        values["draws"] = options.draws
    written = {long(name): value for name, value in values.items() if value not in (None, [])}
    if options.table:
        written["sweep"] = {long(name): value for name, value in options.table.items()}
    return f"# nnx {__version__}. `nnx train --config` this file {command}.\n{tomli_w.dumps(written)}"


FILES = ("data", "validation", "test")
"""The options that may name a file with samples."""


def files(options: Options) -> dict[str, Any]:
    """Return the options that name files, as they are found from any folder."""
    named = dict(zip(FILES, (options.data, *parts.wanted(options)), strict=True))
    both = Path(options.data).is_file() and options.target and Path(options.target).is_file()
    if both and look(Path(options.data))[0] == "IDX":
        named["target"] = str(options.target)
    found = {
        name: str(Path(given).resolve())
        for name, given in named.items()
        if isinstance(given, str) and Path(given).is_file()
    }
    if options.mlflow is not None:
        found["mlflow"] = tracker(options.mlflow)
    return found


def gathered(typed: Mapping[str, Any]) -> Options:
    """Return the options: those typed, else those of the file or of the run that goes on, else the defaults.

    Raises
    ------
    UsageError
        When no data are named; for an option that the run that goes on had otherwise.
    """
    if "no_early_stopping" in typed:
        if "early_stopping" in typed:
            raise UsageError(
                "--early-stopping and --no-early-stopping exclude each other; leave out one of the two"
            )
        typed = {name: value for name, value in typed.items() if name != "no_early_stopping"}
        typed["early_stopping"] = 0
    if "resume" in typed:
        return _of_a_run(typed)
    if "held_out" in typed and "validation" in typed:
        raise UsageError("--held-out and --validation say the same; give one of the two")
    found, table = read(typed["config"]) if "config" in typed else ({}, {})
    # What is typed wins: also over a sweep of the file's.
    swept = {key: values for key, values in table.items() if _field(key) not in typed}
    seen: set[str] = set()
    for one in typed.get("sweep") or ():
        key, equals, values = map(str.strip, one.partition("="))
        if not (equals and key and values):
            raise UsageError(f'--sweep must be OPTION=VALUES, such as "layers=64 128,64"; given {one!r}')
        name, key = _field(key), long(_field(key))
        if name in typed and name in SWEPT:
            raise UsageError(f"{key} is given and swept; leave out one of the two")
        if name in seen:
            raise UsageError(f'{key} is swept twice; give all its values in one --sweep "{key}=..."')
        seen.add(name)
        swept = {old: its for old, its in swept.items() if _field(old) != name}
        swept[key] = values
    options = Options(**_over(found, typed), table=swept)
    if not options.data:
        where = f", or data = ... in {typed['config']}" if "config" in typed else ""
        raise UsageError(
            f"which data? Give DATA, as in `nnx train digits`{where}: a file (CSV, Parquet, .npz, IDX), or one of the "
            f"data sets that nnx brings, {', '.join(BUILTIN)}"
        )
    _check_text(options)
    return options


def _field(key: str) -> str:
    """Return the field of an option that is swept; an unknown one as it is, which the sweep refuses."""
    try:
        return named(key)
    except InputError:
        return key


def _check_text(options: Options) -> None:
    """Raise a UsageError for names that a configuration file cannot store: bytes that are no text."""
    for name in OF_A_RUN:
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [value or ""]:
            try:
                str(Path(one).absolute() if name in FILES else one).encode("utf-8")
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"{long(name)} {str(one)!r} is not UTF-8, which the configuration of a run is in; give the file "
                    "another name"
                ) from error


MAY_CHANGE = (
    "resume", "epochs", "backend", "device", "precision", "communicator", "jobs", "scheduler", "plots", "tensorboard",
    "quiet", "json",
)  # fmt: skip
"""The options that may be typed when a run goes on."""


ANEW = OF_THE_COMMAND.difference(MAY_CHANGE)
"""Those that are of no run, but of beginning one."""


def _of_a_run(typed: Mapping[str, Any]) -> Options:
    from nnx.cli.folder import CONFIG

    run = typed["resume"]
    if run.is_file():
        raise InputError(f"{str(run)!r} is a file; --resume takes the folder of a run, such as runs/digits-1")
    if not (run / CONFIG).is_file():
        what = "there is no folder" if not run.is_dir() else "no run of `nnx train` is in"
        raise InputError(
            f"{what} {str(run)!r}{f': it has no {CONFIG}' if run.is_dir() else ''}; give the folder that "
            f"`nnx train` named, such as runs/digits-1{'' if run.is_dir() else neighbours(run)}"
        )
    found, table = read(run / CONFIG)
    for name, value in typed.items():
        given = tracker(value) if name == "mlflow" else value
        if name in MAY_CHANGE or (name in found and found[name] == given):
            continue
        if name in ANEW and name not in found:
            raise UsageError(
                f"--{long(name)} goes with a new run, not with --resume: a run goes on as it began. Leave it out, or "
                "train anew"
            )
        had = f"its {long(name)} is {found[name]!r}" if name in found else f"it has no {long(name)}"
        raise UsageError(
            f"--{long(name)} cannot be given with --resume: a run goes on as it began, and {had}. Only --epochs, "
            "--backend, --device and --precision may change. Leave it out, or train anew"
            if name != "data"
            else f"DATA cannot be given with --resume: the run's are {found.get('data')!r}. Leave them out"
        )
    for name, value in ("epochs", found.get("epochs")), ("precision", found.get("precision", FLOAT32)):
        if table and name in typed and typed[name] != value:
            raise UsageError(f"--{name} cannot be changed when a sweep goes on: its runs would not be alike")
    return Options(**_over(found, typed), table=table)


def _over(found: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a file with those typed over them.

    A device is that of its backend, and --held-out and --validation say the same.
    """
    without = {"device"} if "backend" in typed else set()
    if "held_out" in typed:
        without.add("validation")
    kept = {name: value for name, value in found.items() if name not in without}
    return {**kept, **typed}
