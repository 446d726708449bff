"""Sphinx's extension of this site: links from the pages to files of the repository, and pictures in its colours.

The pages are written for GitHub, too, and link to `../nnx/model/network.py` or to `../CONTRIBUTING.md`. On the site the
first is a link to the repository, and the second a page. While pyproject.toml names no repository, a file is a
download, and a folder is plain text.
"""

import re
import tomllib
import warnings
from pathlib import Path, PurePosixPath
from posixpath import relpath
from typing import Any
from urllib.parse import quote

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent

PAGES = {
    "CONTRIBUTING.md": "site/contributing.md",
    "CHANGELOG.md": "site/changelog.md",
    "RELEASING.md": "site/releasing.md",
    "SECURITY.md": "site/security.md",
    "README.md": "index.md",
}
"""Files of the repository that are pages of the site, by their names there."""

LINK = re.compile(
    r"^(?P<fence>`{3,})[^`\n]*\n.*?^(?P=fence)[ \t]*$"  # a block of code has no links
    r"|!?\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\((?!https?:|mailto:|#)(?P<target>[^()\s]+)\)"
    r"|(?P<ticks>`+)[^`]+(?P=ticks)",  # nor has code within a line
    re.MULTILINE | re.DOTALL,
)
INCLUDE = re.compile(r"^```\{include\} (\S+)\n```\n", re.MULTILINE)


def repository() -> str:
    """Return the address of the repository that pyproject.toml has under [project.urls], or ""."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", "")).rstrip("/").removesuffix(".git")


def resolved(path: PurePosixPath) -> str:
    """Return a path without `..`, as the repository has it."""
    return relpath(path.as_posix())


def linked(text: str, folder: str, page: str, address: str) -> str:
    """Return a page with its links to files as links of the site.

    Parameters
    ----------
    text : str
        Markdown.
    folder : str
        The folder of the file that the text is from, as the repository names it: the links begin there.
    page : str
        The page's name below docs/.
    address : str
        Of the repository; "": not known.
    """
    here = str(PurePosixPath("docs", page).parent)

    def link(match: re.Match[str]) -> str:
        if match["target"] is None:
            return match.group()
        text = match.group()[: match.end("text") + 1 - match.start()]  # with the brackets
        name, _, anchor = match["target"].partition("#")
        path = resolved(PurePosixPath(folder, name))
        anchor = f"#{anchor}" if anchor else ""
        path = f"docs/{PAGES[path]}" if path in PAGES else path
        if path.startswith("docs/"):
            return f"{text}({relpath(path, here)}{anchor})"
        if address:
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            return f"{text}({address}/{kind}/main/{quote(path)}{anchor})"
        if (ROOT / path).is_file():
            return f"{text}({relpath(path, here)})"
        return match["text"]

    return LINK.sub(link, text)


def read(app: Any, name: str, source: list[str]) -> None:
    """Make the links of a page those of the site, before MyST reads it."""
    path = Path(app.env.doc2path(name))
    if path.suffix != ".md":
        return
    folder, text = "docs" if path.parent == DOCS else f"docs/{path.parent.relative_to(DOCS)}", source[0]
    if match := INCLUDE.fullmatch(text):
        included = (path.parent / match[1]).resolve()
        app.env.note_dependency(str(included))
        folder, text = ".", included.read_text(encoding="utf-8")
    source[0] = linked(text, folder, path.relative_to(DOCS).as_posix(), repository())


def as_on_the_pages(gallery: Any, name: str) -> None:
    """Let the figures of an example have the colours of nnx.plots and no background, and warnings end the build."""
    import matplotlib
    import matplotlib.pyplot

    from nnx.plots.style import drawing

    with drawing():
        settings = dict(matplotlib.rcParams)
    backend = matplotlib.get_backend()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parameters that matplotlib is about to drop
        matplotlib.rcParams.update(settings | {"backend": backend})
    none = dict.fromkeys(("figure.facecolor", "figure.edgecolor", "savefig.facecolor"), "none")
    matplotlib.rcParams.update(none | {"figure.figsize": (6.4, 3.6), "savefig.dpi": 160})


def figures(block: Any, variables: dict[str, Any], gallery: Any) -> str:
    """Save the figure that a block of an example has as `figure`: those of nnx.plots are not pyplot's.

    Returns
    -------
    str
        The reStructuredText with the picture.
    """
    from matplotlib import pyplot
    from sphinx_gallery.scrapers import figure_rst

    from nnx.plots.style import save

    figure = variables["example_globals"].pop("figure", None)
    if figure is None or getattr(figure, "number", None) is not None:  # pyplot's have a number
        return ""
    pyplot.close("all")
    path = next(variables["image_path_iterator"])
    save(figure, path)
    return str(figure_rst([path], gallery["src_dir"]))


BARE = re.compile(r"(`+).*?\1|\b(\w*[a-z0-9])_(?![\w`])|\|")
FOREIGN = re.compile(r":(?:term|ref):`([^`<]*?)\s*(?:<[^`]*>)?`")


def escaped(app: Any, kind: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Escape what only reStructuredText takes for markup, behind numpydoc: `coefs_` and |w| outside code.

    References to scikit-learn's glossary, in the docstrings that its classes hand down, become text.
    """
    for k, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...", "..")):
            line = FOREIGN.sub(r"\1", line)
            lines[k] = BARE.sub(lambda m: m[0] if m[1] else f"{m[2]}\\_" if m[2] else r"\|", line)


def skipped(app: Any, kind: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the methods of scikit-learn's metadata routing, which are the same in all of its estimators."""
    return True if re.fullmatch(r"get_metadata_routing|set_\w+_request", name) else None


def setup(app: Any) -> dict[str, bool]:
    """Join the events of Sphinx."""
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", escaped, priority=600)
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True}
