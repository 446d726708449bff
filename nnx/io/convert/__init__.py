"""Networks from and to PyTorch, Keras and scikit-learn, and from ONNX (edge).

Each way the parameters are copied, and the outputs are the same; samples are rows there, columns here. Only
`to_torch`, `from_torch` and `from_onnx` import a library; Keras's weights and scikit-learn's are NumPy arrays.
"""

from nnx.io.convert.from_onnx import from_onnx
from nnx.io.convert.from_torch_modules import from_torch
from nnx.io.convert.keras import from_keras, to_keras
from nnx.io.convert.sklearn import from_sklearn, to_sklearn
from nnx.io.convert.to_torch_modules import to_torch

__all__ = ["from_keras", "from_onnx", "from_sklearn", "from_torch", "to_keras", "to_sklearn", "to_torch"]
