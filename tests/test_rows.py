"""JAX's steps with a sample in each row: those of NumPy, whatever stands in the network."""

import numpy as np
import pytest

import nnx

pytest.importorskip("jax", reason="JAX is not installed: pip install 'nnx-array[jax]'")

from stacks import LAYERS

from nnx.backends import jax as adapter
from nnx.backends import xla
from nnx.recording import record
from nnx.step import initial_state, training_step


@pytest.mark.parametrize(
    ("sizes", "m", "so"),
    [((784, 512, 512, 10), 128, True), ((784, 512, 512, 10), 1024, False), ((12288, 20, 7, 5, 1), 16, False)],
)
def test_wide_networks_go_by_rows_with_few_samples(sizes, m, so):
    net, optimizer = nnx.mlp(sizes), nnx.Adam()
    state = initial_state(net, optimizer, net.init(0, "float32"))
    y = np.zeros(m, np.int32) if sizes[-1] > 1 else np.zeros((1, m), np.float32)
    batch = np.zeros((sizes[0], m), np.float32), y, None
    assert xla.is_by_rows(record(training_step(net, optimizer), state, batch)) == so


@pytest.mark.parametrize(("shuffle", "weighted"), [(False, True), (True, False)])
@pytest.mark.parametrize("layers", LAYERS)
def test_steps_by_rows_are_numpys(monkeypatch, layers, shuffle, weighted):
    asked = []
    monkeypatch.setattr(adapter, "is_by_rows", lambda recording: asked.append(recording) or True)
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((7, 203)), rng.integers(0, 5, 203)
    w = rng.random(203) if weighted else None
    found = {}
    for backend in ("numpy", "jax"):
        trainer = nnx.Trainer(
            nnx.Network(7, LAYERS[layers](), output="softmax"),
            nnx.AdamW(),
            backend=backend,
            seed=3,
            dtype="float64",
        )
        history = trainer.fit(X, y, epochs=3, batch_size=32, shuffle=shuffle, sample_weight=w)
        found[backend] = history["loss"], trainer.predict(X)
    np.testing.assert_allclose(found["jax"][0], found["numpy"][0], rtol=1e-9)
    np.testing.assert_allclose(found["jax"][1], found["numpy"][1], atol=1e-7)
    assert asked
