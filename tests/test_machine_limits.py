"""What a container or a job may use counts, not what the machine has; read from made-up files of the system."""

import pytest

from nnx.data import memory
from nnx.errors import InputError
from nnx.support import limits

GB = 2**30
V2 = "30 23 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = (
    "33 32 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 32 0:31 {top} /sys/fs/cgroup/memory rw master:9 - cgroup cgroup rw,memory\n"
)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that makes the system's files; the machine has 8 cores and 64 GB."""
    monkeypatch.setattr(limits, "ROOT", tmp_path)
    monkeypatch.setattr(limits, "_cores", lambda: 8)

    def make(files):
        limits.quota.cache_clear()
        for name, text in {
            "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {64 * 2**20} kB\n",
            **files,
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))

    yield make
    limits.quota.cache_clear()


def proc(mounts, groups):
    return {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups}


def test_without_limits_the_machine_counts(system):
    system({})
    assert (limits.cores(), limits.available()) == (8, 64 * GB)
    top = "sys/fs/cgroup"
    files = {
        f"{top}/job/cpu.max": "max 100000\n",
        f"{top}/job/memory.max": "max\n",
        f"{top}/job/memory.current": 5,
    }
    system({**proc(V2, "0::/job\n"), **files})
    assert (limits.cores(), limits.available()) == (8, 64 * GB)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("1000000 10000", 8), ("nonsense", 8)],
)
def test_a_quota_of_version_2(system, quota, cores):
    system({**proc(V2, "0::/\n"), "sys/fs/cgroup/cpu.max": quota})
    assert limits.cores() == cores


def test_the_least_of_all_groups_around_counts_in_version_2(system):
    top = "sys/fs/cgroup"
    files = {
        f"{top}/a/cpu.max": "300000 100000",
        f"{top}/a/b/cpu.max": "600000 100000",
        f"{top}/a/memory.max": 10 * GB,
        f"{top}/a/memory.current": 9 * GB,
        f"{top}/a/memory.stat": f"anon 5\ninactive_file {2 * GB}\n",
        f"{top}/a/b/memory.max": 8 * GB,
        f"{top}/a/b/memory.current": 4 * GB,
    }
    system({**proc(V2, "0::/a/b\n"), **files})
    assert limits.cores() == 3
    assert limits.available() == 3 * GB  # of a 10 - (9 - 2), of b 8 - 4


@pytest.mark.parametrize("top", ["/", "/docker/12ab"])
def test_version_1(system, top):
    """A container may see its own group at the top, and be told the name that it has outside."""
    inside = "sys/fs/cgroup/{}" + ("/docker/12ab" if top == "/" else "")
    cpu, held = inside.format("cpu,cpuacct"), inside.format("memory")
    files = {
        f"{cpu}/cpu.cfs_quota_us": 400000,
        f"{cpu}/cpu.cfs_period_us": 100000,
        f"{held}/memory.limit_in_bytes": 2 * GB,
        f"{held}/memory.usage_in_bytes": GB,
        f"{held}/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB // 2}\n",
    }
    groups = "5:cpu,cpuacct:/docker/12ab\n4:memory:/docker/12ab\n0::/\n"
    system({**proc(V1.format(top=top), groups), **files})
    assert limits.cores() == 4
    assert limits.available() == GB + GB // 2
    files[f"{cpu}/cpu.cfs_quota_us"] = -1
    files[f"{held}/memory.limit_in_bytes"] = 9223372036854771712
    system({**proc(V1.format(top=top), groups), **files})
    assert (limits.cores(), limits.available()) == (8, 64 * GB)


def test_more_taken_than_there_is_leaves_nothing(system):
    files = {"sys/fs/cgroup/memory.max": GB, "sys/fs/cgroup/memory.current": 2 * GB}
    system({**proc(V2, "0::/\n"), **files})
    assert limits.available() == 0


@pytest.mark.parametrize(("name", "column"), [("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)])
def test_the_limits_of_the_process(system, monkeypatch, name, column):
    resource = pytest.importorskip("resource")
    pages = [0] * 7
    pages[column] = GB // resource.getpagesize()
    system({"proc/self/statm": " ".join(map(str, pages))})
    no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    limited = {getattr(resource, name): (4 * GB, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limited.get(kind, no_limit))
    assert limits.available() == 3 * GB


def test_what_does_not_fit_is_refused(system):
    files = {"sys/fs/cgroup/memory.max": GB, "sys/fs/cgroup/memory.current": GB // 2}
    system({**proc(V2, "0::/\n"), **files})
    memory.check(GB // 4, "the table", "Take less.")
    with pytest.raises(InputError, match=r"the table takes about .* are available\. Take less\."):
        memory.check(GB, "the table", "Take less.")


def test_threads_of_a_step_are_within_the_quota(system, monkeypatch):
    pytest.importorskip("numba")
    pytest.importorskip("scipy")
    from nnx.backends.numba import threads
    from nnx.support import blas_threads

    class Library:
        num_threads = 8

    monkeypatch.setattr(blas_threads, "libraries", lambda: [Library()])
    system({**proc(V2, "0::/\n"), "sys/fs/cgroup/cpu.max": "300000 100000"})
    assert threads.threads() == 3


def test_the_real_system_is_read():
    limits.quota.cache_clear()
    assert limits.cores() >= 1
    assert limits.available() is None or limits.available() > 2**20
