"""What the command line prints, and where: closed streams, other encodings, control characters, readers that end."""

import errno
import gzip
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

for needed in ("typer", "rich", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

import polars  # noqa: E402  # after the skip

from nnx.__main__ import main  # noqa: E402
from nnx.cli import streams  # noqa: E402
from nnx.data import files, memory  # noqa: E402
from nnx.errors import InputError  # noqa: E402

QUICK = ("--backend", "numpy", "--layers", "2", "--epochs", "1", "--no-plots")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder of its own, with streams in an encoding; return its status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, stdin=b"", encoding="utf-8", stream=io.TextIOWrapper):
        out, err = stream(io.BytesIO(), encoding=encoding), io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "argv", ["nnx", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", stdin if stdin is None else io.TextIOWrapper(io.BytesIO(stdin)))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        finally:
            monkeypatch.undo()
            monkeypatch.chdir(tmp_path)
            monkeypatch.setenv("COLUMNS", "200")
        err.flush()
        if stream is io.TextIOWrapper or stream is Terminal:
            out.flush()
        return status, *(one.buffer.getvalue().decode(encoding) for one in (out, err))

    return call


def table(path, header="a,b,kind", labels=("x", "y"), m=40):
    rows = "".join(f"{i % 7},{i % 5},{labels[i % 2]}\n" for i in range(m))
    path.write_text(f"{header}\n{rows}", encoding="utf-8")
    return path


@pytest.fixture
def model(run, tmp_path):
    """A model of a table whose names hold what terminals obey, emoji and letters of other scripts."""
    names = "a\x1b[31m,größe β:cat:\u202e,kind"
    table(tmp_path / "t.csv", names, ("日\x1b]0;t\x07", "Ω[red]"))
    status, _, err = run("train", "t.csv", "--target", "kind", *QUICK, "--out", "model")
    assert status == 0, err
    assert "\x1b" not in err
    assert r"a\x1b[31m" in err
    return tmp_path / "model"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "latin-1"])
def test_text_of_files_is_shown_in_any_encoding_and_commands_no_terminal(run, model, encoding):
    for command in (
        ("show", "model"),
        ("evaluate", "model", "t.csv", "--metrics", "confusion_matrix", "--backend", "numpy"),
        ("train", "t.csv", "--target", "kind", *QUICK, "--out", "another", "--overwrite"),
        ("train", "t.csv", "--target", "\x1b[31mno", *QUICK),
        ("evaluate", "\x1b[31mno", "t.csv"),
        ("plot", "\x1b[31mno"),
    ):
        status, out, err = run(*command, encoding=encoding)
        assert status == (1 if "\x1b[31mno" in command else 0), err
        assert not any(c in out + err for c in "\x1b\x07\u202e"), command
        assert r"\x1b" in out + err
        if encoding == "utf-8" and command[0] != "plot" and status == 0:
            assert "größe β:cat:" in out + err or "日" in out + err
        if encoding == "ascii" and command[0] == "evaluate" and status == 0:
            assert r"\u65e5" in out
            assert r"\u03a9[red]" in out


def test_json_and_predictions_are_exact_in_any_encoding(run, model, tmp_path):
    found = [
        run("show", "model", "--json", encoding=encoding)[1] for encoding in ("utf-8", "ascii", "cp1252")
    ]
    assert found[0] == found[1] == found[2]
    preparation = json.loads(found[0])["preparation"]
    assert preparation["labels"] == sorted(["日\x1b]0;t\x07", "Ω[red]"])
    out = run("predict", "model", "t.csv", "--out", "p.csv", "--backend", "numpy", encoding="ascii")
    assert out[0] == 0
    assert "日\x1b]0;t\x07" in (tmp_path / "p.csv").read_text(encoding="utf-8")


class Terminal(io.TextIOWrapper):
    """A standard output that people look at."""

    def isatty(self):
        return True


def test_predictions_on_a_terminal_do_not_command_it(run, model):
    status, out, _ = run("predict", "model", "t.csv", "--backend", "numpy", stream=Terminal)
    assert status == 0
    assert r"日\x1b]0;t\x07" in out
    assert "\x07" not in out


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("train iris --epochs 1 --no-plots --backend numpy --out again {}", 0),
        ("evaluate model t.csv --backend numpy {}", 0),
        ("predict model t.csv --backend numpy --out p.csv {}", 0),
        ("predict model t.csv --backend numpy {}", 1),
        ("show model --json {}", 0),
    ],
)
def test_a_standard_output_that_is_closed(run, model, tmp_path, monkeypatch, capfd, command, status):
    """As a service, or Windows without a console, has it: `sys.stdout` is None."""
    monkeypatch.setattr(sys, "argv", ["nnx", *command.format("").split()])
    monkeypatch.setattr(sys, "stdout", None)
    try:
        main()
        found = 0
    except SystemExit as stop:
        found = stop.code or 0
    err = capfd.readouterr().err
    assert found == status, err
    assert "nnx failed" not in err
    if status:
        assert "the standard output is closed" in err
        assert "--out FILE" in err


