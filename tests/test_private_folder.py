"""The folder of compiled steps: private_folder, checked, and what is in it as it was written."""

import logging
import os
import re
import stat

import numpy as np
import pytest

import nnx
from nnx.backends.numba import compiled
from nnx.io import private_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")

FOLDER, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


@pytest.fixture(autouse=True)
def _said_anew():
    compiled._warn_once.cache_clear()
    yield
    compiled._warn_once.cache_clear()


def found(mode, uid=None):
    return os.stat_result((mode, 1, 1, 1, os.geteuid() if uid is None else uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o555, 0o711])
def test_a_folder_that_others_cannot_write_is_safe(mode):
    assert private_folder.problem_of(found(FOLDER | mode)) is None


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (found(FOLDER | 0o777), "written by other users .mode 0777."),
        (found(FOLDER | 0o770), "written by other users"),
        (found(FOLDER | 0o702), "written by other users"),
        (found(FOLDER | 0o1777), "written by other users"),
        (found(FOLDER | 0o700, uid=54321), "belongs to another user .user id 54321."),
        (found(LINK | 0o777), "symbolic link"),
        (found(FILE | 0o600), "no folder"),
    ],
)
def test_other_folders_are_not(given, wrong):
    assert re.search(wrong, private_folder.problem_of(given))


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077, 0o777])
def test_it_is_made_private_whatever_the_umask(tmp_path, monkeypatch, umask):
    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "cache"))
    before = os.umask(umask)
    try:
        path = compiled.source_file("step_test.py", "x = 1\n")
        with private_folder.file_lock(path.with_name("compiling.lock")):
            pass
    finally:
        os.umask(before)
    assert path.parent == tmp_path / "cache"
    for one, mode in ((path.parent, 0o700), (path.parent / "__pycache__", 0o700), (path, 0o600)):
        assert stat.S_IMODE(one.stat().st_mode) == mode
    assert stat.S_IMODE(path.with_name("compiling.lock").stat().st_mode) & 0o077 == 0


def test_one_that_others_could_read_is_closed(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "cache").chmod(0o755)
    private_folder.make_private(tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def unsafe_mode(folder):
    folder.mkdir()
    folder.chmod(0o777)


def link(folder):
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


def link_within(folder):
    folder.mkdir(mode=0o700)
    folder.with_name("elsewhere").mkdir(mode=0o700)
    (folder / "__pycache__").symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("make", [unsafe_mode, link, link_within])
def test_an_unsafe_folder_is_not_used_and_that_is_said_once(tmp_path, monkeypatch, caplog, make):
    folder = tmp_path / "cache"
    make(folder)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("NNX_CACHE_DIR", str(folder))
    with caplog.at_level(logging.WARNING, "nnx"):
        paths = [compiled.source_file(f"step_{n}.py", "x = 1\n") for n in range(3)]
    assert all(tmp_path not in path.parents for path in paths)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(caplog.records) == 1
    assert "NNX_CACHE_DIR" in caplog.text
    assert str(folder) in caplog.text


def test_nothing_of_another_user_is_used(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(private_folder.UnsafeError, match="belongs to another user"):
        private_folder.make_private(folder)


@pytest.mark.parametrize("what", ["file", "nothing"])
def test_the_lock_follows_no_link(tmp_path, what):
    target = tmp_path / "precious"
    if what == "file":
        target.write_text("kept")
    (tmp_path / "compiling.lock").symlink_to(target)
    with private_folder.file_lock(tmp_path / "compiling.lock"):
        pass
    assert target.exists() == (what == "file")
    assert what == "nothing" or target.read_text() == "kept"


def test_the_lock_empties_nothing(tmp_path):
    (tmp_path / "compiling.lock").write_text("kept")
    with private_folder.file_lock(tmp_path / "compiling.lock"):
        pass
    assert (tmp_path / "compiling.lock").read_text() == "kept"


def test_a_source_that_is_a_link_or_damaged_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "cache"))
    path = compiled.source_file("step_test.py", "x = 1\n")
    for spoil in (b"\xff\xfe", b"x = 2\n", b""):
        path.write_bytes(spoil)
        assert compiled.source_file("step_test.py", "x = 1\n").read_bytes() == b"x = 1\n"
    path.unlink()
    (tmp_path / "other.py").write_text("x = 1\n")
    path.symlink_to(tmp_path / "other.py")
    assert not compiled.source_file("step_test.py", "x = 1\n").is_symlink()
    assert (tmp_path / "other.py").read_text() == "x = 1\n"


@pytest.fixture
def kept(tmp_path):
    """Two files as numba would have written them, with their checksums."""
    (tmp_path / "__pycache__").mkdir()
    for number in (1, 2):
        (tmp_path / "__pycache__" / f"step_a.{number}.nbc").write_bytes(bytes([number] * 100))
    found = private_folder.SealedFiles(tmp_path, "step_a")
    assert not found.are_intact()  # nobody has said what they are
    found.seal()
    assert found.are_intact()
    return found


def test_files_are_private_once_they_are_sealed(kept):
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.files()} == {0o600}


@pytest.mark.parametrize("byte", [0, 50, 99])
def test_a_flipped_bit_is_seen_and_the_file_goes(kept, byte):
    first, second = kept.files()
    data = bytearray(first.read_bytes())
    data[byte] ^= 1
    first.write_bytes(data)
    assert not kept.are_intact()
    kept.remove_damaged()
    assert kept.files() == [second]
    assert kept.are_intact()


@pytest.mark.parametrize("how", ["link", "writable", "foreign", "no sums"])
def test_foreign_files_go(kept, tmp_path, how):
    first, second = kept.files()
    if how == "link":
        (tmp_path / "target").write_bytes(first.read_bytes())
        first.unlink()
        first.symlink_to(tmp_path / "target")
    elif how == "writable":
        first.chmod(0o666)
    elif how == "foreign":
        first = first.with_name("step_a.3.nbc")
        first.write_bytes(b"another")
    else:
        (tmp_path / "step_a.sha256").unlink()
    assert not kept.are_intact()
    kept.remove_damaged()
    assert first not in kept.files()
    assert (second in kept.files()) == (how != "no sums")
    assert how != "link" or (tmp_path / "target").exists()


@pytest.mark.long
def test_damaged_files_are_compiled_anew(tmp_path, monkeypatch, caplog):
    pytest.importorskip("numba")
    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "cache"))
    X, Y = np.random.default_rng(0).standard_normal((3, 20)).astype("float32"), np.arange(20) % 2
    rng, expected = np.random.default_rng(0), None
    for turn in range(4):
        monkeypatch.setattr(compiled, "_modules", {})
        monkeypatch.setattr(compiled, "_used", {})
        trainer = nnx.Trainer(nnx.mlp([3, 2, 1]), nnx.GradientDescent(0.1), backend="numba", seed=0)
        with caplog.at_level(logging.INFO, "nnx"):
            trainer.fit(X, Y, epochs=3)
        assert "a step is not compiled" not in caplog.text
        expected = trainer.theta if expected is None else expected
        np.testing.assert_array_equal(trainer.theta, expected)
        steps = sorted((tmp_path / "cache" / "__pycache__").glob("step_*"))
        assert len(steps) == 2
        for path in steps[turn % 2 :: 2]:  # its index, then its code
            data = bytearray(path.read_bytes())
            for place in rng.integers(0, len(data), 50):
                data[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(data if turn < 2 else data[: len(data) // 2])
