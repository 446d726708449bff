"""NumPy, on the CPU."""
