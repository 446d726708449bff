"""The documentation site has every page and every public name; `sphinx-build -W` in .ci/run does the rest."""

import importlib.util
import re
from pathlib import Path

import pytest

import nnx
import nnx.compiler
import nnx.data
import nnx.metrics

DOCS = Path(__file__).parent.parent / "docs"

spec = importlib.util.spec_from_file_location("nnx_site", DOCS / "_ext" / "nnx_site.py")
site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)

PUBLIC = {
    "nnx": nnx.__all__,
    "nnx.convert": nnx.convert.__all__,
    "nnx.plots": nnx.plots.__all__,
    "nnx.data": nnx.data.__all__,
    "nnx.schedules": nnx.schedules.__all__,
    "nnx.metrics": nnx.metrics.__all__,
    "nnx.compiler": nnx.compiler.__all__,
}


def reference():
    """Every name on the pages of the reference, as `nnx.plots.roc`."""
    found = set()
    for page in (DOCS / "api").glob("*.rst"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.fullmatch(r"\.\. (currentmodule|automodule):: (\S+)", line):
                module = match[2]
                found |= {module} if match[1] == "automodule" else set()
            elif match := re.fullmatch(r"(?: {3}|\.\. py:data:: )(\w+)", line):
                found.add(f"{module}.{match[1]}")
    return found


def in_toctrees():
    """The pages that the toctrees name, as paths below docs/ without an ending; one for each time."""
    found = []
    for page in [*DOCS.glob("*.md"), *DOCS.glob("site/*.md")]:
        for block in re.findall(
            r"^:::\{toctree\}\n(.*?)^:::", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            found += [(page.parent / name).resolve().relative_to(DOCS.resolve()).as_posix() for name in names]
    return found


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(module):
    elsewhere = {"nnx.METRICS", "nnx.Metric"}  # the same objects as those of nnx.metrics
    missing = {f"{module}.{name}" for name in PUBLIC[module]} - reference() - elsewhere
    assert not missing, f"add to a page of docs/api/: {sorted(missing)}"


@pytest.mark.needs("sklearn", "scipy", "joblib")
def test_the_reference_has_every_estimator():
    import nnx.sklearn

    missing = {f"nnx.sklearn.{name}" for name in nnx.sklearn.__all__} - reference()
    assert not missing, f"add to docs/api/sklearn.rst: {sorted(missing)}"


def test_every_page_is_in_one_toctree():
    pages = [path.stem for path in [*DOCS.glob("*.md"), *DOCS.glob("*.ipynb")] if path.stem != "index"]
    found = in_toctrees()
    missing = sorted(set(pages) - set(found))
    assert not missing, f"add to a toctree of docs/site/: {missing}"
    assert sorted(name for name in found if "/" not in name) == sorted(pages)


LINKS = [
    (
        "[a](../nnx/model/network.py)",
        "[a](../nnx/model/network.py)",
        "[a](HERE/blob/main/nnx/model/network.py)",
    ),
    ("[`b`](../nnx/compiler)", "`b`", "[`b`](HERE/tree/main/nnx/compiler)"),
    ("[c](../CONTRIBUTING.md#test)", "[c](site/contributing.md#test)", "[c](site/contributing.md#test)"),
    ("[d](training.md#layers)", "[d](training.md#layers)", "[d](training.md#layers)"),
    ("![](pictures/roc.png)", "![](pictures/roc.png)", "![](pictures/roc.png)"),
    ("[e](https://numpy.org) [f](#here)", *["[e](https://numpy.org) [f](#here)"] * 2),
    ("`[g](../nnx)`", *["`[g](../nnx)`"] * 2),
    ("```text\n[h](../nnx)\n```", *["```text\n[h](../nnx)\n```"] * 2),
]


@pytest.mark.parametrize(("text", "offline", "online"), LINKS)
def test_links_to_the_repository(text, offline, online):
    assert site.linked(text, "docs", "training.md", "") == offline
    assert site.linked(text, "docs", "training.md", "HERE") == online


def test_links_of_a_page_that_is_included():
    text = "[a](docs/ranks.md) [b](CHANGELOG.md) [c](tests/nnx_strict.py)"
    expected = "[a](../ranks.md) [b](changelog.md) [c](../../tests/nnx_strict.py)"
    assert site.linked(text, ".", "site/contributing.md", "") == expected
