"""What goes wrong with ranks, without processes of MPI."""

import sys
import time
from types import SimpleNamespace

import pytest
from thread_ranks import Second, in_ranks

import nnx
from nnx.backends.mpi import adapter
from nnx.cli import command, ranks
from nnx.cli.inputs import UsageError
from nnx.cli.options import Options
from nnx.cli.train import check_out
from nnx.port import failures
from nnx.port.communicator import Alone


@pytest.mark.parametrize("name", adapter.LAUNCHED)
def test_a_launcher_of_another_mpi(monkeypatch, name):
    """Each of its processes would train alone, and write into the same folder."""
    mpi = SimpleNamespace(
        COMM_WORLD=SimpleNamespace(rank=0, size=1), Get_library_version=lambda: "MPICH Version:      5.0.2\n"
    )
    monkeypatch.setattr(adapter, "require", lambda *_: mpi)
    monkeypatch.setenv(name, "2")
    with pytest.raises(
        nnx.CommunicatorError, match=rf"2 processes were started \({name}\), .*MPICH.*mpiexec"
    ):
        adapter.Mpi()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "No space left on device", "/x"), 1, "'/x': No space left on device"),
        (nnx.InputError("give nnx.Regularization(clip_norm=1.0)"), 1, "give --clip-norm 1"),
        (UsageError("a wrong option"), 2, "a wrong option"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (ZeroDivisionError("a mistake"), 1, "nnx failed, ZeroDivisionError: a mistake"),
    ],
)
def test_the_command_line_says_in_its_own_words_what_ends_all(monkeypatch, capfd, error, status, said):
    """Also of a rank that says nothing else."""
    second = Second(all_fail=False)
    monkeypatch.setattr(ranks, "communicator", lambda name: second)
    monkeypatch.setattr(failures, "_say", [*failures._say])
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    ranks.begin(["train", "iris", "--communicator", "mpi"])
    print("what rank 0 says, too")
    silent = sys.stdout
    with pytest.raises(SystemExit) as end, failures.together(second):
        raise error
    silent.close()
    assert end.value.code == status
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.startswith(f"Error: rank 1 of 2 failed, and ends all: {said}")
    assert errors.count("\n") == 1


def test_ranks_wait_for_the_first_one_that_saves_before_it_raises_the_error_of_all(monkeypatch):
    monkeypatch.setattr(failures, "GRACE", 0.5)

    def diverges(communicator):
        with failures.together(communicator):
            try:
                with failures.together(communicator):
                    raise nnx.DivergenceError("the cost is infinite")
            finally:
                if communicator.rank == 0:
                    time.sleep(1)

    def rank(communicator):
        with pytest.raises(nnx.DivergenceError):
            diverges(communicator)
        return True

    assert in_ranks(2, rank) == [True, True]


def test_a_program_whose_first_rank_saves_before_an_error_of_all_ends_it(monkeypatch):
    """Not so an error of which that is not known."""
    asked, its = [], Second(all_fail=True)
    monkeypatch.setattr(its, "meet", lambda seconds: not asked.append(seconds))
    monkeypatch.setattr("sys.excepthook", lambda *given: None)
    failures.watch(its)
    of_all = nnx.DivergenceError("the cost is infinite")
    with pytest.raises(nnx.DivergenceError), failures.together(its):
        raise of_all
    for error in (of_all, ValueError("of one rank")):
        sys.excepthook(type(error), error, None)
    assert asked == [failures.GRACE, failures.SAVING, failures.GRACE]


def test_a_rank_that_is_late_does_not_take_the_folder_of_the_first_one_for_another_run(tmp_path):
    out = tmp_path / "run"

    def rank(communicator):
        time.sleep(0.3 * communicator.rank)
        check_out(Options("iris", out=out), communicator)
        if communicator.rank == 0:
            out.mkdir()
            (out / "config.toml").touch()
        communicator.barrier()
        with pytest.raises(nnx.InputError, match="exists already; choose another --out"):
            check_out(Options("iris", out=out), communicator)
        check_out(Options("iris", out=out, overwrite=True), communicator)
        return True

    assert in_ranks(2, rank) == [True, True]


@pytest.mark.parametrize("fails", ["gathered", "run"])
def test_an_error_of_one_rank_ends_all_wherever_the_command_line_finds_it(monkeypatch, fails):
    """Also in the files of options, before the training."""
    ends = []
    monkeypatch.setattr(failures, "end_all", lambda communicator, error: ends.append(str(error)))
    monkeypatch.setattr(command, "communicator", lambda name: Second(all_fail=False) if name else Alone())

    def fail(*_):
        raise nnx.InputError("a mistake of one rank")

    monkeypatch.setattr(command, "gathered", fail if fails == "gathered" else lambda typed: None)
    context = SimpleNamespace(get_parameter_source=lambda name: SimpleNamespace(name="COMMANDLINE"))
    with pytest.raises(nnx.InputError):
        command.command(fail)(context, data="iris", communicator="mpi")
    assert ends == ["a mistake of one rank"]


@pytest.mark.parametrize("name", ranks.LAUNCHED)
def test_an_unknown_communicator_is_said_by_the_first_process_alone(monkeypatch, name):
    """None of them knows the others."""
    monkeypatch.setenv(name, "0")
    with pytest.raises(nnx.InputError, match="did you mean 'mpi'"):
        ranks.begin(["train", "iris", "--communicator=mpx"])
    monkeypatch.setenv(name, "1")
    with pytest.raises(SystemExit) as end:
        ranks.begin(["train", "iris", "--communicator=mpx"])
    assert not end.value.code
