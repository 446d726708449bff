"""A network as a table."""

import io
import tracemalloc

import numpy as np
import pytest

import nnx
from nnx.model.layers import (
    BatchNorm,
    Context,
    Dense,
    Dropout,
    GaussianNoise,
    Layer,
    LayerNorm,
    PReLU,
    Residual,
    forward,
)


def a_network():
    inner = Residual([Dense(7, "mish"), Dense(5)])
    block = Residual([LayerNorm(), Dense(5, "gelu"), inner, Dense(6)])
    stack = [BatchNorm(), Dense(6, "relu"), Dropout(0.2), block, PReLU(), GaussianNoise(0.1), Dense(3)]
    return nnx.Network(8, stack, output="softmax")


def test_rows():
    found = a_network().summary()
    assert [(row.l, "  " * row.depth + row.kind, row.units) for row in found.rows] == [
        (0, "input", 8),
        (None, "BatchNorm", 8),
        (1, "Dense", 6),
        (None, "Dropout", 6),
        (None, "Residual", 6),
        (None, "  LayerNorm", 6),
        (2, "  Dense", 5),
        (None, "  Residual", 5),
        (3, "    Dense", 7),
        (4, "    Dense", 5),
        (5, "  Dense", 6),
        (None, "PReLU", 6),
        (None, "GaussianNoise", 6),
        (6, "Dense", 3),
    ]
    activations = [row.activation for row in found.rows if row.activation]
    assert activations == ["relu", "gelu", "mish", "identity", "identity", "softmax, cross-entropy"]


def test_the_rows_are_all_of_the_network():
    network = a_network()
    found = network.summary()
    shapes = [item for row in found.rows for item in row.shapes.items()]
    assert shapes == list(network.shapes.items())
    for row in found.rows:
        assert row.parameters == sum(n * k for n, k in row.shapes.values())
    assert found.parameters == network.P
    assert found.bytes == network.init(0, "float32").nbytes
    assert found.not_learned == 16 == sum(np.prod(network.shapes[name]) for name in network.statistics)


@pytest.mark.parametrize(
    ("layer", "kept"),
    [
        (Dense(5, "relu"), 5),  # A
        (Dense(5, "silu"), 5),  # Z
        (Dense(5, "gelu"), 10),  # Z and A
        (Dropout(0.5), 4),  # the mask
        (GaussianNoise(0.5), 0),
        (LayerNorm(), 4 + 1),  # A_hat and 1/s of each sample
        (BatchNorm(), 4),  # A_hat; the rest is of the batch
    ],
)
def test_what_is_kept(layer, kept):
    # The last Dense keeps its input, where no layer has kept it: its derivative is 1 and needs nothing.
    n = layer.units(4)
    rows = nnx.Network(4, [layer, Dense(2)], output="softmax").summary().rows
    assert rows[1].kept == kept
    assert rows[2].kept == (0 if type(layer) is Dense and "A" in layer.g.keep else n)


def test_what_is_kept_is_what_a_step_keeps(rng):
    """Counted once more, in a step on random samples and parameters: every array that lives, once."""
    network, m = a_network(), 11
    X, theta = rng.standard_normal((8, m)), network.init(0, "float64")
    context = Context(training=True, key=np.asarray([1, 2], dtype=np.int32))
    _, kept = forward(network.layers, network._layout.views(theta), X, context)
    arrays = {}

    def collect(x):
        if isinstance(x, np.ndarray):
            arrays[id(x)] = x
        elif x is not None:
            for part in x:
                collect(part)

    collect(kept)
    live = [x for x in arrays.values() if x is not X]
    assert sum(x.size for x in live if x.shape[-1] == m) == network.summary().kept * m


def test_the_table_is_aligned():
    text = str(nnx.mlp([784, 512, 10]).summary())
    header, rule, zero, one, two, blank, total = text.splitlines()
    assert header.split() == ["l", "kind", "units", "shapes", "activation", "parameters", "kept"]
    assert set(rule) == {"-"}
    assert len(rule) == max(map(len, (header, zero, one, two)))
    for line, cell in ((one, "W1 (512, 784), b1 (512, 1)"), (two, "W2 (10, 512), b2 (10, 1)")):
        assert line.index(cell) == header.index("shapes")
    assert zero.split() == ["0", "input", "784"]
    end = header.index("parameters") + len("parameters")
    assert one[:end].endswith("401,920")
    assert two[:end].endswith(" 5,130")
    assert blank == ""
    assert total == "407,050 parameters, 1.6 MB in float32; kept for backward 512 numbers a sample, 2 kB"
    assert text == repr(nnx.mlp([784, 512, 10]).summary())


def test_what_is_not_learned_has_a_column_where_there_is_some():
    text = str(a_network().summary())
    assert "not learned" in text.splitlines()[0]
    assert "(16 of them not learned)" in text
    assert "gamma0 beta0 mean0 variance0 (8, 1)" in text
    assert "not learned" not in str(nnx.mlp([2, 1]).summary())


def test_a_layer_and_an_activation_of_ones_own():
    class Scale(Layer):
        def shapes(self, n_prev):
            return {"gamma": (n_prev, 1)}

        def forward(self, params, A_prev, context):
            return params["gamma"] * A_prev, (params["gamma"], {"A": A_prev, "norm": A_prev * A_prev})

    log = nnx.Activation("log", lambda Z: nnx.array_namespace(Z).log(Z), lambda Z: 1 / Z, "Z")
    rows = nnx.Network(3, [Dense(4, log), Scale(), Dense(2)], output="softmax").summary().rows
    assert [row.kept for row in rows] == [0, 4, 4 + 4, 4]
    assert rows[1].activation == "log"
    assert rows[2].shapes == {"gamma1": (4, 1)}


def test_no_parameters_are_made():
    network = nnx.mlp([4000, 4000, 10])
    tracemalloc.start()
    try:
        found = network.summary()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < found.bytes / 10


def test_the_command_line_shows_the_same_rows():
    console = pytest.importorskip("rich.console")
    from nnx.cli.show import network_table

    network = a_network()
    screen = console.Console(width=160, record=True, file=io.StringIO())
    screen.print(network_table(network))
    text = screen.export_text()
    for row in network.summary().rows:
        assert all(row.cells[name] in text for name in ("l", "kind", "shapes", "activation", "parameters"))
    assert "8 features" in text
    assert f"{network.P:,}" in text
