"""A disk that fails at any call: the error names the file, the last good file stays whole, nothing half-written stays.

And several writers of one path: all succeed, and whoever reads sees a whole file.
"""

import builtins
import errno
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import nnx
from nnx.io.atomic_write import Hold, clear_left, written_aside

pytestmark = pytest.mark.usefixtures("drawn")


class Disk:
    """Raises an error of the system at the k-th call that changes what is in a folder; counts them all."""

    def __init__(self, folder, k=0, code=errno.ENOSPC):
        self.folder, self.k, self.code = os.fspath(folder), k, code
        self.calls = 0
        self._of = {}

    def call(self, path=None):
        self.calls += 1
        if self.calls == self.k:
            raise OSError(self.code, os.strerror(self.code), *([path] if path else []))

    def ours(self, path):
        return isinstance(path, str | os.PathLike) and str(Path(path).absolute()).startswith(self.folder)

    @contextmanager
    def failing(self, monkeypatch):
        real = {"open": os.open, "fsync": os.fsync, "replace": os.replace}
        io_open = io.open
        disk = self

        class File(io.FileIO):
            def write(self, data):
                disk.call()
                return super().write(data)

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more, **others):
            if not disk.ours(file) or not set(mode) & set("wax+"):
                return io_open(file, mode, buffering, encoding, errors, newline, *more, **others)
            disk.call(os.fspath(file))
            raw = File(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            both = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return both if "b" in mode else io.TextIOWrapper(both, encoding, errors, newline)

        def os_open(path, flags, *more, **others):
            if disk.ours(path) and flags & os.O_CREAT:
                disk.call(os.fspath(path))
            return real["open"](path, flags, *more, **others)

        def fsync(file):
            disk.call()
            return real["fsync"](file)

        def replace(source, target, **others):
            if disk.ours(target):
                disk.call(os.fspath(source))
            return real["replace"](source, target, **others)

        with monkeypatch.context() as patch:
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            patch.setattr(os, "open", os_open)
            patch.setattr(os, "fsync", fsync)
            patch.setattr(os, "replace", replace)
            yield self


CODES = (errno.ENOSPC, errno.EROFS, errno.EIO)


def half_written(folder):
    return [path for path in Path(folder).rglob("*") if path.name.endswith(".tmp")]


def a_trainer():
    return nnx.Trainer(nnx.mlp([2, 3, 1], "tanh"), nnx.Adam(0.1), backend="numpy")


def some_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 12))
    return X, (X[0] > 0).astype(int)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_saving_on_a_disk_that_fails(code, tmp_path, monkeypatch):
    path, trainer = tmp_path / "model.safetensors", a_trainer()
    with Disk(tmp_path).failing(monkeypatch) as disk:
        trainer.save(path)
    assert disk.calls >= 5
    before = path.read_bytes()
    trainer.fit(*some_data(), epochs=2)
    trainer.save(tmp_path / "after")
    after = (tmp_path / "after").read_bytes()
    for k in range(1, disk.calls + 1):
        path.write_bytes(before)
        with Disk(tmp_path, k, code).failing(monkeypatch), pytest.raises(OSError, match=re.escape(str(path))):
            trainer.save(path)
        assert path.read_bytes() in (before, after), k  # after: only the folder was not written
        assert not half_written(tmp_path), k


def logs(folder):
    return [
        nnx.CSVLog(folder / "log.csv", overwrite=True),
        nnx.JSONLines(folder / "log.jsonl", overwrite=True),
        nnx.Checkpoints(folder / "checkpoints", keep=2, best="loss", overwrite=True),
    ]


def test_a_fit_on_a_disk_that_fails(tmp_path, monkeypatch):
    """What is left can be gone on with, to the end that a fit without a fault has."""
    data, expected = some_data(), a_trainer()
    with Disk(tmp_path).failing(monkeypatch) as disk:
        expected.fit(*data, epochs=3, callbacks=logs(tmp_path / "whole"))
    names = sorted(path.name for path in (tmp_path / "whole").rglob("*"))
    dice = random.Random(1)
    for k in dice.sample(range(1, disk.calls + 1), 12):
        folder, trainer = tmp_path / str(k), a_trainer()
        disk, named = Disk(tmp_path, k, dice.choice(CODES)), re.escape(str(folder))
        with disk.failing(monkeypatch), pytest.raises((nnx.CallbackError, OSError), match=named):
            trainer.fit(*data, epochs=3, callbacks=logs(folder))
        assert not half_written(folder), k
        for path in folder.rglob("*.safetensors"):
            nnx.Trainer.load(path, backend="numpy")
        again = a_trainer()
        again.fit(*data, epochs=3, callbacks=logs(folder), resume=folder / "checkpoints")
        np.testing.assert_array_equal(again.theta, expected.theta)
        assert sorted(path.name for path in folder.rglob("*")) == names
        for name in ("log.csv", "log.jsonl"):
            assert len((folder / name).read_text().splitlines()) == 3 + name.endswith("csv")


