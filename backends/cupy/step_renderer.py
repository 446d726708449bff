"""A traced function on its way to a GPU: the schedule's kernels as CUDA C, its products as calls of BLAS."""

from math import prod
from typing import Any

import array_api_compat.numpy as xp

from nnx.backends.cupy import grids
from nnx.backends.cupy.arg_reductions import BEFORE, ArgLines
from nnx.backends.cupy.elementwise import CopyText, Flat, Numbers
from nnx.backends.cupy.expressions import iteration_space
from nnx.backends.cupy.form import Form
from nnx.backends.cupy.kernel_text import KernelOf, KernelText
from nnx.backends.cupy.lines import Lines
from nnx.backends.cupy.products import product
from nnx.backends.cupy.ranks import sum_over_ranks
from nnx.backends.cupy.step import SCRATCH, Call, RenderedStep, arguments
from nnx.backends.cupy.sums import Sums
from nnx.compiler import Graph, Op, TraceError, step_graph
from nnx.compiler.ir.evaluate import evaluated
from nnx.compiler.ir.operations import itemsize
from nnx.compiler.passes.dependencies import dependencies
from nnx.compiler.pipeline import Target, schedule
from nnx.compiler.schedule import (
    AllReduce,
    Columns,
    Copies,
    Copy,
    Gemm,
    Instruction,
    Kernel,
    Memory,
    Reduce,
    Schedule,
)

COLUMN = 4096
"""The bytes of the longest columns that a warp holds in its registers: several of them, 128 bytes for each lane."""


def columns(op: Op) -> bool:
    """Whether an operation is done column by column, if that saves a kernel."""
    shape = iteration_space(op)
    return len(shape) == 1 or shape[0] * itemsize(op.out.dtype) <= COLUMN


BESIDE = 1 << 22
"""The bytes of the largest values of which dW is computed beside other products: larger ones fill the GPU alone."""

TARGET = Target(
    iteration_space=iteration_space,
    columns=columns,
    numbers_after_sums=True,
    samples_as_rows=True,
    beside=BESIDE,
    copies_at_once=True,
    scratch=grids.scratch,
)


def scheduled(graph: Graph, is_step: bool = True) -> Schedule:
    """Return the schedule of a traced training step, or of another function of (parameters, batch, ...)."""
    if not is_step:
        return schedule(graph, TARGET)
    graph, slots = step_graph(graph)
    return schedule(graph, TARGET, slots)


def rendered(made: Schedule, other: Schedule | None = None) -> RenderedStep:
    """Return a schedule as a GPU does it; a TraceError names the operation that has no kernel.

    Parameters
    ----------
    made : Schedule
        Of `scheduled`.
    other : Schedule or None
        That of the same function for another number of samples: then the text of the kernels does not depend on it.
    """
    return _Renderer(Form(made, other)).step()


class _Renderer:
    def __init__(self, form: Form) -> None:
        self._form, self._schedule = form, form.schedule
        self._texts: dict[str, str] = {}  # kernels by their text
        self._scratch = 0

    def step(self) -> RenderedStep:
        calls = tuple(map(self._call, self._schedule.instructions))
        memory = self._memory(calls)
        kernels = {name: text.replace("KERNEL", name) for text, name in self._texts.items()}
        after = dependencies(self._schedule)
        return RenderedStep(kernels, calls, after, memory, self._constants(memory), self._schedule)

    def _call(self, instruction: Instruction) -> Call:
        if isinstance(instruction, Gemm):
            return product(self._form, instruction.op)
        if isinstance(instruction, AllReduce):
            return sum_over_ranks(self._form, instruction.op)
        text, launch = self._text(instruction).rendered()
        return launch._replace(kernel=self._texts.setdefault(text, f"k{len(self._texts)}"))

    def _text(self, instruction: Instruction) -> KernelText:
        form = self._form
        match instruction:
            case Columns(kernels):
                return self._with_sums(kernels)
            case Reduce(op) if op.name in BEFORE:
                return ArgLines(form, op)
            case Copy():
                return CopyText(form, (instruction,))
            case Copies(copies):
                return CopyText(form, copies)
            case Kernel(iteration_space=()):
                return Numbers(form, instruction)
            case Kernel() if len(instruction.iteration_space) <= 2:
                if any(op.kind == "reduction" for op in instruction.ops):
                    return self._with_sums((instruction,))
                return Flat(form, instruction)
        raise TraceError(f"{str(instruction).partition('= ')[2]} has no kernel")

    def _with_sums(self, kernels: tuple[Kernel, ...]) -> KernelText:
        """Return the text of a kernel with sums, or of several kernels over the same lines."""
        kernel, *later = kernels
        axes = next((op.option("axes") for op in kernel.ops if op.kind == "reduction"), ())
        if not axes or any(
            x.partition != "elements" or prod(x.iteration_space) != grids.shares(kernel)[0] for x in later
        ):
            return Lines(self._form, kernels, 0)
        start, self._scratch = self._scratch, self._scratch + kernel.scratch
        axis = None if len(axes) == len(kernel.iteration_space) else axes[0]
        if axis is not None and axis == KernelOf(self._form, kernel).dense_axis():
            return Lines(self._form, kernels, axis)
        return Sums(self._form, kernels, start, axis)

    def _memory(self, calls: tuple[Call, ...]) -> dict[Memory, int]:
        """Return the bytes of each memory of the state, the batch and J, and of what the calls point into."""
        used = {x.memory for call in calls for x in arguments(call)}
        found: dict[Memory, int] = {SCRATCH: max(self._scratch, 8)}
        for value in self._schedule.places:
            place = self._schedule.place(value)
            kind, number = place.memory
            if kind == "buffer":
                found[place.memory] = self._schedule.buffers[number]
            elif kind != "constant" or place.memory in used:
                found[place.memory] = max(found.get(place.memory, 0), place.span[1])
        return found

    def _constants(self, memory: dict[Memory, int]) -> dict[Memory, Any]:
        made, places = evaluated(self._schedule.graph, {}, xp), self._schedule.places
        found = {places[x].memory: array for x, array in made.items() if x in places}
        return {x: array for x, array in found.items() if x.kind == "constant" and x in memory}
