"""A loss, a schedule, a metric, an activation and a layer of one's own, and how they are checked."""

import copy
import math
import pickle
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

import nnx
from nnx import schedules
from nnx.metrics import metric
from nnx.model.members import together
from nnx.port.program import Program

X = np.random.default_rng(0).standard_normal((3, 40))
Y = X[0] - 2 * X[1]


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr("nnx.model.activations.ACTIVATIONS", dict(nnx.ACTIVATIONS))
    monkeypatch.setattr("nnx.optimizers.schedules.SCHEDULES", dict(schedules.SCHEDULES))
    monkeypatch.setattr("nnx.model.outputs.OWN", {})


def xp(x):
    return nnx.array_namespace(x)


def own_huber(A, Y):
    R = xp(A).abs(A - Y)
    return xp(A).where(R <= 1, 0.5 * R * R, R - 0.5)


def own_huber_derivative(A, Y):
    return xp(A).clip(A - Y, -1.0, 1.0)


def stairs(t):
    return 0.5 ** (t // 3)


def product(A, Y):
    return xp(A).prod(A - Y, axis=-2)


def cubic(name="cubic", **options):
    options = {"derivative": lambda A, Y: 3 * (A - Y) * abs(A - Y)} | options
    return nnx.Loss(name, lambda A, Y: abs(A - Y) ** 3, **options)


# A loss and a schedule, in the step.


def test_a_loss_and_a_schedule_train_as_nnxs_own_do(backend):
    w = np.linspace(0.5, 2, 40)
    found = []
    for loss, rate, on in (
        (own_huber, schedules.Custom(0.1, stairs), backend),  # its derivative is derived
        ("huber", schedules.StepDecay(0.1, every=3, decay=0.5), "numpy"),
    ):
        net = nnx.mlp([3, 4, 1], "tanh", "identity", loss=loss)
        trainer = nnx.Trainer(net, nnx.GradientDescent(rate), backend=on, dtype="float64")
        history = trainer.fit(X, Y, epochs=2, batch_size=10, sample_weight=w)
        found.append((trainer.theta, history["loss"], trainer.evaluate(X, Y, sample_weight=w)["loss"]))
        assert trainer.learning_rate == pytest.approx(0.1 * 0.5**2)  # after 8 steps
    for mine, nnxs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, nnxs, rtol=1e-10)


LOGS = {  # link: (the canonical loss, from A; its derivative)
    "sigmoid": (
        lambda A, Y: -Y * xp(A).log(A) - (1 - Y) * xp(A).log(1 - A),
        lambda A, Y: (A - Y) / (A * (1 - A)),
    ),
    "softmax": (lambda A, Y: -Y * xp(A).log(A), lambda A, Y: -Y / A),
    "identity": (lambda A, Y: 0.5 * (A - Y) ** 2, lambda A, Y: A - Y),
    "exp": (
        lambda A, Y: Y * xp(A).log(xp(A).where(Y > 0, Y, 1.0) / A) - (Y - A),
        lambda A, Y: 1 - Y / A,
    ),
}


