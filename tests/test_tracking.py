"""MLflow, Weights & Biases and Optuna: runs and trials, and failures that end no fit. No test needs a server."""

import copy
import json
import pickle
import re
import socket
import struct
import sys
import threading
import tomllib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import nnx
from nnx.callbacks.base import Callbacks
from nnx.callbacks.mlflow_uri import unreachable
from nnx.port.communicator import Alone
from nnx.support.deadline import within

Pair = SimpleNamespace


@dataclass
class Server:
    """A stand-in for MLflow's package, whose client keeps runs here; each call may be made to fail."""

    runs: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    active: str | None = None
    fails: object = lambda name, n: None

    def client(self, tracking_uri=None):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments, **named):
            self.calls.append(name)
            self.fails(name, self.calls.count(name))
            return getattr(type(self), f"do_{name}")(self, *arguments, **named)

        return call

    def do_get_experiment_by_name(self, name):
        return Pair(experiment_id=name)

    def do_create_run(self, experiment, tags, run_name):
        run = f"run{len(self.runs)}"
        self.runs[run] = Pair(params={}, rows={}, tags=dict(tags), status="RUNNING", files=[], name=run_name)
        return Pair(info=Pair(run_id=run))

    def do_update_run(self, run, status):
        self.runs[run].status = status

    do_set_terminated = do_update_run

    def do_set_tag(self, run, key, value):
        self.runs[run].tags[key] = value

    def do_get_run(self, run):
        return Pair(data=Pair(params=self.runs[run].params))

    def do_get_metric_history(self, run, name):
        return [Pair(step=step) for step in self.runs[run].rows]

    def do_log_artifact(self, run, path):
        self.runs[run].files.append(nnx.Trainer.load(path))

    def do_log_batch(self, run, params=(), metrics=()):
        own = self.runs[run]
        names = [one[0] for one in (*params, *metrics)]
        assert all(re.fullmatch(r"[/\w.\- ]{1,250}", name) for name in names)  # MLflow's rule on Windows
        for name, value in params:
            assert own.params.setdefault(name, value) == value  # MLflow changes none
        for name, value, _, step in metrics:
            assert own.rows.setdefault(step, {}).setdefault(name, value) == value


@pytest.fixture
def server(monkeypatch):
    """MLflow's package is a stand-in, and numbers are sent after every epoch."""
    server, package = Server(), ModuleType("mlflow")
    package.MlflowClient = server.client
    package.active_run = lambda: server.active and Pair(info=Pair(run_id=server.active))
    package.get_tracking_uri = lambda: "http://127.0.0.1:9"
    package.entities = Pair(Metric=lambda *values: values, Param=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setattr("nnx.callbacks.tracker.EVERY", 0.0)
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return server


def train(*callbacks, trainer=None, epochs=4, **arguments):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2, 20)), rng.integers(0, 2, 20)
    trainer = trainer or nnx.Trainer(nnx.mlp([2, 3, 1]), backend="numpy")
    trainer.fit(X, Y, epochs=epochs, batch_size=10, validation=(X, Y), callbacks=callbacks, **arguments)
    return trainer


class At(nnx.Callback):
    """Raises an error after an epoch."""

    def __init__(self, error, epoch=2):
        self.error, self.epoch = error, epoch

    def on_epoch(self, trainer, progress):
        if progress.epoch == self.epoch:
            raise self.error


def test_a_run_has_parameters_a_line_an_epoch_tags_and_the_model(server):
    made = nnx.Trainer(
        nnx.mlp([2, 3, 1]), nnx.Momentum(0.1), "numpy", regularization=nnx.Regularization(l2=0.5), seed=3
    )
    tracked = nnx.MLflow(
        experiment="e", name="n", tags={"stage": 1}, params={"by": "me", "seed": 4}, model=True
    )
    trainer = train(nnx.EarlyStopping(patience=99), tracked, trainer=made)
    (run,) = server.runs.values()
    assert (run.status, run.name, run.tags, tracked.run) == ("FINISHED", "n", {"stage": "1"}, "run0")
    expected = {
        "network": repr(trainer.network), "network.parameters": "13", "optimizer": "Momentum",
        "optimizer.learning_rate": "0.1", "optimizer.momentum": "0.9", "regularization.l2": "0.5", "dtype": "float32",
        "seed": "4", "by": "me", "backend": "numpy", "device": "cpu", "fit.batch_size": "10", "fit.m": "20",
        "fit.shuffle": "True",
    }  # fmt: skip
    assert {name: run.params[name] for name in expected} == expected
    assert not [name for name in run.params if name in ("precision", "ranks", "members", "regularization.l1")]
    assert list(run.rows) == [1, 2, 3, 4]
    for name, values in trainer.history.items():
        assert [row[name] for row in run.rows.values()] == values
    assert run.rows[4]["learning_rate"] == pytest.approx(0.1)
    (model,) = run.files
    np.testing.assert_array_equal(model.theta, trainer.theta)


