"""The activations and the error function: exact, finite, and those of PyTorch."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unreadable_arrays import Guarded, unwrap, wrap

import nnx
from nnx.array.special import erf, erfc
from nnx.model.activations import activation
from nnx.model.activations.functions import elu, leaky_relu

NAMES = [*nnx.ACTIVATIONS, "leaky_relu(0.2)", "elu(0.5)", "elu(0)"]
LARGE = [40.0, 90.0, 800.0, 1e4, 1e30]
SMALL = [1e-37, 1e-30, 1e-29]  # not subnormal in float32: JAX takes such numbers for 0
EXTREME = np.array([0.0, *SMALL, *LARGE, *(-z for z in SMALL + LARGE)])


def derivative(g, Z):
    """g'(Z) from what g keeps."""
    A = g.g(Z)
    return g.dg(*{"": (A,), "A": (A,), "Z": (Z,), "ZA": (Z, A)}[g.keep])


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_that_of_central_differences(backend, name):
    g, h = activation(name), 1e-5
    Z = np.linspace(-30, 30, 600).reshape(2, 3, 100)  # 0.025 is the nearest to a kink
    below, at, above = (backend.asarray(z, "float64") for z in (Z - h, Z, Z + h))
    expected = backend.to_numpy((g.g(above) - g.g(below)) / (2 * h))
    np.testing.assert_allclose(backend.to_numpy(derivative(g, at)), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_every_backend_and_dtype_is_right_at_any_z(backend, name, dtype):
    """No warning is tolerated (pyproject: error); NumPy in float64 is held against PyTorch below."""
    g = activation(name)
    largest = float(np.finfo(dtype).max) / (
        1.06 if name == "selu" else 1
    )  # selu(z) is 1.05 z, which must be finite
    Z = np.concatenate([EXTREME, [largest, -largest], np.linspace(-20, 20, 800)]).astype(dtype)
    tolerance = 1e-14 if dtype == "float64" else 2e-6
    for f in (g.g, lambda z: derivative(g, z)):
        found = backend.to_numpy(f(backend.asarray(Z, dtype)))
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, f(Z.astype("float64")), rtol=tolerance, atol=tolerance)


