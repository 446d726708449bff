"""A fit of a stack that ends, however it ends, goes on as if nothing had happened."""

import json
import pickle
from contextlib import nullcontext, suppress
from copy import deepcopy

import numpy as np
import pytest

import nnx
from nnx.io import container
from nnx.metrics.history import medians
from nnx.train.model_file import collect

pytestmark = pytest.mark.filterwarnings("ignore::nnx.LeftOutWarning")  # of that with the rate 1e38
LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("torch", "numba")]
K, RATES = 4, [0.1, 0.02, 1e38, 0.3]


def net():
    return nnx.Network(4, [nnx.Dense(6, "relu"), nnx.Dropout(0.2), nnx.Dense(1)], "identity")


def new(backend="numpy", rates=RATES, **given):
    return nnx.Trainer(net(), nnx.Momentum(rates), backend, seed=3, **{"members": len(rates), **given})


def to_learn(m=40):
    rng = np.random.default_rng(5)
    X, held = rng.standard_normal((4, m)), rng.standard_normal((4, 20))
    w = rng.integers(0, 2, (K, m))  # with some batches in which a member has no weight
    return (X, X[0] * X[1]), (held, held[0] * held[1]), w


def fit(trainer, *callbacks, **given):
    train, validation, w = to_learn()
    own = [nnx.EarlyStopping(patience=2), nnx.ReduceOnPlateau(patience=1)]
    given = {"epochs": 8, "batch_size": 4, "validation": validation, "sample_weight": w, **given}
    return trainer.fit(*train, callbacks=[*own, *callbacks], **given)


class Interrupt(nnx.Callback):
    """Ctrl-C after this step of the fit."""

    def __init__(self, step):
        self.step, self.done = step, 0

    def on_step(self, trainer, progress):
        self.done += 1
        if self.done == self.step:
            raise KeyboardInterrupt


def same(one, other):
    assert one.records == other.records
    assert (one.stopped, one.kept, one.steps) == (other.stopped, other.kept, other.steps)
    assert [*map(str, one.errors)] == [*map(str, other.errors)]
    assert [rng.bit_generator.state for rng in one.rng] == [rng.bit_generator.state for rng in other.rng]
    assert one.learning_rate == other.learning_rate
    for name, x in one.state.items():
        np.testing.assert_array_equal(other.state[name], x, err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "cupy", *LONG], indirect=True)
@pytest.mark.parametrize(
    ("step", "given"), [(7, {}), pytest.param(33, {}, marks=pytest.mark.long), (45, {"micro_batch": 3})]
)
def test_a_stack_goes_on_from_within_an_epoch(backend, step, given, tmp_path):
    """Members have diverged or stopped before, or go on; the history returned is that of the whole fit."""
    whole, broken, again = (new(backend) for _ in range(3))
    history = fit(whole, nnx.Callback(), nnx.Checkpoints(tmp_path / "whole", epochs=3), **given)
    ends = [len(records) for records in whole.records]
    assert whole.errors[2] is not None
    assert len({*ends}) > 2
    with pytest.raises(KeyboardInterrupt):
        fit(broken, Interrupt(step), nnx.Checkpoints(tmp_path / "broken", steps=1, keep=1), **given)
    found = fit(
        again,
        Interrupt(0),
        nnx.Checkpoints(tmp_path / "broken", steps=1, keep=1),
        resume=tmp_path / "broken",
        **given,
    )
    np.testing.assert_array_equal(found["loss"], history["loss"])
    same(again, whole)
    loaded = nnx.Trainer.load(tmp_path / "whole", backend)
    assert loaded.records == whole.records
    assert [*map(str, loaded.errors)] == [*map(str, whole.errors)]


def test_checkpoints_of_a_stack_are_of_whole_epochs_and_of_the_best(tmp_path):
    trainer = new()
    fit(trainer, nnx.Checkpoints(tmp_path, epochs=2, keep=None, best="validation_loss"))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "best.safetensors"
    assert len(names) > 3
    losses = medians(trainer.history)["validation_loss"]
    best = nnx.Trainer.load(tmp_path / "best.safetensors", "numpy")
    assert max(map(len, best.records)) == int(np.argmin(losses)) + 1
    for name in names[1:]:
        steps = max(nnx.Trainer.load(tmp_path / name, "numpy").steps)
        assert name == f"step-{steps:08d}.safetensors"


