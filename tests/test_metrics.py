"""The metrics against scikit-learn's, over batches of unequal sizes, on every backend."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unreadable_arrays import Guarded, wrap

import nnx
from nnx.metrics import METRICS, check, decide, metric, score_name
from nnx.metrics.of_classes import F1, ConfusionMatrix, Precision, Recall, RocAuc, TopK
from nnx.metrics.of_numbers import R2
from nnx.model.outputs import output

sk = pytest.importorskip("sklearn.metrics")
M = 101
SIZES = (1, 50, 50)  # of the batches


def values(backend, specs, out, A, Y, w=None, sizes=SIZES, dtype="float64"):
    """The metrics over batches, as a trainer computes them: all parts on the device, in one captured function."""
    found = [metric(spec) for spec in specs]
    partial = backend.compile(lambda A, Y, w: [one.partial(out, A, Y, w) for one in found])
    ends = np.cumsum(sizes)
    assert ends[-1] == A.shape[1]
    batches = []
    for start, end in zip(ends - sizes, ends, strict=True):
        Yb = backend.asarray(Y[..., start:end], None if Y.dtype.kind == "i" else dtype)
        wb = None if w is None else backend.asarray(w[start:end], dtype)
        batches.append(partial(backend.asarray(A[:, start:end], dtype), Yb, wb))
    parts = zip(*batches, strict=True)  # of each metric
    return [one.result(its, backend.to_numpy) for one, its in zip(found, parts, strict=True)]


def value(backend, spec, *arguments, **options):
    return values(backend, [spec], *arguments, **options)[0]


def rounded(A):
    """With ties, in every other sample; a column of a softmax still sums to 1."""
    return np.where(np.arange(A.shape[1]) % 2, np.round(A * 4) / 4, A)


def softmax(Z):
    return np.exp(Z) / np.exp(Z).sum(axis=0)


@pytest.fixture(params=[False, True], ids=["plain", "weighted"])
def w(request, rng):
    return rng.integers(0, 4, M) * rng.random(M) if request.param else None


def two_classes(rng):
    Y = rng.integers(0, 2, (1, M)).astype(float)
    return rounded(np.clip(0.3 * Y + 0.7 * rng.random((1, M)), 0.01, 0.99)), Y


def several(rng, K=5):
    y = rng.integers(0, K, M)
    return softmax(rounded(2 * np.eye(K)[:, y] + 2 * rng.standard_normal((K, M)))), y


def labels(rng, n=4):
    Y = rng.integers(0, 2, (n, M)).astype(float)
    return rounded(np.clip(0.3 * Y + 0.7 * rng.random((n, M)), 0.01, 0.99)), Y


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


SCORES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
AVERAGES = ("macro", "micro", "weighted", None)


def scores(y, a, default, **options):
    """What scikit-learn has for precision, recall and f1, by nnx's names."""
    found = {name: theirs(y, a, average=default, **options) for name, theirs in SCORES.items()}
    for name, theirs in SCORES.items():
        for average in AVERAGES:
            found[f"{name}({average or 'none'})"] = theirs(y, a, average=average, **options)
    return found


def compare(backend, expected, out, A, Y, w):
    found = values(backend, expected, out, A, Y, w)
    for (spec, theirs), ours in zip(expected.items(), found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14, err_msg=spec)


def test_of_two_classes(backend, rng, w):
    A, Y = two_classes(rng)
    y, a = Y[0].astype(int), A[0] > 0.5
    expected = scores(y, a, "binary", sample_weight=w) | {
        "accuracy": sk.accuracy_score(y, a, sample_weight=w),
        "roc_auc": sk.roc_auc_score(y, A[0], sample_weight=w),
        "log_loss": sk.log_loss(y, A[0], sample_weight=w),
        "confusion_matrix": sk.confusion_matrix(y, a, sample_weight=w),
    }
    for form in (Y, y):
        compare(backend, expected, output("sigmoid"), A, form, w)


