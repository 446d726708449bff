"""Numbers that a dtype does not have: an option that would be 0, infinite or below the smallest normal number in it."""

import numpy as np
import pytest

import nnx
from nnx import schedules
from nnx.optimizers import OPTIMIZERS

X, Y = np.linspace(-1, 1, 16).reshape(2, 8), np.arange(8) % 2
TINY, HUGE = 1e-39, 1e39  # float64 has them; in float32 one is subnormal, the other infinite


def trainer(dtype, layers=(), **more):
    network = nnx.Network(2, [nnx.Dense(3), *layers, nnx.Dense(1)], "identity", more.pop("loss", None))
    return nnx.Trainer(network, backend="numpy", dtype=dtype, **more)


RATED = sorted(set(OPTIMIZERS) - {"lbfgs"})
OPTIONS = {
    **{f"{name}'s rate": {"optimizer": OPTIMIZERS[name](TINY)} for name in RATED},
    "a huge rate": {"optimizer": nnx.Adam(HUGE)},
    **{f"a rate of {x:g}": {"optimizer": nnx.GradientDescent(x)} for x in (1e-300, 1e-46)},
    "a schedule's rate": {"optimizer": nnx.Adam(schedules.Cosine(TINY, 100))},
    "a schedule's end": {"optimizer": nnx.Adam(schedules.Polynomial(0.1, 100, end=TINY))},
    **{
        f"{name}'s epsilon": {"optimizer": OPTIMIZERS[name](epsilon=TINY)}
        for name in ("adagrad", "rmsprop", "adam", "nadam")
    },
    "epsilon in Adam's first step": {"optimizer": nnx.Adam(epsilon=2e-38)},
    "weight_decay": {"optimizer": nnx.AdamW(weight_decay=TINY)},
    **{
        name: {"regularization": nnx.Regularization(**{name: TINY})}
        for name in ("l1", "l2", "max_norm", "clip_value", "clip_norm")
    },
    "a huge clip_norm": {"regularization": nnx.Regularization(clip_norm=HUGE)},
    "BatchNorm's epsilon": {"layers": [nnx.BatchNorm(epsilon=TINY)]},
    "BatchNorm's momentum": {"layers": [nnx.BatchNorm(momentum=TINY)]},
    "LayerNorm's epsilon": {"layers": [nnx.LayerNorm(TINY)]},
    "in a Residual": {"layers": [nnx.Residual([nnx.LayerNorm(TINY), nnx.Dense(3)])]},
    "GaussianNoise's std": {"layers": [nnx.GaussianNoise(HUGE)]},
    "PReLU's slope": {"layers": [nnx.PReLU(TINY)]},
    "an activation's slope": {"layers": [nnx.Activate("leaky_relu(1e-39)")]},
    "a loss's delta": {"loss": "huber(1e-39)"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_the_dtype_has_not_is_refused(name):
    with pytest.raises(
        nnx.InputError, match=r"which is too (small|large) for float32; expected .*or train in float64"
    ):
        trainer("float32", **OPTIONS[name])
    if "1e-300" not in name:
        found = trainer("float64", **OPTIONS[name])
        found.fit(X, Y, epochs=1)
        assert np.isfinite(found.theta).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["rmsprop", "adam"])
def test_the_smallest_epsilon_divides_nothing_by_zero(backend, dtype, kind):
    """No gradient at all: each step divides 0 by what epsilon is in it."""
    tiny = float(np.finfo(dtype).tiny)
    optimizer = OPTIMIZERS[kind](epsilon=40 * tiny)  # in Adam's first step sqrt(1 - beta2) of it, 1/32
    network = nnx.Network(
        2, [nnx.Dense(3), nnx.LayerNorm(tiny), nnx.BatchNorm(epsilon=tiny), nnx.Dense(1)], "identity"
    )
    found = nnx.Trainer(network, optimizer, backend, dtype=dtype, theta=np.zeros(network.P))
    found.fit(np.zeros((2, 8)), np.zeros(8), epochs=3)
    assert not found.theta[: network.places["gamma1"].start].any()
    assert np.isfinite(found.theta).all()


def test_layers_are_looked_at_where_there_is_no_trainer():
    network = nnx.Network(2, [nnx.Dense(3), nnx.LayerNorm(TINY), nnx.Dense(1)], "identity")
    for dtype in ("float64", "float32"):
        theta, x, y = network.init(0, dtype), X.astype(dtype), np.ones((1, 8), dtype)
        calls = [
            lambda theta=theta, x=x: network.forward(theta, x),
            lambda theta=theta, x=x, y=y: network.forward_and_loss(theta, x, y),
            lambda theta=theta, x=x, y=y: network.loss_and_gradient(theta, x, y),
        ]
        for call in calls:
            if dtype == "float64":
                call()
            else:
                with pytest.raises(
                    nnx.InputError, match="LayerNorm's epsilon is 1e-39, which is too small for float32"
                ):
                    call()


@pytest.mark.parametrize(
    "rate", [1e-46, 1e-39, 1e39, 0, -1, float("nan"), 10**400, "0.1", None, True, np.ones(2)]
)
def test_a_rate_that_is_set(rate):
    found = trainer("float32")
    with pytest.raises(nnx.InputError, match="learning_rate "):
        found.learning_rate = rate
    assert found.learning_rate == 0.001


@pytest.mark.parametrize("rate", [0.25, np.float32(0.25), np.asarray(0.25), 1, np.int64(1), np.asarray(1)])
def test_scalars_of_numpy_and_arrays_without_axes_are_numbers(rate):
    found = trainer("float32")
    found.learning_rate = rate
    assert found.learning_rate == float(rate)
    assert nnx.Adam(rate).learning_rate == float(rate)
    assert type(nnx.Adam(rate).learning_rate) is float
    assert nnx.mlp([np.int64(2), np.asarray(3), 1]).n == (2, 3, 1)
    assert nnx.mlp(np.array([2, 3, 1])).n == (2, 3, 1)


def test_a_plateau_does_not_lower_the_rate_to_nothing():
    found = nnx.Trainer(nnx.mlp([2, 1], output="identity"), nnx.GradientDescent(1e-30), "numpy")
    plateau = nnx.ReduceOnPlateau("loss", factor=1e-5, patience=1, min_delta=1e9)
    found.fit(X, Y, epochs=6, callbacks=plateau)
    assert found.learning_rate == pytest.approx(float(np.finfo("float32").tiny))


@pytest.mark.parametrize(("low", "high"), [(1e-60, 1.0), (1e-3, 1e60)])
def test_a_search_beyond_the_dtype(low, high):
    with pytest.raises(nnx.InputError, match="for float32"):
        nnx.find_learning_rate(trainer("float32"), X, Y, low=low, high=high)


def test_lbfgs_computes_in_float64():
    trainer("float32", optimizer=nnx.LBFGS(gradient_tolerance=1e-200))
