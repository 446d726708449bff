"""The losses and their derivatives, through `nnx.model.outputs.Output`, on every backend."""

import itertools
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from operator import mul

import numpy as np
import pytest
from conftest import some_targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unreadable_arrays import Guarded, wrap

import nnx
from nnx.array import host
from nnx.model.outputs import LOSSES, OUTPUTS, output
from nnx.model.outputs.host_targets import checked_targets
from nnx.model.outputs.losses import binary_focal, focal
from nnx.model.outputs.targets import targets

PAIRS = [
    ("sigmoid", None),
    ("sigmoid", "focal"),
    ("sigmoid", "focal(0)"),
    ("sigmoid", "focal(0.5)"),
    ("softmax", None),
    ("softmax", "focal"),
    ("softmax", "focal(0)"),
    ("softmax", "focal(0.5)"),
    ("identity", None),
    ("identity", "huber"),
    ("identity", "huber(0.3)"),
    ("identity", "absolute_error"),
    ("identity", "hinge"),
    ("identity", "quantile(0.1,0.5,0.9)"),
    ("identity", "gaussian"),
    ("exp", None),
]
pairs = pytest.mark.parametrize(("link", "loss"), PAIRS)
drawn = settings(
    max_examples=4,  # JAX compiles for each; NumPy alone gets more below
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
leads = st.sampled_from([(), (1,), (3,), (2, 3)])


def targets_of(rng, pair, n, m, lead=()):
    if pair.loss_name == "hinge":
        return np.floor(2 * rng.random((*lead, n, m)))
    return some_targets(rng, pair.name, n, m, lead)


def on(backend, *arrays):
    return [backend.asarray(a, "float64") for a in arrays]


def test_every_pair_is_tested():
    tested = {(link, loss.split("(")[0]) for link, loss in PAIRS if loss}
    canonical = {(link, next(iter(losses))) for link, losses in LOSSES.items()}
    assert tested | canonical == {(link, loss) for link, losses in LOSSES.items() for loss in losses}


@pairs
@drawn
@given(n=st.integers(1, 4), m=st.integers(1, 5), lead=leads, seed=st.integers(0, 999))
def test_derivative_is_that_of_central_differences(backend, link, loss, n, m, lead, seed):
    check_derivative(backend, output(link, loss), n, m, lead, seed)


@pytest.mark.long
@pairs
@settings(drawn, max_examples=200)
@given(n=st.integers(1, 4), m=st.integers(1, 5), lead=leads, seed=st.integers(0, 999))
def test_derivative_on_numpy_in_many_sizes(link, loss, n, m, lead, seed):
    check_derivative(nnx.backend("numpy"), output(link, loss), n, m, lead, seed)


def check_derivative(backend, pair, n, m, lead, seed, h=1e-6):
    rng = np.random.default_rng(seed)
    rows = n * pair.per_target
    Z, Y = 2 * rng.standard_normal((*lead, rows, m)), targets_of(rng, pair, n, m, lead)
    of_rows = np.concatenate([Y] * pair.per_target, axis=-2)
    kinks = {"hinge": (2 * of_rows - 1) * Z - 1, "absolute_error": Z - of_rows, "quantile": Z - of_rows}.get(
        (pair.spec or "").partition("(")[0]
    )
    if kinks is not None:  # where no derivative is
        Z = np.where(np.abs(kinks) < 1e-4, Z + 1e-3, Z)
    found = backend.to_numpy(backend.compile(pair.derivative)(*on(backend, Z, Y)))
    assert found.shape == Z.shape
    units = h * np.eye(rows)[:, None]  # one unit vector a stacked copy: (n, 1, n)
    moved = [Z[..., None, :, :] + sign * units.transpose(0, 2, 1) for sign in (1, -1)]
    high, low = (
        backend.to_numpy(
            backend.compile(pair.loss)(
                *on(backend, Zh, np.broadcast_to(Y[..., None, :, :], (*lead, rows, n, m)))
            )
        )
        for Zh in moved
    )
    np.testing.assert_allclose(found, (high - low) / (2 * h), rtol=1e-6, atol=1e-7)


@pairs
def test_a_stack_gives_what_single_calls_give(backend, rng, link, loss):
    pair = output(link, loss)
    Z, Y = rng.standard_normal((3, 2 * pair.per_target, 5)), targets_of(rng, pair, 2, 5, (3,))
    for function in (pair.loss, pair.derivative):
        whole = backend.to_numpy(function(*on(backend, Z, Y)))
        each = [backend.to_numpy(function(*on(backend, Zk, Yk))) for Zk, Yk in zip(Z, Y, strict=True)]
        np.testing.assert_allclose(whole, np.stack(each), rtol=1e-14)


@pairs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("z", [1e4, 1000.0, 90.0, 20.0, 1e-30, 0.0])
def test_finite_at_large_Z(backend, link, loss, dtype, z):
    """p = 0 and p = 1 to the last bit; no warning of overflow or of an impossible number is tolerated."""
    pair = output(link, loss)
    Z = np.array([[z, -z, z, 0], [-z, z, z, 0]])
    Z = np.concatenate([Z, Z[::-1], Z][: pair.per_target])
    for Y in (np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]]), np.array([[0.0, 0, 0, 0], [1, 1, 1, 1]])):
        arrays = [backend.asarray(a, dtype) for a in (Z, Y)]
        found, slope = (backend.to_numpy(f(*arrays)) for f in (pair.loss, pair.derivative))
        assert found.dtype == slope.dtype == dtype
        assert np.isfinite(found).all()
        assert np.isfinite(slope).all()
        assert pair.loss_name == "Gaussian" or (found >= 0).all()