@pytest.mark.parametrize("link", nnx.OUTPUTS)
def test_the_derivative_goes_on_through_every_link(link, rng):
    targets = {"sigmoid": [[0, 1, 1], [1, 0, 1]], "softmax": [0, 1, 1]}.get(link, [[0, 2, 1], [1, 3, 0]])
    net, own = (nnx.mlp([3, 4, 2], "tanh", link, loss=loss) for loss in (None, nnx.Loss("log", *LOGS[link])))
    theta, X3, w = net.init(dtype="float64"), rng.standard_normal((3, 3)), np.array([1.0, 2.0, 0.5])
    for weights in (None, w):
        expected = net.loss_and_gradient(theta, X3, np.array(targets), weights)
        for found, wanted in zip(
            own.loss_and_gradient(theta, X3, np.array(targets), weights), expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


def test_a_loss_of_samples_and_one_of_Z():
    def loss(Z, Y):
        return xp(Z).sum(xp(Z).maximum(Z, 0.0) - Z * Y + xp(Z).log1p(xp(Z).exp(-abs(Z))), axis=-2)

    def derivative(Z, Y):
        return 1 / (1 + xp(Z).exp(-Z)) - Y

    own = nnx.mlp([3, 4, 2], output="sigmoid", loss=nnx.Loss("of_z", loss, derivative, of="Z"))
    theta = 300 * own.init(dtype="float64")  # from A the logarithm would be infinite
    labels = np.stack([X[0] > 0, X[1] > 0]).astype(float)
    found = own.loss_and_gradient(theta, X, labels)
    for x, expected in zip(
        found, nnx.mlp([3, 4, 2], output="sigmoid").loss_and_gradient(theta, X, labels), strict=True
    ):
        np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-15)
    with pytest.raises(nnx.InputError, match=r"derivative gives .* at z = .*must be ∂loss/∂Z"):
        nnx.mlp([3, 1], output="sigmoid", loss=nnx.Loss("m", loss, lambda Z, Y: Z - Y, of="Z"))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda A, Y: abs(A - Y), None),
        (dict, "a loss of your own must be a function, not <class 'dict'>"),
        (nnx.Loss("m", lambda A, Y: A + math.exp(A)), r"float\(\) of an array, as a function of math calls it"),
        (nnx.Loss("m", lambda A, Y: (A > Y) * (A - Y)), r"bool and float64 arrays.*write xp\.astype or xp\.where"),
        (nnx.Loss("m", product), r"cannot derive its derivative: the operation 'prod' .*Give it: nnx\.Loss\(name"),
        (nnx.Loss("m", lambda A, Y: xp(A).cumulative_sum(A, axis=-2)), "cannot derive .*'cumulative_sum' .* be traced"),
        (nnx.Loss("m", lambda A, Y: xp(A).where(A > 0.1, 2 * A, Y)), None),
        (cubic("huber"), "nnx has a loss named 'huber' itself"),
        (cubic(derivative=lambda A, Y: 3 * (A - Y) ** 2), r"derivative gives .* at a = .*, y = .*changes by"),
        (cubic(derivative=lambda A, Y: (A - Y) * abs(A - Y) / 10), "without the mean over the samples"),
        (cubic(derivative=lambda A, Y: 1.0), r"derivative must return an array of shape \(2, 32\)"),
        (nnx.Loss("m", lambda A, Y: xp(A).mean(abs(A - Y)), own_huber), r"loss must .*\(2, 32\) or \(32,\).*the mean"),
        (nnx.Loss("m", lambda A, Y: np.abs(A - Y), own_huber), r"cannot run on every backend.*xp\.exp\(x\)"),
        (nnx.Loss("m", lambda A, Y: A if A[0, 0] > 0 else Y, own_huber), r"bool\(\).*xp\.where"),
        (nnx.Loss("m", lambda A, Y: (A - Y).sum(axis=0), own_huber), r"xp\.sum\(x\) for x\.sum\(\)"),
        (nnx.Loss("m", lambda A, Y: A * np.ones((2, 1)), own_huber), "cannot run on every backend"),
        (nnx.Loss("m", lambda A, Y: xp(A).sum((A - Y) ** 2, axis=0)), r"\(K, n, m\).*other numbers.* use axis -2 for"),
        (nnx.Loss("m", lambda A, Y: xp(A).mean((A - Y) ** 2, axis=0, keepdims=True) + 0 * A), "use axis -2 for"),
        (nnx.Loss("m", lambda A, Y: (A[0, :] - Y[0, :]) ** 2), "other numbers than for each of them.*use axis -2 for"),
        (cubic(derivative=lambda A, Y: cubic().slope(A, Y) + xp(A).max(A, axis=1)[0], check=False), "axis -2 for"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be(loss, message):
    if message is None:
        nnx.mlp([3, 4, 2], output="identity", loss=loss)
        return
    with pytest.raises(nnx.InputError, match=message):
        nnx.mlp([3, 4, 2], output="identity", loss=loss)


def test_a_loss_of_one_output_works_for_several_networks():
    loss = nnx.Loss("m", lambda A, Y: xp(A).sum((A - Y) ** 2, axis=0))
    with pytest.raises(
        nnx.InputError, match=r"it gives the shape \(1, 32\), not \(2, 32\)\. .*use axis -2 for"
    ):
        nnx.mlp([3, 4, 1], output="identity", loss=loss)


def test_arguments_of_a_loss():
    for change, message in (
        ({"name": ""}, "name must be a name"),
        ({"derivative": 3}, "derivative must be a function of A and Y"),
        ({"of": "z"}, "of, what the loss is computed from, must be 'A' or 'Z', not 'z'"),
        ({"check": 1}, "check must be True or False"),
    ):
        with pytest.raises(nnx.InputError, match=message):
            cubic(**change)
    with pytest.raises(NameError):  # a fault of the function's own stays what it is
        nnx.mlp([3, 1], output="identity", loss=nnx.Loss("m", lambda A, Y: nothing, own_huber))  # noqa: F821
    surrogate = cubic(derivative=own_huber_derivative, check=False)
    assert nnx.mlp([3, 1], output="identity", loss=surrogate).output.loss_name == "cubic"


def test_a_loss_is_checked_with_the_outputs_that_there_are():
    """Weights of outputs: they fit three, and no other number."""
    shares = [[0.1], [0.5], [0.9]]

    def loss(A, Y):
        R = Y - A
        q = xp(A).asarray(shares, dtype=A.dtype)
        return xp(A).maximum(q * R, (q - 1) * R)

    def derivative(A, Y):
        return xp(A).astype(A > Y, A.dtype) - xp(A).asarray(shares, dtype=A.dtype)

    quantiles = nnx.Loss("quantiles", loss, derivative)
    trainer = nnx.Trainer(
        nnx.mlp([1, 3], output="identity", loss=quantiles),
        nnx.Adam(schedules.Cosine(0.05, steps=1000)),
        backend="numpy",
    )
    y = np.random.default_rng(0).random(500)
    trainer.fit(np.zeros((1, 500)), np.stack([y] * 3), epochs=200, batch_size=100)
    assert trainer.predict([[0.0]])[:, 0] == pytest.approx(np.quantile(y, [0.1, 0.5, 0.9]), abs=0.05)


def test_models_with_a_loss_and_a_schedule_are_loaded_once_registered(tmp_path):
    net = nnx.mlp([3, 4, 1], output="identity", loss=cubic())
    trainer = nnx.Trainer(net, nnx.Adam(schedules.Custom(0.01, stairs)), backend="numpy")
    trainer.fit(X, Y, epochs=2)
    trainer.save(path := tmp_path / "run.safetensors")
    with pytest.raises(nnx.ModelFileError, match=r"unknown schedule 'stairs'.*nnx\.register_schedule"):
        nnx.Trainer.load(path, backend="numpy")
    assert nnx.register_schedule(stairs) is stairs
    with pytest.raises(nnx.ModelFileError, match=r"unknown loss 'cubic'.*nnx\.register_loss"):
        nnx.Trainer.load(path, backend="numpy")
    own = nnx.register_loss(cubic())
    again = nnx.Trainer.load(path, backend="numpy")
    assert again.network.output.own is own
    assert again.optimizer == nnx.Adam(schedules.Custom(0.01, stairs))
    for one in (trainer, again):
        one.fit(X, Y, epochs=3)
    np.testing.assert_array_equal(again.theta, trainer.theta)
    assert nnx.mlp([3, 1], output="exp", loss="cubic").output.own is own
    with pytest.raises(nnx.InputError, match="nnx has a loss named 'hinge' itself"):
        nnx.register_loss(cubic("hinge"))
    for name in ("squared_error", "poisson", "log_loss"):  # an estimator takes these for nnx's
        with pytest.raises(nnx.InputError, match=f"nnx has a loss named '{name}' itself"):
            nnx.register_loss(cubic(name))
    with pytest.raises(nnx.InputError, match=r"expected an nnx\.Loss"):
        nnx.register_loss(3)


def log_cosh(A, Y):
    return xp(A).log(xp(A).cosh(A - Y))


@nnx.register_loss
def relative_error(Z, Y):
    return xp(Z).sum(abs(Z - Y) / (1 + abs(Y)), axis=-2)


def test_losses_of_one_function_are_equal_and_can_be_pickled():
    loss = nnx.Loss("log_cosh", log_cosh)
    again = pickle.loads(pickle.dumps(loss))
    assert loss == again == copy.deepcopy(loss)
    assert hash(loss) == hash(again)
    assert again.slope(np.asarray([[2.0]]), np.asarray([[1.0]])) == pytest.approx(np.tanh(1))
    assert loss != nnx.Loss("log_cosh", own_huber)
    nets = [nnx.mlp([3, 1], output="identity", loss=one) for one in (loss, again, log_cosh)]
    assert nets[0].output == nets[1].output == nets[2].output
    assert relative_error.__name__ == "relative_error"


def test_a_registered_loss_of_one_function_is_found_by_its_name():
    nnx.register_loss(relative_error)
    net = nnx.mlp([3, 2], output="exp", loss="relative_error")
    assert net.output.spec == "relative_error"
    nnx.check_gradient(net)


def power(A, Y, p):
    return abs(A - Y) ** p


def test_a_loss_without_a_name_trains_and_is_not_saved(tmp_path):
    trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity", loss=lambda A, Y: abs(A - Y)), backend="numpy")
    trainer.fit(X, Y, epochs=1, batch_size=20)
    with pytest.raises(
        nnx.InputError, match=r"no name, by which a model file would know it; .*nnx\.Loss\('my_loss'"
    ):
        trainer.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
    for saving in (
        nnx.Checkpoints(tmp_path / "a", epochs=50),
        nnx.Checkpoints(tmp_path / "b", best="loss"),
        nnx.MLflow(tmp_path / "c", model=True),
    ):
        with pytest.raises(nnx.InputError, match="has no name"):  # at once
            trainer.fit(X, Y, epochs=1, batch_size=20, callbacks=saving)
    with pytest.raises(nnx.InputError, match="has no name"):
        copy.deepcopy(trainer)
    assert (trainer.steps, list(tmp_path.iterdir())) == (2, [])
    with pytest.raises(nnx.InputError, match="has no name"):
        nnx.register_loss(lambda A, Y: abs(A - Y))
    nets = [nnx.mlp([3, 1], output="identity", loss=partial(power, p=p)) for p in (2, 4)]
    with pytest.raises(nnx.InputError, match="two of them differ in output"):
        together(nets)


def test_an_error_of_the_function_itself_has_a_note():
    with pytest.raises(TypeError, match="missing") as raised:
        nnx.mlp([3, 1], output="identity", loss=power)
    assert "the functions of nnx.array_namespace(x) alone" in raised.value.__notes__[0]


# A schedule.


def branching(t):
    return 1.0 if t < 100 else 0.5


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (branching, r"'branching' cannot run on every backend: bool\(\).*xp\.where\(condition"),
        (lambda t: 1 / (1 + t), "has no name, by which a model file would know it; define it with def"),
        (0.5, "a schedule of your own must be a function, not 0.5"),
    ],
)
def test_schedules_that_cannot_be(factor, message):
    with pytest.raises(nnx.InputError, match=message):
        schedules.Custom(0.1, factor)
    with pytest.raises(nnx.InputError, match=message):
        nnx.register_schedule(factor)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (lambda t: math.exp(-t), r"float\(\).*xp\.exp\(x\) for math\.exp"),
        (lambda t: np.exp(-t), r"xp\.exp\(x\) for math\.exp\(x\) and np\.exp"),
        (lambda t: xp(t).where(t < 9, 1.0, 0.5), r"where of float, float.*b \+ 0 \* x"),
        (lambda t: t * float("nan"), "gives nan in the first step, t = 0; expected a number >= 0"),
        (lambda t: 1 / t, "gives inf in the first step"),
        (lambda t: t - 1, "gives -1 in the first step"),
        (lambda t: 0.5, r"must return an array of shape \(\) and dtype float32.*returned 0\.5"),
        (lambda t: t * np.ones(2, "float32"), "cannot run on every backend"),
    ],
)
def test_factors_that_cannot_be(factor, message):
    with pytest.raises(nnx.InputError, match=message):
        schedules.Custom(0.1, factor, name="own")


