"""Tables from Python: learned, trained, saved, loaded and predicted in their own terms."""

import copy
import logging
import pickle

import numpy as np
import pytest

import nnx
from nnx.port.base import Memory
from nnx.train import stack_memory

pl = pytest.importorskip("polars", reason="the readers (extra cli) are not installed")
pytest.importorskip("sklearn", reason="the readers (extra cli) are not installed")


def columns(m=240, seed=0):
    """Pets: a cat is large or red, not both; the price is of its size; some values are missing."""
    rng = np.random.default_rng(seed)
    size = rng.normal(40, 10, m).round(1)
    colour = rng.choice(["red", "blue", "grey"], m)
    kind = np.where((size > 40) ^ (colour == "red"), "cat", "dog")
    price = (100 + 3 * size + 20 * (colour == "red")).round(2)
    holes = [None if i % 10 == 0 else one for i, one in enumerate(colour.tolist())]
    return {"size": size.tolist(), "colour": holes, "kind": kind.tolist(), "price": price.tolist()}


@pytest.fixture(scope="module")
def pets():
    return columns()


@pytest.fixture(scope="module")
def fitted(pets):
    model = nnx.Tabular(
        pets, target="kind", drop=["price"], layers=[16], optimizer=nnx.Adam(0.02), backend="numpy"
    )
    model.fit(30)
    return model


def to_pandas(table):
    return pytest.importorskip("pandas").DataFrame(table)


def to_arrow(table):
    return pytest.importorskip("pyarrow").table(table)


def test_fit_evaluate_predict(fitted, pets):
    new = columns(60, seed=1)
    assert fitted.evaluate(new)["accuracy"] > 0.75
    assert set(fitted.evaluate()) == {"loss", "accuracy"}
    labels, shares = fitted.predict(new), fitted.predict_proba(new)
    assert labels.shape == (60,)
    assert shares.shape == (60, 2)
    assert fitted.classes == ["cat", "dog"]
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.array_equal(labels, np.array(fitted.classes)[shares.argmax(axis=1)])
    assert np.mean(labels == np.array(new["kind"])) == pytest.approx(fitted.evaluate(new)["accuracy"])
    assert list(fitted.history) == ["loss", "validation_loss", "validation_accuracy"]


@pytest.mark.parametrize(
    "make", [to_pandas, pl.DataFrame, to_arrow, dict], ids=["pandas", "polars", "arrow", "dict"]
)
def test_every_kind_of_frame_is_the_same_table(make, pets, fitted):
    model = nnx.Tabular(
        make(pets), "kind", drop=["price"], layers=[16], optimizer=nnx.Adam(0.02), backend="numpy"
    )
    model.fit(2)
    again = nnx.Tabular(pets, "kind", drop=["price"], layers=[16], optimizer=nnx.Adam(0.02), backend="numpy")
    again.fit(2)
    assert model.preparation.describe() == again.preparation.describe()
    assert np.array_equal(model.trainer.theta, again.trainer.theta)
    new = columns(30, seed=2)
    turned = make(dict(reversed(list(new.items()))))
    assert np.array_equal(fitted.predict(turned), fitted.predict(new))


def test_paths_hold_the_same_table(tmp_path, pets, fitted):
    frame = pl.DataFrame(pets)
    frame.write_csv(tmp_path / "pets.csv")
    frame.write_parquet(tmp_path / "pets.parquet")
    expected = fitted.predict(pets)
    for name in ("pets.csv", "pets.parquet"):
        model = nnx.Tabular(tmp_path / name, "kind", drop=["price"], layers=[16], backend="numpy")
        assert model.trainer.metadata["data"] == str(tmp_path / name)
        assert model.preparation.features == ["size", "colour"]
        assert np.array_equal(fitted.predict(str(tmp_path / name)), expected)
        assert fitted.evaluate(tmp_path / name) == pytest.approx(fitted.evaluate(pets))


def test_numbers_are_in_the_unit_of_the_target(pets, tmp_path, caplog):
    model = nnx.Tabular(pets, "price", drop=["kind"], layers=[32], optimizer=nnx.Adam(0.02), backend="numpy")
    history = model.fit(60)
    price, found = np.array(pets["price"]), model.predict(pets)
    errors = model.evaluate(pets, metrics=["r2", "mean_absolute_error"])
    assert errors["mean_absolute_error"] == pytest.approx(np.abs(found - price).mean(), rel=1e-3)
    assert errors["r2"] > 0.9
    assert set(model.evaluate()) == {"loss", "r2", "root_mean_squared_error"}
    assert "validation_r2" in history
    assert model.classes is None
    with pytest.raises(nnx.InputError, match="'price' is numbers, which have no probabilities"):
        model.predict_proba(pets)


