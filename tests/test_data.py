"""Reading data, generating it, and preparing it."""

import gzip
import io
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import nnx
from nnx.data import builtin, files, generated, idx, memory, tables
from nnx.data.builtin import BUILTIN, BUNDLED, load
from nnx.data.dialect import Dialect
from nnx.data.prepare import Preparation
from nnx.data.source import Samples
from nnx.data.splits import split
from nnx.data.task import find_task

polars = pytest.importorskip("polars", reason="the command line's readers (extra cli) are not installed")


def write_idx(path, array, code=0x08):
    data = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    data += array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def raises(*fragments):
    return pytest.raises(nnx.InputError, match="(?s)" + ".*".join(fragments))


@pytest.mark.parametrize("name", generated.GENERATED)
def test_generated_data(name):
    make = generated.GENERATED[name]
    X, Y = make(301, seed=1)
    assert X.shape == (2, 301)
    assert Y.shape == (301,)
    assert set(Y.tolist()) == set(range(Y.max() + 1))
    assert np.bincount(Y).min() > 301 / (Y.max() + 1) * 0.8
    np.testing.assert_array_equal(X, make(301, seed=1)[0])
    assert (X != make(301, seed=2)[0]).any()
    trainer = nnx.Trainer(nnx.mlp([2, Y.max() + 1], output="softmax"), nnx.Adam(0.05), backend="numpy")
    trainer.fit(X, Y, epochs=200)
    assert trainer.evaluate(X, Y)["accuracy"] < 0.95  # no line separates them


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_data(name):
    if name in BUNDLED:
        pytest.importorskip("sklearn")
    samples = load(name).training(None, ())
    assert samples.X.shape == (len(samples.y), len(samples.features))
    assert find_task(samples, "auto") == ("regression" if name == "diabetes" else "classification")


@pytest.mark.parametrize("where", ["in its file", "wherever scikit-learn has them"])
def test_digits_are_those_of_scikit_learn(monkeypatch, where):
    datasets = pytest.importorskip("sklearn.datasets")
    if where != "in its file":
        monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    bunch, digits = datasets.load_digits(), load("digits")
    np.testing.assert_array_equal(digits.X, bunch.data)
    np.testing.assert_array_equal(digits.y, bunch.target)
    assert [*digits.names] == bunch.feature_names
    assert digits.image_shape == bunch.images.shape[1:]


CSV = "width,height,count,kind\n1.5,2,3,cat\n2.5,3,4,dog\n3.5,4,5,cat\n"


@pytest.fixture(params=["csv", "csv.gz", "semicolons", "parquet"])
def table(request, tmp_path):
    path = tmp_path / "pets.data"  # the content decides, not the name
    if request.param == "csv":
        path.write_text(CSV)
    elif request.param == "csv.gz":
        path.write_bytes(gzip.compress(CSV.encode()))
    elif request.param == "semicolons":
        path.write_text(CSV.replace(",", ";"))
    else:
        polars.read_csv(CSV.encode()).write_parquet(path)
    return path


def test_tables(table):
    samples = files.read(table).training("kind", ["count"])
    assert samples.features == ["width", "height"]
    np.testing.assert_array_equal(samples.X, [[1.5, 2], [2.5, 3], [3.5, 4]])
    assert samples.y.tolist() == ["cat", "dog", "cat"]
    with raises("Give --target COLUMN, one of: width, height, count, kind"):
        files.read(table).training(None, ())
    with raises("no column 'sort'; its columns are: width, height, count, kind"):
        files.read(table).training("sort", ())
    with raises("no column 'weight'"):
        files.read(table).training("kind", ["weight"])
    with raises("no feature left beside"):
        files.read(table).training("kind", ["width", "height", "count"])


def test_tables_to_predict_on(table):
    values = files.read(table).values(["count", "width"], named=True)  # in the model's order
    np.testing.assert_array_equal(values, [[3, 1.5], [4, 2.5], [5, 3.5]])
    with raises("lacks the column 'age'", "it has the columns 'width'"):
        files.read(table).values(["age", "width"], named=True)


