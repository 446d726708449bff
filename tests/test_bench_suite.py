"""`nnx bench`: its files, its peers, its comparison, its pictures. Nothing here asks how fast anything is."""

import getpass
import json
import math
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

import nnx
from nnx.bench import contestants, page, plots, result
from nnx.bench.case import Case, steps_within
from nnx.bench.child import Child
from nnx.bench.compare import compare
from nnx.bench.contestant import Absent
from nnx.bench.result import Figure, Result
from nnx.bench.suite import Plan, run
from nnx.cli.app import app

pytest.importorskip("typer")
from typer.testing import CliRunner

pytestmark = pytest.mark.long

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
CPU = ["typed", "torch", "torch-compiled", "jax", "sklearn"]
CASES = {
    "softmax, adam": Case((5, 7, 4, 3), 4, "adam", "float64", steps=5, learning_rate=0.02),
    "softmax, gradient descent": Case(
        (5, 7, 3), 4, "gradient_descent", "float64", steps=5, learning_rate=0.1
    ),
    "sigmoid, adam": Case((6, 4, 1), 3, "adam", "float64", steps=5, learning_rate=0.02),
}


def usable(name):
    return next(row.usable for row in nnx.port.registry.survey() if row.name == name)


@pytest.fixture
def cli(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for console in ("console", "output"):
        monkeypatch.setattr(f"nnx.cli.show.{console}.width", 200)

    def call(*arguments):
        done = CliRunner().invoke(app, ["bench", *arguments])
        return done.exit_code, done.output, done.exception

    return call


def figure(contestant="nnx:numpy", m=16, rounds=(2e-3, 2.1e-3, 1.9e-3), over=2.0, **changes):
    middle, quartiles = result.spread(rounds)
    values = {
        "contestant": contestant,
        "label": contestants.label(contestant),
        "kind": contestants.kind(contestant),
        "sizes": [64, 64, 10],
        "m": m,
        "optimizer": "adam",
        "dtype": "float32",
        "order": "in order",
        "steps": 16,
        "epochs": 2,
        "rounds": list(rounds),
        "seconds": middle,
        "quartiles": quartiles,
        "samples_per_second": m / middle,
        "flops_per_second": 1e9,
        "floor": "floor",
        "over_floor": over,
        "over_floor_quartiles": [over, over],
        "first": 1.0,
        "peak_bytes": 10**6,
        "theory_bytes": {"theta": 1000, "kept": 10 * m},
    }
    return Figure(**{**values, **changes})


def file(*figures, **changes):
    values = {
        "format": result.FORMAT,
        "version": result.VERSION,
        "date": "2026-01-01T00:00:00+00:00",
        "note": "",
        "machine": {"processor": "A <processor>", "cores": 2, "system": "Linux", "python": "3.11", "environment": {}},
        "versions": {"numpy": "2.1"},
        "settings": {"rounds": 3, "seconds": 0.1},
        "contestants": [
            {"name": "jax", "label": "JAX + optax", "kind": "peer", "library": None, "device": None, "detail": None,
             "blas": [], "absent": "no </script> here"},
            *({"name": name, "label": name, "kind": "nnx", "library": None, "device": "cpu", "detail": None,
               "blas": [], "absent": None} for name in dict.fromkeys(f.contestant for f in figures) if name != "jax"),
        ],
        "peaks": {"float32": 1e11},
        "figures": list(figures),
    }  # fmt: skip
    return Result(**{**values, **changes})


@pytest.fixture(scope="module")
def measured():
    """A tiny run with one that is absent."""
    plan = Plan(
        ["nnx:numpy", "typed", "cupy-typed"],
        [(6, 5, 3)],
        [1, 4],
        ("adam", "momentum"),
        shuffled=(False, True),
        rounds=3,
        seconds=0.002,
        note="a test",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nnx.bench.suite.LEAD", 0)
        patch.setattr("nnx.bench.suite.PAUSE", 0)
        return run(plan)


# What is computed


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(
    "name", [*CPU, "nnx:torch", "torch-cuda", "torch-compiled-cuda", "jax-cuda", "cupy-typed"]
)
def test_contestants_compute_what_nnx_computes(processes, name, case):
    """After 3 epochs of 5 steps from the same parameters, theirs agree with nnx's on NumPy."""
    if "compiled" in name and case is not CASES["softmax, adam"]:
        pytest.skip("compiling takes long: one case of it")
    try:
        processes(name).build(case)  # trains two epochs: the first, and the one whose memory is measured
    except Absent as reason:
        pytest.skip(str(reason))
    processes(name).seconds(1)
    trainer = nnx.Trainer(case.network(), case.make_optimizer(), backend="numpy", dtype=case.dtype)
    trainer.parameters = case.start()
    data = case.data()
    trainer.fit(data.X.T, data.y, epochs=3, batch_size=case.m, shuffle=False)
    reached = processes(name).parameters()
    assert reached.keys() == trainer.parameters.keys()
    # optax and scikit-learn have epsilon in another place of Adam, which is worth 1e-8 a gradient
    tolerance = 1e-5 if case.optimizer == "adam" else 1e-10
    for key, expected in trainer.parameters.items():
        np.testing.assert_allclose(reached[key], expected, rtol=tolerance, atol=tolerance, err_msg=key)
        assert not np.allclose(expected, case.start()[key], atol=1e-3), "nothing was learned"


@pytest.mark.parametrize("name", ["typed", "torch", "jax", "sklearn", "nnx:numpy"])
def test_shuffled_contestants_learn(processes, name):
    case = replace(CASES["softmax, adam"], shuffled=True)
    try:
        processes(name).build(case)
    except Absent as reason:
        pytest.skip(str(reason))
    reached = processes(name).parameters()
    assert all(np.isfinite(p).all() for p in reached.values())
    assert not np.allclose(reached["W1"], case.start()["W1"], atol=1e-3)


def test_the_floor_is_the_products_alone():
    from nnx.bench.floor import products

    case = Case((6, 5, 4, 3), m=7, steps=2)
    X = case.data().X
    steps = products(case, X, lambda *shape: np.ones(shape), lambda *shape: np.zeros(shape))
    assert len(steps) == 2
    for step in steps:
        assert all((a @ b).shape == out.shape for a, b, out in step)
        assert sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b, _ in step) == case.flops
    assert np.shares_memory(steps[1][0][1], X)  # the batches are read where they lie
    np.testing.assert_array_equal(steps[1][0][1], X[7:].T)


def test_theory_counts_what_is_there():
    case = Case((6, 5, 3), m=4, shuffled=True)
    P = 6 * 5 + 5 + 5 * 3 + 3
    assert case.theory == {
        "theta": 4 * P,
        "gradient": 4 * P,
        "optimizer": 8 * P,
        "kept": 4 * 4 * 5,  # the last layer keeps but what the first has kept
        "gathered": 4 * 6 * 4,
    }
    assert replace(case, optimizer="gradient_descent").theory["optimizer"] == 0
    assert steps_within(10**9, 1, "float64") == 2


# The run


def test_every_cell_has_a_figure(measured):
    seen = {(f.contestant, tuple(f.sizes), f.m, f.optimizer, f.order) for f in measured.figures}
    assert len(seen) == len(measured.figures)
    for name in ("floor", "nnx:numpy"):
        assert sum(one[0] == name for one in seen) == 2 * 2 * 2
    for f in measured.figures:
        assert len(f.rounds) == 3
        assert 0 < f.quartiles[0] <= f.seconds <= f.quartiles[1]
        assert f.samples_per_second == pytest.approx(f.m / f.seconds)
        assert f.first > 0
        assert f.over_floor > 0
        assert (f.over_floor == 1) is (f.kind == "floor")
        assert f.peak_bytes is None or f.peak_bytes >= 0
        assert (0 < f.outside < f.seconds) if f.kind == "nnx" else f.outside is None


def test_the_absent_are_named_with_their_reason(measured):
    absent = {one["name"]: one["absent"] for one in measured.absent}
    assert "floor-cuda" not in absent  # without a GPU nobody misses it
    assert "not for momentum" in absent["typed"]  # though it took part with adam
    if not usable("cupy"):
        assert absent["cupy-typed"]
        assert "cupy-typed" not in {f.contestant for f in measured.figures}


def test_a_contestant_that_breaks_is_absent(monkeypatch):
    monkeypatch.setitem(
        contestants.PEERS, "broken", contestants.Entry("Broken", "peer", "nnx.bench.nowhere:f")
    )
    found = run(Plan(["nnx:nowhere"], [(3, 2)], [2], rounds=1, seconds=0.001))
    (reason,) = [one["absent"] for one in found.absent if one["name"] == "nnx:nowhere"]
    assert "nowhere" in reason
    assert [f.contestant for f in found.figures] == ["floor"]


def test_a_cell_that_does_not_fit_into_memory_is_left_out():
    turns = []
    plan = Plan(["typed"], [(10, 10**6, 10**6, 2), (3, 2)], [2], rounds=2, seconds=0.001)
    found = run(plan, turn=turns.append)
    assert [(f.sizes, f.contestant) for f in found.figures] == [([3, 2], "floor"), ([3, 2], "typed")]
    assert {one["name"] for one in found.absent} == {"floor", "typed"}
    assert "3-2, adam, in order, m = 2: round 2 of 2, GEMM floor" in turns


def test_who_is_killed_after_its_last_turn_loses_no_figure(monkeypatch):
    def drop(self):
        raise Absent("its process ended with status -9")

    monkeypatch.setattr(Child, "drop", drop)
    found = run(Plan(["typed"], [(3, 2)], [2, 3], rounds=1, seconds=0.001))
    assert [(f.contestant, f.m) for f in found.figures] == [
        ("floor", 2), ("typed", 2), ("floor", 3), ("typed", 3)
    ]  # fmt: skip


def test_no_compiler_no_compiled_peer(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    with Child("torch-compiled") as child, pytest.raises(Absent, match=r"\w+: .+"):
        child.build(CASES["sigmoid, adam"])


# The files


def test_the_file_comes_back_as_it_was(measured, tmp_path):
    result.write(measured, tmp_path / "a.json")
    assert result.read(tmp_path / "a.json") == measured
    text = (tmp_path / "a.json").read_text()
    words = set(re.findall(r"[\w.-]+", text))
    assert not words & {socket.gethostname(), getpass.getuser(), "site-packages", *Path.home().parts[1:]}


def test_the_docs_describe_every_field():
    text = DOCS.read_text(encoding="utf-8")
    for kind in (Figure, Result):
        for field in fields(kind):
            assert f"| `{field.name}` |" in text, field.name
    assert f"version {result.VERSION}" in text
    for name in contestants.PEERS:
        assert f"| `{name}` |" in text, name


def twice(text):
    found = json.loads(text)
    return json.dumps(found | {"figures": found["figures"] * 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "is no JSON"),
        (
            lambda text: json.dumps(json.loads(text) | {"machine": []}),
            "has [] as machine in a result; expected",
        ),
        (lambda text: json.dumps(json.loads(text) | {"figures": {}}), "has {} as figures in a result"),
        (lambda text: text.replace('"m": 16', '"m": "16"'), "has '16' as m in a figure; expected int"),
        (lambda text: re.sub(r'"first": [^,]*', '"first": null', text), "has None as first in a figure"),
        (lambda text: "[]", "no file of `nnx bench"),
        (lambda text: text.replace('"version": 1', '"version": 99'), "version 99"),
        (
            lambda text: text.replace('"seconds": 0.002,', '"seconds": 0.0,'),
            "not all times are positive and finite",
        ),
        (
            lambda text: text.replace('"seconds": 0.002,', '"seconds": NaN,'),
            "not all times are positive and finite",
        ),
        (lambda text: text.replace('"m": 16', '"m": -3'), "m = -3 in which not all times are positive"),
        (lambda text: re.sub(r'"rounds": \[[^]]*\]', '"rounds": []', text), "with [] as rounds"),
        (lambda text: re.sub(r'"rounds": \[[^]]*\]', '"rounds": ["a"]', text), "not all times"),
        (
            lambda text: text.replace('"contestant": "nnx:numpy"', '"contestant": "mars"'),
            "not among its contestants",
        ),
        (lambda text: twice(text), "m = 16 twice"),
        (lambda text: text.replace('"seconds"', '"minutes"'), "lacks seconds"),
        (lambda text: text.replace('"machine"', '"mill"'), "lacks machine"),
    ],
)
def test_bad_files_are_refused(tmp_path, change, message):
    path = tmp_path / "a.json"
    result.write(file(figure()), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(nnx.InputError, match=re.escape(message)):
        result.read(path)


# The comparison


def judged(before, after, **changes):
    floor = figure("floor", rounds=(1e-3, 1e-3, 1e-3), over=1.0)
    a = file(floor, figure(rounds=before))
    slower = figure("floor", rounds=[changes.get("machine", 1.0) * 1e-3] * 3, over=1.0)
    found = compare(a, file(slower, figure(rounds=after)))
    return next(one for one in found.verdicts if one.key.contestant == "nnx:numpy")


def test_verdicts():
    quiet = (2e-3, 2.01e-3, 1.99e-3)
    assert judged(quiet, [2 * x for x in quiet]).verdict == "slower"
    assert judged(quiet, [x / 2 for x in quiet]).verdict == "faster"
    assert judged(quiet, [1.02 * x for x in quiet]).verdict == "same"  # within the 3% of two runs
    assert judged(quiet, [2 * x for x in quiet], machine=2.0).verdict == "same"  # the whole machine is slower
    assert judged(quiet, quiet, machine=2.0).verdict == "faster"
    noisy = (1e-3, 2e-3, 3e-3)
    one = judged(noisy, [1.3 * x for x in noisy])
    assert one.verdict == "same"
    assert one.change == pytest.approx(0.3)
    # the notch of each: 1.57 IQR / (sqrt(3) median), and the IQR is half the range here
    assert one.noise == pytest.approx(math.sqrt(2) * 1.57 * 0.5 / math.sqrt(3))


@pytest.mark.parametrize("changed", ["library", "precision"])
def test_times_over_other_floors_are_not_compared(changed):
    """The floor of a GPU was PyTorch's once, and one for all precisions."""
    rounds, floors = (2e-3, 2.01e-3, 1.99e-3), ("floor-cuda", "floor-cuda/tf32")
    after_floor = floors[changed == "precision"]
    before = file(figure(floors[0], rounds=(1e-3,) * 3), figure(rounds=rounds, floor=floors[0]))
    after = file(figure(after_floor, rounds=(5e-4,) * 3), figure(rounds=rounds, floor=after_floor))
    for found, library in (
        (before, "torch 2.11"),
        (after, "cupy 14.2" if changed == "library" else "torch 2.12"),
    ):
        found.contestants[1]["library"] = library
    found = compare(before, after)
    (one,) = found.verdicts
    assert (one.verdict, one.change, one.before_over, one.after_over) == ("same", 0, None, None)
    assert found.warnings == []


def test_a_single_round_tells_no_noise():
    one = judged((2e-3,), (4e-3,), machine=1.0)
    assert one.noise == math.inf
    assert one.verdict == "same"


def test_what_one_file_has_alone_and_what_differs():
    a = file(figure(), figure(m=1))
    b = file(figure(), figure("jax"), versions={"numpy": "2.2"}, machine={**a.machine, "cores": 8})
    found = compare(a, b)
    assert [(key.contestant, key.m) for key in found.only_before] == [("nnx:numpy", 1)]
    assert [key.contestant for key in found.only_after] == ["jax"]
    assert found.warnings == ["cores: 2, then 8", "numpy: 2.1, then 2.2"]


def test_a_slower_or_busier_machine_is_told():
    floors = [figure("floor", m=m, rounds=(1e-3, 1e-3, 1e-3), over=1.0) for m in (1, 16)]
    slower = [replace(one, rounds=[1.2e-3] * 3, seconds=1.2e-3) for one in floors]
    found = compare(file(*floors), file(*slower, settings={"load_before": 1.5}))
    assert found.verdicts == []
    assert found.warnings == [
        "the machine: its matrix products alone take +20% (median of the cells)",
        "load of the machine when the run began: None, then 1.5",
    ]


def test_compare_on_the_command_line(cli, tmp_path):
    floor = figure("floor", rounds=(1e-3, 1e-3, 1e-3), over=1.0)
    result.write(file(floor, figure(), figure("typed")), tmp_path / "a.json")
    result.write(file(floor, figure(rounds=(1e-3, 1.05e-3, 0.95e-3)), figure("typed")), tmp_path / "b.json")
    status, out, _ = cli("compare", "a.json", "b.json")
    assert status == 0
    assert re.search(r"nnx numpy +2,000.0 +1,000.0 +2.00 +1.00 +-50% .* faster", out)
    assert "1 faster, 0 slower, 1 same" in out  # of the floor nothing is said but what the machine does
    result.write(file(figure(m=2)), tmp_path / "c.json")
    status, out, error = cli("compare", "a.json", "c.json")
    assert status == 1
    assert "no contestant in the same cell" in str(error)


# The pictures


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_plots_show_every_contestant(measured, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    for group in measured.groups:
        path = tmp_path / f"{plots.slug(group)}.png"
        plots.draw(measured, group, path)
        width, height = png_size(path)
        assert width > 800
        assert height > 600
        pixels = image.imread(path)
        assert pixels[0, 0, 3] == 0  # no background: the page's shows
        seen = {tuple(p) for p in np.round(pixels[pixels[..., 3] == 1][:, :3] * 255).astype(int).tolist()}
        for name in {f.contestant for f in measured.of(group)}:
            colour = plots.style(name)[0]
            assert tuple(bytes.fromhex(colour[1:])) in seen, name


@pytest.mark.parametrize("members", [False, True])
def test_no_two_contestants_of_a_plot_look_alike(tmp_path, members):
    names = [*contestants.FLOORS, *contestants.peers(members)]
    for kind in ("nnx:", "nnx-single:") if members else ("nnx:",):
        names += [
            f"{kind}{name}{rest}" for name in ("torch", "jax", "cupy") for rest in ("", "/tf32", "/bfloat16")
        ]
        names += [f"{kind}{name}" for name in ("numpy", "numba", "torch@cpu")]
    looks = {(*plots.style(name), plots.marker(name)): name for name in names}
    assert sorted(looks.values()) == sorted(names)
    made = file(
        figure("nnx:torch"), figure("nnx:torch/bfloat16"), figure("nnx:torch/tf32"), figure("jax-cuda")
    )
    page.write(made, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    legend = json.loads(data)["groups"][0]["legend"]
    assert [len(one.pop("corners")) for one in legend] == [0, 3, 4, 4]


def luminance(colour):
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", plots.COLOURS)
def test_colours_are_legible_on_light_and_dark(name):
    own = luminance(bytes.fromhex(plots.COLOURS[name][1:]))
    assert 1.05 / (own + 0.05) >= 3  # on white
    assert (own + 0.05) / (luminance(bytes.fromhex("0d1117")) + 0.05) >= 3


def test_the_page_needs_nothing_else(tmp_path):
    made = file(figure("floor", over=1.0), figure(), figure(m=128), note="<b>a note</b>")
    page.write(made, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=|@import|url\(""", text)
    assert re.findall(r"https?://[^\"']+", text) == [
        "http://www.w3.org/2000/svg"
    ]  # the name of SVG, not fetched
    assert "<b>a note" not in text
    assert "A &lt;processor&gt;" in text
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert json.loads(data)["result"] == json.loads(json.dumps(asdict(made)))
    assert text.count("<tr ") == 3  # readable without JavaScript, too


@pytest.fixture(scope="module")
def browser():
    """Chromium: the system's, or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium to open the page with: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser, tmp_path, scheme):
    other = {"optimizer": "momentum"}
    made = file(
        figure("floor", over=1.0), figure(), figure(m=128), figure("nnx:jax/bfloat16", m=128), figure(**other),
        figure("typed", **other),
    )  # fmt: skip
    page.write(made, tmp_path / "a.html")
    context = browser.new_context(color_scheme=scheme, offline=True)
    tab = context.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on(
        "request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None
    )
    tab.goto((tmp_path / "a.html").as_uri())

    def rows():
        return tab.locator("tbody tr:visible").count()

    assert tab.locator("#plots svg").count() == 4
    assert rows() == 4
    box = tab.locator("#plots svg").first.bounding_box()
    assert box["width"] > 300
    assert box["height"] > 150
    assert tab.locator("#plots svg").nth(1).locator(".dot").count() == 4
    assert tab.locator("#plots svg").nth(1).locator("polygon.dot").count() == 1
    assert "NaN" not in tab.locator("#plots").inner_html()
    tab.locator("#plots .dot").first.focus()
    assert "m = " in tab.locator("#tip").inner_text()
    tab.get_by_role("button", name="nnx numpy").click()
    assert rows() == 2
    tab.get_by_role("button", name="nnx numpy").click()
    assert rows() == 4
    tab.get_by_role("columnheader", name="m", exact=True).click()
    assert [tab.locator("tbody tr:visible").nth(i).locator("td").nth(2).inner_text() for i in range(4)] == [
        "16", "16", "128", "128",
    ]  # fmt: skip
    tab.select_option("#group", "1")
    assert rows() == 2
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save the figures").click()
    assert result.read(download.value.path()) == made
    ink, paper = (
        tab.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
    )
    dark = [luminance(list(map(int, re.findall(r"\d+", colour)[:3]))) < 0.2 for colour in (ink, paper)]
    assert dark == ([True, False] if scheme == "light" else [False, True])
    assert errors == []
    context.close()


# The command


def test_the_command_writes_all_files(cli, tmp_path):
    status, out, error = cli(
        "--backends", "numpy", "--peers", "typed", "--sizes", "8-4-3", "--sizes", "5,1", "--batch-sizes",
        "1,16", "--rounds", "2", "--out", "out/f.json", "--note", "here",
    )  # fmt: skip
    assert status == 0, (out, error)
    assert "Training: 8-4-3, adam, float32, in order" in out
    assert "m = 16" in out
    assert "NumPy, typed" in out
    found = result.read(tmp_path / "out" / "f.json")
    assert found.note == "here"
    assert (tmp_path / "out" / "f.html").stat().st_size > 10_000
    assert len(list((tmp_path / "out").glob("f-*.png"))) == 2
    status, out, _ = cli("show", "out/f.json", "--out", "again/f.png")
    assert status == 0
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == [
        "f-5-1-adam-float32-in-order.png",
        "f-8-4-3-adam-float32-in-order.png",
        "f.html",
    ]
    assert "over the matrix products alone" in out
    (tmp_path / "page.html").write_text("mine")
    for arguments in (
        ["--sizes", "8,3", "--out", "out/f.json"],
        ["--sizes", "8,3", "--out", "page.json"],
        ["show", "out/f.json", "--out", "again/f.html"],
    ):
        status, _, error = cli(*arguments)
        assert status == 1
        assert "exists already" in str(error)


def test_a_file_of_a_run_that_was_stopped_says_so(cli, tmp_path):
    result.write(file(figure(), settings={"cells": 3}), tmp_path / "a.json")
    assert re.search(r"Partial +1 of 3 cells measured", cli("show", "a.json")[1])
    result.write(file(figure(), settings={"cells": 1}), tmp_path / "b.json")
    assert "Partial" not in cli("show", "b.json")[1]


BEGINS = """
import os, signal
from multiprocessing import active_children
from nnx.bench.child import Child
if __name__ == "__main__":
    for _ in range(2):  # the first one starts a helper process of Python's
        with Child("typed"):
            (process,) = active_children()
            os.kill(process.pid, signal.SIGINT)
            process.join(60)
            print(process.exitcode)
"""


def test_ctrl_c_in_a_process_that_begins_is_quiet(tmp_path):
    (tmp_path / "begins.py").write_text(BEGINS)
    done = subprocess.run(
        [sys.executable, tmp_path / "begins.py"], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["0", "0"], "")


def test_a_case_that_is_asked_for_twice_is_measured_once():
    assert [case.m for case in Plan([], [(3, 2), (3, 2)], [8, 8, 2]).cases] == [8, 2]


def test_who_was_asked_for_and_is_absent_is_a_failure(cli, monkeypatch):
    monkeypatch.setitem(contestants.PEERS, "gone", contestants.Entry("Gone", "peer", "nnx.bench.nowhere:f"))
    options = ["--backends", "numpy", "--sizes", "4-2", "--batch-sizes", "2", "--rounds", "1"]
    status, out, _ = cli(*options, "--peers", "typed,gone")
    assert status == 1
    assert "nnx numpy" in out
    assert re.search(r"Absent +Gone: .+", out)
    assert cli(*options, "--peers", "typed")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "torhc"], "did you mean 'torch'"),
        (["--backends", "nunpy"], "did you mean 'numpy'"),
        (["--order", "sorted"], "unknown order"),
        (["--dtype", "float16"], "unknown dtype"),
        (["--rounds", "0"], "rounds must be a positive integer"),
        (["--optimizer", "adan"], "unknown optimizer"),
        (["--optimizer", "lbfgs"], "no steps over batches"),
        (["--out", "figures.txt"], "must end in .json"),
        (["--out", "/dev/null/figures.json"], "nothing can be written into '/dev/null'"),
        (["--backends", "numpy@cuda"], "NumPy computes on the CPU only"),
        (["--backends", "torch@gpu"], "unknown device 'gpu'; did you mean 'cuda'"),
        (["--backends", "torch/bfloat16", "--dtype", "float64"], "takes arrays of float32"),
        (["--sizes", "64-0-10"], "given '64-0-10'"),
        (["compare", "none.json", "none.json"], "cannot be read"),
    ],
)
def test_bad_options(cli, arguments, message):
    status, _, error = cli(*arguments)
    assert status == 1
    assert isinstance(error, nnx.InputError | nnx.BackendError)
    assert message in str(error)


@pytest.mark.needs("torch")
def test_each_contestant_says_its_precision(monkeypatch):
    monkeypatch.setattr("nnx.bench.suite.LEAD", 0)
    monkeypatch.setattr("nnx.bench.suite.PAUSE", 0)
    names = ["nnx:torch@cpu/bfloat16", "nnx:numpy"]
    for dtype in ("float32", "float64"):
        found = run(Plan(names, [(6, 5, 3)], [4], dtype=dtype, rounds=2, seconds=0.001))
        told = {one["name"]: (one["precision"], one["absent"]) for one in found.contestants}
        assert told["floor"] == told["nnx:numpy"] == (dtype, None)
        labels = [figure.label for figure in found.figures]
        if dtype == "float32":
            assert told["nnx:torch@cpu/bfloat16"] == ("bfloat16", None)
            assert labels == ["GEMM floor", "nnx torch@cpu, bfloat16", "nnx numpy"]
        else:
            said = "precision='bfloat16' takes arrays of float32; the model's are float64"
            assert told["nnx:torch@cpu/bfloat16"][1].startswith(said)
            assert labels == ["GEMM floor", "nnx numpy"]