@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [
        (OSError("x"), nnx.CallbackError, "FAILED"),
        (KeyboardInterrupt(), KeyboardInterrupt, "KILLED"),
        (SystemExit(1), SystemExit, "KILLED"),
    ],
)
def test_a_run_ends_as_its_fit(server, error, raised, status):
    tracked = nnx.MLflow(model=True)
    try:
        raise KeyError  # a fit within the handler of another error
    except KeyError:
        train(nnx.MLflow())
        with pytest.raises(raised):
            train(tracked, At(error))
    ended = server.runs[tracked.run]
    assert [run.status for run in server.runs.values()] == ["FINISHED", status]
    assert (list(ended.rows), len(ended.files)) == (
        [1],
        int(status == "KILLED"),
    )  # it is called after the others


@pytest.mark.parametrize("members", [None, 2])
def test_the_run_of_a_fit_that_diverges_has_failed(server, members):
    trainer = nnx.Trainer(
        nnx.mlp([2, 1], output="identity"), nnx.GradientDescent(1e30), "numpy", members=members
    )
    with pytest.raises(nnx.DivergenceError):
        train(nnx.MLflow(), trainer=trainer)
    assert server.runs["run0"].status == "FAILED"


def test_members_have_the_medians(server):
    trainer = nnx.Trainer(nnx.mlp([2, 3, 1]), backend="numpy", members=3)
    train(nnx.MLflow(), trainer=trainer)
    (run,) = server.runs.values()
    assert run.params["members"] == "3"
    assert [row["loss"] for row in run.rows.values()] == [np.median(loss) for loss in trainer.history["loss"]]


def test_an_active_run_is_joined_and_stays_open(server):
    server.do_create_run("e", {}, "mine")
    server.runs["run0"].params["dtype"] = "mine"
    server.active = "run0"
    train(nnx.MLflow(tags={"a": "b"}))
    train(nnx.MLflow(), epochs=1)
    (run,) = server.runs.values()
    assert (run.status, run.params["dtype"], run.tags, list(run.rows)) == (
        "RUNNING",
        "mine",
        {"a": "b"},
        [1, 2, 3, 4],
    )


def test_fits_of_one_object_in_an_active_run_count_on(server):
    server.active = server.do_create_run("e", {}, "mine").info.run_id
    tracked = nnx.MLflow()
    for _ in range(3):
        train(tracked, epochs=1)  # of a new trainer each, as of partial_fit
    assert list(server.runs["run0"].rows) == [1, 2, 3]
    server.active = server.do_create_run("e", {}, "other").info.run_id
    train(tracked, epochs=2)
    assert (list(server.runs["run1"].rows), tracked.run) == ([1, 2], "run1")


@pytest.mark.parametrize(("folder", "runs"), [("runs", ["run0"]), ("other", ["run0", "run1"])])
def test_a_folder_is_joined_where_it_is_mlflows_own(server, alone, folder, runs):
    sys.modules["mlflow"].get_tracking_uri = lambda: "sqlite:///runs/mlflow.db"
    server.active = server.do_create_run("e", {}, "mine").info.run_id
    tracked = nnx.MLflow(alone / folder)
    train(tracked, epochs=1)
    assert [*server.runs] == runs
    assert list(server.runs[tracked.run].rows) == [1]
    assert tracked.run == runs[-1]


def test_names_have_the_characters_that_mlflow_takes(server):
    trainer = nnx.Trainer(nnx.mlp([2, 3, 3], output="softmax"), backend="numpy")
    tracked = nnx.MLflow(params={"lr (max)": 1, "ok": 2, 3: 4, "x" * 300: 5}, tags={"a?": "b"})
    train(tracked, trainer=trainer, metrics=["top_k(2)"])
    (run,) = server.runs.values()
    assert [run.params[name] for name in ("lr _max", "ok", "3", "x" * 250)] == ["1", "2", "4", "5"]
    assert run.tags == {"a_": "b"}
    found = [row["validation_top_k_2"] for row in run.rows.values()]
    assert found == trainer.history["validation_top_k(2)"]


def test_parameters_that_are_refused_cost_no_numbers(server):
    server.fails = failing(("log_batch",), 1, 1)
    with pytest.warns(UserWarning, match="the run run0 of MLflow .* may lack parameters") as said:
        train(nnx.MLflow(), At(KeyError(), epoch=99))
    assert (len(said), list(server.runs["run0"].rows)) == (1, [1, 2, 3, 4])
    assert server.calls.count("log_batch") == 5  # the numbers of each epoch are sent after it


