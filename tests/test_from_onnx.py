"""ONNX graphs as networks: of nnx's own export, of other libraries' forms, and all that is refused."""

import re
from math import sqrt

import numpy as np
import pytest
from test_onnx import _is_ours, parameters

import nnx
from nnx.convert import from_onnx, to_onnx
from nnx.model.activations import ACTIVATIONS

onnx = pytest.importorskip("onnx")
DTYPES = ("float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_comes_back(tmp_path, dtype):
    names = [name for name, one in ACTIVATIONS.items() if _is_ours(one) and "OfATest" not in name]
    for name in [*names, "elu(0.3)", "leaky_relu(0.2)"]:
        network = nnx.mlp([3, 4, 2], hidden=name, output="identity")
        theta = parameters(network, dtype)
        to_onnx(network, tmp_path / "a.onnx", theta)
        back, params = from_onnx(tmp_path / "a.onnx")
        assert repr(back) == repr(network)
        np.testing.assert_array_equal(back.flatten(params), theta)
        assert params["W1"].dtype == dtype


@pytest.mark.parametrize("output", nnx.OUTPUTS)
def test_outputs_and_activations_one_after_the_other(tmp_path, output):
    layers = [
        nnx.Activate("tanh"),
        nnx.Dense(4, "relu"),
        nnx.Activate("gelu"),
        nnx.Activate("silu"),
        nnx.Dropout(0.1),
    ]
    network = nnx.Network(3, [*layers, nnx.Dense(5), nnx.Dense(2)], output)
    to_onnx(network, tmp_path / "a.onnx", parameters(network, "float32"))
    back, _ = from_onnx(tmp_path / "a.onnx", loss=None)
    without = nnx.Network(3, [*layers[:-1], nnx.Dense(5), nnx.Dense(2)], output)
    assert repr(back) == repr(without)
    if output != "identity":
        with pytest.raises(nnx.InputError, match=f"is the output {output!r}; given 'identity'"):
            from_onnx(tmp_path / "a.onnx", "identity")


def model(nodes, opset=17, outputs=("Y",), inputs=None, shape=("a", "b"), **constants):
    """A graph of nodes (op, inputs, output, attributes) and constants, from "X" (m, 3)."""
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    made = [
        helper.make_node(op, args, out.split(), **more)
        for op, args, out, *rest in nodes
        for more in (rest or [{}])
    ]
    inputs = inputs or [helper.make_tensor_value_info("X", float_, ["m", 3])]
    ends = [helper.make_tensor_value_info(name, float_, shape) for name in outputs]
    tensors = [onnx.numpy_helper.from_array(np.asarray(x, "f"), name) for name, x in constants.items()]
    graph = helper.make_graph(made, "g", inputs, ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


W, V = np.arange(12.0).reshape(3, 4) - 5, np.ones((4, 2))


def between(nodes, **constants):
    """A graph of two products with nodes from "Z" to "A" between them."""
    nodes = [("MatMul", ["X", "W"], "Z"), *nodes, ("MatMul", ["A", "V"], "Y")]
    return model(nodes, W=W, V=V, **constants)


def activations():
    """Activations as other libraries write them."""
    gelu = [("Erf", ["u"], "e"), ("Add", ["e", "one"], "f")]
    c = {
        "half": 0.5,
        "one": 1,
        "r": sqrt(0.5),
        "root": sqrt(2),
        "k": 0.044715,
        "s": 0.7978846,
        "three": 3,
        "zero": 0,
    }
    return {
        "PyTorch": ("gelu", [("Div", ["Z", "root"], "u"), *gelu, ("Mul", ["Z", "f"], "g"),
                             ("Mul", ["g", "half"], "A")]),
        "Keras": ("gelu", [("Mul", ["r", "Z"], "u"), *gelu, ("Mul", ["half", "Z"], "g"), ("Mul", ["g", "f"], "A")]),
        "tanh": ("gelu_tanh", [
            ("Pow", ["Z", "three"], "p"), ("Mul", ["p", "k"], "q"), ("Add", ["Z", "q"], "v"), ("Mul", ["s", "v"], "u"),
            ("Tanh", ["u"], "t"), ("Add", ["one", "t"], "f"), ("Mul", ["Z", "f"], "g"), ("Mul", ["g", "half"], "A"),
        ]),
        "Max": ("relu", [("Max", ["zero", "Z"], "A")]),
        "Clip": ("relu", [("Clip", ["Z", "zero"], "A")]),
        "LeakyRelu": ("leaky_relu(0.1)", [("LeakyRelu", ["Z"], "A", {"alpha": 0.1})]),
        "Elu": ("elu", [("Elu", ["Z"], "A")]),
        "Softplus": ("softplus", [("Exp", ["Z"], "e"), ("Add", ["e", "one"], "f"), ("Log", ["f"], "A")]),
        "Softsign": ("softsign", [("Abs", ["Z"], "a"), ("Add", ["a", "one"], "b"), ("Div", ["Z", "b"], "A")]),
        "logistic": ("sigmoid", [
            ("Neg", ["Z"], "n"), ("Exp", ["n"], "e"), ("Add", ["one", "e"], "f"), ("Reciprocal", ["f"], "A"),
        ]),
        "none": ("identity", [("Identity", ["Z"], "I"), ("Dropout", ["I"], "D"), ("Flatten", ["D"], "A")]),
    }, c  # fmt: skip


def test_the_exponential_in_other_forms():
    """Exp itself, and Min before it with the limit of nnx's own."""
    for nodes in ([("Exp", ["Z"], "Y")], [("Min", ["c", "Z"], "M"), ("Exp", ["M"], "Y")]):
        network, _ = from_onnx(model([("MatMul", ["X", "W"], "Z"), *nodes], W=W, c=np.log(3.4028235e38) / 4))
        assert network.output.name == "exp"


def test_activations_in_other_forms():
    cases, constants = activations()
    for which, (name, nodes) in cases.items():
        network, params = from_onnx(between(nodes, **constants))
        assert network.layers[0].g.name == name, which
        np.testing.assert_array_equal(params["W1"], W.T)


def test_products_and_biases_in_other_forms(rng):
    b, X = np.array([1.0, 2, 3, 4]), rng.standard_normal((5, 3)).astype("f")
    cases = [
        ([("Gemm", ["X", "W", "b"], "Y", {"alpha": 0.5, "beta": 2.0})], {}, X @ W / 2 + 2 * b),
        ([("Gemm", ["X", "V", "b"], "Y", {"transB": 1})], {"V": W.T}, X @ W + b),
        ([("Transpose", ["V"], "T"), ("MatMul", ["X", "T"], "Z"), ("Add", ["c", "Z"], "Y")],
         {"V": W.T, "c": b[None]}, X @ W + b),
        ([("Gemm", ["X", "W"], "Z"), ("Add", ["Z", "b"], "A"), ("Add", ["A", "b"], "Y")], {}, X @ W + 2 * b),
        ([("Gemm", ["X", "W", "c"], "Y")], {"c": 3.0}, X @ W + 3),
        ([("MatMul", ["X", "W"], "Z"), ("Add", ["Z", "c"], "Y")], {"c": [[7.0]]}, X @ W + 7),
    ]  # fmt: skip
    for nodes, constants, expected in cases:
        network, params = from_onnx(model(nodes, W=W, b=b, **constants))
        found = network.forward(network.flatten(params), X.T.astype(params["W1"].dtype)).T
        np.testing.assert_allclose(found, expected, atol=1e-5)


def refused():
    """Graphs that are no network of nnx's, and the error for each."""
    z, bias = ("MatMul", ["X", "W"], "Z"), ("Add", ["Z", "b"], "Y")
    info = onnx.helper.make_tensor_value_info
    wide = [info("X", onnx.TensorProto.FLOAT, ["m", 3, 2])]
    two = [info(name, onnx.TensorProto.FLOAT, ["m", 3]) for name in "XU"]
    low, high = {"low": 0.0, "high": 6.0}, {"low": -1.0, "high": 2.0}
    end, limit = ("Exp", ["M"], "Y"), "the nodes Min, Exp together are no output"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["W"], ["I"])],
        "g",
        [],
        [info("I", onnx.TensorProto.FLOAT, [3, 4])],
    )
    either = ("If", ["yes"], "V", {"then_branch": graph, "else_branch": graph})
    yes = ("Cast", ["one"], "yes", {"to": onnx.TensorProto.BOOL})
    drawn, relus = (
        ("RandomNormal", [], "b", {"shape": [4]}),
        [("Relu", [f"r{i}"], f"r{i + 1}") for i in range(1500)],
    )
    return {
        "ReLU6": (between([("Clip", ["Z", "low", "high"], "A")], **low), "the nodes Clip together are no activation"),
        "Clip": (between([("Clip", ["Z", "low", "high"], "A")], **high), "the nodes Clip together"),
        "Max": (between([("Max", ["Z", "low"], "A")], low=-60.0), "the nodes Max together"),
        "far": (between([("Min", ["Z", "high"], "R"), ("Relu", ["R"], "A")], high=1e5), "Min, Relu together"),
        "Selu": (between([("Selu", ["Z"], "A", {"alpha": 1.6})]), "the nodes Selu together"),
        "slope": (between([("LeakyRelu", ["Z"], "A", {"alpha": 1.5})]), "the nodes LeakyRelu together"),
        "skip": (between([("Tanh", ["Z"], "t"), ("Add", ["Z", "t"], "A")]), "the nodes Add?, ?Tanh|Tanh, Add"),
        "Conv": (between([("Conv", ["Z", "K"], "A")], K=[[[1.0]]]), "the node 'A', a Conv, has no counterpart in nnx"),
        "Softmax": (between([("Softmax", ["Z"], "A")]), "the nodes Softmax together"),
        "of samples": (model([z, ("Softmax", ["Z"], "Y", {"axis": 0})], W=W), "the node 'Y', a Softmax, has no"),
        "vector": (between([("Mul", ["Z", "c"], "A")], c=np.ones(4)), r"a Mul, has a constant of shape \(4,\)"),
        "columns": (model([("MatMul", ["W", "X"], "Y")], W=np.ones((3, 3))), "the constant first: samples are columns"),
        "transA": (model([("Gemm", ["X", "W"], "Y", {"transA": 1})], W=W), "samples are columns there"),
        "bias of columns": (model([z, bias], W=W, b=np.ones((4, 1))), r"shape \(4, 1\); expected \(4,\)"),
        "bias of 3 axes": (model([z, bias], W=W, b=np.ones((1, 1, 4))), r"shape \(1, 1, 4\)"),
        "Gemm's bias": (model([("Gemm", ["X", "W", "b"], "Y")], W=W, b=np.ones((4, 1))), r"shape \(4, 1\)"),
        "chain": (between([("Gemm", ["Z", "B"], "A")], B=np.ones((5, 4))), "takes 5 features; those before it give 4"),
        "product of inputs": (model([z, ("MatMul", ["Z", "Z"], "Y")], W=W), "depends on the input; expected"),
        "no product": (model([("Relu", ["X"], "Y")]), "the graph ends with the activation|has no Gemm or MatMul"),
        "hidden at the end": (model([z, ("Relu", ["Z"], "Y")], W=W), "the graph ends with the activation"),
        "three axes": (model([z, ("Identity", ["Z"], "Y")], inputs=wide, W=W), "the input 'X' has 3 axes"),
        "two inputs": (model([("Add", ["X", "U"], "Y")], inputs=two), "has the inputs 'X', 'U'; expected one"),
        "two outputs": (model([z, ("Tanh", ["Z"], "Y")], outputs="ZY", W=W), "has the outputs 'Z', 'Y'"),
        "sums": (between([("Add", ["Z", "Z"], "a0"), *((("Add", [f"a{i}", f"a{i}"], f"a{i + 1}")) for i in range(40)),
                          ("Tanh", ["a40"], "A")]), "and those before it are no activation that nnx has"),
        "other limit": (model([z, ("Min", ["Z", "c"], "M"), end], W=W, c=0.0), limit),
        "other limit first": (model([z, ("Min", ["c", "Z"], "M"), end], W=W, c=1.0), limit),
        "limit of the input": (model([z, ("Tanh", ["Z"], "T"), ("Min", ["Z", "T"], "M"), end], W=W), limit),
        "random bias": (model([z, drawn, bias], W=W), "the node 'b', a RandomNormal, has no counterpart"),
        "random weights": (model([("RandomNormalLike", ["W"], "V"), ("MatMul", ["X", "V"], "Y")], W=W),
                           "a RandomNormalLike, has no counterpart"),
        "Dropout of weights": (model([yes, ("Dropout", ["W", "half", "yes"], "V"), ("MatMul", ["X", "V"], "Y")], W=W,
                                     half=0.5, one=1.0), "the node 'V', a Dropout, has no counterpart"),
        "If": (model([yes, either, ("MatMul", ["X", "V"], "Y")], W=W, one=1.0), "the node 'V', an? If, has no"),
        "mask": (model([z, ("Dropout", ["Z"], "D mask"), ("Where", ["mask", "D", "Z"], "Y")], W=W),
                 "a Where, takes 'mask', which has no counterpart"),
        "no input": (model([("MatMul", ["q", "W"], "Y")], W=W), "no valid graph of ONNX: .*'q'"),
        "long": (model([("MatMul", ["X", "W"], "r0"), *relus, ("MatMul", ["r1500", "V"], "Y")], W=W, V=V),
                 "a Relu, and those before it are no activation"),
        "width": (model([("MatMul", ["X", "W"], "Y")], W=np.ones((2, 4))), "takes 2 features; those before it give 3"),
        "shape": (model([("MatMul", ["X", "W"], "Y")], shape=("m", 5), W=W), "no valid graph of ONNX: .*4.* vs .*5"),
        "constants": (model([("MatMul", ["W", "W"], "V"), ("MatMul", ["X", "V"], "Y")], W=W), "a MatMul, cannot be"),
    }  # fmt: skip


