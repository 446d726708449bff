"""Ten tables of the kind people have: nothing but `--target` is given, and the model is as good as one made by hand.

By hand means: scikit-learn's perceptron, stopping early, behind a ColumnTransformer for which a person has sorted the
columns. Both learn from the same rows, and are measured on the same others.
"""

import json

import numpy as np
import pytest
from messy_tables import TABLES

import nnx

polars = pytest.importorskip("polars", reason="the command line's readers (extra cli) are not installed")
pytest.importorskip("sklearn", reason="scikit-learn (extra cli) is not installed")

FAST = ("penguins",)
NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.long) for name in TABLES]
WITHIN = 0.02
"""Of accuracy or R2."""


@pytest.fixture(scope="module", params=NAMES)
def table(request):
    """A table, the parts that one learns from and is measured on, and the scores of `by_hand`."""
    made = TABLES[request.param](np.random.default_rng(27))
    cells = {name: list(values) for name, values in made.columns.items()}
    frame = polars.DataFrame({name: polars.Series(values, strict=False) for name, values in cells.items()})
    train, test = frame[: made.m], frame[made.m :].drop_nulls(made.target)
    return made, train, test, by_hand(made, train, test)


def by_hand(made, train, test):
    """Return the score of scikit-learn's perceptron, the mean of three seeds, and that of the baseline."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train = train.drop_nulls(made.target)
    X, more = _features(made, train), _features(made, test)
    y, y_test = train[made.target].to_numpy(), test[made.target].to_numpy()
    if made.task == "classification":  # scikit-learn 1.7 cannot stop early with labels that are text
        labels, y = np.unique(y, return_inverse=True)
        y_test = np.searchsorted(labels, y_test)
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    count = len(made.numbers) + 3 * len(made.dates)
    columns = ColumnTransformer(
        [("numbers", scaled, list(range(count))), ("text", one_hot, list(range(count, X.shape[1])))]
    )
    scores = []
    for seed in range(3):
        options = {"hidden_layer_sizes": (128, 64), "early_stopping": True, "random_state": seed}
        if made.task == "classification":
            model = make_pipeline(columns, MLPClassifier(**options))
        else:
            perceptron = make_pipeline(columns, MLPRegressor(**options))
            model = TransformedTargetRegressor(perceptron, transformer=StandardScaler())
        scores.append(model.fit(X, y).score(more, y_test))
    dummy = DummyClassifier() if made.task == "classification" else DummyRegressor()
    return np.mean(scores), dummy.fit(X, y).score(more, y_test)


def _features(made, frame):
    """Return the columns (m, n) that one would use: numbers, then the text; dates as numbers and weekdays."""
    numbers, text = [frame[name].cast(float).to_numpy() for name in made.numbers], []
    for name in made.dates:
        form = (
            "%d/%m/%Y %H:%M"
            if "/" in frame[name][0]
            else "%Y-%m-%dT%H:%M" + ":%SZ" * frame[name][0].endswith("Z")
        )
        at = frame[name].str.to_datetime(form).to_numpy().astype("M8[m]")
        days = at.astype("M8[D]").astype(int)
        hours = at.astype("M8[h]").astype(int) % 24
        numbers += [days.astype(float), at.astype("M8[Y]").astype(float), hours.astype(float)]
        text += [at.astype("M8[M]").astype(int) % 12, days % 7, hours]
    text += [frame[name].fill_null("?").to_numpy() for name in made.text]
    return np.array([*numbers, *text], dtype=object).T


def check(score, expected, baseline):
    assert score > baseline
    assert score >= expected - WITHIN


@pytest.mark.long
def test_the_command_line_is_as_good_as_one_is_by_hand(table, run):
    made, train, test, scores = table
    train.write_csv("train.csv")
    test.write_csv("test.csv")
    status, _, said = run("train", "train.csv", "--target", made.target, "--out", "run")
    assert status == 0, said
    assert f"Task      {made.task}, since" in said
    status, out, said = run("evaluate", "run", "test.csv", "--json")
    assert status == 0, said
    check(json.loads(out)["accuracy" if made.task == "classification" else "r2"], *scores)


@pytest.mark.long
def test_python_is_as_good_as_one_is_by_hand(table):
    made, train, test, scores = table
    model = nnx.Tabular(train, target=made.target, backend="numpy")
    assert model.preparation.task == made.task
    model.fit()
    check(model.evaluate(test)["accuracy" if made.task == "classification" else "r2"], *scores)
