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

    def tile_product(a, b, r, rows, c, columns, out, at, width, *scalars):
        product = a[r : r + rows] @ b[:, c : c + columns]
        for i, row in enumerate(product):
            out[at + i * width : at + i * width + columns] = row

    def tile(d, r, c, rows, columns, place):
        start, k = d[0], d[3]
        first = start + r * k + c
        at, width = (start, columns) if place >= 0 else (first, k)
        return (at, width, first, rows * k, 1) if columns == k else (at, width, first, columns, rows)

    def operand(x, d):
        return x[: d[2], : d[3]]

    def transpose(t, T, a, out, d):
        if out.shape[0] == 1:
            out[:, : a.shape[1]] = a
        return operand(a, d)

    others = {
        "np": np,
        "tiling": lambda t, T, d, m: (0, d[2], 0, d[3], -(-d[2] // 2), -(-d[3] // m), 0 if m < 9 else -1),
        "tile": tile,
        "gemm_owner_computes": lambda t, T, a, b, out, *_: int(np.matmul(a, b, out=out) is out),
        "all_finite": lambda t, T, x: np.isfinite(x).all(),
        "flush_to_zero": lambda: 0,
        "set_float_mode": lambda before: None,
        "announce_call": lambda t, T, sync: None,
        "tile_gemm": tile_product,
        "tile_outer": tile_product,
        "partition": lambda t, T, n, grain: (0, n),
        "LINE": 16,
        "ZERO": 0,
        "ONE": 1,
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
        "as_matrix": lambda x, d: x.reshape(d[2], d[3]),
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
    from nnx.backends.numba.step import CompiledStep

    source = NumbaStepRenderer(graph).source()
    compiled = CompiledStep(source, interpreted(source.text))
    _, (X, *_) = graph.arguments

    def step(state, batch):
        new = {name: np.empty_like(state[name]) for name in compiled.changed}
        Js, is_finite = compiled(state, new, (*batch, None)[:3], None, 0, X.shape[-1], 1)
        assert is_finite == all(np.isfinite(x).all() for x in new.values())
        return {**state, **new}, Js[0]

    return step