def test_a_run_that_does_not_exist_is_none(server):
    tracked = nnx.MLflow(run="nope")
    with pytest.warns(UserWarning, match="does not record this fit"):
        train(tracked)
    assert tracked.run is None
    server.runs["nope"] = Pair(params={}, rows={}, tags={}, status="", files=[], name="")
    train(tracked)  # it is tried again
    assert (tracked.run, list(server.runs["nope"].rows)) == ("nope", [5, 6, 7, 8])


def test_a_second_fit_goes_on_and_a_copy_begins_a_run(server):
    tracked = nnx.MLflow()
    trainer = train(tracked)
    train(tracked, trainer=trainer, epochs=2)
    assert list(server.runs["run0"].rows) == [1, 2, 3, 4, 5, 6]
    for n, one in enumerate((copy.deepcopy(tracked), pickle.loads(pickle.dumps(tracked))), 1):
        assert one.run is None
        train(one)
        assert list(server.runs[f"run{n}"].rows) == [1, 2, 3, 4]
    train(nnx.MLflow(run="run1"), trainer=trainer, epochs=1)
    assert 7 in server.runs["run1"].rows
    assert {run.status for run in server.runs.values()} == {"FINISHED"}


def test_a_resumed_fit_goes_on_in_its_run_with_every_epoch_once(server, tmp_path):
    callbacks = lambda: [nnx.MLflow(), nnx.Checkpoints(tmp_path, epochs=2)]  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        train(*callbacks(), At(KeyboardInterrupt(), epoch=3))
    (run,) = server.runs.values()
    assert (run.status, list(run.rows)) == ("KILLED", [1, 2, 3])
    server.runs["run0"].status = "RUNNING"
    train(*callbacks(), resume=tmp_path)
    assert (len(server.runs), run.status, list(run.rows)) == (1, "FINISHED", [1, 2, 3, 4])