def test_without_more_it_stops_early_and_takes_back_the_best_epoch():
    rng = np.random.default_rng(0)  # noise: nothing can be learned
    table = {"x": rng.random(120), "y": rng.choice(["a", "b"], 120)}
    model = nnx.Tabular(table, "y", optimizer=nnx.Adam(0.02), backend="numpy")
    history = model.fit(early_stopping=3)
    assert len(history["loss"]) < 100
    assert model.trainer.kept == 1 + int(np.argmin(history["validation_loss"])) == len(history["loss"]) - 3
    for schedule in (nnx.schedules.Cosine(0.02, steps=120), nnx.schedules.Cosine.in_epochs(0.02)):
        scheduled = nnx.Tabular(table, "y", optimizer=nnx.Adam(schedule), backend="numpy")
        assert len(scheduled.fit(40)["loss"]) == 40  # a schedule comes to its end
        assert scheduled.trainer.kept < 30
    model.fit(5, early_stopping=0)
    assert len(model.history["loss"]) == len(history["loss"]) + 5
    model.fit(5, callbacks=nnx.EarlyStopping("loss", patience=99))
    assert len(model.history["loss"]) == len(history["loss"]) + 10


def test_a_model_that_is_no_better_than_the_same_answer_always_is_warned_of(pets, caplog):
    rng = np.random.default_rng(0)
    noise = {"x": rng.random(100), "y": rng.choice(["a", "b", "b"], 100), "z": rng.random(100)}
    nnx.Tabular(noise, "y", layers=[4], backend="numpy").fit(3)
    assert "the model is no better than the baseline, always 'b': accuracy" in caplog.text
    caplog.clear()
    nnx.Tabular(noise, "z", layers=[4], backend="numpy").fit(1)
    assert "no better than the baseline, always the mean" in caplog.text
    caplog.clear()
    nnx.Tabular(pets, "kind", layers=[16], optimizer=nnx.Adam(0.02), backend="numpy").fit(20)
    assert not caplog.records


def test_the_validation_is_a_share_a_table_or_none(pets):
    shares = nnx.Tabular(pets, "kind", validation=0.25, backend="numpy")
    assert shares._validation[0].shape[1] == 60
    assert shares._train[0].shape[1] == 180
    other = nnx.Tabular(pets, "kind", validation=columns(50, seed=3), layers=[8], backend="numpy")
    assert other.evaluate() == other.evaluate(columns(50, seed=3))
    other.fit(2)
    none = nnx.Tabular(pets, "kind", validation=0, layers=[8], backend="numpy")
    assert len(none.fit(12)["loss"]) == 12
    assert none.trainer.kept is None
    none.fit(40, early_stopping=30, callbacks=nnx.ReduceOnPlateau("loss"))
    assert none.trainer.kept is not None
    with pytest.raises(nnx.InputError, match="no rows were held out; give a table with the target"):
        none.evaluate()
    with pytest.raises(
        nnx.InputError, match=r"fit does not take validation_split: nnx\.Tabular\(table, valid"
    ):
        none.fit(2, validation_split=0.2)


def test_a_model_that_is_not_trained_says_so(pets, caplog):
    model = nnx.Tabular(pets, "kind", layers=[8], backend="numpy")
    for use in (lambda: model.predict(pets), model.evaluate, lambda: model.evaluate(pets)):
        caplog.clear()
        use()
        assert caplog.messages[0] == "the model is not trained yet: call fit first"
    model.fit(1)
    caplog.clear()
    model.predict(pets)
    assert not caplog.records


def test_the_target_is_the_name_of_a_column(pets):
    for wrong in (pl.Series(pets["kind"]), np.ones(3), ["kind"]):
        with pytest.raises(nnx.InputError, match="target must be the name of a column of the table, not"):
            nnx.Tabular(pets, wrong)
    with pytest.raises(nnx.InputError, match="has no column 'kin'") as caught:
        nnx.Tabular(pets, "kin")
    assert caught.value.__cause__ is None  # one traceback, in the words of Python