def test_all_else_is_named():
    for which, (graph, message) in refused().items():
        with pytest.raises(nnx.InputError) as error:
            from_onnx(graph)
        assert re.search(message, str(error.value)), which
    with pytest.raises(nnx.InputError, match="unknown output"):
        from_onnx(between([("Relu", ["Z"], "A")]), "relu")


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(nnx.InputError, match=r"is no ONNX file that can be read"):
        from_onnx(tmp_path / "a.onnx")
    with pytest.raises(
        FileNotFoundError, match=r"there is no ONNX file '.*b.onnx'. Did you mean '.*a.onnx'\?"
    ):
        from_onnx(tmp_path / "b.onnx")


@pytest.mark.long
@pytest.mark.needs("torch")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [11, 13, 18, 20])
def test_graphs_of_pytorch(tmp_path, rng, opset):
    torch = pytest.importorskip("torch")
    X = 3 * rng.standard_normal((5, 3)).astype("f")
    for kind in ("ReLU", "Tanh", "Sigmoid", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus", "Softsign", "Mish",
                 "Hardtanh"):  # fmt: skip
        modules = torch.nn.Sequential(torch.nn.Linear(3, 4), getattr(torch.nn, kind)(), torch.nn.Linear(4, 2))
        torch.onnx.export(modules, torch.zeros(2, 3), tmp_path / "a.onnx", opset_version=opset, dynamo=False)
        network, params = from_onnx(tmp_path / "a.onnx")
        with torch.no_grad():
            expected = modules(torch.tensor(X)).numpy()
        np.testing.assert_allclose(network.forward(network.flatten(params), X.T).T, expected, atol=1e-5)
