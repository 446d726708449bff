"""argmax and argmin: of equal numbers the first, of numbers with NaN the first NaN."""

from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import LANES
from nnx.backends.cupy.lines import OnLines
from nnx.compiler import Op, TraceError

BEFORE = {"argmax": "more", "argmin": "less"}
"""The functions of prelude.cuh that tell which of two numbers is looked for."""


class ArgLines(OnLines):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """The index of the largest or the smallest number of each line."""

    def __init__(self, form: Form, op: Op) -> None:
        x, axes = op.reads[0], op.option("axes")
        if len(axes) != 1 or x.ndim > 2:
            raise TraceError(f"{op.name} over axes {axes} of {x.ndim} has no kernel")
        (axis,) = axes
        if x.ndim == 2:
            super().__init__(form, axis, x.shape[1 - axis], form.size(x, 1 - axis))
        else:
            super().__init__(form, 1, 1, "1")
        self._op, self._size = op, form.size(x, axis)

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        op, before = self._op, BEFORE[self._op.name]
        x, index, size = op.reads[0], self.form.index, self._size
        return [
            *self.start(),
            f"{x.dtype} best = {x.dtype}(0);",
            f"{index} at = {size};",
            *self.over_line(
                size,
                [
                    f"const {x.dtype} x = {self.load(x, self.index)};",
                    f"if (at == {size} || {before}<{x.dtype}>(x, best)) {{ best = x; at = i; }}",
                ],
            ),
            f"for (int d = {LANES // 2}; d; d >>= 1) {{",
            f"    const {x.dtype} x = __shfl_xor_sync(0xffffffffu, best, d);",
            f"    const {index} k = __shfl_xor_sync(0xffffffffu, at, d);",
            f"    const bool first = {before}<{x.dtype}>(x, best) || (!{before}<{x.dtype}>(best, x) && k < at);",
            f"    if (k < {size} && (at == {size} || first)) {{ best = x; at = k; }}",
            "}",
            f"if (lane == 0) {self.store(op.out, ('j', 'j'), 'at')}",
        ]
