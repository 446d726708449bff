"""The steps of several ranks, which are threads here, beside those of one: `test_ranks` has real ones."""

import numpy as np
import pytest
from step_cases import CASES
from thread_ranks import in_ranks

import nnx
from nnx.array.all_reduce import all_reduce
from nnx.backends.numpy.calls import TARGET, render
from nnx.batches import Batches
from nnx.batches.shares import RankBatches
from nnx.compiler import TraceError, step_graph, trace
from nnx.compiler.pipeline import schedule
from nnx.compiler.schedule import AllReduce, Gemm
from nnx.model.network import Network
from nnx.port.communicator import Alone
from nnx.port.program import Program
from nnx.train.share import Share
from nnx.train.step import cost_and_gradient, initial_state, micro_batch_step, training_step

M = 7
"""Samples of a batch: no number of ranks above 1 divides them."""

WHOLE = {name: made for name, made in CASES.items() if name != "stack" and not made.network.whole_batches}
"""The cases of one network without BatchNorm."""


def shared(communicator, batch, batch_size=None, rng=None, micro_batch=None):
    """The batches of a rank, of the numpy backend's arrays."""
    X, Y, w = (*batch, None)[:3]
    return RankBatches(nnx.backend("numpy"), X, Y, w, batch_size, rng, micro_batch, communicator)


def run(program, state, batch, steps=3):
    program.load(state)
    Js = program.run(batch, None, 0, batch[0].shape[-1], steps)
    return [float(J) for J in Js[:steps]], program.read()


def close(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found[0], expected[0], rtol=rtol)
    for name, x in expected[1].items():
        np.testing.assert_allclose(found[1][name], x, rtol=rtol, atol=rtol, err_msg=name)


QUICK = {
    "tanh", "binary_cross_entropy sigmoid", "half_squared_error identity", "momentum", "adam", "one sample",
    "no hidden layer", "weights", "prelu", "dropout", "noise", "layer norm", "residual", "l1",
}  # fmt: skip
"""The others differ from one of these in a formula of an activation, loss or optimizer alone."""

SIZES = {
    **{(name, 3, M): None for name in WHOLE},
    **{
        (name, *size): None
        for name in ("weights", "dropout", "noise")
        for size in ((1, M), (2, M), (4, 3), (4, 2))
    },
}
"""Ranks and samples of a batch."""


@pytest.mark.parametrize(
    ("name", "size", "m"),
    [pytest.param(*one, marks=() if one[0] in QUICK else pytest.mark.long) for one in SIZES],
)
def test_a_step_is_that_of_one_rank(name, size, m):
    """Also where a rank has no samples, and where ranks compute in different ways: compiled, and as it is."""
    step, state, batch = CASES[name]("float64", m)
    whole = (*batch, None)[:3]
    expected = run(nnx.backend("numpy").compile(step), state, whole)

    def rank(communicator):
        ((own, start, ends),) = shared(communicator, batch).epoch()
        assert (start, ends) == (0, True)
        share = Share(communicator, shared(communicator, batch).start)
        step = CASES[name]("float64", m, share=share)[0]
        compiled = nnx.backend("numpy").compile(step)
        found = run(compiled, state, own)
        assert [one is not None for one in compiled._steps._made.values()] == [True]
        assert communicator.sums == 3 * [state["theta"].size + 2]  # one sum of one vector for each step
        gradient = cost_and_gradient(CASES[name].network, CASES[name].regularization, share)
        return found, run(Program(step), state, own), gradient(state, own)

    J, dtheta = cost_and_gradient(CASES[name].network, CASES[name].regularization)(state, whole)
    for compiled, plain, (its_J, its_dtheta) in in_ranks(size, rank):
        close(compiled, expected)
        close(plain, expected)
        np.testing.assert_allclose(its_J, J, rtol=1e-12)
        np.testing.assert_allclose(its_dtheta, dtheta, rtol=1e-12, atol=1e-13)


def test_all_ranks_have_the_same_bits_in_each_run():
    def rank(communicator):
        step, state, batch = CASES["dropout"]("float32", M, share=Share(communicator, 2 * communicator.rank))
        ((own, _, _),) = shared(communicator, batch).epoch()
        return run(nnx.backend("numpy").compile(step), state, own, steps=20)

    first, *others = [*in_ranks(4, rank), *in_ranks(4, rank)]
    for other in others:
        assert other[0] == first[0]
        assert all(np.array_equal(x, other[1][name]) for name, x in first[1].items())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("shuffle", [True, False])
