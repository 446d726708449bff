"""Functions that are no training steps as CUDA C, run on the host: predictions, losses, derivatives, metrics."""

import numpy as np
import pytest
from conftest import long_but_for
from cuda_host import outputs
from cuda_kernels_on_host import needs_compiler
from step_cases import case, layered

import nnx
from nnx.array.host import quiet
from nnx.backends.cupy.step_renderer import rendered, scheduled
from nnx.compiler import Value, is_array, own_outputs, trace
from nnx.support.tree import leaves
from nnx.train.step import cost_and_gradient, micro_batch_step

pytestmark = needs_compiler


def compare(function, *arguments):
    """Compare a function with its kernels, run in three orders."""
    graph = own_outputs(trace(function, *arguments))
    made = rendered(scheduled(graph, is_step=False))
    given = [x for x in leaves(arguments) if is_array(x)]
    with quiet():
        expected = function(*arguments)
    runs = [dict(zip(graph.outputs, outputs(made, given, seed), strict=True)) for seed in (0, 1, 5)]
    for value, x in zip(leaves(graph.result), leaves(expected), strict=True):
        if isinstance(value, Value):
            np.testing.assert_allclose(runs[0][value], x, rtol=1e-9, atol=1e-12)
            assert all(np.array_equal(run[value], runs[0][value], equal_nan=True) for run in runs)


NET = layered(nnx.BatchNorm(), nnx.Dropout(0.3))


@pytest.fixture
def given():
    """A state, X, class indices and weights of the samples."""
    _, state, (X, Y, w) = case(NET, nnx.Adam(), weights=True, Y="indices", m=45)("float64")
    return state, X, Y, w


@pytest.mark.long
def test_predictions_losses_and_derivatives(given):
    state, X, Y, w = given
    compare(NET.forward, state["theta"], X)
    compare(NET.forward_and_loss, state["theta"], X, Y, w)
    compare(cost_and_gradient(NET), state, (X, Y))
    compare(cost_and_gradient(NET, nnx.Regularization(label_smoothing=0.1)), state, (X, Y, w))


METRICS = ("accuracy", "top_k(2)", "log_loss", "precision", "recall", "f1", "confusion_matrix", "roc_auc")


@pytest.mark.parametrize("name", long_but_for(METRICS, "accuracy"))
def test_metrics(given, name):
    state, X, Y, w = given
    one = nnx.metrics.metric(name)

    def measured(theta, X, Y, w):
        A, J = NET.forward_and_loss(theta, X, Y)
        return J, one.partial(NET.output, A, Y, w)

    compare(measured, state["theta"], X, Y, w)


@pytest.mark.long
def test_steps_in_micro_batches(given):
    state, X, Y, w = given
    pieces = micro_batch_step(NET, nnx.Adam())
    first, second = (X[:, :30], Y[:30], w[:30]), (X[:, 30:], Y[30:], w[30:])
    with quiet():
        sums = pieces.first(state, first, np.asarray(0, "int32"))
        total = pieces.add(state, sums, second, np.asarray(30, "int32"))
    compare(pieces.first, state, first, np.asarray(0, "int32"))
    compare(pieces.add, state, sums, second, np.asarray(30, "int32"))
    compare(pieces.total, state, total)
    compare(pieces.update, state, total)
