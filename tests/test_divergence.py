"""A cost that becomes infinite or NaN: what is said, and what is kept."""

import numpy as np
import pytest

import nnx


def data(m=40):
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, m)), rng.standard_normal((1, m))


def new(backend="numpy", alpha=1e9, net=None, **options):
    net = net or nnx.mlp([4, 8, 1], "tanh", "identity")
    return nnx.Trainer(net, nnx.GradientDescent(alpha), backend=backend, **options)


def test_the_report_says_when_how_far_and_which_layer(backend):
    X, Y = data()
    trainer = new(backend, alpha=0.01)
    trainer.fit(X, Y, epochs=2, batch_size=8)
    good, records = trainer.theta, list(trainer.records)
    trainer.learning_rate = 1e15
    with pytest.raises(nnx.DivergenceError) as caught:
        trainer.fit(X, Y, epochs=3, batch_size=8)
    message = str(caught.value)
    step = int(message.split("in step ")[1].split()[0])
    assert f"in step {step} of epoch 3 (step {10 + step} of all); the last finite cost was" in message
    assert f"in step {step - 1}; the largest entry of the gradient in step {step - 1} was" in message
    assert ", in W2" in message or ", in b2" in message or ", in W1" in message
    assert "Try a learning rate below" in message
    np.testing.assert_array_equal(trainer.theta, good)  # the last good state
    assert trainer.records == records
    assert trainer.steps == 10
    trainer.learning_rate = 0.01
    trainer.fit(X, Y, epochs=1, batch_size=8)  # and goes on


def test_the_largest_entry_and_its_layer_are_right():
    """The second of two steps has an infinite cost: the gradient is that of the first, which is known."""
    X, Y = data()
    trainer = new(alpha=1e38, dtype="float32")
    net, theta = trainer.network, trainer.theta
    g = net.loss_and_gradient(theta, X[:, :20].astype("float32"), Y[:, :20].astype("float32"))[1]
    at = int(abs(g).argmax())
    name = next(name for name, place in net.places.items() if place.start <= at < place.stop)
    with pytest.raises(nnx.DivergenceError, match=rf"the gradient in step 1 was {g[at]:.3g}, in {name}"):
        trainer.fit(X, Y, epochs=2, batch_size=20, shuffle=False)
    with pytest.raises(
        nnx.DivergenceError, match=r"the mean cost of the epoch before was .*; the gradient in step 1 has"
    ):
        new(alpha=1e38).fit(X, Y, epochs=2)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"shuffle": False}, {"micro_batch": 3}])
def test_the_bad_step_is_found_again_in_any_order(options):
    """The epoch's steps are done once more for the report: with the same shuffles, masks and pieces."""
    X, Y = data()
    net = nnx.Network(4, [nnx.Dense(8, "tanh"), nnx.Dropout(0.2), nnx.Dense(1)], "identity")
    seen = []
    trainer = new(net=net, alpha=1e4)

    def watch(progress):
        if progress.measured is None:
            seen.append(progress.cost)

    with pytest.raises(nnx.DivergenceError) as caught:
        trainer.fit(X, Y, epochs=50, batch_size=8, callbacks=watch, **options)
    of_epoch = seen[len(seen) - len(seen) % 5 or -5 :] if len(seen) % 5 else seen[-5:]
    bad = next(i for i, J in enumerate(of_epoch) if not np.isfinite(J))
    if bad:
        assert f"the last finite cost was {of_epoch[bad - 1]:.4g}, in step {bad}" in str(caught.value)
    assert f"in step {bad + 1} of epoch" in str(caught.value)


def test_in_the_first_step_of_all_the_learning_rate_is_not_the_cause():
    X, Y = data()
    root = nnx.Loss("root", lambda A, Y: (A - Y) ** 0.5, lambda A, Y: 0.5 / (A - Y) ** 0.5)
    trainer = new(alpha=0.01, net=nnx.mlp([4, 8, 1], output="identity", loss=root))
    with pytest.raises(
        nnx.DivergenceError, match=r"learning rate is not the cause.* a loss .* of your own"
    ) as caught:
        trainer.fit(X, Y, epochs=2, batch_size=8)
    assert "Try a learning rate" not in str(caught.value)


