"""Networks and estimators as ONNX graphs: onnxruntime and onnx's reference evaluator give the same outputs."""

import json
import warnings

import numpy as np
import pytest

import nnx
from nnx.convert import to_onnx
from nnx.model.activations import ACTIVATIONS
from nnx.model.layers import LAYERS

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DTYPES = ("float32", "float64")
M = 7
EDGES = np.linspace([-1, -2, 0, 0], 2, 9).T
BLOCKS = {
    "Dense": lambda: [nnx.Dense(6, "relu")],
    "Activate": lambda: [nnx.Activate("tanh")],
    "PReLU": lambda: [nnx.PReLU()],
    "Dropout": lambda: [nnx.Dropout(0.5)],
    "GaussianNoise": lambda: [nnx.GaussianNoise(0.5)],
    "FeatureScale": lambda: [nnx.FeatureScale(6.0)],
    "NTKDense": lambda: [nnx.NTKDense(5, "gelu", bias_rate=0.1)],
    "PiecewiseLinear": lambda: [nnx.PiecewiseLinear.from_data(EDGES, bins=3, width=2, columns=[0, 2])],
    "Periodic": lambda: [nnx.Periodic(3, 2, columns=[1, 3])],
    "LayerNorm": lambda: [nnx.LayerNorm(1e-3)],
    "BatchNorm": lambda: [nnx.BatchNorm(0.2, 1e-4)],
    "Residual": lambda: [nnx.Residual([nnx.Dense(6, "tanh"), nnx.Dropout(0.1), nnx.PReLU(), nnx.Dense(4)])],
}
"""Every layer that can be exported, for 4 features."""
REFUSED: set[str] = set()
"""The layers of nnx that cannot."""


def results(path, feed):
    """The outputs of a file by name: those of onnxruntime, and those of the reference evaluator."""
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    names = [one.name for one in model.graph.output]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the evaluator's own formulas overflow
        evaluated = ReferenceEvaluator(model).run(None, feed)
    return [dict(zip(names, found, strict=True)) for found in (session.run(None, feed), evaluated)]


def assert_same(found, expected):
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    atol = 50 * np.finfo(expected.dtype).eps * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def parameters(network, dtype, seed=0, lead=()):
    """Parameters none of which is as it starts: variances and gains positive."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(-0.4, 0.4, (*lead, network.P)) + 0.5).astype(dtype)


def check(tmp_path, network, theta, X):
    """Compare the outputs for X (n[0], m) with the network's own."""
    to_onnx(network, tmp_path / "a.onnx", theta)
    for found in results(tmp_path / "a.onnx", {"X": np.ascontiguousarray(X.T)}):
        assert_same(found["A"], network.forward(theta, X).T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_activation(tmp_path, rng, dtype):
    names = [name for name, one in ACTIVATIONS.items() if "OfATest" not in name and _is_ours(one)]
    assert len(names) >= 15
    X = np.concatenate([20 * rng.standard_normal((3, M)), [[0.0], [1e-8], [-1e-8]]], axis=1).astype(dtype)
    for name in [*names, "elu(0.3)", "leaky_relu(0.2)"]:
        network = nnx.mlp([3, 9, 2], hidden=name, output="identity")
        check(tmp_path, network, network.init(1, dtype), X)


def _is_ours(one):
    return getattr(getattr(one, "g", one), "__module__", "nnx").startswith(("nnx.", "functools"))


def test_every_layer_is_exported_or_refused():
    ours = {name for name, kind in LAYERS.items() if kind.__module__.startswith("nnx.")}
    assert set(BLOCKS) | REFUSED == ours
    assert not set(BLOCKS) & REFUSED


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layer_and_output(tmp_path, rng, dtype):
    X = rng.standard_normal((4, M)).astype(dtype)
    for layers in BLOCKS.values():
        for first in ([], [nnx.Dense(4, "tanh")]):
            network = nnx.Network(4, [*first, *layers(), nnx.Dense(3)], "identity")
            check(tmp_path, network, parameters(network, dtype), X)
    for output in nnx.OUTPUTS:
        network = nnx.mlp([4, 3], output=output)
        check(tmp_path, network, parameters(network, dtype), 10 * X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_members_are_one_graph(tmp_path, rng, dtype):
    """The mean by their shares, without the member that has none; as an option, each of them."""
    X = rng.standard_normal((4, M)).astype(dtype)
    layers = [layer for block in BLOCKS.values() for layer in block()]
    layers = [
        nnx.PReLU(),
        nnx.BatchNorm(),
        nnx.Dense(4),
        *(one for one in layers if one.units(4) == 4),
    ]
    network = nnx.Network(4, [*layers, nnx.Dense(3)], "softmax")
    trainer = nnx.Trainer(network, backend="numpy", dtype=dtype, members=3)
    trainer.parameters = network.unflatten(parameters(network, dtype, lead=(3,)))
    trainer.ensemble.weights = [0.25, 0, 0.75]
    path = tmp_path / "a.onnx"
    to_onnx(trainer, path, members=True)
    for found in results(path, {"X": X.T.copy()}):
        assert_same(found["A"], trainer.ensemble.predict(X).T.astype(dtype))
        assert_same(found["members"], trainer.predict(X).transpose(0, 2, 1))
    to_onnx(trainer, path)
    assert {x.dims[0] for x in onnx.load(path).graph.initializer if x.name.startswith("W")} == {2}
    for found in results(path, {"X": X.T.copy()}):
        assert set(found) == {"A"}
        assert_same(found["A"], trainer.ensemble.predict(X).T.astype(dtype))
    trainer.ensemble.weights = [0, 1, 0]
    to_onnx(trainer, path)
    assert_same(results(path, {"X": X.T.copy()})[0]["A"], trainer.predict(X)[1].T)


def test_the_file_states_what_it_needs(tmp_path):
    network = nnx.mlp([4, 3, 2])
    to_onnx(network, tmp_path / "a.onnx", network.init(), dtype="float64")
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 13)]
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu", "Gemm", "Softmax"]
    (x,) = model.graph.input
    assert x.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["m", 4]
    assert (model.producer_name, model.producer_version) == ("nnx", nnx.__version__)


