"""The benchmark of tables: a small run of it, and one that goes on."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from nnx.bench import tabular

pytestmark = pytest.mark.needs("pandas")


@pytest.fixture
def small(monkeypatch):
    pandas = pytest.importorskip("pandas")

    def table(classes):
        rng = np.random.default_rng(0)
        X = pandas.DataFrame({"a": rng.standard_normal(600), "t": rng.choice(["x", "y", "z"], 600)})
        return X, np.where(X["a"] > 0, "p", "n") if classes else X["a"].to_numpy()

    sets = {"of classes": ("accuracy", lambda: table(True)), "of numbers": ("R2", lambda: table(False))}
    monkeypatch.setattr(tabular, "SETS", sets)
    monkeypatch.setattr(tabular, "FOLDS", 2)
    monkeypatch.setattr(tabular, "GRID", {"alpha": [1e-4, 1.0]})
    tabular.load.cache_clear()
    yield
    tabular.load.cache_clear()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_was_ended_goes_on(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tabular, "version", lambda name: "1")
    arguments = ["--folder", str(tmp_path / "cells"), "--max-iter", "3", "--rows", "60"]
    tabular.main([*arguments, "--sets", "of numbers"])
    assert len([*(tmp_path / "cells").iterdir()]) == 2
    measured = []
    measure = tabular.measure
    monkeypatch.setattr(
        tabular, "measure", lambda *given, **more: measured.append(given) or measure(*given, **more)
    )
    tabular.main([*arguments, "--out", str(tmp_path / "all.json")])
    assert [given[:2] for given in measured] == [("of classes", 0), ("of classes", 1)]
    found = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert len(found["cells"]) == 4
    assert all(set(cell) == set(tabular.COLUMNS) for cell in found["cells"].values())
    printed = capsys.readouterr().out
    assert "| of classes | accuracy |" in printed
    assert "| mean rank | 1 is best |" in printed


def test_a_cell_of_other_settings_or_versions_is_measured_anew(small, tmp_path, monkeypatch):
    versions, measured = ["1"], []

    def measure(name, fold, rows, epochs):
        measured.append((rows, epochs))
        return dict.fromkeys(tabular.COLUMNS, float(rows))

    monkeypatch.setattr(tabular, "version", lambda name: versions[-1])
    monkeypatch.setattr(tabular, "measure", measure)
    for rows, epochs in [(60, 3), (60, 3), (50, 3), (50, 4)]:
        found = tabular.run(["of numbers"], tmp_path, rows, epochs)
        assert {one["preset"] for one in found.values()} == {float(rows)}
    versions.append("2")
    tabular.run(["of numbers"], tmp_path, 50, 4)
    assert measured == [(60, 3)] * 2 + [(50, 3)] * 2 + [(50, 4)] * 4


def test_the_page_has_the_table_of_the_file():
    root = Path(__file__).parents[1]
    path = root / "bench/results/tables-1000-rows.json"
    if not path.exists():
        pytest.skip("the results are not beside these tests")
    table = tabular.table(json.loads(path.read_text(encoding="utf-8"))["cells"])
    assert table in (root / "docs/tabular-benchmark.md").read_text(encoding="utf-8")


def test_the_table_has_ranks_and_marks_the_best(small):
    cells = {
        f"{name}-{fold}": {key: 0.5 + k / 10 + fold / 10 for k, key in enumerate(tabular.COLUMNS)}
        for name in tabular.SETS
        for fold in range(2)
    }
    lines = tabular.table(cells).splitlines()
    assert lines[2] == (
        "| of classes | accuracy | 0.550 ± 0.07 | 0.650 ± 0.07 | 0.750 ± 0.07 | 0.850 ± 0.07 | **0.950** ± 0.07 |"
    )
    assert lines[-1] == "| mean rank | 1 is best | 5.00 | 4.00 | 3.00 | 2.00 | 1.00 |"


def test_rows_are_drawn_once_and_an_unknown_set_is_an_error(small, capsys):
    X, y = tabular.load("of numbers", 60)
    assert len(X) == len(y) == 60
    with pytest.raises(SystemExit):
        tabular.main(["--sets", "no such"])
    assert "unknown data sets: no such. Known: of classes, of numbers" in capsys.readouterr().err
