"""A stack of networks: each member is its single run, with numbers of its own."""

import numpy as np
import pytest

import nnx
from nnx.model.members import member_of
from nnx.model.network import Network
from nnx.optimizers import OPTIMIZERS
from nnx.optimizers.schedules import Constant, Cosine
from nnx.support.members import PerMember, member
from nnx.train.step import PLAIN, initial_state, micro_batch_step, stacked_state, training_step

K, M = 3, 8
NET = nnx.mlp([4, 5, 3], "tanh", "softmax")
STEPPING = {
    "gradient_descent": {},
    "momentum": {"momentum": [0.9, 0.0, 0.5]},
    "nesterov": {"momentum": [0.9, 0.99, 0.5]},
    "adagrad": {"epsilon": [1e-10, 1e-3, 1e-6]},
    "rmsprop": {"rho": [0.9, 0.999, 0.5], "epsilon": [1e-8, 1e-3, 1e-6]},
    "adam": {"beta1": [0.9, 0.99, 0.5], "beta2": [0.999, 0.9999, 0.9], "epsilon": [1e-8, 1e-3, 1e-6]},
    "adamw": {"beta2": [0.999, 0.9999, 0.9], "weight_decay": [0.0, 0.3, 0.1]},
    "nadam": {"beta1": [0.9, 0.99, 0.5], "momentum_decay": [0.004, 0.0, 0.1]},
    "lion": {"beta1": [0.9, 0.99, 0.5], "beta2": [0.99, 0.999, 0.9], "weight_decay": [0.1, 0.0, 0.3]},
}
"""Numbers of each member for every optimizer that steps."""

RATES = [0.01, 0.003, 0.03]

REGULARIZED = {
    "l1": {"l1": [0.1, 0.0, 0.01]},
    "l2": {"l2": [0.1, 0.0, 0.01]},
    "per sample": {"l1": [0.1, 0.0, 0.5], "l2": 0.3, "per_sample": True},
    "max-norm": {"max_norm": [0.5, None, 0.1]},
    "clip_value": {"clip_value": [0.01, None, 0.001]},
    "clip_norm": {"clip_norm": [0.1, None, 0.01]},
    "label smoothing": {"label_smoothing": [0.1, 0.0, 0.3]},
    "all": {
        "l1": [0.1, 0.0, 0.01], "l2": [0.1, 0.0, 0.01], "max_norm": [0.5, 0.3, 0.1], "clip_value": [0.1, 0.2, 0.3],
        "clip_norm": [0.1, 0.5, 0.01], "label_smoothing": [0.1, 0.0, 0.3],
    },
}  # fmt: skip

LAYERED = {
    "dropout": [nnx.Dropout([0.3, 0.0, 0.9])],
    "one dropout": [nnx.Dropout(0.3)],
    "noise": [nnx.GaussianNoise([0.1, 0.0, 1.0])],
    "nested": [nnx.Residual([nnx.Dense(6, "relu"), nnx.Dropout([0.1, 0.2, 0.3]), nnx.Dense(5)])],
    "norms": [nnx.BatchNorm(), nnx.Dropout([0.3, 0.0, 0.9]), nnx.LayerNorm(), nnx.PReLU()],
}


def layered(*layers):
    return Network(4, [nnx.Dense(5, "tanh"), *layers, nnx.Dense(3)], "softmax")


def samples(rng, lead=()):
    return rng.standard_normal((*lead, 4, M)), rng.integers(0, 3, (*lead, *[1][: len(lead)], M)).astype(
        "int32"
    )


