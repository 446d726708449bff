"""The session: what a fit changes, read and changed by several callers."""

import copy
import sys
import threading

import numpy as np
import pytest

import nnx
from nnx.train.model_file import collect
from nnx.train.session import Session

X = np.random.default_rng(0).standard_normal((4, 64)).astype("float32")
Y = (X[:1] > 0).astype("float32")


def session():
    return Session(nnx.mlp([4, 8, 1]), "adam", "numpy")


def test_threads_that_read_see_a_step_done_or_not_done():
    """Such as one that predicts while another one trains."""
    one, errors, over = session(), [], threading.Event()

    def read():
        try:
            while not over.is_set():
                one.read("theta", "t")
        except BaseException as error:
            errors.append(error)

    threads, interval = [threading.Thread(target=read) for _ in range(2)], sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for step in range(1, 1001):
            one.run((X, Y, None), None, 0, 16, 1)
            assert one.steps == step  # and not that of a copy that a thread made before the step
    finally:
        over.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert not errors


def test_a_handler_of_a_signal_leaves_no_old_copies(monkeypatch):
    one, seen = session(), []
    monkeypatch.setattr("nnx.backends.calls.program.give_way", lambda: seen.append(one.steps))
    one.run((X, Y, None), None, 0, 16, 3)
    assert seen == [0, 0, 0]
    assert one.steps == 3


@pytest.mark.parametrize(
    "change", [pytest.param("take_numba", marks=pytest.mark.needs("numba")), "take_optimizer"]
)  # "auto" takes no other backend where numba is not installed
def test_an_interrupt_between_two_programs_leaves_the_first(change, monkeypatch):
    """Ctrl-C while "auto" takes another backend, or a schedule learns the number of the epochs."""
    one = Session(nnx.mlp([4, 8, 1]), "adam", "auto", device="cpu")
    one.run((X, Y, None), None, 0, 16, 3)
    theta = one.theta

    def interrupted(program, state):
        raise KeyboardInterrupt

    kinds = {type(one.program)}
    with monkeypatch.context() as patch:
        for kind in kinds:
            patch.setattr(kind, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.take_numba_if_worth(10**12, 1) if change == "take_numba" else one.take_optimizer(
                nnx.Adam(0.1)
            )
    assert one.steps == 3
    np.testing.assert_array_equal(one.theta, theta)
    one.run((X, Y, None), None, 0, 16, 1)
    assert one.steps == 4


def test_programs_stay_where_auto_stays_with_numpy(monkeypatch):
    """Each further fit of a long-lived trainer would compile them anew."""
    monkeypatch.setattr("nnx.port.registry.names", lambda: ["numpy"])
    one = Session(nnx.mlp([4, 8, 1]), "adam", "auto", device="cpu")
    programs = one.program, one.forward
    one.take_numba_if_worth(10**12, 1)
    assert one.backend.name == "numpy"
    assert (one.program, one.forward) == programs


def test_the_state_that_a_trainer_shows_is_a_copy():
    trainer = nnx.Trainer(nnx.mlp([4, 8, 1]), backend="numpy")
    theta = trainer.theta
    trainer.state["theta"][:] = 0
    np.testing.assert_array_equal(trainer.theta, theta)


def test_a_copied_trainer_has_metadata_of_its_own():
    trainer = nnx.Trainer(nnx.mlp([4, 8, 1]), backend="numpy")
    trainer.metadata = {"labels": ["no", "yes"]}
    copied = copy.deepcopy(trainer)
    copied.metadata["labels"].append("perhaps")
    assert trainer.metadata == {"labels": ["no", "yes"]}


def test_what_is_saved_is_of_one_step(monkeypatch):
    """Also where another thread trains meanwhile."""
    one, read = session(), Session.read
    before = read(one)

    def read_and_step(session, *names):
        found = read(session, *names)
        session.run((X, Y, None), None, 0, 16, 1)
        return found

    monkeypatch.setattr(Session, "read", read_and_step)
    tensors, run = collect(one)
    assert (run["steps"], float(np.abs(tensors["optimizer.m"]).max())) == (0, 0.0)
    np.testing.assert_array_equal(
        one.network.flatten({x: tensors[x] for x in one.network.shapes}), before["theta"]
    )
