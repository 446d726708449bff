"""Data sets, tables and files. Importing this package imports NumPy and nothing else.

>>> X, Y = flower(400, seed=0)
>>> X.shape, Y.shape
((2, 400), (400,))
"""

from nnx.data.generated import flower, moons, spirals
from nnx.data.prepare import Preparation

__all__ = ["Preparation", "flower", "moons", "spirals"]
