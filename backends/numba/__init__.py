"""NumPy's arrays, and training steps compiled by numba."""
