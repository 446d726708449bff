"""Programs of JAX: steps are NumPy's for all layers, states of other forms follow each other, no memory is taken."""

import gc

import numpy as np
import pytest

import nnx
from nnx.train.step import initial_state, training_step

pytest.importorskip("jax", reason="JAX is not installed: pip install '.[jax]'")

from every_layer import LAYERS
from program_cases import loaded, made, numbers, on_host, one_by_one, same


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


@pytest.fixture
def jax():
    return nnx.backend("jax", device="cpu")


def test_a_program_holds_the_current_state_and_the_saved_one(jax):
    """The arrays of all other states are gone, and no run writes into those that are there."""
    import jax as library

    step, state, data = made("softmax", jax)
    program = loaded(jax, step, state)
    sizes = []
    for k in range(12):
        program.run(data, None, 0, 10, 5)
        gc.collect()
        sizes.append(sum(x.nbytes for x in library.live_arrays()))
        if k == 5:
            program.snapshot()
            saved = on_host(jax, program.read())
    size = sum(x.nbytes for x in state.values())
    assert {*sizes[:6]} == {sizes[0]}
    assert {*sizes[6:]} == {sizes[0] + size}
    program.rollback()
    same(on_host(jax, program.read()), saved)
    program.run(data, None, 0, 10, 5)
    program.rollback()
    same(on_host(jax, program.read()), saved)


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_interrupt_between_or_after_the_epochs_of_a_run_changes_nothing(jax, epochs, monkeypatch):
    """Neither of the current state nor of the saved one."""
    step, state, data = made("softmax", jax)
    program = loaded(jax, step, state)
    order = jax.asarray(np.concatenate([np.random.default_rng(k).permutation(50) for k in range(3)]))
    program.run(data, order, 0, 10, 15)
    program.snapshot()
    saved = on_host(jax, program.read())
    program.run(data, order, 0, 10, 15)
    before, calls = on_host(jax, program.read()), []

    def interrupt():
        calls.append(1)
        if len(calls) % epochs == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("nnx.backends.jax.program.give_way", interrupt)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                program.run(data, order, 0, 10, 15)
            same(on_host(jax, program.read()), before)
    assert len(calls) == 3 * epochs
    expected = loaded(jax, step, program.read())
    for one in (program, expected):
        one.run(data, order, 0, 10, 15)
    same(on_host(jax, program.read()), on_host(jax, expected.read()))
    program.rollback()
    same(on_host(jax, program.read()), saved)


def test_a_function_that_cannot_be_traced_runs_as_it_is(jax):
    import jax.numpy as jnp

    step, state, data = made("softmax", jax)

    def with_jax(state, batch):
        new, J = step(state, batch)
        return {**new, "theta": jnp.clip(new["theta"], -1e6, 1e6)}, J

    program, other = loaded(jax, step, state), loaded(jax, with_jax, state)
    for _ in range(3):
        for one in (program, other):  # from one to the other
            one.load(state)
            one.snapshot()
            for _ in range(2):
                one.run(data, None, 0, 10, 5)
                state = one_by_one(step, state, data, None, 0, 10, 5)[0]
            np.testing.assert_allclose(*(x["theta"] for x in (one.read(), state)), rtol=1e-5, atol=1e-6)


def test_dtypes_in_turn(jax):
    step, state, _ = made("softmax", jax)
    program, found = loaded(jax, step, state), {}
    for dtype in ("float32", "float64", "float32"):
        _, state, data = made("softmax", jax, dtype)
        program.load(state)
        for _ in range(4):
            program.run(data, None, 0, 10, 5)
        found.setdefault(dtype, []).append(jax.to_numpy(program.read("theta")["theta"]))
    assert found["float64"][0].dtype == "float64"
    np.testing.assert_array_equal(*found["float32"])
    np.testing.assert_allclose(found["float32"][0], found["float64"][0], rtol=1e-2, atol=1e-4)


def test_products_are_precise_on_a_gpu(jax, monkeypatch):
    import jax as library

    seen = []

    def step(x, y):
        seen.append(library.config.jax_default_matmul_precision)
        return x @ y

    x = jax.asarray(np.ones((2, 2), np.float32))
    jax.compile(step)(x, x)
    of_the_cpu, seen[:] = list(seen), []
    monkeypatch.setattr(jax, "device", "cuda:0")
    jax.compile(step)(x, x)
    assert set(of_the_cpu) == {None}
    assert "highest" in seen


def test_the_transpose_of_x_goes_with_x(jax):
    step, state, data = made("softmax", jax)
    program, order = loaded(jax, step, state), jax.asarray(np.random.default_rng(0).permutation(50))
    program.run(data, order, 0, 10, 5)
    held = program._transposed[1]
    first = held["X^T"]
    program.run(data, order, 0, 10, 5)
    assert program._transposed[1]["X^T"] is first
    del data
    assert held == {}


def test_the_places_of_a_million_samples_in_order_stay_within_int32(jax):
    """Of batches so large, some 1,200 epochs on end have 2^31 samples."""
    network, optimizer, m = nnx.mlp([1, 1], output="identity"), nnx.GradientDescent(1e-9), 900_000
    X = np.ones((1, 2 * m), "float32")
    Y = np.repeat(np.asarray([0.0, 1.0], "float32"), m)[np.newaxis]
    state = initial_state(
        network, optimizer, jax.asarray(np.zeros(2, "float32")), nnx.Regularization(), seed=0
    )
    program = loaded(jax, training_step(network, optimizer, nnx.Regularization()), state)
    Js = program.run((jax.asarray(X), jax.asarray(Y), None), None, 0, m, 2400)  # 2400 m > 2^31
    costs = numbers(jax, Js, 2400)
    np.testing.assert_allclose(costs[::2], 0.0, atol=1e-4)
    np.testing.assert_allclose(costs[1::2], 0.5, atol=1e-4)
