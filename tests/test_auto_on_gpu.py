"""The backend that "auto" takes on a GPU: in which order, why, and without an import where there is none."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import nnx
from nnx.port import registry
from nnx.port.communicator import Alone
from nnx.port.precision import PRECISIONS
from nnx.port.rank_device import choose_of_rank


@pytest.fixture
def machine(monkeypatch):
    """A machine with a driver: for each library the devices and precisions that it has. It counts who is asked."""
    asked = []

    def entry(name, has):
        class Adapter(nnx.Backend):
            def __init__(self, device=None, precision="float32"):
                asked.append((name, device, precision))
                has_it = (
                    device if ":" in device and any(":" in one for one in has) else device.partition(":")[0]
                )
                if precision not in has.get(has_it, ()):
                    raise nnx.BackendError(f"{name} lacks {device} in {precision}; a remedy")
                self.name, self.precision, self.xp = name, precision, np
                self.device = "cuda:0" if device == "cuda" else device

            def asarray(self, x, dtype=None):
                return np.asarray(x, dtype)

            def to_numpy(self, x):
                return x

            def describe(self):
                return f"{self.name} 1.0 on {self.device}: NVIDIA H100"

        return SimpleNamespace(value=f"nnx.backends.{name}", load=lambda: Adapter)

    def made(**libraries):
        real = registry._entry
        entries = {name: entry(name, libraries.get(name, {})) for name in ("torch", "cupy", "jax")}
        monkeypatch.setattr(registry, "_entry", lambda name: entries.get(name) or real(name))
        monkeypatch.setattr(registry, "has_driver", lambda: True)
        monkeypatch.setattr(registry, "_logged", set())
        return asked

    return made


GPU = {"cuda": PRECISIONS, "cpu": ("float32", "bfloat16")}


def test_the_order_is_torch_cupy_jax(machine, caplog):
    asked = machine(torch=GPU, cupy=GPU, jax=GPU)
    with caplog.at_level(logging.INFO, logger="nnx"):
        made, reason = registry.choose()
    assert (made.name, asked) == ("torch", [("torch", "cuda", "float32")])
    assert reason == "a usable CUDA GPU (NVIDIA H100); the fastest on the whole when last measured on a GPU"
    assert caplog.messages == [f"backend torch on cuda:0: {reason}"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("device", [None, "cuda", "cuda:1"])
@pytest.mark.parametrize(("left_out", "first"), [(1, "cupy"), (2, "jax")])
def test_the_next_one_says_why_not_those_before(machine, left_out, first, device, precision):
    names = [*registry.ON_GPU]
    asked = machine(**dict.fromkeys(names[left_out:], GPU))
    made, reason = registry.choose(None, device, precision)
    assert (made.name, made.precision) == (first, precision)
    assert asked == [(name, device or "cuda", precision) for name in names[: left_out + 1]]
    assert reason.startswith(
        f"{'a usable CUDA GPU' if device is None else f'{device} was asked for'} (NVIDIA"
    )
    why = "; ".join(f"{name} lacks {device or 'cuda'} in {precision}" for name in names[:left_out])
    assert reason.endswith(f"; {registry.ON_GPU[first]} ({why})")


def test_a_gpu_that_no_backend_can_use(machine):
    machine(jax={"cpu": ("float32",)})
    made, reason = registry.choose()
    assert (made.name, made.device) == ("numpy", "cpu")
    why = "torch lacks cuda in float32; cupy lacks cuda in float32; jax lacks cuda in float32"
    assert reason == f"no usable CUDA GPU ({why})"
    with pytest.raises(nnx.BackendError, match=f"no backend can compute on device='cuda': {why}. See `nnx"):
        registry.choose(device="cuda")


def test_a_precision_that_no_gpu_has_is_had_on_the_cpu_or_is_an_error(machine):
    machine(torch={"cuda": ("float32",)}, jax={"cuda": ("float32",), "cpu": ("bfloat16",)})
    made, reason = registry.choose(precision="bfloat16")
    assert (made.name, made.device) == ("jax", "cpu")
    assert "torch lacks cuda in bfloat16" in reason
    assert reason.endswith("; of the backends with bfloat16 on a CPU jax comes first")
    said = r"precision='tf32' takes a CUDA GPU .*: no usable CUDA GPU \(torch lacks cuda in tf32; .*jax lacks .*\)$"
    with pytest.raises(nnx.BackendError, match=said):
        registry.choose(precision="tf32")


def test_the_cpu_is_asked_for(machine):
    asked = machine(torch=GPU, cupy=GPU, jax=GPU)
    assert registry.choose(device="cpu").backend.name == "numpy"
    assert asked == []
    made, reason = registry.choose(device="cpu", precision="bfloat16")
    assert (made.name, made.device) == ("torch", "cpu")
    assert reason == "the CPU was asked for; of the backends with bfloat16 on a CPU torch comes first"
    assert asked == [("torch", "cpu", "bfloat16")]


def test_without_a_driver_no_library_is_asked(machine, monkeypatch):
    asked = machine(torch=GPU, cupy=GPU, jax=GPU)
    monkeypatch.setattr(registry, "has_driver", lambda: False)
    made, reason = registry.choose()
    assert (made.name, reason) == ("numpy", "no usable CUDA GPU (there is no NVIDIA driver)")
    assert asked == []
    with pytest.raises(nnx.BackendError, match="on device='cuda:1': there is no NVIDIA driver"):
        registry.choose(device="cuda:1")
    assert registry.choose(precision="bfloat16").backend.device == "cpu"


def test_a_driver_is_a_library_that_can_be_loaded(monkeypatch):
    monkeypatch.setattr(registry, "DRIVER", "no-driver-has-this-name")
    assert not registry.has_driver()
    monkeypatch.setattr(registry, "DRIVER", np._core._multiarray_umath.__file__)
    assert registry.has_driver()


def test_without_a_driver_auto_imports_no_library():
    code = """
