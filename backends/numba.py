"""NumPy's arrays, and the training step compiled by numba to one function."""

import atexit
import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from nnx.backends.loops import function
from nnx.backends.numpy import NumPy
from nnx.backends.recorded import Recorded, Replay
from nnx.backends.replay import replay

from nnx.files import written_aside
from nnx.host import quiet
from nnx.port import F, only_cpu, require
from nnx.recording import Recording, RecordingError

INSTALL = "pip install 'nnx-array[numba]'"
_log = logging.getLogger("nnx")


class Numba(NumPy):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """NumPy's arrays on the CPU; steps that compute a gradient are compiled, once for all networks of one form."""

    name = "numba"

    def __init__(self, device: str | None = None) -> None:
        self.device = only_cpu("numba", device)
        self.version = require("numba", INSTALL).__version__
        require("scipy.linalg.cython_blas", INSTALL)  # numba's door to BLAS
        self.detail = f"every step compiled, kept in {cache()}"

    def capture(self, step: F) -> F:
        """Return the step recorded, and compiled where it computes a gradient; else replayed with NumPy."""
        return Recorded(quiet()(step), loops, replay)  # type: ignore[no-any-return]


def loops(recording: Recording) -> Replay:
    """Return the recorded function compiled, if it computes a gradient: the others are short, and replayed.

    Raises
    ------
    RecordingError
        When it computes none, or has no loops.
    """
    if not any(op.name == "concat" for op in recording.ops):  # of the derivatives of all parameters
        raise RecordingError("there is no gradient in it")
    return function(recording, _compiled)


def cache() -> Path:
    """Return the folder of compiled steps: NNX_CACHE_DIR, or what the system has for such things."""
    if wish := os.environ.get("NNX_CACHE_DIR"):
        return Path(wish)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "nnx" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nnx"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnx"


_compiled_here: dict[str, tuple[Any, Any]] = {}


def _compiled(text: str) -> tuple[Any, Any]:
    """Return the function `step` of a source, which numba keeps on disk beside it, and what to call the first time."""
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    if key not in _compiled_here:
        path = _written(f"step_{key}.py", text)
        spec = importlib.util.spec_from_file_location(f"nnx_step_{key}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where what numba keeps on disk looks for it
        spec.loader.exec_module(module)
        _compiled_here[key] = module.step, _again(module.step)
    return _compiled_here[key]


@lru_cache
def _own_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="nnx-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _written(name: str, text: str) -> Path:
    """Return the source's file; in the cache, or, where that cannot be written, in a folder for this process."""
    for place in (cache, _own_folder):
        folder = place()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                with written_aside(path) as aside:
                    aside.write_text(text, encoding="utf-8")
        except OSError as error:
            _log.info("compiled steps cannot be kept in %s: %s", folder, error)
        else:
            return path
    raise RecordingError("there is no folder for the compiled step")


def _again(step: Any) -> Any:
    """Return the function that compiles a step for arrays of a layout that it has not met, and calls it."""

    def again(*arrays: Any) -> None:
        step.disable_compile(False)
        step(*map(_plain, arrays))
        step.disable_compile()  # what comes in another form is a TypeError, and is brought into one of these

    return again


def _plain(x: Any) -> Any:
    """Return an array that numba has one type for: row-major, or column-major where it has two axes."""
    x = np.asarray(x)
    whole = x.flags.c_contiguous or (x.ndim == 2 and x.flags.f_contiguous)
    return x if whole and x.flags.writeable and x.flags.aligned else np.array(x, order="C")
