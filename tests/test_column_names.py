"""Columns are found by their names, in any order, at every entry point and for tables of every kind."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

import nnx
from nnx.batches import frames
from nnx.data import Preparation

NAMES = ["age", "height", "weight", "dose"]
M = 40


def numbers(seed=0):
    X = np.random.default_rng(seed).standard_normal((len(NAMES), M))
    return X, (X[0] > X[1]).astype(int)


def of(kind, columns):
    """A table of this kind: columns are pairs of a name and values."""
    names, values = [name for name, _ in columns], [value for _, value in columns]
    if kind == "dict":
        assert len(set(names)) == len(names)
        return dict(columns)
    if kind == "dict of lists":
        return {name: value.tolist() for name, value in columns}
    if kind == "pandas":
        pandas = pytest.importorskip("pandas")
        found = pandas.concat([pandas.Series(value) for value in values], axis=1)
        found.columns = names
        return found
    if kind == "polars":
        return pytest.importorskip("polars").DataFrame(dict(columns))
    arrow = pytest.importorskip("pyarrow")
    made = {"table": arrow.Table, "record batch": arrow.RecordBatch}[kind]
    return made.from_arrays([arrow.array(value) for value in values], names=names)


LIBRARY = {"pandas": "pandas", "polars": "polars", "table": "pyarrow", "record batch": "pyarrow"}


def of_libraries(kinds):
    """Return the kinds as parameters, each left out where its library is absent."""
    return [
        pytest.param(kind, marks=pytest.mark.needs(LIBRARY[kind])) if kind in LIBRARY else kind
        for kind in kinds
    ]


KINDS = of_libraries(["pandas", "polars", "table", "record batch", "dict", "dict of lists"])
REPEATING = ["pandas", "table", "record batch"]
"""Those whose columns may have one name."""


def trained(kind):
    X, Y = numbers()
    trainer = nnx.Trainer(nnx.mlp([4, 3, 2], output="softmax"), backend="numpy", dtype="float64")
    trainer.fit(of(kind, list(zip(NAMES, X, strict=True))), Y, epochs=3, batch_size=16)
    assert trainer.features == NAMES
    return trainer


def uses(trainer, Y):
    """Every way to hand in a table, and what came out of it."""
    return {
        "predict": lambda x: trainer.predict(x),
        "predict, as rows": lambda x: trainer.predict(nnx.Rows(x)),
        "classify": lambda x: trainer.classify(x),
        "evaluate": lambda x: list(trainer.evaluate(x, Y).values()),
        "evaluate batches": lambda x: list(trainer.evaluate([(x, Y)]).values()),
        "fit": lambda x: fitted(trainer, lambda own: own.fit(x, Y, epochs=2, batch_size=16)),
        "fit batches": lambda x: fitted(trainer, lambda own: own.fit([(x, Y)] * 2)),
        "validation": lambda x: trainer.fit(x, Y, validation=(x, Y), epochs=1)["validation_loss"],
        "validation batches": lambda x: trainer.fit(x, Y, validation=[(x, Y)], epochs=1)["validation_loss"],
        "find_learning_rate": lambda x: nnx.find_learning_rate(trainer, x, Y, low=0.001, steps=40).costs,
    }


def fitted(trainer, fit):
    theta = trainer.theta
    fit(trainer)
    after, trainer.theta = trainer.theta, theta
    return after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", uses(None, None))
def test_the_order_of_columns_does_not_matter_to_a_trainer(kind, use, tmp_path):
    X, Y = numbers()
    columns = list(zip(NAMES, X, strict=True))
    trainer = trained(kind)
    trainer.save(tmp_path / "m.safetensors")

    def of_use(x):
        own = nnx.Trainer.load(tmp_path / "m.safetensors", backend="numpy")
        return uses(own, Y)[use](x)

    expected = of_use(of(kind, columns))
    for turned in (columns[::-1], [*columns[2:], ("more", X[0] * 9), *columns[:2]]):
        np.testing.assert_array_equal(of_use(of(kind, turned)), expected)
    left = [columns[0], ("Heigth", X[1]), *columns[2:]]
    with pytest.raises(
        nnx.InputError, match=r"lacks the column 'height', .*Did you mean 'Heigth' for 'height'"
    ):
        of_use(of(kind, left))
    if kind in REPEATING:
        with pytest.raises(nnx.InputError, match="2 columns named 'age'"):
            of_use(of(kind, [*columns, ("age", X[3])]))


@pytest.mark.parametrize("kind", REPEATING)
def test_a_training_refuses_two_columns_of_one_name(kind):
    X, Y = numbers()
    trainer = nnx.Trainer(nnx.mlp([4, 1]), backend="numpy")
    with pytest.raises(nnx.InputError, match="X has 2 columns named 'a'; rename all but one"):
        trainer.fit(of(kind, list(zip("abac", X, strict=True))), Y, epochs=1)
    assert trainer.features is None
    trainer.fit(of(kind, list(zip("abcd", X, strict=True))), Y, epochs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_several_targets_are_found_by_their_names(kind):
    X, _ = numbers()
    Y = list(zip("pqr", X[:3], strict=True))
    trainer = nnx.Trainer(nnx.mlp([4, 3], output="identity"), backend="numpy")
    trainer.fit(X, of(kind, Y), validation=(X, of(kind, Y[::-1])), epochs=1)
    assert trainer.targets == ["p", "q", "r"]
    assert trainer.evaluate(X, of(kind, Y[::-1])) == trainer.evaluate(X, of(kind, Y))
    with pytest.raises(nnx.InputError, match="Y lacks the column 'q'"):
        trainer.evaluate(X, of(kind, [Y[0], Y[2]]))


def test_a_resumed_fit_finds_columns_by_the_names_of_its_checkpoint(tmp_path):
    X, Y = numbers()
    columns = list(zip(NAMES, X, strict=True))

    def fit(columns, epochs):
        trainer = nnx.Trainer(nnx.mlp([4, 3, 1]), backend="numpy")
        folder = tmp_path / f"of {epochs}" if epochs == 6 and columns[0][0] == "age" else tmp_path / "run"
        trainer.fit(dict(columns), Y, epochs, 16, callbacks=nnx.Checkpoints(folder), resume=folder)
        return trainer

    expected = fit(columns, 6).theta
    fit(columns, 3)
    resumed = fit(columns[::-1], 6)
    np.testing.assert_array_equal(resumed.theta, expected)
    assert resumed.features == NAMES


def test_what_is_no_table_has_no_names():
    X, Y = numbers()
    trainer = trained("dict")
    np.testing.assert_array_equal(trainer.predict(X), trainer.predict(dict(zip(NAMES, X, strict=True))))
    for x in ({"X": X, "y": Y}, {}):
        with pytest.raises(nnx.InputError, match="X is a dict that holds"):
            trainer.predict(x)
    with pytest.raises(nnx.InputError, match="different lengths: 40 in 'age', 39 in 'height'"):
        trainer.predict({"age": X[0], "height": X[1, 1:]})
    with pytest.raises(nnx.InputError, match="column 'age', holds text"):
        trainer.predict({**dict(zip(NAMES, X, strict=True)), "age": ["a"] * M})


def test_arrow_columns_of_numbers():
    arrow = pytest.importorskip("pyarrow")
    columns = {
        "whole": arrow.array([1, None, 3]),
        "true": arrow.array([True, False, None]),
        "decimal": arrow.array([1, 2, 3]).cast(arrow.decimal128(30, 2)),
        "coded": arrow.array([2, 2, 5]).dictionary_encode(),
        "small": arrow.array([1, 2, 3], arrow.int8()),
    }
    table = frames.frame(arrow.table(columns))
    expected = [[1, np.nan, 3], [1, 0, np.nan], [1, 2, 3], [2, 2, 5], [1, 2, 3]]
    np.testing.assert_array_equal(frames.numbers("X", table), expected)
    with pytest.raises(nnx.InputError, match="X, column 'a', holds string such as 'x'; expected numbers"):
        frames.numbers("X", frames.frame(arrow.table({"a": ["x"]})))
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    trainer.fit(np.ones((1, 3)), arrow.chunked_array([[0, 1], [1]]), epochs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_refuse_another_order_as_scikit_learn_does(kind):
    """Never by position: scikit-learn has names of frames and of what has the protocol of data frames."""
    pytest.importorskip("sklearn")
    from nnx.sklearn import MLPClassifier

    X, Y = numbers()
    columns = list(zip(NAMES, X, strict=True))
    model = MLPClassifier((3,), max_iter=5, random_state=0, solver="lbfgs", tol=1e9)
    if kind.startswith("dict"):
        with pytest.raises(ValueError, match=r"X is a dict of columns, .*hand in a data frame"):
            model.fit(of(kind, columns), Y)
        with pytest.raises(ValueError, match=r"X is a dict of columns"):
            model.fit(X.T, Y).predict(of(kind, columns))
        return
    model.fit(of(kind, columns), Y)
    assert list(model.feature_names_in_) == NAMES
    model.predict(of(kind, columns))
    others = [
        columns[::-1],
        columns[1:],
        [*columns, ("more", X[0])],
        [("Age", X[0]), *columns[1:]],
    ]
    for use in (model.predict, model.predict_proba, lambda x: model.score(x, Y)):
        for other in others:
            with pytest.raises(ValueError, match="feature names should match those that were passed"):
                use(of(kind, other))


@pytest.mark.parametrize("kind", REPEATING)
def test_estimators_refuse_two_columns_of_one_name(kind):
    pytest.importorskip("sklearn")
    from nnx.sklearn import MLPRegressor

    X, Y = numbers()
    model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=5, solver="lbfgs", tol=1e9)
    with pytest.raises(ValueError, match="X has 2 columns named 'a'"):
        model.fit(of(kind, list(zip("abac", X, strict=True))), Y)


def test_estimators_refuse_another_order_of_names_that_are_numbers():
    pytest.importorskip("sklearn")
    pandas = pytest.importorskip("pandas")
    from nnx.sklearn import MLPClassifier

    X, Y = numbers()
    frame = pandas.DataFrame(X.T)
    model = MLPClassifier((3,), max_iter=5, solver="lbfgs", tol=1e9).fit(frame, Y)
    expected = model.predict(frame)
    np.testing.assert_array_equal(model.predict(X.T), expected)
    with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
        model.predict(frame[[3, 2, 1, 0]])
    turned = frame[[3, 2, 1, 0]]
    np.testing.assert_array_equal(model.fit(turned, Y).predict(turned), model.predict(turned.to_numpy()))
    model.fit(X.T, Y).predict(frame)  # of arrays, which have no names
    model.predict(turned)


# Preparation

polars = pytest.importorskip("polars", reason="tables (extra cli) need polars")
pytest.importorskip("sklearn")

from nnx.data.source import Table  # noqa: E402
from nnx.data.task import find_task  # noqa: E402  # after the skip

CELLS = {
    "size": [1, 2, 3, 4, 5, 6] * 4,
    "weight": [1.5, None, 2.5, -3.0, 0.25, 8.0] * 4,
    "rooms": [3, None, 3, 4, 5, 3] * 4,
    "colour": ["red", "blue", None, "red", "blue", "red"] * 4,
    "code": ["1", "2", "a", "1", None, "2"] * 4,
    "old": [True, False, True, True, False, False] * 4,
    "sold": [True, None, False, None, True, True] * 4,
    "kind": ["x", "y", "x", "y", "y", "x"] * 4,
}
FEATURES = [name for name in CELLS if name != "kind"]


def prepared():
    samples = Table("train", polars.DataFrame(CELLS, strict=False)).training("kind", ())
    return Preparation.learn(samples, find_task(samples, "auto"), slice(None))


def pandas_frames():
    pandas = pytest.importorskip("pandas")
    plain = pandas.DataFrame({name: CELLS[name] for name in FEATURES})
    nullable = plain.convert_dtypes()
    coded = plain.assign(
        **{name: plain[name].astype("category") for name in ("colour", "code", "rooms", "sold")}
    )
    objects = plain.astype(object)
    missing = objects.where(objects.notna(), pandas.NA)
    found = {"plain": plain, "nullable": nullable, "categorical": coded, "object": objects, "NA": missing}
    if find_spec("pyarrow"):
        found["arrow"] = plain.convert_dtypes(dtype_backend="pyarrow")
    return found


@pytest.mark.parametrize("kind", ["plain", "nullable", "categorical", "object", "NA", "arrow"])
def test_a_pandas_frame_gives_the_X_of_the_file(kind):
    if kind == "arrow":
        pytest.importorskip("pyarrow")
    frame = pandas_frames()[kind]
    p = prepared()
    expected = p.X(polars.DataFrame(CELLS, strict=False))
    for given in (frame, frame[FEATURES[::-1]], frame.assign(more=1)):
        np.testing.assert_array_equal(p.X(given), expected)
    with pytest.raises(nnx.InputError, match=r"lacks the column 'colour'.*Did you mean 'Color'"):
        p.X(frame.rename(columns={"colour": "Color"}))
    twice = frame.rename(columns={"sold": "old"})
    with pytest.raises(nnx.InputError, match="2 columns named 'old'"):
        p.X(twice)


def test_tables_of_other_libraries_give_the_X_of_the_file():
    p, frame = prepared(), polars.DataFrame(CELLS, strict=False)
    expected = p.X(frame)
    given = [frame[FEATURES[::-1]], {name: CELLS[name] for name in reversed(FEATURES)}]
    given.append(frame.with_columns(polars.col("colour").cast(polars.Categorical)))
    if find_spec("pyarrow"):
        given += [frame.to_arrow(), frame.to_arrow().to_batches()[0]]
    for table in given:
        np.testing.assert_array_equal(p.X(table), expected)
    short = {name: CELLS[name] for name in FEATURES[1:]}
    with pytest.raises(nnx.InputError, match="lacks the column 'size'"):
        p.X(short)
    with pytest.raises(nnx.InputError, match=re.escape("the column 'size' of the data frame")):
        p.X({**short, "size": [object()] * 24})


def test_dates_are_not_taken_as_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas_frames()["plain"].assign(size=pandas.Timestamp("2020-01-01"))
    with pytest.raises(nnx.InputError, match="the column 'size' of the data frame holds Datetime"):
        prepared().X(frame)


def test_what_is_no_table_is_refused():
    p, frame = prepared(), polars.DataFrame(CELLS, strict=False)
    for given in (
        None,
        3,
        "a",
        [1, 2],
        [[1, "a"]],
        np.zeros(3),
        np.zeros((2, 3, 1)),
        {},
        {"size": 1},
        frame.lazy(),
    ):
        with pytest.raises(nnx.InputError):
            p.X(given)
    odd = {
        "lists": [[1]] * 24,
        "structures": [{"a": 1}] * 24,
        "bytes": [b"\xff"] * 24,
        "objects": polars.Series([object()] * 24, dtype=polars.Object),
    }
    trainer = nnx.Trainer(nnx.mlp([1, 1]), backend="numpy")
    for cells in odd.values():
        with pytest.raises(nnx.InputError, match=r"column 'size'.* holds"):
            p.X(frame.with_columns(size=polars.Series(cells)))
        with pytest.raises(nnx.InputError, match=r"column 'size', holds"):
            trainer.predict(polars.DataFrame({"size": cells}))
    with pytest.raises(
        nnx.InputError, match="column 'code' of the data frame holds Binary, of which some is no text"
    ):
        p.X(frame.with_columns(code=polars.Series(odd["bytes"])))


def test_a_model_of_arrays_takes_as_many_columns_as_it_was_trained_on():
    assert frames.found("X", ["a", "b"], ["x0", "x1"], named=False) == [0, 1]
    assert frames.found("X", ["x1", "a", "x0"], ["x0", "x1"], named=False) == [2, 0]
    with pytest.raises(nnx.InputError, match=r"X has 3 columns; the model was trained on an array of 2$"):
        frames.found("X", ["a", "b", "c"], ["x0", "x1"], named=False)
    with pytest.raises(nnx.InputError, match="X lacks the column 'x1'"):
        frames.found("X", ["x0", "b", "c"], ["x0", "x1"], named=False)


@pytest.mark.parametrize("kind", ["pandas", "polars", "table", "record batch"])
def test_labels_of_text_are_told_how_to_become_class_indices(kind):
    X, labels = np.zeros((2, 3)), of(kind, [("kind", np.array(["cat", "dog", "cat"]))])
    trainer = nnx.Trainer(nnx.mlp([2, 1]), backend="numpy")
    with pytest.raises(nnx.InputError, match=r"Y, column 'kind',.* such as 'cat'.* Class labels are 0, 1, 2"):
        trainer.fit(X, labels, epochs=1)
    with pytest.raises(
        nnx.InputError, match=r"X, column 'kind',.* such as 'cat'.* Convert it, or leave it out"
    ):
        trainer.predict(labels)
