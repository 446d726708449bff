"""CSV as people have it: delimiters, first lines, names of columns, quotes; and predictions that are read back."""

import contextlib
import csv
import io
import json
import os
import re
import tomllib
import types

import numpy as np
import pytest

import nnx

for needed in ("typer", "rich", "polars", "sklearn", "matplotlib"):
    pytest.importorskip(needed, reason="the command line (extra cli) is not installed")

from nnx.data import files, header, memory, rows, tables  # noqa: E402  # after the skip
from nnx.data.dialect import Dialect  # noqa: E402

ROWS = [(0.5, 1.5, "x"), (2.5, -1.0, "y"), (1.0, 0.25, "x")]


def text(first, delimiter=",", rows=ROWS):
    return first + "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


def read(tmp_path, content, **how):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return files.read(path, dialect=Dialect(**how)).frame


def refusal(tmp_path, content, **how):
    """Return why a table is refused, whole and in pieces alike."""
    with pytest.raises(nnx.InputError) as found:
        read(tmp_path, content, **how)
    with pytest.raises(nnx.InputError) as again:
        list(files.pieces(tmp_path / "a.csv", dialect=Dialect(**how)))
    assert str(again.value) == str(found.value)
    return str(found.value)


NAMES = {
    ";": ['"Last, First, Middle";b;kind', ["Last, First, Middle", "b", "kind"]],
    "\t": ["length (cm), max\twidth (cm), max\tkind", ["length (cm), max", "width (cm), max", "kind"]],
    ",": ['"P(a|b)|c|d",b,kind', ["P(a|b)|c|d", "b", "kind"]],
    "|": ["a;b;c;d|e, f, g|kind", ["a;b;c;d", "e, f, g", "kind"]],
}


@pytest.mark.parametrize("delimiter", NAMES)
def test_the_delimiter_is_that_of_the_rows(tmp_path, delimiter):
    first, names = NAMES[delimiter]
    frame = read(tmp_path, text(f"{first}\n", delimiter))
    assert frame.columns == names
    assert frame.rows() == ROWS
    assert read(tmp_path, text(f"{first}\n", delimiter), delimiter=delimiter).equals(frame)


def test_a_delimiter_that_may_be_one_of_two_is_asked_for(tmp_path):
    content = "a,b;c,d\n1,2;3,4\n5,6;7,8\n"
    assert "the delimiter of " in (said := refusal(tmp_path, content))
    assert "may be , or ;" in said
    assert "--delimiter" in said
    assert read(tmp_path, content, delimiter=",").columns == ["a", "b;c", "d"]
    assert read(tmp_path, content, delimiter=";").columns == ["a,b", "c,d"]
    assert read(tmp_path, content, delimiter=";", decimal_comma=True).rows() == [(1.2, 3.4), (5.6, 7.8)]


@pytest.mark.parametrize("delimiter", [":", " ", "x", "§", "tab", r"\t"])
def test_any_character_may_be_the_delimiter(tmp_path, delimiter):
    between = "\t" if len(delimiter) > 1 else delimiter
    content = text(between.join(["a", "b", "kind"]) + "\n", between, [(1, 2.5, "q"), (3, 4.5, '"r, s"')])
    assert read(tmp_path, content, delimiter=delimiter).rows() == [(1, 2.5, "q"), (3, 4.5, "r, s")]


@pytest.mark.parametrize("delimiter", ["", '"', "\n", "\r", ",,", "\0", "comma"])
def test_what_is_no_delimiter(tmp_path, delimiter):
    with pytest.raises(
        nnx.InputError, match=r"delimiter must be one character .* given " + re.escape(repr(delimiter))
    ):
        read(tmp_path, text("a,b,kind\n"), delimiter=delimiter)


FIRST_LINES = {
    "sep=;": ["sep=;\n", ";"], "quoted sep": ['"sep=|"\r\n', "|"], "SEP of tabs": ["SEP=\t\n", "\t"],
    "a comment": ["# made by hand\n", ","], "comments, and blank lines": ["\n# made, by, x\n#\n\n# 2024\n\n", ";"],
    "a comment of as many cells": ["# height, width, what\n", ","], "a byte order mark": ["\ufeff", ","],
    "a byte order mark and sep": ["\ufeffsep=;\n", ";"], "blank lines": ["\n \n\r\n", ","],
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST_LINES)
def test_lines_before_the_names(tmp_path, name):
    before, delimiter = FIRST_LINES[name]
    frame = read(tmp_path, before + text(delimiter.join(["a", "b", "kind"]) + "\n", delimiter))
    assert frame.columns == ["a", "b", "kind"]
    assert frame.rows() == ROWS


