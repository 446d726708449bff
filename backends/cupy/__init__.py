"""CuPy, on a CUDA GPU."""
