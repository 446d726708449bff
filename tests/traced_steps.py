"""Traced functions as each library's calls."""

import numpy as np
import pytest
from step_cases import close

from nnx.array.host import quiet
from nnx.backends.calls.program import Function, Step, arrays
from nnx.backends.numpy.adapter import LIBRARY
from nnx.backends.torch.adapter import library_of
from nnx.compiler import is_array, trace
from nnx.support.tree import mapped


def replay(graph):
    """The function of a graph as NumPy's calls."""
    return quiet()(Function(graph, LIBRARY))


def compare(function, arguments, dtype="float64", lowers=(replay,)):
    with quiet():
        expected = function(*arguments)
        for lower in lowers:
            again = lower(trace(function, *arguments))
            for _ in range(2):
                close(again(*arguments), expected, dtype)


def torch_library():
    torch = pytest.importorskip("torch")
    return torch, library_of(torch, torch.device("cpu"))


def in_torch(graph):
    """A graph as PyTorch's calls, of NumPy's arrays."""
    torch, library = torch_library()
    with library.settings():
        function = Function(graph, library)

    def back(x):
        return x.numpy() if isinstance(x, torch.Tensor) else x

    def replayed(*arguments):
        given = mapped(arguments, lambda x: torch.from_numpy(np.asarray(x)) if is_array(x) else x)
        with library.settings():
            return mapped(function(*given), back)

    return replayed


def step_in_numpy(graph):
    """A step as NumPy's calls, with `over`: whether the new state is written over the old one."""
    step = Step(graph, LIBRARY)

    def done(state, batch, over=False):
        new = {name: state[name] if over else np.full_like(state[name], 7) for name in step.changed}
        J = np.full(step.J.shape, 7, step.J.dtype)
        with quiet():
            step.call([*state.values(), *arrays(batch)], [*new.values(), J])
        return {**state, **new}, J

    return done


def step_in_torch(graph):
    """A step as PyTorch's calls, of NumPy's arrays, with `over`."""
    torch, library = torch_library()
    step = Step(graph, library)

    def done(state, batch, over=False):
        new = {name: state[name] if over else np.full_like(state[name], 7) for name in step.changed}
        J = np.full(step.J.shape, 7, step.J.dtype)
        inputs, outs = [*state.values(), *arrays(batch)], [*new.values(), J]
        with library.settings():
            step.call(*([torch.from_numpy(np.asarray(x)) for x in some] for some in (inputs, outs)))
        return {**state, **new}, J

    return done
