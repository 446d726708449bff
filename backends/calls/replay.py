"""A call with arrays for its results, until each library has a program of its own."""

from collections.abc import Callable, Mapping
from typing import Any

from nnx.backends.calls.renderer import Call
from nnx.compiler import Graph, TraceError, Value, is_array, leaves, mapped, own_outputs


def replayed(
    graph: Graph,
    render: Callable[[Graph, Mapping[Value, Value]], Call],
    result: Callable[[Value], Callable[[], Any]],
    unlike: Callable[[Any, Value], bool],
) -> Callable[..., Any]:
    """Return the traced function: of its arguments, and of whether it may write over the old state."""
    if not any(isinstance(leaf, Value) for leaf in leaves(graph.result)):
        raise TraceError("the result holds no array")
    try:
        (old, *_), (new, *rest) = graph.arguments, graph.result
        slots = {new[name]: old[name] for name in old if new[name] != old[name]}
        same = {name: old[name] for name in old if new[name] == old[name]}
        graph = own_outputs(
            Graph(
                graph.inputs, graph.ops, graph.arguments, ({n: new[n] for n in new if n not in same}, *rest)
            )
        )
        new = graph.result[0]
        slots = {new[name]: old[name] for name in new}
        if any((x.shape, x.dtype) != (y.shape, y.dtype) for x, y in slots.items()):
            raise TypeError
        tree = ({name: same.get(name, new.get(name)) for name in old}, *graph.result[1:])
    except (TypeError, KeyError, ValueError, IndexError, AttributeError):
        graph, slots = own_outputs(graph), {}
        tree = graph.result
    call = render(graph, slots)
    takes = [result(value) for value in graph.outputs]
    places = {value: number for number, value in enumerate(graph.inputs)}

    def run(*arguments: Any, over: bool = False) -> Any:
        given, wanted = [*leaves(arguments)], [*leaves(graph.arguments)]
        if len(given) != len(wanted) or _structure(arguments) != _structure(graph.arguments):
            return None
        inputs = []
        for x, value in zip(given, wanted, strict=True):
            if isinstance(value, Value):
                if not is_array(x) or unlike(x, value):
                    return None
                inputs.append(x)
            elif type(x) is not type(value) or x != value:
                return None
        outs = [
            inputs[places[slots[value]]] if over and value in slots else take()
            for value, take in zip(graph.outputs, takes, strict=True)
        ]
        call(inputs, outs)
        found = dict(zip(graph.outputs, outs, strict=True)) | dict(zip(graph.inputs, inputs, strict=True))
        return mapped(tree, lambda leaf: found[leaf] if isinstance(leaf, Value) else leaf)

    run.source = getattr(call, "source", "")  # type: ignore[attr-defined]
    return run


def _structure(tree: Any) -> Any:
    return mapped(tree, lambda leaf: None)
