"""A stand-in for libcublasLt: it knows a product by its descriptors alone, and does it with NumPy."""

import ctypes

import numpy as np
from numpy.lib.stride_tricks import as_strided

DTYPES = {0: np.dtype("float32"), 1: np.dtype("float64"), 14: np.dtype("uint16")}
ATTRIBUTE_BYTES = {3: 4, 4: 4}
LAYOUT_BYTES = {5: 4, 6: 8}
"""Of the number of matrices in a batch, and of the elements from one to the next."""


def widened(x):
    """bfloat16 as float32."""
    return (x.astype("uint32") << 16).view("float32")


def tf32(x):
    """float32 with the ten digits behind the point that TF32 has."""
    return ((x.view("uint32") + 0x1000) & 0xFFFFE000).view("float32")


class CublasLtOnHost:
    """Functions with the arguments of the library's."""

    def __init__(self, cupy, workspace=1000):
        self.cupy, self.made, self.destroyed, self.workspace = cupy, {}, 0, workspace
        self.asked, self.products = [], 0
        self.algorithms = (
            1e-6,
        )  # the seconds of each one that there is, the likely fastest first; None: it is refused

    def _new(self, pointer, thing):
        number = len(self.made) + 1
        self.made[number] = thing
        pointer._obj.value = number
        return 0

    def _destroy(self, handle):
        del self.made[handle.value]
        self.made[-handle.value] = None
        self.destroyed += 1
        return 0

    def cublasLtMatmulDescDestroy(self, handle):
        return self._destroy(handle)

    cublasLtMatmulPreferenceDestroy = cublasLtMatrixLayoutDestroy = cublasLtMatmulDescDestroy  # noqa: N815

    def cublasLtGetVersion(self):
        return 130200

    def cublasLtCreate(self, pointer):
        return self._new(pointer, "handle")

    def cublasLtMatmulDescCreate(self, pointer, compute, scale):
        assert (compute, scale) in {(68, 0), (77, 0), (70, 1)}
        return self._new(pointer, {"compute": compute, 3: 0, 4: 0})

    def cublasLtMatrixLayoutCreate(self, pointer, dtype, rows, columns, ld):
        assert ld >= rows
        return self._new(pointer, {"matrix": (DTYPES[dtype], rows, columns, ld), 5: 1, 6: 0})

    def cublasLtMatmulPreferenceCreate(self, pointer):
        return self._new(pointer, {})

    def cublasLtMatmulDescSetAttribute(self, handle, attribute, value, nbytes):
        assert nbytes == ATTRIBUTE_BYTES[attribute]
        self.made[handle.value][attribute] = value._obj.value
        return 0

    def cublasLtMatrixLayoutSetAttribute(self, handle, attribute, value, nbytes):
        assert nbytes == LAYOUT_BYTES[attribute]
        self.made[handle.value][attribute] = value._obj.value
        return 0

    def cublasLtMatmulPreferenceSetAttribute(self, handle, attribute, value, nbytes):
        assert nbytes == {1: 8}.get(attribute, 4)
        self.made[handle.value][attribute] = value._obj.value
        return 0

    def cublasLtMatmulAlgoGetHeuristic(self, handle, desc, a, b, c, d, preference, count, found, returned):
        self.cupy.host_only("cublasLtMatmulAlgoGetHeuristic")
        preference = self.made[preference.value]
        self.asked.append(preference)
        returned._obj.value = min(count, len(self.algorithms))
        for k in range(returned._obj.value):
            found[k].workspace = min(self.workspace, preference[1])
            least = min(preference[i] for i in (5, 6, 7, 8))  # the alignment that it needs
            found[k].algorithm[0], found[k].algorithm[1], found[k].status = 1 + least, k, 0
        return 0

    def cublasLtMatmul(self, *arguments):
        _, desc, one, a, la, b, lb, zero, c, lc, d, ld, algorithm, workspace, nbytes, stream = arguments
        assert (one._obj.value, zero._obj.value, d, ld) == (1, 0, c, lc)
        desc, layouts = self.made[desc.value], [self.made[x.value] for x in (la, lb, lc)]
        least = algorithm._obj[0] - 1
        assert len({layout[5] for layout in layouts}) == 1, "matrices of one product are as many"
        for address, layout in zip((a, b, c), layouts, strict=True):
            stride = layout[6] * layout["matrix"][0].itemsize
            assert address % least == stride % least == 0, "an address is less round than was said"
        assert workspace % 256 == 0
        seconds = self.algorithms[algorithm._obj[1]]
        if seconds is None:
            return 15

        def product():
            self.products += 1
            self.cupy.seconds += seconds
            if nbytes:
                ctypes.memset(workspace, 255, nbytes)
            for k in range(layouts[0][5]):
                x, y = self._factor(a, k, layouts[0], desc, 3), self._factor(b, k, layouts[1], desc, 4)
                with np.errstate(all="ignore"):
                    _matrix(c, k, layouts[2])[...] = x @ y

        self.cupy.streams[stream].do(product)
        return 0

    def _factor(self, address, k, layout, desc, transposed):
        x = _matrix(address, k, layout)
        x = widened(x) if x.dtype == "uint16" else x
        x = tf32(np.ascontiguousarray(x)) if desc["compute"] == 77 else x
        return x.T if desc[transposed] else x


def _matrix(address, k, layout):
    """Matrix number k of a batch that begins at an address, column by column."""
    dtype, rows, columns, ld = layout["matrix"]
    address += k * layout[6] * dtype.itemsize
    size = (columns - 1) * ld + rows
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return as_strided(np.frombuffer(memory, dtype), (rows, columns), (dtype.itemsize, ld * dtype.itemsize))