def exact(name, z):
    """g(z) and g'(z) of a float, computed with 40 digits and exponents without end."""
    name, _, parameter = name.rstrip(")").partition("(")
    a = Decimal(parameter or {"leaky_relu": "0.01"}.get(name, "1"))
    z = Decimal(z)
    positive, e = z > 0, (-abs(z)).exp()
    sigmoid = 1 / (1 + e) if z >= 0 else e / (1 + e)

    def tanh(x):
        e = (-2 * abs(x)).exp()
        return ((1 - e) / (1 + e)).copy_sign(x)

    def gate(v, dv):  # z sigmoid(v)
        e = (-abs(v)).exp()
        s = 1 / (1 + e) if v >= 0 else e / (1 + e)
        return z * s, s + z * dv * e / (1 + e) ** 2

    if name == "gelu":
        Phi = Decimal(math.erfc(-float(z) / math.sqrt(2)) / 2)
        return z * Phi, Phi + z * (-z * z / 2).exp() / Decimal(2 * math.pi).sqrt()
    if name == "gelu_tanh":
        c = Decimal(8 / math.pi).sqrt()
        return gate(c * (z + Decimal("0.044715") * z**3), c * (1 + 3 * Decimal("0.044715") * z * z))
    if name == "mish":
        softplus = max(z, Decimal(0)) + (1 + e).ln()
        t = tanh(softplus)
        return z * t, t + z * (1 - t * t) * sigmoid
    if name == "selu":
        scale, alpha = Decimal("1.0507009873554804934"), Decimal("1.6732632423543772848")
        return (scale * z, scale) if positive else (scale * alpha * (z.exp() - 1), scale * alpha * z.exp())
    return {
        "sigmoid": lambda: (sigmoid, e / (1 + e) ** 2),
        "tanh": lambda: (tanh(z), 1 - tanh(z) ** 2),
        "relu": lambda: (max(z, Decimal(0)), Decimal(positive)),
        "leaky_relu": lambda: (z, Decimal(1)) if positive else (a * z, a),
        "identity": lambda: (z, Decimal(1)),
        "elu": lambda: (z, Decimal(1)) if positive else (a * (z.exp() - 1), a * z.exp()),
        "gelu_sigmoid": lambda: gate(Decimal("1.702") * z, Decimal("1.702")),
        "silu": lambda: gate(z, Decimal(1)),
        "softplus": lambda: (max(z, Decimal(0)) + (1 + e).ln(), sigmoid),
        "softsign": lambda: (z / (1 + abs(z)), 1 / (1 + abs(z)) ** 2),
        "hard_tanh": lambda: (max(min(z, Decimal(1)), Decimal(-1)), Decimal(abs(z) < 1)),
    }[name]()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_right_at_the_ends_of_a_dtype_and_between(name, dtype):
    info, g = np.finfo(dtype), activation(name)
    ends = [0, info.smallest_subnormal, info.tiny, 1 / info.max, math.sqrt(info.max), info.max / 2, info.max]
    steps = [*np.geomspace(float(info.tiny), float(info.max) / 3, 40), *np.geomspace(0.01, 200, 30)]
    positive = np.array([*map(float, ends), *steps]).astype(dtype)
    Z = np.concatenate([positive, -positive])
    with localcontext() as context:
        context.prec = 40
        expected = np.array([[float(x) for x in exact(name, float(z))] for z in Z]).T
    with np.errstate(over="ignore"):  # of selu, whose value there no number has
        A, dA = g.g(Z), derivative(g, Z)
        expected = expected.astype(dtype)
    assert name == "selu" or np.isfinite(A).all()
    assert np.isfinite(dA).all()
    tolerance = 1e-14 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(A, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dA, expected[1], rtol=tolerance, atol=tolerance)


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("sigmoid", "sigmoid", {}),
        ("tanh", "tanh", {}),
        ("relu", "relu", {}),
        ("leaky_relu", "leaky_relu", {}),
        ("leaky_relu(0.2)", "leaky_relu", {"negative_slope": 0.2}),
        ("elu", "elu", {}),
        ("elu(0.5)", "elu", {"alpha": 0.5}),
        ("selu", "selu", {}),
        ("gelu", "gelu", {}),
        ("gelu_tanh", "gelu", {"approximate": "tanh"}),
        ("silu", "silu", {}),
        ("softplus", "softplus", {"threshold": 100}),  # beyond PyTorch's own 20 its value is z, 2e-9 off
        ("softsign", "softsign", {}),
        ("mish", "mish", {}),
        ("hard_tanh", "hardtanh", {}),
    ],
)
def test_pytorch_has_the_same(name, function, options):
    """Also where g' is not defined: at 0, and at ±1."""
    torch = pytest.importorskip("torch")
    large = np.array([25, 37, 100, 700, 1e4])
    Z = np.concatenate([np.linspace(-20, 20, 1001), [-1, 0, 1], large, -large])
    z = torch.tensor(Z, requires_grad=True)
    expected = getattr(torch.nn.functional, function)(z, **options)
    expected.sum().backward()
    g = activation(name)
    np.testing.assert_allclose(g.g(Z), expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(derivative(g, Z), z.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_tails_have_their_own_digits():
    """Where 1 + erf(z), 1 + tanh(z) or 1 - sigmoid(z) would leave none."""
    special = pytest.importorskip("scipy.special")
    Z = np.linspace(-37, -5, 200)
    E, S = np.exp(Z), special.expit(Z)
    phi = E ** (-0.5 * Z) / np.sqrt(2 * np.pi)
    U, dU = (np.sqrt(8 / np.pi) * x for x in (Z + 0.044715 * Z**3, 1 + 3 * 0.044715 * Z**2))
    T, G = special.expit(U), special.expit(1.702 * Z)
    # Misra's own formula for g': e^z omega/delta^2
    omega, delta = 4 * (Z + 1) + 4 * E**2 + E**3 + E * (4 * Z + 6), 2 * E + E**2 + 2
    tails = {
        "sigmoid": (S, S * special.expit(-Z)),
        "softplus": (np.log1p(E), S),
        "silu": (Z * S, S + Z * S * special.expit(-Z)),
        "mish": (Z * np.tanh(np.log1p(E)), E * omega / delta**2),
        "gelu": (Z * special.ndtr(Z), special.ndtr(Z) + Z * phi),
        "gelu_sigmoid": (Z * G, G + 1.702 * Z * G * special.expit(-1.702 * Z)),
        "gelu_tanh": (Z * T, T + Z * dU * T * special.expit(-U)),
    }
    for name, expected in tails.items():
        g = activation(name)
        for found, exact in zip((g.g(Z), derivative(g, Z)), expected, strict=True):
            np.testing.assert_allclose(found, exact, rtol=2e-12, atol=1e-300, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_no_host_read(backend, name):
    Z = wrap(backend.asarray(EXTREME, "float32"), backend.xp)
    for found in (activation(name).g(Z), derivative(activation(name), Z)):
        assert isinstance(found, Guarded)
        assert np.isfinite(backend.to_numpy(unwrap(found))).all()


def test_conventions_where_the_derivative_is_not_defined(backend):
    def at(name, z):
        return float(derivative(activation(name), backend.asarray(np.array(z), "float64")))

    assert at("elu(0.5)", 0.0) == 0.5
    assert at("selu", 0.0) == pytest.approx(1.0507009873554805 * 1.6732632423543772, rel=1e-15)
    assert at("hard_tanh", 1.0) == at("hard_tanh", -1.0) == 0
    assert at("gelu", 0.0) == at("silu", 0.0) == at("gelu_tanh", 0.0) == 0.5  # defined, but a/z is not


def test_selu_keeps_mean_and_variance():
    """Its two constants are those for which z ~ N(0, 1) gives a of mean 0 and variance 1."""
    z = np.linspace(-12, 12, 240_001)
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    a = nnx.ACTIVATIONS["selu"].g(z)
    assert np.sum(density * a) == pytest.approx(0, abs=1e-8)
    assert np.sum(density * a * a) == pytest.approx(1, abs=1e-8)
    assert nnx.ACTIVATIONS["selu"].init == "lecun"


@pytest.mark.parametrize(("name", "within"), [("gelu_tanh", 5e-4), ("gelu_sigmoid", 0.021)])
def test_approximations_are_near_gelu(name, within):
    z = np.linspace(-10, 10, 10_001)
    assert np.abs(nnx.ACTIVATIONS["gelu"].g(z) - nnx.ACTIVATIONS[name].g(z)).max() < within


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("elu", "elu"),
        ("elu(1)", "elu"),
        ("elu(0.5)", "elu(0.5)"),
        ("elu(2e0)", "elu(2.0)"),
        ("leaky_relu(0.01)", "leaky_relu"),
        ("hard_tanh", "hard_tanh"),
        ("gelu_tanh", "gelu_tanh"),
    ],
)
def test_names(spec, name):
    assert activation(spec).name == name
    assert activation(name) is activation(spec)
    assert nnx.Dense(3, spec).describe()["activation"] == name


@pytest.mark.parametrize("make", [elu, leaky_relu])
def test_one_parameter_gives_one_activation(make):
    """However it is passed: as nnx's own it is known by identity."""
    default = make.__defaults__[0]
    for own in (make(), make(default), make(alpha=default), make(np.float64(default))):
        assert nnx.Dense(3, own).g is make()
    assert make(alpha=0.25) is make(0.25) is activation(f"{make.__name__}(0.25)")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("elu(-1)", "activation 'elu.-1.': elu's alpha must be a number >= 0, not -1"),
        ("elu(1e999)", "elu's alpha must be a number >= 0, not inf"),
        ("elu(.)", "activation 'elu...': elu's alpha must be a number >= 0"),
        ("selu(2)", "activation 'selu' takes no parameter"),
        ("gelutanh", "did you mean 'gelu_tanh'"),
    ],
)
def test_names_that_cannot_be(spec, message):
    with pytest.raises(nnx.InputError, match=message):
        activation(spec)


