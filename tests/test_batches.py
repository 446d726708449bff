"""Samples from files, sparse matrices, data frames and iterables, and reading ahead."""

import shutil
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnx
from nnx.array import host
from nnx.batches import Batches, file_sources, stream
from nnx.batches.iterated import Iterated
from nnx.batches.prefetch import prefetch
from nnx.batches.provide import provide
from nnx.batches.source import Rows, Source
from nnx.batches.sources import recognise
from nnx.batches.stream import Checks, Stream
from nnx.errors import InputError

N0, M = 3, 50
NUMPY = nnx.backend("numpy")


def features(name, X):
    X = host.as_numbers(name, X)
    if X.ndim != 2 or X.shape[0] != N0 or X.shape[1] == 0:
        raise InputError(f"{name} has shape {tuple(X.shape)}; expected ({N0}, m)")
    host.check_finite(name, X, "float32", "feature {0}, sample {1}")
    return X


def targets(name, Y, m):
    Y = host.as_host(host.as_numbers(name, Y))
    if Y.shape not in ((m,), (1, m)):
        raise InputError(f"{name} has shape {Y.shape}; expected ({m},)")
    host.check_finite(name, Y, "float32")
    return Y.reshape(1, m).astype("float32")


def weights(name, w, Y, m):
    if w is None or isinstance(w, dict):
        return w and np.array([w[int(y)] for y in Y[0]], "float32")
    if w.shape != (m,):
        raise InputError(f"{name} has shape {w.shape}; expected ({m},)")
    return w  # of any dtype


OPTIONS = {"checks": Checks(features, targets, weights), "dtype": "float32"}


def raises(*fragments, error=InputError):
    return pytest.raises(error, match="(?s)" + ".*".join(fragments))


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert [t for t in threading.enumerate() if t not in before and t.name == "nnx-prefetch"] == []


@pytest.fixture
def X(rng):
    return rng.standard_normal((N0, M)).astype("float32")


@pytest.fixture
def Y():
    return np.arange(M, dtype="float32").reshape(1, M)


def all_pieces(provider, skip=0, to_numpy=np.asarray):
    """Every piece of an epoch, as (X, Y, w, start, ends) on the host."""
    with closing(provider.epoch(skip)) as found:
        return [
            (*(None if x is None else np.array(to_numpy(x)) for x in batch), start, ends)
            for batch, start, ends in found
        ]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a[3:] == b[3:]
        for x, y in zip(a[:3], b[:3], strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)


# Where X comes from. Each takes (X, folder), and returns what is handed in, and what must be kept alive.


def mapped(order):
    def make(X, folder):
        x = np.memmap(folder / "x.bin", X.dtype, "w+", offset=24, shape=X.shape, order=order)
        x[:] = X
        x.flush()
        return np.memmap(folder / "x.bin", X.dtype, "r", offset=24, shape=X.shape, order=order)

    return make


def mapped_rows(X, folder):
    np.save(folder / "x.npy", np.ascontiguousarray(X.T))
    return np.load(folder / "x.npy", mmap_mode="r").T


def mapped_rows_wrapped(X, folder):
    return Rows(mapped_rows(X, folder).T)


def mapped_slice(X, folder):
    np.save(folder / "x.npy", np.concatenate([np.ones((7, N0), X.dtype), X.T, np.ones((2, N0), X.dtype)]))
    return np.load(folder / "x.npy", mmap_mode="r")[7:-2].T


def mapped_some_columns(X, folder):
    np.save(
        folder / "x.npy", np.concatenate([np.ones((M, 2), X.dtype), X.T, np.ones((M, 1), X.dtype)], axis=1)
    )
    return np.load(folder / "x.npy", mmap_mode="r")[:, 2:-1].T


def mapped_every_third(X, folder):
    np.save(folder / "x.npy", np.repeat(X.T, 3, axis=0))
    return np.load(folder / "x.npy", mmap_mode="r")[::3].T


def mapped_backwards(X, folder):
    np.save(folder / "x.npy", np.ascontiguousarray(X.T[::-1]))
    return np.load(folder / "x.npy", mmap_mode="r")[::-1].T


def mapped_far(X, folder):
    """Behind the first of the pages that a mapping begins at."""
    (folder / "x.bin").write_bytes(bytes(300_001) + X.T.tobytes())
    return np.memmap(folder / "x.bin", X.dtype, "r", offset=300_001, shape=(M, N0)).T


def mapped_big_endian(X, folder):
    np.save(folder / "x.npy", X.T.astype(">f4"))
    return np.load(folder / "x.npy", mmap_mode="r").T


def mapped_own_changes(X, folder):
    np.save(folder / "x.npy", np.zeros((M, N0), X.dtype))
    x = np.load(folder / "x.npy", mmap_mode="c")
    x[:] = X.T  # in memory alone
    return x.T


