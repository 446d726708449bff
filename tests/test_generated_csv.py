"""CSV beside Python's csv module: odd tables, in small pieces, give the same cells or an error with the row."""

import csv
import gzip
import io
import random
import re

import pytest

import nnx

pytest.importorskip("polars", reason="the readers (extra cli) are not installed")

from nnx.data import files, tables  # after the skip
from nnx.data.dialect import Dialect
from nnx.data.header import BLANK

PLAIN = ["1", "2.5", "-3e2", "x", "red", "a b", "", "NA", "true", "é", "007", "1,5", "a;b", "c|d", "#1"]
ODD = [
    *PLAIN, " x ", "\ty", "", "", '"', '5" pipe', '0 "a" "b"', 'a"', '""', "\x0b", "\x0cz\x0c", "\x1c", "\x1d1",
    "2\x1e", "\x85", "u\u2028v", "\u2029", "\xa0w\xa0", "日本", "😀", "\ufeff", "'", "\\", '\\"', "\x00",
    "\x1a", "null", " NA", "$",
]  # fmt: skip
QUOTED = [
    *ODD,
    "a\nb",
    "c\r\nd",
    "e\rf",
    "g,h;i\tj|k",
    'say "no"',
    "\n",
    "\r",
    '"',
    '","',
    '"\n"',
    "l\n\n\nm",
]


def table(rng):
    """Return (a text, its delimiter, its number of columns) of one of four kinds, from plain to damaged."""
    kind = rng.choice(["plain", "quoted", "odd", "damaged"])
    n, m, delimiter = rng.choice([1, 2, 2, 3, 5]), rng.choice([1, 2, 5, 30]), rng.choice(",;\t|")
    ends = rng.choice([["\n"], ["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r"]])
    lines = [delimiter.join(f"c{j}" for j in range(n))]
    for _ in range(m):
        cells = []
        for _ in range(n + (kind == "damaged" and rng.random() < 0.02)):
            if kind == "plain":
                cell = rng.choice(PLAIN)
            elif kind == "quoted" or rng.random() < 0.2:
                cell = '"' + rng.choice(QUOTED).replace('"', '""') + '"'
            else:
                cell = rng.choice(ODD)
            inner = cell[1:-1] if cell[:1] == '"' else cell
            cells.append("" if delimiter in inner and cell == inner else cell)
        lines.append(delimiter.join(cells))
        if rng.random() < 0.05:
            lines.append("")
    text = "".join(line + rng.choice(ends) for line in lines)
    if kind == "damaged":
        at = rng.randrange(len(lines[0]) + 2, len(text) + 1)
        text = text[:at] + rng.choice(['"', "\n", "\r", delimiter, " ", ""]) + text[at + rng.choice([0, 1]) :]
    if rng.random() < 0.3:
        text = text.rstrip("\r\n")
    return text, delimiter, n


def cleaned(cell):
    """Return what the docs say of a cell: no blanks around it, and what means that there is no value."""
    cell = cell.strip(BLANK)
    return None if cell in tables.MISSING else cell


def expected(text, delimiter, n):
    """Return what Python's csv module reads, and the number of the first row that has other than n cells or a NUL.

    The number is that behind the last row where there is none such.
    """
    rows, wrong = [], None
    for row in list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]:
        blank = not row and n == 1
        if wrong is None and (blank or (row and (len(row) != n or "\0" in "".join(row)))):
            wrong = len(rows) + 1
        if row:
            rows.append([cleaned(cell) for cell in row])
    return rows, wrong


def read_or_refused(read):
    """Return what is read and an empty text, or None and why it is refused."""
    try:
        return read(), ""
    except nnx.InputError as error:
        return None, str(error)


def check_refusal(said, text, delimiter, rows, wrong):
    """Hold what is said of a table that is refused to what is wrong with it."""
    if "--delimiter" in said:
        return
    if not rows and wrong is None:
        assert "no rows" in said
        return
    number = int(re.search(r"row (\d+)", said)[1])
    assert wrong is None or number <= wrong
    if number != wrong:  # a strict reader refuses what the other one guesses
        with pytest.raises(csv.Error):
            list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def compare(path, text, delimiter, n, given):
    """Read a table in pieces and whole; return whether it was read, or refused."""
    rows, wrong = expected(text, delimiter, n)
    option = delimiter if given else None
    pieces, said = read_or_refused(lambda: list(files.pieces(path, dialect=Dialect(delimiter=option))))
    whole, said_of_the_whole = read_or_refused(
        lambda: files.read(path, dialect=Dialect(delimiter=option)).frame
    )
    assert said == said_of_the_whole
    if said:
        check_refusal(said, text, delimiter, rows, wrong)
        return False
    assert wrong is None
    assert [list(row) for piece in pieces for row in piece.frame.rows()] == rows
    firsts = [piece.first for piece in pieces]
    assert firsts == [1 + sum(map(len, pieces[:k])) for k in range(len(pieces))]
    assert whole.columns == [f"c{j}" for j in range(n)]
    for j, column in enumerate(whole.get_columns()):
        wanted = [row[j] for row in rows]
        if column.dtype.is_numeric():
            wanted = [None if cell is None else float(cell) for cell in wanted]
        elif str(column.dtype) == "Boolean":
            wanted = [None if cell is None else cell.lower() == "true" for cell in wanted]
        assert column.to_list() == wanted
    return True


def try_tables(seed, how_many, tmp_path, monkeypatch):
    """Compare so many tables, in pieces of all sizes; return how many were read."""
    rng = random.Random(seed)
    read = 0
    for k in range(how_many):
        text, delimiter, n = table(rng)
        monkeypatch.setattr(tables, "PIECE", rng.choice([1, 2, 3, 5, 8, 13, 40, 100, 1000]))
        data = text.encode()
        path = tmp_path / f"{k}.csv"
        path.write_bytes(gzip.compress(data, 1) if rng.random() < 0.1 else data)
        read += compare(path, text, delimiter, n, given=n == 1 or rng.random() < 0.7)
        path.unlink()
    return read


def test_some_tables(tmp_path, monkeypatch):
    assert 70 < try_tables(0, 200, tmp_path, monkeypatch) < 190


@pytest.mark.long
def test_many_tables(tmp_path, monkeypatch):
    assert 1200 < try_tables(1, 4000, tmp_path, monkeypatch) < 3600


def test_tables_through_a_pipe(tmp_path, monkeypatch):
    """As from a file, cut into the batches that are predicted at once."""
    pytest.importorskip("typer", reason="the command line (extra cli) is not installed")
    from nnx.cli import inputs

    rng, read = random.Random(2), 0
    for _ in range(100):
        text, delimiter, n = table(rng)
        monkeypatch.setattr(tables, "PIECE", rng.choice([1, 3, 8, 40, 1000]))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        size = rng.choice([1, 4, 7])
        how = {"size": size, "dialect": Dialect(delimiter=delimiter)}
        pieces, said = read_or_refused(lambda: list(inputs.pieces("-", **how)))  # noqa: B023
        rows, wrong = expected(text, delimiter, n)
        if said:
            assert "the standard input" in said
            check_refusal(said, text, delimiter, rows, wrong)
            continue
        assert wrong is None
        assert [list(row) for piece in pieces for row in piece.frame.rows()] == rows
        assert [len(piece) for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
        assert [piece.first for piece in pieces] == [1 + size * k for k in range(len(pieces))]
        read += 1
    assert 30 < read < 95
