"""The rules of the house, held against the source."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import nnx

ROOT = Path(nnx.__file__).parent
TOP = Path(__file__).parent.parent

# The edges, where NumPy (or what reads files, or draws) is the exchange format.
EDGES = {
    "array/host.py",
    "batches/file_sources.py",
    "batches/frames.py",
    "batches/sample_weights.py",
    "batches/sources.py",
    "batches/split.py",
    "callbacks/tensorboard.py",
    "cli/grid.py",
    "cli/parts.py",
    "cli/predict.py",
    "convert/models.py",
    "convert/to_onnx.py",
    "data/array_files.py",
    "data/builtin.py",
    "data/column_checks.py",
    "data/columns.py",
    "data/dates.py",
    "data/dialect.py",
    "data/encoding.py",
    "data/encoding_learned.py",
    "data/files.py",
    "data/frames.py",
    "data/generated.py",
    "data/idx.py",
    "data/labelled.py",
    "data/labels.py",
    "data/npz.py",
    "data/onnx_columns.py",
    "data/onnx_dates.py",
    "data/onnx_predictions.py",
    "data/prepare.py",
    "data/rows.py",
    "data/scaling.py",
    "data/source.py",
    "data/splits.py",
    "data/tables.py",
    "data/targets.py",
    "data/task.py",
    "io/container.py",
    "io/convert/__init__.py",
    "io/convert/from_torch_modules.py",
    "io/convert/keras.py",
    "io/convert/from_onnx.py",
    "io/convert/onnx_functions.py",
    "io/convert/onnx_graph.py",
    "io/convert/parameters.py",
    "io/convert/to_torch_modules.py",
    "model/custom.py",
    "model/initializers.py",
    "model/outputs/host_targets.py",
    "optimizers/lbfgs.py",
    "plots/animation.py",
    "plots/boundary.py",
    "plots/comparison.py",
    "plots/confusion.py",
    "plots/curves.py",
    "plots/figure.py",
    "plots/fonts.py",
    "plots/given.py",
    "plots/held_out.py",
    "plots/picture.py",
    "plots/regression.py",
    "plots/roc.py",
    "plots/style.py",
    "plots/weights.py",
    "sklearn/base.py",
    "sklearn/class_weights.py",
    "sklearn/classifier.py",
    "sklearn/fit_tasks.py",
    "sklearn/embeddings.py",
    "sklearn/gaussian.py",
    "sklearn/fitted.py",
    "sklearn/fitting.py",
    "sklearn/input_gradients.py",
    "sklearn/labels.py",
    "sklearn/losses.py",
    "sklearn/member_params.py",
    "sklearn/members.py",
    "sklearn/names.py",
    "sklearn/parameters.py",
    "sklearn/regressor.py",
    "sklearn/samples.py",
    "sklearn/search.py",
    "sklearn/search_tasks.py",
    "sklearn/stacked_fits.py",
    "sklearn/table_inputs.py",
    "sklearn/tables.py",
    "sklearn/tabular.py",
    "sklearn/tabular_base.py",
    "sklearn/tabular_model.py",
    "sklearn/validation.py",
}
ARRAY_LIBRARIES = {
    "numpy", "cupy", "torch", "jax", "numba", "array_api_strict", "scipy", "sklearn", "pandas", "polars",
    "pyarrow", "dask", "h5py", "zarr", "tensorboardX", "tensorflow", "mlx", "matplotlib", "safetensors", "onnx",
}  # fmt: skip

# The rooms, low to high. No file imports one of a room above its own. `nnx` is the package itself, nnx/__init__.py.
ROOMS = (
    "version", "errors", "support", "array", "port", "compiler", "display", "model", "optimizers", "schedules", "io",
    "metrics", "batches", "callbacks", "plots", "train", "data", "sklearn", "convert", "nnx", "backends", "bench",
    "cli", "__main__",
)  # fmt: skip


@cache
def import_nodes(path):
    """The statements and calls by which a file imports. A file is parsed once for all tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if _is_import(node)]


def _is_import(node):
    called = getattr(node, "func", None)
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        getattr(called, "id", getattr(called, "attr", "")) in ("import_module", "__import__", "require")
    )