def test_a_title_before_the_names_is_pointed_out(tmp_path):
    said = refusal(tmp_path, text("Report of 2024\na,b,kind\n"))
    assert "row 1 of" in said
    assert (
        "has more cells than the header has names: 3, and not 1. Are these the names: 'Report of 2024'?"
        in said
    )


HEADERS = {
    "brackets": ["[a],[b],[kind]", ["[a]", "[b]", "[kind]"]],
    "numbers in brackets": ["[1990],[1991],kind", ["[1990]", "[1991]", "kind"]],
    "years": ["2019,2020,kind", ["2019", "2020", "kind"]],
    "quoted numbers": ['"1","2","3"', ["1", "2", "3"]],
    "a number sign": ["#a,b,kind", ["#a", "b", "kind"]],
    "blanks": [' a ,\t"b",kind ', ["a", '"b"', "kind"]],
    "white space of other kinds": ["\x0ba\x0b,\x85b,\u2028kind", ["\x0ba\x0b", "\x85b", "\u2028kind"]],
    "quotes, ends of lines": ['"a ""1""","b\nc","k\r\nd,e"', ['a "1"', "b\nc", "k\r\nd,e"]],
    "quotes within": ['5" pipe,b "2",kind', ['5" pipe', 'b "2"', "kind"]],
    "none": [",b,", ["Unnamed: 0", "b", "Unnamed: 2"]],
    "patterns of polars": ["*,^.*$,^k", ["*", "^.*$", "^k"]],
    "as other formats begin": ["PAR1,BZh9,kind", ["PAR1", "BZh9", "kind"]],
    "long": ["a" * 70_000 + ",b,kind", ["a" * 70_000, "b", "kind"]],
    "any letters": ["größe,日本,😀", ["größe", "日本", "😀"]],
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_names_of_columns(tmp_path, name):
    first, names = HEADERS[name]
    content = text(f"{first}\n")
    assert read(tmp_path, content).rows() == ROWS
    table = files.read(tmp_path / "a.csv")
    assert table.frame.columns == names
    samples = table.training(names[2], ())
    assert samples.features == names[:2]
    np.testing.assert_array_equal(samples.X, [row[:2] for row in ROWS])
    assert samples.y.tolist() == ["x", "y", "x"]
    np.testing.assert_array_equal(table.values(names[1::-1], named=True), [(row[1], row[0]) for row in ROWS])


REFUSED = {
    "1990,1991\n1,2\n": "holds numbers .* add a first line with them, or put quotes around numbers that are names",
    "a,b,a\n1,2,3\n": r"has 2 columns named 'a'; rename all but one \(the columns 1, 3\)",
    'a,"b" c\n1,2\n': "the first line of .* cannot be read as CSV",
    'a,"b\n1,2\n': "the first line of .* cannot be read as CSV",
    'a,"b\0"\n1,2\n': "none of CSV",
    "a\n1\n\n2\n": "row 2 .* is a blank line, which may be a missing value",
    "a,b\n1,2\n3\n": "row 2 .* has fewer cells than the header has names: 1, and not 2. It begins with '3",
    "a,b\n1,2\n\n\n3,4\n5,6,7\n": "row 3 .* has more cells .* 3, and not 2. It begins with '5,6,7",
    'a,b\n1,2\n3,"x"y\n': r"row 2 .* has text behind a closing quote",
    'a,b\n1,2\n3,"x\n4,5\n': r"row 2 .* opens a quote \(\"\) that is not closed",
    "a,b\n1,2\n3,x\0y\n": "row 2 .* holds the character NUL",
    b"a,b\n1,2\n\n3,gr\xf6\xdfe\n5,6\n": r"is not in UTF-8 \(row 2: '3,gr",
    b'a,b\n1,"2\n2"\n3,gr\xf6\xdfe\n': r"is not in UTF-8 \(row 2: '3,gr",
    b"a,b\n1,2\n3,\xed\xa0\x80\n": r"is not in UTF-8 \(row 2",
    b"sep=\xff\na\xffb\n1\xff2\n": r"is not in UTF-8 \('sep=",
}  # fmt: skip


@pytest.mark.parametrize("content", REFUSED)
@pytest.mark.parametrize("piece", [3, 2**22])
def test_what_is_refused_names_the_row(tmp_path, monkeypatch, content, piece):
    monkeypatch.setattr(tables, "PIECE", piece)
    assert re.search(REFUSED[content], refusal(tmp_path, content), re.DOTALL)


def test_a_quote_that_is_not_closed_ends_the_reading(tmp_path, monkeypatch):
    """One piece of the file is looked at, once by each reader."""
    looked_at = []

    def noted(function, piece):
        def call(*arguments):
            looked_at.append(len(arguments[piece]))
            return function(*arguments)

        return call

    monkeypatch.setattr(rows, "plain", noted(rows.plain, 0))
    monkeypatch.setattr(rows._Lines, "_open", noted(rows._Lines._open, 1))
    assert "row 1 of" in (said := refusal(tmp_path, b'a,b,c\n1,2,"open\n' + b"1,2,some text\n" * 500_000))
    assert "has a cell of more than 131,072 characters; is a quote" in said
    assert "It begins with '1,2,\"open" in said
    assert len(looked_at) == 4  # the file is read twice: whole, and in pieces
    assert max(looked_at) <= tables.PIECE


class Copied(str):
    """A text that counts the characters that are copied from it."""

    __slots__ = ()
    characters = 0

    def __new__(cls, text):
        Copied.characters += len(text)
        return super().__new__(cls, text)

    def __getitem__(self, at):
        return Copied(super().__getitem__(at))

    def lstrip(self, *characters):
        return Copied(super().lstrip(*characters))


class Head(bytes):
    """The first bytes of a file, whose text is `Copied`."""

    __slots__ = ()

    def __getitem__(self, at):
        return Head(super().__getitem__(at))

    def decode(self, *how):
        return Copied(super().decode(*how))


def copies(content, monkeypatch):
    """Return how often the first bytes of a file are copied, or read as rows, until its names are known."""
    monkeypatch.setattr(Copied, "characters", 0)

    def lines(text, newline):
        Copied.characters += len(text)
        return io.StringIO(text, newline)

    with monkeypatch.context() as patched:
        patched.setattr(header, "io", types.SimpleNamespace(StringIO=lines))
        with contextlib.suppress(nnx.InputError):
            header.read_header("a", Head(content.encode()))
    return Copied.characters / len(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("c," * 600_000, "the first line of .* has more than 1 MB"),
        ("#\n" * 600_000, "the first 1 MB of .* holds comments alone"),
        ("[" * 1_200_000, "is JSON"),
    ],
)
def test_a_first_line_without_an_end_is_read_a_few_times(tmp_path, monkeypatch, content, expected):
    assert re.search(expected, refusal(tmp_path, content))
    assert 1 <= copies(content, monkeypatch) < 15