def exact(link, loss, z, y):
    """The loss and its derivative of one sample, computed with 40 digits and exponents without end."""
    name, _, parameter = (loss or "").rstrip(")").partition("(")
    z, y, zero = [Decimal(float(x)) for x in z], [Decimal(float(x)) for x in y], Decimal(0)
    if link == "softmax":
        high = max(z)
        log_S = sum((x - high).exp() for x in z).ln()
        log_p = [x - high - log_S for x in z]
        p = [x.exp() for x in log_p]
        gamma = Decimal(parameter or ("2" if name else "0"))
        q = [sum(p[:k] + p[k + 1 :]) for k in range(len(p))]
        if not gamma:
            return -sum(map(mul, y, log_p)), [a - b for a, b in zip(p, y, strict=True)]
        powers = [x**gamma if x else zero for x in q]
        c = [
            -b * w * (1 + (gamma * a * -log / x if x else gamma))
            for a, b, w, x, log in zip(p, y, powers, q, log_p, strict=True)
        ]
        total = sum(c)
        value = -sum(b * w * log for b, w, log in zip(y, powers, log_p, strict=True))
        return value, [one - a * total for one, a in zip(c, p, strict=True)]
    if name == "gaussian":
        (a, s), (y,) = z, y
        v = s.exp() + Decimal(float(parameter or 1e-6))
        return (v.ln() + (a - y) ** 2 / v) / 2, [(a - y) / v, s.exp() / v * (1 - (a - y) ** 2 / v) / 2]
    if name == "quantile":
        shares, (y,) = [Decimal(float(q)) for q in parameter.split(",")], y
        slopes = [(1 - q if a > y else -q) if a != y else zero for q, a in zip(shares, z, strict=True)]
        return sum(max(q * (y - a), (q - 1) * (y - a)) for q, a in zip(shares, z, strict=True)), slopes
    (z,), (y,) = z, y
    if link == "sigmoid":
        rest = (1 + (-abs(z)).exp()).ln()
        log_p, log_q = min(z, zero) - rest, min(-z, zero) - rest
        p, q, gamma = log_p.exp(), log_q.exp(), Decimal(parameter or ("2" if name else "0"))
        p_gamma, q_gamma = (gamma * log_p).exp(), (gamma * log_q).exp()
        value = -y * q_gamma * log_p - (1 - y) * p_gamma * log_q
        return value, [(1 - y) * p_gamma * (p - gamma * q * log_q) - y * q_gamma * (q - gamma * p * log_p)]
    if link == "exp":
        return None  # continued by its tangent: see below
    r, sign = z - y, 2 * y - 1
    if name == "huber":
        delta = Decimal(float(parameter or 1))
        near = abs(r) <= delta
        return (r * r / 2 if near else delta * (abs(r) - delta / 2)), [r if near else delta.copy_sign(r)]
    if name == "absolute_error":
        return abs(r), [Decimal(1).copy_sign(r) if r else zero]
    if name == "hinge":
        return max(zero, 1 - sign * z), [-sign if sign * z < 1 else zero]
    return r * r / 2, [r]