def mapped_without_a_name(X, folder):
    with (folder / "x.bin").open("wb+") as file:
        file.write(X.T.tobytes())
        file.flush()
        x = np.memmap(file, X.dtype, "r", shape=(M, N0)).T
    (folder / "x.bin").unlink()
    return x


def hdf5(**options):
    def make(X, folder):
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("some/x", data=X.T, **options)
        return Rows(h5py.File(folder / "x.h5")["some/x"])

    return make


def hdf5_columns(X, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = X
    return h5py.File(folder / "x.h5")["x"]


def zarr(version, rows=True):
    def make(X, folder):
        zarr = pytest.importorskip("zarr")
        x = X.T if rows else X
        format = {"zarr_format": version} if zarr.__version__ >= "3" else {}
        made = zarr.open_array(
            str(folder / "x.zarr"), mode="w", shape=x.shape, chunks=(7, 2), dtype=x.dtype, **format
        )
        made[:] = x
        made = zarr.open_array(str(folder / "x.zarr"), mode="r")
        return Rows(made) if rows else made

    return make


def sparse(kind, rows=False):
    def make(X, folder):
        scipy_sparse = pytest.importorskip("scipy.sparse")
        x = getattr(scipy_sparse, kind)(X.T if rows else X)
        return Rows(x) if rows else x

    return make


LAZY = {
    "memmap, C order": mapped("C"),
    "memmap, F order": mapped("F"),
    "memmap, rows": mapped_rows,
    "memmap, Rows": mapped_rows_wrapped,
    "memmap, slice": mapped_slice,
    "memmap, some columns": mapped_some_columns,
    "memmap, every third": mapped_every_third,
    "memmap, backwards": mapped_backwards,
    "memmap, far": mapped_far,
    "memmap, big-endian": mapped_big_endian,
    "memmap, own changes": mapped_own_changes,
    "memmap, no file name": mapped_without_a_name,
    "hdf5": hdf5(),
    "hdf5, chunks": hdf5(chunks=(8, 2), compression="gzip"),
    "hdf5, columns": hdf5_columns,
    "zarr 2": zarr(2),
    "zarr 3": zarr(3),
    "zarr 3, columns": zarr(3, rows=False),
    "csr array": sparse("csr_array"),
    "csc matrix": sparse("csc_matrix"),
    "coo array, rows": sparse("coo_array", rows=True),
}


def needing(name, made):
    """Return a parameter that is left out where the library that its name begins with is absent."""
    library = {"hdf5": "h5py", "zarr": "zarr"}.get(name.split()[0].rstrip(","))
    return pytest.param(made, id=name, marks=pytest.mark.needs(library) if library else ())


@pytest.fixture(params=[needing(name, made) for name, made in LAZY.items()])
def lazy(request, X, tmp_path):
    """What holds X, in every way that nnx reads piece by piece."""
    X[np.abs(X) < 0.3] = 0
    made = request.param(X, tmp_path)
    yield made
    file = getattr(made.x if isinstance(made, Rows) else made, "file", None)
    if file is not None and hasattr(file, "close"):
        file.close()


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "numbers"),
    [(8, None, 2**22), (8, 3, 60), (8, 3, 20), (None, None, 60), (None, 9, 60), (7, None, 1)],
)
def test_a_stream_gives_the_batches_of_an_array(lazy, X, Y, batch_size, micro_batch, numbers, monkeypatch):
    monkeypatch.setattr(stream, "NUMBERS", numbers)
    monkeypatch.setattr(file_sources, "SPAN", 100)
    source = recognise("X", lazy)
    assert isinstance(source, Source)
    assert (source.shape, source.m) == ((N0, M), M)
    w = np.arange(M, dtype="float32")
    found = Stream(NUMPY, source, Y, w, batch_size, None, micro_batch, **OPTIONS)
    expected = Batches(NUMPY, X, Y, w, batch_size, None, micro_batch)
    assert (found.m, found.steps, len(found)) == (M, expected.steps, len(expected))
    for skip in (0, 2):
        assert_same(all_pieces(found, skip), all_pieces(expected, skip))


def test_a_stream_on_every_backend(backend, X, Y, tmp_path):
    stream = Stream(
        backend, recognise("X", mapped_rows(X.astype("float64"), tmp_path)), Y, None, 16, None, 5, **OPTIONS
    )
    expected = Batches(backend, backend.asarray(X), backend.asarray(Y), None, 16, None, 5)
    assert_same(all_pieces(stream, 0, backend.to_numpy), all_pieces(expected, 0, backend.to_numpy))
    shuffled = Stream(
        backend, recognise("X", mapped_rows(X, tmp_path)), Y, None, 16, np.random.default_rng(0), **OPTIONS
    )
    found = all_pieces(shuffled, 0, backend.to_numpy)
    on_numpy = Stream(
        NUMPY, recognise("X", mapped_rows(X, tmp_path)), Y, None, 16, np.random.default_rng(0), **OPTIONS
    )
    assert_same(found, all_pieces(on_numpy))


