"""Products in bfloat16 and TF32: how the precision is asked for, what it changes, and what it leaves alone."""

import pickle

import numpy as np
import pytest
from every_layer import LAYERS
from step_cases import digits

import nnx
from nnx.array.namespace import array_namespace
from nnx.compiler import Value, mapped, trace
from nnx.compiler.ir.evaluate import done
from nnx.compiler.passes.round_factors import with_rounded_factors
from nnx.train.step import cost_and_gradient, initial_state

WITH = [
    pytest.param("torch", marks=pytest.mark.needs("torch")),
    pytest.param("jax", marks=pytest.mark.needs("jax")),
]


@pytest.fixture(params=WITH)
def bfloat16(request):
    """A backend whose products are bfloat16."""
    return nnx.backend(request.param, "cpu", "bfloat16")


def rounded(x):
    """Return float32 numbers rounded to bfloat16, half to even, as float64."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    up = 0x7FFF + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + up.astype(np.uint32)) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def in_numpy(function, *arguments, factor=rounded):
    """Return what a function returns, by its graph in NumPy, each factor of a product changed before."""
    import array_api_compat.numpy as xp

    graph, given = trace(function, *arguments), []
    mapped(arguments, lambda leaf: given.append(leaf) if hasattr(leaf, "dtype") else None)
    found = dict(zip(graph.inputs, given, strict=True))
    for op in graph.ops:
        args = [found[x] if isinstance(x, Value) else x for x in op.args]
        if op.name == "matmul":
            found[op.out] = np.matmul(*map(factor, args)).astype(op.out.dtype)
        else:
            found[op.out] = np.asarray(done(op, args, xp))
    return mapped(graph.result, lambda leaf: found[leaf] if isinstance(leaf, Value) else leaf)


def transposed(x):
    return array_namespace(x).matrix_transpose(x)


PRODUCTS = {
    "a b": (lambda a, b: a @ b, (5, 700), (700, 33)),
    "a^T b": (lambda a, b: transposed(a) @ b, (700, 5), (700, 33)),
    "a b^T": (lambda a, b: a @ transposed(b), (5, 700), (33, 700)),
    "(b^T a^T)^T": (lambda a, b: transposed(transposed(b) @ transposed(a)), (64, 20), (20, 3)),
    "one column": (lambda a, b: transposed(a) @ b, (300, 40), (300, 1)),
    "stacked": (lambda a, b: a @ b, (2, 5, 70), (2, 70, 3)),
    "a factor twice": (lambda a, b: (a @ b) @ (transposed(b) @ a), (9, 9), (9, 9)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_those_of_rounded_factors(name, bfloat16, rng):
    function, *shapes = PRODUCTS[name]
    a, b = (rng.standard_normal(shape, np.float32) for shape in shapes)
    found = bfloat16.to_numpy(bfloat16.compile(function)(bfloat16.asarray(a), bfloat16.asarray(b)))
    expected, plain = (in_numpy(function, a, b, factor=f) for f in (rounded, np.float64))
    assert found.dtype == np.float32
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < (1e-6 if name != "a factor twice" else 1e-4) * scale
    assert np.abs(plain - expected).max() > 1e-3 * scale  # float32 is another result


def test_other_products_and_all_else_stay(bfloat16, rng):
    a = bfloat16.asarray(rng.standard_normal((6, 40)).astype("float32"))
    xp = bfloat16.xp
    total = bfloat16.compile(lambda a: (xp.sum(a, axis=1), a * a, array_namespace(a).vecdot(a, a)))(a)
    expected = bfloat16.to_numpy(a)
    for found, exact in zip(
        total, (expected.sum(1), expected * expected, (expected * expected).sum(1)), strict=True
    ):
        np.testing.assert_allclose(bfloat16.to_numpy(found), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.needs("torch")
def test_products_of_float64_are_not_rounded(rng):
    backend = nnx.backend("torch", "cpu", "bfloat16")
    a = rng.standard_normal((7, 7))
    found = backend.compile(lambda a: a @ a)(backend.asarray(a))
    np.testing.assert_allclose(backend.to_numpy(found), a @ a, rtol=1e-12)


# --- the pass of the compiler ---


def test_a_factor_is_rounded_once_and_its_transpose_is_a_view():
    step, state, batch = digits()
    graph = trace(step, state, batch)
    after = with_rounded_factors(graph)
    copies = [op for op in after.ops if op.out.dtype == "bfloat16"]
    # A[0] to A[2], W[1] to W[3], dZ[1] to dZ[3]; the transposes of A[0] to A[2], W[2] and W[3]
    assert sorted(op.name for op in copies) == ["astype"] * 9 + ["permute"] * 5
    products = [op for op in after.ops if op.name == "matmul"]
    assert len(products) == 8
    assert {x.dtype for op in products for x in op.reads} == {"bfloat16"}
    assert {op.out.dtype for op in products} == {"float32"}
    assert after.result == graph.result


def test_constants_and_single_columns_are_not_rounded():
    def function(x, row):
        ones = array_namespace(x).ones((4, 3))
        return (
            array_namespace(x).astype(ones, x.dtype) @ x,
            transposed(row) @ row,
        )  # the second is no sum, and so no product

    graph = with_rounded_factors(trace(function, np.zeros((3, 5), "f4"), np.zeros((1, 5), "f4")))
    assert "bfloat16" not in {op.out.dtype for op in graph.ops}


# --- training ---


@pytest.mark.parametrize("layers", LAYERS)
def test_the_gradient_is_that_of_rounded_factors(layers, bfloat16, rng):
    network = nnx.Network(7, LAYERS[layers](), output="softmax")
    X, Y = rng.standard_normal((7, 64), np.float32), rng.integers(0, 5, 64, dtype=np.int32)
    state = initial_state(network, nnx.Adam(), network.init(1, "float32"), nnx.Regularization(l2=0.01), 3)
    function = cost_and_gradient(network, nnx.Regularization(l2=0.01))

    def on_backend(leaf):
        return bfloat16.asarray(leaf) if hasattr(leaf, "dtype") else leaf

    J, gradient = bfloat16.compile(function)(*mapped((state, (X, Y, None)), on_backend))
    found, J = bfloat16.to_numpy(gradient), float(J)
    assert found.dtype == np.float32
    (J_r, expected), (J_p, plain) = (
        in_numpy(function, state, (X, Y, None), factor=f) for f in (rounded, np.float64)
    )
    scale = np.linalg.norm(plain)
    # A number that is a last bit higher may be rounded up, where NumPy's is rounded down.
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(plain - expected)
    assert np.linalg.norm(plain - expected) < 0.1 * scale
    assert abs(J - J_r) < 0.1 * abs(J_p - J_r) + 1e-6


def digits_trainer(backend, **rest):
    from sklearn.datasets import load_digits

    found = load_digits()
    X, Y = (found.data.T / 16).astype("float32"), found.target
    trainer = nnx.Trainer(nnx.mlp([64, 32, 10]), nnx.Adam(0.005), backend, "cpu", **rest)
    trainer.fit(X[:, :1400], Y[:1400], epochs=12, batch_size=64)
    return trainer, trainer.evaluate(X[:, 1400:], Y[1400:], metrics=["accuracy", "confusion_matrix"])


@pytest.mark.needs("sklearn")
def test_digits_are_learned_as_well(bfloat16):
    found = {
        precision: digits_trainer(bfloat16.name, precision=precision) for precision in ("float32", "bfloat16")
    }
    (plain, with_float32), (trainer, measured) = found.values()
    assert measured["accuracy"] > 0.88
    assert abs(measured["accuracy"] - with_float32["accuracy"]) < 0.025
    assert 0 < abs(measured["loss"] - with_float32["loss"]) < 0.02
    assert measured["confusion_matrix"].sum() == 397
    assert all(str(x.dtype).endswith(("float32", "int32")) for x in trainer.state.values())
    assert (trainer.theta.view(np.uint32) & 0xFFFF).any()  # more bits than bfloat16 has
    assert trainer.backend.precision == "bfloat16"
    assert trainer.backend.describe().endswith(", products in bfloat16")
    assert "products in bfloat16" in trainer._repr_html_()
    assert "products in" not in plain._repr_html_() + plain.backend.describe()


def test_float32_is_the_default_to_the_last_bit(bfloat16):
    made = [
        nnx.Trainer(nnx.mlp([4, 8, 3]), backend=bfloat16.name, device="cpu", **rest)
        for rest in ({}, {"precision": "float32"}, {"precision": None})
    ]
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((4, 60)), rng.integers(0, 3, 60)
    for trainer in made:
        assert trainer.backend.precision == "float32"
        trainer.fit(X, Y, epochs=3, batch_size=20)
        np.testing.assert_array_equal(trainer.theta, made[0].theta)


def test_a_model_file_says_nothing_of_it(bfloat16, tmp_path, rng):
    X, Y = rng.standard_normal((4, 60), np.float32), rng.integers(0, 3, 60)
    network = nnx.mlp([4, 8, 3])
    trainer = nnx.Trainer(network, backend=bfloat16)
    trainer.fit(X, Y, epochs=2, batch_size=20)
    trainer.save(tmp_path / "m.safetensors")
    assert b"bfloat16" not in (tmp_path / "m.safetensors").read_bytes()
    again = nnx.Trainer.load(tmp_path / "m.safetensors", bfloat16.name, "cpu", "bfloat16")
    plain = nnx.Trainer.load(tmp_path / "m.safetensors", "numpy")
    assert (again.backend.precision, plain.backend.precision) == ("bfloat16", "float32")
    np.testing.assert_array_equal(again.predict(X), trainer.predict(X))
    np.testing.assert_allclose(plain.predict(X), trainer.predict(X), atol=0.02)
    assert (plain.predict(X) != trainer.predict(X)).any()
    assert pickle.loads(pickle.dumps(trainer)).backend.precision == "float32"


def test_a_fit_that_goes_on_ends_with_the_same_bits(bfloat16, tmp_path, rng):
    X, Y = rng.standard_normal((4, 60), np.float32), rng.integers(0, 3, 60)

    def fit(epochs, **rest):
        trainer = nnx.Trainer(nnx.mlp([4, 8, 3]), backend=bfloat16)
        trainer.fit(X, Y, epochs=epochs, batch_size=16, **rest)
        return trainer.theta

    fit(2, callbacks=nnx.Checkpoints(tmp_path, epochs=1))
    found = fit(4, callbacks=nnx.Checkpoints(tmp_path, epochs=1), resume=tmp_path)
    np.testing.assert_array_equal(found, fit(4))


@pytest.mark.needs("torch")
def test_what_cannot_be_traced_has_products_of_float32(rng):
    def function(a):
        return a @ a if float(a[0, 0]) else a  # the host reads a number

    backend = nnx.backend("torch", "cpu", "bfloat16")
    a = rng.standard_normal((3, 3), np.float32)
    np.testing.assert_allclose(
        backend.to_numpy(backend.compile(function)(backend.asarray(a))), a @ a, rtol=1e-5
    )


# --- a GPU's own, as far as it can be seen without one ---


@pytest.mark.needs("torch")
def test_the_calls_of_a_gpu_have_results_in_float32():
    import torch

    from nnx.backends.torch.calls import render

    elsewhere = torch.device("meta")  # shapes and dtypes without numbers
    graph = trace(lambda W, X: W @ X, np.zeros((10, 2), "f4"), np.zeros((2, 3), "f4"))
    call = render(graph, {}, torch, elsewhere, precision="bfloat16")
    assert "out_dtype=float32" in call.source
    assert ".float()" not in call.source
    W, X, out = (torch.zeros(shape, device=elsewhere) for shape in ((10, 2), (2, 3), (10, 3)))
    call([W, X], [out])


@pytest.mark.needs("torch")
@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("before", ["tf32", "ieee"])
def test_the_setting_of_the_process_comes_back(before, tf32):
    import torch

    from nnx.backends.torch.adapter import _products

    matmul = torch.backends.cuda.matmul
    name, values = (
        ("fp32_precision", ("ieee", "tf32"))
        if hasattr(matmul, "fp32_precision")
        else ("allow_tf32", (False, True))
    )
    was = getattr(matmul, name)
    try:
        setattr(matmul, name, values[before == "tf32"])
        with _products(torch, tf32):
            assert getattr(matmul, name) == values[tf32]
        assert getattr(matmul, name) == values[before == "tf32"]
    finally:
        setattr(matmul, name, was)
