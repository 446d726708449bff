"""scikit-learn's own callbacks see the fits of the estimators: the progress, and the scores of each epoch."""

import io
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9")

from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nnx.sklearn import MLPClassifier, MLPRegressor, StackedSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Recorder:
    """Notes the tasks, and asks for the end of the fit after some epochs."""

    def __init__(self, stop_after=None):
        self.said, self.stop_after, self.fitted = [], stop_after, []

    def setup(self, estimator, context):
        self.said.append("setup")

    def teardown(self, estimator, context):
        self.said.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.said.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.said.append(f"end {context.task_name} {context.task_id}")
        self.fitted.append((context.task_name, X, y, metadata, fitted_estimator))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def made(kind=MLPClassifier, **parameters):
    return kind(**{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | parameters)


@pytest.fixture
def classes(rng):
    X = rng.standard_normal((60, 3))
    return X, np.array(["a", "b", "c"])[np.where(X[:, 0] > 0.8, 2, (X[:, 1] > 0).astype(int))]


def scores(monitor, task="epoch"):
    return [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == task]


@pytest.mark.parametrize("solver", ["adam", pytest.param("lbfgs", marks=pytest.mark.long)])
def test_the_scores_of_each_epoch(solver, classes):
    X, y = classes
    monitor = ScoringMonitor(scoring="accuracy")
    one = made(solver=solver).set_callbacks(monitor).fit(X, y)
    expected = [made(solver=solver, max_iter=k).fit(X, y).score(X, y) for k in (1, 2, 3)]
    assert scores(monitor) == expected
    assert scores(monitor, "fit") == [one.score(X, y)]
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.predict(X), one.predict(X))
    one.set_callbacks().fit(X, y)
    assert len(monitor.get_logs(select="all")) == 1


def test_the_tasks_of_a_fit(classes):
    X, y = classes
    recorder = Recorder(stop_after=2)
    w = np.arange(60.0)
    one = made(early_stopping=True).set_callbacks(recorder).fit(X, y, w)
    epochs = [f"{what} epoch {k}" for k in (0, 1) for what in ("begin", "end")]
    assert recorder.said == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]
    assert one.n_iter_ == 2
    for k, (task, X_seen, y_seen, metadata, fitted) in enumerate(recorder.fitted):
        m = 54 if task == "epoch" else 60  # without the samples held out
        assert (len(X_seen), len(y_seen), len(metadata["sample_weight"])) == (m, m, m)
        np.testing.assert_array_equal(y_seen, y[metadata["sample_weight"].astype(int)])
        assert len(fitted.loss_curve_) == min(k + 1, 2)
    np.testing.assert_array_equal(recorder.fitted[-1][-1].predict_proba(X), one.predict_proba(X))


def test_what_a_callback_raises_ends_the_fit(classes):
    class Raises(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise KeyError("mine")

    raising = Raises()
    one = made().set_callbacks(raising)
    with pytest.raises(KeyError, match="mine"):
        one.fit(*classes)
    assert raising.said[-1] == "teardown"
    assert not hasattr(one, "coefs_")
    with pytest.raises(KeyError, match="mine"):
        one.partial_fit(*classes, classes=["a", "b", "c"])
    assert raising.said[-3:] == ["begin fit 0", "begin epoch 0", "teardown"]
    assert not hasattr(one, "_callback_fit_ctx")
    one.set_callbacks().fit(*classes)
    with pytest.raises(TypeError, match="FitCallback"):
        one.set_callbacks("bar")


def test_parts_are_fits_of_an_epoch(classes):
    recorder = Recorder()
    one = made(MLPRegressor).set_callbacks(recorder)
    for _ in range(2):
        one.partial_fit(classes[0], classes[0])
    part = ["setup", "begin fit 0", "begin epoch 0", "end epoch 0", "end fit 0", "teardown"]
    assert recorder.said == part * 2


@pytest.mark.parametrize("solver", ["adam", pytest.param("lbfgs", marks=pytest.mark.long)])
def test_the_members_of_a_fit(solver, classes):
    X, y = classes
    monitor, recorder = ScoringMonitor(scoring="accuracy"), Recorder()
    one = made(n_members=2, solver=solver, max_iter=2).set_callbacks(monitor, recorder).fit(X, y)
    found = [member.score(X, y) for member in one.members_]
    assert scores(monitor, "member") == found == scores(monitor)[1::2]
    assert scores(monitor, "fit") == [one.score(X, y)]
    begun = [text for text in recorder.said if text.startswith("begin")]
    assert sorted(begun) == sorted(
        ["begin fit 0", "begin member 0", "begin member 1", *["begin epoch 0", "begin epoch 1"] * 2]
    )


@pytest.mark.long
def test_pipelines_and_searches_pass_them_on(classes):
    X, y = classes
    bars = [ScoringMonitor(scoring="accuracy") for _ in range(3)]
    # a callback that is set on the estimator itself sees its fits wherever they are
    inner = made().set_callbacks(bars[0])
    make_pipeline(StandardScaler(), inner).fit(X, y)
    assert len(scores(bars[0])) == 3
    grid = {"alpha": [0.0, 1.0]}
    GridSearchCV(made().set_callbacks(bars[1]), grid, cv=2).fit(X, y)
    StackedSearchCV(made().set_callbacks(bars[2]), grid, cv=2).fit(X, y)
    each, stacked = ([len(log.data) for log in bar.get_logs(select="all")] for bar in bars[1:])
    assert sum(each) == sum(stacked) == 5 * 4  # of no stack


@pytest.mark.needs("rich")
def test_the_progress_bar_counts_epochs(classes, monkeypatch):
    import rich

    console = rich.console.Console(file=io.StringIO(), width=100, force_terminal=False)
    monkeypatch.setattr("rich.get_console", lambda: console)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    made(max_iter=4).set_callbacks(ProgressBar()).fit(*classes)
    search = GridSearchCV(made(), {"alpha": [0.0, 1.0]}, cv=2).set_callbacks(
        ProgressBar(max_propagation_depth=None)
    )
    search.fit(*classes)
    assert "MLPClassifier - fit" in console.file.getvalue()
    assert "100%" in console.file.getvalue()
