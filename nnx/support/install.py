"""The command that installs a missing package, from the place from which nnx itself was installed."""

import json
import os
from pathlib import Path

NAME = "nnx-array"
"""The distribution. The one called nnx is another project's."""

HERE = Path(__file__).parents[2]
"""The clone, if Python found nnx in one."""

CPU_TORCH = (
    "; for the CPU alone: python -m pip install torch --index-url https://download.pytorch.org/whl/cpu"
)
"""PyTorch without CUDA, which is smaller by gigabytes."""


def install(extra: str = "", more: str = "") -> str:
    """Return the command that installs nnx with an extra: from the clone or the address that nnx came from, if any.

    `more` stands before the package's name, such as "-U ".

    Examples
    --------
    >>> install("cli")  # doctest: +SKIP
    'python -m pip install "nnx-array[cli]"'
    """
    from urllib.parse import urlsplit  # slow to import, and only errors need them
    from urllib.request import url2pathname

    wanted = f"[{extra}]" if extra else ""
    url, editable = _origin()
    path = Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None
    if (HERE / "pyproject.toml").is_file() and (HERE / "backends").is_dir():
        path = HERE
    if path is not None and path.exists():
        return _command(f"{more}{'-e ' * editable}", f"{path}{wanted}")
    if path is not None:  # its folder or wheel is gone, and no index may have this version
        return f"{_command(more, f'.{wanted}')} in a clone of nnx"
    return _command(more, f"{NAME}{wanted} @ {url}" if url else f"{NAME}{wanted}")


def _command(options: str, what: str) -> str:
    """Return the command, with `what` quoted: by double quotes, which all shells know, where they suffice."""
    import shlex

    special = os.name != "nt" and set(what) & set('"$`\\!')
    quoted = shlex.quote(what) if special else f'"{what}"'
    return f"python -m pip install {options}{quoted}"


def _origin() -> tuple[str, bool]:
    """Return the address that nnx was installed from, "" for an index, and whether it is editable."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        said = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, OSError, ValueError):
        return "", False
    url = str(said.get("url", ""))
    if vcs := said.get("vcs_info"):
        url = f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', 'HEAD')}"
    return url, bool(said.get("dir_info", {}).get("editable"))