def check(
    backend,
    net,
    optimizer,
    regularization=PLAIN,
    data=None,
    dtype="float64",
    steps=4,
    own_weights=False,
    bits=False,
):
    """Compare the members of a stack after some steps with single networks on NumPy."""
    X, Y, *w = data or samples(np.random.default_rng(5))
    thetas = np.stack([member_of(net, k).init(seed, dtype) for k, seed in enumerate((4, 9, 2))])
    seeds = [4, 9, 2]
    batch = backend.asarray(X, dtype), backend.asarray(Y), *(backend.asarray(x, dtype) for x in w)
    state = stacked_state(net, optimizer, backend.asarray(thetas, dtype), regularization, seeds)
    assert all(x.ndim >= 2 and x.shape[0] in (1, K) for x in state.values())
    step = training_step(net, optimizer, regularization, own_weights)
    for call in (step, backend.compile(step)):
        after, Js = state, []
        for _ in range(steps):
            after, J = call(after, batch)
            Js.append(backend.to_numpy(J))
        assert after.keys() == state.keys()
        found = {name: backend.to_numpy(x) for name, x in after.items()}
        for k in range(K):
            one = member_of(net, k), member(optimizer, k), member(regularization, k)
            single = initial_state(*one[:2], thetas[k], one[2], seeds[k])
            own = tuple(x[k] if x.ndim > 1 and x.shape[0] == K and lead else x for x, lead in
                        zip((X.astype(dtype), Y, *w), leads(X, Y, *w), strict=True))  # fmt: skip
            costs = []
            for _ in range(steps):
                if own_weights and not own[2].any():
                    costs.append(0.0)
                    continue
                single, J = training_step(*one)(single, own)
                costs.append(J)
            rtol = 0 if bits else 1e-9 if dtype == "float64" else 3e-5
            for name in single.keys() - {"decays"}:
                expected = np.reshape(single[name], found[name][k].shape)
                np.testing.assert_allclose(found[name][k], expected, rtol=rtol, atol=rtol / 10, err_msg=name)
            np.testing.assert_allclose(np.stack(Js)[:, k], costs, rtol=rtol, atol=rtol)


def leads(X, Y, *w):
    """Whether each array of a batch has an axis for the members."""
    return [X.ndim > 2, Y.ndim > 2, *(x.ndim > 1 for x in w)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STEPPING)
def test_members_have_optimizers_of_their_own(backend, name, dtype):
    check(backend, NET, OPTIMIZERS[name](learning_rate=RATES, **STEPPING[name]), dtype=dtype)


def test_every_optimizer_is_there():
    assert {*STEPPING, "lbfgs"} == {*OPTIMIZERS}


@pytest.mark.parametrize("schedule", [Cosine(RATES, steps=6, warmup=1), Constant(RATES)])
def test_members_have_scales_of_a_schedule(backend, schedule):
    check(backend, NET, nnx.Adam(schedule))


