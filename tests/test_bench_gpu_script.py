"""The script for a machine with a GPU, tried on a stand-in for CuPy: what it finds, and that it finds faults."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import long_but_for
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import installed

import nnx
from nnx.backends.cupy import loop, program
from nnx.backends.cupy.checks import driver_obstacle
from nnx.backends.cupy.gpu import Gpu
from nnx.bench.case import Case
from nnx.bench.gpu import __main__ as script
from nnx.bench.gpu import correctness, device, members, sanitizer, speed, suite_tests
from nnx.bench.gpu.bars import BARS, DIGITS, SMALL, verdict
from nnx.bench.gpu.networks import networks
from nnx.bench.gpu.process import Process
from nnx.bench.gpu.report import Report, Row, read_rows, table
from nnx.bench.gpu.sections import SECTIONS, Options, Section, longest
from nnx.bench.result import Figure, Result, read

TESTS = Path(__file__).parent
OPTIONS = Options(out="", seed=3, small=True, tests=str(TESTS))

STAND_IN = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from cupy_on_host import install
install(order="any")
"""
"""A module that Python imports before all others, by which each process of the script has a stand-in for CuPy."""


@pytest.fixture
def report(tmp_path):
    return Report("tried", tmp_path / "rows")


def outcomes(report):
    return [row.outcome for row in read_rows(report.path)]


# --- correctness ---


def compare(report, name="tanh and gelu, AdamW", dtype="float32"):
    """Compare one network with NumPy; return the row."""
    (tried,) = [one for one in networks(small=True) if one.name == name]
    with report.guard(name):
        correctness.compare(report, name, tried, dtype, OPTIONS)
    (row,) = read_rows(report.path)
    return row


@needs_compiler
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("tanh and gelu, AdamW", "float32"),
        pytest.param("BatchNorm, Momentum", "float64", marks=pytest.mark.long),
    ],
)
def test_a_right_step_passes(report, monkeypatch, name, dtype):
    installed(monkeypatch)
    row = compare(report, name, dtype)
    assert row.outcome == "passed", row.text
    assert row.numbers["same"]
    assert 0 < row.numbers["theta"] < (1e-4 if dtype == "float32" else 1e-10)


def planted(monkeypatch, before, after):
    """Install a stand-in whose kernels have another text in one place."""
    _, cupy, _ = installed(monkeypatch)
    compiled, changed = cupy.RawModule, []

    def wrong(code, options):
        changed.append(before in code)
        return compiled(code.replace(before, after), options)

    monkeypatch.setattr(cupy, "RawModule", wrong)
    return changed


@needs_compiler
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "T plus(T a, T b) { return a + b; }",
            "T plus(T a, T b) { return a + b * (T)1.01; }",
            marks=pytest.mark.long,
        ),
        pytest.param("tanh(", "1.0001f * tanh(", marks=pytest.mark.long),  # (tanhf in float32)
        pytest.param(  # some samples twice, others never
            "table[loop::STEP] * m + j", "table[loop::STEP] * m + j / 2 * 2", marks=pytest.mark.long
        ),
        ("table[loop::STEP] += 1", "table[loop::STEP] += 0"),  # all steps on the first samples
    ],
)
def test_a_kernel_that_gives_a_wrong_number_fails(report, monkeypatch, before, after):
    changed = planted(monkeypatch, before, after)
    row = compare(report, dtype="float64" if "tanh" in before else "float32")
    assert any(changed)
    assert row.outcome == "failed", row.text


@pytest.mark.long
@needs_compiler
def test_not_a_number_fails(report, monkeypatch):
    changed = planted(
        monkeypatch, "T plus(T a, T b) { return a + b; }", "T plus(T a, T b) { return a + (T)NAN; }"
    )
    row = compare(report)
    assert any(changed)
    assert row.outcome == "failed", row.text


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize(
    ("owner", "name", "error"), [(Gpu, "captured", RuntimeError), (program, "render_step", nnx.errors.Error)]
)
def test_a_step_that_is_no_graph_fails(report, monkeypatch, owner, name, error):
    installed(monkeypatch)

    def refused(*_):
        raise error(f"{name} is refused")

    monkeypatch.setattr(owner, name, refused)
    row = compare(report)
    assert row.outcome == "failed"
    assert f"{name} is refused" in row.text


