"""Trees: dicts, tuples and lists, one in another, with anything else as their leaves."""

from collections.abc import Iterator
from typing import Any


def leaves(tree: Any) -> Iterator[Any]:
    """Yield what is in the dicts, tuples and lists of a tree, in order."""
    if isinstance(tree, dict | tuple | list):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(branch)
    else:
        yield tree


def mapped(tree: Any, function: Any) -> Any:
    """Return the tree with function(leaf) in place of every leaf."""
    if isinstance(tree, dict):
        return {key: mapped(branch, function) for key, branch in tree.items()}
    if isinstance(tree, tuple | list):
        branches = [mapped(branch, function) for branch in tree]
        if isinstance(tree, tuple):
            return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
        return branches
    return function(tree)
