"""What the doctor checks of the machine: Python, processor, memory, clock, git; without torch."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from packaging.specifiers import SpecifierSet

from runner import installation
from runner.machine import memory as main_memory
from runner.machine import processor
from runner.readable import readable_bytes
from runner.tasks._doctor_finding import OK, WARNING, WRONG, Finding

CHARACTERS = "·×−–…≤≥√λ‖²°"
"""Some that tables, pictures and errors use."""

LEAST = 2 * 2**30
"""Bytes of free memory that most runs do with."""

THREADS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
"""Variables that libraries take their number of threads from."""

PINS = "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"
"""Variables that tie threads to processors: those of all workers to the same ones."""

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""The trees of control groups, and in which of them this process is."""

HOUR = 3600.0


def python(_: str) -> list[Finding]:
    """Its version and place."""
    wanted, found = installation.pythons(), platform.python_version()
    told = f"{found} at {sys.executable}"
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        mend = f"Make an environment with a Python {wanted}, and install the project there."
        return [Finding("Python", WRONG, told, mend, "make PYTHON=python3.12 run")]
    return [Finding("Python", OK, told)]


def encoding(title: str) -> Finding:
    """Whether the terminal, or who reads the output, is given all characters."""
    name = sys.stdout.encoding or "ascii"
    try:
        CHARACTERS.encode(name)
    except (UnicodeEncodeError, LookupError):
        mend = "What it can't show is printed as '?'. Choose a locale with UTF-8, or say"
        found = f"{name}, which lacks signs that tables and messages use"
        return Finding(title, WARNING, found, mend, "export PYTHONIOENCODING=utf-8")
    return Finding(title, OK, name)


def cores(_: str) -> list[Finding]:
    """The processor, how much of it this process may use, and what threads are told."""
    usable, there = may_use(), os.cpu_count() or 1
    found = f"{processor()}, {_count(there, 'core')}"
    if usable < there:
        found += f", of which this process may use {usable:g}"
    state, mend = OK, ""
    load = os.getloadavg()[0]
    if load > 1.5 * usable + 1:
        state, mend = WARNING, "Others keep it busy: runs are slow, and timings noisy."
        found += f"; load {load:.1f}"
    return [Finding("processor", state, found, mend), *_variables(math.ceil(usable))]


def may_use() -> float:
    """Cores that this process may use: by its affinity, and by the quota of its control group."""
    with suppress(AttributeError):  # Linux alone has it
        there = float(len(os.sched_getaffinity(0)))
        return min([there, *_quotas()])
    return float(os.cpu_count() or 1)


def _quotas() -> Iterator[float]:
    """Cores' worth of time, by every control group that says something."""
    for old, folder in _groups("cpu"):
        with suppress(OSError):
            if old:
                names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
                quota, period = ((folder / name).read_text().strip() for name in names)
            else:
                quota, period = (folder / "cpu.max").read_text().split()
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)


def _groups(controller: str) -> Iterator[tuple[bool, Path]]:
    """The control groups that this process is in, and those above: whether of version 1, and where.

    Version 1 has a tree for each controller, version 2 one for all; see cgroups(7).
    """
    lines: list[str] = []
    with suppress(OSError):
        lines = OWN.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = GROUPS / (controller if controllers else "")
        # A container may see its own group as the root, whatever the path says.
        below = root / path.lstrip("/")
        for folder in (below, *below.parents):
            if folder.is_relative_to(root):
                yield bool(controllers), folder


def _variables(usable: int) -> Iterator[Finding]:
    """What the environment says about threads, if it is odd."""
    given = {name: os.environ[name] for name in THREADS if os.environ.get(name)}
    for name, value in given.items():
        # OpenMP takes a list too: a number for each level of nesting.
        first = value.partition(",")[0].strip()
        if not (first.isdecimal() and int(first) > 0):
            found = f"'{value}', which is no number of threads"
            yield Finding(name, WARNING, found, "Libraries take another.", f"unset {name}")
        elif int(first) > usable:
            found = f"{first} threads for {_count(usable, 'core')}"
            mend = "Threads that wait for each other take several times as long."
            yield Finding(name, WARNING, found, mend, f"export {name}={usable}")
    for name in PINS:
        value = os.environ.get(name, "")
        if value.lower() not in ("", "false", "none", "disabled"):
            mend = "Workers of a sweep share those cores, whichever others are idle."
            yield Finding(name, WARNING, f"'{value}' ties threads to cores", mend, f"unset {name}")


def memory(_: str) -> list[Finding]:
    """How much there is, and is free, by the machine and by the control groups."""
    there, free = main_memory(), _available()
    for limit, left in _limits():
        there, free = min(there, limit), left if free is None else min(free, left)
    found = readable_bytes(there)
    if free is None:
        return [Finding("memory", OK, found)]
    found += f", {readable_bytes(max(free, 0))} free"
    if free < LEAST:
        mend = "Runs that need more are killed; a lower memory_limit_gib refuses them instead."
        return [Finding("memory", WARNING, found, mend)]
    return [Finding("memory", OK, found)]


def _limits() -> Iterator[tuple[int, int]]:
    """Bytes that each control group may use, and how many of these are left."""
    for old, folder in _groups("memory"):
        names = ("limit_in_bytes", "usage_in_bytes") if old else ("max", "current")
        with suppress(OSError, ValueError):  # without a limit it says max
            limit, used = (int((folder / f"memory.{name}").read_text()) for name in names)
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # What was read from disk and not lately used is given back when it is needed.
            cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            yield limit, limit - used + cached


def _available() -> int | None:
    """Bytes that can be had without swapping, if the system tells."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def clock(_: str) -> list[Finding]:
    """Whether the time can be: not before the project's own files were written."""
    now = time.time()
    newest = max(path.stat().st_mtime for path in Path(__file__).parent.glob("*.py"))
    found = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if now < newest - HOUR:
        written = time.strftime("%Y-%m-%d", time.localtime(newest))
        found += f", but the project's files are from {written}"
        mend = "Set the clock: directories of runs are named, and sorted, by it."
        return [Finding("clock", WARNING, found, mend)]
    return [Finding("clock", OK, found)]


def git(_: str) -> list[Finding]:
    """Whether runs can record the commit."""
    mend = "Install git; without it, runs don't record the project's commit."
    path = shutil.which("git")
    if path is None:
        return [Finding("git", WARNING, "not found", mend)]
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or ["it fails"]
        return [Finding("git", WARNING, told[0], mend)]
    return [Finding("git", OK, done.stdout.strip().removeprefix("git version "))]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
