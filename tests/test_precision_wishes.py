"""A precision that is asked for: in Python, of the estimators, on the command line; and where there is none."""

import json
import pickle
import sys
import tomllib

import numpy as np
import pytest

import nnx
from nnx.port import registry
from nnx.port.precision import check_capability

WITH = [
    pytest.param("torch", marks=pytest.mark.needs("torch")),
    pytest.param("jax", marks=pytest.mark.needs("jax")),
]

WITHOUT = [
    "numpy",
    pytest.param("numba", marks=pytest.mark.needs("numba")),
    pytest.param("strict", marks=pytest.mark.needs("array_api_strict")),
]


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", WITHOUT)
def test_other_backends_have_float32_alone(name, precision):
    where = " on a CUDA GPU" if precision == "tf32" else ""
    said = rf"backend '{name}' .* {name} multiplies in float32 only; given precision='{precision}'.*torch{where}$"
    for ask in (
        nnx.backend,
        lambda *given: nnx.Trainer(nnx.mlp([2, 1]), None, given[0], None, precision=precision),
    ):
        with pytest.raises(nnx.BackendError, match=said):
            ask(name, None, precision)


def test_float32_may_be_asked_of_every_backend(backend):
    assert backend.precision == "float32"
    name = backend.name
    assert nnx.backend(name, None if name == "cupy" else "cpu", "float32").precision == "float32"


@pytest.mark.parametrize("name", WITH)
def test_tf32_takes_a_gpu(name):
    with pytest.raises(
        nnx.BackendError, match=r"cpu has no products in tf32, which take a CUDA GPU .*'float32'"
    ):
        nnx.backend(name, "cpu", "tf32")


@pytest.mark.parametrize(
    ("capability", "has"), [("8.0", True), ("12.1", True), (9, True), ("7.5", False), ("gfx90a", False)]
)
def test_tf32_takes_a_new_gpu(capability, has):
    if has:
        check_capability("JAX on cuda:0", "tf32", capability)
    else:
        with pytest.raises(nnx.BackendError, match=r"JAX on cuda:0 has no products in tf32, .* 8.0 or newer"):
            check_capability("JAX on cuda:0", "tf32", capability)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("bf16", "unknown precision 'bf16'; did you mean 'bfloat16'"),
        ("float64", "unknown precision 'float64'"),
        (16, "precision must be a name, float32, tf32, bfloat16, or None; given 16"),
        ("", "unknown precision ''"),
    ],
)
def test_no_precision(given, said):
    for ask in (nnx.backend, lambda *wish: nnx.Trainer(nnx.mlp([2, 1]), precision=wish[2])):
        with pytest.raises(nnx.InputError, match=said):
            ask("numpy", None, given)


@pytest.mark.parametrize("name", ["bfloat16", "tf32"])
def test_a_precision_is_no_dtype(name):
    said = f"no array is {name}; for products in {name} give precision='{name}', and no dtype"
    with pytest.raises(nnx.InputError, match=said):
        nnx.Trainer(nnx.mlp([2, 1]), dtype=name)


@pytest.mark.parametrize("name", WITH)
def test_float64_has_one_precision(name, tmp_path):
    said = "precision='bfloat16' takes arrays of float32; the model's are float64. Give dtype='float32'"
    with pytest.raises(nnx.InputError, match=said):
        nnx.Trainer(nnx.mlp([2, 1]), backend=name, device="cpu", dtype="float64", precision="bfloat16")
    nnx.Trainer(nnx.mlp([2, 1]), backend="numpy", dtype="float64").save(tmp_path / "m.safetensors")
    with pytest.raises(nnx.InputError, match=said):
        nnx.Trainer.load(tmp_path / "m.safetensors", name, "cpu", "bfloat16")


@pytest.mark.parametrize("name", WITH)
def test_a_backend_that_is_made_has_its_precision(name):
    made = nnx.backend(name, "cpu", "bfloat16")
    assert repr(made).endswith(" on cpu, products in bfloat16>")
    for precision in (None, "bfloat16"):
        assert nnx.Trainer(nnx.mlp([2, 1]), backend=made, precision=precision).backend is made
    with pytest.raises(
        nnx.InputError, match="has its precision already, bfloat16; given precision='float32', too"
    ):
        nnx.Trainer(nnx.mlp([2, 1]), backend=made, precision="float32")
    with pytest.raises(nnx.InputError, match="has its precision already, float32"):
        nnx.Trainer(nnx.mlp([2, 1]), backend=nnx.backend("numpy"), precision="tf32")


