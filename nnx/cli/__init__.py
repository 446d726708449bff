"""The command line: nnx train, nnx predict, nnx bench, nnx backends."""

FAILED, MISTYPED, INTERRUPTED = 1, 2, 130
"""The exit statuses: the data or the run failed; what was typed is wrong; Ctrl-C. (0: done.)"""
