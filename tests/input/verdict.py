"""Runs cases in a forking server, and says of each what it did that it must not do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forking import TORCH
from shipped import Case

SECONDS = 2.0
"""Of processor time without torch, imports included; other time would depend on the load."""

SECONDS_PER_JOB = 0.1
"""A sweep may take so much more for each job that it checks."""

MIB = 500
"""Of memory, resident."""

LINE = 2_000
"""Letters of a complaint that somebody reads."""

HEADING = re.compile(r"(\d+) problems? in the config:")
COMPLAINT = re.compile(r"  \S.*: expected .+, got .+\.( .+)?")
USAGE = re.compile(r"usage: runner .*\nrunner: error: [^\n]+\n", re.S)
ENDED = ("COMPLETED", "FAILED", "INTERRUPTED")


@dataclass(frozen=True)
class Done:
    """What became of a case.

    Attributes:
        case: it.
        rc: the exit code; `TORCH` where it went as far as torch.
        seconds: of processor time, imports included.
        mib: the most memory that was resident.
        stdout: what it printed.
        stderr: what it complained about.
        left: files that it left, relative to its directory.
        states: of the run directories that it left, by place.
    """

    case: Case
    rc: int
    seconds: float
    mib: float
    stdout: str
    stderr: str
    left: tuple[str, ...]
    states: dict[str, str]

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong as far as is known without torch."""
        return self.rc == TORCH

    def faults(self) -> list[str]:
        """What must not be, in words; nothing if all is as promised."""
        found = []
        if self.rc not in (0, 2, 3, TORCH):
            found.append(f"exit code {self.rc}")
        if "Traceback" in self.stdout + self.stderr:
            found.append("a traceback")
        if self.rc == 2 and not (self._explained() or USAGE.fullmatch(self.stderr)):
            found.append("an error without a path")
        if self.rc in (0, 3) and self.stderr:
            found.append("complaints in spite of success")
        if self.seconds > self._allowed():
            found.append(f"{self.seconds:.1f} seconds")
        if self.mib > MIB:
            found.append(f"{self.mib:.0f} MiB")
        if odd := {c for c in self.stderr if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")}:
            found.append(f"control characters in the answer: {sorted(map(ascii, odd))}")
        if max(map(len, self.stderr.splitlines()), default=0) > LINE:
            found.append("an answer that nobody reads")
        unmarked = [name for name in self.left if not name.startswith("outputs")]
        if self.rc == 2 and self.left and (unmarked or set(self.states.values()) != {"FAILED"}):
            found.append(f"files are left: {', '.join(self.left[:4])}")
        if self.rc in (0, 3) and any(state not in ENDED for state in self.states.values()):
            found.append(f"runs without an end: {self.states}")
        return found

    def broken(self) -> str:
        """What is wrong with the end of a case that was run with torch; nothing if all is well."""
        states = set(self.states.values())
        if self.rc in (0, 3) and states <= {"COMPLETED"}:
            return ""
        if self.rc == 2 and self._explained() and states <= {"FAILED"}:
            return ""
        if self.rc == 1 and self.stderr.startswith("Diverged: ") and states == {"FAILED"}:
            return ""
        if self.rc == 1 and " jobs are not complete: " in self.stderr:
            return ""
        return (
            f"{self.case.name} {list(self.case.words)}: {self.rc}, {states}, {self.stderr[-500:]}"
        )

    def _explained(self) -> bool:
        heading, *lines = self.stderr.splitlines() or [""]
        count = HEADING.fullmatch(heading)
        return bool(count and lines and all(map(COMPLAINT.fullmatch, lines)))

    def _allowed(self) -> float:
        jobs = max(map(int, re.findall(r"#(\d+)", self.stdout + self.stderr)), default=0)
        if any("glob(" in word for word in self.case.words):
            jobs = 100  # there are that many experiments
        return SECONDS + SECONDS_PER_JOB * jobs


def environment() -> dict[str, str]:
    """Of every process that runs a case."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"}


class Server:
    """A forking server; `run` hands it cases one by one.

    Attributes:
        home: the folder of the case that is run.
        started: seconds of processor time that its imports took.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        """Start it.

        Args:
            folder: where cases find and leave their files.
            words: what it is told.
        """
        self.home = folder / "case"
        command = [sys.executable, str(Path(__file__).with_name("forking.py")), *words]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        self.started = float(self._answer()["started"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def run(self, case: Case) -> Done:
        """Run a case in a directory of its own, which is removed."""
        cwd = place(case, self.home)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cwd": str(cwd), "words": case.words}) + "\n")
        self._process.stdin.flush()
        told = self._answer()
        found = outcome(
            case,
            told["rc"],
            told["seconds"] + self.started,
            told["mib"],
            (self.home / "stdout").read_bytes(),
            (self.home / "stderr").read_bytes(),
            cwd,
        )
        shutil.rmtree(self.home)
        return found

    def stop(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


def place(case: Case, home: Path) -> Path:
    """An empty directory with a case's files; its place."""
    cwd = home / "work"
    cwd.mkdir(parents=True)
    for name, content in case.files.items():
        (cwd / name).parent.mkdir(parents=True, exist_ok=True)
        (cwd / name).write_bytes(content)
    return cwd


def outcome(
    case: Case, rc: int, seconds: float, mib: float, stdout: bytes, stderr: bytes, cwd: Path
) -> Done:
    """What became of a case that was run in `cwd`."""
    left = [str(p.relative_to(cwd)) for p in sorted(cwd.rglob("*"))]
    folders = {str(parent) for name in case.files for parent in Path(name).parents}
    left = [name for name in left if name not in case.files and name not in folders]
    states = {
        str(path.parent.relative_to(cwd)): json.loads(path.read_text())["state"]
        for path in cwd.rglob("status.json")
    }
    texts = (text.decode("utf-8", "replace") for text in (stdout, stderr))
    return Done(case, rc, seconds, mib, *texts, tuple(left), states)


@contextmanager
def server(folder: Path, *words: str) -> Iterator[Server]:
    """A server for the time of the block."""
    one = Server(folder, *words)
    try:
        yield one
    finally:
        one.stop()