def test_save_and_load(fitted, pets, tmp_path):
    path = tmp_path / "pets.safetensors"
    fitted.save(path)
    again = nnx.Tabular.load(path, backend="numpy")
    assert np.array_equal(again.predict(pets), fitted.predict(pets))
    assert again.evaluate(pets) == fitted.evaluate(pets)
    assert again.history == fitted.history
    assert np.array_equal(nnx.Trainer.load(path, backend="numpy").theta, fitted.trainer.theta)
    with pytest.raises(nnx.InputError, match=r"was loaded, without its table; make an nnx\.Tabular"):
        again.fit()
    with pytest.raises(nnx.InputError, match="no rows were held out"):
        again.evaluate()


@pytest.fixture
def two_at_once(monkeypatch):
    """Let the memory hold two members that train."""
    monkeypatch.setattr(stack_memory, "SMALL", 0)
    monkeypatch.setattr("nnx.train.stack_fit.needed", lambda *_: stack_memory.Need(2000, 0))
    monkeypatch.setattr(type(nnx.backend("numpy")), "memory", lambda _: Memory(0, 0, 5000))


def three(pets, rate):
    return nnx.Tabular(
        pets,
        "price",
        layers=[],
        backend="numpy",
        members=3,
        optimizer=nnx.GradientDescent(rate),
        seed=[1, 5, 1],
    )


def test_members_train_in_rounds(pets, two_at_once, monkeypatch):
    model, once = three(pets, [0.1, 1e38, 0.1]), three(pets, [0.1, 1e38, 0.1])
    assert [one.seed for one in model.trainer.each] == [1, 5, 1]
    with pytest.warns(nnx.LeftOutWarning, match="^member 1 diverged") as caught:
        model.fit(2)
    assert caught[0].filename == __file__
    with pytest.raises(nnx.InputError, match="2 fit into"):
        once.fit(2, rounds=False)
    monkeypatch.setattr(stack_memory, "SMALL", 2**27)
    with pytest.warns(nnx.LeftOutWarning):
        once.fit(2, rounds=False)
    assert np.array_equal(once.trainer.theta, model.trainer.theta)


@pytest.mark.parametrize("stops", [False, True])
def test_members_that_did_not_train_predict_nothing(pets, two_at_once, stops, tmp_path):
    def end(now):
        if now.measured and now.epoch == 2:
            if not stops:
                raise KeyboardInterrupt
            model.trainer.stop()

    model = three(pets, 0.1)
    with (
        pytest.warns(nnx.LeftOutWarning, match="1, 2.* did not train")
        if stops
        else pytest.raises(KeyboardInterrupt)
    ) as caught:
        model.fit(9, callbacks=end)
    assert model.trainer.steps[1:] == [0, 0]
    if stops:
        assert caught[0].filename == __file__
    alone = copy.copy(model)
    alone.trainer = model.trainer.member(0)
    model.save(tmp_path / "model.safetensors")
    for one in (model, nnx.Tabular.load(tmp_path / "model.safetensors", "numpy")):
        assert np.allclose(one.predict(pets), alone.predict(pets))
        assert one.evaluate(pets)["loss"] == pytest.approx(alone.evaluate(pets)["loss"])


def test_a_file_of_a_trainer_alone_has_no_table(tmp_path):
    nnx.Trainer(nnx.mlp([2, 1]), backend="numpy").save(tmp_path / "a.safetensors")
    with pytest.raises(nnx.InputError, match="no description of its data"):
        nnx.Tabular.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("target", ["kind", "price"])
def test_members_predict_by_their_mean(pets, target, tmp_path, caplog):
    made = nnx.Tabular(
        pets, target, layers=[4], backend="numpy", members=3, optimizer=nnx.Adam([0.01, 0.02, 0.03])
    )
    for model, state in (
        (made, "3 members, not trained yet"),
        (made, "3 members, 2 epochs done, in the median cost J"),
    ):
        assert f": {state}" in repr(model)
        assert ": 3 members, " in model._repr_html_()
        model.save(tmp_path / "model.safetensors")
        loaded = nnx.Tabular.load(tmp_path / "model.safetensors", "numpy")
        assert repr(loaded).endswith(repr(model).split(": ")[-1])
        each, ours = [], loaded.preparation
        for k in range(3):
            alone = copy.copy(loaded)
            alone.trainer = loaded.trainer.member(k)
            each.append(alone._outputs(pets))
        A = np.mean(each, axis=0)
        assert np.allclose(loaded._outputs(pets), A)
        Y = np.array([one if target == "price" else loaded.classes.index(one) for one in pets[target]])
        measured = loaded.evaluate(pets)
        if target == "kind":
            assert np.allclose(loaded.predict_proba(pets)[:, 1], A[0])
            assert loaded.predict(pets).tolist() == [loaded.classes[int(a > 0.5)] for a in A[0]]
            assert measured["accuracy"] == np.mean((A[0] > 0.5) == Y)
        else:
            predicted = A[0] * ours.y_scale + ours.y_mean
            assert np.allclose(loaded.predict(pets), predicted)
            assert measured["root_mean_squared_error"] == pytest.approx(
                np.sqrt(np.mean((predicted - Y) ** 2))
            )
        assert ("not trained yet" in caplog.text) == (model.trainer.steps == [0, 0, 0])
        caplog.clear()
        if not model.history:
            history = model.fit(2, metrics=None if target == "kind" else ["mean_absolute_error"])
            assert np.shape(history["loss"]) == (2, 3)
    if target == "price":
        scaled = np.array(model.trainer.history["mean_absolute_error"])
        assert np.allclose(history["mean_absolute_error"], scaled * model.preparation.y_scale)


