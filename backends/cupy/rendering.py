"""From a function of arrays to what a GPU does for it: traced, scheduled, rendered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnx.array.gather import Data
from nnx.array.namespace import Array
from nnx.backends.cupy.step import RenderedStep
from nnx.backends.cupy.step_renderer import rendered, scheduled
from nnx.compiler import is_array, own_outputs, trace
from nnx.compiler.passes.round_factors import in_precision
from nnx.port.precision import FLOAT32
from nnx.support.tree import leaves, mapped


@dataclass(frozen=True)
class Stub:
    """The form of an array."""

    shape: tuple[int, ...]
    dtype: Any


def stub_batch(data: Data, m: int) -> tuple[Stub | None, ...]:
    """Return the forms of m samples."""
    return tuple(None if x is None else Stub((*x.shape[:-1], m), x.dtype) for x in data)


def render_step(
    function: Callable[..., Any], state: dict[str, Array], data: Data, m: int, precision: str = FLOAT32
) -> RenderedStep:
    """Return a training step for m samples of these data; a TraceError if it cannot be."""

    def of(m: int) -> Any:
        return scheduled(in_precision(trace(function, state, stub_batch(data, m)), precision))

    return rendered(of(m), of(m + 1))


def render_function(function: Callable[..., Any], arguments: Any, precision: str = FLOAT32) -> RenderedStep:
    """Return a function of (parameters, batch, ...) whose text has no number of samples, if that can be told."""

    def of(arguments: Any) -> Any:
        graph = in_precision(own_outputs(trace(function, *arguments)), precision)
        return scheduled(graph, is_step=False)

    made = of(arguments)
    try:
        return rendered(made, of(with_another_sample(arguments)))
    except Exception:  # what was taken for samples is none: the user's code may raise anything
        return rendered(made)


def with_another_sample(arguments: Any) -> Any:
    """Return the forms of a function's arguments with one sample more.

    The samples are along the last axis of the second argument, or of its first array. What has as many numbers along
    its last axis in it or in a later argument has one for each sample, too.
    """
    m = next(x.shape[-1] for x in leaves(arguments[1:]) if is_array(x) and x.shape)

    def grown(x: Any) -> Any:
        has_samples = is_array(x) and x.shape and x.shape[-1] == m
        return Stub((*x.shape[:-1], m + 1), x.dtype) if has_samples else x

    return arguments[0], *mapped(arguments[1:], grown)
