"""Networks from and to PyTorch, Keras and scikit-learn: the parameters and the outputs are the same."""

import doctest

import numpy as np
import pytest

import nnx
from nnx import convert
from nnx.model import activations, layers
from nnx.model.layers import BatchNorm, Dense, Dropout, GaussianNoise, LayerNorm, PReLU, Residual

M = 7
NO_MODULE = {"gelu_sigmoid"}
"""The activations of which PyTorch has no module."""


def perturbed(network, seed=0):
    """Parameters none of which is as it starts: variances and gains positive."""
    rng = np.random.default_rng(seed)
    return network.unflatten(network.init(seed, "float64") * 0.5 + rng.uniform(0.1, 0.9, network.P))


def a_network(hidden="relu", output="softmax"):
    stack = [
        BatchNorm(0.2, 1e-4),
        Dense(8, hidden),
        Dropout(0.3),
        Dense(6),
        LayerNorm(1e-3),
        PReLU(),
        Dense(3),
    ]
    return nnx.Network(5, stack, output=output)


def outputs(network, params, X):
    return network.forward(network.flatten(params), X)


def assert_same(params, others):
    assert list(params) == list(others)
    for name, x in params.items():
        assert others[name].dtype == x.dtype
        np.testing.assert_array_equal(others[name], x, err_msg=name)


def of_torch(modules, X):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return modules(torch.tensor(X.T)).numpy().T


@pytest.mark.needs("torch")
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
def test_torch_gives_the_same_and_comes_back(rng, output):
    pytest.importorskip("torch")
    network = a_network(output=output)
    params, X = perturbed(network), rng.standard_normal((5, M))
    modules = convert.to_torch(network, params)
    assert not modules.training
    np.testing.assert_allclose(of_torch(modules, X), outputs(network, params, X), atol=1e-12, rtol=0)

    back, again = convert.from_torch(modules, output)
    assert back.describe()["layers"] == network.describe()["layers"]
    assert_same(params, again)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", sorted(set(activations.ACTIVATIONS) - NO_MODULE))
@pytest.mark.parametrize("parameter", ["", "(0.3)"])
def test_torch_has_every_activation(rng, name, parameter):
    pytest.importorskip("torch")
    if parameter and name not in ("leaky_relu", "elu"):
        parameter = ""
    network = nnx.mlp([3, 40, 2], hidden=name + parameter, output="identity")
    params, X = perturbed(network), 20 * rng.standard_normal((3, M))
    modules = convert.to_torch(network, params)
    np.testing.assert_allclose(of_torch(modules, X), outputs(network, params, X), atol=1e-12, rtol=1e-12)
    back, _ = convert.from_torch(modules, "identity")
    assert repr(back) == repr(network)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", sorted(NO_MODULE))
def test_an_activation_that_torch_has_not(name, rng):
    """The error's remedy gives the same outputs."""
    torch = pytest.importorskip("torch")
    network = nnx.mlp([3, 4, 2], hidden=name)
    params, X = perturbed(network), rng.standard_normal((3, M))
    message = (
        f"PyTorch has no module for the activation '{name}'; convert a network with 'identity' in its place"
    )
    with pytest.raises(nnx.InputError, match=message):
        convert.to_torch(network, params)

    class Own(torch.nn.Module):
        def forward(self, Z):
            return torch.from_numpy(activations.ACTIVATIONS[name].g(Z.numpy()))

    modules = convert.to_torch(nnx.mlp([3, 4, 2], hidden="identity"), params)
    modules.insert(1, Own())
    np.testing.assert_allclose(of_torch(modules, X), outputs(network, params, X), atol=1e-12)


