"""FeatureScale and NTKDense: their first parameters, and PyTorch's Adam with a rate for each kind of parameter."""

import numpy as np
import pytest

import nnx

BETAS = (0.9, 0.95)


def a_network(bias_rate=0.1):
    return nnx.Network(
        5,
        [
            nnx.FeatureScale(6.0),
            nnx.NTKDense(9, "selu", bias_rate=bias_rate),
            nnx.NTKDense(7, "selu", bias_rate=bias_rate),
            nnx.NTKDense(3, init="zeros", bias_rate=bias_rate),
        ],
        output="softmax",
    )


@pytest.mark.needs("torch")
def test_training_is_that_of_pytorchs_parameter_groups(rng):
    """6 times the rate for the scales, a tenth of it for the biases, W / sqrt(n'), the rate of CosLog."""
    torch = pytest.importorskip("torch")
    net, steps = a_network(), 12
    X, Y = rng.standard_normal((5, 40)), rng.integers(0, 3, 40)
    optimizer = nnx.Adam(nnx.schedules.CosLog(0.04, steps), *BETAS, epsilon=1e-30)
    trainer = nnx.Trainer(
        net, optimizer, "numpy", dtype="float64", regularization=nnx.Regularization(label_smoothing=0.1)
    )
    p = {name: torch.from_numpy(x) for name, x in trainer.parameters.items()}
    scale = torch.ones(5, 1, dtype=torch.float64)
    weights = [p[f"W{l}"] for l in (1, 2, 3)]
    biases = [0.1 * p[f"b{l}"] for l in (1, 2, 3)]
    groups = ([scale], 6.0), (weights, 1.0), (biases, 0.1)
    for x in (scale, *weights, *biases):
        x.requires_grad_()
    adam = torch.optim.Adam([{"params": own} for own, _ in groups], betas=BETAS, eps=1e-30)

    def Z(A):
        A = scale * A
        for l, (W, b) in enumerate(zip(weights, biases, strict=True)):
            A = W @ A / W.shape[1] ** 0.5 + b
            A = torch.nn.functional.selu(A) if l < 2 else A
        return A.T

    rows, labels = torch.from_numpy(X), torch.from_numpy(Y)
    for t in range(steps):
        rate = 0.04 * (0.5 - 0.5 * np.cos(2 * np.pi * np.log2(1 + 15 * t / steps)))
        for own, (_, factor) in zip(adam.param_groups, groups, strict=True):
            own["lr"] = factor * rate
        adam.zero_grad()
        torch.nn.functional.cross_entropy(Z(rows), labels, label_smoothing=0.1).backward()
        adam.step()
    trainer.fit(X, Y, epochs=steps)
    with torch.no_grad():
        expected = torch.softmax(Z(rows), dim=1).numpy().T
    np.testing.assert_allclose(trainer.predict(X), expected, rtol=0, atol=1e-9)
    found = trainer.parameters
    np.testing.assert_allclose(6 * found["s0"], scale.detach().numpy(), rtol=1e-8)
    np.testing.assert_allclose(0.1 * found["b2"], biases[1].detach().numpy(), rtol=1e-6, atol=1e-9)


def test_first_parameters():
    net = nnx.Network(400, [nnx.FeatureScale(4.0), nnx.NTKDense(300, bias_rate=0.1)], output="softmax")
    p = net.unflatten(net.init(seed=1, dtype="float64"))
    assert (p["s0"] == 0.25).all()
    assert p["W1"].std() == pytest.approx(1, rel=0.01)
    assert 0.1 * p["b1"].std() == pytest.approx(1, rel=0.1)
    he = net.unflatten(net.init(seed=1, dtype="float64", scheme="he"))["W1"] / 20
    np.testing.assert_allclose(he, nnx.INITIALIZERS["he"](np.random.default_rng(1), 300, 400), rtol=1e-12)
    assert not net.init(scheme="zeros")[400:].any()


def test_a_network_of_them_is_described_and_saved(tmp_path):
    trainer = nnx.Trainer(a_network(), nnx.Adam(nnx.schedules.CosLog(0.04, 8)), "numpy")
    trainer.save(tmp_path / "model.safetensors")
    loaded = nnx.Trainer.load(tmp_path / "model.safetensors", "numpy")
    assert loaded.network.layers == trainer.network.layers
    assert loaded.optimizer.learning_rate == nnx.schedules.CosLog(0.04, 8)
    np.testing.assert_array_equal(loaded.theta, trainer.theta)


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(nnx.convert.to_torch, marks=pytest.mark.needs("torch")),
        nnx.convert.to_sklearn,
        nnx.convert.to_keras,
    ],
)
def test_other_libraries_refuse_them(convert):
    net = nnx.Network(2, [nnx.NTKDense(1)], output="sigmoid")
    with pytest.raises(nnx.InputError, match="no counterpart"):
        convert(net, net.init())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nnx.FeatureScale(0), r"FeatureScale's rate must be in \(0, inf\], not 0"),
        (lambda: nnx.NTKDense(3, bias_rate=-1), "NTKDense's bias_rate must be"),
        (lambda: nnx.NTKDense(0), "the units of a NTKDense layer, must be a positive integer"),
        (lambda: nnx.NTKDense(3, init="big"), "unknown initializer 'big'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(nnx.InputError, match=message):
        make()
