"""Layers of every kind, for 7 features and 5 classes."""

import nnx

LAYERS = {
    "plain": lambda: [nnx.Dense(20, "relu"), nnx.Dense(16, "tanh"), nnx.Dense(5, "identity")],
    "normalized": lambda: [nnx.Dense(33), nnx.BatchNorm(), nnx.Activate("relu"), nnx.Dense(5, "identity")],
    "of each sample": lambda: [
        nnx.Dense(33),
        nnx.LayerNorm(),
        nnx.Activate("tanh"),
        nnx.Dense(5, "identity"),
    ],
    "dropped": lambda: [nnx.Dense(37, "relu"), nnx.Dropout(0.3), nnx.Dense(5, "identity")],
    "with slopes": lambda: [nnx.Dense(33), nnx.PReLU(), nnx.GaussianNoise(0.1), nnx.Dense(5, "identity")],
    "added": lambda: [nnx.Dense(20), nnx.Residual([nnx.Dense(20, "relu")]), nnx.Dense(5, "identity")],
}
