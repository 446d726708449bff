"""The functions that compiled steps call, in files of one idea each.

Every thread runs the same step with its own number t of T threads. It does its part of each loop and each product, and
waits for the others where one reads what another has written. BLAS has one thread meanwhile.

`nnx.backends.numba.compiled` joins these files to the text of one module, which lies beside the compiled steps. numba
keeps on disk what it has compiled of it, so that all steps share it.
"""

FILES = ("options", "threads", "parts", "blocks", "gemm", "tiles", "copies", "elementary", "ranks")
"""The files in an order in which each uses only those before it."""
