"""JAX, on whatever device it finds."""
