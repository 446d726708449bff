"""What the README and the docs say is run: every Python block, from the top of a page to its end."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import nnx

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnx.model.activations.ACTIVATIONS", dict(nnx.ACTIVATIONS))
    monkeypatch.setattr("nnx.model.layers.base.LAYERS", dict(nnx.LAYERS))
    monkeypatch.setattr("nnx.optimizers.schedules.SCHEDULES", dict(nnx.schedules.SCHEDULES))
    monkeypatch.setattr("nnx.model.outputs.OWN", {})
    code = blocks(page, "python")
    assert code, f"{page} has no example"
    example = ModuleType("example")  # where the classes of a page live
    monkeypatch.setitem(sys.modules, "example", example)
    namespace = example.__dict__
    for block in code:
        if "\nimport torch\n" in block and find_spec("torch") is None:
            continue
        exec(compile(block, page, "exec"), namespace)


def test_the_quick_start_has_exactly_two_commands():
    (commands,) = blocks("README.md", "sh")
    first, second = commands.strip().splitlines()
    assert first.startswith("python -m pip install")
    assert second.startswith("python -m pip install")
    assert "nnx train" in first
    assert "pytest" in second


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page}: {target}"


def test_the_docs_name_every_part():
    notes = (ROOT / "docs/notes.md").read_text(encoding="utf-8")
    for name in (*nnx.ACTIVATIONS, *nnx.INITIALIZERS):
        assert f"`{name}" in notes, name
    backends = (ROOT / "docs/backends.md").read_text(encoding="utf-8")
    for name in ("numpy", "numba", "cupy", "torch", "jax"):
        assert f"| `{name}` |" in backends
    training = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    for name in nnx.OUTPUTS:
        assert f'| `"{name}"` |' in training