@pairs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_at_the_ends_of_a_dtype_and_between(link, loss, dtype):
    """Also where the loss itself is beyond the dtype: never NaN, and the derivative is finite and right."""
    info, pair = np.finfo(dtype), output(link, loss)
    sizes = [
        0,
        float(info.tiny),
        1e-30,
        0.01,
        1,
        30,
        200,
        1e10,
        float(info.max) ** 0.5,
        float(info.max) / 2,
        float(info.max),
    ]
    values = [sign * size for size in sizes for sign in (1, -1)]
    if link == "softmax":
        Z = np.array(list(itertools.product(values[::4], repeat=3))).T.astype(dtype)
        targets = [*np.eye(3), np.full(3, 1 / 3), np.array([0.5, 0, 0.5])]
    else:
        if pair.loss_name == "Gaussian":  # beyond, the square over a variance is infinite
            values = [value for value in values if abs(value) < (1e-6 * float(info.max)) ** 0.5]
        some = values[:: {1: 1, 2: 2, 3: 4}[pair.per_target]]
        Z = np.array(list(itertools.product(some, repeat=pair.per_target))).T.astype(dtype)
        shares = [[0.25], [0.5]] if pair.soft else []
        targets = [
            [0.0],
            [1.0],
            *(shares if pair.classes else [[-3.0], [1e6]] if link == "identity" else [[1e6]]),
        ]
    for y in targets:
        Y = np.repeat(np.array(y)[:, None], Z.shape[1], 1).astype(dtype)
        with host.quiet():
            J, dZ, A = pair.loss(Z, Y), pair.derivative(Z, Y), pair.link(Z)
        assert np.isfinite(A).all()
        assert np.isfinite(dZ).all()
        assert not np.isnan(J).any()
        if link == "exp":
            assert (J[np.isinf(J)] > 0).all()
            continue
        with localcontext() as context:
            context.prec, context.Emax, context.Emin = 40, MAX_EMAX, MIN_EMIN
            both = [exact(link, loss, z, y) for z, y in zip(Z.T, Y.T, strict=True)]
            value = [float(min(one, Decimal(float(info.max)))) for one, _ in both]
            slope = np.array([[float(x) for x in one] for _, one in both]).T
        representable = np.array([one <= Decimal(float(info.max)) for one, _ in both])
        assert (J[~representable] >= 0.3 * info.max).all()  # a share of 1/3 of the largest number
        if link == "softmax":  # where the log of a share is beyond the dtype, it counts as its least number
            representable &= np.ptp(Z / 2, axis=0) <= info.max / 2
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(
            J[representable], np.array(value)[representable], rtol=tolerance, atol=tolerance
        )
        np.testing.assert_allclose(dZ, slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_focal_loss_where_p_saturates(backend, dtype, gamma):
    """At z = 1e4 the right class costs nothing and moves nothing; the wrong one costs |z| and is moved by 1."""
    Z = backend.asarray(np.array([[1e4]]), dtype)
    for y, expected, slope in ((1.0, 0, 0), (0.0, 1e4, 1)):
        Y = backend.asarray(np.array([[y]]), dtype)
        pair = output("sigmoid", f"focal({gamma})")
        np.testing.assert_allclose(backend.to_numpy(pair.loss(Z, Y)), [expected])
        np.testing.assert_allclose(backend.to_numpy(pair.derivative(Z, Y)), [[slope]], atol=1e-7)
    Z = backend.asarray(np.array([[1e4], [0.0]]), dtype)
    for Y, expected, slope in (([[1.0], [0]], 0, 0), ([[0.0], [1]], 1e4, 1)):
        pair, Y = output("softmax", f"focal({gamma})"), backend.asarray(np.array(Y), dtype)
        np.testing.assert_allclose(backend.to_numpy(pair.loss(Z, Y)), [expected])
        np.testing.assert_allclose(backend.to_numpy(pair.derivative(Z, Y)), [[slope], [-slope]], atol=1e-7)


def test_focal_loss_with_gamma_0_is_cross_entropy(backend, rng):
    for link in ("sigmoid", "softmax"):
        plain, zero = output(link), output(link, "focal(0)")
        arrays = on(backend, 5 * rng.standard_normal((3, 50)), some_targets(rng, link, 3, 50))
        for f, g in ((plain.loss, zero.loss), (plain.derivative, zero.derivative)):
            found, expected = backend.to_numpy(g(*arrays)), backend.to_numpy(f(*arrays))
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_two_classes_of_softmax_are_a_sigmoid(rng):
    """Softmax over (z, 0) is (sigmoid(z), 1 - sigmoid(z)): the two focal losses agree."""
    z, y = 3 * rng.standard_normal((1, 40)), rng.random((1, 40))
    Z, Y = np.concatenate([z, 0 * z]), np.concatenate([y, 1 - y])
    for gamma in (0.5, 2.0, 3.5):
        (one, d_one), (two, d_two) = binary_focal(gamma), focal(gamma)
        np.testing.assert_allclose(two(Z, Y), one(z, y), rtol=1e-12)
        np.testing.assert_allclose(d_two(Z, Y)[:1], d_one(z, y), rtol=1e-11, atol=1e-13)


def typed(torch, link, loss):
    """The losses as PyTorch has them, or typed from their papers; (n, m) -> (m,)."""
    import torch.nn.functional as F  # noqa: N812

    def sigmoid_focal(Z, Y, gamma):
        p = torch.sigmoid(Z)
        return -(Y * (1 - p) ** gamma * torch.log(p) + (1 - Y) * p**gamma * torch.log(1 - p)).sum(0)

    def softmax_focal(Z, Y, gamma):
        p = torch.softmax(Z, 0)
        return -(Y * (1 - p) ** gamma * torch.log(p)).sum(0)

    def pinball(quantiles):
        def loss(Z, Y):
            R = Y - Z.reshape(len(quantiles), *Y.shape)
            q = torch.tensor(quantiles, dtype=torch.float64)[:, None, None]
            return torch.where(R > 0, q * R, (q - 1) * R).sum((0, 1))

        return loss

    def gaussian(epsilon):
        def loss(Z, Y):
            A, S = Z.reshape(2, *Y.shape)
            return torch.nn.GaussianNLLLoss(reduction="none")(A, Y, torch.exp(S) + epsilon).sum(0)

        return loss

    return {
        ("identity", "quantile(0.1,0.5,0.9)"): pinball([0.1, 0.5, 0.9]),
        ("identity", "gaussian"): gaussian(1e-6),
        ("sigmoid", None): lambda Z, Y: torch.nn.BCEWithLogitsLoss(reduction="none")(Z, Y).sum(0),
        ("softmax", None): lambda Z, Y: torch.nn.CrossEntropyLoss(reduction="none")(Z.T, Y.T),
        ("sigmoid", "focal"): lambda Z, Y: sigmoid_focal(Z, Y, 2.0),
        ("sigmoid", "focal(0.5)"): lambda Z, Y: sigmoid_focal(Z, Y, 0.5),
        ("softmax", "focal"): lambda Z, Y: softmax_focal(Z, Y, 2.0),
        ("softmax", "focal(0.5)"): lambda Z, Y: softmax_focal(Z, Y, 0.5),
        ("identity", None): lambda Z, Y: 0.5 * torch.nn.MSELoss(reduction="none")(Z, Y).sum(0),
        ("identity", "huber"): lambda Z, Y: torch.nn.HuberLoss(reduction="none")(Z, Y).sum(0),
        ("identity", "huber(0.3)"): lambda Z, Y: torch.nn.HuberLoss(reduction="none", delta=0.3)(Z, Y).sum(0),
        ("identity", "absolute_error"): lambda Z, Y: torch.nn.L1Loss(reduction="none")(Z, Y).sum(0),
        ("identity", "hinge"): lambda Z, Y: F.relu(1 - (2 * Y - 1) * Z).sum(0),
        ("exp", None): lambda Z, Y: (Y * torch.log(Y + (Y == 0)) - Y * Z - Y + torch.exp(Z)).sum(0),
    }[link, loss]


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("link", "loss"), [pair for pair in PAIRS if pair[1] != "focal(0)"])
def test_losses_and_derivatives_are_those_of_torch(backend, rng, link, loss):
    torch = pytest.importorskip("torch")
    pair = output(link, loss)
    Z, Y = 3 * rng.standard_normal((4 * pair.per_target, 60)), targets_of(rng, pair, 4, 60)
    z = torch.tensor(Z, requires_grad=True)
    expected = typed(torch, link, loss)(z, torch.tensor(Y))
    expected.sum().backward()
    found, slope = (backend.to_numpy(f(*on(backend, Z, Y))) for f in (pair.loss, pair.derivative))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slope, z.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("link", "loss"), [pair for pair in PAIRS if pair[1] != "focal(0)"])
