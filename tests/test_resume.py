"""A fit that ends, however it ends, goes on as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import long_but_for

import nnx
from nnx.io import container

KILLED = Path(__file__).parent / "program_to_kill.py"


def start(folder, seconds):
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, KILLED, folder, str(seconds)], stdout=subprocess.PIPE, text=True, env=environment
    )


def left(folder):
    """What a run leaves: the file's tensors and description, the average, the log."""
    tensors, run = container.read(folder / "done.safetensors")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {**tensors, "average": np.load(folder / "average.npy")}, run, log


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is POSIX's")
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_is_not(tmp_path):
    """Killed for good twenty times: weights, averages and history are the same to the last bit."""
    whole = start(tmp_path / "whole", 0)
    dice, kills, mid_epoch = random.Random(5), 0, 0
    broken = tmp_path / "broken"
    while kills < 20:
        process = start(broken, 0.01)
        line = process.stdout.readline()  # it has begun to train
        assert line.startswith("training from step"), process.communicate()
        mid_epoch += int(line.split()[-1]) % 5 != 0
        for _ in range(dice.randrange(8)):  # steps, however long this machine takes for them
            assert process.stdout.readline().startswith("step")
        time.sleep(dice.uniform(0, 0.02))
        assert process.poll() is None, "it ended before it could be killed: make it longer"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
        for path in (broken / "checkpoints").glob("*.safetensors"):
            container.read(path)  # no moment leaves an unreadable one
    process = start(broken, 0)
    for run in (process, whole):
        run.communicate()
        assert run.returncode == 0
    assert mid_epoch > 3  # most of the checkpoints gone on from lay within an epoch
    tensors, description, log = left(broken)
    expected, whole_description, whole_log = left(tmp_path / "whole")
    assert tensors.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(tensors[name], x, err_msg=name)
    assert description == whole_description
    for records in (log, whole_log):
        assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
        for record in records:
            record.pop("seconds", None)
    assert log == whole_log
    assert not list((broken / "checkpoints").glob(".*"))  # no file half written stays


def fit(trainer, rng, **options):
    X, Y = rng.standard_normal((4, 30)), rng.integers(0, 3, 30)
    options = {"epochs": 4, "batch_size": 8, "validation": (X, Y), **options}
    return trainer.fit(X, Y, **options)


def new(backend="numpy", net=None, **options):
    net = net or nnx.Network(4, [nnx.Dense(8, "tanh"), nnx.Dropout(0.3), nnx.Dense(3)], output="softmax")
    return nnx.Trainer(net, options.pop("optimizer", nnx.Adam(0.01)), backend=backend, **options)


class Interrupt(nnx.Callback):
    """Ctrl-C after a step of all."""

    def __init__(self, step):
        self.step = step

    def on_step(self, trainer, progress):
        if trainer.steps == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", long_but_for([2, 4, 7, 16], 4, 16))
def test_every_backend_goes_on_from_within_an_epoch(backend, step, tmp_path):
    """Also with micro-batches; the history returned is that of the whole fit."""
    options = {"micro_batch": 3}
    expected = new(backend)
    history = fit(
        expected,
        np.random.default_rng(0),
        callbacks=[nnx.Callback(), nnx.Checkpoints(tmp_path / "whole")],
        **options,
    )
    with pytest.raises(KeyboardInterrupt):
        fit(
            new(backend),
            np.random.default_rng(0),
            callbacks=[Interrupt(step), nnx.Checkpoints(tmp_path, steps=1, keep=1)],
            **options,
        )
    again = new(backend)
    callbacks = [Interrupt(0), nnx.Checkpoints(tmp_path, steps=1, keep=1)]
    found = fit(again, np.random.default_rng(0), callbacks=callbacks, resume=tmp_path, **options)
    assert found == history == again.history
    np.testing.assert_array_equal(again.theta, expected.theta)


def test_a_fit_that_is_over_is_not_done_again(tmp_path, rng):
    trainer = new()
    history = fit(trainer, np.random.default_rng(0), callbacks=nnx.Checkpoints(tmp_path))
    again = new()
    found = fit(again, np.random.default_rng(0), callbacks=nnx.Checkpoints(tmp_path), resume=tmp_path)
    assert found == history
    assert again.steps == trainer.steps == 16
    longer = new()
    found = fit(
        longer, np.random.default_rng(0), epochs=6, callbacks=nnx.Checkpoints(tmp_path), resume=tmp_path
    )
    assert len(found["loss"]) == 6
    assert longer.steps == 24


@pytest.mark.parametrize("block", [lambda layer: layer, lambda layer: nnx.Residual([layer])])
def test_how_the_weights_began_does_not_matter_to_a_fit_that_goes_on(block, tmp_path):
    """What begins them unasked may be another in the next version."""

    def trainer(init):
        return new(net=nnx.Network(4, [block(nnx.Dense(4, "relu", init)), nnx.Dense(3)], "softmax"))

    whole = trainer("he")
    fit(whole, np.random.default_rng(0))
    fit(trainer("he"), np.random.default_rng(0), epochs=2, callbacks=nnx.Checkpoints(tmp_path))
    again = trainer("glorot")
    fit(again, np.random.default_rng(0), callbacks=nnx.Checkpoints(tmp_path), resume=tmp_path)
    np.testing.assert_array_equal(again.theta, whole.theta)


