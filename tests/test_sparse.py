"""Sparse matrices of every format that SciPy has: the same results as with the dense matrix."""

import warnings
from functools import cache

import numpy as np
import pytest

import nnx

sparse = pytest.importorskip("scipy.sparse")
M, N = 30, 4


def dense():
    rng = np.random.default_rng(0)
    D = rng.standard_normal((M, N)) * (rng.random((M, N)) < 0.4)
    return D, (D[:, 0] > 0).astype(int)


def long_indices(x):
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    return x


def twice(D):
    """Each entry in two halves."""
    x = sparse.coo_matrix(D)
    places = np.r_[x.row, x.row], np.r_[x.col, x.col]
    return sparse.coo_matrix((np.r_[x.data / 4, 3 * x.data / 4], places), D.shape)


def twice_in_rows(D):
    x = sparse.csr_matrix(D)
    return sparse.csr_array((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), 2 * x.indptr), D.shape)


def unsorted(D):
    return sparse.csr_matrix(
        (D[:, ::-1].ravel(), np.tile(np.arange(N)[::-1], M), np.arange(0, M * N + 1, N)), D.shape
    )


FORMS = {
    **{
        f"{name}_{kind}": getattr(sparse, f"{name}_{kind}")
        for name in ("csr", "csc", "coo", "bsr", "lil", "dok", "dia")
        for kind in ("matrix", "array")
    },
    "csr, int64": lambda D: long_indices(sparse.csr_matrix(D)),
    "csc, int64": lambda D: long_indices(sparse.csc_array(D)),
    "twice": twice,
    "twice in rows": twice_in_rows,
    "unsorted, with zeros": unsorted,
    "float32": lambda D: sparse.csc_matrix(D.astype("float32")),
    "int8": lambda D: sparse.lil_array((D > 0).astype("int8")),
    "bool": lambda D: sparse.csr_array(D > 0),
}


def trained(X):
    """A trainer after two epochs, and their history."""
    y = dense()[1]
    one = nnx.Trainer(nnx.mlp([N, 3, 1]), backend="numpy", seed=1, dtype="float64")
    return one, one.fit(X, y, 2, 7, validation=(X, y))


@cache
def of_dense(D):
    """The history, predictions and scores of the dense matrix (its bytes): most formats have the same."""
    X = np.frombuffer(D).reshape(M, N).T
    other, history = trained(X)
    return history, other.predict(X), other.evaluate(X, dense()[1])


@pytest.mark.parametrize("rows", [True, False], ids=["rows", "columns"])
@pytest.mark.parametrize("form", FORMS)
def test_a_trainer_takes_every_format(form, rows):
    D, y = dense()
    given = FORMS[form](D)
    before = given.copy()
    D = given.toarray().astype(float)
    X = nnx.Rows(given) if rows else given.T
    one, found = trained(X)
    expected, predicted, evaluated = of_dense(D.tobytes())
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
    np.testing.assert_allclose(one.predict(X), predicted, rtol=1e-9)
    assert one.evaluate(X, y) == pytest.approx(evaluated)
    batches = nnx.Trainer(nnx.mlp([N, 3, 1]), backend="numpy", dtype="float64")
    batches.fit(nnx.Rows([(given, y)]) if rows else [(given.T, y)])
    assert given.nnz == before.nnz
    np.testing.assert_array_equal(given.toarray(), before.toarray())


def estimated(X, solver):
    """An estimator after a fit, with Adam also after a partial one."""
    from nnx.sklearn import MLPClassifier

    y = dense()[1]
    options = {"max_iter": 3, "batch_size": 7, "random_state": 0, "early_stopping": solver == "adam"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic|lbfgs")
        made = MLPClassifier(5, solver=solver, **options).fit(X, y)
        if solver == "adam":
            made.set_params(early_stopping=False).partial_fit(X, y)
    return made


@cache
def of_dense_estimator(D, dtype, solver):
    """The probabilities and the score of the dense matrix (its bytes)."""
    X = np.frombuffer(D, dtype).reshape(M, N)
    made = estimated(X, solver)
    return made.predict_proba(X), made.score(X, dense()[1])


@pytest.mark.parametrize(
    ("form", "solver"),
    [
        pytest.param(
            form, solver, marks=pytest.mark.long if solver == "lbfgs" and form != "csr_matrix" else ()
        )
        for form in FORMS
        for solver in ("adam", "lbfgs")
    ],
)
def test_an_estimator_takes_every_format(form, solver):
    pytest.importorskip("sklearn")
    D, y = dense()
    given = FORMS[form](D)
    D = given.toarray().astype(given.dtype if given.dtype.kind == "f" else float)
    made = estimated(given, solver)
    probabilities, score = of_dense_estimator(D.tobytes(), D.dtype, solver)
    tolerance = 1e-4 if form == "float32" else 1e-7
    np.testing.assert_allclose(made.predict_proba(given), probabilities, rtol=tolerance)
    assert made.score(given, y) == score


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
def test_sparse_labels(form):
    D, _ = dense()
    labels = (D[:, :2] > 0).astype(int)
    given = getattr(sparse, f"{form}_matrix")(labels)
    one, other = (
        nnx.Trainer(nnx.mlp([N, 2], output="sigmoid"), backend="numpy", dtype="float64") for _ in range(2)
    )
    one.fit(D.T, nnx.Rows(given), 2)
    other.fit(D.T, labels.T, 2)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-12)


def test_entries_that_add_up_to_infinity():
    """Each is finite, their sum is not."""
    entries = (np.array([3e38, 3e38], "float32"), np.array([0, 0]), np.array([0, 0, 2]))
    X = sparse.csr_matrix(entries, (2, N))
    with pytest.raises(nnx.InputError, match=r"X, sample 1 has 1 value that is NaN, infinite or too large"):
        nnx.Trainer(nnx.mlp([N, 1]), backend="numpy").fit(nnx.Rows(X), [0, 1], epochs=1)
