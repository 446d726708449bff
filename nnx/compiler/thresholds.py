"""Every threshold of the compiler and its renderers in one table, each with the measurement that set it."""

from typing import NamedTuple, TypeVar

N = TypeVar("N", int, float)


class Threshold(NamedTuple):
    """A number at which another way becomes the faster one."""

    value: float
    unit: str
    effect: str
    processor: str
    measurement: str


TABLE: dict[str, Threshold] = {}
"""All thresholds by name."""


def _row(name: str, value: N, unit: str, effect: str, measurement: str, processor: str = "not noted") -> N:
    TABLE[name] = Threshold(value, unit, effect, processor, measurement)
    return value


# fmt: off
# Estimates.
FLOPS_PER_SECOND = _row("FLOPS_PER_SECOND", 60e9, "1/s", "estimated seconds of products on one core", "a rough mean")
BYTES_PER_SECOND = _row("BYTES_PER_SECOND", 40e9, "1/s", "estimated seconds of reads and writes on one core",
    "a rough mean")

# NumPy and PyTorch.
BLOCK = _row("BLOCK", 1 << 16, "elements", "NumPy updates vectors of twice as many block by block",
    "else a network 1,024 wide with Adam took 24 to 32 % longer, m = 1 to 32", "AMD EPYC, Zen 4")
SLOW_ROOT = _row("SLOW_ROOT", 1 << 12, "elements", "from it on, PyTorch with MKL computes a square root as 1 / rsqrt",
    "784-512-512-10 with Adam took 1.6 times as long at m = 1: MKL is slow at the root of 0", "AMD EPYC, Zen 4")
ONE_THREAD_FLOPS = _row("ONE_THREAD_FLOPS", 1 << 23, "flop", "up to it, products in NumPy and PyTorch have one thread",
    "two threads take about as long to meet")
GROUP_BYTES = _row("GROUP_BYTES", 8 << 20, "bytes",
    "up to it, NumPy, PyTorch and JAX compute members of a stack at once",
    "784-512-512-10 took 1.3 times as long with 4 members as with 1; 256-256-256-10 0.9 times with 2, 1.3 with 16",
    "AMD EPYC, Zen 4")

# JAX.
XLA_TRANSPOSED_COLUMNS = _row("XLA_TRANSPOSED_COLUMNS", 64, "samples", "up to it, JAX computes W^T dZ as (dZ^T W)^T",
    "784-512-512-10: 0.5 instead of 1.1 ms at m = 1, 1.6 instead of 2.3 at 32, as long at 128", "AMD EPYC, Zen 4")

# numba: products.
PARTIAL_SUMS_SAMPLES = _row("PARTIAL_SUMS_SAMPLES", 128, "samples",
    "up to it, threads divide a product with W as they divide its update",
    "else 784-512-512-10 took 1.3 times as long at m = 1, and 12288-20-7-5-1 1.4 times", "AMD EPYC, Zen 4")
TRANSPOSED_COPY_SAMPLES = _row("TRANSPOSED_COPY_SAMPLES", 256, "samples", "up to it, dZ A^T reads a copy of A^T",
    "else 784-512-512-10 took 17 % longer at m = 128; a copy of more samples takes much memory", "AMD EPYC, Zen 4")
TRANSPOSED_COPY_FEW = _row("TRANSPOSED_COPY_FEW", 32, "samples",
    "up to it TRANSPOSED_COPY_UNITS holds, else TRANSPOSED_COPY_MORE_UNITS", "as TRANSPOSED_COPY_SAMPLES")
TRANSPOSED_COPY_UNITS = _row("TRANSPOSED_COPY_UNITS", 64, "units",
    "from it on, dZ A^T of few samples reads a copy of A^T", "as TRANSPOSED_COPY_SAMPLES")
TRANSPOSED_COPY_MORE_UNITS = _row("TRANSPOSED_COPY_MORE_UNITS", 256, "units",
    "from it on, dZ A^T of more samples reads a copy of A^T", "as TRANSPOSED_COPY_SAMPLES")
TILE_SAMPLES = _row("TILE_SAMPLES", 256, "samples", "up to it, dW is made in tiles that the optimizer uses at once",
    "else 784-512-512-10 took 1.4 times as long at m = 1, and a network 1,024 wide 1.3 times at 8", "AMD EPYC, Zen 4")
TILE = _row("TILE", 24576, "elements", "the size of such a tile", "it fits into a core's second cache")
TILE_OF_ONE_SAMPLE = _row("TILE_OF_ONE_SAMPLE", 4096, "elements", "the size of a tile of one sample",
    "it fits into the nearest cache: 5 % of a step of gradient descent")
REGISTER_RESULT = _row("REGISTER_RESULT", 8192, "elements",
    "up to it, a result is made in registers where BLAS always copies",
    "16 columns took a quarter to three quarters of OpenBLAS's time, 128 a third to all of it", "AMD EPYC, Zen 3")
REGISTER_LEFT = _row("REGISTER_LEFT", 4096, "elements", "the same, up to it in the left factor",
    "as REGISTER_RESULT", "AMD EPYC, Zen 3")
FEW_COLUMNS = _row("FEW_COLUMNS", 64, "columns", "up to it, a page-strided left factor is read in narrower parts; "
    "above it, a right factor with unaligned rows is copied whole",
    "OpenBLAS reads matrices with page-strided rows at up to half the speed")
MKL_FEW_ROWS = _row("MKL_FEW_ROWS", 32, "rows", "up to it, MKL's long sums are done in parts",
    "set with MKL's products", "Intel Xeon with MKL")
MKL_LONG_ROWS = _row("MKL_LONG_ROWS", 4096, "columns", "the same, from it on",
    "set with MKL's products", "Intel Xeon with MKL")
PREFER_ROWS = _row("PREFER_ROWS", 1.1, "ratio", "threads get whole rows of W up to this imbalance",
    "as PARTIAL_SUMS_SAMPLES", "AMD EPYC, Zen 4")

# numba: threads.
SINGLE_THREAD_SECONDS = _row("SINGLE_THREAD_SECONDS", 100e-6, "s", "up to it, one thread does a step",
    "a barrier costs some 0.2 us, and a step has a few dozen")
NO_SECOND_THREAD_SECONDS = _row("NO_SECOND_THREAD_SECONDS", 20e-3, "s",
    "up to it, a call between steps has one BLAS thread",
    "OpenBLAS's threads spin for 30 ms: epochs of 3 ms took 78 ms")
SOON_SECONDS = _row("SOON_SECONDS", 0.05, "s", "within it after steps, more steps are expected soon",
    "as NO_SECOND_THREAD_SECONDS")
# fmt: on