def test_twenty_weighted_steps_are_those_of_torch(backend, rng, link, loss):
    """A network under each loss: J = sum of w_i loss_i / sum of w_i, by PyTorch's autograd."""
    torch = pytest.importorskip("torch")
    net = nnx.mlp([3, 4, 2 * output(link, loss).per_target], "tanh", link, loss=loss)
    theta, X, w = 0.5 * rng.standard_normal(net.P), rng.standard_normal((3, 12)), rng.random(12)
    Y = targets_of(rng, net.output, 2, 12)
    p = {name: torch.tensor(x, requires_grad=True) for name, x in net.unflatten(theta).items()}
    descent = torch.optim.SGD(p.values(), lr=0.1)
    step = backend.compile(net.loss_and_gradient)
    theta, *batch = on(backend, theta, X, Y, w)
    x, y, v = (torch.tensor(a) for a in (X, Y, w))
    for _ in range(20):
        J, dtheta = step(theta, *batch)
        theta = theta - 0.1 * dtheta
        Z = p["W2"] @ torch.tanh(p["W1"] @ x + p["b1"]) + p["b2"]
        cost = (v * typed(torch, link, loss)(Z, y)).sum() / v.sum()
        assert float(J) == pytest.approx(cost.item(), rel=1e-9)
        descent.zero_grad()
        cost.backward()
        descent.step()
    for name, found in net.unflatten(backend.to_numpy(theta)).items():
        np.testing.assert_allclose(found, p[name].detach().numpy(), rtol=1e-9, atol=1e-12)