def test_the_command_line_takes_its_files_and_it_the_command_line_s(run, fitted, pets, tmp_path):
    fitted.save(tmp_path / "pets.safetensors")
    pl.DataFrame(pets).write_csv(tmp_path / "pets.csv")
    status, out, _ = run("predict", "pets.safetensors", "pets.csv")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "kind,P(cat),P(dog)"
    assert [line.split(",")[0] for line in lines[1:]] == fitted.predict(pets).tolist()
    status, out, _ = run("evaluate", "pets.safetensors", "pets.csv", "--metrics", "accuracy")
    assert status == 0
    assert f"{fitted.evaluate(pets)['accuracy']:.3f}"[:4] in out
    options = [
        "--target",
        "kind",
        "--drop",
        "price",
        "--epochs",
        "2",
        "--layers",
        "8",
        "--no-plots",
        "--out",
        "run",
    ]
    assert run("train", "pets.csv", *options)[0] == 0
    theirs = nnx.Tabular.load(tmp_path / "run")
    status, out, _ = run("predict", "run", "pets.csv", "--no-probabilities")
    assert theirs.predict(pets).tolist() == out.splitlines()[1:]
    mine = nnx.Tabular(tmp_path / "pets.csv", "kind", drop=["price"], layers=[8], backend="numpy")
    mine.fit(2)
    assert mine.preparation == theirs.preparation
    assert np.array_equal(mine.trainer.theta, theirs.trainer.theta)  # the same run


def test_rows_without_a_target_are_left_out_and_counted(pets, caplog):
    table = {**pets, "kind": [None if i < 12 else one for i, one in enumerate(pets["kind"])]}
    rest = {name: values[12:] for name, values in pets.items()}
    model = nnx.Tabular(table, "kind", layers=[8], backend="numpy")
    assert "12 rows without the target 'kind' left out" in caplog.text
    weights = np.arange(240.0)
    model.fit(2, sample_weight=weights)
    same = nnx.Tabular(rest, "kind", layers=[8], backend="numpy")
    same.fit(2, sample_weight=weights[12:])
    assert np.array_equal(model.trainer.theta, same.trainer.theta)
    caplog.clear()
    assert model.evaluate(table) == model.evaluate(rest)
    assert "12 rows without the target" in caplog.text
    assert len(model.predict(table)) == 240
    with pytest.raises(nnx.InputError, match=r"sample_weight has shape \(228,\); expected \(240,\)"):
        model.fit(sample_weight=weights[12:])


def test_what_was_decided_is_logged_where_it_could_be_otherwise(pets, caplog):
    table = {"x": pets["size"], "y": [i % 2 for i in range(240)]}
    model = nnx.Tabular(table, "y", backend="numpy")
    (record,) = [one for one in caplog.records if "classification" in one.message]
    assert record.levelno == logging.WARNING  # which a script shows without more
    assert "else give task='regression'" in record.message
    assert model.reason in repr(model)
    caplog.clear()
    assert nnx.Tabular(table, "y", task="regression", backend="numpy").classes is None
    nnx.Tabular(pets, "kind", backend="numpy")
    assert not caplog.records


def test_what_was_filled_in_is_logged(fitted, caplog):
    fitted.predict({"size": [None, 40.0], "colour": ["green", "red"]})
    assert "missing values, filled in as the training taught: 1 in 'size'" in caplog.text
    assert "values that the training did not have: 1 in 'colour', such as 'green'" in caplog.text