def fail_on_the_command_line(run, tmp_path, monkeypatch, *arguments, count, seed, check):
    """Run a command once on a good disk, then on one that fails at each of some calls."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where a model goes that cannot be written
    with Disk(tmp_path).failing(monkeypatch) as disk:
        assert run(*arguments)[0] == 0
    dice = random.Random(seed)
    for k in dice.sample(range(1, disk.calls + 1), min(count, disk.calls)):
        with Disk(tmp_path, k, dice.choice(CODES)).failing(monkeypatch):
            status, out, err = run(*arguments)
        assert "Traceback" not in out + err
        assert "nnx failed" not in err
        assert not half_written(tmp_path), k
        said = err.partition("Error:")[2] if status else err.partition("Warning:")[2]
        assert re.search("No space left|Read-only|Input/output", said), (k, err)
        check(k, status, said)


def train_on_a_disk_that_fails(run, tmp_path, monkeypatch, count, seed):
    """A run that replaces another: one of both is whole."""

    def check(k, status, said):
        names = r"config\.toml|checkpoints.step-\d+\S+|model\.\S+|history\.\S+|held_out\.npz"
        assert re.search(rf"'a.({names})'", said), said
        model = nnx.Trainer.load(tmp_path / "a" / "model.safetensors", backend="numpy")
        assert len(model.records) == 1
        (tmp_path / "a" / "config.toml").read_text()

    arguments = ("train", "iris", "--layers", 4, "--epochs", 1, "--no-plots", "--out", "a", "--overwrite")
    fail_on_the_command_line(run, tmp_path, monkeypatch, *arguments, count=count, seed=seed, check=check)


def test_training_on_a_disk_that_fails(run, tmp_path, monkeypatch):
    train_on_a_disk_that_fails(run, tmp_path, monkeypatch, count=5, seed=2)


@pytest.mark.long
def test_training_on_a_disk_that_fails_anywhere(run, tmp_path, monkeypatch):
    train_on_a_disk_that_fails(run, tmp_path, monkeypatch, count=999, seed=3)


def test_a_model_that_cannot_be_replaced_keeps_its_configuration(run, tmp_path, monkeypatch):
    arguments = ("train", "iris", "--layers", 4, "--no-plots", "--out", "a", "--overwrite", "--epochs")
    assert run(*arguments, 1)[0] == 0
    before = {name: (tmp_path / "a" / name).read_bytes() for name in ("model.safetensors", "config.toml")}

    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(nnx.Trainer, "save", full)
    status, _, err = run(*arguments, 2)
    assert status == 1
    assert "model.safetensors" in err
    assert {name: (tmp_path / "a" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_predicting_on_a_disk_that_fails(run, tmp_path, monkeypatch, form):
    assert run("train", "iris", "--layers", 4, "--epochs", 1, "--no-plots", "--out", "a")[0] == 0
    out = tmp_path / f"p.{form}"

    def check(k, status, said):
        assert status == 1
        assert out.name in said
        assert out.read_bytes() == before

    assert run("predict", "a", "iris", "--out", out)[0] == 0
    before = out.read_bytes()
    fail_on_the_command_line(
        run, tmp_path, monkeypatch, "predict", "a", "iris", "--out", out, "--overwrite", count=6, seed=4, check=check
    )  # fmt: skip


@pytest.mark.parametrize("of", ["DataFrame.write_parquet", "LazyFrame.sink_parquet"])
def test_a_full_temporary_folder_is_named(run, tmp_path, monkeypatch, of):
    assert run("train", "iris", "--layers", 4, "--epochs", 1, "--no-plots", "--out", "a")[0] == 0
    import polars

    def full(*arguments, **options):
        raise polars.exceptions.ComputeError("underlying IO error: No space left on device")

    kind, method = of.split(".")
    monkeypatch.setattr(getattr(polars, kind), method, full)
    status, _, said = run("predict", "a", "iris", "--out", "p.parquet")
    assert status == 1
    assert said.startswith("Error: Parquet is gathered in the temporary folder '")
    assert "No space left on device. Make room there, or set TMPDIR" in said
    assert not (tmp_path / "p.parquet").exists()


def test_a_disk_that_fails_to_give_the_data_is_named(run, tmp_path, monkeypatch):
    from nnx.cli import predict

    assert run("train", "iris", "--layers", 4, "--epochs", 1, "--no-plots", "--out", "a")[0] == 0

    pieces_of = predict.pieces

    def pieces(data, *more, **others):  # predictions of what came before are on their way to the file
        yield from pieces_of("iris", *more, **others)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(predict, "pieces", pieces)
    status, _, err = run("predict", "a", "new.csv", "--out", "p.csv")
    assert status == 1
    assert "Input/output error" in err
    assert "'new.csv'" in err
    assert "p.csv" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# Several at once


def whole(path, contents, stop, seen):
    while not stop.is_set():
        content = path.read_bytes()
        assert content in contents
        seen.append(len(content))


def test_two_threads_save_to_one_path(tmp_path):
    path, trainers = tmp_path / "m.safetensors", [a_trainer(), a_trainer()]
    trainers[1].metadata["more"] = "x" * 5000
    contents = []
    for trainer in trainers:
        trainer.save(path)
        contents.append(path.read_bytes())
    errors, stop, seen = [], threading.Event(), []

    def save(trainer):
        try:
            for _ in range(60):
                trainer.save(path)
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=save, args=[trainer]) for trainer in trainers]
    reader = threading.Thread(target=whole, args=[path, contents, stop, seen])
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert errors == []
    assert len(seen) > 10
    assert [one.name for one in tmp_path.iterdir()] == ["m.safetensors"]


SAVES = """
import sys, nnx
trainer = nnx.Trainer(nnx.mlp([2, 3, 1]), backend="numpy", seed=int(sys.argv[2]))
for _ in range(300):
    trainer.save(sys.argv[1])