def test_a_folder_without_checkpoints_is_a_beginning(tmp_path):
    history = fit(new(), np.random.default_rng(0))
    assert fit(new(), np.random.default_rng(0), resume=tmp_path / "none yet") == history
    with pytest.raises(FileNotFoundError, match=r"no model file .*gone\.safetensors"):
        fit(new(), np.random.default_rng(0), resume=tmp_path / "gone.safetensors")


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    fit(new(), np.random.default_rng(0), callbacks=nnx.Checkpoints(tmp_path, epochs=1, keep=2))
    newest = max(tmp_path.glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:100])
    trainer = new()
    fit(
        trainer,
        np.random.default_rng(0),
        callbacks=nnx.Checkpoints(tmp_path, epochs=1, keep=2),
        resume=tmp_path,
    )
    assert trainer.steps == 16
    assert "trying the checkpoint before" in caplog.text
    for path in tmp_path.glob("step-*"):
        path.write_bytes(b"")
    with pytest.raises(
        nnx.ModelFileError, match=r"2 checkpoints in '.*', and none can be read; remove them to begin"
    ):
        fit(new(), np.random.default_rng(0), resume=tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: new(net=nnx.mlp([4, 8, 3], "relu")), r"layer 1 of 3 is Dense.8, tanh. there and Dense.8, relu."),
        (lambda: new(net=nnx.mlp([5, 8, 3], "tanh")), "another network: it has 4 features, this one has 5"),
        (
            lambda: new(net=nnx.Network(4, [nnx.Dense(8, "tanh"), nnx.Dropout(0.3), nnx.Dense(3)], "sigmoid")),
            "its output is 'softmax', this one's 'sigmoid'",
        ),
        (lambda: new(optimizer=nnx.Adam(0.02)), "has the optimizer .*0.01.*this trainer .*0.02"),
        (lambda: new(seed=3), "has the seed 0, this trainer 3"),
        (lambda: new(regularization=nnx.Regularization(l2=1.0)), "has the regularization"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_network(make, message, tmp_path):
    fit(new(), np.random.default_rng(0), callbacks=nnx.Checkpoints(tmp_path))
    trainer = make()
    X = np.ones((trainer.network.n[0], 30))
    Y = np.zeros(30, int)
    with pytest.raises(nnx.InputError, match=message):
        trainer.fit(X, Y, epochs=4, batch_size=8, callbacks=nnx.Checkpoints(tmp_path), resume=tmp_path)
    assert trainer.steps == 0


def test_a_checkpoint_of_another_fit(tmp_path):
    fit(new(), np.random.default_rng(0), callbacks=nnx.Checkpoints(tmp_path))
    for options, message in (
        ({"batch_size": 10}, "of a fit with batch_size = 8, this one has 10"),
        ({"shuffle": False}, "shuffle = True, this one has False"),
        ({"callbacks": ()}, "written with the callbacks Checkpoints, this fit has none"),
    ):
        with pytest.raises(nnx.InputError, match=message):
            fit(
                new(),
                np.random.default_rng(0),
                **{"callbacks": nnx.Checkpoints(tmp_path), "resume": tmp_path, **options},
            )
    trainer = new()
    trainer.save(tmp_path / "model.safetensors")
    trainer.kept = 3
    with pytest.raises(nnx.InputError, match="was not written in a fit"):
        fit(trainer, np.random.default_rng(0), resume=tmp_path / "model.safetensors")
    assert trainer.kept == 3  # as before


def test_a_run_s_folder_loads_and_resumes(tmp_path):
    def make():
        return nnx.Trainer(nnx.mlp([2, 4, 1]), backend="numpy")

    run, X, Y = tmp_path / "run", np.eye(2), [0, 1]
    with pytest.raises(nnx.InputError, match=r"there is no model\.safetensors in it, and no checkpoint"):
        nnx.Trainer.load(tmp_path)
    trainer = make()
    trainer.fit(X, Y, epochs=3, callbacks=nnx.Checkpoints(run / "checkpoints"))
    assert nnx.Trainer.load(run).steps == 3  # the newest checkpoint, for there is no model yet
    again = make()
    again.fit(X, Y, epochs=5, callbacks=nnx.Checkpoints(run / "checkpoints"), resume=run)
    assert again.steps == 5
    assert len(again.records) == 5
    again.fit(X, Y)
    again.save(run / "model.safetensors")
    assert np.array_equal(nnx.Trainer.load(str(run)).theta, again.theta)
    with pytest.raises(nnx.InputError, match=r"one of the runs in it, such as .*run'"):
        nnx.Trainer.load(tmp_path)