import sys, nnx
nnx.port.registry.DRIVER = "no-driver-has-this-name"
nnx.Trainer(nnx.mlp([2, 1]))
print([name for name in ("torch", "cupy", "jax", "numba") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_auto_takes_the_first_that_is_usable_here():
    for name in registry.ON_GPU:
        try:
            expected = nnx.backend(name, "cuda")
        except nnx.BackendError:
            continue
        assert nnx.backend().name == expected.name
        return
    pytest.skip("no backend computes on a GPU here")


def of_rank(local_rank, local_size):
    class Rank(Alone):
        pass

    Rank.rank, Rank.size, Rank.local_rank, Rank.local_size = local_rank + 4, 8, local_rank, local_size
    return Rank()


GPUS = {"cuda": PRECISIONS, "cpu": ("float32",), "cuda:0": PRECISIONS, "cuda:1": PRECISIONS}


@pytest.mark.parametrize("device", [None, "cuda"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_each_rank_of_a_machine_takes_its_own_gpu(machine, backend, device):
    asked = machine(torch=GPUS)
    for local_rank in (0, 1):
        made = choose_of_rank(backend, device, None, of_rank(local_rank, 2)).backend
        assert (made.name, made.device) == ("torch", f"cuda:{local_rank}")
    assert asked == [
        ("torch", "cuda:0", "float32"),
        ("torch", "cuda:1", "float32"),
    ]  # and no other GPU was touched


def test_a_rank_that_is_alone_on_its_machine_takes_the_best_gpu(machine):
    asked = machine(torch=GPUS)
    choose_of_rank("auto", None, None, of_rank(0, 1))
    choose_of_rank("auto", "cuda:1", None, of_rank(0, 2))
    assert asked == [("torch", "cuda", "float32"), ("torch", "cuda:1", "float32")]


def test_ranks_without_gpus_take_the_cpu(machine):
    machine()
    assert choose_of_rank("auto", None, None, of_rank(1, 2)).backend.name == "numpy"
    machine(torch=GPUS)
    assert choose_of_rank("numpy", None, None, of_rank(1, 2)).backend.name == "numpy"
    assert choose_of_rank("auto", "cpu", None, of_rank(1, 2)).backend.device == "cpu"


def test_more_ranks_than_gpus(machine):
    machine(torch=GPUS)
    said = "rank 6 is number 2 of 3 on its machine, and has no GPU cuda:2: .*torch lacks cuda:2 .*no more ranks on a"
    for backend, device in (("auto", None), ("torch", "cuda")):
        with pytest.raises(nnx.BackendError, match=said):
            choose_of_rank(backend, device, None, of_rank(2, 3))