def test_an_older_nnx_says_that_the_format_of_members_is_newer(tmp_path, monkeypatch):
    new().save(tmp_path / "stack.safetensors")
    nnx.Trainer(net(), backend="numpy").save(tmp_path / "one.safetensors")
    assert container.versions(tmp_path / "stack.safetensors")[1] == 2
    assert container.versions(tmp_path / "one.safetensors")[1] == 1
    monkeypatch.setattr(container, "FORMAT", 1)
    nnx.Trainer.load(tmp_path / "one.safetensors", "numpy")
    with pytest.raises(nnx.ModelFileError, match=r"format version '2'.*reads up to version 1"):
        nnx.Trainer.load(tmp_path / "stack.safetensors", "numpy")


@pytest.mark.parametrize(
    ("make", "callbacks", "given", "says"),
    [
        (lambda: new(rates=RATES[:3]), (), {"sample_weight": None}, "is of a trainer with 4 members"),
        (
            lambda: nnx.Trainer(net(), "momentum", "numpy"),
            (),
            {"sample_weight": None},
            "make it with members=4",
        ),
        (lambda: new(rates=[0.1, 0.02, 0.1, 0.3]), (), {}, "has the optimizer"),
        (
            new,
            [nnx.Snapshots()],
            {},
            "written with the callbacks EarlyStopping, ReduceOnPlateau, this fit has",
        ),
        (new, (), {"batch_size": 5}, "a fit with batch_size = 4"),
    ],
)
def test_a_checkpoint_of_another_fit_is_an_error(make, callbacks, given, says, tmp_path):
    fit(new(), nnx.Checkpoints(tmp_path), epochs=2)
    trainer = make()
    before = deepcopy(trainer)
    with pytest.raises(nnx.InputError, match=says):
        fit(trainer, *callbacks, nnx.Checkpoints(tmp_path), resume=tmp_path, **given)
    np.testing.assert_array_equal(trainer.theta, before.theta)


def test_another_fit_is_told_before_callbacks_that_lack(tmp_path):
    fit(new(), nnx.Checkpoints(tmp_path), epochs=2)
    for given, says in (
        ({"batch_size": 5}, "a fit with batch_size = 4"),
        ({}, "with the callbacks .*Checkpoints"),
    ):
        with pytest.raises(nnx.InputError, match=says):
            fit(new(), resume=tmp_path, **given)


def test_a_stack_does_not_go_on_from_one_network(tmp_path):
    fit(nnx.Trainer(net(), "momentum", "numpy"), nnx.Checkpoints(tmp_path), epochs=2, sample_weight=None)
    with pytest.raises(nnx.InputError, match="is of a trainer with one network, and this one has members=4"):
        fit(new(), nnx.Checkpoints(tmp_path), resume=tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors, run: run.pop("errors"), "errors"),
        (lambda tensors, run: run.update(errors=[None]), "errors has 1 entries; expected one for each of 4"),
        (
            lambda tensors, run: tensors.update({"members.9.callback.0.theta": np.zeros(3)}),
            "none of the 4 members",
        ),
        (lambda tensors, run: tensors.update({"members.0.W1": np.zeros(3)}), "none of the 4 members"),
        (lambda tensors, run: tensors.pop("members.0.callback.0.theta"), "is missing"),
        (lambda tensors, run: tensors.update({"callback.3.x": np.zeros(3)}), "is of no callback"),
        (lambda tensors, run: run["members"][0].update(position=None), "was not written in a fit"),
        (lambda tensors, run: run["members"][1]["position"].update(step=3), "these stand apart"),
        (lambda tensors, run: tensors["W1"].fill(np.nan), "NaN"),
    ],
)
def test_a_damaged_checkpoint_of_a_stack_is_an_error(change, says, tmp_path):
    fit(new(), nnx.Checkpoints(tmp_path, keep=1), epochs=2)
    [path] = tmp_path.iterdir()
    tensors, run = container.read(path)
    change(tensors, run)
    container.write(path, tensors, run, version=2)
    trainer = new()
    before = trainer.theta
    with pytest.raises((nnx.ModelFileError, nnx.InputError), match=says):
        fit(trainer, nnx.Checkpoints(tmp_path), resume=path)
    np.testing.assert_array_equal(trainer.theta, before)


