"""Training steps of every kind, each with a state and a batch."""

import numpy as np

import nnx
from nnx.model.network import Network
from nnx.model.outputs import LOSSES
from nnx.model.outputs import output as find_output
from nnx.train.step import initial_state, training_step


def names(graph):
    return [op.name for op in graph.ops]


def digits(m=16, sizes=(64, 64, 64, 10), optimizer=None, dtype="float32", **rest):
    """A step with a state and a batch for it."""
    net = nnx.mlp(list(sizes), **rest)
    optimizer = optimizer or nnx.Adam()
    rng = np.random.default_rng(0)
    state = initial_state(net, optimizer, net.init(0, dtype))
    X = rng.standard_normal((m, sizes[0])).astype(dtype).T  # as batches are gathered
    return training_step(net, optimizer), state, (X, rng.integers(0, sizes[-1], m, dtype=np.int32))


def leaves(tree):
    if isinstance(tree, dict):
        tree = [tree[name] for name in sorted(tree)]
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [] if tree is None else [np.array(tree)]


def close(found, expected, dtype):
    rtol = 1e-9 if dtype == "float64" else 2e-4
    for x, y in zip(leaves(found), leaves(expected), strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol / 10)


def case(net, optimizer=None, regularization=None, m=6, Y=None, weights=False, lead=()):
    """A function of a dtype, and of the number of samples if it is another one, for a step, a state and a batch.

    With a share the step is that of a rank; the batch is the whole one all the same.
    """
    optimizer, regularization = optimizer or nnx.Momentum(), regularization or nnx.Regularization()

    def made(dtype, m=m, share=None):
        rng = np.random.default_rng(0)
        theta = net.init(0, dtype)
        if lead:
            theta = theta + 0.1 * rng.standard_normal((*lead, net.P)).astype(dtype)
        state = initial_state(net, optimizer, theta, regularization, seed=3)
        X = rng.standard_normal((m, net.n[0])).astype(dtype).T
        n = net.n_targets
        if Y == "indices":
            batch = X, rng.integers(0, n, m, dtype=np.int32)
        else:
            batch = X, (rng.random((n, m)) > 0.5).astype(dtype)
        if weights:
            batch = (*batch, rng.random(m).astype(dtype))
        return training_step(net, optimizer, regularization, share=share), state, batch

    made.network, made.regularization = net, regularization
    return made


def small(hidden="tanh", output="softmax", loss=None, sizes=(4, 5, 3)):
    *sizes, n = sizes
    return nnx.mlp([*sizes, n * find_output(output, loss).per_target], hidden, output, loss=loss)


def layered(*layers):
    return Network(4, [nnx.Dense(5, "relu"), *layers, nnx.Dense(3)], "softmax")


def _optimizers():
    for name, make in nnx.OPTIMIZERS.items():
        if name != "lbfgs":
            yield name, make()
    yield "lion that decays", nnx.Lion(weight_decay=0.1)


SCHEDULED = {
    "constant": {}, "step_decay": {"every": 2}, "exponential": {"every": 2, "decay": 0.5}, "inverse_scaling": {},
    "polynomial": {"steps": 9}, "cosine": {"steps": 9}, "one_cycle": {"steps": 9},
    "coslog": {"steps": 9},
}  # fmt: skip


CASES = {
    **{activation: case(small(activation)) for activation in nnx.ACTIVATIONS},
    **{
        f"{loss} {output}": case(small(output=output, loss=loss))
        for output, losses in LOSSES.items()
        for loss in losses
    },
    "several quantiles": case(small(output="identity", loss="quantile(0.1,0.5,0.9)"), weights=True),
    "focal softmax": case(small(loss="focal"), Y="indices"),
    **{name: case(small(), optimizer) for name, optimizer in _optimizers()},
    "one output": case(small(output="sigmoid", sizes=(4, 5, 1))),
    "one sample": case(small("relu"), nnx.Adam(), m=1, Y="indices"),
    "no hidden layer": case(small(sizes=(4, 3))),
    "weights": case(small(), weights=True, Y="indices"),
    "prelu": case(layered(nnx.PReLU())),
    "activate": case(layered(nnx.Activate("silu"))),
    "dropout": case(layered(nnx.Dropout(0.3))),
    "noise": case(Network(4, [nnx.GaussianNoise(0.2), nnx.Dense(5, "relu"), nnx.Dense(3)], "softmax")),
    "layer norm": case(layered(nnx.LayerNorm())),
    "batch norm": case(layered(nnx.BatchNorm()), nnx.Adam()),
    "bins": case(
        Network(4, [nnx.PiecewiseLinear(3, 2, edges=[[0.0, 0.4, 1.0]] * 4), nnx.Dense(3)], "softmax"),
        nnx.Adam(),
    ),
    "waves behind": case(layered(nnx.Periodic(3, 2, lite=True))),
    "residual": case(layered(nnx.Residual([nnx.LayerNorm(), nnx.Dense(7, "gelu"), nnx.Dense(5)]))),
    "scaled": case(
        Network(4, [nnx.FeatureScale(6.0), nnx.NTKDense(5, "selu", None, 0.1), nnx.NTKDense(3)], "softmax"),
        nnx.Adam(nnx.schedules.CosLog(0.04, steps=9)),
    ),
    "stack": case(small(), nnx.Adam(), lead=(3,)),
    "l1": case(small(), regularization=nnx.Regularization(l1=0.1)),
    "everything": case(
        layered(nnx.BatchNorm(), nnx.Dropout(0.2), nnx.PReLU(), nnx.Residual([nnx.Dense(5, "mish")])),
        nnx.AdamW(nnx.schedules.Cosine(0.01, steps=9)),
        nnx.Regularization(
            l1=0.01, l2=0.1, max_norm=0.8, clip_value=0.05, clip_norm=0.1, label_smoothing=0.1
        ),
        weights=True,
        Y="indices",
    ),
}


X = np.ones((3, 4), "float32")
