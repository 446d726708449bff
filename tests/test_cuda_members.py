"""Stacks on CuPy: each member has the bits of its single run, in any order of threads, and reads no other member."""

import logging

import numpy as np
import pytest
from cuda_host import steps
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import installed
from step_cases import CASES, digits
from test_cuda_kernels import NOT_RENDERED, WIDE
from test_cuda_mutants import replaced, wrong

import nnx
from nnx.array.members import of_member
from nnx.backends.cupy.members import of_members
from nnx.backends.cupy.rendering import render_step
from nnx.backends.cupy.step import SCRATCH, Launch, Product
from nnx.compiler import TraceError
from nnx.train.step import stacked, training_step

pytestmark = needs_compiler

K, M = 3, 45


def members(made, dtype="float32", m=M):
    """A step of a member, and the states and batches of all: their parameters, rates, keys and samples differ."""
    step, state, batch = made(dtype, m=m)
    rng, states, batches = np.random.default_rng(0), [], []
    for k in range(K):
        noise = 0.1 * rng.standard_normal(state["theta"].shape)
        own = {"theta": state["theta"] + noise.astype(dtype), "alpha": state["alpha"] * (1 + k)}
        own |= {"key": state["key"] + k} if "key" in state else {}
        states.append({name: np.asarray(own.get(name, x)) for name, x in state.items()})
        batches.append(tuple(np.roll(x, k, axis=-1) for x in batch))
    return render_step(step, states[0], batch, m), states, batches


def stack_of(step, state, shared=(), K=K):
    """The step of K members, who share some of X, Y and weights, and what has one row in the state."""
    (old, batch), place = step.schedule.graph.arguments, step.schedule.place
    alike = {place(x).memory: state[name].shape[0] == 1 for name, x in old.items()}
    alike |= {place(x).memory: i in shared for i, x in enumerate(batch) if x is not None}
    return of_members(step, K, alike)


def together(batches, shared=()):
    """The batches of all members as one: (K, ...), or that of member 0 where it is shared."""
    return tuple(x[0] if i in shared else np.stack(x) for i, x in enumerate(zip(*batches, strict=True)))


SEEN = {"one sample"}
"""The cases that the quick suite has."""

ALIKE = {*nnx.ACTIVATIONS, *NOT_RENDERED} - {"relu"}
"""Cases whose kernels are of one kind with those of another case."""

ALL = {name: made for name, made in CASES.items() if name not in ALIKE} | {
    name: WIDE[name] for name in ("several blocks for a sum", "one unit")
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SEEN else pytest.mark.long) for name in ALL]
)
def test_members_have_the_bits_of_their_single_runs(name):
    m = {"several blocks for a sum": 300, "one sample": 1}.get(name, M)
    step, states, batches = members(ALL[name], m=m)
    state = stacked(states)
    shared = () if len(name) % 2 else (0, 1)  # of either kind there are many
    whole = stack_of(step, state, shared)
    batch = together(batches, shared)
    (first, costs), *others = [steps(whole, state, [batch] * 2, seed) for seed in (0, 1, 5)]
    for new, Js in others:
        for key, x in first.items():
            np.testing.assert_array_equal(new[key], x)
        np.testing.assert_array_equal(Js, costs)
    for k, single in enumerate(states):
        own = tuple(x if i in shared else x[k] for i, x in enumerate(batch))
        new, Js = steps(step, single, [own] * 2)
        for key, x in new.items():
            np.testing.assert_array_equal(of_member(first[key], k), x, err_msg=key)
        np.testing.assert_array_equal([J[k] for J in costs], Js)


# --------------------------------------------------------------------------------------------------------- mutants


@pytest.fixture(scope="module")
def stack():
    """A stack whose blocks share sums, with what two steps of it make."""
    step, states, batches = members(lambda dtype, m: digits(m, (20, 70, 10)), m=300)
    state = stacked(states)
    whole, batch = stack_of(step, state, (0,)), together(batches, (0,))
    new, Js = steps(whole, state, [batch] * 2)
    return whole, state, batch, {**new, "J": Js[-1]}


def changed_strides(step, change, number):
    """A step with the strides of one of its calls changed."""

    def changed(call):
        if isinstance(call, Product):
            return call._replace(strides=tuple(map(change, call.strides)))
        *numbers, (dtype, last) = call.numbers
        return call._replace(numbers=(*numbers, (dtype, change(last))))

    calls = list(step.calls)
    calls[number] = changed(calls[number])
    return step._replace(calls=tuple(calls))


@pytest.mark.long
def test_nothing_is_wrong_with_the_stack_itself(stack):
    assert wrong(stack, stack[0]) is None