@pytest.mark.needs("torch")
def test_auto_takes_the_first_that_has_it(monkeypatch, caplog):
    monkeypatch.setattr(registry, "_logged", set())
    with caplog.at_level("INFO", logger="nnx"):
        chosen = registry.choose("auto", "cpu", "bfloat16")
    assert caplog.messages[-1].startswith("backend torch on cpu, products in bfloat16: ")
    assert (chosen.backend.name, chosen.backend.precision) == ("torch", "bfloat16")
    assert chosen.reason.endswith("; of the backends with bfloat16 on a CPU torch comes first")
    monkeypatch.setenv("NNX_BACKEND", "numpy")
    with pytest.raises(nnx.BackendError, match=r"NNX_BACKEND=numpy: .* multiplies in float32 only"):
        nnx.backend(precision="bfloat16")


def test_auto_says_why_none_has_it(monkeypatch):
    with pytest.raises(nnx.BackendError, match=r"tf32' takes a CUDA GPU .*: the CPU was asked for$"):
        nnx.backend("auto", "cpu", "tf32")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    said = (
        r"no backend has products in bfloat16 here: .*torch cannot .* jax .*python -m pip install .*torch\]"
    )
    with pytest.raises(nnx.BackendError, match=said):
        nnx.backend("auto", "cpu", "bfloat16")
    with pytest.raises(nnx.InputError, match=r"takes arrays of float32; the model's are float64"):
        nnx.Trainer(nnx.mlp([2, 1]), dtype="float64", precision="bfloat16")


class OfAnotherPackage(registry.Backend):
    """An adapter that is called with what it has a parameter for."""

    name, device, xp = "theirs", "cpu", None

    def __init__(self, device=None, precision="float32"):
        self.precision = precision

    def asarray(self, x, dtype=None):
        return x

    def to_numpy(self, x):
        return x


def test_an_adapter_of_another_package_gets_what_it_takes(monkeypatch):
    class Entry:
        value = "theirs:OfAnotherPackage"

        def load(self):
            return OfAnotherPackage

    monkeypatch.setattr(registry, "_entry", lambda name: Entry())
    assert nnx.backend("theirs", None, "tf32").precision == "tf32"
    assert nnx.backend("theirs").precision == "float32"

    class OnlyDevice(OfAnotherPackage):
        def __init__(self, device=None):
            pass

    monkeypatch.setattr(Entry, "load", lambda self: OnlyDevice)
    made = nnx.backend("theirs", None, "float32")
    assert made.precision == "float32"


# --- the estimators and the table ---


@pytest.fixture
def samples(rng):
    X = rng.standard_normal((120, 5)).astype("float32")
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.mark.needs("sklearn")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", WITH)
def test_an_estimator_has_it_as_a_parameter(name, samples):
    from sklearn.base import clone

    from nnx.sklearn import MLPClassifier

    X, y = samples
    given = {"backend": name, "device": "cpu", "max_iter": 20, "random_state": 0}
    plain = MLPClassifier(20, **given).fit(X, y)
    one = clone(MLPClassifier(20, precision="bfloat16", **given))
    assert one.get_params()["precision"] == "bfloat16"
    one.fit(X, y)
    assert one.coefs_[0].dtype == np.float32
    difference = np.abs(one.predict_proba(X) - plain.predict_proba(X)).max()
    assert 0 < difference < 0.03
    assert 0 < np.abs(one.predict_proba(X) - one.set_params(precision=None).predict_proba(X)).max() < 0.02
    with pytest.raises(ValueError, match="'precision' parameter of MLPClassifier must be a str among"):
        one.set_params(precision="half").fit(X, y)
    with pytest.raises(
        ValueError, match=r"precision='bfloat16' takes arrays of float32; the model's are float64"
    ):
        one.set_params(precision="bfloat16").fit(X.astype("float64"), y)
    one.set_params(dtype="float32").fit(X.astype("float64"), y)


@pytest.mark.needs("sklearn", "torch")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_estimator_of_arrays_on_the_host_finds_a_backend(samples):
    from nnx.sklearn import MLPRegressor

    X, y = samples
    one = MLPRegressor(hidden_layer_sizes=8, max_iter=3, precision="bfloat16", random_state=0).fit(X, y)
    assert one._trainer.backend.name in ("torch", "jax")
    assert isinstance(one.predict(X), np.ndarray)
    old = pickle.loads(pickle.dumps(one))
    state = old.__getstate__()
    del state["precision"]  # as a pickle has it that was written before
    old.__setstate__(state)
    assert old.get_params()["precision"] is None
    np.testing.assert_allclose(old.predict(X), one.predict(X), atol=0.02)
    with pytest.raises(nnx.BackendError, match="multiplies in float32 only"):
        MLPRegressor(backend="numpy", precision="bfloat16").fit(X, y)
    with pytest.raises(nnx.BackendError, match=r"takes a CUDA GPU .* give device='cuda'"):
        MLPRegressor(precision="tf32").fit(X, y)


