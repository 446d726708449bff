"""A fit of a stack: each member has the history, the end and the parameters of its single run."""

import json
import pickle
import shutil
from copy import deepcopy

import numpy as np
import pytest

import nnx
from nnx.backends.numba.program import NumbaProgram
from nnx.batches.members import MemberBatches
from nnx.callbacks.base import Callbacks
from nnx.io.container import write
from nnx.metrics.history import medians
from nnx.model.members import member_of
from nnx.model.network import Network
from nnx.support.members import member
from nnx.train.model_file import collect
from nnx.train.request import Request
from nnx.train.stack import Row
from nnx.train.stack_fit import fit_stack
from nnx.train.stack_loop import StackLoop
from nnx.train.stack_session import StackSession

K, SEEDS, RATES = 5, [4, 9, 2, 7, 30], [0.01, 0.003, 0.03, 0.1, 0.001]
LEAVES_OUT = pytest.mark.filterwarnings("ignore::nnx.LeftOutWarning")
COMPILING = pytest.mark.parametrize("backend", ["numpy", "numba", "torch", "jax", "cupy"], indirect=True)


def net(*layers):
    return Network(4, [nnx.Dense(6, "tanh"), *layers, nnx.Dense(3)], "softmax")


def samples(rng, m=30):
    return rng.standard_normal((4, m)).astype("float32"), rng.integers(0, 3, m)


def to_learn(rng, m):
    X, _ = samples(rng, m)
    return X, (X[0] > 0) + (X[1] > 0.3 * X[2])


def stacked(network, X, Y, callbacks=(), optimizer=None, regularization=None, backend="numpy", **given):
    """A trainer with members after a fit, and its single runs."""
    optimizer = optimizer or nnx.Adam(RATES)
    stack = nnx.Trainer(network, optimizer, backend, seed=SEEDS, regularization=regularization, members=K)
    stack.fit(X, Y, callbacks=callbacks, **given)
    singles = []
    for k, seed in enumerate(SEEDS):
        its = member_of(network, k), member(optimizer, k)
        single = nnx.Trainer(
            *its, backend, seed=seed, regularization=regularization and member(regularization, k)
        )
        weights = given.get("sample_weight")
        its = {**given, "sample_weight": weights[k]} if weights is not None and weights.ndim > 1 else given
        try:
            single.fit(X, Y, callbacks=deepcopy(callbacks), **its)
        except nnx.DivergenceError as error:
            single.error = error
        singles.append(single)
    return stack, singles


def check(stack, singles, rtol=1e-5):
    for k, single in enumerate(singles):
        session = stack.each[k].session
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
@pytest.mark.parametrize(("batch_size", "shuffle"), [(8, True), (10, False), (None, True)])
def test_members_are_their_single_runs(backend, rng, batch_size, shuffle):
    if backend.name == "jax" and batch_size != 8:
        pytest.skip("JAX compiles six steps of each form, for 20 seconds")
    regularization = nnx.Regularization(l2=[0.1, 0.0, 0.01, 0.0, 0.3], clip_norm=[1, None, 0.1, None, 0.2])
    network = net(nnx.Dropout([0.1, 0.2, 0.0, 0.5, 0.3]), nnx.BatchNorm())
    optimizer = nnx.Momentum(nnx.schedules.Cosine.in_epochs(RATES))
    given = {"batch_size": batch_size, "epochs": 4, "shuffle": shuffle, "backend": backend}
    check(*stacked(network, *samples(rng), (), optimizer, regularization, **given))


def test_members_are_their_single_runs_bit_for_bit_on_numpy(rng):
    stack, singles = stacked(net(), *samples(rng), epochs=6, batch_size=10)
    for session, single in zip(stack.each, singles, strict=True):
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


@LEAVES_OUT
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