def test_a_long_epoch_is_ended_soon(monkeypatch):
    """Costs are looked at within the epoch, too."""
    monkeypatch.setattr("nnx.train.loop.LOOK_EVERY", 4)
    X, Y = data(400)
    steps = []
    with pytest.raises(nnx.DivergenceError, match="epoch 1"):
        new(alpha=1e20).fit(X, Y, batch_size=2, callbacks=lambda progress: steps.append(progress.step))
    assert len(steps) < 20


def test_what_diverged_is_not_kept_where_a_callback_stops_within_the_epoch(backend):
    X, Y = data()
    trainer = new(backend, alpha=1e20)
    theta = trainer.theta

    class Stop(nnx.Callback):
        def on_step(self, trainer, progress):
            if progress.step == 4:
                trainer.stop("seen enough")

    with pytest.raises(nnx.DivergenceError, match="the cost became"):
        trainer.fit(X, Y, batch_size=4, callbacks=Stop())
    np.testing.assert_array_equal(trainer.theta, theta)
    assert trainer.steps == 0
    trainer.learning_rate = 0.01
    trainer.fit(X, Y, batch_size=4, callbacks=Stop())
    assert (trainer.steps, trainer.stopped) == (4, "seen enough")


def test_what_diverged_is_not_saved(tmp_path):
    """A checkpoint in the middle of an epoch that leads nowhere is the error, and the file before stays."""
    X, Y = data()
    path = tmp_path / "run.safetensors"
    trainer = new(alpha=1e20)
    trainer.save(path)
    good = path.read_bytes()

    class Save(nnx.Callback):
        def on_step(self, trainer, progress):
            if progress.step == 4:
                trainer.save(path)

    with pytest.raises(nnx.DivergenceError):
        trainer.fit(X, Y, batch_size=4, callbacks=Save())
    assert path.read_bytes() == good
    assert np.isfinite(trainer.theta).all()


def test_batches_that_can_be_read_once_have_a_report_too():
    X, Y = data()
    once = ((X[:, i : i + 8], Y[:, i : i + 8]) for i in range(0, 40, 8))
    with pytest.raises(nnx.DivergenceError, match=r"the cost became (inf|nan) in step \d of epoch 1.*Try"):
        new(alpha=1e20).fit(once)


@pytest.mark.parametrize("micro_batch", [None, 4, 3])
def test_the_gradient_is_that_of_the_whole_batch(micro_batch):
    X, Y = data(8)
    X[0, 0] = 1e12  # its piece alone has a large gradient
    net = nnx.mlp([4, 1], output="identity")
    trainer = new(alpha=1e20, net=net)
    g = net.loss_and_gradient(trainer.theta, X.astype("float32"), Y.astype("float32"))[1]
    with pytest.raises(nnx.DivergenceError) as caught:
        trainer.fit(X, Y, epochs=1, micro_batch=micro_batch)
    assert f"the largest entry of the gradient in step 1 was {g[0]:.3g}, in W1" in str(caught.value)


def test_an_iterator_is_not_read_for_the_report():
    X, Y = data()
    drawn = []

    def batches():
        for i in range(1000):
            drawn.append(i)
            yield X, Y

    with pytest.raises(nnx.DivergenceError) as caught:
        new(alpha=1e20).fit(batches(), steps=6)
    assert "gradient" not in str(caught.value).partition("Try")[0]
    assert len(drawn) <= 6
    rng = np.random.default_rng(0)

    def other_ones():  # a function that gives other batches each time
        return ((rng.standard_normal((4, 9)), rng.standard_normal((1, 9))) for _ in range(6))

    with pytest.raises(nnx.DivergenceError) as caught:
        new(alpha=1e20).fit(other_ones)
    assert "gradient" not in str(caught.value).partition("Try")[0]