def test_nothing_changes_if_one_member_of_a_checkpoint_does_not_fit(tmp_path):
    fit(new(), nnx.Checkpoints(tmp_path, keep=1), epochs=2)
    [path] = tmp_path.iterdir()
    tensors, run = container.read(path)
    tensors["W1"][3] = np.nan
    container.write(path, tensors, run, version=2)
    trainer = new()
    before = collect(trainer.session)
    with pytest.raises(nnx.ModelFileError, match="NaN"):
        fit(trainer, nnx.Checkpoints(tmp_path), resume=path)
    after = collect(trainer.session)
    assert after[1]["members"] == before[1]["members"]
    for name, x in before[0].items():
        np.testing.assert_array_equal(after[0][name], x)


def singles(rates=RATES):
    return [nnx.Trainer(net(), nnx.Momentum(rate), "numpy", seed=3 + k) for k, rate in enumerate(rates)]


class Ends(nnx.Callback):
    """Raises after a step."""

    def __init__(self, after, error):
        self.after, self.error = after, error

    def on_step(self, trainer, progress):
        if progress.done == self.after:
            raise self.error


class Stops(nnx.Callback):
    """Stops after a step, of all members or of each, by its seed."""

    def __init__(self, after):
        self.after, self.each_member = after, isinstance(after, dict)

    def on_step(self, trainer, progress):
        if progress.done == (self.after[trainer.seed] if self.each_member else self.after):
            trainer.stop("enough")


def as_its_single_runs(trainer, callback, error, **given):
    """Fit a stack, and its single runs, with a callback that ends them; then let all go on."""
    (X, Y), *_ = to_learn()
    given = {"epochs": 3, "batch_size": 8, **given}
    alone = singles([0.1, 0.02, 0.05])
    for one in (trainer, *alone):
        with pytest.raises(error) if error else nullcontext():
            one.fit(X, Y, callbacks=deepcopy(callback), **given)
    for _ in range(2):
        for k, one in enumerate(alone):
            session = trainer.each[k].session
            assert (session.records, session.stopped, session.steps) == (one.records, one.stopped, one.steps)
            assert session.rng.bit_generator.state == one.rng.bit_generator.state
            np.testing.assert_array_equal(session.theta, one.theta)
        for one in (trainer, *alone):
            one.fit(X, Y, epochs=2, batch_size=8)


@pytest.mark.parametrize(
    ("raised", "error"), [(KeyboardInterrupt, KeyboardInterrupt), (ZeroDivisionError, nnx.CallbackError)]
)
@pytest.mark.parametrize("after", [1, 8, 10])
def test_an_error_within_an_epoch_leaves_the_steps_done(raised, error, after):
    as_its_single_runs(new(rates=[0.1, 0.02, 0.05]), Ends(after, raised), error)


@pytest.mark.parametrize("after", [1, 8, 10, {3: 2, 4: 7, 5: 99}, {3: 2, 4: 7, 5: 2}, {3: 5, 4: 99, 5: 99}])
def test_members_stop_within_an_epoch(after):
    """All of them, or one by one: the others go on, and close up after the epoch."""
    as_its_single_runs(new(rates=[0.1, 0.02, 0.05]), Stops(after), None)


def test_an_interrupt_before_the_first_step_of_an_epoch_draws_its_order_again(monkeypatch):
    (X, Y), *_ = to_learn()
    trainer, whole = new(rates=[0.1, 0.02]), new(rates=[0.1, 0.02])
    trainer.fit(X, Y, epochs=1, batch_size=8)
    program = trainer.session.stack(False).program

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=1, batch_size=8)
    monkeypatch.undo()
    trainer.fit(X, Y, epochs=2, batch_size=8)
    whole.fit(X, Y, epochs=3, batch_size=8)
    same(trainer, whole)


def test_an_interrupt_takes_members_back_that_have_diverged_in_the_epoch():
    (X, Y), *_ = to_learn()
    trainer = new()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=1, batch_size=8, callbacks=Ends(4, KeyboardInterrupt))
    assert trainer.steps == [4, 4, 0, 4]
    assert np.isfinite(trainer.theta).all()


def test_a_member_whose_validation_is_not_finite_diverges_alone():
    (X, Y), (held, its), _ = to_learn()
    trainer = new(rates=[0.1, 1e10, 0.05])
    trainer.fit(X[:, :8], Y[:8], epochs=1, validation=(1e15 * held, its))
    [*others, error] = [trainer.errors[k] for k in (0, 2, 1)]
    assert others == [None, None]
    assert "the cost of the validation became" in str(error)
    assert [len(records) for records in trainer.records] == [1, 0, 1]