@pytest.mark.long
@needs_compiler
def test_other_bits_the_second_time_fail(report, monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    drawn = iter(range(10**9))
    monkeypatch.setattr(
        cupy, "asnumpy", lambda x, asnumpy=cupy.asnumpy: asnumpy(x) * (1 + 1e-6 * next(drawn) % 2)
    )
    row = compare(report)
    assert not row.numbers["same"]
    assert row.outcome == "failed"


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_precision_must_round_and_not_too_much(report, monkeypatch, precision):
    _, _, library = installed(monkeypatch)
    tried = networks(small=True)[0]
    correctness.check_precision(report, precision, tried, OPTIONS)
    factor = library._factor
    with monkeypatch.context() as changed:  # nothing rounds
        changed.setattr("nnx.backends.cupy.rendering.in_precision", lambda graph, precision: graph)
        changed.setattr(
            library, "_factor", lambda *given: factor(*given[:2], {**given[2], "compute": 68}, given[3])
        )
        correctness.check_precision(report, precision, tried, OPTIONS)
    monkeypatch.setattr(library, "_factor", lambda *given: 1.2 * factor(*given))
    correctness.check_precision(report, precision, tried, OPTIONS)
    assert outcomes(report) == ["passed", "failed", "failed"]


@needs_compiler
def test_a_precision_that_the_gpu_lacks_is_skipped(report, monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    monkeypatch.setattr(cupy.cuda.Device, "compute_capability", "75")
    correctness.check_precision(report, "tf32", networks(small=True)[0], OPTIONS)
    assert outcomes(report) == ["skipped"]


def test_the_networks_are_eight_with_every_batch_size():
    for small in (False, True):
        tried = networks(small)
        assert len(tried) == len({one.name for one in tried}) == 8
        for one in tried:
            assert any(M % m for m, M in one.batch_sizes.items())  # a shorter last batch
    assert {m for one in networks() for m in one.batch_sizes} == {1, 33, 600}
    assert "784-512-512-10, Adam" in {one.name for one in networks()}


# --- compute-sanitizer, the suite ---

TRAINED = "3 steps, J = 2.500000"
RACE = "========= Error: Race reported between Write access at"
HAZARD = "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)"


@pytest.mark.parametrize(
    ("status", "output", "outcome"),
    [
        (0, f"{TRAINED}\n========= ERROR SUMMARY: 0 errors", "passed"),
        (9, f"{TRAINED}\n========= ERROR SUMMARY: 10 errors", "failed"),
        (0, f"{TRAINED}\n========= ERROR SUMMARY: 10 errors", "failed"),
        (1, "Traceback\n========= ERROR SUMMARY: 0 errors", "failed"),
        (0, TRAINED, "failed"),
        (255, "", "failed"),
        (1, "========= Error: Device not supported", "skipped"),
        (0, f"{TRAINED}\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", "passed"),
        (
            9,
            f"{RACE} k3(float *, int)+0x50\n{TRAINED}\n{HAZARD}",
            "failed",
        ),
        (
            9,
            f"{RACE} void cutlass::Kernel2<a>(T1)+0x50\n{TRAINED}\n{HAZARD}",
            "passed",
        ),
    ],
)
def test_a_run_of_the_sanitizer_is_judged_by_all_that_it_says(report, status, output, outcome):
    sanitizer.judge(report, "a run", status, output)
    assert outcomes(report) == [outcome]


def test_a_race_in_any_kernel_of_nnx_is_nnx_s():
    names = re.findall(r"__global__ void (\w+)\(", loop.SOURCE + loop.MEMBERS)
    assert len(names) > 5
    assert all(sanitizer.OURS.search(f"{name}(long long *, int)+0x50") for name in [*names, "k0", "k12"])


def test_files_of_the_suite_that_tell_most_come_first(tmp_path):
    for name in ("aaa", "training", "programs", "zzz"):
        (tmp_path / f"test_{name}.py").touch()
    assert [path.stem for path in suite_tests.ordered(tmp_path)] == [
        "test_programs", "test_training", "test_aaa", "test_zzz",
    ]  # fmt: skip
    assert all((TESTS / f"test_{name}.py").exists() for name in suite_tests.FIRST)


@pytest.mark.needs("xdist")
def test_as_many_processes_as_the_gpu_has_memory_for(monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    monkeypatch.setattr(suite_tests, "cores", lambda: 5)
    for gigabytes, arguments in {2: [], 4: [], 10: ["-n", "3"], 140: ["-n", "5"]}.items():
        monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda n=gigabytes: (n << 30, 140 << 30))
        assert suite_tests.in_parallel() == arguments


# --- bars ---


def figure(contestant, seconds, sizes=DIGITS, m=128, floor="floor-cuda"):
    ours = {"contestant": contestant, "label": contestant, "kind": "nnx", "sizes": list(sizes), "m": m}
    rest = {
        "optimizer": "adam", "dtype": "float32", "order": "in order", "steps": 16, "epochs": 1, "rounds": [seconds],
        "seconds": seconds, "quartiles": [seconds, seconds], "samples_per_second": 1.0, "flops_per_second": 1.0,
        "floor": floor, "over_floor": None, "over_floor_quartiles": None, "first": 1.0, "peak_bytes": None,
        "theory_bytes": {},
    }  # fmt: skip
    return Figure(**ours, **rest)


def result(*figures):
    told = [
        {"name": one.contestant, "precision": one.contestant.partition("/")[2] or "float32", "absent": None}
        for one in figures
    ]
    return Result("nnx bench", 1, "", "", {}, {}, {}, told, {}, list(figures))


@pytest.mark.parametrize(
    ("ours", "floor", "other", "m", "outcome"),
    [
        (74e-6, 50e-6, 200e-6, 128, "met"),
        (76e-6, 50e-6, 200e-6, 128, "missed"),  # floor + 25 us
        (101e-6, 90e-6, 200e-6, 128, "missed"),  # 100 us
        (74e-6, 50e-6, 73e-6, 128, "missed"),  # another one is faster
        (129e-6, 100e-6, 200e-6, 1024, "met"),
        (131e-6, 100e-6, 200e-6, 1024, "missed"),
        (113e-6, 100e-6, 200e-6, 8192, "missed"),
    ],
)
def test_a_step_meets_its_bar_and_is_the_fastest(ours, floor, other, m, outcome):
    cell = result(
        figure("floor-cuda", floor, m=m),
        figure("nnx:cupy", ours, m=m),
        figure("nnx:cupy/tf32", ours / 2, m=m),  # another precision is no rival
        figure("nnx:torch@cuda", other, m=m),
        figure("nnx:torch@cuda/tf32", ours / 4, m=m),
    )
    assert verdict(cell, DIGITS, m, "float32").outcome == outcome
    assert verdict(cell, DIGITS, m, "tf32").outcome == "missed"


def test_bars_without_a_floor_and_floors_that_are_absent():
    small = result(figure("nnx:cupy", 39e-6, SMALL, floor=None))
    assert verdict(small, SMALL, 128, "float32").outcome == "met"
    assert verdict(result(figure("nnx:cupy", 41e-6, SMALL)), SMALL, 128, "float32").outcome == "missed"
    alone = verdict(result(figure("nnx:cupy", 70e-6)), DIGITS, 128, "float32")
    assert (alone.outcome, alone.numbers["bar"]) == ("measured", None)  # no floor was measured
    gone = verdict(result(figure("nnx:torch@cuda", 70e-6)), DIGITS, 128, "float32")
    assert gone.outcome == "failed"
    assert len(BARS) == 11


def test_cells_are_those_with_bars_and_small_batches_come_first():
    cells = speed.Cells(["nnx:cupy"], [DIGITS, SMALL], [128, 1024, 8192]).cases
    assert [(case.sizes, case.m) for case in cells] == [
        (DIGITS, 128), (SMALL, 128), (DIGITS, 1024), (SMALL, 1024), (DIGITS, 8192),
    ]  # fmt: skip


@pytest.mark.parametrize(("other", "outcome"), [(21e-6, "measured"), (19e-6, "missed")])
def test_a_step_without_a_bar_must_be_the_fastest(other, outcome):
    cell = result(figure("nnx:cupy/tf32", 20e-6, SMALL), figure("nnx:torch@cuda/tf32", other, SMALL))
    found = verdict(cell, SMALL, 128, "tf32")
    assert (found.outcome, found.numbers["bar"]) == (outcome, None)


def test_the_memory_of_a_step_stands_beside_theory():
    ours = replace(figure("nnx:cupy", 70e-6), peak_bytes=12_000_000, theory_bytes={"theta": 4e6, "kept": 6e6})
    found = verdict(result(ours), DIGITS, 128, "float32")
    assert found.text.endswith("; 12.0 MB, theory 10.0 MB")
    assert (found.numbers["peak_bytes"], found.numbers["theory_bytes"]) == (12_000_000, 10_000_000)


@pytest.mark.parametrize(("other", "outcome"), [(75e-6, "met"), (73e-6, "missed"), (None, "skipped")])
def test_compiled_pytorch_is_a_rival_with_a_file_of_its_own(report, tmp_path, other, outcome):
    figures = [figure("floor-cuda", 50e-6), figure("nnx:cupy", 74e-6)]
    found = result(*figures, *([] if other is None else [figure("torch-compiled-cuda", other)]))
    if other is None:
        found.contestants.append({"name": "torch-compiled-cuda", "precision": None, "absent": "no PyTorch"})
    speed.keep_compiled(report, OPTIONS._replace(out=str(tmp_path / "a-gpu")), found)
    (row,) = read_rows(report.path)
    assert row.outcome == outcome, row.text
    assert "no PyTorch" in row.text if other is None else "PyTorch compiled, GPU" in row.text
    assert nnx.bench.result.read(tmp_path / "a-gpu-compiled.json").figures == found.figures


def test_times_are_taken_in_the_precisions_that_the_gpu_has(report, monkeypatch):
    def backend(name, device, precision):
        if precision == "bfloat16":
            raise nnx.BackendError("this GPU has no products in bfloat16")

    monkeypatch.setattr(speed, "backend", backend)
    assert speed.usable_precisions(report) == ["float32", "tf32"]
    (row,) = read_rows(report.path)
    assert (row.check, row.outcome) == ("bfloat16", "skipped")


# --- members ---


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize("is_right", [True, False])
def test_members_are_their_single_runs_and_have_a_bar(report, monkeypatch, is_right):
    installed(monkeypatch)
    if not is_right:  # the single runs get other orders of their samples
        orders = Case.orders
        monkeypatch.setattr(Case, "orders", lambda case: orders(case)[::-1])
    members.measure(report, OPTIONS)
    results, speed = read_rows(report.path)
    assert results.outcome == ("passed" if is_right else "failed"), results.text
    assert results.check == "4 of 20-16-4, m = 8: their results"
    assert speed.outcome == (
        "met" if speed.numbers["one_by_one"] >= 50 * speed.numbers["seconds"] else "missed"
    )
    assert speed.numbers["members"] == 4


# --- processes, files, the command ---


def processes(tmp_path, monkeypatch, text, seconds=60):
    """The rows of a section whose function `run` is given as text."""
    (tmp_path / "some_section.py").write_text(f"import os, sys, time, subprocess\n{text}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(SECTIONS, "some", Section("some_section:run", seconds, True, ""))
    process = Process("some", OPTIONS, tmp_path)
    return process.rows()


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        pytest.param("time.sleep(600)", "it was ended after 20 s", marks=pytest.mark.long),
        pytest.param("os.abort()", "status -6", marks=pytest.mark.long),
        pytest.param("sys.exit(3)", "status 3", marks=pytest.mark.long),
        ("raise ValueError('a wrong number')", "a wrong number"),
    ],
)
def test_a_section_that_hangs_or_crashes_keeps_the_rows_before(tmp_path, monkeypatch, last, reason):
    text = f"def run(report, options):\n    report.add('first', 'passed')\n    {last}\n"
    first, whole = processes(tmp_path, monkeypatch, text, seconds=20 if "sleep" in last else 200)
    assert (first.check, first.outcome) == ("first", "passed")
    assert whole.outcome == "failed"
    assert reason in whole.text


def check_ends(pid):
    """Fail if a process goes on."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():  # nobody waits for it in a container
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the process goes on")


@pytest.mark.long
def test_a_section_ends_with_all_that_it_has_started(tmp_path, monkeypatch):
    text = (
        "def run(report, options):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    report.add('child', 'measured', str(child.pid))\n"
    )
    (row,) = processes(tmp_path, monkeypatch, text)
    check_ends(int(row.text))


STOPPED = """
import signal
from nnx.bench.gpu.sections import SECTIONS, Section
SECTIONS["device"] = Section("some_section:device", 60, True, "")
SECTIONS["correctness"] = Section("some_section:run", 60, True, "")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # nohup, or a shell's &, has them ignored
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
"""

ENDLESS = """
import os, subprocess, sys, time

def device(report, options):
    report.add("cupy", "measured", name="A GPU")

def run(report, options):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    report.add("processes", "measured", f"{os.getpid()} {child.pid}")
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
@pytest.mark.parametrize("name", long_but_for(["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP"], "SIGKILL"))
def test_a_script_that_is_stopped_leaves_no_process_and_its_rows(tmp_path, name):
    (tmp_path / "sitecustomize.py").write_text(STOPPED)
    (tmp_path / "some_section.py").write_text(ENDLESS)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "nnx.bench.gpu", "--out", str(out), "--sections", "correctness"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        rows, end = [], time.monotonic() + 60
        while not rows and time.monotonic() < end:
            time.sleep(0.1)
            rows = [row for path in scratch.glob("*/correctness.rows") for row in read_rows(path)]
        process.send_signal(getattr(signal, name))
        output, _ = process.communicate()
    assert rows, output
    for pid in rows[0].text.split():
        check_ends(int(pid))
    kept = [row["outcome"] for row in json.loads((out / "a-gpu-checks.json").read_text())["rows"]]
    if name == "SIGKILL":  # the rows of sections that have ended
        assert kept == ["measured"]
    else:
        assert kept == ["measured", "measured", "interrupted"]
        assert rows[0].text in output
        assert not list(scratch.iterdir())
        assert process.returncode == 130


@pytest.mark.long
def test_a_section_without_rows_has_failed(tmp_path, monkeypatch):
    (row,) = processes(tmp_path, monkeypatch, "def run(report, options):\n    pass\n")
    assert (row.outcome, row.text) == ("failed", "it has checked nothing")


def test_half_a_line_is_left_out(report):
    report.add("whole", "passed")
    with report.path.open("a") as file:
        file.write('{"section": "tried", "check": "ha')
    assert [row.check for row in read_rows(report.path)] == ["whole"]


def test_the_whole_script_is_shorter_than_eight_minutes():
    assert longest([*SECTIONS]) < 8 * 60


def test_the_table_has_every_row():
    rows = [Row("a", "one", "passed", "1"), Row("b", "two", "failed", "2")]
    assert [line.split() for line in table(rows).splitlines()] == [
        ["a"], ["passed", "one", "1"], ["b"], ["failed", "two", "2"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--sections", "speeed", "did you mean 'speed'"),
        ("--seed", "-1", "seed must be an integer >= 0, not -1"),
        ("--tests", "nowhere", "'nowhere' has no tests"),
        ("--out", __file__, "must be a folder"),
    ],
)
def test_a_wrong_option_is_named_before_anything_runs(tmp_path, capsys, option, value, text):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as error:
        script.main(["--out", str(out), option, value])
    assert error.value.code == 2
    assert text in capsys.readouterr().err
    assert not out.exists()


def test_sections_may_be_written_with_blanks_and_need_no_tests_where_they_run_none(tmp_path):
    given = script.parsed(
        ["--out", str(tmp_path), "--sections", "kernels, device,kernels", "--tests", "nowhere"]
    )
    assert given.sections == ["kernels", "device"]


def test_a_full_disk_costs_no_table(tmp_path, monkeypatch, capsys):
    def run(self, names):
        self.rows.append(Row("correctness", "a network", "passed", "errors of rounding"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(script.Script, "run", run)
    assert script.main(["--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "No space left on device" in printed.err
    assert "errors of rounding" in printed.out


def test_errors_that_are_no_numbers_are_json(tmp_path):
    done = script.Script(tmp_path, OPTIONS._replace(out=str(tmp_path / "gpu")), False)
    done.rows.append(Row("correctness", "a network", "failed", numbers={"theta": float("nan")}))
    done._write()
    text = (tmp_path / "gpu-checks.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["rows"][0]["numbers"] == {"theta": None}


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
        ("", None),
        (None, None),
    ],
)
def test_the_release_of_the_driver(tmp_path, monkeypatch, text, release):
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(device, "DRIVER", path)
    assert device.driver_release() == release


@pytest.mark.long  # (it imports PyTorch and JAX)
def test_the_gpu_is_described_with_its_libraries(report, monkeypatch):
    installed(monkeypatch)
    device.describe(report, OPTIONS)
    gpu = read_rows(report.path)[0].numbers
    assert gpu["name"] == "a GPU of NumPy"
    assert (gpu["cuda_driver"], gpu["cublaslt"], gpu["nvrtc"]) == (13020, 130200, "13.2")


def test_without_a_gpu_no_other_backend_is_proposed(report, monkeypatch):
    _, cupy, _ = installed(monkeypatch)
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", lambda: 0)
    obstacle = driver_obstacle(cupy)
    assert "use the backend" in str(obstacle)

    def backend(name):
        raise nnx.BackendError(f"CuPy 14.2.0 is installed, but cannot compute on cuda {obstacle}")

    monkeypatch.setattr(device.nnx, "backend", backend)
    device.describe(report, OPTIONS)
    (row,) = read_rows(report.path)
    assert row.text.endswith("(there is no NVIDIA driver); install one for an NVIDIA GPU")


def test_ctrl_c_ends_all_sections_and_shows_the_rows_so_far(tmp_path, monkeypatch, capsys):
    ended = []

    class Interrupted:
        log = ""

        def __init__(self, name, options, folder):
            self.name = name

        def rows(self):
            if self.name == "tests":
                raise KeyboardInterrupt
            return [Row(self.name, "a check", "passed", "a figure", {"name": "Some GPU (TM) 3"})]

        def interrupted(self):
            return [Row(self.name, "the whole section", "interrupted")]

        def end(self):
            ended.append(self.name)

    monkeypatch.setattr(script, "Process", Interrupted)
    assert script.main(["--out", str(tmp_path)]) == 130
    assert ended == ["device", "correctness", "tests", "memcheck", "racecheck"]
    assert capsys.readouterr().out.count("a figure") == 2
    rows = json.loads((tmp_path / "some-gpu-tm-3-checks.json").read_text())["rows"]
    assert [(row["section"], row["outcome"]) for row in rows] == [
        ("device", "passed"), ("correctness", "passed"),
        *((name, "interrupted") for name in ("tests", "memcheck", "racecheck")),
    ]  # fmt: skip


def test_ctrl_c_before_the_first_section_says_so(tmp_path, monkeypatch, capsys):
    def run(self, names):
        raise KeyboardInterrupt

    monkeypatch.setattr(script.Script, "run", run)
    assert script.main(["--out", str(tmp_path)]) == 130
    assert "No section has ended" in capsys.readouterr().out


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the script in a process, on the stand-in; return its status, output and folder."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(STAND_IN)

    def run(*arguments, stand_in=True):
        out = tmp_path / "out"
        env = {name: x for name, x in os.environ.items() if not name.startswith("PYTEST_")}
        env["PYTHONPATH"] = str(site) if stand_in else ""
        done = subprocess.run(
            [sys.executable, "-m", "nnx.bench.gpu", "--out", str(out), "--small", *arguments],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, out

    return run


@pytest.mark.long
def test_without_a_gpu_it_says_so(command, tmp_path):
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['cupy'] = None\n")
    status, output, out = command()
    assert status == 1
    assert "Error: there is no GPU to try" in output
    assert not out.exists()


@pytest.mark.long
@needs_compiler
def test_a_dry_run(command, tmp_path):
    """Every section runs on the stand-in; what has none is skipped, and says why."""
    (tmp_path / "test_programs.py").write_text(
        "import pytest\n\ndef test_cupy_is_right():\n    pass\n\ndef test_cupy_is_wrong():\n    assert 1 == 2\n\n"
        "def test_cupy_is_left_out():\n    pytest.skip('no reason')\n\ndef test_another_backend():\n    assert 1 == 2\n"
    )
    fake = tmp_path / "bin" / "compute-sanitizer"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nwhile [ "$1" != "-m" ]; do last="$1"; shift; done\n"$last" "$@"\n'
                    'echo "========= ERROR SUMMARY: 0 errors"\n')  # fmt: skip
    fake.chmod(0o755)
    os.environ["PATH"], path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}", os.environ["PATH"]
    try:
        status, output, out = command("--tests", str(tmp_path), "--seed", "5")
    finally:
        os.environ["PATH"] = path
    checks = json.loads((out / "a-gpu-of-numpy-checks.json").read_text())
    found = {(row["section"], row["check"]): row for row in checks["rows"]}
    failed = {key for key, row in found.items() if row["outcome"] == "failed"}
    wrong, suite = [key for key in found if key[0] == "tests"]
    assert failed == {wrong, suite}, output
    assert "test_cupy_is_wrong" in wrong[1]
    assert found[wrong]["text"].startswith("assert 1 == 2")
    assert found[suite]["text"].startswith("1 passed, 1 failed, 1 skipped; all of them")
    assert status == 1
    assert {key[0] for key in found} == set(SECTIONS)
    assert all(found[tool, f"{tool}, {how}"]["outcome"] == "passed"
               for tool in ("memcheck", "racecheck") for how in ("calls", "graph"))  # fmt: skip
    assert sum(key[0] == "correctness" for key in found) == 18
    assert checks["seed"] == 5
    assert found["speed", "20-16-4, m = 8, float32"]["outcome"] == "measured"
    assert {one.contestant for one in read(out / "a-gpu-of-numpy.json").figures} > {"nnx:cupy", "floor-cuda"}
    log = (
        (out / "a-gpu-of-numpy.log")
        .read_text()
        .partition("===== memcheck")[2]
        .partition("===== racecheck")[0]
    )
    calls, graph = log.split("memcheck, graph")
    assert "call by call: calls were asked for" in calls
    assert "is a CUDA graph" in graph
    assert "is a CUDA graph" not in calls
    assert table([Row(**row) for row in checks["rows"]]) in output
    status, output, _ = command()
    assert status == 1
    assert "--overwrite replaces it" in output


@pytest.mark.long
@needs_compiler
def test_a_fault_in_a_kernel_fails_the_command(command, tmp_path):
    plant = """
import cupy
made = cupy.RawModule
cupy.RawModule = lambda code, options: made(code.replace("exp(", "1.01 * exp("), options)
"""
    (tmp_path / "site" / "sitecustomize.py").write_text(STAND_IN + plant)
    status, output, _ = command("--sections", "correctness")
    assert status == 1
    assert "20 classes, Adam, float64" in output
    assert "failed" in output