@pytest.mark.needs("polars", "sklearn", "torch")
def test_a_table_has_it(tmp_path):
    pets = {"size": [60, 62, 65, 20, 22, 25] * 10, "kind": ["dog", "dog", "dog", "cat", "cat", "cat"] * 10}
    model = nnx.Tabular(pets, target="kind", backend="torch", device="cpu", precision="bfloat16")
    model.fit(epochs=20)
    assert model.trainer.backend.precision == "bfloat16"
    assert model.predict({"size": [61, 21]}).tolist() == ["dog", "cat"]
    model.save(tmp_path / "m.safetensors")
    loaded = nnx.Tabular.load(tmp_path / "m.safetensors", "torch", "cpu", "bfloat16")
    assert loaded.trainer.backend.precision == "bfloat16"


# --- the command line ---


@pytest.mark.needs("torch", "sklearn", "typer")
def test_a_run_goes_on_in_its_precision(run, tmp_path):
    wish = ("--backend", "torch", "--device", "cpu", "--precision", "bfloat16", "--no-plots")
    status, out, err = run("train", "iris", "--epochs", "4", *wish, "--out", "whole")
    assert status == 0
    assert "on cpu, products in bfloat16: asked for" in out + err
    assert tomllib.loads((tmp_path / "whole" / "config.toml").read_text())["precision"] == "bfloat16"
    assert run("train", "iris", "--epochs", "2", *wish, "--out", "a")[0] == 0
    status, out, _ = run("train", "--resume", "a", "--epochs", "4", "--json")
    assert (status, json.loads(out)["precision"]) == (0, "bfloat16")
    found = [nnx.Trainer.load(tmp_path / name, "numpy").theta for name in ("whole", "a")]
    np.testing.assert_array_equal(*found)
    status, _, err = run("train", "--resume", "a", "--epochs", "5", "--backend", "numpy")
    assert (status, "Give precision='float32'" in " ".join(err.split())) == (1, True)
    changed = ("--backend", "numpy", "--precision", "float32")
    status, out, err = run("train", "--resume", "a", "--epochs", "5", *changed)
    assert status == 0
    said = "from here on backend numpy, before torch; from here on precision float32, before bfloat16"
    assert said in " ".join((out + err).split())
    assert "before" not in run("train", "--resume", "a", "--epochs", "6")[2]


@pytest.mark.needs("torch", "sklearn", "typer")
def test_a_sweep_keeps_its_precision(run):
    wish = ("--backend", "torch", "--device", "cpu", "--epochs", "1", "--sweep", "seed=0 1")
    assert run("train", "iris", *wish, "--out", "s")[0] == 0
    status, _, err = run("train", "--resume", "s", "--precision", "bfloat16")
    assert (status, "--precision cannot be changed when a sweep goes on" in err) == (2, True)
    assert run("train", "--resume", "s", "--precision", "float32")[0] == 0


@pytest.mark.needs("torch", "sklearn", "typer")
def test_predictions_and_scores_have_a_precision_of_their_own(run, tmp_path):
    assert run("train", "iris", "--epochs", "3", "--no-plots", "--backend", "numpy", "--out", "a")[0] == 0
    assert "precision" not in tomllib.loads((tmp_path / "a" / "config.toml").read_text())
    wish = ("--backend", "torch", "--device", "cpu", "--precision", "bfloat16")
    found = [json.loads(run("evaluate", "a", "iris", "--json", *rest)[1]) for rest in ((), wish)]
    loss = [one["loss"] for one in found]
    assert 0 < abs(loss[0] - loss[1]) < 0.02
    for rest, said in (
        (("--precision", "bf16"), "did you mean 'bfloat16'"),
        (("--precision", "tf32", "--backend", "numpy"), "multiplies in float32 only"),
    ):
        status, _, err = run("evaluate", "a", "iris", *rest)
        assert status in (1, 2)
        assert said in err


@pytest.mark.needs("sklearn", "typer")
@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        (("--precision", "half"), 2, "unknown precision 'half'"),
        (("--precision", "bfloat16", "--dtype", "float64"), 2, "takes arrays of float32"),
        (("--precision", "bfloat16", "--backend", "numpy"), 1, "multiplies in float32 only"),
    ],
)
def test_what_nnx_train_refuses(run, wish, status, said):
    found, _, err = run("train", "iris", *wish)
    assert (found, said in " ".join(err.split())) == (status, True)
