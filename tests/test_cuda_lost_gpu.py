"""A GPU that is lost in the middle of a fit: the last checkpoint is whole, and a run goes on from it. On a stand-in."""

import json

import numpy as np
import pytest
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import CUDARuntimeError, installed

import nnx

pytestmark = needs_compiler

SAID = r"the GPU failed \(cudaErrorIllegalAddress.*Start a new one. A fit goes on from its last checkpoint"


@pytest.fixture
def fails_after(monkeypatch):
    """A GPU that does so many launches, and fails from then on whatever it is asked for. None: it is whole again."""

    def made(launches):
        _, cupy, _ = installed(monkeypatch)
        if launches is None:
            return
        run, to_host = cupy.choose, cupy.asnumpy

        def check():
            if cupy.launches > launches:
                raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

        def choose(ready):
            check()
            return run(ready)

        def asnumpy(x):
            check()
            return to_host(x)

        cupy.choose, cupy.asnumpy = choose, asnumpy

    return made


def test_a_fit_goes_on_from_its_last_checkpoint(fails_after, tmp_path, rng):
    X, Y = rng.standard_normal((4, 60)), np.arange(60) % 3

    def fitted(folder, resume=None):
        trainer = nnx.Trainer(nnx.mlp([4, 6, 3]), nnx.Adam(0.01), backend="cupy")
        keeper = nnx.Checkpoints(folder, epochs=1)
        trainer.fit(X, Y, 8, 10, callbacks=keeper, progress=False, resume=resume)
        return trainer.theta

    fails_after(None)
    expected = fitted(tmp_path / "whole")
    fails_after(30)  # in the sixth epoch
    with pytest.raises(nnx.BackendError, match=SAID):
        fitted(tmp_path / "lost")
    files = sorted((tmp_path / "lost").iterdir())
    assert files
    for file in files:  # each is whole
        assert nnx.Trainer.load(file, "numpy").steps > 0
    fails_after(None)
    np.testing.assert_array_equal(fitted(tmp_path / "lost", resume=tmp_path / "lost"), expected)


@pytest.mark.long
def test_nnx_train_goes_on(fails_after, run, tmp_path, monkeypatch):
    monkeypatch.setattr("nnx.cli.interrupt.EVERY", 1e-9)  # a checkpoint after each step
    monkeypatch.setattr("nnx.cli.interrupt.SHARE", 1)
    wish = ("train", "iris", "--backend", "cupy", "--epochs", "6", "--no-early-stopping", "--no-plots")
    fails_after(None)
    status, out, _ = run(*wish, "--out", "whole", "--json")
    assert (status, json.loads(out)["epochs"]) == (0, 6)
    fails_after(15)
    status, _, err = run(*wish, "--out", "lost")
    assert status == 1
    assert "the GPU failed (cudaErrorIllegalAddress" in " ".join(err.split())
    assert "nnx train --resume FOLDER" in " ".join(err.split())
    fails_after(None)
    status, out, _ = run("train", "--resume", "lost", "--json")
    assert (status, json.loads(out)["epochs"]) == (0, 6)
    found = [nnx.Trainer.load(tmp_path / name, "numpy").theta for name in ("whole", "lost")]
    np.testing.assert_array_equal(*found)
