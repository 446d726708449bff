"""Searches whose fits are done by workers: the results of one process, and as many threads as each worker may have."""

import os
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from joblib import cpu_count, parallel_config
from sklearn.datasets import load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score

from nnx.sklearn import MLPClassifier, StackedSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = load_iris(return_X_y=True)
ADAM = MLPClassifier((8,), max_iter=5, random_state=0, learning_rate_init=0.03)
NO_STACK = MLPClassifier((8,), max_iter=5, random_state=0, solver="lbfgs")
GRID = {"alpha": [1e-4, 10.0]}


def scores():
    """The accuracy of a fit, its process, and the threads of that process's BLAS: nnx's own are as many at most."""

    def process(estimator, X, y):  # a function within another one is sent to a worker as it is
        return os.getpid()

    def threads(estimator, X, y):
        from threadpoolctl import threadpool_info

        return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    return {"accuracy": "accuracy", "process": process, "threads": threads}


def searched(search):
    """The accuracies, processes and threads of all fits."""
    found = search(scoring=scores(), refit=False, cv=2).fit(X, y).cv_results_
    return [
        np.array([found[f"split{fold}_test_{name}"] for fold in range(2)])
        for name in ("accuracy", "process", "threads")
    ]


def by_workers(search, alone):
    """Each fit has the score of one process, was done by another process than this, and by its part of the cores."""
    accuracies, processes, threads = searched(search)
    assert np.array_equal(accuracies, alone)
    assert os.getpid() not in processes
    assert threads.max() <= max(1, cpu_count() // 2)


def grid_search(**options):
    return GridSearchCV(ADAM, GRID, **options)


def stacked_search(**options):
    return StackedSearchCV(NO_STACK, GRID, **options)


def others():
    """Scores of what has no such scorers."""
    halving = HalvingGridSearchCV(ADAM, GRID, cv=2, random_state=0, factor=2).fit(X, y)
    stacked = StackedSearchCV(ADAM, GRID, cv=2).fit(X, y)
    return [
        cross_val_score(ADAM, X, y, cv=2),
        halving.cv_results_["mean_test_score"],
        stacked.cv_results_["mean_test_score"],
    ]


def test_on_processes_of_this_machine():
    alone = [searched(search)[0] for search in (grid_search, stacked_search)]
    with parallel_config("loky", n_jobs=2):
        for search, its in zip((grid_search, stacked_search), alone, strict=True):
            by_workers(search, its)


@contextmanager
def dask():
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster), parallel_config("dask"):
        yield


@contextmanager
def ray():
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, logging_level="ERROR")
    try:
        with parallel_config("ray", n_jobs=2):
            yield
    finally:
        ray.shutdown()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning")  # Ray forks
@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(dask, marks=pytest.mark.needs("distributed")),
        pytest.param(ray, marks=pytest.mark.needs("ray")),
    ],
)
def test_on_workers_of_a_cluster(workers):
    alone, expected = [searched(search)[0] for search in (grid_search, stacked_search)], others()
    with workers():
        for search, its in zip((grid_search, stacked_search), alone, strict=True):
            by_workers(search, its)
        found = others()
    for x, its in zip(found, expected, strict=True):
        assert np.array_equal(x, its)
