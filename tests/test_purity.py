"""The step is pure: it reads no array on the host, changes none of its arguments, and holds no number."""

import numpy as np
import pytest
from unreadable_arrays import Guarded, HostReadError, unwrap, wrap

import nnx
from nnx.data import flower
from nnx.train.step import initial_state, stacked_state, training_step


def flower_task(rng):
    X, Y = flower(64)
    return nnx.mlp([2, 16, 16, 1], "tanh"), X, Y


def digits_task(rng):
    return nnx.mlp([64, 64, 64, 10], output="softmax"), rng.random((64, 32)), rng.integers(0, 10, 32)


def mnist_task(rng):
    return nnx.mlp([784, 512, 512, 10], output="softmax"), rng.random((784, 16)), rng.integers(0, 10, 16)


TASKS = [flower_task, digits_task, mnist_task]


@pytest.fixture(params=TASKS, ids=lambda task: task.__name__)
def task(request, backend, rng):
    """A step with its first state and a batch, on the backend."""
    net, X, Y = request.param(rng)
    optimizer = nnx.Adam()
    state = initial_state(net, optimizer, backend.asarray(net.init(), "float32"))
    batch = backend.asarray(X, "float32"), backend.asarray(Y, "int32")
    return training_step(net, optimizer), state, batch


def test_no_host_read_inside_the_step(task, backend):
    step, state, batch = task
    state, J = step(wrap(state, backend.xp), wrap(batch, backend.xp))
    assert isinstance(J, Guarded)
    assert all(isinstance(x, Guarded) for x in state.values())
    assert np.isfinite(backend.to_numpy(unwrap(J)))
    assert int(unwrap(state["t"])) == 1


@pytest.mark.parametrize("optimizer", [nnx.GradientDescent(), nnx.Adam()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("output", nnx.OUTPUTS)
@pytest.mark.parametrize("hidden", nnx.ACTIVATIONS)
def test_no_host_read_by_any_formula(backend, hidden, output, optimizer):
    net = nnx.mlp([2, 3, 2], hidden, output)
    state = initial_state(net, optimizer, backend.asarray(net.init(), "float32"))
    batch = backend.asarray(np.ones((2, 4)), "float32"), backend.asarray(np.full((2, 4), 0.5), "float32")
    training_step(net, optimizer)(wrap(state, backend.xp), wrap(batch, backend.xp))


def test_the_guard_sees_a_host_read(backend):
    x = Guarded(backend.asarray(np.ones(3), "float32"))
    for read in (bool, int, float, len, list, np.asarray):
        with pytest.raises(HostReadError):
            read(x[0] if read is not list else x)
    with pytest.raises(HostReadError):
        _ = 1 if x[0] > 0 else 2


def test_the_step_changes_none_of_its_arguments(task, backend):
    step, state, batch = task
    before = {name: np.array(backend.to_numpy(x)) for name, x in state.items()}
    after, _ = backend.compile(step)(state, batch)
    for name, x in before.items():
        np.testing.assert_array_equal(backend.to_numpy(state[name]), x)
    assert (backend.to_numpy(after["theta"]) != before["theta"]).any()


def test_the_step_holds_no_number_that_changes(backend, rng):
    """A captured step takes the learning rate and the step count from the state, where they can change."""
    net = nnx.mlp([3, 2, 1])
    state = initial_state(net, nnx.GradientDescent(0.1), backend.asarray(net.init(), "float64"))
    batch = backend.asarray(rng.random((3, 5)), "float64"), backend.asarray(rng.random((1, 5)), "float64")
    step = backend.compile(training_step(net, nnx.GradientDescent(0.1)))
    thetas = []
    for alpha in (0.1, 0.2):
        after, _ = step({**state, "alpha": backend.asarray(alpha, "float64")}, batch)
        thetas.append(backend.to_numpy(after["theta"]) - backend.to_numpy(state["theta"]))
    np.testing.assert_allclose(thetas[1], 2 * thetas[0], rtol=1e-12)


def test_learning_rates_of_a_stack(backend, rng):
    """A stack of networks may learn at rates of their own: alpha (K, 1)."""
    net = nnx.mlp([3, 2, 1])
    theta = np.stack([net.init(seed, dtype="float64") for seed in range(3)])
    X, Y = rng.random((3, 5)), rng.random((1, 5))
    rates = [0.1, 0.2, 0.4]
    optimizer = nnx.Adam()
    step = training_step(net, optimizer)
    batch = backend.asarray(X, "float64"), backend.asarray(Y, "float64")
    state = initial_state(net, optimizer, backend.asarray(theta, "float64"))
    state["alpha"] = backend.asarray(np.array(rates)[:, None], "float64")
    for _ in range(3):
        state, J = step(state, batch)
    assert tuple(J.shape) == (3,)
    for k, rate in enumerate(rates):
        one = nnx.Trainer(net, nnx.Adam(rate), backend="numpy", dtype="float64", seed=k)
        one.fit(X, Y, epochs=3)
        expected = net.flatten(one.parameters)
        np.testing.assert_allclose(backend.to_numpy(state["theta"])[k], expected, rtol=1e-10)


def test_the_step_of_a_stack_reads_nothing_on_the_host(backend, rng):
    net = nnx.Network(4, [nnx.Dense(5, "relu"), nnx.Dropout([0.1, 0.2, 0.3]), nnx.Dense(3)], "softmax")
    optimizer = nnx.AdamW([0.1, 0.2, 0.3], beta2=[0.9, 0.99, 0.999], weight_decay=[0.0, 0.1, 0.2])
    own = nnx.Regularization(
        l1=[0, 1, 2], l2=0.1, max_norm=[1, None, 2], clip_norm=[1, 2, None], label_smoothing=0.1
    )
    theta = backend.asarray(np.stack([net.init(seed) for seed in range(3)]), "float32")
    state = stacked_state(net, optimizer, theta, own)
    X, w = backend.asarray(rng.random((4, 6)), "float32"), backend.asarray(rng.random((3, 6)), "float32")
    batch = X, backend.asarray(rng.integers(0, 3, 6), "int32"), w
    step = training_step(net, optimizer, own, own_weights=True)
    after, J = step(wrap(state, backend.xp), wrap(batch, backend.xp))
    assert tuple(unwrap(J).shape) == (3,)
    assert all(isinstance(x, Guarded) for x in (J, *after.values()))