@pytest.mark.parametrize("form", ["indices", "one-hot"])
def test_of_one_class_of_several(backend, rng, w, form):
    A, y = several(rng)
    a = A.argmax(axis=0)
    expected = scores(y, a, "macro", sample_weight=w) | {
        "accuracy": sk.accuracy_score(y, a, sample_weight=w),
        "roc_auc": sk.roc_auc_score(y, A.T, multi_class="ovr", sample_weight=w),
        "log_loss": sk.log_loss(y, A.T, sample_weight=w),
        "confusion_matrix": sk.confusion_matrix(y, a, sample_weight=w),
    }
    for k in (1, 2, 4):  # scikit-learn takes the last of equals: it sees the classes in reverse
        expected[f"top_k({k})"] = sk.top_k_accuracy_score(
            4 - y, A[::-1].T, k=k, labels=range(5), sample_weight=w
        )
    compare(backend, expected, output("softmax"), A, y if form == "indices" else np.eye(5)[:, y], w)


def test_of_several_labels_at_once(backend, rng, w):
    A, Y = labels(rng)
    y, a = Y.T.astype(int), A.T > 0.5
    expected = scores(y, a, "macro", sample_weight=w) | {
        "accuracy": sk.accuracy_score(y, a, sample_weight=w),
        "roc_auc": sk.roc_auc_score(y, A.T, sample_weight=w),
        "log_loss": np.mean([sk.log_loss(Y[k], A[k], sample_weight=w) for k in range(4)]),
    }
    compare(backend, expected, output("sigmoid"), A, Y, w)


def test_of_hinge(backend, rng, w):
    """Decisions at 0, or the largest of several; the area needs no probabilities."""
    hinge = output("identity", "hinge")
    A, y = several(rng)
    Z = np.log(A)
    expected = {
        "accuracy": sk.accuracy_score(y, A.argmax(axis=0), sample_weight=w),
        "roc_auc": np.mean([sk.roc_auc_score(y == k, Z[k], sample_weight=w) for k in range(5)]),
    }
    compare(backend, expected, hinge, Z, y, w)
    A, Y = two_classes(rng)
    Z = A - 0.4
    expected = {
        "f1": sk.f1_score(Y[0], Z[0] > 0, sample_weight=w),
        "roc_auc": sk.roc_auc_score(Y[0], Z[0], sample_weight=w),
    }
    compare(backend, expected, hinge, Z, Y, w)


NUMBERS = {
    "r2": sk.r2_score,
    "mean_absolute_error": sk.mean_absolute_error,
    "mean_squared_error": sk.mean_squared_error,
    "root_mean_squared_error": sk.root_mean_squared_error,
}


@pytest.mark.parametrize("n", [1, 3])
def test_of_numbers(backend, rng, w, n):
    Y = rng.standard_normal((n, M)) + 3
    A = Y + 0.3 * rng.standard_normal((n, M))
    expected = {name: theirs(Y.T, A.T, sample_weight=w) for name, theirs in NUMBERS.items()}
    compare(backend, expected, output("identity"), A, Y, w)


def test_r2_keeps_its_digits_where_the_mean_is_large(backend):
    """Batches whose means differ, about 1e12: against fractions, without rounding."""
    rng = np.random.default_rng(1)
    Y = 1e12 + np.arange(M)[None, :] + rng.integers(0, 50, (1, M))
    A = Y + rng.integers(-3, 4, (1, M))
    y, a = ([Fraction(x) for x in row[0].tolist()] for row in (Y, A))
    mean = sum(y) / M
    expected = 1 - sum((p - q) ** 2 for p, q in zip(y, a, strict=True)) / sum((p - mean) ** 2 for p in y)
    assert value(backend, "r2", output("identity"), A, Y) == pytest.approx(float(expected), rel=1e-14)


def test_r2_of_constant_targets(backend):
    """1 for a hit, else 0, as scikit-learn's; also of 0.1, whose mean in binary fractions is another number."""
    for y in (0.5, 0.1):
        Y = np.full((1, M), y)
        A = np.where(np.arange(M) == 3, 0.2, Y)
        assert value(backend, "r2", output("identity"), Y, Y) == 1
        assert value(backend, "r2", output("identity"), A, Y) == 0
        assert y == 0.1 or sk.r2_score(Y[0], A[0]) == 0


