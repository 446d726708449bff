"""Fits of several ranks, which are threads here: `test_ranks` has real ones."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import ranks_program
from thread_ranks import Second, in_ranks

import nnx
from nnx.batches import Batches, file_sources, stream
from nnx.port import communicators, failures
from nnx.port.communicator import Alone, Communicator
from nnx.train.fit import in_shares
from nnx.train.rank_parts import gathered


def test_a_fit_is_that_of_one_rank():
    in_ranks(2, ranks_program.fit, "numpy", ["weighted"], 2)
    in_ranks(2, ranks_program.fit, "numpy", [kind for kind in ranks_program.KINDS if kind != "weighted"], 1)


@pytest.mark.needs("torch")
def test_a_fit_with_weights_is_that_of_one_rank_on_torch():
    in_ranks(2, ranks_program.fit, "torch", ["weighted"], 1)


def test_each_rank_measures_some_batches():
    backend = nnx.backend("numpy")
    made = [
        (float(k), np.arange(2 * k).reshape(k, 2).T, [(np.arange(k, dtype="int32"), np.asarray(k > 2))])
        for k in range(5)
    ]

    def rank(communicator):
        own = made[communicator.rank :: communicator.size]
        found = gathered(communicator, backend, own)
        session = ranks_program.trainer(communicator).session
        samples = in_shares(session, Batches(backend, ranks_program.X, ranks_program.Y, None, 50))
        return found, [samples.size(step) for step in range(samples.steps)]

    for found, sizes in in_ranks(3, rank):
        assert sizes == [18, 18, 17]
        for (J, x, [(i, flag)]), (its_J, its_x, [(its_i, its_flag)]) in zip(found, made, strict=True):
            assert J == its_J
            for y, its_y in ((x, its_x), (i, its_i), (flag, its_flag)):
                assert (y.dtype, y.shape) == (its_y.dtype, its_y.shape)
                assert np.array_equal(y, its_y)


@pytest.mark.long
def test_ranks_that_come_late():
    in_ranks(3, ranks_program.fit, slow=True)


@pytest.mark.long
def test_a_fit_goes_on_with_other_ranks(tmp_path):
    whole, cut, again = (tmp_path / name for name in ("whole", "cut", "again"))
    for size, folder, epochs, begins in (
        (2, whole, 4, "anew"),
        (2, cut, 2, "anew"),
        (3, cut, 3, "resume"),
        (2, cut, 4, "resume"),
        (2, again, 2, "anew"),
        (2, again, 4, "resume"),
    ):
        (folder / "of-2.safetensors").unlink(missing_ok=True)
        in_ranks(size, lambda c: ranks_program.checkpoints(c, folder, epochs, begins))  # noqa: B023
    first, second, third = (nnx.Trainer.load(f / "of-2.safetensors", "numpy") for f in (whole, cut, again))
    np.testing.assert_allclose(first.theta, second.theta, rtol=1e-10)
    assert np.array_equal(first.theta, third.theta)
    assert first.steps == second.steps == 24
    for folder in (whole, cut, again):
        assert len((folder / "log.csv").read_text().splitlines()) == 5  # rank 0 alone writes


def test_a_loaded_trainer_takes_ranks(tmp_path):
    ranks_program.trainer().save(tmp_path / "model.safetensors")
    in_ranks(3, lambda communicator: ranks_program.loaded(communicator, tmp_path / "model.safetensors"))
    many = nnx.Trainer(nnx.mlp([2, 1]), backend="numpy", members=2)
    assert many.communicator.size == 1
    several = Second(all_fail=True)
    with pytest.raises(nnx.InputError, match=r"members cannot be trained on several ranks \(2\)"):
        many.communicator = several


def test_ranks_that_see_other_disks(tmp_path):
    in_ranks(1, lambda communicator: ranks_program.checkpoints(communicator, tmp_path / "0", 2, "anew"))
    (tmp_path / "1").mkdir()

    def rank(communicator):
        made, folder = ranks_program.trainer(communicator), tmp_path / str(communicator.rank)
        callbacks = [nnx.Checkpoints(folder), nnx.CSVLog(folder / "log.csv")]
        with pytest.raises(
            nnx.InputError, match="rank 1 goes on from another checkpoint than rank 0, or from none"
        ):
            made.fit(ranks_program.X, ranks_program.Y, 4, 10, resume=folder, callbacks=callbacks)
        assert made.steps == 0

    in_ranks(2, rank)


@pytest.mark.parametrize(
    ("kind", "micro_batch"),
    [
        ("file", None),
        ("sparse", 3),
        *(pytest.param(*x, marks=pytest.mark.long) for x in (("file", 3), ("sparse", None))),
    ],
)
def test_samples_that_are_read_piece_by_piece(tmp_path, kind, micro_batch):
    X, Y, W = ranks_program.X, ranks_program.Y, ranks_program.W
    if kind == "file":
        np.save(tmp_path / "X.npy", np.ascontiguousarray(X.T))
        X = np.load(tmp_path / "X.npy", mmap_mode="r").T
    else:
        X = pytest.importorskip("scipy.sparse").csc_array(X * (X > 0))

    def fit(communicator):
        made = ranks_program.trainer(communicator)
        histories = [
            made.fit(
                X, Y, 2, 10, sample_weight=w, micro_batch=micro_batch, shuffle=shuffle, training_metrics=True
            )
            for w, shuffle in ((None, True), (np.where(np.arange(len(W)) < 20, 0, W), False))
        ]
        return histories, made.theta, made.steps

    histories, theta, steps = fit(None)
    for its_histories, its_theta, its_steps in in_ranks(3, fit):
        assert its_steps == steps == 2 * (6 + 4)  # two batches of the last fit weigh nothing
        np.testing.assert_allclose(its_theta, theta, rtol=1e-10)
        for found, expected in zip(its_histories, histories, strict=True):
            np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-10)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_rank_reads_its_stripe_of_large_batches(monkeypatch, tmp_path, shuffle):
    np.save(tmp_path / "X.npy", np.ascontiguousarray(ranks_program.X[:, :50].T))
    X, Y = np.load(tmp_path / "X.npy", mmap_mode="r").T, ranks_program.Y[:50]
    monkeypatch.setattr(stream, "NUMBERS", 1)  # each batch is large: a block by itself
    read, places = file_sources.MappedFile.read, []

    def noted(self, start, stop):
        places.extend(range(start, stop))
        return read(self, start, stop)

    def fit(communicator):
        made = ranks_program.trainer(communicator)
        made.fit(X, Y, 1, 10, shuffle=shuffle)
        return made.theta

    expected = fit(None)
    monkeypatch.setattr(file_sources.MappedFile, "read", noted)
    for theta in in_ranks(2, fit):
        np.testing.assert_allclose(theta, expected, rtol=1e-10)
    assert sorted(places) == list(range(len(Y)))


BATCHES = [[(0, 9), (9, 20), (20, 26)], [(26, 30), (30, 31)], [(31, 40), (40, 45), (45, 53), (50, 53)]]
"""The samples in each batch of three ranks: one has three batches, one two, one four."""


@pytest.mark.parametrize(("kind", "weights"), [("list", True), ("function", False)])
def test_batches_that_are_given(kind, weights):
    """A step has the batches of all ranks, side by side."""
    X, Y, W = ranks_program.X, ranks_program.Y, ranks_program.W.copy()
    W[31:40] = 0  # one rank's batch weighs nothing

    def batch(places):
        places = np.concatenate([np.arange(*place) for place in places])
        return (X[:, places], Y[places], W[places]) if weights else (X[:, places], Y[places])

    together = [
        [places for places in (its[step : step + 1] for its in BATCHES) if places] for step in range(4)
    ]
    alone = ranks_program.trainer()
    expected = alone.fit([batch([place[0] for place in step]) for step in together], epochs=3)

    def rank(communicator):
        given = [batch([place]) for place in BATCHES[communicator.rank]]
        source = given if kind == "list" else lambda: iter(given)
        made = ranks_program.trainer(communicator)
        samples = []
        found = made.fit(source, epochs=3, callbacks=lambda now: samples.append(now.samples))
        assert samples[-1] == sum(b - a for its in BATCHES for a, b in its)
        return found["loss"], made.theta, made.steps

    for loss, theta, steps in in_ranks(3, rank):
        assert steps == alone.steps == 12
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-10)
        np.testing.assert_allclose(theta, alone.theta, rtol=1e-10)


def test_batches_that_are_given_have_no_micro_batches():
    def rank(communicator):
        with pytest.raises(
            nnx.InputError, match="micro_batch=3 is given with an iterable of batches and several ranks"
        ):
            ranks_program.trainer(communicator).fit(
                [(ranks_program.X, ranks_program.Y)], epochs=2, micro_batch=3
            )

    in_ranks(2, rank)


def test_a_validation_of_iterables_has_the_batches_of_all_ranks():
    parts = [[slice(0, 10), slice(10, 16)], [slice(16, 30), slice(30, 40), slice(40, 53)]]
    X, Y = ranks_program.X, ranks_program.Y
    expected = ranks_program.trainer().fit(X, Y, 2, 20, validation=(X, Y), metrics=["accuracy"])

    def rank(communicator):
        own = [(X[:, part], Y[part]) for part in parts[communicator.rank]]
        return ranks_program.trainer(communicator).fit(X, Y, 2, 20, validation=own, metrics=["accuracy"])

    for found in in_ranks(2, rank):
        for name in ("validation_loss", "validation_accuracy"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-10)


@pytest.mark.parametrize("callbacks", [[], [lambda now: None]], ids=["none", "one"])
def test_a_rank_that_is_told_to_stop_at_any_time_stops_all(callbacks):
    """Before the fit, or in the midst of a step, as by a signal."""

    def rank(communicator):
        found = []
        for moment in ("on_fit_start", "in a step"):
            made = ranks_program.trainer(communicator)

            class Stops(nnx.Callback):
                def on_fit_start(self, trainer, epochs):
                    if moment == "on_fit_start" and communicator.rank == 1:  # noqa: B023
                        trainer.stop("now")

            def during(vector, sum=communicator.sum):
                sum(vector)
                if moment == "in a step" and communicator.rank == 1 and len(vector) > 9:  # noqa: B023
                    made.stop("now")  # noqa: B023

            communicator.sum = during
            made.fit(
                X=ranks_program.X, Y=ranks_program.Y, epochs=4, batch_size=10, callbacks=[Stops(), *callbacks]
            )
            del communicator.sum
            found.append((made.steps, made.stopped))
        return found

    first, second = in_ranks(2, rank)
    assert first == second
    assert first[0] == (0, "now")
    assert first[1][0] < 24
    assert first[1][1] == "now"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_callback_of_one_rank_stops_all(rank):
    in_ranks(2, lambda communicator: ranks_program.stops(communicator, rank))


DIFFERENCES = {
    "seed": "rank 1 has seed = 4, rank 0 has 3",
    "network": "rank 1 has network = ",
    "optimizer": "rank 1 has optimizer = .*0.02",
    "width": "rank 1 has network = ",
    "samples": "rank 1 has m = 52, rank 0 has 53",
    "other samples": "rank 1 has other samples or weights than rank 0",
    "parameters": "rank 1 has other parameters than rank 0",
    "validation": "rank 1 has other validation samples than rank 0",
    "training_metrics": "rank 1 has training_metrics = 19, rank 0 has 20",
    "iterable": "rank 1 hands in an iterable of batches, rank 0 X and Y",
    "callbacks": r"rank 1 has callbacks = \['print'\], rank 0 has \[\]",
    "lbfgs": "L-BFGS cannot be used on several ranks",
    "batch norm": "BatchNorm cannot be trained on several ranks",
    "members": "members cannot be trained on several ranks",
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_ranks_that_do_not_fit_each_other(what):
    """Each raises the error."""

    def rank(communicator):
        with pytest.raises(nnx.InputError, match=DIFFERENCES[what]):
            ranks_program.differs(communicator, what)

    in_ranks(3, rank)


@pytest.mark.parametrize("what", ["theta", "learning_rate"])
def test_a_callback_that_changes_one_rank_is_found(what):
    def rank(communicator):
        with pytest.raises(
            nnx.CommunicatorError, match="rank 1 has other parameters than rank 0 after epoch 0"
        ):
            ranks_program.changes(communicator, what)

    in_ranks(2, rank)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (nnx.InputError("a wrong argument"), 1, "ends all: a wrong argument"),
        (ValueError("a mistake"), 1, "ValueError: a mistake\nnnx: rank 1 of 2 failed, and ends all"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt\nnnx: rank 1 of 2 failed, and ends all"),
    ],
)
def test_an_error_of_one_rank_ends_all(capfd, monkeypatch, error, status, said):
    """Within a fit, and where nothing catches it. An error of all is each rank's own, and rank 0 alone prints it."""

    def fail(all_fail):
        with failures.together(Second(all_fail)):
            raise error

    with pytest.raises(SystemExit) as end:
        fail(all_fail=False)
    assert end.value.code == status
    errors = capfd.readouterr().err
    assert errors.count(said) == errors.count("nnx: rank 1 of 2 failed, and ends all") == 1
    assert errors.count("Traceback") == (not isinstance(error, nnx.Error))
    with pytest.raises(type(error)):
        fail(all_fail=True)
    for rank in (0, 1):
        printed, its = [], Second(all_fail=True)
        its.rank = rank
        monkeypatch.setattr("sys.excepthook", lambda *given: printed.append(given))  # noqa: B023
        failures.watch(its)
        sys.excepthook(type(error), error, None)
        assert len(printed) == (rank == 0)
    failures.watch(Second(all_fail=False))
    with pytest.raises(SystemExit):
        sys.excepthook(type(error), error, None)
    assert said in capfd.readouterr().err


