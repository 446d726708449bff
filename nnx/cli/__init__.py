"""The command line: nnx train, nnx predict, nnx bench, nnx backends."""
