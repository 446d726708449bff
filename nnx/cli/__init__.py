"""The command line: nnx train, nnx predict, nnx bench, nnx backends."""

FAILED, MISTYPED, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
"""The exit statuses: the data or the run failed; what was typed is wrong; Ctrl-C; the reader of the output has ended,
as `head` does. (0: done.)"""
