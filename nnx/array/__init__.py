"""The door to the array standard: namespaces, NumPy as the exchange format, and random numbers."""
