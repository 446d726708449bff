"""CUDA C on the host: kernels compiled by g++ behind cuda_shim.h, and called as the driver calls them."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

import pytest

SHIM = Path(__file__).with_name("cuda_shim.h")
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\)')
MEETING = ("__sync", "__shfl")
DTYPES = {"unsigned": "uint32", "long long": "int64"}
"""Those of C's types of parameters whose names are not NumPy's."""
_BUILT = tempfile.TemporaryDirectory(prefix="nnx-cuda-")
"""Libraries of kernels, by their text."""

_ONE_AT_A_TIME = threading.Lock()
"""Held while a kernel runs: the shim has one set of blocks and threads."""

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="g++, which compiles kernels for the host, is not installed"
)


class RefusedError(Exception):
    """What a GPU would not forgive."""


class KernelsOnHost:
    """The kernels of a source."""

    def __init__(self, source):
        self.parameters = {
            name: [
                re.sub(r"\b(__restrict__|volatile)\b|\w+$", "", x.strip()).strip() for x in given.split(",")
            ]
            for name, given in KERNEL.findall(source)
        }
        bodies = dict(zip(self.parameters, KERNEL.split(source)[3::3], strict=True))
        runs, meeting = ["static void** given;"], [*MEETING, *meeting_functions(source)]
        for name, types in self.parameters.items():
            arguments = ", ".join(f"*({ctype}*)given[{k}]" for k, ctype in enumerate(types))
            meets = str(any(word in bodies[name] for word in meeting)).lower()
            runs.append(f"static void call_{name}() {{ {name}({arguments}); }}")
            runs.append(
                f'extern "C" int run_{name}(unsigned x, unsigned y, unsigned b, unsigned seed, void** a) {{'
            )
            runs.append(f"  given = a; return launch(x, y, b, seed, {meets}, call_{name}); }}")
        self.library = compiled("\n".join([SHIM.read_text(), source, *runs]))

    def run(self, name, grid, block, arguments, seed=0):
        """Call a kernel with NumPy numbers of its parameters' types; pointers are numbers, too. The grid is (x, y)."""
        for ctype, x in zip(self.parameters[name], arguments, strict=True):
            dtype = "uint64" if "*" in ctype else DTYPES.get(ctype, ctype)
            assert x.dtype == dtype, f"{name}: {ctype} given {x!r}"
        held = [ctypes.create_string_buffer(x.tobytes()) for x in arguments]
        pointers = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
        with _ONE_AT_A_TIME:
            failed = getattr(self.library, f"run_{name}")(*grid, block, seed, pointers)
        if failed:
            raise RefusedError(f"{name} has a barrier that not all threads reach")


def meeting_functions(source):
    """The names of functions in which threads wait for each other."""
    parts = re.split(r"(?=__device__|__global__)", source)
    with_barriers = [
        part for part in parts if part.startswith("__device__") and any(x in part for x in MEETING)
    ]
    return [re.match(r"__device__[^(]*?(\w+)\(", part)[1] + "(" for part in with_barriers]


@cache
def compiled(text):
    """A library of C++, for this process."""
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    source, path = (Path(_BUILT.name) / f"{name}.{ending}" for ending in ("cpp", "so"))
    source.write_text(text)
    flags = ["-O0", "-std=c++17", "-shared", "-fPIC", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
    made = subprocess.run(
        ["g++", *flags, str(source), "-o", str(path)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[:2000]
    # its own names first: MKL has a function `pick`, too, for the whole process
    return ctypes.CDLL(str(path), ctypes.DEFAULT_MODE | getattr(os, "RTLD_DEEPBIND", 0))