def test_shares_are_the_batches_of_one_rank(shuffle, size):
    for micro_batch in (None, 2):
        for m, batch_size in ((12, 4), (13, 5), (13, None), (9, 2), (3, 3), (1, 1)):
            check_shares(m, batch_size, micro_batch, shuffle, size)


def check_shares(m, batch_size, micro_batch, shuffle, size):
    X, Y, w = np.arange(m)[None] + 0.5, np.arange(m), np.linspace(1, 2, m)
    rng = np.random.default_rng if shuffle else lambda seed: None
    whole = Batches(nnx.backend("numpy"), X, Y, w, batch_size, rng(5))
    expected = [[Y.tolist() for (_, Y, _), _, _ in whole.epoch()] for _ in range(2)]

    def rank(communicator):
        found, epochs = shared(communicator, (X, Y, w), batch_size, rng(5), micro_batch), []
        assert (found.m, found.batch_size, found.steps) == (m, whole.batch_size, whole.steps)
        for _ in range(2):
            steps = [[]]
            for (its_X, its_Y, its_w), start, ends in found.epoch():
                assert start == len(steps[-1])
                weighs = its_w > 0
                assert np.array_equal(its_X[0], its_Y + 0.5)
                assert np.array_equal(its_w[weighs], w[its_Y[weighs]])
                steps[-1] += its_Y[weighs].tolist()
                assert len(its_Y) <= (micro_batch or m)
                steps += [[]] if ends else []
            assert steps.pop() == []
            epochs.append(steps)
        return epochs

    ranks = in_ranks(size, rank)
    for epoch, batches in enumerate(expected):
        for step, batch in enumerate(batches):
            assert [k for its in ranks for k in its[epoch][step]] == batch


def test_calls_of_several_steps_take_the_same_samples():
    """`taken`, as the loop uses it, beside the pieces of an epoch; and the weights are those of all ranks."""
    m, size = 13, 4
    X, Y, w = np.arange(m)[None] + 0.5, np.arange(m), np.linspace(0, 2, m)

    def rank(communicator):
        one, other = (shared(communicator, (X, Y, w), size, np.random.default_rng(5)) for _ in range(2))
        order = one.order()
        taken = [Y.tolist() for (_, Y, _), _, _ in other.epoch()]
        assert [one.batch(order, step)[1].tolist() for step in range(4)] == taken
        data, own, at, k = one.taken(order, 1, size)
        found = [data[1][own[at + n * k : at + (n + 1) * k]].tolist() for n in range(2)]
        assert found == taken[1:3]
        whole = Batches(nnx.backend("numpy"), X, Y, w, size, np.random.default_rng(5))
        order_of_all = whole.order()
        assert one.weights(order, 1, size, 2) == [float(x) for x in whole.weights(order_of_all, 1, size, 2)]

    in_ranks(2, rank)


def test_a_batch_without_weight_is_left_out_by_all():
    m = 6
    X, Y, w = np.ones((1, m)), np.arange(m), np.array([1.0, 1, 0, 0, 1, 0])

    def rank(communicator):
        found = shared(communicator, (X, Y, w), 2)
        assert found.idle(found.order()) == [1]
        return [its_Y.tolist() for (_, its_Y, _), _, _ in found.epoch()]

    assert in_ranks(2, rank) == [[[0], [], [4]], [[1], [], [5]]]


def test_metrics_look_at_all_samples():
    m = 10
    X, Y = np.arange(m)[None] + 0.5, np.arange(m)

    def rank(communicator):
        some = shared(communicator, (X, Y), 4).some(6, 4, seed=1)
        return [its_Y.tolist() for (_, its_Y, _), _, _ in some.epoch()]

    first, second = in_ranks(2, rank)
    assert first == second
    assert len({k for batch in first for k in batch}) == 6


def test_batch_norm_is_refused():
    network = Network(4, [nnx.Dense(5), nnx.BatchNorm(), nnx.Dense(3)], "softmax")
    share = Share(Alone(), 0)
    for make in (training_step, micro_batch_step):
        with pytest.raises(
            nnx.InputError, match=r"BatchNorm cannot be trained on several ranks.*use LayerNorm"
        ):
            make(network, nnx.Adam(), share=share)