@LEAVES_OUT
@pytest.mark.parametrize("callbacks", [(), nnx.EarlyStopping("loss", patience=2, min_delta=0.01)])
def test_many_members_diverge_at_once(rng, callbacks):
    """The stack is compacted at once, and the others have their own costs."""
    X, _ = samples(rng)
    optimizer = nnx.GradientDescent([1e38, 0.1, 1e38, 0.01, 1e38])
    network = nnx.mlp([4, 6, 1], "relu", "identity")
    stack, singles = stacked(network, X, X[1], callbacks, optimizer, epochs=40, batch_size=10)
    assert [error is not None for error in stack.errors] == [True, False, True, False, True]
    check(stack, singles)


def test_a_stack_whose_every_member_diverges_is_an_error(rng):
    X, Y = samples(rng)
    with pytest.raises(nnx.DivergenceError, match="all 5 members have diverged; the first: the cost became"):
        stacked(net(), 1e20 * X, Y, (), nnx.GradientDescent(1e38), epochs=5, batch_size=10)


def test_members_have_weights_of_their_own(rng):
    X, Y = samples(rng)
    w = rng.integers(0, 2, (K, 30)).astype("float32")
    stack, singles = stacked(net(), X, Y, epochs=3, batch_size=3, sample_weight=w)
    assert len({single.steps for single in singles}) > 1  # batches without weight are left out
    check(stack, singles)


