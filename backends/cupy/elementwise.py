"""Kernels without sums: single numbers, elements that do not need each other, and copies."""

from nnx.backends.cupy.form import Form
from nnx.backends.cupy.grids import flat_blocks
from nnx.backends.cupy.kernel_text import Index, KernelOf, KernelText, block
from nnx.compiler import TraceError
from nnx.compiler.schedule import Copy


class Numbers(KernelOf):  # type: ignore[misc]  # of nnx.backends, which mypy sees under another name
    """Single numbers, by one thread."""

    threads = 1

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        return [line for op in self.kernel.ops for line in self.computed(self.kernel, op, ("0", "0"))]

    def grid(self) -> int:
        """Return the number of blocks."""
        return 1


class Flat(KernelOf):  # type: ignore[misc]
    """Elements that do not need each other, in the order in which they lie."""

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        where, index = self.indices()
        inner = [line for op in self.kernel.ops for line in self.computed(self.kernel, op, index)]
        return list(block(self.each(self.form.size(self.whole)), where + inner))

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(flat_blocks(self.whole.size))


class CopyText(KernelText):  # type: ignore[misc]
    """Elements copied into other values, or parts of them: one copy after the other."""

    def __init__(self, form: Form, copies: tuple[Copy, ...]) -> None:
        super().__init__(form)
        self.copies = copies

    def lines(self) -> list[str]:
        """Return the lines of the body."""
        return [line for copy in self.copies for line in self._copied(copy)]

    def grid(self) -> int:
        """Return the number of blocks."""
        return int(flat_blocks(max(copy.source.size for copy in self.copies)))

    def _copied(self, copy: Copy) -> list[str]:
        source, target = copy.source, copy.target
        if target.ndim > 2:
            raise TraceError(f"a copy of {target.ndim} axes has no kernel")
        index: Index = ("e",)
        where: list[str] = []
        if source.ndim == 2:
            columns = self.form.size(source, 1)
            index = ("i", "j")
            where = [f"const {self.form.index} i = e / {columns}, j = e - i * {columns};"]
        to = tuple(
            f"({k} + {copy.start})" if a == copy.axis and copy.start else k for a, k in enumerate(index)
        )
        copied = self.store(target, to, self.load(source, index))
        return list(block(self.each(self.form.size(source)), [*where, copied]))
