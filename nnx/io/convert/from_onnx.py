"""An ONNX graph of products and activations as a network (edge)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nnx.errors import InputError, as_path, first_line, one_of, shown
from nnx.io.atomic_write import neighbours
from nnx.io.convert.onnx_terms import DEFAULTS, ELEMENTWISE, Term, activations_of, is_exp, subterms, term
from nnx.io.convert.parameters import as_floats, contiguous_copy
from nnx.model.layers import Activate, Dense, Layer
from nnx.model.network import Network
from nnx.model.outputs import OUTPUTS
from nnx.port.base import require

MOST = 2000
"""Operations that a formula has at most; the longest of nnx's has 421."""
DEEPEST = 100
"""Operations one inside the other that a formula has at most; of nnx's it is 30."""
RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}
LINKS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "Exp": "exp"}
"""The outputs, by the operation at the end of a graph."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A product Z = A W^T + b, after `before`; the input of the graph has none."""

    before: Term | None = None
    W: Any = None
    b: Any = None

    @property
    def n(self) -> int | None:
        """Its units; None of the input."""
        return None if self.W is None else int(self.W.shape[0])


def from_onnx(
    model: Any, output: str | None = None, loss: str | None = None
) -> tuple[Network, dict[str, Any]]:
    """Return the network and its parameters that compute the same as an ONNX graph.

    Parameters
    ----------
    model : path or onnx.ModelProto
        One input (m, n[0]), samples as rows, and one output. Of Gemm, MatMul and Add with constants, activations that
        nnx has, Identity, Flatten, and Dropout, which does nothing. At the end Sigmoid, Softmax or Exp is the link;
        of Exp, Min with nnx's own limit is a part.
    output : {"sigmoid", "softmax", "identity", "exp"} or None
        The link; None: that at the end of the graph, identity if there is none. Name it for a graph that ends with
        Z[L], as of PyTorch's CrossEntropyLoss.
    loss : str or None
        See `Network`.

    Returns
    -------
    network : Network
    params : dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    InputError
        For a node that has no counterpart, or whose shapes do not fit samples as rows: which one.
    BackendError
        When the package onnx is missing.

    Notes
    -----
    An activation is recognized by its operations and their numbers: those of ReLU and ReLU6 differ.

    Examples
    --------
    >>> import nnx
    >>> net, params = nnx.convert.from_onnx("digits.onnx")  # doctest: +SKIP
    >>> net  # doctest: +SKIP
    Network(64, [Dense(32, relu), Dense(10, identity)], output='softmax')
    """
    if output is not None:
        one_of("output", output, OUTPUTS)
    onnx = require("onnx", "onnx")
    loaded = _loaded(onnx, model)
    graph = loaded.graph
    values = _Values(onnx, graph)
    for node in graph.node:
        values.add(node)
    _check(onnx, loaded, full_check=True)
    end = values.terms.get(graph.output[0].name) if len(graph.output) == 1 else None
    if not isinstance(end, Term):
        names = ", ".join(repr(one.name) for one in graph.output)
        raise InputError(f"the graph has the outputs {names}; expected one that depends on its input")
    end, link = _link(end, output)
    return _network(end, link, loss)


def _loaded(onnx: Any, model: Any) -> Any:
    if not isinstance(model, onnx.ModelProto):
        path: Path = as_path("model", model, "a path, or an onnx.ModelProto")
        called = repr(str(path))
        if not path.is_file():
            raise FileNotFoundError(f"there is no ONNX file {called}{neighbours(path)}")
        try:
            model = onnx.load(str(path))
        except OSError:
            raise
        except Exception as error:  # protobuf's own
            raise InputError(f"{called} is no ONNX file that can be read: {first_line(error)}") from error
    _check(onnx, model)
    return model


def _check(onnx: Any, model: Any, full_check: bool = False) -> None:
    """Raise an InputError if a model is not valid; the full check infers all types and shapes, too."""
    try:
        onnx.checker.check_model(model, full_check=full_check)
    except Exception as error:  # onnx's own
        raise InputError(f"the model is no valid graph of ONNX: {' '.join(str(error).split())}") from error


