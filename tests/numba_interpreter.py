"""numba's source of a step, run by Python itself."""

import math
import types
from types import SimpleNamespace

import numpy as np

from nnx.backends.numba.expressions import FLOAT32
from nnx.backends.numba.step_renderer import NumbaStepRenderer


def interpreted(text):
    """The function of a source, run by Python itself."""
    module = types.ModuleType("step")
    vectors = {name: getattr(np, plain) for plain, name in FLOAT32.items()}
    types_ = {name: getattr(np, name) for name in ("float32", "float64", "int32", "int64", "bool_")}

    def gather(t, T, rows, order, start, out):
        out[...] = rows[order[start : start + len(out)]]

    def gather_columns(y, order, start, out):
        m = out.shape[-1]
        out[...] = y[..., order[start : start + m]] if len(order) else y[..., start : start + m]

    def over_tiles(product, update):
        def update_tiles(t, T, arguments, d, m, a, b, dtheta, scalars):
            """Two tiles of whole rows: of few samples the second lies over the first, at the beginning."""
            start, _, n, k = d
            R = -(-n // 2)
            for r in range(0, n, R):
                tile = (a[r : r + R] @ b).reshape(-1)
                low = start + r * k
                ahead = start if m < 9 else low
                dtheta[ahead : ahead + tile.size] = tile
                update(arguments, low, low + tile.size, ahead)

        return update_tiles

    def over_ranges(update):
        def update_ranges(t, T, arguments, D, first, last):
            for low, high, *_ in D[first:last]:
                update(arguments, low, high, low)

        return update_ranges

    def operand(x, d):
        return x[: d[2], : d[3]]

    def transpose(t, T, a, out, d):
        if out.shape[0] == 1:
            out[:, : a.shape[1]] = a
        return operand(a, d)

    others = {
        "np": np,
        "gemm_owner_computes": lambda t, T, a, b, out, *_: int(np.matmul(a, b, out=out) is out),
        "change_float_mode": lambda keep, add: 0,
        "FLUSH_TO_ZERO": 0,
        "tile_gemm": None,
        "tile_outer": None,
        "over_tiles": over_tiles,
        "over_ranges": over_ranges,
        "transpose": transpose,
        "njit": lambda *_, **__: lambda f: f,
        "types": SimpleNamespace(
            void=lambda *_: None, Array=lambda *_, **__: None, **dict.fromkeys([*types_, "boolean"])
        ),
        "PLAIN": {},
        "CALLED": {},
        "uint64": int,
        "add_in_any_order": lambda sum, x: sum + x,
        "barrier": lambda sync, T, number: number + 1,
        **dict.fromkeys(
            ("by_rows", "by_columns", "by_elements", "by_one"), lambda t, T, d: (0, d[2], 0, d[3])
        ),
        "part": lambda x, d: x[d[0] : d[1]],
        "matrix": lambda x, d: x[d[0] : d[1]].reshape(d[2], d[3]),
        "as_vector": lambda x, d: x.reshape(d[3]),
        "operand": operand,
        "gemm_partition": lambda t, T, a, b, out, *_: np.matmul(a, b, out=out),
        "gather": gather,
        "gather1": gather_columns,
        "gather2": gather_columns,
        "copy_state": lambda t, T, new, old: np.copyto(old, new),
    }
    module.__dict__.update(vars(math), **vectors, **types_, **others)
    exec(text, module.__dict__)
    return np.errstate(all="ignore")(module.step)


def in_loops(graph):
    """The step of a graph, as numba would do it."""
    from nnx.backends.numba.compiled import CompiledFunction
    from nnx.backends.numba.program import CompiledStep

    source = NumbaStepRenderer(graph).source()
    compiled = CompiledStep(source, CompiledFunction(interpreted(source.text)))
    _, (X, *_) = graph.arguments

    def step(state, batch):
        new = {name: np.empty_like(state[name]) for name in compiled.changed}
        Js = compiled(state, new, (*batch, None)[:3], None, 0, X.shape[-1], 1)
        return {**state, **new}, Js[0]

    return step
