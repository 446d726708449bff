"""A fit of a stack: each member has the history, the end and the parameters of its single run."""

from dataclasses import fields

import numpy as np
import pytest

import nnx
from nnx.callbacks.base import Callbacks
from nnx.model.members import member_of
from nnx.model.network import Network
from nnx.support.members import member
from nnx.train.request import Request
from nnx.train.stack_fit import fit_stack, own_callbacks
from nnx.train.stack_session import StackSession

K, SEEDS, RATES = 5, [4, 9, 2, 7, 30], [0.01, 0.003, 0.03, 0.1, 0.001]
COMPILING = pytest.mark.parametrize("backend", ["numpy", "numba", "torch"], indirect=True)


def net(*layers):
    return Network(4, [nnx.Dense(6, "tanh"), *layers, nnx.Dense(3)], "softmax")


def samples(rng, m=30):
    return rng.standard_normal((4, m)).astype("float32"), rng.integers(0, 3, m)


def to_learn(rng, m):
    X, _ = samples(rng, m)
    return X, (X[0] > 0) + (X[1] > 0.3 * X[2])


def request(X, Y, **given):
    names = [field.name for field in fields(Request)[2:-1]]
    values = {**dict.fromkeys(names), "shuffle": True, "rows": False, **given}
    return Request(X, Y, *(values[name] for name in names))


def stacked(network, X, Y, callbacks=(), optimizer=None, regularization=None, backend="numpy", **given):
    """A stack after a fit, with its single runs."""
    optimizer = optimizer or nnx.Adam(RATES)
    stack = StackSession(K, network, optimizer, backend, seed=SEEDS, regularization=regularization)
    own = own_callbacks(Callbacks(callbacks), K)
    for k, one in enumerate(own):
        one.trainer = nnx.Trainer._of(stack.members[k])
    fit_stack(stack, request(X, Y, **given), own)
    singles = []
    for k, seed in enumerate(SEEDS):
        its = member_of(network, k), member(optimizer, k)
        single = nnx.Trainer(
            *its, backend, seed=seed, regularization=regularization and member(regularization, k)
        )
        weights = given.get("sample_weight")
        its = {**given, "sample_weight": weights[k]} if weights is not None and weights.ndim > 1 else given
        try:
            single.fit(X, Y, callbacks=own_callbacks(Callbacks(callbacks), 1)[0].all, **its)
        except nnx.DivergenceError as error:
            single.error = error
        singles.append(single)
    return stack, singles


def check(stack, singles, rtol=1e-5):
    for k, single in enumerate(singles):
        session = stack.members[k]
        assert (session.stopped or "")[:50] == (single.stopped or "")[:50], k  # behind it are digits
        assert session.kept == single.kept, k
        assert session.steps == single.steps
        assert len(session.records) == len(single.records)
        for mine, its in zip(session.records, single.records, strict=True):
            assert mine.keys() == its.keys()
            np.testing.assert_allclose([*mine.values()], [*its.values()], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(session.theta, single.theta, rtol=10 * rtol, atol=rtol)
        np.testing.assert_allclose(session.learning_rate, single.learning_rate, rtol=1e-6)
        assert session.rng.bit_generator.state == single.rng.bit_generator.state


@COMPILING
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [8, 10, None])
def test_members_are_their_single_runs(backend, rng, batch_size, shuffle):
    regularization = nnx.Regularization(l2=[0.1, 0.0, 0.01, 0.0, 0.3], clip_norm=[1, None, 0.1, None, 0.2])
    network = net(nnx.Dropout([0.1, 0.2, 0.0, 0.5, 0.3]), nnx.BatchNorm())
    optimizer = nnx.Momentum(nnx.schedules.Cosine.in_epochs(RATES))
    given = {"batch_size": batch_size, "epochs": 4, "shuffle": shuffle, "backend": backend}
    check(*stacked(network, *samples(rng), (), optimizer, regularization, **given))


def test_members_are_their_single_runs_bit_for_bit_on_numpy(rng):
    stack, singles = stacked(net(), *samples(rng), epochs=6, batch_size=10)
    for session, single in zip(stack.members, singles, strict=True):
        assert session.records == single.records
        np.testing.assert_array_equal(session.theta, single.theta)


@COMPILING
def test_each_member_stops_by_itself(backend, rng):
    X, Y = to_learn(rng, 60)
    stopping = nnx.EarlyStopping(patience=2)
    given = {"epochs": 60, "batch_size": 20, "validation": to_learn(rng, 20), "backend": backend}
    stack, singles = stacked(net(), X, Y, stopping, nnx.Adam([0.1, 0.01, 0.03, 0.3, 0.05]), **given)
    ends = [len(single.records) for single in singles]
    assert len({*ends}) > 2  # they end at different epochs, and the stack is compacted on the way
    check(stack, singles, rtol=1e-4)


def test_callbacks_change_a_members_rate(rng):
    X, Y = samples(rng, 60)
    reduce = nnx.ReduceOnPlateau(patience=2, monitor="validation_loss")
    given = {"epochs": 20, "batch_size": 20, "validation": samples(rng, 20)}
    stack, singles = stacked(net(), X, Y, reduce, nnx.Adam([0.1, 0.01, 0.03, 0.3, 0.05]), **given)
    assert len({single.learning_rate for single in singles}) > 2
    check(stack, singles, rtol=1e-4)


@COMPILING
def test_a_member_that_diverges_ends_and_the_others_go_on(backend, rng):
    X, _ = samples(rng)
    optimizer = nnx.GradientDescent([0.1, 1e38, 0.01, 0.2, 0.3])
    network = nnx.mlp([4, 6, 1], "relu", "identity")
    stack, singles = stacked(network, X, X[1], (), optimizer, epochs=5, batch_size=10, backend=backend)
    assert [error is not None for error in stack.errors] == [k == 1 for k in range(K)]
    assert "the cost became" in str(stack.errors[1])
    assert str(stack.errors[1])[:40] == str(singles[1].error)[:40]
    check(stack, singles)


def test_a_stack_whose_every_member_diverges_is_an_error(rng):
    X, Y = samples(rng)
    with pytest.raises(nnx.DivergenceError, match="the cost became"):
        stacked(net(), 1e20 * X, Y, (), nnx.GradientDescent(1e38), epochs=5, batch_size=10)


def test_members_have_weights_of_their_own(rng):
    X, Y = samples(rng)
    w = rng.integers(0, 2, (K, 30)).astype("float32")
    stack, singles = stacked(net(), X, Y, epochs=3, batch_size=3, sample_weight=w)
    assert len({single.steps for single in singles}) > 1  # batches without weight are left out
    check(stack, singles)


def test_fits_go_on(rng):
    X, Y = samples(rng)
    stack = StackSession(K, net(), nnx.Adam(RATES), "numpy", seed=SEEDS)
    for _ in range(2):
        fit_stack(
            stack,
            request(X, Y, epochs=2, batch_size=10, callbacks=Callbacks(())),
            own_callbacks(Callbacks(()), K),
        )
    for k, seed in enumerate(SEEDS):
        single = nnx.Trainer(net(), nnx.Adam(RATES[k]), "numpy", seed=seed)
        single.fit(X, Y, epochs=4, batch_size=10)
        np.testing.assert_array_equal(stack.members[k].theta, single.theta)