def suits(name, out, A, Y):
    try:
        check(metric("top_k(1)" if name == "top_k" else name), out, A.shape[0], Y)
    except nnx.InputError:
        return False
    return True


@pytest.mark.long
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    K=st.integers(2, 4),
    levels=st.integers(1, 6),
    weighted=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_batches_do_not_matter(sizes, K, levels, weighted, seed):
    """Each metric over batches is that over all samples at once; classes may be missing, scores all be equal."""
    rng, m, numpy = np.random.default_rng(seed), sum(sizes), nnx.backend("numpy")
    w = rng.integers(1, 3, m).astype(float) if weighted else None
    Z = rng.integers(0, levels, (K, m)).astype(float)
    for out, A, Y in [
        (output("softmax"), softmax(Z), rng.integers(0, K, m)),
        (output("sigmoid"), 1 / (1 + np.exp(2 - Z)), rng.integers(0, 2, (K, m)).astype(float)),
        (output("sigmoid"), 1 / (1 + np.exp(2 - Z[:1])), rng.integers(0, 2, m)),
        (output("identity"), Z, rng.standard_normal((K, m))),
    ]:
        specs = ["top_k(1)" if name == "top_k" else name for name in METRICS if suits(name, out, A, Y)]
        parts, whole = (values(numpy, specs, out, A, Y, w, cut) for cut in (sizes, [m]))
        for spec, x, y in zip(specs, parts, whole, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13, err_msg=spec)
        if "top_k(1)" in specs:
            assert parts[specs.index("top_k(1)")] == parts[specs.index("accuracy")]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(m=st.integers(2, 30), levels=st.integers(1, 5), seed=st.integers(0, 999))
def test_the_area_counts_pairs(m, levels, seed):
    rng = np.random.default_rng(seed)
    y, a, w = rng.integers(0, 2, m), rng.integers(0, levels, m) / levels, rng.random(m)
    won = (a[:, None] > a) + 0.5 * (a[:, None] == a)
    pairs = np.outer(w * y, w * (1 - y))
    found = value(nnx.backend("numpy"), "roc_auc", output("sigmoid"), a[None, :], y, w, [m])
    if pairs.sum() == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx((won * pairs).sum() / pairs.sum(), rel=1e-12)


def test_the_area_where_nothing_can_be_compared(backend, rng):
    """One class only, or a class of several that is absent: NaN."""
    A, _ = two_classes(rng)
    assert np.isnan(value(backend, "roc_auc", output("sigmoid"), A, np.ones(M, int)))
    A, y = several(rng)
    assert np.isnan(value(backend, "roc_auc", output("softmax"), A, np.minimum(y, 3)))


def test_an_absent_class_as_scikit_learn_counts_it(backend, rng):
    """Of class 4, in truth or among predictions: 0. A class in neither is left out of a macro mean."""
    A, y = several(rng)
    out = output("softmax")
    only_predicted, nowhere = np.minimum(y, 3), A.copy()
    nowhere[4] = 0
    assert (A.argmax(axis=0) == 4).any()
    for a in (A, nowhere):
        expected = scores(only_predicted, a.argmax(axis=0), "macro", zero_division=0)
        averages = {spec: theirs for spec, theirs in expected.items() if "none" not in spec}
        compare(backend, averages, out, a, only_predicted, None)
    each, matrix = values(backend, ["f1(none)", "confusion_matrix"], out, nowhere, only_predicted)
    assert each.shape == (5,)
    assert each[4] == 0
    assert matrix.shape == (5, 5)
    assert not matrix[4].any()
    never = np.full((1, M), 0.2)
    assert values(backend, SCORES, output("sigmoid"), never, np.zeros(M, int)) == [0, 0, 0]