class Doubled(nnx.Layer):
    """A layer of a user that follows the standard."""

    def forward(self, params, A_prev, context):
        xp = nnx.array_namespace(A_prev)
        return xp.concat([A_prev, xp.where(A_prev > 0, A_prev, 2 * A_prev)], axis=-2), None

    def units(self, n_prev):
        return 2 * n_prev


class Sorted(Doubled):
    """One that does something that ONNX has not."""

    def forward(self, params, A_prev, context):
        return nnx.array_namespace(A_prev).argsort(A_prev, axis=-2), None


def test_functions_of_ones_own_write_themselves(tmp_path, rng):
    cubic = nnx.Activation("cubic", lambda Z: Z * Z * Z - 1, lambda Z: 3 * Z * Z, keep="Z")
    network = nnx.Network(4, [nnx.Dense(5, cubic), Doubled(), nnx.Dense(3)], "identity")
    check(tmp_path, network, parameters(network, "float64"), rng.standard_normal((4, M)))


def own(name, g):
    """An activation of a user, whose derivative no export needs."""
    return nnx.Activation(name, g, lambda Z: 1.0 + 0 * Z, keep="Z", check=False)


def of_columns(Z):
    xp = nnx.array_namespace(Z)
    return xp.exp(Z) / xp.sum(xp.exp(Z), axis=-2)  # over the units


def first_less(Z):
    return Z - Z[:1, :] * (1 / Z.shape[-2])


def bounded(Z):
    xp = nnx.array_namespace(Z)
    low, high = xp.clip(Z, 0.25, None), xp.clip(Z, max=xp.zeros_like(Z))
    return xp.clip(low + 2 * high, -3.0, 4.0) + xp.ones_like(Z)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_of_ones_own_have_samples_as_columns(tmp_path, rng, dtype):
    """And no transposes where they work element by element."""
    cosine = own("cosine", lambda Z: nnx.array_namespace(Z).cos(1000 * Z))
    X = rng.standard_normal((4, M)).astype(dtype)
    for g in (own("of_columns", of_columns), own("first_less", first_less), own("bounded", bounded)):
        network = nnx.Network(4, [nnx.Dense(5, g), nnx.Dense(4, g), nnx.Dense(3)], "identity")
        check(tmp_path, network, parameters(network, dtype), X)
    network = nnx.Network(4, [nnx.Activate(cosine), nnx.Dense(1)], "identity")
    to_onnx(network, tmp_path / "a.onnx", np.array([1, 0, 0, 0, 0], dtype))
    found = results(tmp_path / "a.onnx", {"X": X.T.copy()})[0]["A"][:, 0]
    np.testing.assert_allclose(found, np.cos(1000 * X[0]), rtol=0, atol=4 * np.finfo(dtype).eps)
    assert all(node.op_type != "Transpose" for node in onnx.load(tmp_path / "a.onnx").graph.node)


