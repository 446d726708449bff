"""Training steps for the tests of programs, each with a state and all its samples."""

import numpy as np

import nnx
from nnx.array.gather import mini_batch
from nnx.train.step import initial_state, training_step

NETWORKS = {
    "softmax": (nnx.mlp([6, 9, 4]), nnx.Adam(0.01), "indices"),
    "numbers": (nnx.mlp([6, 9, 3], "tanh", "identity"), nnx.Momentum(0.01), "numbers"),
    "norms": (
        nnx.Network(
            6, [nnx.Dense(8), nnx.BatchNorm(), nnx.Activate("gelu"), nnx.Dropout(0.3), nnx.Dense(4)], "softmax"
        ),
        nnx.Momentum(nnx.schedules.Cosine(0.01, steps=20)),  # (Adam makes much of rounding in the b of BatchNorm)
        "indices",
    ),
}  # fmt: skip


def made(name, backend, dtype="float32", m=50, weights=False):
    """A step, a state and data for it on a backend."""
    network, optimizer, targets = NETWORKS[name]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, 6)).astype(dtype).T
    Y = rng.integers(0, 4, m) if targets == "indices" else rng.standard_normal((3, m)).astype(dtype)
    w = rng.random(m).astype(dtype) if weights else None
    regularization = nnx.Regularization(l2=0.01, clip_norm=1.0)
    theta = backend.asarray(network.init(0), dtype)
    state = initial_state(network, optimizer, theta, regularization, seed=1)
    state = {name: backend.asarray(x) for name, x in state.items()}  # CuPy's stand-in: NumPy has made them
    data = backend.asarray(X), backend.asarray(Y), None if w is None else backend.asarray(w)
    return training_step(network, optimizer, regularization), state, data


def loaded(backend, step, state):
    """A program of a step with a state."""
    program = backend.compile(step)
    program.load(state)
    return program


def one_by_one(step, state, data, order, at, m, count):
    """What a run must do, by calls of the step."""
    Js = []
    for start in range(at, at + m * count, m):
        state, J = step(state, mini_batch(data, order, start, m))
        Js.append(J)
    return state, Js


def numbers(backend, Js, count):
    """The costs of a run on the host."""
    many = not isinstance(Js, list)
    return backend.to_numpy(Js)[:count] if many else np.array([backend.to_numpy(J) for J in Js])


def on_host(backend, state):
    """Copies of arrays on the host."""
    return {name: np.array(backend.to_numpy(x)) for name, x in state.items()}


def same(found, expected):
    """Whether two states on the host are equal."""
    assert set(found) == set(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x, err_msg=name)
