"""Schedules: the learning rate as a function of the number of steps done, in place of a number.

`nnx.Adam(nnx.schedules.Cosine(0.01, steps=1000))`. `Cosine.in_epochs` and the like count epochs. After its last step
a schedule stays as it is. (The code is in `nnx.optimizers.schedules`.)
"""

from nnx.optimizers.schedules import *  # noqa: F403
from nnx.optimizers.schedules import __all__ as __all__