@pytest.mark.long
@pytest.mark.parametrize("change", [lambda n: 0, lambda n: n + 4, lambda n: n and n - 4], ids="0+-")
def test_a_row_of_a_neighbour_is_found(stack, change):
    """Of every call the last pointer, or the matrices, are those of member 0, or further on, or not as far."""
    step = stack[0]
    for number in range(len(step.calls)):
        mutant = changed_strides(step, change, number)
        assert mutant == step or wrong(stack, mutant) is not None, step.calls[number]


@pytest.mark.long
def test_a_kernel_that_reads_member_0_is_found(stack):
    step = stack[0]
    for name, text in step.kernels.items():
        moves = [line for line in text.splitlines() if "blockIdx.y" in line]
        kernels = {**step.kernels, name: text.replace(moves[-1], "")}
        assert wrong(stack, step._replace(kernels=kernels)) is not None, name


@pytest.mark.long
@pytest.mark.parametrize("kind", [Launch, Product])
def test_a_member_too_few_is_found(stack, kind):
    mutant = replaced(stack[0], kind, lambda call: call._replace(members=K - 1))
    assert wrong(stack, mutant) is not None


@pytest.mark.long
def test_sums_that_members_share_are_found(stack):
    """The counters of blocks, and the sums that they hand to the last of them."""
    step = stack[0]

    def without(call):
        here = [x.memory == SCRATCH for x in call.arguments]
        own, moves = call.numbers[: -len(here)], call.numbers[-len(here) :]
        alike = [(dtype, 0 if shared else n) for (dtype, n), shared in zip(moves, here, strict=True)]
        return call._replace(numbers=(*own, *alike))

    calls = tuple(without(call) if isinstance(call, Launch) else call for call in step.calls)
    assert calls != step.calls
    assert wrong(stack, step._replace(calls=calls)) is not None


# ------------------------------------------------------------------------------------------------------- the program


@pytest.fixture
def gpu(monkeypatch, caplog):
    """The backend and the module of CuPy. Nothing runs as single operations."""
    with caplog.at_level(logging.DEBUG, logger="nnx"):
        yield installed(monkeypatch, order="any")[:2]
    texts = [record.getMessage() for record in caplog.get_records("call")]
    assert [text for text in texts if "single operations" in text] == []


def loaded(backend, K, net=None, **given):
    """A program with the state of K members, and data for it."""
    net, optimizer = net or nnx.mlp([6, 9, 4]), nnx.Adam(list(np.linspace(0.01, 0.02, K)))
    state = stacked([{name: np.asarray(x) for name, x in member.items()} for member in states(net, K)])
    program = backend.compile(training_step(net, optimizer, **given))
    program.load({name: backend.asarray(x) for name, x in state.items()})
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((6, 50)).astype("float32"), rng.integers(0, 4, 50)
    return program, (backend.asarray(X), backend.asarray(Y), None)


def states(net, K):
    return [nnx.train.step.initial_state(net, nnx.Adam(0.01 * (k + 1)), net.init(k)) for k in range(K)]


def orders(K, epochs=1):
    return np.stack([np.random.default_rng(k).permutation(np.tile(np.arange(50), epochs)) for k in range(K)])


def test_a_step_of_all_members_is_one_launch(gpu):
    backend, cupy = gpu
    program, data = loaded(backend, 5)
    order = backend.asarray(orders(5, 7))
    program.run(data, order, 0, 10, 2)
    before = cupy.launches, cupy.calls
    Js = program.run(data, order, 0, 10, 30)
    assert (cupy.launches - before[0], cupy.calls - before[1]) == (30, 1)
    assert Js.shape == (30, 5)


def test_another_number_of_members_compiles_and_traces_nothing(gpu, monkeypatch):
    backend, cupy = gpu
    program, data = loaded(backend, 5)
    program.run(data, backend.asarray(orders(5)), 0, 10, 3)
    compiled = len(cupy.compiled)
    with monkeypatch.context() as patch:
        patch.setattr("nnx.backends.cupy.program.render_step", None)
        for K in (4, 2, 1):
            program.load({name: x[:K] for name, x in program.read().items()})
            assert program.run(data, backend.asarray(orders(K)), 0, 10, 2).shape == (2, K)
    assert len(cupy.compiled) == compiled
    alone, _ = loaded(backend, 1)
    alone.run(data, backend.asarray(orders(1)), 0, 10, 3)
    for _ in range(3):
        alone.run(data, backend.asarray(orders(1)), 0, 10, 2)
    np.testing.assert_array_equal(program.read()["theta"], alone.read()["theta"])


def test_what_stands_behind_the_rows_is_no_number_of_the_state(gpu):
    backend, _ = gpu
    program, data = loaded(backend, 3)
    assert program._memory.members == 3
    assert program.read()["theta"].shape[1] % 4  # something stands there
    program.run(data, None, 0, 10, 2)
    assert program.finite
    theta = program.read()["theta"]
    theta[2, -1] = np.nan
    program.load({"theta": theta})
    assert not program.finite


