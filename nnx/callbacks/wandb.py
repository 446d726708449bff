"""A run of Weights & Biases."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from nnx.callbacks.tracker import FINISHED, KILLED, Row, Tracker, text_or_none
from nnx.errors import as_path, items, one_of
from nnx.port.base import require
from nnx.support.deadline import within
from nnx.support.warned import warn

MODES = "online", "offline", "disabled", None

WITHOUT_KEY = "offline", "dryrun", "disabled"
"""The modes of wandb that need no API key; "dryrun" is an old name of "offline"."""

KILLED_CODE = 255
"""The exit code of a run after Ctrl-C: wandb's own."""


class WandB(Tracker):
    """Records a fit as a run of Weights & Biases.

    The run's config has the parameters of the trainer and of the fit. Each epoch has a line of metrics under the names
    of the history (of members the medians), "learning_rate" and "epoch". The run ends as finished, as failed after an
    error, or as killed after Ctrl-C.

    A run that is active (``wandb.init()``) is joined, and stays open. Else the fit has a run of its own, and
    ``wandb.run`` stays as it is.

    A missing package or server ends no fit. One warning says it.

    Parameters
    ----------
    project : str or None
        None: as wandb is set (``WANDB_PROJECT``).
    folder : path or None
        The run's files are in its folder "wandb". None: as wandb is set (``WANDB_DIR``), else the working folder.
    mode : {"online", "offline", "disabled"} or None
        "offline" needs no server; ``wandb sync`` uploads the files later. None: as wandb is set (``WANDB_MODE``). A run
        that should be online is offline where there is no API key; a warning says it.
    entity, name : str or None
        The user or team, and the run's name.
    run : str or None
        The id of a run to go on with.
    params : dict or None
        Further parameters, for the config.
    tags : sequence of str or None
    model : bool
        Whether the model file, "model.safetensors", becomes an artifact of the run at the end.

    Attributes
    ----------
    run : str or None
        The run's id. A second fit with the same object goes on in this run, and so does a resumed fit. Offline each
        has a folder of its own, which ``wandb sync --append`` joins.

    Examples
    --------
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> tracked = WandB("lines", folder="runs", mode="offline", tags=["test"])
    >>> trainer.fit([[0.0, 1.0]], [0, 1], epochs=9, callbacks=tracked)  # doctest: +SKIP
    """

    service = "Weights & Biases"
    handles = ("_run",)
    _run: Any = None

    def __init__(
        self,
        project: str | None = None,
        folder: str | Path | None = None,
        mode: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        run: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        model: bool = False,
    ) -> None:
        self.project, self.entity = text_or_none("project", project), text_or_none("entity", entity)
        self.folder = None if folder is None else as_path("folder", folder)
        self.mode: str | None = one_of("mode", mode, MODES)
        self.name = text_or_none("name", name)
        self.tags = None if tags is None else [str(tag) for tag in items("tags", tags, "a list of texts")]
        super().__init__(run, params, model)

    def open(self, params: dict[str, Any], measures: tuple[str, ...], resumed: bool) -> None:
        """Begin a run, join the active one, or go on with one."""
        wandb = require("wandb", "wandb")
        if self.run is None and wandb.run is not None:
            self._run, self._joined = wandb.run, True
            self._run.config.update(params, allow_val_change=True)
            self._run.tags = (*(self._run.tags or ()), *(self.tags or ()))
        else:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            mode = self._mode(wandb)
            late = partial(_finish, code=KILLED_CODE)
            self._run = within(2 * self.wait, partial(self._begin, wandb, params, mode), late)
        self.run, self._is_open = self._run.id, True
        for name in (*measures, "learning_rate"):
            self._run.define_metric(name, step_metric="epoch")
        if resumed:
            self._logged = int(self._run.summary.get("epoch") or 0)

    def _mode(self, wandb: Any) -> str | None:
        """Return the mode of a run: without an API key "offline", as wandb would ask for one on a terminal."""
        configured = wandb.setup().settings.mode
        can_say = wandb.run is None and configured not in WITHOUT_KEY  # else `login` says no
        if (self.mode or configured) in WITHOUT_KEY or within(self.wait, partial(_has_key, wandb, can_say)):
            return self.mode
        folder = self.folder or os.environ.get("WANDB_DIR") or "."
        warn(
            "Weights & Biases has no API key here, so the run is recorded offline. After `wandb login`, "
            f"`wandb sync {folder}/wandb/offline-run-*` uploads it. mode='offline' needs no key"
        )
        return "offline"

    def _begin(self, wandb: Any, params: dict[str, Any], mode: str | None) -> Any:
        return wandb.init(
            project=self.project, entity=self.entity, dir=self.folder, mode=mode, name=self.name,
            tags=self.tags, config=params, id=self.run, resume="allow" if self.run else None,
            reinit="create_new", settings=wandb.Settings(init_timeout=self.wait),
        )  # fmt: skip

    def send(self, rows: list[Row]) -> None:
        """Log the numbers of epochs."""

        def log() -> None:
            for row in rows:
                self._run.log({"epoch": row.epoch, **row.numbers})

        within(self.wait, log)

    def upload(self, path: Path) -> None:
        """Store a file as an artifact."""
        import wandb

        artifact = wandb.Artifact(f"{self.run}-model", type="model")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, status: str) -> None:
        """End the run, unless it was joined: its numbers are uploaded."""
        if not self._joined:
            code = {FINISHED: 0, KILLED: KILLED_CODE}.get(status, 1)
            within(6 * self.wait, partial(_finish, self._run, code))


def _has_key(wandb: Any, can_say: bool) -> bool:
    """Return whether wandb has credentials, as its `login` says, if it can. It does not ask for them."""
    if can_say and "prompt" in signature(wandb.login).parameters:  # since wandb 0.30
        return bool(wandb.login(prompt=False))
    return bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or wandb.api.api_key)


def _finish(run: Any, code: int) -> None:
    run.finish(exit_code=code)
