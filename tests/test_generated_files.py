"""Files that are mutated at random: read right, or refused in one line that names the file."""

import gzip
import io
import random
import struct

import numpy as np
import pytest

polars = pytest.importorskip("polars", reason="reading tables (extra cli) is not installed")

from nnx.data import files  # noqa: E402  # after the skip
from nnx.errors import InputError  # noqa: E402

M = 24
KINDS = ("images-idx3", "images-idx3.gz", "data.npz", "small.npz", "data.parquet", "data.csv.gz")
CHECKED = ("images-idx3.gz", "data.npz", "small.npz", "data.csv.gz")
"""The formats that have a checksum: what is read of them is what was written."""


def idx(array, code=8):
    return (
        b"\0\0" + bytes([code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


def packed(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def originals():
    """Return the bytes of a small file of each kind."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 99, (M, 2)).astype(float), np.array(["cat", "dog"] * (M // 2))
    frame = polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": y})
    parquet = io.BytesIO()
    frame.write_parquet(parquet)
    images = idx(rng.integers(0, 255, (M, 2, 3)).astype("uint8"))
    return {
        "images-idx3": images,
        "images-idx3.gz": gzip.compress(images, mtime=0),
        "data.npz": packed(X=X, y=y),
        "small.npz": packed(np.savez_compressed, X=X.astype(">i2", order="F"), y=y.astype("S")),
        "data.parquet": parquet.getvalue(),
        "data.csv.gz": gzip.compress(frame.write_csv().encode(), mtime=0),
    }


def mutated(data, draw):
    """Return bytes with one to three changes: bits, bytes, cuts, insertions, numbers of headers."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(found)) if draw.random() < 0.6 else draw.randrange(min(len(found), 160))
        change = draw.randrange(6)
        if change == 0:
            found[at] ^= 1 << draw.randrange(8)
        elif change == 1:
            found[at] = draw.choice((0, 1, 127, 128, 255))
        elif change == 2:
            del found[at : at + draw.choice((1, 4, 32, len(found)))]
        elif change == 3:
            found[at:at] = draw.randbytes(draw.randrange(1, 9))
        elif change == 4:
            found[at : at + 4] = struct.pack(draw.choice("<>") + "I", draw.choice((0, 3, 2**31, 2**32 - 1)))
        else:
            found += draw.randbytes(draw.randrange(1, 9))
        if not found:
            break
    return bytes(found)


def content(path):
    """Return the samples that a file holds, read at once, in a form that can be compared."""
    found = files.read(path)
    if hasattr(found, "frame"):
        return found.frame.rows()
    return found.X.tolist(), found.y.tolist()


def in_pieces(path):
    return [len(piece) for piece in files.pieces(path)]


def check(folder, seed, rounds):
    """Read so many mutants of each kind of file at once and in pieces."""
    draw = random.Random(seed)
    refused = 0
    for name, data in originals().items():
        (folder / "labels-idx1").write_bytes(idx(np.arange(M, dtype="uint8") % 3))
        (folder / "labels-idx1.gz").write_bytes(gzip.compress(idx(np.arange(M, dtype="uint8") % 3)))
        path = folder / name
        path.write_bytes(data)
        right = content(path)
        for _ in range(rounds):
            mutant = mutated(data, draw)
            path.write_bytes(mutant)
            for read in content, in_pieces:
                try:
                    found = read(path)
                except InputError as error:
                    said, found = str(error), None
                    refused += 1
                if found is None:
                    assert path.name in said, said
                    assert "\n" not in said, said
                else:
                    if name in CHECKED and read is content:
                        assert found == right, (name, mutant)
    return refused


def test_mutated_files(tmp_path):
    assert check(tmp_path, seed=1, rounds=25) > 100


@pytest.mark.long
def test_many_mutated_files(tmp_path):
    assert check(tmp_path, seed=2, rounds=340) > 1000


def toml(draw):
    text = 'data = "nowhere.csv"\ntarget = "kind"\nepochs = 3\nlearning-rate = 0.1\n[sweep]\nlayers = ["8"]\n'
    return mutated(text.encode(draw.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1"))), draw)


def check_configurations(folder, seed, rounds):
    config = pytest.importorskip("nnx.cli.config", reason="the command line (extra cli) is not installed")
    draw, path = random.Random(seed), folder / "config.toml"
    for _ in range(rounds):
        path.write_bytes(toml(draw))
        said = "config.toml"
        try:
            config.read(path)
        except InputError as error:
            said = str(error)
        assert "config.toml" in said


def test_mutated_configurations(tmp_path):
    check_configurations(tmp_path, seed=1, rounds=100)


@pytest.mark.long
def test_many_mutated_configurations(tmp_path):
    check_configurations(tmp_path, seed=2, rounds=3000)


@pytest.mark.parametrize("rounds", [pytest.param(1, id="quick"), pytest.param(30, marks=pytest.mark.long)])
def test_mutated_files_through_the_commands(tmp_path, run, rounds):
    draw = random.Random(3)
    made = originals()
    for name in ("data.npz", "data.parquet", "data.csv.gz"):
        (tmp_path / name).write_bytes(made[name])
        options = ["--backend", "numpy", "--layers", "2", "--epochs", "1", "--no-plots", "--overwrite"]
        target = [] if name.endswith(".npz") else ["--target", "kind"]
        assert run("train", name, *target, *options, "--out", "model")[0] == 0
        right = run("predict", "model", name, "--backend", "numpy")[1]
        for _ in range(rounds):
            (tmp_path / name).write_bytes(mutated(made[name], draw))
            commands = [(of, "model", name, "--backend", "numpy") for of in ("predict", "evaluate")]
            if rounds > 1:
                commands.append(("train", name, *target, *options, "--out", "other"))
            for command in commands:
                status, out, err = run(*command)
                assert "nnx failed" not in err
                assert "Traceback" not in err
                last = err.strip().splitlines()[-1] if err.strip() else ""
                assert status == 0 or (last.startswith("Error: ") and name in last), (command, err)
                if command[0] == "predict" and name in CHECKED:
                    assert right.startswith(out), "other predictions"
