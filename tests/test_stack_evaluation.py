"""Predictions, losses and metrics of all members at once are those of each member."""

from collections.abc import Sequence

import numpy as np
import pytest

import nnx
from nnx.array.namespace import array_namespace
from nnx.metrics import METRICS
from nnx.metrics.measure import Mean
from nnx.train import evaluation

CLASSES = ["accuracy", "precision", "recall(micro)", "f1(none)", "roc_auc", "log_loss"]
NUMBERS = ["r2", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"]


class Furthest:
    """A metric of a user's: the largest distance, and the number of samples."""

    name = "furthest"

    def partial(self, output, A, Y, w):
        assert A.ndim == 2
        assert Y.ndim <= 2
        xp = array_namespace(A)
        return xp.max(xp.abs(A - 1), axis=-1), xp.sum(A, axis=-1)

    def result(self, partials: Sequence, to_numpy):
        return float(max(to_numpy(part[0]).max() for part in partials))


class SharePositive(Mean):
    """One that is made of nnx's own base class."""

    kind, tasks = (
        "share_positive",
        ("numbers", "two classes", "one class of several", "several labels at once"),
    )

    def each(self, output, A, Y):
        return A[0, :] > 0.4


def distance(Y, A, sample_weight=None):
    assert A.shape[-1] == Y.shape[-1]
    return float(np.average(np.abs(A).reshape(-1, A.shape[-1]).sum(axis=0), weights=sample_weight))


# Of each form of output and targets: n[L], the targets of X, and the metrics.
FORMS = {
    "identity": (1, lambda X: X[0] ** 2, NUMBERS),
    "identity, two": (2, lambda X: X[:2] ** 2, NUMBERS),
    "exp": (1, lambda X: np.floor(np.abs(X[:1])), NUMBERS),
    "sigmoid": (1, lambda X: (X[0] > 0).astype(int), [*CLASSES, "confusion_matrix"]),
    "sigmoid, labels": (3, lambda X: (X > 0).astype("float32"), CLASSES),
    "softmax, indices": (
        3,
        lambda X: (X[0] > 0).astype(int) + (X[1] > 0),
        [*CLASSES, "confusion_matrix", "top_k(2)"],
    ),
    "softmax, one-hot": (
        3,
        lambda X: np.eye(3, dtype="float32")[:, (X[0] > 0) + 0 + (X[1] > 0)],
        [*CLASSES, "top_k(2)"],
    ),
}


def made(backend, form, K=4):
    n, target, metrics = FORMS[form]
    network = nnx.mlp([3, 6, n], output=form.partition(",")[0])
    return nnx.Trainer(network, nnx.Adam(0.05), backend, members=K), target, metrics


def check(found, one, k, rtol=1e-5):
    assert found.keys() == one.keys()
    for name, x in one.items():
        np.testing.assert_allclose(found[name][k], x, rtol=rtol, atol=1e-6, err_msg=name)


def check_all(backend, form, weighted, rng, K, batch_sizes):
    trainer, target, names = made(backend, form, K)
    X = rng.standard_normal((3, 40)).astype("float32")
    Y, w = target(X), np.arange(40.0) if weighted else None
    metrics = [*names, Furthest(), SharePositive(), distance]
    for batch_size in batch_sizes:
        found = trainer.evaluate(X, Y, batch_size, sample_weight=w, metrics=metrics)
        A = trainer.predict(X, batch_size)
        for k in range(K):
            one = trainer.member(k)
            check(found, one.evaluate(X, Y, batch_size, sample_weight=w, metrics=metrics), k)
            np.testing.assert_allclose(A[k], one.predict(X, batch_size), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_members_are_evaluated_at_once_as_each_is(form, weighted, rng):
    check_all("numpy", form, weighted, rng, 3, (16 if weighted else None,))


@pytest.mark.long
@pytest.mark.parametrize("form", ["identity, two", "softmax, indices"])
@pytest.mark.parametrize("backend", ["torch", "jax", "strict", "cupy"], indirect=True)
def test_members_are_evaluated_at_once_elsewhere(backend, form, rng):
    check_all(backend, form, True, rng, 2, (None,))


@pytest.mark.parametrize("form", ["sigmoid", "sigmoid, labels", "softmax, indices"])
def test_members_classify_at_once(form, rng):
    trainer, _, _ = made("numpy", form, 3)
    X = rng.standard_normal((3, 5)).astype("float32")
    for rows in (False, True):
        given = X.T if rows else X
        for x in (given, X[:, 0]):
            A, classes = trainer.predict(x, rows=rows), trainer.classify(x, rows=rows)
            for k in range(3):
                np.testing.assert_array_equal(A[k], trainer.member(k).predict(x, rows=rows))
                np.testing.assert_array_equal(classes[k], trainer.member(k).classify(x, rows=rows))


@pytest.mark.parametrize("form", ["identity, two", "sigmoid, labels", "softmax, indices"])
def test_a_fit_measures_all_members_at_once(form, rng, monkeypatch):
    """One call an epoch; the numbers are those of single runs, while some members end before others."""
    trainer, target, names = made("numpy", form, 4)
    (X, Y), (held, wanted) = (
        (x, target(x)) for x in (rng.standard_normal((3, m)).astype("float32") for m in (60, 30))
    )
    given = {"epochs": 12, "batch_size": 20, "validation": (held, wanted), "metrics": [*names, Furthest()]}
    stopping = nnx.EarlyStopping(patience=1, min_delta=0.01)
    calls, measure = [], evaluation.measure
    monkeypatch.setattr(evaluation, "measure", lambda *arguments: calls.append(1) or measure(*arguments))
    trainer.fit(X, Y, callbacks=stopping, **given)
    assert len(calls) == 2 * len(trainer.history["loss"])  # of the validation and of the training samples
    for k in range(4):
        single = nnx.Trainer(trainer.network, nnx.Adam(0.05), "numpy", seed=k)
        single.fit(X, Y, callbacks=nnx.EarlyStopping(patience=1, min_delta=0.01), **given)
        assert len(trainer.records[k]) == len(single.records)
        for mine, its in zip(trainer.records[k], single.records, strict=True):
            assert mine.keys() == its.keys()
            for name, x in its.items():
                np.testing.assert_allclose(mine[name], x, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_metric_is_tried():
    tried = {name.partition("(")[0] for _, _, names in FORMS.values() for name in names}
    assert tried == {*METRICS}


def test_weights_of_nothing_are_an_error(rng):
    trainer, _, _ = made("numpy", "identity")
    with pytest.raises(nnx.InputError, match="sample_weight is 0 for all"):
        trainer.evaluate(np.ones((3, 4)), np.ones(4), sample_weight=np.zeros(4))