def test_torch_dtype_link_and_theta(rng):
    torch = pytest.importorskip("torch")
    network = a_network()
    theta, X = network.init(3), rng.standard_normal((5, M)).astype("float32")
    before = torch.random.get_rng_state()
    modules = convert.to_torch(network, theta, link=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {p.dtype for p in modules.parameters()} == {torch.float32}
    assert {p.dtype for p in convert.to_torch(network, theta, "float64").parameters()} == {torch.float64}
    Z = of_torch(modules, X)
    np.testing.assert_allclose(network.output.link(Z), network.forward(theta, X), atol=1e-6)
    assert not np.allclose(Z, network.forward(theta, X))
    modules[1].weight.data.fill_(0.0)
    assert network.unflatten(theta)["W1"].all()  # it was copied


def test_torch_trains_on_as_it_does_here():
    """BatchNorm's momentum, epsilon and running statistics mean the same in both."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    network = nnx.Network(4, [Dense(5), BatchNorm(0.3, 1e-3), Dense(2)], output="identity")
    params, X = perturbed(network), rng.standard_normal((4, M))
    modules = convert.to_torch(network, params).train()
    modules(torch.tensor(X.T))
    state = network.flatten(params)
    _, _, observed = network.training_pass(state, X, np.zeros((2, M)), None, layers.Context(training=True))
    _, again = convert.from_torch(modules, "identity")
    for name in network.statistics:
        np.testing.assert_allclose(again[name], observed[name], rtol=1e-12)


def test_from_torch_takes_what_people_write(rng):
    nn = pytest.importorskip("torch").nn
    torch = pytest.importorskip("torch")
    inner = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Identity(), nn.Hardtanh())
    tail = [nn.LayerNorm(6, elementwise_affine=False), nn.PReLU(init=0.1), nn.Linear(6, 1), nn.Sigmoid()]
    norms = [nn.BatchNorm1d(6, affine=False), nn.LayerNorm(6, bias=False)]
    modules = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ELU(0.5), inner, *norms, *tail).double().eval()
    with torch.no_grad():
        modules[4].running_mean += 0.5
    network, params = convert.from_torch(modules, "sigmoid")
    X = rng.standard_normal((4, M))
    np.testing.assert_allclose(outputs(network, params, X), of_torch(modules, X), atol=1e-12)
    assert not params["b2"].any()
    trainer = nnx.Trainer(network, backend="numpy", dtype="float64")
    trainer.parameters = params
    np.testing.assert_allclose(trainer.network.forward(trainer.theta, X), of_torch(modules, X), atol=1e-12)


def test_from_torch_leaves_no_gradient_and_keeps_float32():
    nn = pytest.importorskip("torch").nn
    network, params = convert.from_torch(nn.Sequential(nn.Linear(2, 3)).half(), "softmax", "focal")
    assert network.output.spec == "focal"
    assert {type(x) for x in params.values()} == {np.ndarray}
    assert {x.dtype for x in params.values()} == {np.dtype("float32")}


def stateless(nn):
    return [
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Identity(),
        nn.Softsign(),
        nn.GELU(),
        nn.Sequential(nn.Mish()),
    ]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("which", range(7))
@pytest.mark.parametrize("nested", [False, True])
def test_from_torch_takes_a_module_without_parameters_again(rng, which, nested):
    nn = pytest.importorskip("torch").nn
    again = stateless(nn)[which]
    inner = [nn.Linear(5, 6), again]
    modules = nn.Sequential(
        nn.Linear(4, 5),
        again,
        *([nn.Sequential(*inner)] if nested else inner),
        nn.Linear(6, 6),
        again,
        nn.Linear(6, 2),
    )
    modules.double().eval()
    network, params = convert.from_torch(modules, "identity")
    X = rng.standard_normal((4, M))
    np.testing.assert_allclose(outputs(network, params, X), of_torch(modules, X), atol=1e-12)


def test_from_torch_takes_the_links_module_inside_too(rng):
    nn = pytest.importorskip("torch").nn
    sigmoid = nn.Sigmoid()
    modules = nn.Sequential(nn.Linear(4, 5), sigmoid, nn.Linear(5, 1), sigmoid).double()
    network, params = convert.from_torch(modules, "sigmoid")
    X = rng.standard_normal((4, M))
    np.testing.assert_allclose(outputs(network, params, X), of_torch(modules, X), atol=1e-12)


def with_parameters(nn):
    """Modules of 5 units that have parameters or running statistics."""
    return {
        "Linear": nn.Linear(5, 5),
        "Linear without bias": nn.Linear(5, 5, bias=False),
        "PReLU": nn.PReLU(),
        "BatchNorm1d": nn.BatchNorm1d(5, affine=False),
        "LayerNorm": nn.LayerNorm(5),
        "block": nn.Sequential(nn.Tanh(), nn.Sequential(nn.Linear(5, 5))),
    }


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    "kind", ["Linear", "Linear without bias", "PReLU", "BatchNorm1d", "LayerNorm", "block"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_from_torch_refuses_parameters_in_two_places(kind, nested):
    nn = pytest.importorskip("torch").nn
    one = with_parameters(nn)[kind]
    there = nn.Sequential(nn.ReLU(), one) if nested else one
    modules = nn.Sequential(nn.Linear(4, 5), one, nn.ReLU(), there, nn.Linear(5, 2))
    with pytest.raises(nnx.InputError, match=r"has the parameters of module .*copy\.deepcopy"):
        convert.from_torch(modules, "identity")


def test_from_torch_refuses_tied_parameters():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    ways = {
        "the same Parameter": lambda a, b: setattr(b, "weight", a.weight),
        "the same memory": lambda a, b: setattr(b, "weight", nn.Parameter(a.weight.data)),
        "the same bias": lambda a, b: setattr(b, "bias", a.bias),
    }
    for way in ways.values():
        a, b = nn.Linear(5, 5), nn.Linear(5, 5)
        convert.from_torch(nn.Sequential(a, nn.ReLU(), b), "identity")
        way(a, b)
        with pytest.raises(nnx.InputError, match=r"module 2, .* has the parameters of module 0"):
            convert.from_torch(nn.Sequential(a, nn.ReLU(), b), "identity")
    # Parts of one vector, next to each other, are no shared parameters.
    a, b = nn.Linear(5, 5), nn.Linear(5, 5)
    vector = torch.nn.utils.parameters_to_vector([*a.parameters(), *b.parameters()])
    torch.nn.utils.vector_to_parameters(vector, [*a.parameters(), *b.parameters()])
    convert.from_torch(nn.Sequential(a, nn.ReLU(), b), "identity")


def changed(torch):
    """What makes a Linear compute something else than its class and its parameters say."""
    nn = torch.nn

    class Own(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    class Called(nn.Sequential):
        def __call__(self, x):
            return x + super().__call__(x)

    class Reversed(nn.Sequential):
        def __iter__(self):
            return iter([*super().__iter__()][::-1])

    def sparse():
        module = nn.Linear(4, 2)
        module.weight = nn.Parameter(module.weight.detach().to_sparse())
        return module

    def removed():
        module = nn.Sequential(nn.Linear(4, 4))
        module.add_module("act", None)
        return module

    def hook(module, given, made=None):
        return None if made is None else 2 * made

    def hooked():
        module = nn.Linear(4, 2)
        module.register_forward_hook(hook)
        return module

    def pruned():
        from torch.nn.utils import prune

        return prune.l1_unstructured(nn.Linear(4, 2), "weight", 0.5)

    def instance():
        module = nn.Linear(4, 2)
        module.forward = lambda x: x[:, :2]
        return module

    def around():
        module = nn.Sequential(nn.Linear(4, 2))
        module.register_forward_pre_hook(hook)
        return module

    def reshaped():
        module = nn.Linear(4, 2)
        module.bias = nn.Parameter(torch.ones(1))
        return module

    def inside_itself():
        module = nn.Sequential(nn.Linear(4, 4))
        module.append(module)
        return module

    return {
        "hooks": hooked,
        "remove_parametrizations": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
        "prune.remove": pruned,
        "forward of its own, which may compute anything": instance,
        "forward of its own, which may compute anything; expected a plain": lambda: Own(nn.Linear(4, 4)),
        "module 0, a Sequential, has hooks": around,
        r"parameter of shape \(1,\)": reshaped,
        "contains itself": inside_itself,
        "Called has a __call__ of its own": lambda: Called(nn.Linear(4, 4)),
        "Reversed has a __iter__ of its own": lambda: Reversed(nn.Linear(4, 4), nn.ReLU()),
        "module 0.act is None": removed,
        "layout torch.sparse_coo": sparse,
        "module 0.* negative_slope must be one number": lambda: nn.LeakyReLU(torch.ones(4)),
        "module 0, ELU.* does not fit: .*alpha must be a number >= 0": lambda: nn.ELU(-1.0),
        "dtype torch.complex64": lambda: nn.Linear(4, 2, dtype=torch.complex64),
        "device meta": lambda: nn.Linear(4, 2, device="meta"),
        "LazyLinear.* has no parameters yet": lambda: nn.LazyLinear(2),
        "module 0.* does not fit: .*momentum": lambda: nn.BatchNorm1d(4, momentum=0.0),
    }


@pytest.mark.filterwarnings("ignore:.*Lazy modules are a new feature")
def test_from_torch_refuses_what_computes_something_else():
    torch = pytest.importorskip("torch")
    for says, make in changed(torch).items():
        with pytest.raises(nnx.InputError, match=says):
            convert.from_torch(torch.nn.Sequential(make(), torch.nn.Linear(4, 2)), "identity")


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_from_torch_refuses_hooks_of_all_modules(kind):
    torch = pytest.importorskip("torch")
    hook = getattr(torch.nn.modules.module, f"register_module_{kind}")(lambda *_: None)
    try:
        with pytest.raises(nnx.InputError, match="hooks of all modules"):
            convert.from_torch(torch.nn.Sequential(torch.nn.Linear(4, 2)), "identity")
    finally:
        hook.remove()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("training", [False, True])
def test_from_torch_in_every_dtype_and_mode(rng, dtype, training):
    """The numbers are those of evaluation, whatever mode the modules are in; halves are exact in float32."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    modules = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
    modules = modules.to(getattr(torch, dtype)).train(training)
    network, params = convert.from_torch(modules, "identity")
    X = rng.standard_normal((4, M))
    np.testing.assert_allclose(
        outputs(network, {name: x.astype("float64") for name, x in params.items()}, X),
        of_torch(modules.double().eval(), X),
        atol=1e-12,
    )


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            lambda nn: [nn.Linear(4, 6), nn.ReLU6(), nn.Linear(6, 2)],
            r"module 1, ReLU6\(\), has no counterpart",
        ),
        (
            lambda nn: [nn.Linear(4, 6), nn.Softplus(beta=2), nn.Linear(6, 2)],
            "module 1, Softplus.* no counterpart",
        ),
        (
            lambda nn: [nn.Linear(4, 6), nn.Softplus(threshold=1), nn.Linear(6, 2)],
            "module 1, Softplus.* no counter",
        ),
        (
            lambda nn: [nn.Linear(4, 6), nn.Hardtanh(0, 1), nn.Linear(6, 2)],
            "module 1, Hardtanh.* no counterpart",
        ),
        (lambda nn: [nn.Linear(4, 6), nn.Sequential(nn.Bilinear(6, 6, 6))], "module 1.0, Bilinear"),
        (lambda nn: [nn.Linear(4, 6), nn.Linear(5, 2)], r"module 1, Linear\(.*takes 5 features.*give 6"),
        (lambda nn: [nn.Linear(4, 6), nn.PReLU(5), nn.Linear(6, 2)], "takes 5 features"),
        (lambda nn: [nn.Linear(4, 6), nn.LayerNorm((2, 3)), nn.Linear(6, 2)], "LayerNorm.* no counterpart"),
        (lambda nn: [nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)], "running statistics"),
        (lambda nn: [nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 2)], "running statistics"),
        (lambda nn: [nn.Dropout(1.0), nn.Linear(4, 2)], r"Dropout's rate must be in \[0, 1\)"),
        (lambda nn: [nn.Linear(4, 2), nn.Sigmoid()], "last layer must be a Dense without an activation"),
        (lambda nn: [nn.Linear(4, 2), nn.LogSoftmax(1)], "LogSoftmax.* no counterpart"),
        (lambda nn: [nn.Linear(4, 2), nn.Softmax(0)], "Softmax.* no counterpart"),
        (lambda nn: [nn.Dropout(0.5)], "has no Linear"),
        (lambda nn: [], "has no Linear"),
    ],
)
def test_from_torch_names_what_has_no_counterpart(build, says):
    nn = pytest.importorskip("torch").nn
    with pytest.raises(nnx.InputError, match=says):
        convert.from_torch(nn.Sequential(*build(nn)), "softmax")