def test_of_several_ranks_the_first_alone_has_a_run(server):
    callbacks = Callbacks(nnx.MLflow())
    callbacks.rank, callbacks.trainer = 1, train()
    callbacks.call("on_fit_start", 1)
    callbacks.end()
    assert (server.calls, callbacks.states()) == ([], [("MLflow", {"run": None, "offset": 0})])


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("package", "kind"), [("mlflow", nnx.MLflow), ("wandb", nnx.WandB)])
def test_a_missing_package_is_said_once_and_the_fit_goes_on(package, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    expected = train().theta
    with pytest.warns(
        UserWarning, match=rf"does not record this fit.*{package} cannot.*\[{package}\]"
    ) as said:
        found = train(kind(model=True)).theta
    assert len(said) == 1
    np.testing.assert_array_equal(found, expected)


def failing(calls, first, last=10**6):
    """Fail calls of these names from the first to the last."""

    def fails(name, n):
        if name in calls and first <= n <= last:
            raise ConnectionError("the server is away")

    return fails


def test_what_a_failure_left_out_is_sent_at_the_end(server):
    server.fails = failing(("log_batch",), 3, 3)  # that of the second epoch
    with pytest.warns(UserWarning, match="takes no numbers from epoch 2 on.*the server is away") as said:
        train(nnx.MLflow())
    (run,) = server.runs.values()
    assert (len(said), run.status, list(run.rows)) == (1, "FINISHED", [1, 2, 3, 4])
    assert server.calls.count("log_batch") == 4  # parameters, two epochs, and the rest


@pytest.mark.parametrize("first", [1, 2])
def test_a_server_that_stays_away_is_said_once_and_the_run_is_closed_if_it_can_be(server, first):
    server.fails = failing(("log_batch",), first)
    with pytest.warns(UserWarning, match="the server is away") as said:
        train(nnx.MLflow(model=True))
    (run,) = server.runs.values()
    assert (len(said), run.status, len(run.files)) == (1, "FINISHED", 1)


@pytest.mark.parametrize(
    "call", ["create_run", "get_experiment_by_name", "get_run", "set_terminated", "log_artifact"]
)
def test_a_call_that_fails_ends_no_fit(server, call):
    server.fails = failing((call,), 1)
    with pytest.warns(UserWarning, match="the server is away") as said:
        train(nnx.MLflow(model=True))
    assert len(said) == 1
    assert {run.status for run in server.runs.values()} <= {
        "RUNNING" if call == "set_terminated" else "FINISHED"
    }


def test_a_server_that_does_not_answer_costs_a_bounded_wait_and_leaves_no_run_open(server, monkeypatch):
    answers, ended = threading.Event(), threading.Event()
    monkeypatch.setattr("nnx.callbacks.mlflow.OF_SERVER", 0.05)
    monkeypatch.setattr("nnx.callbacks.mlflow.unreachable", lambda uri: "")

    def fails(name, n):
        if name == "create_run":
            answers.wait(60)

    server.fails = fails
    monkeypatch.setattr(
        Server, "do_set_terminated", lambda self, *run: (Server.do_update_run(self, *run), ended.set())
    )
    with pytest.warns(UserWarning, match="no answer within 0.05 seconds") as said:
        train(nnx.MLflow())
    assert (len(said), server.runs) == (1, {})
    answers.set()
    assert ended.wait(60)
    assert server.runs["run0"].status == "KILLED"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may wait where nothing listens")
def test_the_cause_is_said_where_no_server_listens(server, monkeypatch):
    monkeypatch.setattr("nnx.callbacks.mlflow.OF_SERVER", 0.05)
    server.fails = lambda name, n: threading.Event().wait(60)  # MLflow tries again and again
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.warns(
            UserWarning, match=rf"no connection to 127.0.0.1:{port}: Connection refused"
        ) as said:
            train(nnx.MLflow(f"http://127.0.0.1:{port}"))
    assert len(said) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may wait where nothing listens")
@pytest.mark.parametrize("proxy", ["http_proxy", "all_proxy"])
def test_behind_a_proxy_a_server_that_cannot_be_reached_directly_is_no_cause(monkeypatch, proxy):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert "no connection" in unreachable(uri)
        monkeypatch.setenv(proxy, "http://proxy:3128")
        assert unreachable(uri) == ""
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert "no connection" in unreachable(uri)


def test_an_error_within_a_time_is_raised_and_a_late_one_is_not():
    with pytest.raises(OSError, match="own"):
        within(60, lambda: At(OSError("own"), 1).on_epoch(None, Pair(epoch=1)))
    assert within(60, lambda: 3) == 3
    with pytest.raises(RuntimeError, match="the library raised KeyboardInterrupt"):  # it is no Ctrl-C
        within(60, lambda: At(KeyboardInterrupt(), 1).on_epoch(None, Pair(epoch=1)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nnx.MLflow(params=[1]), "params must be a dict"),
        (lambda: nnx.MLflow(tags="a"), "tags must be a dict"),
        (lambda: nnx.MLflow(run=3), "run must be a text"),
        (lambda: nnx.MLflow(uri=3), "uri must be a path"),
        (
            lambda: nnx.MLflow("htp://x"),
            "uri='htp://x' begins with 'htp', which MLflow does not know; give a server",
        ),
        (lambda: nnx.MLflow("localhost:5000"), "such as 'http://127.0.0.1:5000', a folder"),
        (lambda: nnx.MLflow("http:/x"), "names no server; expected 'http://HOST:PORT'"),
        (lambda: nnx.MLflow("https://x:five"), "names no server; expected 'https://HOST:PORT'"),
        (lambda: nnx.MLflow("sqlite:runs.db"), "expected 'sqlite://...', such as 'sqlite:///runs.db'"),
        (lambda: nnx.MLflow(model="yes"), "model must be True or False"),
        (lambda: nnx.WandB(mode="of"), "Known: online, offline, disabled"),
        (lambda: nnx.WandB(tags="a"), "tags must be a list of texts"),
        (lambda: nnx.WandB(project=""), "project must be a text"),
    ],
)
def test_a_wrong_argument_is_said(make, said):
    with pytest.raises(nnx.InputError) as error:
        make()
    assert said in str(error.value)


def test_what_mlflow_knows_is_a_uri_and_all_else_a_folder(tmp_path):
    uris = (
        "databricks",
        "databricks://me",
        "mysql+pymysql://u@h/db",
        "file:/runs",
        "https://h",
        "sqlite:///a.db",
    )
    assert [nnx.MLflow(uri).uri for uri in uris] == [*uris]
    for folder in ("runs", "C:/runs", tmp_path / "a:b", "/path/to/a:b"):
        made = nnx.MLflow(folder)
        assert (made.uri, made.folder.name) == (None, Path(folder).name)


# --- estimators ------------------------------------------------------------------------------------------------------


