"""An ONNX graph while it is made: its inputs, constants, nodes and outputs.

Nothing of the package `onnx` is needed before `Graph.model`. So all errors come before that, and before any file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as count_from
from typing import Any

import numpy as np

from nnx.errors import InputError, first_line
from nnx.version import __version__

OPSET, ML_OPSET, IR = 13, 2, 7
"""The operations of ONNX 1.8 (2020): the first in which Softmax is along one axis."""
LARGEST = 2**31 - 2**20
"""Bytes of a file that protobuf can write, with room for the names."""

Shape = tuple[int | None, ...]
"""None: the number of samples m, which each call of the graph has anew."""


class Value:
    """An array of a graph: it has a dtype and a shape, and numbers only if it is a constant."""

    __array_ufunc__ = None  # an array of NumPy's beside it is an error that says so
    device = None

    def __init__(
        self, graph: "Graph", dtype: str, shape: Shape, constant: Any = None, name: str = ""
    ) -> None:
        self.graph, self.dtype, self.shape, self.constant, self.name = graph, dtype, shape, constant, name
        self.made_by: Node | None = None

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.graph.xp


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: out = op(args)."""

    op: str
    args: tuple[Value, ...]
    out: Value
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    spare: tuple[Value, ...] = ()
    """The outputs beside out that ONNX asks for."""


class Graph:
    """The nodes in their order.

    Parameters
    ----------
    xp : object
        The functions of the standard on this graph's values.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.nodes: list[Node] = []
        self.inputs: list[tuple[Value, str]] = []
        self.outputs: dict[str, Value] = {}
        self._known: dict[Any, Value] = {}

    def input(self, name: str, dtype: str, shape: Shape, about: str = "") -> Value:
        """Return a new input."""
        found = Value(self, dtype, shape, name=name)
        self.inputs.append((found, about))
        return found

    def constant(self, x: Any, name: str = "") -> Value:
        """Return a constant; small ones that are equal are one."""
        x = np.asarray(x)
        dtype = "string" if x.dtype.kind in "UO" else str(x.dtype)
        key = (dtype, x.shape, x.tobytes()) if x.size <= 16 and dtype != "string" and not name else None
        found = self._known.get(key)
        if found is None:
            found = Value(self, dtype, x.shape, x, name)
            if key is not None:
                self._known[key] = found
        return found

    def node(
        self,
        op: str,
        args: Sequence[Value],
        dtype: str,
        shape: Shape,
        domain: str = "",
        spare: Sequence[Value] = (),
        **attributes: Any,
    ) -> Value:
        """Add a node, and return its result."""
        out = Value(self, dtype, shape)
        out.made_by = Node(op, tuple(args), out, attributes, domain, tuple(spare))
        self.nodes.append(out.made_by)
        return out

    def output(self, name: str, value: Value) -> None:
        """Make a value an output of this name: another one if an input has that."""
        taken = {one.name for one, _ in self.inputs} | self.outputs.keys()
        name = next(own for n in count_from(1) if (own := f"{name} {n}" if n > 1 else name) not in taken)
        if value.made_by is None or any(value is other for other in self.outputs.values()):
            value = self.node("Identity", [value], value.dtype, value.shape)
        self.outputs[name] = value

    def model(self, onnx: Any, about: str, properties: Mapping[str, str]) -> Any:
        """Return the graph as an `onnx.ModelProto`, checked by `onnx.checker`.

        Raises
        ------
        InputError
            When it is larger than one file of ONNX can be, or no valid graph.
        """
        nodes = self._used()
        constants = list(dict.fromkeys(x for node in nodes for x in node.args if x.constant is not None))
        if (size := sum(x.constant.nbytes for x in constants)) > LARGEST:
            raise InputError(f"the parameters have {size:,} bytes; one file of ONNX holds 2 GB at most")
        names = self._names(nodes, constants)
        helper = onnx.helper
        made = [
            helper.make_node(
                node.op,
                [names[x] for x in node.args],
                [names[x] for x in (node.out, *node.spare)],
                domain=node.domain,
                **node.attributes,
            )
            for node in nodes
        ]
        inputs = [_info(onnx, names[x], x, about) for x, about in self.inputs]
        outputs = [_info(onnx, name, x) for name, x in self.outputs.items()]
        tensors = [_tensor(onnx, names[x], x) for x in constants]
        graph = helper.make_graph(made, "nnx", inputs, outputs, tensors)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain for node in nodes):
            opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="nnx", producer_version=__version__
        )
        model.doc_string = about
        helper.set_model_props(model, dict(properties))
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # onnx's own, of arrays of two dtypes in a function of a user, say
            raise InputError(f"the model cannot be exported to ONNX: {first_line(error)}") from error
        return model

    def _used(self) -> list[Node]:
        """Return the nodes on which an output depends."""
        used: set[Value] = set(self.outputs.values())
        found = []
        for node in reversed(self.nodes):
            if node.out in used:
                found.append(node)
                used.update(node.args)
        return found[::-1]

    def _names(self, nodes: Sequence[Node], constants: Sequence[Value]) -> dict[Value, str]:
        """Return a name for each value: no two alike, whatever the inputs are called."""
        names = {x: x.name for x, _ in self.inputs} | {x: name for name, x in self.outputs.items()}
        taken = set(names.values())
        wanted = [(x, x.name or "constant") for x in constants]
        wanted += [(x, node.op) for node in nodes for x in (node.out, *node.spare)]
        for x, name in wanted:
            if x not in names:
                numbered = (f"{name}_{n}" if n > 1 or x.constant is None else name for n in count_from(1))
                names[x] = next(own for own in numbered if own not in taken)
                taken.add(names[x])
        return names


def _type(onnx: Any, dtype: str) -> Any:
    return (
        onnx.TensorProto.STRING
        if dtype == "string"
        else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    )


def _info(onnx: Any, name: str, x: Value, about: str = "") -> Any:
    shape = ["m" if n is None else n for n in x.shape]
    return onnx.helper.make_tensor_value_info(name, _type(onnx, x.dtype), shape, about)


def _tensor(onnx: Any, name: str, x: Value) -> Any:
    if x.dtype == "string":
        texts = [str(one).encode() for one in x.constant.reshape(-1).tolist()]
        return onnx.helper.make_tensor(name, onnx.TensorProto.STRING, x.shape, texts)
    return onnx.numpy_helper.from_array(np.ascontiguousarray(x.constant).reshape(x.constant.shape), name)