@pytest.mark.parametrize("batch_size", [4, 5, None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_members_train_on_samples_of_their_own(rng, batch_size, shuffle):
    """Places in one pool: the folds of a cross-validation, or a bootstrap."""
    X, Y = samples(rng)
    places = [rng.choice(30, 20) for _ in range(K)]
    stack, backend = nnx.Trainer(net(), nnx.Adam(RATES), "numpy", seed=SEEDS, members=K), nnx.backend("numpy")
    rngs = stack.rng if shuffle else None
    batches = MemberBatches(backend, X, Y, None, batch_size, rngs, [*range(K)], places)
    StackLoop(stack.session.stack(False), batches, 7, [Callbacks(())] * K, Callbacks(())).run()
    for k, own in enumerate(places):
        single = nnx.Trainer(net(), nnx.Adam(RATES[k]), "numpy", seed=SEEDS[k])
        single.fit(X[:, own], Y[own], 7, batch_size, shuffle=shuffle)
        assert stack.each[k].records == single.records
        np.testing.assert_array_equal(stack.each[k].theta, single.theta)
    with pytest.raises(nnx.InputError, match="members train on 19 and 20 samples"):
        MemberBatches(backend, X, Y, None, batch_size, rngs, [*range(K)], [places[0][1:], *places[1:]])


def test_fits_go_on(rng):
    X, Y = samples(rng)
    stack = nnx.Trainer(net(), nnx.Adam(RATES), "numpy", seed=SEEDS, members=K)
    for _ in range(2):
        stack.fit(X, Y, epochs=2, batch_size=10)
        stack.each[1].fit(X, Y, epochs=3, batch_size=10)  # alone
    for k, seed in enumerate(SEEDS):
        single = nnx.Trainer(net(), nnx.Adam(RATES[k]), "numpy", seed=seed)
        single.fit(X, Y, epochs=10 if k == 1 else 4, batch_size=10)
        np.testing.assert_array_equal(stack.each[k].theta, single.theta)


def test_a_trainer_with_members_has_what_a_trainer_has(rng):
    X, Y = to_learn(rng, 60)
    stack = nnx.Trainer(net(), nnx.Adam([0.1, 0.01, 0.03]), "numpy", seed=4, members=3)
    assert stack.seed == [4, 5, 6]
    stopping = nnx.EarlyStopping("loss", patience=1, min_delta=0.02)
    history = stack.fit(X, Y, epochs=30, batch_size=20, callbacks=stopping)
    lengths = [len(records) for records in stack.records]
    assert len({*lengths}) > 1
    assert len(history["loss"]) == max(lengths)
    for k, n in enumerate(lengths):
        column = [row[k] for row in history["loss"]]
        assert [*column[:n]] == [record["loss"] for record in stack.records[k]]
        assert np.isnan(column[n:]).all()
    assert stack.predict(X).shape == (3, 3, 60)
    assert stack.predict(X.T, rows=True).shape == (3, 60, 3)
    assert stack.classify(X).shape == (3, 60)
    assert stack.theta.shape == stack.state["theta"].shape == (3, stack.network.P)
    assert stack.parameters["W1"].shape == (3, 6, 4)
    np.testing.assert_allclose(stack.learning_rate, [0.1, 0.01, 0.03], rtol=1e-6)
    assert stack.optimizer == nnx.Adam([0.1, 0.01, 0.03])
    found, score, before = stack.evaluate(X, Y), stack.scorer(X, Y), stack.theta
    for k in range(3):
        one = stack.member(k)
        assert {name: x[k] for name, x in found.items()} == one.evaluate(X, Y)
        assert {name: x[k] for name, x in score().items()} == one.evaluate(X, Y)
        assert one.optimizer == nnx.Adam([0.1, 0.01, 0.03][k])
        assert (one.seed, one.records, one.kept) == (4 + k, stack.records[k], stack.kept[k])
        one.fit(X, Y, epochs=2)
        np.testing.assert_array_equal(stack.theta, before)  # it is a copy
    stack.theta = before[::-1]
    np.testing.assert_array_equal(stack.theta, before[::-1])
    for given in (0.2, (0.2, 0.2, 0.2), np.full(3, 0.2)):
        stack.learning_rate = given
        np.testing.assert_allclose(stack.learning_rate, 0.2, rtol=1e-6)
    stack.metadata["scale"] = 2
    assert [one.metadata for one in (*stack.each, stack.member(2))] == [{"scale": 2}] * 4
    stack.parameters = before = stack.parameters
    assert stack.steps == [0, 0, 0]
    np.testing.assert_array_equal(stack.parameters["W1"], before["W1"])
    with pytest.raises(
        nnx.InputError, match=r"parameters of 3 members; given arrays with the first axes \(\)"
    ):
        stack.parameters = stack.member(0).parameters


def test_callbacks_of_all_members_see_medians(rng):
    X, Y = samples(rng)
    stack, seen = nnx.Trainer(net(), backend="numpy", members=3), []
    stack.fit(X, Y, epochs=2, batch_size=10, callbacks=seen.append)
    assert [(now.epoch, now.step, now.measured is None) for now in seen[:4]] == [
        (1, 1, True), (1, 2, True), (1, 3, True), (1, 3, False),
    ]  # fmt: skip
    assert seen[-1].measured["loss"] == np.median(stack.history["loss"][-1])
    assert np.isfinite(seen[0].cost)


def test_medians_are_of_this_fit_and_of_finite_numbers(rng, tmp_path):
    X, seen = rng.standard_normal((4, 30)), []
    trainer = nnx.Trainer(nnx.mlp([4, 3, 1], output="identity"), nnx.Momentum(0.01), "numpy", members=3)
    trainer.fit(X, X[0], batch_size=10, validation=(X, X[0]))
    trainer.learning_rate = [0.01, 0.02, 1e20]
    with pytest.warns(match="^member 2 diverged"):
        trainer.fit(X, X[0], batch_size=10, callbacks=[seen.append, nnx.JSONLines(tmp_path / "log.jsonl")])
    ended = [records[-1]["loss"] for records in trainer.records[:2]]
    assert seen[-1].measured == pytest.approx({"loss": np.mean(ended)})  # no validation of the fit before
    assert np.isfinite([now.cost for now in seen]).all()
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["learning_rate"] == pytest.approx(0.02)
    inf, nan = np.inf, np.nan  # the first two train on, and the last has ended
    history = {"loss": [[2.0, 3.0, 9.0], [inf, inf, nan]], "roc_auc": [[0.5, 0.7, 0.9], [nan, nan, nan]]}
    assert medians(history) == {"loss": [3.0, 9.0], "roc_auc": [0.7, 0.9]}
    assert medians({"loss": [[2, 3], [inf, inf]]}) == {"loss": [2.5, inf]}


def test_a_trainer_without_members_has_none():
    single = nnx.Trainer(net(), backend="numpy")
    assert (single.each, single.errors) == ([], [])
    with pytest.raises(nnx.InputError, match="no members"):
        single.member(0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"members": 0}, "members must be a positive integer"),
        ({"members": 2, "seed": [1, 2, 3]}, "seed has 3 numbers; expected 2"),
        ({"members": 2, "theta": np.zeros(3)}, r"theta has shape \(3,\); expected \(K, P\) = \(2, 51\)"),
        ({"members": 2, "optimizer": nnx.LBFGS()}, "L-BFGS trains one network"),
        ({"members": 2, "optimizer": nnx.Adam([0.1] * 3)}, "Adam's learning_rate has 3 numbers; expected 2"),
        ({"optimizer": nnx.Adam([0.1] * 3)}, "Adam's learning_rate is a sequence of 3"),
        ({"seed": [1, 2]}, "seed must be"),
    ],
)
def test_wrong_members_are_errors(given, says, rng):
    with pytest.raises(nnx.InputError, match=says):
        nnx.Trainer(net(), backend="numpy", **given).fit(*samples(rng), epochs=1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"validation_split": 2}, "validation_split must be"),
        ({"sample_weight": np.ones((2, 30))}, r"sample_weight of shape \(2, 30\) must be"),
        ({"sample_weight": np.ones((3, 5, 6))}, r"sample_weight of shape \(3, 5, 6\) must be"),
        ({"sample_weight": np.zeros((3, 30))}, "some of each member above 0"),
    ],
)
def test_what_members_do_not_have_is_an_error(given, says, rng):
    with pytest.raises(nnx.InputError, match=says):
        nnx.Trainer(net(), backend="numpy", members=3).fit(*samples(rng), epochs=1, **given)


