"""Only what nnx wrote in a run of its own is ever replaced or removed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnx
from nnx.io.run_folder import checkpoints, steps_of


def some_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 12))
    return X, (X[0] > 0).astype(int)


def a_trainer():
    return nnx.Trainer(nnx.mlp([2, 3, 1]), nnx.Adam(0.1), backend="numpy")


COPIES = (
    "step-00000002 (1).safetensors", "step-00000009-keep.safetensors", "step-9.safetensors",
    "step-000000099.safetensors", "old step-00000009.safetensors",
    "step-00000009.safetensors.bak", "Step-00000009.safetensors",
    "step-00000009.safetensors\n", "step-0000000९.safetensors", "step--0000009.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_among_checkpoints_is_none(name, tmp_path):
    trainer, keep = a_trainer(), nnx.Checkpoints(tmp_path, keep=None)
    trainer.fit(*some_data(), epochs=3, callbacks=keep)
    shutil.copy(tmp_path / "step-00000002.safetensors", tmp_path / name)
    assert [path.name for path in checkpoints(tmp_path)] == [
        f"step-0000000{n}.safetensors" for n in (1, 2, 3)
    ]
    again = a_trainer()
    again.fit(*some_data(), epochs=5, callbacks=nnx.Checkpoints(tmp_path, keep=1), resume=tmp_path)
    expected = a_trainer()
    expected.fit(*some_data(), epochs=5)
    np.testing.assert_array_equal(again.theta, expected.theta)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "step-00000005.safetensors"])


def test_names_of_checkpoints():
    assert [steps_of(f"step-{n}.safetensors") for n in ("00000000", "12345678", "123456789")] == [
        0, 12345678, 123456789
    ]  # fmt: skip
    assert [steps_of(name) for name in COPIES] == [None] * len(COPIES)


def test_a_checkpoint_under_another_steps_name_is_passed_over(tmp_path, caplog):
    a_trainer().fit(*some_data(), epochs=3, callbacks=nnx.Checkpoints(tmp_path, keep=None))
    shutil.copy(tmp_path / "step-00000001.safetensors", tmp_path / "step-00000099.safetensors")
    again, expected = a_trainer(), a_trainer()
    again.fit(*some_data(), epochs=5, callbacks=nnx.Checkpoints(tmp_path), resume=tmp_path)
    expected.fit(*some_data(), epochs=5)
    np.testing.assert_array_equal(again.theta, expected.theta)
    assert "holds a run after 1 step: nnx gives it another name" in caplog.text


def test_links_and_files_of_other_programs_stay(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    save_file({"W": np.zeros(3)}, folder / "step-00000001.safetensors")
    save_file({"W": np.zeros(3)}, elsewhere / "precious.safetensors")
    (folder / "step-00000000.safetensors").symlink_to(elsewhere / "precious.safetensors")
    trainer = a_trainer()
    trainer.fit(*some_data(), epochs=2)
    trainer.fit(*some_data(), epochs=4, callbacks=nnx.Checkpoints(folder, epochs=2, keep=1))
    assert sorted(path.name for path in folder.iterdir()) == [
        f"step-0000000{n}.safetensors" for n in (0, 1, 6)
    ]
    assert (folder / "step-00000000.safetensors").is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["precious.safetensors"]


def tree(folder):
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_symlink() or path.is_file()
    }


TRAIN = ("train", "iris", "--layers", 4, "--epochs", 1, "--no-plots", "--overwrite", "--out")


@pytest.mark.usefixtures("drawn")
def test_a_folder_that_never_was_a_run_keeps_all(run, tmp_path):
    out = tmp_path / "out"
    (out / "checkpoints").mkdir(parents=True)
    for name in ("epoch-3.safetensors", "best.safetensors", "step-2.safetensors", "notes.txt"):
        (out / "checkpoints" / name).write_text(name)
    (out / "data.csv").write_text("a,b\n")
    (out / "1").mkdir()
    (out / "1" / "notes.txt").write_text("of mine")
    before = tree(out)
    for more in ([], ["--sweep", "seed=1 2"]):
        assert run(*TRAIN, out, *more)[0] == 0
        assert before.items() <= tree(out).items()


OWN = (
    "config.toml", "model.safetensors", "history.jsonl", "results.json", "results.csv", "held_out.npz", "roc.png",
    "learning_curve.svg", "checkpoints/step-00000004.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.usefixtures("drawn")
def test_files_of_others_under_names_of_nnx_are_not_replaced(run, tmp_path, name, linked):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    precious = tmp_path / "precious" if linked else out / name
    precious.write_text("layers = '8'\n")
    if linked:
        (out / name).symlink_to(precious)
    before = tree(tmp_path)
    status, _, err = run(*TRAIN, out)
    assert status == 1
    what = "is a link" if linked else "was not written by nnx in a run of its own"
    assert (
        f"{str(out / name)!r} {what}, so that nnx neither replaces nor removes it; choose another --out"
        in err
    )
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("drawn")
def test_links_in_a_run_are_not_followed(run, tmp_path):
    assert run(*TRAIN, "a")[0] == 0
    a, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    shutil.move(a / "checkpoints", elsewhere)
    (a / "checkpoints").symlink_to(elsewhere)
    before = tree(tmp_path)
    status, _, err = run(*TRAIN, "a")
    assert status == 1
    assert "checkpoints' is a link" in err
    assert tree(tmp_path) == before
    assert run("train", "--resume", "a", "--epochs", 2)[0] == 0  # one who moves a run's checkpoints may go on
    assert [path.name for path in checkpoints(elsewhere)] == [
        "step-00000004.safetensors",
        "step-00000008.safetensors",
    ]
    (tmp_path / "link").symlink_to(a)
    (a / "checkpoints").unlink()
    assert run(*TRAIN, "link")[0] == 0  # the folder that was asked for
    assert (tmp_path / "link").is_symlink()


@pytest.mark.usefixtures("drawn")
def test_what_a_person_put_into_a_sweep_stays(run, tmp_path):
    assert run(*TRAIN, "s", "--sweep", "seed=1 2 3")[0] == 0
    kept = {
        "1/notes.txt": b"mine",
        "2/checkpoints/mine.safetensors": b"mine",
        "mine/model.safetensors": b"mine",
    }
    for name, content in kept.items():
        (tmp_path / "s" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "s" / name).write_bytes(content)
    shutil.move(tmp_path / "s" / "3", tmp_path / "elsewhere")
    (tmp_path / "s" / "3").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    assert run(*TRAIN, "s")[0] == 0
    left = tree(tmp_path / "s")
    assert kept.items() <= left.items()
    assert {name for name in left if "/" in name} == {*kept, "checkpoints/step-00000004.safetensors"}
    assert tree(tmp_path / "elsewhere") == before


def test_a_configuration_of_ones_own_is_not_replaced(run, tmp_path):
    text = "# mine\ndata = 'iris'\nepochs = 1\nlayers = '4'\n"
    (tmp_path / "config.toml").write_text(text)
    for options in (["--config", "config.toml", "--out", ".", "--overwrite"], ["--resume", "."]):
        status, _, err = run("train", *options)
        assert status == 1
        assert "config.toml' was not written by nnx" in err
        assert (tmp_path / "config.toml").read_text() == text


def test_pictures_in_a_folder_that_is_no_run_are_replaced_only_when_asked(run, tmp_path):
    assert run(*TRAIN, "a")[0] == 0
    (tmp_path / "mine").mkdir()
    shutil.copy(tmp_path / "a" / "model.safetensors", tmp_path / "mine")
    (tmp_path / "mine" / "learning_curve.png").write_text("mine")
    status, _, err = run("plot", "mine", "--kind", "learning_curve")
    assert status == 1
    assert "exists already" in err
    assert (tmp_path / "mine" / "learning_curve.png").read_text() == "mine"
    assert run("plot", "mine", "--kind", "learning_curve", "--overwrite")[0] == 0
    assert run("plot", "a", "--kind", "learning_curve")[0] == 0


def test_a_damaged_checkpoint_is_said_and_the_run_goes_on(run, tmp_path, caplog):
    assert run("train", "iris", "--layers", 4, "--epochs", 6, "--no-plots", "--out", "whole")[0] == 0
    assert run("train", "iris", "--layers", 4, "--epochs", 2, "--no-plots", "--out", "a")[0] == 0
    assert run("train", "--resume", "a", "--epochs", 4)[0] == 0
    newest = tmp_path / "a" / "checkpoints" / "step-00000016.safetensors"
    content = bytearray(newest.read_bytes())
    content[-3] ^= 4
    newest.write_bytes(content)
    os.utime(tmp_path / "a" / "model.safetensors", (1, 1))
    good = str(Path("a", "checkpoints", "step-00000008.safetensors"))
    status, _, err = run("show", "a")
    assert status == 1
    assert "is damaged" in err
    assert f"The newest good checkpoint beside it is {good!r}" in err
    status, _, err = run("train", "--resume", "a", "--epochs", 6)
    assert status == 0
    assert "Resumed   a after epoch 2, of 6" in err
    assert "step-00000016.safetensors' is damaged" in caplog.text + err
    assert "trying the checkpoint before" in caplog.text + err
    same = [nnx.Trainer.load(f"{name}/model.safetensors", backend="numpy").theta for name in ("a", "whole")]
    np.testing.assert_array_equal(*same)


def test_what_a_killed_run_left_is_cleared(run, tmp_path):
    assert run(*TRAIN, "a")[0] == 0
    steps = "a/checkpoints/.step-00000002.safetensors.9-00000000.tmp"
    ours = ["a/.model.safetensors.9-0123abcd.tmp", "a/.config.toml.9.tmp", steps]
    more = ["a/.model.safetensors.9-0123abcd.tmp2", "a/model.safetensors.9.tmp"]
    mine = ["a/.notes.txt.9.tmp", "a/.model.safetensors.tmp", *more]
    for name in (*ours, *mine):
        (tmp_path / name).write_text("half")
    assert run("train", "--resume", "a", "--epochs", 2)[0] == 0
    assert [name for name in (*ours, *mine) if (tmp_path / name).exists()] == mine
