"""Twenty steps beside PyTorch's own modules, losses and autograd, in float64, to 1e-9."""

import numpy as np
import pytest

import nnx
from nnx.io.convert.torch_names import TORCH_ACTIVATIONS

torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")

ALPHA = 0.1
LABELS, ONE_HOT, NUMBERS = "labels", "one hot", "numbers"


def hinge(Z, Y):
    return torch.clamp(1 - (2 * Y - 1) * Z, min=0).sum(dim=1).mean()


def focal_of_labels(Z, Y):
    a = torch.sigmoid(Z)
    p = torch.where(Y > 0.5, a, 1 - a)
    return -((1 - p) ** 2 * torch.log(p)).sum(dim=1).mean()


def focal(Z, Y):
    p = torch.softmax(Z, dim=1).gather(1, Y[:, None])
    return -((1 - p) ** 2 * torch.log(p)).mean()


def gaussian(Z, Y):
    variance = torch.exp(Z[:, 3:]) + 1e-6
    return F.gaussian_nll_loss(Z[:, :3], Y, variance) * 3


def summed(function):
    """PyTorch's mean over samples and outputs times the outputs: nnx's mean over the samples of their sum."""
    return lambda Z, Y: function(Z, Y) * Z.shape[1]


F = torch.nn.functional
LOSSES = {
    ("softmax", None): (F.cross_entropy, LABELS),
    ("softmax", "focal"): (focal, LABELS),
    ("sigmoid", None): (summed(F.binary_cross_entropy_with_logits), ONE_HOT),
    ("sigmoid", "focal"): (focal_of_labels, ONE_HOT),
    ("identity", None): (summed(lambda Z, Y: F.mse_loss(Z, Y) / 2), NUMBERS),
    ("identity", "huber(0.5)"): (summed(lambda Z, Y: F.huber_loss(Z, Y, delta=0.5)), NUMBERS),
    ("identity", "absolute_error"): (summed(F.l1_loss), NUMBERS),
    ("identity", "hinge"): (hinge, ONE_HOT),
    ("identity", "quantile(0.5)"): (summed(lambda Z, Y: F.l1_loss(Z, Y) / 2), NUMBERS),
    ("identity", "gaussian"): (gaussian, NUMBERS),
    ("exp", None): (summed(F.poisson_nll_loss), ONE_HOT),  # its gradient; the deviance has a constant more
}


def beside_torch(net, loss, kind):
    """Train both for twenty steps; return the parameters of both."""
    rng = np.random.default_rng(3)
    X, labels = rng.standard_normal((4, 40)), rng.integers(0, 3, 40)
    Y = {LABELS: labels, ONE_HOT: np.eye(3)[:, labels], NUMBERS: rng.standard_normal((3, 40))}[kind]
    trainer = nnx.Trainer(net, nnx.GradientDescent(ALPHA), backend="numpy", dtype="float64")
    twin = nnx.convert.to_torch(net, trainer.parameters, dtype="float64", link=False).train()
    optimizer = torch.optim.SGD(twin.parameters(), ALPHA)
    rows, targets = torch.from_numpy(X.T.copy()), torch.from_numpy(Y.T.copy() if Y.ndim > 1 else Y)
    for _ in range(10):
        for part in (slice(0, 20), slice(20, 40)):
            optimizer.zero_grad()
            loss(twin(rows[part]), targets[part]).backward()
            optimizer.step()
    before = trainer.theta
    trainer.fit(X, Y, epochs=10, batch_size=20, shuffle=False)
    assert trainer.steps == 20
    assert abs(trainer.theta - before).max() > 0.01
    again, theirs = nnx.convert.from_torch(twin, net.output.name, net.output.spec)
    assert again.shapes == net.shapes
    return trainer.parameters, theirs


def check(ours, theirs):
    for name, p in ours.items():
        np.testing.assert_allclose(p, theirs[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("activation", [*TORCH_ACTIVATIONS, "leaky_relu(0.2)", "elu(0.5)"])
def test_activations(activation):
    net = nnx.Network(4, [nnx.Dense(6, activation), nnx.Dense(5, activation), nnx.Dense(3)], "softmax")
    check(*beside_torch(net, F.cross_entropy, LABELS))


@pytest.mark.parametrize(("output", "loss"), LOSSES)
def test_losses(output, loss):
    n = 3 * nnx.model.outputs.output(output, loss).per_target
    net = nnx.mlp([4, 6, n], "tanh", output, loss=loss)
    check(*beside_torch(net, *LOSSES[output, loss]))


def test_every_loss_is_here():
    from nnx.model.outputs import LOSSES as ALL

    names = {
        (link, nnx.model.outputs.output(link, loss).spec) for link, losses in ALL.items() for loss in losses
    }
    names = {(link, None if spec is None else spec.partition("(")[0]) for link, spec in names}
    assert {(link, None if spec is None else spec.partition("(")[0]) for link, spec in LOSSES} == names


@pytest.mark.parametrize(
    "block",
    [
        [nnx.BatchNorm(), nnx.Activate("relu")],
        [nnx.LayerNorm(), nnx.Activate("gelu")],
        [nnx.BatchNorm(momentum=0.3, epsilon=1e-3), nnx.LayerNorm(epsilon=1e-2)],
        [nnx.Dropout(0.0), nnx.PReLU()],
    ],
    ids=str,
)
def test_layers(block):
    net = nnx.Network(4, [nnx.Dense(6), *block, nnx.Dense(3)], "softmax")
    ours, theirs = beside_torch(net, F.cross_entropy, LABELS)
    if isinstance(block[-1], nnx.PReLU):  # nnx learns a slope for each unit, PyTorch here too
        assert ours["a1"].shape == (6, 1)
    check(ours, theirs)
