"""The comparison of two checkouts: it measures both, and names the cells that are slower in each round."""

import json
import sys

import pytest

from nnx.bench import against
from nnx.bench.against import Cell, Measured

SMALL = (3, 4, 2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A network that takes no time, and short turns."""
    monkeypatch.setattr(against, "NETWORKS", (SMALL,))
    monkeypatch.setattr(against, "TURN", 0.001)
    monkeypatch.setattr(against, "PATIENCE", 0.001)


@pytest.mark.long
def test_this_checkout_beside_itself(tmp_path, capsys):
    out = tmp_path / "against.json"
    arguments = [
        "--backends",
        "numpy",
        "none such",
        "--batch-sizes",
        "2",
        "5",
        "--rounds",
        "2",
        "--out",
        str(out),
    ]
    against.main([sys.executable, *arguments])
    printed = capsys.readouterr()
    assert printed.out.count("of 4 cells") == 2
    assert "| 3-4-2, shuffled | " in printed.out
    assert "absent: none such 3-4-2 in order m=2: InputError" in printed.out
    assert "2: numpy 3-4-2 shuffled m=5: " in printed.err
    found = json.loads(out.read_text())
    assert found["checkouts"] == [sys.executable, sys.executable]
    assert [len(measured) for measured in found["rounds"]] == [8, 8]
    for one in found["rounds"][1]:
        here = one["cell"]["backend"] == "numpy"
        assert len(one["before"]) == len(one["after"]) == (3 if here else 0)
        assert all(0 < seconds < 1 for seconds in one["before"] + one["after"])


def test_cells_that_are_slower_in_each_round_are_named():
    def rounds(*ratios):
        times = [[4.0, 2.0, 8.0], [8.0, 2.0 * ratios[0], 9.0]], [[4.0, 5.0], [4.0 * ratios[1], 7.0]]
        return [Measured(cell, *each) for cell, each in zip(cells, times, strict=True)]

    cells = [Cell("numba", SMALL, 8, shuffle) for shuffle in (False, True)]
    told = "\n".join(against.report([rounds(1.0, 1.5), rounds(1.5, 1.6)]))
    assert "numba, round 1: geometric mean 1.225 of 2 cells" in told
    assert "| 3-4-2, in order | 1.50 | 1.50 |" in told
    assert "numba: 1 cells over 1.2 in each round\n- numba 3-4-2 shuffled m=8: 1.50, 1.60" in told
    told = "\n".join(against.report([rounds(1.0, 1.5)]))
    assert "numba: 1 cells over 1.2 in the round" in told


def test_an_environment_without_nnx_is_an_error(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(RuntimeError, match="the process ended with status 3"):
        against.main([str(tmp_path / "python"), "--backends", "numpy"])