def test_batches_draw_as_they_always_did(backend, X, Y):
    w = np.arange(M, dtype="float32")
    given = [backend.asarray(x) for x in (X, Y, w)]
    batches = Batches(backend, *given, batch_size=16, rng=np.random.default_rng(5), micro_batch=6)
    rng = np.random.default_rng(5)
    for _ in range(2):
        order = rng.permutation(M)
        found = all_pieces(batches, 0, backend.to_numpy)
        assert [(start, ends) for *_, start, ends in found] == [(0, False), (6, False), (12, True)] * 3 + [
            (0, True)
        ]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in found], axis=1), X[:, order])
        np.testing.assert_array_equal(np.concatenate([p[1] for p in found], axis=1), Y[:, order])
        np.testing.assert_array_equal(np.concatenate([p[2] for p in found]), w[order])


def test_the_order_is_drawn_when_the_epoch_is_asked_for(X, Y, tmp_path):
    """Not in the thread: what the trainer's generator has drawn depends on no timing."""
    for x in (X, mapped_rows(X, tmp_path)):
        rng = np.random.default_rng(0)
        provider = provide(NUMPY, x, Y, None, 8, rng, **OPTIONS)
        before = rng.bit_generator.state
        with closing(provider.epoch()) as epoch:
            drawn = rng.bit_generator.state
            assert drawn != before
            list(epoch)
            assert rng.bit_generator.state == drawn


