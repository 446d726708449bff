"""Steps on JAX are those on NumPy, whatever layers the network has."""

import numpy as np
import pytest

import nnx

pytest.importorskip("jax", reason="JAX is not installed: pip install 'nnx-array[jax]'")

from every_layer import LAYERS


@pytest.mark.parametrize(("shuffle", "weighted"), [(False, True), (True, False)])
@pytest.mark.parametrize("layers", LAYERS)
def test_steps_are_numpys(layers, shuffle, weighted):
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
