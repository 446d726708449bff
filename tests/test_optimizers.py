"""The optimizers: against PyTorch's own, their papers' algorithms, and each other on every backend."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
from unreadable_arrays import Guarded, unwrap, wrap

import nnx
from nnx.optimizers import (
    LBFGS,
    OPTIMIZERS,
    Adagrad,
    Adam,
    AdamW,
    GradientDescent,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RMSprop,
    base_rate,
    describe,
    optimizer,
    rate,
)
from nnx.optimizers.schedules import SCHEDULES, Constant, Cosine, Polynomial, StepDecay

NET = nnx.mlp([4, 6, 3], "tanh", "softmax")
X = np.random.default_rng(1).standard_normal((4, 30))
Y = np.random.default_rng(2).integers(0, 3, 30)
DECAYS = NET.flatten(
    {name: np.full(shape, float(name[0] == "W")) for name, shape in NET.shapes.items()}
)  # weights decay, biases do not

# Every optimizer that steps, with PyTorch's name for it and its arguments. Rates so large that twenty steps go far.
CASES = {
    "gradient_descent": (GradientDescent(0.3), "SGD", {"lr": 0.3}),
    "momentum": (Momentum(0.1, momentum=0.8), "SGD", {"lr": 0.1, "momentum": 0.8}),
    "nesterov": (Nesterov(0.1, momentum=0.8), "SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "adagrad": (Adagrad(0.1), "Adagrad", {"lr": 0.1}),
    "rmsprop": (RMSprop(0.01), "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "adam": (Adam(0.02, beta2=0.99), "Adam", {"lr": 0.02, "betas": (0.9, 0.99)}),
    "adamw": (AdamW(0.02, weight_decay=0.3), "AdamW", {"lr": 0.02, "weight_decay": 0.3}),
    "nadam": (NAdam(0.02, momentum_decay=0.01), "NAdam", {"lr": 0.02, "momentum_decay": 0.01}),
    "lion": (Lion(0.01, weight_decay=0.3), None, None),
}
EXAMPLES = {
    "constant": {"name": "constant", "learning_rate": 0.1},
    "step_decay": {"name": "step_decay", "learning_rate": 0.1, "every": 10, "decay": 0.5},
    "exponential": {"name": "exponential", "learning_rate": 0.1, "every": 10, "decay": 0.5},
    "inverse_scaling": {"name": "inverse_scaling", "learning_rate": 0.1, "power": 0.5, "every": 2, "samples": 5},
    "polynomial": {"name": "polynomial", "learning_rate": 0.1, "steps": 10, "end": 0.1, "power": 2.0},
    "cosine": {"name": "cosine", "learning_rate": 0.1, "steps": 10, "warmup": 2, "end": 0.1},
    "one_cycle": {
        "name": "one_cycle", "learning_rate": 0.1, "steps": 10, "rise": 0.3, "start": 0.1, "end": 0.0
    },
    "coslog": {"name": "coslog", "learning_rate": 0.1, "steps": 10, "cycles": 2},
}  # fmt: skip
STEPPING = pytest.mark.parametrize("name", CASES)


def one_step(made, X, Y):
    """The pure step: what nnx.train.step does, without all that is not the optimizer's."""

    def step(state):
        _, dtheta = NET.loss_and_gradient(state["theta"], X, Y)
        state = {**state, "t": state["t"] + 1}
        alpha = rate(made, state["alpha"], state["t"])
        return {**state, **made.update({**state, "alpha": alpha}, dtheta)}

    return step


def first_state(made, backend, theta, alpha=None, dtype="float64"):
    theta = backend.asarray(theta, dtype)
    state = {
        "theta": theta,
        "t": backend.asarray(0, "int32"),
        "alpha": backend.asarray(base_rate(made) if alpha is None else alpha, dtype),
        **made.init(theta),
    }
    if getattr(made, "weight_decay", 0) > 0:
        state["decays"] = backend.asarray(DECAYS, dtype)
    return state


