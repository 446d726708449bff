"""Kernels and products that are wrong on purpose: the host must find each of them."""

from dataclasses import replace

import cuda_host
import numpy as np
import pytest
from array_api_compat import array_namespace
from conftest import long_but_for
from cuda_host import steps
from cuda_kernels_on_host import RefusedError, needs_compiler
from step_cases import digits
from test_cuda_kernels import render
from test_cuda_operations import run

from nnx.array.host import quiet
from nnx.backends.cupy.step import Launch, Product
from nnx.backends.cupy.step_renderer import rendered
from nnx.compiler.schedule import Kernel

pytestmark = needs_compiler

M = 300
"""So many samples that blocks share the sums over them, and no block is full."""


@pytest.fixture(scope="module")
def case():
    """A step, with what two of them make of a state."""
    made, step, state, batch = render(lambda dtype, m: digits(m, (20, 70, 40, 10)), "float32", M)
    here = state
    for _ in range(2):
        here, J = quiet()(step)(here, batch)
    return made, state, batch, {**here, "J": J}


def wrong(case, step, late=None):
    """What is wrong with a step, one of whose calls may be late; None: nothing."""
    _, state, batch, expected = case
    bits = []
    for seed in (0, 1, 5):
        try:
            new, costs = steps(step, state, [batch, batch], seed, late)
        except RefusedError as error:
            return str(error)
        found = {**new, "J": costs[-1]}
        for key, x in expected.items():
            if not np.linalg.norm(found[key] - x) <= 1e-4 * np.linalg.norm(x):
                return f"{key} is another one"
        bits.append(b"".join(x.tobytes() for x in found.values()))
    return None if len(set(bits)) == 1 else "the order of threads matters"


def test_nothing_is_wrong_with_the_step_itself(case):
    assert wrong(case, case[0]) is None


TEXTS = {
    "columns beyond the last sample": ("if (j >= m) return;", ""),
    "one row too few": ("i < 70", "i < 69"),
    "one element too many": ("e < 70 * m", "e < 70 * m + 1"),
    "a stride off by one": ("j * 40]", "j * 41]"),
    "a neighbour's old number": ("* p0[e];", "* p0[e ^ 1];"),
    "partial sums over one another": ("[chunk * 70 + i]", "[i]"),
    "a partial sum left out": ("uint32 k = warp; k < chunks", "uint32 k = warp + 1; k < chunks"),
    "a term left out between blocks": ("j = chunk * 8 + warp", "j = chunk * 8 + warp + (chunk > 0)"),
    "a result of every thread": ("if (!has_sum) return;", ""),
    "results beyond the last": ("warp == 0 && i < 70", "warp == 0"),
    "one counter for all": ("[group], chunks)", "[0], chunks)"),
    "a sum of each lane by itself": ("= over_warp(s7, plus<float32>)", "= s7"),
    "a sum that begins somewhere": ("s7 = float32(0.0)", "s7 = float32(1.0)"),
    "the samples of another batch": ("float32(m)", "float32(m + 1)"),
}
PRELUDES = {
    "no barrier before the sum over warps": (
        "__syncthreads();\n  if (threadIdx.x < 32)",
        "if (threadIdx.x < 32)",
    ),
    "a barrier that some threads do not reach": (
        "__syncthreads();",
        "if (threadIdx.x < 100) __syncthreads();",
    ),
    "a last block that never comes": ("== blocks - 1;", "== blocks;"),
    "a counter that is not set back": ("counter, blocks - 1)", "counter, blocks)"),
    "a warp left out": ("uint32 k = 1; k < blockDim", "uint32 k = 2; k < blockDim"),
    "lanes left out": ("int d = 16", "int d = 8"),
}


@pytest.mark.parametrize(
    "name",
    long_but_for(TEXTS, "a stride off by one"),
)
def test_a_wrong_kernel_is_found(case, name):
    before, after = TEXTS[name]
    step = case[0]
    kernels = {kernel: text.replace(before, after) for kernel, text in step.kernels.items()}
    assert kernels != step.kernels
    assert wrong(case, step._replace(kernels=kernels)) is not None


