"""PyTorch's names of layers' parameters and activations."""

from typing import Any

TORCH_NAMES = {
    "W": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "a": "weight",
}
"""PyTorch's names of a layer's parameters."""

TORCH_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {}),
    "identity": ("Identity", {}),
    "elu": ("ELU", {}),
    "selu": ("SELU", {}),
    "gelu": ("GELU", {"approximate": "none"}),
    "gelu_tanh": ("GELU", {"approximate": "tanh"}),
    "silu": ("SiLU", {}),
    "softplus": ("Softplus", {"beta": 1}),
    "softsign": ("Softsign", {}),
    "mish": ("Mish", {}),
    "hard_tanh": ("Hardtanh", {"min_val": -1, "max_val": 1}),
}
"""PyTorch's module of each activation, with its arguments, which are its attributes, too."""

TORCH_SLOPES = {"LeakyReLU": "negative_slope", "ELU": "alpha"}
"""PyTorch's name of the parameter of an activation."""
