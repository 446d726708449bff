"""scikit-learn: K `MLPClassifier`, shared out over as many processes as there are cores, by joblib."""

import time
from multiprocessing.util import Finalize
from typing import Any

from nnx.bench.case import Case, Data, stacked
from nnx.bench.clocks import nothing, wall
from nnx.bench.contestant import Contestant
from nnx.bench.peers.sklearn import begin, classifier, named
from nnx.support.limits import cores


def train(models: list[Any], X: Any, y: Any, epochs: int) -> list[Any]:
    """Train some of the networks, in a process of their own."""
    for model in models:
        for _ in range(epochs):
            model.partial_fit(X, y)
    return models


def end_workers() -> None:
    """End joblib's processes, for whose end this one would wait."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def contestant(case: Case, data: Data) -> Contestant:
    """Return the contestant. Each process has one job, with its share of the networks, as in `BaggingClassifier`."""
    sklearn = begin(case)
    import joblib

    models, jobs = [classifier(case, data, k) for k in range(case.K)], cores()
    train_together, parallel = joblib.delayed(train), joblib.Parallel(n_jobs=jobs)
    Finalize(None, end_workers, exitpriority=1)

    def seconds(epochs: int) -> float:
        start = time.perf_counter()
        shares = [models[first::jobs] for first in range(min(jobs, case.K))]
        given = (train_together(share, data.X, data.y, epochs) for share in shares)
        for first, share in enumerate(parallel(given)):
            models[first::jobs] = share
        return time.perf_counter() - start

    return Contestant(
        nothing,
        wall(),
        lambda: stacked([named(model) for model in models]),
        f"scikit-learn {sklearn.__version__}, joblib {joblib.__version__}",
        detail=f"n_jobs={jobs}",
        time=seconds,
        has_workers=True,
    )
