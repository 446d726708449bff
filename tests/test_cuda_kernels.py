"""Every step as CUDA C, run on the host: the numbers of the formulas, and the same bits in any order of threads."""

import numpy as np
import pytest
from conftest import long_but_for
from cuda_host import outputs, steps
from cuda_kernels_on_host import needs_compiler
from step_cases import CASES, SCHEDULED, case, close, digits, small

import nnx
from nnx.array.host import quiet
from nnx.backends.cupy import form
from nnx.backends.cupy.rendering import render_step
from nnx.backends.cupy.step import Launch
from nnx.backends.cupy.step_renderer import rendered, scheduled
from nnx.compiler import TraceError, own_outputs, trace

pytestmark = needs_compiler

NOT_RENDERED = {"stack"}
"""What runs as calls: theta (K, P) in the state of one network makes matrices of three axes."""

FORMS = [
    pytest.param(dtype, m, marks=() if (dtype, m) == ("float32", 45) else pytest.mark.long)
    for dtype in ("float32", "float64")
    for m in (1, 45, 300)
]


def render(made, dtype, m):
    """A step of m samples, the text of which serves other numbers of samples, too; with its state and a batch."""
    step, state, batch = made(dtype, m=m)
    graphs = trace(step, state, batch), trace(*made(dtype, m=m + 1))
    return rendered(*map(scheduled, graphs)), step, state, batch


OF_SEVERAL = {"batch norm", "everything"}
"""What has no variance of one sample, and of two derivatives that only rounding makes."""


QUICK = ("adam", "one sample", "everything")
"""They have a kernel of each kind. The others are long."""


@pytest.mark.parametrize(("dtype", "m"), FORMS)
@pytest.mark.parametrize("name", long_but_for(CASES, *QUICK))
def test_two_steps(name, dtype, m):
    m = max(m, 6) if name in OF_SEVERAL else m
    if name in NOT_RENDERED:
        with pytest.raises(TraceError):
            render(CASES[name], dtype, m)
        return
    made, step, state, batch = render(CASES[name], dtype, m)
    here, Js = state, []
    for _ in range(2):
        here, J = quiet()(step)(here, batch)
        Js.append(J)
    runs = [steps(made, state, [batch, batch], seed) for seed in (0, 1, 5)]
    close(runs[0], (here, Js), dtype)
    for new, costs in runs[1:]:
        for key, x in new.items():
            np.testing.assert_array_equal(x, runs[0][0][key])
        np.testing.assert_array_equal(costs, runs[0][1])


WIDE = {
    "several blocks for a sum": case(
        nnx.mlp([100, 150, 10]), nnx.Adam(), nnx.Regularization(clip_norm=0.1, l2=1e-3, l1=1e-4), Y="indices"
    ),
    "rows of weights": case(
        nnx.mlp([300, 90, 10]), nnx.Momentum(), nnx.Regularization(max_norm=0.5), Y="indices"
    ),
    "many classes": case(nnx.mlp([8, 40, 1000]), Y="indices"),
    "longer columns than registers": case(nnx.mlp([8, 40, 1100]), Y="indices"),
    "one feature": case(nnx.mlp([1, 7, 3]), Y="indices"),
    "one unit, then many": case(nnx.mlp([20, 1, 64], "selu", "identity")),
    "one unit": case(nnx.mlp([3, 1, 1], "tanh", "identity")),
    "long columns": case(
        nnx.Network(20, [nnx.Dense(300), nnx.LayerNorm(), nnx.Activate("gelu"), nnx.Dense(3)], "softmax"),
        Y="indices",
    ),
    "a norm of one unit": case(nnx.Network(2, [nnx.Dense(1), nnx.LayerNorm(), nnx.Dense(1)], "identity")),
    "as many samples as units": case(nnx.mlp([45, 45, 45]), Y="indices"),
}
"""Steps that need several blocks, rounds of a warp, or lines of all kinds."""


