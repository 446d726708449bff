"""The memory of a stack: estimated before it is taken, and rounds where it is too little."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import nnx
from nnx import Dense, Dropout, GaussianNoise, LayerNorm, Network, Residual
from nnx.callbacks.base import Callbacks
from nnx.optimizers.schedules import Cosine
from nnx.port.base import Memory
from nnx.port.registry import work
from nnx.train import stack_memory
from nnx.train.request import Request
from nnx.train.session import Session
from nnx.train.stack import Row, Stack
from nnx.train.stack_fit import fit_stack
from nnx.train.stack_memory import Need, parts, room
from nnx.train.stack_session import StackSession

K, SEEDS, RATES = 5, [4, 9, 2, 7, 30], [0.01, 0.003, 0.03, 0.1, 0.02]


def net():
    return Network(4, [Dense(6, "tanh"), Dropout(0.2), Dense(3)], "softmax")


def samples(rng, m=30):
    return rng.standard_normal((4, m)).astype("float32"), rng.integers(0, 3, m)


@pytest.fixture
def free(monkeypatch):
    """Set the free memory, of which each member takes 1000 bytes."""
    monkeypatch.setattr(stack_memory, "SMALL", 0)
    monkeypatch.setattr("nnx.train.stack_fit.needed", lambda *_: Need(1000, 500))

    def to(n):
        kind = type(nnx.backend("numpy"))
        monkeypatch.setattr(kind, "memory", lambda self: Memory(0, 0, n))

    return to


def many(**given):
    return nnx.Trainer(net(), nnx.Adam(RATES), "numpy", seed=SEEDS, members=K, **given)


def test_too_many_members_are_an_error_that_says_how_many_fit(rng, free):
    X, Y = samples(rng)
    trainer = many()
    free(4000)
    with pytest.raises(
        nnx.InputError,
        match=r"5 members take about 5.5 kB of memory; 3 fit into 90% of the 4 kB that are free. Give fewer",
    ):
        trainer.fit(X, Y, epochs=2)
    assert trainer.steps == [0] * K
    free(1000)
    with pytest.raises(nnx.InputError, match=r"not even one fits into .*; or, in Python, fit\(rounds=True\)"):
        trainer.fit(X, Y, epochs=2)
    free(6200)
    trainer.fit(X, Y, epochs=2)
    assert trainer.steps == [2] * K


def test_members_that_have_trained_and_their_file_count_before_the_first_step(rng, free, monkeypatch):
    X, Y = samples(rng)
    trainer = many()
    monkeypatch.setattr("nnx.train.stack_fit.needed", lambda *_: Need(1000, 500, 100))
    free(4000)
    with pytest.raises(
        nnx.InputError, match=r"6 kB of memory; 3 fit into .* the 4.5 kB that are free or theirs"
    ):
        trainer.fit(X, Y)
    monkeypatch.setattr("nnx.train.stack_fit.available", lambda: 3000)
    with pytest.raises(
        nnx.InputError, match=r"5 members and their model file take about 4 kB of memory; 3 fit into"
    ):
        trainer.fit(X, Y, rounds=True)
    assert trainer.steps == [0] * K


def test_early_stopping_keeps_the_best_of_its_member_alone(rng):
    sizes = []

    class Best(nnx.EarlyStopping):
        def on_epoch(self, trainer, progress):
            super().on_epoch(trainer, progress)
            sizes.append((self._theta if self._theta.base is None else self._theta.base).nbytes)

    many().fit(*samples(rng), epochs=1, batch_size=10, callbacks=Best("loss"))
    assert sizes == [4 * net().P] * K


def test_a_file_that_memory_does_not_hold_is_an_error_of_python(monkeypatch, tmp_path):
    monkeypatch.setattr("nnx.io.container.SMALL", 0)
    monkeypatch.setattr("nnx.io.container.available", lambda: 1000)
    with pytest.raises(MemoryError, match=r"to write the model takes 6.* kB of memory, and 1 kB are free"):
        many().save(tmp_path / "model.safetensors")
    assert not [*tmp_path.iterdir()]


class Freed(nnx.Callback):
    """Counts the rounds before, which are in memory when one begins."""

    def __init__(self):
        self._before, self.left = [], []

    def on_fit_start(self, trainer, epochs):
        self.left.append(sum(one() is not None for one in self._before))
        self._before += [
            weakref.ref(trainer),
            *(weakref.ref(stack) for _, stack in trainer.session._stacks.values()),
        ]


def test_a_round_frees_its_memory_without_the_garbage_collector(rng, free):
    trainer, seen = many(), Freed()
    free(3000)  # two at once
    gc.disable()
    try:
        trainer.fit(*samples(rng), epochs=2, batch_size=10, rounds=True, callbacks=seen)
    finally:
        gc.enable()
    assert seen.left == [0, 0, 0]


@pytest.mark.parametrize("own_weights", [False, True])
def test_rounds_are_as_all_members_at_once(rng, free, own_weights):
    (X, Y), held = samples(rng), samples(rng, 20)
    w = rng.integers(1, 4, (K, 30)).astype("float32") if own_weights else None
    given = {"epochs": 9, "batch_size": 10, "validation": held, "sample_weight": w}
    if own_weights:
        given |= {"validation": None, "validation_split": 0.4, "training_metrics": 9, "metrics": ["accuracy"]}
    whole, rounds, seen = many(), many(), []
    free(None)
    whole.fit(X, Y, callbacks=nnx.EarlyStopping(patience=2), **given)
    assert len({len(records) for records in whole.records}) > 1  # they end at different epochs
    free(3000)  # two at once
    rounds.fit(
        X,
        Y,
        callbacks=[nnx.EarlyStopping(patience=2), lambda now: seen.append(now.epoch)],
        rounds=True,
        **given,
    )
    assert rounds.records == whole.records
    assert (rounds.stopped, rounds.kept) == (whole.stopped, whole.kept)
    assert repr(rounds.held_out) == repr(whole.held_out)
    np.testing.assert_array_equal(rounds.theta, whole.theta)
    assert rounds.session.work == pytest.approx(whole.session.work)
    assert 0 < whole.session.work < work(net().P, 270, 27, K)
    starts = [at for at, epoch in enumerate(seen) if epoch == 1 and (at == 0 or seen[at - 1] > 1)]
    assert len(starts) == 3
    assert not any(
        isinstance(session.program, Row) for session in rounds.session.members
    )  # the stacks are gone
    free(None)
    for trainer in (whole, rounds):
        trainer.fit(X, Y, epochs=2, batch_size=10)
    np.testing.assert_array_equal(rounds.theta, whole.theta)


@pytest.mark.parametrize("whole", [True, False])
def test_a_stop_ends_the_rounds_behind_it_and_no_member_that_is_done(rng, free, whole, tmp_path):
    trainer, seen = many(), []

    class Stops(nnx.Callback):
        def on_epoch(self, its, progress):
            seen.append(progress.epoch)
            if seen.count(2) == 2:  # the second round
                (trainer if whole else its).stop("enough")

    free(3000)
    X, Y = samples(rng)
    with pytest.warns(
        match=r"^2 of 5 members \(3, 4\) did not train; the trainer's ensemble leaves out such members$"
    ):
        history = trainer.fit(X, Y, epochs=3, batch_size=10, rounds=True, callbacks=Stops())
    assert [len(records) for records in trainer.records] == [3, 2, 2, 0, 0]
    assert trainer.stopped == [None, *["enough"] * 4]
    assert np.isnan(history["loss"][1][3:]).all()
    trainer.save(tmp_path / "members.safetensors")
    for ensemble in (trainer.ensemble, nnx.Trainer.load(tmp_path / "members.safetensors", "numpy").ensemble):
        assert ensemble.weights == [1 / 3] * 3 + [0, 0]
        assert repr(ensemble).endswith("; 2 of 5 members (3, 4) did not train>")
        assert ensemble.select(X, Y)[3:] == [0, 0]
        ensemble._trainer.each[3].theta = trainer.theta[0]
        assert repr(ensemble).endswith("; member 4 did not train>")
        ensemble.weights = [0, 0, 0, 1, 1]
        assert ensemble.weights == [0, 0, 0, 0.5, 0.5]
    trainer.fit(*samples(rng), epochs=3, batch_size=10, rounds=True)
    assert trainer.stopped == [None] * K


def test_members_of_rounds_that_did_not_begin_have_no_mean(rng, free):
    (X, Y), trainer = samples(rng), many()
    trainer.ensemble.weights = [0, 0, 0, 0, 1]

    class Interrupts(nnx.Callback):
        def on_epoch(self, trainer, progress):
            raise KeyboardInterrupt

    free(3000)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, rounds=True, callbacks=Interrupts())
    with pytest.raises(nnx.InputError, match=r"left: 4 of 5 members \(1, 2, 3, 4\) did not train.*weights$"):
        trainer.ensemble.predict(X)
    trainer.each[4].fit(X, Y, epochs=1)
    assert trainer.ensemble.weights == [0, 0, 0, 0, 1]


def test_a_member_goes_on_alone_after_rounds(rng, free):
    whole, rounds = many(), many()
    whole.fit(*samples(rng), epochs=2, batch_size=10)
    free(3000)
    rounds.fit(*samples(rng), epochs=2, batch_size=10, rounds=True)
    X, Y = samples(rng)
    for trainer in (whole, rounds):
        trainer.each[1].fit(X, Y, epochs=1, batch_size=10)
    assert rounds.steps == [6, 9, 6, 6, 6]


def test_no_callback_fits_in_rounds(rng, free):
    trainer, (X, Y) = many(), samples(rng)
    free(3000)
    with pytest.raises(nnx.InputError, match="in the middle of a fit"):
        trainer.fit(X, Y, epochs=2, rounds=True, callbacks=lambda now: trainer.fit(X, Y))
    free(9000)
    assert trainer.fit(X, Y, epochs=1)["loss"]


def test_a_fit_without_room_leaves_a_schedule_in_epochs(rng, free):
    trainer = nnx.Trainer(net(), nnx.Adam(Cosine.in_epochs(0.1)), "numpy", members=K)
    before = trainer.optimizer
    free(1000)
    with pytest.raises(nnx.InputError, match="not even one fits"):
        trainer.fit(*samples(rng), epochs=2)
    assert trainer.optimizer == before


@pytest.mark.filterwarnings("ignore::nnx.LeftOutWarning")
def test_members_of_rounds_diverge_by_themselves(rng, free):
    X, _ = samples(rng)
    network, rates = nnx.mlp([4, 6, 1], "relu", "identity"), [1e38, 1e38, 0.1, 0.01, 1e38]
    trainer = nnx.Trainer(network, nnx.GradientDescent(rates), "numpy", members=K)
    free(3000)
    trainer.fit(X, X[1], epochs=3, batch_size=10, rounds=True)
    assert [error is not None for error in trainer.errors] == [True, True, False, False, True]
    assert [len(records) for records in trainer.records] == [0, 0, 3, 3, 0]
    trainer = nnx.Trainer(network, nnx.GradientDescent(1e38), "numpy", members=K)
    with pytest.raises(nnx.DivergenceError, match="all 5 members have diverged; the first: the cost became"):
        trainer.fit(X, X[1], epochs=3, batch_size=10, rounds=True)


@pytest.mark.parametrize("given", [None, nnx.MovingAverage(0.9), nnx.Checkpoints("folder")])
def test_rounds_have_nothing_that_is_of_all_members(rng, free, given, tmp_path):
    trainer = many()
    free(3000)
    its = {"callbacks": given} if given else {"resume": tmp_path}
    said = "is of all members at once, and they train in 3 rounds"
    resumed = "members take about .* fit into .* A fit that goes on has all members at once: free memory, or"
    with pytest.raises(nnx.InputError, match=said if given else resumed):
        trainer.fit(*samples(rng), rounds=True, **its)


def test_rounds_go_on_from_the_checkpoints_of_their_members(rng, free, tmp_path):
    X, Y = samples(rng)
    saving = [[nnx.Checkpoints(tmp_path / str(k), epochs=1)] for k in range(2)]
    whole, begun, rounds = (
        [
            nnx.Trainer(net(), nnx.Adam(rate), "numpy", seed=seed)
            for rate, seed in zip(RATES[:2], SEEDS, strict=False)
        ]
        for _ in range(3)
    )
    for k in range(2):
        whole[k].fit(X, Y, epochs=2, batch_size=10)
        begun[k].fit(X, Y, epochs=1, batch_size=10, callbacks=saving[k])
    free(2000)
    stack = StackSession.of([trainer.session for trainer in rounds])
    request = Request(X, Y, 2, 10, None, True, Callbacks(()), rounds=True)
    fit_stack(stack, request, rounds, saving, checkpoints=[tmp_path / str(k) for k in range(2)])
    for one, other in zip(whole, rounds, strict=True):
        assert one.records == other.records
        np.testing.assert_array_equal(one.theta, other.theta)


def test_batches_that_are_given_can_be_gone_through_for_each_round(rng, free):
    batches = [samples(rng, 10) for _ in range(3)]
    whole, rounds, once = many(), many(), many()
    free(None)
    whole.fit(batches, epochs=3)
    free(3000)
    rounds.fit(batches, epochs=3, rounds=True)
    np.testing.assert_allclose(rounds.theta, whole.theta, rtol=1e-6)
    with pytest.raises(nnx.InputError, match="gone through but once, and the members train in 3 rounds"):
        once.fit(iter(batches), rounds=True)


def test_rounds_must_be_a_flag(rng):
    with pytest.raises(nnx.InputError, match="rounds must be True or False"):
        many().fit(*samples(rng), rounds=3)


def test_a_trainer_of_too_many_members_is_an_error():
    with pytest.raises(
        nnx.InputError,
        match=r"1,000,000,000,000 members, before they train, take about .* fit into 90% of .* Give fewer",
    ):
        nnx.Trainer(net(), backend="numpy", members=10**12)


def test_states_that_do_not_fit_on_the_device_are_an_error(monkeypatch, free):
    free(2 * 4 * 3 * net().P)  # Adam's state, but for a few numbers
    with pytest.raises(nnx.InputError, match=r"5 members, before they train, take about .* of the 1.2 kB"):
        many()


def test_the_estimate_hides_no_faults_of_nnx(rng, monkeypatch):
    def fails(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(stack_memory, "SMALL", 0)
    with monkeypatch.context() as of_the_user:
        of_the_user.setattr(stack_memory, "trace", fails)
        many().fit(*samples(rng), epochs=1)
    monkeypatch.setattr(stack_memory, "schedule", fails)
    with pytest.raises(ZeroDivisionError):
        many().fit(*samples(rng), epochs=1)


def test_rounds_are_about_as_large():
    for K in range(1, 30):
        for most in range(1, 12):
            found = parts(K, most)
            assert [k for part in found for k in part] == [*range(K)]
            assert max(map(len, found)) <= most
            assert max(map(len, found)) - min(map(len, found)) <= 1
            assert len(found) == -(-K // most)
    assert parts(3, 0) == [range(1), range(1, 2), range(2, 3)]  # the least that can be tried


def test_a_system_that_does_not_tell_has_room():
    assert room(10**9, Need(10**9, 0), lambda: None) == 10**9


@pytest.mark.parametrize(
    ("network", "batch_size"),
    [
        (nnx.mlp([64, 64, 64, 10]), 32),
        (nnx.mlp([64, 64, 64, 10]), 600),
        (nnx.mlp([100, 400, 1], output="identity"), 32),
    ],
)
def test_the_estimate_is_about_the_memory_that_a_fit_takes(rng, monkeypatch, network, batch_size):
    """Of NumPy, whose arrays tracemalloc sees; here all members are one group, as on a GPU."""
    monkeypatch.setattr("nnx.backends.calls.program.CallProgram._groups", lambda *_: [None])
    monkeypatch.setattr(stack_memory, "SMALL", 0)
    needs, needed = [], stack_memory.needed
    monkeypatch.setattr(
        "nnx.train.stack_fit.needed", lambda *given: needs.append(needed(*given)) or needs[-1]
    )
    X = rng.standard_normal((network.n[0], 600)).astype("float32")
    Y = rng.integers(0, 10, 600) if network.n[-1] > 1 else X[0]
    tracemalloc.start()
    try:
        trainer = nnx.Trainer(network, backend="numpy", members=8)
        trainer.session.first.forward.buffers_of_all = True
        before, _ = tracemalloc.get_traced_memory()
        trainer.fit(X, Y, epochs=3, batch_size=batch_size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    estimated = 8 * needs[0].each + needs[0].shared
    assert 0.8 < estimated / (peak - before) < 1.5


def sessions(*networks, **given):
    return [Session(network, backend="numpy", **given) for network in networks]


def layers(*inner):
    return Network(4, [Dense(6), *inner, Dense(3)], "softmax")


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (nnx.mlp([4, 6, 3]), nnx.mlp([4, 7, 3]), "differ in layers.0.n, 6 and 7"),
        (nnx.mlp([4, 6, 3]), nnx.mlp([4, 6, 6, 3]), "differ in the number of layers, 2 and 3"),
        (nnx.mlp([4, 6, 3]), nnx.mlp([5, 6, 3]), "differ in n_features, 4 and 5"),
        (nnx.mlp([4, 6, 3], "relu"), nnx.mlp([4, 6, 3], "tanh"), "layers.0.activation, 'relu' and 'tanh'"),
        (
            nnx.mlp([4, 3], output="softmax"),
            nnx.mlp([4, 3], output="sigmoid"),
            "output, 'softmax' and 'sigmoid'",
        ),
        (layers(Dropout(0.1)), layers(GaussianNoise(0.1)), "layers.1.kind, 'Dropout' and 'GaussianNoise'"),
        (
            layers(Dropout(0.3), Residual([Dropout(0.1), Dense(6)])),
            layers(Dropout(0.2), Residual([Dropout(0.2), Dense(6, "relu")])),
            "layers.2.layers.1.activation",
        ),
        (
            layers(LayerNorm(1e-5)),
            layers(LayerNorm(1e-3)),
            "cannot differ in the network's layers.1's epsilon",
        ),
    ],
)
def test_networks_of_other_architectures_are_an_error(one, other, says):
    with pytest.raises(nnx.InputError, match=says):
        StackSession.of(sessions(one, other))


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"optimizer": nnx.Adam()}, {"optimizer": nnx.Momentum()}, "nothing else of the optimizer: Adam"),
        (
            {"optimizer": nnx.Adam(0.1)},
            {"optimizer": nnx.Adam(nnx.schedules.Cosine(0.1, 9))},
            "optimizer's learning_rate",
        ),
        (
            {"optimizer": nnx.Adam(nnx.schedules.Cosine(0.1, 8))},
            {"optimizer": nnx.Adam(nnx.schedules.Cosine(0.1, 9))},
            "optimizer's learning_rate's steps: 8 and 9",
        ),
        (
            {"regularization": nnx.Regularization(per_sample=True)},
            {"regularization": nnx.Regularization()},
            "regularization's per_sample: True and False",
        ),
        ({"dtype": "float64"}, {}, "'float64'.* and .*'float32'"),
    ],
)
def test_sessions_that_do_not_fit_together_are_an_error(one, other, says):
    with pytest.raises(nnx.InputError, match=says):
        Stack([*sessions(net(), **one), *sessions(net(), **other)])