def run(made, backend="numpy", theta=None, alpha=None, steps=20, dtype="float64"):
    """The state, as NumPy arrays, after so many steps from theta."""
    backend = nnx.backend(backend) if isinstance(backend, str) else backend
    state = first_state(made, backend, NET.init(dtype="float64") if theta is None else theta, alpha, dtype)
    step = backend.compile(one_step(made, backend.asarray(X, dtype), backend.asarray(Y, "int32")))
    for _ in range(steps):
        state = step(state)
    return {name: backend.to_numpy(x) for name, x in state.items()}


def torchs_run(name, arguments, schedule=None, steps=20):
    """Theta after so many steps of torch.optim's, with the gradients of nnx."""
    torch = pytest.importorskip("torch")
    parts = [DECAYS == 1, DECAYS == 0]
    theta = NET.init(dtype="float64")
    params = [torch.nn.Parameter(torch.from_numpy(theta[part])) for part in parts]
    groups = [{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.0}]
    made = getattr(torch.optim, name)(groups, **arguments)
    scheduler = schedule(torch.optim.lr_scheduler, made) if schedule else None
    try:
        torch.set_default_dtype(torch.float64)  # in which NAdam keeps its product of mu
        for _ in range(steps):
            _, dtheta = NET.loss_and_gradient(theta, X, Y)
            for param, part in zip(params, parts, strict=True):
                param.grad = torch.from_numpy(dtheta[part])
            made.step()
            if scheduler:
                scheduler.step()
            for param, part in zip(params, parts, strict=True):
                theta[part] = param.detach().numpy()
    finally:
        torch.set_default_dtype(torch.float32)
    return theta


def test_every_optimizer_is_tested_here():
    assert set(CASES) == set(OPTIMIZERS) - {"lbfgs"}
    assert all(type(CASES[name][0]) is OPTIMIZERS[name] for name in CASES)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("case", [name for name in CASES if CASES[name][1]])
def test_twenty_steps_agree_with_pytorch(backend, case):
    made, name, arguments = CASES[case]
    found = run(made, backend)["theta"]
    np.testing.assert_allclose(found, torchs_run(name, arguments), rtol=1e-9, atol=1e-12)
    assert np.abs(found - NET.init(dtype="float64")).max() > 0.1  # they went somewhere


