"""The base class of callbacks, and the callbacks of a fit, called one after the other."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nnx.callbacks.progress import Progress
from nnx.errors import CallbackError, Error, InputError, first_line, shown, unknown


class Callback:
    """The base of a callback of your own: override the hooks that you need. The others do nothing.

    A hook may read the trainer (`trainer.theta`, `trainer.records`, `trainer.evaluate`, ...), save it, change its
    learning rate (`trainer.learning_rate = ...`) and end the fit (`trainer.stop("why")`). An error in a callback ends
    the fit with a `nnx.CallbackError` that names it. The trainer then has the state after the last step.

    The hooks take the `nnx.Trainer` that fits. It is annotated as Any here, so that yours may have any annotation.

    Examples
    --------
    >>> class Costs(Callback):
    ...     def on_epoch(self, trainer, progress):
    ...         print(progress.epoch, sorted(progress.measured))
    >>> import nnx
    >>> trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    >>> _ = trainer.fit([[0.0, 1.0]], [0, 1], epochs=2, callbacks=Costs())
    1 ['loss']
    2 ['loss']
    """

    often = True
    """Whether `on_step` must be called after every step. If not, a backend may do several steps between two calls, some
    twenty of which come in a second; small networks then train many times faster."""

    each_epoch = True
    """Whether `on_epoch` must be called after every epoch. If not, it is called some two times a second, and a backend
    may do several epochs between two calls."""

    last = False
    """Whether it is called after all others, such as a callback that saves their states."""

    each_member = False
    """Whether, of a trainer with members, each has a copy of its own, whose trainer is the member. If not, it is called
    once for all, with the medians of what is measured."""

    writes = False
    """Whether it only writes, draws or prints. Of several ranks (`communicator`) the first alone then calls its hooks,
    else all do."""

    raises: tuple[type[Exception], ...] = ()
    """Errors that end a fit as they are, not as a `nnx.CallbackError`."""

    def on_fit_start(self, trainer: Any, epochs: int) -> None:
        """Do something before the first epoch; in a resumed fit after `restore`."""

    def on_step(self, trainer: Any, progress: Progress) -> None:
        """Do something after a step. `progress.measured` is None; steps may still be queued on a GPU."""

    def on_epoch(self, trainer: Any, progress: Progress) -> None:
        """Do something after an epoch, whose numbers are in `progress.measured`."""

    def on_fit_end(self, trainer: Any) -> None:
        """Do something at the end of the fit, also when it was stopped, interrupted, or failed."""

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, by name: NumPy arrays and JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned when the checkpoint was written."""

    def expects(self, trainer: Any, state: Mapping[str, Any]) -> Any:
        """Return the form of the state that `restore` takes, see `nnx.support.schema`; None: any."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class _Function(Callback):
    """A plain function of the progress, called after every step and every epoch."""

    def __init__(self, function: Callable[[Progress], Any]) -> None:
        self._function = function

    def on_step(self, trainer: Any, progress: Progress) -> None:
        self._function(progress)

    on_epoch = on_step

    @property
    def saved_as(self) -> str:
        return getattr(self._function, "__qualname__", type(self._function).__name__)


class Callbacks:
    """The callbacks of a fit, called one after the other.

    Parameters
    ----------
    given : Callback, callable, or several of them

    Attributes
    ----------
    trainer : nnx.Trainer
        The trainer that fits; the hooks take it.
    rank : int
        The number of this process; above 0 those that write are not called.
    """

    trainer: Any = None
    rank = 0

    def __init__(self, given: Any) -> None:
        if given is None:
            given = ()
        if callable(given) or isinstance(given, Callback | str) or not _goes_through(given):
            given = (given,)
        self.all: list[Callback] = []
        for one in given:
            if isinstance(one, type) or not (isinstance(one, Callback) or callable(one)):
                hint = f"; write {one.__name__}(...)" if isinstance(one, type) else ""
                raise InputError(
                    "a callback must be an instance of nnx.Callback or a function of the progress; given "
                    f"{shown(one)}{hint}"
                )
            for hook in dir(one):
                if hook.startswith("on_") and isinstance(one, Callback) and hook not in HOOKS:
                    never = f"{type(one).__name__}.{hook} would never be called"
                    raise InputError(f"{never}: {unknown('hook of callbacks', hook, HOOKS)}")
            self.all.append(one if isinstance(one, Callback) else _Function(one))
        self.all.sort(key=lambda one: one.last)
        self.on_steps = [one for one in self.all if type(one).on_step is not Callback.on_step]
        """Those that are called after steps."""
        self.each_step = any(_asks(one, "often", "on_step") for one in self.on_steps)
        """Whether one of them must be called after every step."""
        self.each_epoch = any(_asks(one, "each_epoch", "on_epoch") for one in self.all)
        """Whether one of them must be called after every epoch."""

    def __bool__(self) -> bool:
        return bool(self.all)

    @property
    def names(self) -> list[str]:
        """The class, or the function, of each."""
        return [_name(one) for one in self.all]

    @property
    def remembering(self) -> list[tuple[str, Callback]]:
        """Those that have a state, with their names."""
        both = zip(self.names, self.all, strict=True)
        return [(name, one) for name, one in both if type(one).state is not Callback.state]

    def states(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the name and the state of those that have one."""
        return [(name, _call(one, "state")) for name, one in self.remembering]

    def restore(self, states: Iterable[dict[str, Any]]) -> None:
        """Give those that have a state their states back."""
        for (_, one), state in zip(self.remembering, states, strict=True):
            if self._is_called(one):
                _call(one, "restore", state)

    def _is_called(self, one: Callback) -> bool:
        return not (one.writes and self.rank)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call one hook of all, with the trainer and these arguments.

        Raises
        ------
        CallbackError
            When one raises an error that is not nnx's own.
        """
        for one in filter(self._is_called, self.on_steps if hook == "on_step" else self.all):
            _call(one, hook, self.trainer, *arguments)

    def end(self) -> None:
        """Call `on_fit_end` of all, also when one of them raises; then raise the first such error."""
        errors = []
        for one in filter(self._is_called, self.all):
            try:
                _call(one, "on_fit_end", self.trainer)
            except Error as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _goes_through(given: Any) -> bool:
    """Return whether there are several; a 0-d array is no iterable, though it looks like one."""
    try:
        return isinstance(given, Iterable) and bool(iter(given))
    except TypeError:
        return False


def _asks(one: Callback, asks: str, hook: str) -> bool:
    """Return whether a hook must always be called: an inherited flag does not count for a hook of its own."""
    if asks in vars(one):
        return bool(getattr(one, asks))
    told = next(kind for kind in type(one).__mro__ if {asks, hook} & {*vars(kind)})
    return bool(getattr(one, asks)) if asks in vars(told) else True


def _name(one: Callback) -> str:
    """Return the name in checkpoints and errors: that of the class, unless `saved_as` is another."""
    return getattr(one, "saved_as", type(one).__name__)


def _call(one: Callback, hook: str, *arguments: Any) -> Any:
    try:
        return getattr(one, hook)(*arguments)
    except Exception as error:
        if isinstance(error, (Error, *one.raises)):
            raise
        raise CallbackError(
            f"the callback {_name(one)} raised {type(error).__name__} in {hook}: {first_line(error)}. The trainer is "
            "as after its last step: it can be saved, and can go on"
        ) from error
