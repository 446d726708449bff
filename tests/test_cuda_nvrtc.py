"""Every kernel of every step compiles for the GPUs of today, and needs no memory for its registers."""

import re
from functools import cache

import numpy as np
import pytest
import test_cuda_operations as operations
from array_api_compat import array_namespace
from cuda_host import PRELUDE
from nvrtc import compiled, needs_nvrtc
from step_cases import CASES, case, digits
from test_cuda_kernels import NOT_RENDERED, OF_SEVERAL, WIDE, render

import nnx
from nnx.backends.cupy.members import of_members
from nnx.compiler.ir.operations import ARITY

pytestmark = needs_nvrtc

LARGE = {
    "digits": lambda dtype, m: digits(m, (784, 512, 512, 10), dtype=dtype),
    "many classes": lambda dtype, m: digits(m, (20, 30, 1000), dtype=dtype),
    "long columns": case(
        nnx.Network(20, [nnx.Dense(900), nnx.LayerNorm(), nnx.Activate("gelu"), nnx.Dense(3)], "softmax")
    ),
}
"""Steps whose columns fill the registers."""


ALLOWED = {"float32": 0, "float64": 40}
"""Bytes. On sm_100 NVRTC calls float64's exp as a function: the focal loss, with five calls, saves five numbers."""


@cache
def kernels(dtype):
    """All different kernels of all steps, each with a name of its own."""
    every = {name: made for name, made in {**CASES, **WIDE, **LARGE}.items() if name not in NOT_RENDERED}
    steps = [render(made, dtype, 45)[0] for made in every.values()]
    steps += [render(CASES[name], dtype, 1)[0] for name in CASES.keys() - {*NOT_RENDERED, *OF_SEVERAL}]
    steps += [
        of_members(render(made, dtype, 45)[0], 3, {}) for made in (CASES["everything"], LARGE["digits"])
    ]
    texts = {text.replace(f" {name}(", " KERNEL(") for step in steps for name, text in step.kernels.items()}
    return [text.replace(" KERNEL(", f" kernel_{n}(") for n, text in enumerate(sorted(texts))]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_kernel_spills(dtype, architecture):
    log = compiled("\n".join([PRELUDE, *kernels(dtype)]), architecture)
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", log)]
    assert len(spills) >= len(kernels(dtype)) > 100
    assert max(spills) <= ALLOWED[dtype]


@pytest.mark.parametrize("dtype", operations.DTYPES)
def test_every_operation_compiles(dtype):
    def function(x, y):
        xp = array_namespace(x)
        found = [operations.applied(name, x, y) for name in ARITY if dtype in operations.dtypes(name)]
        reductions = ("all", "any") if dtype == "bool" else ("sum", "prod", "max", "min", "argmax", "argmin")
        return found + [getattr(xp, name)(x, axis=axis) for name in reductions for axis in (0, 1, None)]

    x = np.zeros((3, 40), dtype)
    source = operations.render(function, x, x).source
    assert "spill" in compiled(PRELUDE + source, "sm_90")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_of_many_sums_fits_into_shared_memory(dtype):
    """A GPU gives a block 48 KB of it, unless it is asked for more."""

    def function(x):
        xp = array_namespace(x)
        sums = [
            sum_of(x * k, axis=axis)
            for k in range(1, 40)
            for sum_of in (xp.sum, xp.max)
            for axis in (1, None)
        ]
        return [total + 1.0 for total in sums]

    step = operations.render(function, np.zeros((30, 500), dtype))
    log = compiled(PRELUDE + step.source, "sm_90")
    assert max(int(n) for n in re.findall(r"(\d+) bytes smem", log)) <= 5000