def test_from_torch_takes_a_sequential_alone():
    nn = pytest.importorskip("torch").nn
    with pytest.raises(nnx.InputError, match=r"expected a torch\.nn\.Sequential, not Linear"):
        convert.from_torch(nn.Linear(2, 2), "softmax")


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("network", "says"),
    [
        (nnx.Network(4, [Residual([Dense(4, "relu")]), Dense(2)], "softmax"), r"the layer Residual\("),
        (nnx.Network(4, [GaussianNoise(0.1), Dense(2)], "softmax"), "the layer GaussianNoise"),
        (nnx.mlp([4, 2], output="exp"), "no module for the output 'exp'; give link=False"),
        (
            nnx.mlp([4, 3, 2], hidden=nnx.Activation("cube", lambda Z: Z**3, lambda Z: 3 * Z**2, "Z")),
            "no module for the activation 'cube'",
        ),
    ],
)
def test_to_torch_names_what_has_no_counterpart(network, says):
    pytest.importorskip("torch")
    with pytest.raises(nnx.InputError, match=says):
        convert.to_torch(network, network.init())
    if network.output.name == "exp":
        assert len(convert.to_torch(network, network.init(), link=False)) == 1


@pytest.mark.needs("torch")
@pytest.mark.parametrize("function", [convert.to_torch, convert.to_keras, convert.to_sklearn])
def test_parameters_that_do_not_fit(function):
    pytest.importorskip("torch")
    network = nnx.mlp([4, 3, 2])
    params = network.unflatten(network.init())
    with pytest.raises(nnx.InputError, match="parameter 'b2' is missing"):
        function(network, {name: x for name, x in params.items() if name != "b2"})
    with pytest.raises(nnx.InputError, match=r"W1 has shape \(4, 3\).*transpose"):
        function(network, {**params, "W1": params["W1"].T})
    with pytest.raises(nnx.InputError, match="theta has shape"):
        function(network, network.init()[:-1])
    with pytest.raises(nnx.InputError, match="not a stack"):
        function(network, np.stack([network.init()] * 2))
    with pytest.raises(nnx.InputError, match="text"):
        function(network, {**params, "W1": "weights"})


