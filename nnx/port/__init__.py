"""The port: what nnx asks of an array library, and how one is chosen."""