@pytest.mark.needs("torch")
@pytest.mark.parametrize("case", ["momentum", "nesterov", "adamw", "nadam"])
def test_twenty_steps_under_a_schedule_agree_with_pytorch(case):
    """The schedule's alpha acts where PyTorch's does: on the whole velocity, and in the decay."""
    made, name, arguments = CASES[case]
    scheduled = dataclasses.replace(made, learning_rate=StepDecay(base_rate(made), 7))
    expected = torchs_run(name, arguments, lambda lr_scheduler, made: lr_scheduler.StepLR(made, 7))
    found = run(scheduled)["theta"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(found - run(made)["theta"]).max() > 1e-3


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lion_is_its_papers_algorithm(backend, weight_decay):
    theta = NET.init(dtype="float64")
    m = np.zeros_like(theta)
    for _ in range(20):
        g = NET.loss_and_gradient(theta, X, Y)[1]
        c = 0.9 * m + (1 - 0.9) * g
        theta = theta - 0.01 * (np.sign(c) + weight_decay * DECAYS * theta)
        m = 0.99 * m + (1 - 0.99) * g
    found = run(Lion(0.01, weight_decay=weight_decay), backend)
    np.testing.assert_allclose(found["theta"], theta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["m"], m, rtol=1e-9, atol=1e-12)


def test_decay_is_on_weights_only():
    decayed, plain = (NET.unflatten(run(AdamW(weight_decay=wd), steps=1)["theta"]) for wd in (0.5, 0))
    first = NET.unflatten(NET.init(dtype="float64"))
    np.testing.assert_allclose(decayed["W1"], plain["W1"] - 0.001 * 0.5 * first["W1"], rtol=1e-12)
    np.testing.assert_array_equal(decayed["b1"], plain["b1"])


@pytest.mark.parametrize("schedule", [None, *SCHEDULES])
@STEPPING
def test_no_host_read(backend, name, schedule):
    made = optimizer(name, learning_rate=EXAMPLES[schedule]) if schedule else CASES[name][0]
    state = first_state(made, backend, NET.init(), dtype="float32")
    batch = backend.asarray(X, "float32"), backend.asarray(Y, "int32")
    after = one_step(made, *wrap(batch, backend.xp))(wrap(state, backend.xp))
    assert all(isinstance(x, Guarded) for x in after.values())
    assert after.keys() == state.keys()
    assert np.isfinite(backend.to_numpy(unwrap(after["theta"]))).all()


@STEPPING
def test_float32_stays_float32(backend, name):
    state = run(optimizer(name, learning_rate=EXAMPLES["cosine"]), backend, steps=2, dtype="float32")
    assert {x.dtype for name, x in state.items() if name != "t"} == {np.dtype("float32")}
    assert state["t"].dtype == np.int32


@STEPPING
def test_a_stack_is_its_single_runs(backend, name):
    made = CASES[name][0]
    theta = np.stack([NET.init(seed, dtype="float64") for seed in range(3)])
    rates = [base_rate(made) * factor for factor in (0.5, 1, 2)]
    made = dataclasses.replace(made, learning_rate=Polynomial(base_rate(made), steps=30))
    stack = run(made, backend, theta, np.array(rates)[:, None], steps=5)["theta"]
    for k, alpha in enumerate(rates):
        np.testing.assert_allclose(stack[k], run(made, "numpy", theta[k], alpha, steps=5)["theta"], rtol=1e-9)


def test_a_constant_rate_is_alpha_itself():
    alpha, t = np.asarray(0.1, dtype="float32"), np.asarray(1, dtype="int32")
    assert rate(Adam(0.1), alpha, t) is alpha
    constant = rate(Adam(Constant(0.1)), alpha, t)
    assert constant == alpha
    assert constant.dtype == alpha.dtype
    for name, x in run(Adam(Constant(0.02))).items():
        np.testing.assert_array_equal(x, run(Adam(0.02))[name])


def test_rate_counts_the_steps_before():
    made = Adam(StepDecay(0.4, every=2, decay=0.5))
    assert base_rate(made) == 0.4
    alpha = np.asarray(0.2)  # lowered since: the schedule's factor acts on what alpha is now
    rates = [float(rate(made, alpha, np.asarray(t, dtype="int32"))) for t in (1, 2, 3, 4, 5)]
    assert rates == [0.2, 0.2, 0.1, 0.1, 0.05]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_descriptions_go_through_json(name):
    made = OPTIMIZERS[name]()
    described = json.loads(json.dumps(describe(made)))
    assert described["name"] == name
    assert optimizer(**described) == made


@pytest.mark.parametrize("schedule", SCHEDULES)
@STEPPING
def test_descriptions_hold_the_schedule(name, schedule):
    made = optimizer(name, learning_rate=EXAMPLES[schedule])
    assert type(made.learning_rate) is SCHEDULES[schedule]
    described = json.loads(json.dumps(describe(made)))
    assert described["learning_rate"] == EXAMPLES[schedule]
    assert optimizer(**described) == made


def test_descriptions_of_before_there_were_schedules():
    old = {"name": "adam", "learning_rate": 0.02, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
    assert optimizer(**old) == Adam(0.02, beta2=0.99)
    assert optimizer("gradient_descent", learning_rate=0.3) == GradientDescent(0.3)


@dataclasses.dataclass(frozen=True)
class Halving:
    """A schedule of one's own."""

    learning_rate: float

    def factor(self, t):
        return 0.5**t


def test_a_schedule_of_ones_own(backend, monkeypatch):
    found = run(GradientDescent(Halving(0.2)), backend, steps=2)["theta"]
    theta = NET.init(dtype="float64")
    for alpha in (0.2, 0.1):
        theta = theta - alpha * NET.loss_and_gradient(theta, X, Y)[1]
    np.testing.assert_allclose(found, theta, rtol=1e-12)
    with pytest.raises(nnx.InputError, match=r"cannot name the schedule Halving.*nnx\.schedules\.SCHEDULES"):
        describe(Adam(Halving(0.2)))
    monkeypatch.setitem(SCHEDULES, "halving", Halving)
    assert optimizer(**describe(Adam(Halving(0.2)))) == Adam(Halving(0.2))


def test_an_optimizer_of_ones_own():
    class Own(Adam):
        pass

    own = Own()
    assert optimizer(own) is own
    with pytest.raises(nnx.InputError, match=r"cannot name the optimizer .*Own.*nnx\.OPTIMIZERS"):
        describe(own)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Momentum(momentum=1), "momentum must be at least 0 and less than 1, not 1"),
        (lambda: Nesterov(momentum=-0.1), "momentum must be at least 0 and less than 1, not -0.1"),
        (lambda: RMSprop(rho=1.0), "rho must be between 0 and 1, not 1.0"),
        (lambda: RMSprop(rho=0), "rho must be between 0 and 1, not 0"),
        (lambda: Adagrad(epsilon=0), "epsilon must be greater than 0 and finite, not 0"),
        (lambda: Adam(beta1="0.9"), "beta1 must be between 0 and 1, not '0.9'"),
        (lambda: AdamW(weight_decay=-1), "weight_decay must be at least 0 and finite, not -1"),
        (lambda: AdamW(float("nan")), "learning_rate must be greater than 0 and finite, not nan"),
        (lambda: AdamW(True), "learning_rate must be greater than 0 and finite, not True"),
        (lambda: NAdam(momentum_decay=float("inf")), "momentum_decay must be at least 0 and finite, not inf"),
        (lambda: Lion(beta2=1.5), "beta2 must be between 0 and 1, not 1.5"),
        (lambda: Lion(Cosine), "learning_rate must be greater than 0 and finite, not <class"),
        (lambda: LBFGS(memory=0), "memory must be a positive integer, not 0"),
        (lambda: LBFGS(memory=2.5), "memory must be a positive integer, not 2.5"),
        (lambda: LBFGS(cost_tolerance=-1), "cost_tolerance must be at least 0 and finite, not -1"),
        (lambda: optimizer("adamm"), "unknown optimizer 'adamm'; did you mean 'adam'"),
        (lambda: optimizer("adam", beta3=1), "optimizer 'adam': .*'beta3'; it takes learning_rate, beta1, beta2"),
        (lambda: optimizer("lbfgs", learning_rate=1), "optimizer 'lbfgs': .*'learning_rate'; it takes memory"),
        (lambda: optimizer("adam", learning_rate={}), r"unknown schedule None\. Known: constant"),
        (lambda: optimizer("adam", learning_rate={"name": "cosin"}), "unknown schedule 'cosin'; .*'cosine'"),
        (lambda: optimizer("adam", learning_rate={"name": "cosine"}), "schedule 'cosine': missing .*it takes"),
        (lambda: optimizer({"name": "adam"}), "the optimizer must be a name or an instance"),
    ],
)  # fmt: skip
def test_arguments_out_of_range(make, told):
    with pytest.raises(nnx.InputError, match=told):
        make()