def zipped(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(name, "<xml/>")
    return file.getvalue()


UNREADABLE = {
    b"": "is empty",
    b"\n\n": "nothing but blank lines",
    b"a,b\n": "has the names of columns, and no rows",
    b"1,2\n3,4\n": "names of the columns",
    b"\x89PNG\r\n\0\0": "is a PNG image, no table. It is none of CSV, Parquet",
    b"%PDF-1.4": "is a PDF document",
    b"\x93NUMPY": r"is a .npy file: save X and y in an \.npz",
    b"<!DOCTYPE html>": "is a web page",
    b"PAR1 but no more": "cannot be read as Parquet",
    b"PK\x03\x04 but no more": r"cannot be read as \.npz",
    zipped("data.csv"): r"is a zip file, but no \.npz: it holds data\.csv\. Unpack it first",
    zipped("[Content_Types].xml"): "is an Excel workbook .*: save its sheet as CSV",
    b"\x1f\x8b but no more": "cannot be read",
    gzip.compress(zipped("X.npy")): r"holds \.npz, gzipped; unpack it",
    b"a,b\n1,2\n3,4,5,6\n": "row 2 .*has more cells than the header has names: 4, and not 2",
    b"a,b\n1,2\n\n3\n": "row 2 .*has fewer cells than the header has names: 1, and not 2",
    b'a,b\n1,"x"\n3\n': "row 2 .*has fewer cells",
    b"a,b,a\n1,2,3\n": "has 2 columns named 'a'; rename all but one",
    "größe,b\n1,2\n".encode("latin-1"): "not in UTF-8",
    "a,b\n1,x\n2,größe\n".encode("latin-1"): r"not in UTF-8 \(row 2: '2,gr",
    "a,b\n1,x\n".encode("utf-16"): "is in UTF-16; save it in UTF-8",
    b"\0\0": "none of CSV",
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.items(), ids=UNREADABLE.values())
def test_what_cannot_be_read(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    for read in files.read, lambda path: list(files.pieces(path)):
        with raises(message):
            read(tmp_path / "file")


def test_a_quote_within_a_cell(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n6,2\n5" pipe,1\n7,3\n')
    assert files.read(tmp_path / "a.csv").frame.rows() == [("6", 2), ('5" pipe', 1), ("7", 3)]


def test_where_there_is_no_file(tmp_path):
    with raises("there is no file"):
        files.read(tmp_path / "file")
    with raises("is a folder"):
        files.read(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with raises("is no regular file; write what it gives to one"):
            files.read(tmp_path / "pipe")


def test_rows_that_never_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PIECE", 64)
    monkeypatch.setattr(tables, "LONGEST", 256)
    (tmp_path / "a.csv").write_text('a,b\n1,"x\n' + "2,y\n" * 200)
    with raises("row 1 of .* has more than 256 bytes; is a quote .* not closed\\? It begins with '1,\"x"):
        files.read(tmp_path / "a.csv")


READS = {
    "quoted": '"a","b","y"\n"1","2.5","x"\n"3","","z"\n',
    "spaces": "a, b, y\n1, 2.5, x\n3, NA, z\n",
    "CRLF and blank lines": "a,b,y\r\n1,2.5,x\r\n\r\n3,,z\r\n\r\n",
    "quotes and blank lines": 'a,b,y\n1,2.5,x\n\n3,,"z"\n',
    "BOM": "\ufeffa,b,y\n1,2.5,x\n3,NaN,z\n",
    "tabs": "a\tb\ty\n1\t2.5\tx\n3\t\tz",
    "leading zeros, signs": "a,b,y\n01,+2.5e0,x\n3,null,z\n",
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("piece", [4, 2**22])
def test_what_is_read_of_csv(tmp_path, monkeypatch, name, piece):
    monkeypatch.setattr(tables, "PIECE", piece)
    (tmp_path / "a.csv").write_bytes(READS[name].encode())
    frame = files.read(tmp_path / "a.csv").frame
    assert frame.rows() == [(1, 2.5, "x"), (3, None, "z")]
    assert [type(x) for x in frame.row(0)] == [int, float, str]


@pytest.mark.long
def test_a_first_line_of_any_reasonable_length(tmp_path):
    names = [f"column {j}" for j in range(9000)]
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + "1," * 8999 + "x\n")
    frame = files.read(tmp_path / "a.csv").frame
    assert frame.columns == names
    assert frame.row(0) == (*(1,) * 8999, "x")
    (tmp_path / "a.csv").write_text("prose " * 200_000 + "\n1\n")
    with raises("the first line of .* has more than 1 MB; is it CSV?"):
        files.read(tmp_path / "a.csv")


def test_decimal_commas(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a;b;y\n"1,5";x;1.234,5\n-2;"y, z";7,25\n3,0;x;1,0\n')
    frame = files.read(path, dialect=Dialect(decimal_comma=True)).frame
    assert frame.rows() == [(1.5, "x", 1234.5), (-2, "y, z", 7.25), (3, "x", 1)]
    with raises(r"a \(numbers such as '1,5': give --decimal-comma"):
        files.read(path).training("b", ["y"])
    with raises("the target 'y' of", "numbers such as '1.234,5': give --decimal-comma"):
        files.read(path).training("y", ())


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (
            ["1", "2", "x", "01"],
            ["1", "2", "x", "01"],
        ),  # text after all: what were numbers stays as it is written
        (["True", "false", "", "TRUE"], [True, False, None, True]),
        (["True", "false", "7", "1"], ["True", "false", "7", "1"]),
        (["", "", "2", "2.5"], [None, None, 2, 2.5]),
        (["", "", "", ""], [None, None, None, None]),
        (["9" * 20, "1", "2", "3"], [1e20, 1, 2, 3]),
    ],
)
def test_a_columns_type_is_that_of_all_its_pieces(tmp_path, monkeypatch, cells, rows):
    monkeypatch.setattr(tables, "PIECE", 4)
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{cell},1\n" for cell in cells))
    assert files.read(tmp_path / "a.csv").frame["a"].to_list() == rows


def test_what_has_no_name_is_called_as_pandas_calls_it(tmp_path):
    (tmp_path / "a.csv").write_text(",a,\n0,5,x\n1,6,y\n")
    assert files.read(tmp_path / "a.csv").frame.columns == ["Unnamed: 0", "a", "Unnamed: 2"]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_pieces_are_the_whole(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(tables, "PIECE", 100)
    monkeypatch.setattr(tables, "ROWS", 30)
    frame = polars.DataFrame(
        {"a": range(100), "b": ['x\n"y", z', "w;\n\nv", "café", None] * 25, "c": ["q", "r"] * 50}
    )
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        frame.write_parquet(path)
    else:
        text = frame.write_csv().encode()
        path.write_bytes(gzip.compress(text) if ending == "csv.gz" else text)
    pieces = list(files.pieces(path))
    assert len(pieces) >= 4
    assert [piece.first for piece in pieces] == [1, *np.cumsum([len(piece) for piece in pieces])[:-1] + 1]
    joined = polars.concat([piece.frame for piece in pieces])
    assert joined.with_columns(polars.col("a").cast(int)).rows() == frame.rows()
    assert files.read(path).frame.rows() == frame.rows()


def test_more_memory_than_there_is(tmp_path, monkeypatch):
    """With a limit made small, in place of a file made large."""
    path = tmp_path / "a.csv"
    path.write_text("a,b,y\n" + "1.5,2.5,x\n2.5,1.5,z\n" * 5000)
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 80_000)
    with raises(
        r"training on '.*a.csv' \(100 kB\) takes about \d+ kB of memory; 80 kB are available. Close other programs"
    ):
        files.read(path)
    assert sum(map(len, files.pieces(path))) == 10_000  # what is predicted is never in memory whole
    monkeypatch.setattr(memory, "available", lambda: None)  # nobody says how much there is
    samples = files.read(path).training("y", ())
    p = Preparation.learn(samples, "classification", np.arange(8000))
    monkeypatch.setattr(memory, "available", lambda: 100_000)
    with raises(
        r"X \(2 inputs, 10,000 samples\) takes about 160 kB of memory; 100 kB are available", "--drop"
    ):
        p.X(samples.X)
    assert p.X(samples.X, "float32").dtype == np.float32


def test_the_memory_available_is_some():
    assert memory.available() is None or memory.available() > 2**20


@pytest.mark.long
def test_a_large_file_is_read_in_little_memory(tmp_path):
    """Of 24 MB of CSV, in pieces of 1 MB, only some MB are in memory at once."""
    pytest.importorskip("resource", reason="Windows has no getrusage")
    path = tmp_path / "a.csv"
    path.write_text("a,b,c,y\n" + "0.12345,1.2345,2.345,cat\n" * 960_000)
    code = (
        "import resource, sys; from pathlib import Path; from nnx.data import files, tables; tables.PIECE = 2**20\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "list(zip(range(3), files.pieces(Path(sys.argv[1])))); before = peak()\n"
        "print(sum(len(piece) for piece in files.pieces(Path(sys.argv[1]))), peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    rows, grown = map(int, done.stdout.split())
    assert rows == 960_000
    assert grown * (1 if sys.platform == "darwin" else 1024) < 24e6


def test_npz(tmp_path, rng):
    path = tmp_path / "data.npz"
    X, y = rng.random((6, 2, 3)), np.arange(6) % 2
    np.savez(path, X=X, y=y)
    samples = files.read(path).training(None, ())
    np.testing.assert_array_equal(samples.X, X.reshape(6, 6))
    np.testing.assert_array_equal(samples.y, y)
    assert samples.target == "y"
    np.savez_compressed(path, pixels=X, kind=y)
    assert files.read(path, "kind").training("kind", ()).X.shape == (6, 6)
    with raises("no array 'sort'; its arrays are: pixels"):
        files.read(path, "sort")
    with raises("which array"):
        files.read(path)
    np.savez(path, X=X)
    with raises("no targets to learn"):
        files.read(path).training(None, ())
    np.savez(path, X=X, y=y[:3])
    with raises(r"have shape \(3,\); expected \(6,\)"):
        files.read(path)
    np.savez(path, X=X.reshape(6, 6)[:, :5].T, y=y)
    with raises("samples are rows in a file: save X.T"):
        files.read(path)
    np.savez(path, X=X, y=np.array([b"a", b"b"] * 3))
    assert files.read(path).y.tolist() == ["a", "b"] * 3
    for no_letter in (0xD800, 0x7FFFFFFF):
        np.savez(path, X=X, y=np.full(6, no_letter, np.uint32).view("U1"))
        with raises("the targets 'y' of .*data.npz' hold text that is not in UTF-8"):
            files.read(path)
    np.savez(path, X=np.where(X > 0.9, np.nan, 1), y=y)
    with raises("missing or infinite numbers", f"{(X > 0.9).sum()}, the first"):
        files.read(path).training(None, ())
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("sheet.xml", "<xml/>")
    with raises("is a zip file, but no .npz: it holds sheet.xml"):
        files.read(path)
    np.savez(path, X=X.astype(str), y=y)
    with raises("expected numbers"):
        files.read(path)


def test_nothing_is_unpickled(tmp_path):
    """An object array in an .npz is a pickle, which could run code."""

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    np.savez(tmp_path / "data.npz", X=np.array([[Bomb()]], object), y=np.zeros(1))
    with raises("without unpickling"):
        files.read(tmp_path / "data.npz")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_finds_its_labels_by_mnists_custom(tmp_path, rng, ending):
    images = rng.integers(0, 256, (7, 4, 4)).astype("uint8")
    labels = np.arange(7).astype("uint8")
    path = tmp_path / f"t10k-images-idx3-ubyte{ending}"
    write_idx(path, images)
    with raises("no targets"):
        files.read(path).training(None, ())
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{ending}", labels)
    samples = files.read(path).training(None, ())
    np.testing.assert_array_equal(samples.X, images.reshape(7, 16))
    np.testing.assert_array_equal(samples.y, labels)
    write_idx(tmp_path / "other", labels[::-1])
    np.testing.assert_array_equal(files.read(path, str(tmp_path / "other")).y, labels[::-1])
    with raises("no file 'nowhere' with the labels"):
        files.read(path, "nowhere")
    lonely = tmp_path / "images-idx3"
    write_idx(lonely, images)
    with raises("--target FILE, would be in labels-idx1", "no targets to learn"):
        files.read(lonely).training(None, ())
    with raises("no features; give the file with the images"):
        files.read(tmp_path / f"t10k-labels-idx1-ubyte{ending}")


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (0xB, "i2"), (0xC, "i4"), (0xD, "f4"), (0xE, "f8")]
)
def test_idx_types(tmp_path, code, dtype):
    array = np.array([[1, 2, 3], [-4, 5, 6]]).astype(dtype)
    write_idx(tmp_path / "x", array, code)
    found = idx.read_idx(tmp_path / "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)


def test_damaged_idx(tmp_path):
    path = tmp_path / "images-idx2"
    write_idx(path, np.zeros((3, 4), "uint8"))
    path.write_bytes(path.read_bytes()[:-1])
    with raises(r"truncated or damaged: it has 23 bytes; expected 24 for shape \(3, 4\)"):
        files.read(path)
    path.write_bytes(b"\0\0\x08\x03\0\0")
    with raises("truncated or damaged"):
        files.read(path)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\0")[:-4])
    with raises("cannot be read"):
        files.read(path)


def test_a_files_name_is_no_pattern(tmp_path):
    (tmp_path / "pets[1].csv").write_text(CSV)
    assert files.read(tmp_path / "pets[1].csv").training("kind", ()).y.tolist() == ["cat", "dog", "cat"]


def test_arrays_with_names_are_matched_by_them():
    flower = load("flower")
    with raises("lacks the columns 'a', 'b', which the model was trained on; it has the columns 'x1', 'x2'"):
        flower.values(["a", "b"], named=True)
    np.testing.assert_array_equal(flower.values(["x2", "x1"], named=True), flower.X[:, ::-1])
    np.testing.assert_array_equal(flower.values(["x2"], named=True), flower.X[:, 1:])
    with raises("has 2 features; the model was trained on 3$"):
        flower.values(["x0", "x1", "x2"], named=False)
    flower.names = None
    with raises("has 2 features; the model was trained on 1: the column 'a'"):
        flower.values(["a"], named=True)


def samples(X, y, **options):
    return Samples(
        np.asarray(X, float), np.asarray(y), [f"x{j}" for j in range(np.shape(X)[1])], "y", **options
    )


def test_tasks():
    X = np.ones((200, 1))

    def task(y, wish="auto"):
        return find_task(samples(X[: len(y)], y), wish)

    assert task(["a", "b"]) == "classification"
    assert task([True, False]) == "classification"
    assert task([0, 1, 1]) == "classification"
    assert task(np.arange(200)) == "regression"
    assert task([0.5, 1.5]) == "regression"
    assert task([0.0, 1.0, 1.0]) == "classification"  # as pandas makes them of integers with a gap
    assert task(np.arange(200) % 20) == "classification"
    assert task(np.arange(200) % 62) == "regression"  # ages, say
    assert task([0, 1, 1], "regression") == "regression"
    assert task([0.0, 1.0, 1.0], "classification") == "classification"
    with raises("unknown task 'clasification'"):
        task([0, 1], "clasification")
    with raises("holds text such as", "expected numbers"):
        task(["a", "b"], "regression")
    with raises("fractions such as 0.5"):
        task([0.5, 1], "classification")
    with raises("one class only"):
        task([3, 3])
    with raises("200 different values in 200 rows"):
        task([f"name {i}" for i in range(200)])
    with raises("holds datetime64"):
        task(np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"))
    with raises("NaN or infinite in 1 row, the first being row "):
        task([0.5, np.nan])


def test_the_split_keeps_the_classes_shares(rng):
    y = rng.permutation(np.repeat([0, 1, 2], [100, 40, 10]))
    s = samples(np.ones((150, 1)), y)
    train, held = split(s, "classification", 0.2, seed=3)
    np.testing.assert_array_equal(np.bincount(y[held]), [20, 8, 2])
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(150))
    assert (split(s, "classification", 0.2, seed=3)[1] == held).all()
    assert (split(s, "classification", 0.2, seed=4)[1] != held).any()
    assert len(split(s, "regression", 0.3, seed=0)[1]) == 45
    for wrong in (0, 1, -1, 20):
        with raises("held-out must be between 0 and 1"):
            split(s, "regression", wrong, 0)
    with raises("2 samples are too few"):
        split(samples(np.ones((2, 1)), [0, 1]), "classification", 0.01, 0)


def test_scaling_is_learned_from_the_training_set_alone():
    X = np.array([[1.0, 5], [3, 5], [1000, 5]])
    p = Preparation.learn(samples(X, [0, 1, 1]), "classification", np.array([0, 1]))
    np.testing.assert_allclose(p.X(X[:2]), [[-1, 1], [0, 0]])  # the constant feature: 0, not NaN
    again = Preparation.of({"preparation": p.describe()})
    assert again == p
    with raises("no description of its data"):
        Preparation.of({})


def test_features_too_large_to_scale():
    with raises("the feature 'x0' has numbers too large"):
        Preparation.learn(samples([[1e200], [-1e200]], [0, 1]), "classification", np.arange(2))


def test_decimal_targets_are_numbers(tmp_path):
    frame = polars.DataFrame({"a": [1.0, 2.0, 3.0], "price": ["1.50", "2.25", "9.99"]})
    frame.with_columns(polars.col("price").cast(polars.Decimal(10, 2))).write_parquet(tmp_path / "p.parquet")
    s = files.read(tmp_path / "p.parquet").training("price", ())
    np.testing.assert_allclose(s.y, [1.5, 2.25, 9.99])
    assert find_task(s, "auto") == "regression"


def test_features_of_one_unit_share_a_scale():
    X = np.array([[0.0, 0, 0], [0, 1, 100]])
    p = Preparation.learn(samples(X, [0, 1], one_unit=True), "classification", np.array([0, 1]))
    assert len(set(p.scale)) == 1


def test_labels_and_numbers():
    s = samples([[1], [2], [3]], ["b", "a", "c"])
    p = Preparation.learn(s, "classification", np.arange(3))
    assert (p.labels, p.output, p.n_outputs) == (["a", "b", "c"], "softmax", 3)
    np.testing.assert_array_equal(p.Y(s.y), [1, 0, 2])
    two = Preparation.learn(samples([[1], [2]], [7, 3]), "classification", np.arange(2))
    assert (two.labels, two.output, two.n_outputs) == ([3, 7], "sigmoid", 1)
    constant = Preparation.learn(samples([[1], [2]], [0.1, 0.1]), "regression", np.arange(2))
    np.testing.assert_allclose(constant.Y(np.array([0.1, 0.1])), [[0, 0]], atol=1e-12)
    numbers = Preparation.learn(samples([[1], [2]], [10.0, 30.0]), "regression", np.arange(2))
    assert (numbers.labels, numbers.output, numbers.n_outputs) == (None, "identity", 1)
    np.testing.assert_allclose(numbers.Y(np.array([10.0, 30.0])), [[-1, 1]])