def test_a_callback_may_not_fit_the_stack_nor_a_member():
    (X, Y), *_ = to_learn()

    class Fits(nnx.Callback):
        def on_epoch(self, trainer, progress):
            for one in (trainer, trainer.each[1]):
                with pytest.raises(nnx.InputError, match="in the middle of a fit"):
                    one.fit(X, Y)
            seen.append(progress.epoch)

    seen = []
    new().fit(X, Y, epochs=1, callbacks=Fits())
    assert seen == [1]


def test_the_files_of_callbacks_have_the_numbers_of_all_members(tmp_path):
    """Epochs, steps and the learning rate are not those of one network: there are K of them."""
    trainer, log, table = (
        new(rates=[0.1, 0.3]),
        nnx.JSONLines(tmp_path / "log.jsonl"),
        nnx.CSVLog(tmp_path / "log.csv"),
    )
    fit(trainer, log, table, epochs=2, sample_weight=None)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == [10, 20]
    assert lines[0]["learning_rate"] == pytest.approx(0.2)
    assert [line["loss"] for line in lines] == pytest.approx(medians(trainer.history)["loss"])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_a_list_of_another_length_is_an_error():
    trainer = new()
    trainer.learning_rate = [0.1, 0.2, 0.3, 0.4]
    np.testing.assert_allclose(trainer.learning_rate, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    with pytest.raises(nnx.InputError, match="learning_rate has 2 values; expected 4, one for each member"):
        trainer.learning_rate = [0.1, 0.2]


@pytest.mark.parametrize("backend", ["numpy", "cupy", LONG[0]], indirect=True)
@pytest.mark.parametrize("w", [pytest.param(None, marks=pytest.mark.long), to_learn()[2]])
def test_the_moving_averages_of_members_are_those_of_their_single_runs(backend, w, tmp_path):
    """Of members that stop early, that diverge, that sit steps out, and after an interrupt."""
    (X, Y), validation, _ = to_learn()
    given = {"epochs": 8, "batch_size": 4, "validation": validation}
    trainer, broken, again = (new(backend) for _ in range(3))
    averages = [nnx.MovingAverage(0.9) for _ in range(3)]
    stopping = nnx.EarlyStopping(patience=2)
    trainer.fit(X, Y, callbacks=[stopping, averages[0]], sample_weight=w, **given)
    steps = []
    for k, rate in enumerate(RATES):
        single, average = nnx.Trainer(net(), nnx.Momentum(rate), backend, seed=3 + k), nnx.MovingAverage(0.9)
        its = {**given, "sample_weight": None if w is None else w[k]}
        with suppress(nnx.DivergenceError):
            single.fit(X, Y, callbacks=[nnx.EarlyStopping(patience=2), average], **its)
        steps.append(average.state()["n"])
        expected = average.theta if steps[-1] else single.theta
        np.testing.assert_allclose(averages[0].theta[k], expected, rtol=1e-4, atol=1e-5)
    assert steps[2] == 0
    assert len({*steps}) > 1
    kept, theta = trainer.kept, trainer.theta
    with averages[0].applied(trainer):
        np.testing.assert_array_equal(trainer.theta, averages[0].theta)
    assert trainer.kept == kept
    np.testing.assert_array_equal(trainer.theta, theta)
    checkpoints = [nnx.Checkpoints(tmp_path, steps=1) for _ in range(2)]
    given["sample_weight"] = w
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, Y, callbacks=[stopping, averages[1], checkpoints[0], Interrupt(25)], **given)
    again.fit(X, Y, callbacks=[stopping, averages[2], checkpoints[1]], resume=tmp_path, **given)
    np.testing.assert_array_equal(averages[2].theta, averages[0].theta)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(averages[2])).theta, averages[0].theta)


def test_bars_and_pages_show_the_numbers_of_all_members(capsys):
    trainer = new(rates=[0.1, 0.02])
    assert repr(trainer).endswith(": 2 members, 0 steps done>")
    fit(trainer, nnx.ProgressBar(), epochs=50, sample_weight=None)
    assert capsys.readouterr().out.rstrip().endswith("stopped: all members have ended")
    page = trainer._repr_html_()
    assert "2 members, " in page
    assert "<svg" in page