@pytest.mark.needs("sklearn")
def test_every_fit_of_an_estimators_clones_is_a_run(server):
    from sklearn.model_selection import cross_val_score

    from nnx.sklearn import MLPClassifier

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 2)), rng.integers(0, 2, 30)
    tracked = nnx.MLflow()
    estimator = MLPClassifier(hidden_layer_sizes=(3,), max_iter=3, backend="numpy", callbacks=[tracked])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        estimator.fit(X, y)
        cross_val_score(estimator, X, y, cv=3, error_score="raise")
    assert [list(run.rows) for run in server.runs.values()] == [[1, 2, 3]] * 4
    assert server.runs["run0"].rows[3]["loss"] == estimator.loss_curve_[-1]
    estimator.partial_fit(X, y)
    assert list(server.runs[tracked.run].rows) == [1, 2, 3, 4]


@pytest.mark.needs("sklearn", "optuna")
@pytest.mark.parametrize("members", [None, 2])
def test_trackers_and_pruners_see_the_validation_of_an_estimator(server, members):
    from nnx.sklearn import MLPClassifier

    rng = np.random.default_rng(0)
    X, y, trial = rng.standard_normal((30, 2)), rng.integers(0, 2, 30), Trial()
    arguments = {"max_iter": 3, "backend": "numpy", "random_state": 0, "n_members": members}
    callbacks = [nnx.OptunaPruning(trial), nnx.MLflow()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        made = MLPClassifier((3,), early_stopping=True, callbacks=callbacks, **arguments).fit(X, y)
    rows, each = server.runs["run0"].rows.values(), made.members_ if members else [made]
    for name, curve in (
        ("validation_loss", "validation_loss_curve_"),
        ("validation_score", "validation_scores_"),
    ):
        expected = np.median([getattr(one, curve) for one in each], axis=0)
        np.testing.assert_allclose([row[name] for row in rows], expected)
    assert trial.reports == [*enumerate((row["validation_loss"] for row in rows), 1)]
    with pytest.raises(nnx.InputError, match="early_stopping=True instead"):
        MLPClassifier((3,), callbacks=nnx.OptunaPruning(trial), **arguments).fit(X, y)


# --- Optuna ----------------------------------------------------------------------------------------------------------


class Trial:
    """A trial that is pruned at a step."""

    def __init__(self, at=10**6):
        self.at, self.reports = at, []

    def report(self, value, step):
        self.reports.append((step, value))

    def should_prune(self):
        return self.reports[-1][0] >= self.at


@pytest.mark.needs("optuna")
@pytest.mark.parametrize("members", [None, 2])
def test_a_trial_has_every_epoch_and_a_pruned_fit_stays_as_it_is(server, members):
    import optuna

    expected = train(trainer=nnx.Trainer(nnx.mlp([2, 3, 1]), backend="numpy", members=members), epochs=3)
    trial, trainer = Trial(at=3), nnx.Trainer(nnx.mlp([2, 3, 1]), backend="numpy", members=members)
    pruning = nnx.OptunaPruning(trial)
    with pytest.raises(optuna.TrialPruned, match="pruned after epoch 3"):
        train(pruning, nnx.MLflow(), trainer=trainer)
    losses = [float(np.median(loss)) for loss in expected.history["validation_loss"]]
    assert trial.reports == [*zip((1, 2, 3), losses, strict=True)]
    assert (pruning.best, server.runs["run0"].status) == (min(losses), "KILLED")
    np.testing.assert_array_equal(trainer.theta, expected.theta)
    assert trainer.history == expected.history
    train(trainer=trainer)  # it can go on


@pytest.mark.needs("optuna", "sklearn")
def test_clones_report_to_their_trial_fold_behind_fold(tmp_path):
    import optuna
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score

    from nnx.sklearn import MLPClassifier

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 2)), rng.integers(0, 2, 30)

    def estimator(trial, **more):
        pruning = nnx.OptunaPruning(trial, "loss")
        return MLPClassifier((3,), max_iter=4, backend="numpy", random_state=0, callbacks=[pruning], **more)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        for more in ({}, {"n_members": 2}):
            trial = Trial()
            cross_val_score(clone(estimator(trial, **more)), X, y, cv=3, error_score="raise")
            assert [step for step, _ in trial.reports] == [*range(1, 13)]
        trial = Trial(at=6)
        with pytest.raises(optuna.TrialPruned):
            cross_val_score(estimator(trial), X, y, cv=3, error_score="raise")
        assert len(trial.reports) == 6
        made = estimator(Trial()).fit(X, y)
    alone = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(alone.predict(X), made.predict(X))
    with pytest.raises(nnx.InputError, match="has no trial"):
        alone.fit(X, y)


