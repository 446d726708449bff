"""The backends that the one suite runs on: every one is a parameter, an absent one a skip that says why."""

import os
import signal
import sys
from contextlib import nullcontext

import numpy as np
import pytest

import nnx

# "static" is array-api-strict without data-dependent shapes and boolean indexing, on a device that is not
# the default one: whatever makes an array elsewhere by mistake fails there.
BACKENDS = ["numpy", "numba", "cupy", "torch", "jax", "strict", "strict static"]

# A shell's job in the background is begun with Ctrl-C ignored and hands that on to what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

COMPILED = tuple(
    f"test_{name}"
    for name in (
        "backends",
        "left_out",
        "recording",
        "repeat",
        "resume",
        "trainer",
        "training",
        "twenty_steps",
    )
)
"""The tests that run on numba, too: it takes seconds for every form of a step. NNX_TEST_ALL=1: all of them."""


def pytest_collection_modifyitems(config, items):
    """Leave out the other tests on numba."""
    if os.environ.get("NNX_TEST_ALL"):
        return
    left_out = [
        item
        for item in items
        if getattr(item, "callspec", None)
        and item.callspec.params.get("backend") == "numba"
        and item.module.__name__ not in COMPILED
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def pytest_report_header():
    """Say once which backends the suite runs on, and why not on the others."""
    lines = []
    for row in nnx.choice.survey():
        lines.append(f"backend {row.name}: {'' if row.usable else 'SKIPPED: '}{row.reason}")
    return lines


@pytest.fixture(params=BACKENDS)
def backend(request):
    """A usable backend."""
    name, _, static = request.param.partition(" ")
    flags = nullcontext()
    if name == "strict":
        strict = pytest.importorskip("array_api_strict")
        options = {"data_dependent_shapes": False, "boolean_indexing": False} if static else {}
        flags = strict.ArrayAPIStrictFlags(api_version="2024.12", **options)
    try:
        made = nnx.backend(name, device="device1" if static else None)
    except nnx.BackendError as error:
        pytest.skip(str(error))
    with flags:
        yield made


@pytest.fixture(autouse=True)
def _no_wish(monkeypatch):
    """Tests choose their backends themselves."""
    monkeypatch.delenv("NNX_BACKEND", raising=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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
def run(tmp_path, monkeypatch, capsys):
    """Run a command in a folder of its own; return its exit status, its output and its errors."""
    for needed in ("typer", "rich", "tomli_w", "polars", "sklearn", "matplotlib"):
        pytest.importorskip(needed, reason="the command line (extra cli) is not installed")
    from nnx.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NNX_BACKEND", "numpy")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["nnx", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if stop.code is not None else 0
        output = capsys.readouterr()
        return status, output.out, output.err

    return call
