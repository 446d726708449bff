"""Forward and backward propagation, on every backend."""

import numpy as np
import pytest
from conftest import some_targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnx
from nnx.model.outputs import OUTPUTS

ACTIVATIONS = [
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu(0.1)",
    "identity",
    "silu",
    "gelu",
]  # of every kind of keep
# One backend serves all examples of a test: it holds no state.
drawn = settings(
    max_examples=4,  # JAX compiles for each; NumPy alone gets more below
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
sizes = st.lists(st.integers(1, 5), min_size=2, max_size=4)  # n[0], ..., n[L]; L = 1..3
leads = st.sampled_from([(), (1,), (3,), (2, 3)])


def for_output(n, output):
    """The sizes, of a softmax with two outputs at least: one alone is always 1, and refused."""
    return [*n[:-1], max(2, n[-1])] if output == "softmax" else n


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def central_differences(backend, net, theta, X, Y, h=1e-6):
    """(J(theta + h e) - J(theta - h e)) / 2h for every unit vector e: one stack of 2 P networks."""
    steps = h * np.concatenate([np.eye(net.P), -np.eye(net.P)])
    stack = theta[..., None, :] + steps
    X, Y = (a[..., None, :, :] if a.ndim > 2 else a for a in (X, Y))
    arrays = (backend.asarray(a, "float64") for a in (stack, X, Y))
    J = backend.to_numpy(backend.compile(net.loss_and_gradient)(*arrays)[0])
    return (J[..., : net.P] - J[..., net.P :]) / (2 * h)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
@drawn
@given(n=sizes, m=st.integers(1, 6), lead=leads, shared=st.booleans(), seed=st.integers(0, 999))
def test_gradient_is_that_of_central_differences(backend, hidden, output, n, m, lead, shared, seed):
    check_gradient(backend, hidden, output, n, m, lead, shared, seed)


@pytest.mark.long
@pytest.mark.parametrize("output", OUTPUTS)
@settings(drawn, max_examples=200)
@given(
    hidden=st.sampled_from(ACTIVATIONS),
    n=sizes,
    m=st.integers(1, 6),
    lead=leads,
    shared=st.booleans(),
    seed=st.integers(0, 999),
)
def test_gradient_on_numpy_in_many_sizes(hidden, output, n, m, lead, shared, seed):
    check_gradient(nnx.backend("numpy"), hidden, output, n, m, lead, shared, seed)


def check_gradient(backend, hidden, output, n, m, lead, shared, seed):
    n = for_output(n, output)
    net = nnx.mlp(n, hidden, output)
    # Differences of J lose digits where J is large, as e^z soon is: smaller weights there.
    theta = (0.3 if output == "exp" else 0.7) * normal(seed, *lead, net.P)
    X = normal(seed + 1, *(() if shared else lead), n[0], m)
    Y = some_targets(np.random.default_rng(seed), output, n[-1], m, () if shared else lead)
    arrays = (backend.asarray(a, "float64") for a in (theta, X, Y))
    J, dtheta = backend.compile(net.loss_and_gradient)(*arrays)
    assert tuple(J.shape) == lead
    found, expected = backend.to_numpy(dtheta), central_differences(backend, net, theta, X, Y)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("output", OUTPUTS)
@drawn
@given(n=sizes, m=st.integers(1, 6), K=st.integers(1, 4), seed=st.integers(0, 999))
def test_a_stack_gives_what_single_calls_give(backend, output, n, m, K, seed):
    n = for_output(n, output)
    net = nnx.mlp(n, "tanh", output)
    X = normal(seed, K, n[0], m)
    Y = some_targets(np.random.default_rng(seed), output, n[-1], m, (K,))
    theta = normal(seed + 1, K, net.P)
    arrays = [backend.asarray(a, "float64") for a in (theta, X, Y)]
    loss_and_gradient, forward = backend.compile(net.loss_and_gradient), backend.compile(net.forward)
    J, dtheta = (backend.to_numpy(a) for a in loss_and_gradient(*arrays))
    A = backend.to_numpy(forward(*arrays[:2]))
    for k in range(K):
        one = [backend.asarray(a[k], "float64") for a in (theta, X, Y)]
        Jk, dthetak = (backend.to_numpy(a) for a in loss_and_gradient(*one))
        np.testing.assert_allclose(J[k], Jk, rtol=1e-13)
        np.testing.assert_allclose(dtheta[k], dthetak, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(A[k], backend.to_numpy(forward(*one[:2])), rtol=1e-13)


def test_the_notes_two_layer_network(backend, rng):
    """The notes' formulas, typed: tanh, sigmoid, binary cross-entropy, 1/m in dW and db."""
    n0, n1, m = 3, 4, 10
    X, Y = rng.standard_normal((n0, m)), (rng.random((1, m)) > 0.5) * 1.0
    W1, b1 = rng.standard_normal((n1, n0)), rng.standard_normal((n1, 1))
    W2, b2 = rng.standard_normal((1, n1)), rng.standard_normal((1, 1))

    A1 = np.tanh(W1 @ X + b1)
    A2 = 1 / (1 + np.exp(-(W2 @ A1 + b2)))
    J = -np.mean(Y * np.log(A2) + (1 - Y) * np.log(1 - A2))
    dZ2 = A2 - Y
    dW2, db2 = dZ2 @ A1.T / m, dZ2.sum(axis=1, keepdims=True) / m
    dZ1 = (W2.T @ dZ2) * (1 - A1**2)
    dW1, db1 = dZ1 @ X.T / m, dZ1.sum(axis=1, keepdims=True) / m

    net = nnx.mlp([n0, n1, 1], "tanh", "sigmoid")
    theta = net.flatten({"W1": W1, "b1": b1, "W2": W2, "b2": b2})
    arrays = [backend.asarray(a, "float64") for a in (theta, X, Y)]
    found_J, dtheta = net.loss_and_gradient(*arrays)
    np.testing.assert_allclose(backend.to_numpy(net.forward(*arrays[:2])), A2, rtol=1e-13)
    np.testing.assert_allclose(backend.to_numpy(found_J), J, rtol=1e-13)
    found = net.unflatten(backend.to_numpy(dtheta))
    for name, expected in {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-12, atol=1e-15)


def test_an_activation_is_added_in_one_place(backend, rng):
    """A function and its derivative, here of Z: nothing else is touched."""

    def softplus(Z):
        xp = nnx.array_namespace(Z)
        return xp.log1p(xp.exp(-xp.abs(Z))) + xp.maximum(Z, xp.zeros_like(Z))

    def softplus_derivative(Z):
        return 1 / (1 + nnx.array_namespace(Z).exp(-Z))

    own = nnx.Activation("own_softplus", softplus, softplus_derivative, keep="Z")
    net = nnx.Network(3, [nnx.Dense(4, own), nnx.Dense(2, own), nnx.Dense(2)], output="softmax")
    theta, X = rng.standard_normal(net.P), rng.standard_normal((3, 5))
    Y = some_targets(rng, "softmax", 2, 5)
    dtheta = net.loss_and_gradient(*(backend.asarray(a, "float64") for a in (theta, X, Y)))[1]
    expected = central_differences(backend, net, theta, X, Y)
    np.testing.assert_allclose(backend.to_numpy(dtheta), expected, rtol=1e-6, atol=1e-7)
    trained = nnx.Trainer(net, backend=backend)
    first = trained.evaluate(X, Y)["loss"]
    trained.fit(X, Y, epochs=20)
    assert trained.evaluate(X, Y)["loss"] < first


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("z", [-1e4, -1000.0, -90.0, 0.0, 90.0, 1000.0, 1e4])
def test_losses_are_finite_and_right_at_large_Z(backend, output, z, dtype):
    """One Dense layer of weight z on x = 1 has Z = z; no overflow warning is tolerated (pytest.ini: error)."""
    net = nnx.mlp([1, 2], output=output)
    theta = backend.asarray(net.flatten({"W1": np.array([[z], [-z]]), "b1": np.zeros((2, 1))}), dtype)
    X = backend.asarray(np.ones((1, 1)), dtype)
    for Y in ([[0.0], [1.0]], [[1.0], [0.0]]):
        Y = backend.asarray(np.array(Y), dtype)
        J, dtheta = net.loss_and_gradient(theta, X, Y)
        A = backend.to_numpy(net.forward(theta, X))
        assert np.isfinite(float(J))
        assert np.isfinite(backend.to_numpy(dtheta)).all()
        assert np.isfinite(A).all()
        np.testing.assert_allclose(
            net.unflatten(backend.to_numpy(dtheta))["b1"], A - backend.to_numpy(Y), rtol=1e-6
        )
        if output in ("sigmoid", "softmax") and abs(z) >= 1000:
            wrong = float(Y[0, 0]) != (z > 0)
            per_unit = 2 if output == "sigmoid" else 1
            distance = abs(z) if output == "sigmoid" else 2 * abs(z)
            assert float(J) == pytest.approx(per_unit * distance if wrong else 0.0, rel=1e-6)


def test_losses_by_their_definitions(rng):
    """The losses at moderate Z, from A, as the definitions have them; Poisson beyond its ceiling by its tangent."""
    Z, P = rng.standard_normal((3, 8)), rng.random((3, 8))
    one = P / P.sum(axis=0)
    k = rng.integers(0, 4, (3, 8)).astype(float)
    outputs = nnx.OUTPUTS
    a = 1 / (1 + np.exp(-Z))
    expected = -(P * np.log(a) + (1 - P) * np.log(1 - a)).sum(axis=0)
    np.testing.assert_allclose(outputs["sigmoid"].loss(Z, P), expected, rtol=1e-12)
    a = np.exp(Z) / np.exp(Z).sum(axis=0)
    np.testing.assert_allclose(outputs["softmax"].loss(Z, one), -(one * np.log(a)).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(outputs["identity"].loss(Z, P), ((Z - P) ** 2).sum(axis=0) / 2, rtol=1e-12)
    a = np.exp(Z)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviance = np.where(k > 0, k * np.log(k / a), 0) - (k - a)
    np.testing.assert_allclose(outputs["exp"].loss(Z, k), deviance.sum(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(outputs["exp"].loss(np.log(k + 1), k + 1), 0, atol=1e-12)
    c = np.log(np.finfo("float64").max) / 4
    at, beyond = (outputs["exp"].loss(np.array([[z]]), np.zeros((1, 1)))[0] for z in (c, c + 10))
    assert beyond == pytest.approx(at + 10 * np.exp(c), rel=1e-12)


def test_counts_are_learned_from_far_off(backend):
    """Adam squares the derivative of e^z, which must stay finite in float32."""
    trainer = nnx.Trainer(nnx.mlp([1, 1], output="exp"), nnx.Adam(1.0), backend=backend)
    trainer.parameters = {"W1": [[60.0]], "b1": [[0.0]]}
    before = trainer.evaluate([[1.0, 2.0]], [1, 2])["loss"]
    trainer.fit([[1.0, 2.0]], [1, 2], epochs=20)
    assert trainer.evaluate([[1.0, 2.0]], [1, 2])["loss"] < before / 2


def test_labels_of_small_integer_types(backend, rng):
    net = nnx.mlp([2, 300], output="softmax")
    theta, X = rng.standard_normal(net.P), rng.standard_normal((2, 4))
    labels = np.array([5, 120, 7, 0])
    costs = [
        float(
            net.loss_and_gradient(*(backend.asarray(a, "float64") for a in (theta, X)), backend.asarray(Y))[0]
        )
        for Y in (labels, labels.astype("uint8"), labels.astype("int8"))
    ]
    assert costs[0] == costs[1] == costs[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_does_not_overflow(backend, dtype):
    Z = backend.asarray(np.array([[-1e30, -1000, -1, 0, 1, 1000, 1e30]]), dtype)
    sigmoid = nnx.ACTIVATIONS["sigmoid"]
    A = backend.to_numpy(sigmoid.g(Z))
    np.testing.assert_allclose(A[0, [0, 1, 3, 5, 6]], [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(A[0, [2, 4]], [0.2689414213699951, 0.7310585786300049], rtol=1e-6)
    assert np.isfinite(backend.to_numpy(sigmoid.dg(sigmoid.g(Z)))).all()


def test_sigmoid_is_exact_in_its_tail():
    """e^z, where 1/(1 + e^-z) by way of tanh would give 0."""
    assert nnx.ACTIVATIONS["sigmoid"].g(np.array([-40.0]))[0] == pytest.approx(np.exp(-40), rel=1e-14)


def test_derivative_of_relu_at_zero_is_zero(backend):
    zero = backend.asarray(np.zeros(()), "float64")
    assert float(nnx.ACTIVATIONS["relu"].dg(zero)) == 0
    assert float(nnx.leaky_relu(0.25).dg(zero)) == 0.25


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_class_indices_mean_the_columns_of_the_identity(backend, output, rng):
    net = nnx.mlp([3, 4], output=output)
    labels = np.array([0, 3, 1, 1, 2])
    theta, X = (
        backend.asarray(a, "float64") for a in (rng.standard_normal(net.P), rng.standard_normal((3, 5)))
    )
    expected = net.loss_and_gradient(theta, X, backend.asarray(np.eye(4)[:, labels], "float64"))
    for Y in (labels, labels[None, :], labels.astype("uint8")):
        found = net.loss_and_gradient(theta, X, backend.asarray(Y))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


def test_a_stack_may_have_class_indices_of_its_own(backend, rng):
    net = nnx.mlp([3, 4], output="softmax")
    labels = np.array([[[0, 1, 2]], [[3, 3, 0]]])  # (K, 1, m)
    theta, X = rng.standard_normal((2, net.P)), rng.standard_normal((3, 3))
    J = net.loss_and_gradient(
        backend.asarray(theta, "float64"), backend.asarray(X, "float64"), backend.asarray(labels)
    )[0]
    for k in range(2):
        one = net.loss_and_gradient(theta[k], X, labels[k, 0])[0]
        assert float(J[k]) == pytest.approx(float(one), rel=1e-13)


def test_flatten_and_unflatten_are_inverse(backend, rng):
    net = nnx.mlp([3, 4, 2])
    theta = backend.asarray(rng.standard_normal((2, net.P)), "float64")
    params = net.unflatten(theta)
    assert {name: tuple(p.shape[1:]) for name, p in params.items()} == net.shapes
    assert net.shapes == {"W1": (4, 3), "b1": (4, 1), "W2": (2, 4), "b2": (2, 1)}
    np.testing.assert_array_equal(backend.to_numpy(net.flatten(params)), backend.to_numpy(theta))


def test_unflatten_gives_views():
    net = nnx.mlp([3, 4, 2])
    theta = net.init()
    net.unflatten(theta)["W2"][1, 3] = 42
    assert 42 in theta


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        ("zeros", 0),
        ("normal", 0.01),
        ("inverse_sqrt", 400**-0.5),
        ("he", (2 / 400) ** 0.5),
        ("glorot", (2 / (400 + 300)) ** 0.5),
        ("lecun", 400**-0.5),
    ],
)
def test_initializers_have_their_deviation(scheme, std):
    net = nnx.mlp([400, 300], output="identity")
    params = net.unflatten(net.init(seed=1, scheme=scheme, dtype="float64"))
    assert params["W1"].std() == pytest.approx(std, rel=0.01)
    assert abs(params["W1"].mean()) < 0.01 * std + 1e-12
    assert not params["b1"].any()
    again = net.init(seed=1, scheme=scheme, dtype="float64")
    np.testing.assert_array_equal(net.flatten(params), again)
    assert scheme == "zeros" or (net.init(seed=2, scheme=scheme, dtype="float64") != again).any()


def test_the_initializer_suits_the_activation():
    def std(hidden, **options):
        net = nnx.mlp([400, 300, 1], hidden, **options)
        return net.unflatten(net.init(dtype="float64"))["W1"].std()

    assert std("relu") == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert std("tanh") == pytest.approx((2 / 700) ** 0.5, rel=0.02)
    assert std("tanh", init="normal") == pytest.approx(0.01, rel=0.02)


def test_first_weights_are_the_same_on_every_backend(backend):
    net = nnx.mlp([5, 4, 1])
    trainer = nnx.Trainer(net, backend=backend, seed=7)
    np.testing.assert_array_equal(net.flatten(trainer.parameters), net.init(seed=7))
