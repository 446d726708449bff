"""The optimizer's loop over tiles of dtheta, as the source of functions for numba."""

from nnx.backends.numba.expressions import indented
from nnx.backends.numba.kernel import KernelSource

OVER_TILES = (
    "i0, i1, j0, j1, R, C, place = tiling(t, T, d, m)",
    "for above in range((i1 - i0 + R - 1) // R):  # from the last rows up, since the forward pass read those last",
    "    r = i0 + ((i1 - i0 - 1) // R - above) * R",
    "    for c in range(j0, j1, C):",
    "        rows, columns = min(R, i1 - r), min(C, j1 - c)",
    "        at, width, first, length, count = tile(d, r, c, rows, columns, place)",
    "        PRODUCT",
    "        for q in range(count):",
    "            low, high, ahead = first + q * d[3], first + q * d[3] + length, at + q * width",
    "            UPDATE",
)
"""Make each tile of a dW, and update the runs of theta that it belongs to."""

OVER_RANGES = (
    "for k in range(first, last):",
    "    low, high = partition(t, T, D[k][3], LINE)",
    "    low, high = D[k][0] + low, D[k][0] + high",
    "    ahead = low",
    "    UPDATE",
)
"""Update the ranges of theta in some rows of D, whose derivatives are in their own places."""

PRODUCT = "tile_gemm(a, b, r, rows, c, columns, dtheta, at, width, scalars)"
PRODUCT_OF_ONE_SAMPLE = "tile_outer(a, b, r, rows, c, columns, dtheta, at, width)"


class Update:
    """The optimizer's kernel, called for theta[low:high], whose derivative begins at dtheta[ahead].

    Parameters
    ----------
    kernel : KernelSource
    function : str
        Its name.
    gradient : str
        The step's variable that is dtheta.
    olds : dict of str to str
        Variables of the state before the first step, and those that they are to be copied to in the first step.
    """

    def __init__(self, kernel: KernelSource, function: str, gradient: str, olds: dict[str, str]) -> None:
        self._names = {x: "dtheta" if x == gradient else p for x, p in kernel.parameters.items()}
        self._arguments = [*self._names, *olds]
        cut = {x: f"{name}[low:high]" for x, name in self._names.items() if x in kernel.arrays}
        cut[gradient] = "dtheta[ahead : ahead + high - low]"
        given = ", ".join(cut.get(x, name) for x, name in self._names.items())
        copies = [
            f"    copy_state(ZERO, ONE, {y}[low:high], {self._names[x]}[low:high])" for y, x in olds.items()
        ]
        self._olds = [*olds]
        self._update = [
            *(["if is_first:", *copies] if copies else []),
            f"{function}({given}, 0, 0, 0, high - low)",
        ]

    def over_tiles(self, is_product: bool) -> tuple[str, list[str]]:
        """Return a function of (d, m, a, b, scalars, ...), and its last arguments: one tile after the other."""
        product = PRODUCT if is_product else PRODUCT_OF_ONE_SAMPLE
        lines = [line.replace("PRODUCT", product) for line in OVER_TILES]
        return self._function(["d", "m", "a", "b", "scalars"], lines), self._arguments

    def over_ranges(self) -> tuple[str, list[str]]:
        """Return a function of (D, first, last, ...), and its last arguments: the ranges in rows of D."""
        return self._function(["D", "first", "last"], [*OVER_RANGES]), self._arguments

    def _function(self, parameters: list[str], lines: list[str]) -> str:
        body = [
            line.replace("UPDATE", call)
            for line in lines
            for call in (self._update if line.endswith("UPDATE") else [""])
        ]
        names = ", ".join(["t", "T", "is_first", *parameters, *self._names.values(), *self._olds])
        return "\n".join(["@njit(**PLAIN)", f"def KERNEL({names}):", *indented(body)])