def test_weights_metrics_and_callbacks_reach_the_fit(pets):
    def make():
        return nnx.Tabular(pets, "kind", layers=[8], backend="numpy", seed=3)

    told = []
    model, other = make(), make()
    history = model.fit(2, class_weight={"dog": 3.0}, metrics=["f1"], callbacks=lambda p: told.append(p))
    assert "validation_f1" in history
    assert told
    other.fit(2, class_weight={1: 3.0} if "1" in other.classes else [1.0, 3.0])
    assert np.array_equal(model.trainer.theta, other.trainer.theta)
    with pytest.raises(nnx.InputError, match=r"unknown class of 'kind' in class_weight 'Dog'.*'dog'"):
        model.fit(class_weight={"Dog": 2.0})


@pytest.mark.parametrize("class_weight", [{"dog": 3.0}, "balanced"])
@pytest.mark.parametrize("held_out", ["a share", "a table"])
def test_the_validation_has_the_weights_of_the_training(pets, class_weight, held_out):
    """Else early stopping undoes them. A share that is held out has its own samples' weights, too."""
    validation = 0.25 if held_out == "a share" else columns(100, seed=1)
    model = nnx.Tabular(pets, "kind", layers=[8], validation=validation, backend="numpy")
    given = np.linspace(0.5, 2, len(pets["kind"])) if held_out == "a share" else None
    history = model.fit(1, class_weight=class_weight, sample_weight=given)
    X, Y = model._validation
    n, count = Y.shape[-1], np.bincount(Y.astype(int))
    dog = model.classes.index("dog")
    of_class = np.where(np.arange(2) == dog, 3.0, 1.0) if class_weight != "balanced" else n / (2 * count)
    weights = of_class[Y.astype(int)]
    if given is not None:
        weights = weights * given[model._rows[1]]
    weighted = model.trainer.evaluate(X, Y, sample_weight=weights)["loss"]
    assert history["validation_loss"] == [pytest.approx(weighted, rel=1e-6)]
    assert weighted != pytest.approx(model.trainer.evaluate(X, Y)["loss"], rel=1e-4)


def test_layers_optimizers_and_whole_batches(pets):
    pytest.importorskip("scipy")
    layers = [8, nnx.Dropout(0.1), nnx.Dense(4, "tanh")]
    model = nnx.Tabular(pets, "kind", layers=layers, activation="gelu", optimizer="lbfgs", backend="numpy")
    assert [type(layer).__name__ for layer in model.trainer.network.layers] == [
        "Dense",
        "Dropout",
        "Dense",
        "Dense",
    ]
    model = nnx.Tabular(pets, "kind", layers=[4], optimizer="lbfgs", backend="numpy")
    model.fit(3)
    assert model.trainer.steps <= 3


def test_copies_and_pickles_go_on(fitted, pets):
    for made in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert np.array_equal(made.predict(pets), fitted.predict(pets))
        steps = fitted.trainer.steps
        made.fit(1)
        assert made.trainer.steps > fitted.trainer.steps == steps


def test_it_says_what_it_is(pets, fitted):
    new = nnx.Tabular(pets, "kind", backend="numpy")
    assert repr(new).endswith("from 3 features as 6 inputs: not trained yet>")
    assert "2 classes: 'cat', 'dog', since 'kind' holds text" in repr(fitted)
    assert "held-out accuracy" in repr(fitted)
    html = fitted._repr_html_()
    assert "one-hot: colour" in html
    assert "<svg" in html
    assert "<svg" not in new._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": 3}, "table must be the path of a file, a pandas or polars data frame"),
        (
            {"table": {"size": 3, "kind": "cat"}},
            r"a dict of columns such as \{'size': \[1, 2\]\}; given \{'size': 3",
        ),
        ({"table": {"size": [], "kind": []}}, "the table has no rows"),
        ({"table": "nowhere.csv"}, r"there is no file 'nowhere\.csv'"),
        ({"target": "Kind"}, "has no column 'Kind'"),
        ({"target": None}, r"Give target=COLUMN, one of: size, colour, kind, price"),
        ({"task": "clustering"}, "unknown task 'clustering'"),
        ({"target": "colour", "task": "regression"}, "expected numbers for regression"),
        ({"drop": "price"}, "drop must be a list of columns, not 'price'"),
        ({"drop": ["prize"]}, "has no column 'prize'"),
        ({"validation": 1.5}, "validation must be a share from 0 to 1, or a table, not 1.5"),
        ({"validation": True}, "validation must be a share"),
        ({"validation": {"size": [1.0]}}, "lacks"),
        ({"layers": 16}, "layers must be a list"),
        ({"layers": ["relu"]}, "layers must be an integer >= 1, not 'relu'"),
        ({"optimizer": "adma"}, "did you mean 'adam'"),
        ({"members": True}, "members must be a positive integer, not True"),
        ({"members": 10**12}, "30,000,000 GB of memory"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message, pets):
    with pytest.raises(nnx.InputError, match=message):
        nnx.Tabular(**{"table": pets, "target": "kind", "backend": "numpy", **arguments})