@pairs
def test_nothing_is_read_on_the_host(backend, rng, link, loss):
    pair = output(link, loss)
    arrays = wrap(
        on(backend, rng.standard_normal((2 * pair.per_target, 5)), targets_of(rng, pair, 2, 5)), backend.xp
    )
    assert isinstance(pair.loss(*arrays), Guarded)
    assert isinstance(pair.derivative(*arrays), Guarded)


def test_kinks_have_slope_zero(backend):
    """As ReLU at 0: where z = y, and where s z = 1."""
    one, zero = on(backend, np.ones((1, 1)), np.zeros((1, 1)))
    assert float(output("identity", "absolute_error").derivative(one, one)[0, 0]) == 0
    assert float(output("identity", "hinge").derivative(one, one)[0, 0]) == 0
    assert float(output("identity", "hinge").derivative(zero, one)[0, 0]) == -1
    assert float(output("identity", "hinge").derivative(zero, zero)[0, 0]) == 1


def test_hinge_takes_class_indices(backend):
    """One against the rest: sum over the outputs of max(0, 1 - s z)."""
    hinge = output("identity", "hinge")
    Z = backend.asarray(np.array([[2.0, 0.5], [-3.0, -0.5], [0.0, 4.0]]), "float64")
    Y = targets(hinge, Z, backend.asarray(np.array([0, 2])))
    np.testing.assert_allclose(backend.to_numpy(hinge.loss(Z, Y)), [0 + 0 + 1, 1.5 + 0.5 + 0])