@pytest.mark.parametrize("name", long_but_for(PRELUDES, "lanes left out"))
def test_a_wrong_prelude_is_found(case, name, monkeypatch):
    before, after = PRELUDES[name]
    assert before in cuda_host.PRELUDE
    monkeypatch.setattr(cuda_host, "PRELUDE", cuda_host.PRELUDE.replace(before, after, 1))
    assert wrong(case, case[0]) is not None


@pytest.mark.long
def test_a_tile_that_is_used_again_too_early_is_found(rng, monkeypatch):
    X = rng.standard_normal((40, 70))

    def sums(X):
        xp = array_namespace(X)
        return xp.sum(X, axis=1), xp.max(X, axis=1)

    right = sums(X)
    before = "__syncthreads();  // the tile is free for the next sum"
    assert before in cuda_host.PRELUDE
    for prelude in (cuda_host.PRELUDE, cuda_host.PRELUDE.replace(before, "")):
        monkeypatch.setattr(cuda_host, "PRELUDE", prelude)
        runs = [run(sums, X, seed=seed) for seed in (0, 1, 5)]
        found = all(np.allclose(x, y) for made in runs for x, y in zip(made, right, strict=True))
        assert found == (before in prelude)


@pytest.mark.long
def test_two_pointers_to_one_place_are_found(case):
    """A compiler may take it that __restrict__ pointers do not meet."""
    step = case[0]
    kernel = next(
        x for x in step.schedule.instructions if isinstance(x, Kernel) and len(x.iteration_space) == 2
    )
    read, written = kernel.ops[0].reads[0], kernel.written[0]
    places = dict(step.schedule.places)
    assert places[read].memory == places[written].memory
    places[written] = places[read]._replace(offset=1)
    schedule = replace(step.schedule, places=places)
    assert "two pointers" in wrong(case, rendered(schedule))


def replaced(step, kind, change, number=0):
    """A step with one of its calls changed."""
    places = [k for k, call in enumerate(step.calls) if isinstance(call, kind)]
    calls = list(step.calls)
    calls[places[number]] = change(calls[places[number]])
    return step._replace(calls=tuple(calls))


PRODUCTS = {
    "another leading dimension of A": lambda p: p._replace(lda=p.lda + 1),
    "another leading dimension of B": lambda p: p._replace(ldb=p.ldb + 1),
    "another leading dimension of C": lambda p: p._replace(ldc=p.ldc - 1),
    "A as it lies": lambda p: p._replace(transpose_a=not p.transpose_a),
    "a row too few": lambda p: p._replace(m=p.m - 1),
    "a column too few": lambda p: p._replace(n=p.n - 1),
    "a term too few": lambda p: p._replace(k=p.k - 1),
    "weights one further": lambda p: p._replace(a=p.a._replace(offset=p.a.offset + 1)),
    "over a factor": lambda p: p._replace(c=p.b),
}


@pytest.mark.parametrize("name", long_but_for(PRODUCTS, "a row too few"))
def test_a_wrong_product_is_found(case, name):
    assert wrong(case, replaced(case[0], Product, PRODUCTS[name])) is not None


@pytest.mark.long
def test_a_block_too_few_is_found(case):
    step = case[0]
    launches = [call for call in step.calls if isinstance(call, Launch)]
    by_blocks = [k for k, call in enumerate(launches) if "gridDim" not in step.kernels[call.kernel]]
    assert by_blocks
    for number in by_blocks:
        changed = replaced(step, Launch, lambda call: call._replace(grid=call.grid - 1), number)
        assert wrong(case, changed) is not None


@pytest.mark.long
def test_a_wrong_number_is_found(case):
    def one_more(call):
        return call._replace(numbers=tuple((dtype, x + 1) for dtype, x in call.numbers))

    step = case[0]
    given = [k for k, call in enumerate(c for c in step.calls if isinstance(c, Launch)) if call.numbers]
    assert len(given) > 4
    for number in given:
        assert wrong(case, replaced(step, Launch, one_more, number)) is not None


@pytest.mark.long
def test_a_call_that_does_not_wait_is_found(case):
    step = case[0]
    for k, after in enumerate(step.after):
        for earlier in after:
            waits = (*step.after[:k], after - {earlier}, *step.after[k + 1 :])
            assert wrong(case, step._replace(after=waits), late=earlier) is not None, (k, earlier)