@pytest.mark.parametrize("function", [convert.to_torch, convert.from_torch])
def test_the_examples_with_torch(function):
    pytest.importorskip("torch")
    text = function.__doc__.replace("  # doctest: +SKIP", "")
    example = doctest.DocTestParser().get_doctest(text, {}, function.__name__, None, 0)
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert found.attempted > 2
    assert found.failed == 0


def keras_forward(weights, X):
    """What Keras computes for `a_network` with hidden relu and softmax, typed in its convention: samples as rows."""
    w = iter(weights)
    gamma, beta, moving_mean, moving_variance = (next(w) for _ in range(4))
    h = gamma * (X - moving_mean) / np.sqrt(moving_variance + 1e-4) + beta
    h = np.maximum(h @ next(w) + next(w), 0)
    h = h @ next(w) + next(w)
    mean, variance = h.mean(axis=1, keepdims=True), h.var(axis=1, keepdims=True)
    h = next(w) * (h - mean) / np.sqrt(variance + 1e-3) + next(w)
    h = np.where(h > 0, h, next(w) * h)
    e = np.exp(h @ next(w) + next(w))
    assert next(w, None) is None
    return e / e.sum(axis=1, keepdims=True)


def test_keras_layout(rng):
    network = a_network()
    params, X = perturbed(network), rng.standard_normal((5, M))
    weights = convert.to_keras(network, params)
    shapes = [(5,)] * 4 + [(5, 8), (8,), (8, 6), (6,)] + [(6,)] * 3 + [(6, 3), (3,)]
    assert [x.shape for x in weights] == shapes
    assert all(x.flags.c_contiguous and x.base is None for x in weights)
    np.testing.assert_allclose(keras_forward(weights, X.T).T, outputs(network, params, X), atol=1e-12)
    assert_same(params, convert.from_keras(weights, network))
    assert_same(params, convert.from_keras([x.tolist() for x in weights], network))