def test_a_schedule_has_a_rate_and_a_name_of_its_own():
    with pytest.raises(nnx.InputError, match="learning_rate must be greater than 0"):
        schedules.Custom(0, stairs)
    with pytest.raises(nnx.InputError, match="nnx has a schedule named 'cosine' itself"):
        nnx.register_schedule(stairs, "cosine")
    with pytest.raises(nnx.InputError, match="name must be a name"):
        schedules.Custom(0.1, stairs, 3)
    nnx.register_schedule(lambda t: 1 / (1 + t), "inverse")
    made = schedules.schedule("inverse", learning_rate=0.1)
    assert (made.learning_rate, made.factor(np.asarray(3.0))) == (0.1, 0.25)
    assert schedules.describe(made) == {"name": "inverse", "learning_rate": 0.1}


# A metric.


def median_error(y_true, y_pred):
    return np.median(np.abs(y_true - y_pred))


def in_rows(y_true, y_pred):
    assert y_pred.shape == (3, y_true.shape[0])
    return np.mean(y_pred.argmax(axis=0) == y_true)


def test_a_metric_of_several_classes_and_one_to_stop_by():
    labels = np.digitize(Y, [-1, 1])
    trainer = nnx.Trainer(nnx.mlp([3, 8, 3]), backend="numpy")
    with pytest.raises(nnx.InputError, match="Give mode='min' or mode='max'"):
        nnx.EarlyStopping("validation_in_rows")
    stopping = nnx.EarlyStopping("validation_in_rows", patience=2, mode="max")
    metrics = ["accuracy", in_rows]
    history = trainer.fit(X, labels, 50, validation=(X, labels), metrics=metrics, callbacks=stopping)
    assert history["validation_in_rows"] == pytest.approx(history["validation_accuracy"])
    assert stopping.best == max(history["validation_in_rows"])


