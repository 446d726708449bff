"""A run of MLflow, by its client."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from nnx.callbacks.mlflow_uri import place, unreachable
from nnx.callbacks.tracker import KILLED, Row, Tracker, text_or_none
from nnx.errors import InputError, shown
from nnx.port.base import require
from nnx.support.deadline import within

AT_ONCE = 1000
"""Numbers that MLflow takes in one call; of parameters and tags a tenth."""

OF_SERVER = 5.0
"""Seconds after which a call of a server counts as failed: MLflow itself tries again for minutes."""

OF_FILES = 60.0
"""The same of a database in a file: a new one is made in some seconds."""

LONGEST = 500
"""Characters of a parameter that every MLflow takes."""

LONGEST_NAME = 250
"""The same of a name."""


class MLflow(Tracker):
    """Records a fit as a run of MLflow.

    The run has the parameters of the trainer and of the fit, a line of metrics an epoch under the names of the history
    (of members the medians) and "learning_rate", and its status: FINISHED, FAILED after an error, KILLED after Ctrl-C.

    A fit within ``with mlflow.start_run():`` is recorded in that run, which stays open, if `uri` is None or MLflow's
    own tracking URI. Else the fit has a run of its own. nnx uses MLflow's client, and changes none of MLflow's global
    settings.

    A missing package or server ends no fit. One warning says it. After a failure nothing is sent until the fit's end,
    when the rest is sent and the run is ended, if the server answers again.

    Parameters
    ----------
    uri : str, path or None
        The tracking server, such as "http://127.0.0.1:5000", or a folder: its files ``mlflow.db`` and ``artifacts``
        hold the runs, and need no server. None: as MLflow is set (``mlflow.set_tracking_uri``,
        ``MLFLOW_TRACKING_URI``). Where it is not set, MLflow makes ``mlflow.db`` in the working folder, and ``mlruns``
        for the model.
    experiment : str or None
        Its name; it is made if it does not exist. None: as MLflow is set (``MLFLOW_EXPERIMENT_NAME``), else "nnx".
    name : str or None
        The run's name; None: MLflow chooses one.
    run : str or None
        The id of a run to go on with.
    params, tags : dict or None
        Further parameters, and tags, of the run. MLflow takes names of letters, digits and ``_ - . /`` and spaces.
        Other characters of any name become "_", and ")" is left out: "top_k(3)" is recorded as "top_k_3".
    model : bool
        Whether the model file, "model.safetensors", becomes an artifact of the run at the end.

    Attributes
    ----------
    run : str or None
        The run's id. A second fit with the same object goes on in this run, and so does a resumed fit.

    Raises
    ------
    InputError
        When an argument is of another kind, or `uri` has a scheme that MLflow does not know.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> tracked = MLflow("runs", experiment="lines", tags={"stage": "test"})
    >>> trainer.fit([[0.0, 1.0]], [0, 1], epochs=9, callbacks=tracked)  # doctest: +SKIP
    """

    service = "MLflow"
    handles = ("_client",)
    _client: Any = None
    _at = ""

    def __init__(
        self,
        uri: str | Path | None = None,
        experiment: str | None = None,
        name: str | None = None,
        run: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        model: bool = False,
    ) -> None:
        self.folder, self.uri = place(uri)
        self.experiment = text_or_none("experiment", experiment)
        self.name = text_or_none("name", name)
        if tags is not None and not isinstance(tags, Mapping):
            raise InputError(f"tags must be a dict of the run's tags, or None; given {shown(tags)}")
        self.tags = {_taken(key): str(value) for key, value in (tags or {}).items()}
        super().__init__(run, params, model)

    def open(self, params: dict[str, Any], measures: tuple[str, ...], resumed: bool) -> None:
        """Begin a run, join the one that is active in this thread, or go on with one."""
        mlflow = require("mlflow", "mlflow")
        active, uri = mlflow.active_run(), self.uri or mlflow.get_tracking_uri()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{self.folder.as_posix()}/mlflow.db"
        if self.run is None and active is not None and _absolute(uri) == _absolute(mlflow.get_tracking_uri()):
            self.run, self._joined = active.info.run_id, True
        self.service, self._at = f"MLflow at {uri}", uri
        self.wait = OF_SERVER if uri.startswith("http") else OF_FILES
        goes_on = self.run is not None
        begin = partial(self._begin, mlflow, uri, self.run)
        self._client, self.run = self._ask(begin, late=None if goes_on else _kill)
        self._is_open = True
        lacks = f"the run {self.run} of {{}} may lack parameters and numbers"
        self._try(lacks, self._ask, partial(self._describe, mlflow.entities.Param, params, resumed))
        self._failed = False  # the numbers may get there

    def _ask(self, call: Callable[[], Any], late: Callable[[Any], Any] | None = None) -> Any:
        """Return the result of a call of MLflow, or raise an error with the cause: MLflow itself only tries again."""
        try:
            return within(self.wait, call, late)
        except TimeoutError as error:
            if why := unreachable(self._at):
                raise ConnectionError(why) from error
            raise

    def _begin(self, mlflow: Any, uri: str, run: str | None) -> tuple[Any, str]:
        client = mlflow.MlflowClient(tracking_uri=uri)
        if run is None:
            made = client.create_run(self._experiment(client), tags=self.tags, run_name=self.name)
            return client, made.info.run_id
        if not self._joined:
            client.update_run(run, status="RUNNING")
        for key, value in self.tags.items():
            client.set_tag(run, key, value)
        return client, run

    def _experiment(self, client: Any) -> str:
        """Return the id of the experiment."""
        set_id = os.environ.get("MLFLOW_EXPERIMENT_ID")  # by mlflow.set_experiment, too
        if self.experiment is None and self.folder is None and set_id:
            return set_id
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "nnx"
        location = None if self.folder is None else (self.folder / "artifacts").as_uri()
        if client.get_experiment_by_name(name) is None:
            with suppress(Exception):  # another process may have made it just now
                client.create_experiment(name, artifact_location=location)
        return str(client.get_experiment_by_name(name).experiment_id)

    def _describe(self, param: Any, params: dict[str, Any], resumed: bool) -> None:
        """Log the parameters that the run does not have yet: MLflow refuses to change them."""
        client = self._client
        if resumed:  # of epochs later than the checkpoint, too: they are done again, with the same numbers
            steps = [metric.step for metric in client.get_metric_history(self.run, "loss")]
            self._logged = max(steps, default=0)
        named, known = {_taken(name): x for name, x in params.items()}, client.get_run(self.run).data.params
        new = [(name, str(x)[:LONGEST]) for name, x in named.items() if name not in known]
        for first in range(0, len(new), AT_ONCE // 10):
            some = [param(*one) for one in new[first : first + AT_ONCE // 10]]
            client.log_batch(self.run, params=some)

    def send(self, rows: list[Row]) -> None:
        """Log the numbers of epochs."""
        import mlflow

        metrics = [
            mlflow.entities.Metric(_taken(name), value, int(1000 * row.time), row.epoch)
            for row in rows
            for name, value in row.numbers.items()
        ]
        for first in range(0, len(metrics), AT_ONCE):
            some = metrics[first : first + AT_ONCE]
            self._ask(partial(self._client.log_batch, self.run, metrics=some))

    def upload(self, path: Path) -> None:
        """Store a file as an artifact."""
        self._client.log_artifact(self.run, str(path))

    def close(self, status: str) -> None:
        """End the run, unless it was joined."""
        if not self._joined:
            self._ask(partial(self._client.set_terminated, self.run, status))


def _taken(name: object) -> str:
    """Return a name with the characters that every MLflow takes: "top_k(3)" as "top_k_3"."""
    return re.sub(r"[^\w.\- /]", "_", str(name).replace(")", ""))[:LONGEST_NAME]


def _absolute(uri: str) -> str:
    """Return a URI, that of a database in a file with its whole path."""
    scheme, mark, path = uri.partition("sqlite:///")
    return f"{scheme}{mark}{Path(path).resolve().as_posix()}" if mark else uri


def _kill(begun: tuple[Any, str]) -> None:
    """End a run that was begun too late, and that nothing is recorded in."""
    client, run = begun
    client.set_terminated(run, KILLED)