def test_many_comments_before_the_names(tmp_path, monkeypatch):
    content = "# by hand\n \n" * 50_000 + "  a,b\n1,2\n"
    assert read(tmp_path, content).columns == ["a", "b"]
    assert 1 <= copies(content, monkeypatch) < 15


LABELS = ['say "no", twice', "a\nb", "c\r\nd", "e\rf", "g;h\ti|j", "\x0bk\x85", "日本"]
"""What predictions must hold as it is."""


def train(run, tmp_path, *options):
    """Train on a table whose labels and target's name need quotes, whose delimiter is a colon."""
    rng = np.random.default_rng(0)
    X, k = rng.normal(size=(140, 2)).round(3), np.arange(140) % 7
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=":")
        writer.writerow(["a,b", 'c "d"', 'the\n"target"'])
        writer.writerows([*map(str, x), LABELS[i]] for x, i in zip(X + k[:, None], k, strict=True))
    how = ["--target", 'the\n"target"', "--epochs", 1, "--layers", 4, "--no-plots", "--backend", "numpy"]
    status, _, err = run("train", "t.csv", *how, "--out", "r", *options)
    assert status == 0, err
    return err


def test_the_delimiter_is_an_option_of_every_command_that_reads(run, tmp_path):
    train(run, tmp_path, "--delimiter", ":")
    assert tomllib.loads((tmp_path / "r" / "config.toml").read_text(encoding="utf-8"))["delimiter"] == ":"
    assert run("train", "--config", "r/config.toml", "--out", "again")[0] == 0
    status, out, _ = run("predict", "r", "t.csv", "--delimiter", ":")
    assert status == 0
    assert run("predict", "r", "-", "--delimiter", ":", stdin=(tmp_path / "t.csv").read_bytes())[1] == out
    assert run("evaluate", "r", "t.csv", "--delimiter", ":")[0] == 0
    for command in (
        ["train", "t.csv", "--target", "x"],
        ["predict", "r", "t.csv"],
        ["evaluate", "r", "t.csv"],
    ):
        status, _, err = run(*command, "--delimiter", "::")
        assert status == 2
        assert "delimiter must be one character" in err


