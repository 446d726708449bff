"""Compiled steps, kept on disk: the second program that needs one loads it."""

import atexit
import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnx.files import written_aside
from nnx.recording import RecordingError

_log = logging.getLogger("nnx")
_here: dict[str, Any] = {}

TEXT = "\n\n".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("together.py", "elementary.py")
).replace("from nnx.backends.together import SHARED\n", "")
"""The text of what all steps share. Its hash is in its name, and that in every step's: no step is of another text."""

_lock = threading.RLock()
"""A module is executed, and so compiled, by one thread at a time."""


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()  # whoever had it is not in a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def cache() -> Path:
    """Return the folder of compiled steps: NNX_CACHE_DIR, or what the system has for such things."""
    if wish := os.environ.get("NNX_CACHE_DIR"):
        return Path(wish)
    try:
        return _of_the_system()
    except RuntimeError:  # this user has no home
        return _own_folder()


def _of_the_system() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "nnx" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nnx"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "nnx"


def compiled(text: str) -> Any:
    """Return the function `step` of a source, which numba keeps on disk beside it."""
    return _module("step", f"from {shared().__name__} import *\n\n\n{text}").step


def shared() -> Any:
    """Return the module of what all steps share."""
    return _module("together", TEXT)


def _module(name: str, text: str) -> Any:
    key = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with _lock:
        if key not in _here:
            path = written(f"{key}.py", text)
            compiles = not any(path.parent.glob(f"__pycache__/{key}.*.nbi"))
            with alone(path.with_name("compiling.lock")) if compiles else nullcontext():
                _here[key] = _executed(f"nnx_{key}", path)
        return _here[key]


def _executed(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # there numba looks for what it kept on disk, and a step for what all share
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process compiles: two that write what is shared at once could mix it up.

    Nobody waits on Windows, or where a file cannot be locked.
    """
    with ExitStack() as stack:
        try:
            fcntl = importlib.import_module("fcntl")
            fcntl.flock(stack.enter_context(path.open("w")), fcntl.LOCK_EX)  # until it is closed
        except (ImportError, OSError) as error:
            _log.debug("compiled steps are not locked: %s", error)
        yield


@lru_cache
def _own_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="nnx-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def written(name: str, text: str) -> Path:
    """Return the source's file; in the cache, or, where that cannot be written, in a folder for this process."""
    for place in (cache, _own_folder):
        try:
            folder = place()
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):  # numba writes beside the source
                raise PermissionError(f"{str(folder)!r} cannot be written")
            path = folder / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                with written_aside(path) as aside:
                    aside.write_text(text, encoding="utf-8")
        except OSError as error:
            _log.info("compiled steps cannot be kept: %s", error)
        else:
            return path
    raise RecordingError("there is no folder for the compiled step")