def test_labels_that_never_occur_count(rng):
    """As scikit-learn has it: 0 in the macro mean over labels."""
    A, Y = labels(rng)
    A[2], Y[2] = 0.1, 0
    found = value(nnx.backend("numpy"), "f1", output("sigmoid"), A, Y)
    close(found, sk.f1_score(Y.T, A.T > 0.5, average="macro", zero_division=0))


def test_counts_are_integers_and_exact(backend, rng):
    A, y = several(rng)
    matrix = value(backend, "confusion_matrix", output("softmax"), A, y, dtype="float32")
    assert matrix.dtype == np.int64
    assert matrix.sum() == M
    weighted = value(backend, "confusion_matrix", output("softmax"), A, y, np.full(M, 0.5))
    assert weighted.dtype == np.float64
    np.testing.assert_array_equal(weighted, matrix / 2)


def test_log_loss_at_0_and_1(backend):
    """Kept 1 ulp off, in the dtype of A, as scikit-learn does."""
    A, Y = np.array([[0.0, 1.0, 1.0]]), np.array([1, 0, 1])
    for dtype in ("float32", "float64"):
        found = value(backend, "log_loss", output("sigmoid"), A, Y, sizes=[3], dtype=dtype)
        assert found == pytest.approx(sk.log_loss(Y, A[0].astype(dtype)), rel=1e-6)


def test_in_float32(backend, rng):
    A, y = several(rng)
    specs = ["accuracy", "top_k(2)", "f1", "roc_auc", "log_loss"]
    single = values(backend, specs, output("softmax"), A.astype("float32"), y, dtype="float32")
    np.testing.assert_allclose(single, values(backend, specs, output("softmax"), A, y), rtol=1e-6)
    Y = 1000 + rng.standard_normal((2, M))
    A = (Y + 0.1 * rng.standard_normal((2, M))).astype("float32")
    single = values(backend, NUMBERS, output("identity"), A, Y, dtype="float32")
    np.testing.assert_allclose(single, values(backend, NUMBERS, output("identity"), A, Y), rtol=1e-3)


def test_where_there_is_no_float64(rng):
    """JAX, unless told otherwise: the parts are float32, what adds them up is not, and the mean is no trouble."""
    jax = pytest.importorskip("jax")
    backend = nnx.backend("jax")
    Y = 1e4 + rng.standard_normal((1, M)).astype("float32")
    A = Y + np.float32(0.125)
    with jax.enable_x64(False):
        found = value(backend, "r2", output("identity"), A, Y, dtype="float32")
        parts = R2().partial(output("identity"), *(backend.asarray(x, "float32") for x in (A, Y)), None)
        assert {str(part.dtype) for part in parts} == {"float32"}
        A, y = several(rng)
        area = value(backend, "roc_auc", output("softmax"), A.astype("float32"), y, dtype="float32")
    assert found == pytest.approx(1 - M * 0.125**2 / (M * Y.astype("float64").var()), rel=1e-6)
    assert area == pytest.approx(sk.roc_auc_score(y, A.T, multi_class="ovr"), rel=1e-6)


def test_soft_targets_are_decided_as_outputs_are(backend, rng):
    A, Y = rng.random((1, M)), rng.random((1, M))
    found = value(backend, "accuracy", output("sigmoid"), A, Y)
    assert found == pytest.approx(((A > 0.5) == (Y > 0.5)).mean())
    loss = value(backend, "log_loss", output("sigmoid"), A, Y)
    assert loss == pytest.approx(-(Y * np.log(A) + (1 - Y) * np.log(1 - A)).mean())
    A, Y = softmax(rng.random((3, M))), softmax(rng.random((3, M)))
    found = value(backend, "accuracy", output("softmax"), A, Y)
    assert found == pytest.approx((A.argmax(axis=0) == Y.argmax(axis=0)).mean())


def test_decide():
    np.testing.assert_array_equal(decide(np.array([[0.5, 0.6]])), [0, 1])
    np.testing.assert_array_equal(decide(np.array([[-0.1, 0.6]]), threshold=0.0), [0, 1])
    np.testing.assert_array_equal(decide(np.array([[1.0, 2.0], [1.0, 3.0]])), [0, 1])


