"""The search for the learning rate: what it finds, and that it leaves the trainer alone."""

import copy
import math

import numpy as np
import pytest

import nnx
from nnx import optimizers, schedules
from nnx.model.layers import BatchNorm, Dense, Dropout
from nnx.train.lr_finder import RateSearch, find_learning_rate


def xor(m=200):
    X = np.random.default_rng(0).standard_normal((2, m))
    return X, (X[0] * X[1] > 0).astype("float64")


def everything(trainer):
    """All that a trainer is, as what can be compared."""
    state = {name: np.array(trainer.backend.to_numpy(x)) for name, x in trainer.state.items()}
    rest = trainer.records, trainer.metadata, trainer.stopped, trainer.seed, trainer.dtype
    return state, trainer.rng.bit_generator.state, copy.deepcopy(rest), trainer.optimizer


def assert_untouched(before, trainer):
    state, *rest = everything(trainer)
    assert rest == list(before[1:])
    assert list(state) == list(before[0])
    for name, x in state.items():
        np.testing.assert_array_equal(x, before[0][name], err_msg=name)


def test_the_trainer_is_left_as_it_was(backend):
    X, Y = xor(24)
    network = nnx.Network(2, [Dense(8, "relu"), BatchNorm(), Dropout(0.1), Dense(1)], output="sigmoid")

    def make():
        trainer = nnx.Trainer(network, nnx.Adam(0.01), backend=backend, seed=3)
        trainer.metadata = {"of": "xor"}
        trainer.fit(X, Y, epochs=2, batch_size=8)
        return trainer

    trainer = make()
    before, objects = everything(trainer), trainer.session.read()
    search = find_learning_rate(trainer, X, Y, batch_size=8, low=1e-3, high=1, steps=30, smoothing=0.8)
    assert len(search.rates) > 9
    assert_untouched(before, trainer)
    assert all(trainer.session.read()[name] is x for name, x in objects.items())  # nothing has changed them
    # and it goes on as one that was never searched for
    assert trainer.fit(X, Y, epochs=1, batch_size=8) == make().fit(X, Y, epochs=1, batch_size=8)


def test_the_trainer_is_left_as_it_was_when_nothing_is_found():
    X, Y = xor(24)
    trainer = nnx.Trainer(nnx.mlp([2, 4, 1]), backend="numpy")
    before = everything(trainer)
    with pytest.raises(nnx.InputError, match="the cost did not fall"):
        find_learning_rate(trainer, X, Y, batch_size=8, low=1e-9, high=1e-8)
    assert_untouched(before, trainer)


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (nnx.GradientDescent, 0.05, 5.0),
        (nnx.Adam, 0.005, 0.7),
        (optimizers.Momentum, 0.005, 1.5),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 50])