@pytest.mark.parametrize("name", REGULARIZED)
def test_members_are_regularized_by_themselves(backend, name):
    check(backend, NET, nnx.Momentum(0.1), nnx.Regularization(**REGULARIZED[name]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERED)
def test_members_have_layers_and_masks_of_their_own(backend, name, dtype):
    check(backend, layered(*LAYERED[name]), nnx.Momentum(RATES), dtype=dtype)


def test_members_with_the_same_numbers_are_single_runs_bit_for_bit():
    numpy = nnx.backend("numpy")
    net = layered(nnx.BatchNorm(), nnx.Dropout(0.3), nnx.PReLU(), nnx.LayerNorm())
    own = nnx.Regularization(l1=0.01, l2=0.1, max_norm=0.8, clip_norm=0.1, label_smoothing=0.1)
    check(numpy, net, nnx.Momentum(0.1), own, dtype="float32", bits=True)


def test_members_have_samples_of_their_own(backend, rng):
    check(backend, NET, nnx.Adam(RATES), data=samples(rng, (K,)))


def test_members_have_weights_of_their_own(backend, rng):
    w = rng.integers(0, 3, (K, M)).astype("float64")
    check(backend, NET, nnx.Adam(RATES), data=(*samples(rng), w))
    own = nnx.Regularization(l2=[0.1, 0.0, 0.01], per_sample=True)
    check(backend, NET, nnx.Adam(RATES), own, data=(*samples(rng), w))


def test_a_member_without_weight_stays(backend, rng):
    w = np.ones((K, M))
    w[1] = 0
    net = layered(nnx.BatchNorm(), nnx.Dropout(0.2))
    check(backend, net, nnx.NAdam(RATES), data=(*samples(rng), w), own_weights=True)


def test_micro_batches_of_a_stack(backend, rng):
    X, Y = samples(rng)
    net = layered(nnx.Dropout([0.3, 0.0, 0.9]))
    optimizer, own = nnx.Adam(RATES, beta2=[0.999, 0.99, 0.9]), nnx.Regularization(l2=[0.1, 0.0, 0.3])
    thetas = backend.asarray(np.stack([net.init(k, "float64") for k in range(K)]))
    state = stacked_state(net, optimizer, thetas, own)
    first, add, _, update = micro_batch_step(net, optimizer, own)
    parts = [(backend.asarray(X[:, part]), backend.asarray(Y[part])) for part in (slice(0, 5), slice(5, M))]
    sums = first(state, parts[0], backend.asarray(0, "int32"))
    after, J = update(state, add(state, sums, parts[1], backend.asarray(5, "int32")))
    whole, cost = training_step(net, optimizer, own)(state, (backend.asarray(X), backend.asarray(Y)))
    np.testing.assert_allclose(backend.to_numpy(J), backend.to_numpy(cost), rtol=1e-12)
    for name, x in whole.items():
        np.testing.assert_allclose(backend.to_numpy(after[name]), backend.to_numpy(x), rtol=1e-9, atol=1e-12)


def test_numbers_in_which_members_agree_are_no_arrays():
    theta = np.stack([NET.init(k) for k in range(K)])
    state = stacked_state(NET, nnx.Adam(RATES), theta)
    assert {*state} == {"theta", "t", "alpha", "m", "v"}
    state = stacked_state(
        NET, nnx.AdamW(RATES, beta2=[0.9, 0.99, 0.999]), theta, nnx.Regularization(l1=[0, 1, 2])
    )
    assert {*state} == {"theta", "t", "alpha", "m", "v", "decays", "optimizer.beta2", "regularization.l1"}
    assert state["decays"].shape == (1, NET.P)
    np.testing.assert_array_equal(state["alpha"][:, 0], np.asarray(RATES, "float32"))
    np.testing.assert_array_equal(state["optimizer.beta2"][:, 0], np.asarray([0.1, 0.01, 0.001], "float32"))


def test_a_member_has_plain_numbers():
    assert member(nnx.Adam(RATES, beta1=[0.1, 0.2, 0.3]), 1) == nnx.Adam(0.003, beta1=0.2)
    assert member(nnx.Adam(Cosine(RATES, steps=9)), 2) == nnx.Adam(Cosine(0.03, steps=9))
    assert member(nnx.Adam(), 2) == nnx.Adam()
    assert member(nnx.Regularization(l2=[1, 2], clip_norm=[None, 3]), 0) == nnx.Regularization(l2=1)
    net = member_of(layered(nnx.Residual([nnx.Dropout([0.1, 0.2])]), nnx.GaussianNoise([1, 2])), 1)
    assert [layer.describe() for layer in (net.layers[1].layers[0], net.layers[2])] == [
        {"rate": 0.2},
        {"std": 2.0},
    ]
    assert isinstance(nnx.Adam([0.1]).learning_rate, PerMember)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nnx.Adam([0.1, 0]), r"learning_rate\[1\] must be greater than 0"),
        (lambda: nnx.Adam([]), "learning_rate is an empty sequence"),
        (lambda: nnx.Adam(beta1=[0.1, 1.0]), r"beta1\[1\] must be between 0 and 1"),
        (lambda: nnx.Adam([[0.1]]), r"learning_rate\[0\] must be greater than 0"),
        (lambda: nnx.Regularization(clip_norm=[None, 0]), r"clip_norm\[1\] must be greater than 0"),
        (lambda: nnx.Dropout([0.5, 1.0]), r"Dropout's rate\[1\] must be in"),
        (lambda: nnx.BatchNorm(momentum=[0.1, 0.2]), "BatchNorm's momentum must be in"),
        (lambda: nnx.LBFGS(gradient_tolerance=[0.1, 0.2]), "gradient_tolerance must be"),
        (lambda: Cosine(0.1, steps=[3, 4]), "steps must be a positive integer"),
        (lambda: initial_state(NET, nnx.Adam(RATES), NET.init()), "Adam's learning_rate is a sequence of 3"),
        (
            lambda: stacked_state(NET, nnx.Adam(RATES[:2]), np.zeros((3, NET.P))),
            "Adam's learning_rate has 2 numbers; expected 3",
        ),
        (
            lambda: stacked_state(layered(nnx.Dropout([0.1] * 4)), nnx.Adam(), np.zeros((3, 43))),
            "Dropout's rate has 4 numbers; expected 3",
        ),
        (
            lambda: stacked_state(NET, nnx.Adam(Cosine(RATES[:2], steps=3)), np.zeros((3, NET.P))),
            "Cosine's learning_rate has 2 numbers; expected 3",
        ),
        (
            lambda: stacked_state(NET, nnx.Adam(Cosine.in_epochs(RATES[:2])), np.zeros((3, NET.P))),
            "Cosine's learning_rate has 2 numbers; expected 3",
        ),
    ],
)
def test_wrong_sequences_are_errors(make, says):
    with pytest.raises(nnx.InputError, match=says):
        make()