def test_names():
    for name in METRICS:
        assert metric(name).name.split("(")[0] == name
        assert metric(metric(name).name) == metric(name)
    assert metric("top_k").name == "top_k(5)"
    assert metric("top_k(3)") == metric("top_k(k=3)") == TopK(3)
    assert metric("f1(average=micro)").name == "f1(micro)"
    assert metric("f1( micro )") == F1("micro")
    assert metric("f1(none)") == F1(None)
    assert (F1().name, Recall("weighted").name, Precision(None).name) == (
        "f1",
        "recall(weighted)",
        "precision(none)",
    )
    own = F1("macro")
    assert metric(own) is own
    assert score_name(output("softmax")) == score_name(output("identity", "hinge")) == "accuracy"
    assert score_name(output("identity", "huber")) == score_name(output("exp")) == "r2"


def test_parts_read_nothing_on_the_host(backend, rng):
    (A, y), w = several(rng), backend.asarray(rng.random(M), "float64")
    for out, Y in [
        (output("softmax"), y),
        (output("sigmoid"), y),
        (output("sigmoid"), np.eye(5)[:, y]),
        (output("identity"), A),
    ]:
        guarded = [wrap(backend.asarray(x), backend.xp) for x in (A, Y)]
        for name in METRICS:
            if suits(name, out, A, Y):
                one = metric("top_k(1)" if name == "top_k" else name)
                for weights in (None, wrap(w, backend.xp)):
                    assert all(isinstance(part, Guarded) for part in one.partial(out, *guarded, weights))


def test_a_metric_of_ones_own(rng):
    class Largest:
        name = "largest"

        def partial(self, output, A, Y, w):
            return (nnx.array_namespace(A).max(A),)

        def result(self, partials, to_numpy):
            return max(float(to_numpy(part)) for (part,) in partials)

    A, y = several(rng)
    own = Largest()
    assert metric(own) is own
    check(own, output("identity"), 3, A)
    assert value(nnx.backend("numpy"), own, output("softmax"), A, y) == A.max()