def test_keras_residual_in_order():
    network = nnx.Network(
        4, [Residual([Dense(6, "relu"), LayerNorm(), Dense(4)]), Dense(2)], output="softmax"
    )
    params = perturbed(network)
    weights = convert.to_keras(network, network.flatten(params))
    assert [x.shape for x in weights] == [(4, 6), (6,), (6,), (6,), (6, 4), (4,), (4, 2), (2,)]
    assert_same(params, convert.from_keras(weights, network))


def test_keras_dtypes():
    network = nnx.mlp([2, 1])
    for given, kept in {
        "float16": "float32",
        "float32": "float32",
        "float64": "float64",
        "int8": "float32",
    }.items():
        params = convert.from_keras([np.ones((2, 1), given), np.zeros(1, given)], network)
        assert {x.dtype for x in params.values()} == {np.dtype(kept)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda w: w[:-1],
            r"weights has 3 arrays; expected 4 .*kernel \(4, 3\), bias \(3,\).*use_bias=False",
        ),
        (
            lambda w: [w[0].T, *w[1:]],
            r"weights\[0\] has shape \(3, 4\); expected the kernel \(4, 3\) of W1; its tr",
        ),
        (
            lambda w: [w[0], w[1][:, None], *w[2:]],
            r"weights\[1\] has shape \(3, 1\); expected the bias \(3,\) of b1",
        ),
        (lambda w: [w[0], "b", *w[2:]], r"weights\[1\] holds text"),
        (lambda w: np.zeros(4), "weights must be a list"),
        (lambda w: {"W1": w[0]}, "weights must be a list"),
    ],
)
def test_keras_weights_that_do_not_fit(change, says):
    network = nnx.mlp([4, 3, 2])
    with pytest.raises(nnx.InputError, match=says):
        convert.from_keras(change(convert.to_keras(network, network.init())), network)