def test_canonical_losses_by_name():
    for link, known in LOSSES.items():
        canonical = next(iter(known))
        assert output(link, canonical) is output(link) is OUTPUTS[link]
        assert canonical == OUTPUTS[link].loss_name.lower().replace(" ", "_").replace("-", "_")
        assert OUTPUTS[link].spec is None


@pairs
def test_spec_makes_the_same_again(link, loss):
    pair = output(link, loss)
    assert output(pair.name, pair.spec) == pair
    assert pair.name == link


@pytest.mark.parametrize(
    ("given", "spec", "name"),
    [
        ("huber", "huber", "Huber, delta 1"),
        ("huber(1)", "huber", "Huber, delta 1"),
        ("huber( 1e-2 )", "huber(0.01)", "Huber, delta 0.01"),
        ("huber(2)", "huber(2.0)", "Huber, delta 2"),
        ("huber(delta = 2)", "huber(2.0)", "Huber, delta 2"),
        ("quantile(q=0.1,0.9)", "quantile(0.1,0.9)", "pinball, quantiles 0.1, 0.9"),
        ("quantile", "quantile(0.5)", "pinball, quantile 0.5"),
        ("quantile( .1, 0.90 )", "quantile(0.1,0.9)", "pinball, quantiles 0.1, 0.9"),
        ("gaussian(1e-6)", "gaussian", "Gaussian"),
        ("gaussian(1e-3)", "gaussian(0.001)", "Gaussian"),
    ],
)
def test_specs_have_one_form(given, spec, name):
    pair = output("identity", given)
    assert (pair.spec, pair.loss_name) == (spec, name)


def test_what_belongs_to_the_pair():
    hinge, focal, squared = output("identity", "hinge"), output("softmax", "focal"), output("identity")
    assert (hinge.classes, hinge.exclusive, hinge.probabilities, hinge.threshold) == (True, False, False, 0)
    assert (hinge.lowest, hinge.highest, hinge.soft) == (0, 1, False)
    assert (focal.classes, focal.exclusive, focal.probabilities, focal.threshold) == (True, True, True, 0.5)
    assert (squared.classes, squared.lowest, squared.highest) == (False, -np.inf, np.inf)
    assert not output("identity", "huber").classes


def test_impossible_losses():
    for link, loss, message in [
        (
            "sigmoid",
            "huber",
            "'huber' goes with the output 'identity', not with 'sigmoid'.*binary_cross_entropy, focal",
        ),
        (
            "identity",
            "focal(2)",
            r"'focal\(2\)' goes with the output 'sigmoid' or 'softmax'.*half_squared_error, huber",
        ),
        ("identity", "hubber", "unknown loss 'hubber'; did you mean 'huber'"),
        ("identity", 3, r"unknown loss 3\. .*half_squared_error"),
        ("identity", "hinge(2)", r"the loss 'hinge' takes no parameter; given 'hinge\(2\)'"),
        ("identity", "huber(0)", r"'huber\(0\)': delta must be greater than 0 and finite, not 0"),
        ("identity", "huber(inf)", "delta must be greater than 0 and finite, not inf"),
        ("identity", "huber(nan)", "delta must be greater than 0 and finite, not nan"),
        ("identity", "huber(width=2)", r"'huber\(width=2\)': its parameter is delta, not 'width'"),
        ("identity", "huber(0.5,delta=1)", r"'huber\(0\.5,delta=1\)': it takes one parameter, delta$"),
        ("identity", "quantile(q=0.1,q=0.9)", "it takes one parameter, q$"),
        ("identity", "huber(wide)", "delta must be greater than 0 and finite, not 'wide'"),
        ("identity", "quantile(1)", "a quantile must be a number between 0 and 1, such as 0.9, not 1"),
        (
            "identity",
            "quantile(0.1,,0.9)",
            "a quantile must be a number between 0 and 1, such as 0.9, not ''",
        ),
        ("identity", "quantile(0.9,0.1)", r"several quantiles must ascend.*given 0\.9,0\.1"),
        ("identity", "quantile(0.5,0.5)", "several quantiles must ascend"),
        ("identity", "quantile(nan)", "a quantile must be a number between 0 and 1, such as 0.9, not nan"),
        ("identity", "gaussian(0)", "epsilon, added to the variance, must be greater than 0"),
        ("identity", "huber()", r"unknown loss 'huber\(\)'; did you mean 'huber'"),
        ("softmax", "focal(-1)", "gamma must be at least 0 and finite, not -1"),
        ("softmaxx", "focal", "unknown output 'softmaxx'; did you mean 'softmax'"),
    ]:
        with pytest.raises(nnx.InputError, match=message):
            output(link, loss)