def test_samples_of_all_members_are_picked_once(gpu):
    backend, _ = gpu
    program, data = loaded(backend, 4)
    for order, rows in ((orders(4), 4), (orders(1)[0], 1), (None, 1)):
        program._steps.clear()
        program.run(data, None if order is None else backend.asarray(order), 0, 10, 1)
        ((_, step),) = program._steps._made.items()
        assert step.calls.calls[0].members == rows
        assert step.calls.calls[0].kernel == "pick_members"


def test_an_order_of_any_layout(gpu):
    backend, _ = gpu
    program, data = loaded(backend, 3)
    program.snapshot()
    found = []
    for dtype, change in (
        ("int64", np.ascontiguousarray),
        ("int32", np.asfortranarray),
        ("int16", lambda x: x),
    ):
        program.rollback()
        program.run(data, backend.asarray(change(orders(3)).astype(dtype)), 10, 10, 4)
        found.append(np.array(program.read()["theta"]))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_more_members_than_blocks_are_refused():
    step, states, _ = members(CASES["tanh"])
    with pytest.raises(TraceError, match="65536 members"):
        stack_of(step, stacked(states), K=1 << 16)


@pytest.mark.long
def test_too_little_memory_for_all_members_says_how_many_samples_fit(monkeypatch):
    backend, cupy, _ = installed(monkeypatch)
    net = nnx.mlp([6, 300, 4])
    backend.gpu.lt.workspace = 1024
    program, data = loaded(backend, 64, net)
    cupy.limit = cupy.used + program._memory.missing_bytes + (4 << 20)
    with pytest.raises(MemoryError, match=r"a batch_size of \d+ fits"):
        program.run(data, None, 0, 50, 1)


@pytest.mark.long
def test_predictions_and_metrics_of_members_are_kernels(gpu, rng):
    backend, _ = gpu
    trainer = nnx.Trainer(nnx.mlp([6, 9, 4]), "adam", backend, members=3)
    X, Y, w = rng.standard_normal((6, 20)), rng.integers(0, 4, 20), rng.random(20)
    wanted = ["accuracy", "f1", "confusion_matrix"]
    A, measured = trainer.predict(X), trainer.evaluate(X, Y, sample_weight=w, metrics=wanted)
    programs = [trainer.session.forward, *(made for _, made in trainer.session.compiled_metrics.values())]
    assert all(all(program._functions._made.values()) for program in programs)
    for k in range(3):
        single = trainer.member(k)
        np.testing.assert_array_equal(A[k], single.predict(X))
        own = single.evaluate(X, Y, sample_weight=w, metrics=wanted)
        for name, x in own.items():
            np.testing.assert_array_equal(measured[name][k], x)


@pytest.mark.long
def test_members_are_measured_on_samples_of_their_own(gpu, rng):
    backend, _ = gpu
    net, X, Y = nnx.mlp([6, 9, 4]), rng.standard_normal((6, 40)), rng.integers(0, 4, 40)
    given = {"epochs": 2, "batch_size": 10, "validation_split": 0.3, "training_metrics": True}
    trainer = nnx.Trainer(net, nnx.Adam([0.01, 0.02]), backend, seed=[4, 9], members=2, dtype="float64")
    trainer.fit(X, Y, **given)
    for k, (seed, rate) in enumerate([(4, 0.01), (9, 0.02)]):
        single = nnx.Trainer(net, nnx.Adam(rate), backend, seed=seed, dtype="float64")
        single.fit(X, Y, **given)
        assert trainer.each[k].session.records == single.records


@pytest.mark.long
def test_micro_batches_of_members_are_kernels(gpu, rng):
    backend, _ = gpu
    net = nnx.Network(6, [nnx.Dense(9, "tanh"), nnx.Dropout(0.3), nnx.Dense(4)], "softmax")
    X, Y, w = (
        rng.standard_normal((6, 40)),
        rng.integers(0, 4, 40),
        rng.integers(1, 3, (2, 40)).astype("float64"),
    )
    for shuffle in (True, False):
        given = {"epochs": 2, "batch_size": 20, "micro_batch": 10, "shuffle": shuffle}
        more = nnx.Regularization(l2=0.1)
        trainer = nnx.Trainer(
            net, nnx.Adam([0.01, 0.02]), backend, seed=[4, 9], members=2, regularization=more
        )
        trainer.fit(X, Y, sample_weight=w, **given)
        for k, (seed, rate) in enumerate([(4, 0.01), (9, 0.02)]):
            single = nnx.Trainer(net, nnx.Adam(rate), backend, seed=seed, regularization=more)
            single.fit(X, Y, sample_weight=w[k], **given)
            np.testing.assert_allclose(trainer.theta[k], single.theta, rtol=1e-5, atol=1e-7)
