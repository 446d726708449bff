"""All that cannot be tried without a GPU: `python -m nnx.bench.gpu --out FOLDER`."""
