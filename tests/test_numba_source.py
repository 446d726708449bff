"""numba's source of a step, and the compiled steps on disk."""

import threading

import numpy as np
import pytest
from step_cases import close, digits

import nnx
from nnx.backends.numba.expressions import FLOAT32
from nnx.backends.numba.step_renderer import NumbaStepRenderer
from nnx.compiler import trace
from nnx.train.step import initial_state, training_step


def source(optimizer=None, regularization=None):
    network = nnx.mlp([20, 12, 12, 5])
    optimizer = optimizer or nnx.Adam()
    extra = [regularization] if regularization else []
    state = initial_state(network, optimizer, network.init(0), *extra)
    batch = np.zeros((20, 8), "float32"), np.zeros(8, "int32")
    return NumbaStepRenderer(trace(training_step(network, optimizer, *extra), state, batch)).source().text


def test_each_derivative_is_used_where_it_is_made():
    """All dW in tiles, the biases together; no meeting of the threads more than between two layers."""
    text = source()
    assert text.count("operand(v") > 0
    step = text[text.index("def step(") :]
    assert (
        len([line for line in step.splitlines() if "scalars_float32" in line and "(t, T, (C_" in line]) == 3
    )
    assert [text.count(f"= {loop}") for loop in ("over_tiles(tile_gemm, ", "over_ranges(")] == [1, 1]
    assert "gemm_partition(" not in step


def test_a_barrier_stands_between_gathering_samples_and_transposing_them():
    network, optimizer, m = nnx.mlp([100, 260, 5]), nnx.Adam(), 144
    state = initial_state(network, optimizer, network.init(0))
    batch = np.zeros((100, m), "float32"), np.zeros(m, "int32")
    text = NumbaStepRenderer(trace(training_step(network, optimizer), state, batch)).source().text
    lines = text[text.index("def step(") :].splitlines()
    (gathers,) = [k for k, line in enumerate(lines) if "gather(t, T, rows, order, start" in line]
    transposes = next(k for k, line in enumerate(lines) if "transpose(t, T, " in line)
    assert gathers < transposes
    assert any("barrier(sync, T, " in line for line in lines[gathers:transposes])


@pytest.mark.parametrize(
    "regularization", [nnx.Regularization(l2=0.1), nnx.Regularization(clip_norm=1.0)], ids=["l2", "clipped"]
)
def test_what_needs_the_whole_gradient_has_it(regularization):
    step = source(regularization=regularization)
    assert "over_tiles(" not in step


def test_the_source_holds_no_size_and_no_number():
    """So one compiled function serves all sizes, all batches, all rates."""
    sources = set()
    for m, sizes, rate in ((16, (64, 32, 32, 10), 0.1), (5, (20, 10, 10, 4), 0.3)):
        step, state, batch = digits(m, sizes, nnx.Adam(rate))
        sources.add(NumbaStepRenderer(trace(step, state, batch)).source().text)
    assert len(sources) == 1


def test_layers_of_one_form_share_a_kernel():
    texts = []
    for hidden in (2, 6):
        step, state, batch = digits(8, (9, *[7] * hidden, 5))
        texts.append(NumbaStepRenderer(trace(step, state, batch)).source().text)
    assert texts[0].count("@njit") == texts[1].count("@njit")


def test_compiled_steps_are_kept_and_share_what_they_call(tmp_path, monkeypatch):
    """Another program compiles nothing for the same form, and its own loops alone for another one."""
    pytest.importorskip("numba")
    from nnx.backends.numba import compiled

    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "cache"))
    for activation, misses in (("relu", 1), ("relu", 0), ("softplus", 1)):
        monkeypatch.setattr(compiled, "_modules", {})
        step, state, (X, Y) = digits(sizes=(20, 10, 5), hidden=activation)
        expected, _ = step(state, (X, Y))
        program = nnx.backend("numba").compile(step)
        program.load(state)
        program.run((X, Y, None), None, 0, 16, 1)
        close(program.read(), expected, "float32")
        together, module = compiled._modules.values()
        assert sum(module.step.stats.cache_misses.values()) == misses
        assert sum(module.step.stats.cache_hits.values()) == 1 - misses
    functions = {name: f.stats for name, f in vars(together).items() if hasattr(f, "stats")}
    assert sum(functions["gemm_owner_computes"].cache_hits.values()) > 0
    assert not functions["gemm_owner_computes"].cache_misses
    assert len([*(tmp_path / "cache").glob("step_*.py")]) == 2
    assert len([*(tmp_path / "cache").glob("runtime_*.py")]) == 1


def test_one_process_compiles_at_a_time(tmp_path):
    pytest.importorskip("fcntl", reason="files are not locked on Windows")
    from nnx.io.private_folder import file_lock

    entered, seen = threading.Event(), []

    def other():
        entered.set()
        with file_lock(tmp_path / "lock"):  # of a file that is opened anew, as in another process
            seen.append("other")

    with file_lock(tmp_path / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(60)
        thread.join(0.2)
        seen.append("this one")
    thread.join(60)
    assert seen == ["this one", "other"]
    with file_lock(tmp_path / "no such folder" / "lock"):
        pass


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    from nnx.backends.numba import compiled

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NNX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert compiled.source_file("step_test.py", "x = 1\n").read_text() == "x = 1\n"


def test_elementary_functions():
    """In float32, to 4 ulp, and NaN and infinity as everywhere."""
    numba = pytest.importorskip("numba")
    from nnx.backends.numba.runtime import elementary

    rng = np.random.default_rng(0)
    spread = np.exp(rng.uniform(-90, 88, 4_000)) * rng.choice([-1, 1], 4_000)
    near = rng.uniform(-3, 3, 4_000)
    wide = rng.uniform(-120, 100, 4_000)
    ends = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-45,
        1e-40,
        -1.0,
        3.4028e38,
        88.7,
        88.8,
        -103.9,
        -104.1,
        0.625,
    ]
    x = np.concatenate([spread, near, wide, 1 + 1e-3 * near, ends]).astype("float32")
    for plain, name in FLOAT32.items():
        with np.errstate(all="ignore"):
            expected = getattr(np, plain)(x.astype("float64"))
            function = getattr(elementary, name)
            call = numba.njit(lambda one: function(one))  # noqa: B023
            found = np.array([call(one) for one in x])  # as Python's numbers
            assert (found == found.astype("float32")).sum() == (found == found).sum()
            # of numbers below 2^-126, which come out as a whole number of 2^-149
            ulp = np.maximum(np.spacing(np.abs(expected).astype("float32")), np.float32(1e-45)).astype(
                "float64"
            )
            rounded = expected.astype("float32")
            off = np.where(np.isfinite(rounded), np.abs(found - expected) / ulp, 0)
            np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded), name)
            np.testing.assert_array_equal(np.isinf(found), np.isinf(rounded), name)
            assert off[~np.isnan(off)].max() <= 4, name