def accuracy(y_true, y_pred):
    return 1.0


def f1_score(y_true, y_pred, power=1):
    raise ValueError("no mix")


def recalled(y_true, y_pred):
    raise ValueError("boom")


def vector(y_true, y_pred):
    return y_pred


def test_metrics_that_cannot_be():
    trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity"), backend="numpy")
    for own, weights, message in (
        (accuracy, None, r"'accuracy' is a metric of nnx's own.*metrics=\['accuracy'\], or give .*another name"),
        (lambda y, a: 0.0, None, "metric .*lambda.* has no name, by which a history would know it; define it with def"),
        (f1_score, None, r"'f1_score' raised ValueError: no mix. .*that predict returns\. nnx .* metrics=\['f1'\]$"),
        (recalled, None, r"'recalled' raised ValueError: boom. .*\(40,\), float32: the numbers that predict returns$"),
        (partial(f1_score, power=2), None, "the metric 'f1_score' raised ValueError"),
        (vector, None, "what the metric 'vector' returns must be a number, not a numpy ndarray of shape"),
        (median_error, np.ones(40), "'median_error' does not take them; give the function a parameter sample_weight"),
        (dict, None, "a metric must be a name, such as 'accuracy', a function of the targets"),
    ):  # fmt: skip
        with pytest.raises(nnx.InputError, match=message):
            trainer.evaluate(X, Y, metrics=[own], sample_weight=weights)
    assert metric(median_error) == metric(median_error)  # captured once, not for every evaluation


