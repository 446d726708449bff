"""The rules of the house, held against the source."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import nnx

ROOT = Path(nnx.__file__).parent

# The edges, where NumPy (or what reads files, or draws) is the exchange format.
EDGES = {
    "array/host.py",
    "model/initializers.py",
    "model/custom.py",
    "model/outputs/host_targets.py",
    "io/container.py",
    "optimizers/lbfgs.py",
    "io/convert.py",
    "batches/sample_weights.py",
    "batches/sources.py",
    "batches/split.py",
    "callbacks/tensorboard.py",
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
    "data/generated.py",
    "batches/frames.py",
    "data/columns.py",
    "data/dialect.py",
    "data/rows.py",
    "data/frames.py",
    "data/dates.py",
    "data/labelled.py",
    "data/labels.py",
    "data/source.py",
    "data/tables.py",
    "data/files.py",
    "data/idx.py",
    "data/npz.py",
    "data/builtin.py",
    "data/prepare.py",
    "sklearn/base.py",
    "sklearn/classifier.py",
    "sklearn/labels.py",
    "sklearn/regressor.py",
    "sklearn/samples.py",
    "cli/grid.py",
    "cli/parts.py",
    "cli/predict.py",
}
ARRAY_LIBRARIES = {
    "numpy", "cupy", "torch", "jax", "numba", "array_api_strict", "scipy", "sklearn", "pandas", "polars",
    "pyarrow", "dask", "h5py", "zarr", "tensorboardX", "tensorflow", "mlx", "matplotlib", "safetensors",
}  # fmt: skip

# Data flows one way. No module imports one that stands before it.
LINE = ["cli", "train.trainer", "batches", "train.step", "model.network", "model.layers", "model.activations"]


def imports(path):
    """Every module that a file imports, at its top or anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
            "require",
        ):
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


def test_data_flows_one_way():
    for position, name in enumerate(LINE):
        parts = ROOT / name.replace(".", "/")
        for path in parts.rglob("*.py") if parts.is_dir() else [parts.with_suffix(".py")]:
            modules = set(imports(path))
            for before in LINE[:position]:
                bad = {m for m in modules if m == f"nnx.{before}" or m.startswith(f"nnx.{before}.")}
                assert not bad, f"{path.name} imports {bad}, which stands before it"


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
