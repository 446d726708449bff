"""The cores, the memory and the open files of this process: those of the machine, or fewer within a limit.

A container or a batch job has limits of its own (control groups, version 1 or 2, on Linux), often far below those of
the machine.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

ROOT = Path("/")
"""Where the system's files are found."""


def cores() -> int:
    """Return the number of threads that can compute at once: the cores of this process, or fewer within its CPU quota.

    A quota of 1.5 cores is 1: two threads that wait for each other would be stopped for a fourth of the time.
    """
    return max(1, min(_cores(), quota()))


def available() -> int | None:
    """Return the bytes that this process may still take; None if the system does not say.

    It is the least of three: the system's available memory (or, if the system does not tell, all memory), the rest
    within the limit of each control group, and the rest of the process's own address space (``ulimit -v``).
    """
    return min((max(0, left) for left in (*_of_machine(), *_of_groups(), *_of_process())), default=None)


def open_files() -> int:
    """Return how many files this process may have open at once (``ulimit -n``)."""
    try:
        import resource
    except ImportError:  # Windows: the limit of its C library
        return 8192
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def _cores() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)  # called before every step
def quota() -> int:
    """Return the whole cores within the CPU quota of this process's control groups; without one a large number."""
    found = [1 << 30]
    for group in _groups("cpu"):
        both = _words(group / "cpu.max") or [
            *_words(group / "cpu.cfs_quota_us"),
            *_words(group / "cpu.cfs_period_us"),
        ]
        with suppress(ValueError):  # "max", or no such files
            most, period = map(int, both)
            if most > 0 and period > 0:
                found.append(most // period)
    return min(found)


def _of_machine() -> Iterator[int]:
    fields = _fields(ROOT / "proc/meminfo")
    if "MemAvailable" in fields:
        yield 1024 * fields["MemAvailable"]
        return
    with suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> Iterator[int]:
    """Yield the free bytes of each control group; pages of files that the kernel can drop count as free."""
    for group in _groups("memory"):
        for limit, usage, droppable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(ValueError):  # "max", or no such files
                (most,), (taken,) = _words(group / limit), _words(group / usage)
                yield int(most) - max(0, int(taken) - _fields(group / "memory.stat").get(droppable, 0))


def _of_process() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = _words(ROOT / "proc/self/statm")
    if len(pages) < 6:  # not Linux
        return
    for limit, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - int(used) * resource.getpagesize()


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups that have a controller, from its own up to the outermost.

    A container may see its own group at the top, under the name that it has outside.
    """
    names = {}
    for line in _lines(ROOT / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        names["cgroup2" if number == "0" and not controllers else controllers] = name
    for line in _lines(ROOT / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        words, (system, *more) = place.split(" "), kind.split(" ")
        if system == "cgroup2":
            name = names.get("cgroup2", "/")
        elif system == "cgroup" and more and controller in more[-1].split(","):
            name = next((name for found, name in names.items() if controller in found.split(",")), "/")
        else:
            continue
        top, at = words[3], ROOT / words[4].lstrip("/")
        inside = name[len(top) :] if top != "/" and name.startswith(top) else name
        group = at / inside.lstrip("/")
        while True:
            if group.is_dir():
                yield group
            if group == at or at not in group.parents:
                break
            group = group.parent


def _fields(path: Path) -> dict[str, int]:
    """Return the first number of each line, by its name."""
    fields = {}
    for line in _lines(path):
        name, *words = line.replace(":", " ").split()
        with suppress(ValueError, IndexError):
            fields[name] = int(words[0])
    return fields


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return [
            line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
    except OSError:
        return []