def test_keras_knows_no_layer_of_ones_own():
    class Scale(layers.Layer):
        def shapes(self, n_prev):
            return {"gamma": (n_prev, 1)}

    network = nnx.Network(3, [Scale(), Dense(2)], output="softmax")
    with pytest.raises(nnx.InputError, match="Keras has no counterpart of the layer"):
        convert.to_keras(network, network.init())
    with pytest.raises(nnx.InputError, match="Keras has no counterpart of the layer"):
        convert.from_keras([], network)


def fitted(kind, X, y, **arguments):
    sklearn = pytest.importorskip("sklearn.neural_network")
    return getattr(sklearn, kind)(
        hidden_layer_sizes=(6, 4), max_iter=2000, random_state=0, tol=1e-3, **arguments
    ).fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("classes", [2, 3])
def test_sklearn_classifier(rng, activation, classes):
    X = rng.standard_normal((60, 3))
    estimator = fitted("MLPClassifier", X, rng.integers(classes, size=60), activation=activation)
    network, params = convert.from_sklearn(estimator)
    A = outputs(network, params, X.T)
    expected = estimator.predict_proba(X).T
    np.testing.assert_allclose(A, expected[1:] if classes == 2 else expected, atol=1e-12)

    coefs, intercepts = convert.to_sklearn(network, params)
    for given, back in zip(estimator.coefs_ + estimator.intercepts_, coefs + intercepts, strict=True):
        np.testing.assert_array_equal(back, given)
    hidden, output = estimator.activation, estimator.out_activation_
    again, same = convert.from_sklearn((coefs, intercepts), hidden=hidden, output=output)
    assert repr(again) == repr(network)
    assert_same(params, same)
    estimator.coefs_, estimator.intercepts_ = coefs, intercepts
    np.testing.assert_array_equal(estimator.predict_proba(X).T, expected)


def test_sklearn_many_labels_and_numbers(rng):
    X = rng.standard_normal((60, 3)).astype("float32")
    estimator = fitted("MLPClassifier", X, rng.integers(2, size=(60, 4)))
    network, params = convert.from_sklearn(estimator)
    assert network.output.name == "sigmoid"
    assert {x.dtype for x in params.values()} == {np.dtype("float32")}
    np.testing.assert_allclose(outputs(network, params, X.T), estimator.predict_proba(X).T, atol=1e-6)

    X = X.astype("float64")
    estimator = fitted("MLPRegressor", X, rng.standard_normal((60, 2)))
    network, params = convert.from_sklearn(estimator)
    np.testing.assert_allclose(outputs(network, params, X.T), estimator.predict(X).T, atol=1e-12)


def test_sklearn_poisson(rng):
    X = rng.standard_normal((60, 3))
    try:
        estimator = fitted("MLPRegressor", X, rng.poisson(2.0, size=60), loss="poisson")
    except TypeError:
        pytest.skip("this scikit-learn has no Poisson loss")
    network, params = convert.from_sklearn(estimator)
    assert network.output.name == "exp"
    np.testing.assert_allclose(outputs(network, params, X.T)[0], estimator.predict(X), rtol=1e-12)


ONES = {n: np.ones(n) for n in (2, 3, 4)} | {(n, k): np.ones((n, k)) for n in (2, 3, 4) for k in (2, 3)}
SAID = {"hidden": "relu", "output": "softmax"}


