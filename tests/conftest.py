"""The backends that the one suite runs on: each that is usable here is a parameter of its tests."""

import gc
import io
import os
import signal
import sys
from contextlib import nullcontext
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import pytest

import nnx

# "static" is array-api-strict without data-dependent shapes and boolean indexing, on a device that is not
# the default one: whatever makes an array elsewhere by mistake fails there.
BACKENDS = ["numpy", "numba", "cupy", "torch", "jax", "strict", "strict static"]
BACKENDS += os.environ.get("NNX_TEST_BACKENDS", "").split()  # those of other packages

# A shell's job in the background is begun with Ctrl-C ignored and hands that on to what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("NNX_TEST_CUPY_ON_HOST"):  # the backend cupy without a GPU, on a stand-in: slow
    from cupy_on_host import install

    install(order="any")

COMPILED = tuple(
    f"test_{name}"
    for name in (
        "backends",
        "custom_functions",
        "old_files",
        "operations",
        "programs",
        "resume",
        "trainer",
        "training",
        "untrainable_batches",
    )
)
"""The tests that run on numba, too: it takes seconds for every form of a step. NNX_TEST_ALL=1: all of them."""
assert all(Path(__file__).with_name(f"{name}.py").exists() for name in COMPILED), COMPILED


@cache
def absent():
    """Return why each backend that cannot be used here cannot."""
    return {row.name: row.reason for row in nnx.port.registry.survey() if not row.usable}


def pytest_generate_tests(metafunc):
    """Make the tests of the backends that are usable here; there are none of the others, not even skips."""
    if "backend" in metafunc.fixturenames and "backend" not in _parametrized(metafunc):
        usable = [name for name in BACKENDS if name.split()[0] not in absent()]
        if metafunc.module.__name__ not in COMPILED and not os.environ.get("NNX_TEST_ALL"):
            usable = [name for name in usable if name != "numba"]
        long = {"strict": pytest.mark.long}  # "strict static" asks more of the same calls
        marked = [pytest.param(name, marks=long.get(name, ())) for name in usable]
        metafunc.parametrize("backend", marked, indirect=True)


def long_but_for(names, *quick):
    """Return the names as parameters: all but the quick ones are long."""
    assert set(quick) <= set(names), set(quick) - set(names)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.long) for name in names]


def _parametrized(metafunc):
    """Return the names of what a test's own marks parametrize."""
    marks = metafunc.definition.iter_markers("parametrize")
    return {name.strip() for mark in marks for name in str(mark.args[0]).split(",")}


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a library that is not installed, `@pytest.mark.needs("torch")`, or a backend that is not."""
    left_out = [item for item in items if _lacks(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_collection_finish():
    """Spare the garbage collector the thousands of tests, which stay until the end: it runs often."""
    gc.collect()
    gc.freeze()


def _lacks(item):
    """Whether a test needs what is not here; its own marks may name the backends of the fixture."""
    needs = [library for mark in item.iter_markers("needs") for library in mark.args]
    named = any(
        mark.kwargs.get("indirect") and mark.args[0] == "backend" for mark in item.iter_markers("parametrize")
    )
    return (named and item.callspec.params["backend"].split()[0] in absent()) or not all(
        map(_installed, needs)
    )


@cache
def _installed(library):
    """Whether a module, or a distribution without one (mkl), is installed."""
    return find_spec(library) is not None or any(metadata.distributions(name=library))


def pytest_report_header():
    """Say once which backends the suite runs on, and what is absent."""
    usable = [name for name in BACKENDS if name not in absent()]
    without = [f"{name} ({reason.split(';')[0]})" for name, reason in absent().items()]
    said = [f"backends: {', '.join(usable)}; no tests for: {', '.join(without) or 'none'}"]
    if which("g++") is None:
        said.append("g++ is not installed: the tests that compile CUDA kernels for the host are skipped")
    return said


@pytest.fixture
def backend(request):
    """A usable backend."""
    name, _, static = request.param.partition(" ")
    flags = nullcontext()
    if name == "strict":
        import array_api_strict as strict

        options = {"data_dependent_shapes": False, "boolean_indexing": False} if static else {}
        flags = strict.ArrayAPIStrictFlags(api_version="2024.12", **options)
    with flags:
        yield nnx.backend(name, device="device1" if static else None)


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch):
    """What is written need not have reached the disk: no test cuts the power, and waiting for it takes milliseconds."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture(autouse=True)
def _no_wish(monkeypatch):
    """Tests choose their backends themselves."""
    monkeypatch.delenv("NNX_BACKEND", raising=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def processes():
    """Processes of the benchmarks' contestants by their names, each started once."""
    from nnx.bench.child import Child

    found = {}
    yield lambda name: found.setdefault(name, Child(name))
    for child in found.values():
        child.close()


def some_targets(rng, output, n, m, lead=()):
    """Targets that an output allows."""
    Y = rng.random((*lead, n, m))
    if output == "softmax":
        return Y / Y.sum(axis=-2, keepdims=True)
    return {"sigmoid": Y, "identity": 4 * Y - 2, "exp": np.floor(5 * Y)}[output]


def differences(function, theta, h=1e-6):
    """(f(theta + h e) - f(theta - h e)) / 2h for every unit vector e, on NumPy."""
    return np.array(
        [(function(theta + h * e) - function(theta - h * e)) / (2 * h) for e in np.eye(theta.size)]
    )


@pytest.fixture
def drawn():
    """`nnx train` draws the pictures of a run in tests with this fixture; else it leaves stand-ins: see `run`."""


@pytest.fixture
def run(request, tmp_path, monkeypatch, capsys):
    """Run a command in a folder of its own, with this standard input; return its status, output and errors.

    Without a standard input (None) it is a terminal. Without the fixture `drawn`, `nnx train` leaves the pictures of a
    run as files of the same names with nothing but the first bytes: drawing them takes most of a short training's time.
    """
    for needed in ("typer", "rich", "tomli_w", "polars", "sklearn", "matplotlib"):
        pytest.importorskip(needed, reason="the command line (extra cli) is not installed")
    import typer.main

    from nnx.__main__ import main
    from nnx.cli import show

    monkeypatch.setattr("typer.main.get_command", _made_once(typer.main.get_command))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for console in (show.console, show.output):  # which have the width of the first test that imported them
        monkeypatch.setattr(console, "width", 200)
    monkeypatch.setenv("NNX_BACKEND", "numpy")
    if "drawn" not in request.fixturenames:
        import nnx.cli.plot  # which draws in any case

        monkeypatch.setattr(nnx.plots.run, "draw", _stand_ins)

    def call(*arguments, stdin=b""):
        typed = io.TextIOWrapper(io.BytesIO(stdin or b""))
        typed.isatty = lambda: stdin is None
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "argv", ["nnx", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if stop.code is not None else 0
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


@cache
def _made_once(get_command):
    """Return typer's function with a memory: making the command of an app takes longer than many a command does."""
    return cache(get_command)


def _stand_ins(left, paths, complain):
    """Leave a file for each picture that suits a run; return their names."""
    written = [path for kind, path in paths.items() if nnx.plots.run.PICTURES[kind](left) is not None]
    for path in written:
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    return [path.name for path in written]
