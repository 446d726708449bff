"""The README and the docs are true: every Python block runs, prints what stands behind it, and every link leads on."""

import ast
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import nnx
from nnx.compiler.thresholds import TABLE
from nnx.optimizers import OPTIMIZERS

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


NEEDS = {"Numba": "numba", "nnx.MLflow(": "alembic", "nnx.WandB(": "wandb", "onnx": "onnxruntime"}
"""A block with such a word runs only where the library is installed, and so does one that imports a library."""


def runs(block, missing):
    """Return whether a block has all it needs here; if not, add the names that it defines to those that are missing."""
    nodes = list(ast.walk(ast.parse(block)))
    names = [(node.id, type(node.ctx)) for node in nodes if isinstance(node, ast.Name)]
    defined = {name for name, context in names if context is ast.Store}
    defined |= {(one.asname or one.name).partition(".")[0] for one in nodes if isinstance(one, ast.alias)}
    used = {name for name, context in names if context is ast.Load}
    imported = re.findall(r"^ *(?:import|from) ([\w.]+)", block, flags=re.MULTILINE)
    needed = [*imported, *(library for word, library in NEEDS.items() if word in block)]
    here = not used & missing and all(installed(name) for name in needed)
    if here:
        missing -= defined
    else:
        missing |= defined
    return here


def installed(module):
    """Return whether a module, and each package that it lies in, is there."""
    parts = module.split(".")
    return all(find_spec(".".join(parts[: k + 1])) is not None for k in range(len(parts)))


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def examples(page):
    """The Python blocks of a page, each with the text block right behind it: its output ("" if there is none)."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = r"^```python\n(.*?)^```\n(?:\n*```text\n(.*?)^```\n)?"
    return re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)


def assert_printed(printed, expected):
    """Hold the words of an output to the page, and its decimal fractions to 1%: BLAS libraries round differently."""
    decimal = r"(\d+\.\d+(?:e[-+]?\d+)?)"
    found, wanted = (re.split(decimal, re.sub(r"\s+$", "", text, flags=re.M)) for text in (printed, expected))
    assert found[::2] == wanted[::2], printed
    assert [float(x) for x in found[1::2]] == pytest.approx([float(x) for x in wanted[1::2]], rel=0.01), (
        printed
    )


def test_a_wrong_output_is_found():
    assert_printed("accuracy 0.9401 of 5\n", "accuracy 0.9400 of 5\n")
    for wrong in ("accuracy 0.97 of 5", "accuracy 0.94 of 6", "loss 0.94 of 5", ""):
        with pytest.raises(AssertionError):
            assert_printed(wrong, "accuracy 0.94 of 5\n")


def test_the_compilers_page_has_every_file_of_cupy():
    text = (ROOT / "docs" / "compiler.md").read_text(encoding="utf-8")
    table = text.partition("| files | content |")[2].partition("\n\n")[0]
    named = [
        name for line in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", line.split("|")[1])
    ]
    files = [path for path in (ROOT / "backends" / "cupy").iterdir() if path.suffix in (".py", ".cuh")]
    assert sorted(named) == sorted(
        path.stem if path.suffix == ".py" else path.name for path in files if path.stem != "__init__"
    )


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    monkeypatch.setattr("nnx.model.activations.ACTIVATIONS", dict(nnx.ACTIVATIONS))
    monkeypatch.setattr("nnx.model.layers.base.LAYERS", dict(nnx.LAYERS))
    monkeypatch.setattr("nnx.optimizers.schedules.SCHEDULES", dict(nnx.schedules.SCHEDULES))
    monkeypatch.setattr("nnx.model.outputs.OWN", {})
    code = examples(page)
    assert code, f"{page} has no example"
    assert [block for block, _ in code] == blocks(page, "python")
    example = ModuleType("example")  # where the classes of a page live
    monkeypatch.setitem(sys.modules, "example", example)
    namespace = example.__dict__
    missing = set()
    for block, output in code:
        if not runs(block, missing):
            continue
        capsys.readouterr()
        exec(compile(block, page, "exec"), namespace)
        if output:
            assert_printed(capsys.readouterr().out, output)


def test_the_readme_counts_right():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (counts,) = re.findall(r"There are (\d+) activations, (\d+) optimizers", text)
    assert [int(count) for count in counts] == [len(nnx.ACTIVATIONS), len(OPTIMIZERS)]


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


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_the_files_and_folders_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:nnx|backends|bench|tests|docs)/[\w./-]*)`", text)
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []
    for name, path in re.findall(r"^\| `([A-Z_]+)` in `([\w/.]+)`", text, flags=re.MULTILINE):
        assert f"\n{name} = " in (ROOT / path).read_text(encoding="utf-8"), name


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


def test_the_table_of_thresholds_is_that_of_the_code():
    rows = []
    for name, x in TABLE.items():
        value = f"{x.value:,}" if isinstance(x.value, int) else f"{x.value:g}"
        rows.append(f"| `{name}` | {value} {x.unit} | {x.effect} | {x.processor} | {x.measurement} |")
    page = (ROOT / "docs/tuning.md").read_text(encoding="utf-8")
    table = page.partition("| name | value | effect | processor | measurement |\n")[2].partition("\n\n")[0]
    assert table.splitlines()[1:] == rows