def refusals():
    """Arguments of to_onnx and the error for each."""
    net = nnx.mlp([2, 2])
    theta = net.init()
    narrow = nnx.Network(2, [nnx.LayerNorm(1e-60), nnx.Dense(2)], "softmax")
    unusual = nnx.Activation(
        "unusual", lambda Z: nnx.array_namespace(Z).atan(Z), lambda Z: 1 / (1 + Z * Z), keep="Z"
    )
    trainer = nnx.Trainer(net, backend="numpy")
    return {
        "no parameters": ((net,), {}, "a network has no parameters of its own; give them"),
        "two": ((trainer,), {"params": theta}, "has its own: leave them out"),
        "shape": ((net,), {"params": theta[1:]}, r"theta has shape \(5,\); expected"),
        "kind": ((3,), {}, "expected an nnx.Network with its parameters, .*; given 3"),
        "members": ((trainer,), {"members": True}, "the model is one network"),
        "infinite": ((net,), {"params": theta / np.float32(0)}, "W1 has numbers that are not finite"),
        "overflow": ((net,), {"params": theta.astype("d") + 1e60, "dtype": "float32"},
                     "W1 has numbers that are too large for float32; leave dtype out"),
        "dtype": ((net,), {"params": theta, "dtype": "float16"}, "float16"),
        "epsilon": ((narrow,), {"params": narrow.init(0, "float64"), "dtype": "float32"}, "epsilon"),
        "activation": (
            (nnx.mlp([2, 2, 2], hidden=unusual),), {"params": nnx.mlp([2, 2, 2]).init()},
            "the activation 'unusual' cannot be exported to ONNX: the function 'atan' has no counterpart in ONNX",
        ),
        "activation's shape": (
            (nnx.mlp([2, 2, 2], hidden=own("one", lambda Z: Z[:1, :])),), {"params": nnx.mlp([2, 2, 2]).init()},
            r"the activation 'one' cannot be exported to ONNX: it returns the shape \(1, None\)",
        ),
        "layer": (
            (nnx.Network(2, [Sorted(), nnx.Dense(2)], "softmax"),), {"params": np.zeros(10)},
            "the layer Sorted cannot be exported to ONNX: the function 'argsort' has no counterpart in ONNX",
        ),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_it_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("the last good file")
    for arguments, keywords, message in refusals().values():
        with pytest.raises(nnx.InputError, match=message):
            to_onnx(*arguments, path, **keywords)
    with pytest.raises(nnx.InputError, match="is a folder"):
        to_onnx(nnx.mlp([2, 2]), tmp_path, nnx.mlp([2, 2]).init())
    assert path.read_text() == "the last good file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_holds_two_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr("nnx.io.convert.onnx_graph.LARGEST", 20)
    with pytest.raises(
        nnx.InputError, match="the parameters have 24 bytes; one file of ONNX holds 2 GB at most"
    ):
        to_onnx(nnx.mlp([2, 2]), tmp_path / "a.onnx", nnx.mlp([2, 2]).init())


def test_nan_stays_nan(tmp_path):
    """nnx refuses it, and a graph cannot."""
    network = nnx.mlp([2, 3, 2])
    to_onnx(network, tmp_path / "a.onnx", parameters(network, "float32"))
    for found in results(tmp_path / "a.onnx", {"X": np.array([[1, np.nan], [1, 2]], "f")}):
        assert np.isnan(found["A"]).tolist() == [[True, True], [False, False]]


def test_without_onnx_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(nnx.BackendError, match=r"onnx cannot be imported .*\[onnx\]"):
        to_onnx(nnx.mlp([2, 2]), tmp_path / "a.onnx", nnx.mlp([2, 2]).init())


# --- nnx.sklearn ------------------------------------------------------------------------------------------------------


def fitted(kind, y, **parameters):
    sklearn = pytest.importorskip("nnx.sklearn")
    X = np.random.default_rng(0).standard_normal((40, 3))
    estimator = getattr(sklearn, kind)(
        hidden_layer_sizes=(4,), max_iter=2, random_state=0, backend="numpy", **parameters
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs are not enough
        return estimator.fit(X, y), X


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize(
    "classes",
    [
        ["a", ""],
        ["a", "é", "c"],
        [0, 1, 2],
        [False, True],
        [-1.0, 2.0],
        [5],
        np.array([2**63, 2**63 + 1], "u8"),
    ],
    ids=str,
)
def test_classifier(tmp_path, classes):
    y = np.asarray(classes)[np.arange(40) % len(classes)]
    classifier, X = fitted("MLPClassifier", y)
    to_onnx(classifier, tmp_path / "a.onnx")
    for found in results(tmp_path / "a.onnx", {"X": X}):
        assert found["label"].tolist() == classifier.predict(X).tolist()
        assert found["label"].dtype == (object if y.dtype.kind == "U" else y.dtype)
        assert_same(found["probabilities"], classifier.predict_proba(X))
    (properties,) = onnx.load(tmp_path / "a.onnx").metadata_props
    assert (properties.key, json.loads(properties.value)) == ("classes", np.unique(y).tolist())


@pytest.mark.needs("sklearn")
def test_labels_and_numbers(tmp_path):
    path, rng = tmp_path / "a.onnx", np.random.default_rng(1)
    classifier, X = fitted("MLPClassifier", rng.integers(0, 2, (40, 3)))
    to_onnx(classifier, path)
    for found in results(path, {"X": X}):
        np.testing.assert_array_equal(found["label"], classifier.predict(X))
        assert_same(found["probabilities"], classifier.predict_proba(X))
    for y in (X[:, 0], X[:, :2]):
        regressor, _ = fitted("MLPRegressor", y, n_members=2, activation="tanh", dtype="float32")
        to_onnx(regressor, path, members=True)
        for found in results(path, {"X": X.astype("f")}):
            assert_same(found["prediction"], regressor.predict(X.astype("f")))
            assert_same(found["members"][1], regressor.members_[1].predict(X.astype("f")))


@pytest.mark.needs("sklearn")
def test_estimators_with_other_losses(tmp_path):
    """Of a Gaussian the means, of several quantiles these in order; of the hinge its scores."""
    path, y = tmp_path / "a.onnx", np.random.default_rng(1).standard_normal((40, 2))
    for loss, members in (
        ("gaussian", None),
        ("gaussian", 2),
        ("quantile(0.1,0.5,0.9)", None),
        ("quantile(0.1,0.9)", 2),
    ):
        for targets in (y, y[:, 0]):
            regressor, X = fitted("MLPRegressor", targets, loss=loss, n_members=members, activation="gelu")
            to_onnx(regressor, path, members=members is not None)
            for found in results(path, {"X": X}):
                assert_same(found["prediction"], regressor.predict(X))
                if members:
                    assert_same(found["members"][1], regressor.members_[1].predict(X))
    for classes in (2, 3):
        classifier, X = fitted("MLPClassifier", np.arange(40) % classes, loss="hinge")
        to_onnx(classifier, path)
        for found in results(path, {"X": X}):
            assert found["label"].tolist() == classifier.predict(X).tolist()
            assert_same(found["scores"], classifier.decision_function(X))


@pytest.mark.needs("sklearn")
def test_estimators_that_are_refused(tmp_path):
    from nnx.sklearn import MLPClassifier, MLPRegressor, TabularRegressor

    class Own(MLPRegressor):
        def predict(self, X):
            return 2 * super().predict(X)

    with pytest.raises(nnx.InputError, match="this MLPClassifier is not fitted yet; call fit first"):
        to_onnx(MLPClassifier(), tmp_path / "a.onnx")
    with pytest.raises(nnx.InputError, match="Own predicts in a way of its own"):
        to_onnx(Own(), tmp_path / "a.onnx")
    with pytest.raises(
        nnx.InputError, match=r"a TabularRegressor cannot be exported to ONNX; an nnx.Tabular"
    ):
        to_onnx(TabularRegressor(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