@pytest.mark.needs("optuna")
def test_a_study_prunes_and_a_wrong_direction_is_said():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        rate = trial.suggest_categorical("rate", [0.1, 1e-9])
        trainer = nnx.Trainer(nnx.mlp([2, 3, 1]), nnx.Adam(rate), "numpy")
        return train(nnx.OptunaPruning(trial), trainer=trainer).history["validation_loss"][-1]

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    study = optuna.create_study(
        pruner=pruner, sampler=optuna.samplers.GridSampler({"rate": [0.1, 1e-9]}, seed=1)
    )
    study.enqueue_trial({"rate": 0.1})
    study.enqueue_trial({"rate": 1e-9})
    study.optimize(objective, 2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert list(study.trials[0].intermediate_values) == [1, 2, 3, 4]

    trial = study.ask()
    with pytest.raises(
        nnx.InputError, match="looks for the minimum, and of 'validation_accuracy' the maximum"
    ):
        nnx.OptunaPruning(trial, "validation_accuracy")
    with pytest.raises(nnx.InputError, match="the study has 2 objectives"):
        nnx.OptunaPruning(optuna.create_study(directions=["minimize", "maximize"]).ask())
    with pytest.raises(
        nnx.InputError, match=r"trial must be the optuna.Trial that the objective is given, not 3"
    ):
        nnx.OptunaPruning(3)
    with pytest.raises(nnx.InputError, match="unknown number to monitor 'validation_los'"):
        train(
            nnx.OptunaPruning(
                trial,
                "validation_los",
            )
        )


# --- the command line ------------------------------------------------------------------------------------------------

DIABETES = ("train", "diabetes", "--layers", 4, "--epochs", 3, "--no-plots", "--out", "r")


@pytest.mark.filterwarnings("default:MLflow at:UserWarning")
def test_nnx_train_records_a_run_in_the_targets_unit(run, server, tmp_path):
    metric = ("--metrics", "mean_absolute_error")
    status, _, err = run(*DIABETES, *metric, "--mlflow", "folder")
    assert (status, "MLflow" in err) == (0, False)
    (found,) = server.runs.values()
    assert (found.name, found.params["data"], found.status) == ("r", "diabetes", "FINISHED")
    history = [json.loads(line) for line in (tmp_path / "r" / "history.jsonl").read_text().splitlines()]
    name = "validation_mean_absolute_error"
    assert [row[name] for row in found.rows.values()] == [row[name] for row in history]
    config = tomllib.loads((tmp_path / "r" / "config.toml").read_text())
    assert config["mlflow"] == str((tmp_path / "folder").resolve())
    assert run("train", "--resume", "r", "--epochs", 4)[0] == 0
    assert (len(server.runs), list(found.rows)) == (1, [1, 2, 3, 4])

    server.fails = failing(("create_run",), 1)
    status, _, err = run(*DIABETES, "--overwrite", "--mlflow", "auto")
    assert status == 0
    (line,) = [line for line in err.splitlines() if "does not record this fit" in line]
    assert line.startswith("Warning: MLflow at http://127.0.0.1:9 ")


def test_nnx_train_records_in_a_project(run, monkeypatch):
    package = Wandb(lambda name, n: None)
    package.key = True
    monkeypatch.setitem(sys.modules, "wandb", package)
    assert run(*DIABETES, "--wandb", "houses")[0] == 0
    assert (package.named["project"], package.named["name"]) == ("houses", "r")
    assert (len(package.rows), package.ended) == (3, 0)


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_nnx_train_says_a_missing_package_before_anything_is_done(run, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    status, out, err = run(*DIABETES, f"--{package}", "auto")
    assert (status, out) == (1, "")
    assert re.fullmatch(rf"Error: {package} cannot be imported .*; install it: .*\[{package}\]\"\n", err)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--mlflow", "htp://x"), "mlflow='htp://x' begins with 'htp', which MLflow does not know"),
        (("--mlflow", ""), "mlflow must be a path"),
        (("--wandb", ""), "wandb must be a text; given ''"),
        (("--mlflow", "http:/x", "--sweep", "seed=0 1"), "mlflow='http:/x' names no server"),
    ],
)
def test_nnx_train_says_a_tracker_that_is_none_before_anything_is_done(run, server, tmp_path, given, said):
    status, out, err = run(*DIABETES, *given)
    assert (status, out, err.startswith(f"Error: {said}")) == (2, "", True), err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("uri", ["databricks", "file:runs", "sqlite:///a.db", "auto"])
def test_a_uri_stays_in_the_configuration_as_it_is(run, uri):
    from nnx.cli.config import text
    from nnx.cli.options import Options

    assert tomllib.loads(text(Options("digits", mlflow=uri), "trains"))["mlflow"] == uri