def test_the_sum_in_the_schedule():
    """It comes between the gradient and the optimizer, in place, and is no constant."""
    step, state, batch = CASES["adam"]("float32", share=Share(Alone(), 0))
    own, slots = step_graph(trace(step, state, batch))
    made = schedule(own, TARGET, slots)
    instructions = made.instructions
    (at,) = [k for k, one in enumerate(instructions) if isinstance(one, AllReduce)]
    assert not any(isinstance(one, Gemm) for one in instructions[at:])
    vectors = {new for new, old in slots.items() if old.ndim}
    later = {op.out for one in instructions[at:] for op in getattr(one, "ops", ())}
    assert vectors <= later
    assert instructions[at].op.out not in own.constants
    op = instructions[at].op
    assert made.place(op.out) == made.place(op.reads[0])  # in place
    (line,) = [line for line in render(own, slots).source.splitlines() if "sum_" in line]
    assert line.strip() == f"sum_{op.out.number}(v{op.out.number})"


def test_what_a_sum_takes():
    for x in (np.ones((2, 2)), np.ones(2, np.int32)):
        with pytest.raises(TraceError, match=r"all_reduce of .* takes a vector of floats"):
            trace(lambda x: all_reduce(x, Alone()), x)
    x = np.arange(3.0)
    assert all_reduce(x, Alone()) is not x
    graph = trace(lambda x: (all_reduce(x, Alone()) + x, all_reduce(x, Alone())), x)
    assert [op.name for op in graph.ops].count("all_reduce") == 1  # the same sum is done once
    found = nnx.backend("numpy").compile(lambda x: (all_reduce(x, Alone()) + x, x))(x)
    assert found[0].tolist() == [0, 2, 4]
    assert x.tolist() == [0, 1, 2]  # an argument is not written over


@pytest.mark.needs("numba")
def test_numba_sums_within_its_loop():
    """One call does many steps. An error of a sum is raised behind them, and the state is as before the call."""
    network = nnx.mlp([4, 5, 3], "tanh", "softmax")
    regularization = nnx.Regularization(l2=0.01, clip_norm=0.3)
    X, Y = np.random.default_rng(0).standard_normal((4, 40)), np.arange(40) % 3
    order = np.random.default_rng(1).permutation(40)

    class Doubles(Alone):  # as of two ranks with the same samples
        sums, last = 0, 100

        def sum(self, vector):
            self.sums += 1
            if self.sums > self.last:
                raise nnx.CommunicatorError("the other rank is gone")
            vector += vector

    both = Doubles()
    found, programs = [], []
    for share in (None, Share(both, 0)):
        step = training_step(network, nnx.Adam(), regularization, share=share)
        program = nnx.backend("numba").compile(step)
        program.load(initial_state(network, nnx.Adam(), network.init(0, "float64"), regularization))
        Js = program.run((X, Y, None), order, 0, 10, 4)
        found.append(([float(J) for J in Js], program.read()))
        assert all(step is not None for step in program._compiled._made.values())
        programs.append(program)
    assert both.sums == 4
    close(found[1], found[0])
    both.last = both.sums + 2
    with pytest.raises(nnx.CommunicatorError, match="is gone"):
        programs[1].run((X, Y, None), order, 0, 10, 4)
    assert both.sums == both.last + 1  # no sum behind the one that failed
    for name, x in programs[1].read().items():
        assert np.array_equal(x, found[1][1][name])


def test_a_sum_that_fails_is_not_done_again(backend):
    """On every backend: steps through the sum of one rank. A sum that fails is done once, as by the other ranks.

    The state is then as before the call.
    """
    network = nnx.mlp([4, 5, 3], "tanh", "softmax")
    X, Y = np.random.default_rng(0).standard_normal((4, 40)).astype("float32"), np.arange(40) % 3
    alone = nnx.backend("numpy").compile(training_step(network, nnx.Adam()))
    alone.load(initial_state(network, nnx.Adam(), network.init(0)))
    alone.run((X, Y, None), None, 0, 10, 4)
    data = backend.asarray(X), backend.asarray(Y), None

    class Fails(Alone):
        sums, last = 0, 100

        def sum(self, vector):
            self.sums += 1
            if self.sums > self.last:
                raise OSError("the other rank is gone")

    one = Fails()
    program = backend.compile(training_step(network, nnx.Adam(), share=Share(one, 0)))
    program.load(initial_state(network, nnx.Adam(), backend.asarray(network.init(0))))
    program.run(data, None, 0, 10, 4)
    before = backend.to_numpy(program.read("theta")["theta"])
    np.testing.assert_allclose(before, alone.read("theta")["theta"], rtol=1e-5, atol=1e-6)
    one.last = one.sums + 2

    def run():
        Js = program.run(data, None, 0, 10, 4)
        return backend.to_numpy(Js[0] if isinstance(Js, list) else Js)

    with pytest.raises(Exception, match="the other rank is gone"):  # JAX's own, or the OSError
        run()
    assert one.sums == one.last + 1
    assert np.array_equal(backend.to_numpy(program.read("theta")["theta"]), before)
