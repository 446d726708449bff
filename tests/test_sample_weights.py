"""Weights of samples and classes, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnx
from nnx.batches.sample_weights import batch_weights, class_table, sample_weights
from nnx.model.outputs import output

compute_sample_weight = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
M = 60
SOFTMAX, SIGMOID, HINGE = output("softmax"), output("sigmoid"), output("identity", "hinge")


@pytest.fixture
def indices(rng):
    return rng.choice(4, M, p=[0.5, 0.3, 0.15, 0.05]).astype(np.int32)


@pytest.fixture
def labels(rng):
    return (rng.random((3, M)) < 0.3) * 1.0


@pytest.mark.parametrize("out", [SOFTMAX, SIGMOID, HINGE], ids=str)
@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 1: 2, 2: 0, 3: 7.5}, {3: 10.0}])
def test_of_one_class_of_several(indices, out, class_weight):
    expected = compute_sample_weight(class_weight, indices)
    found = sample_weights(None, class_weight, indices, out, 4, M)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 1: 2.0}, {1: 3}])
@pytest.mark.parametrize("out", [SIGMOID, HINGE], ids=str)
def test_of_two_classes(labels, out, class_weight):
    found = sample_weights(None, class_weight, labels[:1], out, 1, M)
    np.testing.assert_allclose(found, compute_sample_weight(class_weight, labels[0]), rtol=1e-15)


@pytest.mark.parametrize("class_weight", ["balanced", [{0: 1, 1: 5}, {0: 2.5, 1: 0.5}, {1: 3.0}]])
@pytest.mark.parametrize("out", [SIGMOID, HINGE], ids=str)
def test_of_several_labels_at_once(labels, out, class_weight):
    found = sample_weights(None, class_weight, labels, out, 3, M)
    np.testing.assert_allclose(found, compute_sample_weight(class_weight, labels.T), rtol=1e-14)


def test_one_hot_targets_are_classes(indices):
    for class_weight in ("balanced", {1: 3.0}):
        found = sample_weights(None, class_weight, np.eye(4)[:, indices], SOFTMAX, 4, M)
        np.testing.assert_array_equal(found, sample_weights(None, class_weight, indices, SOFTMAX, 4, M))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(K=st.integers(2, 6), m=st.integers(1, 40), seed=st.integers(0, 999))
def test_balanced_classes_weigh_the_same(K, m, seed):
    """Each class that occurs has the same sum of weights; a class may be absent. As scikit-learn's."""
    y = np.random.default_rng(seed).integers(0, K, m)
    found = sample_weights(None, "balanced", y, SOFTMAX, K, m)
    sums = np.bincount(y, found)
    np.testing.assert_allclose(sums[sums > 0], m / np.count_nonzero(sums), rtol=1e-12)
    np.testing.assert_allclose(found, compute_sample_weight("balanced", y), rtol=1e-15)


def test_a_sequence_of_weights_is_in_the_order_of_the_classes(indices, labels):
    for weights in ([1, 2, 3, 4], (1.0, 2, 3, 4), np.array([1.0, 2, 3, 4])):
        np.testing.assert_array_equal(sample_weights(None, weights, indices, SOFTMAX, 4, M), indices + 1.0)
    found = sample_weights(None, [1, 3], labels[:1], SIGMOID, 1, M)
    np.testing.assert_array_equal(found, 1 + 2 * labels[0])


def test_weights_of_samples_and_classes_are_multiplied(rng, indices):
    w = rng.random(M)
    both = sample_weights(w, "balanced", indices, SOFTMAX, 4, M)
    np.testing.assert_array_equal(both, w * sample_weights(None, "balanced", indices, SOFTMAX, 4, M))


def test_weights_of_samples(backend, rng):
    """Of any array library, dtype and output."""
    numbers, Y = output("identity"), np.zeros((2, M))
    assert sample_weights(None, None, Y, numbers, 2, M) is None
    w = rng.integers(0, 3, M)
    for one in (w, w.tolist(), w.astype("float32"), backend.asarray(w, "float32"), w.astype("uint8")):
        found = sample_weights(one, None, Y, numbers, 2, M)
        assert type(found) is np.ndarray
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, w)
    np.testing.assert_array_equal(sample_weights(w > 0, None, Y, numbers, 2, M), w > 0)
    w = rng.random(M)
    assert sample_weights(w, None, Y, numbers, 2, M) is not w