@pytest.mark.parametrize("again", [(), ("--mlflow", "folder")])
def test_a_resumed_run_of_nnx_train_keeps_its_tracker(run, server, again):
    assert run(*DIABETES, "--mlflow", "folder")[0] == 0
    status, _, err = run("train", "--resume", "r", "--mlflow", "other")
    assert (status, "--mlflow cannot be given with --resume" in err) == (2, True)
    assert run("train", "--resume", "r", "--epochs", 4, *again)[0] == 0
    assert [list(one.rows) for one in server.runs.values()] == [[1, 2, 3, 4]]


def test_every_rank_has_the_trackers_and_the_first_alone_records(run, server, monkeypatch):
    """All have them, since a checkpoint has their states."""
    from nnx.cli.options import Options
    from nnx.cli.prepared import Reader
    from nnx.cli.running import follow
    from nnx.cli.training import prepare

    class Second(Alone):
        rank = 1

    monkeypatch.setitem(sys.modules, "wandb", package := Wandb(lambda name, n: None))
    options = Options(
        "diabetes",
        layers="4",
        validation="0",
        epochs=2,
        mlflow="folder",
        wandb="houses",
        communicator=Second(),
    )
    training = prepare(options, Reader())
    assert (follow(training, None), len(training.trainer.records)) == (0, 2)
    assert (server.calls, package.rows) == ([], [])


def test_a_run_in_the_working_folder_has_its_name(run, server, tmp_path):
    assert run(*DIABETES[:-1], ".", "--mlflow", "folder", "--overwrite")[0] == 0
    assert server.runs["run0"].name == tmp_path.name


@pytest.mark.long
@pytest.mark.needs("mlflow", "sqlalchemy", "alembic")
def test_nnx_train_leaves_a_run_of_mlflow_itself_in_a_folder(run, alone):
    assert run(*DIABETES, "--mlflow", "folder")[0] == 0
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{alone.as_posix()}/folder/mlflow.db")
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert (found.info.run_name, found.info.status, found.data.params["data"]) == (
        "r",
        "FINISHED",
        "diabetes",
    )


# --- the packages themselves -----------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A working folder, and folders of the trackers, of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path.as_posix()}/own.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb's"))
    (tmp_path / "wandb's").mkdir()
    monkeypatch.setattr("nnx.callbacks.tracker.EVERY", 0.0)
    return tmp_path


@pytest.mark.long
@pytest.mark.needs("mlflow", "sqlalchemy", "alembic")
def test_mlflow_itself_has_the_run_in_a_folder_and_nowhere_else(alone):
    import mlflow

    tracked = nnx.MLflow("runs", experiment="e", tags={"a": "b"}, model=True)
    trainer = train(tracked)
    train(tracked, trainer=trainer, epochs=2)
    client = mlflow.MlflowClient(f"sqlite:///{alone.as_posix()}/runs/mlflow.db")
    run = client.get_run(tracked.run)
    assert (run.info.status, run.data.tags["a"], run.data.params["optimizer"]) == ("FINISHED", "b", "Adam")
    found = client.get_metric_history(tracked.run, "validation_loss")
    assert [(one.step, one.value) for one in found] == [*enumerate(trainer.history["validation_loss"], 1)]
    assert [one.path for one in client.list_artifacts(tracked.run)] == ["model.safetensors"]
    assert sorted(path.name for path in alone.iterdir()) == ["runs", "wandb's"]
    assert sorted(path.name for path in (alone / "runs").iterdir()) == ["artifacts", "mlflow.db"]
    with mlflow.start_run() as mine:
        joined = nnx.MLflow()
        train(joined)
        assert (joined.run, mlflow.active_run().info.run_id) == (mine.info.run_id,) * 2
    assert mlflow.get_run(joined.run).data.metrics["loss"] > 0
    train(own := nnx.MLflow())  # as MLFLOW_TRACKING_URI says
    found = mlflow.MlflowClient(f"sqlite:///{alone.as_posix()}/own.db").get_run(own.run)
    assert (found.info.status, found.data.metrics["loss"] > 0) == ("FINISHED", True)