@pytest.mark.parametrize(
    ("given", "arguments", "says"),
    [
        (([ONES[4, 2]], [ONES[2]]), {}, "give hidden and output"),
        (([ONES[4, 2]],), SAID, "give hidden and output"),
        (([ONES[4, 2]], []), SAID, "1 coefs and 0 intercepts"),
        (([], []), SAID, "0 coefs"),
        (
            ([ONES[4, 3], ONES[2, 3]], [ONES[3], ONES[3]]),
            SAID,
            r"coefs\[1\] has shape \(2, 3\).*expected \(3, units\)",
        ),
        (([ONES[4, 3]], [ONES[4]]), SAID, r"intercepts\[0\] \(4,\)"),
        (([ONES[4]], [ONES[4]]), SAID, r"coefs\[0\] has shape \(4,\)"),
        (([ONES[4, 3], ONES[3, 2]], [ONES[3], ONES[2]]), {**SAID, "hidden": "rleu"}, "did you mean 'relu'"),
        (([ONES[4, 2]], [ONES[2]]), {**SAID, "output": "sofmax"}, "did you mean 'softmax'"),
        (object(), {}, "expected a fitted"),
    ],
)
def test_sklearn_what_does_not_fit(given, arguments, says):
    with pytest.raises(nnx.InputError, match=says):
        convert.from_sklearn(given, **arguments)


def test_sklearn_estimator_says_itself(rng):
    X = rng.standard_normal((20, 3))
    estimator = fitted("MLPClassifier", X, np.arange(20) % 2)
    with pytest.raises(nnx.InputError, match="leave them out"):
        convert.from_sklearn(estimator, output="sigmoid")
    with pytest.raises(nnx.InputError, match="expected a fitted MLPClassifier"):
        convert.from_sklearn(type(estimator)())
    estimator.activation = "gelu"
    with pytest.raises(nnx.InputError, match="unknown activation of scikit-learn 'gelu'"):
        convert.from_sklearn(estimator)
    estimator.activation, estimator.coefs_ = "relu", None
    with pytest.raises(nnx.InputError, match="coefs_ must be a list of arrays"):
        convert.from_sklearn(estimator)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_sklearn_refuses_what_coefs_do_not_hold(rng, normalization):
    """The parameters of a norm are not among coefs_ and intercepts_, whatever was set since."""
    estimators = pytest.importorskip("nnx.sklearn")
    X = rng.standard_normal((20, 3))
    estimator = estimators.MLPRegressor(hidden_layer_sizes=4, normalization=normalization, backend="numpy")
    estimator.partial_fit(X, X[:, 0])
    for setting in (normalization, None):
        with pytest.raises(nnx.InputError, match="fitted with normalization"):
            convert.from_sklearn(estimator.set_params(normalization=setting))


@pytest.mark.parametrize(
    ("stack", "says"),
    [
        ([LayerNorm(), Dense(2)], "no counterpart of the layer LayerNorm"),
        ([Residual([Dense(3)]), Dense(2)], "no counterpart of the layer Residual"),
        ([Dense(4, "gelu"), Dense(2)], "one activation .* given gelu"),
        ([Dense(4, "relu"), Dense(4, "tanh"), Dense(2)], "one activation .* given relu, tanh"),
    ],
)
def test_to_sklearn_what_it_cannot_compute(stack, says):
    network = nnx.Network(3, stack, output="softmax")
    with pytest.raises(nnx.InputError, match=says):
        convert.to_sklearn(network, network.init())


def test_to_sklearn_leaves_dropout_out():
    network = nnx.Network(3, [Dense(4, "relu"), Dropout(0.5), Dense(2)], output="softmax")
    coefs, intercepts = convert.to_sklearn(network, network.init())
    assert [x.shape for x in coefs + intercepts] == [(3, 4), (4, 2), (4,), (2,)]


def test_activations_that_stand_by_themselves():
    """PyTorch's usual order, Linear, BatchNorm1d, ReLU, and activations in other places: there and back."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    theirs = nn.Sequential(
        nn.Tanh(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.ELU(0.5), nn.Linear(6, 2)
    ).double()
    rows = torch.randn(30, 4, dtype=torch.float64)
    theirs(rows)  # running statistics
    theirs.eval()
    network, params = nnx.convert.from_torch(theirs, "softmax")
    assert [type(layer).__name__ for layer in network.layers] == [
        "Activate", "Dense", "BatchNorm", "Activate", "Activate", "Dense",
    ]  # fmt: skip
    A = network.forward(network.flatten(params), rows.numpy().T)
    expected = torch.softmax(theirs(rows), dim=1).detach().numpy().T
    np.testing.assert_allclose(A, expected, rtol=0, atol=1e-12)
    again = nnx.convert.to_torch(network, params)
    np.testing.assert_allclose(again(rows).detach().numpy().T, A, rtol=0, atol=1e-12)