@pytest.mark.parametrize("alpha", [-0.5, float("nan"), float("inf"), "1", None, [1]])
def test_parameters_that_cannot_be(alpha):
    for make in (elu, leaky_relu):
        with pytest.raises(nnx.InputError, match=f"{make.__name__}'s alpha must be"):
            make(alpha)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("f", "exact"), [(erf, math.erf), (erfc, math.erfc)])
def test_erf_and_erfc(backend, f, exact, dtype):
    ends = [0.0, 0.5, 4.0, 20.0, 30.0, 1e4, float(np.finfo(dtype).max), np.inf]
    x = np.concatenate([np.linspace(-9, 9, 10_001), 10.0 ** np.arange(-30, 0), ends]).astype(dtype)
    x = np.concatenate([x, -x])
    expected = np.vectorize(exact)(x.astype("float64"))
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    for run in (f, backend.compile(f)):
        found = backend.to_numpy(run(backend.asarray(x, dtype)))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=8 * eps, atol=tiny)


@pytest.mark.parametrize("library", ["math", "scipy.special"])
def test_erf_is_exact_to_about_an_ulp(library):
    x = np.linspace(1e-3, 6, 60_001)
    expected = np.vectorize(pytest.importorskip(library).erf)(x)
    off = np.abs(erf(x) - expected) / np.spacing(expected)
    assert off.mean() < 0.5
    assert off.max() <= 5  # 3 its own, 2 SciPy's


@given(st.floats(allow_nan=False))
def test_erf_is_odd_and_erfc_its_complement(x):
    x = np.array(x)
    assert erf(-x) == -erf(x)
    assert -1 <= erf(x) <= 1
    assert 0 <= erfc(x) <= 2
    assert erf(x) + erfc(x) == pytest.approx(1, abs=1e-15)
