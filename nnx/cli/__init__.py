"""The command line: nnx train, nnx predict, nnx bench, nnx backends."""

from nnx.support.starting import INTERRUPTED as INTERRUPTED

FAILED, MISTYPED, BROKEN_PIPE = 1, 2, 141
"""The exit statuses: the data or the run failed; what was typed is wrong; the reader of the output has ended,
as `head` does. (0: done; `INTERRUPTED`: Ctrl-C.)"""