class Counting(Source):
    """An array as a source that keeps what was read."""

    where = "a test"

    def __init__(self, X):
        self.X, self.shape, self.reads = X, X.shape, []

    def read(self, start, stop):
        self.reads.append((start, stop))
        return self.X[:, start:stop]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 70),
    st.none() | st.integers(1, 30),
    st.integers(1, 200),
    st.integers(0, 8),
)
def test_a_shuffled_stream(m, batch_size, micro_batch, numbers, skip):
    """Every sample once, in steps of whole batches, blocks in one piece; skipping leaves out the first steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "NUMBERS", numbers)
        X = np.arange(N0 * m, dtype="float32").reshape(m, N0).T
        source = Counting(X)

        def new():
            rng = np.random.default_rng(3)
            return Stream(NUMPY, source, np.arange(m), None, batch_size, rng, micro_batch, ahead=0, **OPTIONS)

        stream_ = new()
        found = all_pieces(stream_)
        order = np.concatenate([Yb[0] for _, Yb, *_ in found]).astype(int)
        np.testing.assert_array_equal(np.sort(order), np.arange(m))
        np.testing.assert_array_equal(np.concatenate([p[0] for p in found], axis=1), X[:, order])
        at = steps = 0
        for Xb, *_, start, ends in found:
            assert start == at
            at = 0 if ends else at + Xb.shape[1]
            steps += ends
            assert Xb.shape[1] <= (micro_batch or batch_size)
        assert (at, steps) == (0, len(stream_))
        if len(stream_) > 1:
            reads = sorted(source.reads)
            assert [0, *(stop for _, stop in reads)] == [*(start for start, _ in reads), m]
            assert max(stop - start for start, stop in reads) * N0 <= max(numbers, batch_size * N0)
        ends = [i for i, piece in enumerate(found, 1) if piece[4]]
        assert_same(all_pieces(new(), skip), found[([0, *ends])[min(skip, len(ends))] :])


def test_a_shuffled_stream_is_another_in_every_epoch_and_the_same_for_a_seed(X, Y, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "NUMBERS", 16 * N0)
    X = recognise("X", mapped_rows(X, tmp_path))

    def orders(seed):
        shuffled = Stream(NUMPY, X, Y, None, 8, np.random.default_rng(seed), **OPTIONS)
        return [np.concatenate([p[1][0] for p in all_pieces(shuffled)]).tolist() for _ in range(3)]

    first = orders(0)
    assert first == orders(0)
    assert first != orders(1)
    assert len({tuple(order) for order in first}) == 3
    for order in first:  # blocks of 16, the ragged one among them, shuffled within
        blocks = [
            np.array(order)[order.index(next(i for i in order if i // 16 == block)) :] for block in range(4)
        ]
        assert all(
            sorted(b[: min(16, M - 16 * k)]) == [*range(16 * k, min(16 * k + 16, M))]
            for k, b in enumerate(blocks)
        )


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix"])
def test_a_sparse_matrix_is_shuffled_as_an_array(kind, X, Y, tmp_path):
    X[X < 0.5] = 0
    x = recognise("X", sparse(kind)(X, tmp_path))
    for skip in (0, 3):
        found = Stream(NUMPY, x, Y, None, 8, np.random.default_rng(7), 3, **OPTIONS)
        expected = Batches(NUMPY, X, Y, None, 8, np.random.default_rng(7), 3)
        for _ in range(2):
            assert_same(all_pieces(found, skip), all_pieces(expected, skip))


def test_arrays_that_stay_on_the_host(backend, X, Y):
    w = np.ones(M, "float32")
    for rng in (lambda: None, lambda: np.random.default_rng(7)):
        found = provide(backend, X, Y, w, 8, rng(), 3, resident=False, **OPTIONS)
        expected = provide(backend, X, Y, w, 8, rng(), 3, **OPTIONS)
        assert (type(found), type(expected)) == (Stream, Batches)
        assert_same(all_pieces(found, 1, backend.to_numpy), all_pieces(expected, 1, backend.to_numpy))


# Y and w


def test_targets_and_weights_that_are_read_too(X, Y, tmp_path):
    h5py = pytest.importorskip("h5py")
    w = np.arange(M) / 2
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["x"], file["y"], file["w"], file["labels"] = X.T, Y.T, w, Y[0].astype("int64")
    expected = all_pieces(Batches(NUMPY, X, Y, w.astype("float32"), 8))
    classes = {k: k / 2 for k in range(M)}
    with h5py.File(tmp_path / "all.h5") as file:
        x, y = Rows(file["x"]), Rows(file["y"])
        for targets, weights in (
            (y, file["w"]),
            (file["labels"], w),
            (Y, file["w"]),
            (y, w.tolist()),
            (y, classes),
        ):
            provider = provide(NUMPY, x, targets, weights, 8, **OPTIONS)
            assert isinstance(provider, Stream)
            assert_same(all_pieces(provider), expected)
        in_memory = provide(NUMPY, X, y, file["w"], 8, **OPTIONS)
        assert isinstance(in_memory, Batches)
        assert_same(all_pieces(in_memory), expected)
        for shuffled in ((y, file["w"]), (Y, None)):
            provider = provide(NUMPY, x, *shuffled, 8, np.random.default_rng(0), **OPTIONS)
            for Xb, Yb, wb, *_ in all_pieces(provider):
                np.testing.assert_array_equal(Xb, X[:, Yb[0].astype(int)])
                assert wb is None or (wb == Yb[0] / 2).all()
        with raises(r"Y has shape \(50,\); expected 40 samples, as X has"):
            provide(NUMPY, Rows(file_sources.Dataset(x.x[:40], "", True, str)).x, file["labels"], **OPTIONS)
        with raises(r"w has shape \(3,\); expected 50 samples"):
            provide(NUMPY, x, y, [1, 2, 3], **OPTIONS)


def test_a_sparse_matrix_with_targets_that_are_read(X, Y, tmp_path):
    np.save(tmp_path / "y.npy", Y[0])
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    x = sparse("csr_array")(X, tmp_path)
    rngs = [np.random.default_rng(7), np.random.default_rng(7)]
    found = provide(NUMPY, x, y, None, 8, rngs[0], **OPTIONS)
    assert_same(all_pieces(found), all_pieces(Batches(NUMPY, X, Y, None, 8, rngs[1])))


def test_weights_of_a_part_and_of_the_whole(X, Y, tmp_path):
    """Where Y is never seen as a whole, what weighs it is told so."""
    np.save(tmp_path / "y.npy", Y)
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    checks = Checks(
        features, targets, lambda name, w, Y, m: np.full(m, 1.0), lambda name, w, Y, m: np.full(m, 2.0)
    )

    def weight(*given):
        return {
            float(w)
            for _, _, wb, *_ in all_pieces(provide(NUMPY, *given, checks=checks, dtype="float32"))
            for w in wb
        }

    assert weight(X, Y) == weight(X, y) == weight(mapped_rows(X, tmp_path), Y) == {1}
    assert weight(mapped_rows(X, tmp_path), y) == weight([(X, Y)]) == {2}


def test_features_alone(X, tmp_path):
    """For predictions: no Y, no w."""
    found = Stream(NUMPY, recognise("X", mapped_rows(X, tmp_path)), None, batch_size=20, **OPTIONS)
    np.testing.assert_array_equal(np.concatenate([p[0] for p in all_pieces(found)], axis=1), X)
    assert all(p[1] is None and p[2] is None for p in all_pieces(found))


# Data frames


def frames():
    return [
        ("pandas", lambda p: p.DataFrame, lambda p: p.Series),
        ("polars", lambda p: p.DataFrame, lambda p: p.Series),
    ]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_hold_samples_as_rows(library, X, Y):
    frame = pytest.importorskip(library)
    x = frame.DataFrame({"a": X[0], "b": X[1].astype("float64"), "c": np.arange(M, dtype="int8")})
    y = frame.Series(np.arange(M))
    X = np.stack([X[0], X[1], np.arange(M)]).astype("float32")
    expected = all_pieces(Batches(NUMPY, X, Y, None, 8))
    for samples in (x, Rows(x)):
        provider = provide(NUMPY, samples, y, None, 8, **OPTIONS)
        assert isinstance(provider, Batches)
        assert_same(all_pieces(provider), expected)
    np.testing.assert_array_equal(recognise("Y", x[["a"]]), X[:1])  # several outputs


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_that_holds_no_numbers_is_named(library):
    frame = pytest.importorskip(library)
    x = frame.DataFrame({"a": [1.0, 2.0], "colour": ["red", "blue"]})
    with raises("X, column 'colour', holds", "such as 'red'", "expected numbers"):
        recognise("X", x)
    with raises("Y, column 'colour', holds", r"numpy\.unique"):
        recognise("Y", x["colour"])


def test_missing_numbers_are_nan_and_so_refused():
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(
        {"a": pandas.array([1, None], dtype="Int64"), "b": pandas.array([True, False]), "c": [1, 2]}
    )
    np.testing.assert_array_equal(recognise("X", x), [[1, np.nan], [1, 0], [1, 2]])
    polars = pytest.importorskip("polars")
    x = polars.DataFrame({"a": [1, None], "b": [True, False]})
    np.testing.assert_array_equal(recognise("X", x), [[1, np.nan], [1, 0]])
    with raises("LazyFrame", r"X\.collect\(\)"):
        recognise("X", x.lazy())


# What is refused


def test_what_is_no_array_is_refused_with_what_to_do(X, tmp_path):
    h5py = pytest.importorskip("h5py")
    with raises("X is a NpzFile that holds 'x', 'y'; hand in one of them"):
        np.savez(tmp_path / "all.npz", x=X, y=X)
        with np.load(tmp_path / "all.npz") as file:
            recognise("X", file)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["images"] = X, np.ones((4, 2, 2))
        dataset = file["x"]
        with raises("X is a File that holds 'images', 'x'"):
            recognise("X", file)
        with raises(r"X has shape \(4, 2, 2\); expected two axes"):
            recognise("X", Rows(file["images"]))
    with raises("X is of an HDF5 file that is closed"):
        recognise("X", dataset)
    for made in ((x for x in [X]), lambda: iter([X])):
        with raises("X is a (generator|function). Batches, each .* are handed in alone, without Y"):
            recognise("X", made)
    with raises(r"X has shape \(50, 1\); expected \(3, m\)", r"\(n\[0\], m\) = \(50, 3\)", r"nnx\.Rows\(X\)"):
        provide(NUMPY, mapped_rows(X, tmp_path).T, np.ones(M), **OPTIONS)
    with raises(r"X is a sparse matrix, with \(n\[0\], m\) = \(50, 3\)", r"nnx\.Rows\(X\)"):
        provide(NUMPY, sparse("csr_array")(X.T, tmp_path), np.ones(3), **OPTIONS)
    with raises("X, sample 0 holds numbers|X, sample 0 holds complex"):
        provide(NUMPY, sparse("csr_array")(X.astype(complex), tmp_path), np.ones(M), **OPTIONS)
    with raises("steps=3 is given with X and Y", "batch_size"):
        provide(NUMPY, X, np.ones(M), steps=3, **OPTIONS)


def test_what_is_read_is_checked_where_it_is_read(X, Y, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "NUMBERS", 16 * N0)
    X[1, 37] = np.nan
    with raises("the validation's X, samples 32 to 47 has 1 value that .* NaN", "sample 5"):
        all_pieces(provide(NUMPY, mapped_rows(X, tmp_path), Y, None, 8, whose="the validation's ", **OPTIONS))
    Y[0, 17] = np.inf
    np.save(tmp_path / "y.npy", Y)
    with raises("Y, samples 16 to 31 has 1 value"):
        all_pieces(
            provide(
                NUMPY,
                mapped_rows(X, tmp_path),
                np.load(tmp_path / "y.npy", mmap_mode="r"),
                None,
                8,
                **OPTIONS,
            )
        )
    with raises("^Y has 1 value"):  # in memory: at once
        provide(NUMPY, mapped_rows(X, tmp_path), Y, None, 8, **OPTIONS)
    with raises("^X, sample 37 has 1 value"):
        provide(NUMPY, sparse("csr_array")(X, tmp_path), Y, None, 8, **OPTIONS)


# Files that are cut while they are read


@pytest.mark.parametrize(
    "make", [mapped("F"), mapped("C"), mapped_rows, mapped_some_columns, mapped_backwards]
)
def test_a_mapped_file_that_is_cut_is_an_error_and_no_crash(make, Y, tmp_path, monkeypatch):
    """The file loses its second half, pages of it, between two blocks."""
    X = np.ones((N0, 4 * 4096), "float32")
    monkeypatch.setattr(stream, "NUMBERS", 4096 * N0)
    provider = provide(
        NUMPY, make_big(make, X, tmp_path), np.ones(X.shape[1]), None, 4096, ahead=0, **OPTIONS
    )
    path = next(tmp_path.iterdir())
    size = path.stat().st_size
    with raises(r"samples \d+ to \d+ of '.*x\.(npy|bin)' cannot be read: expected [\d,]+ bytes in the file, found "
                f"{size // 2:,}; it was cut"), closing(provider.epoch()) as epoch:  # fmt: skip
        next(epoch)
        with path.open("rb+") as file:
            file.truncate(size // 2)
        list(epoch)


def make_big(make, X, folder):
    global M
    before, M = M, X.shape[1]
    try:
        return make(X, folder)
    finally:
        M = before


def test_a_mapped_file_that_is_gone(X, Y, tmp_path):
    provider = provide(NUMPY, mapped_rows(X, tmp_path), Y, **OPTIONS)
    (tmp_path / "x.npy").unlink()
    with raises("samples 0 to 49 of '.*x.npy' cannot be read: FileNotFoundError"):
        all_pieces(provider)


@pytest.mark.parametrize("options", [{}, {"chunks": (64, N0)}, {"chunks": (64, N0), "compression": "gzip"}])
def test_an_hdf5_file_that_is_cut(options, tmp_path):
    """HDF5 itself reads zeros there."""
    X = np.random.default_rng(0).random((N0, 40_000), "float32")
    x = hdf5(**options)(X, tmp_path)
    provider = provide(NUMPY, x, np.ones(X.shape[1]), **OPTIONS)
    path = tmp_path / "x.h5"
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    with raises(
        "samples 0 to 39999 of '.*x.h5', '/some/x' cannot be read: ", "it was cut after it was opened"
    ):
        all_pieces(provider)
    x.x.file.close()
    with raises("samples 0 to 39999 of '.*x.h5', '/some/x' cannot be read: "):
        all_pieces(provider)


def test_a_zarr_array_that_is_spoilt_or_gone(X, Y, tmp_path):
    """Zarr itself reads fill values where nothing is."""
    provider = provide(NUMPY, zarr(2)(X, tmp_path), Y, **OPTIONS)
    (tmp_path / "x.zarr" / "1.0").write_bytes(b"1234")
    with raises("samples 0 to 49 of '.*x.zarr/?' cannot be read: "):
        all_pieces(provider)
    shutil.rmtree(tmp_path / "x.zarr")
    with raises("samples 0 to 49 of '.*x.zarr/?' cannot be read: (ArrayNotFound|FileNotFound)Error"):
        all_pieces(provider)


# Iterables


def some_batches(X, Y, sizes=(20, 13, 17)):
    ends = np.cumsum(sizes)
    return [(X[:, end - k : end], Y[:, end - k : end]) for k, end in zip(sizes, ends, strict=True)]


def test_batches_that_are_given(backend, X, Y):
    batches = some_batches(X, Y)
    as_rows = [(x.T, y[0].astype(int)) for x, y in batches]
    expected = [(x, y, None, 0, True) for x, y in batches]
    for made, known in (
        (batches, True),
        (lambda: iter(batches), False),
        (Rows(as_rows), True),
        (lambda: [(Rows(x), y) for x, y in as_rows], False),
        ([(backend.asarray(x), backend.asarray(y)) for x, y in batches], True),
    ):
        provider = provide(backend, made, **OPTIONS)
        assert (provider.m, provider.steps) == (None, 3 if known else None)
        if not known:
            with pytest.raises(TypeError, match="not known"):
                len(provider)
        for _ in range(2):
            assert_same(all_pieces(provider, 0, backend.to_numpy), expected)
            assert (provider.m, provider.steps, len(provider)) == (M, 3, 3)
        assert_same(all_pieces(provider, 2, backend.to_numpy), expected[2:])
        assert provider.m == M


def test_batches_with_weights_in_pieces(X, Y):
    w = np.arange(M, dtype="float32")
    whole = [(X, Y, w)]
    found = Iterated(NUMPY, whole, micro_batch=8, **OPTIONS)
    assert_same(all_pieces(found), all_pieces(Batches(NUMPY, X, Y, w, micro_batch=8)))
    assert found.steps == 1


def test_batches_of_any_kind(X, Y, tmp_path):
    frame = pytest.importorskip("polars").DataFrame(X.T)
    given = [(frame, Y[0]), (sparse("csc_array")(X, tmp_path), Y[0].tolist()), (X.tolist(), Y)]
    assert_same(all_pieces(Iterated(NUMPY, given, **OPTIONS)), 3 * [(X, Y, None, 0, True)])


def test_the_loader_of_pytorch(X, Y):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.asarray(X.T.copy()), torch.asarray(Y[0]))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    assert_same(
        all_pieces(provide(NUMPY, Rows(loader), **OPTIONS)), all_pieces(Batches(NUMPY, X, Y, None, 8))
    )


def test_batches_that_do_not_fit(X, Y):
    good = X[:, :10], Y[:, :10]
    for bad, *fragments in (
        ((X[:2, :10], Y[:, :10]), r"X in step 2 of epoch 1 has shape \(2, 10\); expected \(3, m\)"),
        ((X[:, :10], Y[:, :9]), r"Y in step 2 of epoch 1 has shape \(1, 9\); expected \(10,\)"),
        ((X[:, :10], Y[:, :10], Y), r"w in step 2 of epoch 1 has shape"),
        ((X * np.nan, Y), "X in step 2 of epoch 1 has 150 values"),
        ((X[:, :0], Y[:, :0]), "X in step 2 of epoch 1 has shape"),
        (X, r"step 2 of epoch 1 is a ndarray; a batch is a tuple \(X, Y\) or \(X, Y, w\)"),
        ((X,), "step 2 of epoch 1 is a tuple of 1; a batch is"),
    ):
        seen = []
        with raises(*fragments), closing(provide(NUMPY, [good, bad], **OPTIONS).epoch()) as epoch:
            seen.extend(epoch)
        assert len(seen) == 1  # the error comes at its place


def test_iterables_that_end_too_early(X, Y):
    batches = some_batches(X, Y)
    with raises("X, a list, ended after 3 in epoch 1; expected 4 batches. Hand in more, or give fewer"):
        all_pieces(provide(NUMPY, batches, steps=4, **OPTIONS))
    with raises("X, a list, ended after 0 in epoch 1; expected at least 1 batch"):
        all_pieces(provide(NUMPY, [], **OPTIONS))
    once = provide(NUMPY, iter(batches), **OPTIONS)
    assert len(all_pieces(once)) == 3
    with raises(
        "X, a list_iterator, ended after 0 in epoch 2; expected 3 batches",
        "gone through but once: hand in a list, or a function that returns a new one",
    ):
        all_pieces(once)
    with raises("X, a function, returned a NoneType; expected an iterator of batches"):
        all_pieces(provide(NUMPY, lambda: None, **OPTIONS))
    for nothing in (X, {"x": X}, None, 3, "x.npy"):
        with raises("X is an? (ndarray|dict|NoneType|int|str)", "iterable of batches"):
            provide(NUMPY, nothing, **OPTIONS)
    for name, called in (("batch_size", "batch_size"), ("w", "sample_weight")):
        with raises(f"{called} is given, but no Y"):
            provide(NUMPY, batches, **{name: 3}, **OPTIONS)


def test_an_epoch_of_so_many_steps(X, Y):
    """A list is begun anew, an iterator goes on, and is not closed; an iterator that we began is."""
    batches = some_batches(X, Y, (1, 2, 3, 4, 5))
    sizes = [
        [p[0].shape[1] for p in all_pieces(provider)]
        for provider in 2 * [provide(NUMPY, batches, steps=2, **OPTIONS)]
    ]
    assert sizes == [[1, 2], [1, 2]]
    closed = []

    def generate():
        try:
            yield from batches
        finally:
            closed.append(True)

    generator = generate()
    provider = provide(NUMPY, generator, steps=2, **OPTIONS)
    assert [[p[0].shape[1] for p in all_pieces(provider)] for _ in range(2)] == [[1, 2], [3, 4]]
    assert not closed
    assert len(list(generator)) == 1
    assert closed
    provider = provide(NUMPY, generate, steps=2, **OPTIONS)
    assert len(all_pieces(provider)) == 2
    assert len(closed) == 2
    with closing(provider.epoch()) as epoch:
        next(epoch)
    assert len(closed) == 3


# Reading ahead


def counting(seen, n=100):
    for k in range(n):
        seen.append(k)
        yield k


def until(condition):
    """Wait for another thread: for a minute, where a second has always been enough."""
    event = threading.Event()
    for _ in range(6000):
        if condition():
            return True
        event.wait(0.01)
    return False


@pytest.mark.parametrize("depth", [0, 1, 2, 7])
def test_prefetch_reads_so_far_ahead_and_no_further(depth):
    seen = []
    with closing(prefetch(counting(seen), depth)) as pieces:
        assert seen == []
        for k in range(5):
            assert next(pieces) == k
            assert until(lambda k=k: len(seen) == k + 1 + depth)
            threading.Event().wait(0.02)
            assert len(seen) == k + 1 + depth
    assert list(prefetch(counting([]), depth)) == [*range(100)]


def test_what_the_thread_raises_is_raised_at_its_place():
    for error in (ValueError("bad"), KeyboardInterrupt(), SystemExit(3)):

        def failing(error=error):
            yield 1
            yield 2
            raise error

        seen = []
        with pytest.raises(type(error)) as found:
            seen.extend(prefetch(failing()))
        assert found.value is error
        assert seen == [1, 2]


@pytest.mark.parametrize("how", ["break", "close", "error", "interrupt", "forgotten"])
def test_the_thread_ends_when_the_consumer_stops(how):
    closed = []

    def source():
        try:
            yield from counting(seen)
        finally:
            closed.append(threading.current_thread().name)

    seen = []
    pieces = prefetch(source())

    def consume(pieces):
        with closing(pieces):
            for _ in pieces:
                assert until(lambda: len(seen) == 3)  # the thread waits for room
                if how == "break":
                    break
                if how == "close":
                    pieces.close()
                if how == "error":
                    raise ValueError
                if how == "interrupt":
                    raise KeyboardInterrupt

    if how == "forgotten":
        next(pieces)
        del pieces
    elif how in ("error", "interrupt"):
        with pytest.raises(ValueError if how == "error" else KeyboardInterrupt):
            consume(pieces)
    else:
        consume(pieces)
    assert closed == ["nnx-prefetch"]
    assert not any(thread.name == "nnx-prefetch" for thread in threading.enumerate())


def test_an_iterator_that_was_never_begun_starts_no_thread(X, Y, tmp_path):
    provider = provide(NUMPY, mapped_rows(X, tmp_path), Y, None, 8, **OPTIONS)
    provider.epoch().close()
    assert not any(thread.name == "nnx-prefetch" for thread in threading.enumerate())


def test_the_thread_has_the_context_of_the_caller():
    def divided():
        yield np.float64(1) / np.float64(0)

    with np.errstate(divide="ignore"):
        assert list(prefetch(divided())) == [np.inf]


def test_a_stream_reads_ahead_in_a_thread(X, Y, monkeypatch):
    monkeypatch.setattr(stream, "NUMBERS", 1)
    source = Counting(X)
    with closing(Stream(NUMPY, source, Y, None, 5, ahead=3, **OPTIONS).epoch()) as epoch:
        next(epoch)
        assert until(lambda: len(source.reads) == 4)
        threading.Event().wait(0.02)
        assert len(source.reads) == 4
    skipped = Counting(X)
    all_pieces(Stream(NUMPY, skipped, Y, None, 5, **OPTIONS), skip=8)
    assert skipped.reads == [(40, 45), (45, 50)]


def test_numbers_are_converted_before_they_are_copied(backend, X, Y):
    """What the backend is handed has its dtype already."""
    seen = []

    class Spy(type(NUMPY)):
        def asarray(self, x, dtype=None):
            seen.append((x.dtype, dtype))
            return super().asarray(x, dtype)

    all_pieces(Stream(Spy(), Counting(X.astype("float64")), Y, None, 25, **OPTIONS))
    assert {d for d, wanted in seen if wanted} == {np.dtype("float32")}


MEMORY = """
import sys
from contextlib import closing
import numpy as np
import nnx
from nnx.batches.provide import provide
from nnx.batches.stream import Checks

x = np.load(sys.argv[1], mmap_mode="r").T
checks = Checks(lambda name, X: X, lambda name, Y, m: Y, lambda name, w, Y, m: w)
Y = np.zeros(x.shape[1], "int32")
for rng in (None, np.random.default_rng(0)):
    batches = provide(nnx.backend("numpy"), x, Y, None, 500, rng, checks=checks, dtype="float32")
    with closing(batches.epoch()) as epoch:
        total = sum(X.shape[1] for (X, Y_, w), start, ends in epoch)
    assert total == x.shape[1]
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.long
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads the peak of the memory from Linux's /proc"
)
def test_memory_does_not_grow_with_the_file(tmp_path):
    """VmHWM is the process's own peak; ru_maxrss would begin with that of the process that started it."""
    peaks = []
    for megabytes in (20, 200):
        x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "float32", (megabytes * 2500, 100))
        del x  # a file of zeros
        run = [sys.executable, "-c", MEMORY, str(tmp_path / "x.npy")]
        peaks.append(int(subprocess.run(run, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 60e6, peaks