@pytest.mark.parametrize(
    ("network", "targets", "hint"),
    [
        (nnx.mlp([3, 1]), (Y > 0) * 1.0, r"It may need classes, y_pred > 0\.5"),
        (nnx.mlp([3, 3]), np.digitize(Y, [-1, 1]), r"classes, y_pred\.argmax\(axis=0\), or samples as rows, y_pred\.T"),
        (nnx.mlp([3, 2], output="identity"), np.stack([Y, Y]), r"It may need samples as rows, y_true\.T and y_pred\.T"),
    ],
)  # fmt: skip
def test_a_metric_that_raises_says_what_the_function_may_need(network, targets, hint):
    with pytest.raises(nnx.InputError, match=rf"'recalled' raised ValueError: boom\. .*{hint}$"):
        nnx.Trainer(network, backend="numpy").evaluate(X, targets, metrics=[recalled])


# An activation: its derivative is checked.


def tanh(Z):
    return xp(Z).tanh(Z)


@pytest.mark.parametrize(
    ("g", "dg", "keep", "message"),
    [
        (tanh, lambda A: 1 - A * A, "Z", "dg gives .* at z = .*, where g changes by .*keep='A' would be right"),
        (lambda Z: Z**3, lambda Z: 3 * Z**2, "A", "keep='A' gives dg the activations.*keep='Z' would be right"),
        (lambda Z: Z**3, lambda Z, A: 3 * A / Z, "Z", "dg raises TypeError.*keep='ZA' would be right"),
        (lambda Z: Z + 1, lambda Z: 2, "", "^$"),
        (tanh, lambda A: 1 - A * A, "", "keep='' says that g' is 1 at z = .*keep='A' would be right"),
        (lambda Z: Z**3, lambda Z: Z**2, "Z", "correct dg or keep. check=False takes it as it is"),
        (lambda Z: Z**3, lambda Z: 3 * xp(Z).sum(Z**2), "Z", "correct dg or keep"),
        (lambda Z: xp(Z).sum(Z), lambda Z: Z, "Z", r"g must return an array of shape"),
        (lambda Z: Z * np.asarray(2.0), lambda Z: 2 + 0 * Z, "Z", "g cannot run on every backend.*and a ndarray"),
        (lambda Z: xp(Z).astype(Z, np.float64), lambda Z: 1, "Z", "g must .*dtype float32.*returned .*float64"),
        (lambda Z: 2 * Z, lambda Z: 2 * np.ones(Z.shape), "Z", "dg must .*dtype float32.*returned .*float64"),
        (lambda Z: Z if Z > 0 else 0 * Z, lambda Z: Z > 0, "Z", r"g cannot run on every backend: bool\(\).*where"),
        (lambda Z: np.tanh(Z), lambda A: 1 - A * A, "A", r"g cannot run on every backend.*np\.exp"),
        (lambda Z: xp(Z).exp(Z), lambda Z: np.exp(Z), "Z", "dg cannot run on every backend"),
    ],
)  # fmt: skip
def test_derivatives_of_activations(g, dg, keep, message):
    own = nnx.Activation("own", g, dg, keep)
    if message == "^$":
        assert nnx.Dense(3, own).g is own
        return
    for use in (nnx.register_activation, lambda own: nnx.Dense(3, own), nnx.Activate):
        with pytest.raises(nnx.InputError, match=message):
            use(own)


