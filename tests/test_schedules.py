"""The schedules: against PyTorch's and scikit-learn's own, on every backend."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unreadable_arrays import Guarded, unwrap, wrap

import nnx
from nnx.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosLog,
    Exponential,
    InverseScaling,
    OneCycle,
    Polynomial,
    Schedule,
    StepDecay,
    describe,
    schedule,
)

# (schedule, the steps up to its end, what PyTorch makes of the same)
AGAINST_TORCH = [
    (StepDecay(0.3, 4, 0.5), 30, lambda lrs, made: lrs.StepLR(made, 4, 0.5)),
    (Exponential(0.3, 1, 0.9), 30, lambda lrs, made: lrs.ExponentialLR(made, 0.9)),
    (Polynomial(0.3, 25), 30, lambda lrs, made: lrs.PolynomialLR(made, 25)),
    (Polynomial(0.3, 25, power=2.5), 30, lambda lrs, made: lrs.PolynomialLR(made, 25, 2.5)),
    (Cosine(0.3, 25, end=0.1), 25, lambda lrs, made: lrs.CosineAnnealingLR(made, 25, 0.03)),
    (OneCycle(0.3, 25), 25, lambda lrs, made: lrs.OneCycleLR(made, 0.3, 25, cycle_momentum=False)),
    (
        OneCycle(0.3, 30, rise=0.42, start=0.1, end=0.001),
        30,
        lambda lrs, made: lrs.OneCycleLR(
            made, 0.3, 30, pct_start=0.42, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
    ),
]
EVERY = [
    Constant(0.3),
    StepDecay(0.3, 7, 0.3),
    Exponential(0.3, 7, 0.3),
    InverseScaling(0.3, 0.7, 3, 5),
    Polynomial(0.3, 20, 0.1, 2),
    Cosine(0.3, 20, 4, 0.1),
    OneCycle(0.3, 20),
    CosLog(0.3, 8, 2),
]
one_of_each = pytest.mark.parametrize("made", EVERY, ids=lambda made: type(made).__name__)


def rates(made, steps):
    """learning_rate * factor(t) for t = 0, 1, ..."""
    return made.learning_rate * made.factor(np.arange(float(steps)))


def test_every_schedule_is_tested_here():
    assert [type(made) for made in EVERY] == list(SCHEDULES.values())
    assert all(isinstance(made, Schedule) for made in EVERY)


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("made", "steps", "torchs"), AGAINST_TORCH, ids=lambda x: type(x).__name__)
def test_rates_are_pytorchs(made, steps, torchs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torchs(torch.optim.lr_scheduler, optimizer)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates(made, steps), expected, rtol=1e-9, atol=1e-15)


def test_inverse_scaling_is_scikit_learns():
    stochastic = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    sgd = stochastic.SGDOptimizer([], 0.3, "invscaling", power_t=0.6)
    expected = []
    for epoch in range(1, 5):  # 4 epochs of 3 steps over 17 samples
        expected += [sgd.learning_rate] * 3
        sgd.iteration_ends(17 * epoch)
    np.testing.assert_allclose(rates(InverseScaling(0.3, 0.6, every=3, samples=17), 12), expected, rtol=1e-12)
    k = np.arange(1.0, 13)
    np.testing.assert_allclose(rates(InverseScaling(0.3, 0.6), 12), 0.3 / k**0.6, rtol=1e-12)


def test_the_warm_up_is_a_straight_line_to_the_cosines_top():
    found = Cosine(0.3, steps=12, warmup=3, end=0.2).factor(np.arange(13.0))
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1], rtol=1e-12)
    p = np.arange(10) / 9
    np.testing.assert_allclose(found[3:], 0.2 + 0.8 * (1 + np.cos(np.pi * p)) / 2, rtol=1e-12)


def test_coslog_is_its_formula():
    t = np.arange(400.0)
    expected = 0.5 - 0.5 * np.cos(2 * np.pi * np.log2(1 + 15 * t / 400))
    np.testing.assert_allclose(CosLog(0.04, steps=400).factor(t), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("made", "last", "end"),
    [
        (Polynomial(0.3, 7), 7, 0.0),
        (Polynomial(0.3, 7, end=0.25, power=0.5), 7, 0.25),
        (Cosine(0.3, 7), 7, 0.0),
        (Cosine(0.3, 7, warmup=6, end=0.25), 7, 0.25),
        (OneCycle(0.3, 7), 6, 4e-6),
        (OneCycle(0.3, 7, end=0), 6, 0.0),
        (CosLog(0.3, 7), 7, 0.0),
        (CosLog(0.3, 7, cycles=1), 7, 0.0),
    ],
)
def test_they_stay_at_their_end(backend, made, last, end):
    for dtype in ("float32", "float64"):
        t = backend.asarray(np.array([last - 1, last, last + 1, 10 * last, 2**24]), dtype)
        before, *after = backend.to_numpy(made.factor(t)).tolist()
        assert after == [np.dtype(dtype).type(end)] * 4
        assert before > after[0]


@one_of_each
def test_every_backend_agrees_with_numpy(backend, made):
    t = np.arange(30.0)
    expected = made.factor(t)
    for dtype, rtol in (("float64", 1e-12), ("float32", 1e-5)):
        factor = backend.compile(made.factor)
        found = [
            backend.to_numpy(factor(backend.asarray(np.asarray(k), dtype))) for k in t
        ]  # 0-d, as in a step
        assert {(x.dtype, x.shape) for x in found} == {(np.dtype(dtype), ())}
        np.testing.assert_allclose(found, expected, rtol=rtol)


@one_of_each
def test_no_host_read(backend, made):
    t = wrap(backend.asarray(np.asarray(3.0), "float32"), backend.xp)
    found = made.factor(t)
    assert isinstance(found, Guarded)
    assert 0 < backend.to_numpy(unwrap(found)) <= 1


@one_of_each
def test_factors_lie_between_0_and_1(made):
    for dtype in ("float32", "float64"):
        found = made.factor(np.linspace(0, 99, 99_001, dtype=dtype))
        assert found.min() >= 0
        assert found.max() == pytest.approx(1, abs=1e-6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(every=st.integers(1, 10_000), k=st.integers(1, 800))
def test_steps_fall_where_they_should(every, k):
    """Exactly after `every` steps, in float32, too, where 1 / every is rounded."""
    t = np.array([k * every - 1, k * every], dtype="float32")
    np.testing.assert_array_equal(t, [k * every - 1, k * every])  # both are float32 numbers
    before, after = InverseScaling(1.0, 1.0, every).factor(t)
    np.testing.assert_allclose([before, after], [1 / k, 1 / (k + 1)], rtol=1e-6)


def test_steps_fall_where_they_should_on_every_backend(backend):
    for every in (3, 7, 49, 1000):
        t = np.arange(1, 40) * every
        for late in (0, 1):
            found = backend.to_numpy(StepDecay(1.0, every, 0.9).factor(backend.asarray(t - late, "float32")))
            np.testing.assert_allclose(found, 0.9 ** (np.arange(1, 40) - late), rtol=1e-5)


@one_of_each
def test_descriptions_go_through_json(made):
    described = json.loads(json.dumps(describe(made)))
    assert schedule(**described) == made
    assert described["learning_rate"] == 0.3


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Constant(0), "learning_rate must be greater than 0 and finite, not 0"),
        (lambda: Constant(None), "learning_rate must be greater than 0 and finite, not None"),
        (lambda: StepDecay(0.1, 0), "every must be a positive integer, not 0"),
        (lambda: StepDecay(0.1, 1.5), "every must be a positive integer, not 1.5"),
        (lambda: StepDecay(0.1, True), "every must be a positive integer, not True"),
        (lambda: StepDecay(0.1, 5, 1.0), "decay must be between 0 and 1, not 1.0"),
        (lambda: Exponential(0.1, 5, 0), "decay must be between 0 and 1, not 0"),
        (lambda: InverseScaling(0.1, power=-1), "power must be greater than 0 and finite, not -1"),
        (lambda: Polynomial(0.1, math.inf), "steps must be a positive integer, not inf"),
        (lambda: Polynomial(0.1, 10, end=1), "end must be at least 0 and less than 1, not 1"),
        (lambda: Cosine(0.1, 10, warmup=-1), "warmup must be an integer >= 0, not -1"),
        (lambda: Cosine(0.1, 10, warmup=10), "warmup must be less than steps=10, .*not 10"),
        (lambda: CosLog(0.1, 10, cycles=21), "cycles must be at most 20, not 21"),
        (lambda: CosLog(0.1, 10, cycles=0), "cycles must be a positive integer, not 0"),
        (lambda: OneCycle(0.1, 10, rise=0.1), r"rise must be above 1 / steps = 0\.1, not 0\.1"),
        (lambda: OneCycle(0.1, 10, rise=1), "rise must be between 0 and 1, not 1"),
        (lambda: OneCycle(0.1, 10, start=0), "start must be between 0 and 1, not 0"),
        (lambda: schedule("step_decoy"), "unknown schedule 'step_decoy'; did you mean 'step_decay'"),
        (lambda: schedule("cosine", learning_rate=1), "schedule 'cosine': missing .*'steps'; it takes"),
        (lambda: describe(0.1), r"cannot name the schedule 0\.1"),
    ],
)
def test_arguments_out_of_range(make, told):
    with pytest.raises(nnx.InputError, match=told):
        make()


# In epochs


X, Y = np.random.default_rng(0).standard_normal((4, 100)), np.arange(100) % 2

PAIRS = [
    (Cosine.in_epochs(0.01, epochs=4, warmup=0.5), Cosine(0.01, steps=40, warmup=5)),
    (Cosine.in_epochs(0.01), Cosine(0.01, steps=30)),  # all of the first fit
    (Polynomial.in_epochs(0.01, end=0.1), Polynomial(0.01, steps=30, end=0.1)),
    (OneCycle.in_epochs(0.01, 2, rise=0.4), OneCycle(0.01, steps=20, rise=0.4)),
    (StepDecay.in_epochs(0.01, every=2), StepDecay(0.01, every=20)),
    (Exponential.in_epochs(0.01, every=0.01), Exponential(0.01, every=1)),
    (InverseScaling.in_epochs(0.01, samples=9), InverseScaling(0.01, every=10, samples=9)),
]  # fmt: skip


def a_trainer(schedule):
    return nnx.Trainer(nnx.mlp([4, 5, 1]), nnx.Adam(schedule), backend="numpy")


@pytest.mark.parametrize(("in_epochs", "in_steps"), PAIRS, ids=lambda schedule: repr(schedule)[:22])
def test_a_fit_makes_steps_of_epochs(in_epochs, in_steps):
    trainer, other = a_trainer(in_epochs), a_trainer(in_steps)
    for one in (trainer, other):
        one.fit(X, Y, epochs=3, batch_size=10)
    assert trainer.optimizer == other.optimizer
    assert (trainer.theta == other.theta).all()
    trainer.fit(X, Y, epochs=1, batch_size=50)
    assert trainer.optimizer == other.optimizer  # the first fit's steps stay


@pytest.mark.parametrize(("in_epochs", "in_steps"), PAIRS, ids=lambda schedule: repr(schedule)[:22])
def test_a_schedule_in_epochs_is_saved(in_epochs, in_steps, tmp_path):
    trainer = a_trainer(in_epochs)
    trainer.save(tmp_path / "model.safetensors")
    again = nnx.Trainer.load(tmp_path / "model.safetensors", backend="numpy")
    assert again.optimizer == trainer.optimizer
    again.fit(X, Y, epochs=3, batch_size=10)
    again.save(tmp_path / "model.safetensors")
    bound = nnx.Trainer.load(tmp_path / "model.safetensors", backend="numpy").optimizer
    assert bound.learning_rate == in_steps


def test_a_fit_goes_on_with_a_schedule_in_epochs(tmp_path):
    def fit(**options):
        trainer = a_trainer(Cosine.in_epochs(0.01, warmup=1))
        return trainer, trainer.fit(X, Y, epochs=4, batch_size=10, **options)

    class Stop(nnx.Callback):
        def on_epoch(self, trainer, progress):
            if progress.epoch == 2:
                raise KeyboardInterrupt

    whole, history = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=[nnx.Checkpoints(tmp_path, steps=7), Stop()])
    resumed, again = fit(callbacks=nnx.Checkpoints(tmp_path, steps=7), resume=tmp_path)
    assert again == history
    assert (resumed.theta == whole.theta).all()
    other = a_trainer(Cosine.in_epochs(0.01, warmup=1))
    unbound = other.optimizer
    with pytest.raises(nnx.InputError, match="optimizer"):
        other.fit(X, Y, epochs=4, batch_size=20, callbacks=nnx.Checkpoints(tmp_path), resume=tmp_path)
    assert other.optimizer is unbound


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine.in_epochs(0.1, epochs=3, warmup=3), "warmup must be less than epochs=3"),
        (lambda: Cosine.in_epochs(0.1, steps=3), "argument of Cosine.in_epochs .steps.. Known: end, epochs"),
        (lambda: StepDecay.in_epochs(0.1, epochs=3), "StepDecay has no end.*every="),
        (lambda: Cosine.in_epochs(0.1, warmup=-1), "warmup must be at least 0 and finite, not -1"),
        (lambda: Cosine.in_epochs("a"), "learning_rate must be greater than 0 and finite, not 'a'"),
        (lambda: Exponential.in_epochs(0.1, decay=3), "decay must be between 0 and 1, not 3"),
        (lambda: a_trainer(Cosine.in_epochs(0.1)).learning_rate, "counts epochs, and the first fit says"),
        (
            lambda: a_trainer(Cosine.in_epochs(0.1, warmup=3)).fit(X, Y, epochs=2, batch_size=50),
            r"in_epochs\(0.1, warmup=3\), 2 steps an epoch: warmup must be less than steps=4",
        ),
        (
            lambda: a_trainer(Cosine.in_epochs(0.1)).fit(lambda: iter([(X, Y)]), epochs=2),
            "how many steps an epoch of these batches has is not known before its end; give steps=",
        ),
        (lambda: schedule("constant", learning_rate=0.1, in_epochs={}), "'constant' has no lengths"),
    ],
)  # fmt: skip
def test_a_schedule_in_epochs_says_what_is_wrong(make, message):
    with pytest.raises(nnx.InputError, match=message):
        make()


def test_steps_that_are_said_make_a_stream_countable():
    trainer = a_trainer(Cosine.in_epochs(0.1))
    trainer.fit(lambda: iter([(X, Y)] * 9), epochs=2, steps=5)
    assert trainer.optimizer.learning_rate == Cosine(0.1, steps=10)
