"""Kernels and products that are wrong on purpose: the host must find each of them."""

import numpy as np
import pytest
from cuda_host import RefusedError, needs_compiler, steps
from step_cases import digits
from test_cuda_kernels import render

from nnx.array.host import quiet
from nnx.backends.cupy.step import Launch, Product

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
    "no barrier before the sum of a block's rows": ("[y][x] = s0;\n    __syncthreads();", "[y][x] = s0;"),
    "a barrier that some threads do not reach": (
        "__syncthreads();",
        "if (threadIdx.x < 100) __syncthreads();",
    ),
    "a last block that never comes": ("== (int)(chunks) - 1", "== (int)(chunks)"),
    "columns beyond the last sample": ("if (j >= m) return;", ""),
    "one row too few": ("i < 70", "i < 69"),
    "one element too many": ("e < 70 * m", "e < 70 * m + 1"),
    "a stride off by one": ("j * 40]", "j * 41]"),
    "a neighbour's old number": ("* p0[e]);", "* p0[e ^ 1]);"),
    "partial sums over one another": ("else p2[chunk * 70 + i]", "else p2[i]"),
    "a partial sum left out": ("for (uint32 k = 1; k < chunks", "for (uint32 k = 2; k < chunks"),
    "a term left out between blocks": ("begin = chunk * each", "begin = chunk * each + (chunk > 0)"),
    "a counter that is not set back": ("p4[group] = 0;", ";"),
    "a sum of each lane by itself": ("= over_warp(s7, plus<float32>)", "= s7"),
    "a sum that begins somewhere": ("s7 = float32(0x0.0p+0)", "s7 = float32(1)"),
    "the samples of another batch": ("float32(m)", "float32(m + 1)"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_wrong_kernel_is_found(case, name):
    before, after = TEXTS[name]
    step = case[0]
    which = next(kernel for kernel, text in step.kernels.items() if before in text)
    text = step.kernels[which].replace(before, after, 1)
    assert wrong(case, step._replace(kernels={**step.kernels, which: text})) is not None


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


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_wrong_product_is_found(case, name):
    assert wrong(case, replaced(case[0], Product, PRODUCTS[name])) is not None


def test_a_block_too_few_is_found(case):
    step = case[0]
    launches = [call for call in step.calls if isinstance(call, Launch)]
    by_blocks = [k for k, call in enumerate(launches) if "gridDim" not in step.kernels[call.kernel]]
    assert by_blocks
    for number in by_blocks:
        changed = replaced(step, Launch, lambda call: call._replace(grid=call.grid - 1), number)
        assert wrong(case, changed) is not None


def test_a_wrong_number_is_found(case):
    def one_more(call):
        return call._replace(numbers=tuple((dtype, x + 1) for dtype, x in call.numbers))

    step = case[0]
    given = [k for k, call in enumerate(c for c in step.calls if isinstance(c, Launch)) if call.numbers]
    assert len(given) > 4
    for number in given:
        assert wrong(case, replaced(step, Launch, one_more, number)) is not None


def test_a_call_that_does_not_wait_is_found(case):
    step = case[0]
    for k, after in enumerate(step.after):
        for earlier in after:
            waits = (*step.after[:k], after - {earlier}, *step.after[k + 1 :])
            assert wrong(case, step._replace(after=waits), late=earlier) is not None, (k, earlier)
