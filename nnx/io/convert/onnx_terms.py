"""Formulas of ONNX nodes, and the activation that a formula is.

A formula is compared by its operations and numbers, not by its values. Exporters write the same activation in several
ways. So sums and products are put in one form first: x/2 is 0.5 x, and a - b is a + (-1) b.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import isclose, sqrt
from typing import Any

from nnx.errors import InputError
from nnx.io.convert.onnx_activations import activated
from nnx.io.convert.onnx_functions import Functions
from nnx.io.convert.onnx_graph import Value
from nnx.model.activations import ACTIVATIONS, activation
from nnx.model.activations.base import Activation
from nnx.model.outputs import links


@dataclass(frozen=True)
class Term:
    """One operation on terms and numbers; of op "x" it is what the formula is a function of."""

    op: str
    args: "tuple[Term | float | None, ...]" = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    stage: Any = None

    @property
    def key(self) -> str:
        """A text that tells terms apart, but for their numbers."""
        inside = ",".join(arg.key if isinstance(arg, Term) else "#" for arg in self.args)
        return f"{self.op}({inside})"

    @cached_property
    def depth(self) -> int:
        """The operations one inside the other."""
        return 1 + max((arg.depth for arg in self.args if isinstance(arg, Term)), default=0)


X = Term("x")
DEFAULTS: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.01},
    "Elu": {"alpha": 1.0},
    "Selu": {"alpha": 1.6732632423543772848, "gamma": 1.0507009873554804934},
    "Gelu": {"approximate": "none"},
    "Softmax": {"axis": -1},
}
"""The attributes that matter, with the value of those that a node leaves out."""
ELEMENTWISE = {
    "Abs", "Add", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Reciprocal", "Relu",
    "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh", "Where",
}  # fmt: skip


def term(op: str, args: Sequence[Term | float | None], given: Mapping[str, Any] | None = None) -> Term:
    """Return an operation on terms, with those of its attributes that matter."""
    known = {**DEFAULTS.get(op, {}), **(given or {})}
    return Term(op, tuple(args), tuple((name, known[name]) for name in DEFAULTS.get(op, {})))


@cache
def normal(one: Term) -> Term:
    """Return a term in the one form: sums and products are flat, with at most one number."""
    args = tuple(normal(arg) if isinstance(arg, Term) else arg for arg in one.args)
    match one.op, args:
        case "Neg", (x,):
            return _flat("Mul", (x, -1.0))
        case "Sub", (x, y):
            return _flat("Add", (x, -y if isinstance(y, float) else _flat("Mul", (y, -1.0))))
        case "Div", (x, float(number)) if number:
            return _flat("Mul", (x, 1 / number))
        case "Div", (x, y):
            return _flat("Mul", (x, Term("Reciprocal", (y,))))
        case "Pow", (Term() as x, float(number)) if number in (2.0, 3.0):
            return _flat("Mul", (x,) * int(number))
        case "Max" | "Min", (float(number), x):
            return Term(one.op, (x, number))
        case "Add" | "Mul", _:
            return _flat(one.op, args)
    return Term(one.op, args, one.attributes, one.stage)


def _flat(op: str, args: tuple[Term | float | None, ...]) -> Term:
    neutral, number = (0.0, 0.0) if op == "Add" else (1.0, 1.0)
    found: list[Term] = []
    for arg in args:
        for one in arg.args if isinstance(arg, Term) and arg.op == op else (arg,):
            if isinstance(one, Term):
                found.append(one)
            elif one is not None:
                number = number + one if op == "Add" else number * one
    found.sort(key=lambda one: one.key)
    if number == neutral and len(found) == 1:
        return found[0]
    return Term(op, (*found, *([] if number == neutral else [number])))


def same(a: Term | float | None, b: Term | float | None) -> bool:
    """Whether two terms are one formula; numbers may differ as float32 and float64 do."""
    if isinstance(a, Term) and isinstance(b, Term):
        return (
            a.op == b.op
            and a.stage is b.stage
            and len(a.args) == len(b.args)
            and all(map(same, a.args, b.args))
            and all(_same_attribute(p[1], q[1]) for p, q in zip(a.attributes, b.attributes, strict=True))
        )
    return a == b or (isinstance(a, float) and isinstance(b, float) and isclose(a, b, rel_tol=2e-6))


def _same_attribute(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and isclose(a, b, rel_tol=2e-6))


def subterms(one: Term) -> Iterator[Term]:
    """Yield the terms inside a term, and itself, the innermost first."""
    for arg in one.args:
        if isinstance(arg, Term):
            yield from subterms(arg)
    yield one


def numbers(one: Term) -> Iterator[float]:
    """Yield the numbers of a term."""
    for inner in subterms(one):
        yield from (arg for arg in inner.args if isinstance(arg, float))
        yield from (value for _, value in inner.attributes if isinstance(value, float))


def with_x(one: Term, inner: Term) -> Term:
    """Return the term with x in place of one of the terms inside."""
    if one is inner or one == inner:
        return X
    args = tuple(with_x(arg, inner) if isinstance(arg, Term) else arg for arg in one.args)
    return Term(one.op, args, one.attributes, one.stage)


def _of_values(made: Value) -> Term:
    """Return the formula of a value of a graph that has one input."""
    if made.made_by is None:
        return X
    node = made.made_by
    args = tuple(float(x.constant) if x.constant is not None else _of_values(x) for x in node.args)
    return term(node.op, args, node.attributes)


@cache
def written(name: str, dtype: str) -> Term:
    """Return the formula as which nnx exports an activation."""
    return normal(_of_values(activated(activation(name), Functions().graph.input("x", dtype, (None, 1)))))


def is_exp(one: Term, inner: Term) -> bool:
    """Whether a term is the formula, of the term inside, as which nnx exports the output "exp"."""
    values = (Functions().graph.input("x", dtype, (None, 1)) for dtype in ("float32", "float64"))
    return any(same(normal(with_x(one, inner)), normal(_of_values(links.exp(x)))) for x in values)


def _others() -> Iterator[tuple[str, Term]]:
    """Yield the formulas as which other libraries export activations."""

    def product(*args: Term | float) -> Term:
        return term("Mul", args)

    def one_and(x: Term) -> Term:
        return term("Add", (x, 1.0))

    yield "relu", term("Max", (X, 0.0))
    yield "relu", term("Clip", (X, 0.0, None))
    yield "hard_tanh", term("Min", (term("Max", (X, -1.0)), 1.0))
    yield "sigmoid", term("Reciprocal", (one_and(term("Exp", (product(X, -1.0),))),))
    yield "gelu", product(0.5, X, one_and(term("Erf", (product(X, sqrt(0.5)),))))
    yield "gelu", term("Gelu", (X,))
    yield "gelu_tanh", term("Gelu", (X,), {"approximate": "tanh"})
    u = product(0.7978845608028654, term("Add", (X, product(0.044715, X, X, X))))
    yield "gelu_tanh", product(0.5, X, one_and(term("Tanh", (u,))))
    yield "mish", term("Mish", (X,))
    yield "mish", product(X, term("Tanh", (term("Softplus", (X,)),)))
    yield "softplus", term("Log", (one_and(term("Exp", (X,))),))


OWN = tuple(name for name, one in ACTIVATIONS.items() if isinstance(one, Activation))
"""nnx's activations without a parameter, from before a user registers one."""


@cache
def _known() -> list[tuple[str, Term]]:
    found = [(name, normal(one)) for name, one in _others()]
    return found + [(name, written(name, dtype)) for name in OWN for dtype in ("float32", "float64")]


def activation_of(one: Term) -> str | None:
    """Return the name of the activation whose formula of x this is, None if it is none of nnx's."""
    one = normal(one)
    for name, formula in _known():
        if same(one, formula):
            return name
    for number in numbers(one):
        for name in ("leaky_relu", "elu"):
            spec = f"{name}({number!r})"
            try:
                if any(same(one, written(spec, dtype)) for dtype in ("float32", "float64")):
                    return activation(spec).name
            except InputError:  # a number that is no slope of it
                continue
    return None


def activations_of(one: Term) -> list[str] | None:
    """Return the activations, one after the other, that a term applies to its stage; None if it is none."""
    if one.op == "x":
        return []
    for inner in subterms(one):
        if inner is one:
            break
        formula = with_x(one, inner)
        if any(part.stage is not None for part in subterms(formula)):
            continue  # the stage stands beside it, too
        name = activation_of(formula)
        before = None if name is None else activations_of(inner)
        if name is not None and before is not None:
            return [*before, name]
    return None