def test_targets_of_hinge_are_classes():
    hinge = output("identity", "hinge")

    def check(Y, n=1):
        return checked_targets("Y", Y, hinge, n, 3, "float32")

    np.testing.assert_array_equal(check([0, 1, 1]), [[0, 1, 1]])
    np.testing.assert_array_equal(check([True, False, True]), [[1, 0, 1]])
    np.testing.assert_array_equal(check([2, 0, 1], 3), [2, 0, 1])
    np.testing.assert_array_equal(check([[1, 0, 1], [0, 0, 1]], 2), [[1, 0, 1], [0, 0, 1]])
    for Y, message in [
        (
            [-1, 1, 1],
            r"from -1 to 1; the output 'identity' with the loss 'hinge'.*\[0, 1\] \(class labels: 0 and 1\)",
        ),
        ([0.3, 1, 0], "Y holds 0.3; the output 'identity' with the loss 'hinge' expects 0 and 1 alone"),
    ]:
        with pytest.raises(nnx.InputError, match=message):
            check(Y)
    with pytest.raises(nnx.InputError, match=r"labels from 0 to 3; expected 0\.\.2"):
        check([0, 3, 1], 3)
    with pytest.raises(
        nnx.InputError, match=r"\(2, 4\); expected .*\(2, 3\), or class indices \(3,\) for .*hinge"
    ):
        check(np.zeros((2, 4)), 2)


# Several outputs for each target.


@pytest.mark.needs("sklearn")
def test_pinball_losses_are_those_of_scikit_learn(rng):
    from sklearn.metrics import mean_pinball_loss

    Z, Y, w = rng.standard_normal((6, 30)), rng.standard_normal((2, 30)), rng.random(30)
    each = output("identity", "quantile(0.1,0.5,0.9)").loss(Z, Y)
    rows = zip((0.1, 0.5, 0.9), Z.reshape(3, 2, 30), strict=True)
    expected = sum(2 * mean_pinball_loss(Y.T, A.T, sample_weight=w, alpha=q) for q, A in rows)
    assert np.average(each, weights=w) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", ["quantile(0.1,0.5,0.9)", "gaussian"])
def test_a_network_with_several_outputs_for_each_target(rng, tmp_path, loss):
    check_several_outputs("numpy", rng, tmp_path, loss)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["quantile(0.1,0.5,0.9)", "gaussian"])
def test_networks_with_several_outputs_on_every_backend(backend, rng, tmp_path, loss):
    check_several_outputs(backend, rng, tmp_path, loss)