def test_a_member_that_is_not_there_is_an_error():
    trainer = nnx.Trainer(net(), backend="numpy", members=3)
    for missing in (trainer.member, trainer.each.__getitem__):
        with pytest.raises(nnx.InputError, match="there is no member 3; the last one is 2"):
            missing(3)
    with pytest.raises(nnx.InputError, match="k, the member, must be an integer >= 0, not -1"):
        trainer.member(-1)
    with pytest.raises(
        nnx.InputError, match=r"expected an nnx.Trainer of one network.*give .* trainer.member\(k\)"
    ):
        nnx.find_learning_rate(trainer, np.ones((4, 3)), [0, 1, 2])


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("name", ["network", "optimizer", "regularization", "backend", "dtype", "seed"])
def test_what_a_step_was_compiled_for_stays(name, members):
    trainer = nnx.Trainer(net(), backend="numpy", members=members)
    with pytest.raises(
        nnx.InputError, match=f"a trainer keeps its {name}; make another one: .*{name}=..., theta="
    ):
        setattr(trainer, name, getattr(trainer, name))


@pytest.mark.parametrize("K", [1, 3, 8])
def test_any_number_of_members(rng, K):
    X, Y = samples(rng)
    stack = nnx.Trainer(net(nnx.Dropout(0.2)), nnx.NAdam(), "numpy", seed=5, members=K)
    stack.fit(X, Y, epochs=3, batch_size=8)
    for k in range(K):
        single = nnx.Trainer(net(nnx.Dropout(0.2)), nnx.NAdam(), "numpy", seed=5 + k)
        single.fit(X, Y, epochs=3, batch_size=8)
        assert stack.each[k].records == single.records
        np.testing.assert_array_equal(stack.each[k].theta, single.theta)