@pytest.mark.parametrize(
    ("g", "dg", "keep"),
    [
        (
            lambda Z: abs(Z - 0.0710005),
            lambda Z: xp(Z).sign(Z - 0.0710005),
            "Z",
        ),  # a kink at a point that is tried
        (lambda Z: xp(Z).floor(Z), lambda Z: 0 * Z, "Z"),
        (lambda Z: xp(Z).sqrt(Z), lambda A: 1 / (2 * A), "A"),  # NaN below 0
        (lambda Z: 2 * Z, lambda Z: 2.0, "Z"),
        *((g.g, g.dg, g.keep) for g in nnx.ACTIVATIONS.values() if isinstance(g, nnx.Activation)),
    ],
)
def test_right_derivatives_are_taken(g, dg, keep):
    nnx.Dense(3, nnx.Activation("own", g, dg, keep))


def test_the_log_tells_of_a_step_that_is_not_compiled(backend, caplog):
    """It takes longer, and nothing else shows it. Said once, and not of what is compiled."""
    total = nnx.Activation("total", lambda Z: xp(Z).cumulative_sum(Z, axis=-1), dg=lambda Z: 1 + 0 * Z,
                           keep="Z", check=False)  # fmt: skip
    for g in ("tanh", total):
        trainer = nnx.Trainer(nnx.mlp([3, 4, 1], g, "identity"), backend=backend)
        caplog.clear()
        with caplog.at_level("INFO", "nnx"):
            trainer.fit(X, Y, epochs=2, batch_size=10)
            trainer.fit(X, Y, epochs=2, batch_size=10)
        told = [record.getMessage() for record in caplog.records]
        plain = type(backend.compile(len)) is Program  # it compiles no step, and says so nowhere
        assert len(set(told)) == len(told)
        assert any("cumulative_sum" in text for text in told) == (g is total and not plain), told


