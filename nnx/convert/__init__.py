"""Networks and models from and to other libraries: PyTorch, Keras, scikit-learn and ONNX."""

from nnx.convert.to_onnx import to_onnx
from nnx.io.convert import from_keras, from_onnx, from_sklearn, from_torch, to_keras, to_sklearn, to_torch

__all__ = [
    "from_keras",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "to_keras",
    "to_onnx",
    "to_sklearn",
    "to_torch",
]