def test_errors_name_arguments_not_options_of_the_command_line(pets, tmp_path):
    table = {
        "a's": [f"of '{i}'" for i in range(240)],
        "id": [f"no-{i}" for i in range(240)],
        "kind": pets["kind"],
    }
    with pytest.raises(nnx.InputError, match=r"""drop=\["a's", 'id'\]""") as caught:
        nnx.Tabular(table, "kind", backend="numpy")
    assert "--" not in str(caught.value)
    counting = nnx.Tabular({**pets, "one": [1] * 240, "n": range(240)}, "kind", backend="numpy")
    assert "counts the rows, which tells nothing: n (leave out by drop=['n'])" in counting.account()
    assert "left out: one (constant)" in counting.account()
    (tmp_path / "a.csv").write_text("x;kind\n" + "3,5;a\n4,5;b\n" * 20)
    with pytest.raises(nnx.InputError, match="give decimal_comma=True") as caught:
        nnx.Tabular(tmp_path / "a.csv", "kind", backend="numpy")
    assert "--" not in str(caught.value)
    model = nnx.Tabular(tmp_path / "a.csv", "kind", decimal_comma=True, backend="numpy")
    assert model.predict(tmp_path / "a.csv").shape == (40,)


def test_dates_that_can_be_read_in_two_ways_are_asked_about(pets):
    table = {**pets, "born": [f"{1 + i % 12}/{1 + i // 12 % 12}/2024" for i in range(240)]}
    with pytest.raises(nnx.InputError, match="give day_first=True or day_first=False") as caught:
        nnx.Tabular(table, "kind", backend="numpy")
    assert "--" not in str(caught.value)
    days, months = (nnx.Tabular(table, "kind", day_first=first, backend="numpy") for first in (True, False))
    assert days.preparation.describe() != months.preparation.describe()


def test_what_is_missing_when_it_predicts_is_named(fitted):
    with pytest.raises(nnx.InputError, match=r"lacks the column 'colour'.*Did you mean 'color' for 'colour'"):
        fitted.predict({"size": [1.0], "color": ["red"]})
    with pytest.raises(nnx.InputError, match="lacks the column 'kind', the target"):
        fitted.evaluate({"size": [1.0], "colour": ["red"]})
    assert fitted.predict({"size": [40.0], "colour": ["red"], "odd": [object()]}).shape == (1,)


def test_arrays_that_the_command_line_was_trained_on(run, tmp_path):
    X = np.random.default_rng(0).random((60, 3))
    np.savez(tmp_path / "a.npz", X=X, y=(X[:, 0] > 0.5).astype(int))
    assert run("train", "a.npz", "--epochs", "2", "--layers", "4", "--no-plots", "--out", "run")[0] == 0
    model = nnx.Tabular.load(tmp_path / "run")
    assert np.array_equal(model.predict(X), model.predict(tmp_path / "a.npz"))
    assert set(np.unique(model.predict(X))) <= {0, 1}
    with pytest.raises(nnx.InputError, match="2 features"):
        model.predict(X[:, :2])


def test_columns_that_tell_nothing_are_left_out_and_named(pets, caplog):
    table = {**pets, "id": [f"no-{i}" for i in range(240)]}
    model = nnx.Tabular(table, "kind", layers=[4], backend="numpy")
    assert model.preparation.features == ["size", "colour", "price"]
    assert "columns left out: id (240 different values in 240 rows)" in caplog.text
    assert model.predict(pets).shape == (240,)


def test_names_of_columns_may_be_numbers():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(60, 4)))
    model = nnx.Tabular(frame, 2, drop=[3], layers=[4], backend="numpy")
    assert model.preparation.target == "2"
    assert model.preparation.features == ["0", "1"]
    model.fit(epochs=1)
    assert model.predict(frame).shape == (60,)