def test_an_activation_is_checked_once_unless_told_not_to():
    calls = []

    def g(Z):
        calls.append(Z.dtype)
        return xp(Z).tanh(Z)

    own = nnx.Activation("counted", g, lambda A: 1 - A * A)
    assert not calls
    nnx.mlp([3, 4, 4, 1], own)
    first = len(calls)
    assert first > 0
    nnx.register_activation(own)
    nnx.mlp([3, 4, 4, 1], "counted")
    assert len(calls) == first
    nnx.Dense(3, nnx.Activation("step", xp(X).sign, lambda Z: 1 + 0 * Z, "Z", check=False))
    with pytest.raises(nnx.InputError, match="check must be True or False"):
        nnx.Activation("step", g, g, check=None)


# A layer: its derivatives are checked when asked for.


@dataclass(frozen=True)
class Scale(nnx.Layer):
    fault: str = ""

    def shapes(self, n_prev):
        return {"gamma": (n_prev, 1)}

    def forward(self, params, A_prev, context):
        return params["gamma"] * A_prev, A_prev

    def backward(self, params, kept, dA, need_dA_prev):
        dgamma = xp(dA).sum(dA * kept, axis=-1, keepdims=True)
        dA_prev = dA if self.fault == "A" else params["gamma"] * dA
        return dA_prev, {"gamma": -dgamma if self.fault == "gamma" else dgamma}


def test_the_gradient_of_a_layer():
    for fault, named in (("A", r"b1\[0, 0\]"), ("gamma", r"gamma1\[0, 0\]")):
        net = nnx.Network(3, [nnx.Dense(4), Scale(fault), nnx.Dense(2)], output="softmax")
        with pytest.raises(
            nnx.InputError, match=f"the derivative of {named} is .*, where the cost changes by"
        ):
            nnx.check_gradient(net)
    norm = [nnx.Dense(4), nnx.BatchNorm(), nnx.Activate("relu"), nnx.Dropout(0.5), Scale()]
    for output in nnx.OUTPUTS:
        nnx.check_gradient(nnx.Network(3, [*norm, nnx.PReLU(), nnx.Dense(2)], output=output))
    with pytest.raises(nnx.InputError, match=r"network must be an nnx\.Network"):
        nnx.check_gradient(norm)