def test_what_is_no_metric():
    for spec, message in [
        ("acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ("top_k(0)", r"the metric 'top_k\(0\)': k must be a positive integer, not 0"),
        ("top_k(2.5)", "k must be a positive integer, not 2.5"),
        ("accuracy(3)", "the metric 'accuracy' takes no parameter"),
        ("f1(all)", "average must be 'auto', 'macro', 'micro', 'weighted' or None, not 'all'"),
        (3, "a metric must be a name, such as 'accuracy', a function .*, or an object with .* and result: 3"),
        (F1, "a metric must be a name"),
        (None, "a metric must be a name"),
    ]:
        with pytest.raises(nnx.InputError, match=message):
            metric(spec)


@pytest.mark.parametrize(
    ("spec", "out", "n", "Y", "message"),
    [
        (
            "r2",
            output("softmax"),
            3,
            np.zeros(4, int),
            "'r2' .* 'softmax' \\(one class of several\\).*accuracy, top_k",
        ),
        (
            "accuracy",
            output("identity"),
            1,
            np.zeros((1, 4)),
            "'identity' \\(numbers\\).*: r2, mean_absolute_error",
        ),
        ("f1", output("identity", "huber"), 1, np.zeros((1, 4)), "with the loss 'huber' \\(numbers\\)"),
        (
            "top_k",
            output("sigmoid"),
            1,
            np.zeros((1, 4)),
            r"'top_k\(5\)' .* \(two classes\); .*: accuracy, precision",
        ),
        ("top_k", output("sigmoid"), 9, np.zeros((9, 4)), r"\(several labels at once\)"),
        (
            "top_k(3)",
            output("softmax"),
            3,
            np.zeros(4, int),
            r"top_k\(3\) of 3 classes is always 1; k must be less",
        ),
        ("confusion_matrix", output("sigmoid"), 3, np.zeros((3, 4)), r"\(several labels at once\)"),
        (
            "log_loss",
            output("identity", "hinge"),
            1,
            np.zeros((1, 4)),
            "'hinge' \\(two classes, without probabilities",
        ),
    ],
)
def test_metrics_without_a_meaning(spec, out, n, Y, message):
    with pytest.raises(nnx.InputError, match=message):
        check(metric(spec), out, n, Y)
    with pytest.raises(nnx.InputError, match=message):
        metric(spec).partial(out, np.zeros((n, 4)), Y, None)


def test_results_are_python_floats_and_numpy_arrays(backend, rng):
    A, y = several(rng)
    specs = ["accuracy", F1(), RocAuc(), "log_loss", ConfusionMatrix(), F1(None)]
    found = values(backend, specs, output("softmax"), A, y)
    assert [type(x) for x in found] == [float] * 4 + [np.ndarray] * 2


class Count:
    """A metric of one's own, under any name: how many samples there are."""

    def __init__(self, name):
        self.name = name

    def partial(self, output, A, Y, w):
        return (nnx.array_namespace(A).ones_like(A[0, :]),)

    def result(self, partials, to_numpy):
        return float(sum(to_numpy(part).sum() for (part,) in partials))


@pytest.mark.parametrize(
    "name",
    ["loss", "validation_loss", "validation_count", "accuracy", "mean_squared_error", "f1(mine)", "", 3],
)
def test_a_metric_of_ones_own_replaces_no_other_number(name, rng):
    X, Y = rng.standard_normal((2, 8)), np.arange(8) % 2
    trainer = nnx.Trainer(nnx.mlp([2, 1], output="sigmoid"), backend="numpy")
    message = "another name" if name else "must be a text"
    with pytest.raises(nnx.InputError, match="must be a text" if name == 3 else message):
        trainer.evaluate(X, Y, metrics=["accuracy", Count(name)])
    with pytest.raises(nnx.InputError):
        trainer.fit(X, Y, validation=(X, Y), metrics=[Count(name)], epochs=1)
    assert trainer.evaluate(X, Y, metrics=["accuracy", Count("count")])["count"] == 8
    history = trainer.fit(X, Y, validation=(X, Y), metrics=[Count("count")], epochs=1)
    assert list(history) == ["loss", "count", "validation_loss", "validation_count"]


def test_a_metric_given_twice_is_refused(rng):
    X, Y = rng.standard_normal((2, 8)), np.arange(8) % 2
    trainer = nnx.Trainer(nnx.mlp([2, 1], output="sigmoid"), backend="numpy")
    for twice in (["accuracy", "accuracy"], ["f1", F1()], [Count("count"), Count("count")]):
        with pytest.raises(nnx.InputError, match="names of their own"):
            trainer.evaluate(X, Y, metrics=twice)


def median_error(y_true, y_pred):
    return np.median(np.abs(y_true - y_pred))


def weighted_error(y_true, y_pred, sample_weight=None):
    return np.average(np.abs(y_true - y_pred), weights=sample_weight)


def test_a_metric_is_one_function(backend, rng):
    X = rng.standard_normal((3, 40))
    Y = X[0] - 2 * X[1]
    trainer = nnx.Trainer(nnx.mlp([3, 4, 1], output="identity"), backend=backend)
    history = trainer.fit(X, Y, epochs=3, validation=(X, Y), metrics=["r2", median_error])
    expected = median_error(Y, trainer.predict(X)[0])
    assert history["validation_median_error"][-1] == pytest.approx(expected, rel=1e-5)
    for size in (None, 7):
        measured = trainer.evaluate(X, Y, size, metrics=[median_error, weighted_error])
        assert measured["median_error"] == pytest.approx(expected, rel=1e-5)
    w = np.arange(40.0)
    measured = trainer.evaluate(X, Y, 7, metrics=[weighted_error, "mean_absolute_error"], sample_weight=w)
    assert measured["weighted_error"] == pytest.approx(measured["mean_absolute_error"], rel=1e-5)
