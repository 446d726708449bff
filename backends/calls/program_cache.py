"""What the adapters that run graphs share: one graph for each set of shapes, and outputs nobody else sees."""

import logging
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from nnx.array.gather import Pick, taken
from nnx.compiler import Graph, TraceError, Value, leaves, nbytes, trace
from nnx.support.processes import uncut

Replay = Callable[..., Any]
"""The traced function, with over=False (see `Recorded.over`); returns None when its arguments were not traced."""

RECORDINGS = 8
"""Sets of shapes that are kept at a time; one more replaces the one that was longest not used."""

_log = logging.getLogger("nnx")


class Recorded:
    """A pure function that is traced for each set of shapes, and then replayed.

    What cannot be traced runs as it is; so does a function that never meets the same shapes again.

    Parameters
    ----------
    function : callable
        Pure: arrays in, arrays out.
    lowers : callables
        Each makes a graph a `Replay`; where one fails, or what it makes, the next has its turn.
    """

    def __init__(self, function: Callable[..., Any], *lowers: Callable[[Graph], Replay]) -> None:
        self._function, self._lowers = function, lowers
        self._replays: list[Replay] = []
        self._made = self._used = 0
        self._lock = threading.Lock()  # the buffers are one set
        self.as_it_is = not _COUNTS
        """Whether the function is not traced any more."""

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function does."""
        with uncut():
            return self._done(arguments, over=False)

    def over(self, *arguments: Any) -> Any:
        """Return what the function does; what it changes of the first argument, a state, it may write over.

        Whoever calls this again and again takes care that a fork does not cut it: see `nnx.support.processes`.
        """
        return self._done(arguments, over=True)

    def _done(self, arguments: tuple[Any, ...], over: bool) -> Any:
        if self.as_it_is:
            return self._function(*arguments)
        with self._lock:
            for replay in self._replays:
                result = replay(*arguments, over=over)
                if result is not None:
                    self._used += 1
                    if replay is not self._replays[0]:
                        self._replays.remove(replay)
                        self._replays.insert(0, replay)
                    return result
            result = self._recorded(*arguments)
            if result is None:
                result = self._function(*arguments)  # if the fault is not the graph's, it is raised here
                self.as_it_is = True
            return result

    def __deepcopy__(self, memo: Any) -> "Recorded":
        """Return itself, as a function does: a copied trainer shares it."""
        return self

    def _recorded(self, *arguments: Any) -> Any:
        """Record, and return what the replay does; None where that cannot be."""
        result = None
        try:
            graph = trace(self._function, *arguments)
        except Exception as error:
            self._told("runs as it is", error)
            return None
        for lower in self._lowers:
            try:
                replay = lower(graph)
                result = replay(*arguments)
            except Exception as error:
                self._told(f"is not run by {lower.__name__}", error)
            if result is not None:
                break
        else:
            return None
        self._replays = [replay, *self._replays[: RECORDINGS - 1]]
        self._made += 1
        self.as_it_is = self._made > 8 * RECORDINGS and self._used < 8 * self._made
        return result

    def _told(self, what: str, error: Exception) -> None:
        _log.debug("%s %s: %s: %s", self._function, what, type(error).__name__, error)


def work(graph: Graph) -> float:
    """Return the seconds that a traced function would take on one core, roughly."""
    flops = bytes_ = 0
    for op in graph.ops:
        if op.name == "matmul":
            flops += 2 * op.reads[0].size * op.out.shape[-1]
        if op.kind != "view":
            bytes_ += sum(map(nbytes, {*op.reads, op.out}))
    return flops / 60e9 + bytes_ / 40e9


def kept(made: dict[Any, Any], key: Any, make: Callable[[], Any], failed: str) -> Any:
    """Return what is made for a key, which is now the last of the few that are kept; None if it cannot be made.

    Parameters
    ----------
    made : dict
    key : hashable
    make : callable
    failed : str
        What the log says where it fails, of whatever the library raises.
    """
    if key not in made:
        try:
            made[key] = make()
        except Exception as error:
            _log.info("%s: %s: %s", failed, type(error).__name__, error)
            made[key] = None
    made[key] = made.pop(key)
    if len(made) > RECORDINGS:
        del made[next(iter(made))]  # the one that was longest not used
    return made[key]


KEPT = 4
"""Arrays that a pool holds: what a step is given, what it returns, what a fit could go back to, and one more."""


def pool(shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """Return a function that gives an array for a result, which is used again when nobody has it any more.

    An array that anybody can see, itself or through a view, is never written into again: CPython counts who holds
    it. So a result is as good as a new one, and yet, in a loop, takes no new memory.
    """
    arrays: list[Any] = []
    last = 0

    def take() -> Any:
        nonlocal last
        for _ in range(len(arrays)):
            last = last + 1 if last + 1 < len(arrays) else 0  # the one that was given out longest ago
            if _count(arrays[last]) == FREE:
                return arrays[last]
        made = np.empty(shape, dtype)
        if len(arrays) == KEPT:  # the holders keep theirs
            del arrays[0]
        arrays.append(made)
        last = len(arrays) - 1
        return made

    return take


def picking(take: Callable[[Any, Any, Any], Any]) -> Pick:
    """Return what picks rows into arrays that nobody has any more.

    The system took longer to give new memory than it takes to copy 1,024 samples of 12,288 numbers into it.

    Parameters
    ----------
    take : callable
        take(rows, places, out) writes the rows into a NumPy array, and returns that as its own library's.
    """
    if not _COUNTS:
        return taken
    # Of small batches, several at once; what is left of them at the end of a call; and an epoch's last batch.
    pools, lock = lru_cache(maxsize=3)(pool), threading.Lock()

    def pick(rows: Any, places: Any) -> Any:
        dtype = str(rows.dtype).removeprefix("torch.")
        if dtype not in ("float32", "float64"):
            return taken(rows, places)
        with lock:
            out = pools((places.shape[0], *rows.shape[1:]), dtype)()
        return take(rows, places, out)

    return pick


_count = getattr(sys, "getrefcount", lambda x: 0)


def _free() -> int:
    arrays = [np.empty(1)]
    last = 0
    return int(_count(arrays[last]))


FREE = _free()
"""What the interpreter counts for an array that is in a list and nowhere else."""


def _counts() -> bool:
    """Whether it can be seen here that nobody has an array: a name and a view each count for one."""
    if FREE == 0 or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    take = pool((2,), "float32")
    first, view = take(), take()[1:]
    third = take()
    apart = third is not first and not any(
        np.may_share_memory(x, y) for x, y in ((first, view), (third, view))
    )
    place = id(third)
    del third
    return apart and id(take()) == place


_COUNTS = _counts()


def entry(graph: Graph, unlike: Callable[[str, Value], str]) -> tuple[str, list[str], dict[str, Any]]:
    """Return the head of a Python function of the graph's arguments: parameters, lines, and what they refer to.

    The lines set x0, x1, ..., the graph's inputs, and return None when an argument is not as it was recorded;
    `unlike` gives the expression that is true of such an array.
    """
    lines: list[str] = []
    checks: list[str] = []
    names: dict[str, Any] = {}

    def walk(tree: Any, where: str) -> None:
        if isinstance(tree, dict | tuple | list):
            checks.append(f"len({where}) != {len(tree)}")
            for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
                if isinstance(branch, dict | tuple | list):
                    name = f"t{len(names)}"
                    names[name] = None
                    lines.append(f"{name} = {where}[{key!r}]")
                    walk(branch, name)
                else:
                    walk(branch, f"{where}[{key!r}]")
        elif isinstance(tree, Value):
            name = f"x{tree.number}"
            lines.append(f"{name} = {where}")
            checks.append(unlike(name, tree))
        elif tree is None:
            checks.append(f"{where} is not None")
        else:
            names[f"k{len(names)}"] = tree
            checks.append(f"type({where}) is not type(k{len(names) - 1}) or {where} != k{len(names) - 1}")

    for place, argument in enumerate(graph.arguments):
        walk(argument, f"a{place}")
    body = [
        "try:",
        *(f"    {line}" for line in lines),
        f"    if {' or '.join(checks) or 'False'}:",
        "        return None",
        "except (KeyError, IndexError, TypeError, AttributeError):",
        "    return None",
    ]
    parameters = ", ".join([*(f"a{place}" for place in range(len(graph.arguments))), "over=False"])
    return parameters, body, {name: value for name, value in names.items() if name[0] != "t"}


def returned(graph: Graph, names: dict[Value, str], constants: dict[str, Any]) -> str:
    """Return the graph's result as a Python expression; what else it holds goes into `constants`."""

    def expression(tree: Any) -> str:
        if isinstance(tree, dict):
            return "{" + ", ".join(f"{key!r}: {expression(branch)}" for key, branch in tree.items()) + "}"
        if isinstance(tree, list):
            return "[" + ", ".join(map(expression, tree)) + "]"
        if isinstance(tree, tuple):
            if hasattr(tree, "_fields"):
                constants[f"N{id(type(tree))}"] = type(tree)
                return f"N{id(type(tree))}(" + ", ".join(map(expression, tree)) + ")"
            return "(" + "".join(f"{expression(branch)}, " for branch in tree) + ")"
        if isinstance(tree, Value):
            return names[tree]
        constants[f"leaf{len(constants)}"] = tree
        return f"leaf{len(constants) - 1}"

    if not any(isinstance(leaf, Value) for leaf in leaves(graph.result)):
        raise TraceError("the result holds no array")
    return expression(graph.result)