"""


@pytest.mark.long
def test_two_processes_save_to_one_path(tmp_path):
    path = tmp_path / "m.safetensors"
    a_trainer().save(path)
    processes = [
        subprocess.Popen([sys.executable, "-c", SAVES, path, str(seed)], stderr=subprocess.PIPE)
        for seed in (1, 2)
    ]
    reads = 0
    while any(process.poll() is None for process in processes):
        nnx.Trainer.load(path, backend="numpy")
        reads += 1
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == 0
    assert reads > 10
    assert [one.name for one in tmp_path.iterdir()] == ["m.safetensors"]


def test_what_another_writes_just_now_stays(tmp_path):
    path = tmp_path / "m.safetensors"
    (tmp_path / ".m.safetensors.99-0123abcd.tmp").write_text("left by a killed process")
    (tmp_path / ".m.safetensors.99-0123abcd.tmp.mine").write_text("of a person")
    with written_aside(path) as aside:
        aside.write_text("half")
        clear_left(tmp_path, lambda name: True)
        assert aside.read_text() == "half"
        a_trainer().save(path)
        assert sorted(one.name for one in tmp_path.iterdir()) == sorted(
            [aside.name, ".m.safetensors.99-0123abcd.tmp.mine", path.name]
        )
    assert path.read_text() == "half"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    path = tmp_path / "m.safetensors"
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    a_trainer().save(path)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not path.is_symlink()


def test_names_as_long_as_they_may_be(tmp_path):
    for name in ("m" * 255, "ä" * 127):
        a_trainer().save(tmp_path / name)
        a_trainer().save(tmp_path / name)
        assert nnx.Trainer.load(tmp_path / name, backend="numpy").steps == 0


def test_one_fit_holds_a_folder_until_it_ends(tmp_path):
    pytest.importorskip("fcntl")
    data, names = some_data(), []

    class Other(nnx.Callback):
        """Another fit into the same folder, in the midst of the first."""

        def on_step(self, trainer, progress):
            names.append(sorted(path.name for path in tmp_path.iterdir()))
            with pytest.raises(
                nnx.InputError, match=r"another training writes into .* wait until it has ended"
            ):
                a_trainer().fit(*data, callbacks=nnx.Checkpoints(tmp_path))

    both = [nnx.Checkpoints(tmp_path, epochs=1, keep=9), nnx.Checkpoints(tmp_path, epochs=2, keep=9)]
    trainer = a_trainer()
    trainer.fit(*data, epochs=3, callbacks=[Other(), *both])
    assert len(names) == 3
    trainer.fit(*data, epochs=1, callbacks=both)
    first, second = Hold(tmp_path, trainer), Hold(tmp_path, trainer)
    first.release()
    with pytest.raises(nnx.InputError):
        Hold(tmp_path, None)
    second.release()
    Hold(tmp_path, None).release()


def test_two_runs_in_one_folder(run, tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    from nnx.cli.folder import Folder

    assert run("train", "iris", "--layers", 4, "--epochs", 1, "--no-plots", "--out", "a")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    folder = Folder(tmp_path / "a")
    folder.begin((tmp_path / "a" / "config.toml").read_text(), resume=True)
    for arguments in (["--resume", "a"], ["iris", "--out", "a", "--overwrite"]):
        status, _, err = run("train", *arguments)
        assert status == 1
        assert "Error: another training writes into 'a' just now; wait until it has ended" in err
        assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()} == before
    folder.end()
    assert run("train", "--resume", "a")[0] == 0
