"""The program of CuPy: a training step is the launch of a CUDA graph, in memory that the graph owns."""

import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np

from nnx.array.gather import Data, batches
from nnx.array.host import quiet
from nnx.array.namespace import Array
from nnx.backends.calls.program_cache import PROGRAMS, ProgramCache, signature
from nnx.backends.cupy import loop
from nnx.backends.cupy.function import CudaFunction
from nnx.backends.cupy.gpu import Gpu
from nnx.backends.cupy.members import (
    is_stack_of_parameters,
    member_data,
    member_state,
    members_of,
    of_first_member,
    of_members,
    own_arguments,
    own_parts,
)
from nnx.backends.cupy.rendering import render_function, render_step
from nnx.backends.cupy.resident import ResidentStep, step_bytes
from nnx.backends.cupy.state import StateMemory
from nnx.backends.cupy.step import RenderedStep
from nnx.compiler.ir.operations import FLOATS
from nnx.errors import first_line, size
from nnx.port.program import Program, exclusive
from nnx.support.processes import give_way

SLOW = "a step runs as single operations of CuPy, which takes several times as long; the backend torch may be faster"


class CudaProgram(Program):
    """A program whose steps are CUDA graphs: see `Program`.

    State, mini-batches and costs stay in the graphs' memory. A call of many steps costs the host a launch for each.
    What cannot be rendered is called as it is.

    Parameters
    ----------
    function : callable
    gpu : Gpu
    precision : str
        Of products: see `nnx.backend`.
    """

    def __init__(self, function: Callable[..., Any], gpu: Gpu, precision: str = "float32") -> None:
        super().__init__(function, gpu, precision)
        self._gpu, self._precision = gpu.again(), precision
        with self._gpu.use():
            self._memory = StateMemory(self._gpu, {})
        self._snapshot: tuple[StateMemory, Any] = self._memory, self._memory.home
        self._steps = ProgramCache(SLOW, logging.INFO)
        self._functions = ProgramCache("a function runs as single operations of CuPy")
        self._of_member = dict[
            Hashable, RenderedStep
        ]()  # the steps of a stack's member, for any number of them
        self._last_addresses: Hashable = None  # where the samples of the last run on all of them were
        self._working: Any = None  # memory that the steps use in turns

    @exclusive
    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns, in new arrays."""
        with self._gpu.use() as stream:
            key = signature(arguments)
            function = self._functions.get_or_make(key, partial(self._function, arguments))
            if function is not None:
                try:
                    return function(arguments, stream)
                except MemoryError:
                    raise
                except Exception as error:
                    if self._gpu.is_error(error):
                        raise
                    self._functions.fail(key, error)
            with quiet():
                return self.function(*arguments)

    @exclusive
    def load(self, state: dict[str, Array]) -> None:
        """Copy a state in, or some arrays of a loaded state."""
        with self._gpu.use():
            self._load(state)

    def _load(self, state: dict[str, Array]) -> None:
        together = {**self._memory.arrays(), **state}
        if self._memory.fits(together):
            self._memory.load(state)
            return
        memory = StateMemory(self._gpu, together)
        memory.load(together)
        self._steps.clear()  # their addresses are those of the old memory
        self._memory = memory

    @exclusive
    def read(self, *names: str) -> dict[str, Array]:
        """Return copies of the state's arrays: of all of them without names."""
        with self._gpu.use():
            arrays = self._memory.arrays()
            return {name: self._gpu.cupy.array(arrays[name], copy=True) for name in names or arrays}

    @exclusive
    def snapshot(self) -> None:
        """Remember the state for `rollback`."""
        with self._gpu.use():
            self._snapshot = self._memory, self._memory.snapshot()

    @exclusive
    def rollback(self) -> None:
        """Go back to the state of the last `snapshot`, which stays remembered."""
        memory, saved = self._snapshot
        if memory is not self._memory:
            self._steps.clear()
        memory.rollback(saved)
        self._memory = memory

    @property
    @exclusive
    def finite(self) -> bool:
        """Whether every number of the state is. The GPU looks when it is asked."""
        gpu, module = self._gpu, self._gpu.module(loop.SOURCE)
        with gpu.use():
            flag = gpu.view(gpu.empty(4), 0, (1,), "int32")
            flag[...] = 1
            for x in self._memory.flat():
                if str(x.dtype) in FLOATS and x.size:
                    kernel = module.get_function(f"look_at_{x.dtype}")
                    blocks = min(1024, -(-x.size // loop.MOST_THREADS))
                    given = np.uint64(flag.data.ptr), np.uint64(x.data.ptr), np.int64(x.size)
                    kernel((blocks,), (loop.MOST_THREADS,), given)
            return bool(int(flag[0]))

    @exclusive
    def run(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do `count` steps in place, each on the next m samples: see `Program.run`."""
        if not count:
            return []
        with self._gpu.use() as stream:
            Js = self._in_graph(data, order, at, m, count, stream)
            return self._as_it_is(data, order, at, m, count) if Js is None else Js

    def _in_graph(self, data: Data, order: Array | None, at: int, m: int, count: int, stream: Any) -> Any:
        """Do the steps, and return their costs; None if they cannot be rendered."""
        addresses = self._addresses(data, m, count) if order is None else None
        own, fixed = self._own(data, order), data if addresses else None
        key, step = (self._key(data, m), own, addresses), None
        try:
            step = self._steps.get_or_make(key, partial(self._step, data, m, own, fixed))
            if step is None:
                return None
            if order is not None and order.itemsize not in (4, 8):
                order = order.astype("int64")
            if order is not None and order.ndim > 1:
                order = self._gpu.cupy.ascontiguousarray(order)
            with self._gpu.memory_errors():
                self._memory.begin()  # the current state stays as it is until all steps are done
                Js = step.run(data, order, at, count, stream)
            self._memory.commit()
        except MemoryError as error:
            raise MemoryError(self._too_large(data, m, own, error)) from error
        except Exception as error:
            if self._gpu.is_error(error) or (step is not None and step.calls.sums):
                raise  # the other ranks do no sum twice
            self._steps.fail(key, error)
            return None
        return Js

    def _as_it_is(self, data: Data, order: Array | None, at: int, m: int, count: int) -> Any:
        """Do the steps by calls of the function."""
        state, Js = self._memory.arrays(), []
        for batch in batches(data, order, at, m, count):
            with quiet():
                state, J = self.function(state, batch)
            Js.append(J)
            give_way()
        self._load(state)
        return Js

    # What is made.

    def _key(self, data: Data, m: int) -> Hashable:
        """Return what tells apart the steps that must be rendered by themselves."""
        samples = (None if x is None else (x.shape[:-1], x.dtype) for x in data)
        return m, *samples, self._memory.key

    def _addresses(self, data: Data, m: int, count: int) -> Hashable:
        """Return where all samples lie, if a step is on all of them and will come again with the same ones."""
        if m < data[1].shape[-1]:
            return None
        addresses = tuple(None if x is None else (x.data.ptr, x.strides) for x in data)
        again, self._last_addresses = addresses == self._last_addresses, addresses
        return addresses if again or count > 1 else None

    def _own(self, data: Data, order: Array | None) -> Hashable:
        """Return which of X, Y and weights each member of a stack has by itself in a batch; None: it is no stack."""
        return None if self._memory.members is None else own_parts(data, order)

    def _step(self, data: Data, m: int, own: Any, fixed: Data | None) -> ResidentStep:
        rendered = self._rendered(data, m, own)
        with self._gpu.memory_errors():
            return ResidentStep(
                self._gpu, rendered, self._memory, self._precision, self._working_memory, fixed
            )

    def _rendered(self, data: Data, m: int, own: Any) -> RenderedStep:
        state, members = self._memory.arrays(), self._memory.members
        if members is None:
            return render_step(self.function, state, data, m, self._precision)
        of_one, samples = member_state(state), member_data(data)
        key = m, signature(of_one), signature(samples)
        if key not in self._of_member:
            if len(self._of_member) >= PROGRAMS:
                self._of_member.clear()
            self._of_member[key] = render_step(self.function, of_one, samples, m, self._precision)
        step = self._of_member[key]
        old, batch = step.schedule.graph.arguments
        is_shared = {x: state[name].shape[0] == 1 < members for name, x in old.items()}
        is_shared |= {x: not is_own for x, is_own in zip(batch, own, strict=True) if x is not None}
        return of_members(step, members, {step.schedule.place(x).memory: k for x, k in is_shared.items()})

    def _function(self, arguments: Any) -> CudaFunction:
        stack = is_stack_of_parameters(self.function, arguments)
        of_one = of_first_member(arguments) if stack else arguments
        rendered = render_function(self.function, of_one, self._precision)
        if stack:
            places = map(rendered.schedule.place, rendered.schedule.graph.inputs)
            shared = {x.memory: not own for x, own in zip(places, own_arguments(arguments), strict=True)}
            rendered = of_members(rendered, members_of(arguments), shared)
        with self._gpu.memory_errors():
            return CudaFunction(self._gpu, rendered, self._precision)

    def _working_memory(self, nbytes: int) -> Array:
        if self._working is None or self._working.nbytes < nbytes:
            self._working = self._gpu.empty(nbytes)
        return self._working

    def _too_large(self, data: Data, m: int, own: Any, error: Exception) -> str:
        """Return the text of the error for too little memory: the bytes asked for, and the largest m that fits."""

        def needed(m: int) -> int:
            step = self._rendered(data, m, own)
            return int(step_bytes(step) + self._memory.missing_bytes + 2 * self._gpu.lt.workspace)

        asked, free = needed(m), self._gpu.free_bytes
        text = (
            f"a step on {m} samples needs {size(asked)} of the GPU's memory, of which {size(free)} are free"
        )
        why = first_line(error.__cause__ or error)
        if asked <= free:
            return f"{text}, but not in the pieces that it needs ({why})"
        half = needed(max(1, m // 2))
        each = (asked - half) / max(1, m - max(1, m // 2))
        most = min(m - 1, int((free - asked + each * m) / each)) if each else 0
        while most > 0 and needed(most) > free:  # rounding up to whole pieces of memory
            most -= max(1, most // 100)
        if most > 0:
            return f"{text}; a batch_size of {most} fits ({why})"
        return f"{text}; not even one sample fits ({why})"
