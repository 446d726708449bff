"""`nnx bench --members`: the same results as single networks, its files, table and pictures. Nothing asks for speed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nnx
from nnx.bench import contestants, page, plots, result
from nnx.bench.case import Case, stacked
from nnx.bench.compare import compare
from nnx.bench.contestant import Absent
from nnx.bench.contestants import make
from nnx.bench.result import Group

pytest.importorskip("typer")
from test_bench_suite import cli, figure, file  # noqa: F401  # `cli` is a fixture

RESULTS = Path(__file__).parent.parent / "bench" / "results"
ADAM = Case((5, 7, 4, 3), 4, "adam", "float64", steps=5, learning_rate=0.02, members=3)
CASES = {
    "adam": ADAM,
    "gradient descent, shuffled": replace(
        ADAM, optimizer="gradient_descent", learning_rate=0.1, shuffled=True
    ),
    "sigmoid": replace(ADAM, sizes=(6, 4, 1), optimizer="gradient_descent", learning_rate=0.3),
}


def singles(case, epochs):
    """The parameters of K ordinary trainers after so many epochs."""
    data, found = case.data(), []
    for seed in range(case.K):
        trainer = nnx.Trainer(case.network(), case.make_optimizer(), "numpy", dtype=case.dtype, seed=seed)
        trainer.fit(data.X.T, data.y, epochs=epochs, batch_size=case.m, shuffle=case.shuffled)
        found.append(trainer.parameters)
    return stacked(found)


def compared(reached, case, epochs):
    expected, start = singles(case, epochs), stacked(case.starts())
    assert reached.keys() == expected.keys()
    # optax and scikit-learn have epsilon in another place of Adam, which shows where a gradient is almost 0
    tolerance = 1e-3 if case.optimizer == "adam" else 1e-10
    for name, parameters in expected.items():
        np.testing.assert_allclose(reached[name], parameters, rtol=tolerance, atol=tolerance, err_msg=name)
        assert not np.allclose(parameters, start[name], atol=1e-2), "nothing was learned"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("name", ["nnx:numpy", "nnx-single:numpy"])
def test_ours_train_the_members(name, case):
    made = make(name, case, case.data())
    for _ in range(2):
        seconds = made.seconds(1)
        assert 0 < made.outside() < seconds
    compared(made.parameters(), case, epochs=2)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("name", ["nnx-single:torch", *contestants.peers(members=True)])
def test_peers_train_the_members(processes, name, case):
    if name == "sklearn-jobs" and case.shuffled:
        pytest.skip("it has orders of its own")
    try:
        built = processes(name).build(
            case
        )  # trains two epochs: the first, and the one whose memory is measured
    except Absent as reason:
        pytest.skip(str(reason))
    assert processes(name).seconds(1) > 0
    assert built.peak is None or name != "sklearn-jobs"  # its processes have the memory
    compared(processes(name).parameters(), case, epochs=3)


def test_the_floor_of_members_has_their_products_one_after_the_other(monkeypatch):
    case, calls = Case((6, 5, 3), m=4, steps=2, members=3), []
    made = make("floor", case, case.data())
    monkeypatch.setattr(
        np, "matmul", lambda a, b, out: calls.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
    )
    made.epoch()
    assert sum(calls) == case.steps * case.flops == 3 * case.steps * replace(case, members=None).flops


# The run


def members(contestant="nnx:numba", K=8, rounds=(2e-3, 2.1e-3, 1.9e-3), **changes):
    return figure(contestant, rounds=rounds, members=K, **changes)


@pytest.fixture
def made():
    """A file with members and their single runs."""
    floor = [members("floor", K, over=1.0) for K in (1, 8)]
    ours = [members(K=K, rounds=(1e-3, 2e-3, 4e-3)) for K in (1, 8)]
    alone = [members("nnx-single:numba", K, rounds=(3e-3, 5e-3, 4e-3)) for K in (1, 8)]
    return file(*floor, *ours, *alone, members("torch-vmap"))


def test_members_are_compared_with_their_single_runs_round_by_round(made):
    found = {f.contestant: made.over_singles(f) for f in made.figures if f.members == 8}
    assert found == {"floor": None, "nnx:numba": 2.5, "nnx-single:numba": None, "torch-vmap": None}
    assert file(members()).over_singles(members()) is None  # these were not measured


def test_files_of_one_network_stay_as_they_were():
    found = result.read(RESULTS / "epyc-zen4-2-cores-64.json")
    assert {f.members for f in found.figures} == {None}
    assert {(f.key.x, f.group.axis) for f in found.figures} == {(m, "m") for m in (1, 16, 128, 1024, 8192)}
    assert str(found.groups[0]) == "64-64-64-10, adam, float32, in order"


@pytest.mark.parametrize(("value", "message"), [(0, "not all times"), ("8", "has '8' as members")])
def test_files_with_other_members_are_refused(made, tmp_path, value, message):
    path = tmp_path / "a.json"
    result.write(made, path)
    found = json.loads(path.read_text())
    found["figures"][-1]["members"] = value
    path.write_text(json.dumps(found))
    with pytest.raises(nnx.InputError, match=message):
        result.read(path)


def test_changes_are_told_for_each_number_of_members(made, cli, tmp_path):  # noqa: F811
    faster = [replace(f, rounds=[x / 2 for x in f.rounds], over_floor=None, floor=None) if f.members == 8 and
              f.contestant == "nnx-single:numba" else f for f in made.figures]  # fmt: skip
    verdicts = compare(made, file(*faster)).verdicts
    assert {(one.key.members, one.verdict) for one in verdicts if one.verdict != "same"} == {(8, "faster")}
    result.write(made, tmp_path / "a.json")
    result.write(file(*faster[:-1]), tmp_path / "b.json")
    status, out, _ = cli("compare", "a.json", "b.json")
    assert status == 0
    assert "Faster or slower: 64-64-10, adam, float32, in order, m = 16" in " ".join(out.split())
    assert re.search(r"\n K +contestant", out)
    assert re.search(r"\n 8 +nnx numba, one by one +\S+ .* faster", out)
    assert "PyTorch vmap, 64-64-10, adam, float32, in order, m = 16, K = 8" in out


# The table and the pictures


def test_the_table_has_a_row_for_each_number_of_members(made, cli, tmp_path):  # noqa: F811
    result.write(made, tmp_path / "a.json")
    status, out, error = cli("show", "a.json")
    assert status == 0, error
    assert "Training: 64-64-10, adam, float32, in order, m = 16" in out
    assert re.search(r"K = 1\b.*K = 8\b", out, flags=re.DOTALL)
    # 16 samples in 2 ms; a step of one of 8 members; 2.5 times as fast as one by one
    assert re.search(r"nnx numba +8,000 +250.0 +2.50 ", out)
    assert re.search(r"nnx numba, one by one +4,000 +500.0 +\d+%", out)
    assert "×single: the speed over" in out
    result.write(file(figure()), tmp_path / "b.json")
    assert "×single" not in cli("show", "b.json")[1]


def test_the_page_has_the_members_on_its_axis(made, tmp_path):
    page.write(made, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    (group,) = json.loads(data)["groups"]
    assert group["axis"] == "K"
    assert group["panels"][0]["x"] == [1, 8]
    assert "<th>K<th>times one by one<tbody>" in text
    assert '<td data-value="8">8<td data-value="2.5">2.50' in text
    page.write(file(figure()), tmp_path / "b.html")
    assert "<th>K" not in (tmp_path / "b.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_plot_has_a_name_and_its_members(made, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    (group,) = made.groups
    assert plots.slug(group) == "64-64-10-adam-float32-in-order-m-16"
    plots.draw(made, group, tmp_path / "a.png")
    pixels = image.imread(tmp_path / "a.png")
    seen = {tuple(p) for p in np.round(pixels[pixels[..., 3] == 1][:, :3] * 255).astype(int).tolist()}
    for name in ("nnx:numba", "torch-vmap"):
        assert tuple(bytes.fromhex(plots.style(name)[0][1:])) in seen, name


# The command


@pytest.mark.long
def test_the_command_trains_members(cli, tmp_path, monkeypatch):  # noqa: F811
    for name in ("suite.LEAD", "suite.PAUSE"):
        monkeypatch.setattr(f"nnx.bench.{name}", 0)
    monkeypatch.setattr("nnx.cli.bench.SECONDS_OF_MEMBERS", 0.002)
    options = [
        "--members",
        "1,3",
        "--backends",
        "numpy",
        "--peers",
        "none",
        "--sizes",
        "8-4-3",
        "--rounds",
        "3",
    ]
    status, out, error = cli(*options, "--batch-sizes", "2,4", "--out", "f.json")
    assert status == 0, (out, error)
    found = result.read(tmp_path / "f.json")
    assert found.groups == [Group((8, 4, 3), "adam", "float32", "in order", m) for m in (2, 4)]
    assert [f.contestant for f in found.figures] == 4 * ["floor", "nnx:numpy", "nnx-single:numpy"]
    assert [(f.m, f.members) for f in found.figures[::3]] == [(2, 1), (2, 3), (4, 1), (4, 3)]
    for f in found.figures:
        assert f.samples_per_second == pytest.approx(f.members * f.m / f.seconds)
        assert f.outside is None if f.kind != "nnx" else 0 < f.outside < f.seconds
        assert (found.over_singles(f) is not None) == (f.contestant == "nnx:numpy")
    assert len(list(tmp_path.glob("f-8-4-3-adam-float32-in-order-m-[24].png"))) == 2
    status, _, error = cli(*options, "--batch-sizes", "2", "--out", "f.json")
    assert "exists already" in str(error)


@pytest.mark.long  # (it looks for all backends)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--members", "0"], "members must be"),
        (
            ["--members", "8", "--peers", "torch"],
            "the peer 'torch' trains one network: leave out --members, or take",
        ),
        (
            ["--peers", "jax-vmap"],
            "the peer 'jax-vmap' trains members: give --members, or take some of typed",
        ),
        (["--members", "8", "--peers", "torch-wmap"], "did you mean 'torch-vmap'"),
        (["--members", "8", "--kernels"], "leave out --members"),
    ],
)
def test_bad_options(cli, arguments, message):  # noqa: F811
    status, _, error = cli("--backends", "numpy", *arguments)
    assert status != 0
    assert message in str(error)
