"""Arrays that must not be read on the host: whatever asks for a Python number of one raises."""

import operator
from dataclasses import dataclass

from nnx.array.namespace import array_namespace


class HostReadError(AssertionError):
    """An array's values were asked for on the host."""


def wrap(x, xp):
    if isinstance(x, dict):
        return {name: wrap(value, xp) for name, value in x.items()}
    if isinstance(x, tuple | list):
        return type(x)(wrap(value, xp) for value in x)
    return Guarded(x, xp) if hasattr(x, "shape") and hasattr(x, "dtype") else x


def unwrap(x):
    if isinstance(x, dict):
        return {name: unwrap(value) for name, value in x.items()}
    if isinstance(x, tuple | list):
        return type(x)(unwrap(value) for value in x)
    return x.array if isinstance(x, Guarded) else x


@dataclass(frozen=True)
class GuardedNamespace:
    """The standard's functions on guarded arrays."""

    xp: object

    def __getattr__(self, name):
        value = getattr(self.xp, name)
        if isinstance(value, type) or not callable(value):
            return value  # a dtype or a constant
        return lambda *args, **kwargs: wrap(value(*unwrap(args), **unwrap(kwargs)), self.xp)


class Guarded:
    """An array of which all is known but its values."""

    def __init__(self, array, xp=None):
        self.array, self.xp = array, xp or array_namespace(array)

    shape = property(lambda self: tuple(self.array.shape))
    ndim = property(lambda self: self.array.ndim)
    dtype = property(lambda self: self.array.dtype)
    device = property(lambda self: self.array.device)

    def __array_namespace__(self, api_version=None):
        return GuardedNamespace(self.xp)

    def __getitem__(self, key):
        return wrap(self.array[unwrap(key)], self.xp)


def _forbidden(name):
    def read(self, *args, **kwargs):
        raise HostReadError(f"{name} of an array inside the step")

    return read


def _operator(name):
    function = getattr(operator, f"__{name}__")

    def operate(self, *others):
        return wrap(function(self.array, *unwrap(others)), self.xp)

    def reflected(self, other):
        return wrap(function(unwrap(other), self.array), self.xp)

    return operate, reflected


for _name in ("bool", "int", "float", "complex", "index", "array", "dlpack", "iter", "len", "contains"):
    setattr(Guarded, f"__{_name}__", _forbidden(_name))
for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
):
    _plain, _reflected = _operator(_name)
    setattr(Guarded, f"__{_name}__", _plain)
    setattr(Guarded, f"__r{_name}__", _reflected)
for _name in ("neg", "pos", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Guarded, f"__{_name}__", _operator(_name)[0])
