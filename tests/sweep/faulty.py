"""A task that comes to grief where it is told to, and notes what it does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from shell import COMMAND

SOURCE = '''
"""Notes when it begins and when it is done; FAULT=how@seed says what happens in between."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

from runner.tasks import Objective, Task


class Faulty(Task):
    """Its notes are beside its configs, and tell how often which job was run."""

    needs_torch: ClassVar[bool] = False
    objective: ClassVar[Objective | None] = Objective("value", "min")
    notes: str
    x: float = 0.0

    def run(self, run):
        note(self.notes, f"begin {run.seed}")
        how, _, seed = os.environ.get("FAULT", "").partition("@")
        if seed == str(run.seed):
            fail(how)
        note(self.notes, f"end {run.seed}")
        return {"value": run.seed}


def note(path, line):
    with Path(path).open("a") as file:
        file.write(line + "\\n")


def fail(how):
    if how == "raise":
        raise ValueError("told to")
    if how == "exit":
        sys.exit(7)
    if how == "hang":
        time.sleep(60)
    if how == "move":
        Path("out").rename("moved")
        return
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(5)  # until it arrives
'''


class Faulty:
    """A folder with the task and its config, and what has been noted there.

    Attributes:
        configs: for ``--config-dir``.
        notes: the file.
    """

    def __init__(self, folder: Path) -> None:
        self.configs, self.notes, self._python = folder / "mine", folder / "notes", folder / "py"
        (self.configs / "task").mkdir(parents=True)
        (self.configs / "task" / "faulty.yaml").write_text(f"kind: faulty\nnotes: {self.notes}\n")
        # Python imports it when it starts, in whatever process.
        self._python.mkdir()
        (self._python / "sitecustomize.py").write_text(
            f"import runner.tasks\nrunner.tasks.__path__.append({str(self._python)!r})\n"
        )
        (self._python / "faulty.py").write_text(SOURCE)

    def start(
        self, *words: str, fault: str = "", mortal: bool = False, **environment: str
    ) -> subprocess.Popen[str]:
        """``python -m runner`` with the task in its menu; of a mortal, permissions are asked."""
        given = {"PYTHONPATH": str(self._python), "FAULT": fault, **environment}
        return subprocess.Popen(
            [*COMMAND, *words],
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_as_mortal if mortal else _can_be_interrupted,
        )

    def sweep(self, *words: str, **how: Any) -> tuple[int, str, str]:
        """Exit code and output of a sweep of the task, started as by `start`."""
        given = ["-m", "--config-dir", str(self.configs), "task=faulty", *words]
        process = self.start(*given, **how)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def noted(self, what: str) -> dict[int, int]:
        """How often each seed did it: began, or came to its end."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return Counter(int(seed) for word, seed in map(str.split, lines) if word == what)


def _can_be_interrupted() -> None:
    """A shell starts background jobs deaf to Ctrl-C, and the tests may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _as_mortal() -> None:
    """Root may write where nobody may; without this capability, no longer (prctl(2))."""
    drop, override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
    if os.getuid() == 0 and ctypes.CDLL(None).prctl(drop, override, 0, 0, 0) != 0:
        raise PermissionError("root can't give its powers up here")
