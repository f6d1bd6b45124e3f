"""What is shown while a sweep goes on: one bar in a terminal, a line for each job when piped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner import report
from runner.sweep.manifest import Planned
from runner.terminal import Terminal


class Progress:
    """Tells which job runs and how the others went."""

    def __init__(self, terminal: Terminal, root: Path, jobs: Sequence[Planned]) -> None:
        self._terminal, self._root = terminal, root
        words = [set(job.overrides) for job in jobs]
        self._shared = set.intersection(*words) if len(words) > 1 else set()

    def begin(self, job: Planned) -> None:
        """A job starts."""
        varied = [word for word in job.overrides if word not in self._shared]
        label = " ".join(word.removeprefix("experiment=") for word in varied or job.overrides)
        self._terminal.job(job.number, label)

    def end(self, job: Planned, folder: Path) -> None:
        """A job has ended, as its directory says."""
        self._terminal.verdict(report.read(folder, self._root), {})