@cache
def imports(path):
    """Every module that a file imports, at its top or anywhere in it."""
    return tuple(_imports(path))


def _imports(path):
    for node in import_nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def files():
    return [(path.relative_to(ROOT).as_posix(), path) for path in sorted(ROOT.rglob("*.py"))]


def installed(name):
    """Whether the file belongs to the adapters or the benchmarks, which stand beside nnx/ in the checkout."""
    return name.startswith(("backends/", "bench/"))


def test_no_array_library_outside_the_edges():
    found = {
        name: libraries
        for name, path in files()
        if name not in EDGES and not installed(name)
        if (libraries := {module.split(".")[0] for module in imports(path)} & ARRAY_LIBRARIES)
    }
    assert found == {}
    compat = [n for n, path in files() if not installed(n) and any(m.startswith("array_api_compat.") and
              m.split(".")[1] in ARRAY_LIBRARIES for m in imports(path))]  # fmt: skip
    assert compat == []
    assert {name for name, _ in files()} >= EDGES  # no edge is named that is not there


def test_that_test_sees_an_import(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from numpy.linalg import norm\n    require('torch', 'pip')\n")
    assert {module.split(".")[0] for module in imports(path)} == {"numpy", "torch"}


def test_the_mathematics_does_not_know_the_adapters():
    for name, path in files():
        if not installed(name) and not name.startswith("cli/"):
            assert not any(module.startswith(("nnx.backends", "nnx.bench")) for module in imports(path)), name


def test_the_package_does_not_know_array_api_strict():
    """It is the tests' own, found by its entry point in tests/."""
    top = Path(__file__).parent.parent
    project = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["entry-points"]["nnx.backends"]) == {"numpy", "numba", "cupy", "torch", "jax"}
    sources = [path for room in ("nnx", "backends", "bench") for path in (top / room).rglob("*.py")]
    assert sources
    assert not [path for path in sources if "array_api_strict" in path.read_text(encoding="utf-8")]
    assert not [path for path in sources if path.stem == "strict"]


def sources():
    """Every file of nnx/, backends/ and bench/ under the name by which it is imported."""
    found = {}
    for room in ("nnx", "backends", "bench"):
        for path in sorted((TOP / room).rglob("*.py")):
            parts = path.relative_to(TOP).with_suffix("").parts
            parts = parts if room == "nnx" else ("nnx", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module):
    """The room of a module: the second part of its name."""
    return module.split(".")[1] if "." in module else module


def graph(found):
    """The files that each file imports, at its top, under TYPE_CHECKING or in a function."""
    made = {}
    for module, path in found.items():
        made[module] = set()
        for node in import_nodes(path):
            if isinstance(node, ast.Import):
                made[module] |= {alias.name for alias in node.names}
            elif isinstance(
                node, ast.ImportFrom
            ):  # of a package: a file in it, or a name of the package itself
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                made[module] |= {name if name in found else node.module for name in names}
        made[module] = (made[module] & found.keys()) - {module}
    return made


def upward(imported):
    """The imports from a room above: pairs of names."""
    return sorted(
        (module, other)
        for module, others in imported.items()
        for other in others
        if ROOMS.index(room(other)) > ROOMS.index(room(module))
    )