@pytest.mark.parametrize("when", ["compact", "leave", "enter"])
def test_an_interrupt_leaves_each_member_its_state(when, monkeypatch):
    """It comes right after a program has copied a state in: that of the stack, or that of a member which leaves."""
    session = nnx.Trainer(net(), nnx.Adam(RATES), "numpy", seed=SEEDS, members=K).session
    stack = session.stack(own_weights=False)
    stack.enter()
    changed = (session.theta + np.arange(K)[:, None]).astype("float32")
    stack.load({"theta": changed})
    if when == "compact":
        stack.leave(0, 2)

    def interrupted(*state):
        load(*state)
        raise KeyboardInterrupt

    where = (Row, "take_out") if when == "leave" else (stack.program, "load")
    load = getattr(*where)
    monkeypatch.setattr(*where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack.leave(1, 2) if when == "leave" else getattr(stack, when)()
    monkeypatch.undo()
    np.testing.assert_array_equal(session.theta, changed)
    stack.leave(*(k for k in stack.rows if k >= 0))
    np.testing.assert_array_equal(session.theta, changed)


def test_a_callback_loads_the_whole_state_of_a_member(rng):
    """Beside its own arrays it has those of all members: which weights decay."""

    class Reloads(nnx.Callback):
        each_member = True

        def on_epoch(self, trainer, progress):
            trainer.session.load(trainer.session.read())

    check(*stacked(net(), *samples(rng), Reloads(), regularization=nnx.Regularization(l2=0.1), epochs=2))


def test_an_interrupt_of_many_epochs_at_once_takes_all_members_back(rng, monkeypatch):
    """To the end of the call before; a later fit goes on from there as one that was not interrupted."""
    X, Y = samples(rng)
    stack, whole = (nnx.Trainer(net(), nnx.Adam(RATES), "numpy", seed=SEEDS, members=K) for _ in range(2))
    stack.fit(X, Y, epochs=2, batch_size=10)
    program = stack.session.stack(False).program
    run = program.run

    def interrupted(*arguments):
        found = run(*arguments)
        if arguments[-1] > 3:  # steps of several epochs
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(program, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack.fit(X, Y, epochs=50, batch_size=10)
    monkeypatch.undo()
    done = len(stack.records[0])
    assert [len(records) for records in stack.records] == [done] * K
    assert stack.steps == [3 * done] * K
    stack.fit(X, Y, epochs=2, batch_size=10)
    whole.fit(X, Y, epochs=done + 2, batch_size=10)
    np.testing.assert_array_equal(stack.theta, whole.theta)
    assert stack.records == whole.records


@pytest.mark.parametrize("callbacks", [(), lambda now: None])
def test_an_interrupt_while_records_are_added_leaves_those_of_all_members_or_none(rng, callbacks):
    """Of many epochs at once none are done; of one epoch the steps are."""
    X, Y = samples(rng)
    stack = nnx.Trainer(net(), nnx.Adam(RATES), "numpy", seed=SEEDS, members=K)
    stack.fit(X, Y, epochs=2, batch_size=10)

    class Interrupts(list):
        def extend(self, records):
            super().extend(records)
            if callbacks or len(records) > 1:
                raise KeyboardInterrupt

    stack.each[3].session.records = Interrupts(stack.records[3])
    with pytest.raises(KeyboardInterrupt):
        stack.fit(X, Y, epochs=50, batch_size=10, callbacks=callbacks)
    lengths = {len(records) for records in stack.records}
    assert stack.steps == [9 if callbacks else 3 * min(lengths)] * K
    assert len(lengths) == 1


@pytest.mark.needs("numba")
def test_auto_takes_numba_for_the_work_of_all_members(rng, monkeypatch):
    X, Y = samples(rng)
    monkeypatch.setattr(nnx.train.stack_session, "WORTH", nnx.port.registry.work(net().P, 30 * 4, 3 * 4, 2.5))
    asked = []

    def choose(*arguments):
        asked.append(arguments)
        return nnx.port.registry.Choice(nnx.backend("numba" if len(arguments) > 3 else "numpy"), "a test")

    monkeypatch.setattr(nnx.train.stack_session, "choose", choose)
    stacks = [nnx.Trainer(net(), nnx.Adam(), seed=4, members=members) for members in (2, 3)]
    for stack in stacks:
        stack.fit(X, Y, epochs=4, batch_size=10)
    assert [stack.backend.name for stack in stacks] == ["numpy", "numba"]
    np.testing.assert_allclose(stacks[1].theta[:2], stacks[0].theta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["file", "pickle", "deepcopy"])
def test_members_are_saved_and_go_on(rng, tmp_path, way):
    X, Y = samples(rng)
    regularization = nnx.Regularization(l2=[0.1, 0.0, 0.01, 0.0, 0.3])
    network, optimizer = (
        net(nnx.Dropout([0.1, 0.2, 0.0, 0.5, 0.3])),
        nnx.Adam(RATES, beta2=[0.9, 0.99, 0.999, 0.9, 0.5]),
    )
    stack = nnx.Trainer(network, optimizer, "numpy", seed=SEEDS, regularization=regularization, members=K)
    stack.fit(X, Y, epochs=3, batch_size=10)
    stack.ensemble.weights = [1, 2, 3, 4, 0]
    if way == "file":
        stack.save(tmp_path / "stack.safetensors")
        other = nnx.Trainer.load(tmp_path / "stack.safetensors", "numpy")
        other.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "stack.safetensors").read_bytes()
    else:
        other = pickle.loads(pickle.dumps(stack)) if way == "pickle" else deepcopy(stack)
    assert (other.seed, other.steps, other.records) == (stack.seed, stack.steps, stack.records)
    assert (other.optimizer, other.regularization) == (stack.optimizer, stack.regularization)
    assert other.ensemble.weights == stack.ensemble.weights
    assert other.network.describe() == stack.network.describe()
    before = stack.theta
    for one in (stack, other):
        one.fit(X, Y, epochs=2, batch_size=10)
    np.testing.assert_allclose(other.theta, stack.theta, rtol=1e-6)
    assert not np.array_equal(before, stack.theta)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda tensors, run: run.update(members=run["members"][:2]),
            "errors has 3 entries; expected one for each of 2 members",
        ),
        (lambda tensors, run: run.update(members=[]), "each of 0 members"),
        (lambda tensors, run: run.update(members=3), "description.members"),
        (lambda tensors, run: run.update(selection=[1.0]), "selection has 1 entries"),
        (lambda tensors, run: run.update(extra=1), "extra"),
        (lambda tensors, run: run["members"][1].pop("seed"), "seed"),
        (lambda tensors, run: tensors.pop("W1"), "W1"),
        (lambda tensors, run: tensors.update(W1=tensors["W1"][0]), "expected 3 members"),
        (lambda tensors, run: run["members"][1]["network"].update(output="sigmoid"), "one architecture"),
    ],
)
def test_a_damaged_file_of_members_is_an_error(tmp_path, change, says):
    stack = nnx.Trainer(net(), backend="numpy", members=3)
    tensors, run = deepcopy(collect(stack.session))
    change(tensors, run)
    write(tmp_path / "stack.safetensors", tensors, run)
    with pytest.raises(nnx.ModelFileError, match=says):
        nnx.Trainer.load(tmp_path / "stack.safetensors", "numpy")