@pytest.mark.long
@pytest.mark.needs("mlflow")
def test_a_server_that_is_absent_is_said_within_seconds(alone, monkeypatch):
    monkeypatch.setattr("nnx.callbacks.mlflow.OF_SERVER", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.warns(UserWarning, match="MLflow at http://127.0.0.1:9 does not.*no connection to") as said:
        trainer = train(nnx.MLflow("http://127.0.0.1:9"))
    assert (len(said), len(trainer.records)) == (1, 4)


def records(path):
    """The records of a run's file: protobuf messages in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        n, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part += data[at + 7 : at + 7 + n]
        at += 7 + n
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


@pytest.mark.long
@pytest.mark.needs("wandb")
def test_wandb_itself_has_the_run_in_a_folder(alone, monkeypatch):
    import wandb

    tracked = nnx.WandB("p", folder="runs", tags=["a"], model=True, params={"by": "me"})
    trainer = train(tracked)
    assert wandb.run is None
    wandb.teardown()  # its process writes the rest, and ends
    (path,) = alone.glob("runs/wandb/offline-run-*/*.wandb")
    rows, config, files, status = [], {}, [], None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            rows.append({one.key or one.nested_key[0]: float(one.value_json) for one in record.history.item})
        elif kind == "run":
            config |= {one.key: one.value_json for one in record.run.config.update}
        elif kind == "artifact":
            files += [one.path for one in record.artifact.manifest.contents]
        elif kind == "exit":
            status = record.exit.exit_code
    assert [row["validation_loss"] for row in rows] == trainer.history["validation_loss"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert (config["by"], config["optimizer"], files, status) == ('"me"', '"Adam"', ["model.safetensors"], 0)
    with pytest.raises(KeyboardInterrupt):
        train(nnx.WandB("p", folder="killed"), At(KeyboardInterrupt()))
    wandb.teardown()
    (path,) = alone.glob("killed/wandb/offline-run-*/*.wandb")
    assert [one.exit.exit_code for one in records(path) if one.WhichOneof("record_type") == "exit"] == [255]
    with wandb.init(project="p", dir=alone) as mine:
        joined = nnx.WandB()
        train(joined)
        assert (joined.run, wandb.run.id, mine.summary["epoch"]) == (mine.id, mine.id, 4)
    wandb.teardown()
    assert sorted(path.name for path in alone.iterdir()) == ["killed", "runs", "wandb", "wandb's"]
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(alone / "no such file"))
    with pytest.warns(UserWarning, match="no API key here"):
        train(nnx.WandB("p", folder="keyless"))
    wandb.teardown()
    assert [*alone.glob("keyless/wandb/offline-run-*/*.wandb")]


class Wandb:
    """A stand-in for wandb's package and its run, whose log may fail."""

    run, key, mode = None, "key", "online"
    Settings = staticmethod(lambda **named: named)

    def __init__(self, fails):
        self.fails, self.rows, self.ended, self.id, self.summary = fails, [], None, "r", {}

    def setup(self):
        return Pair(settings=Pair(mode=self.mode))

    def login(self, prompt):
        assert not prompt
        return self.key is not None

    @property
    def api(self):
        return Pair(api_key=self.key)

    def init(self, **named):
        self.named = named
        self.fails("init", 1)
        return self

    def define_metric(self, name, step_metric):
        pass

    def log(self, row):
        self.rows.append(row)
        self.fails("log", len(self.rows))

    def finish(self, exit_code):
        self.ended = exit_code


@pytest.mark.parametrize(("call", "ended"), [("init", None), ("log", 0)])
def test_a_failure_of_wandb_ends_no_fit(call, ended, monkeypatch):
    package = Wandb(failing((call,), 1, 2))
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setattr("nnx.callbacks.tracker.EVERY", 0.0)
    with pytest.warns(UserWarning, match="Weights & Biases .*the server is away") as said:
        train(nnx.WandB())
    assert (len(said), package.ended) == (1, ended)


class OldWandb(Wandb):
    """The same before wandb 0.30, when a login without a key was a question."""

    def login(self):
        raise AssertionError("it asks")


@pytest.mark.parametrize("kind", [Wandb, OldWandb])
@pytest.mark.parametrize(("given", "set_to"), [(None, "online"), ("online", "online"), ("online", "offline")])
def test_without_a_key_of_wandb_the_run_is_offline_and_nobody_is_asked(kind, given, set_to, monkeypatch):
    monkeypatch.delenv("WANDB_IDENTITY_TOKEN_FILE", raising=False)
    package = kind(lambda name, n: None)
    package.mode = set_to
    monkeypatch.setitem(sys.modules, "wandb", package)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in (given, "offline", "disabled"):
            train(nnx.WandB(mode=mode))
            assert package.named["mode"] == mode
    package.key = None
    with pytest.warns(UserWarning, match="no API key here, so the run is recorded offline") as said:
        train(nnx.WandB(mode=given))
    assert (len(said), package.named["mode"], package.ended) == (1, "offline", 0)
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token")
    if kind is OldWandb:
        train(nnx.WandB(mode=given))
        assert package.named["mode"] == given


def test_an_interrupt_that_wandb_raises_itself_ends_no_fit(monkeypatch):
    def fails(name, n):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "wandb", Wandb(fails))
    with pytest.warns(UserWarning, match="does not record this fit.*the library raised KeyboardInterrupt"):
        train(nnx.WandB())
