"""argmax and argmin: a warp does a line, and keeps of equal numbers the first, of numbers with NaN the first NaN."""

from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import LANES, THREADS, line_blocks
from nnx.backends.cupy.kernel_text import Index, KernelText, indented
from nnx.compiler import Op, TraceError

BEFORE = {"argmax": "more", "argmin": "less"}
"""The functions of prelude.cuh that tell which of two numbers is looked for."""


class ArgLines(KernelText):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """The index of the largest or the smallest number of each line."""

    barriers = True

    def __init__(self, form: Form, op: Op) -> None:
        super().__init__(form)
        self._op, self._x = op, op.reads[0]
        axes = op.option("axes")
        if op.name not in BEFORE or len(axes) != 1 or self._x.ndim > 2:
            raise TraceError(f"{op.name} over axes {axes} of {self._x.ndim} has no kernel")
        self._axis = axes[0]

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(line_blocks(self._x.shape[1 - self._axis] if self._x.ndim == 2 else 1))

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        op, before, dtype = self._op, BEFORE[self._op.name], self._x.dtype
        size = self.form.size(self._x, self._axis)
        count = self.form.size(self._x, 1 - self._axis) if self._x.ndim == 2 else "1"
        index: Index = ("i", "j") if self._axis == 0 and self._x.ndim == 2 else ("j", "i")
        store = self.store(op.out, ("0", "j") if self._axis == 0 else ("j", "0")[: op.out.ndim], "at")
        loop = [
            f"const {dtype} x = {self.load(self._x, index)};",
            f"if (at == {size} || {before}<{dtype}>(x, best)) {{ best = x; at = i; }}",
        ]
        return [
            f"const uint32 lane = threadIdx.x % {LANES}, j = (blockIdx.x * {THREADS} + threadIdx.x) / {LANES};",
            f"if (j >= {count}) return;",
            f"{dtype} best = {dtype}(0);",
            f"uint32 at = {size};",
            f"for (uint32 i = lane; i < {size}; i += {LANES}) {{",
            *indented(loop),
            "}",
            f"for (int d = {LANES // 2}; d; d >>= 1) {{",
            f"    const {dtype} x = __shfl_xor_sync(0xffffffffu, best, d);",
            "    const uint32 k = __shfl_xor_sync(0xffffffffu, at, d);",
            f"    const bool first = {before}<{dtype}>(x, best) || (!{before}<{dtype}>(best, x) && k < at);",
            f"    if (k < {size} && (at == {size} || first)) {{ best = x; at = k; }}",
            "}",
            f"if (lane == 0) {store}",
        ]