def test_the_suggestion_trains(make, least, most, batch_size):
    X, Y = xor()
    trainer = nnx.Trainer(nnx.mlp([2, 16, 1]), make(), backend="numpy")
    search = find_learning_rate(trainer, X, Y, batch_size=batch_size)
    assert least < search.suggestion < most
    assert search.suggestion <= search.lowest
    suggested = nnx.Trainer(nnx.mlp([2, 16, 1]), make(search.suggestion), backend="numpy")
    losses = suggested.fit(X, Y, epochs=20, batch_size=batch_size)["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_costs_rates_and_average():
    """Typed anew: gradient descent at rates that rise by one factor, on all samples."""
    X, Y = xor(30)
    network = nnx.mlp([2, 3, 1])
    trainer = nnx.Trainer(network, nnx.GradientDescent(0.5), backend="numpy", dtype="float64")
    search = find_learning_rate(trainer, X, Y, low=0.01, high=10, steps=31, smoothing=0.8)
    theta, average = trainer.theta, 0.0
    for k, (rate, cost, smooth) in enumerate(zip(search.rates, search.costs, search.smoothed, strict=True)):
        assert rate == pytest.approx(0.01 * 10 ** (k / 10), rel=1e-12)
        J, dtheta = network.loss_and_gradient(theta, X, Y[None])
        assert cost == pytest.approx(J, rel=1e-12)
        average = 0.8 * average + 0.2 * J
        assert smooth == pytest.approx(average / (1 - 0.8 ** (k + 1)), rel=1e-12)
        theta = theta - rate * dtheta
    assert len(search.rates) == 31


@pytest.mark.parametrize(
    "schedule",
    [schedules.Polynomial(0.3, steps=5), schedules.StepDecay(0.3, every=1), schedules.Constant(7.0)],
)
def test_a_schedule_does_not_interfere(schedule):
    """A polynomial's factor is 0 from step 5 on, where no rate could undo it."""
    X, Y = xor(40)
    found = []
    for rate in (0.3, schedule):
        trainer = nnx.Trainer(nnx.mlp([2, 8, 1]), nnx.Adam(rate), backend="numpy")
        before = everything(trainer)
        found.append(find_learning_rate(trainer, X, Y, batch_size=20))
        assert_untouched(before, trainer)
    assert found[0] == found[1]


def test_it_starts_where_the_trainer_is():
    X, Y = xor(40)
    trainer = nnx.Trainer(nnx.mlp([2, 8, 1]), nnx.Adam(0.02), backend="numpy")
    trainer.fit(X, Y, epochs=20)
    loss = trainer.evaluate(X, Y)["loss"]
    assert find_learning_rate(trainer, X, Y).costs[0] == pytest.approx(loss, rel=1e-6)


def test_it_stops_where_the_cost_leaves_its_bounds():
    X, Y = xor()
    network = nnx.mlp([2, 16, 1], output="identity")
    trainer = nnx.Trainer(network, nnx.GradientDescent(), backend="numpy")
    search = find_learning_rate(trainer, X, Y, batch_size=50, low=1e-3, high=1e6)
    assert len(search.rates) < 90
    assert all(map(math.isfinite, search.costs))
    best = np.minimum.accumulate(search.smoothed)
    assert (np.array(search.smoothed)[:-1] <= 4 * best[:-1]).all()


def test_regularization_counts():
    X, Y = xor(40)
    trainers = [
        nnx.Trainer(nnx.mlp([2, 8, 1]), backend="numpy", regularization=regularization)
        for regularization in (None, nnx.Regularization(l2=0.5))
    ]
    plain, with_l2 = (find_learning_rate(trainer, X, Y) for trainer in trainers)
    assert with_l2.costs[0] > plain.costs[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"low": 1e-9, "high": 1e-7},
            r"the cost did not fall between the learning rates 1e-09 and 1e-07: .*higher",
        ),
        ({"low": 1e6, "high": 1e9}, "give a lower `low`"),
        ({"low": 1.0, "high": 0.1}, "0 < low < high; given 1.0 and 0.1"),
        ({"low": 0.0}, "low must be greater than 0 and finite"),
        ({"high": math.inf}, "high must be greater than 0 and finite"),
        ({"steps": 9}, "steps must be an integer >= 10, not 9"),
        ({"steps": 10.5}, "steps must be an integer >= 10"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), not 1.0"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
    ],
)
def test_what_cannot_be_found(arguments, says):
    X, Y = xor()
    trainer = nnx.Trainer(nnx.mlp([2, 8, 1], output="identity"), nnx.GradientDescent(), backend="numpy")
    with pytest.raises(nnx.InputError, match=says):
        find_learning_rate(trainer, X, Y, **arguments)


def test_what_is_not_a_trainer_or_has_no_rate():
    X, Y = xor()
    network = nnx.mlp([2, 8, 1])
    with pytest.raises(nnx.InputError, match=r"expected an nnx\.Trainer"):
        find_learning_rate(network, X, Y)
    pytest.importorskip("scipy")
    with pytest.raises(nnx.InputError, match="no learning rate"):
        find_learning_rate(nnx.Trainer(network, nnx.LBFGS(), backend="numpy"), X, Y)
    trainer = nnx.Trainer(network, backend="numpy")
    with pytest.raises(nnx.InputError, match=r"its transpose X\.T would fit, and so would rows=True"):
        find_learning_rate(trainer, X.T, Y)
    by_rows = find_learning_rate(trainer, X.T, Y, batch_size=50, rows=True)
    assert by_rows == find_learning_rate(trainer, X, Y, batch_size=50)


def a_search():
    rates = tuple(float(r) for r in np.geomspace(1e-5, 10, 30))
    costs = tuple(
        float(J) for J in [*np.full(10, 2.0), *np.linspace(1.9, 0.5, 15), 0.6, 1.0, 2.0, 1e30, 1e38]
    )
    return RateSearch(rates, costs, costs, 0.03)


def test_repr():
    assert repr(a_search()) == (
        "<RateSearch: suggestion 0.03; the smoothed cost fell from 2 to 0.5 at 0.924; 30 steps, "
        "rates 1e-05 to 10>"
    )
    assert a_search().lowest == pytest.approx(0.924, rel=1e-3)


@pytest.mark.long
def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "rates.png"
    a_search().plot(path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [found.name for found in tmp_path.iterdir()] == ["rates.png"]
    a_search().plot(str(path))
    with pytest.raises(nnx.InputError, match="there is no folder"):
        a_search().plot(tmp_path / "nowhere" / "rates.png")