def test_a_stack_goes_on_from_the_checkpoints_of_its_members_and_so_does_a_single_run(rng, tmp_path):
    X, Y = to_learn(rng, 40)
    given = {"epochs": 9, "batch_size": 8, "validation": samples(rng, 20)}

    def own(*names):
        return [[nnx.EarlyStopping(patience=2), nnx.Checkpoints(tmp_path / name, epochs=1)] for name in names]

    def trainers(K):
        return [nnx.Trainer(net(), nnx.Adam(rate), "numpy", seed=3) for rate in RATES[:K]]

    def fit(trainers, interrupt=None, checkpoints=()):
        asked = Callbacks([] if interrupt is None else [interrupt])
        request = Request(X, Y, 9, 8, given["validation"], True, asked)
        stack = StackSession.of([trainer.session for trainer in trainers])
        fit_stack(stack, request, trainers, own(*"abc"), None, checkpoints)
        return stack

    class Interrupt(nnx.Callback):
        def on_epoch(self, trainer, progress):
            if progress.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(trainers(3), Interrupt())
    shutil.copytree(tmp_path / "b", tmp_path / "d")
    [alone] = trainers(2)[1:]
    alone.fit(X, Y, **given, callbacks=own("d")[0], resume=tmp_path / "d")
    whole, resumed = trainers(3), trainers(3)
    for trainer in whole:
        trainer.fit(X, Y, **given, callbacks=nnx.EarlyStopping(patience=2))
    fit(resumed, checkpoints=[tmp_path / name for name in "abc"])
    assert len({len(trainer.records) for trainer in whole}) > 1  # some have stopped early
    for one, other in [*zip(whole, resumed, strict=True), (whole[1], alone)]:
        assert one.records == other.records
        assert (one.kept, one.stopped) == (other.kept, other.stopped)
        np.testing.assert_array_equal(one.theta, other.theta)
    with pytest.raises(nnx.errors.InputError, match="and these stand apart"):
        fit(trainers(3), checkpoints=[tmp_path / "a", tmp_path / "b", tmp_path / "empty"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("torch", marks=pytest.mark.needs("torch")),
        pytest.param("jax", marks=[pytest.mark.needs("jax"), pytest.mark.long]),
    ],
)
def test_members_have_products_of_bfloat16(name, rng):
    given = {"epochs": 3, "batch_size": 10, "optimizer": nnx.Momentum(RATES)}
    X, Y = samples(rng)
    rounded = nnx.backend(name, "cpu", precision="bfloat16")
    stack, singles = stacked(net(), X, Y, backend=rounded, **given)
    check(stack, singles, rtol=1e-4)
    plain, _ = stacked(net(), X, Y, backend="numpy", **given)
    assert np.abs(plain.theta - stack.theta).max() > 1e-4


