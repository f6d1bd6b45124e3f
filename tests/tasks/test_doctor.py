"""The doctor, on an installation that is well, and on ones that are broken on purpose.

What is broken is a stub that stands first on the path, or metadata that say another version.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shell import Finished
from test_cli import ESCAPE, in_terminal

from runner import installation
from runner.config import compose
from runner.tasks import _doctor_folders as folders
from runner.tasks import _doctor_libraries as libraries
from runner.tasks import _doctor_machine as machine
from runner.tasks import _doctor_operators as operators
from runner.tasks import _doctor_services as services
from runner.tasks import _doctor_torch as doctor_torch
from runner.tasks._doctor_finding import Finding, advice, summary, table
from runner.tasks._doctor_lanes import Check, examine
from runner.tasks.doctor import Doctor

TORCH, THREADS = Check("torch", "torch"), Check("threads", "threads", needs="torch")
CLOCK, SKLEARN = Check("clock", "clock"), Check("imports", "scikit-learn", "scikit-learn")

CRASH = "import ctypes\nctypes.string_at(0)\n"
HANG = "import time\ntime.sleep(1000)\n"
RAISES = "raise RuntimeError('broken on purpose')\n"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a package in the place of an installed one, for the processes that are started."""

    def put(module: str, source: str) -> Path:
        path = tmp_path / "stubs" / module / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stubs"), prepend=os.pathsep)
        return path

    return put


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the metadata of a distribution, which are found before those that are really there."""

    def put(name: str, version: str, *lines: str, modules: str = "") -> None:
        folder = tmp_path / "metadata" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(head + "".join(f"{line}\n" for line in lines))
        if modules:
            (folder / "top_level.txt").write_text(modules)
        monkeypatch.syspath_prepend(folder.parent)
        monkeypatch.setenv("PYTHONPATH", str(folder.parent), prepend=os.pathsep)

    return put


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {one.check: one for one in findings}


def examined(*lanes: list[Check], limit: float = 60) -> dict[str, Finding]:
    return by_name([one for _, found in examine(lanes, limit) for one in found])


class TestTable:
    def test_fits_80_columns(self) -> None:
        found = [
            Finding("short", "ok", "all is well"),
            Finding("a longer name", "skipped", "word " * 30),
            Finding("path", "wrong", f"/{'x' * 120}"),
        ]
        lines = table(found)
        assert lines[:3] == [
            "check          state    found",
            "short          ok       all is well",
            "a longer name  skipped  word word word word word word word word word word word",
        ]
        assert lines[3].startswith(" " * 24 + "word")
        assert max(map(len, lines)) <= 80

    @pytest.mark.parametrize("width", [60, 40])
    def test_fits_fewer_columns(self, width: int) -> None:
        command = f"python -m pip install {' '.join(f'package{i}' for i in range(12))}"
        found = [
            Finding("short", "ok", "word " * 30),
            Finding("a longer name", "wrong", "word " * 30, "Mend " * 20, command),
            Finding("/path/" + "x" * 60, "warning", f"/{'x' * 120}"),
        ]
        lines = [*table(found, width), *advice(found, width)]
        assert max(map(len, lines)) <= width
        at = lines[0].index("found")
        assert lines[1][at:].startswith("word")
        assert lines[2][:at].strip() == ""

    def test_what_is_wrong_comes_first_and_commands_can_be_copied(self) -> None:
        command = f"python -m pip install {' '.join(f'package{i}' for i in range(12))}"
        found = [
            Finding("one", "warning", "slow", "Hurry."),
            Finding("two", "ok", "there"),
            Finding("three", "wrong", "lost", "Find it.", f"look here\n{command}"),
            Finding("four", "ok", "absent", "Add it."),
        ]
        lines = list(advice(found))
        assert lines[:6] == [
            "", "Wrong:", "  three: lost", "    Find it.", "      look here",
            "      python -m pip install package0 package1 package2 package3 package4 \\",
        ]  # fmt: skip
        shell = "\n".join(lines[5:7])
        assert shell.replace("\\\n", " ").split() == command.split()
        assert lines[7:] == [
            "", "Could be better:", "  one: slow", "    Hurry.",
            "", "Could be added:", "  four: absent", "    Add it.",
        ]  # fmt: skip
        assert max(map(len, lines)) <= 80
        assert summary(found) == {"ok": 2, "warnings": 1, "wrong": 1, "skipped": 0}


class TestProcesses:
    """A check that ends its process, in whatever way, doesn't take the others with it."""

    def test_crash(self, stub: Callable[..., Path]) -> None:
        stub("sklearn", "import sys\nprint('about to')\nsys.stdout.flush()\n" + CRASH)
        found = examined([SKLEARN, CLOCK])
        assert found["scikit-learn"].state == "wrong"
        assert found["scikit-learn"].found == "crashed (SIGSEGV); its last words: about to"
        assert "install --force-reinstall 'scikit-learn>=1.4'" in found["scikit-learn"].command
        assert found["clock"].state == "ok"

    def test_crash_of_what_is_not_the_installed_one(
        self, stub: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = stub("sklearn", CRASH)
        monkeypatch.syspath_prepend(path.parents[1])  # of who tells, as of who crashes
        monkeypatch.delitem(sys.modules, "sklearn", raising=False)
        found = examined([SKLEARN])["scikit-learn"]
        told = "which isn't the installed one: rename or remove that."
        assert found.mend == f"scikit-learn is taken from {path}, {told}"
        assert found.command == ""

    def test_exit(self, stub: Callable[..., Path]) -> None:
        stub("sklearn", "import os\nos._exit(7)\n")
        found = examined([CLOCK, SKLEARN])
        assert found["scikit-learn"].found == "ended with code 7"
        assert found["clock"].state == "ok"

    def test_polite_exit_and_noise(self, stub: Callable[..., Path]) -> None:
        path = stub("sklearn", "print('no newline', end='')\nimport sys\nsys.exit(0)\n")
        found = examined([SKLEARN, CLOCK])
        assert found["scikit-learn"].found == "can't be imported: SystemExit: 0"
        assert str(path) in found["scikit-learn"].mend
        assert found["clock"].state == "ok"

    def test_hang_and_what_needs_it(self, stub: Callable[..., Path]) -> None:
        stub("torch", HANG)
        found = examined([TORCH, THREADS], limit=1)
        assert found["torch"].found == "not done in 1 s (task.seconds)"
        assert (found["threads"].state, found["threads"].found) == ("skipped", "needs torch")

    def test_raise_and_what_needs_it(self, stub: Callable[..., Path]) -> None:
        stub("torch", RAISES)
        found = examined([TORCH, THREADS, CLOCK], [SKLEARN])
        expected = "can't be imported: RuntimeError: broken on purpose"
        assert (found["torch"].state, found["torch"].found) == ("wrong", expected)
        assert found["threads"].state == "skipped"
        assert found["clock"].state == "ok"
        assert "scikit-learn" not in found  # what can be imported is not worth a line

    def test_what_is_not_installed_is_skipped(
        self, stub: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = stub("torch", "raise ModuleNotFoundError(\"No module named 'torch'\")\n")
        (path.parents[1] / "sitecustomize.py").write_text(
            "from importlib import metadata\n"
            "there = metadata.version\n"
            "def version(name):\n"
            "    if name == 'torch':\n"
            "        raise metadata.PackageNotFoundError(name)\n"
            "    return there(name)\n"
            "metadata.version = version\n"
        )
        found = dict(examine([[Check("libraries", "libraries"), TORCH, THREADS]], 60))
        (told,) = (one for one in found[Check("libraries", "libraries")] if one.check == "torch")
        assert (told.state, told.found) == ("wrong", "not installed, and >=2.4,<3 is needed")
        assert told.command.endswith("pip install 'torch>=2.4,<3'")
        # Once is enough.
        assert [one.state for one in (*found[TORCH], *found[THREADS])] == ["skipped", "skipped"]

    def test_nothing_is_left_of_them(self, stub: Callable[..., Path], tmp_path: Path) -> None:
        """Nor of what a library has started; here one that sleeps for an hour."""
        stub(
            "sklearn",
            "import os, subprocess\n"
            "child = subprocess.Popen(['sleep', '3600'])\n"
            f"print(os.getpid(), child.pid, file=open({str(tmp_path / 'pids')!r}, 'w'))\n",
        )
        stub("joblib", HANG)
        told = examine([[SKLEARN, Check("imports", "joblib", "joblib")]], 60)
        assert next(told) == (SKLEARN, [])
        pids = (tmp_path / "pids").read_text().split()
        assert [alive(pid) for pid in pids] == [True, True]
        told.close()  # as when Ctrl-C comes
        deadline = time.monotonic() + 20
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [alive(pid) for pid in pids] == [False, False]


def alive(pid: str) -> bool:
    """Whether a process does anything yet; a zombie doesn't."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


class TestLibraries:
    def test_what_is_asked_for(self, tmp_path: Path, installed: Callable[..., None]) -> None:
        (tmp_path / "pyproject.toml").write_text(
            '[project]\nname = "runner"\nrequires-python = ">=3.11"\n'
            'dependencies = ["numpy>=1.26", "never>1; sys_platform == \'none\'"]\n'
            '[project.optional-dependencies]\nray = ["ray<4,>=2.40"]\ndev = ["ruff>=0.6"]\n'
        )
        asked = {("numpy", ">=1.26", ""), ("ray", ">=2.40,<4", "ray")}
        assert installation.declared(tmp_path) == asked
        assert installation.declared(tmp_path / "elsewhere") == set()
        installed(
            "runner",
            "9.9",
            "Requires-Dist: numpy>=1.26",
            "Requires-Dist: never>1; sys_platform == 'none'",
            "Provides-Extra: ray",
            'Requires-Dist: ray<4,>=2.40; (sys_platform != "none") and extra == "ray"',
            "Provides-Extra: dev",
            "Requires-Dist: ruff>=0.6; extra == 'dev'",
        )
        assert installation.installed() == asked
        assert installation.stale()  # the checkout asks for more

    def test_too_old_and_too_new(self, installed: Callable[..., None]) -> None:
        assert all(one.fits for one in installation.libraries() if not one.extra)
        assert installation.advice() == []
        installed("hydra-core", "1.1.2")
        installed("pydantic", "3.0")
        installed("optuna", "3.6")
        found = by_name(libraries.libraries(""))
        assert found["hydra-core"].state == found["pydantic"].state == "wrong"
        assert found["hydra-core"].found == "1.1.2 is installed, and >=1.3.2,<1.4 is needed"
        assert found["hydra-core"].command.endswith("pip install 'hydra-core>=1.3.2,<1.4'")
        assert found["pydantic"].found == "3.0 is installed, and >=2.9,<3 is needed"
        assert "hydra-core" not in found["libraries"].found
        assert "torch " in found["libraries"].found
        extra = by_name(libraries.extras(""))["optuna"]
        assert extra.state == "warning"  # nothing else needs it
        assert extra.found == "3.6 is installed, and >=4,<6 is needed"
        assert installation.advice()[:2] == [
            "hydra-core>=1.3.2,<1.4 is needed, and 1.1.2 is installed.",
            "pydantic>=2.9,<3 is needed, and 3.0 is installed.",
        ]

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        there = metadata.version

        def version(name: str) -> str:
            if name in ("numba", "ray"):
                raise metadata.PackageNotFoundError(name)
            return there(name)

        monkeypatch.setattr(metadata, "version", version)
        numba = by_name(libraries.libraries(""))["numba"]
        assert (numba.state, numba.found) == ("wrong", "not installed, and >=0.60 is needed")
        others = by_name(libraries.extras(""))["other extras"]
        assert others.state == "ok"
        assert "ray (ray)" in others.found
        assert "'ray>=2.40'" in others.command
        assert libraries.imports("ray") == []  # nothing to import

    def test_what_libraries_need_in_turn(self, installed: Callable[..., None]) -> None:
        installed("numba", "0.68.1", "Requires-Dist: llvmlite<0.1", "Requires-Dist: absent>=2")
        found = [one for one in libraries.conflicts("") if "numba" in one.found]
        assert [one.state for one in found] == ["warning", "warning"]
        assert re.match(r"numba needs llvmlite<0\.1, and 0\.\d+\.\d+ is installed", found[0].found)
        assert found[1].found == "numba needs absent>=2, and none is installed"
        assert found[1].command.endswith("install 'absent>=2'")

    def test_two_distributions_of_one_module(self, installed: Callable[..., None]) -> None:
        installed("hydra", "2.5", modules="hydra\n")
        (double,) = (one for one in libraries.conflicts("") if one.state == "wrong")
        assert (double.check, double.found) == ("hydra-core", "hydra also brings hydra")
        assert "uninstall hydra hydra-core\n" in double.command

    def test_uv_where_there_is_no_pip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installation, "find_spec", lambda _: None)
        assert installation.mending("a>=1") == "uv pip install 'a>=1'"


class TestFolders:
    def test_well(self, tmp_path: Path) -> None:
        (found,) = folders.folder(str(tmp_path / "not" / "there"))
        assert found.state == "ok"
        assert re.fullmatch(rf"{tmp_path}: [\d.]+ [KMGTP]iB free( \(\w+\))?", found.found)
        assert list(tmp_path.iterdir()) == []

    def test_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "outputs").write_text("")
        (found,) = folders.folder(str(tmp_path / "outputs" / "sweeps"))
        assert found.state == "wrong"
        assert found.found.endswith("outputs: not a directory")

    def test_read_only(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def refused(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(folders.tempfile, "TemporaryDirectory", refused)
        (found,) = folders.folder(str(tmp_path))
        assert (found.state, found.found) == ("wrong", "read-only file system")

    def test_locks_that_do_not_hold(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)
        (found,) = folders.folder(str(tmp_path))
        assert found.state == "warning"
        assert found.found.endswith("; locks don't hold: two may resume one run")

    def test_no_locks(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def refused(*_: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refused)
        (found,) = folders.folder(str(tmp_path))
        assert found.state == "warning"
        assert "files can't be locked (No locks available)" in found.found

    def test_file_server_with_another_clock(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        now = time.time()
        monkeypatch.setattr(folders.time, "time", lambda: now + 3600)
        (found,) = folders.folder(str(tmp_path))
        assert found.state == "warning"
        assert found.found.endswith("files there are dated by another clock")

    @pytest.mark.parametrize(
        ("free", "state"), [(2**30, "ok"), (2**30 - 1, "warning"), (2**20, "wrong")]
    )
    def test_room(
        self, free: int, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        assert folders.folder(str(tmp_path))[0].state == state

    def test_no_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "gone"))
        (found,) = folders.home("")
        assert (found.state, found.found) == ("warning", f"{tmp_path}/gone is no folder")

        def unknown() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", unknown)
        (found,) = folders.home("")
        assert (found.state, found.found) == (
            "warning",
            "HOME isn't set, and the system knows no other",
        )

    def test_no_place_for_temporary_files(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
        assert folders.temporary("")[0].state == "warning"
        monkeypatch.delenv("TMPDIR")

        def nowhere() -> str:
            raise FileNotFoundError("No usable temporary directory found")

        monkeypatch.setattr(folders.tempfile, "gettempdir", nowhere)
        assert folders.temporary("")[0].state == "wrong"


class TestMachine:
    @pytest.fixture
    def group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Puts this process into a control group with these files."""
        monkeypatch.setattr(machine, "GROUPS", tmp_path)
        monkeypatch.setattr(machine, "OWN", tmp_path / "own")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

        def put(own: str, folder: str, **files: str) -> None:
            (tmp_path / "own").write_text(own)
            (tmp_path / folder).mkdir(parents=True)
            for name, text in files.items():
                (tmp_path / folder / name.replace("_dot_", ".")).write_text(text)

        return put

    def test_quota_of_version_2(self, group: Callable[..., None]) -> None:
        group("0::/system/box\n", "system", cpu_dot_max="150000 100000\n")  # of the one above
        assert machine.may_use() == 1.5

    def test_no_quota(self, group: Callable[..., None]) -> None:
        group("0::/\n", "system", cpu_dot_max="max 100000\n")
        assert machine.may_use() == 8

    def test_quota_of_version_1(self, group: Callable[..., None]) -> None:
        quota = {"cpu_dot_cfs_quota_us": "300000\n", "cpu_dot_cfs_period_us": "100000\n"}
        group("3:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n", "cpu/box", **quota)
        assert machine.may_use() == 3

    def test_memory_of_a_group(self, group: Callable[..., None]) -> None:
        gib = 2**30
        group(
            "0::/box\n", "box",
            memory_dot_max=f"{gib}\n",
            memory_dot_current=f"{gib * 3 // 4}\n",
            memory_dot_stat=f"anon 5\ninactive_file {gib // 2}\n",
        )  # fmt: skip
        (found,) = machine.memory("")
        assert found.found == "1.0 GiB, 768.0 MiB free"  # 1/4 unused, 1/2 given back when needed
        assert found.state == "warning"

    @pytest.mark.parametrize(
        ("value", "state"),
        [("2", ""), ("1,4", ""), ("", ""), ("9", "warning"), ("0", "warning"), ("x", "warning")],
    )
    def test_threads(
        self, value: str, state: str, group: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group("", "none")
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        found = by_name(machine.cores(""))
        assert ("OMP_NUM_THREADS" in found) == bool(state)

    def test_threads_that_are_tied_to_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_PROC_BIND", "close")
        assert by_name(machine.cores(""))["OMP_PROC_BIND"].state == "warning"
        monkeypatch.setenv("OMP_PROC_BIND", "false")
        assert "OMP_PROC_BIND" not in by_name(machine.cores(""))

    def test_busy(self, monkeypatch: pytest.MonkeyPatch, group: Callable[..., None]) -> None:
        group("", "none")
        monkeypatch.setattr(os, "getloadavg", lambda: (8.0, 0, 0))
        assert machine.cores("")[0].state == "ok"
        monkeypatch.setattr(os, "getloadavg", lambda: (13.5, 0, 0))
        assert machine.cores("")[0].state == "warning"

    def test_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert machine.clock("")[0].state == "ok"
        monkeypatch.setattr(machine.time, "time", lambda: 86_400.0)
        (found,) = machine.clock("")
        assert found.state == "warning"
        assert found.found.startswith("1970-01-02 ")

    def test_git(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert machine.git("")[0].found == "not found"
        (tmp_path / "git").write_text("#!/bin/sh\necho 'dyld: no such library' >&2\nexit 1\n")
        (tmp_path / "git").chmod(0o755)
        (found,) = machine.git("")
        assert (found.state, found.found) == ("warning", "dyld: no such library")

    def test_old_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert machine.python("")[0].state == "ok"
        monkeypatch.setattr(machine.platform, "python_version", lambda: "3.10.4")
        assert machine.python("")[0].state == "wrong"

    @pytest.mark.parametrize(
        ("encoding", "state"), [("utf-8", "ok"), ("ascii", "warning"), ("latin-1", "warning")]
    )
    def test_output(self, encoding: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        assert machine.encoding("output").state == state


class TestTorch:
    """A machine with a GPU, and those that only seem to have one, are imitated."""

    @pytest.fixture(autouse=True)
    def no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        yield

    @pytest.mark.parametrize(
        ("driver", "built", "visible", "state", "words"),
        [
            ("", None, None, "ok", "no NVIDIA driver, and torch is built for the CPU alone"),
            ("", "12.8", None, "ok", "no NVIDIA driver, and torch is built for CUDA 12.8"),
            ("550.5", None, None, "warning", "driver (550.5), but torch is built for the CPU"),
            ("550.5", "12.8", "", "warning", "finds no GPU: CUDA_VISIBLE_DEVICES=''"),
            ("450.5", "12.8", None, "warning", "torch finds no GPU"),
        ],
    )
    def test_why_there_is_no_cuda(
        self, driver: str, built: str | None, visible: str | None, state: str, words: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        import torch

        monkeypatch.setattr(doctor_torch, "_driver", lambda: driver)
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        (found,) = doctor_torch.devices("")
        assert (found.check, found.state) == ("devices", state)
        assert words in found.found

    def test_gpu_that_torch_is_not_compiled_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        def ones(*_: Any, **__: Any) -> None:
            raise RuntimeError("CUDA error: no kernel image is available\nmore")

        card = SimpleNamespace(name="Tesla K80", major=3, minor=7)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**30, 3 * 2**30))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
        monkeypatch.setattr(torch, "ones", ones)
        (found,) = doctor_torch.devices("")
        assert (found.check, found.state) == ("cuda:0", "wrong")
        assert "Tesla K80, compute capability 3.7, 3.0 GiB, 1.0 GiB free" in found.found
        assert found.found.endswith("no kernel image is available")
        assert "sm_75, sm_90" in found.mend

    def test_too_many_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(doctor_torch, "may_use", lambda: 1.5)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        assert doctor_torch.threads("")[0].state == "ok"
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        (found,) = doctor_torch.threads("")
        assert (found.state, found.command) == ("warning", "export OMP_NUM_THREADS=2")


class TestOperators:
    BROKEN = '''
        """The loops, but for one of their methods."""

        from runner.ops.loops import LoopsConv as _Loops


        class Broken(_Loops):
            def {method}(self, *given):
                y = super().{method}(*given)
                return {change}
    '''

    def test_right(self) -> None:
        (found,) = operators.operator("native")
        assert (found.state, found.check) == ("ok", "ops native")
        assert found.found.startswith("agrees with loops: convolution on cpu, pooling on cpu")

    @pytest.mark.parametrize(
        ("name", "method", "change"),
        [
            ("shifted", "forward", "y.roll(-1, 3)"),
            ("undefined", "weight_gradient", "y * float('nan')"),
            ("inexact", "input_gradient", "y * 1.00001"),
        ],
    )
    def test_broken_on_purpose(
        self, name: str, method: str, change: str, entry: Callable[..., None]
    ) -> None:
        entry("runner.ops", name, self.BROKEN.format(method=method, change=change))
        assert name in operators.operators()
        (found,) = operators.operator(name)
        assert found.state == "wrong"
        assert found.found.startswith("convolution on cpu is off by ")
        assert found.command == f"python -m runner task=verify ops={name}"

    def test_numba_that_works(self) -> None:
        found = by_name(operators.numba(""))
        assert found["numba"].found.startswith("compiles, in ")
        assert found["numba's cache"].state in ("ok", "warning")

    def test_numba_that_gives_what_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(operators, "_squares", lambda numbers: numbers.sum() * 1.0)
        (found,) = operators.numba("")
        assert (found.state, found.found) == ("wrong", "compiles a sum wrongly")

    def test_numba_that_is_broken(self, stub: Callable[..., Path]) -> None:
        path = stub("numba", RAISES)
        found = examined(
            [
                Check("numba", "numba"),
                Check("operator", "ops native", "native"),
                Check("operator", "ops direct", "direct"),
            ]
        )
        assert found["numba"].state == found["ops direct"].state == "wrong"
        assert str(path) in found["numba"].mend.replace("\n", "")
        assert found["ops native"].state == "ok"

    def test_triton(self, stub: Callable[..., Path]) -> None:
        pytest.importorskip("triton", reason="Triton is not installed", exc_type=ImportError)
        stub("triton", RAISES)
        assert examined([Check("triton", "triton")])["triton"].state == "warning"


class TestServices:
    def test_tensorboard_that_cannot_be_imported(self, stub: Callable[..., Path]) -> None:
        stub("tensorboard", RAISES)
        found = examined([Check("tensorboard", "tensorboard")])["tensorboard"]
        expected = "can't be imported: RuntimeError: broken on purpose"
        assert (found.state, found.found) == ("wrong", expected)

    def test_tensorboard_that_does_not_start(self, stub: Callable[..., Path]) -> None:
        stub("tensorboard", RAISES)  # of the server, not of this process
        (found,) = services.tensorboard("")
        assert found.state == "wrong"
        assert found.found == "doesn't serve: RuntimeError: broken on purpose"

    def test_damaged_config(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own = tmp_path / "configs"
        shutil.copytree(compose.config_folder(), own)
        shutil.rmtree(own / "experiment")
        (own / "experiment").mkdir()
        for module in (compose, services):
            monkeypatch.setattr(module, "config_folder", lambda: own)
        (found,) = services.configs("")
        assert found.state == "ok", found.found
        (own / "stack" / "lenet.yaml").write_text("layers: {conv1: {kind: conv\n")
        (found,) = services.configs("")
        assert found.state == "wrong"
        assert "lenet.yaml:" in found.found
        shutil.rmtree(own)
        assert services.configs("")[0].found == f"there are none in {own}"


WELL = "task.only=[Python, libraries, extras, git, home, 'outputs*', output]"


class TestProgram:
    def test_recorded(self, cli: Callable[..., Finished], workplace: Path) -> None:
        done = cli("task=doctor", WELL, PYTHONIOENCODING="utf-8")
        assert done.rc == 0, done.stdout + done.stderr
        assert done.stderr == ""
        head, _, *rows = done.stdout.splitlines()
        assert head == "doctor · seed 0"
        assert rows[0].split() == ["check", "state", "found"]
        assert re.match(r"Python +ok +3\.", rows[1])
        (folder,) = (workplace / "outputs" / "doctor").iterdir()
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["wrong"] == metrics["skipped"] == 0
        assert metrics["checks"]["Python"]["state"] == "ok"
        assert metrics["expectations"][0]["holds"]

    def test_torch_is_not_needed(
        self, cli: Callable[..., Finished], stub: Callable[..., Path]
    ) -> None:
        stub("torch", CRASH)
        done = cli("task=doctor", "task.only=[torch, threads, ops native, clock]")
        assert done.rc == 3, done.stdout + done.stderr
        assert re.search(r"torch +wrong +crashed \(SIGSEGV\)\n", done.stdout)
        assert re.search(r"ops native +skipped +needs torch\n", done.stdout)
        assert re.search(r"clock +ok ", done.stdout)

    def test_numpy_is_not_needed(
        self, cli: Callable[..., Finished], stub: Callable[..., Path]
    ) -> None:
        path = stub("numpy", "raise ImportError('broken on purpose')\n")
        assert cli("task=plan", "stack=lenet").rc == 0
        done = cli("task=doctor", "task.only=[torch, numpy, ops native, clock]")
        assert done.rc == 3, done.stdout + done.stderr
        assert re.search(r"numpy +wrong +can't be imported: ImportError: broken", done.stdout)
        assert str(path) in re.sub(r"\n +", "", done.stdout)
        assert re.search(r"ops native +skipped +needs torch\n", done.stdout)
        assert re.search(r"clock +ok ", done.stdout)

    def test_nothing_can_be_written(self, cli: Callable[..., Finished], workplace: Path) -> None:
        (workplace / "outputs").write_text("a file, where a folder should be")
        done = cli("task=doctor", WELL)
        assert done.rc == 3, done.stderr
        assert re.search(r"outputs +wrong +not a directory\n", done.stdout)
        assert "Nothing of this is recorded. hydra.run.dir: expected a directory" in done.stdout
        assert "results  " not in done.stdout
        assert [path.name for path in workplace.iterdir()] == ["outputs"]
        # Others have no use there.
        assert cli("task=plan").rc == 2

    def test_old_hydra(self, cli: Callable[..., Finished], installed: Callable[..., None]) -> None:
        installed("hydra-core", "1.1.2")
        done = cli("task=doctor", WELL)
        assert done.rc == 3, done.stderr
        assert re.search(r"hydra-core +wrong +1\.1\.2 is installed", done.stdout)
        # Python's own path may be so long that the command goes on in the next line.
        whole = re.sub(r" \\\n +", " ", done.stdout)
        assert "pip install 'hydra-core>=1.3.2,<1.4'" in whole

    @pytest.mark.parametrize("module", ["hydra", "pydantic", "packaging"])
    def test_what_every_command_needs(
        self,
        module: str,
        cli: Callable[..., Finished],
        stub: Callable[..., Path],
        installed: Callable[..., None],
    ) -> None:
        """Without these no config can be read; then every command says what is wrong."""
        installed("hydra-core", "1.1.2")
        path = stub(module, "raise ImportError('broken on purpose')\n")
        done = cli("task=doctor")
        assert done.rc == 1
        assert done.stdout == ""
        first, *others = done.stderr.splitlines()
        assert first == f"ImportError: broken on purpose (in {path})"
        if module == "packaging":  # which compares the versions
            assert others[0].endswith("pip install packaging")
        else:
            assert others[0] == "hydra-core>=1.3.2,<1.4 is needed, and 1.1.2 is installed."

    @pytest.mark.parametrize(
        ("module", "name", "source", "error"),
        [
            ("yaml", "PyYAML", "def f(\n", "SyntaxError: '(' was never closed"),
            ("yaml", "PyYAML", "", "AttributeError: module 'yaml' has no attribute"),
            ("packaging", "packaging", "def f(\n", "SyntaxError: '(' was never closed"),
            ("numpy", "numpy", RAISES, "RuntimeError: broken on purpose"),
        ],
    )
    def test_what_stands_in_for_what_is_installed(
        self,
        module: str,
        name: str,
        source: str,
        error: str,
        cli: Callable[..., Finished],
        stub: Callable[..., Path],
    ) -> None:
        """The file to blame is named, whoever has imported it, and what to do about it."""
        path = stub(module, source)
        done = cli("task=edge")
        assert (done.rc, done.stdout) == (1, "")
        assert done.stderr.startswith(error)
        assert f"(in {path})\n" in done.stderr
        told = "which isn't the installed one: rename or remove that."
        assert f"\n{name} is taken from {path}, {told}\n" in done.stderr

    def test_missing_library_of_any_task(
        self, cli: Callable[..., Finished], stub: Callable[..., Path]
    ) -> None:
        stub("torch", "raise ModuleNotFoundError(\"No module named 'torch'\")\n")
        done = cli("task=edge")
        assert done.rc == 1
        assert done.stderr.startswith("ModuleNotFoundError: No module named 'torch'\n")
        assert "Traceback" not in done.stderr

    def test_broken_library_of_any_task(
        self, cli: Callable[..., Finished], stub: Callable[..., Path]
    ) -> None:
        path = stub("torch", "def f(\n")
        done = cli("task=edge")
        assert done.rc == 1
        assert f"(in {path})\ntorch is taken from {path}, which isn't" in done.stderr

    def test_terminal_without_the_signs(self, cli: Callable[..., Finished]) -> None:
        done = cli("task=plan", PYTHONIOENCODING="ascii")
        assert done.rc == 0, done.stderr
        assert "plan ? blank 1?28?28 ? seed 0" in done.stdout
        done = cli("task=doctor", "task.only=[output]", PYTHONIOENCODING="ascii")
        assert done.rc == 0
        assert re.search(r"output +warning +ascii, which lacks signs", done.stdout)

    def test_unknown_check(self, cli: Callable[..., Finished]) -> None:
        done = cli("task=doctor", "task.only=[tourch]")
        assert done.rc == 2
        assert "task.only[0]: expected one of " in done.stderr
        assert done.stderr.endswith("got 'tourch'. Did you mean 'torch'?\n")

    def test_every_name_of_the_table_can_be_asked_for(self, cli: Callable[..., Finished]) -> None:
        done = cli("task=doctor", "task.only=[runner, numpy]")
        assert done.rc == 0, done.stdout + done.stderr
        assert re.search(r"libraries +ok ", done.stdout)
        names = ["command", "cuda:1", "numba's cache", "triton's cache", "other extras", "ray"]
        nothing: Any = None  # a stack doesn't matter
        task = Doctor(kind="doctor", only=(*names, *machine.THREADS))
        task.check(nothing, nothing, nothing)

    def test_no_check(self, cli: Callable[..., Finished]) -> None:
        done = cli("task=doctor", "task.only=[]")
        assert done.rc == 2
        assert "task.only: expected names of checks, or null for all, got none" in done.stderr

    def test_narrow_terminal(self, workplace: Path) -> None:
        asked = ["task=doctor", "task.only=[git, libraries, outputs]"]
        rc, shown = in_terminal(asked, workplace, columns=40)
        assert rc == 0, shown
        lines = [ESCAPE.sub("", line).rstrip() for line in re.split(r"[\r\n]+", shown)]
        (begin,) = (i for i, line in enumerate(lines) if line.startswith("libraries  ok"))
        at = lines[begin].index("ok") + len("skipped  ")
        assert lines[begin + 1].startswith(" " * at)
        assert max(len(line) for line in lines if "/" not in line) <= 40


@pytest.mark.slow
def test_whole_examination(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything, in a terminal of 80 columns, and nothing is left behind."""
    temporary = workplace / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    rc, shown = in_terminal(["task=doctor"], workplace)
    plain = [ESCAPE.sub("", line).rstrip() for line in re.split(r"[\r\n]+", shown)]
    assert rc == 0, "\n".join(plain)
    assert max(len(line) for line in plain if "/" not in line) <= 80
    text = "\n".join(plain)
    for name in operators.operators():
        assert re.search(rf"ops {name} +ok +agrees with loops: convolution on cpu", text)
    assert re.search(r"tensorboard +ok +answered at http://127\.0\.0\.1:\d+, showed a run", text)
    assert re.search(r"configs +ok +\d+ in ", text)
    address = re.search(r"127\.0\.0\.1:(\d+)", text)
    assert address is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address[1])), timeout=5)
    assert list(temporary.iterdir()) == []
    assert {path.name for path in workplace.iterdir()} == {"outputs", "temporary"}