def test_numbers_are_those_that_json_has():
    made = AdamW(np.float32(0.5), weight_decay=1)
    assert (type(made.learning_rate), type(made.weight_decay)) == (float, float)
    assert type(LBFGS(memory=np.int64(3)).memory) is int


# L-BFGS


def whole_batch(backend):
    """The cost and gradient over all samples, computed on the backend."""
    x, y = backend.asarray(X, "float64"), backend.asarray(Y, "int32")
    computed = backend.compile(NET.loss_and_gradient)

    def objective(theta):
        assert (type(theta), theta.dtype, theta.shape) == (np.ndarray, np.float64, (NET.P,))
        J, dtheta = computed(backend.asarray(theta, "float64"), x, y)
        return float(backend.to_numpy(J)), backend.to_numpy(dtheta)

    return objective


def test_lbfgs_minimizes_and_reports(backend):
    pytest.importorskip("scipy")
    objective, told = whole_batch(backend), []
    first = NET.init()  # float32 is taken, too

    def report(k, theta, J):
        assert J == pytest.approx(objective(theta)[0], rel=1e-9)
        told.append((k, J))
        theta[:] = np.nan  # the listener's own

    theta, why = LBFGS().minimize(objective, first, 25, report)
    assert [k for k, _ in told] == list(range(1, 26))
    costs = [J for _, J in told]
    before, _ = objective(first.astype("float64"))
    assert before > costs[0]
    assert costs == sorted(costs, reverse=True)
    assert objective(theta)[0] == costs[-1] < 0.2 * before
    assert theta.dtype == np.float64
    assert why == "all 25 iterations are done"
    np.testing.assert_array_equal(first, NET.init())


