"""The command line under attack: each in a process of its own, whose cost is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = Path(__file__).parents[1] / "input" / "forking.py"

TORCH = 77
"""Exit code of what came as far as torch: nothing was found wrong before."""

MARKER = "MARKER"
"""What attacks try to make."""

SECONDS = 1.2
"""Of processor time, besides the half second or so that imports take: two in all."""

MIB = 500


@dataclass(frozen=True)
class Answer:
    """How the command line answered.

    Attributes:
        rc: its exit code.
        stdout: what it printed.
        stderr: what it complained about.
        seconds: of processor time, without imports.
        mib: the most memory that was resident, in MiB.
        cwd: where it ran.
    """

    rc: int
    stdout: str
    stderr: str
    seconds: float
    mib: float
    cwd: Path

    def refused(self, *says: str) -> None:
        """It was an error of the input, said so in few words, cost little, and did nothing."""
        assert self.rc == 2, (self.rc, self.stdout, self.stderr)
        for text in says:
            assert text in self.stderr
        assert "Traceback" not in self.stderr
        self.harmless()

    def harmless(self) -> None:
        """Whatever the answer, it cost little, and nothing was made that shouldn't be."""
        assert not list(self.cwd.parent.rglob(MARKER))
        assert self.seconds < SECONDS, self.stderr
        assert self.mib < MIB
        assert not [c for c in self.stderr + self.stdout if c != "\n" and not c.isprintable()]


class Attacker:
    """Runs command lines in forks of a process that has imported all but torch."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SECRET": SECRET, "NO_COLOR": "1"}
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        found: dict[str, Any] = json.loads(self._server.stdout.readline())
        return found

    def run(self, cwd: Path, *words: str) -> Answer:
        """Run ``python -m runner`` with these words in a directory."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"cwd": str(cwd), "words": words}) + "\n")
        self._server.stdin.flush()
        told = self._answer()
        out, err = (
            (cwd.parent / name).read_bytes().decode("utf-8", "replace")
            for name in ("stdout", "stderr")
        )
        return Answer(told["rc"], out, err, told["seconds"], told["mib"], cwd)

    def stop(self) -> None:
        """End it."""
        self._server.communicate(timeout=60)


SECRET = "hunter2-correct-horse"
"""The value of the environment's variable SECRET."""

Attack = Callable[..., Answer]