def test_the_architecture_page_has_the_rooms_in_their_order():
    page = (TOP / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.partition("| room | content |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = [name.strip(" `") for row in rows for name in row.split(",")]
    assert listed == [name for name in ROOMS if name not in ("version", "nnx", "__main__")]


def circles(imported):
    """The circles of files that import each other, each as a set of names."""

    def reached(module):
        seen, todo = set(), [module]
        while todo:
            for other in imported[todo.pop()] - seen:
                seen.add(other)
                todo.append(other)
        return seen

    reach = {module: reached(module) for module in imported}
    return {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in imported
        if module in reach[module]
    }


def test_no_room_imports_one_above_it():
    found = sources()
    assert {room(module) for module in found} == set(ROOMS)
    assert upward(graph(found)) == []


def test_no_files_import_each_other():
    assert circles(graph(sources())) == set()


def test_those_tests_see_a_wrong_import(tmp_path):
    found = {}
    for name, text in {
        "nnx": "",
        "nnx.array.host": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nnx.model import network",
        "nnx.model.network": "def f():\n    from nnx.model.layers import dense",
        "nnx.model.layers": "",
        "nnx.model.layers.dense": "from nnx.model import network\nfrom nnx.array import host",
    }.items():
        found[name] = tmp_path / f"{name}.py"
        found[name].write_text(text, encoding="utf-8")
    imported = graph(found)
    assert upward(imported) == [("nnx.array.host", "nnx.model.network")]
    assert circles(imported) == {
        frozenset({"nnx.array.host", "nnx.model.network", "nnx.model.layers.dense"}),
    }


FILE, CLASS, FUNCTION = 350, 250, 60
"""The most lines that each may have."""


def lines(node, docstrings):
    """The lines of a class or function; without its docstrings, unless they count."""
    texts = [
        inner.body[0]
        for inner in ast.walk(node)
        if isinstance(inner, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(inner) is not None
    ]
    described = 0 if docstrings else sum(text.end_lineno - text.lineno + 1 for text in texts)
    return node.end_lineno - node.lineno + 1 - described


def too_long(name, text, docstrings=True):
    """The file, its classes and its functions that are longer than they may be, with their lines."""
    found = {}
    if (n := len(text.splitlines())) > FILE:
        found[name] = n
    for node in ast.walk(ast.parse(text)):
        most = {ast.ClassDef: CLASS, ast.FunctionDef: FUNCTION}.get(type(node))
        if most is None or node.end_lineno - node.lineno < most:
            continue
        if (n := lines(node, docstrings)) > most:
            found[f"{name}:{node.name}"] = n
    return found


def test_files_classes_and_functions_are_short():
    found = {}
    for path in sources().values():
        name = path.relative_to(TOP).as_posix()
        docstrings = name.startswith(("backends/", "nnx/compiler/"))
        found |= too_long(name, path.read_text(encoding="utf-8"), docstrings)
    assert found == {}


def test_the_compiler_and_the_adapters_are_small():
    """Goal: 5,000 lines, and 2,500 for CuPy, which has no compiler of its own. Members take some 300 of either.

    The sums over ranks, and MPI, take some 400 beside CuPy; the derivatives of functions of one's own take 260.
    """
    files = [path for room in ("backends", "nnx/compiler") for path in (TOP / room).rglob("*.py")]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    cupy = sum(n for path, n in lines.items() if "cupy" in path.parts)
    assert cupy <= 3450
    assert sum(lines.values()) - cupy <= 7000


def test_that_test_sees_what_is_too_long():
    function = "def f():\n" + "    pass\n" * FUNCTION
    assert too_long("a.py", function) == {"a.py:f": FUNCTION + 1}
    described = 'def f():\n    """One,\n    two."""\n' + "    pass\n" * (FUNCTION - 1)
    assert too_long("a.py", described, docstrings=False) == {}
    whole = "class C:\n" + "    x = 1\n" * FILE
    assert too_long("a.py", whole) == {"a.py": FILE + 1, "a.py:C": FILE + 1}
    assert too_long("a.py", "x = 1\n" * FILE) == {}


def test_every_package_is_installed():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {module for module, path in sources().items() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == packages


def test_importing_nnx_imports_nothing_heavy():
    code = (
        "import sys, nnx; print(*sorted({name.split('.')[0] for name in sys.modules}));"
        "print(*(name for name in sys.modules if name.startswith('nnx.')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    libraries, modules = (set(line.split()) for line in run.stdout.splitlines())
    assert libraries & ARRAY_LIBRARIES == {"numpy"}
    assert not libraries & {"typer", "click", "rich", "http", "ssl", "email"}
    assert not any(name.startswith(("nnx.backends", "nnx.cli", "nnx.data", "nnx.bench")) for name in modules)


def test_every_public_name_is_there_and_described():
    for name in nnx.__all__:
        assert hasattr(nnx, name)
        if callable(getattr(nnx, name)):
            assert getattr(nnx, name).__doc__, name