def test_predictions_are_read_back_as_they_are(run, tmp_path, monkeypatch):
    """By Python's csv module, and by nnx itself."""
    train(run, tmp_path, "--delimiter", ":")
    status, out, err = run("predict", "r", "t.csv", "--delimiter", ":")
    assert status == 0, err
    first, *rows = csv.reader(io.StringIO(out, newline=""), strict=True)
    assert first == ['the\n"target"', *(f"P({label})" for label in sorted(LABELS))]
    assert len(rows) == 140
    assert {row[0] for row in rows} <= set(LABELS)
    assert all(sum(map(float, row[1:])) == pytest.approx(1, abs=1e-5) for row in rows)
    (tmp_path / "p.csv").write_bytes(out.encode())
    monkeypatch.setattr(tables, "PIECE", 50)
    frame = files.read(tmp_path / "p.csv").frame
    assert frame.columns == first
    assert frame[first[0]].to_list() == [row[0] for row in rows]
    assert frame.drop(first[0]).rows() == [tuple(map(float, row[1:])) for row in rows]


def test_an_error_after_rows_that_are_written_says_so(run, tmp_path, monkeypatch):
    from nnx.cli import predict

    train(run, tmp_path, "--delimiter", ":")
    (tmp_path / "new.csv").write_text('"a,b";"c ""d"""\n' + "1.5;2.5\n" * 100 + "3;4;5\n")
    monkeypatch.setattr(tables, "PIECE", 200)
    monkeypatch.setattr(predict, "at_once", lambda trainer: 10)
    status, out, err = run("predict", "r", "new.csv")
    assert status == 1
    written = len(list(csv.reader(io.StringIO(out, newline="")))) - 1
    assert 0 < written <= 100
    assert "row 101 of" in err
    assert f"The predictions of the first {written} rows are written" in err
    status, out, err = run("predict", "r", "new.csv", "--out", "p.csv")
    assert (status, out) == (1, "")
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_table_through_a_pipe_is_that_of_the_file(run, tmp_path, monkeypatch):
    train(run, tmp_path, "--delimiter", ":")
    monkeypatch.setattr(tables, "PIECE", 30)
    new = '# a comment\r\n"a,b";"c ""d""";e\r\n' + '1.5;2.5;"a\r\nb"\r\n\r\n;-1; 5" pipe\r\n' * 20
    (tmp_path / "new.csv").write_bytes(new.encode())
    status, expected, err = run("predict", "r", "new.csv")
    assert status == 0, err
    assert run("predict", "r", stdin=new.encode())[:2] == (0, expected)
    assert expected.count("\n") > 40


def test_thousands_of_classes_take_little_memory(run, tmp_path, monkeypatch):
    """No picture with a curve or a region for each, and no area under the ROC curve unless it is asked for and fits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 2)).round(2)
    lines = [f"{a},{b},c{k % 600}\n" for k, (a, b) in enumerate(X)]
    (tmp_path / "t.csv").write_text("a,b,kind\n" + "".join(lines))
    how = ["--target", "kind", "--epochs", 2, "--layers", 4, "--backend", "numpy", "--out", "r"]
    status, _, err = run("train", "t.csv", *how)
    assert status == 0, err
    drawn = {path.name for path in (tmp_path / "r").iterdir()}
    assert not drawn & {"roc.png", "decision_boundary.png", "decision_boundary.gif"}
    status, out, _ = run("evaluate", "r", "t.csv", "--json")
    assert status == 0
    assert "roc_auc" not in json.loads(out)
    status, out, _ = run("evaluate", "r", "t.csv", "--json", "--metrics", "roc_auc")
    assert 0 < json.loads(out)["roc_auc"] < 1
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 2_000_000)
    status, out, err = run("evaluate", "r", "t.csv", "--metrics", "roc_auc")
    assert (status, out) == (1, "")
    assert "the area under the ROC curve of 1,500 samples and 600 outputs takes about 7.2 MB of memory" in err


def test_a_name_that_is_too_long(tmp_path):
    said = refusal(tmp_path, text("a" * 200_000 + ",b,kind\n"))
    assert "the first line of " in said
    assert "has a name of more than 131,072 characters; is a quote" in said
