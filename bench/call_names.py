"""Names for the kernels and products of a step, in the symbols of the notes: Z1 = W1 X, dW2, A1, theta."""

from nnx.backends.cupy.step import RenderedStep
from nnx.compiler.ir.graph import Graph, Op, Value
from nnx.compiler.passes.barriers import regions_of
from nnx.compiler.schedule import Gemm, Instruction
from nnx.model.network import Network

BATCH = "X", "Y", "w"


def call_names(step: RenderedStep, network: Network) -> list[str]:
    """Return for each call of a training step the values that it writes and those that it reads."""
    names = _Names(step.schedule.graph, network)
    return [names.of(instruction) for instruction in step.schedule.instructions]


class _Names:
    """The names of a graph's values, as far as they have one."""

    def __init__(self, graph: Graph, network: Network) -> None:
        self._graph = graph
        self._parameters = {(at.start, at.stop): name for name, at in network.places.items()}
        state, batch = graph.arguments
        self._theta: Value = state["theta"]
        self._m: int = batch[0].shape[-1]
        self._names = {x: name for name, x in state.items()}
        self._names |= {x: name for name, x in zip(BATCH, batch, strict=False) if isinstance(x, Value)}
        new, J = graph.result
        self._names |= {x: name for name, x in new.items() if x not in self._names}
        self._names.setdefault(J, "J")
        for op in graph.ops:
            if op.kind == "concat" and op.out.shape == self._theta.shape:
                self._name_gradient(op)
        for op in graph.ops:
            if op.kind == "matmul":
                self._name_product(op)

    def _name_gradient(self, op: Op) -> None:
        """Name the parts of dtheta, the first vector that is put together as theta is."""
        if "dtheta" in self._names.values():
            return
        self._names[op.out] = "dtheta"
        for x, start, stop in op.joined:
            if (start, stop) in self._parameters:
                self._names.setdefault(self._graph.base(x), f"d{self._parameters[start, stop]}")

    def _name_product(self, op: Op) -> None:
        """Name Z[l] = W[l] A[l-1], dA[l-1] = W[l]^T dZ[l] or dW[l] = dZ[l] A[l-1]^T, with the factors."""
        a, b = op.reads[-2:]
        l = _layer(self._parameter(a))
        if l is None:
            l = _layer(self._names.get(op.out, "").removeprefix("d"))
            made = {} if l is None else {a: f"dZ{l}", b: f"A{l - 1}"}
        elif self._is_transposed(a):
            made = {op.out: f"dA{l - 1}", b: f"dZ{l}"}
        else:
            made = {op.out: f"Z{l}", b: f"A{l - 1}"}
        for x, name in made.items():
            self._names.setdefault(self._graph.base(x), name)

    def _parameter(self, value: Value) -> str | None:
        """Return the parameter of which a value is a view."""
        base, start, stop = self._graph.extent(value)
        return self._parameters.get((start, stop)) if base == self._theta else None

    def _is_transposed(self, value: Value) -> bool:
        return sum(op.name == "permute" for op in self._graph.views(value)) % 2 == 1

    def _name(self, value: Value) -> str:
        base = self._graph.base(value)
        name = self._parameter(value) or self._names.get(value) or self._names.get(base)
        if name is not None:
            return name
        if base.size == 1:
            return "one number"
        return (
            "one number per sample" if base.size == self._m else f"{' x '.join(map(str, base.shape))} numbers"
        )

    def of(self, instruction: Instruction) -> str:
        """Return the values that an instruction writes and those that it reads."""
        reads, writes = ([region.value for region in regions] for regions in regions_of(instruction))
        made = ", ".join(dict.fromkeys(map(self._name, writes)))
        if isinstance(instruction, Gemm):
            factors = [self._name(x) + "ᵀ" * self._is_transposed(x) for x in reads]
            return f"{made} = {' '.join(factors)}"
        inner = self._graph.constants | {op.out for op in getattr(instruction, "ops", ())}
        outside = [x for x in reads if self._graph.base(x) not in inner]
        return f"{made} from {', '.join(dict.fromkeys(map(self._name, outside)))}"


def _layer(parameter: str | None) -> int | None:
    """Return l of W[l]."""
    is_weight = parameter is not None and parameter[:1] == "W" and parameter[1:].isdecimal()
    return int(parameter[1:]) if is_weight and parameter is not None else None