class _Values:
    """The constants of a graph, and a term for each array that depends on its input."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self.onnx = onnx
        self.constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
        inputs = [one.name for one in graph.input if one.name not in self.constants]
        if len(inputs) != 1:
            raise InputError(
                f"the graph has the inputs {', '.join(map(repr, inputs))}; expected one, of samples as rows"
            )
        kind = graph.input[[one.name for one in graph.input].index(inputs[0])].type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim) != 2:
            raise InputError(
                f"the input {inputs[0]!r} has {len(kind.shape.dim)} axes; expected (m, n[0]), samples as rows"
            )
        width = kind.shape.dim[1].dim_value if kind.HasField("shape") else 0
        self.width = width or None
        self.terms = {inputs[0]: Term("x", stage=Stage())}

    def add(self, node: Any) -> None:
        """Take up one node, or raise an InputError that names it."""
        self.called = f"the node {node.name or node.output[0]!r}, a {node.op_type},"
        try:
            self._add(node)
        except InputError:
            raise
        except Exception as error:  # NumPy's, and onnx's of a node of constants
            raise InputError(f"{self.called} cannot be read: {first_line(error)}") from error

    def _add(self, node: Any) -> None:
        attributes = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        out = node.output[0]
        graphs = {self.onnx.AttributeProto.GRAPH, self.onnx.AttributeProto.GRAPHS}
        if (
            node.domain not in ("", "ai.onnx")
            or node.op_type in RANDOM
            or (
                node.op_type == "Dropout"
                and any(np.any(self.constants.get(one, 1)) for one in node.input[2:] if one)
            )
            or any(one.type in graphs for one in node.attribute)
        ):
            raise InputError(f"{self.called} has no counterpart in nnx")
        if all(name in self.constants for name in node.input if name):
            self._fold(node)
            return
        args = [self._arg(name) for name in node.input]
        match node.op_type:
            case "Identity" | "Dropout":
                self.terms[out] = args[0]
            case "Flatten" if attributes.get("axis", 1) in (1, -1):
                self.terms[out] = args[0]
            case "Gemm":
                self.terms[out] = self._gemm(args, attributes)
            case "MatMul":
                self.terms[out] = self._product(args[0], args[1])
            case "Add" if (found := self._bias(args)) is not None:
                self.terms[out] = found
            case "Softmax" if attributes.get("axis", -1) in (1, -1):
                self.terms[out] = self._limited(term("Softmax", (args[0],)))
            case op if op in ELEMENTWISE:
                self.terms[out] = self._elementwise(op, args, attributes)
            case _:
                raise InputError(f"{self.called} has no counterpart in nnx")

    def _arg(self, name: str) -> Any:
        if name in self.constants or not name:
            return self.constants.get(name)
        if name not in self.terms:
            raise InputError(f"{self.called} takes {name!r}, which has no counterpart in nnx")
        return self.terms[name]

    def _fold(self, node: Any) -> None:
        """Compute a node of constants alone."""
        from onnx.reference import ReferenceEvaluator

        given = {name: self.constants[name] for name in node.input if name}
        self.constants |= zip(node.output, ReferenceEvaluator(node).run(None, given), strict=False)

    def _gemm(self, args: list[Any], attributes: Mapping[str, Any]) -> Term:
        """Return alpha A B + beta C."""
        if attributes.get("transA", 0):
            raise InputError(
                f"{self.called} transposes its first argument: samples are columns there; expected rows"
            )
        A, B, C = (*args, None)[:3]
        if isinstance(B, np.ndarray) and attributes.get("transB", 0):
            B = B.T
        found = self._product(A, B, attributes.get("alpha", 1.0))
        if C is None:
            return found
        return self._with_bias(found.stage, np.asarray(self._constant(C) * attributes.get("beta", 1.0)))

    def _constant(self, x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            raise InputError(
                f"{self.called} has a weight or bias that depends on the input; expected a constant"
            )
        return x

    def _product(self, A: Any, B: Any, alpha: float = 1.0) -> Term:
        """Return A B of a term A (m, n') and a constant B (n', n)."""
        if not isinstance(A, Term):
            raise InputError(
                f"{self.called} has the constant first: samples are columns there; expected rows"
            )
        B = as_floats("B", self._constant(B))
        if B.ndim != 2:
            raise InputError(f"{self.called} has a constant of shape {B.shape}; expected (n', n)")
        expected = _units(A) or self.width
        if expected not in (None, B.shape[0]):
            raise InputError(f"{self.called} takes {B.shape[0]} features; those before it give {expected}")
        return Term("x", stage=Stage(A, (B * B.dtype.type(alpha)).T))

    def _bias(self, args: list[Any]) -> Term | None:
        """Return a product with its bias, if the two arguments of Add are such; else None."""
        for x, b in (args, args[::-1]):
            stage = x.stage if isinstance(x, Term) else None
            if stage and stage.n and isinstance(b, np.ndarray) and (b.size > 1 or stage.b is None):
                return self._with_bias(stage, b)
        return None

    def _with_bias(self, stage: Stage, b: Any) -> Term:
        """Return the product with a bias for each unit: (n,), (1, n), or one number for all."""
        if b.ndim > 2 or b.shape[:-1] not in ((), (1,)) or b.shape[-1:] not in ((), (1,), (stage.n,)):
            raise InputError(
                f"{self.called} adds a constant of shape {b.shape}; expected ({stage.n},), one for each unit"
            )
        b = np.broadcast_to(b.reshape(-1).astype(stage.W.dtype), stage.W.shape[:1])
        return Term("x", stage=replace(stage, b=b if stage.b is None else stage.b + b))

    def _elementwise(self, op: str, args: list[Any], attributes: Mapping[str, Any]) -> Term:
        if op == "Clip" and len(args) == 1:  # before version 11 of the operations
            args += [attributes.get(name) for name in ("min", "max")]
        found: list[Term | float | None] = []
        for x in args:
            if isinstance(x, np.ndarray):
                if x.size != 1 or x.ndim > 2:
                    raise InputError(
                        f"{self.called} has a constant of shape {x.shape}, which is no part of an activation"
                    )
                x = float(x.reshape(()))
            found.append(_shortest(x) if isinstance(x, float) else x)
        while op == "Clip" and len(found) < 3:
            found.append(None)
        own = {name: attributes.get(name, value) for name, value in DEFAULTS.get(op, {}).items()}
        for name, value in own.items():
            value = value.decode() if isinstance(value, bytes) else value
            own[name] = _shortest(value) if isinstance(value, float) else value
        return self._limited(term(op, found, own))

    def _limited(self, made: Term) -> Term:
        """Return a term whose operations are not more than a formula has."""
        if made.depth > DEEPEST or sum(1 for _ in islice(subterms(made), MOST)) == MOST:
            raise InputError(f"{self.called} and those before it are no activation that nnx has")
        return made


def _shortest(x: float) -> float:
    """Return the decimal number that a float32 stands for: 0.1, and not 0.10000000149."""
    with np.errstate(over="ignore"):
        narrow = np.float32(x)
    return float(str(narrow)) if float(narrow) == x else x


def _units(one: Term) -> int | None:
    """Return the units of the stage inside a term."""
    stages = [part.stage for part in subterms(one) if part.stage is not None]
    return stages[0].n if stages else None


def _link(end: Term, output: str | None) -> tuple[Term, str]:
    """Return the term of Z[L], and the output."""
    own = LINKS.get(end.op)
    inner = end.args[0] if own else end
    if own == "exp" and isinstance(inner, Term) and inner.op == "Min":
        inner = next(arg for arg in inner.args if isinstance(arg, Term))
        if not is_exp(end, inner):  # nnx's is continued where e^z is too large to train
            raise InputError("the nodes Min, Exp together are no output that nnx has")
    if own is None:
        return end, output or "identity"
    if output not in (None, own):
        raise InputError(f"the graph ends with {end.op}, which is the output {own!r}; given {output!r}")
    assert isinstance(inner, Term)
    return inner, own


def _network(end: Term, link: str, loss: str | None) -> tuple[Network, dict[str, Any]]:
    """Return the network of the stages that lead to a term."""
    layers: list[Layer] = []
    arrays: list[Any] = []
    at: Term | None = end
    n = 0
    while at is not None:
        names = activations_of(at)
        if names is None:
            ops = ", ".join(dict.fromkeys(part.op for part in subterms(at) if part.op != "x"))
            raise InputError(f"the nodes {ops} together are no activation that nnx has")
        stage: Stage = next(part.stage for part in subterms(at) if part.stage is not None)
        if stage.W is not None:
            first, *more = names or ["identity"]
            layers = [Dense(stage.W.shape[0], first), *map(Activate, more), *layers]
            b = np.zeros(stage.W.shape[0], stage.W.dtype) if stage.b is None else stage.b
            arrays = [contiguous_copy(stage.W), contiguous_copy(b[:, None]), *arrays]
            n = stage.W.shape[1]
        else:
            layers = [*map(Activate, names), *layers]
        at = stage.before
    if not arrays:
        raise InputError("the graph has no Gemm or MatMul; a network needs at least one")
    if not isinstance(layers[-1], Dense) or layers[-1].g.name != "identity":
        raise InputError(
            f"the graph ends with the activation {shown(layers[-1])}; expected a product, and a link"
        )
    network = Network(n, layers, link, loss)
    return network, dict(zip(network.shapes, arrays, strict=True))
