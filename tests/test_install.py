"""What is missing is an error that names the command that installs it, from wherever nnx came."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import nnx
import nnx.support.install as module
from nnx.plots import learning_curves
from nnx.support.install import install


class Installed:
    """A distribution that was installed from an address."""

    def __init__(self, said):
        self.said = said

    def read_text(self, name):
        assert name == "direct_url.json"
        return None if self.said is None else json.dumps(self.said)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Let nnx be installed from an address, and not be found in a clone."""

    def installed(said):
        monkeypatch.setattr(module, "HERE", tmp_path / "site-packages")
        monkeypatch.setattr(metadata, "distribution", lambda name: Installed(said))

    return installed


def test_from_the_index(elsewhere):
    elsewhere(None)
    assert install("cli") == 'python -m pip install "nnx-array[cli]"'
    assert install(more="-U ") == 'python -m pip install -U "nnx-array"'


def test_from_a_folder_whose_name_has_a_space(elsewhere, tmp_path):
    folder = tmp_path / "my clone"
    folder.mkdir()
    elsewhere({"url": folder.as_uri(), "dir_info": {}})
    assert install("cli") == f'python -m pip install "{folder}[cli]"'
    elsewhere({"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert install("numba") == f'python -m pip install -e "{folder}[numba]"'
    folder.rmdir()  # it is gone, and nnx may be on no index
    assert install("cli") == 'python -m pip install ".[cli]" in a clone of nnx'


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' shells take these characters as they are")
def test_a_shell_takes_no_part_of_the_path_for_its_own(elsewhere, tmp_path):
    folder = tmp_path / "of $HOME"
    folder.mkdir()
    elsewhere({"url": folder.as_uri(), "dir_info": {}})
    assert install("cli") == f"python -m pip install '{folder}[cli]'"


def test_from_a_repository_and_a_wheel(elsewhere, tmp_path):
    where = "https://example.org/nnx.git"
    elsewhere({"url": where, "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install("cli") == f'python -m pip install "nnx-array[cli] @ git+{where}@abc"'
    wheel = tmp_path / "nnx_array-1-py3-none-any.whl"
    wheel.touch()
    elsewhere({"url": wheel.as_uri(), "archive_info": {}})
    assert install("cli") == f'python -m pip install "{wheel}[cli]"'


def test_from_a_clone_that_is_not_installed(elsewhere, tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(metadata, "distribution", absent)
    assert install("cli") == 'python -m pip install "nnx-array[cli]"'
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "backends").mkdir()
    assert install("cli") == f'python -m pip install "{tmp_path}[cli]"'


def test_a_clone_is_found():
    root = Path(nnx.__file__).parents[1]
    assert root == module.HERE
    if (root / "pyproject.toml").is_file() and (
        root / "backends"
    ).is_dir():  # else nnx is installed elsewhere
        assert f"{root}[cli]" in install("cli")


def of_a_table():
    from nnx.data import Preparation

    Preparation(["a"], True, [0.0], [1.0], "y", None).X({"a": [1.0]})


def of_whole_batches():
    trainer = nnx.Trainer(nnx.mlp([1, 1]), nnx.LBFGS(), backend="numpy")
    trainer.fit([[0.0, 1.0]], [0, 1])


def of_a_csv(tmp_path):
    from nnx.data.files import read

    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    read(tmp_path / "a.csv")


def of_bundled_data():
    from nnx.data.builtin import load

    load("iris")


@pytest.mark.parametrize(
    ("hidden", "extra", "call"),
    [
        ("polars", "cli", of_a_table),
        ("polars", "cli", of_a_csv),
        ("sklearn.datasets", "cli", of_bundled_data),
        ("scipy.optimize", "lbfgs", of_whole_batches),
        ("scipy.linalg", "numba", lambda: nnx.backend("numba")),
        ("threadpoolctl", "numba", lambda: nnx.backend("numba")),
        ("torch", "torch", lambda: nnx.backend("torch")),
        ("torch", "torch", lambda: nnx.convert.to_torch(nnx.mlp([1, 1]), {})),
        ("jax", "jax", lambda: nnx.backend("jax")),
        ("matplotlib", "cli", lambda: learning_curves({"loss": [1.0]})),
        ("tensorboardX", "tensorboard", lambda: nnx.TensorBoard("board")),
        ("rich", "cli", nnx.ProgressBar),
    ],
)
def test_what_is_missing_is_named_with_the_command(hidden, extra, call, monkeypatch, tmp_path):
    if extra == "numba":
        pytest.importorskip("numba")
    monkeypatch.setitem(sys.modules, hidden, None)
    monkeypatch.delitem(sys.modules, "nnx.data.frames", raising=False)
    with pytest.raises(nnx.BackendError) as caught:
        call(tmp_path) if call is of_a_csv else call()
    assert f"{hidden} cannot be imported" in str(caught.value)
    assert install(extra) in str(caught.value)
    assert ("download.pytorch.org/whl/cpu" in str(caught.value)) == (hidden == "torch")


@pytest.mark.long
@pytest.mark.parametrize("hidden", ["sklearn", "scipy"])
def test_the_estimators_say_what_they_need(hidden):
    code = f"import sys; sys.modules[{hidden!r}] = None; import nnx.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: nnx.sklearn needs {hidden}")
    assert install("sklearn") in last