def test_a_divergence_is_that_of_all():
    def rank(communicator):
        with pytest.raises(nnx.DivergenceError) as error:
            ranks_program.diverges(communicator)
        return str(error.value)

    first, *others = in_ranks(3, rank)
    assert others == [first, first]
    with pytest.raises(nnx.DivergenceError) as alone:
        ranks_program.diverges(None)
    assert first == str(alone.value)


@pytest.mark.parametrize("name", ["mpl", 3, "", None.__class__])
def test_a_communicator_that_is_none(name):
    with pytest.raises(nnx.InputError, match="communicator"):
        nnx.Trainer(nnx.mlp([2, 1]), communicator=name)


def test_a_communicator_of_ones_own():
    class Own(Alone):
        name = "own"

    own = Own()
    trainer = nnx.Trainer(nnx.mlp([2, 1]), backend="numpy", communicator=own)
    assert trainer.communicator is own
    assert isinstance(own, Communicator)
    assert repr(own) == "<nnx communicator own: rank 0 of 1>"


def test_one_rank_is_said(monkeypatch, caplog):
    """As where a program is started without mpiexec."""
    monkeypatch.setattr(communicators, "_made", {})
    monkeypatch.setattr("nnx.port.entry_points.entry", lambda *_: SimpleNamespace(load=lambda: Alone))
    assert nnx.communicator("mpi") is nnx.communicator("mpi")
    assert "communicator 'mpi' has one rank, this process. To have four: mpiexec -n 4" in caplog.text


def test_mpi4py_is_missing(monkeypatch):
    monkeypatch.setattr(communicators, "_made", {})
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(
        nnx.CommunicatorError, match=r"mpi4py.MPI cannot be imported.*\[mpi\].*pip install mpich"
    ):
        nnx.communicator("mpi")