def test_all_members_diverge_while_training_samples_are_measured(rng):
    X, Y = to_learn(rng, 40)
    network = nnx.mlp([4, 6, 3], output="softmax")
    stack = nnx.Trainer(network, nnx.GradientDescent(1e30), "numpy", members=3)
    with pytest.raises(nnx.DivergenceError):
        stack.fit(X, Y, 2, 8, (X, Y), metrics=["accuracy"], training_metrics=10)
    assert stack.records == [[], [], []]


@pytest.mark.needs("numba")
@pytest.mark.parametrize(
    ("shuffle", "own", "compiles"),
    [(True, False, True), (False, False, True), (True, True, True), (True, True, False)],
)
def test_a_call_of_numba_does_epochs_whose_last_batch_is_smaller(rng, monkeypatch, shuffle, own, compiles):
    done, whole = [], NumbaProgram.run_epochs
    monkeypatch.setattr(NumbaProgram, "run_epochs", lambda *given: done.append(given[-1]) or whole(*given))
    if not compiles:
        monkeypatch.setattr(NumbaProgram, "compiled", lambda *given: None)
    given = {"epochs": 6, "batch_size": 8, "shuffle": shuffle, "backend": "numba"}
    given["sample_weight"] = rng.uniform(0.1, 2, (K, 30)) if own else None
    stack, singles = stacked(net(), *samples(rng), **given)
    assert max(done) > 1
    for session, single in zip(stack.each, singles, strict=True):
        assert session.records == single.records
        np.testing.assert_array_equal(session.theta, single.theta)
