"""The backend that "auto" takes on a GPU: in which order, why, and without an import where there is none."""

import logging
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from thread_ranks import in_ranks

import nnx
from nnx.port import rank_device, registry
from nnx.port.gpus import gpus
from nnx.port.precision import PRECISIONS
from nnx.port.rank_device import choose_of_rank


@pytest.fixture
def machine(monkeypatch):
    """A machine with a driver: for each library the devices and precisions that it has. It counts who is asked."""
    asked = []

    def entry(name, has):
        class Adapter(nnx.Backend):
            def __init__(self, device=None, precision="float32"):
                device = device or "cuda"
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


GPUS = {"cuda": PRECISIONS, "cpu": ("float32",), "cuda:0": PRECISIONS, "cuda:1": PRECISIONS}


@pytest.fixture
def chosen(monkeypatch):
    """Returns the function that chooses for ranks, given the GPUs that each sees."""
    own = threading.local()
    monkeypatch.setattr(rank_device, "gpus", lambda: own.gpus)

    def of_all(seen, backend="auto", device=None):
        def rank(communicator):
            own.gpus = seen[communicator.rank]
            try:
                return choose_of_rank(backend, device, None, communicator).backend
            except nnx.BackendError as error:
                return str(error)

        return in_ranks(len(seen), rank)

    return of_all


@pytest.mark.parametrize("device", [None, "cuda"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_each_rank_of_a_machine_takes_its_own_gpu(machine, chosen, backend, device):
    asked = machine(torch=GPUS)
    first, second = [b"0", b"1"], [b"2", b"3"]  # of two machines
    found = chosen([first, second, first, second], backend, device)
    assert [(one.name, one.device) for one in found] == [("torch", f"cuda:{k}") for k in (0, 0, 1, 1)]
    assert {name for name, _, _ in asked} == {"torch"}


def test_a_launcher_may_give_each_rank_its_gpu(machine, chosen):
    machine(torch=GPUS)
    assert [one.device for one in chosen([[b"0"], [b"1"]])] == ["cuda:0", "cuda:0"]


def test_a_gpu_that_is_named_is_taken(machine, chosen):
    machine(torch=GPUS)
    assert [one.device for one in chosen([[b"0", b"1"]] * 2, device="cuda:1")] == ["cuda:1", "cuda:1"]


def test_ranks_without_gpus_take_the_cpu(machine, chosen):
    machine()
    assert [one.name for one in chosen([[], []])] == ["numpy", "numpy"]
    machine(torch=GPUS)
    assert [one.name for one in chosen([[b"0"], [b"0"]], "numpy")] == ["numpy", "numpy"]
    assert [one.device for one in chosen([[b"0"], [b"0"]], device="cpu")] == ["cpu", "cpu"]


def test_more_ranks_than_gpus(machine, chosen):
    machine(torch=GPUS)
    said = "rank 2 shares its GPUs with 2 ranks before it, and there is no cuda:2: .*torch lacks cuda:2 .*no more ranks"
    for backend, device in (("auto", None), ("torch", "cuda")):
        first, second, third = chosen([[b"0", b"1"]] * 3, backend, device)
        assert (first.device, second.device) == ("cuda:0", "cuda:1")
        assert re.search(said, third)


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    monkeypatch.setattr(registry, "DRIVER", "no-driver-has-this-name")
    assert gpus() == []
