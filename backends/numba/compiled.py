"""Compiled steps on disk: a second process that needs one loads it."""

import gc
import hashlib
import logging
import os
import re
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

from nnx.backends.numba import runtime
from nnx.compiler import TraceError
from nnx.compiler.thresholds import TABLE
from nnx.errors import InputError, first_line
from nnx.io import private_folder
from nnx.io.private_folder import SealedFiles
from nnx.support.processes import uncut

_log = logging.getLogger("nnx")


def _joined() -> str:
    """Return the files of the runtime, and the thresholds, as the text of one module."""
    folder = Path(runtime.__file__).parent
    numbers = "\n".join(f"{name} = {row.value}" for name, row in TABLE.items())
    texts = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in runtime.FILES]
    imports = r"^from nnx\.(backends\.numba\.runtime\.\w+|compiler\.thresholds) import (\([^)]*\)|.*)\n"
    return re.sub(imports, "", "\n\n".join([numbers, *texts]), flags=re.MULTILINE)


TEXT = _joined()
"""The module that all steps share. The hash of its text is in its name, and that name is in each step's text."""

IDLE_STEPS = 16
"""Compiled steps that stay in memory without being in use. Each takes up to 20 MB."""


class CompiledFunction:
    """A compiled step in use: its module stays in memory as long as this object lives."""

    def __init__(self, function: Any) -> None:
        self.function = function


_modules: dict[str, Any] = {}
_used: "WeakValueDictionary[str, CompiledFunction]" = WeakValueDictionary()

_lock = threading.RLock()
"""A module is executed, and so compiled, by one thread at a time; a fork waits for it (`nnx.support.processes`)."""


def compiled(text: str) -> CompiledFunction:
    """Return the function `step` of a source, which numba also writes to disk beside it."""
    with uncut(), _lock:
        key, module = _module("step", f"from {shared().__name__} import *\n\n\n{text}")
        step = _used.get(key) or CompiledFunction(module.step)
        _used[key] = step
        _modules[key] = _modules.pop(key)  # the last that was asked for
        _forget()
        return step


def shared() -> Any:
    """Return the module that all steps share."""
    return _module("runtime", TEXT)[1]


def _module(name: str, text: str) -> tuple[str, Any]:
    key = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with uncut(), _lock:
        if key not in _modules:
            _modules[key] = _loaded(key, text)
        return key, _modules[key]


def _forget() -> None:
    """Forget the steps that were longest not asked for; on disk they stay."""
    idle = [key for key in _modules if key.startswith("step_") and key not in _used]
    for key in idle[: max(0, len(idle) - IDLE_STEPS)]:
        module = _modules.pop(key)
        sys.modules.pop(module.__name__, None)
        functions = [f for name, f in vars(module).items() if f is not vars(shared()).get(name)]
        for compiled in [one for f in functions for one in getattr(f, "overloads", {}).values()]:
            with suppress(KeyError):  # numba has a table of all that it has compiled
                compiled.target_context.remove_user_function(compiled.entry_point)
        vars(module).clear()  # numba's finalizers hold the functions, whose module this is
    if len(idle) > IDLE_STEPS:
        gc.collect()


def _loaded(key: str, text: str) -> Any:
    """Return the module of a source, whose compiled functions are on disk as they were written, or are made anew."""
    path = source_file(f"{key}.py", text)
    own = SealedFiles(path.parent, key)
    # What a step calls is compiled with the first step that calls it.
    files = [own, *(SealedFiles(path.parent, other) for other in _modules if other.startswith("runtime_"))]
    if own.are_intact():
        try:
            return _executed(key, path, text, files)
        except Exception as error:  # of another numba, or worse
            _log.info("compiled steps on disk cannot be loaded, and are made anew: %s", first_line(error))
            own.remove()
    with private_folder.file_lock(path.with_name("compiling.lock")):
        for one in files:
            one.remove_damaged()
        return _executed(key, path, text, files)


def _executed(key: str, path: Path, text: str, files: list[SealedFiles]) -> Any:
    """Return a module, made from the text in memory: only numba's compiled functions are read from disk."""
    module = ModuleType(f"nnx_{key}")
    module.__file__ = str(path)
    before = [one.fingerprint() for one in files]
    # numba looks here for the functions on disk, and a step for the module that all share.
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    for one, seen in zip(files, before, strict=True):
        if one.fingerprint() != seen:
            one.seal()
    return module


def cache() -> Path:
    """Return the folder of compiled steps: NNX_CACHE_DIR, or the system's folder of caches."""
    if requested := os.environ.get("NNX_CACHE_DIR"):
        return Path(requested)
    try:
        return private_folder.user_cache()
    except RuntimeError:  # this user has no home
        return private_folder.process_folder()


def source_file(name: str, text: str) -> Path:
    """Return the source's file; in the cache, or, where that is unsafe or full, in a folder for this process."""
    for place in (cache, private_folder.process_folder):
        try:
            folder = place()
            private_folder.make_private(folder)
            private_folder.make_private(folder / "__pycache__")
            if not os.access(folder, os.W_OK):  # numba writes beside the source
                raise PermissionError(f"{str(folder)!r} cannot be written")
            path = folder / name
            if private_folder.read_private(path) != text:
                private_folder.write_private(path, text)
        except (OSError, InputError) as error:
            _log.info("compiled steps cannot be kept: %s", error)
        except private_folder.UnsafeError as error:
            _warn_once(str(error))
        else:
            return path
    raise TraceError("there is no folder for the compiled step")


@lru_cache
def _warn_once(what: str) -> None:
    """Say, once, that a folder is not used."""
    _log.warning(
        "compiled steps are not kept, and are compiled anew in each process: %s, and what is in it is run as a "
        "program; remove it, or let NNX_CACHE_DIR name a folder of your own that others cannot write (mode 0700)",
        what,
    )