def bowl(theta):
    """(theta - 3)^2 . (1, 2, ...): its minimum is 0, at 3."""
    c = np.arange(1.0, theta.size + 1)
    return ((theta - 3) ** 2) @ c, 2 * c * (theta - 3)


def nothing(k, theta, J):
    pass


def test_lbfgs_says_why_it_ended():
    pytest.importorskip("scipy")
    start = np.zeros(5)
    theta, why = LBFGS(gradient_tolerance=1e-3, cost_tolerance=0).minimize(bowl, start, 99, nothing)
    assert why == "no element of the gradient is above gradient_tolerance=0.001"
    assert np.abs(bowl(theta)[1]).max() <= 1e-3
    np.testing.assert_allclose(theta, 3, atol=1e-3)

    theta, why = LBFGS(gradient_tolerance=0, cost_tolerance=0.9).minimize(bowl, start, 99, nothing)
    assert why == "the cost falls by no more than cost_tolerance=0.9"
    assert np.abs(bowl(theta)[1]).max() > 0

    _, why = LBFGS().minimize(bowl, start, 2, nothing)
    assert why == "all 2 iterations are done"

    _, why = LBFGS(evaluations=2, gradient_tolerance=0, cost_tolerance=0).minimize(bowl, start, 99, nothing)
    assert re.fullmatch(r"the cost was looked at \d+ times, of 2 evaluations", why)

    uphill = lambda theta: (bowl(theta)[0], -bowl(theta)[1])  # noqa: E731
    theta, why = LBFGS().minimize(uphill, start, 99, nothing)
    assert why == "the line search finds no lower cost"
    np.testing.assert_array_equal(theta, start)

    _, why = LBFGS().minimize(lambda theta: (np.nan, theta), start, 99, nothing)
    assert why == "the cost is infinite or NaN where it starts"


@pytest.mark.parametrize("beyond", [np.nan, np.inf])
def test_lbfgs_goes_nowhere_the_cost_is_not_finite(beyond):
    pytest.importorskip("scipy")
    costs = []

    def walled(theta):  # the minimum of -10 x - log(1 - x) is at 0.9
        (x,) = theta
        return (-10 * x - np.log(1 - x), np.array([1 / (1 - x) - 10])) if x < 1 else (beyond, np.ones(1))

    theta, _ = LBFGS().minimize(walled, [-0.9], 99, lambda k, theta, J: costs.append(J))
    assert costs
    assert np.isfinite(costs).all()
    assert walled(theta)[0] == costs[-1] < walled([-0.9])[0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, StopIteration])
def test_lbfgs_lets_exceptions_through(error):
    pytest.importorskip("scipy")
    raised, told = error("enough"), []

    def report(k, theta, J):
        told.append(k)
        if k == 3:
            raise raised

    with pytest.raises(error) as caught:
        LBFGS().minimize(bowl, np.zeros(5), 99, report)
    assert caught.value is raised
    assert told == [1, 2, 3]


def test_lbfgs_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(nnx.BackendError, match=r"scipy.*python -m pip install .*\[lbfgs\]\""):
        LBFGS().minimize(bowl, np.zeros(5), 99, nothing)


def test_lbfgs_has_no_step_of_its_own():
    made = optimizer("lbfgs", memory=5)
    assert made == LBFGS(memory=5)
    assert made.init(np.zeros(3)) == {}
    assert base_rate(made) == 1
    with pytest.raises(nnx.InputError, match=r"Trainer\.fit and batch_size=None"):
        made.update({"theta": np.zeros(3)}, np.zeros(3))
    with pytest.raises(nnx.InputError, match="iterations must be a positive integer"):
        made.minimize(bowl, np.zeros(3), 0, nothing)