def test_a_stream_of_batches(indices, labels):
    """The table once, then each batch; a batch may weigh nothing."""
    table = class_table({0: 0.0, 2: 3.0}, SOFTMAX, 4)
    np.testing.assert_array_equal(table, [0, 1, 3, 1])
    parts = [batch_weights(None, table, Y, SOFTMAX, 4, 20) for Y in np.split(indices, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), table[indices])
    assert not batch_weights(None, table, np.zeros(5, int), SOFTMAX, 4, 5).any()
    assert not batch_weights(np.zeros(5), None, np.zeros(5, int), SOFTMAX, 4, 5).any()
    assert batch_weights(None, class_table(None, SOFTMAX, 4), indices, SOFTMAX, 4, M) is None
    np.testing.assert_array_equal(class_table([{1: 5}, {}, {0: 2}], SIGMOID, 3), [[1, 5], [1, 1], [2, 1]])
    with pytest.raises(nnx.InputError, match=r"'balanced' counts all targets.*give numbers"):
        class_table("balanced", SOFTMAX, 4)


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (
            np.ones(M - 1),
            r"sample_weight has shape \(59,\); expected \(60,\), one weight for each of the 60 samples",
        ),
        (np.ones((1, M)), r"sample_weight has shape \(1, 60\)"),
        (-2.0, "sample_weight holds -2.0; weights must be at least 0"),
        (0.0, "sample_weight is 0 for all of the 60 samples"),
        (np.r_[np.ones(M - 1), -0.5], "sample_weight holds -0.5; weights must be at least 0"),
        (np.r_[np.ones(M - 1), np.nan], r"sample_weight has 1 value that is NaN.*at \[59\] .*is nan"),
        (np.r_[np.inf, np.ones(M - 1)], "sample_weight has 1 value that is NaN, infinite"),
        (np.zeros(M), "sample_weight is 0 for all of the 60 samples"),
        (["a"] * M, "sample_weight holds text"),
        ("balanced", "sample_weight holds text"),
    ],
)
def test_numbers_that_are_no_weights(indices, sample_weight, message):
    with pytest.raises(nnx.InputError, match=message):
        sample_weights(sample_weight, None, indices, SOFTMAX, 4, M)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({4: 1.0}, r"class_weight names the class 4; the classes are 0\.\.3"),
        ({"cat": 1.0}, "class_weight names the class 'cat'"),
        ({0.5: 1.0}, r"class_weight names the class 0\.5"),
        ({1: -1.0}, "class_weight holds -1.0; weights must be at least 0"),
        ({1: float("nan")}, r"class_weight has 1 value that is NaN.*at \[1\] .*is nan"),
        ({1: "much"}, "class_weight holds text"),
        (dict.fromkeys(range(4), 0), "class_weight is 0 for all of the 60 samples"),
        ([1, 2, 3], r"class_weight has shape \(3,\); expected \(4,\), a weight for each of the 4 classes"),
        ("balance", "class_weight must be numbers or 'balanced', not 'balance'"),
        (
            [{0: 1}] * 4,
            r"a list of dicts, which is for several labels at once; .*'softmax' with n\[L\] = 4 give one dict",
        ),
        ([{0: 1}, 1, 1, 1], "class_weight holds objects"),
        (3.0, r"class_weight has shape \(\)"),
    ],
)
def test_class_weights_that_are_none(indices, class_weight, message):
    with pytest.raises(nnx.InputError, match=message):
        sample_weights(None, class_weight, indices, SOFTMAX, 4, M)


def test_class_weights_of_labels_that_are_none(labels):
    for class_weight, message in [
        ([{0: 1, 1: 2}] * 2, "class_weight lists 2 dicts; expected 3, one for each output"),
        ([{0: 1, 2: 2}] * 3, r"class_weight\[0\] names the class 2; the classes are 0\.\.1"),
        ([{0: 1}, {1: -1}, {}], r"class_weight\[1\] holds -1"),
        (
            {0: 1, 1: 2},
            "several labels at once, for which class_weight must be a dict {0: weight, 1: weight} for each",
        ),
        ([1, 2, 3], "several labels at once"),
    ]:
        with pytest.raises(nnx.InputError, match=message):
            sample_weights(None, class_weight, labels, SIGMOID, 3, M)
    with pytest.raises(
        nnx.InputError, match="one class of several, for which class_weight must be a weight for each"
    ):
        sample_weights(None, [{1: 2}] * 3, np.zeros(M, int), SIGMOID, 3, M)
    with pytest.raises(nnx.InputError, match="with n\\[L\\] = 1 give one dict"):
        sample_weights(None, [{1: 2}], labels[:1], SIGMOID, 1, M)


def test_class_weights_need_classes(labels):
    for out in (output("identity"), output("exp"), output("identity", "huber")):
        with pytest.raises(nnx.InputError, match=r"class_weight is for classes; .*of numbers.*sample_weight"):
            sample_weights(None, {0: 1.0}, labels, out, 3, M)
    for out, Y, n in (
        (SIGMOID, 0.3 * labels[:1], 1),
        (SIGMOID, 0.3 * labels, 3),
        (SOFTMAX, np.full((2, M), 0.5), 2),
    ):
        with pytest.raises(
            nnx.InputError, match=r"targets that are classes; Y holds probabilities such as 0\.[35]"
        ):
            sample_weights(None, "balanced", Y, out, n, M)


def test_nothing_is_left_of_both(indices):
    with pytest.raises(
        nnx.InputError, match="sample_weight times class_weight is 0 for all of the 60 samples"
    ):
        sample_weights((indices == 0) * 1.0, {0: 0.0}, indices, SOFTMAX, 4, M)


@pytest.mark.parametrize("label", [7, "a", None, (0, 1), 1j, frozenset({0})])
def test_a_class_that_is_none(indices, label):
    with pytest.raises(nnx.InputError, match=r"class_weight names the class .*; the classes are 0\.\.3"):
        sample_weights(None, {label: 1.0}, indices, SOFTMAX, 4, M)


def test_a_tensor_is_no_class(indices):
    torch = pytest.importorskip("torch")
    with pytest.raises(nnx.InputError, match="class_weight names the class a torch Tensor"):
        sample_weights(None, {torch.ones(2): 1.0}, indices, SOFTMAX, 4, M)