@pytest.mark.parametrize("m", [45, pytest.param(700, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name",
    long_but_for(WIDE, "several blocks for a sum"),
)
def test_steps_of_other_sizes(name, m):
    made, step, state, batch = render(WIDE[name], "float32", m)
    here, J = quiet()(step)(state, batch)
    runs = [steps(made, state, [batch], seed) for seed in (0, 1, 5)]
    close(runs[0], (here, [J]), "float32")
    for new, costs in runs[1:]:
        for key, x in new.items():
            np.testing.assert_array_equal(x, runs[0][0][key])
        np.testing.assert_array_equal(costs, runs[0][1])


@pytest.mark.parametrize("name", long_but_for(SCHEDULED, "cosine"))
def test_every_schedule(name):
    schedule = nnx.schedules.schedule(name, learning_rate=0.1, **SCHEDULED[name])
    made, step, state, batch = render(case(small(), nnx.Adam(schedule)), "float64", 6)
    here = state
    for _ in range(3):
        here, _ = step(here, batch)
    close(steps(made, state, [batch] * 3)[0], here, "float64")


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_RENDERED])
def test_the_text_of_a_kernel_does_not_depend_on_the_number_of_samples(name):
    texts = [render(CASES[name], "float32", m)[0].kernels for m in (7, 128, 129)]
    assert all(text == texts[0] for text in texts)


def test_without_another_number_of_samples_sizes_are_literals():
    step, state, batch = digits(45)
    alone = rendered(scheduled(trace(step, state, batch)))
    assert alone.kernels != render(lambda dtype, m: digits(m), "float32", 45)[0].kernels
    other = scheduled(trace(*CASES["tanh"]("float32", m=46)))  # of another network
    assert rendered(scheduled(trace(step, state, batch)), other).kernels == alone.kernels
    assert not any(number for call in alone.calls if isinstance(call, Launch) for number in call.numbers)
    close(steps(alone, state, [batch]), (step(state, batch)[0], [step(state, batch)[1]]), "float32")


@pytest.mark.parametrize("bad", [np.nan, *(pytest.param(x, marks=pytest.mark.long) for x in (np.inf, 1e30))])
@pytest.mark.parametrize(
    "name",
    long_but_for(["relu", "dropout", "hard_tanh", "huber identity", "lion", "l1", "batch norm"], "relu"),
)
def test_nan_and_infinity_come_through(name, bad):
    made, step, state, batch = render(CASES[name], "float32", 6)
    theta = state["theta"].copy()
    theta[:4] = bad
    state = {**state, "theta": theta}
    new, (J,) = steps(made, state, [batch])
    here, expected = quiet()(step)(state, batch)
    for key, x in {**here, "J": expected}.items():
        np.testing.assert_array_equal(np.isnan({**new, "J": J}[key]), np.isnan(x), err_msg=key)


def test_kernels_of_one_form_are_there_once():
    made = render(lambda dtype, m: digits(m, (20, 64, 64, 64, 10)), "float32", 45)[0]
    launches = [call.kernel for call in made.calls if isinstance(call, Launch)]
    assert len(launches) == 11
    assert len(made.kernels) == len(set(launches)) == 7


def test_a_function_that_is_no_step():
    net = nnx.mlp([20, 33, 10])
    theta, X = net.init(0), np.random.default_rng(0).standard_normal((45, 20)).astype("float32").T

    def function(theta, X):
        return net.forward(theta, X)

    graphs = [own_outputs(trace(function, theta, x)) for x in (X, X[:, :44])]
    made = rendered(*(scheduled(graph, is_step=False) for graph in graphs))
    (A,) = outputs(made, [theta, X])
    np.testing.assert_allclose(A, net.forward(theta, X), rtol=1e-5)
    assert made.schedule.places[made.schedule.graph.outputs[0]].strides == (1, 10)  # a sample in one piece


@pytest.mark.long
def test_arrays_of_more_than_2_to_the_31_elements(monkeypatch):
    """Their elements have numbers of 64 bits. What runs here is small: "large" begins at 100 elements then."""
    step, state, batch = digits(1, (784, 40, 10))
    large = render_step(step, state, batch, 3 << 20)
    assert "uint64 i" in large.source
    assert "uint64 i" not in render_step(step, state, batch, 2 << 20).source
    assert all(0 < call.grid < 1 << 31 for call in large.calls if isinstance(call, Launch))
    monkeypatch.setattr(form, "LARGE", 100)
    made, step, state, batch = render(WIDE["several blocks for a sum"], "float32", 300)
    assert "uint32 e" not in made.source
    close(steps(made, state, [batch]), (step(state, batch)[0], [step(state, batch)[1]]), "float32")