def check_several_outputs(backend, rng, tmp_path, loss):
    """Its targets, metrics, weights and files: of two targets their first outputs come first."""
    k = output("identity", loss).per_target
    net = nnx.mlp([3, 4, 2 * k], "tanh", "identity", loss=loss)
    assert net.n_targets == 2
    X, Y, w = rng.standard_normal((3, 40)), rng.standard_normal((2, 40)), rng.random(40)
    trainer = nnx.Trainer(net, nnx.Adam(0.01), backend=backend, dtype="float64")
    trainer.fit(X.T, Y.T, 2, batch_size=20, rows=True, sample_weight=w, validation=(X.T, Y.T))
    A = trainer.predict(X)
    middle = A[2:4] if k == 3 else A[:2]
    R = Y - A.reshape(k, 2, 40)
    if k == 3:
        q = np.array([0.1, 0.5, 0.9])[:, None, None]
        each = np.maximum(q * R, (q - 1) * R).sum((0, 1))
    else:
        v = np.exp(A[2:]) + 1e-6
        each = 0.5 * (np.log(v) + R[0] ** 2 / v).sum(0)

    def widest(y_true, y_pred):
        assert (y_true.shape, y_pred.shape) == ((2, 40), (2 * k, 40))
        return y_pred.max()

    found = trainer.evaluate(X, Y, metrics=["mean_squared_error", widest])
    assert found["loss"] == pytest.approx(each.mean(), rel=1e-9)
    assert found["mean_squared_error"] == pytest.approx(((Y - middle) ** 2).mean(), rel=1e-9)
    assert found["widest"] == A.max()
    assert trainer.evaluate(X, Y, sample_weight=w)["loss"] == pytest.approx(
        np.average(each, weights=w), rel=1e-9
    )
    trainer.save(path := tmp_path / "model.safetensors")
    again = nnx.Trainer.load(path, backend="numpy")
    assert again.network.output == net.output
    np.testing.assert_allclose(again.predict(X), A, rtol=1e-9, atol=1e-12)
    with pytest.raises(
        nnx.InputError, match=rf"Y has shape \({2 * k}, 40\); expected \(n\[L\]/{k}, m\) = \(2, 40\)"
    ):
        trainer.evaluate(X, np.zeros((2 * k, 40)))


def test_members_with_several_outputs_for_each_target(rng):
    check_members("numpy", rng)


@pytest.mark.long
def test_members_with_several_outputs_on_every_backend(backend, rng):
    check_members(backend, rng)


def check_members(backend, rng):
    X, y = rng.standard_normal((3, 40)), rng.standard_normal(40)
    net = nnx.mlp([3, 4, 2], "tanh", "identity", loss="gaussian")
    given = {"backend": backend, "dtype": "float64"}
    stack = nnx.Trainer(net, nnx.Adam(0.01), members=2, seed=[0, 1], **given)
    stack.fit(X, y, epochs=2, batch_size=20)
    found = stack.evaluate(X, y)
    for k in range(2):
        single = nnx.Trainer(net, nnx.Adam(0.01), seed=k, **given)
        single.fit(X, y, epochs=2, batch_size=20)
        for name, value in single.evaluate(X, y).items():
            assert found[name][k] == pytest.approx(value, rel=1e-9)
    A = stack.predict(X)
    ensemble = stack.ensemble.evaluate(X, y)
    R2 = 1 - ((y - A[:, 0].mean(0)) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert ensemble["r2"] == pytest.approx(R2, rel=1e-9)


def test_the_outputs_must_be_a_multiple_of_those_of_each_target():
    with pytest.raises(nnx.InputError, match=r"3 outputs for each target; .* a multiple of 3, not 2"):
        nnx.mlp([3, 2], output="identity", loss="quantile(0.1,0.5,0.9)")
    nnx.check_gradient(nnx.mlp([3, 6], output="identity", loss="quantile(0.1,0.5,0.9)"))
    nnx.check_gradient(nnx.mlp([3, 6], output="identity", loss="gaussian"))
    summary = str(nnx.mlp([3, 6], output="identity", loss="gaussian").summary())
    assert "identity, Gaussian" in summary
    data = {"x": [1.0, 2, 3, 4], "y": [1.5, 2, 3, 4]}
    with pytest.raises(nnx.InputError, match=r"'gaussian' has 2 outputs for each target.*MLPRegressor"):
        nnx.Tabular(data, "y", task="regression", loss="gaussian", validation=0)
