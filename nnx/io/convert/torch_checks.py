"""The modules of a `torch.nn.Sequential` with their places; modules that nnx cannot copy are errors."""

from collections.abc import Iterator, Sequence
from textwrap import shorten
from typing import Any

from nnx.errors import InputError


def flat_modules(nn: Any, sequential: Any, prefix: str, around: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the modules with their places, without those that do nothing to (m, n); one used again comes again."""
    _refuse_changed(sequential, f"the Sequential {prefix.rstrip('.')}" if prefix else "the Sequential")
    for method in ("forward", "__call__", "__iter__"):
        if getattr(type(sequential), method) is not getattr(nn.Sequential, method):
            raise InputError(
                f"{type(sequential).__name__} has a {method} of its own, which may compute anything; expected a plain "
                "torch.nn.Sequential"
            )
    if any(sequential is one for one in around):
        raise InputError(f"the Sequential {prefix.rstrip('.')} contains itself")
    for name, module in sequential._modules.items():  # named_children leaves out repetitions
        if module is None:
            raise InputError(f"module {prefix}{name} is None, which computes nothing; leave it out")
        _refuse_changed(module, called(prefix + name, module))
        if isinstance(module, nn.Sequential):
            yield from flat_modules(nn, module, f"{prefix}{name}.", (*around, sequential))
        elif type(module) is nn.Flatten and (module.start_dim, module.end_dim) in ((1, -1), (1, 1)):
            pass  # of samples (m, n) it makes (m, n)
        elif type(module) is not nn.Identity:
            yield prefix + name, module


def called(name: str, module: Any) -> str:
    """Return a module's name in errors: its place and its repr, on one line."""
    kind = f"a {type(module).__name__}" if module._modules else shorten(repr(module), 100, placeholder=" ...")
    return f"module {name}, {kind},"


def _refuse_changed(module: Any, what: str) -> None:
    """Raise an InputError if a module computes something else than its class says."""
    if hasattr(module, "parametrizations"):
        raise InputError(
            f"{what} has parametrizations, which compute its parameters anew in every use; remove them first: "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    if hasattr(module, "has_uninitialized_params"):
        raise InputError(
            f"{what} has no parameters yet; call the Sequential with a sample first, which makes them"
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise InputError(
            f"{what} has hooks, which may change what it computes (torch.nn.utils.weight_norm, spectral_norm and prune "
            "set such hooks); remove them first, as torch.nn.utils.remove_weight_norm and prune.remove do"
        )
    if "forward" in vars(module):
        raise InputError(f"{what} has a forward of its own, which may compute anything")


def refuse_shared(modules: Sequence[tuple[str, Any]]) -> None:
    """Raise an InputError if two places have the same parameters or running statistics."""
    places: dict[Any, str] = {}
    for name, module in modules:
        tensors = [*module.parameters(), *module.buffers()]
        for key in {key for x in tensors for key in _identities(x)}:
            if places.setdefault(key, name) != name:
                raise InputError(
                    f"{called(name, module)} has the parameters of module {places[key]}; nnx has no shared "
                    "parameters. Replace it by a copy, copy.deepcopy(module), which is then trained by itself"
                )


def _identities(x: Any) -> list[Any]:
    """Return the identity of a tensor: its object, and the address of its numbers."""
    memory = str(x.layout) == "torch.strided" and x.numel() and x.data_ptr()
    return [("object", id(x))] + ([("memory", x.device, memory)] if memory else [])
