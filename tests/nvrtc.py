"""NVRTC by itself: it compiles for a GPU without one, and without a driver."""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import pytest


def _path():
    """Where NVIDIA's wheel (nvidia-cuda-nvrtc) has the library; None: it is not installed."""
    spec = find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations or []] if spec else []
    found = sorted(
        path for folder in folders for path in folder.rglob("libnvrtc.so.*") if "alt" not in path.name
    )
    return found[-1] if found else None


needs_nvrtc = pytest.mark.skipif(_path() is None, reason="the wheel nvidia-cuda-nvrtc is not installed")


def compiled(source, architecture, *options):
    """The log of a compilation to the machine code of an architecture, such as "sm_90"."""
    rtc = ctypes.CDLL(str(_path()))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert not rtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"step.cu", 0, None, None)
    cupys = "-ftz=true", "--device-as-default-execution-space"  # what CuPy adds
    every = [f"-arch={architecture}", "-std=c++17", "--ptxas-options=-v", *cupys, *options]
    given = (ctypes.c_char_p * len(every))(*(option.encode() for option in every))
    failed = rtc.nvrtcCompileProgram(program, len(every), given)
    rtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    rtc.nvrtcGetProgramLog(program, log)
    rtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    rtc.nvrtcDestroyProgram(ctypes.byref(program))
    assert not failed, log.value.decode()[:4000]
    assert size.value > 0
    return log.value.decode()
