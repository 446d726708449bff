"""The program: a pure function as one library runs it, and the owner of the state that its steps change."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Self, TypeVar

from nnx.array import host
from nnx.array.gather import Data, batches
from nnx.array.namespace import Array, array_namespace, device
from nnx.support.processes import generation, give_way, uncut

F = TypeVar("F", bound=Callable[..., Any])


def exclusive(method: F) -> F:
    """Return a method of a program that holds the program's memory: no other thread and no fork cuts its calls."""

    @wraps(method)
    def called(program: "Program", *arguments: Any, **named: Any) -> Any:
        with program.lock(), uncut():
            return method(program, *arguments, **named)

    return called  # type: ignore[return-value]


class Program:
    """A pure function of arrays, made ready by a backend (`Backend.compile`). Here: called as it is.

    NumPy says nothing of an overflow within: the trainer looks at the cost.

    Of any function, ``program(*arguments)`` returns what the function returns, in arrays of the caller's own.

    Of a training step, step(state, batch) -> (state, J), it also does many steps and owns the state between them:

    >>> import numpy as np
    >>> import nnx
    >>> backend = nnx.backend("numpy")
    >>> def step(state, batch):
    ...     X, Y, w = batch
    ...     return {"t": state["t"] + X[0, 0]}, Y[0]
    >>> program = backend.compile(step)
    >>> program.load({"t": np.asarray(1.0)})
    >>> X, Y = np.ones((1, 6)), np.arange(6.0)
    >>> [float(J) for J in program.run((X, Y, None), None, 0, 2, 3)]
    [0.0, 2.0, 4.0]
    >>> program.read("t")
    {'t': array(4.)}

    Attributes
    ----------
    live : list of int or None
        The rows of a stack whose members train; None: all. A program may leave out the others, and their costs.
    buffers_of_all : bool
        Whether a step of a stack has buffers for all members at once, and not for the few that are computed together.

    Notes
    -----
    `run` does all its steps or none: after an interrupt or an error within it the state is as before the call.
    A library that changes arrays in place therefore writes the first step of a call into memory of its own.
    """

    reads_parts = False
    """Whether `read` returns parts of larger arrays."""

    def __init__(self, function: Callable[..., Any], *others: Any) -> None:
        self.function = function
        self._others = others  # the other arguments of a subclass: its copies need them
        self._state: dict[str, Array] = {}
        self._saved: dict[str, Array] = {}
        self.live: list[int] | None = None
        self.buffers_of_all = True
        self._lock, self._forks = threading.RLock(), generation()

    def __deepcopy__(self, memo: Any) -> Self:
        """Return a program of the same function with a copy of the state."""
        copied = type(self)(self.function, *self._others)
        copied.load(self.read())
        return copied

    def lock(self) -> Any:
        """Return the lock that a thread holds, by ``with``, while it uses the program's memory.

        It comes before `uncut`: a fork waits for all threads within that, so these must not wait for one another. It is
        the interpreter's own lock, since an interrupt between the two halves of a generator would leave that locked.
        A thread may take it again: a handler of a signal may save the trainer in the middle of a run.
        """
        if self._forks != generation():  # a thread of the parent may have held the lock
            self._lock, self._forks = threading.RLock(), generation()
        return self._lock

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns."""
        with host.quiet():
            return self.function(*arguments)

    @exclusive
    def load(self, state: dict[str, Array]) -> None:
        """Copy a state in, or the arrays of a loaded state that are named: they keep their shapes and dtypes."""
        self._state = {**self._state, **{name: _copy(x) for name, x in state.items()}}

    @exclusive
    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps in place, each on the next m samples.

        Parameters
        ----------
        data : (X, Y, w)
            All samples: X (n[0], M), Y (n[L], M) or (M,), and their weights (M,) or None.
        order : integer array or None
            The order in which samples are taken, of one epoch or of several; None: as they are.
        at : int
            Where in this order the first step's samples begin.
        m, count : int
            Without an order the first samples come again after the last, if m divides M.

        Returns
        -------
        Js : array (count,) or longer, or a list of arrays ()
            The cost of each step before its update, and nothing of meaning behind them. They may still be computed.
        """
        return self._one_by_one(data, order, at, m, count)

    def _one_by_one(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do the steps by calls of the function."""
        state, Js = self._state, []
        for batch in batches(data, order, at, m, count):
            with host.quiet():
                state, J = self.function(state, batch)
            Js.append(J)
            give_way()
            del batch  # the next may lie where this did
        self._state = state
        return Js

    def read(self, *names: str) -> dict[str, Array]:
        """Return copies of the state's arrays: of all of them without names."""
        return {name: _copy(self._state[name]) for name in names or self._state}

    def snapshot(self) -> None:
        """Remember the state for `rollback`."""
        self._saved = self._state  # without the lock: a run writes into no array of the current state

    @exclusive
    def rollback(self) -> None:
        """Go back to the state of the last `snapshot`, which stays remembered."""
        self._state = self._saved

    @property
    def finite(self) -> bool:
        """Whether every number of the state is."""
        numbers = [x for x in self._state.values() if array_namespace(x).isdtype(x.dtype, "real floating")]
        return host.is_finite(*numbers)


def _copy(x: Array) -> Array:
    return array_namespace(x).asarray(x, device=device(x), copy=True)
