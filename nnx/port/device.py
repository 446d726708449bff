"""The names of devices, as nnx's own adapters have them."""

from nnx.errors import InputError, nearest

KINDS = "cpu", "cuda", "tpu"
"""A number may follow after a colon: "cuda:1"."""


def check_device(device: str) -> None:
    """Raise an InputError for a device that none of nnx's own adapters has.

    Examples
    --------
    >>> check_device("cuda:1")
    >>> check_device("gpu")
    Traceback (most recent call last):
    nnx.errors.InputError: unknown device 'gpu'; did you mean 'cuda'? Known: cpu, cuda, cuda:1, ...; tpu with jax
    """
    kind, colon, number = device.partition(":")
    if kind in KINDS and (number.isdecimal() or not colon):
        return
    kind = kind.lower().replace("gpu", "cuda")
    if kind.isdecimal():
        kind, number = "cuda", kind
    near = "".join(nearest(kind, KINDS, 1))
    meant = f"{near}:{number}" if number.isdecimal() else near
    hint = f"; did you mean {meant!r}? " if near else ". "
    raise InputError(f"unknown device {device!r}{hint}Known: cpu, cuda, cuda:1, ...; tpu with jax")