COMPILING = pytest.mark.parametrize("backend", ["numpy", "numba", "torch", "jax", "cupy"], indirect=True)


def orders_of(rng, kind):
    """An order of two epochs: one for each member, one for all, or none."""
    own = np.stack([np.concatenate([rng.permutation(M) for _ in range(2)]) for _ in range(K)])
    return {"own": own, "one": own[0], "none": None}[kind]


@COMPILING
@pytest.mark.parametrize("weights", ["own weights", "weights", ""])
@pytest.mark.parametrize("order", ["own", "one", "none"])
def test_a_program_runs_members_as_it_runs_them_alone(backend, rng, order, weights):
    if backend.name == "jax" and (order, weights) not in (
        ("own", "own weights"),
        ("one", "weights"),
        ("none", ""),
    ):
        pytest.skip("JAX compiles each form for some 10 seconds")
    net = layered(nnx.Dropout([0.3, 0.0, 0.9]))
    optimizer, regularization = (
        nnx.Adam(RATES, beta2=[0.99, 0.9, 0.999]),
        nnx.Regularization(l2=[0.1, 0.0, 0.3]),
    )
    (X, Y), order = samples(rng), orders_of(rng, order)
    own = weights == "own weights"
    w = rng.integers(0, 3, (K, M) if own else M).astype("float32") if weights else None
    if own:
        w[1, :] = 0
    thetas = np.stack([net.init(k) for k in range(K)])
    data = backend.asarray(X, "float32"), backend.asarray(Y), None if w is None else backend.asarray(w)
    program = backend.compile(training_step(net, optimizer, regularization, own))
    state = stacked_state(net, optimizer, thetas, regularization)
    program.load({name: backend.asarray(x) for name, x in state.items()})
    calls = [(0, 4, 2), (8, 4, 1), (12, 4, 1)] if order is not None else [(0, 4, 2), (0, 4, 2)]
    Js = []
    for at, m, count in calls:
        places = None if order is None else backend.asarray(order)
        found = program.run(data, places, at, m, count)
        Js.append(np.stack([backend.to_numpy(found[i]) for i in range(count)]))
    assert getattr(program, "_layouts", True)
    caches = [getattr(program, name)._made for name in ("_steps", "_compiled") if hasattr(program, name)]
    assert not caches or all(any(made.values()) or not made for made in caches)  # it did not run as it is
    after = {name: backend.to_numpy(x) for name, x in program.read().items()}
    for k in range(K):
        one = member_of(net, k), member(optimizer, k), member(regularization, k)
        alone = backend.compile(training_step(*one))
        single = initial_state(*one[:2], thetas[k], one[2], k)
        alone.load({name: backend.asarray(x) for name, x in single.items()})
        its = *data[:2], None if w is None else data[2][k, ...] if own else data[2]
        costs = []
        for at, m, count in calls:
            places = None if order is None else backend.asarray(order[k] if order.ndim > 1 else order)
            if own and k == 1:
                costs += [0.0] * count
                continue
            found = alone.run(its, places, at, m, count)
            costs += [float(found[i]) for i in range(count)]
        for name, x in alone.read().items():
            expected = np.reshape(
                backend.to_numpy(x), after[name][k if after[name].shape[0] > 1 else 0].shape
            )
            got = after[name][k if after[name].shape[0] > 1 else 0]
            np.testing.assert_allclose(got, expected, rtol=3e-5, atol=3e-6, err_msg=name)
        np.testing.assert_allclose(np.concatenate(Js)[:, k], costs, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"], indirect=True)
def test_members_alike_have_the_bits_of_their_single_runs(backend, rng):
    net, optimizer = nnx.mlp([4, 5, 3]), nnx.Adam(RATES)
    (X, Y), order = samples(rng), orders_of(rng, "own")
    data, thetas = (X.astype("float32"), Y, None), np.stack([net.init(k) for k in range(K)])
    program = backend.compile(training_step(net, optimizer))
    program.load(stacked_state(net, optimizer, thetas))
    Js = program.run(data, order, 0, 4, 4)
    for k, rate in enumerate(RATES):
        alone = backend.compile(training_step(net, nnx.Adam(rate)))
        alone.load(initial_state(net, nnx.Adam(rate), thetas[k]))
        np.testing.assert_array_equal(Js[:, k], alone.run(data, order[k], 0, 4, 4))
        np.testing.assert_array_equal(program.read("theta")["theta"][k], alone.read("theta")["theta"])


@pytest.mark.parametrize("backend", ["numpy", "torch"], indirect=True)
@pytest.mark.parametrize(
    ("live", "size", "groups"),
    [
        (None, 1, [0, 1, 2]),
        (None, 2, [slice(0, 2), 2]),
        ([0, 2], 1, [0, 2]),
        ([1], 2, [slice(0, 2)]),
        (None, 9, [slice(0, 3)]),
    ],
)
def test_members_run_in_groups_as_they_run_all_at_once(backend, rng, live, size, groups):
    net = layered(nnx.BatchNorm(), nnx.Dropout([0.3, 0.0, 0.9]), nnx.PReLU())
    optimizer, own = nnx.Momentum(RATES, momentum=[0.9, 0.5, 0.1]), nnx.Regularization(l2=[0.1, 0.0, 0.3])
    (X, Y), order, w = samples(rng), orders_of(rng, "own"), rng.integers(0, 3, (K, M)).astype("float32")
    data = backend.asarray(X, "float32"), backend.asarray(Y), backend.asarray(w)
    state = stacked_state(net, optimizer, np.stack([net.init(k) for k in range(K)]), own)
    found, costs, order = [], [], backend.asarray(order)
    for most, its in ((size, live), (np.inf, None)):
        program = backend.compile(training_step(net, optimizer, own, own_weights=live is not None))
        program.load({name: backend.asarray(x) for name, x in state.items()})
        _, member = program._step(data, order, 4, 0)
        program._library, program.live = program._library._replace(group_bytes=most * member.bytes), its
        assert program._groups(data, order, 4) == (groups if most < np.inf else [None])
        costs.append(backend.to_numpy(program.run(data, order, 0, 4, 4)))
        assert all(program._steps._made.values())  # it did not run as it is
        found.append({name: backend.to_numpy(x) for name, x in program.read().items()})
    (ours, whole), rtol = found, 0 if backend.name == "numpy" else 1e-5
    for k in live or range(K):
        np.testing.assert_allclose(costs[0][:, k], costs[1][:, k], rtol=rtol)
        for name, x in ours.items():
            row = k if len(x) == K else 0
            np.testing.assert_allclose(x[row], whole[name][row], rtol=rtol, atol=rtol / 10, err_msg=name)
    left_out = {*range(K)} - {k for rows in groups for k in np.arange(K)[rows].reshape(-1).tolist()}
    for k in left_out:
        np.testing.assert_array_equal(ours["theta"][k], state["theta"][k])
        assert not costs[0][:, k].any()


@pytest.mark.parametrize("backend", ["jax"], indirect=True)
def test_jax_computes_as_many_members_at_once_as_stay_in_the_cache(backend, rng):
    net, optimizer = NET, nnx.Momentum(RATES)
    (X, Y), w = samples(rng), backend.asarray(rng.integers(1, 3, (K, M)), "float32")
    data, order = (
        (backend.asarray(X, "float32"), backend.asarray(Y), w),
        backend.asarray(orders_of(rng, "own")),
    )
    state = stacked_state(net, optimizer, np.stack([net.init(k) for k in range(K)]))
    member = 2 * sum(x.nbytes for x in state.values()) // K
    found = []
    for most in (np.inf, 2 * member):  # 2 and 1
        program = backend.compile(training_step(net, optimizer))
        program._group_bytes = most
        program.load({name: backend.asarray(x) for name, x in state.items()})
        found.append((program.run(data, order, 0, 4, 4)[:4], program.read("theta")["theta"]))
    for ours, whole in zip(*found, strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-6)


def test_the_summary_of_a_network_with_numbers_of_each_member():
    network, one = (
        nnx.Network(4, [nnx.Dense(6, "tanh"), nnx.Dropout(rate), nnx.Dense(3)], "softmax")
        for rate in ([0.1, 0.5], 0.1)
    )
    assert repr(network.summary()) == repr(one.summary())


@pytest.mark.parametrize("backend", ["numba"], indirect=True)
@pytest.mark.parametrize(("live", "last"), [([0, 2], 0), ([1], 0), (None, 2), ([0, 2], 1)])
def test_numba_leaves_out_members_that_are_gone(backend, rng, monkeypatch, live, last):
    """And all threads do the last members together, one after the other."""
    monkeypatch.setattr("nnx.backends.numba.members.members_behind", lambda n, T, seconds: last)
    net, optimizer = nnx.mlp([4, 5, 3]), nnx.Adam(RATES)
    (X, Y), order, w = samples(rng), orders_of(rng, "own"), rng.integers(1, 3, (K, M)).astype("float32")
    state = stacked_state(net, optimizer, np.stack([net.init(k) for k in range(K)]))
    program = backend.compile(training_step(net, optimizer))
    program.load(state)
    program.live = live
    Js = program.run((X.astype("float32"), Y, w), order, 0, 4, 4)
    after = program.read()
    for k, rate in enumerate(RATES):
        if live is not None and k not in live:
            assert not Js[:, k].any()
            for name, x in after.items():
                np.testing.assert_array_equal(x[k], state[name][k])
            continue
        alone = backend.compile(training_step(net, nnx.Adam(rate)))
        alone.load(initial_state(net, nnx.Adam(rate), state["theta"][k]))
        np.testing.assert_array_equal(Js[:, k], alone.run((X.astype("float32"), Y, w[k]), order[k], 0, 4, 4))
        np.testing.assert_array_equal(after["theta"][k], alone.read("theta")["theta"])