def test_a_standard_input_that_is_closed(run, model):
    status, _, err = run("predict", "model", stdin=None)
    assert status == 2
    assert "pipe a table in" in err
    status, _, err = run("evaluate", "model", "-", stdin=None)
    assert status == 1
    assert "the standard input is closed; give FILE" in err


def unwritable(number):
    """Return a kind of standard output each write to which is this error."""

    class Unwritable(io.TextIOWrapper):
        held = False

        def flush(self):
            if self.held:
                raise OSError(number, os.strerror(number))

        def write(self, text):
            self.held = True
            return len(text)

    class Buffer(io.BytesIO):
        def write(self, data):
            raise OSError(number, os.strerror(number))

    def made(buffer, encoding):
        return Unwritable(Buffer(), encoding=encoding)

    return made


COMMANDS = (
    ("show", "model"),
    ("show", "model", "--json"),
    ("evaluate", "model", "t.csv", "--backend", "numpy"),
    ("predict", "model", "t.csv", "--backend", "numpy"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_standard_output_that_is_full_or_whose_reader_ends(run, model, monkeypatch, command):
    monkeypatch.setattr(streams, "leave", lambda stream: None)  # it is no stream of the system's
    full, ends = (run_unwritable(run, command, number) for number in (errno.ENOSPC, errno.EPIPE))
    assert full == (1, "Error: the standard output cannot be written: No space left on device\n")
    assert ends == (141, "")


def run_unwritable(run, command, number):
    status, _, err = run(*command, stream=unwritable(number))
    return status, err


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
def test_a_reader_that_ends_early(model):
    done = subprocess.run(
        f"{sys.executable} -m nnx show model --json | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=model.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0: all was written before the reader ended


def damaged(data):
    """Return what can become of gzipped data, and what an error says of it."""
    broken, checksum = bytearray(data), bytearray(data)
    broken[-3000:-2990] = b"\xff" * 10
    checksum[-8:-4] = b"\1\2\3\4"
    return {
        "has no end|have no end": data[:-2000],
        "is damaged": bytes(broken),
        "checksum is not that": bytes(checksum),
        "bytes that are not gzipped": data + b"junk",
    }


@pytest.mark.long
def test_gzipped_tables_that_are_damaged(run, tmp_path):
    table(tmp_path / "t.csv")
    assert run("train", "t.csv", "--target", "kind", *QUICK, "--out", "model")[0] == 0
    rng = np.random.default_rng(0)
    lines = "".join(f"{a:.6f},{b:.6f},{'xy'[int(a > b)]}\n" for a, b in rng.random((90_000, 2)))
    whole = gzip.compress(f"a,b,kind\n{lines}".encode(), 1)
    for said, data in damaged(whole).items():
        (tmp_path / "g.csv.gz").write_bytes(data)
        for arguments, stdin in (
            (("predict", "model", "g.csv.gz"), b""),
            (("predict", "model"), data),
            (("evaluate", "model", "g.csv.gz"), b""),
        ):
            status, out, err = run(*arguments, "--backend", "numpy", stdin=stdin)
            assert status == 1
            assert any(part in err for part in said.split("|")), err
            assert ("the standard input" if stdin else "'g.csv.gz'") in err
            if out:  # rows that were written before the damage was met
                assert f"predictions of the first {len(out.splitlines()) - 1:,} rows are written" in err
        status, _, err = run("predict", "model", "g.csv.gz", "--backend", "numpy", "--out", "p.csv")
        assert status == 1
        assert "are written" not in err
        assert not (tmp_path / "p.csv").exists()
    status, _, err = run("train", "g.csv.gz", "--target", "kind", *QUICK)
    assert status == 1
    assert "'g.csv.gz' cannot be read" in err


def test_a_gzipped_table_that_is_longer_than_it_notes(tmp_path, monkeypatch):
    """Of several gzipped parts the file notes the length of the last alone."""
    first = gzip.compress(b"a,b,c\n" + b"1,2,3\n4,5,6\n" * 450_000, 1)
    (tmp_path / "long.csv.gz").write_bytes(first + gzip.compress(b"7,8,9\n"))
    monkeypatch.setattr(memory, "available", lambda: 17_000_000)
    with pytest.raises(InputError, match=r"long.csv.gz.* of memory; 17 MB are available"):
        files.read(tmp_path / "long.csv.gz")


def test_small_files_that_unpack_to_more_than_the_memory(tmp_path, monkeypatch):
    """What a file says of itself is compared with the memory before it is unpacked."""
    zeros = np.zeros((1500, 1500))  # 18 MB, 18 kB packed
    np.savez_compressed(tmp_path / "z.npz", X=zeros, y=np.arange(1500) % 2)
    header = b"\0\0\x08\x02" + (4000).to_bytes(4, "big") * 2
    (tmp_path / "images-idx2.gz").write_bytes(gzip.compress(header + bytes(4000**2)))
    (tmp_path / "labels-idx1.gz").write_bytes(
        gzip.compress(b"\0\0\x08\x01" + (4000).to_bytes(4, "big") + bytes(4000))
    )
    polars.DataFrame({f"x{j}": np.zeros(400_000) for j in range(6)}).write_parquet(tmp_path / "z.parquet")
    monkeypatch.setattr(memory, "available", lambda: 17_000_000)
    with monkeypatch.context() as patch:
        for library, unpacks in ((np, "frombuffer"), (polars, "read_parquet")):
            patch.setattr(library, unpacks, lambda *_, **__: pytest.fail("it was unpacked"))
        for name in ("z.npz", "images-idx2.gz", "z.parquet"):
            assert (tmp_path / name).stat().st_size < 200_000
            with pytest.raises(InputError, match=rf"{name}.*takes about .* of memory; 17 MB are available"):
                files.read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('\ufeffdata = "t.csv"\ntarget = "kind"\n'.encode(), None),
        ('data = "t.csv"\ntarget = "kind"\n'.encode("utf-16"), "is in UTF-16; save it in UTF-8"),
        ('data = "t.csv"\n# größe\n'.encode("latin-1"), "is not in UTF-8 (line 2)"),
        (b'data = "t\\u0000.csv"\n', "data holds a zero byte"),
        (b"data = " + b"[" * 9000, "is no TOML"),
        (b"epochs = " + b"9" * 9000, "is no TOML"),
        (b"#" * (2**20 + 1), "has more than 1 MB"),
    ],
)  # fmt: skip
def test_configurations_in_other_encodings(run, tmp_path, content, said):
    table(tmp_path / "t.csv")
    (tmp_path / "c.toml").write_bytes(content)
    status, _, err = run("train", "--config", "c.toml", *QUICK, "--out", "run")
    if said is None:
        assert status == 0, err
    else:
        assert status in (1, 2)
        assert said in err
        assert "c.toml" in err


NAMES = {
    "missing": "no\x1b[31m\n.csv", "long": "n" * 300, "folder": "folder", "dangling": "dangling", "loop": "loop",
    "bytes": os.fsdecode(b"\xff.csv"), "below a file": "t.csv/x",
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not have")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_files_in_any_form(run, tmp_path, name):
    """Every argument that names a file: an error in one line, in which the name is."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    table(tmp_path / "t.csv")
    for command in (
        ("train", name, "--target", "kind"),
        ("train", "--config", name),
        ("train", "--resume", name),
        ("predict", name, "t.csv"),
        ("evaluate", name, "t.csv"),
        ("show", name),
        ("plot", name),
        ("bench", "show", name),
    ):
        status, out, err = run(*command)
        assert (status in (1, 2), out) == (True, ""), (command, err)
        assert err.startswith("Error: "), (command, err)
        assert err.count("\n") == 1, (command, err)
        assert "nnx failed" not in err, (command, err)
        assert repr(name)[1:-1] in err, (command, err)


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not have")
def test_the_folder_of_a_run_on_a_file_with_the_longest_name(run, tmp_path):
    name = "é" * 127
    table(tmp_path / name)
    status, _, err = run("train", name, "--target", "kind", *QUICK)
    assert status == 0, err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["é" * 100 + "-1"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_files_whose_names_are_no_text(run, tmp_path):
    name = os.fsdecode(b"\xff\n\x1b[31m.csv")
    table(tmp_path / name)
    table(tmp_path / "t.csv")
    assert run("train", "t.csv", "--target", "kind", *QUICK, "--out", "model")[0] == 0
    for command in ("predict", "evaluate"):
        status, out, err = run(command, "model", name, "--backend", "numpy")
        assert status == 0, err
        assert "\x1b" not in out + err
    status, _, err = run("train", name, "--target", "kind", *QUICK)  # whose configuration is in UTF-8
    assert (status, err.count("\n")) == (2, 1), err
    assert "is not UTF-8" in err
    assert not (tmp_path / "runs").exists()
